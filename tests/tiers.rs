//! Promise: load spills to the next priority by what the first can carry, panic is judged for each priority by itself, and whatever
//! policy chooses within one, health, slow start and avoidance hold. Numbers in names are those of reference/envoy.md, section 3.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{MILLI, SECOND, Server, by_row, fail, number, sequence, state};
use evenkeel::{
    Adaptive, Choice, Cluster, EventKind, Fleet, FleetBuilder, LoadBalancer, ManualClock, Mark,
    MemberState, Outcome, PanicAction, PanicRule, PickContext, PickError, PickOptions, Picker,
    PowerOfTwo, RoundRobin, SlowStart, Target, Tiers, Weight, WeightedRoundRobin, from_picker,
};

const PICKS: usize = 20_000;

/// Five standard deviations of a share of so many picks, each on its own: one run in two million is beyond.
fn near(seen: f64, share: f64, picks: usize) -> bool {
    (seen - share).abs() <= 5.0 * (share * (1.0 - share) / picks as f64).sqrt() + 1e-9
}

/// So many servers in each priority, numbered through.
fn levels(sizes: &[usize]) -> Vec<Server> {
    let level = |(priority, &size): (u32, &usize)| (0..size).map(move |_| priority);
    let priorities = (0..).zip(sizes).flat_map(level);
    let numbered = priorities.enumerate();
    numbered
        .map(|(number, priority)| Target::new(number, ()).with_priority(priority))
        .collect()
}

fn builder(servers: Vec<Server>) -> FleetBuilder<Server> {
    Fleet::builder()
        .endpoints(servers)
        .clock(ManualClock::new())
        .seed(7)
}

/// A fleet of such levels by this policy within tiers, without a gap in the panic rule.
fn fleet(sizes: &[usize], policy: impl LoadBalancer<Server> + 'static) -> Fleet<Server> {
    let builder = builder(levels(sizes)).policy(Tiers::new(policy));
    builder.panic_rule(PanicRule::envoy()).build().unwrap()
}

fn mark(fleet: &Fleet<Server>, numbers: impl IntoIterator<Item = usize>, mark: Mark) {
    for number in numbers {
        assert!(fleet.mark(&number, mark));
    }
}

/// How many of `picks` requests each server takes.
fn taken(fleet: &Fleet<Server>, picks: usize) -> BTreeMap<usize, usize> {
    let mut taken = BTreeMap::new();
    for number in sequence(fleet, picks) {
        *taken.entry(number).or_default() += 1;
    }
    taken
}

fn share(taken: &BTreeMap<usize, usize>, of: impl Fn(usize) -> bool) -> f64 {
    let all: usize = taken.values().sum();
    let some: usize = taken
        .iter()
        .filter(|(it, _)| of(**it))
        .map(|(_, n)| n)
        .sum();
    some as f64 / all as f64
}

/// The usable one with the fewest requests in flight, the first of several.
#[derive(Clone, Debug)]
struct FewestFirst;

impl Picker<Server> for FewestFirst {
    fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
        let members = cx.members();
        let usable = (0..members.len()).filter(|&i| cx.may_pick(i));
        usable
            .min_by_key(|&i| members[i].in_flight())
            .map(Choice::at)
    }
}

fn policies() -> Vec<Box<dyn LoadBalancer<Server>>> {
    vec![
        Box::new(RoundRobin::new()),
        Box::new(WeightedRoundRobin::new()),
        Box::new(PowerOfTwo::new()),
        Box::new(Adaptive::new()),
        Box::new(from_picker(FewestFirst)),
    ]
}

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
    let ejection = by_row().max_ejection_percent(100);
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
        // The very next pick goes by it, and meets none of the ejected.
        let seen = taken(&fleet, PICKS);
        assert!(
            near(share(&seen, |n| n >= 4), expected / 100.0, PICKS),
            "{seen:?}"
        );
        assert_eq!(share(&seen, |n| n <= failed), 0.0);
    }
    // By 2 s: probes, one after the other, until all are back.
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
fn the_first_priority_dead_and_the_second_well_is_no_panic() {
    let fleet = fleet(&[10, 5], RoundRobin::new());
    mark(&fleet, 0..10, Mark::Down);
    assert_eq!(share(&taken(&fleet, 1000), |n| n >= 10), 1.0);
    assert!(!fleet.stats().panicking);
    // The same by one policy for all is.
    fleet.set_policy(RoundRobin::new()).unwrap();
    assert!(fleet.stats().panicking);
    assert!(share(&taken(&fleet, 1000), |n| n < 10) > 0.5);
    fleet.set_policy(Tiers::new(RoundRobin::new())).unwrap();
    assert!(!fleet.stats().panicking);
    assert_eq!(share(&taken(&fleet, 1000), |n| n >= 10), 1.0);
}

/// The first priority 5 % healthy, the second 65 %.
fn five_and_sixty_five(rule: PanicRule) -> Fleet<Server> {
    let builder = builder(levels(&[100, 100])).policy(Tiers::new(RoundRobin::new()));
    let fleet = builder.panic_rule(rule).build().unwrap();
    mark(&fleet, 5..100, Mark::Down);
    mark(&fleet, 165..200, Mark::Down);
    fleet
}

#[test]
fn five_and_sixty_five_percent_one_priority_panics_and_the_other_does_not() {
    let fleet = five_and_sixty_five(PanicRule::envoy());
    let seen = taken(&fleet, PICKS);
    assert!(near(share(&seen, |n| n < 100), 0.08, PICKS), "{seen:?}");
    // 95 of 100 of the picks there.
    assert!(near(share(&seen, |n| (5..100).contains(&n)), 0.076, PICKS));
    assert_eq!(share(&seen, |n| n >= 165), 0.0);
    let tiers = fleet.tiers();
    let shown: Vec<_> = tiers
        .iter()
        .map(|tier| {
            (
                tier.priority,
                tier.hosts,
                tier.healthy,
                tier.load_percent,
                tier.panicking,
            )
        })
        .collect();
    assert_eq!(shown, [(0, 100, 5, 8.0, true), (1, 100, 65, 92.0, false)]);
    assert!(fleet.stats().panicking);
}

#[test]
fn failing_fast_fails_what_was_for_the_panicking_priority() {
    let fleet = five_and_sixty_five(PanicRule::envoy().action(PanicAction::FailFast));
    let mut failed = 0;
    for _ in 0..PICKS {
        match fleet.pick_endpoint() {
            Ok(lease) => {
                assert!((100..165).contains(&number(&lease)));
                lease.record(Outcome::Success);
            }
            Err(error) => {
                assert_eq!(error, PickError::TooFewEligible);
                failed += 1;
            }
        }
    }
    assert!(near(failed as f64 / PICKS as f64, 0.08, PICKS), "{failed}");
    mark(&fleet, 100..165, Mark::Down);
    assert_eq!(
        fleet.pick_endpoint().unwrap_err(),
        PickError::TooFewEligible
    );
    mark(&fleet, 0..100, Mark::Up);
    assert!(fleet.pick_endpoint().is_ok());
}

#[test]
fn cases_5_and_16_all_panic_and_each_gets_as_much_as_it_has() {
    let alike = fleet(&[4, 4], RoundRobin::new());
    mark(&alike, [0, 1, 2, 4, 5, 6], Mark::Down);
    let seen = taken(&alike, PICKS);
    assert!(near(share(&seen, |n| n < 4), 0.5, PICKS), "{seen:?}");
    assert_eq!(seen.len(), 8, "all of them, whatever their health");

    let dead = fleet(&[5, 3, 2], RoundRobin::new());
    mark(&dead, 0..10, Mark::Down);
    let seen = taken(&dead, PICKS);
    for (level, share_of) in [(0..5, 0.5), (5..8, 0.3), (8..10, 0.2)] {
        assert!(
            near(share(&seen, |n| level.contains(&n)), share_of, PICKS),
            "{seen:?}"
        );
    }
}

#[test]
fn case_31_below_the_threshold_all_six_and_above_only_the_healthy() {
    let fleet = fleet(&[6], RoundRobin::new());
    mark(&fleet, 2..6, Mark::Down);
    assert_eq!(
        taken(&fleet, 60),
        (0..6).map(|number| (number, 10)).collect()
    );
    mark(&fleet, 2..4, Mark::Up);
    assert_eq!(taken(&fleet, 60).into_keys().max(), Some(3));
}

#[test]
fn without_a_panic_rule_nobody_eligible_is_an_error() {
    let builder = builder(levels(&[2, 2])).policy(Tiers::new(RoundRobin::new()));
    let fleet = builder.panic_rule(PanicRule::off()).build().unwrap();
    mark(&fleet, 0..4, Mark::Down);
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::AllEjected);
    mark(&fleet, [3], Mark::Auto);
    assert_eq!(share(&taken(&fleet, 100), |n| n == 3), 1.0);
}

#[test]
fn a_priority_that_panicked_goes_on_to_the_end_of_the_gap_also_through_an_update() {
    let builder = builder(levels(&[20])).policy(Tiers::new(RoundRobin::new()));
    let fleet = builder.events(64).build().unwrap();
    let panics = |fleet: &Fleet<Server>| {
        sequence(fleet, 1);
        fleet.stats().panicking
    };
    mark(&fleet, 0..10, Mark::Down);
    assert!(!panics(&fleet), "at the threshold");
    mark(&fleet, [10], Mark::Down);
    assert!(panics(&fleet));
    mark(&fleet, [10], Mark::Auto);
    assert!(panics(&fleet));
    fleet.insert(Target::new(0, ())).unwrap();
    assert!(panics(&fleet));
    mark(&fleet, [8, 9], Mark::Auto);
    assert!(!panics(&fleet), "at 60 %");
    let kinds: Vec<_> = fleet
        .take_events()
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let of_panic = |kind: &&EventKind| {
        matches!(
            kind,
            EventKind::PanicBegun { .. } | EventKind::PanicOver { .. }
        )
    };
    let told: Vec<_> = kinds.iter().filter(of_panic).collect();
    assert_eq!(told.len(), 2, "{kinds:?}");
    assert!(matches!(
        told[0],
        EventKind::PanicBegun {
            eligible: 9,
            routable: 20,
            ..
        }
    ));
    assert!(matches!(
        told[1],
        EventKind::PanicOver {
            eligible: 12,
            routable: 20,
            ..
        }
    ));
}

#[test]
fn cases_28_and_30_the_degraded_get_what_the_healthy_cannot_carry() {
    let of_hundred = fleet(&[100], RoundRobin::new());
    mark(&of_hundred, 71..100, Mark::Degraded);
    let seen = taken(&of_hundred, PICKS);
    assert!(near(share(&seen, |n| n >= 71), 0.01, PICKS), "{seen:?}");

    let of_three = fleet(&[3], PowerOfTwo::new());
    mark(&of_three, [1, 2], Mark::Degraded);
    assert_eq!(state(&of_three, 1), MemberState::Degraded);
    let seen = taken(&of_three, PICKS);
    assert!(near(share(&seen, |n| n == 0), 0.46, PICKS), "{seen:?}");
    mark(&of_three, [1, 2], Mark::Auto);
    assert_eq!(state(&of_three, 1), MemberState::Ready);
    assert!(near(
        share(&taken(&of_three, PICKS), |n| n == 0),
        1.0 / 3.0,
        PICKS
    ));
}

#[test]
fn the_healthy_of_all_priorities_come_before_the_degraded() {
    let fleet = fleet(&[2, 2], RoundRobin::new());
    mark(&fleet, [0, 1], Mark::Degraded);
    assert_eq!(share(&taken(&fleet, 1000), |n| n >= 2), 1.0);
    mark(&fleet, [2], Mark::Down);
    let seen = taken(&fleet, PICKS);
    assert!(near(share(&seen, |n| n == 3), 0.7, PICKS), "{seen:?}");
    // A retry that has been to the one healthy goes to a degraded one.
    let healthy = fleet.lease(&3).unwrap();
    let tried = [healthy.id()];
    for _ in 0..100 {
        let lease = fleet
            .pick_endpoint_with(&PickOptions::new().avoid(&tried))
            .unwrap();
        assert!(number(&lease) < 2);
    }
}

#[test]
fn a_degraded_endpoint_is_judged_and_counts_as_any_for_other_policies() {
    let clock = ManualClock::new();
    let builder = common::setup(4, &clock).ejection(by_row());
    let fleet = builder.policy(RoundRobin::new()).build().unwrap();
    mark(&fleet, [0], Mark::Degraded);
    assert_eq!(
        taken(&fleet, 400),
        (0..4).map(|number| (number, 100)).collect()
    );
    fail(&fleet, 0, 5);
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
    // Weight 0 and back: it is as it was.
    fleet.insert(Target::new(0, ()).with_weight(0)).unwrap();
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
    mark(&fleet, [0], Mark::Auto);
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
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
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints(levels(&[4, 4]))
        .policy(Tiers::new(RoundRobin::new()))
        .ejection(by_row())
        .slow_start(SlowStart::default().window(10 * SECOND))
        .clock(clock.clone())
        .seed(3)
        .build()
        .unwrap();
    fail(&fleet, 0, 5);
    clock.advance(3 * SECOND);
    common::probe(&fleet).record_with_latency(Outcome::Success, MILLI);
    assert_eq!(state(&fleet, 0), MemberState::Warming);
    // It counts as healthy, and takes a tenth of its turns at first, half of them in the middle.
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
fn one_endpoint_and_none() {
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

/// A spare priority that has been used once is idle for ever after. It must not take the invitations by which a policy finds
/// out that an endpoint which it avoided has healed.
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
    // It is invited at 1, 2, 4, 8, 16 and 31 s. From 36 s on the spares have been idle for longer than anybody waits.
    run(44, true);
    assert!(run(1, true) < 0.01, "it is avoided");
    // The next is due at 63 s. By then the estimate has not drifted back by itself.
    run(20, false);
    let healed = run(2, false);
    assert!((0.2..0.3).contains(&healed), "{healed}");
}
