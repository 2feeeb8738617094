//! The rule by which the built-in tracker ejects as outcomes arrive.

use std::time::Duration;

use super::rows::Rows;
use super::suspicion::{Change, Evidence, Fading, Suspicion, TIMEOUT, part_of_timeout};
use super::tracker::health;
use super::window::Counts;
use super::{Detector, Detectors, Ejection, Judging, earned_ejection};
use crate::outcome::{Outcome, Sample};
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// A request that has failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedRequest {
    pub(crate) outcome: Outcome,
    /// How long it took, if that was measured.
    took: Option<Duration>,
    /// How many requests a second the endpoint gets.
    pace: f32,
}

impl FailedRequest {
    pub(crate) const fn of(sample: &Sample, pace: f32) -> Self {
        Self {
            outcome: sample.outcome,
            took: sample.latency,
            pace,
        }
    }

    /// Its evidence relative to that of a failure, as the `row`-th in a row, where this latency is usual.
    fn weight(&self, row: u64, usual: Option<Duration>) -> f32 {
        let part = match (self.outcome, self.took, usual) {
            (Outcome::Timeout, Some(took), Some(usual)) => {
                let took = took.as_secs_f32();
                part_of_timeout(took / usual.as_secs_f32(), row, self.pace * took)
            }
            _ => 1.0,
        };
        part * weight_of(self.outcome)
    }
}

/// The evidence of an outcome relative to that of a failure.
const fn weight_of(outcome: Outcome) -> f32 {
    match outcome {
        Outcome::Timeout => TIMEOUT,
        _ => 1.0,
    }
}

/// The built-in tracker without its window. A member keeps the window in the cells where it counts its requests.
#[derive(Debug)]
pub(crate) struct Rule {
    rows: AtomicU64,
    pub(crate) suspicion: Suspicion,
    /// The suspicion by requests alone. Passing checks reduce `suspicion`; they must not protect an endpoint for ever
    /// whose health page passes while its requests fail.
    by_requests: Suspicion,
}

impl Rule {
    pub(crate) fn new() -> Self {
        Self {
            rows: AtomicU64::new(0),
            suspicion: Suspicion::new(),
            by_requests: Suspicion::new(),
        }
    }

    /// Whether a success changes nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        // ORDERING: Relaxed. "In a row" has no order between threads beyond this word's own.
        self.rows.load(Ordering::Relaxed) == 0
            && self.suspicion.is_none()
            && self.by_requests.is_none()
    }

    /// The evidence of the sequential test: by all results or by requests alone, whichever is higher.
    pub(crate) fn evidence(&self, now: Tick, fading: Fading) -> f32 {
        let by_requests = self.by_requests.get(now, fading);
        self.suspicion.get(now, fading).max(by_requests)
    }

    /// Stores the evidence as it is now, faded until now.
    pub(crate) fn fade(&self, now: Tick, fading: Fading) {
        for suspicion in [&self.suspicion, &self.by_requests] {
            if !suspicion.is_none() {
                suspicion.add(0.0, now, fading);
            }
        }
    }

    /// How many faults there were in a row.
    pub(crate) fn faults_in_a_row(&self) -> u64 {
        self.in_a_row(Detector::ConsecutiveFailures)
    }

    /// How many faults in a row this detector has counted; 0 for a detector that counts none.
    pub(crate) fn in_a_row(&self, detector: Detector) -> u64 {
        // ORDERING: Relaxed. As in `is_quiet`.
        let rows = Rows::read(self.rows.load(Ordering::Relaxed));
        match detector {
            Detector::ConsecutiveFailures => rows.any,
            Detector::ConsecutiveGatewayFailures => rows.gateway,
            Detector::ConsecutiveLocalOriginFailures => rows.local,
            _ => 0,
        }
    }

    /// Takes in a success: ends the rows and reduces suspicion. Returns whether that cleared the endpoint's suspicion.
    #[cold]
    pub(crate) fn success(&self, settings: &Ejection, cx: &Judging<'_>) -> bool {
        // ORDERING: Relaxed. As in `is_quiet`.
        self.rows.store(0, Ordering::Relaxed);
        if !self.by_requests.is_none() {
            speak_for(&self.by_requests, settings, 1.0, cx);
        }
        self.clears(settings, 1.0, cx)
    }

    /// Takes in a passed check. It reduces `suspicion`, but not what requests alone have found. Returns whether that
    /// cleared the suspicion: at once where the test could not eject, as checks do not decide any more.
    pub(crate) fn passed(&self, settings: &Ejection, cx: &Judging<'_>) -> bool {
        self.clears(settings, 0.0, cx)
    }

    fn clears(&self, settings: &Ejection, left: f32, cx: &Judging<'_>) -> bool {
        if self.suspicion.is_none() {
            return false;
        }
        let change = speak_for(&self.suspicion, settings, left, cx);
        change.before > 0.0 && change.after == 0.0
    }

    /// Takes in a fault that has already been counted, and returns the detectors that eject for it.
    pub(crate) fn fault(
        &self,
        settings: &Ejection,
        fault: &FailedRequest,
        cx: &Judging<'_>,
        counts: impl FnOnce() -> Counts,
    ) -> Detectors {
        let rows = self.extend(fault.outcome);
        let weight = fault.weight(rows.any, cx.usual().latency());
        // At least, not equal: a row that has passed its limit must alarm again.
        let reached = |row: u64, limit: u32| limit > 0 && row >= u64::from(limit);
        let by_requests = speak_against(&self.by_requests, settings, weight, cx);
        speak_against(&self.suspicion, settings, weight, cx)
            .union(by_requests)
            .with_if(Detector::ConsecutiveFailures, || {
                reached(rows.any, settings.consecutive_failures)
            })
            .with_if(Detector::ConsecutiveGatewayFailures, || {
                reached(rows.gateway, settings.consecutive_gateway_failures)
            })
            .with_if(Detector::ConsecutiveLocalOriginFailures, || {
                reached(rows.local, settings.consecutive_local_origin_failures)
            })
            .with_if(Detector::Score, || {
                settings.score_threshold > 0.0 && earned_ejection(settings, health(counts(), cx))
            })
    }

    /// Takes in a failed check, for the sequential test only.
    pub(crate) fn check_failed(
        &self,
        settings: &Ejection,
        outcome: Outcome,
        cx: &Judging<'_>,
    ) -> Detectors {
        speak_against(&self.suspicion, settings, weight_of(outcome), cx)
    }

    /// Extends the rows by this fault and returns them.
    fn extend(&self, outcome: Outcome) -> Rows {
        let next = |word| Some(Rows::read(word).and(outcome).pack());
        // ORDERING: Relaxed, both. As in `is_quiet`.
        let before = self
            .rows
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        Rows::read(before.unwrap_or_else(|word| word)).and(outcome)
    }

    pub(crate) fn clear(&self) {
        // ORDERING: Relaxed. As in `is_quiet`.
        self.rows.store(0, Ordering::Relaxed);
        self.suspicion.set(0.0, Tick::ZERO);
        self.by_requests.set(0.0, Tick::ZERO);
    }
}

/// Takes in what speaks for the endpoint. Evidence beyond what ejects is dropped then, and `left` of it kept: where the
/// cap kept the endpoint in, a busy one has collected so much of it that it would be held against the endpoint for
/// minutes after it is well.
fn speak_for(suspicion: &Suspicion, settings: &Ejection, left: f32, cx: &Judging<'_>) -> Change {
    let evidence = Evidence::against(cx.usual().error_rate() as f32);
    let threshold = settings.cusum_threshold as f32;
    let next = |before: f32| match threshold > 0.0 && before >= threshold {
        true => left * threshold - evidence.success,
        false => before - evidence.success,
    };
    suspicion.change(next, cx.now(), cx.fading())
}

/// Takes in a fault of this weight. Returns the sequential test if it has reached its threshold. On parole, half of
/// that is assumed from the start.
fn speak_against(
    suspicion: &Suspicion,
    settings: &Ejection,
    weight: f32,
    cx: &Judging<'_>,
) -> Detectors {
    let evidence = Evidence::against(cx.usual().error_rate() as f32);
    let threshold = settings.cusum_threshold as f32;
    let least = match cx.is_on_parole() {
        true => threshold / 2.0,
        false => 0.0,
    };
    let change = suspicion.add_to(least, weight * evidence.fault, cx.now(), cx.fading());
    Detectors::NONE.with_if(Detector::Cusum, || {
        threshold > 0.0 && change.after >= threshold
    })
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::health::Usual;

    const FAILURE: FailedRequest = FailedRequest {
        outcome: Outcome::Failure,
        took: None,
        pace: 0.0,
    };

    /// A passing check clears suspicion. It neither ends a row of failed requests nor clears what requests alone have
    /// found.
    #[test]
    fn checks_do_not_undo_what_requests_find() {
        let (usual, settings) = (
            Usual::new(None),
            Ejection::default().consecutive_failures(3),
        );
        let cx = Judging::new(Tick::ZERO, &usual);
        let fail = |rule: &Rule| rule.fault(&settings, &FAILURE, &cx, Counts::default);
        let rule = Rule::new();
        assert!(fail(&rule).is_empty());
        while !rule.suspicion.is_none() {
            rule.passed(&settings, &cx);
        }
        assert!(!rule.is_quiet());
        assert!(fail(&rule).contains(Detector::Cusum), "the second in a row");
        assert!(
            fail(&rule).contains(Detector::ConsecutiveFailures),
            "the third"
        );
        let rule = Rule::new();
        rule.check_failed(&settings, Outcome::Failure, &cx);
        assert!(!rule.is_quiet(), "a check alone has failed");
        let rule = Rule::new();
        fail(&rule);
        for _ in 0..20 {
            rule.success(&settings, &cx);
        }
        assert!(rule.is_quiet() && fail(&rule).is_empty());
    }
    /// When requests become fewer, evidence lasts longer from then on. Evidence that has faded by then does not come
    /// back.
    #[test]
    fn faded_evidence_does_not_come_back() {
        use std::time::Duration;
        let (usual, settings) = (Usual::new(None), Ejection::default());
        let cx = Judging::new(Tick::ZERO, &usual);
        let rule = Rule::new();
        rule.fault(&settings, &FAILURE, &cx, Counts::default);
        let (thick, thin) = (Fading::SHORT, Fading::at_pace(0.0));
        let later = Tick::ZERO.after(Duration::from_secs(20));
        let faded = rule.evidence(later, thick);
        assert!(0.0 < faded && faded < rule.evidence(later, thin) / 2.0);
        rule.fade(later, thick);
        assert_eq!(rule.evidence(later, thin), faded);
    }
    /// Where nearly all requests fail, a fault raises no suspicion but still extends a row, which a success has to end.
    #[test]
    fn a_success_ends_a_row_without_suspicion() {
        let (usual, settings) = (
            Usual::new(None).with_error_rate(0.9),
            Ejection::default().consecutive_failures(2),
        );
        let cx = Judging::new(Tick::ZERO, &usual);
        let rule = Rule::new();
        for _ in 0..5 {
            let found = rule.fault(&settings, &FAILURE, &cx, Counts::default);
            assert!(found.is_empty());
            assert!(rule.suspicion.is_none() && !rule.is_quiet());
            rule.success(&settings, &cx);
            assert!(rule.is_quiet());
        }
    }
}
