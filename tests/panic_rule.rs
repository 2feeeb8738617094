//! The panic rule: where panic begins and ends, and what picks do meanwhile.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::{SECOND, Server, exact, sequence, servers, setup};
use evenkeel::{
    Cluster, Fleet, ManualClock, Mark, Outcome, PanicAction, PanicRule, PickError, PickOptions,
    Random,
};

fn fleet(count: usize, rule: PanicRule) -> Fleet<Server> {
    let builder = setup(count, &ManualClock::new()).policy(Random::new());
    builder.panic_rule(rule).build().unwrap()
}

/// Marks servers down until `up` of `of` are up.
fn keep_up(fleet: &Fleet<Server>, up: usize, of: usize) {
    for number in 0..of {
        let mark = if number < up { Mark::Auto } else { Mark::Down };
        assert!(fleet.mark(&number, mark));
    }
}

fn seen(fleet: &Fleet<Server>) -> usize {
    let seen: BTreeSet<_> = sequence(fleet, 2000).into_iter().collect();
    seen.len()
}

#[test]
fn panic_begins_below_half_and_is_over_at_six_of_ten() {
    let fleet = fleet(10, PanicRule::default());
    // The number of servers up, whether the fleet panics, and how many servers take requests.
    let steps = [
        (10, false, 10),
        (5, false, 5),
        (4, true, 10),
        (5, true, 10),
        (4, true, 10),
        (6, false, 6),
        (5, false, 5),
        (0, true, 10),
        (10, false, 10),
    ];
    for (up, panics, taking) in steps {
        keep_up(&fleet, up, 10);
        assert_eq!(fleet.stats().panicking, panics, "with {up} up");
        assert_eq!(seen(&fleet), taking, "with {up} up");
    }
}

#[test]
fn with_envoys_rule_panic_is_over_at_half() {
    let fleet = fleet(10, PanicRule::envoy());
    for (up, panics) in [(5, false), (4, true), (5, false)] {
        keep_up(&fleet, up, 10);
        assert_eq!(fleet.stats().panicking, panics, "with {up} up");
    }
}

#[test]
fn a_pair_of_which_one_is_back_does_not_panic() {
    let fleet = fleet(2, PanicRule::default());
    for (up, panics) in [(1, false), (0, true), (1, false)] {
        keep_up(&fleet, up, 2);
        assert_eq!(fleet.stats().panicking, panics, "with {up} up");
    }
}

#[test]
fn an_update_that_adds_or_removes_may_end_panic_or_begin_it() {
    let fleet = fleet(10, PanicRule::default());
    keep_up(&fleet, 5, 10);
    // Nine endpoints, of which four are up.
    assert!(fleet.remove(&0));
    assert!(fleet.stats().panicking);
    // Ten with five up: still in panic. Twelve with seven up: over, and with six of eleven it does not begin again.
    fleet.insert(servers(&[1; 11]).pop().unwrap()).unwrap();
    assert!(fleet.stats().panicking, "five of ten");
    let more = servers(&[1; 13]).into_iter().skip(11);
    more.for_each(|server| assert_eq!(fleet.insert(server).unwrap().added, 1));
    assert!(!fleet.stats().panicking, "seven of twelve");
    assert!(fleet.remove(&1));
    assert!(!fleet.stats().panicking, "six of eleven");
}

#[test]
fn ejections_and_returns_count_as_marks_do() {
    let clock = ManualClock::new();
    let ejection = exact().max_ejection_percent(100).healthy_threshold(1);
    let fleet = setup(10, &clock).ejection(ejection).build().unwrap();
    let is_out = |number: &usize| fleet.member(number).unwrap().explain().ejection.is_some();
    for number in 0..6 {
        while !is_out(&number) {
            fleet.lease(&number).unwrap().record(Outcome::Unreachable);
        }
    }
    assert!(fleet.stats().panicking);
    clock.advance(SECOND * 3);
    for (number, panics) in [(0, true), (1, false)] {
        let probe = fleet.lease(&number).unwrap();
        assert!(probe.is_probe());
        probe.record(Outcome::Success);
        assert_eq!(fleet.stats().panicking, panics, "after {number}");
    }
    // The panic is over and leaves no trace: half is enough again, and one endpoint less is not.
    for (number, panics) in [(6, false), (7, true)] {
        assert!(fleet.mark(&number, Mark::Down));
        assert_eq!(fleet.stats().panicking, panics, "without {number}");
    }
}

#[test]
fn failing_fast_fails_all_picks_but_probes_and_leases_by_key() {
    let clock = ManualClock::new();
    let rule = PanicRule::default().action(PanicAction::FailFast);
    let ejection = exact().max_ejection_percent(100).healthy_threshold(1);
    let fleet = setup(4, &clock).panic_rule(rule).ejection(ejection);
    let fleet = fleet.build().unwrap();
    for number in 0..3 {
        while fleet.member(&number).unwrap().explain().ejection.is_none() {
            fleet.lease(&number).unwrap().record(Outcome::Unreachable);
        }
    }
    assert!(fleet.stats().panicking);
    for _ in 0..100 {
        let error = fleet.pick_endpoint().unwrap_err();
        assert_eq!(error, PickError::TooFewEligible);
    }
    let three = fleet.lease(&3).unwrap();
    let tried = [three.id()];
    three.record(Outcome::Success);
    let retry = PickOptions::new().avoid(&tried);
    let error = fleet.pick_endpoint_with(&retry).unwrap_err();
    assert_eq!(error, PickError::TooFewEligible);
    assert!(!fleet.member(&3).unwrap().explain().is_eligible);

    // Picks that fail do not hold up the probes, which bring the endpoints back.
    clock.advance(SECOND * 3);
    let mut probes = 0;
    for _ in 0..100 {
        match fleet.pick_endpoint() {
            Ok(lease) => {
                probes += u32::from(lease.is_probe());
                lease.record(Outcome::Success);
            }
            Err(error) => assert_eq!(error, PickError::TooFewEligible),
        }
    }
    assert_eq!(probes, 3);
    assert!(!fleet.stats().panicking);
    // With no eligible endpoint the error is the same. Without the rule it is another.
    keep_up(&fleet, 0, 4);
    let error = fleet.pick_endpoint().unwrap_err();
    assert_eq!(error, PickError::TooFewEligible);
}

#[test]
fn settings_out_of_range_are_named() {
    let error = |rule| {
        let builder = setup(1, &ManualClock::new()).panic_rule(rule);
        builder.build().unwrap_err().to_string()
    };
    let rule = PanicRule::default;
    assert!(error(rule().threshold_percent(101)).starts_with("PanicRule::threshold_percent is"));
    assert!(error(rule().hysteresis_percent(101)).starts_with("PanicRule::hysteresis_percent is"));
    let builder = setup(1, &ManualClock::new()).events((1 << 20) + 1);
    let error = builder.build().unwrap_err().to_string();
    assert!(
        error.starts_with("FleetBuilder::events is 1048577"),
        "{error}"
    );
}
