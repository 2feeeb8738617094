//! Promise: an endpoint that is back after an ejection gets its share step by step, with every policy, and no request
//! is refused because of it.
#![allow(clippy::unwrap_used)]

mod common;

use common::checks::{each_second, with};
use common::{
    MILLI, Policy, SECOND, Server, bring_back, ejected, exact, fail, number, policies, sequence,
    servers, setup, state,
};
use evenkeel::{
    Adaptive, Cluster, Fleet, LeastConnections, ManualClock, MemberState, Outcome, PickOptions,
    PowerOfTwo, SlowStart, Target, Tick, WeightedRoundRobin,
};

/// Ten servers whose latencies are known; server 0 has just returned.
fn just_back(policy: Policy, slow_start: SlowStart, seed: u64) -> (Fleet<Server>, ManualClock) {
    let clock = ManualClock::new();
    let builder = setup(10, &clock).policy(policy).ejection(exact());
    let fleet = builder.slow_start(slow_start).seed(seed).build().unwrap();
    sequence(&fleet, 1_000);
    fail(&fleet, 0, 2);
    clock.advance(SECOND * 2);
    bring_back(&fleet);
    (fleet, clock)
}

/// The part of its fair share (a tenth of the picks) that server 0 gets now.
fn share_of_fair(fleet: &Fleet<Server>, picks: usize) -> f64 {
    let picked = sequence(fleet, picks);
    let to_zero = picked.iter().filter(|&&number| number == 0).count();
    to_zero as f64 * 10.0 / picks as f64
}

/// A pick goes to server 0 with odds of s / 10, with s its share at the moment; the picks of a policy that takes turns
/// vary less. Over 20 000 picks the part of the fair share has a sigma of 10 · √(s/10 · (1 − s/10) / 20 000), at most
/// 0.0212. The tolerance is six of those, and 0.02 (40 picks) for a server that has waited and whose turn comes first
/// when it is back.
fn assert_share(what: &str, seen: f64, due: f64) {
    let odds = due / 10.0;
    let sigma = 10.0 * (odds * (1.0 - odds) / 20_000.0).sqrt();
    assert!(
        (seen - due).abs() <= 6.0 * sigma + 0.02,
        "{what}: {seen:.3} of its share, not {due:.3}"
    );
}

fn weighted_policies() -> Vec<(&'static str, Policy)> {
    vec![
        ("WeightedRoundRobin", Box::new(WeightedRoundRobin::new())),
        ("PowerOfTwo", Box::new(PowerOfTwo::new())),
        ("LeastConnections", Box::new(LeastConnections::new())),
        ("Adaptive", Box::new(Adaptive::new())),
    ]
}

#[test]
fn a_returned_endpoint_gets_its_share_step_by_step() {
    for (name, policy) in weighted_policies() {
        let (fleet, clock) = just_back(policy, SlowStart::default(), 7);
        for (millis, due) in [(500, 0.1), (1_500, 0.3), (2_500, 0.5), (4_500, 0.9)] {
            clock.set(Tick::from_nanos((2_000 + millis) * 1_000_000));
            assert_eq!(state(&fleet, 0), MemberState::Warming);
            assert_share(name, share_of_fair(&fleet, 20_000), due);
        }
        clock.advance(MILLI * 500);
        assert_share(name, share_of_fair(&fleet, 20_000), 1.0);
        assert_eq!(state(&fleet, 0), MemberState::Ready);
    }
}

#[test]
fn the_minimum_share_holds_from_the_first_pick() {
    for (least, millis) in [(0.1, 0), (0.3, 0), (0.3, 1_000), (1.0, 0)] {
        for (name, policy) in weighted_policies() {
            let settings = SlowStart::default().minimum_share(least);
            let (fleet, clock) = just_back(policy, settings, 8);
            clock.advance(MILLI * millis);
            assert_share(name, share_of_fair(&fleet, 20_000), least);
        }
    }
}

/// Fifteen passed checks in a row over 2 s count as the first 2 s of its slow start, so it has its full share 3 s after
/// its return. That it was slow before is not held against it.
#[test]
fn checks_passed_before_a_return_count_for_slow_start() {
    let mut setting = with(10, exact(), each_second());
    setting.round(|_| Outcome::Success);
    sequence(&setting.fleet, 1_000);
    for _ in 0..2 {
        let lease = setting.fleet.lease(&0).unwrap();
        lease.record_with_latency(Outcome::Failure, SECOND);
    }
    setting.drive_checks(MILLI * 3_990, |_| Outcome::Success);
    assert_eq!(ejected(&setting.fleet), [0]);
    setting.drive_checks(MILLI * 50, |_| Outcome::Success);
    for (millis, due) in [(50, 0.41), (1_000, 0.6), (2_500, 0.9)] {
        setting
            .clock
            .set(Tick::from_nanos((4_000 + millis) * 1_000_000));
        assert_eq!(state(&setting.fleet, 0), MemberState::Warming);
        assert_share("Adaptive", share_of_fair(&setting.fleet, 20_000), due);
    }
    setting.clock.advance(MILLI * 550);
    assert_share("Adaptive", share_of_fair(&setting.fleet, 20_000), 1.0);
    assert_eq!(state(&setting.fleet, 0), MemberState::Ready);
}

/// The ramp is Envoy's in case 96: (t / window) ^ (1 / aggression).
#[test]
fn aggression_bends_the_ramp() {
    for (aggression, due) in [(1.0, 0.25f64), (2.0, 0.5), (0.5, 0.0625)] {
        let settings = SlowStart::default()
            .window(SECOND * 4)
            .aggression(aggression)
            .minimum_share(0.01);
        let (fleet, clock) = just_back(Box::new(PowerOfTwo::new()), settings, 9);
        clock.advance(SECOND);
        let seen = share_of_fair(&fleet, 20_000);
        assert_share(&format!("aggression {aggression}"), seen, due);
    }
}

#[test]
fn slow_start_can_be_turned_off() {
    let (fleet, _clock) = just_back(Box::new(PowerOfTwo::new()), SlowStart::off(), 10);
    assert_eq!(state(&fleet, 0), MemberState::Ready);
    assert_share("off", share_of_fair(&fleet, 20_000), 1.0);
}

fn grown(slow_start: SlowStart, from: usize) -> (Fleet<Server>, ManualClock) {
    let clock = ManualClock::new();
    let builder = setup(from, &clock).slow_start(slow_start);
    let fleet = builder.build().unwrap();
    clock.advance(SECOND * 10);
    fleet.update(servers(&[1; 10])).unwrap();
    (fleet, clock)
}

#[test]
fn new_endpoints_begin_with_slow_start_only_if_set() {
    let asked = SlowStart::default().new_endpoints(true);
    for (settings, expected) in [
        (SlowStart::default(), MemberState::Ready),
        (asked, MemberState::Warming),
    ] {
        let (fleet, clock) = grown(settings, 9);
        assert_eq!(state(&fleet, 9), expected);
        assert!((0..9).all(|old| state(&fleet, old) == MemberState::Ready));
        clock.advance(SECOND * 5);
        fleet.maintain();
        assert_eq!(state(&fleet, 9), MemberState::Ready);
    }
    // `insert` begins slow start as `update` does, and the share rises in proportion.
    let (fleet, clock) = grown(SlowStart::default().new_endpoints(true), 10);
    assert!(fleet.remove(&0));
    fleet.insert(Target::new(0, ())).unwrap();
    clock.advance(MILLI * 2_500);
    assert_share("inserted", share_of_fair(&fleet, 20_000), 0.5);
}

#[test]
fn the_initial_set_and_an_all_new_set_have_no_slow_start() {
    let asked = SlowStart::default().new_endpoints(true);
    let fleet = setup(10, &ManualClock::new()).slow_start(asked.clone());
    let fleet = fleet.build().unwrap();
    assert!((0..10).all(|new| state(&fleet, new) == MemberState::Ready));
    // An empty fleet that gets its first set, and a set that is replaced as a whole.
    let (fleet, _clock) = grown(asked, 0);
    assert!((0..10).all(|new| state(&fleet, new) == MemberState::Ready));
    let others = (10..20).map(|number| Target::new(number, ()));
    fleet.update(others).unwrap();
    assert!((10..20).all(|new| state(&fleet, new) == MemberState::Ready));
}

/// Of two servers one is ejected or avoided and the other has just joined. All requests go to that one.
#[test]
fn a_pick_succeeds_where_only_those_in_slow_start_are_left() {
    for threshold in [0, 50] {
        for (name, policy) in policies() {
            let clock = ManualClock::new();
            let settings = SlowStart::default().new_endpoints(true).minimum_share(0.01);
            let builder = setup(1, &clock).policy(policy).slow_start(settings);
            let fleet = builder
                .ejection(exact())
                .panic_threshold_percent(threshold)
                .build()
                .unwrap();
            fleet.insert(Target::new(1, ())).unwrap();
            assert_eq!(state(&fleet, 1), MemberState::Warming);
            let old = [fleet.member(&0).unwrap().id()];
            for _ in 0..500 {
                let lease = fleet.pick_endpoint_with(&PickOptions::new().avoid(&old));
                let lease = lease.expect(name);
                assert_eq!(number(&lease), 1, "{name}");
                lease.record_with_latency(Outcome::Success, MILLI);
            }
            fail(&fleet, 0, 2);
            assert_eq!(ejected(&fleet), [0]);
            assert_eq!(sequence(&fleet, 500), [1; 500], "{name}");
        }
    }
}

/// Without picks there is no upkeep that ends it.
#[test]
fn a_slow_start_whose_time_is_over_is_explained_as_such() {
    let (fleet, clock) = grown(SlowStart::default().new_endpoints(true), 10);
    let explained = || fleet.member(&0).unwrap().explain().to_string();
    assert!(fleet.remove(&0));
    fleet.insert(Target::new(0, ())).unwrap();
    clock.advance(MILLI * 2_500);
    let expected = "in slow start for 2.5 s, at 50 % of its share, all of it in 2.5 s;";
    assert!(explained().starts_with(expected), "{}", explained());
    clock.advance(SECOND * 60);
    let expected = "in slow start for 62.5 s, at 100 % of its share, over with the next upkeep;";
    assert!(explained().starts_with(expected), "{}", explained());
    fleet.maintain();
    assert!(explained().starts_with("ready;"), "{}", explained());
}

#[test]
fn one_failure_ejects_a_just_returned_endpoint_again() {
    let (fleet, clock) = just_back(Box::new(PowerOfTwo::new()), SlowStart::default(), 11);
    clock.advance(SECOND);
    fail(&fleet, 0, 1);
    assert_eq!(ejected(&fleet), [0]);
    assert_eq!(fleet.stats().ejections, 2);
    // After its slow start it takes two failures again.
    clock.advance(SECOND * 4);
    bring_back(&fleet);
    clock.advance(SECOND * 5);
    fleet.maintain();
    fail(&fleet, 0, 1);
    assert_eq!(ejected(&fleet), [0; 0]);
    fail(&fleet, 0, 1);
    assert_eq!(ejected(&fleet), [0]);
}

/// Where another endpoint is busy, one in slow start is the first of two in half of its share of the picks, and takes
/// part as the second with the probability of its share. When it was drawn up to three times, with another lot for each,
/// it got 47 % of the picks of two endpoints at a share of a half.
#[test]
fn of_two_endpoints_one_in_slow_start_has_one_chance_as_the_second() {
    let clock = ManualClock::new();
    let builder = setup(2, &clock).policy(PowerOfTwo::new()).ejection(exact());
    let fleet = builder.build().unwrap();
    sequence(&fleet, 1_000);
    fail(&fleet, 0, 5);
    clock.advance(SECOND * 2);
    bring_back(&fleet);
    clock.advance(MILLI * 2_500);
    let busy = [(); 5].map(|()| fleet.lease(&1).unwrap());
    let picked = sequence(&fleet, 20_000);
    let to_zero = picked.iter().filter(|&&number| number == 0).count();
    // A quarter, and half of a quarter; six sigma of a binomial are 411.
    assert!(to_zero.abs_diff(7_500) <= 411, "{to_zero}");
    drop(busy);
}
