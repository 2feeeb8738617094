//! A histogram of attempt latencies, for a hedge that is due at a percentile.
//!
//! It has eight buckets per octave, from a microsecond to 4.6 minutes. A percentile is reported as the upper edge of
//! its bucket, so it is never below the true one, and above it by at most an eighth. It covers the last one to two
//! thousand attempts: all counts are halved when their sum reaches 2048, so old attempts fade by count and not by time.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering, Padded};
use crate::time::nanos;

/// Latencies below 2^10 ns, about a microsecond, share the first bucket.
const FIRST_OCTAVE: u32 = 10;
/// Buckets per octave, as a power of two.
const FINENESS: u32 = 3;
const OCTAVES: u32 = 28;
const BUCKETS: usize = if cfg!(evenkeel_loom) {
    2
} else {
    ((OCTAVES << FINENESS) + 1) as usize
};

/// The sum of counts at which they are halved. Between 1024 and this many, the share beyond a 95th percentile is exact
/// to 0.7 points (one standard deviation: the square root of 0.95 * 0.05 / 1024).
const HALVE_AT: u64 = if cfg!(evenkeel_loom) { 2 } else { 2048 };
/// One attempt in this many recomputes the percentile, which is one pass over the buckets (some 100 ns).
const RECOMPUTE_EVERY: u64 = if cfg!(evenkeel_loom) { 2 } else { 32 };

/// Returns the bucket of a latency.
fn bucket_of(nanos: u64) -> usize {
    let Some(octave) = nanos.max(1).ilog2().checked_sub(FIRST_OCTAVE) else {
        return 0;
    };
    let part = nanos >> (FIRST_OCTAVE + octave - FINENESS) & ((1 << FINENESS) - 1);
    let bucket = ((u64::from(octave) << FINENESS) | part) + 1;
    (bucket as usize).min(BUCKETS - 1)
}

/// Returns the upper edge of a bucket, in nanoseconds.
const fn end_of(bucket: usize) -> u64 {
    let octave = FIRST_OCTAVE + (bucket as u32 >> FINENESS);
    let part = bucket as u64 & ((1 << FINENESS) - 1);
    (1 << octave) + (part << (octave - FINENESS))
}

/// Returns the bucket that holds the percentile; `None` if nothing has been counted.
fn percentile_of(counts: &[u64], percent: u32) -> Option<usize> {
    let all: u64 = counts.iter().sum();
    let wanted = (all * u64::from(percent)).div_ceil(100).max(1);
    let mut seen = 0;
    counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    })
}

/// The histogram and its current percentile.
///
/// Every change is a single read-modify-write, so no attempt is lost while another thread halves the counts. A pass
/// that runs concurrently with other threads' writes sees some of them, and two threads that halve at once halve twice.
/// Neither needs to be excluded, so there is no claim.
pub(super) struct Latencies {
    percent: u32,
    min_samples: u64,
    /// How many attempts have been counted. It is never halved and decides which attempt recomputes the percentile.
    turn: Padded<AtomicU64>,
    /// The percentile in nanoseconds; 0 while too few attempts are known.
    percentile: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Latencies {
    pub(super) fn new(percent: u32, min_samples: u32) -> Self {
        Self {
            percent,
            min_samples: min_samples.into(),
            turn: Padded(AtomicU64::new(0)),
            percentile: AtomicU64::new(0),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Counts an attempt that took this long, or was cut off after this long.
    pub(super) fn add(&self, latency: Duration) {
        let bucket = &self.buckets[bucket_of(nanos(latency))];
        // ORDERING: Relaxed, both. Statistics; `turn` is ordered by its own modification order.
        bucket.fetch_add(1, Ordering::Relaxed);
        let count = self.turn.0.fetch_add(1, Ordering::Relaxed) + 1;
        if count % RECOMPUTE_EVERY == 0 || count == self.min_samples {
            self.recompute();
        }
    }

    /// Returns the percentile, once enough attempts are known.
    pub(super) fn percentile(&self) -> Option<Duration> {
        // ORDERING: Relaxed. A single value, complete in itself.
        let known = self.percentile.load(Ordering::Relaxed);
        (known > 0).then(|| Duration::from_nanos(known))
    }

    #[cold]
    fn recompute(&self) {
        // ORDERING: Relaxed. Statistics.
        let load = |bucket: usize| self.buckets[bucket].load(Ordering::Relaxed);
        let counts: [u64; BUCKETS] = std::array::from_fn(load);
        let all: u64 = counts.iter().sum();
        if all >= self.min_samples {
            let bucket = percentile_of(&counts, self.percent).unwrap_or(0);
            // ORDERING: Relaxed. As in `percentile`.
            self.percentile.store(end_of(bucket), Ordering::Relaxed);
        }
        if all >= HALVE_AT {
            self.halve();
        }
    }

    fn halve(&self) {
        for bucket in &self.buckets {
            // ORDERING: Relaxed, both. A read-modify-write, so additions made meanwhile are not lost.
            let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count > 0).then_some(count / 2)
            });
        }
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Three attempts are in one bucket; a fourth is counted while they are halved.
    fn count_while_halved(halve: fn(&Latencies)) {
        loom::model(move || {
            let latencies = Arc::new(Latencies::new(50, 100));
            // ORDERING: Relaxed. The other thread has not been spawned yet.
            latencies.buckets[0].store(3, Ordering::Relaxed);
            let other = latencies.clone();
            let thread = thread::spawn(move || halve(&other));
            latencies.add(Duration::ZERO);
            thread.join().unwrap();
            // ORDERING: Relaxed. The thread is joined. The result is 3 / 2 + 1, or 4 / 2.
            let left = latencies.buckets[0].load(Ordering::Relaxed);
            assert_eq!(left, 2, "an attempt was lost");
        });
    }

    #[test]
    fn an_attempt_that_meets_a_halving_is_counted() {
        count_while_halved(Latencies::halve);
    }

    /// Broken: halves by a load and a store.
    #[test]
    #[should_panic = "an attempt was lost"]
    fn broken_variant_load_then_store() {
        count_while_halved(|latencies| {
            for bucket in &latencies.buckets {
                // ORDERING: Relaxed, both. The variant is broken for another reason.
                let count = bucket.load(Ordering::Relaxed);
                bucket.store(count / 2, Ordering::Relaxed);
            }
        });
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn no_percentile_is_given_before_there_are_enough_samples() {
        let latencies = Latencies::new(95, 100);
        for _ in 0..99 {
            latencies.add(micros(1000));
        }
        assert_eq!(latencies.percentile(), None);
        latencies.add(micros(1000));
        assert!(latencies.percentile() >= Some(micros(1000)));
    }

    #[test]
    fn old_latencies_fade() {
        let latencies = Latencies::new(95, 100);
        for latency in [100, 100_000, 100] {
            for _ in 0..20_000 {
                latencies.add(micros(latency));
            }
            let known = latencies.percentile().expect("enough were counted");
            assert!((micros(latency)..=micros(latency) * 9 / 8).contains(&known));
        }
    }

    #[test]
    fn the_extremes_have_their_buckets() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(1023), 0);
        assert_eq!(bucket_of(1024), 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert!(end_of(BUCKETS - 1) >= nanos(Duration::from_secs(270)));
        assert_eq!(percentile_of(&[0, 0], 95), None);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_before_its_end(nanos in 1024u64..1 << 38) {
            let bucket = bucket_of(nanos);
            prop_assert!(end_of(bucket - 1) <= nanos && nanos < end_of(bucket));
            // The width of a bucket is at most an eighth of its values.
            prop_assert!(end_of(bucket) - end_of(bucket - 1) <= nanos / 8 + 1);
        }

        /// Compares with a sorted list.
        #[test]
        fn a_percentile_exceeds_the_exact_one_by_an_eighth_at_most(
            mut all in prop::collection::vec(1_024u64..1 << 30, 100..1000),
            percent in 50u32..100,
        ) {
            let latencies = Latencies::new(percent, 100);
            for one in &all {
                latencies.add(Duration::from_nanos(*one));
            }
            latencies.recompute();
            all.sort_unstable();
            let rank = (all.len() * percent as usize).div_ceil(100).max(1);
            let expected = all[rank - 1];
            let known = nanos(latencies.percentile().expect("enough were counted"));
            prop_assert!(known > expected && known <= expected + expected / 8 + 1, "{known} for {expected}");
        }
    }
}
