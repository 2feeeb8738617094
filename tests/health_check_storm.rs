//! Promise: the cap holds and nothing is left over while checks, requests and updates race.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::Duration;

use common::checks::{SUCCESS, each_second};
use common::{MILLI, SECOND, Server, ejected, exact, servers};
use evenkeel::{Cluster, Fleet, ManualClock, MemberState, Outcome, Probe};

/// splitmix64: a draw below `bound`.
fn draw(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (x ^ (x >> 27)) % bound
}

fn any_outcome(random: &mut u64) -> Outcome {
    match draw(random, 5) {
        0 => Outcome::Failure,
        1 => Outcome::Timeout,
        2 => Outcome::Ignored,
        _ => SUCCESS,
    }
}

#[test]
fn the_cap_holds_and_all_return_while_checks_requests_and_updates_race() {
    let turns = std::env::var("STORM").map_or(30, |turns| turns.parse().unwrap()) * 500;
    let clock = ManualClock::new();
    let fleet: Fleet<Server> = Fleet::builder()
        .endpoints(servers(&[1; 12]))
        .clock(clock.clone())
        .ejection(exact().max_ejection_percent(30))
        .build()
        .unwrap();
    let mut checks = fleet.health_check(each_second().max_probes(5)).unwrap();
    let done = AtomicBool::new(false);
    scope(|scope| {
        // Requests that may fail, picked or leased by key.
        for seed in [1, 2] {
            let (fleet, done) = (&fleet, &done);
            scope.spawn(move || {
                let mut random = seed;
                while !done.load(Ordering::SeqCst) {
                    let key = draw(&mut random, 12) as usize;
                    let lease = match draw(&mut random, 2) {
                        0 => fleet.pick_endpoint(),
                        _ => fleet.lease(&key),
                    };
                    lease
                        .into_iter()
                        .for_each(|it| it.record(any_outcome(&mut random)));
                }
            });
        }
        // Updates with weights of 0 and 1, removals and returns.
        scope.spawn(|| {
            let mut random = 3;
            while !done.load(Ordering::SeqCst) {
                let weights: Vec<u32> = (0..12)
                    .map(|_| draw(&mut random, 3).min(1) as u32)
                    .collect();
                let set = servers(&weights);
                let some = set.into_iter().take(6 + draw(&mut random, 7) as usize);
                fleet.update(some).unwrap();
            }
        });
        // Reads the cap all the time.
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let stats = fleet.stats();
                // At most 30 % of the largest set; the set may change between two reads.
                assert!(stats.ejected <= 3, "{stats:?}");
            }
        });
        let mut random = 4;
        let mut held: Vec<Probe<Server>> = Vec::new();
        for _ in 0..turns {
            held.extend(checks.tick());
            assert!(held.len() <= 5);
            while let Some(probe) = held.pop() {
                match draw(&mut random, 8) {
                    0 => drop(probe),
                    1 => {
                        held.push(probe);
                        break;
                    }
                    _ => probe.finish(any_outcome(&mut random)),
                }
            }
            // No check is held until it is given up: 400 turns without this branch have odds of 1e-9.
            if held.len() > 3 || draw(&mut random, 20) == 0 {
                held.clear();
            }
            clock.advance(MILLI);
        }
        done.store(true, Ordering::SeqCst);
    });
    // Now everything succeeds: all return, by checks alone, and after slow start each is like any other. The counts
    // agree.
    fleet.update(servers(&[1; 12])).unwrap();
    let mut passed = Duration::ZERO;
    while passed < SECOND * 200 {
        checks.tick().into_iter().for_each(|it| it.finish(SUCCESS));
        let step = checks.next_due();
        clock.advance(step);
        passed += step;
    }
    assert_eq!(ejected(&fleet), []);
    fleet.maintain();
    let stats = fleet.stats();
    assert_eq!((stats.ejected, stats.in_flight, stats.members), (0, 0, 12));
    let members = fleet.members();
    assert!(members.iter().all(|it| it.state() == MemberState::Ready));
}
