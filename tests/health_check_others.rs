//! Promise: before checks take out one of several in doubt they look at others, and tell a fault of these from one of all.
#![allow(clippy::unwrap_used)]

mod common;

use common::checks::{SUCCESS, Setting, TIMEOUT, each_second, with};
use common::{MILLI, exact, fail};
use evenkeel::Outcome;

/// The first of so many checks a second each, then a request fails at each of these.
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

/// Whom checks go to while each brings the next, a millisecond later.
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

/// Of those that are well each is looked at once.
#[test]
fn five_that_die_together_are_out_for_two_failed_requests() {
    let mut setting = in_doubt(20, &[0, 1]);
    let dies = |server, _| if server < 5 { TIMEOUT } else { SUCCESS };
    let checked = at_once(&mut setting, dies);
    assert_eq!(out(&setting, 20), [0, 1, 2, 3, 4]);
    for server in 5..20 {
        let times = checked.iter().filter(|&&one| one == server).count();
        assert_eq!(times, 1, "{server} of {checked:?}");
    }
}

/// All fail each second check: two in doubt, whom two misses would take out, stay in as the others miss too.
#[test]
fn where_all_fail_checks_take_nobody_out() {
    let mut setting = in_doubt(20, &[0, 1]);
    let half = |server: usize, before: usize| match (server + before / 20) % 2 {
        0 => TIMEOUT,
        _ => SUCCESS,
    };
    at_once(&mut setting, half);
    assert_eq!(out(&setting, 20), []);
}

/// What failed before the look counts after it, so two misses are enough as ever; those of an endpoint whose
/// failure is its own bring no others under suspicion.
#[test]
fn who_is_alone_in_doubt_is_out_after_one_look_at_the_others() {
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

/// Where each third check of anybody fails, from one moment on: two in doubt that miss twice in a row would be out, were they not
/// held against the others.
#[test]
fn where_all_fail_a_third_two_misses_are_not_enough() {
    let mut setting = in_doubt(20, &[0, 1]);
    let third = |server: usize, before: usize| match before {
        // The two and every third of the others, once; then the two once more.
        0..40 if server < 2 || server % 3 == 0 => TIMEOUT,
        _ => SUCCESS,
    };
    at_once(&mut setting, third);
    assert_eq!(out(&setting, 20), []);
}

#[test]
fn of_many_no_more_than_32_are_looked_at() {
    let mut setting = in_doubt(1_000, &[0, 1]);
    let checked = at_once(
        &mut setting,
        |server, _| if server < 2 { TIMEOUT } else { SUCCESS },
    );
    assert_eq!(out(&setting, 1_000), [0, 1]);
    let others = checked.iter().filter(|&&server| server > 1).count();
    assert!((30..=32).contains(&others), "{others}");
}
