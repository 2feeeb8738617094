//! Promise: an explanation says why an endpoint takes requests or does not, for each state, as data and as a line.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::{each_second, server_zero_answers, with};
use common::{MILLI, SECOND, Server, exact, servers, setup};
use evenkeel::{
    Adaptive, Alarm, Cluster, Detector, Ejection, Endpoint, Explanation, Fleet, FleetBuilder,
    Health, HealthTracker, Judging, ManualClock, Mark, MemberState, Outcome, RoundRobin, Sample,
    SlowStart,
};

fn explain(fleet: &Fleet<Server>, number: usize) -> Explanation {
    fleet.member(&number).unwrap().explain()
}

fn send(fleet: &Fleet<Server>, number: usize, outcome: Outcome, times: usize) {
    for _ in 0..times {
        let lease = fleet.lease(&number).unwrap();
        lease.record_with_latency(outcome, 10 * MILLI);
    }
}

/// One of ten servers stops answering. Its score shows that before its requests end, if the policy tracks the age of
/// requests in flight; a tracker of the user's can see the same.
#[test]
fn requests_open_for_long_count_before_they_are_answered() {
    let clock = ManualClock::new();
    let score = |builder: FleetBuilder<Server>| {
        let fleet = builder.ejection(exact()).build().unwrap();
        let mut held = Vec::new();
        for _ in 0..100 {
            let lease = fleet.pick_endpoint().unwrap();
            match lease.endpoint().key() {
                0 => held.push(lease),
                _ => lease.record_with_latency(Outcome::Success, 10 * MILLI),
            }
        }
        for number in 0..10 {
            send(&fleet, number, Outcome::Success, 3);
        }
        fleet.maintain();
        assert!(!held.is_empty());
        assert_eq!(explain(&fleet, 0).score.value, 1.0);
        clock.advance(SECOND);
        let score = explain(&fleet, 0).score.value;
        drop(held);
        assert_eq!(explain(&fleet, 1).score.value, 1.0);
        score
    };
    let kept = score(setup(10, &clock).policy(Adaptive::new()));
    assert!((0.6..0.61).contains(&kept), "{kept}");
    let unkept = score(setup(10, &clock).policy(RoundRobin::new()));
    assert_eq!(unkept, 1.0);
}

/// Server 0 of ten is ejected at 1 s, for 2 s.
fn out() -> (Fleet<Server>, ManualClock) {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(exact()).build().unwrap();
    clock.advance(SECOND);
    send(&fleet, 0, Outcome::Unreachable, 2);
    (fleet, clock)
}

#[test]
fn a_ready_endpoints_explanation_tells_the_evidence_against_it() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(exact()).build().unwrap();
    let new = explain(&fleet, 0);
    assert_eq!(
        (new.since, new.until, new.ejection, new.latency),
        (None, None, None, None)
    );
    assert_eq!((new.usual_latency, new.usual_error_rate), (None, None));
    assert_eq!((new.score.value, new.score.threshold), (1.0, Some(0.5)));

    send(&fleet, 0, Outcome::Success, 7);
    send(&fleet, 0, Outcome::Failure, 1);
    fleet.maintain();
    let _held = fleet.lease(&0).unwrap();
    let why = explain(&fleet, 0);
    assert_eq!((why.state, why.is_eligible), (MemberState::Ready, true));
    let evidence = why.evidence.unwrap();
    assert!((evidence.value - 5.7).abs() < 0.1, "{evidence:?}");
    assert_eq!(evidence.threshold, Some(11.0));
    let requests = why.requests_in_window;
    assert_eq!((requests.value, requests.threshold), (8.0, Some(20.0)));
    assert_eq!(why.faults_in_window, 1);
    assert_eq!((why.in_flight, why.weight.get()), (1, 1));
    assert_eq!(why.latency, why.usual_latency);
    assert!(why.latency.is_some());
    let usual = why.usual_error_rate.unwrap();
    assert!((usual - 1.0 / 58.0).abs() < 1e-6, "{usual}");
    assert_eq!(
        why.to_string(),
        "ready; costs 2.9 times the usual; evidence 5.7 of 11.0, 1 faults in 8 requests, 1 in flight"
    );
}

#[test]
fn an_ejected_endpoints_explanation_tells_reason_start_end_and_condition() {
    let (fleet, clock) = out();
    clock.advance(1200 * MILLI);
    // With the higher request rate evidence fades faster.
    (1..10).for_each(|number| send(&fleet, number, Outcome::Success, 100));
    fleet.maintain();
    let why = explain(&fleet, 0);
    assert_eq!((why.state, why.is_eligible), (MemberState::Ejected, false));
    assert_eq!(why.since, Some(1200 * MILLI));
    assert_eq!(why.until, Some(800 * MILLI));
    let ejection = why.ejection.unwrap();
    assert_eq!(ejection.detector, Some(Detector::Cusum));
    assert_eq!(ejection.probes_wanted, Some(5));
    // The explanation keeps the evidence of the ejection, though it has faded since.
    let evidence = why.evidence.unwrap().value;
    assert!(evidence < 11.4, "{evidence}");
    assert_eq!(
        why.to_string(),
        "ejected by the sequential test 1.2 s ago (evidence 11.4 of 11.0), probe in 0.8 s, \
         5 good probes wanted; 0 in flight"
    );

    clock.advance(SECOND);
    assert!(explain(&fleet, 0).to_string().contains(", probe due, "));
    let probe = fleet.lease(&0).unwrap();
    let why = explain(&fleet, 0);
    assert_eq!(
        (why.state, why.since),
        (MemberState::Probing, Some(2200 * MILLI))
    );
    assert_eq!(why.until, Some(SECOND * 10));
    assert!(
        why.to_string()
            .contains(", a probe is under way, to be given up in 10.0 s, ")
    );
    probe.record(Outcome::Failure);
    clock.advance(SECOND);
    assert_eq!(
        explain(&fleet, 0).to_string(),
        "ejected by the sequential test 3.2 s ago (evidence 11.4 of 11.0), probe in 3.0 s, 2nd time in a row, \
         5 good probes wanted; 0 in flight"
    );
}

#[test]
fn the_good_probes_wanted_are_those_it_takes() {
    let (fleet, clock) = out();
    clock.advance(SECOND * 3);
    for wanted in (1..=5).rev() {
        let ejection = explain(&fleet, 0).ejection.unwrap();
        assert_eq!(ejection.probes_wanted, Some(wanted));
        let probe = fleet.lease(&0).unwrap();
        assert!(probe.is_probe());
        probe.record(Outcome::Success);
    }
    let why = explain(&fleet, 0);
    assert_eq!((why.state, why.ejection), (MemberState::Warming, None));
    assert!(why.is_eligible);
    // At the start of its five seconds of slow start, at the least share of a tenth.
    assert_eq!(
        (why.slow_start_share, why.until),
        (Some(0.1), Some(SECOND * 5))
    );
    clock.advance(2500 * MILLI);
    let why = explain(&fleet, 0);
    assert_eq!(
        (why.slow_start_share, why.since),
        (Some(0.5), Some(2500 * MILLI))
    );
    assert_eq!(
        why.to_string(),
        "in slow start for 2.5 s, at 50 % of its share, all of it in 2.5 s; evidence 0.0 of 11.0, \
         0 faults in 0 requests, 0 in flight"
    );
    clock.advance(SECOND * 3);
    fleet.maintain();
    let why = explain(&fleet, 0);
    assert_eq!(
        (why.state, why.slow_start_share),
        (MemberState::Ready, None)
    );
    assert_eq!((why.since, why.times), (Some(5500 * MILLI), 1));
    assert!(why.to_string().starts_with("ready for 5.5 s; "));
}

/// A fleet of ten without slow start and without the sequential test. Server 0 fails `faults` of its 40 requests and
/// answers after `latency`.
fn by(ejection: Ejection, faults: usize, latency: Duration) -> Fleet<Server> {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(ejection.cusum_threshold(0.0));
    let fleet = fleet.slow_start(SlowStart::off()).build().unwrap();
    for number in 0..10 {
        for request in 0..40 {
            let lease = fleet.lease(&number).unwrap();
            let bad = number == 0 && request < faults;
            let latency = if number == 0 { latency } else { 10 * MILLI };
            lease.record_with_latency(
                if bad {
                    Outcome::Failure
                } else {
                    Outcome::Success
                },
                latency,
            );
        }
    }
    fleet.maintain();
    fleet
}

#[test]
fn each_detector_tells_what_it_measured() {
    let off = || exact().score_threshold(0.0);
    let table = [
        (
            by(off().consecutive_failures(5), 5, MILLI),
            "for failures in a row",
            "(5 of 5)",
        ),
        (
            by(off().success_rate_stdev_factor(2.0), 20, MILLI),
            "for its success rate",
            "(50.0 %, below 95.0 %)",
        ),
        (
            by(off().failure_percentage_threshold(40), 20, MILLI),
            "for its share of faults",
            "(50.0 % of 40.0 %)",
        ),
        (
            by(off().latency_factor(3.0), 0, SECOND),
            "for its latency",
            "(1000.0 ms, above 30.0 ms)",
        ),
        (by(exact(), 39, MILLI), "for its score", "below 0.50)"),
    ];
    for (fleet, by, figures) in table {
        let line = explain(&fleet, 0).to_string();
        assert!(
            line.starts_with(&format!("ejected {by} 0.0 s ago (")),
            "{line}"
        );
        assert!(line.contains(figures), "{line}");
    }
    let fleet = by(off().latency_factor(3.0), 0, SECOND);
    let measured = explain(&fleet, 0).ejection.unwrap().measured.unwrap();
    assert!((measured.value - 1.0).abs() < 1e-6, "in seconds");
    assert_eq!(measured.threshold, Some(0.03));
}

#[test]
fn marks_weights_drains_and_panic_are_told() {
    let (fleet, clock) = out();
    assert!(fleet.mark(&1, Mark::Down) && fleet.mark(&2, Mark::Up));
    clock.advance(SECOND * 3);
    let down = explain(&fleet, 1);
    assert_eq!((down.state, down.is_eligible), (MemberState::Down, false));
    assert_eq!(down.to_string(), "marked down for 3.0 s; 0 in flight");
    let up = explain(&fleet, 2);
    assert_eq!((up.state, up.is_eligible), (MemberState::Up, true));
    assert_eq!(up.to_string(), "marked up for 3.0 s; 0 in flight");

    // In panic health is ignored.
    (1..7).for_each(|number| assert!(fleet.mark(&number, Mark::Down)));
    for number in [0, 1, 9] {
        let why = explain(&fleet, number);
        assert!(why.panicking && why.is_eligible, "{why}");
        let line = why.to_string();
        assert!(
            line.contains("; panic: takes requests whatever its health;"),
            "{line}"
        );
    }
    // An endpoint out of rotation stays out.
    let _lease = fleet.lease(&3).unwrap();
    drop(fleet.drain(&3));
    let draining = explain(&fleet, 3);
    assert_eq!(
        (draining.state, draining.is_eligible),
        (MemberState::Draining, false)
    );
    assert_eq!(draining.to_string(), "draining or removed; 1 in flight");
    fleet
        .insert(servers(&[1, 1, 1, 1, 0]).pop().unwrap())
        .unwrap();
    let idle = explain(&fleet, 4);
    assert_eq!((idle.state, idle.is_eligible), (MemberState::Idle, false));
    assert_eq!(idle.to_string(), "idle, of weight 0; 0 in flight");
}

#[test]
fn a_remembered_ejection_tells_its_reason_and_not_what_is_unknown() {
    let (fleet, clock) = out();
    assert!(fleet.remove(&0));
    clock.advance(SECOND);
    fleet.insert(servers(&[1]).pop().unwrap()).unwrap();
    let why = explain(&fleet, 0);
    assert_eq!((why.since, why.until), (Some(SECOND), Some(SECOND)));
    let ejection = why.ejection.unwrap();
    assert_eq!(ejection.detector, Some(Detector::Cusum));
    assert_eq!(ejection.measured, None);
    assert!(
        why.to_string()
            .starts_with("ejected by the sequential test 1.0 s ago, probe in 1.0 s, ")
    );
}

#[test]
fn an_endpoint_ejected_by_checks_wants_no_probes() {
    let mut setting = with(10, exact(), each_second());
    for _ in 0..10 {
        setting.round(server_zero_answers(Outcome::Failure));
        setting.clock.advance(100 * MILLI);
    }
    let why = explain(&setting.fleet, 0);
    let ejection = why.ejection.unwrap();
    assert_eq!(ejection.detector, Some(Detector::ActiveCheck));
    assert_eq!((ejection.measured, ejection.probes_wanted), (None, None));
    let line = why.to_string();
    assert!(line.starts_with("ejected by active checks "), "{line}");
    assert!(!line.contains("wanted"), "{line}");
}

#[derive(Debug)]
struct OneStrike;

impl HealthTracker for OneStrike {
    fn record(&self, sample: &Sample, _: &Judging<'_>) -> Alarm {
        match sample.outcome {
            Outcome::Failure => Alarm::Eject,
            _ => Alarm::None,
        }
    }
    fn health(&self, _: &Judging<'_>) -> Health {
        Health::new(0.75, 1)
    }
}

#[test]
fn a_tracker_of_the_users_own_shows_its_score_and_nothing_that_is_not_its() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).tracker(|_| OneStrike).build().unwrap();
    fleet.maintain();
    let why = explain(&fleet, 0);
    assert_eq!((why.evidence, why.score.value), (None, 0.75));
    assert_eq!(why.requests_in_window.threshold, None);
    let line = "ready; score 0.75, 0 faults in 0 requests, 0 in flight";
    assert_eq!(why.to_string(), line);
    send(&fleet, 0, Outcome::Failure, 1);
    let ejection = explain(&fleet, 0).ejection.unwrap();
    assert_eq!(
        (ejection.detector, ejection.measured),
        (Some(Detector::Tracker), None)
    );
}

/// The thresholds that upkeep compares with are shown after upkeep has run.
#[test]
fn the_thresholds_of_upkeep_are_told_while_an_endpoint_is_in() {
    let settings = exact().score_threshold(0.0).success_rate_stdev_factor(2.0);
    let fleet = by(settings.latency_factor(3.0), 1, 20 * MILLI);
    let why = explain(&fleet, 0);
    let held: Vec<_> = (why.detectors.iter())
        .map(|(by, it)| (*by, (it.threshold.unwrap() * 1e6).round()))
        .collect();
    let expected = [
        (Detector::SuccessRate, 950_000.0),
        (Detector::LatencyOutlier, 30_000.0),
    ];
    assert_eq!(held, expected);
    let line = why.to_string();
    let shown =
        "success rate 97.5 %, ejects below 95.0 %, latency outlier 20.0 ms, ejects above 30.0 ms";
    assert!(line.contains(shown), "{line}");
}

#[test]
fn an_endpoint_that_asked_to_be_spared_says_for_how_long() {
    let clock = ManualClock::new();
    let fleet = setup(3, &clock).build().unwrap();
    send(&fleet, 0, Outcome::overloaded(Some(3 * SECOND)), 1);
    clock.advance(SECOND);
    let why = explain(&fleet, 0);
    assert!(why.is_eligible && why.spared_for == Some(2 * SECOND));
    assert!(
        why.to_string()
            .starts_with("ready; asked to be spared for 2.0 s; "),
        "{why}"
    );
    clock.advance(2 * SECOND);
    assert_eq!(explain(&fleet, 0).spared_for, None);
}

/// With Envoy's detectors, which include neither the sequential test nor the score.
#[test]
fn a_ready_endpoint_shows_what_each_detector_measures() {
    let clock = ManualClock::new();
    let theirs = Ejection::envoy().latency_factor(3.0);
    let fleet = setup(10, &clock).ejection(theirs).build().unwrap();
    send(&fleet, 0, Outcome::Success, 2);
    send(&fleet, 0, Outcome::Timeout, 1);
    send(&fleet, 0, Outcome::Failure, 1);
    let why = explain(&fleet, 0);
    let figures = why.detectors.iter();
    let figures: Vec<_> = figures
        .map(|(by, it)| (*by, it.value, it.threshold))
        .collect();
    let latency = why.latency.unwrap().as_secs_f64();
    assert_eq!(
        figures,
        [
            (Detector::ConsecutiveFailures, 2.0, Some(5.0)),
            (Detector::ConsecutiveGatewayFailures, 0.0, Some(5.0)),
            (Detector::SuccessRate, 0.5, None),
            (Detector::FailurePercentage, 50.0, Some(85.0)),
            (Detector::LatencyOutlier, latency, None),
        ]
    );
    assert_eq!(
        why.to_string(),
        format!(
            "ready; consecutive failures 2 of 5, consecutive gateway failures 0 of 5, \
             success rate 50.0 %, failure percentage 50.0 % of 85.0 %, latency outlier {:.1} ms, 2 faults in 4 requests, 0 in flight",
            1e3 * latency
        )
    );
    // Detectors that are off are not shown; the default has two on.
    let fleet = setup(10, &clock)
        .ejection(Ejection::default())
        .build()
        .unwrap();
    let on = explain(&fleet, 0).detectors.into_iter().map(|(by, _)| by);
    assert_eq!(on.collect::<Vec<_>>(), [Detector::Cusum, Detector::Score]);
}
