//! Clocks that go back, and pauses of hours or weeks: what was noted before says nothing of what comes after.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{SECOND, bring_back, ejected, exact, fail, setup, shares};
use evenkeel::{Clock, Cluster, ManualClock, PickOptions, RoundRobin, Tick};

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
