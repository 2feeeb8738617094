//! The ring of time buckets that holds a sliding window's counts. Lock-free, with one word for each bucket.
//!
//! A bucket's word, from the top: `epoch: 24 | total: 20 | faults: 20`. The epoch wraps. It is the topmost field, so
//! nothing carries into a neighbour. The counts stop at [`FULL`].

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// The number of buckets in a window.
pub(crate) const BUCKETS: u64 = 10;

const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_BITS: u32 = 64 - 2 * COUNT_BITS;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;
const ONE: u64 = 1 << COUNT_BITS;

/// The count at which a bucket stops: 983 039 samples. It is 65 536 below the field's end, so that as many threads may
/// be between their load and their add without a carry.
const FULL: u64 = COUNT_MASK - (1 << 16);

/// A number of samples, and how many of them are faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) faults: u64,
}

impl Counts {
    pub(crate) const fn and(self, more: Self) -> Self {
        Self {
            total: self.total + more.total,
            faults: self.faults + more.faults,
        }
    }

    pub(crate) const fn without(self, part: Self) -> Self {
        Self {
            total: self.total - part.total,
            faults: self.faults - part.faults,
        }
    }

    /// The share of faults; 0 of no samples.
    pub(crate) fn fault_rate(self) -> f64 {
        self.faults as f64 / self.total.max(1) as f64
    }
}

/// The counts of the last ten buckets: the present one and the nine before it.
///
/// Inaccuracies, which are accepted:
///
/// - A sample that ends more than a whole window ago is dropped.
/// - If a recorder is suspended between its load and its add for a whole window, its sample counts in the bucket's next
///   use.
/// - A [`clear`](Self::clear) loses what is recorded while it runs.
/// - A bucket that is untouched for 2^24 buckets, give or take a window, is taken for a current one (194 days with
///   buckets of 1 s).
/// - A success that is counted in the cell's word when a request leaves may be counted in the next bucket, if its
///   thread is suspended at the end of one.
///
/// Nothing else is lost or misplaced. Nothing is counted twice for longer than it takes to move it.
#[derive(Debug)]
#[repr(C)] // The fields that each request reads come first.
pub(crate) struct Window {
    /// When the open bucket ends, in nanoseconds. Successes that are counted elsewhere, in the cell's word, belong to
    /// the open bucket until they are [added](Self::add). [`MOVING`] while a thread moves them.
    open_until: AtomicU64,
    bucket_nanos: u64,
    buckets: [AtomicU64; BUCKETS as usize],
}

/// A thread is moving the successes of the open bucket and opens another one afterwards.
const MOVING: u64 = 0;

/// The result of a claim to open another bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// This caller moves the successes of the bucket with this number, and then opens another one.
    Claimed(u64),
    /// Another caller has the claim, or the time is before the open bucket's.
    Taken,
}

/// Half of the buckets.
pub(crate) const HALF_BUCKETS: u64 = BUCKETS / 2;

/// The present bucket and the one before.
pub(crate) const RECENT_BUCKETS: u64 = 2;

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            // It ended long ago, so that the first sample opens a bucket.
            open_until: AtomicU64::new(1),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            bucket_nanos: (nanos(length) / BUCKETS).max(1),
        }
    }

    /// The number of the bucket at this time. The first is `BUCKETS`, so that an empty word, whose epoch is 0, is
    /// outside the window from the start.
    fn number(&self, at: Tick) -> u64 {
        (at.as_nanos() / self.bucket_nanos).wrapping_add(BUCKETS)
    }

    fn bucket(&self, number: u64) -> &AtomicU64 {
        &self.buckets[(number % BUCKETS) as usize]
    }

    /// Whether the bucket of this time is the open one. One load and no division, for the request path.
    #[inline]
    pub(crate) fn is_open_at(&self, at: Tick) -> bool {
        // ORDERING: Relaxed. It only selects the bucket of a statistic.
        let until = self.open_until.load(Ordering::Relaxed);
        // For a time outside the open bucket, the difference wraps to more than a bucket.
        until.wrapping_sub(at.as_nanos()).wrapping_sub(1) < self.bucket_nanos
    }

    /// Whether the open bucket is one of the last `buckets` at `now`. Also true while its successes are being moved.
    pub(crate) fn holds_the_open_one(&self, buckets: u64, now: Tick) -> bool {
        // ORDERING: Relaxed. As above.
        let until = self.open_until.load(Ordering::Relaxed);
        let number = self.number(Tick::from_nanos(until.wrapping_sub(1)));
        until == MOVING || self.number(now).wrapping_sub(number) < buckets
    }

    /// Claims the opening of the bucket of `at`, so that one caller moves the successes of the bucket before. A clock
    /// that has gone back by more than a window opens a bucket too.
    pub(crate) fn claim(&self, at: Tick) -> Open {
        // ORDERING: Relaxed. The compare-and-swap below decides.
        let until = self.open_until.load(Ordering::Relaxed);
        let ahead = until.saturating_sub(at.as_nanos());
        let late = ahead > self.bucket_nanos && ahead <= self.bucket_nanos.saturating_mul(BUCKETS);
        if until == MOVING || late {
            return Open::Taken;
        }
        // ORDERING: Acquire. Pairs with `open`: what the last mover took is not taken again. Relaxed on failure, as
        // nothing is done then.
        let claimed =
            self.open_until
                .compare_exchange(until, MOVING, Ordering::Acquire, Ordering::Relaxed);
        match claimed {
            Ok(_) => Open::Claimed(self.number(Tick::from_nanos(until - 1))),
            Err(_) => Open::Taken,
        }
    }

    /// Opens the bucket of `at`, after a claim.
    pub(crate) fn open(&self, at: Tick) {
        let start = at.as_nanos() - at.as_nanos() % self.bucket_nanos;
        // ORDERING: Release. Pairs with `claim`.
        self.open_until
            .store(start.saturating_add(self.bucket_nanos), Ordering::Release);
    }

    /// Counts one sample.
    pub(crate) fn record(&self, at: Tick, fault: bool) {
        self.add(self.number(at), 1, fault.into());
    }

    /// Counts `total` samples, of which `faults` are faults, in the bucket with this number.
    pub(crate) fn add(&self, number: u64, total: u64, faults: u64) {
        if total == 0 {
            return;
        }
        let samples = total * ONE + faults;
        let bucket = self.bucket(number);
        // ORDERING: Relaxed, here and below. Each word is a statistic that is complete in itself. What must not be lost
        // is protected by being in one word.
        let mut word = bucket.load(Ordering::Relaxed);
        loop {
            match bucket_action(word, number) {
                BucketAction::Add => {
                    // ORDERING: Relaxed. As above. If the bucket has been rolled since the load, the sample counts in
                    // its next use.
                    bucket.fetch_add(samples, Ordering::Relaxed);
                    return;
                }
                BucketAction::Drop => return,
                BucketAction::Roll(empty) => {
                    let first = empty + samples;
                    // ORDERING: Relaxed, both. As above. A failure means that another thread rolled or counted, so the
                    // system as a whole made progress.
                    match bucket.compare_exchange(word, first, Ordering::Relaxed, Ordering::Relaxed)
                    {
                        Ok(_) => return,
                        Err(now) => word = now,
                    }
                }
            }
        }
    }

    /// The samples in the window at `now`.
    pub(crate) fn counts(&self, now: Tick) -> Counts {
        self.last(BUCKETS, now)
    }

    /// The samples in the last `buckets` buckets.
    pub(crate) fn last(&self, buckets: u64, now: Tick) -> Counts {
        let number = self.number(now);
        let mut sum = Counts::default();
        for bucket in &self.buckets {
            // ORDERING: Relaxed. Each bucket is read whole. The sum is not a snapshot and need not be.
            let word = bucket.load(Ordering::Relaxed);
            if number.wrapping_sub(epoch(word)) & EPOCH_MASK < buckets {
                sum.total += (word >> COUNT_BITS) & COUNT_MASK;
                sum.faults += word & COUNT_MASK;
            }
        }
        sum
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for bucket in &self.buckets {
            // ORDERING: Relaxed. A sample recorded meanwhile may be lost or kept; both are allowed.
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

const fn epoch(word: u64) -> u64 {
    word >> (2 * COUNT_BITS)
}

#[derive(Debug, PartialEq, Eq)]
enum BucketAction {
    /// The bucket is of this time: add to it.
    Add,
    /// The bucket is full, or of a later time than the sample, which is then older than the window.
    Drop,
    /// The bucket is of an earlier time: replace its word by this one, plus the samples.
    Roll(u64),
}

/// What to do with a sample for bucket `number`, if the bucket holds `word`.
fn bucket_action(word: u64, number: u64) -> BucketAction {
    let ahead = epoch(word).wrapping_sub(number) & EPOCH_MASK;
    if ahead == 0 {
        if (word >> COUNT_BITS) & COUNT_MASK < FULL {
            BucketAction::Add
        } else {
            BucketAction::Drop
        }
    } else if ahead <= BUCKETS {
        BucketAction::Drop
    } else {
        // Older, or so far ahead that a clock left it that has gone back since: no thread can be that far ahead.
        BucketAction::Roll((number & EPOCH_MASK) << (2 * COUNT_BITS))
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SECOND: u64 = 1_000_000_000;

    fn ten_seconds() -> Window {
        Window::new(Duration::from_secs(10))
    }

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * SECOND)
    }

    fn counts(total: u64, faults: u64) -> Counts {
        Counts { total, faults }
    }

    /// A sample of up to a window ago is late. An older one shows that the clock has gone back.
    #[test]
    fn a_late_sample_opens_no_bucket() {
        let window = ten_seconds();
        assert!(matches!(window.claim(at(100)), Open::Claimed(_)));
        window.open(at(100));
        assert!(window.is_open_at(at(100)));
        assert!(!window.is_open_at(Tick::from_nanos(100 * SECOND - 1)));
        for seconds in [91, 95, 99] {
            assert_eq!(window.claim(at(seconds)), Open::Taken, "{seconds}");
        }
        assert!(matches!(window.claim(at(90)), Open::Claimed(_)));
    }

    proptest! {
        /// Compares the counts with a list of all samples: the window is the present bucket and the nine before it.
        #[test]
        fn counts_what_a_list_counts(steps in prop::collection::vec((0u64..3 * SECOND, any::<bool>()), 1..300)) {
            let window = ten_seconds();
            let mut list = VecDeque::new();
            let mut now = 0;
            for (step, fault) in steps {
                now += step;
                window.record(Tick::from_nanos(now), fault);
                list.push_back((now / SECOND, fault));
                let live = list.iter().filter(|(second, _)| now / SECOND - second < BUCKETS);
                let expected = counts(live.clone().count() as u64, live.filter(|(_, fault)| *fault).count() as u64);
                prop_assert_eq!(window.counts(Tick::from_nanos(now)), expected);
            }
        }
    }

    #[test]
    fn a_new_window_is_empty_at_any_time() {
        assert_eq!(ten_seconds().counts(Tick::ZERO), counts(0, 0));
        assert_eq!(
            ten_seconds().counts(Tick::from_nanos(u64::MAX)),
            counts(0, 0)
        );
    }

    #[test]
    fn equal_times_are_all_counted() {
        let window = ten_seconds();
        (0..1000).for_each(|i| window.record(at(7), i % 4 == 0));
        assert_eq!(window.counts(at(7)), counts(1000, 250));
    }

    #[test]
    fn a_long_pause_empties_it() {
        for pause in [
            10,
            1 << 20,
            (1 << 24) - 11,
            (1 << 24) + 11,
            (1 << 33) + 4000,
        ] {
            let window = ten_seconds();
            window.record(at(3), true);
            assert_eq!(
                window.counts(at(3 + pause)),
                counts(0, 0),
                "after {pause} s"
            );
            window.record(at(3 + pause), false);
            assert_eq!(
                window.counts(at(3 + pause)),
                counts(1, 0),
                "after {pause} s"
            );
        }
    }

    #[test]
    fn a_sample_older_than_the_window_is_not_put_into_the_newest_bucket() {
        let window = ten_seconds();
        window.record(at(15), false);
        window.record(at(5), true);
        assert_eq!(window.counts(at(15)), counts(1, 0));
    }

    #[test]
    fn a_clock_ten_years_ahead_and_back_heals() {
        let window = ten_seconds();
        let ten_years = 10 * 365 * 86_400;
        for second in 0..10 {
            window.record(at(ten_years + second), true);
        }
        for second in 5..15 {
            window.record(at(second), false);
        }
        assert_eq!(window.counts(at(14)), counts(10, 0));
    }

    #[test]
    fn a_full_bucket_stops_instead_of_carrying() {
        let window = ten_seconds();
        (0..FULL + 1000).for_each(|_| window.record(at(0), true));
        assert_eq!(window.counts(at(0)), counts(FULL, FULL));
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    fn at(second: u64) -> Tick {
        Tick::from_nanos(second * 1_000_000_000)
    }

    /// Two recorders meet at a bucket of the previous window: one of them rolls it, and both samples count.
    fn two_recorders_at_rollover(record: fn(&Window, Tick, bool)) {
        loom::model(move || {
            let window = Arc::new(Window::new(Duration::from_secs(10)));
            window.record(at(0), true);
            let other = window.clone();
            let thread = thread::spawn(move || record(&other, at(10), false));
            record(&window, at(10), true);
            thread.join().unwrap();
            let counts = window.counts(at(10));
            assert_eq!((counts.total, counts.faults), (2, 1), "a sample was lost");
        });
    }

    #[test]
    fn rollover_loses_no_sample() {
        two_recorders_at_rollover(Window::record);
    }

    /// Broken: the winner publishes the new epoch first and resets the count afterwards, so it wipes what was counted
    /// in between.
    #[test]
    #[should_panic = "a sample was lost"]
    fn broken_variant_epoch_first_then_zero() {
        two_recorders_at_rollover(|window, at, fault| {
            let number = window.number(at);
            let bucket = window.bucket(number);
            // ORDERING: Relaxed, all four, as in `record`. The orderings are not what is broken.
            let word = bucket.load(Ordering::Relaxed);
            if epoch(word) != number {
                let opened = (number << (2 * COUNT_BITS)) | (word & ((1 << (2 * COUNT_BITS)) - 1));
                if bucket
                    .compare_exchange(word, opened, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
                {
                    // ORDERING: Relaxed. As above.
                    bucket.store(number << (2 * COUNT_BITS), Ordering::Relaxed);
                }
            }
            // ORDERING: Relaxed. As above.
            bucket.fetch_add(ONE + u64::from(fault), Ordering::Relaxed);
        });
    }

    /// A late recorder, a whole window behind, neither revives the old bucket nor counts in the new one.
    #[test]
    fn a_late_recorder_is_counted_in_its_own_time_or_not_at_all() {
        loom::model(|| {
            let window = Arc::new(Window::new(Duration::from_secs(10)));
            window.record(at(0), false);
            let other = window.clone();
            let thread = thread::spawn(move || other.record(at(10), false));
            window.record(at(0), true);
            thread.join().unwrap();
            let counts = window.counts(at(10));
            // The add may land after the roll. Then one sample is misplaced, as documented, but no sample of the new
            // bucket is lost.
            assert!((1..=2).contains(&counts.total), "{counts:?}");
        });
    }
}
