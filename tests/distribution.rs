//! Promise: every endpoint gets its share, at low load and at high, whether or not other endpoints are out.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    NO_OPTIONS, Policy, RISING, THREE_TO_ONE, fail, number, policies, servers, shares,
    weighted as fleet,
};
use evenkeel::{
    Cluster, Endpoint, Fleet, LeastResponseTime, ManualClock, Mark, Outcome, PickOptions,
    PowerOfTwo, Random, RoundRobin, WeightedRoundRobin,
};

/// Asserts that each count is within six sigma of a binomial n·p, with p = weight / sum of weights. A false alarm has
/// odds of 2·10^-9 a count for a fresh seed, and none for a fixed one. A round robin varies less.
fn assert_in_proportion(what: &str, seen: &[u64], weights: &[u32]) {
    let n = seen.iter().sum::<u64>() as f64;
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    for (index, (&seen, &weight)) in seen.iter().zip(weights).enumerate() {
        let p = f64::from(weight) / total;
        let (mean, sigma) = (n * p, (n * p * (1.0 - p)).sqrt());
        assert!(
            (seen as f64 - mean).abs() <= 6.0 * sigma,
            "{what}: server {index} got {seen}, which is not within {:.0} of {mean:.0}",
            6.0 * sigma
        );
    }
}

/// The weights that a policy's shares are in proportion to: `RoundRobin` distinguishes only zero and non-zero weights.
fn counted(policy: &str, weights: &[u32]) -> Vec<u32> {
    if policy == "RoundRobin" {
        weights.iter().map(|&weight| weight.min(1)).collect()
    } else {
        weights.to_vec()
    }
}

#[test]
fn no_endpoint_is_below_half_its_share_when_one_request_is_in_flight() {
    for weights in [&RISING[..], &THREE_TO_ONE] {
        for (name, policy) in policies() {
            let picks = 20_000;
            let seen = shares(
                &fleet(policy, weights, 1),
                &NO_OPTIONS,
                weights.len(),
                1,
                picks,
            );
            let counted = counted(name, weights);
            let total: u64 = counted.iter().copied().map(u64::from).sum();
            for (index, (&seen, &weight)) in seen.iter().zip(&counted).enumerate() {
                // The lightest expects 20 000 / 55 = 364, sigma 19: half is 9.6 sigma away.
                let half = picks as u64 * u64::from(weight) / total / 2;
                assert!(
                    seen >= half,
                    "{name} {weights:?}: server {index} got {seen}, less than {half}"
                );
            }
        }
    }
}

#[test]
fn shares_are_in_proportion_when_one_request_is_in_flight() {
    for weights in [&RISING[..], &THREE_TO_ONE] {
        for (name, policy) in policies() {
            let seen = shares(
                &fleet(policy, weights, 2),
                &NO_OPTIONS,
                weights.len(),
                1,
                55_000,
            );
            assert_in_proportion(name, &seen, &counted(name, weights));
        }
    }
}

/// A discovery that hands in the same set again and again restarts no sequence. With `Adaptive` the heaviest endpoints
/// once got five times their share this way, and the light ones nothing.
#[test]
fn an_update_before_each_pick_changes_no_shares() {
    for (count, picks) in [(10, 4_000), (300, 3_000)] {
        let weights: Vec<u32> = RISING.iter().copied().cycle().take(count).collect();
        // Of 300 endpoints `Adaptive` compares only some.
        let all = policies().into_iter();
        for (name, policy) in all.filter(|(name, _)| count == 10 || *name == "Adaptive") {
            let fleet = fleet(policy, &weights, 5);
            let mut seen = vec![0; count];
            for _ in 0..picks {
                fleet.update(servers(&weights)).unwrap();
                let lease = fleet.pick_endpoint().unwrap();
                seen[lease.endpoint().key()] += 1;
                lease.record(Outcome::Success);
            }
            assert_in_proportion(name, &seen, &counted(name, &weights));
        }
    }
}

#[test]
fn random_is_in_proportion_at_any_load() {
    for weights in [&RISING[..], &THREE_TO_ONE] {
        for in_flight in [1, 4, 16, 64] {
            let fleet = fleet(Box::new(Random::new()), weights, 4);
            let seen = shares(&fleet, &NO_OPTIONS, weights.len(), in_flight, 55_000);
            assert_in_proportion("Random", &seen, weights);
        }
    }
}

#[test]
fn load_aware_policies_stay_near_the_shares_under_load() {
    // Load-aware policies move shares with load; equal servers, and loads that the weights can hold, must not be moved
    // far. The bound is not statistical: half of the fair share either way. 40 000 picks leave the lightest with 727
    // expected and a sigma of 27, so half is 13 sigma away.
    for weights in [&RISING[..], &THREE_TO_ONE, &[1; 10]] {
        for in_flight in [4, 16, 64] {
            for (name, policy) in policies().split_off(3) {
                let fleet = fleet(policy, weights, 5);
                let seen = shares(&fleet, &NO_OPTIONS, weights.len(), in_flight, 40_000);
                let total: f64 = weights.iter().copied().map(f64::from).sum();
                for (index, (&seen, &weight)) in seen.iter().zip(weights).enumerate() {
                    let ratio = seen as f64 / (40_000.0 * f64::from(weight) / total);
                    assert!(
                        (0.5..=1.5).contains(&ratio),
                        "{name} {weights:?}, {in_flight} in flight: server {index} got {ratio:.2} of its share"
                    );
                }
            }
        }
    }
}

#[test]
fn weight_zero_is_never_picked() {
    for (name, policy) in policies() {
        let fleet = fleet(policy, &[0, 3, 0, 1, 0], 6);
        for in_flight in [1, 16] {
            let seen = shares(&fleet, &NO_OPTIONS, 5, in_flight, 2_000);
            assert_eq!([seen[0], seen[2], seen[4]], [0; 3], "{name}");
        }
        // Not even in panic, when health is ignored.
        assert!(fleet.mark(&1, Mark::Down) && fleet.mark(&3, Mark::Down));
        assert!(fleet.stats().panicking);
        let seen = shares(&fleet, &NO_OPTIONS, 5, 1, 2_000);
        assert_eq!([seen[0], seen[2], seen[4]], [0; 3], "{name} in panic");
    }
}

#[test]
fn the_heaviest_weights_keep_their_proportions() {
    // u32::MAX is 3 · 5 · 17 · 257 · 65537, so a third and a fifth of it are whole.
    let weights = [u32::MAX, u32::MAX / 3, u32::MAX / 5, u32::MAX];
    for (name, policy) in policies() {
        let seen = shares(&fleet(policy, &weights, 7), &NO_OPTIONS, 4, 1, 40_000);
        assert_in_proportion(name, &seen, &counted(name, &weights));
    }
}

#[test]
fn beside_the_heaviest_the_lightest_keeps_a_65536th() {
    // 40 expected at p = 1/65537. Poisson(40) is below 9 with odds of 10^-9.
    let picks = 65_536 * 40;
    let cases: [(&str, Policy); 3] = [
        ("WeightedRoundRobin", Box::new(WeightedRoundRobin::new())),
        ("Random", Box::new(Random::new())),
        ("PowerOfTwo", Box::new(PowerOfTwo::new())),
    ];
    for (name, policy) in cases {
        let fleet = fleet(policy, &[u32::MAX, 1], 8);
        let mut light = 0;
        for _ in 0..picks {
            let lease = fleet.pick_endpoint().unwrap();
            light += u64::from(number(&lease) == 1);
            lease.record_with_latency(Outcome::Success, common::MILLI);
        }
        assert!(light >= 9, "{name}: the lightest got {light} of {picks}");
        // And no more than it is due: Poisson(40) is above 90 with odds of 10^-11.
        assert!(light <= 90, "{name}: the lightest got {light} of {picks}");
    }
}

/// What keeps one of ten endpoints from taking requests.
#[derive(Clone, Copy, Debug)]
enum Out {
    Down,
    Ejected,
    Avoided,
}

fn without(policy: Policy, weights: &[u32], gone: usize, out: Out, in_flight: usize) -> Vec<u64> {
    let fleet = fleet(policy, weights, 9);
    let mut avoid = Vec::new();
    match out {
        Out::Down => assert!(fleet.mark(&gone, Mark::Down)),
        Out::Ejected => {
            fail(&fleet, gone, 5);
            assert_eq!(fleet.stats().ejected, 1);
        }
        Out::Avoided => {
            let members = fleet.members();
            let member = members.iter().find(|m| m.endpoint().key() == gone);
            avoid.push(member.unwrap().id());
        }
    }
    assert!(!fleet.stats().panicking);
    let options = PickOptions::new().avoid(&avoid);
    let seen = shares(&fleet, &options, weights.len(), in_flight, 50_000);
    assert_eq!(seen[gone], 0, "{out:?}");
    seen
}

#[test]
fn the_turns_of_an_ejected_endpoint_are_shared_in_proportion() {
    for out in [Out::Down, Out::Ejected, Out::Avoided] {
        for (weights, gone) in [(&[1; 10], 4), (&RISING, 9), (&RISING, 0)] {
            for (name, policy) in policies() {
                let seen = without(policy, weights, gone, out, 1);
                let mut left = counted(name, weights);
                left[gone] = 0;
                assert_in_proportion(&format!("{name}, {gone} {out:?}"), &seen, &left);
            }
        }
    }
}

#[test]
fn under_load_no_neighbour_of_an_ejected_endpoint_gets_double() {
    // A fair share is 50 000 / 9 = 5556, sigma 70. The bound of a fifth is 15 sigma; double is 79.
    for out in [Out::Down, Out::Ejected, Out::Avoided] {
        for (name, policy) in policies() {
            let seen = without(policy, &[1; 10], 4, out, 16);
            for (index, &seen) in seen.iter().enumerate().filter(|&(index, _)| index != 4) {
                assert!(
                    (4_444..=6_667).contains(&seen),
                    "{name}, 4 {out:?}: server {index} got {seen} of 50000"
                );
            }
        }
    }
}

/// Sends one request at a time to servers that each answer in a time of their own.
fn shares_of_speeds(latencies: &[u64], picks: u64) -> Vec<u64> {
    let weights = vec![1; latencies.len()];
    let fleet = fleet(Box::new(LeastResponseTime::new()), &weights, 10);
    let mut seen = vec![0; latencies.len()];
    for _ in 0..picks {
        let lease = fleet.pick_endpoint().unwrap();
        let server = number(&lease);
        seen[server] += 1;
        lease.record_with_latency(
            Outcome::Success,
            common::MILLI / 10 * latencies[server] as u32,
        );
    }
    seen
}

#[test]
fn least_response_time_does_not_starve_a_slightly_slower_endpoint() {
    // Each pick draws the same pair; the slower keeps its turn with odds of (10/11)^3 = 0.75, so its share is 0.376. 20
    // 000 picks: sigma 68, six of them 411.
    let seen = shares_of_speeds(&[100, 110], 20_000);
    assert!(seen[1].abs_diff(7_513) <= 411, "{seen:?}");
    // Ten speeds within a tenth of each other: none gets less than half its share.
    let ten: Vec<u64> = (100..110).collect();
    let seen = shares_of_speeds(&ten, 20_000);
    assert!(seen.iter().all(|&seen| seen >= 1_000), "{seen:?}");
    // An endpoint ten times slower is hardly used: it wins in 1 of 1000 cases when it is drawn first, so 10 are
    // expected of 20 000, and more than 40 have odds below 10^-11.
    let seen = shares_of_speeds(&[100, 1000], 20_000);
    assert!((1..=40).contains(&seen[1]), "{seen:?}");
}

/// The first answers take 50 and 60 ms, as connections are set up; all later ones take 1 ms.
#[test]
fn least_response_time_forgets_a_slow_first_answer() {
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints(servers(&[1, 1]))
        .policy(LeastResponseTime::new())
        .clock(clock.clone())
        .seed(11)
        .build()
        .unwrap();
    let (mut answers, mut last_minute) = ([0u32; 2], [0u32; 2]);
    for tenth in 0..6_000 {
        clock.advance(common::MILLI * 100);
        let lease = fleet.pick_endpoint().unwrap();
        let server = number(&lease);
        answers[server] += 1;
        last_minute[server] += u32::from(tenth >= 5_400);
        let first = answers[server] == 1;
        let latency = if first { [50, 60][server] } else { 1 };
        lease.record_with_latency(Outcome::Success, common::MILLI * latency);
    }
    // 600 picks at 1 : 1 have a sigma of 12; half a share is 12 of them away.
    assert!(
        last_minute.iter().all(|&picks| picks >= 150),
        "{last_minute:?}"
    );
}

#[test]
fn a_light_endpoint_is_not_flooded_as_soon_as_the_heavy_one_is_busy() {
    for (weights, in_flight) in [([1, 9], 2), ([1, 9], 4), ([1, 100], 2), ([1, 100], 10)] {
        for (name, policy) in policies().split_off(3) {
            let picks = 100_000;
            let seen = shares(
                &fleet(policy, &weights, 12),
                &NO_OPTIONS,
                2,
                in_flight,
                picks,
            );
            let fair = picks as f64 / f64::from(weights[0] + weights[1]);
            let ratio = seen[0] as f64 / fair;
            // At least some 1000 expected, sigma 32: the bound is 10 of them away.
            assert!(
                (0.67..=1.33).contains(&ratio),
                "{name} {weights:?}, {in_flight} in flight: {ratio:.2} of its share"
            );
        }
    }
}

#[test]
fn round_robin_counts_no_weights_where_nearly_all_are_avoided() {
    let mut weights = [1; 20];
    weights[0] = 1000;
    let fleet = fleet(Box::new(RoundRobin::new()), &weights, 13);
    let avoid: Vec<_> = fleet.members()[2..]
        .iter()
        .map(|member| member.id())
        .collect();
    let seen = shares(&fleet, &PickOptions::new().avoid(&avoid), 20, 1, 50_000);
    assert_in_proportion("RoundRobin", &seen[..2], &[1, 1]);
}

/// Two endpoints are compared however much of the weight is out. Of ten endpoints one is idle: it is the first of two
/// in one pick of ten, and the second in one of ten. When a second one was drawn three times at most, with 100 of 110
/// units out it got 1 203 picks.
#[test]
fn two_are_compared_however_much_of_the_weight_is_out() {
    let policies: [(&str, Policy); 2] = [
        ("PowerOfTwo", Box::new(PowerOfTwo::new())),
        ("LeastResponseTime", Box::new(LeastResponseTime::new())),
    ];
    for (name, policy) in policies {
        let fleet = fleet(policy, &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 100], 4);
        fleet.mark(&10, Mark::Down);
        let busy: Vec<_> = (0..9)
            .flat_map(|number| [number; 9])
            .map(|number| fleet.lease(&number).unwrap())
            .collect();
        let picks = (0..10_000).map(|_| number(&fleet.pick_endpoint().unwrap()));
        let idle = picks.filter(|&number| number == 9).count();
        // Six sigma of a binomial are 240.
        assert!((1_760..2_240).contains(&idle), "{name}: {idle}");
        drop(busy);
    }
}
