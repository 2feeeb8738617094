//! Promise: before checks eject a suspect they look at other endpoints, and so tell a fault of the suspects from one of
//! the whole fleet.
#![allow(clippy::unwrap_used)]

mod common;

use common::checks::{SUCCESS, Setting, TIMEOUT, each_second, with};
use common::{MILLI, exact, fail};
use evenkeel::Outcome;

/// All servers pass their first check, with an interval of a second; then a request fails at each of these.
fn in_doubt(count: usize, servers: &[usize]) -> Setting {
    let mut setting = with(count, exact(), each_second());
    while setting.checks.next_due().is_zero() {
        setting.round(|_| SUCCESS);
    }
    servers
        .iter()
        .for_each(|&server| fail(&setting.fleet, server, 1));
    setting.clock.advance(MILLI * 20);
    setting
}

/// The servers that are checked while one check leads to the next, a millisecond later.
fn at_once(setting: &mut Setting, outcome: impl Fn(usize, usize) -> Outcome) -> Vec<usize> {
    let mut checked = Vec::new();
    loop {
        let before = checked.len();
        let round = setting.round(|server| outcome(server, before));
        checked.extend(round);
        if checked.len() == before {
            return checked;
        }
        assert!(checked.len() < 1000, "without end");
        setting.clock.advance(MILLI);
    }
}

fn out(setting: &Setting, count: usize) -> Vec<usize> {
    (0..count)
        .filter(|&server| setting.is_out(server))
        .collect()
}

/// Each endpoint that is well is looked at once.
#[test]
fn five_endpoints_that_die_together_are_ejected_for_two_failed_requests() {
    let mut setting = in_doubt(20, &[0, 1]);
    let dies = |server, _| if server < 5 { TIMEOUT } else { SUCCESS };
    let checked = at_once(&mut setting, dies);
    assert_eq!(out(&setting, 20), [0, 1, 2, 3, 4]);
    for server in 5..20 {
        let times = checked.iter().filter(|&&one| one == server).count();
        assert_eq!(times, 1, "{server} of {checked:?}");
    }
}

/// Each endpoint fails every second check. Two suspects, which two misses would eject, stay in as the others fail too.
#[test]
fn where_all_fail_checks_eject_no_endpoint() {
    let mut setting = in_doubt(20, &[0, 1]);
    let half = |server: usize, before: usize| match (server + before / 20) % 2 {
        0 => TIMEOUT,
        _ => SUCCESS,
    };
    at_once(&mut setting, half);
    assert_eq!(out(&setting, 20), []);
}

/// A miss from before the round counts after it, so two misses suffice. A suspect whose failure is its own brings no
/// others under suspicion.
#[test]
fn a_single_suspect_is_ejected_after_one_round_of_others() {
    let mut setting = in_doubt(20, &[3]);
    let mut checked = at_once(
        &mut setting,
        |server, _| {
            if server == 3 { TIMEOUT } else { SUCCESS }
        },
    );
    assert_eq!(out(&setting, 20), [3]);
    checked.sort_unstable();
    let expected: Vec<usize> = (0..20).chain([3]).collect();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(checked, expected);
}

/// A third of the checks of all fail, from one moment on. Two suspects that miss twice in a row would be ejected if
/// they were not held against the others.
#[test]
fn where_all_fail_a_third_two_misses_are_not_enough() {
    let mut setting = in_doubt(20, &[0, 1]);
    let third = |server: usize, before: usize| match before {
        // Once each: the two suspects and every third of the others. Then the two once more.
        0..40 if server < 2 || server % 3 == 0 => TIMEOUT,
        _ => SUCCESS,
    };
    at_once(&mut setting, third);
    assert_eq!(out(&setting, 20), []);
}

#[test]
fn a_round_checks_no_more_than_32_of_many() {
    let mut setting = in_doubt(1_000, &[0, 1]);
    let checked = at_once(
        &mut setting,
        |server, _| if server < 2 { TIMEOUT } else { SUCCESS },
    );
    assert_eq!(out(&setting, 1_000), [0, 1]);
    let others = checked.iter().filter(|&&server| server > 1).count();
    assert!((30..=32).contains(&others), "{others}");
}
