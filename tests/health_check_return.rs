//! Promise: an endpoint that checks bring back is as far into slow start as the time for which it has passed, no
//! further, and is not held to its old latency.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::{SUCCESS, Setting, TIMEOUT, each_second, with};
use common::{MILLI, SECOND, Server, ejected, exact, fail, sequence, setup, state};
use evenkeel::{
    Cluster, Ejection, Explanation, Fleet, Lease, Limits, ManualClock, Mark, MemberState, Outcome,
};

fn explain(setting: &Setting) -> Explanation {
    setting.fleet.member(&0).unwrap().explain()
}

/// Lets checks pass until server 0 is back. Returns for how long they did.
fn pass_until_back(setting: &mut Setting) -> Duration {
    let mut passing = Duration::ZERO;
    while state(&setting.fleet, 0) != MemberState::Warming {
        if !setting.drive_checks(MILLI, |_| SUCCESS).is_empty() || !passing.is_zero() {
            passing += MILLI;
        }
    }
    passing
}

/// The next request that is a probe.
fn probe_of(fleet: &Fleet<Server>) -> Lease<Server> {
    let mut picks = (0..20).map(|_| fleet.pick_endpoint().unwrap());
    picks.find(Lease::is_probe).unwrap()
}

fn share(setting: &Setting) -> f64 {
    explain(setting).slow_start_share.unwrap()
}

/// Ten servers that have passed their first check and whose latency is known.
fn known(ejection: Ejection) -> Setting {
    let mut setting = with(10, ejection, each_second());
    setting.round(|_| SUCCESS);
    sequence(&setting.fleet, 1_000);
    setting.fleet.maintain();
    setting
}

#[test]
fn the_time_over_which_checks_passed_counts_and_no_more() {
    let mut setting = known(exact());
    fail(&setting.fleet, 0, 2);
    let passing = pass_until_back(&mut setting);
    assert!(passing >= SECOND * 2, "{passing:?}");
    // 2 s of 5 s, give or take some milliseconds for the tick of the last pass.
    assert!((share(&setting) - 0.4).abs() < 0.005, "{}", share(&setting));
    // `since` still counts from the return.
    assert!(explain(&setting).since.unwrap() < MILLI * 10);
    assert_eq!(
        explain(&setting).until.unwrap().as_millis().div_ceil(100),
        30
    );
}

/// An endpoint ejected while there was no driver needs five good probes: 0.6 s of checks, a little more than the least
/// share.
#[test]
fn few_passes_count_for_little() {
    let mut setting = known(exact());
    let settings = each_second();
    drop(setting.checks);
    fail(&setting.fleet, 0, 2);
    setting.checks = setting.fleet.health_check(settings).unwrap();
    let passing = pass_until_back(&mut setting);
    assert!((MILLI * 550..MILLI * 650).contains(&passing), "{passing:?}");
    let expected = passing.as_secs_f64() / 5.0;
    assert!((share(&setting) - expected).abs() < 0.005, "{expected}");
}

#[test]
fn a_failed_check_between_starts_the_time_again() {
    let mut setting = known(exact());
    fail(&setting.fleet, 0, 2);
    setting.drive_checks(MILLI * 3_500, |_| SUCCESS);
    while !setting
        .round(|number| {
            if number == 0 {
                Outcome::Timeout
            } else {
                SUCCESS
            }
        })
        .contains(&0)
    {
        setting.clock.advance(MILLI);
    }
    pass_until_back(&mut setting);
    assert!((share(&setting) - 0.4).abs() < 0.005, "{}", share(&setting));
}

/// Passes over 30 s count for half of a slow start of 5 s, the most they may. They do not count for the time that makes
/// an ejection forgotten.
#[test]
fn passes_count_neither_for_all_of_slow_start_nor_for_the_record() {
    let ejection = exact()
        .base_ejection_time(SECOND * 30)
        .backoff_decay(SECOND * 10);
    let mut setting = known(ejection.max_ejection_time(SECOND * 300));
    for times in 1..4 {
        fail(&setting.fleet, 0, 2);
        assert_eq!(ejected(&setting.fleet), [0]);
        assert_eq!(explain(&setting).times, times);
        pass_until_back(&mut setting);
        assert!((share(&setting) - 0.5).abs() < 0.005, "{}", share(&setting));
    }
}

/// Requests that hung before the ejection end long after the return: they say nothing about the endpoint as it is now.
#[test]
fn a_request_from_before_the_return_does_not_set_the_latency() {
    let mut setting = known(exact());
    let hung: Vec<_> = (0..4).map(|_| setting.fleet.lease(&0).unwrap()).collect();
    for _ in 0..2 {
        let lease = setting.fleet.lease(&0).unwrap();
        lease.record_with_latency(Outcome::Failure, SECOND);
    }
    // A sample counts for no more than a hundred times the average.
    assert!(explain(&setting).latency > Some(MILLI * 11 / 10));
    pass_until_back(&mut setting);
    let micros = |setting: &Setting| explain(setting).latency.unwrap().as_micros();
    let usual = micros(&setting);
    assert!(
        (990..=1_010).contains(&usual),
        "until it has answered: {usual}"
    );
    let mut hung = hung.into_iter();
    for outcome in [Outcome::Timeout, Outcome::Success, Outcome::Failure] {
        hung.next()
            .unwrap()
            .record_with_latency(outcome, SECOND * 30);
        assert_eq!(micros(&setting), usual);
    }
    for _ in 0..3 {
        let lease = setting.fleet.lease(&0).unwrap();
        lease.record_with_latency(Outcome::Success, MILLI * 3);
    }
    let after = micros(&setting);
    assert!((2_000..4_000).contains(&after), "{after}");
    // From here on a late one is a sample among many.
    hung.next()
        .unwrap()
        .record_with_latency(Outcome::Timeout, SECOND * 30);
    assert!(micros(&setting) > after);
}

/// The same holds for a request that was the probe and hung until checks took its place.
#[test]
fn a_probe_that_was_given_up_says_nothing_after() {
    for outcome in [Outcome::Timeout, Outcome::Success] {
        let mut setting = known(exact());
        drop(setting.checks);
        fail(&setting.fleet, 0, 2);
        setting.clock.advance(SECOND * 2);
        let probe = probe_of(&setting.fleet);
        setting.clock.advance(SECOND * 20);
        setting.checks = setting.fleet.health_check(each_second()).unwrap();
        pass_until_back(&mut setting);
        let before = (share(&setting), explain(&setting).latency);
        assert!(before.0 > 0.1);
        probe.record_with_latency(outcome, SECOND * 30);
        assert_eq!((share(&setting), explain(&setting).latency), before);
    }
}

/// A request that is a probe and fails ends the time for which checks have passed; so does a time without checks.
#[test]
fn passes_before_a_failure_or_a_long_time_without_do_not_count() {
    for probe_fails in [true, false] {
        let mut setting = known(exact());
        fail(&setting.fleet, 0, 2);
        setting.drive_checks(MILLI * 3_500, |_| SUCCESS);
        drop(setting.checks);
        setting.clock.advance(SECOND * 4);
        if probe_fails {
            probe_of(&setting.fleet).record(Outcome::Failure);
        }
        setting.checks = setting.fleet.health_check(each_second()).unwrap();
        setting.checks.tick().into_iter().for_each(drop);
        setting.clock.advance(SECOND * 5);
        let passing = pass_until_back(&mut setting);
        let expected = (passing.as_secs_f64() / 5.0).max(0.1);
        assert!((share(&setting) - expected).abs() < 0.005, "{expected}");
    }
}

/// Nor do passes count from before a request that was the probe and hung until its slot, the only one, was taken back.
#[test]
fn passes_before_a_probe_that_was_given_up_do_not_count() {
    let clock = ManualClock::new();
    let one = Limits::default().max_probes(1);
    let fleet = setup(10, &clock).ejection(exact()).limits(one);
    let fleet = fleet.build().unwrap();
    let checks = fleet.health_check(each_second()).unwrap();
    let mut setting = Setting {
        fleet,
        clock,
        checks,
    };
    setting.round(|_| SUCCESS);
    sequence(&setting.fleet, 1_000);
    fail(&setting.fleet, 0, 2);
    setting.drive_checks(MILLI * 3_500, |_| SUCCESS);
    drop(setting.checks);
    setting.clock.advance(SECOND * 4);
    let hung = probe_of(&setting.fleet);
    setting.clock.advance(SECOND * 10);
    sequence(&setting.fleet, 20);
    assert_eq!(state(&setting.fleet, 0), MemberState::Ejected);
    setting.checks = setting.fleet.health_check(each_second()).unwrap();
    let passing = pass_until_back(&mut setting);
    let expected = (passing.as_secs_f64() / 5.0).max(0.1);
    assert!((share(&setting) - expected).abs() < 0.005, "{expected}");
    drop(hung);
}

#[test]
fn a_failure_before_the_first_answer_does_not_set_the_latency() {
    let mut setting = known(exact());
    fail(&setting.fleet, 0, 2);
    pass_until_back(&mut setting);
    let before = explain(&setting).latency;
    let lease = setting.fleet.lease(&0).unwrap();
    lease.record_with_latency(Outcome::Timeout, SECOND * 30);
    assert_eq!(explain(&setting).latency, before);
}

/// Its next check waits for the end of a long ejection. A mark, like a request's probe, may bring the endpoint back
/// before that.
#[test]
fn an_endpoint_back_before_its_time_is_checked_by_the_interval_again() {
    let ejection = exact().base_ejection_time(SECOND * 120);
    let mut setting = with(10, ejection, each_second());
    setting.round(|_| SUCCESS);
    fail(&setting.fleet, 0, 2);
    assert!(setting.is_out(0));
    assert!(setting.drive_checks(SECOND * 3, |_| SUCCESS).is_empty());
    setting.fleet.mark(&0, Mark::Up);
    setting.fleet.mark(&0, Mark::Auto);
    assert!(!setting.is_out(0));
    assert_eq!(setting.drive_checks(SECOND * 3, |_| SUCCESS).len(), 3);
}

/// Requests eject it, which the driver learns when it looks at all members: otherwise the next check would come after
/// the interval.
#[test]
fn an_ejected_endpoint_is_checked_when_its_time_is_over_whatever_the_interval() {
    let mut setting = with(10, exact(), each_second().interval(SECOND * 60));
    setting.round(|_| SUCCESS);
    fail(&setting.fleet, 0, 2);
    assert!(setting.is_out(0));
    // Upkeep counts the suspects anew; an ejected endpoint is none.
    setting.fleet.maintain();
    let at = setting.drive_checks(SECOND * 3, |_| SUCCESS);
    assert_eq!(at.first(), Some(&(SECOND * 2)));
}

/// Checks failed while it was out. A mark brings it back, and then it takes as many missing answers as ever to eject
/// it: one used to do.
#[test]
fn one_lost_check_does_not_eject_an_endpoint_that_a_mark_has_brought_back() {
    let mut setting = known(exact());
    fail(&setting.fleet, 0, 2);
    let lost = |number| if number == 0 { TIMEOUT } else { SUCCESS };
    let checked = setting.drive_checks(SECOND * 3, lost);
    assert!(setting.is_out(0) && !checked.is_empty());
    setting.fleet.mark(&0, Mark::Up);
    setting.fleet.mark(&0, Mark::Auto);
    for still_in in [true, true, false] {
        while setting.drive_checks(MILLI, lost).is_empty() {}
        assert_eq!(setting.is_out(0), !still_in);
    }
}
