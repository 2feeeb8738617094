//! How the fleet fares as a whole: what share of its requests fails, and how many of its endpoints are under
//! suspicion at once. Counts here are statistics: upkeep counts anew, and between that they are close.

use std::time::Duration;

use super::{Shard, Shared};
use crate::health::{Detector, Thresholds, Usual};
use crate::options::MemberId;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// While so large a share of the others is under suspicion at once, the fault is in what all share. More than
/// a third, so that a dead zone of three is not taken for that.
pub(crate) const COMMON: f64 = 0.4;

/// Of fewer endpoints than this none is the fleet.
const SEVERAL: u64 = 3;

/// What one outcome weighs in a shard's share of failures: the last 32 or so count.
const WEIGHT: f32 = 1.0 / 32.0;

/// The first that fails is one of so many, as three have gone well before it.
const BEFORE: f32 = 4.0;

/// As long as so large a share fails, each at another endpoint than the one before, the fault stays in what all share.
const HERE_AND_THERE: f32 = 0.1;

/// A share below this is none.
const TRACE: f32 = 1e-4;

#[derive(Debug)]
pub(crate) struct Trend {
    /// An `f32`'s bits: the share of requests that fail, endpoints that stand out apart.
    error_rate: AtomicU32,
    /// An `f32`'s bits: the share of its requests that an endpoint refuses, in the median, as it has too much to do.
    refusal_rate: AtomicU32,
    /// When a request failed the last time while the fault was in what all share, in tenths of the window and one; 0 for never.
    common_in: AtomicU64,
    /// When somebody was to be ejected the last time and the cap was reached, in milliseconds and one; 0 for never.
    overflowed_at: AtomicU64,
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
            refusal_rate: AtomicU32::new(0),
            common_in: AtomicU64::new(0),
            overflowed_at: AtomicU64::new(0),
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

    /// Somebody was to be ejected, and the cap is reached.
    pub(crate) fn overflowed(&self, now: Tick) {
        // ORDERING: Relaxed. As above.
        self.overflowed_at
            .store(now.as_millis() + 1, Ordering::Relaxed);
    }

    /// Whether that was within so long.
    pub(crate) fn has_overflowed(&self, within: Duration, now: Tick) -> bool {
        // ORDERING: Relaxed. As above.
        let at = self.overflowed_at.load(Ordering::Relaxed);
        let passed = (now.as_millis() + 1).saturating_sub(at);
        at > 0 && u128::from(passed) <= within.as_millis()
    }

    /// Sets the share of its requests that an endpoint refuses, in the median.
    pub(crate) fn set_refusal_rate(&self, rate: f32) {
        // ORDERING: Relaxed. As above.
        self.refusal_rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn refusal_rate(&self) -> f32 {
        // ORDERING: Relaxed. As above.
        f32::from_bits(self.refusal_rate.load(Ordering::Relaxed))
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
        judged >= SEVERAL && others as f64 >= COMMON * (judged - 1) as f64
    }

    /// Whether there are enough that take requests to tell what is common to them.
    fn are_several(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.judged.load(Ordering::Relaxed) >= SEVERAL
    }
}

impl Shared {
    /// What is usual now, for an outcome of this shard's at an endpoint that is under suspicion or not.
    pub(crate) fn usual_now(&self, shard: usize, is_suspect: bool) -> Usual {
        let (own, mut rate) = (self.own(shard), self.trend.error_rate());
        let is_common = own.is_common(self.trend.is_common(is_suspect));
        // Where all are out, what fails is their probes.
        if is_common && self.trend.are_several() {
            rate = rate.max(own.failing());
        }
        self.usual().with_error_rate(rate.into())
    }
}

impl Shared {
    /// Which tenth of a window this time is in.
    pub(crate) fn tenth(&self, at: Tick) -> u64 {
        at.as_nanos() / (nanos(self.ejection.window) / 10).max(1)
    }

    /// A request of this shard's has failed now: if the fault is in what all share, that is remembered.
    pub(crate) fn note_common(&self, shard: usize, now: Tick) {
        // ORDERING: Relaxed, all, here and below. Statistics, each complete in itself.
        let own = self.own(shard);
        let is_common = own.is_common.load(Ordering::Relaxed) != 0;
        // A few under suspicion at once are not enough for that: of few endpoints they always are.
        let fail_mostly = f64::from(own.failing()) >= COMMON;
        let tenth = self.tenth(now) + 1;
        let is_of_all = is_common && fail_mostly && self.trend.are_several();
        // ORDERING: Relaxed, both. As above.
        if is_of_all && self.trend.common_in.load(Ordering::Relaxed) != tenth {
            self.trend.common_in.store(tenth, Ordering::Relaxed);
        }
    }

    /// How many tenths of a window have begun since the fault was in what all share; more than there are where it goes on, or never was.
    pub(crate) fn tenths_apart(&self, now: Tick) -> u64 {
        // ORDERING: Relaxed. As above.
        let last = self.trend.common_in.load(Ordering::Relaxed);
        match (self.tenth(now) + 1).checked_sub(last) {
            Some(apart) if last > 0 && apart > 0 => apart,
            _ => u64::MAX,
        }
    }
}

impl Shard {
    /// The share of its last requests that failed.
    fn failing(&self) -> f32 {
        // ORDERING: Relaxed. A statistic.
        f32::from_bits(self.failing.load(Ordering::Relaxed))
    }

    fn failing_around(&self) -> f32 {
        // ORDERING: Relaxed. A statistic.
        f32::from_bits(self.failing_around.load(Ordering::Relaxed))
    }

    /// Whether the fault is in what all share, where so many are under suspicion now, or are not. Once it is, it is for as long as this
    /// shard's requests fail here and there, or mostly: a few successes clear those that were suspect, and the next two failures of one would
    /// be its own.
    fn is_common(&self, are_many: bool) -> bool {
        // ORDERING: Relaxed, both. A statistic.
        let was = self.is_common.load(Ordering::Relaxed) != 0;
        let goes_on =
            self.failing_around() >= HERE_AND_THERE || f64::from(self.failing()) >= COMMON;
        let is = are_many || (was && goes_on);
        if is != was {
            self.is_common.store(is.into(), Ordering::Relaxed);
        }
        is
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
        if !self.is_quiet() {
            self.count(0.0, 0.0);
        }
    }

    /// One of its requests ended in a fault, at this endpoint.
    pub(crate) fn ended_in_fault(&self, at: MemberId) {
        // ORDERING: Relaxed. A statistic.
        let before = self.failed_at.swap(at.get(), Ordering::Relaxed);
        let is_another = before != 0 && before != at.get();
        self.count(1.0, if is_another { 1.0 } else { 0.0 });
    }

    /// Stores, not exchanges: threads of one shard may forget each other's, which weighs little.
    #[cold]
    fn count(&self, failed: f32, around: f32) {
        // ORDERING: Relaxed. A statistic.
        let counted = self.counted.load(Ordering::Relaxed);
        // As many as there are before there are more.
        let weight = WEIGHT.max(1.0 / (counted as f32 + BEFORE));
        let next = |share: f32, one: f32| share + (one - share) * weight;
        let failing = next(self.failing(), failed);
        let around = next(self.failing_around(), around);
        let ([failing, around], counted) = match failing < TRACE {
            true => ([0.0; 2], 0),
            false => ([failing, around], counted.saturating_add(1)),
        };
        // ORDERING: Relaxed, all. A statistic.
        self.counted.store(counted, Ordering::Relaxed);
        self.failing.store(failing.to_bits(), Ordering::Relaxed);
        self.failing_around
            .store(around.to_bits(), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    /// One in four of a shard's requests fails, at so many endpoints in turns.
    fn one_in_four(shared: &Shared, endpoints: u64) {
        for request in 0..160 {
            match request % 4 {
                0 => (shared.own(0)).ended_in_fault(MemberId::new(1 + request / 4 % endpoints)),
                _ => shared.own(0).ended_well(),
            }
        }
    }

    #[test]
    fn two_fifths_of_the_others_under_suspicion_are_the_fault_of_all() {
        let shared = Shared::alone();
        one_in_four(&shared, 1);
        shared.trend.publish(0.01, 7, 21);
        let rate = |is_suspect| shared.usual_now(0, is_suspect).error_rate();
        assert!((rate(false) - 0.01).abs() < 1e-6, "a zone is not all");
        shared.trend.suspected();
        assert!(
            rate(false) > 0.2 && rate(true) < 0.02,
            "eight of twenty others"
        );
        shared.trend.cleared();
        assert!(rate(false) < 0.02);
        shared.trend.publish(0.0, 2, 2);
        assert_eq!(rate(true), 0.0, "of two nobody is the fleet");
        shared.trend.publish(0.0, 3, 3);
        assert!(rate(true) > 0.2, "of three they are");
    }

    /// What fails at one endpoint does not keep it, unless it is most of all: else there all are well again as soon as no more are suspect.
    #[test]
    fn it_stays_the_fault_of_all_while_requests_fail_here_and_there() {
        for (endpoints, all, stays) in [(1, false, false), (3, false, true), (1, true, true)] {
            let shared = Shared::alone();
            one_in_four(&shared, endpoints);
            (0..if all { 50 } else { 0 })
                .for_each(|_| shared.own(0).ended_in_fault(MemberId::new(1)));
            let rate = || shared.usual_now(0, false).error_rate();
            shared.trend.publish(0.01, 20, 21);
            assert!(rate() > 0.2);
            shared.trend.publish(0.01, 1, 21);
            assert_eq!(rate() > 0.2, stays, "{endpoints}, {all}");
            shared.trend.publish(0.01, 1, 2);
            assert!(rate() < 0.02, "of two nobody is the fleet, whatever was");
            shared.trend.publish(0.01, 1, 21);
            (0..300).for_each(|_| shared.own(0).ended_well());
            assert!(rate() < 0.02);
        }
    }

    /// Until it is over, what has failed at an endpoint tells it from the others; then what is from before it was does not.
    #[test]
    fn what_all_had_counts_until_it_is_over() {
        let shared = Shared::alone();
        let tenth = shared.ejection.window / 10;
        let at = |tenths: u32| Tick::ZERO.after(tenth * tenths);
        let fail = |tenths, suspects, judged| {
            shared.trend.publish(0.9, suspects, judged);
            let own = shared.own(0);
            (0..50).for_each(|request| own.ended_in_fault(MemberId::new(1 + request % 3)));
            shared.usual_now(0, false);
            shared.note_common(0, at(tenths));
        };
        let counts_all = |tenths| shared.tenths_apart(at(tenths)) > 10;
        fail(19, 1, 21);
        assert!(counts_all(20), "one alone is no fault of all");
        fail(20, 20, 21);
        assert!(counts_all(20), "it goes on");
        assert_eq!(shared.tenths_apart(at(23)), 3);
        fail(23, 20, 21);
        assert_eq!(shared.tenths_apart(at(24)), 1);
        fail(24, 2, 2);
        assert_eq!(shared.tenths_apart(at(24)), 1, "of two nobody is the fleet");
        assert!(counts_all(22), "a clock that has gone back");
    }

    /// A clock that begins with the process has not been going for long when the first is ejected.
    #[test]
    fn the_cap_was_not_reached_before_the_clock_began() {
        let trend = Trend::new();
        assert!(!trend.has_overflowed(Duration::from_secs(10), Tick::ZERO));
        trend.overflowed(Tick::ZERO);
        let after = |seconds| Tick::ZERO.after(Duration::from_secs(seconds));
        let has = |now| trend.has_overflowed(Duration::from_secs(10), now);
        assert!(has(after(0)) && has(after(10)) && !has(after(11)));
    }

    #[test]
    fn the_first_failures_tell_at_once() {
        let shared = Shared::alone();
        (0..8).for_each(|fault| shared.own(0).ended_in_fault(MemberId::new(fault)));
        let failing = shared.own(0).failing();
        assert!((failing - 8.0 / 11.0).abs() < 0.01, "{failing}");
    }

    #[test]
    fn failures_are_forgotten_after_many_successes() {
        let shared = Shared::alone();
        shared.own(0).ended_in_fault(MemberId::new(1));
        assert!(shared.own(0).failing() > 0.2);
        (0..250).for_each(|_| shared.own(0).ended_well());
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
