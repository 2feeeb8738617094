//! Clocks that go back, and pauses of hours or weeks: what was noted before says nothing of what comes after.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{MILLI, SECOND, Server, bring_back, ejected, exact, fail, number, setup, shares};
use evenkeel::{
    Clock, Cluster, Fleet, ManualClock, Outcome, PickOptions, RoundRobin, SlowStart, Tick,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// A clock that has been running for ten hours.
fn running() -> ManualClock {
    let clock = ManualClock::new();
    clock.advance(HOUR * 10);
    clock
}

fn set_back(clock: &ManualClock, by: Duration) {
    let now = clock.now().as_nanos() - u64::try_from(by.as_nanos()).unwrap();
    clock.set(Tick::from_nanos(now));
}

/// Requests 20 ms apart that all end well or all fail.
fn send(fleet: &Fleet<Server>, clock: &ManualClock, requests: usize, outcome: Outcome) {
    for _ in 0..requests {
        clock.advance(MILLI * 20);
        fleet.pick_endpoint().unwrap().record(outcome);
    }
}

#[test]
fn a_return_has_its_slow_start_after_a_clock_that_went_back() {
    for back in [Duration::ZERO, SECOND * 4, HOUR] {
        let clock = running();
        let builder = setup(4, &clock).policy(RoundRobin::new()).ejection(exact());
        let fleet = builder.build().unwrap();
        fail(&fleet, 0, 2);
        clock.advance(SECOND * 2);
        bring_back(&fleet);
        set_back(&clock, back);
        fleet.maintain();
        fail(&fleet, 0, 2);
        assert_eq!(ejected(&fleet), [0]);
        clock.advance(SECOND * 8);
        bring_back(&fleet);
        // At its start the slow start's share is a tenth of an equal one: 10 of 400.
        let first = shares(&fleet, &PickOptions::new(), 4, 1, 400)[0];
        assert!(first < 30, "back by {back:?}: {first} of 400");
    }
}

/// Three of four are dead and two may be out. Whatever the clock has done, the two are probed after a quarter of the
/// base ejection time, as their slots are wanted.
#[test]
fn room_under_the_cap_is_made_after_a_clock_that_went_back() {
    for back in [Duration::ZERO, HOUR] {
        let clock = running();
        let builder = setup(4, &clock).policy(RoundRobin::new()).ejection(exact());
        let builder = builder.slow_start(SlowStart::off());
        let fleet = builder.build().unwrap();
        let three_die = || {
            (0..3).for_each(|dead| fail(&fleet, dead, 20));
            assert_eq!(ejected(&fleet), [0, 1]);
            clock.advance(MILLI * 100);
            fleet.maintain();
        };
        three_die();
        set_back(&clock, back);
        clock.advance(SECOND * 100);
        send(&fleet, &clock, 200, Outcome::Success);
        assert_eq!(ejected(&fleet), []);
        clock.advance(SECOND * 200);
        three_die();
        clock.advance(MILLI * 600);
        let is_probed = (0..12).any(|_| fleet.pick_endpoint().unwrap().is_probe());
        assert!(is_probed, "back by {back:?}");
    }
}

/// All requests of an evening fail. In the morning one of four is dead.
#[test]
fn last_evenings_outage_protects_no_dead_endpoint() {
    let clock = running();
    let builder = setup(4, &clock).policy(RoundRobin::new()).ejection(exact());
    let fleet = builder.build().unwrap();
    send(&fleet, &clock, 3_000, Outcome::Success);
    send(&fleet, &clock, 500, Outcome::Failure);
    assert_eq!(ejected(&fleet), []);
    clock.advance(HOUR * 8);
    let mut failures = 0;
    while ejected(&fleet) != [0] {
        clock.advance(MILLI * 20);
        let lease = fleet.pick_endpoint().unwrap();
        let is_dead = number(&lease) == 0;
        failures += u32::from(is_dead);
        lease.record(match is_dead {
            true => Outcome::Failure,
            false => Outcome::Success,
        });
    }
    // Two, or three once these are a part of what is usual.
    assert!(failures <= 4, "{failures}");
}

#[test]
fn failures_weeks_apart_prove_nothing() {
    for days in [1, 20, 26, 40] {
        let clock = running();
        let fleet = setup(4, &clock).ejection(exact()).build().unwrap();
        send(&fleet, &clock, 100, Outcome::Success);
        fail(&fleet, 0, 1);
        clock.advance(HOUR * 24 * days);
        send(&fleet, &clock, 1, Outcome::Success);
        fail(&fleet, 0, 1);
        assert_eq!(ejected(&fleet), [], "{days} days");
    }
}

/// An endpoint gets a request a second, so evidence has a time constant of thirty seconds. A window of an hour is not
/// full for an hour: not in a new fleet, and not after a return.
#[test]
fn evidence_fades_by_the_pace_in_a_long_window_too() {
    for window in [SECOND * 10, HOUR] {
        let clock = ManualClock::new();
        let builder = setup(10, &clock).policy(RoundRobin::new());
        let fleet = builder.ejection(exact().window(window)).build().unwrap();
        let wait = |seconds| {
            for _ in 0..10 * seconds {
                clock.advance(MILLI * 100);
                let lease = fleet.pick_endpoint().unwrap();
                lease.record(Outcome::Success);
            }
        };
        let evidence = || {
            let why = fleet.member(&0).unwrap().explain();
            why.evidence.unwrap().value
        };
        // The part that is left of a failure's evidence after half a minute without another request to the endpoint.
        let left = || {
            fail(&fleet, 0, 1);
            let before = evidence();
            let avoid = [fleet.member(&0).unwrap().id()];
            for _ in 0..300 {
                clock.advance(MILLI * 100);
                let avoid = PickOptions::new().avoid(&avoid);
                let lease = fleet.pick_endpoint_with(&avoid).unwrap();
                lease.record(Outcome::Success);
            }
            evidence() / before
        };
        wait(100);
        let in_new_fleet = left();
        fail(&fleet, 0, 5);
        assert_eq!(ejected(&fleet), [0]);
        wait(200);
        assert_eq!(ejected(&fleet), []);
        let after_return = left();
        // 1 / e if it had got its request a second. As it gets none, its own pace falls within a window of ten seconds,
        // and evidence lasts longer.
        for left in [in_new_fleet, after_return] {
            assert!((0.35..0.8).contains(&left), "{window:?}: {left}");
        }
    }
}
