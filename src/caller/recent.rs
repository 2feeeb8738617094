//! What was counted in the last ten seconds: requests, and something that is counted beside them (a [budget]'s retries, a
//! [throttle]'s answers).
//!
//! A ring of ten one-second buckets holds what was counted when, and one word the sum of them, by which one more
//! is granted in one compare-and-swap: never one too many, and none refused that there is room for.
//!
//! From the top, a bucket is `epoch: 22 | others: 20 | requests: 22`, the sum `others: 32 | requests: 32`. Full fields
//! of a bucket stop counting. Ten full buckets fit the sum.
//!
//! [budget]: super::budget
//! [throttle]: super::throttle

use crate::sync::{AtomicU64, Ordering, Padded};
use crate::time::Tick;

const BUCKETS: u64 = if cfg!(evenkeel_loom) { 2 } else { 10 };
const BUCKET_NANOS: u64 = 1_000_000_000;

const REQUEST_BITS: u32 = 22;
const OTHER_BITS: u32 = 20;
const REQUEST_MASK: u64 = (1 << REQUEST_BITS) - 1;
const OTHER_MASK: u64 = (1 << OTHER_BITS) - 1;
const EPOCH_SHIFT: u32 = REQUEST_BITS + OTHER_BITS;
const EPOCH_MASK: u64 = (1 << (64 - EPOCH_SHIFT)) - 1;
const COUNTS_MASK: u64 = (1 << EPOCH_SHIFT) - 1;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Request,
    /// What is counted beside them.
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) others: u64,
}

impl Counts {
    const fn of_bucket(word: u64) -> Self {
        Self {
            requests: word & REQUEST_MASK,
            others: word >> REQUEST_BITS & OTHER_MASK,
        }
    }

    const fn of_sum(word: u64) -> Self {
        Self {
            requests: word & u32::MAX as u64,
            others: word >> 32,
        }
    }

    const fn as_sum(self) -> u64 {
        self.others << 32 | self.requests
    }
}

/// One of these in the sum.
const fn one(event: Event) -> u64 {
    match event {
        Event::Request => 1,
        Event::Other => 1 << 32,
    }
}

/// Which bucket of all time this moment is in.
const fn number(now: Tick) -> u64 {
    now.as_nanos() / BUCKET_NANOS
}

/// Whether what is in this bucket counts. One ahead of `number` by up to a window was counted by a thread that
/// read the clock later; further ahead it is of a clock that jumped and came back, and heals.
const fn is_in_window(word: u64, number: u64) -> bool {
    let age = number.wrapping_sub(word >> EPOCH_SHIFT) & EPOCH_MASK;
    age < BUCKETS || age >= EPOCH_MASK + 1 - BUCKETS
}

/// The bucket after one more event, and what it held before if that is of another time. `None` if it is full.
const fn counted(word: u64, number: u64, event: Event) -> Option<(u64, Counts)> {
    let (one, mask) = match event {
        Event::Request => (1, REQUEST_MASK),
        Event::Other => (1 << REQUEST_BITS, OTHER_MASK << REQUEST_BITS),
    };
    // An empty one is of no time: one that has counted nothing yet least of all.
    if word & COUNTS_MASK == 0 || !is_in_window(word, number) {
        let next = (number & EPOCH_MASK) << EPOCH_SHIFT | one;
        return Some((next, Counts::of_bucket(word)));
    }
    if word & mask == mask {
        return None;
    }
    let none = Counts {
        requests: 0,
        others: 0,
    };
    Some((word + one, none))
}

/// The protocol: an event is added to the sum *before* it is added to its bucket, and taken from the sum by whoever
/// takes it out of the bucket, *after*. So the sum is never less than what the buckets hold. An event
/// whose thread is suspended in between counts until its bucket's next life ends: an event too long, of as many as
/// there are such threads.
///
/// A bucket that is untouched for 2^22 s (48 days), give or take a window, is taken for one of now.
#[derive(Debug)]
pub(super) struct Recent {
    sum: Padded<AtomicU64>,
    buckets: [AtomicU64; BUCKETS as usize],
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            sum: Padded(AtomicU64::new(0)),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Counts one, unless its bucket is full.
    pub(super) fn add(&self, now: Tick, event: Event) {
        // ORDERING: Relaxed. It is ordered before its taking by `count`'s release.
        self.sum.0.fetch_add(one(event), Ordering::Relaxed);
        self.count_or_undo(now, event);
    }

    /// Counts one if `may` allows it for what there is, which is never less than what is counted. Whether it was.
    pub(super) fn add_if(&self, now: Tick, event: Event, may: impl Fn(Counts) -> bool) -> bool {
        self.expire(now);
        let grant = |sum: u64| may(Counts::of_sum(sum)).then(|| sum + one(event));
        // ORDERING: Relaxed, both. One word decides, and its own order is enough; as in `add` else.
        let granted = self
            .sum
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grant);
        granted.is_ok() && self.count_or_undo(now, event)
    }

    /// What there is. A hint where `add_if` decides.
    pub(super) fn counts(&self, now: Tick) -> Counts {
        self.expire(now);
        // ORDERING: Relaxed. A hint.
        Counts::of_sum(self.sum.0.load(Ordering::Relaxed))
    }

    fn count_or_undo(&self, now: Tick, event: Event) -> bool {
        let is_counted = self.count(now, event);
        if !is_counted {
            // ORDERING: Relaxed. This thread's own addition is undone.
            self.sum.0.fetch_sub(one(event), Ordering::Relaxed);
        }
        is_counted
    }

    /// Counts in the bucket of `now`; false if that is full.
    fn count(&self, now: Tick, event: Event) -> bool {
        let number = number(now);
        let bucket = &self.buckets[(number % BUCKETS) as usize];
        // ORDERING: Relaxed. The exchange below finds out whether it is still so.
        let mut word = bucket.load(Ordering::Relaxed);
        while let Some((next, old)) = counted(word, number, event) {
            // ORDERING: AcqRel. The release puts this event's addition to the sum before whoever takes the
            // event out; the acquire puts the additions of what is taken out here before `forget`.
            // Relaxed on failure: it is tried again.
            match bucket.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    self.forget(old);
                    return true;
                }
                Err(other) => word = other,
            }
        }
        false
    }

    /// Takes out what is older than the window.
    fn expire(&self, now: Tick) {
        let number = number(now);
        for bucket in &self.buckets {
            // ORDERING: Relaxed. As in `count`.
            let mut word = bucket.load(Ordering::Relaxed);
            while word & COUNTS_MASK != 0 && !is_in_window(word, number) {
                let empty = word & !COUNTS_MASK;
                // ORDERING: AcqRel and Relaxed. As in `count`.
                match bucket.compare_exchange_weak(word, empty, Ordering::AcqRel, Ordering::Relaxed)
                {
                    Ok(_) => {
                        self.forget(Counts::of_bucket(word));
                        break;
                    }
                    Err(other) => word = other,
                }
            }
        }
    }

    /// These have been taken out of their bucket.
    fn forget(&self, old: Counts) {
        if old != Counts::default() {
            // ORDERING: Relaxed. After their addition, by the acquire of whoever took them out.
            self.sum.0.fetch_sub(old.as_sum(), Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
