//! How endpoints share requests while some are at their limit, and the adaptive limit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    MILLI, SECOND, Server, exact, fail, five_in_a_row, number, policies, servers, setup, state,
};
use evenkeel::{AdaptiveLimit, Cluster, Fleet, Lease, Limits, ManualClock, MemberState, Outcome};

fn limits() -> Limits {
    Limits::default()
}

/// Picks until a pick fails.
fn fill_until_refused(fleet: &Fleet<Server>) -> Vec<Lease<Server>> {
    std::iter::from_fn(|| fleet.pick_endpoint().ok()).collect()
}

/// In slow start an endpoint takes a tenth of the requests that would be its own. An endpoint at its limit takes none,
/// so the one in slow start gets all.
#[test]
fn an_endpoint_in_slow_start_takes_what_is_over_the_others_limits() {
    for (name, policy) in policies() {
        let clock = ManualClock::new();
        let limits = limits().max_requests_per_endpoint(1);
        let builder = setup(3, &clock).ejection(five_in_a_row()).policy(policy);
        let fleet = builder.limits(limits).build().unwrap();
        fail(&fleet, 0, 5);
        clock.advance(2 * SECOND);
        common::probe(&fleet).record_with_latency(Outcome::Success, MILLI);
        assert_eq!(state(&fleet, 0), MemberState::Warming);
        let _full = [1, 2].map(|key| fleet.lease(&key).unwrap());
        for _ in 0..20 {
            assert_eq!(number(&fleet.pick_endpoint().unwrap()), 0, "{name}");
        }
    }
}

/// Two of ten endpoints are at their limit, and the others share by weight. For each of those the number of picks is
/// binomial with n = 40 000 and p = its share of the weight of the eight. 4.5 standard deviations are exceeded in one
/// of 150 000 cases, and there are eight cases for each of three policies.
#[test]
fn endpoints_below_their_limit_get_their_shares() {
    const PICKS: u64 = 40_000;
    let weights: Vec<u32> = (1..=10).collect();
    for (name, policy) in policies() {
        if !["WeightedRoundRobin", "Random", "PowerOfTwo"].contains(&name) {
            continue;
        }
        let builder = Fleet::builder().endpoints(servers(&weights)).policy(policy);
        let builder = builder.clock(ManualClock::new()).seed(11);
        let fleet = builder
            .limits(limits().max_requests_per_endpoint(3))
            .build()
            .unwrap();
        let _full: Vec<_> = [4, 9]
            .iter()
            .flat_map(|key| [(); 3].map(|()| fleet.lease(key).unwrap()))
            .collect();
        let mut seen = [0u64; 10];
        for _ in 0..PICKS {
            let lease = fleet.pick_endpoint().unwrap();
            seen[number(&lease)] += 1;
            lease.record_with_latency(Outcome::Success, MILLI);
        }
        assert_eq!((seen[4], seen[9]), (0, 0), "{name}");
        for (key, &weight) in weights
            .iter()
            .enumerate()
            .filter(|(key, _)| ![4, 9].contains(key))
        {
            let share = f64::from(weight) / 40.0;
            let (mean, sd) = (
                PICKS as f64 * share,
                (PICKS as f64 * share * (1.0 - share)).sqrt(),
            );
            assert!(
                (seen[key] as f64 - mean).abs() < 4.5 * sd,
                "{name} {key}: {} of {mean}",
                seen[key]
            );
        }
    }
}

/// The adaptive limit, through a fleet. A batch of requests takes 10 ms for each 16 of them, or part of 16.
#[test]
fn an_adaptive_limit_finds_what_an_endpoint_can_do() {
    let clock = ManualClock::new();
    let rule = AdaptiveLimit::default().initial_concurrency(100);
    let builder = setup(1, &clock)
        .ejection(exact())
        .limits(limits().adaptive(rule));
    let fleet = builder.build().unwrap();
    assert_eq!(fleet.members()[0].limit(), Some(100));
    // Little is in flight, so the usual latency becomes known and the limit does not move.
    for _ in 0..100 {
        let lease = fleet.pick_endpoint().unwrap();
        clock.advance(10 * MILLI);
        lease.record(Outcome::Success);
    }
    assert_eq!(fleet.members()[0].limit(), Some(100));
    // As much as the limit lets in, so that a queue builds up.
    for _ in 0..60 {
        let leases = fill_until_refused(&fleet);
        let queue = (leases.len() as u32).div_ceil(16);
        clock.advance(queue * 10 * MILLI);
        leases
            .into_iter()
            .for_each(|lease| lease.record(Outcome::Success));
        clock.advance(100 * MILLI);
    }
    // 16 at once, and the square root that the limit allows for a queue.
    let limit = fleet.members()[0].limit().unwrap();
    assert!((16..=40).contains(&limit), "{limit}");
    // Nothing but timeouts: the limit falls to its minimum and no further.
    for _ in 0..100 {
        let leases = fill_until_refused(&fleet);
        clock.advance(100 * MILLI);
        leases
            .into_iter()
            .for_each(|lease| lease.record(Outcome::Timeout));
    }
    assert_eq!(fleet.members()[0].limit(), Some(3));
    assert_eq!(fill_until_refused(&fleet).len(), 3, "nobody starves");
}

/// A failure does not say that an endpoint is overloaded; a timeout does.
#[test]
fn failures_do_not_lower_an_adaptive_limit_and_timeouts_do() {
    for (outcome, limit) in [(Outcome::Failure, 20), (Outcome::Timeout, 3)] {
        let clock = ManualClock::new();
        let rule = AdaptiveLimit::default().initial_concurrency(20);
        let builder = setup(1, &clock).limits(limits().adaptive(rule));
        let fleet = builder.build().unwrap();
        for _ in 0..100 {
            clock.advance(100 * MILLI);
            let lease = fleet.lease(&0).unwrap();
            lease.record_with_latency(outcome, MILLI);
        }
        assert_eq!(fleet.members()[0].limit(), Some(limit), "{outcome:?}");
    }
}
