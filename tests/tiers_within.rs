//! Promise: within a priority any policy works as it does alone: its positions, health, slow start, avoidance and
//! updates.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::tiers::{PICKS, builder, fleet, levels, mark, near, policies, share, taken};
use common::{MILLI, SECOND, Server, fail, five_in_a_row, number, sequence, state};
use evenkeel::{
    Adaptive, Cluster, Endpoint, Failover, Fleet, Lease, Limits, ManualClock, Mark, MemberState,
    Outcome, PickError, PickOptions, PowerOfTwo, RoundRobin, SlowStart, Target, Tiers, Weight,
    WeightedRoundRobin,
};

#[test]
fn case_1_half_of_the_first_priority_carries_seventy_percent_by_any_policy() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let fleet = fleet(&[10, 10], policy);
        assert_eq!(share(&taken(&fleet, 1000), |n| n < 10), 1.0, "{name}");
        mark(&fleet, 0..5, Mark::Down);
        let taken_by = taken(&fleet, PICKS);
        assert!(
            near(share(&taken_by, |n| n < 10), 0.7, PICKS),
            "{name}: {taken_by:?}"
        );
        assert_eq!(share(&taken_by, |n| n < 5), 0.0, "{name}: marked down");
        mark(&fleet, 0..5, Mark::Auto);
        assert_eq!(share(&taken(&fleet, 1000), |n| n < 10), 1.0, "{name}");
    }
}

#[test]
fn a_round_robin_is_exact_within_its_tier() {
    let fleet = fleet(&[10, 10], RoundRobin::new());
    mark(&fleet, 0..5, Mark::Down);
    let taken = taken(&fleet, PICKS);
    let second: Vec<_> = (10..20).map(|number| taken[&number]).collect();
    let (least, most) = (second.iter().min().unwrap(), second.iter().max().unwrap());
    assert!(most - least <= 1, "{second:?}");
}

#[test]
fn positions_survive_updates() {
    let servers = || levels(&[3, 2]);
    let fleet = builder(servers())
        .policy(Tiers::new(RoundRobin::new()))
        .build()
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.extend(sequence(&fleet, 2));
        fleet.update(servers()).unwrap();
    }
    for turn in seen.windows(3) {
        assert!((0..3).all(|number| turn.contains(&number)), "{seen:?}");
    }
}

#[test]
fn the_same_seed_makes_the_same_decisions() {
    let run = || {
        let fleet = fleet(&[6, 6], PowerOfTwo::new());
        mark(&fleet, [0, 1, 2, 7], Mark::Down);
        sequence(&fleet, 500)
    };
    assert_eq!(run(), run());
}

#[test]
fn ejections_move_load_and_returns_bring_it_back() {
    let clock = ManualClock::new();
    let ejection = five_in_a_row().max_ejection_percent(100);
    let fleet = Fleet::builder()
        .endpoints(levels(&[4, 4]))
        .policy(Tiers::new(RoundRobin::new()))
        .ejection(ejection)
        .slow_start(SlowStart::off())
        .clock(clock.clone())
        .seed(3)
        .build()
        .unwrap();
    let spilt = |fleet: &Fleet<Server>| fleet.tiers()[1].load_percent;
    assert_eq!(spilt(&fleet), 0.0);
    for (failed, expected) in [(0, 0.0), (1, 30.0), (2, 65.0), (3, 100.0)] {
        fail(&fleet, failed, 5);
        assert_eq!(spilt(&fleet), expected, "{failed} and those before");
        // The very next pick follows the new load and meets no ejected endpoint.
        let seen = taken(&fleet, PICKS);
        assert!(
            near(share(&seen, |n| n >= 4), expected / 100.0, PICKS),
            "{seen:?}"
        );
        assert_eq!(share(&seen, |n| n <= failed), 0.0);
    }
    // The ejections end after 2 s: probes follow one another until all endpoints are back.
    clock.advance(3 * SECOND);
    for _ in 0..100 {
        fleet
            .pick_endpoint()
            .unwrap()
            .record_with_latency(Outcome::Success, MILLI);
    }
    assert_eq!(spilt(&fleet), 0.0);
    assert_eq!(share(&taken(&fleet, 1000), |n| n < 4), 1.0);
}

#[test]
fn a_retry_goes_on_to_the_next_priority() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let fleet = fleet(&[1, 2, 1], policy);
        let mut tried = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let lease = fleet
                .pick_endpoint_with(&PickOptions::new().avoid(&tried))
                .unwrap();
            tried.push(lease.id());
            seen.push(number(&lease));
        }
        seen[1..3].sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3], "{name}");
        let none = fleet.pick_endpoint_with(&PickOptions::new().avoid(&tried));
        assert_eq!(none.unwrap_err(), PickError::AllAvoided, "{name}");
    }
}

#[test]
fn slow_start_holds_within_a_tier() {
    // The second priority comes first, so that no endpoint has the same index in its tier and in the fleet.
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints(levels(&[4, 4]).into_iter().rev())
        .policy(Tiers::new(RoundRobin::new()))
        .ejection(five_in_a_row())
        .slow_start(SlowStart::default().window(10 * SECOND))
        .clock(clock.clone())
        .seed(3)
        .build()
        .unwrap();
    fail(&fleet, 0, 5);
    clock.advance(3 * SECOND);
    common::probe(&fleet).record_with_latency(Outcome::Success, MILLI);
    assert_eq!(state(&fleet, 0), MemberState::Warming);
    // It counts as healthy. It takes a tenth of its turns at first, and half of them in the middle of its slow start.
    assert_eq!(fleet.tiers()[0].load_percent, 100.0);
    for (seconds, share_of) in [(0, 0.1), (5, 0.5), (5, 1.0)] {
        clock.advance(seconds * SECOND);
        let seen = taken(&fleet, PICKS);
        let its = share(&seen, |n| n == 0);
        assert!(near(its, share_of / 4.0, PICKS), "{its} for {share_of} / 4");
        assert_eq!(share(&seen, |n| n >= 4), 0.0);
    }
}

#[test]
fn an_update_that_moves_an_endpoint_to_another_priority_keeps_its_state() {
    let fleet = fleet(&[2, 2], RoundRobin::new());
    let lease = fleet.lease(&0).unwrap();
    fail(&fleet, 1, 5);
    let before = fleet.member(&0).unwrap();
    fleet
        .update([
            Target::new(0, ()).with_priority(5),
            Target::new(1, ()).with_priority(5),
            Target::new(2, ()).with_priority(1),
            Target::new(3, ()).with_priority(1),
        ])
        .unwrap();
    let after = fleet.member(&0).unwrap();
    assert_eq!((after.id(), after.in_flight()), (before.id(), 1));
    assert_eq!(state(&fleet, 1), MemberState::Ejected);
    assert_eq!(share(&taken(&fleet, 100), |n| n >= 2), 1.0);
    mark(&fleet, [2, 3], Mark::Down);
    assert_eq!(share(&taken(&fleet, 100), |n| n == 0), 1.0);
    lease.record(Outcome::Success);
    assert_eq!(fleet.stats().in_flight, 0);
}

#[test]
fn tiers_work_with_one_endpoint_and_with_none() {
    let fleet = fleet(&[1], Adaptive::new());
    assert_eq!(sequence(&fleet, 3), [0, 0, 0]);
    mark(&fleet, [0], Mark::Down);
    assert_eq!(sequence(&fleet, 3), [0, 0, 0], "total panic");
    assert!(fleet.remove(&0));
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Empty);
    assert!(fleet.tiers().is_empty());
    let weights = [0, 1, u32::MAX].map(Weight::new);
    let servers = (0..)
        .zip(weights)
        .map(|(n, weight)| Target::new(n, ()).with_weight(weight));
    fleet.update(servers).unwrap();
    fleet
        .set_policy(Tiers::new(WeightedRoundRobin::new()).weighted_priority_health(true))
        .unwrap();
    assert!(taken(&fleet, 1000)[&2] > 900);
}

/// The endpoints of a spare priority that has been used once are idle for ever after. They must not take the
/// invitations by which a policy finds out that an endpoint which it avoided has healed.
#[test]
fn idle_spares_do_not_keep_an_avoided_endpoint_from_being_tried() {
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints(levels(&[4, 4]))
        .policy(Tiers::new(Adaptive::new()))
        .clock(clock.clone())
        .seed(3)
        .build()
        .unwrap();
    let run = |seconds: u32, slow: bool| {
        let mut to_first = 0;
        for _ in 0..seconds * 500 {
            let lease = fleet.pick_endpoint().unwrap();
            let is_first = number(&lease) == 0;
            to_first += usize::from(is_first);
            let latency = if is_first && slow { 5 * SECOND } else { MILLI };
            lease.record_with_latency(Outcome::Success, latency);
            clock.advance(2 * MILLI);
        }
        to_first as f64 / f64::from(seconds * 500)
    };
    mark(&fleet, 0..4, Mark::Down);
    run(4, false);
    mark(&fleet, 0..4, Mark::Auto);
    // While it is slow it is invited after 1, 2, 4, 8 and then each 16 s. Before this stretch ends, the spares have
    // been idle for longer than the longest of those waits.
    run(44, true);
    assert!(run(1, true) < 0.01, "it is avoided");
    // The next invitation comes within these 20 s. By then the estimate has not drifted back by itself.
    run(20, false);
    let healed = run(2, false);
    assert!((0.2..0.3).contains(&healed), "{healed}");
}

/// The policy sees leases through the fleet's board, even where it reads only a part of it.
#[test]
fn adaptive_sees_what_is_in_flight_within_its_tier() {
    let fleet = fleet(&[4, 4], Adaptive::new());
    sequence(&fleet, 100);
    let _busy: Vec<_> = (0..20).map(|_| fleet.lease(&0).unwrap()).collect();
    let held: Vec<_> = (0..12).map(|_| fleet.pick_endpoint().unwrap()).collect();
    let counts = (1..4).map(|n| held.iter().filter(|lease| number(lease) == n).count());
    assert_eq!(counts.collect::<Vec<_>>(), [4, 4, 4]);
}

/// Endpoints at their limit are passed over: the next priority takes what the first cannot, with any policy.
#[test]
fn limits_hold_within_a_tier_and_pass_on_what_is_over() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let fleet = builder(levels(&[3, 2]))
            .policy(Tiers::new(policy))
            .limits(Limits::default().max_requests_per_endpoint(2))
            .build()
            .unwrap();
        let mut held: Vec<_> = (0..10).map(|_| fleet.pick_endpoint().unwrap()).collect();
        let priority = |lease: &Lease<Server>| lease.endpoint().priority();
        let priorities: Vec<_> = held.iter().map(priority).collect();
        assert_eq!(priorities, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1], "{name}");
        for member in fleet.members() {
            assert_eq!(member.in_flight(), 2, "{name}");
        }
        let full = fleet.pick_endpoint().unwrap_err();
        assert_eq!(full, PickError::Saturated, "{name}");
        let avoid = [held[0].id()];
        let full = fleet.pick_endpoint_with(&PickOptions::new().avoid(&avoid));
        assert_eq!(full.unwrap_err(), PickError::Saturated, "{name}");
        drop(held.swap_remove(0));
        assert_eq!(priority(&fleet.pick_endpoint().unwrap()), 0, "{name}");
    }
}

/// Of ten servers in two priorities two are left. Alone, their tiers panic; beside a zone that is whole they do not.
#[test]
fn under_a_failover_a_tiers_panic_is_suspended() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let here = fleet(&[5, 5], policy);
        mark(&here, (0..4).chain(5..9), Mark::Down);
        let to_down = |taken: &BTreeMap<usize, usize>| share(taken, |n| n < 10 && n % 5 != 4);
        assert!(to_down(&taken(&here, 1000)) > 0.5, "{name}");
        let there = builder((10..20).map(|n| Target::new(n, ())).collect()).build();
        let cluster = Failover::new(here, there.unwrap()).seed(1);
        let mut taken = BTreeMap::new();
        for _ in 0..1000 {
            let lease = cluster.pick_endpoint().unwrap();
            *taken.entry(lease.endpoint().key()).or_default() += 1;
        }
        assert_eq!(to_down(&taken), 0.0, "{name}");
        // A fifth of the capacity is left, times 1.4.
        assert!((share(&taken, |n| n < 10) - 0.28).abs() < 0.02, "{name}");
    }
}

/// With panic suspended, the load is not divided by the panic rule either: of ten endpoints each priority gets what it
/// could carry, 14 and 56 %.
#[test]
fn under_a_failover_priorities_share_as_if_there_were_no_panic_rule() {
    let here = fleet(&[10, 10], RoundRobin::new());
    mark(&here, (1..10).chain(14..20), Mark::Down);
    let there = builder((100..110).map(|n| Target::new(n, ())).collect()).build();
    let cluster = Failover::new(here, there.unwrap()).seed(3);
    let (mut first, mut second) = (0, 0);
    for _ in 0..PICKS {
        match number(&cluster.pick_endpoint().unwrap()) {
            0..10 => first += 1,
            10..20 => second += 1,
            _ => {}
        }
    }
    let its = f64::from(first) / f64::from(first + second);
    assert!(near(its, 0.2, PICKS / 2), "{first} and {second}");
}

/// The whole first priority is in slow start, and the second still gets no load.
#[test]
fn slow_start_of_a_whole_priority_moves_nothing_to_another() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let set = |from: usize| (from..from + 4).map(|n| Target::new(n, ()));
        let spare = || (100..104).map(|n| Target::new(n, ()).with_priority(1));
        let builder = builder(set(0).chain(spare()).collect());
        let slow_start = SlowStart::default().new_endpoints(true);
        let builder = builder.slow_start(slow_start).policy(Tiers::new(policy));
        let fleet = builder.build().unwrap();
        fleet.update(set(10).chain(spare())).unwrap();
        assert_eq!(state(&fleet, 10), MemberState::Warming);
        let seen = taken(&fleet, 4_000);
        assert_eq!(share(&seen, |n| n >= 100), 0.0, "{name}");
        assert_eq!(seen.len(), 4, "{name}: {seen:?}");
    }
}

/// Requests with the same hash keep to a priority as long as its load allows, and hashes are divided in the same shares
/// as requests.
#[test]
fn an_affinity_keeps_to_its_priority() {
    let fleet = fleet(&[10, 10], RoundRobin::new());
    let side = |hash: u64| {
        let options = PickOptions::new().affinity(hash);
        let lease = fleet.pick_endpoint_with(&options).unwrap();
        lease.endpoint().priority()
    };
    mark(&fleet, 0..5, Mark::Down);
    let sides: Vec<_> = (0..2000).map(side).collect();
    let first = sides.iter().filter(|side| **side == 0).count();
    assert!(near(first as f64 / 2000.0, 0.7, 2000), "{first}");
    assert!((0..2000).all(|hash| side(hash) == sides[hash as usize]));
    // Another endpoint goes down: the hashes that stay in the priority were all there before.
    mark(&fleet, 5..6, Mark::Down);
    let came = (0..2000).filter(|&hash| side(hash) == 0 && sides[hash as usize] == 1);
    assert_eq!(came.count(), 0);
}
