//! By what the built-in tracker ejects as outcomes come.

use super::rows::Rows;
use super::suspicion::{Evidence, Fading, Suspicion, TIMEOUT};
use super::tracker::health;
use super::window::Counts;
use super::{Detector, Detectors, Ejection, Judging, earned_ejection};
use crate::outcome::Outcome;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// The built-in tracker without its counts, which a member keeps where it counts its requests.
#[derive(Debug)]
pub(crate) struct Rule {
    rows: AtomicU64,
    pub(crate) suspicion: Suspicion,
    /// By requests alone: checks that pass take suspicion away, but a page that is well while requests fail must not for ever.
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

    /// Whether a success changes nothing. Three loads of one line, which stays shared while all goes well.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        // ORDERING: Relaxed. "In a row" has no order between threads beyond this word's own.
        self.rows.load(Ordering::Relaxed) == 0
            && self.suspicion.is_none()
            && self.by_requests.is_none()
    }

    /// What the sequential test has against it, by all that is known or by requests alone.
    pub(crate) fn evidence(&self, now: Tick, fading: Fading) -> f32 {
        let by_requests = self.by_requests.get(now, fading);
        self.suspicion.get(now, fading).max(by_requests)
    }

    /// Has what is held against it as it is now, faded until then.
    pub(crate) fn fade(&self, now: Tick, fading: Fading) {
        for suspicion in [&self.suspicion, &self.by_requests] {
            if !suspicion.is_none() {
                suspicion.add(0.0, now, fading);
            }
        }
    }

    /// How many faults in a row this detector counts; 0 for one that counts none.
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

    /// A success ends the rows, and takes suspicion away. Whether none is left of some.
    #[cold]
    pub(crate) fn success(&self, cx: &Judging<'_>) -> bool {
        // ORDERING: Relaxed. As in `is_quiet`.
        self.rows.store(0, Ordering::Relaxed);
        if !self.by_requests.is_none() {
            let evidence = Evidence::against(cx.usual().error_rate() as f32);
            (self.by_requests).add(-evidence.success, cx.now(), cx.fading());
        }
        self.passed(cx)
    }

    /// A check has passed: that takes away what is held against it by all, not what requests alone have found. The same.
    pub(crate) fn passed(&self, cx: &Judging<'_>) -> bool {
        if self.suspicion.is_none() {
            return false;
        }
        let evidence = Evidence::against(cx.usual().error_rate() as f32);
        let change = self.suspicion.add(-evidence.success, cx.now(), cx.fading());
        change.before > 0.0 && change.after == 0.0
    }

    /// A fault, which has been counted, of an endpoint that is on trial if it is just back. Who found something.
    pub(crate) fn fault(
        &self,
        settings: &Ejection,
        on_trial: bool,
        outcome: Outcome,
        cx: &Judging<'_>,
        counts: impl FnOnce() -> Counts,
    ) -> Detectors {
        let rows = self.extend(outcome);
        // At least, not equal: a number that was passed must alarm again.
        let reached = |row: u64, limit: u32| limit > 0 && row >= u64::from(limit);
        let by_requests = self.hold_against(&self.by_requests, settings, on_trial, outcome, cx);
        self.doubt(settings, on_trial, outcome, cx)
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

    /// The sequential test's part of it; by a check's failure, too.
    pub(crate) fn doubt(
        &self,
        settings: &Ejection,
        on_trial: bool,
        outcome: Outcome,
        cx: &Judging<'_>,
    ) -> Detectors {
        self.hold_against(&self.suspicion, settings, on_trial, outcome, cx)
    }

    fn hold_against(
        &self,
        suspicion: &Suspicion,
        settings: &Ejection,
        on_trial: bool,
        outcome: Outcome,
        cx: &Judging<'_>,
    ) -> Detectors {
        let evidence = Evidence::against(cx.usual().error_rate() as f32);
        let told = if outcome == Outcome::Timeout {
            evidence.fault * TIMEOUT
        } else {
            evidence.fault
        };
        let threshold = settings.cusum_threshold as f32;
        let least = if on_trial { threshold / 2.0 } else { 0.0 };
        let change = suspicion.add_to(least, told, cx.now(), cx.fading());
        let suspicion = change.after;
        Detectors::NONE.with_if(Detector::Cusum, || {
            threshold > 0.0 && suspicion >= threshold
        })
    }

    /// The rows after this fault.
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

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::health::Usual;

    /// A check that passes ends suspicion, and neither a row of failed requests nor what those alone tell.
    #[test]
    fn what_requests_find_is_not_undone_by_checks() {
        let (usual, settings) = (
            Usual::new(None),
            Ejection::default().consecutive_failures(3),
        );
        let cx = Judging::new(Tick::ZERO, &usual);
        let fail =
            |rule: &Rule| rule.fault(&settings, false, Outcome::Failure, &cx, Counts::default);
        let rule = Rule::new();
        assert!(fail(&rule).is_empty());
        while !rule.suspicion.is_none() {
            rule.passed(&cx);
        }
        assert!(!rule.is_quiet());
        assert!(fail(&rule).contains(Detector::Cusum), "the second in a row");
        assert!(
            fail(&rule).contains(Detector::ConsecutiveFailures),
            "the third"
        );
        let rule = Rule::new();
        rule.doubt(&settings, false, Outcome::Failure, &cx);
        assert!(!rule.is_quiet(), "a check alone has failed");
        let rule = Rule::new();
        fail(&rule);
        for _ in 0..20 {
            rule.success(&cx);
        }
        assert!(rule.is_quiet() && fail(&rule).is_empty());
    }
    /// Where requests become fewer, evidence lasts longer from then on: what had faded by then does not come back.
    #[test]
    fn what_has_faded_does_not_come_back() {
        use std::time::Duration;
        let (usual, settings) = (Usual::new(None), Ejection::default());
        let cx = Judging::new(Tick::ZERO, &usual);
        let rule = Rule::new();
        rule.fault(&settings, false, Outcome::Failure, &cx, Counts::default);
        let (thick, thin) = (Fading::SHORT, Fading::at_pace(0.0));
        let later = Tick::ZERO.after(Duration::from_secs(20));
        let faded = rule.evidence(later, thick);
        assert!(0.0 < faded && faded < rule.evidence(later, thin) / 2.0);
        rule.fade(later, thick);
        assert_eq!(rule.evidence(later, thin), faded);
    }
    /// Where nearly all fail a fault raises no suspicion, and is one of a row all the same, which a success has to end.
    #[test]
    fn a_row_that_is_all_there_is_ends_with_a_success() {
        let (usual, settings) = (
            Usual::new(None).with_error_rate(0.9),
            Ejection::default().consecutive_failures(2),
        );
        let cx = Judging::new(Tick::ZERO, &usual);
        let rule = Rule::new();
        for _ in 0..5 {
            let found = rule.fault(&settings, false, Outcome::Failure, &cx, Counts::default);
            assert!(found.is_empty());
            assert!(rule.suspicion.is_none() && !rule.is_quiet());
            rule.success(&cx);
            assert!(rule.is_quiet());
        }
    }
}
