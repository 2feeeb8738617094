//! The state of the fleet as a whole: what share of its requests fails, and how many endpoints are under suspicion at
//! once. The counts are statistics: upkeep counts anew, and events in between keep them close.
//!
//! A *common fault* is one whose cause all endpoints share. While it lasts, the usual error rate is no less than the
//! share of the shard's last requests that failed.
//!
//! While as many endpoints are ejected as the cap allows, faults of those that are in count as common, too: they may
//! have too much to do. Otherwise, of a pair at more than half load, the second would be ejected as soon as the first
//! is back, and each in turn for as long as its queue is full.

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

/// By these shares, no fault counts as common with fewer endpoints than this; nor, by the second, with fewer others
/// that fail.
const SEVERAL: u64 = 3;

/// What an endpoint itself adds to the counts, which are to tell of the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
    pub(crate) is_suspect: bool,
    pub(crate) fails_in_part: bool,
    /// Whether it is in: not ejected, probed or marked.
    pub(crate) is_in: bool,
}

impl Own {
    /// Of an endpoint that is out: it counts as a suspect, as it was one when it was ejected.
    pub(crate) const OUT: Self = Self {
        is_suspect: true,
        fails_in_part: false,
        is_in: false,
    };
}

/// What a pick that compares costs needs to know of the fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CostBasis {
    /// How many requests per second an endpoint gets, in the mean; 0 while unknown.
    pub(crate) pace: f32,
    /// From which mean age on requests in flight are overdue, as a multiple of what a request costs.
    pub(crate) overdue: f32,
}

impl Default for CostBasis {
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
    /// The share of requests that callers abandon at endpoints that answer.
    abandoned_rate: AtomicF32,
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
    /// The time in seconds in which the requests of the window were counted.
    span: AtomicF32,
    /// The standard deviation that latency estimates have by chance, as a part of them, times the reliance on requests
    /// in flight.
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
            abandoned_rate: AtomicF32::new(0.0),
            last_common_fault: AtomicU64::new(0),
            common_error_rate: AtomicF32::new(0.0),
            overflowed_at: AtomicU64::new(0),
            suspects: AtomicU64::new(0),
            failing_in_part: AtomicU64::new(0),
            judged: AtomicU64::new(0),
            pace: AtomicF32::new(0.0),
            span: AtomicF32::new(0.0),
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
        // A time further ahead was set by a clock that has gone back since.
        let passed = (now.as_millis() + 1).abs_diff(at);
        at > 0 && u128::from(passed) <= within.as_millis()
    }

    /// Sets the median share of requests that an endpoint refuses.
    pub(crate) fn set_refusal_rate(&self, rate: f32) {
        self.refusal_rate.set(rate);
    }

    pub(crate) fn refusal_rate(&self) -> f32 {
        self.refusal_rate.get()
    }

    /// Sets the share of requests that callers abandon at endpoints that answer.
    pub(crate) fn set_abandoned_rate(&self, rate: f32) {
        self.abandoned_rate.set(rate);
    }

    pub(crate) fn abandoned_rate(&self) -> f32 {
        self.abandoned_rate.get()
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

    /// Sets how many requests per second an endpoint gets, in the mean, and in which time those of the window came.
    pub(crate) fn set_pace(&self, pace: f32, span: Duration) {
        self.pace.set(pace);
        self.span.set(span.as_secs_f32());
    }

    /// The time in seconds in which the requests of the window were counted; 0 if it is not known yet.
    pub(crate) fn span(&self) -> f32 {
        self.span.get()
    }

    /// Sets the standard deviation that latency estimates have by chance, times the reliance on requests in flight, and
    /// from which age on requests are overdue.
    pub(crate) fn set_noise(&self, noise: f32, overdue: f32) {
        self.noise.set(noise);
        self.overdue.set(overdue);
    }

    pub(crate) fn noise(&self) -> f32 {
        self.noise.get()
    }

    #[inline]
    pub(crate) fn cost_basis(&self) -> CostBasis {
        CostBasis {
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

    /// Whether any endpoint is in.
    fn any_judged(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.judged.load(Ordering::Relaxed) > 0
    }
}

impl Shared {
    /// What is usual now, for an outcome of this shard at an endpoint that adds this to the counts.
    pub(crate) fn usual_now(&self, shard: usize, own: Own, now: Tick) -> Usual {
        let (state, mut rate) = (self.shard_state(shard), self.rates.error_rate());
        state.forget_past(now);
        let is_common = self.rates.is_common(own) || own.is_in && self.ledger.is_full();
        let is_common = state.update_is_common(is_common);
        // If none is in, no request updates the share.
        if is_common && self.rates.any_judged() {
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
        if !(is_common && fail_mostly && self.rates.any_judged()) {
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
mod tests;
