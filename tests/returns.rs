//! Promise 4: a recovered endpoint returns soon, whatever the traffic. The probes of one that has not recovered do not
//! take the requests of others. Each of these tests failed once.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;

use common::{
    GOOD_PROBES, MILLI, SECOND, Server, bring_back, ejected, exact, fail, number, setup, state,
};
use evenkeel::{Cluster, Fleet, Lease, ManualClock, MemberState, Outcome};

/// Sends ten good requests each tenth of a second until `done`, for at most five minutes. Returns the seconds that it
/// took.
fn traffic_until(fleet: &Fleet<Server>, clock: &ManualClock, done: impl Fn() -> bool) -> u64 {
    for tenth in 0..3_000 {
        if done() {
            return tenth / 10;
        }
        for _ in 0..10 {
            fleet.pick_endpoint().unwrap().record(Outcome::Success);
        }
        clock.advance(100 * MILLI);
    }
    300
}

/// The dead endpoint's ejection has expired at each pick of a caller that picks every minute and a half.
#[test]
fn a_quiet_client_does_not_send_everything_to_the_dead_one() {
    let clock = ManualClock::new();
    let fleet = setup(2, &clock).build().unwrap();
    fail(&fleet, 0, 5);
    let mut to_dead = 0;
    for _ in 0..1000 {
        clock.advance(90 * SECOND);
        let lease = fleet.pick_endpoint().unwrap();
        let dead = number(&lease) == 0;
        to_dead += u32::from(dead);
        lease.record(if dead {
            Outcome::Unreachable
        } else {
            Outcome::Success
        });
    }
    // One in eleven, rounded up.
    assert!((1..=91).contains(&to_dead), "{to_dead} of 1000");
}

/// 500 of 1000 endpoints are dead at ten requests a second. Their probes alone could be more than all requests.
#[test]
fn a_dead_half_takes_no_more_than_a_tenth_of_the_requests() {
    let clock = ManualClock::new();
    let fleet = setup(1000, &clock).build().unwrap();
    (0..500).for_each(|n| fail(&fleet, n, 5));
    let mut failed = 0;
    for _ in 0..20_000 {
        clock.advance(100 * MILLI);
        let lease = fleet.pick_endpoint().unwrap();
        let dead = number(&lease) < 500;
        failed += u32::from(dead);
        lease.record(if dead {
            Outcome::Unreachable
        } else {
            Outcome::Success
        });
    }
    assert!(failed <= 20_000 / 11 + 1, "{failed} of 20000");
}

#[test]
fn a_dead_half_that_recovers_is_back_at_once_as_good_probes_need_not_wait() {
    let clock = ManualClock::new();
    let fleet = setup(100, &clock).build().unwrap();
    (0..50).for_each(|n| fail(&fleet, n, 5));
    clock.advance(3 * SECOND);
    // A search looks at 64 members a pick, and starts anew behind each one that it finds.
    let most = 50 * GOOD_PROBES + 60;
    let picks = (0..=most).take_while(|_| {
        fleet.pick_endpoint().unwrap().record(Outcome::Success);
        !ejected(&fleet).is_empty()
    });
    let picks = picks.count();
    assert!(picks <= most, "{picks} picks for 50 returns");
}

#[test]
fn an_endpoint_with_neutral_probes_keeps_no_other_from_its_probes() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(exact()).build().unwrap();
    fail(&fleet, 0, 5);
    fail(&fleet, 1, 5);
    clock.advance(3 * SECOND);
    let mut to_busy = 0;
    for _ in 0..600 {
        clock.advance(100 * MILLI);
        let lease = fleet.pick_endpoint().unwrap();
        let busy = number(&lease) == 0;
        to_busy += u32::from(busy);
        lease.record(if busy {
            Outcome::overloaded(None)
        } else {
            Outcome::Success
        });
    }
    assert_eq!(state(&fleet, 1), MemberState::Ready);
    // A minute, with one probe each two seconds.
    assert!((1..=31).contains(&to_busy), "{to_busy} of 600");
}

/// All answers are good and take 12 s. A probe is given up after 10 s, the next after 20 s.
#[test]
fn an_endpoint_that_answers_later_than_the_probe_timeout_returns() {
    let clock = ManualClock::new();
    let fleet = setup(4, &clock).ejection(exact()).build().unwrap();
    fail(&fleet, 0, 5);
    let mut open: VecDeque<Lease<Server>> = VecDeque::new();
    for _ in 0..120 {
        clock.advance(SECOND);
        open.push_back(fleet.pick_endpoint().unwrap());
        if open.len() > 12 {
            open.pop_front().unwrap().record(Outcome::Success);
        }
    }
    assert_eq!(state(&fleet, 0), MemberState::Ready);
}

/// A pick looks at some of the members, and the next pick goes on from there without waiting.
#[test]
fn an_endpoint_of_many_is_probed_as_soon_as_its_time_is_up() {
    let clock = ManualClock::new();
    let fleet = setup(2_000, &clock).ejection(exact()).build().unwrap();
    fail(&fleet, 1_999, 5);
    clock.advance(SECOND * 2);
    assert!((0..100).any(|_| fleet.pick_endpoint().unwrap().is_probe()));
}

/// The search has reached 128 of 200 members when five before it are removed, so that 130 is behind it.
#[test]
fn a_removal_in_the_middle_of_a_search_hides_no_endpoint_for_long() {
    let clock = ManualClock::new();
    let fleet = setup(200, &clock).ejection(exact()).build().unwrap();
    fail(&fleet, 130, 5);
    clock.advance(3 * SECOND);
    (0..2).for_each(|_| fleet.pick_endpoint().unwrap().record(Outcome::Success));
    (0..5).for_each(|n| assert!(fleet.remove(&n)));
    let back = || ejected(&fleet).is_empty();
    let waited = traffic_until(&fleet, &clock, back);
    assert!(waited <= 2, "{waited} s");
}

/// Some of these times are beyond half of the range of the 32-bit time stamp in milliseconds, which is 24.9 days.
#[test]
fn an_endpoint_that_served_well_for_long_starts_from_the_base_time_again() {
    for days in [1, 24, 25, 30, 45] {
        let clock = ManualClock::new();
        let fleet = setup(2, &clock).ejection(exact()).build().unwrap();
        for doublings in 0..6 {
            fail(&fleet, 0, 5);
            clock.advance(SECOND * (2 << doublings));
            bring_back(&fleet);
        }
        clock.advance(SECOND * 86_400 * days);
        fail(&fleet, 0, 5);
        clock.advance(2 * SECOND);
        bring_back(&fleet);
        assert_eq!(ejected(&fleet), [], "after {days} days");
    }
}
