//! Promise: checks that fail nearly everywhere, while requests succeed, do not keep endpoints out for long.
#![allow(clippy::unwrap_used)]

mod common;

use common::checks::{SUCCESS, Setting, TIMEOUT, each_second, with};
use common::{MILLI, exact};
use evenkeel::{Cluster, Endpoint, Outcome};

/// Sends 500 requests a second for `seconds`. Checks end as `check` says and requests as `request` says. Returns how
/// many requests failed.
fn drive_traffic(
    setting: &mut Setting,
    seconds: u32,
    check: impl Fn(usize) -> Outcome,
    request: impl Fn(usize) -> Outcome,
) -> u32 {
    let mut failed = 0;
    for _ in 0..seconds * 500 {
        setting.round(&check);
        setting.clock.advance(MILLI * 2);
        let lease = setting.fleet.pick_endpoint().unwrap();
        let outcome = request(lease.endpoint().key());
        failed += u32::from(outcome != SUCCESS);
        lease.record(outcome);
    }
    failed
}

const fn all(outcome: Outcome) -> impl Fn(usize) -> Outcome {
    move |_| outcome
}

/// As after a release that moves the health page. Without the rule half of the endpoints were out for as long as it
/// lasted.
#[test]
fn a_page_that_is_gone_everywhere_takes_out_half_for_seconds_only() {
    for answer in [Outcome::Failure, TIMEOUT] {
        let mut setting = with(10, exact(), each_second());
        drive_traffic(&mut setting, 5, all(SUCCESS), all(SUCCESS));
        assert!(!setting.fleet.stats().checks_ignored);
        drive_traffic(&mut setting, 10, all(answer), all(SUCCESS));
        let stats = setting.fleet.stats();
        assert_eq!(
            (stats.ejected, stats.checks_ignored),
            (0, true),
            "{answer:?}"
        );
        // While checks are ignored, requests detect and probe.
        let dies = |number| {
            if number == 3 {
                Outcome::Unreachable
            } else {
                SUCCESS
            }
        };
        assert!(drive_traffic(&mut setting, 10, all(answer), dies) <= 12);
        assert!(setting.is_out(3));
        drive_traffic(&mut setting, 30, all(answer), all(SUCCESS));
        assert_eq!(setting.fleet.stats().ejected, 0);
        // The page is back, so checks are believed again.
        drive_traffic(&mut setting, 5, all(SUCCESS), all(SUCCESS));
        assert!(!setting.fleet.stats().checks_ignored);
        let one = |number| {
            if number == 7 {
                Outcome::Failure
            } else {
                SUCCESS
            }
        };
        assert!(
            drive_traffic(&mut setting, 5, one, one) <= 1,
            "found by a check"
        );
        assert!(setting.is_out(7));
    }
}

/// Six of ten are dead and five of them out: that checks fail at the sixth too is no reason to disbelieve them.
#[test]
fn checks_that_requests_confirm_are_believed() {
    let mut setting = with(10, exact(), each_second());
    drive_traffic(&mut setting, 5, all(SUCCESS), all(SUCCESS));
    let dead = |number| {
        if number < 6 {
            Outcome::Unreachable
        } else {
            SUCCESS
        }
    };
    for _ in 0..20 {
        drive_traffic(&mut setting, 1, dead, dead);
        assert!(!setting.fleet.stats().checks_ignored);
    }
    assert_eq!(setting.fleet.stats().ejected, 5);
}

/// Five are dead and out, and one more has a bad health page. It stays in as the cap is reached, and of the five that
/// are in four pass. Checks, which are still believed, bring dead endpoints back.
#[test]
fn one_bad_page_beside_half_the_fleet_dead_is_no_reason_to_disbelieve() {
    let mut setting = with(10, exact(), each_second());
    drive_traffic(&mut setting, 5, all(SUCCESS), all(SUCCESS));
    let dead = |number| match number {
        0..5 => Outcome::Unreachable,
        _ => SUCCESS,
    };
    let page = |number| match number {
        5 => Outcome::Failure,
        number => dead(number),
    };
    for _ in 0..20 {
        drive_traffic(&mut setting, 1, page, dead);
        assert!(!setting.fleet.stats().checks_ignored);
    }
    assert_eq!(setting.fleet.stats().ejected, 5);
}

/// Twenty servers get two requests a second, so few of them have been used recently. Without the rule half of them were
/// out again every few seconds.
#[test]
fn disbelief_lasts_where_requests_are_few() {
    let mut setting = with(20, exact(), each_second());
    drive_traffic(&mut setting, 5, all(SUCCESS), all(SUCCESS));
    let mut out = 0;
    for step in 0..60_000 {
        setting.round(all(Outcome::Failure));
        setting.clock.advance(MILLI * 2);
        if step % 250 == 0 {
            setting.fleet.pick_endpoint().unwrap().record(SUCCESS);
        }
        // After the first half minute.
        out += if step > 15_000 {
            setting.fleet.stats().ejected
        } else {
            0
        };
    }
    assert_eq!(out, 0);
}

/// While no more than half of all fail, each check is believed.
#[test]
fn half_the_fleet_failing_checks_is_believed() {
    let mut setting = with(10, exact(), each_second());
    drive_traffic(&mut setting, 5, all(SUCCESS), all(SUCCESS));
    let half = |number| {
        if number < 5 {
            Outcome::Failure
        } else {
            SUCCESS
        }
    };
    drive_traffic(&mut setting, 10, half, all(SUCCESS));
    let stats = setting.fleet.stats();
    assert_eq!((stats.ejected, stats.checks_ignored), (5, false));
}

/// Where all may be ejected, all are: a panic rule or a failover then decides what happens.
#[test]
fn without_a_cap_all_are_ejected() {
    let mut setting = with(10, exact().max_ejection_percent(100), each_second());
    drive_traffic(&mut setting, 5, all(SUCCESS), all(SUCCESS));
    drive_traffic(&mut setting, 10, all(Outcome::Failure), all(SUCCESS));
    let stats = setting.fleet.stats();
    assert_eq!((stats.ejected, stats.checks_ignored), (10, false));
}
