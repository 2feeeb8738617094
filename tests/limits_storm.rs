//! Limits under threads: they are not exceeded at any instant, no place is lost, and every refusal is counted.
#![allow(clippy::unwrap_used)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Server, fail, five_in_a_row, number, servers, setup};
use evenkeel::{
    Choice, Cluster, Ejection, Fleet, Lease, Limits, ManualClock, Outcome, PickContext, PickError,
    Picker, from_picker,
};

fn limits() -> Limits {
    Limits::default()
}

/// Threads pick, hold and end leases, some by drop and some by a panic, while the set changes.
fn storm(limits: Limits, per_endpoint: Option<u64>, in_all: Option<u64>) {
    let rounds: u64 = std::env::var("STORM")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(20)
        * 500;
    let fleet = Fleet::builder().endpoints(servers(&[1; 4])).limits(limits);
    let fleet = fleet
        .ejection(Ejection::default().consecutive_failures(20))
        .build()
        .unwrap();
    let held = AtomicU64::new(0);
    let (done, refused) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4u64)
            .map(|thread| {
                let (fleet, held, refused) = (&fleet, &held, &refused);
                scope.spawn(move || {
                    let mut leases = Vec::new();
                    for round in 0..rounds {
                        match fleet.pick_endpoint() {
                            Ok(lease) => {
                                // Counted after the pick and uncounted before the lease ends, so this never counts too
                                // many.
                                let before = held.fetch_add(1, Ordering::SeqCst);
                                assert!(
                                    in_all.is_none_or(|limit| before < limit),
                                    "over the fleet's"
                                );
                                let inside = lease.member().in_flight();
                                assert!(
                                    per_endpoint.is_none_or(|limit| inside <= limit),
                                    "{inside}"
                                );
                                leases.push(lease);
                            }
                            Err(error) => {
                                assert_eq!(error, PickError::Saturated);
                                refused.fetch_add(1, Ordering::SeqCst);
                            }
                        }
                        let keep = (round ^ thread) % 4;
                        while leases.len() as u64 > keep {
                            held.fetch_sub(1, Ordering::SeqCst);
                            let lease = leases.swap_remove(round as usize % leases.len());
                            match round % 7 {
                                0 if round % 3 == 0 => {
                                    let panics = AssertUnwindSafe(|| {
                                        let _lease = lease;
                                        resume_unwind(Box::new("a request panics"))
                                    });
                                    assert!(catch_unwind(panics).is_err());
                                }
                                0 => drop(lease),
                                1 => lease.record(Outcome::Failure),
                                _ => lease.record(Outcome::Success),
                            }
                        }
                    }
                    held.fetch_sub(leases.len() as u64, Ordering::SeqCst);
                })
            })
            .collect();
        let writer = scope.spawn(|| {
            let mut weight = 1;
            while !done.load(Ordering::SeqCst) {
                weight = weight % 5 + 1;
                fleet.update(servers(&[weight, 1, weight, 1])).unwrap();
                for member in fleet.members() {
                    let inside = member.in_flight();
                    assert!(per_endpoint.is_none_or(|limit| inside <= limit), "{inside}");
                }
                std::thread::yield_now();
            }
        });
        let workers = workers.into_iter().map(|worker| worker.join());
        let failed = workers.filter(Result::is_err).count();
        done.store(true, Ordering::SeqCst);
        writer.join().unwrap();
        assert_eq!(failed, 0);
    });
    assert_eq!(fleet.stats().in_flight, 0);
    assert_eq!(fleet.stats().saturated, refused.load(Ordering::SeqCst));
    // No place is lost: all of them can be taken.
    let all = per_endpoint
        .map_or(u64::MAX, |limit| 4 * limit)
        .min(in_all.unwrap_or(u64::MAX));
    let keys = (0..4).cycle();
    let mut leases = Vec::new();
    for key in keys.take(4 * all as usize) {
        leases.extend(fleet.lease(&key));
    }
    assert_eq!(leases.len() as u64, all);
}

#[test]
fn an_endpoints_limit_is_exact_under_threads() {
    storm(limits().max_requests_per_endpoint(2), Some(2), None);
}

#[test]
fn a_fleets_limit_is_exact_under_threads() {
    storm(limits().max_requests(5), None, Some(5));
}

#[test]
fn both_limits_are_exact_under_threads() {
    storm(
        limits().max_requests(5).max_requests_per_endpoint(2),
        Some(2),
        Some(5),
    );
}

#[test]
fn an_ejected_endpoint_stays_out_while_the_others_fill_and_empty() {
    let fleet = setup(4, &ManualClock::new()).limits(limits().max_requests_per_endpoint(1));
    let fleet = fleet.ejection(five_in_a_row()).build().unwrap();
    fail(&fleet, 3, 5);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    match fleet.pick_endpoint() {
                        Ok(lease) => assert_ne!(number(&lease), 3),
                        Err(error) => assert_eq!(error, PickError::Saturated),
                    }
                }
            });
        }
    });
}

/// A policy that finds all places taken whenever it looks, as others take and release them in between.
#[derive(Clone, Debug, Default)]
struct AlwaysFull(Arc<Mutex<Competitors>>);

#[derive(Debug, Default)]
struct Competitors {
    fleet: Option<Fleet<Server>>,
    /// The number of looks that find no room.
    looks: u32,
    /// Whether the others keep their places after the last of those looks.
    stay: bool,
    staying: Vec<Lease<Server>>,
}

impl Picker<Server> for AlwaysFull {
    fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
        let mut others = self.0.lock().unwrap();
        let mut held = Vec::new();
        if others.looks > 0 {
            others.looks -= 1;
            let fleet = others.fleet.as_ref().unwrap();
            held.extend((0..3).filter_map(|key| fleet.lease(&key).ok()));
        }
        let found = (0..cx.members().len()).find(|&index| cx.may_pick(index));
        if others.stay && others.looks == 0 {
            others.staying.append(&mut held);
        }
        found.map(Choice::at)
    }
}

/// The result of a pick that finds no room in `looks` looks. With `stay`, the others stay from the last one on.
fn pick_always_full(looks: u32, stay: bool) -> Result<usize, PickError> {
    let policy = AlwaysFull::default();
    let fleet = setup(3, &ManualClock::new()).policy(from_picker(policy.clone()));
    let fleet = fleet.limits(limits().max_requests_per_endpoint(1));
    let fleet = fleet.build().unwrap();
    *policy.0.lock().unwrap() = Competitors {
        fleet: Some(fleet.clone()),
        looks,
        stay,
        staying: Vec::new(),
    };
    let picked = fleet.pick_endpoint().map(|lease| number(&lease));
    // The fleet holds the policy and the policy the fleet; this breaks the cycle.
    *policy.0.lock().unwrap() = Competitors::default();
    picked
}

#[test]
fn a_pick_that_is_overtaken_whenever_it_looks_is_not_taken_for_declined() {
    for looks in 0..6 {
        let found = pick_always_full(looks, false);
        assert!(found.is_ok(), "{looks} looks: {found:?}");
    }
    for looks in 1..5 {
        let found = pick_always_full(looks, true);
        assert_eq!(found, Err(PickError::Saturated), "{looks} looks");
    }
}

/// A policy that wants one particular endpoint does not get another because that one is full.
#[test]
fn a_policy_that_wants_a_full_endpoint_gets_no_other() {
    #[derive(Clone, Debug)]
    struct First;
    impl Picker<Server> for First {
        fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
            cx.may_pick(0).then(|| Choice::at(0))
        }
    }
    let fleet = setup(3, &ManualClock::new()).policy(from_picker(First));
    let fleet = fleet.limits(limits().max_requests_per_endpoint(1));
    let fleet = fleet.build().unwrap();
    let held = fleet.pick_endpoint().unwrap();
    assert_eq!(number(&held), 0);
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Saturated);
    drop(held);
    assert_eq!(number(&fleet.pick_endpoint().unwrap()), 0);
}

#[test]
fn a_policy_that_wants_none_declines_also_where_there_are_limits() {
    #[derive(Clone, Debug)]
    struct Declines;
    impl Picker<Server> for Declines {
        fn pick(&self, _: &mut PickContext<'_, Server>) -> Option<Choice> {
            None
        }
    }
    let fleet = setup(3, &ManualClock::new()).policy(from_picker(Declines));
    let fleet = fleet.limits(limits().max_requests_per_endpoint(1));
    let fleet = fleet.build().unwrap();
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Declined);
    let _held: Vec<_> = (0..3).map(|key| fleet.lease(&key).unwrap()).collect();
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Saturated);
}
