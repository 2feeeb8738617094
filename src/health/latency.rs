//! A peak-sensitive moving average of latency in one word: `milliseconds: 32 (wrapping) | f32 nanos`.
//!
//! Source of the idea: Finagle's peak EWMA. A higher sample is believed at once, lower ones as time
//! passes. Unlike there, a failure never lowers it, and an idle endpoint's estimate returns to what is
//! usual in the fleet, not to 0.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// Time constant: after it, a peak's excess is down to 37 %. Finagle's and Linkerd's default.
const TAU_MILLIS: u32 = 10_000;

/// The longest latency believed. A clock that jumped must not poison an average for days.
const LONGEST: Duration = Duration::from_secs(300);

/// A stamp that is ahead of the present by more than this was left by a clock that has gone back.
const AHEAD_MILLIS: u32 = 60_000;

/// An endpoint idle for this long drifts toward what is usual.
const IDLE_MILLIS: u32 = 1_000;

/// A latency estimate that any number of threads may feed.
#[derive(Debug)]
pub(crate) struct LatencyCell(AtomicU64);

/// No sample yet. An estimate is at least 1 ns, so no other word is 0.
const UNKNOWN: u64 = 0;

impl LatencyCell {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Duration> {
        // ORDERING: Relaxed. One word, complete in itself.
        let word = self.0.load(Ordering::Relaxed);
        (word != UNKNOWN).then(|| Duration::from_nanos(estimate(word) as u64))
    }

    /// An answer took `latency`.
    #[inline]
    pub(crate) fn observe(&self, now: Tick, latency: Duration) {
        let (stamp, sample) = (stamp(now), believable(latency));
        // ORDERING: Relaxed. One word, complete in itself. Most samples change nothing within a millisecond.
        let word = self.0.load(Ordering::Relaxed);
        if observed(word, stamp, sample) != word {
            self.change(|word| Some(observed(word, stamp, sample)));
        }
    }

    /// A request that brought no answer took `latency`: a lower bound, so the estimate may only rise.
    /// An endpoint that fails fast before its first answer stays unknown.
    pub(crate) fn raise(&self, now: Tick, latency: Duration) {
        let sample = believable(latency);
        self.change(|word| {
            (word != UNKNOWN && sample > estimate(word)).then(|| pack(stamp(now), sample))
        });
    }

    /// An idle endpoint's estimate drifts toward the fleet's usual one.
    pub(crate) fn settle(&self, now: Tick, usual: Duration) {
        let usual = believable(usual);
        self.change(|word| {
            let idle = elapsed(word, stamp(now));
            (word != UNKNOWN && idle >= IDLE_MILLIS)
                .then(|| pack(stamp(now), toward(estimate(word), usual, idle)))
        });
    }

    /// Tries a few times and then lets it be: under such contention other samples get in.
    fn change(&self, next: impl Fn(u64) -> Option<u64>) {
        // ORDERING: Relaxed, here and below. One word, complete in itself.
        let mut word = self.0.load(Ordering::Relaxed);
        for _ in 0..4 {
            let Some(next) = next(word) else { return };
            if next == word {
                return;
            }
            // ORDERING: Relaxed, both. As above.
            match self
                .0
                .compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }
}

/// The estimate after a sample.
#[inline]
fn observed(word: u64, stamp: u32, sample: f32) -> u64 {
    if word == UNKNOWN || sample >= estimate(word) {
        return pack(stamp, sample);
    }
    match elapsed(word, stamp) {
        // Within a millisecond nothing has decayed; keep the stamp, so that time adds up.
        0 => word,
        elapsed => pack(stamp, toward(estimate(word), sample, elapsed)),
    }
}

/// `from` after `elapsed` milliseconds on its way to `to`: `to + (from - to)·exp(-elapsed/τ)`, with
/// the exponential's series in place of a call.
fn toward(from: f32, to: f32, elapsed: u32) -> f32 {
    let z = elapsed as f32 / TAU_MILLIS as f32;
    let left = 1.0 / (1.0 + z * (1.0 + z / 2.0 * (1.0 + z / 3.0)));
    to + (from - to) * left
}

#[inline]
fn believable(latency: Duration) -> f32 {
    nanos(latency.min(LONGEST)).max(1) as f32
}

/// Wraps after 49 days; a stamp older than half of that reads as one from the future, hence as stale.
#[inline]
fn stamp(now: Tick) -> u32 {
    now.as_millis() as u32
}

#[inline]
fn elapsed(word: u64, now: u32) -> u32 {
    let elapsed = now.wrapping_sub((word >> 32) as u32);
    let ahead = elapsed.wrapping_neg();
    if elapsed != 0 && ahead <= AHEAD_MILLIS {
        0
    } else {
        elapsed
    }
}

#[inline]
fn pack(stamp: u32, estimate: f32) -> u64 {
    (u64::from(stamp) << 32) | u64::from(estimate.max(1.0).to_bits())
}

#[inline]
fn estimate(word: u64) -> f32 {
    f32::from_bits(word as u32)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    fn known(latency: Duration) -> LatencyCell {
        let cell = LatencyCell::new();
        cell.observe(at(0), latency);
        cell
    }

    #[test]
    fn a_peak_is_believed_at_once_and_forgotten_slowly() {
        let cell = known(MILLI);
        cell.observe(at(1), 100 * MILLI);
        assert_eq!(cell.get(), Some(100 * MILLI));
        cell.observe(at(10_001), MILLI);
        let after = cell.get().unwrap();
        assert!(after > 35 * MILLI && after < 39 * MILLI, "{after:?}");
    }

    #[test]
    fn a_failure_never_lowers_it() {
        let cell = known(10 * MILLI);
        cell.raise(at(60_000), MILLI);
        assert_eq!(cell.get(), Some(10 * MILLI));
        cell.raise(at(60_000), 50 * MILLI);
        assert_eq!(cell.get(), Some(50 * MILLI));
        let unknown = LatencyCell::new();
        unknown.raise(at(0), MILLI);
        assert_eq!(unknown.get(), None);
    }

    #[test]
    fn an_idle_endpoint_returns_to_the_usual_not_to_zero() {
        let cell = known(100 * MILLI);
        for second in 1..200 {
            cell.settle(at(second * 1000), 5 * MILLI);
        }
        let after = cell.get().unwrap();
        assert!(
            after >= 5 * MILLI - Duration::from_nanos(10) && after < 6 * MILLI,
            "{after:?}"
        );
    }

    #[test]
    fn the_longest_duration_is_a_long_one_and_no_more() {
        let cell = known(Duration::MAX);
        let off = cell.get().unwrap().abs_diff(LONGEST);
        assert!(off < MILLI, "f32 keeps 24 bits of it: {off:?} off");
        assert!(known(Duration::ZERO).get().unwrap() <= Duration::from_nanos(1));
    }

    #[test]
    fn a_clock_ten_years_ahead_and_back_heals() {
        let cell = known(MILLI);
        cell.observe(at(10 * 365 * 86_400_000), 100 * MILLI);
        (0..100).for_each(|second| cell.observe(at(second * 1000), MILLI));
        assert!(cell.get().unwrap() < 2 * MILLI);
    }

    proptest! {
        /// Whatever is fed, the estimate stays between the least and the greatest sample.
        #[test]
        fn stays_within_what_it_saw(samples in prop::collection::vec((0u64..100_000, 1u64..10_000_000), 1..50)) {
            let cell = LatencyCell::new();
            for &(millis, latency) in &samples {
                cell.observe(at(millis), Duration::from_nanos(latency));
                let seen = nanos(cell.get().unwrap()) as f64;
                let least = samples.iter().map(|s| s.1).min().unwrap() as f64;
                let most = samples.iter().map(|s| s.1).max().unwrap() as f64;
                // f32 keeps 24 bits: a relative error of 2^-23 a step, far below 1e-4 in 50.
                prop_assert!(seen >= least * 0.9999 - 1.0 && seen <= most * 1.0001 + 1.0);
            }
        }
    }
}
