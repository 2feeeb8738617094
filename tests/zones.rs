//! Promise: the zones of a priority get their shares: the caller's zone first, by the callers of each zone, or by
//! weights. Where a zone cannot carry its share, others do. Numbers in names are those of reference/envoy.md, section
//! 3.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::thread;

use common::{Server, sequence};
use evenkeel::{
    Adaptive, BuildError, Cluster, Endpoint, Failover, Fleet, LoadBalancer, LocalityBasis,
    ManualClock, Mark, Outcome, PanicRule, PickOptions, PowerOfTwo, RoundRobin, SlowStart, Target,
    Tiers, UpdateError, WeightedRoundRobin,
};

const PICKS: usize = 20_000;

/// Within five standard deviations of a share of independent picks, which one run in two million exceeds.
fn near(seen: f64, share: f64) -> bool {
    (seen - share).abs() <= 5.0 * (share * (1.0 - share) / PICKS as f64).sqrt() + 1e-9
}

/// Servers of this priority, numbered from `first` on, as many in each zone as given.
fn servers_in_zones(zones: &[(&str, usize)], priority: u32, first: usize) -> Vec<Server> {
    let zone = |&(zone, size): &(&'static str, usize)| (0..size).map(move |_| zone);
    let zones: Vec<(&'static str, usize)> = zones
        .iter()
        .map(|&(name, n)| (static_name(name), n))
        .collect();
    let numbered = zones.iter().flat_map(zone).zip(first..);
    numbered
        .map(|(zone, number)| {
            Target::new(number, ())
                .with_locality(zone)
                .with_priority(priority)
        })
        .collect()
}

fn static_name(name: &str) -> &'static str {
    ["a", "b", "c", "d", "e"]
        .into_iter()
        .find(|it| *it == name)
        .unwrap()
}

fn fleet(servers: Vec<Server>, policy: impl LoadBalancer<Server> + 'static) -> Fleet<Server> {
    Fleet::builder()
        .endpoints(servers)
        .policy(policy)
        .panic_rule(PanicRule::envoy())
        .clock(ManualClock::new())
        .seed(7)
        .build()
        .unwrap()
}

fn mark(fleet: &Fleet<Server>, numbers: impl IntoIterator<Item = usize>, mark: Mark) {
    for number in numbers {
        assert!(fleet.mark(&number, mark));
    }
}

/// The share of the picks that each priority and zone takes.
fn shares(fleet: &Fleet<Server>) -> BTreeMap<(u32, String), f64> {
    let of: BTreeMap<usize, (u32, String)> = fleet
        .members()
        .iter()
        .map(|member| member.endpoint())
        .map(|it| (it.key(), (it.priority(), it.locality().to_owned())))
        .collect();
    let mut shares = BTreeMap::new();
    for number in sequence(fleet, PICKS) {
        *shares.entry(of[&number].clone()).or_insert(0.0) += 1.0 / PICKS as f64;
    }
    shares
}

fn assert_shares(fleet: &Fleet<Server>, expected: &[(u32, &str, f64)]) {
    let seen = shares(fleet);
    for (priority, zone, share) in expected {
        let its = seen
            .get(&(*priority, (*zone).into()))
            .copied()
            .unwrap_or(0.0);
        assert!(
            near(its, *share),
            "{zone} of {priority}: {its} for {share}; {seen:?}"
        );
    }
    let total: f64 = expected.iter().map(|it| it.2).sum();
    assert!((total - 1.0).abs() < 1e-3, "the test is to name all");
    // The tiers show the same loads.
    for tier in fleet.tiers() {
        let its = expected
            .iter()
            .find(|it| it.0 == tier.priority && it.1 == tier.locality);
        let its = its.map_or(0.0, |it| it.2);
        assert!((tier.load_percent / 100.0 - its).abs() < 1e-3, "{tier:?}");
    }
}

#[test]
fn case_34_by_callers_with_any_policy() {
    let policies: [Box<dyn LoadBalancer<Server>>; 4] = [
        Box::new(RoundRobin::new()),
        Box::new(WeightedRoundRobin::new()),
        Box::new(PowerOfTwo::new()),
        Box::new(Adaptive::new()),
    ];
    for policy in policies {
        let servers = servers_in_zones(&[("a", 1), ("c", 3), ("d", 3), ("e", 1)], 0, 0);
        let callers = [("a", 2), ("b", 2), ("c", 1), ("d", 1)];
        let fleet = fleet(servers, Tiers::new(policy).zone_aware("a", callers));
        let rest = |room: f64| 0.625 * room / 5418.0;
        let expected = [
            (0, "a", 0.375),
            (0, "c", rest(2084.0)),
            (0, "d", rest(2084.0)),
            (0, "e", rest(1250.0)),
        ];
        assert_shares(&fleet, &expected);
    }
}

#[test]
fn by_callers_in_every_priority_and_by_what_is_well() {
    let zones = [("a", 4), ("b", 4)];
    let servers = [
        servers_in_zones(&zones, 0, 0),
        servers_in_zones(&zones, 1, 8),
    ]
    .concat();
    let policy = Tiers::new(RoundRobin::new()).zone_aware("a", [("a", 1), ("b", 1)]);
    let fleet = fleet(servers, policy);
    assert_shares(&fleet, &[(0, "a", 1.0)]);
    // Zone a has 2 of 6 eligible endpoints, which is two thirds of its callers' half. Six of eight endpoints still
    // carry all the load of the priority.
    mark(&fleet, [0, 1], Mark::Down);
    assert_shares(&fleet, &[(0, "a", 0.6666), (0, "b", 0.3334)]);
    // The first priority is dead. In the second, all requests stay in their zone.
    mark(&fleet, 0..8, Mark::Down);
    assert_shares(&fleet, &[(1, "a", 1.0)]);
    // Five of eight are fewer than the minimum cluster size of six, so zones do not count.
    mark(&fleet, [8, 12, 13], Mark::Down);
    assert_shares(&fleet, &[(1, "a", 0.6), (1, "b", 0.4)]);
}

#[test]
fn zones_count_from_as_many_eligible_ones_on_as_is_set() {
    let policy = |least| {
        let policy = Tiers::new(RoundRobin::new()).zone_aware("a", [("a", 1), ("b", 1)]);
        policy.min_cluster_size(least)
    };
    let fleet = fleet(servers_in_zones(&[("a", 2), ("b", 2)], 0, 0), policy(4));
    assert_shares(&fleet, &[(0, "a", 1.0)]);
    fleet.set_policy(policy(5)).unwrap();
    assert_shares(&fleet, &[(0, "a", 0.5), (0, "b", 0.5)]);
}

#[test]
fn case_42_forced_to_stay_and_by_weight() {
    let zones = [("a", 2), ("b", 2), ("c", 2)];
    let callers = [("a", 1), ("b", 1)];
    let policy = |least| {
        let policy = Tiers::new(RoundRobin::new()).zone_aware("a", callers);
        policy.force_local_zone_min_size(least)
    };
    assert_shares(
        &fleet(servers_in_zones(&zones, 0, 0), policy(3)),
        &[(0, "a", 0.6666), (0, "c", 0.3334)],
    );
    assert_shares(
        &fleet(servers_in_zones(&zones, 0, 0), policy(2)),
        &[(0, "a", 1.0)],
    );

    let mut servers = servers_in_zones(&zones, 0, 0);
    servers[0] = servers[0].clone().with_weight(3);
    let policy = Tiers::new(WeightedRoundRobin::new())
        .zone_aware("a", callers)
        .locality_basis(LocalityBasis::HealthyHostsWeight);
    // Zone a has four of eight by weight.
    assert_shares(&fleet(servers, policy), &[(0, "a", 1.0)]);
}

#[test]
fn my_zone_first_and_the_others_when_it_cannot_carry_it() {
    let servers = servers_in_zones(&[("a", 4), ("b", 4), ("c", 4)], 0, 0);
    let fleet = fleet(servers, Tiers::new(PowerOfTwo::new()).prefer_zone("a"));
    assert_shares(&fleet, &[(0, "a", 1.0)]);
    mark(&fleet, [0, 1, 8, 9], Mark::Down);
    assert_shares(&fleet, &[(0, "a", 0.7), (0, "b", 0.2), (0, "c", 0.1)]);
    mark(&fleet, [2, 3], Mark::Down);
    assert_shares(&fleet, &[(0, "b", 2.0 / 3.0), (0, "c", 1.0 / 3.0)]);
    mark(&fleet, 0..4, Mark::Auto);
    assert_shares(&fleet, &[(0, "a", 1.0)]);
}

#[test]
fn a_retry_goes_to_the_other_zones_before_the_next_priority() {
    let mut servers = servers_in_zones(&[("a", 1), ("b", 1)], 0, 0);
    servers.extend(servers_in_zones(&[("a", 1), ("b", 1)], 1, 2));
    let fleet = fleet(servers, Tiers::new(RoundRobin::new()).prefer_zone("a"));
    let (mut tried, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let lease = fleet
            .pick_endpoint_with(&PickOptions::new().avoid(&tried))
            .unwrap();
        tried.push(lease.id());
        seen.push(lease.endpoint().key());
    }
    assert_eq!(seen[..2], [0, 1]);
    assert!(
        fleet
            .pick_endpoint_with(&PickOptions::new().avoid(&tried))
            .is_err()
    );
}

#[test]
fn cases_61_to_63_locality_weights() {
    let zones = [("a", 2), ("b", 2), ("c", 2)];
    let by = |weights: [(&'static str, u32); 3]| {
        fleet(
            servers_in_zones(&zones, 0, 0),
            Tiers::new(RoundRobin::new()).locality_weights(weights),
        )
    };
    let fleet = by([("a", 1), ("b", 6), ("c", 3)]);
    assert_shares(&fleet, &[(0, "a", 0.1), (0, "b", 0.6), (0, "c", 0.3)]);
    // Zone b is half eligible and carries 70 % of its weight: 4.2 of 8.2 in all.
    mark(&fleet, [2], Mark::Down);
    let of = |weight: f64| weight / 8.2;
    assert_shares(
        &fleet,
        &[(0, "a", of(1.0)), (0, "b", of(4.2)), (0, "c", of(3.0))],
    );
    assert_shares(
        &by([("a", 1), ("b", 0), ("c", 1)]),
        &[(0, "a", 0.5), (0, "c", 0.5)],
    );
    // Case 62, all weights 0: Envoy's round robin then uses all zones in turn.
    let third = 1.0 / 3.0;
    assert_shares(
        &by([("a", 0), ("b", 0), ("c", 0)]),
        &[(0, "a", third), (0, "b", third), (0, "c", third)],
    );
}

#[test]
fn a_panicking_priority_is_one_pool() {
    let servers = servers_in_zones(&[("a", 6), ("b", 2)], 0, 0);
    let fleet = fleet(servers, Tiers::new(RoundRobin::new()).prefer_zone("b"));
    assert_shares(&fleet, &[(0, "b", 1.0)]);
    mark(&fleet, 0..6, Mark::Down);
    assert_shares(&fleet, &[(0, "a", 0.75), (0, "b", 0.25)]);
}

#[test]
fn degraded_and_healthy_are_divided_apart() {
    let servers = servers_in_zones(&[("a", 4), ("b", 4)], 0, 0);
    let fleet = fleet(servers, Tiers::new(RoundRobin::new()).prefer_zone("a"));
    // Two healthy endpoints of b carry 140 * 2 / 8 = 35 %. The degraded ones of a, half of the priority, carry the
    // other 65 %.
    mark(&fleet, 0..4, Mark::Degraded);
    mark(&fleet, [4, 5], Mark::Down);
    assert_shares(&fleet, &[(0, "a", 0.65), (0, "b", 0.35)]);
}

#[test]
fn a_thousand_zones_and_a_fleet_that_is_counted_in_slices() {
    let servers = (0..1000).map(|n| Target::new(n, ()).with_locality(format!("zone {n}")));
    let fleet = fleet(
        servers.collect(),
        Tiers::new(RoundRobin::new()).prefer_zone("zone 3"),
    );
    assert_eq!(sequence(&fleet, 10), [3; 10]);
    mark(&fleet, [3], Mark::Down);
    // From the next pick on no ineligible endpoint is picked, although a count of a thousand takes four picks.
    assert!(!sequence(&fleet, 1000).contains(&3));
    let weights = (0..1000).map(|n| (format!("zone {n}"), u32::from(n % 2 == 0)));
    fleet
        .set_policy(Tiers::new(RoundRobin::new()).locality_weights(weights))
        .unwrap();
    mark(&fleet, [3], Mark::Auto);
    assert!(sequence(&fleet, 2000)[4..].iter().all(|n| n % 2 == 0));
    mark(&fleet, (0..1000).filter(|n| n % 4 == 0), Mark::Degraded);
    assert!(sequence(&fleet, 2000)[8..].iter().all(|n| n % 4 == 2));
}

#[test]
fn settings_out_of_range_are_named() {
    let bad = || Tiers::new(RoundRobin::new()).overprovisioning_factor(0);
    let boxed: Box<dyn LoadBalancer<Server>> = Box::new(bad());
    let error = Fleet::builder().policy(boxed).build().unwrap_err();
    assert!(matches!(
        error,
        BuildError::Setting {
            field: "Tiers::overprovisioning_factor",
            ..
        }
    ));
    let expected = "Tiers::overprovisioning_factor is 0; it must be above 0";
    assert_eq!(error.to_string(), expected);
    let fleet = fleet(servers_in_zones(&[("a", 1)], 0, 0), RoundRobin::new());
    let nested = Tiers::new(bad());
    let error = fleet.set_policy(nested).unwrap_err();
    assert!(matches!(error, UpdateError::Setting(_)));
    assert_eq!(error.to_string(), expected);
    assert!(fleet.tiers().is_empty());
}

/// Marks, updates and picks from several threads. No endpoint is picked that was down before the pick. When all is
/// quiet, the loads are those of the present eligibility.
#[test]
fn loads_are_right_when_all_is_quiet() {
    let servers = || {
        [
            servers_in_zones(&[("a", 4), ("b", 4)], 0, 0),
            servers_in_zones(&[("a", 8)], 1, 8),
        ]
        .concat()
    };
    let fleet = Fleet::builder()
        .endpoints(servers())
        .policy(Tiers::new(RoundRobin::new()).prefer_zone("a"))
        .build()
        .unwrap();
    mark(&fleet, [15], Mark::Down);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let lease = fleet.pick_endpoint().unwrap();
                    assert_ne!(lease.endpoint().key(), 15);
                    lease.record(Outcome::Success);
                }
            });
        }
        scope.spawn(|| {
            for round in 0..2_000 {
                mark(
                    &fleet,
                    [round % 6],
                    if round % 4 < 2 {
                        Mark::Down
                    } else {
                        Mark::Auto
                    },
                );
                if round % 50 == 0 {
                    fleet.update(servers()).unwrap();
                }
            }
        });
    });
    mark(&fleet, 0..8, Mark::Auto);
    sequence(&fleet, 1);
    assert!(sequence(&fleet, 500).iter().all(|&number| number < 4));
}

/// A `Failover` with enough capacity in another fleet suspends panic, so zones count: b has weight 0 and gets nothing
/// while a can take the load.
#[test]
fn under_a_failover_zones_count_as_if_there_were_no_panic_rule() {
    let policy = Tiers::new(RoundRobin::new()).locality_weights([("a", 1), ("b", 0)]);
    let here = fleet(servers_in_zones(&[("a", 4), ("b", 4)], 0, 0), policy);
    mark(&here, [0, 1, 4, 5, 6], Mark::Down);
    let there = fleet(servers_in_zones(&[("c", 8)], 0, 100), RoundRobin::new());
    let cluster = Failover::new(here, there).seed(3);
    let picks = (0..PICKS).map(|_| cluster.pick_endpoint().unwrap());
    let in_b = picks.filter(|lease| lease.endpoint().locality() == "b");
    assert_eq!(in_b.count(), 0);
}

/// Slow start acts within a zone: a zone whose endpoints are all new keeps its share.
#[test]
fn slow_start_of_a_whole_zone_moves_nothing_to_another() {
    let set = |first| {
        let mut servers = servers_in_zones(&[("a", 4)], 0, first);
        servers.extend(servers_in_zones(&[("b", 4)], 0, 100));
        servers
    };
    let fleet = Fleet::builder()
        .endpoints(set(0))
        .policy(Tiers::new(RoundRobin::new()).prefer_zone("a"))
        .slow_start(SlowStart::default().new_endpoints(true))
        .clock(ManualClock::new())
        .seed(7)
        .build()
        .unwrap();
    fleet.update(set(10)).unwrap();
    let away = sequence(&fleet, 4_000).into_iter().filter(|&n| n >= 100);
    assert_eq!(away.count(), 0);
}

/// Zones count while six endpoints are eligible. Before the fix, when one of them failed, its neighbours, which had had
/// all requests, got none until the other zone's had had as many; and once it was back, it got all of its zone's.
#[test]
fn endpoints_take_turns_at_once_when_zones_begin_or_cease_to_count() {
    let policy = Tiers::new(Adaptive::new()).zone_aware("a", [("a", 1), ("b", 1)]);
    let builder = Fleet::builder().endpoints(servers_in_zones(&[("a", 3), ("b", 3)], 0, 0));
    let builder = builder.policy(policy).slow_start(SlowStart::off());
    let fleet = builder.clock(ManualClock::new()).seed(7).build().unwrap();
    let seen = |picks| {
        let mut seen = [0; 6];
        let picked = sequence(&fleet, picks);
        picked.iter().for_each(|&number| seen[number] += 1);
        seen
    };
    for _ in 0..2 {
        assert_eq!(seen(9_000)[3..], [0; 3], "the zone is local");
        mark(&fleet, [0], Mark::Down);
        let all = seen(500);
        // Those that have waited have some more turns at first.
        assert!(
            all[1..].iter().all(|&seen| (80..130).contains(&seen)),
            "{all:?}"
        );
        seen(9_000);
        mark(&fleet, [0], Mark::Auto);
        let local = seen(300);
        assert!(
            local[..3].iter().all(|&seen| (85..130).contains(&seen)),
            "{local:?}"
        );
    }
}
