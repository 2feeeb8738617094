//! Counts of the last ten seconds: requests, and a second kind of event (a [budget]'s retries, a [throttle]'s accepted
//! answers).
//!
//! A ring of ten one-second buckets holds when events were counted, and one word holds their sum. One more event is
//! granted by a single compare-and-swap on the sum, so there is never one too many, and none is refused while there is
//! room.
//!
//! From the top bit down, a bucket is `epoch: 22 | secondary: 20 | requests: 22`, and the sum is `secondary: 32 |
//! requests: 32`. A bucket field that is full stops counting. Ten full buckets fit the sum.
//!
//! [budget]: super::budget
//! [throttle]: super::throttle

use crate::sync::{AtomicU64, Ordering, Padded};
use crate::time::Tick;

const BUCKETS: u64 = if cfg!(evenkeel_loom) { 2 } else { 10 };
const BUCKET_NANOS: u64 = 1_000_000_000;

const REQUEST_BITS: u32 = 22;
const SECONDARY_BITS: u32 = 20;
const REQUEST_MASK: u64 = (1 << REQUEST_BITS) - 1;
const SECONDARY_MASK: u64 = (1 << SECONDARY_BITS) - 1;
const EPOCH_SHIFT: u32 = REQUEST_BITS + SECONDARY_BITS;
const EPOCH_MASK: u64 = (1 << (64 - EPOCH_SHIFT)) - 1;
const COUNTS_MASK: u64 = (1 << EPOCH_SHIFT) - 1;

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Request,
    /// The second kind of event: a retry or an accepted answer.
    Secondary,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) secondary: u64,
}

impl Counts {
    const fn of_bucket(word: u64) -> Self {
        Self {
            requests: word & REQUEST_MASK,
            secondary: word >> REQUEST_BITS & SECONDARY_MASK,
        }
    }

    const fn of_sum(word: u64) -> Self {
        Self {
            requests: word & u32::MAX as u64,
            secondary: word >> 32,
        }
    }

    const fn as_sum(self) -> u64 {
        self.secondary << 32 | self.requests
    }
}

/// Returns one event of this kind, as an addend to the sum.
const fn one(event: Event) -> u64 {
    match event {
        Event::Request => 1,
        Event::Secondary => 1 << 32,
    }
}

/// Returns the number of the bucket that this time falls in, counted from the clock's origin.
const fn number(now: Tick) -> u64 {
    now.as_nanos() / BUCKET_NANOS
}

/// Returns whether the counts of this bucket are in the window. A bucket ahead of `number` by up to a window was
/// counted by a thread that read the clock later. One further ahead comes from a clock that jumped and returned; it is
/// discarded, so the count heals.
const fn is_in_window(word: u64, number: u64) -> bool {
    let age = number.wrapping_sub(word >> EPOCH_SHIFT) & EPOCH_MASK;
    age < BUCKETS || age >= EPOCH_MASK + 1 - BUCKETS
}

/// Returns the bucket after one more event, and the counts it held if they are of another epoch. `None` if it is full.
const fn counted(word: u64, number: u64, event: Event) -> Option<(u64, Counts)> {
    let (one, mask) = match event {
        Event::Request => (1, REQUEST_MASK),
        Event::Secondary => (1 << REQUEST_BITS, SECONDARY_MASK << REQUEST_BITS),
    };
    // An empty bucket belongs to no epoch, in particular one that has never counted anything.
    if word & COUNTS_MASK == 0 || !is_in_window(word, number) {
        let next = (number & EPOCH_MASK) << EPOCH_SHIFT | one;
        return Some((next, Counts::of_bucket(word)));
    }
    if word & mask == mask {
        return None;
    }
    let none = Counts {
        requests: 0,
        secondary: 0,
    };
    Some((word + one, none))
}

/// A sliding count of two kinds of events.
///
/// The protocol: an event is added to the sum *before* it is added to its bucket, and the thread that takes it out of
/// the bucket subtracts it from the sum *after* that. So the sum is never less than what the buckets hold. If a thread
/// is suspended between the two additions, its event may be counted with the bucket's next epoch, and then counts until
/// that ends: too long, for at most as many events as there are such threads.
///
/// Epochs wrap: a bucket untouched for 2^22 s (48 days), give or take a window, is mistaken for a current one.
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

    /// Counts one event, unless its bucket is full.
    pub(super) fn add(&self, now: Tick, event: Event) {
        // ORDERING: Relaxed. The release in `count` orders this addition before the event's subtraction.
        self.sum.0.fetch_add(one(event), Ordering::Relaxed);
        self.count_or_undo(now, event);
    }

    /// Counts one event if `may` allows it for the present counts, which are never less than what the buckets hold.
    /// Returns whether it was counted.
    pub(super) fn add_if(&self, now: Tick, event: Event, may: impl Fn(Counts) -> bool) -> bool {
        self.expire(now);
        let grant = |sum: u64| may(Counts::of_sum(sum)).then(|| sum + one(event));
        // ORDERING: Relaxed, both. One word decides, so its modification order is enough; the rest is as in `add`.
        let granted = self
            .sum
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grant);
        granted.is_ok() && self.count_or_undo(now, event)
    }

    /// Returns the present counts. A hint where `add_if` decides.
    pub(super) fn counts(&self, now: Tick) -> Counts {
        self.expire(now);
        // ORDERING: Relaxed. A hint.
        Counts::of_sum(self.sum.0.load(Ordering::Relaxed))
    }

    fn count_or_undo(&self, now: Tick, event: Event) -> bool {
        let is_counted = self.count(now, event);
        if !is_counted {
            // ORDERING: Relaxed. Undoes this thread's own addition.
            self.sum.0.fetch_sub(one(event), Ordering::Relaxed);
        }
        is_counted
    }

    /// Counts the event in the bucket of `now`. Returns `false` if that is full.
    fn count(&self, now: Tick, event: Event) -> bool {
        let number = number(now);
        let bucket = &self.buckets[(number % BUCKETS) as usize];
        // ORDERING: Relaxed. The exchange below checks that the value is still current.
        let mut word = bucket.load(Ordering::Relaxed);
        while let Some((next, old)) = counted(word, number, event) {
            // ORDERING: AcqRel. The release orders this event's addition to the sum before its removal by another
            // thread. The acquire orders the additions of the events removed here before `forget`. Relaxed on failure:
            // the exchange is retried.
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

    /// Removes what is older than the window.
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

    /// Subtracts counts from the sum after they have been removed from their bucket.
    fn forget(&self, old: Counts) {
        if old != Counts::default() {
            // ORDERING: Relaxed. Ordered after their addition by the acquire of the exchange that removed them.
            self.sum.0.fetch_sub(old.as_sum(), Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
