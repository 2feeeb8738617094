//! The built-in health tracker.

use std::time::Duration;

use super::window::{Counts, Window};
use super::{Alarm, Ejection, Health, HealthTracker, Judging, earned_ejection};
use crate::outcome::{Outcome, Sample, SampleKind};
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// How far latency alone can take a score down. Above the default threshold of 0.5, so that slowness
/// alone never ejects: where everybody may turn slow together, that would remove capacity when it is
/// needed most. Policies avoid the slow one already.
const SLOWEST: f64 = 0.6;

/// Judges by the share of successes in a sliding window, by latency against the fleet, and by failures
/// in a row. The default.
///
/// The window is ten buckets long: the present one and the nine before it, so with the default length
/// of 10 s it covers the last 9 to 10 s. The score is
///
/// ```text
/// score = successes / (successes + faults) · (0.6 + 0.4 · f)      1 while the window is empty
/// f     = 1 / (1 + max(0, r − 2)² / 9)                            r = latency / the fleet's median
/// ```
///
/// so up to twice the median costs nothing, five times costs 0.2 and no slowness more than 0.4. The
/// factors are multiplied, not added: good latency must not hide bad answers. Faults are
/// [`Failure`](Outcome::Failure), [`Timeout`](Outcome::Timeout) and
/// [`Unreachable`](Outcome::Unreachable); anything else but a success is not counted.
///
/// It raises the alarm on a fault, when [`Ejection::consecutive_failures`] came in a row or when the
/// score is below [`Ejection::score_threshold`] with [`Ejection::minimum_volume`] requests in the
/// window. Probes and late results are not counted.
///
/// # Memory ordering
///
/// Lock-free and without a shared order: counts are statistics. A sample may be lost only if it is
/// older than the window, if its bucket already holds 983 040, or if it is recorded while the endpoint
/// is readmitted. It may be counted in a later bucket if its thread is suspended in the middle of it; and a bucket untouched for 2^24 buckets (194 days by default), give or take a
/// window, is taken for one of now. "In a row" is in the order in which threads report; a success reported by one thread
/// ends the row of another.
#[derive(Debug)]
pub struct SlidingWindow {
    window: Window,
    rule: Rule,
    settings: Ejection,
}

impl SlidingWindow {
    /// A tracker that has seen nothing, for a tracker of yours to build on: give it the settings that the
    /// fleet has. They are checked by [`FleetBuilder::build`](crate::FleetBuilder::build), not here.
    #[must_use]
    pub fn new(settings: &Ejection) -> Self {
        Self {
            window: Window::new(settings.window),
            rule: Rule::new(),
            settings: settings.clone(),
        }
    }
}

impl HealthTracker for SlidingWindow {
    fn record(&self, sample: &Sample, cx: &Judging<'_>) -> Alarm {
        match Tells::of(sample) {
            Tells::Nothing => Alarm::None,
            Tells::Success => {
                self.window.record(sample.at, false);
                self.rule.success();
                Alarm::None
            }
            Tells::Fault => {
                self.window.record(sample.at, true);
                let counts = || self.window.counts(cx.now());
                self.rule.fault(&self.settings, cx, counts)
            }
        }
    }

    fn health(&self, cx: &Judging<'_>) -> Health {
        health(self.window.counts(cx.now()), cx)
    }

    fn readmitted(&self, _: Tick) {
        self.window.clear();
        self.rule.clear();
    }
}

/// What a sample tells the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    Success,
    Fault,
    Nothing,
}

impl Tells {
    #[inline]
    pub(crate) fn of(sample: &Sample) -> Self {
        match sample.outcome {
            _ if sample.kind != SampleKind::Request => Self::Nothing,
            Outcome::Success => Self::Success,
            outcome if outcome.is_fault() => Self::Fault,
            _ => Self::Nothing,
        }
    }
}

/// The built-in tracker without its counts, which a member keeps where it counts its requests.
#[derive(Debug)]
pub(crate) struct Rule {
    in_a_row: AtomicU64,
}

impl Rule {
    pub(crate) fn new() -> Self {
        Self {
            in_a_row: AtomicU64::new(0),
        }
    }

    /// A success ends the row.
    #[inline]
    pub(crate) fn success(&self) {
        // ORDERING: Relaxed. "In a row" has no order between threads beyond this word's own. The
        // load keeps the line shared while all goes well.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            // ORDERING: Relaxed. As above.
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A fault, which has been counted.
    pub(crate) fn fault(
        &self,
        settings: &Ejection,
        cx: &Judging<'_>,
        counts: impl FnOnce() -> Counts,
    ) -> Alarm {
        // ORDERING: Relaxed. As in `success`. At least, not equal: a number that was passed must alarm again.
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = u64::from(settings.consecutive_failures);
        if (limit > 0 && in_a_row >= limit) || earned_ejection(settings, health(counts(), cx)) {
            Alarm::Eject
        } else {
            Alarm::None
        }
    }

    pub(crate) fn clear(&self) {
        // ORDERING: Relaxed. As in `success`.
        self.in_a_row.store(0, Ordering::Relaxed);
    }
}

/// The score of these counts.
pub(crate) fn health(counts: Counts, cx: &Judging<'_>) -> Health {
    let share = match counts.total {
        0 => 1.0,
        total => 1.0 - counts.faults as f64 / total as f64,
    };
    let latency = latency_factor(cx.latency(), cx.usual().latency());
    Health::new(share * latency, counts.total)
}

fn latency_factor(own: Option<Duration>, usual: Option<Duration>) -> f64 {
    let (Some(own), Some(usual)) = (own, usual) else {
        return 1.0;
    };
    let ratio = own.as_secs_f64() / usual.as_secs_f64().max(1e-9);
    let excess = (ratio - 2.0).max(0.0);
    SLOWEST + (1.0 - SLOWEST) / (1.0 + excess * excess / 9.0)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::health::Usual;

    const NOTHING_USUAL: Usual = Usual::new(None);

    fn feed(tracker: &SlidingWindow, outcome: Outcome, at: Tick) -> Alarm {
        tracker.record(
            &Sample::new(outcome, None, at),
            &Judging::new(at, &NOTHING_USUAL),
        )
    }

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_fifth_failure_in_a_row_alarms_and_so_does_each_after_it() {
        let tracker = SlidingWindow::new(&Ejection::default());
        for _ in 0..4 {
            assert_eq!(feed(&tracker, Outcome::Failure, at(0)), Alarm::None);
        }
        for _ in 0..3 {
            assert_eq!(feed(&tracker, Outcome::Unreachable, at(0)), Alarm::Eject);
        }
    }

    #[test]
    fn a_success_ends_the_row_and_what_says_nothing_does_not() {
        let in_a_row_only = Ejection::default().minimum_volume(1000);
        let tracker = SlidingWindow::new(&in_a_row_only);
        for _ in 0..20 {
            (0..4).for_each(|_| assert_eq!(feed(&tracker, Outcome::Failure, at(0)), Alarm::None));
            feed(&tracker, Outcome::Success, at(0));
        }
        (0..4).for_each(|_| assert_eq!(feed(&tracker, Outcome::Failure, at(0)), Alarm::None));
        for neutral in [
            Outcome::Ignored,
            Outcome::Abandoned,
            Outcome::overloaded(None),
        ] {
            assert_eq!(feed(&tracker, neutral, at(0)), Alarm::None);
        }
        assert_eq!(feed(&tracker, Outcome::Failure, at(0)), Alarm::Eject);
    }

    #[test]
    fn more_faults_than_successes_alarm_from_the_minimum_volume_on() {
        let tracker = SlidingWindow::new(&Ejection::default());
        let mut alarms = Vec::new();
        for request in 1..=30 {
            let outcome = if request % 3 == 0 {
                Outcome::Success
            } else {
                Outcome::Failure
            };
            if feed(&tracker, outcome, at(request / 10)) == Alarm::Eject {
                alarms.push(request);
            }
        }
        assert_eq!(alarms, [20, 22, 23, 25, 26, 28, 29]);
    }

    #[test]
    fn latency_alone_never_ejects_and_never_helps_a_bad_one() {
        let usual = Usual::new(Some(Duration::from_millis(1)));
        let slow = Judging::new(at(0), &usual).with_latency(Some(Duration::from_secs(60)));
        let tracker = SlidingWindow::new(&Ejection::default());
        (0..100).for_each(|_| {
            tracker.record(&Sample::new(Outcome::Success, None, at(0)), &slow);
        });
        let score = tracker.health(&slow).score;
        assert!((0.6..0.61).contains(&score), "{score}");

        let fast = Judging::new(at(0), &usual).with_latency(Some(Duration::from_nanos(1)));
        let bad = SlidingWindow::new(&Ejection::default());
        bad.record(&Sample::new(Outcome::Failure, None, at(0)), &fast);
        assert_eq!(bad.health(&fast), Health::new(0.0, 1));
    }

    #[test]
    fn readmission_forgets() {
        let tracker = SlidingWindow::new(&Ejection::default());
        (0..50).for_each(|_| {
            feed(&tracker, Outcome::Failure, at(1));
        });
        tracker.readmitted(at(1));
        let cx = Judging::new(at(1), &NOTHING_USUAL);
        assert_eq!(tracker.health(&cx), Health::new(1.0, 0));
        assert_eq!(feed(&tracker, Outcome::Failure, at(1)), Alarm::None);
    }

    #[test]
    fn late_results_and_probes_are_not_counted() {
        let tracker = SlidingWindow::new(&Ejection::default());
        let cx = Judging::new(at(1), &NOTHING_USUAL);
        for kind in [SampleKind::Late, SampleKind::Probe] {
            for _ in 0..50 {
                let sample = Sample::new(Outcome::Failure, None, at(1)).with_kind(kind);
                assert_eq!(tracker.record(&sample, &cx), Alarm::None);
            }
        }
        assert_eq!(tracker.health(&cx), Health::new(1.0, 0));
    }
}
