//! Promise: a cluster under a `Failover` that was out altogether comes back by itself, by probing requests or by
//! checks.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::each_second;
use common::zones::{failover, shares, two, zone, zone_ejection, zone_of};
use common::{MILLI, SECOND, Server, ejected};
use evenkeel::{Cluster, Endpoint, Failover, ManualClock, Mark, Outcome, PickOptions};

/// Sends a request each millisecond for `time`. Returns when each zone had its first request that was not a probe, and
/// the number of errors.
fn flow(
    cluster: &impl Cluster<Endpoint = Server>,
    clock: &ManualClock,
    time: Duration,
    is_well: impl Fn(usize) -> bool,
) -> ([Option<Duration>; 2], usize) {
    let mut first = [None; 2];
    let mut errors = 0;
    for passed in 0..time.as_millis() as u64 {
        let lease = cluster.pick_endpoint().unwrap();
        let (zone, number) = (zone_of(&lease), lease.endpoint().key());
        if !lease.is_probe() {
            first[zone].get_or_insert_with(|| Duration::from_millis(passed));
        }
        errors += usize::from(!is_well(number));
        clock.advance(MILLI);
        lease.record(if is_well(number) {
            Outcome::Success
        } else {
            Outcome::Unreachable
        });
    }
    (first, errors)
}

#[test]
fn a_zone_that_is_dead_altogether_moves_over_and_comes_back_by_requests() {
    let (a, b, clock) = two(4);
    let cluster = failover(&a, &b);
    assert_eq!(flow(&cluster, &clock, SECOND, |_| true).0[1], None);
    // Three failures in a row eject each of four servers, and nothing is in flight meanwhile.
    let is_alive = |number| number >= 100;
    let (_, errors) = flow(&cluster, &clock, MILLI * 500, is_alive);
    assert!(errors <= 12, "{errors}");
    assert_eq!((ejected(&a).len(), cluster.preferred_load()), (4, 0.0));
    // Nothing goes there for the base time.
    assert_eq!(flow(&cluster, &clock, SECOND, is_alive).1, 0);
    let (first, errors) = flow(&cluster, &clock, SECOND * 6, is_alive);
    assert_eq!(first[0], None, "only probes");
    assert!((1..=12 * 4).contains(&errors), "{errors} probes");
    // The ejection that is running lasts 8 s at most, and the five successful probes of each server follow at once.
    let (first, errors) = flow(&cluster, &clock, SECOND * 9, |_| true);
    assert!(
        first[0].is_some_and(|it| it <= SECOND * 8 + MILLI * 100),
        "{first:?}"
    );
    assert_eq!((errors, cluster.preferred_load()), (0, 1.0));
    assert_eq!((ejected(&a).len(), a.stats().in_flight), (0, 0));
}

/// The near zone is dead, and all of the far one fails for half a second at 10, 20, 30 and 40 s, so that its ejections
/// last 2, 4, 8 and 16 s. Meanwhile nothing is eligible. The far zone is well, though, so a retry there succeeds.
#[test]
fn a_short_fault_of_the_only_zone_alive_does_not_fail_requests_for_long() {
    let (a, b, clock) = two(4);
    let cluster = failover(&a, &b);
    let (mut failed_first, mut failed, mut out) = (0, 0, 0);
    for at in 0..7_000u64 {
        clock.advance(MILLI * 10);
        let far_fails = (1_000..5_000).contains(&at) && at % 1_000 < 50;
        let mut tried = Vec::new();
        for attempt in 1..=2 {
            let lease = cluster.pick_endpoint_with(&PickOptions::new().avoid(&tried));
            let lease = lease.unwrap();
            let fails = if zone_of(&lease) == 0 {
                at > 500
            } else {
                far_fails
            };
            tried.push(lease.id());
            lease.record_with_latency(
                if fails {
                    Outcome::Failure
                } else {
                    Outcome::Success
                },
                MILLI,
            );
            if !fails {
                break;
            }
            let is_meant = at > 1_000 && !far_fails;
            failed_first += usize::from(is_meant && attempt == 1);
            failed += usize::from(is_meant && attempt == 2);
        }
        out += usize::from(ejected(&a).len() + ejected(&b).len() == 8 && !far_fails);
    }
    // 28 s of the 30 s in which the far zone is out.
    assert!(out > 2_500, "{out}");
    assert_eq!(failed, 0);
    // Half of the requests in that time, and probes of the dead zone.
    assert!(failed_first < out * 6 / 10, "{failed_first} of {out}");
}

#[test]
fn a_nested_failover_is_probed_through() {
    let (a, b, clock) = two(2);
    let c = zone(200, 2, &clock).build().unwrap();
    let cluster = Failover::new(failover(&a, &b), c).seed(1);
    for number in [0, 1, 100, 101] {
        let fleet = if number < 100 { &a } else { &b };
        common::fail(fleet, number, 3);
    }
    assert_eq!(shares(&cluster, 100), [0, 0, 100]);
    clock.advance(SECOND * 3);
    let seen: [usize; 3] = shares(&cluster, 2_000);
    assert!(seen[0] > 1900, "{seen:?}");
    assert_eq!((ejected(&a).len(), ejected(&b).len()), (0, 0));
}

#[test]
fn probes_that_fail_are_no_more_than_one_in_eleven() {
    let (a, b, clock) = two(40);
    let c = zone(200, 1, &clock).build().unwrap();
    // A nested failover counts each request once.
    let cluster = Failover::new(failover(&a, &b), c);
    for number in 0..40 {
        common::fail(&a, number, 3);
    }
    clock.advance(SECOND * 3);
    let mut probes = Vec::new();
    for pick in 0..1_100 {
        let lease = cluster.pick_endpoint().unwrap();
        if lease.is_probe() {
            probes.push(pick);
            lease.record(Outcome::Failure);
        } else {
            assert_eq!(zone_of(&lease), 1);
            lease.record(Outcome::Success);
        }
    }
    assert!(probes.len() >= 30, "{probes:?}");
    let is_turn = |two: &[i32]| two[1] - two[0] >= 11;
    assert!(probes.windows(2).all(is_turn), "{probes:?}");
}

#[test]
fn with_checks_no_request_is_a_probe() {
    let (a, b, clock) = two(4);
    let cluster = failover(&a, &b);
    let mut checks = a.health_check(each_second()).unwrap();
    let mut is_dead = false;
    let mut gone = None;
    for step in 0..30_000u64 {
        for check in checks.tick() {
            check.finish(if is_dead {
                Outcome::Unreachable
            } else {
                Outcome::Success
            });
        }
        let lease = cluster.pick_endpoint().unwrap();
        assert!(!lease.is_probe());
        let is_lost = is_dead && zone_of(&lease) == 0;
        if zone_of(&lease) == 1 && gone.is_none() {
            gone = Some(step);
        }
        lease.record(if is_lost {
            Outcome::Unreachable
        } else {
            Outcome::Success
        });
        clock.advance(MILLI);
        is_dead = (3_000..10_000).contains(&step);
    }
    assert!(gone.is_some_and(|at| at < 3_100), "{gone:?}");
    assert_eq!((ejected(&a).len(), cluster.preferred_load()), (0, 1.0));
}

/// A primary and its standby: the primary dies at 1 s and is well again at 10 s. Two of its requests fail, and after
/// that only its probes do, which come after 2 s and after 4 s more.
#[test]
fn a_cluster_of_one_endpoint_fails_over_and_comes_back() {
    let (primary, standby, clock) = two(1);
    let cluster = failover(&primary, &standby);
    let second = Duration::from_secs(1);
    let ([first, _], errors) = flow(&cluster, &clock, second, |_| true);
    assert_eq!((first, errors), (Some(Duration::ZERO), 0));
    let ([_, spare], errors) = flow(&cluster, &clock, second * 9, |number| number != 0);
    assert_eq!((spare, errors), (Some(MILLI * 2), 4));
    assert_eq!(
        (ejected(&primary), cluster.preferred_load()),
        (vec![0], 0.0)
    );
    flow(&cluster, &clock, second * 10, |_| true);
    assert_eq!((ejected(&primary), cluster.preferred_load()), (vec![], 1.0));
    assert_eq!(shares::<2>(&cluster, 100), [100, 0]);
}

/// Two threads pick while a third marks members of both clusters down, up and automatic: every pick finds an endpoint,
/// and nothing stays in flight.
#[test]
fn a_storm_over_both() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let rounds = std::env::var("STORM").map_or(1, |rounds| rounds.parse().unwrap());
    let clock = ManualClock::new();
    let fleet = |from: usize| {
        let fleet = zone(from, 6, &clock);
        fleet
            .ejection(zone_ejection().base_ejection_time(MILLI))
            .build()
            .unwrap()
    };
    let (a, b) = (fleet(0), fleet(100));
    let cluster = Failover::new(a.clone(), b.clone());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (cluster, done) = (&cluster, &done);
            scope.spawn(move || {
                let mut picks = 0u64;
                while !done.load(SeqCst) {
                    let options = PickOptions::new().affinity(picks);
                    let lease = cluster.pick_endpoint_with(&options).unwrap();
                    let outcome = match (picks + thread) % 7 {
                        0 => Outcome::Failure,
                        1 => Outcome::Timeout,
                        _ => Outcome::Success,
                    };
                    lease.record(outcome);
                    picks += 1;
                }
            });
        }
        for round in 0..2_000 * rounds {
            let number = round % 6;
            let mark = [Mark::Down, Mark::Auto, Mark::Down, Mark::Up][round / 6 % 4];
            a.mark(&number, mark);
            b.mark(&(100 + (number + 3) % 6), mark);
            clock.advance(MILLI);
            let load = cluster.preferred_load();
            assert!((0.0..=1.0).contains(&load));
        }
        done.store(true, SeqCst);
    });
    assert_eq!((a.stats().in_flight, b.stats().in_flight), (0, 0));
}
