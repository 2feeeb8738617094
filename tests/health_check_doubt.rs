//! Promise: an endpoint that requests have made suspect is cleared or ejected by checks, without checking endlessly;
//! and an endpoint that requests have ejected has to pass for a while.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::{SUCCESS, Setting, TIMEOUT, each_second, passing, server_zero_answers, with};
use common::{MILLI, SECOND, exact, fail};
use evenkeel::{Detector, Ejection, Outcome};

/// Ticks when due, including at once, for `time`. Returns how many checks server 0 gets; each is answered at once.
fn checks(setting: &mut Setting, time: Duration, outcome: Outcome) -> usize {
    let (mut count, mut passed) = (0, Duration::ZERO);
    while passed < time {
        count += usize::from(setting.round(server_zero_answers(outcome)).contains(&0));
        let step = setting.checks.next_due().min(time - passed);
        setting.clock.advance(step);
        passed += step;
        assert!(count < 1000, "without end");
    }
    count
}

/// Ten servers pass their first check, with an interval of a second; then failed requests make server 0 suspect.
fn in_doubt(ejection: Ejection, failures: usize) -> Setting {
    let mut setting = with(10, ejection, each_second());
    setting.round(|_| SUCCESS);
    fail(&setting.fleet, 0, failures);
    setting
}

/// A failure weighs ln(0.3 / 0.001) = 5.70 where no other endpoint fails, and a success takes ln(0.999 / 0.7) = 0.356
/// off.
#[test]
fn one_failure_takes_sixteen_checks_to_clear_or_two_to_confirm() {
    let mut setting = in_doubt(exact(), 1);
    assert_eq!(checks(&mut setting, MILLI * 900, SUCCESS), 16);
    assert!(!setting.is_out(0));
    assert_eq!(checks(&mut setting, MILLI * 900, SUCCESS), 1, "cleared");
    // A timeout weighs three quarters of a failure: 5.70 and twice 4.28 are more than 11.
    let mut setting = in_doubt(exact(), 1);
    assert_eq!(checks(&mut setting, MILLI * 900, TIMEOUT), 2);
    assert!(setting.is_out(0));
}

/// An endpoint counts as one suspect, however many checks it fails. Counted for each failure, one of three would look
/// like all: two of three are the fleet.
#[test]
fn misses_of_one_of_three_are_no_common_fault() {
    let mut setting = with(3, exact().cusum_threshold(20.0), each_second());
    setting.round(|_| SUCCESS);
    // Enough requests for one failure to be a small share.
    for request in 0..300 {
        let lease = setting.fleet.lease(&(request % 3)).unwrap();
        lease.record(SUCCESS);
    }
    fail(&setting.fleet, 0, 1);
    setting.fleet.maintain();
    // One of 301 has failed: 4.50, and five times 3.38 are more than 20.
    assert_eq!(checks(&mut setting, MILLI * 900, TIMEOUT), 5);
    assert!(setting.is_out(0));
}

/// Misses of a suspect do not count for `unhealthy_threshold`, which is meant for checks an interval apart.
#[test]
fn misses_of_a_suspect_do_not_count_for_the_threshold() {
    let mut setting = in_doubt(exact().cusum_threshold(20.0), 1);
    let mut misses = 0;
    while !setting.is_out(0) {
        setting.clock.advance(MILLI * 20);
        misses += usize::from(setting.round(server_zero_answers(TIMEOUT)).contains(&0));
        assert!(misses <= 4);
    }
    assert_eq!(misses, 4, "5.70 and 4 of 4.28 are more than 20");
}

/// A suspect that cannot be ejected gets no extra checks: they would go on without end and change nothing.
#[test]
fn a_suspect_that_cannot_be_ejected_is_checked_by_the_interval() {
    for ejection in [
        exact().max_ejection_percent(0),
        exact().detect_only(Detector::Cusum),
        exact().cusum_threshold(0.0).score_threshold(0.0),
    ] {
        let mut setting = in_doubt(ejection, 3);
        assert_eq!(checks(&mut setting, MILLI * 2900, SUCCESS), 2);
    }
    // The same where most are suspect.
    let mut setting = in_doubt(exact(), 1);
    (1..6).for_each(|number| fail(&setting.fleet, number, 1));
    setting.fleet.maintain();
    assert_eq!(checks(&mut setting, MILLI * 2900, SUCCESS), 2);
}

/// Fifteen passes over the 2 s of the first ejection. After a miss they start again, an interval later.
#[test]
fn an_endpoint_ejected_by_requests_passes_for_as_long_as_it_was_out() {
    let mut setting = passing();
    fail(&setting.fleet, 0, 2);
    assert!(setting.is_out(0));
    let at = setting.drive_checks(MILLI * 3990, |_| SUCCESS);
    assert_eq!((at.len(), at[0]), (14, SECOND * 2));
    assert!(setting.is_out(0));
    assert_eq!(setting.drive_checks(MILLI * 50, |_| SUCCESS).len(), 1);
    assert!(!setting.is_out(0));

    let mut setting = passing();
    fail(&setting.fleet, 0, 2);
    setting.drive_checks(MILLI * 3800, |_| SUCCESS);
    while !setting.round(server_zero_answers(TIMEOUT)).contains(&0) {
        setting.clock.advance(MILLI * 10);
    }
    let at = setting.drive_checks(MILLI * 2990, |_| SUCCESS);
    assert!(setting.is_out(0) && at[0] == SECOND, "{at:?}");
    setting.drive_checks(MILLI * 50, |_| SUCCESS);
    assert!(!setting.is_out(0));
}

#[test]
fn a_request_that_was_answered_before_the_first_check_counts() {
    let mut setting = with(10, exact(), each_second().initial_jitter(SECOND));
    assert!(!setting.round(|_| SUCCESS).contains(&0));
    setting.fleet.lease(&0).unwrap().record(SUCCESS);
    while !setting.round(server_zero_answers(TIMEOUT)).contains(&0) {
        setting.clock.advance(MILLI * 10);
    }
    assert!(!setting.is_out(0), "the first result decided");
}
