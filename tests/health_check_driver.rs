//! Promise: there is one check at a time for an endpoint and a cap over all, no check is lost for good, the driver
//! follows the set, and while it is there no request is a probe.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use common::checks::{SUCCESS, TIMEOUT, each_second, key, passing, server_zero_answers, with};
use common::{MILLI, SECOND, Server, assert_no_probe, ejected, exact, fail, probe, servers, state};
use evenkeel::{
    Endpoint, Fleet, HealthCheckSettings, ManualClock, MemberState, Outcome, Probe, Tick,
};

#[test]
fn an_endpoint_has_one_check_at_a_time_and_the_fleet_no_more_than_the_cap() {
    let mut setting = with(10, exact(), each_second().max_probes(4));
    let mut held: Vec<Probe<Server>> = Vec::new();
    let mut checked = HashSet::new();
    for step in 0..200 {
        held.extend(setting.checks.tick());
        let under_way: HashSet<_> = held.iter().map(key).collect();
        assert_eq!(under_way.len(), held.len(), "two for one endpoint");
        assert!(held.len() <= 4);
        checked.extend(under_way);
        if step % 3 == 0 {
            let some = held.len().div_ceil(2);
            held.drain(..some).for_each(|probe| probe.finish(SUCCESS));
        }
        // Steps this short end no check by its timeout.
        setting.clock.advance(MILLI * 30);
    }
    assert_eq!(checked.len(), 10, "somebody is never checked");
    // At the cap nothing is due until a check is answered or given up.
    held.clear();
    setting.clock.advance(SECOND);
    held.extend(setting.checks.tick());
    assert_eq!(held.len(), 4);
    assert!(setting.checks.next_due() > Duration::ZERO);
    held.drain(..).for_each(|probe| probe.finish(SUCCESS));
    assert_eq!(setting.checks.next_due(), Duration::ZERO);
}

#[test]
fn a_lost_check_does_not_wedge_and_counts_as_no_answer() {
    let mut setting = with(10, exact(), each_second().max_probes(10));
    setting.round(|_| SUCCESS);
    setting.clock.advance(SECOND);
    for lost in 1..=3 {
        for probe in setting.checks.tick() {
            match key(&probe) {
                0 => std::mem::forget(probe),
                _ => probe.finish(SUCCESS),
            }
        }
        setting.clock.advance(MILLI * 399);
        assert!(!setting.round(|_| SUCCESS).contains(&0));
        setting.clock.advance(MILLI);
        // A lost check is given up at twice its timeout. The third in a row ejects.
        assert_eq!(setting.round(|_| SUCCESS), []);
        assert_eq!(setting.is_out(0), lost == 3);
        setting.clock.advance(MILLI * 100);
    }
    // The half-open probe may be lost too.
    setting.clock.advance(SECOND * 2);
    setting.checks.tick().into_iter().for_each(std::mem::forget);
    assert_eq!(state(&setting.fleet, 0), MemberState::Probing);
    setting.drive_checks(SECOND * 3, |_| SUCCESS);
    assert_eq!(ejected(&setting.fleet), []);
}

#[test]
fn with_a_cap_of_one_a_lost_check_does_not_wedge_the_others() {
    let mut setting = with(3, exact(), each_second().max_probes(1));
    setting.checks.tick().into_iter().for_each(std::mem::forget);
    let mut checked = HashSet::new();
    // The lost check is given up after 0.4 s, and its endpoint is then ejected for 2 s.
    let mut passed = Duration::ZERO;
    while passed < SECOND * 5 {
        checked.extend(setting.round(|_| SUCCESS));
        let step = setting.checks.next_due().max(MILLI);
        setting.clock.advance(step);
        passed += step;
    }
    assert_eq!(checked.len(), 3);
}

#[test]
fn what_a_check_says_after_it_was_given_up_decides_nothing() {
    let mut setting = passing();
    setting.clock.advance(SECOND);
    let late: Vec<_> = setting.checks.tick();
    setting.clock.advance(MILLI * 400);
    assert_eq!(setting.round(|_| SUCCESS), [], "given up, once each");
    setting.clock.advance(MILLI * 100);
    let others = setting.checks.tick();
    assert_eq!(others.len(), 10, "another was sent");
    // Late results come while the new checks are under way, and do not take their place.
    late.into_iter()
        .for_each(|probe| probe.finish(Outcome::Failure));
    assert_eq!(ejected(&setting.fleet), []);
    setting.clock.advance(MILLI * 300);
    assert_eq!(setting.round(|_| SUCCESS), []);
    others.into_iter().for_each(|probe| probe.finish(SUCCESS));
}

#[test]
fn while_the_driver_is_there_no_request_is_a_probe() {
    let mut setting = passing();
    fail(&setting.fleet, 0, 5);
    assert_eq!(ejected(&setting.fleet), [0]);
    for _ in 0..40 {
        setting.drive_checks(MILLI * 100, server_zero_answers(TIMEOUT));
        assert_no_probe(&setting.fleet);
        assert!(!setting.fleet.lease(&0).unwrap().is_probe());
    }
    // Its checks, and not requests, found it still bad, and they bring it back.
    assert!(setting.is_out(0));
    setting.drive_checks(SECOND * 4, |_| SUCCESS);
    assert!(!setting.is_out(0));
}

#[test]
fn without_the_driver_requests_become_probes_again() {
    let out = || {
        let mut setting = passing();
        setting.clock.advance(SECOND);
        setting.round(server_zero_answers(Outcome::Failure));
        setting.clock.advance(SECOND * 2);
        assert_no_probe(&setting.fleet);
        assert!(!setting.fleet.lease(&0).unwrap().is_probe());
        setting
    };
    // A driver that is dropped stops at once.
    let setting = out();
    drop(setting.checks);
    let lease = probe(&setting.fleet);
    assert_eq!(lease.endpoint().key(), 0);
    lease.record(SUCCESS);
    assert_eq!(ejected(&setting.fleet), []);
    // A driver that is forgotten or stalled stops counting three seconds after its last tick.
    let setting = out();
    setting.clock.advance(SECOND - MILLI);
    assert_no_probe(&setting.fleet);
    setting.clock.advance(MILLI);
    probe(&setting.fleet).record(SUCCESS);
    assert_eq!(ejected(&setting.fleet), []);
    // If the driver comes back while a request is the probe, that request decides.
    let mut setting = out();
    setting.clock.advance(SECOND);
    let lease = probe(&setting.fleet);
    assert!(!setting.round(|_| SUCCESS).contains(&0), "two probes");
    lease.record(SUCCESS);
    assert_eq!(ejected(&setting.fleet), []);
}

#[test]
fn a_check_that_is_under_way_when_the_driver_goes_still_counts() {
    let mut setting = passing();
    setting.clock.advance(SECOND);
    let probes = setting.checks.tick();
    drop(setting.checks);
    for probe in probes {
        let outcome = server_zero_answers(Outcome::Failure)(key(&probe));
        probe.finish(outcome);
    }
    assert_eq!(ejected(&setting.fleet), [0]);
}

#[test]
fn checks_follow_the_set_and_removed_endpoints_are_dropped() {
    let clock = ManualClock::new();
    let endpoint = |number: usize| Arc::new(servers(&vec![1; number + 1])[number].clone());
    let all: Vec<_> = (0..3).map(endpoint).collect();
    let fleet = Fleet::builder()
        .endpoints(all.clone())
        .clock(clock.clone())
        .ejection(exact())
        .build()
        .unwrap();
    let mut checks = fleet.health_check(each_second()).unwrap();
    let mut probes = checks.tick();
    assert_eq!(probes.len(), 3);

    // Removed while its check is out: the check keeps the endpoint alive, decides nothing, and then lets go of it.
    assert!(fleet.remove(&0));
    fleet.maintain();
    assert_eq!(Arc::strong_count(&all[0]), 2);
    let server_zero_answers = probes.remove(0);
    assert_eq!(server_zero_answers.endpoint().key(), 0);
    server_zero_answers.finish(Outcome::Failure);
    assert_eq!(Arc::strong_count(&all[0]), 1);
    probes.into_iter().for_each(|probe| probe.finish(SUCCESS));
    assert_eq!(fleet.stats().ejected, 0);

    // Removed between checks: nothing keeps the endpoint alive, and it is checked no more.
    assert!(fleet.remove(&1));
    fleet.maintain();
    assert_eq!(Arc::strong_count(&all[1]), 1);
    clock.advance(SECOND);
    let keys: Vec<_> = checks.tick().iter().map(|it| it.endpoint().key()).collect();
    assert_eq!(keys, [2]);

    // A new endpoint is checked at the next tick; one without weight or draining is not.
    fleet.insert(endpoint(4)).unwrap();
    let keys: Vec<_> = checks.tick().iter().map(|it| it.endpoint().key()).collect();
    assert_eq!(keys, [4]);
    clock.advance(SECOND);
    drop(fleet.drain(&4));
    let idle = servers(&[1, 1, 0]).pop().unwrap();
    fleet.insert(Arc::new(idle)).unwrap();
    assert!(checks.tick().is_empty());
}

#[test]
fn an_endpoint_out_of_rotation_while_checked_is_not_checked_twice() {
    let mut setting = passing();
    setting.clock.advance(SECOND);
    let held = setting.checks.tick();
    let mut weights = [1; 10];
    weights[0] = 0;
    setting.fleet.update(servers(&weights)).unwrap();
    assert_eq!(setting.round(|_| SUCCESS), []);
    setting.fleet.update(servers(&[1; 10])).unwrap();
    assert_eq!(setting.round(|_| SUCCESS), [], "its check is still out");
    held.into_iter().for_each(|probe| probe.finish(SUCCESS));
    setting.clock.advance(SECOND);
    assert_eq!(setting.round(|_| SUCCESS).len(), 10);
}

/// The interval for no traffic applies until the fleet has seen a request, at any endpoint.
#[test]
fn without_traffic_there_is_another_interval() {
    let settings = each_second().no_traffic_interval(SECOND * 10);
    let mut setting = with(10, exact(), settings);
    assert_eq!(setting.drive_checks(SECOND * 35, |_| SUCCESS).len(), 4);
    setting.fleet.lease(&3).unwrap().record(SUCCESS);
    let at = setting.drive_checks(SECOND * 10, |_| SUCCESS);
    assert!(at.len() >= 8, "{at:?}");
}

#[test]
fn a_request_under_way_a_failed_one_and_one_of_long_ago_are_traffic() {
    for kind in 0..3 {
        let settings = each_second().no_traffic_interval(SECOND * 10);
        let mut setting = with(10, exact(), settings);
        setting.round(|_| SUCCESS);
        let request = setting.fleet.lease(&3).unwrap();
        let under_way = match kind {
            0 => Some(request),
            1 => {
                request.record(Outcome::Failure);
                None
            }
            _ => {
                request.record_with_latency(SUCCESS, MILLI);
                // The window holds ten seconds, so the request is long out of it.
                setting.clock.advance(SECOND * 25);
                None
            }
        };
        let at = setting.drive_checks(SECOND * 10, |_| SUCCESS);
        assert!(at.len() >= 8, "{kind}: {at:?}");
        drop(under_way);
    }
}

#[test]
fn the_first_checks_are_spread_over_the_initial_jitter() {
    let mut setting = with(100, exact(), each_second().initial_jitter(SECOND));
    let mut seen = HashSet::new();
    let mut most = 0;
    for _ in 0..10 {
        let checked = setting.round(|_| SUCCESS);
        most = most.max(checked.len());
        seen.extend(checked);
        setting.clock.advance(MILLI * 100);
    }
    seen.extend(setting.round(|_| SUCCESS));
    assert_eq!(seen.len(), 100);
    // 100 draws, a tenth of them in each step: more than 30 have odds of 1e-8.
    assert!(most <= 30, "{most} at once");
}

/// The clock jumps far ahead and back: checks go on, and lost ones are given up.
#[test]
fn a_clock_that_jumps_ahead_and_returns_stops_nothing() {
    let mut setting = passing();
    setting.clock.set(Tick::from_nanos(1 << 60));
    let lost = setting.checks.tick();
    assert_eq!(lost.len(), 10);
    std::mem::forget(lost);
    setting.clock.set(Tick::from_nanos(2_000_000_000));
    let at = setting.drive_checks(SECOND * 10, |_| SUCCESS);
    assert!(at.len() >= 8, "{at:?}");
    setting.clock.set(Tick::from_nanos(1 << 60));
    assert_eq!(setting.round(|_| SUCCESS).len(), 10);
    setting.clock.set(Tick::from_nanos(20_000_000_000));
    let at = setting.drive_checks(SECOND * 10, |_| SUCCESS);
    assert!(at.len() >= 8, "{at:?}");
}

#[test]
fn the_driver_does_not_keep_the_fleet() {
    let mut setting = passing();
    assert!(!setting.checks.is_over());
    drop(setting.fleet);
    setting.clock.advance(SECOND);
    assert!(setting.checks.tick().is_empty());
    assert!(setting.checks.is_over() && setting.checks.next_due() > Duration::ZERO);
}

#[test]
fn settings_out_of_range_are_refused() {
    let fleet: Fleet<String> = Fleet::from_iter(["a".to_string()]);
    let refused = fleet.health_check(HealthCheckSettings::default().max_probes(0));
    let error = refused.unwrap_err().to_string();
    assert_eq!(
        error,
        "HealthCheckSettings::max_probes is 0; it must be at least 1"
    );
}
