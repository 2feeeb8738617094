//! The built-in health tracker.

use std::time::Duration;

use super::rule::{FailedRequest, Rule};
use super::suspicion::{HOPELESS, least_share};
use super::window::{Counts, Window};
use super::{Alarm, Ejection, Health, HealthTracker, Judging};
use crate::outcome::{Outcome, Sample, SampleKind};
use crate::time::Tick;

/// The lowest factor that latency alone can put on a score. It is above the default threshold of 0.5, so that slowness
/// alone never ejects: where all endpoints may turn slow together, that would remove capacity when it is needed most.
/// Policies that look at latency avoid a slow endpoint anyway.
const SLOWEST: f64 = 0.6;

/// Judges by successes and failures against the rest of the fleet, and by latency. The default tracker.
///
/// Two rules eject by default. A **sequential test** ([`Ejection::cusum_threshold`]) looks at each outcome as it comes.
/// It finds an endpoint that fails everything by its second failure or third timeout (its fourth failure where requests
/// are few; a later timeout where those come after only a few times the usual latency), and one that fails three in ten
/// after some ten requests. It singles out no endpoint when all fail alike. The **score** of a sliding window, which is
/// also for display, finds what lasts. The window has ten buckets, the present one and the nine before it: with the
/// default length of 10 s it covers the last 9 to 10 s. The score is
///
/// ```text
/// score = (1 − e) · (0.6 + 0.4 · f)                               1 while the window is empty
/// e     = max(0, b − u) / max(1 − u, 0.2)  b: a lower bound for the endpoint's share of faults,
///                                          u: the share of faults that is usual in the fleet
/// f     = 1 / (1 + max(0, r − 2)² / 9)     r = max(latency, mean age of the requests in flight)
///                                              / the fleet's median latency
/// ```
///
/// In a long window of a fleet where no other endpoint fails, 1 − e is the mean of the results, each 1 or 0. With few
/// samples, the score rests on what they prove and not on their ratio: b is the lower end of Wilson's interval at
/// 97.5 %. If every endpoint fails 2 %, none is bad. A latency of up to twice the median costs nothing, five times the
/// median costs 0.2, and no slowness costs more than 0.4. The factors are multiplied, not added, so that good latency
/// does not hide bad answers. Faults are [`Failure`](Outcome::Failure), [`Timeout`](Outcome::Timeout) and
/// [`Unreachable`](Outcome::Unreachable). Apart from those, only successes are counted.
///
/// It raises the alarm on a fault if the test, one of the counts of faults in a row, or the score says so; the score
/// needs [`Ejection::minimum_volume`] requests in the window. Probes and late results are not counted.
///
/// # Memory ordering
///
/// It is lock-free, and threads share no order: the counts are statistics. A sample can be lost only if it is older
/// than the window, if its bucket already holds 983 039, or if it is recorded while the endpoint is readmitted. It may
/// be counted in a later bucket if its thread is suspended while recording it. A bucket that is untouched for 2^24
/// buckets (194 days by default), give or take a window, is taken for a current one. "In a row" means the order in
/// which threads report: a success reported by one thread ends the row of another.
#[derive(Debug)]
pub struct SlidingWindow {
    window: Window,
    rule: Rule,
    settings: Ejection,
}

impl SlidingWindow {
    /// Creates a tracker without data, for a tracker of your own to build on.
    ///
    /// Pass the settings that the fleet has. [`FleetBuilder::build`](crate::FleetBuilder::build) checks them; this
    /// function does not. Built into a tracker of your own it notices later than the fleet's built-in one that a fault
    /// is shared by all endpoints, with the next upkeep: see [`Usual::error_rate`](crate::Usual::error_rate).
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
        match SampleClass::of(sample) {
            SampleClass::Neutral => Alarm::None,
            SampleClass::Success => {
                self.window.record(sample.at, false);
                if !self.rule.is_quiet() {
                    self.rule.success(&self.settings, cx);
                }
                Alarm::None
            }
            SampleClass::Fault => {
                self.window.record(sample.at, true);
                let counts = self.window.counts(cx.now());
                let pace = counts.total as f32 / self.settings.window.as_secs_f32();
                let fault = FailedRequest::of(sample, pace);
                let found = self.rule.fault(&self.settings, &fault, cx, || counts);
                match found.without(self.settings.detect_only).is_empty() {
                    true => Alarm::None,
                    false => Alarm::Eject,
                }
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

/// What a sample contributes to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SampleClass {
    Success,
    Fault,
    Neutral,
}

impl SampleClass {
    #[inline]
    pub(crate) fn of(sample: &Sample) -> Self {
        match sample.outcome {
            _ if sample.kind != SampleKind::Request => Self::Neutral,
            Outcome::Success => Self::Success,
            outcome if outcome.is_fault() => Self::Fault,
            _ => Self::Neutral,
        }
    }
}

/// The score of these counts.
pub(crate) fn health(counts: Counts, cx: &Judging<'_>) -> Health {
    let usual = cx.usual().error_rate().clamp(0.0, 0.99);
    let proven = least_share(counts.faults as f64, counts.total as f64);
    // Where nearly everything fails, the small remainder may be chance, so it is taken to be at least this much.
    let left = (1.0 - usual).max(1.0 - f64::from(HOPELESS));
    let excess = (proven - usual).max(0.0) / left;
    // Requests in flight count before they are answered, once they have been open for longer than answers take.
    let latency = latency_factor(cx.latency().max(cx.mean_age()), cx.usual().latency());
    Health::new((1.0 - excess) * latency, counts.total)
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

    /// Settings with only the count of failures in a row turned on.
    fn rows_only() -> Ejection {
        let off = Ejection::default().cusum_threshold(0.0);
        off.score_threshold(0.0).consecutive_failures(5)
    }

    #[test]
    fn the_fifth_failure_in_a_row_alarms_and_so_does_each_after_it() {
        let tracker = SlidingWindow::new(&rows_only());
        for _ in 0..4 {
            assert_eq!(feed(&tracker, Outcome::Failure, at(0)), Alarm::None);
        }
        for _ in 0..3 {
            assert_eq!(feed(&tracker, Outcome::Unreachable, at(0)), Alarm::Eject);
        }
    }

    #[test]
    fn a_success_ends_the_row_and_what_says_nothing_does_not() {
        let tracker = SlidingWindow::new(&rows_only());
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
    fn two_failures_with_no_more_than_one_success_between_them_alarm() {
        let tracker = || SlidingWindow::new(&Ejection::default());
        let dead = tracker();
        assert_eq!(feed(&dead, Outcome::Failure, at(0)), Alarm::None);
        assert_eq!(feed(&dead, Outcome::Failure, at(0)), Alarm::Eject);
        let sick = tracker();
        feed(&sick, Outcome::Failure, at(0));
        feed(&sick, Outcome::Success, at(0));
        assert_eq!(feed(&sick, Outcome::Failure, at(0)), Alarm::Eject);
        let slow = tracker();
        assert_eq!(feed(&slow, Outcome::Timeout, at(0)), Alarm::None);
        assert_eq!(feed(&slow, Outcome::Timeout, at(0)), Alarm::None);
        assert_eq!(feed(&slow, Outcome::Timeout, at(0)), Alarm::Eject);
    }

    #[test]
    fn where_all_fail_half_a_row_of_failures_tells_little() {
        let tracker = SlidingWindow::new(&Ejection::default());
        let usual = Usual::new(None).with_error_rate(0.5);
        let cx = Judging::new(at(0), &usual);
        let alarms =
            (0..10).map(|_| tracker.record(&Sample::new(Outcome::Failure, None, at(0)), &cx));
        assert_eq!(alarms.filter(|alarm| *alarm == Alarm::Eject).count(), 0);
        assert!(tracker.health(&cx).score > 0.5);
    }

    #[test]
    fn a_score_below_the_threshold_alarms_from_the_minimum_volume_on() {
        let score_only = Ejection::default().cusum_threshold(0.0);
        let tracker = SlidingWindow::new(&score_only);
        let alarms = (1..=30).filter(|&request| {
            let outcome = if request % 10 == 0 {
                Outcome::Success
            } else {
                Outcome::Failure
            };
            feed(&tracker, outcome, at(request / 10)) == Alarm::Eject
        });
        // Nine in ten fail. By the 20th request it is proven that more than half do.
        assert_eq!(
            alarms.collect::<Vec<_>>(),
            [21, 22, 23, 24, 25, 26, 27, 28, 29]
        );
    }

    #[test]
    fn a_score_is_of_what_is_proven_and_beyond_the_fleets() {
        let cx = Judging::new(at(0), &NOTHING_USUAL);
        let of = |faults, total, cx: &Judging<'_>| health(Counts { total, faults }, cx).score;
        // With many samples, the score is the mean of the results.
        assert!((of(40_000, 100_000, &cx) - 0.6).abs() < 0.01);
        assert!((of(1, 1, &cx) - 0.793).abs() < 0.001);
        let all = Usual::new(None).with_error_rate(0.02);
        assert_eq!(of(20, 1_000, &Judging::new(at(0), &all)), 1.0);
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
        (0..1_000).for_each(|_| {
            bad.record(&Sample::new(Outcome::Failure, None, at(0)), &fast);
        });
        assert!(bad.health(&fast).score < 0.01);
    }

    #[test]
    fn what_is_open_for_longer_than_usual_counts_before_it_answers() {
        let usual = Usual::new(Some(Duration::from_millis(10)));
        let fast = Judging::new(at(0), &usual).with_latency(Some(Duration::from_millis(10)));
        let tracker = SlidingWindow::new(&Ejection::default());
        let score = |age: u64| {
            let age = Some(Duration::from_millis(age));
            tracker.health(&fast.with_mean_age(age)).score
        };
        // Twice the usual latency costs nothing yet. Fresh requests do not make a slow endpoint fast.
        assert_eq!((score(0), score(20)), (1.0, 1.0));
        assert!((score(50) - 0.8).abs() < 1e-9);
        assert!(score(5_000) < 0.61);
        let slow = fast.with_latency(Some(Duration::from_millis(50)));
        let fresh = slow.with_mean_age(Some(Duration::ZERO));
        assert_eq!(tracker.health(&fresh), tracker.health(&slow));
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
