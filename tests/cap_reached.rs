//! Promise: where the ejection cap is reached, an ejected endpoint that has recovered does not keep its slot from
//! another that dies.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{MILLI, SECOND, setup};
use evenkeel::{Cluster, Endpoint, Fleet, HealthCheckSettings, ManualClock, Outcome};

/// Sends 200 requests a second for this many seconds, while the `dead` servers refuse them. Returns how many were
/// refused in each second.
fn run(
    fleet: &Fleet<common::Server>,
    clock: &ManualClock,
    seconds: usize,
    dead: impl Fn(&usize) -> bool,
) -> Vec<u32> {
    let second = |_| {
        let mut refused = 0;
        for _ in 0..200 {
            clock.advance(SECOND / 200);
            let lease = fleet.pick_endpoint().unwrap();
            if dead(&lease.endpoint().key()) {
                refused += 1;
                lease.record_with_latency(Outcome::Unreachable, MILLI / 4);
            } else {
                lease.record_with_latency(Outcome::Success, 10 * MILLI);
            }
        }
        refused
    };
    (0..seconds).map(second).collect()
}

/// Half of the servers die and recover, and some seconds later the other half dies. Without early probes all requests
/// fail until the next probe is due, some 20 s. After an outage of 20 s that probe is far off; after 30 s it is near.
#[test]
fn recovered_endpoints_make_room_under_the_cap() {
    for servers in [2, 4, 10] {
        for (dead_for, well_for) in [(20, 1), (30, 1), (30, 10)] {
            let clock = ManualClock::new();
            let fleet = setup(servers, &clock).build().unwrap();
            run(&fleet, &clock, 5, |_| false);
            run(&fleet, &clock, dead_for, |server| server % 2 == 0);
            run(&fleet, &clock, well_for, |_| false);
            let refused = run(&fleet, &clock, 20, |server| server % 2 == 1);
            let later: u32 = refused[4..].iter().sum();
            assert!(
                later < 100,
                "{servers} servers, {dead_for} s, {well_for} s: {refused:?}"
            );
        }
    }
}

/// Passes of checks that bring an endpoint back are spread over two seconds, and over half a second where its slot is
/// wanted.
#[test]
fn checks_make_room_too() {
    let clock = ManualClock::new();
    let fleet = setup(2, &clock).build().unwrap();
    let mut checks = fleet.health_check(HealthCheckSettings::default()).unwrap();
    // Sends 200 requests a second and the checks that are due. Returns how many requests were refused.
    let mut run = |seconds: u32, dead: Option<usize>| {
        let mut refused = 0;
        for _ in 0..seconds * 200 {
            clock.advance(SECOND / 200);
            let end = |number| match Some(number) == dead {
                true => Outcome::Unreachable,
                false => Outcome::Success,
            };
            for probe in checks.tick() {
                let outcome = end(probe.member().endpoint().key());
                probe.finish(outcome);
            }
            let lease = fleet.pick_endpoint().unwrap();
            let outcome = end(lease.endpoint().key());
            refused += u32::from(outcome == Outcome::Unreachable);
            lease.record_with_latency(outcome, MILLI);
        }
        refused
    };
    run(10, None);
    run(30, Some(0));
    // All are well for a moment, too short for server 0 to return.
    let refused = run(1, None) + run(20, Some(1));
    assert!(refused < 200, "{refused}");
}

/// Where more endpoints are dead than may be ejected, early probes become rarer, since each is a request that fails.
/// One of three is ejected here; the other dead one is avoided for its errors.
#[test]
fn the_dead_are_tried_less_and_less() {
    let clock = ManualClock::new();
    let fleet = setup(3, &clock).build().unwrap();
    run(&fleet, &clock, 5, |_| false);
    let dead = |server: &usize| *server < 2;
    let refused = run(&fleet, &clock, 120, dead);
    let overflows = fleet.stats().ejections_overflow;
    assert!(overflows > 0, "the cap is reached");
    let mut tries = 0;
    for _ in 0..60 * 200 {
        clock.advance(Duration::from_millis(5));
        let lease = fleet.pick_endpoint().unwrap();
        tries += u32::from(lease.is_probe());
        let outcome = if dead(&lease.endpoint().key()) {
            Outcome::Unreachable
        } else {
            Outcome::Success
        };
        lease.record_with_latency(outcome, MILLI);
    }
    assert!(tries <= 6, "{tries} in a minute; {refused:?}");
}
