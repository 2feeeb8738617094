//! How the fleet fares as a whole: what share of its requests fails, and how many of its endpoints are under
//! suspicion at once. Counts here are statistics: upkeep counts anew, and between that they are close.

use super::{Shard, Shared};
use crate::health::{Detector, Thresholds, Usual};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// While so large a share of the others is under suspicion at once, the fault is in what all share. More than
/// a third, so that a dead zone of three is not taken for that.
pub(crate) const COMMON: f64 = 0.4;

/// What one outcome weighs in a shard's share of failures: the last 32 or so count.
const WEIGHT: f32 = 1.0 / 32.0;

/// A share below this is none.
const TRACE: f32 = 1e-4;

#[derive(Debug)]
pub(crate) struct Trend {
    /// An `f32`'s bits: the share of requests that fail, endpoints that stand out apart.
    error_rate: AtomicU32,
    /// Endpoints under suspicion.
    suspects: AtomicU64,
    /// Endpoints that are judged.
    judged: AtomicU64,
    /// An `f32`'s bits: requests a second to an endpoint, in the mean.
    pace: AtomicU32,
    /// Two `f32`s' bits, NaN if not known: below which success rate and above which latency, in nanoseconds, upkeep ejects.
    limits: [AtomicU32; 2],
}

impl Trend {
    pub(super) fn new() -> Self {
        Self {
            error_rate: AtomicU32::new(0),
            suspects: AtomicU64::new(0),
            judged: AtomicU64::new(0),
            pace: AtomicU32::new(0),
            limits: std::array::from_fn(|_| AtomicU32::new(f32::NAN.to_bits())),
        }
    }

    /// What upkeep has counted.
    pub(crate) fn publish(&self, error_rate: f64, suspects: usize, judged: usize) {
        // ORDERING: Relaxed, all, here and below. Statistics, each complete in itself.
        self.error_rate
            .store((error_rate as f32).to_bits(), Ordering::Relaxed);
        self.suspects.store(suspects as u64, Ordering::Relaxed);
        self.judged.store(judged as u64, Ordering::Relaxed);
    }

    /// What endpoints are held against from now on.
    pub(crate) fn hold_against(&self, limits: &Thresholds) {
        let known = [limits.success_rate, limits.latency];
        for (place, limit) in self.limits.iter().zip(known) {
            let limit = limit.map_or(f32::NAN, |limit| limit as f32);
            // ORDERING: Relaxed. As above.
            place.store(limit.to_bits(), Ordering::Relaxed);
        }
    }

    /// What this detector held endpoints against at the last upkeep, if it compares them.
    pub(crate) fn limit(&self, detector: Detector) -> Option<f64> {
        let [success_rate, latency] = &self.limits;
        let place = match detector {
            Detector::SuccessRate => success_rate,
            Detector::LatencyOutlier => latency,
            _ => return None,
        };
        // ORDERING: Relaxed. As above.
        let limit = f32::from_bits(place.load(Ordering::Relaxed));
        (!limit.is_nan()).then_some(limit.into())
    }

    /// Sets how many requests a second an endpoint gets.
    pub(crate) fn set_pace(&self, pace: f32) {
        // ORDERING: Relaxed. As above.
        self.pace.store(pace.to_bits(), Ordering::Relaxed);
    }

    /// How many requests a second those get together that are judged.
    pub(crate) fn rate(&self) -> f32 {
        // ORDERING: Relaxed. As above.
        self.pace() * self.judged.load(Ordering::Relaxed) as f32
    }

    /// How many requests a second an endpoint gets, in the mean.
    #[inline]
    pub(crate) fn pace(&self) -> f32 {
        // ORDERING: Relaxed. As above.
        f32::from_bits(self.pace.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn error_rate(&self) -> f32 {
        // ORDERING: Relaxed. As above.
        f32::from_bits(self.error_rate.load(Ordering::Relaxed))
    }

    /// The share of requests that fail, once upkeep has looked at somebody.
    pub(crate) fn known_error_rate(&self) -> Option<f64> {
        // ORDERING: Relaxed. As above.
        let judged = self.judged.load(Ordering::Relaxed);
        (judged > 0).then(|| self.error_rate().into())
    }

    /// One more is under suspicion.
    pub(crate) fn suspected(&self) {
        // ORDERING: Relaxed. As above.
        self.suspects.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether anybody is.
    pub(crate) fn has_suspects(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.suspects.load(Ordering::Relaxed) > 0
    }

    /// One less is.
    pub(crate) fn cleared(&self) {
        // ORDERING: Relaxed, both. As above. Upkeep may have counted it already.
        let _ = self
            .suspects
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_sub(1)
            });
    }

    /// Whether so many of the others are under suspicion that the fault is in what all share.
    pub(crate) fn is_common(&self, is_suspect: bool) -> bool {
        // ORDERING: Relaxed, both. As above.
        let suspects = self.suspects.load(Ordering::Relaxed);
        let judged = self.judged.load(Ordering::Relaxed);
        let others = suspects.saturating_sub(u64::from(is_suspect));
        judged >= 3 && others as f64 >= COMMON * (judged - 1) as f64
    }
}

impl Shared {
    /// What is usual now, for an outcome of this shard's at an endpoint that is under suspicion or not.
    pub(crate) fn usual_now(&self, shard: usize, is_suspect: bool) -> Usual {
        let mut rate = self.trend.error_rate();
        if self.trend.is_common(is_suspect) {
            rate = rate.max(self.own(shard).failing());
        }
        self.usual().with_error_rate(rate.into())
    }
}

impl Shard {
    /// The share of its last requests that failed.
    fn failing(&self) -> f32 {
        // ORDERING: Relaxed. A statistic.
        f32::from_bits(self.failing.load(Ordering::Relaxed))
    }

    /// Whether none of its last requests failed.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        // ORDERING: Relaxed. A statistic.
        self.failing.load(Ordering::Relaxed) == 0
    }

    /// One of its requests ended well.
    #[inline]
    pub(crate) fn ended_well(&self) {
        // ORDERING: Relaxed. A statistic.
        let failing = self.failing.load(Ordering::Relaxed);
        if failing != 0 {
            self.set_failing(f32::from_bits(failing) * (1.0 - WEIGHT));
        }
    }

    /// One of its requests ended in a fault.
    pub(crate) fn ended_in_fault(&self) {
        let failing = self.failing();
        self.set_failing(failing + (1.0 - failing) * WEIGHT);
    }

    /// A store, not an exchange: threads of one shard may forget each other's, which weighs little.
    #[cold]
    fn set_failing(&self, share: f32) {
        let share = if share < TRACE { 0.0 } else { share };
        // ORDERING: Relaxed. A statistic.
        self.failing.store(share.to_bits(), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn two_fifths_of_the_others_under_suspicion_are_the_fault_of_all() {
        let shared = Shared::alone();
        (0..50).for_each(|_| shared.own(0).ended_in_fault());
        shared.trend.publish(0.01, 7, 21);
        let rate = |is_suspect| shared.usual_now(0, is_suspect).error_rate();
        assert!((rate(false) - 0.01).abs() < 1e-6, "a zone is not all");
        shared.trend.suspected();
        assert!(
            rate(false) > 0.7 && rate(true) < 0.02,
            "eight of twenty others"
        );
        shared.trend.cleared();
        assert!(rate(false) < 0.02);
        shared.trend.publish(0.0, 2, 2);
        assert_eq!(rate(true), 0.0, "of two nobody is the fleet");
    }

    #[test]
    fn failures_are_forgotten_after_many_successes() {
        let shared = Shared::alone();
        shared.own(0).ended_in_fault();
        assert!(shared.own(0).failing() > 0.03);
        (0..200).for_each(|_| shared.own(0).ended_well());
        assert_eq!(shared.own(0).failing(), 0.0);
    }

    #[test]
    fn nobody_is_cleared_twice() {
        let trend = Trend::new();
        trend.cleared();
        trend.publish(0.0, 0, 5);
        trend.cleared();
        assert!(!trend.is_common(false));
    }
}
