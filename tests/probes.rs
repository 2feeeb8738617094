//! Promise: an ejected endpoint stays out for its ejection time and comes back by good probes. Late results decide
//! nothing.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    MILLI, SECOND, Server, assert_no_probe, bring_back, ejected, exact, fail, five_in_a_row,
    number, one_out, one_out_by, probe, sequence, setup, state,
};
use evenkeel::{Cluster, Endpoint, Lease, ManualClock, MemberState, Outcome, PickOptions};

#[test]
fn each_ejection_in_a_row_lasts_twice_as_long_up_to_the_maximum() {
    let (fleet, clock) = one_out();
    for seconds in [2, 4, 8, 16, 32, 64, 64, 64] {
        clock.advance(SECOND * seconds - MILLI);
        assert_no_probe(&fleet);
        clock.advance(MILLI);
        probe(&fleet).record(Outcome::Failure);
    }
    assert_eq!(fleet.stats().ejections, 1, "renewed ones are not counted");
}

#[test]
fn an_endpoint_failing_after_its_return_is_out_twice_as_long_until_forgiven() {
    let (fleet, clock) = one_out();
    clock.advance(SECOND * 2);
    bring_back(&fleet);
    fail(&fleet, 0, 5);
    clock.advance(SECOND * 4 - MILLI);
    assert_no_probe(&fleet);
    clock.advance(MILLI);
    bring_back(&fleet);
    // It stays in for 30 s, so one of its two ejections is forgotten: the next counts as the second again.
    clock.advance(SECOND * 30);
    fail(&fleet, 0, 5);
    clock.advance(SECOND * 4 - MILLI);
    assert_no_probe(&fleet);
    clock.advance(MILLI);
    bring_back(&fleet);
    // It stays in for twice that, so the count starts afresh.
    clock.advance(SECOND * 60);
    fail(&fleet, 0, 5);
    clock.advance(SECOND * 2 - MILLI);
    assert_no_probe(&fleet);
    clock.advance(MILLI);
    bring_back(&fleet);
}

#[test]
fn at_expiry_one_of_sixty_four_picks_is_the_probe() {
    let (fleet, clock) = one_out();
    clock.advance(SECOND * 2);
    let leases: Vec<_> = (0..64).map(|_| fleet.pick_endpoint().unwrap()).collect();
    let to_zero: Vec<_> = leases.iter().filter(|lease| number(lease) == 0).collect();
    assert_eq!(to_zero.len(), 1);
    assert!(to_zero[0].is_probe());
    assert_eq!(leases.iter().filter(|lease| lease.is_probe()).count(), 1);
    assert_eq!(state(&fleet, 0), MemberState::Probing);
}

#[test]
fn at_expiry_one_pick_of_two_racing_threads_is_the_probe() {
    for _ in 0..50 {
        let (fleet, clock) = one_out();
        clock.advance(SECOND * 2);
        let start = std::sync::Barrier::new(2);
        let pick = || {
            start.wait();
            let leases = (0..8).map(|_| fleet.pick_endpoint().unwrap());
            leases.collect::<Vec<_>>()
        };
        let (mut leases, others) = std::thread::scope(|scope| {
            let threads = (scope.spawn(pick), scope.spawn(pick));
            (threads.0.join().unwrap(), threads.1.join().unwrap())
        });
        leases.extend(others);
        assert_eq!(leases.iter().filter(|lease| lease.is_probe()).count(), 1);
        assert_eq!(leases.iter().filter(|lease| number(lease) == 0).count(), 1);
    }
}

#[test]
fn good_probes_in_a_row_bring_an_endpoint_back() {
    let (fleet, clock) = one_out();
    clock.advance(SECOND * 2);
    bring_back(&fleet);
    assert_eq!(fleet.stats().ejected, 0);
    assert!(sequence(&fleet, 2000).contains(&0));
    // No earlier failure is held against it.
    fail(&fleet, 0, 1);
    assert_eq!(state(&fleet, 0), MemberState::Ready);
    fail(&fleet, 0, 1);
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
}

#[test]
fn one_good_probe_brings_an_endpoint_back_where_one_is_enough() {
    let (fleet, clock) = one_out_by(five_in_a_row());
    clock.advance(SECOND * 2);
    probe(&fleet).record(Outcome::Success);
    assert_eq!(fleet.stats().ejected, 0);
    assert_eq!(state(&fleet, 0), MemberState::Ready);
    // All of 2 000 picks among ten miss server 0 with odds of 0.9^2000, 10^-91.
    assert!(sequence(&fleet, 2000).contains(&0));
    // No earlier failure is held against it.
    fail(&fleet, 0, 4);
    assert_eq!(state(&fleet, 0), MemberState::Ready);
}

#[test]
fn a_bad_probe_ejects_for_twice_as_long() {
    for fault in [Outcome::Failure, Outcome::Timeout, Outcome::Unreachable] {
        let (fleet, clock) = one_out();
        clock.advance(SECOND * 2);
        probe(&fleet).record(fault);
        assert_eq!(ejected(&fleet), [0]);
        clock.advance(SECOND * 4 - MILLI);
        assert_no_probe(&fleet);
        clock.advance(MILLI);
        drop(probe(&fleet));
    }
}

/// A failed probe proves little where half of all requests fail: another probe follows at once, and the ejection does
/// not get longer.
#[test]
fn where_half_of_all_fail_a_failed_probe_does_not_renew_the_ejection() {
    let clock = ManualClock::new();
    let builder = setup(10, &clock).ejection(five_in_a_row().healthy_threshold(5));
    let fleet = builder.build().unwrap();
    fail(&fleet, 0, 5);
    for request in 0..2_000 {
        clock.advance(MILLI);
        let lease = fleet.lease(&(1 + request % 9)).unwrap();
        let fails = request / 9 % 2 == 0;
        lease.record(if fails {
            Outcome::Failure
        } else {
            Outcome::Success
        });
    }
    fleet.maintain();
    probe(&fleet).record(Outcome::Failure);
    probe(&fleet).record(Outcome::Failure);
    assert_eq!(fleet.member(&0).unwrap().explain().times, 1);
}

/// A probe without a verdict leaves the endpoint ejected for the base time. If the next probe were sent at once, an
/// endpoint whose answers never give a verdict would get every request of a caller that sends one at a time.
#[test]
fn a_probe_that_says_nothing_is_followed_by_another_after_the_base_time() {
    let silent: [fn(Lease<Server>); 4] = [
        drop,
        |lease| lease.record(Outcome::Ignored),
        |lease| lease.record(Outcome::overloaded(None)),
        |lease| drop(lease.track(std::future::pending::<()>(), |()| Outcome::Success)),
    ];
    let (fleet, clock) = one_out();
    clock.advance(SECOND * 2);
    for end in silent {
        end(probe(&fleet));
        assert_eq!(state(&fleet, 0), MemberState::Ejected);
        clock.advance(SECOND * 2 - MILLI);
        assert_no_probe(&fleet);
        clock.advance(MILLI);
    }
    bring_back(&fleet);
    assert_eq!(state(&fleet, 0), MemberState::Ready);
}

#[test]
fn a_probe_told_when_to_come_again_comes_then_or_after_the_longest_ejection() {
    for (asked, waited) in [(1, 2), (30, 30), (86_400, 64)] {
        let (fleet, clock) = one_out();
        clock.advance(SECOND * 2);
        probe(&fleet).record(Outcome::overloaded(Some(SECOND * asked)));
        clock.advance(SECOND * waited - MILLI);
        assert_no_probe(&fleet);
        clock.advance(MILLI);
        drop(probe(&fleet));
    }
}

#[test]
fn a_probe_dropped_after_the_patience_counts_as_a_bad_one() {
    let (fleet, clock) = one_out();
    clock.advance(SECOND * 2);
    let lease = probe(&fleet);
    clock.advance(SECOND + MILLI);
    drop(lease);
    clock.advance(SECOND * 4 - MILLI);
    assert_no_probe(&fleet);
    clock.advance(MILLI);
    drop(probe(&fleet));
}

#[test]
fn a_forgotten_probe_is_given_up_after_its_time() {
    let (fleet, clock) = one_out();
    clock.advance(SECOND * 2);
    std::mem::forget(probe(&fleet));
    clock.advance(SECOND * 10 - MILLI);
    assert_no_probe(&fleet);
    clock.advance(MILLI);
    bring_back(&fleet);
    assert_eq!(state(&fleet, 0), MemberState::Ready);
}

#[test]
fn a_probe_that_was_given_up_decides_nothing_when_it_ends() {
    for outcome in [Outcome::Success, Outcome::Failure] {
        // One good probe is enough here, so that a lost probe which counted would show.
        let (fleet, clock) = one_out_by(exact().healthy_threshold(1));
        clock.advance(SECOND * 2);
        let lost = probe(&fleet);
        clock.advance(SECOND * 10);
        let second = probe(&fleet);
        lost.record(outcome);
        assert_eq!(state(&fleet, 0), MemberState::Probing, "{outcome:?}");
        second.record(Outcome::Success);
        assert_eq!(state(&fleet, 0), MemberState::Ready);
    }
}

#[test]
fn late_results_neither_bring_back_nor_eject_again() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(exact()).build().unwrap();
    let mut early: Vec<_> = (0..40).map(|_| fleet.lease(&0).unwrap()).collect();
    fail(&fleet, 0, 5);
    for lease in early.drain(..20) {
        lease.record(Outcome::Success);
    }
    assert_eq!(ejected(&fleet), [0], "late successes brought it back");
    clock.advance(SECOND * 2);
    bring_back(&fleet);
    // It is in slow start, where one current failure would be enough to eject it.
    for lease in early {
        lease.record(Outcome::Failure);
    }
    fleet.maintain();
    assert_eq!(
        state(&fleet, 0),
        MemberState::Warming,
        "ejected by late news"
    );
    assert_eq!(fleet.stats().ejections, 1);
}

#[test]
fn a_retry_never_becomes_a_probe() {
    let (fleet, clock) = one_out();
    let members = fleet.members();
    let failed = members.iter().find(|m| m.endpoint().key() == 1).unwrap();
    let tried = [failed.id()];
    clock.advance(SECOND * 2);
    for _ in 0..64 {
        let options = PickOptions::new().avoid(&tried);
        let lease = fleet.pick_endpoint_with(&options).unwrap();
        assert!(!lease.is_probe() && number(&lease) > 1, "{lease:?}");
    }
    drop(probe(&fleet));
}
