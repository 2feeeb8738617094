//! Promise: each detector ejects by its own setting and by no other, counts what it finds, and keeps to the cap; and
//! when all fail alike, hardly any is singled out.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{
    GOOD_PROBES, MILLI, SECOND, Server, bring_back, ejected, exact, fail, number, probe, setup,
    state,
};
use evenkeel::{
    Alarm, Cluster, Detector, Ejection, Endpoint, Fleet, Health, HealthCheckSettings,
    HealthTracker, Judging, ManualClock, MemberState, Outcome, RoundRobin, Sample,
};

/// Settings by which nothing ejects.
fn nothing() -> Ejection {
    exact().cusum_threshold(0.0).score_threshold(0.0)
}

fn fleet(count: usize, ejection: Ejection) -> Fleet<Server> {
    let builder = setup(count, &ManualClock::new()).ejection(ejection);
    builder.build().unwrap()
}

fn record(fleet: &Fleet<Server>, number: usize, times: usize, outcome: Outcome) {
    for _ in 0..times {
        let lease = fleet.lease(&number).unwrap();
        lease.record_with_latency(outcome, MILLI);
    }
}

/// Sends `total` requests of which `bad` fail, spread evenly to keep rows of failures as short as possible.
fn mixed(fleet: &Fleet<Server>, number: usize, total: usize, bad: usize) {
    for turn in 0..total {
        let is_bad = (turn + 1) * bad / total > turn * bad / total;
        let outcome = if is_bad {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        record(fleet, number, 1, outcome);
    }
}

/// A detector, settings that turn on only this one, and requests that make it eject server 0.
type Case = (Detector, Ejection, fn(&Fleet<Server>));

fn cases() -> Vec<Case> {
    vec![
        (Detector::Cusum, nothing().cusum_threshold(11.0), |fleet| {
            fail(fleet, 0, 2);
        }),
        (
            Detector::ConsecutiveFailures,
            nothing().consecutive_failures(3),
            |fleet| {
                for outcome in [Outcome::Failure, Outcome::Timeout, Outcome::Unreachable] {
                    record(fleet, 0, 1, outcome);
                }
            },
        ),
        (
            Detector::ConsecutiveGatewayFailures,
            nothing().consecutive_gateway_failures(3),
            |fleet| {
                for outcome in [Outcome::Unreachable, Outcome::Timeout, Outcome::Unreachable] {
                    record(fleet, 0, 1, outcome);
                }
            },
        ),
        (
            Detector::ConsecutiveLocalOriginFailures,
            nothing().consecutive_local_origin_failures(3),
            |fleet| record(fleet, 0, 3, Outcome::Unreachable),
        ),
        (
            Detector::SuccessRate,
            nothing().success_rate_stdev_factor(1.9),
            // 0.9 is below 1 - 1.9 · 0.025 = 0.9525.
            |fleet| {
                (1..4).for_each(|other| mixed(fleet, other, 100, 0));
                mixed(fleet, 0, 100, 10);
            },
        ),
        (
            Detector::FailurePercentage,
            nothing().failure_percentage_threshold(50),
            |fleet| {
                (1..4).for_each(|other| mixed(fleet, other, 100, 49));
                mixed(fleet, 0, 100, 50);
            },
        ),
        (
            Detector::LatencyOutlier,
            nothing().latency_factor(3.0),
            |fleet| {
                for (server, latency) in [(0, 3_100), (1, 1_000), (2, 1_000), (3, 2_900)] {
                    let lease = fleet.lease(&server).unwrap();
                    lease.record_with_latency(Outcome::Success, Duration::from_micros(latency));
                }
            },
        ),
        (Detector::Score, nothing().score_threshold(0.5), |fleet| {
            (1..4).for_each(|other| mixed(fleet, other, 100, 0));
            mixed(fleet, 0, 100, 70);
        }),
    ]
}

#[test]
fn each_detector_ejects_by_its_own_setting() {
    for (detector, settings, hurt) in cases() {
        let fleet = fleet(4, settings);
        hurt(&fleet);
        fleet.maintain();
        assert_eq!(ejected(&fleet), [0], "{detector}");
        for other in Detector::ALL {
            let (found, expected) = (fleet.detections(other), u64::from(other == detector));
            assert_eq!(found.ejected, expected, "{other} for {detector}");
            assert_eq!(
                found.detected > 0,
                other == detector,
                "{other} for {detector}"
            );
        }
        assert_eq!(fleet.stats().ejections, 1);
    }
}

#[test]
fn with_every_detector_off_no_endpoint_is_ejected() {
    for (detector, _, hurt) in cases() {
        let fleet = fleet(4, nothing());
        hurt(&fleet);
        fleet.maintain();
        assert_eq!(ejected(&fleet), [0; 0], "{detector}");
        assert!(
            Detector::ALL
                .iter()
                .all(|it| fleet.detections(*it).detected == 0)
        );
    }
}

#[test]
fn a_detector_that_is_to_detect_only_counts_and_does_not_eject() {
    for (detector, settings, hurt) in cases() {
        let fleet = fleet(4, settings.detect_only(detector));
        hurt(&fleet);
        fleet.maintain();
        assert_eq!(ejected(&fleet), [0; 0], "{detector}");
        let found = fleet.detections(detector);
        assert!(
            found.detected > 0 && found.ejected == 0,
            "{detector}: {found:?}"
        );
        let stats = fleet.stats();
        assert_eq!((stats.ejections, stats.ejections_overflow), (0, 0));
    }
}

/// A tracker that raises an alarm at each fault.
#[derive(Debug)]
struct Strict;

impl HealthTracker for Strict {
    fn record(&self, sample: &Sample, _: &Judging<'_>) -> Alarm {
        match sample.outcome.is_fault() {
            true => Alarm::Eject,
            false => Alarm::None,
        }
    }
    fn health(&self, _: &Judging<'_>) -> Health {
        Health::new(1.0, 1)
    }
}

#[test]
fn trackers_and_checks_are_detectors_too() {
    for only in [false, true] {
        let mut settings = exact();
        if only {
            settings = settings
                .detect_only(Detector::Tracker)
                .detect_only(Detector::ActiveCheck);
        }
        let builder = setup(4, &ManualClock::new()).ejection(settings);
        let fleet = builder.tracker(|_: &Server| Strict).build().unwrap();
        fail(&fleet, 0, 1);
        let mut checks = fleet.health_check(HealthCheckSettings::default()).unwrap();
        for check in checks.tick() {
            let bad = check.endpoint().key() == 1;
            check.finish(if bad {
                Outcome::Failure
            } else {
                Outcome::Success
            });
        }
        let out: &[usize] = if only { &[] } else { &[0, 1] };
        assert_eq!(ejected(&fleet), out);
        for detector in [Detector::Tracker, Detector::ActiveCheck] {
            let found = fleet.detections(detector);
            assert_eq!(found.ejected, u64::from(!only), "{detector}");
            assert_eq!(found.detected, 1, "{detector}");
        }
    }
}

/// A failure that is an answer ends the rows of the narrower classes; a success ends all rows.
#[test]
fn the_rows_of_the_classes_are_apart() {
    let settings = nothing()
        .consecutive_gateway_failures(3)
        .consecutive_local_origin_failures(3);
    let fleet = fleet(4, settings);
    for between in [Outcome::Failure, Outcome::Success] {
        for outcome in [Outcome::Unreachable, Outcome::Unreachable, between] {
            record(&fleet, 0, 1, outcome);
        }
    }
    record(&fleet, 0, 2, Outcome::Unreachable);
    record(&fleet, 1, 2, Outcome::Timeout);
    assert_eq!(ejected(&fleet), [0; 0]);
    // The third in a row of timeouts and unreachable endpoints, and the first in a row of the latter.
    record(&fleet, 1, 1, Outcome::Unreachable);
    assert_eq!(ejected(&fleet), [1]);
    let found = |detector| fleet.detections(detector).ejected;
    assert_eq!(found(Detector::ConsecutiveGatewayFailures), 1);
    assert_eq!(found(Detector::ConsecutiveLocalOriginFailures), 0);
}

#[test]
fn success_rates_are_compared_from_three_endpoints_on() {
    let by_rate = || nothing().success_rate_stdev_factor(1.9);
    for (count, out) in [(2, false), (3, true), (4, true)] {
        let fleet = fleet(count, by_rate());
        (1..count).for_each(|other| mixed(&fleet, other, 20, 0));
        mixed(&fleet, 0, 20, 10);
        fleet.maintain();
        assert_eq!(ejected(&fleet).len(), usize::from(out), "of {count}");
    }
    // Three have the minimum volume and are compared; the fourth has not, and is not judged.
    let fleet = fleet(4, by_rate());
    (1..3).for_each(|other| mixed(&fleet, other, 20, 0));
    mixed(&fleet, 0, 20, 10);
    mixed(&fleet, 3, 19, 19);
    fleet.maintain();
    assert_eq!(ejected(&fleet), [0]);
}

/// With mean and standard deviation, a dead endpoint among four hides one that fails a third: their mean is 0.67 and
/// the deviation 0.41, and 0.67 - 1.9 · 0.41 < 0.
#[test]
fn one_extreme_endpoint_hides_no_other() {
    let fleet = fleet(4, nothing().success_rate_stdev_factor(1.9));
    mixed(&fleet, 0, 100, 100);
    mixed(&fleet, 1, 100, 33);
    (2..4).for_each(|other| mixed(&fleet, other, 100, 0));
    fleet.maintain();
    assert_eq!(fleet.stats().ejection_limit, 2);
    // Of four rates the lower median is 0.67, and none is below 0.67 - 1.9 · 0.49: half of four are the fleet.
    assert_eq!(ejected(&fleet), [0; 0]);
    let fleet = self::fleet(5, nothing().success_rate_stdev_factor(1.9));
    mixed(&fleet, 0, 100, 100);
    mixed(&fleet, 1, 100, 33);
    (2..5).for_each(|other| mixed(&fleet, other, 100, 0));
    fleet.maintain();
    assert_eq!(ejected(&fleet), [0, 1]);
}

#[test]
fn the_cap_holds_for_detectors_that_compare() {
    let settings = [
        nothing().failure_percentage_threshold(50),
        nothing().success_rate_stdev_factor(0.5),
    ];
    for settings in settings {
        let fleet = fleet(10, settings.max_ejection_percent(20));
        for number in 0..10 {
            mixed(&fleet, number, 100, if number < 4 { 90 } else { 0 });
        }
        for _ in 0..3 {
            fleet.maintain();
            assert_eq!(ejected(&fleet).len(), 2);
            assert_eq!(fleet.stats().ejected, 2);
        }
        assert!(fleet.stats().ejections_overflow >= 2);
    }
}

/// Requests in flight when their endpoint was ejected end while its probe is out: only the probe's own outcome decides.
#[test]
fn old_results_never_decide_a_probe() {
    for old in [Outcome::Success, Outcome::Failure, Outcome::Timeout] {
        let clock = ManualClock::new();
        let builder = setup(10, &clock).ejection(exact().healthy_threshold(1));
        let fleet = builder.build().unwrap();
        let early: Vec<_> = (0..50).map(|_| fleet.lease(&0).unwrap()).collect();
        fail(&fleet, 0, 2);
        clock.advance(SECOND * 2);
        let lease = probe(&fleet);
        assert_eq!(number(&lease), 0);
        for early in early {
            early.record(old);
            assert_eq!(state(&fleet, 0), MemberState::Probing, "{old:?}");
        }
        fleet.maintain();
        assert_eq!(state(&fleet, 0), MemberState::Probing);
        lease.record(Outcome::Success);
        assert_eq!(ejected(&fleet), [0; 0]);
    }
}

/// Each of the five wanted probes but the last is lost once. Another is sent when its timeout is over, and the count
/// goes on from there.
#[test]
fn a_lost_probe_does_not_wedge() {
    let clock = ManualClock::new();
    let builder = setup(10, &clock).ejection(exact().probe_timeout(SECOND));
    let fleet = builder.build().unwrap();
    fail(&fleet, 0, 2);
    clock.advance(SECOND * 2);
    for _ in 1..GOOD_PROBES {
        std::mem::forget(probe(&fleet));
        assert_eq!(state(&fleet, 0), MemberState::Probing);
        // The timeout doubles with each lost probe, up to the longest ejection.
        clock.advance(SECOND * 64);
        probe(&fleet).record(Outcome::Success);
    }
    assert_eq!(ejected(&fleet), [0]);
    probe(&fleet).record(Outcome::Success);
    assert_eq!(ejected(&fleet), [0; 0]);
}

#[test]
fn a_bad_probe_in_the_middle_starts_the_row_again() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(exact()).build().unwrap();
    fail(&fleet, 0, 2);
    clock.advance(SECOND * 2);
    for _ in 1..GOOD_PROBES {
        probe(&fleet).record_with_latency(Outcome::Success, MILLI);
    }
    probe(&fleet).record(Outcome::Failure);
    clock.advance(SECOND * 4);
    bring_back(&fleet);
}

/// splitmix64: a draw from 0 to 1.
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// All ten endpoints fail half of their requests from one instant on, for a minute, at 500 requests a second.
///
/// At first a second failure ejects, until four of the nine others are under suspicion (two fifths). With i suspects of
/// n a failure makes another with odds of 1 - i/n and ejects one with i/n: from (0, 10) on that is a chain with 1.63
/// ejections in the mean and a variance of 2.26. Then evidence is measured against half: of 30 000 requests e^-11 each
/// are 0.5. A returning endpoint is on trial for 5 s, and nine failures in a row eject it: 11 is reached from 5.5 by
/// 0.66 each, so of some 125 requests with odds of 125 / 2^10 = 0.12, which is 0.2 more. In 20 runs: 47, with a sigma
/// of sqrt(20 · (2.26 + 0.7)) = 7.7; six of them more are 93. Five failures in a row would come 9 600 times.
#[test]
fn when_all_fail_half_from_one_instant_hardly_any_endpoint_is_ejected() {
    let mut ejections = 0;
    for seed in 0..20 {
        let clock = ManualClock::new();
        let fleet = setup(10, &clock).seed(seed).build().unwrap();
        let mut random = seed;
        for request in 0..35_000 {
            clock.advance(MILLI * 2);
            let bad = request >= 5_000 && draw(&mut random) < 0.5;
            let outcome = if bad {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            fleet
                .pick_endpoint()
                .unwrap()
                .record_with_latency(outcome, MILLI);
        }
        ejections += fleet.stats().ejections;
    }
    assert!(ejections <= 93, "{ejections} ejections in 20 runs");
}

/// One of ten fails a third, and the others fail now and then: that one is ejected.
#[test]
fn a_third_of_failures_is_found_where_all_others_fail_two_in_a_hundred() {
    for seed in 0..10 {
        let clock = ManualClock::new();
        // The default policy would avoid the endpoint first, and it would take longer to be sure.
        let setup = setup(10, &clock).seed(seed).policy(RoundRobin::new());
        let fleet = setup.build().unwrap();
        let mut random = seed ^ 99;
        let mut until = None;
        for request in 0..20_000 {
            clock.advance(MILLI * 2);
            let lease = fleet.pick_endpoint().unwrap();
            let number = number(&lease);
            let share = if number == 0 && request >= 5_000 {
                0.33
            } else {
                0.02
            };
            let bad = draw(&mut random) < share;
            lease.record_with_latency(
                if bad {
                    Outcome::Failure
                } else {
                    Outcome::Success
                },
                MILLI,
            );
            if until.is_none() && request >= 5_000 && ejected(&fleet) == [0] {
                until = Some(request - 5_000);
            }
        }
        // A failure weighs ln(0.3 / 0.02) = 2.7 and a success -ln(0.98 / 0.7) = -0.34: 0.66 a request in the mean, so
        // 17 of its requests or 170 in all. Six times that is 1000.
        assert!(until.is_some_and(|until| until <= 1_000), "{until:?}");
    }
}

/// As the documentation of `Ejection::score_threshold` says of thresholds above 0.6.
#[test]
fn a_score_that_slowness_alone_makes_ejects() {
    let clock = ManualClock::new();
    let settings = exact().score_threshold(0.7);
    let builder = setup(5, &clock).ejection(settings);
    let fleet = builder.policy(RoundRobin::new()).build().unwrap();
    for _ in 0..6_000 {
        clock.advance(MILLI);
        let lease = fleet.pick_endpoint().unwrap();
        let latency = if lease.endpoint().key() == 0 {
            300 * MILLI
        } else {
            MILLI
        };
        lease.record_with_latency(Outcome::Success, latency);
    }
    assert_eq!(ejected(&fleet), [0]);
}
