//! The state of the fleet as a whole: what share of its requests fails, and how many endpoints are under suspicion at
//! once. The counts are statistics: upkeep counts anew, and events in between keep them close.
//!
//! A *common fault* is one whose cause all endpoints share. While it lasts, the usual error rate is no less than the
//! share of the shard's last requests that failed.

use std::time::Duration;

use super::Shared;
use crate::health::{Detector, OVERDUE, Thresholds, Usual};
use crate::sync::{AtomicF32, AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// A fault is common while this share of the other endpoints is under suspicion at once. It is more than a third, so
/// that a dead zone of three does not count as a common fault.
pub(crate) const COMMON_FAULT_SHARE: f64 = 0.4;

/// A fault is also common while this share of the other endpoints fails some requests. With two fifths, eight of 20
/// that die together now and then cost `Adaptive` a fifth more errors, and `PowerOfTwo` nearly half as many again (S20
/// of `benches/quality.md`).
const COMMON_IN_PART_SHARE: f64 = 0.5;

/// With fewer endpoints than this no fault counts as common; nor, by that share, with fewer others that fail.
const SEVERAL: u64 = 3;

/// What an endpoint itself adds to the counts, which are to tell of the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
    pub(crate) is_suspect: bool,
    pub(crate) fails_in_part: bool,
}

impl Own {
    /// Of an endpoint that is out: it counts as a suspect, as it was one when it was ejected.
    pub(crate) const OUT: Self = Self {
        is_suspect: true,
        fails_in_part: false,
    };
}

/// What a pick that compares costs needs to know of the fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pacing {
    /// How many requests per second an endpoint gets, in the mean; 0 while unknown.
    pub(crate) pace: f32,
    /// From which mean age on requests in flight are overdue, as a multiple of what a request costs.
    pub(crate) overdue: f32,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            pace: 0.0,
            overdue: OVERDUE,
        }
    }
}

#[derive(Debug)]
pub(crate) struct FleetRates {
    /// The share of requests that fail, endpoints that stand out excluded.
    error_rate: AtomicF32,
    /// The median over endpoints of the share of requests that an endpoint refuses because of overload.
    refusal_rate: AtomicF32,
    /// In which tenth of a window a request last failed during a common fault, plus 1; 0 for never.
    last_common_fault: AtomicU64,
    /// The highest share of a shard's last requests that failed, in that tenth.
    common_error_rate: AtomicF32,
    /// When an ejection last met the cap, or most requests last failed, in milliseconds plus 1; 0 for never.
    overflowed_at: AtomicU64,
    /// How many endpoints are under suspicion.
    suspects: AtomicU64,
    /// How many endpoints have failed unusually many of their last requests, but no more than half.
    failing_in_part: AtomicU64,
    /// How many endpoints are judged: those that are in.
    judged: AtomicU64,
    /// How many requests per second an endpoint gets, in the mean.
    pace: AtomicF32,
    /// The standard deviation that latency estimates have by chance, as a part of them, as far as it matters.
    noise: AtomicF32,
    /// From which mean age on requests in flight are overdue, as a multiple of what a request costs.
    overdue: AtomicF32,
    /// NaN while unknown, as the next: upkeep ejects below this success rate,
    success_rate_threshold: AtomicF32,
    /// and above this latency in nanoseconds.
    latency_threshold: AtomicF32,
}

impl FleetRates {
    pub(super) fn new() -> Self {
        Self {
            error_rate: AtomicF32::new(0.0),
            refusal_rate: AtomicF32::new(0.0),
            last_common_fault: AtomicU64::new(0),
            common_error_rate: AtomicF32::new(0.0),
            overflowed_at: AtomicU64::new(0),
            suspects: AtomicU64::new(0),
            failing_in_part: AtomicU64::new(0),
            judged: AtomicU64::new(0),
            pace: AtomicF32::new(0.0),
            noise: AtomicF32::new(0.0),
            overdue: AtomicF32::new(OVERDUE),
            success_rate_threshold: AtomicF32::new(f32::NAN),
            latency_threshold: AtomicF32::new(f32::NAN),
        }
    }

    /// Publishes what upkeep has counted.
    pub(crate) fn publish(&self, error_rate: f64, suspects: usize, judged: usize) {
        self.error_rate.set(error_rate as f32);
        // ORDERING: Relaxed, both, here and below. Statistics, each complete in itself.
        self.suspects.store(suspects as u64, Ordering::Relaxed);
        self.judged.store(judged as u64, Ordering::Relaxed);
    }

    /// Sets how many endpoints have failed unusually many of their last requests, but no more than half.
    pub(crate) fn set_failing_in_part(&self, count: usize) {
        // ORDERING: Relaxed, here and below. As above.
        self.failing_in_part.store(count as u64, Ordering::Relaxed);
    }

    /// Counts one more of these.
    pub(crate) fn add_failing_in_part(&self) {
        self.failing_in_part.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that an ejection met the cap, or that most requests fail: a member that is out is wanted back.
    pub(crate) fn note_overflow(&self, now: Tick) {
        // ORDERING: Relaxed. As above.
        self.overflowed_at
            .store(now.as_millis() + 1, Ordering::Relaxed);
    }

    /// Whether an ejection met the cap, or most requests failed, within this time.
    pub(crate) fn has_overflowed(&self, within: Duration, now: Tick) -> bool {
        // ORDERING: Relaxed. As above.
        let at = self.overflowed_at.load(Ordering::Relaxed);
        let passed = (now.as_millis() + 1).saturating_sub(at);
        at > 0 && u128::from(passed) <= within.as_millis()
    }

    /// Sets the median share of requests that an endpoint refuses.
    pub(crate) fn set_refusal_rate(&self, rate: f32) {
        self.refusal_rate.set(rate);
    }

    pub(crate) fn refusal_rate(&self) -> f32 {
        self.refusal_rate.get()
    }

    /// Publishes the thresholds of the detectors that compare endpoints.
    pub(crate) fn set_thresholds(&self, thresholds: &Thresholds) {
        let known = |threshold: Option<f64>| threshold.map_or(f32::NAN, |known| known as f32);
        self.success_rate_threshold
            .set(known(thresholds.success_rate));
        self.latency_threshold.set(known(thresholds.latency));
    }

    /// The threshold of this detector at the last upkeep, if it compares endpoints.
    pub(crate) fn threshold(&self, detector: Detector) -> Option<f64> {
        let threshold = match detector {
            Detector::SuccessRate => self.success_rate_threshold.get(),
            Detector::LatencyOutlier => self.latency_threshold.get(),
            _ => return None,
        };
        (!threshold.is_nan()).then_some(threshold.into())
    }

    /// Sets how many requests per second an endpoint gets, in the mean.
    pub(crate) fn set_pace(&self, pace: f32) {
        self.pace.set(pace);
    }

    /// Sets the standard deviation that latency estimates have by chance, and from which age on requests are overdue.
    pub(crate) fn set_noise(&self, noise: f32, overdue: f32) {
        self.noise.set(noise);
        self.overdue.set(overdue);
    }

    pub(crate) fn noise(&self) -> f32 {
        self.noise.get()
    }

    #[inline]
    pub(crate) fn pacing(&self) -> Pacing {
        Pacing {
            pace: self.pace(),
            overdue: self.overdue.get(),
        }
    }

    /// Requests per second of all judged endpoints together.
    pub(crate) fn rate(&self) -> f32 {
        // ORDERING: Relaxed. As above.
        self.pace() * self.judged.load(Ordering::Relaxed) as f32
    }

    /// How many requests per second an endpoint gets, in the mean.
    #[inline]
    pub(crate) fn pace(&self) -> f32 {
        self.pace.get()
    }

    #[inline]
    pub(super) fn error_rate(&self) -> f32 {
        self.error_rate.get()
    }

    /// The share of requests that fail, once upkeep has judged any endpoint.
    pub(crate) fn known_error_rate(&self) -> Option<f64> {
        // ORDERING: Relaxed. As above.
        let judged = self.judged.load(Ordering::Relaxed);
        (judged > 0).then(|| self.error_rate().into())
    }

    /// Counts one more endpoint under suspicion.
    pub(crate) fn add_suspect(&self) {
        // ORDERING: Relaxed. As above.
        self.suspects.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether any endpoint is under suspicion.
    pub(crate) fn has_suspects(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.suspects.load(Ordering::Relaxed) > 0
    }

    /// Counts one endpoint less under suspicion.
    pub(crate) fn remove_suspect(&self) {
        // ORDERING: Relaxed, both. As above. Upkeep may have counted it already.
        let _ = self
            .suspects
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_sub(1)
            });
    }

    /// Whether so many of the other endpoints are under suspicion that the fault is common.
    pub(crate) fn are_many_suspect(&self, is_suspect: bool) -> bool {
        // ORDERING: Relaxed, both. As above.
        let suspects = self.suspects.load(Ordering::Relaxed);
        let judged = self.judged.load(Ordering::Relaxed);
        let others = suspects.saturating_sub(is_suspect.into());
        judged >= SEVERAL && others as f64 >= COMMON_FAULT_SHARE * (judged - 1) as f64
    }

    /// Whether so many of the other endpoints are under suspicion, or fail some requests, that the fault is common. A
    /// few successes clear a suspicion: while a small share of all requests fails, few are suspects at once, but most
    /// have failed a request within the last seconds.
    pub(crate) fn is_common(&self, own: Own) -> bool {
        // ORDERING: Relaxed, both. As above.
        let in_part = self.failing_in_part.load(Ordering::Relaxed);
        let judged = self.judged.load(Ordering::Relaxed);
        let others = in_part.saturating_sub(own.fails_in_part.into());
        let most = COMMON_IN_PART_SHARE * judged.saturating_sub(1) as f64;
        self.are_many_suspect(own.is_suspect) || others >= SEVERAL && others as f64 >= most
    }

    /// Whether enough endpoints take requests for a fault to be common.
    fn are_several(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.judged.load(Ordering::Relaxed) >= SEVERAL
    }
}

impl Shared {
    /// What is usual now, for an outcome of this shard at an endpoint that adds this to the counts.
    pub(crate) fn usual_now(&self, shard: usize, own: Own) -> Usual {
        let (state, mut rate) = (self.shard_state(shard), self.rates.error_rate());
        let is_common = state.update_is_common(self.rates.is_common(own));
        // If all endpoints are out, the failures are those of their probes.
        if is_common && self.rates.are_several() {
            rate = rate.max(state.failing.get());
        }
        self.usual().with_error_rate(rate.into())
    }

    /// The number of the tenth of a window that contains this time.
    pub(crate) fn tenth(&self, at: Tick) -> u64 {
        at.as_nanos() / (nanos(self.ejection.window) / 10).max(1)
    }

    /// Remembers that a request of this shard has failed now, if the fault is common.
    pub(crate) fn note_common(&self, shard: usize, now: Tick) {
        let state = self.shard_state(shard);
        // ORDERING: Relaxed, here and below. Statistics, each complete in itself.
        let is_common = state.is_common.load(Ordering::Relaxed);
        let failing = state.failing.get();
        // That a few endpoints are under suspicion is not enough: among few endpoints they always are a large share.
        let fail_mostly = f64::from(failing) >= COMMON_FAULT_SHARE;
        if !(is_common && fail_mostly && self.rates.are_several()) {
            return;
        }
        let (last, tenth) = (&self.rates.last_common_fault, self.tenth(now) + 1);
        // ORDERING: Relaxed, both. As above.
        let is_first = last.load(Ordering::Relaxed) != tenth;
        if is_first || failing > self.rates.common_error_rate.get() {
            self.rates.common_error_rate.set(failing);
            last.store(tenth, Ordering::Relaxed);
        }
    }

    /// What share of requests fails everywhere: 0 unless a common fault went on in this tenth of a window or the one
    /// before.
    pub(crate) fn common_error_rate(&self, now: Tick) -> f64 {
        // ORDERING: Relaxed. As above.
        let last = self.rates.last_common_fault.load(Ordering::Relaxed);
        // Another thread's clock reading may be of the next tenth.
        match last > 0 && (self.tenth(now) + 1).abs_diff(last) <= 1 {
            true => self.rates.common_error_rate.get().into(),
            false => 0.0,
        }
    }

    /// How many tenths of a window have begun since the last common fault. `u64::MAX` while it goes on, or if there was
    /// none.
    pub(crate) fn tenths_since_common_fault(&self, now: Tick) -> u64 {
        // ORDERING: Relaxed. As above.
        let last = self.rates.last_common_fault.load(Ordering::Relaxed);
        match (self.tenth(now) + 1).checked_sub(last) {
            Some(apart) if last > 0 && apart > 0 => apart,
            _ => u64::MAX,
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::options::MemberId;

    fn own(is_suspect: bool, fails_in_part: bool) -> Own {
        Own {
            is_suspect,
            fails_in_part,
        }
    }

    /// One in four of the shard's requests fails, at this many endpoints in turn.
    fn one_in_four(shared: &Shared, endpoints: u64) {
        for request in 0..160 {
            match request % 4 {
                0 => {
                    (shared.shard_state(0)).count_fault(MemberId::new(1 + request / 4 % endpoints))
                }
                _ => shared.shard_state(0).count_success(),
            }
        }
    }

    #[test]
    fn two_fifths_of_the_others_under_suspicion_are_a_common_fault() {
        let shared = Shared::alone();
        one_in_four(&shared, 1);
        shared.rates.publish(0.01, 7, 21);
        let rate = |is_suspect| shared.usual_now(0, own(is_suspect, false)).error_rate();
        assert!((rate(false) - 0.01).abs() < 1e-6, "a zone is not all");
        shared.rates.add_suspect();
        assert!(
            rate(false) > 0.2 && rate(true) < 0.02,
            "eight of twenty others"
        );
        shared.rates.remove_suspect();
        assert!(rate(false) < 0.02);
        shared.rates.publish(0.0, 2, 2);
        assert_eq!(rate(true), 0.0, "two are no fleet");
        shared.rates.publish(0.0, 3, 3);
        assert!(rate(true) > 0.2, "of three they are");
    }

    /// At a small share of failures everywhere few endpoints are under suspicion at once.
    #[test]
    fn endpoints_that_fail_in_part_count_like_suspects() {
        let rates = FleetRates::new();
        let is_common = |is_suspect, in_part| rates.is_common(own(is_suspect, in_part));
        rates.publish(0.0, 2, 21);
        rates.set_failing_in_part(9);
        assert!(!is_common(false, false), "nearly half");
        rates.add_failing_in_part();
        assert!(
            is_common(false, false) && is_common(true, false),
            "ten of twenty others"
        );
        assert!(!is_common(true, true), "nine others");
        assert!(!rates.are_many_suspect(false));
        rates.publish(0.0, 0, 3);
        rates.set_failing_in_part(2);
        assert!(!is_common(false, false), "two others are few");
    }

    /// Failures at one endpoint alone do not prolong a common fault, unless most requests fail: it ends as soon as few
    /// endpoints are suspect.
    #[test]
    fn a_common_fault_lasts_while_requests_fail_here_and_there() {
        for (endpoints, all, stays) in [(1, false, false), (3, false, true), (1, true, true)] {
            let shared = Shared::alone();
            one_in_four(&shared, endpoints);
            (0..if all { 50 } else { 0 })
                .for_each(|_| shared.shard_state(0).count_fault(MemberId::new(1)));
            let rate = || shared.usual_now(0, Own::default()).error_rate();
            shared.rates.publish(0.01, 20, 21);
            assert!(rate() > 0.2);
            shared.rates.publish(0.01, 1, 21);
            assert_eq!(rate() > 0.2, stays, "{endpoints}, {all}");
            shared.rates.publish(0.01, 1, 2);
            assert!(rate() < 0.02, "two are no fleet, whatever was");
            shared.rates.publish(0.01, 1, 21);
            (0..300).for_each(|_| shared.shard_state(0).count_success());
            assert!(rate() < 0.02);
        }
    }

    /// While a common fault lasts, an endpoint's failures still tell it from the others. Those from before its end no
    /// longer do.
    #[test]
    fn a_common_fault_counts_until_it_is_over() {
        let shared = Shared::alone();
        let tenth = shared.ejection.window / 10;
        let at = |tenths: u32| Tick::ZERO.after(tenth * tenths);
        let fail = |tenths, suspects, judged| {
            shared.rates.publish(0.9, suspects, judged);
            let state = shared.shard_state(0);
            (0..50).for_each(|request| state.count_fault(MemberId::new(1 + request % 3)));
            shared.usual_now(0, Own::default());
            shared.note_common(0, at(tenths));
        };
        let counts_all = |tenths| shared.tenths_since_common_fault(at(tenths)) > 10;
        fail(19, 1, 21);
        assert!(counts_all(20), "one alone is no fault of all");
        fail(20, 20, 21);
        assert!(counts_all(20), "it goes on");
        let rates = [19, 20, 21, 22].map(|tenths| shared.common_error_rate(at(tenths)) > 0.8);
        assert_eq!(rates, [true, true, true, false]);
        assert_eq!(shared.tenths_since_common_fault(at(23)), 3);
        fail(23, 20, 21);
        assert_eq!(shared.tenths_since_common_fault(at(24)), 1);
        fail(24, 2, 2);
        assert_eq!(
            shared.tenths_since_common_fault(at(24)),
            1,
            "two are no fleet"
        );
        assert!(counts_all(22), "a clock that has gone back");
    }

    /// A clock that starts with the process is still near zero when the first endpoint is ejected.
    #[test]
    fn the_cap_was_not_reached_before_the_clock_began() {
        let rates = FleetRates::new();
        assert!(!rates.has_overflowed(Duration::from_secs(10), Tick::ZERO));
        rates.note_overflow(Tick::ZERO);
        let after = |seconds| Tick::ZERO.after(Duration::from_secs(seconds));
        let has = |now| rates.has_overflowed(Duration::from_secs(10), now);
        assert!(has(after(0)) && has(after(10)) && !has(after(11)));
    }

    #[test]
    fn the_first_failures_tell_at_once() {
        let shared = Shared::alone();
        (0..8).for_each(|fault| shared.shard_state(0).count_fault(MemberId::new(fault)));
        let failing = shared.shard_state(0).failing.get();
        assert!((failing - 8.0 / 11.0).abs() < 0.01, "{failing}");
    }

    #[test]
    fn failures_are_forgotten_after_many_successes() {
        let shared = Shared::alone();
        shared.shard_state(0).count_fault(MemberId::new(1));
        assert!(shared.shard_state(0).failing.get() > 0.2);
        (0..250).for_each(|_| shared.shard_state(0).count_success());
        assert_eq!(shared.shard_state(0).failing.get(), 0.0);
    }

    #[test]
    fn an_endpoint_is_not_cleared_twice() {
        let rates = FleetRates::new();
        rates.remove_suspect();
        rates.publish(0.0, 0, 5);
        rates.remove_suspect();
        assert!(!rates.is_common(Own::default()));
    }
}
