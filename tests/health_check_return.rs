//! Promise: whom checks bring back is as far on as they have shown, no further, and not held to what it was.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::{SUCCESS, Setting, each_second, with};
use common::{MILLI, SECOND, ejected, exact, fail, sequence, state};
use evenkeel::{Ejection, Explanation, MemberState, Outcome};

fn explain(setting: &Setting) -> Explanation {
    setting.fleet.member(&0).unwrap().explain()
}

/// Passes until server 0 is back, and for how long they have.
fn pass_until_back(setting: &mut Setting) -> Duration {
    let mut passing = Duration::ZERO;
    while state(&setting.fleet, 0) != MemberState::Warming {
        if !setting.go_on(MILLI, |_| SUCCESS).is_empty() || !passing.is_zero() {
            passing += MILLI;
        }
    }
    passing
}

fn share(setting: &Setting) -> f64 {
    explain(setting).slow_start_share.unwrap()
}

/// Ten servers that know one another's latency, and have passed their first check, if they are checked.
fn known(ejection: Ejection) -> Setting {
    let mut setting = with(10, ejection, each_second());
    setting.round(|_| SUCCESS);
    sequence(&setting.fleet, 1_000);
    setting.fleet.maintain();
    setting
}

#[test]
fn what_the_passes_took_counts_and_no_more() {
    let mut setting = known(exact());
    fail(&setting.fleet, 0, 2);
    let passing = pass_until_back(&mut setting);
    assert!(passing >= SECOND * 2, "{passing:?}");
    // 2 s of 5 s, of which the last pass's tick may be some milliseconds.
    assert!((share(&setting) - 0.4).abs() < 0.005, "{}", share(&setting));
    // In since its return, all the same.
    assert!(explain(&setting).since.unwrap() < MILLI * 10);
    assert_eq!(
        explain(&setting).until.unwrap().as_millis().div_ceil(100),
        30
    );
}

/// Five good probes are wanted of one that was sent out when nobody checked: 0.6 s of checks, a little more than the
/// least share.
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
    setting.go_on(MILLI * 3_500, |_| SUCCESS);
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

/// Passes of 30 s are half of a slow start of 5 s; and none of the time that decides how soon an ejection is forgotten.
#[test]
fn passes_do_not_count_for_all_of_it_nor_for_its_record() {
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

/// The requests that hung with it end long after: of the endpoint as it is they tell nothing.
#[test]
fn what_was_asked_before_says_nothing_of_how_quick_it_is_after() {
    let mut setting = known(exact());
    let hung: Vec<_> = (0..4).map(|_| setting.fleet.lease(&0).unwrap()).collect();
    for _ in 0..2 {
        let lease = setting.fleet.lease(&0).unwrap();
        lease.record_with_latency(Outcome::Failure, SECOND);
    }
    assert!(explain(&setting).latency > Some(MILLI * 2));
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
    // One of many, from here on.
    hung.next()
        .unwrap()
        .record_with_latency(Outcome::Timeout, SECOND * 30);
    assert!(micros(&setting) > after);
}
