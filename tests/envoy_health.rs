//! Promise: where Envoy's tests of slow start and outlier detection apply, their cases hold with
//! [`Ejection::envoy`]; where this crate differs on purpose, the test says how. Numbers in names are those of
//! reference/envoy.md, sections 3.9 and 3.10. Cases 98, 100, 103 and 106 are about Envoy's ways of counting, so each
//! says what is the same and what is not.
#![allow(clippy::unwrap_used)]

mod common;

use common::checks::each_second;
use common::{MILLI, SECOND, Server, assert_no_probe, ejected, probe, sequence, setup, state};
use evenkeel::{
    Detector, Ejection, Fleet, ManualClock, MemberState, Outcome, RoundRobin, SlowStart, Target,
};

/// Envoy's settings, but that one of fewer than ten may be out, as its tests' clusters have (`max_ejection_percent`
/// 100 there): the cap is not what these are about.
fn envoys() -> Ejection {
    Ejection::envoy().max_ejection_percent(100)
}

fn fleet(count: usize, clock: &ManualClock, ejection: Ejection) -> Fleet<Server> {
    // As Envoy: back at once with its full share, unless slow start is set.
    let builder = setup(count, clock).slow_start(SlowStart::off());
    builder.ejection(ejection).build().unwrap()
}

fn record(fleet: &Fleet<Server>, number: usize, times: usize, outcome: Outcome) {
    for _ in 0..times {
        fleet.lease(&number).unwrap().record(outcome);
    }
}

/// Two servers of a round robin, the second of which has come just now.
fn joined(slow_start: SlowStart) -> (Fleet<Server>, ManualClock) {
    let clock = ManualClock::new();
    let slow_start = slow_start.new_endpoints(true);
    let builder = setup(1, &clock).policy(RoundRobin::new());
    let fleet = builder.slow_start(slow_start).build().unwrap();
    fleet.insert(Target::new(1, ())).unwrap();
    (fleet, clock)
}

/// Server 1 gets half of the picks by turn, and of those the share `due`. Of 20 000 picks the count has a sigma of
/// sqrt(10 000 · s · (1 - s)) = 50 at most; six of them are 300.
///
/// Envoy weighs hosts by the share in a schedule of earliest deadlines, where a weight of s beside 1 is s / (1 + s) of the
/// picks: 0 0 0 0 1 at 0.2 is a sixth, by its weight; here it is half of s: a tenth. What is due to it, s, is the same.
fn assert_share(fleet: &Fleet<Server>, due: f64) {
    let picked = sequence(fleet, 20_000);
    let seen = picked.iter().filter(|&&number| number == 1).count() as f64;
    assert!(
        (seen - 10_000.0 * due).abs() <= 300.0,
        "{seen} of 20000 at a share of {due}"
    );
}

#[test]
fn case_94_shares_rise_over_a_window_of_a_minute() {
    for (seconds, due) in [(12, 0.2), (20, 1.0 / 3.0), (0, 0.1), (60, 1.0), (61, 1.0)] {
        let (fleet, clock) = joined(SlowStart::default().window(SECOND * 60));
        clock.advance(SECOND * seconds);
        assert_share(&fleet, due);
    }
    // Over: the turns of a round robin, exactly.
    let (fleet, clock) = joined(SlowStart::default().window(SECOND * 60));
    clock.advance(SECOND * 60);
    let picked = sequence(&fleet, 100);
    assert!(picked.windows(2).all(|two| two[0] != two[1]), "{picked:?}");
}

#[test]
fn case_96_aggression_bends_the_ramp() {
    for (aggression, seconds, due) in [(1.5, 9, 0.932), (1.0, 5, 0.5), (1.0, 6, 0.6)] {
        let settings = SlowStart::default().window(SECOND * 10);
        let (fleet, clock) = joined(settings.aggression(aggression));
        clock.advance(SECOND * seconds);
        assert_share(&fleet, due);
    }
}

/// A host that fails its checks is in no slow start; from unhealthy to healthy it begins one; after that, its weight
/// is full.
#[test]
fn case_97_slow_start_begins_when_an_endpoint_is_healthy_again() {
    let clock = ManualClock::new();
    let slow_start = SlowStart::default().new_endpoints(true).window(SECOND * 10);
    let builder = setup(1, &clock).policy(RoundRobin::new());
    let builder = builder.ejection(envoys().base_ejection_time(SECOND));
    let fleet = builder.slow_start(slow_start).build().unwrap();
    fleet.insert(Target::new(1, ())).unwrap();
    assert_eq!(state(&fleet, 1), MemberState::Warming);
    let mut checks = fleet.health_check(each_second()).unwrap();
    let mut check = |bad: bool| {
        for probe in checks.tick() {
            let is_one = probe.member().id() == fleet.member(&1).unwrap().id();
            probe.finish(match bad && is_one {
                true => Outcome::Failure,
                false => Outcome::Success,
            });
        }
    };
    check(true);
    assert_eq!(state(&fleet, 1), MemberState::Ejected);
    assert_eq!(sequence(&fleet, 100), [0; 100]);
    // Two passes, 300 ms apart, and it is back in slow start.
    clock.advance(SECOND);
    check(false);
    clock.advance(MILLI * 300);
    check(false);
    assert_eq!(state(&fleet, 1), MemberState::Warming);
    clock.advance(SECOND * 5);
    assert_share(&fleet, 0.5);
    clock.advance(SECOND * 5);
    assert_share(&fleet, 1.0);
    assert_eq!(state(&fleet, 1), MemberState::Ready);
}

fn with_rates(rates: &[usize], requests: usize, ejection: Ejection) -> Fleet<Server> {
    let fleet = fleet(rates.len(), &ManualClock::new(), ejection);
    for (number, rate) in rates.iter().enumerate() {
        let good = requests * rate / 100;
        // Spread, so that no five failures come in a row.
        let bad = requests - good;
        for turn in 0..requests {
            let is_bad = (turn + 1) * bad / requests > turn * bad / requests;
            let outcome = if is_bad {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            record(&fleet, number, 1, outcome);
        }
    }
    fleet.maintain();
    fleet
}

/// Envoy: mean 90, deviation 20, so the threshold is 52. Here the middle is 100 and the deviation, at least, 2.5: 95.25.
/// The 50 goes in both. Of those that Envoy spares for the spread that an outlier makes itself, a 94 goes here too.
#[test]
fn case_98_a_success_rate_of_50_beside_100s_is_ejected() {
    let seen = with_rates(&[50, 100, 100, 100, 100], 100, envoys());
    assert_eq!(ejected(&seen), [0]);
    assert_eq!(seen.detections(Detector::SuccessRate).ejected, 1);
    let departs = with_rates(&[94, 100, 100, 100, 100], 100, envoys());
    assert_eq!(ejected(&departs), [0]);
    let spared = with_rates(&[96, 100, 100, 100, 100], 100, envoys());
    assert_eq!(ejected(&spared), [0; 0]);
}

/// Envoy: 200 good ones to each of five, then 200 bad ones to the fifth, and at the next tick it is out; at 19 999 ms still,
/// at 50 001 ms back. In a row five would have been enough: so they are off, as there by their runtime key.
#[test]
fn case_99_a_success_rate_ejects_at_upkeep_and_the_time_is_thirty_seconds() {
    let clock = ManualClock::new();
    let by_rate = envoys()
        .consecutive_failures(0)
        .consecutive_gateway_failures(0);
    let fleet = fleet(5, &clock, by_rate);
    (0..5).for_each(|number| record(&fleet, number, 200, Outcome::Success));
    fleet.maintain();
    assert_eq!(ejected(&fleet), [0; 0]);
    record(&fleet, 4, 200, Outcome::Failure);
    assert_eq!(ejected(&fleet), [0; 0], "before upkeep");
    fleet.maintain();
    assert_eq!(ejected(&fleet), [4]);
    clock.advance(MILLI * 19_999);
    assert_no_probe(&fleet);
    assert_eq!(ejected(&fleet), [4]);
    clock.advance(MILLI * 30_002);
    probe(&fleet).record(Outcome::Success);
    assert_eq!(ejected(&fleet), [0; 0]);
}

#[test]
fn case_100_too_few_requests_are_not_compared() {
    let seen = with_rates(&[50, 100, 100, 100, 100], 25, envoys());
    assert_eq!(ejected(&seen), [0; 0]);
    assert_eq!(seen.detections(Detector::SuccessRate).detected, 0);
}

#[test]
fn case_102_the_fifth_failure_after_a_success_ejects_for_thirty_seconds() {
    let clock = ManualClock::new();
    let fleet = fleet(5, &clock, envoys());
    record(&fleet, 0, 1, Outcome::Failure);
    record(&fleet, 0, 1, Outcome::Success);
    record(&fleet, 0, 4, Outcome::Failure);
    assert_eq!(ejected(&fleet), [0; 0]);
    record(&fleet, 0, 1, Outcome::Failure);
    assert_eq!(ejected(&fleet), [0]);
    clock.advance(MILLI * 9_999);
    assert_no_probe(&fleet);
    clock.advance(MILLI * 20_002);
    probe(&fleet).record(Outcome::Success);
    assert_eq!(state(&fleet, 0), MemberState::Ready);
}

/// Enforced by the row of any class, and counted by the gateway's, which is not.
#[test]
fn case_103_five_failed_connections_are_found_by_both_rows_and_enforced_by_one() {
    let fleet = fleet(5, &ManualClock::new(), envoys());
    record(&fleet, 0, 5, Outcome::Unreachable);
    assert_eq!(ejected(&fleet), [0]);
    let both = [
        Detector::ConsecutiveFailures,
        Detector::ConsecutiveGatewayFailures,
    ]
    .map(|detector| fleet.detections(detector));
    assert_eq!(both.map(|it| (it.detected, it.ejected)), [(1, 1), (1, 0)]);
    // It alone does not eject.
    let alone = self::fleet(5, &ManualClock::new(), envoys().consecutive_failures(0));
    record(&alone, 0, 50, Outcome::Unreachable);
    assert_eq!(ejected(&alone), [0; 0]);
    assert!(
        alone
            .detections(Detector::ConsecutiveGatewayFailures)
            .detected
            >= 46
    );
}

#[test]
fn case_104_connections_that_succeed_and_fail_in_turn_never_eject() {
    for count in [2, 5] {
        let fleet = fleet(count, &ManualClock::new(), envoys());
        for _ in 0..100 {
            record(&fleet, 0, 1, Outcome::Success);
            record(&fleet, 0, 1, Outcome::Unreachable);
        }
        fleet.maintain();
        assert_eq!(ejected(&fleet), [0; 0]);
    }
}

/// A host that fails again as soon as it is back is out for the n-th time n times as long, up to the maximum; there and here.
/// The maximum of 305 is 310 in Envoy, which caps the multiple; here it is 305.
#[test]
fn case_106_the_nth_ejection_lasts_n_times_the_base_up_to_the_maximum() {
    for most in [300, 305] {
        let clock = ManualClock::new();
        let settings = envoys()
            .base_ejection_time(SECOND * 10)
            .max_ejection_time(SECOND * most);
        let fleet = fleet(2, &clock, settings);
        for times in 1..=35 {
            record(&fleet, 0, 5, Outcome::Failure);
            assert_eq!(ejected(&fleet), [0]);
            clock.advance(SECOND * (10 * times).min(most) - MILLI);
            assert_no_probe(&fleet);
            clock.advance(MILLI);
            probe(&fleet).record(Outcome::Success);
            assert_eq!(ejected(&fleet), [0; 0], "the {times}th lasts longer");
        }
    }
}

#[test]
fn case_107_with_the_defaults_it_is_thirty_seconds_more_each_time_up_to_three_hundred() {
    let clock = ManualClock::new();
    let fleet = fleet(2, &clock, envoys());
    for seconds in (1..=10).map(|times| 30 * times).chain([300, 300]) {
        record(&fleet, 0, 5, Outcome::Failure);
        clock.advance(SECOND * seconds - MILLI);
        assert_no_probe(&fleet);
        clock.advance(MILLI);
        probe(&fleet).record(Outcome::Success);
    }
    // For each interval in, 10 s, one of the twelve is forgotten.
    clock.advance(SECOND * 120);
    record(&fleet, 0, 5, Outcome::Failure);
    clock.advance(SECOND * 30 - MILLI);
    assert_no_probe(&fleet);
    clock.advance(MILLI);
    probe(&fleet).record(Outcome::Success);
}

#[test]
fn case_109_a_verdict_that_comes_twice_ejects_once() {
    let fleet = fleet(4, &ManualClock::new(), envoys());
    let leases: Vec<_> = (0..20).map(|_| fleet.lease(&0).unwrap()).collect();
    for lease in leases {
        lease.record(Outcome::Failure);
    }
    let stats = fleet.stats();
    assert_eq!((stats.ejections, stats.ejected), (1, 1));
    assert_eq!(stats.ejections_overflow, 0);
}

/// The default cap: nobody of fewer than ten, since 1.28.
#[test]
fn of_fewer_than_ten_nobody_is_ejected_with_envoys_cap() {
    for (count, out) in [(9, 0), (10, 1), (19, 1), (20, 2)] {
        let fleet = fleet(count, &ManualClock::new(), Ejection::envoy());
        for number in 0..count {
            record(&fleet, number, 5, Outcome::Failure);
        }
        assert_eq!(fleet.stats().ejected, out, "of {count}");
    }
}
