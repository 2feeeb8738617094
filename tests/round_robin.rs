//! Promise: the round robins give each endpoint its visits, exactly where a table holds them.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    NO_OPTIONS, Policy, RISING, THREE_TO_ONE, number, servers, shares, weighted as fleet,
};
use evenkeel::{Cluster, Fleet, RoundRobin, WeightedRoundRobin};

#[test]
fn round_robins_are_exact_in_each_cycle_at_any_load() {
    for weights in [&RISING[..], &THREE_TO_ONE] {
        for in_flight in [1, 4, 16, 64] {
            let total = weights.iter().sum::<u32>() as usize;
            let cases: [(Policy, usize, Vec<u64>); 2] = [
                (
                    Box::new(WeightedRoundRobin::new()),
                    total,
                    weights.iter().copied().map(u64::from).collect(),
                ),
                (
                    Box::new(RoundRobin::new()),
                    weights.len(),
                    vec![1; weights.len()],
                ),
            ];
            for (policy, cycle, expected) in cases {
                let fleet = fleet(policy, weights, 3);
                for _ in 0..20 {
                    let seen = shares(&fleet, &NO_OPTIONS, weights.len(), in_flight, cycle);
                    assert_eq!(seen, expected, "{weights:?}, {in_flight} in flight");
                }
            }
        }
    }
}

/// Of this many endpoints the round robins prefetch the next ones.
#[test]
fn round_robins_are_exact_with_many() {
    let weights: Vec<u32> = (0..1_500).map(|index| 1 + index % 3).collect();
    let policies: [(Policy, &[u32]); 2] = [
        (Box::new(WeightedRoundRobin::new()), &weights),
        (Box::new(RoundRobin::new()), &[1; 1_500]),
    ];
    for (policy, visits) in policies {
        let fleet = fleet(policy, &weights, 6);
        let cycle = visits.iter().sum::<u32>() as usize;
        let expected: Vec<u64> = visits.iter().copied().map(u64::from).collect();
        for in_flight in [1, 64] {
            let seen = shares(&fleet, &NO_OPTIONS, weights.len(), in_flight, cycle);
            assert_eq!(seen, expected, "{in_flight} in flight");
        }
    }
}

/// A discovery that hands in the same set again and again. Each update begins the turns anew, somewhere in their order.
/// Within six sigma of a binomial; the seed is fixed.
#[test]
fn an_update_before_each_pick_changes_no_uneven_shares() {
    let weights = [65_000, 20_011, 20_012, 977];
    let fleet = fleet(Box::new(WeightedRoundRobin::new()), &weights, 5);
    let mut seen = vec![0; weights.len()];
    for _ in 0..20_000 {
        fleet.update(servers(&weights)).unwrap();
        seen[number(&fleet.pick_endpoint().unwrap())] += 1;
    }
    for (&seen, weight) in seen.iter().zip(weights) {
        let p = f64::from(weight) / f64::from(weights.iter().sum::<u32>());
        let sigma = (20_000.0 * p * (1.0 - p)).sqrt();
        assert!(
            (f64::from(seen) - 20_000.0 * p).abs() <= 6.0 * sigma,
            "{seen} of {weight}"
        );
    }
}

/// Weights that no table can hold. All counts are looked at, from the first pick on.
#[test]
fn uneven_weights_are_within_two_of_exact_at_any_time() {
    // Envoy's case 51.
    let rising: Vec<u32> = (1..=128).collect();
    for weights in [
        &rising[..],
        &[997, 613, 410, 88, 31, 7],
        &[65_000, 3, 20_011, 20_011, 977],
    ] {
        let total = f64::from(weights.iter().sum::<u32>());
        let fleet = fleet(Box::new(WeightedRoundRobin::new()), weights, 4);
        let mut seen = vec![0u64; weights.len()];
        for picks in 1..=100_000 {
            seen[number(&fleet.pick_endpoint().unwrap())] += 1;
            for (&seen, &weight) in seen.iter().zip(weights) {
                let exact = f64::from(picks) * f64::from(weight) / total;
                assert!((seen as f64 - exact).abs() <= 2.0, "{seen} for {exact}");
            }
        }
    }
}

/// Within 2 + 2k with k threads. What may have been picked while a thread was held up is made up for at the end.
#[test]
fn uneven_weights_are_as_close_with_two_threads() {
    let weights = [997, 613, 410, 88, 31, 7];
    let total = f64::from(weights.iter().sum::<u32>());
    // Without a seed, so that there are as many shards as processors.
    let fleet = Fleet::builder()
        .endpoints(servers(&weights))
        .policy(WeightedRoundRobin::new())
        .build()
        .unwrap();
    let walk = |picks: u32| {
        let mut seen = vec![0u64; weights.len()];
        for _ in 0..picks {
            seen[number(&fleet.pick_endpoint().unwrap())] += 1;
        }
        seen
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| walk(200_003));
        let one = walk(200_007);
        (one, other.join().unwrap())
    });
    let more = walk(100_000);
    for (at, &weight) in weights.iter().enumerate() {
        let seen = one[at] + other[at] + more[at];
        let exact = 500_010.0 * f64::from(weight) / total;
        assert!((seen as f64 - exact).abs() <= 6.0, "{seen} for {exact}");
    }
}
