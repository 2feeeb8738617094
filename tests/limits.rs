//! Limits are exact at every instant, never lose a place, are respected with each policy, and have no queue.
#![allow(clippy::unwrap_used)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{
    MILLI, SECOND, Server, ejected, fail, five_in_a_row, number, policies, servers, setup, state,
};
use evenkeel::{
    AdaptiveLimit, Choice, Cluster, Fleet, Lease, Limits, ManualClock, MemberState, Outcome,
    PanicRule, PickContext, PickError, PickOptions, Picker, RoundRobin, Target, from_picker,
};

fn limits() -> Limits {
    Limits::default()
}

fn limited(count: usize, limits: Limits) -> Fleet<Server> {
    let builder = setup(count, &ManualClock::new()).limits(limits);
    builder.policy(RoundRobin::new()).build().unwrap()
}

/// Picks until the fleet is saturated.
fn fill(fleet: &Fleet<Server>) -> Vec<Lease<Server>> {
    let mut leases = Vec::new();
    loop {
        match fleet.pick_endpoint() {
            Ok(lease) => leases.push(lease),
            Err(error) => {
                assert_eq!(error, PickError::Saturated);
                return leases;
            }
        }
    }
}

fn at(leases: &[Lease<Server>], server: usize) -> usize {
    leases
        .iter()
        .filter(|lease| number(lease) == server)
        .count()
}

#[test]
fn each_endpoint_takes_its_limit_with_every_policy() {
    for (name, policy) in policies() {
        let builder = setup(3, &ManualClock::new()).policy(policy);
        let limits = limits().max_requests_per_endpoint(4);
        let fleet = builder.limits(limits).build().unwrap();
        for round in 0..3 {
            let leases = fill(&fleet);
            let each = [0, 1, 2].map(|server| at(&leases, server));
            assert_eq!(each, [4; 3], "{name}, round {round}");
            assert_eq!(fleet.stats().saturated, round + 1);
            // A request that ends makes room at its endpoint and nowhere else.
            let mut leases = leases;
            let ended = number(&leases[5]);
            leases
                .swap_remove(5)
                .record_with_latency(Outcome::Success, MILLI);
            let lease = fleet.pick_endpoint().unwrap();
            assert_eq!(number(&lease), ended, "{name}");
        }
    }
}

#[test]
fn two_endpoints_with_a_limit_of_one_take_one_request_each() {
    let fleet = limited(2, limits().max_requests_per_endpoint(1));
    for _ in 0..100 {
        let (one, other) = (
            fleet.pick_endpoint().unwrap(),
            fleet.pick_endpoint().unwrap(),
        );
        assert_ne!(number(&one), number(&other));
        assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Saturated);
        assert_eq!(
            fleet.lease(&0).unwrap_err(),
            PickError::Saturated,
            "by key, too"
        );
    }
}

#[test]
fn a_fleet_takes_its_limit() {
    let fleet = limited(5, limits().max_requests(7));
    let leases = fill(&fleet);
    assert_eq!((leases.len(), fleet.stats().in_flight), (7, 7));
    assert_eq!(fleet.lease(&0).unwrap_err(), PickError::Saturated);
    assert_eq!(fleet.stats().saturated, 2);
    drop(leases);
    assert_eq!(fill(&fleet).len(), 7);
    let stats = fleet.stats();
    assert_eq!(
        (stats.max_requests, stats.max_requests_per_endpoint),
        (Some(7), None)
    );
}

#[test]
fn every_end_gives_the_place_back() {
    let both = limits().max_requests(1).max_requests_per_endpoint(1);
    let fleet = limited(1, both);
    let outcomes = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Timeout,
        Outcome::Unreachable,
        Outcome::overloaded(None),
        Outcome::Ignored,
        Outcome::Abandoned,
    ];
    for outcome in outcomes {
        fleet.lease(&0).unwrap().record(outcome);
        fleet
            .lease(&0)
            .unwrap()
            .record_with_latency(outcome, SECOND);
    }
    drop(fleet.pick_endpoint().unwrap());
    // A future that is dropped before it is polled, and a caller that panics.
    drop(
        fleet
            .pick_endpoint()
            .unwrap()
            .track(std::future::pending::<()>(), |()| Outcome::Success),
    );
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _lease = fleet.pick_endpoint().unwrap();
        panic!("the caller's");
    }));
    assert!(panicked.is_err());
    let lease = fleet.pick_endpoint().unwrap();
    std::thread::spawn(move || drop(lease)).join().unwrap();
    assert_eq!(fill(&fleet).len(), 1);
}

#[test]
fn a_pick_that_fails_or_panics_takes_nothing_along() {
    #[derive(Clone, Debug)]
    struct Panics;
    impl Picker<Server> for Panics {
        fn pick(&self, _: &mut PickContext<'_, Server>) -> Option<Choice> {
            panic!("the policy's")
        }
    }
    let fleet = limited(1, limits().max_requests(1));
    fleet.set_policy(from_picker(Panics)).unwrap();
    for _ in 0..3 {
        let picked = catch_unwind(AssertUnwindSafe(|| fleet.pick_endpoint().is_ok()));
        assert!(picked.is_err());
    }
    fleet.set_policy(RoundRobin::new()).unwrap();
    fleet.update([]).unwrap();
    for _ in 0..3 {
        assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Empty);
        assert_eq!(fleet.lease(&0).unwrap_err(), PickError::UnknownKey);
    }
    fleet.update(servers(&[1])).unwrap();
    assert_eq!(fill(&fleet).len(), 1);
}

#[test]
fn a_policy_that_insists_on_a_full_endpoint_is_not_heeded() {
    #[derive(Clone, Debug)]
    struct First;
    impl Picker<Server> for First {
        fn pick(&self, _: &mut PickContext<'_, Server>) -> Option<Choice> {
            Some(Choice::at(0))
        }
    }
    let fleet = limited(3, limits().max_requests_per_endpoint(2));
    fleet.set_policy(from_picker(First)).unwrap();
    let leases = fill(&fleet);
    assert_eq!([0, 1, 2].map(|server| at(&leases, server)), [2; 3]);
    assert_eq!(fleet.stats().policy_faults, 0);
}

#[test]
fn endpoints_at_their_limit_do_not_count_as_avoided() {
    let fleet = limited(3, limits().max_requests_per_endpoint(1));
    let mut leases = fill(&fleet);
    let ids: Vec<_> = leases.iter().map(Lease::id).collect();
    let avoid = |ids: &[_]| fleet.pick_endpoint_with(&PickOptions::new().avoid(ids));
    for left in 0..3 {
        let tried: Vec<_> = ids.iter().copied().filter(|id| *id != ids[left]).collect();
        // A later attempt may find the endpoint that is left, whichever it is.
        assert_eq!(avoid(&tried).unwrap_err(), PickError::Saturated);
    }
    assert_eq!(
        avoid(&ids).unwrap_err(),
        PickError::AllAvoided,
        "at their limit or not"
    );
    drop(leases.remove(0));
    assert_eq!(avoid(&ids).unwrap_err(), PickError::AllAvoided);
    assert_eq!(
        avoid(&ids[..1]).unwrap_err(),
        PickError::Saturated,
        "room only where it is not to go"
    );
    drop(leases);
    assert_eq!(avoid(&ids[..2]).unwrap().id(), ids[2]);
}

#[test]
fn an_ejected_endpoint_does_not_take_what_is_too_much_for_others() {
    let limits = limits().max_requests_per_endpoint(2);
    let fleet = setup(4, &ManualClock::new())
        .ejection(five_in_a_row())
        .limits(limits)
        .build()
        .unwrap();
    fail(&fleet, 0, 5);
    assert_eq!(ejected(&fleet), [0]);
    let leases = fill(&fleet);
    assert_eq!([0, 1, 2, 3].map(|server| at(&leases, server)), [0, 2, 2, 2]);
}

#[test]
fn panic_ignores_health_and_no_limit() {
    let limits = limits().max_requests_per_endpoint(2);
    let ejection = five_in_a_row().max_ejection_percent(100);
    let fleet = setup(4, &ManualClock::new())
        .ejection(ejection)
        .limits(limits)
        .build()
        .unwrap();
    (0..4).for_each(|server| fail(&fleet, server, 5));
    assert_eq!(ejected(&fleet).len(), 4);
    assert!(fleet.stats().panicking);
    let leases = fill(&fleet);
    assert_eq!([0, 1, 2, 3].map(|server| at(&leases, server)), [2; 4]);
}

#[test]
fn without_a_panic_rule_the_reason_is_health_before_limits() {
    let limits = limits().max_requests_per_endpoint(1);
    let ejection = five_in_a_row().max_ejection_percent(100);
    let builder = setup(2, &ManualClock::new()).panic_rule(PanicRule::off());
    let fleet = builder.ejection(ejection).limits(limits).build().unwrap();
    (0..2).for_each(|server| fail(&fleet, server, 5));
    let held = fleet.lease(&0).unwrap();
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::AllEjected);
    drop(held);
}

#[test]
fn a_probe_takes_a_place_and_waits_for_one() {
    let clock = ManualClock::new();
    let limits = limits().max_requests_per_endpoint(1);
    let fleet = setup(4, &clock)
        .ejection(five_in_a_row())
        .limits(limits)
        .build()
        .unwrap();
    fail(&fleet, 0, 5);
    let pinned = fleet.lease(&0).unwrap();
    clock.advance(2 * SECOND);
    for _ in 0..50 {
        assert!(
            !fleet.pick_endpoint().unwrap().is_probe(),
            "it is at its limit"
        );
    }
    assert_eq!(fleet.lease(&0).unwrap_err(), PickError::Saturated);
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
    drop(pinned);
    clock.advance(SECOND);
    let probe = common::probe(&fleet);
    assert_eq!(fleet.lease(&0).unwrap_err(), PickError::Saturated);
    probe.record_with_latency(Outcome::Success, MILLI);
    assert_eq!(ejected(&fleet), []);
}

#[test]
fn a_probe_takes_one_of_the_fleets_places_and_gives_it_back() {
    let clock = ManualClock::new();
    let limits = limits().max_requests(2);
    let builder = setup(4, &clock).ejection(five_in_a_row().healthy_threshold(5));
    let fleet = builder.limits(limits).build().unwrap();
    fail(&fleet, 0, 5);
    let ends: [fn(Lease<Server>); 4] = [
        |probe| probe.record_with_latency(Outcome::Success, MILLI),
        |probe| probe.record(Outcome::Failure),
        drop,
        |probe| probe.record(Outcome::Ignored),
    ];
    for end in ends {
        clock.advance(100 * SECOND);
        let probe = common::probe(&fleet);
        let other = fleet.pick_endpoint().unwrap();
        assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Saturated);
        end(probe);
        drop((fleet.pick_endpoint().unwrap(), other));
    }
    assert_eq!(fill(&fleet).len(), 2);
}

#[test]
fn probes_stay_within_their_limit_and_a_forgotten_one_heals() {
    let clock = ManualClock::new();
    let ejection = five_in_a_row().max_ejection_percent(100);
    let build = |limits| {
        let builder = setup(10, &clock).ejection(ejection.clone()).limits(limits);
        let fleet = builder.panic_rule(PanicRule::off()).build().unwrap();
        (0..10).for_each(|server| fail(&fleet, server, 5));
        fleet
    };
    // All are ejected, so each pick may be a probe.
    let probes = |fleet: &Fleet<Server>| {
        let picks = (0..50).filter_map(|_| fleet.pick_endpoint().ok());
        picks.filter(Lease::is_probe).collect::<Vec<_>>()
    };
    let (unbounded, bounded) = (build(limits()), build(limits().max_probes(3)));
    clock.advance(2 * SECOND);
    assert_eq!(probes(&unbounded).len(), 10);
    let mut out = probes(&bounded);
    assert_eq!((out.len(), bounded.stats().probing), (3, 3));
    // A probe that ends lets the next one start at once.
    let known = number(&out[0]);
    out.swap_remove(0).record(Outcome::Failure);
    assert_eq!(bounded.stats().probing, 2);
    let next = probes(&bounded);
    assert_eq!(next.len(), 1);
    assert_ne!(number(&next[0]), known);
    // Forgotten probes are given up after their timeout and leave their slots to others.
    out.into_iter().chain(next).for_each(std::mem::forget);
    assert_eq!(probes(&bounded).len(), 0);
    clock.advance(60 * SECOND);
    let late = probes(&bounded);
    assert_eq!((late.len(), bounded.stats().probing), (3, 3));
    drop(late);
    assert_eq!(bounded.stats().probing, 0);
}

#[test]
fn a_change_of_weight_or_data_counts_on_and_another_incarnation_starts_at_none() {
    let both = limits().max_requests_per_endpoint(2).max_requests(5);
    let fleet = limited(1, both);
    let mut old = fill(&fleet);
    assert_eq!(old.len(), 2);
    fleet.update(servers(&[7])).unwrap();
    fleet.insert(Target::new(0, ()).with_weight(9)).unwrap();
    fleet.set_policy(RoundRobin::new()).unwrap();
    assert_eq!(fill(&fleet).len(), 0, "the same endpoint");
    drop(old.pop());
    assert_eq!(fill(&fleet).len(), 1);
    old.extend(fill(&fleet));
    // A drained endpoint: the old requests end at that incarnation.
    let drain = fleet.drain(&0).unwrap();
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::AllDraining);
    fleet.insert(Target::new(0, ())).unwrap();
    let new = fill(&fleet);
    assert_eq!(new.len(), 2, "another, with a limit of its own");
    assert!(fleet.remove(&0));
    fleet.insert(Target::new(0, ())).unwrap();
    let last = fill(&fleet);
    assert_eq!(last.len(), 1, "and one of the fleet's five is left");
    drop((old, new, last, drain));
    assert_eq!(fleet.stats().in_flight, 0);
    assert_eq!(fill(&fleet).len(), 2);
}

#[test]
fn a_lease_may_outlive_its_fleet() {
    let fleet = limited(1, limits().max_requests(1).max_requests_per_endpoint(1));
    let lease = fleet.pick_endpoint().unwrap();
    let member = lease.member().clone();
    drop(fleet);
    lease.record(Outcome::Success);
    assert_eq!(member.in_flight(), 0);
}

#[test]
fn settings_out_of_range_are_named() {
    let build = |limits| setup(1, &ManualClock::new()).limits(limits).build();
    let error = build(limits().max_requests_per_endpoint(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Limits::max_requests_per_endpoint is 0; it must be from 1 to 16711679"
    );
    let adaptive = AdaptiveLimit::default().min_concurrency(30);
    let error = build(limits().adaptive(adaptive)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("AdaptiveLimit::initial_concurrency is 20")
    );
}

#[test]
fn members_and_explanations_show_the_limit() {
    let fleet = limited(2, limits().max_requests_per_endpoint(1));
    let lease = fleet.lease(&0).unwrap();
    let [full, free] = [0, 1].map(|key| fleet.member(&key).unwrap());
    assert_eq!((full.limit(), full.explain().limit), (Some(1), Some(1)));
    assert!(!full.explain().is_eligible && free.explain().is_eligible);
    let shown = [full, free].map(|member| member.explain().to_string());
    assert!(
        shown[0].ends_with("1 in flight, at its limit of 1"),
        "{}",
        shown[0]
    );
    assert!(shown[1].ends_with("0 in flight of 1"), "{}", shown[1]);
    drop(lease);
    let without = limited(1, limits());
    assert_eq!(without.members()[0].limit(), None);
}
