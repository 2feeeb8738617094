//! Promise: active checks eject endpoints and bring them back by their thresholds, within the one ejection cap.
#![allow(clippy::unwrap_used)]

mod common;

use common::checks::{SUCCESS, TIMEOUT, each_second, passing, server_zero_answers, with};
use common::{MILLI, SECOND, ejected, exact, fail, sequence, state};
use evenkeel::{Cluster, Mark, MemberState, Outcome};

#[test]
fn the_first_result_of_an_endpoint_of_which_nothing_is_known_decides() {
    let mut setting = with(10, exact(), each_second());
    setting.round(server_zero_answers(TIMEOUT));
    assert_eq!(ejected(&setting.fleet), [0]);
    // An endpoint that has answered a request is known to be good, so the threshold counts.
    let mut setting = with(2, exact(), each_second());
    for number in [0, 1] {
        let lease = setting.fleet.lease(&number).unwrap();
        lease.record_with_latency(SUCCESS, MILLI);
    }
    setting.round(server_zero_answers(TIMEOUT));
    assert_eq!(ejected(&setting.fleet), []);
}

#[test]
fn the_third_check_in_a_row_without_an_answer_takes_out_after_the_edge_interval() {
    let mut setting = passing();
    setting.clock.advance(SECOND);
    for _ in 0..2 {
        assert!(setting.round(server_zero_answers(TIMEOUT)).contains(&0));
        assert!(!setting.is_out(0));
        setting.clock.advance(MILLI * 100);
    }
    assert_eq!(
        setting.round(server_zero_answers(Outcome::Unreachable)),
        [0]
    );
    assert_eq!(ejected(&setting.fleet), [0]);
    assert!(!sequence(&setting.fleet, 500).contains(&0), "picked");
}

#[test]
fn a_bad_answer_takes_out_at_once() {
    let mut setting = passing();
    setting.clock.advance(SECOND);
    setting.round(server_zero_answers(Outcome::Failure));
    assert_eq!(ejected(&setting.fleet), [0]);
}

#[test]
fn what_says_nothing_decides_nothing_and_another_comes_after_the_interval() {
    let mut setting = passing();
    let silent = [
        Outcome::Ignored,
        Outcome::Abandoned,
        Outcome::overloaded(None),
    ];
    for outcome in silent.iter().cycle().take(12) {
        setting.clock.advance(SECOND);
        assert!(setting.round(server_zero_answers(*outcome)).contains(&0));
    }
    assert_eq!(ejected(&setting.fleet), []);
    // A check dropped without a result counts the same.
    setting.clock.advance(SECOND);
    drop(setting.checks.tick());
    setting.clock.advance(MILLI * 999);
    assert_eq!(setting.round(server_zero_answers(SUCCESS)), []);
    setting.clock.advance(MILLI);
    assert_eq!(setting.round(server_zero_answers(SUCCESS)).len(), 10);
    // An overloaded endpoint is not checked again before its `retry_after`.
    setting.clock.advance(SECOND);
    setting.round(server_zero_answers(Outcome::overloaded(Some(MILLI * 1500))));
    setting.clock.advance(SECOND);
    assert!(!setting.round(|_| SUCCESS).contains(&0));
    setting.clock.advance(MILLI * 500);
    assert!(setting.round(|_| SUCCESS).contains(&0));
}

/// A due time further ahead than any can be is taken for one of a clock that has gone back, which would make the check
/// due at once. So the wait is limited to twice the longest interval.
#[test]
fn an_endpoint_that_asks_for_a_day_is_asked_after_twice_the_longest_interval() {
    let mut setting = passing();
    let tomorrow = Outcome::overloaded(Some(SECOND * 86_400));
    let at = setting.drive_checks(SECOND * 10, server_zero_answers(tomorrow));
    assert_eq!(at, [1, 3, 5, 7, 9].map(|second| SECOND * second));
}

#[test]
fn an_endpoint_returns_after_its_time_and_two_passes_in_a_row() {
    let mut setting = passing();
    setting.clock.advance(SECOND);
    setting.round(server_zero_answers(Outcome::Failure));
    // The ejection lasts 2 s, without a check. Then it takes two checks, 300 ms apart.
    let at = setting.drive_checks(MILLI * 2299, |_| SUCCESS);
    assert_eq!(at, [SECOND * 2]);
    assert_eq!(state(&setting.fleet, 0), MemberState::Ejected);
    assert_eq!(setting.drive_checks(MILLI, |_| SUCCESS), [MILLI]);
    assert_eq!(state(&setting.fleet, 0), MemberState::Warming);
    assert!(sequence(&setting.fleet, 2000).contains(&0));
    assert_eq!(setting.fleet.stats().ejections, 1);
}

#[test]
fn a_failed_check_between_starts_the_count_again() {
    let mut setting = passing();
    setting.clock.advance(SECOND);
    setting.round(server_zero_answers(Outcome::Failure));
    setting.clock.advance(SECOND * 2);
    for (outcome, wait) in [
        (SUCCESS, 300),
        (TIMEOUT, 1000),
        (SUCCESS, 300),
        (SUCCESS, 0),
    ] {
        assert!(setting.is_out(0));
        assert!(setting.round(server_zero_answers(outcome)).contains(&0));
        setting.clock.advance(MILLI * wait);
    }
    assert!(!setting.is_out(0));
}

/// Each failed check renews the ejection by one interval; the time does not double.
#[test]
fn an_endpoint_stays_out_for_as_long_as_its_checks_fail() {
    let mut setting = passing();
    let at = setting.drive_checks(SECOND * 60, server_zero_answers(Outcome::Failure));
    // At 0 s nothing is due; at 1 s the check fails and ejects until 3 s; then one check each second.
    let mut expected = vec![SECOND];
    expected.extend((3..=60).map(|second| SECOND * second));
    assert_eq!(at, expected);
    assert_eq!(ejected(&setting.fleet), [0]);
    let stats = setting.fleet.stats();
    assert_eq!((stats.ejections, stats.ejections_overflow), (1, 0));
}

#[test]
fn an_endpoint_that_flaps_is_out_for_longer_each_time() {
    let mut setting = passing();
    for seconds in [2, 4, 8, 16] {
        setting.clock.advance(SECOND);
        setting.round(server_zero_answers(Outcome::Failure));
        let out = SECOND * seconds + MILLI * 300;
        setting.drive_checks(out - MILLI, |_| SUCCESS);
        assert!(setting.is_out(0), "not for {seconds} s");
        setting.drive_checks(MILLI, |_| SUCCESS);
        assert!(!setting.is_out(0), "for more than {seconds} s");
    }
}

#[test]
fn checks_never_eject_more_than_the_cap_allows() {
    let mut setting = with(10, exact().max_ejection_percent(30), each_second());
    let limit = setting.fleet.stats().ejection_limit;
    assert_eq!(limit, 3);
    for _ in 0..100 {
        for probe in setting.checks.tick() {
            probe.finish(Outcome::Failure);
            assert!(ejected(&setting.fleet).len() <= limit);
            assert_eq!(setting.fleet.stats().ejected, ejected(&setting.fleet).len());
        }
        // Requests eject within the same cap.
        fail(&setting.fleet, 9, 5);
        assert!(ejected(&setting.fleet).len() <= limit);
        setting.clock.advance(MILLI * 100);
    }
    assert_eq!(ejected(&setting.fleet).len(), limit);
    // A slot that is given back is taken by the next endpoint that fails its check.
    let first = ejected(&setting.fleet)[0];
    assert!(setting.fleet.remove(&first));
    setting.drive_checks(SECOND * 2, |_| Outcome::Failure);
    assert_eq!(
        ejected(&setting.fleet).len(),
        setting.fleet.stats().ejection_limit
    );
}

#[test]
fn an_endpoint_ejected_by_requests_is_checked_at_the_end_of_its_ejection() {
    let mut setting = with(10, exact(), each_second().interval(SECOND * 30));
    setting.round(|_| SUCCESS);
    fail(&setting.fleet, 0, 5);
    // Three times the five passes that requests would need, spread over the base ejection time, 2 s.
    let at = setting.drive_checks(MILLI * 4100, |_| SUCCESS);
    assert_eq!(at[0], SECOND * 2);
    let last = at[14];
    assert!((MILLI * 3990..=MILLI * 4050).contains(&last), "{at:?}");
    assert!(at.windows(2).all(|two| two[1] - two[0] >= MILLI * 142));
    assert_eq!(at.len(), 15);
    assert!(!setting.is_out(0));
}

/// However long its interval is, the wait is no longer than twice the longest probe timeout or ejection that is set: 2
/// · 10 s here.
#[test]
fn an_ejected_endpoint_is_checked_no_later_than_its_ejection_can_last() {
    let seldom = each_second().interval(SECOND * 100);
    let rare = seldom.unhealthy_interval(SECOND * 100);
    let short = exact().max_ejection_time(SECOND * 4);
    let mut setting = with(10, short, rare);
    setting.round(|_| SUCCESS);
    fail(&setting.fleet, 0, 5);
    let at = setting.drive_checks(SECOND * 50, server_zero_answers(TIMEOUT));
    assert_eq!(at, [2, 22, 42].map(|second| SECOND * second));
}

/// Envoy's case 112, and a departure from it: in Envoy a passing check ends an ejection at once. A health page that
/// does not exercise what fails would then undo each ejection within an interval.
#[test]
fn envoy_case_112_a_pass_during_an_ejection_does_not_end_it() {
    let mut setting = passing();
    setting.clock.advance(SECOND);
    let probes = setting.checks.tick();
    fail(&setting.fleet, 0, 5);
    probes.into_iter().for_each(|probe| probe.finish(SUCCESS));
    assert!(setting.is_out(0));
    // Nor do any passes before the ejection's time is over.
    setting.drive_checks(MILLI * 1999, |_| SUCCESS);
    assert!(setting.is_out(0));
    setting.drive_checks(MILLI * 2101, |_| SUCCESS);
    assert!(!setting.is_out(0));
}

#[test]
fn a_mark_outranks_checks_and_gives_way_to_them_again() {
    let mut setting = passing();
    assert!(setting.fleet.mark(&0, Mark::Up));
    setting.drive_checks(SECOND * 5, server_zero_answers(Outcome::Failure));
    assert_eq!(state(&setting.fleet, 0), MemberState::Up);
    assert!(setting.fleet.mark(&0, Mark::Auto));
    setting.drive_checks(SECOND, server_zero_answers(Outcome::Failure));
    assert_eq!(state(&setting.fleet, 0), MemberState::Ejected);
}

#[test]
fn a_panic_rule_that_lets_all_take_requests_does_not_stop_checks() {
    let mut setting = with(4, exact().max_ejection_percent(100), each_second());
    setting.round(|_| Outcome::Failure);
    assert!(setting.fleet.stats().panicking);
    assert!(setting.fleet.pick_endpoint().is_ok());
    setting.drive_checks(SECOND * 3, |_| SUCCESS);
    assert_eq!(ejected(&setting.fleet), []);
}
