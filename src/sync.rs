//! Atomics, the mutex and the snapshot cell: from std and parking_lot in a normal build, from loom in a model.
//!
//! This is the only file that names `std::sync::atomic` or `arc_swap`, so that every protocol runs in its loom model.

pub(crate) use std::sync::Arc;

pub(crate) use imp::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Mutex, Ordering, SnapshotCell, fence,
    yield_now,
};

/// A value on cache lines of its own. 128 bytes, because adjacent-line prefetch on x86-64 and the line size of the
/// larger AArch64 cores make 64 too few.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// An `f32` in one word: a figure that is complete in itself and orders nothing.
#[derive(Debug)]
pub(crate) struct AtomicF32(AtomicU32);

impl AtomicF32 {
    #[inline]
    pub(crate) fn new(value: f32) -> Self {
        Self(AtomicU32::new(value.to_bits()))
    }

    #[inline]
    pub(crate) fn get(&self) -> f32 {
        // ORDERING: Relaxed, here and below. See the type.
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Whether the value is 0. On the request path; an integer is sooner compared than a float.
    #[inline]
    pub(crate) fn is_zero(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.0.load(Ordering::Relaxed) == 0
    }

    #[inline]
    pub(crate) fn set(&self, value: f32) {
        // ORDERING: Relaxed. As above.
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

#[cfg(not(evenkeel_loom))]
mod imp {
    use super::Arc;
    use std::ops::Deref;

    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence,
    };
    /// Yields the processor while a writer waits for another thread.
    pub(crate) use std::thread::yield_now;

    /// One published pointer. Readers never wait. A guard must not be kept beyond one call, because arc-swap has few
    /// fast slots per thread.
    pub(crate) struct SnapshotCell<T>(arc_swap::ArcSwap<T>);

    impl<T> SnapshotCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(arc_swap::ArcSwap::from_pointee(value))
        }

        #[inline]
        pub(crate) fn load(&self) -> impl Deref<Target = Arc<T>> + use<T> {
            self.0.load()
        }

        /// Publishes `next` and returns the old value to the writer, which frees it: a reader that dropped the last
        /// reference would pay for freeing the whole set.
        pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
            self.0.swap(next)
        }
    }
}

#[cfg(evenkeel_loom)]
mod imp {
    use super::Arc;
    use std::ops::Deref;

    use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence,
    };
    pub(crate) use loom::thread::yield_now;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0
                .lock()
                .expect("a model that panics has failed already")
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// A stand-in for the real cell: an index into an append-only list. The list is behind a std mutex, which loom does
    /// not see, so that only the index orders anything. A loom mutex or `RwLock` would hide a weak ordering in the
    /// surrounding code.
    pub(crate) struct SnapshotCell<T> {
        list: std::sync::Mutex<Vec<Arc<T>>>,
        current: AtomicU64,
    }

    impl<T> SnapshotCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self {
                list: std::sync::Mutex::new(vec![Arc::new(value)]),
                current: AtomicU64::new(0),
            }
        }

        #[inline]
        pub(crate) fn load(&self) -> impl Deref<Target = Arc<T>> + use<T> {
            // ORDERING: Acquire. Pairs with the Release store in `swap`.
            let index = self.current.load(Ordering::Acquire) as usize;
            Box::new(self.list.lock().expect("no panic while listing")[index].clone())
        }

        /// Replaces the snapshot. Callers serialise, as they do around the real cell.
        pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
            // The lock is released before the store: loom may switch threads there, and its threads share one OS
            // thread.
            let last = {
                let mut list = self.list.lock().expect("no panic while listing");
                list.push(next);
                list.len() - 1
            };
            // ORDERING: Release. Publishes the snapshot's contents; pairs with `load`.
            self.current.store(last as u64, Ordering::Release);
            self.list.lock().expect("no panic while listing")[last - 1].clone()
        }
    }
}

/// Numbering that outlives any fleet: thread numbers and member ids. It always uses std's atomics, because a static
/// cannot hold loom's; the numbers order nothing.
pub(crate) mod process {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT_THREAD: AtomicU64 = AtomicU64::new(0);
    static NEXT_MEMBER: AtomicU64 = AtomicU64::new(1);

    thread_local! {
        // Const-initialised and without a destructor, so it stays readable in other thread-locals' destructors.
        static THREAD: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    /// Returns a small number for this thread. Numbers are dense, in the order of first use.
    #[inline]
    pub(crate) fn thread_number() -> usize {
        let known = THREAD.get();
        if known != u64::MAX {
            return known as usize;
        }
        // ORDERING: Relaxed. Only uniqueness matters.
        let number = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
        THREAD.set(number);
        number as usize
    }

    /// Returns a number that no other member of this process has had. 2^64 numbers do not run out.
    pub(crate) fn next_member() -> u64 {
        // ORDERING: Relaxed. Only uniqueness matters.
        NEXT_MEMBER.fetch_add(1, Ordering::Relaxed)
    }
}
