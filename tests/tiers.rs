//! Promise: load spills over to the next priority by what the first can carry, degraded endpoints get what the healthy
//! ones cannot carry, and panic is judged for each priority by itself. Numbers in names are those of
//! reference/envoy.md, section 3.
#![allow(clippy::unwrap_used)]

mod common;

use common::tiers::{PICKS, builder, fleet, levels, mark, near, share, taken};
use common::{Server, fail, five_in_a_row, number, sequence, state};
use evenkeel::{
    Choice, Cluster, Event, EventKind, Fleet, Limits, ManualClock, Mark, MemberState, Outcome,
    PanicAction, PanicRule, PickContext, PickError, PickOptions, Picker, PowerOfTwo, RoundRobin,
    Target, Tier, Tiers, from_picker,
};

#[test]
fn the_first_priority_dead_and_the_second_well_is_no_panic() {
    let fleet = fleet(&[10, 5], RoundRobin::new());
    mark(&fleet, 0..10, Mark::Down);
    assert_eq!(share(&taken(&fleet, 1000), |n| n >= 10), 1.0);
    assert!(!fleet.stats().panicking);
    // With one policy for all priorities the fleet panics.
    fleet.set_policy(RoundRobin::new()).unwrap();
    assert!(fleet.stats().panicking);
    assert!(share(&taken(&fleet, 1000), |n| n < 10) > 0.5);
    fleet.set_policy(Tiers::new(RoundRobin::new())).unwrap();
    assert!(!fleet.stats().panicking);
    assert_eq!(share(&taken(&fleet, 1000), |n| n >= 10), 1.0);
}

/// In panic, endpoints that are marked down take requests. So a retry is not given up while such an endpoint is left,
/// and the fleet has no healthy endpoint, as health does not tell good from bad.
#[test]
fn what_a_caller_asks_knows_of_panic() {
    let fleet = fleet(&[4], RoundRobin::new());
    assert!(fleet.has_healthy());
    mark(&fleet, 0..3, Mark::Down);
    let last = fleet.members()[3].id();
    let lease = fleet.pick_endpoint_with(&PickOptions::new().avoid(&[last]));
    assert!(number(&lease.unwrap()) < 3);
    assert!(!fleet.leaves_none(&[last]));
    assert!(!fleet.has_healthy());
    mark(&fleet, 0..1, Mark::Up);
    assert!(fleet.has_healthy(), "two of four");
    let two = [fleet.members()[0].id(), last];
    assert!(fleet.leaves_none(&two));
}

/// The panic of one tier is not that of all: health still counts in the second priority, so the fleet has healthy ones.
#[test]
fn one_tier_in_panic_leaves_healthy_ones() {
    let fleet = five_and_sixty_five(PanicRule::envoy());
    assert!(fleet.stats().panicking);
    assert!(fleet.has_healthy());
}

/// The first priority is 5 % healthy, the second 65 %.
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
    // 95 of 100 of the picks there go to endpoints that are marked down.
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

/// The first priority has half of its endpoints and carries all that both can. The second has none, and no load, so its
/// panic concerns no pick: one for which the first priority has no endpoint left neither goes to a dead one nor fails
/// for panic.
#[test]
fn a_dead_priority_takes_no_picks_for_which_others_have_none_left() {
    for action in [PanicAction::IgnoreHealth, PanicAction::FailFast] {
        let build = |limits| {
            let builder = builder(levels(&[4, 5])).policy(Tiers::new(RoundRobin::new()));
            let rule = PanicRule::envoy().action(action);
            let fleet = builder.panic_rule(rule).limits(limits).build().unwrap();
            mark(&fleet, [0, 1, 4, 5, 6, 7, 8], Mark::Down);
            assert!(!fleet.stats().panicking);
            fleet
        };
        let fleet = build(Limits::default());
        let tried = [2, 3].map(|number| fleet.member(&number).unwrap().id());
        let retry = || fleet.pick_endpoint_with(&PickOptions::new().avoid(&tried));
        assert!(fleet.leaves_none(&tried));
        assert_eq!(retry().unwrap_err(), PickError::AllAvoided, "{action:?}");
        // With one of five eligible the second priority has a load, and its panic concerns the retry.
        mark(&fleet, [4], Mark::Auto);
        match action {
            PanicAction::IgnoreHealth => assert!(number(&retry().unwrap()) >= 4),
            _ => assert_eq!(retry().unwrap_err(), PickError::TooFewEligible),
        }

        let fleet = build(Limits::default().max_requests_per_endpoint(1));
        let _held = [2, 3].map(|number| fleet.lease(&number).unwrap());
        let error = fleet.pick_endpoint().unwrap_err();
        assert_eq!(error, PickError::Saturated, "{action:?}");
        assert_eq!(fleet.stats().saturated, 1);
    }
}

/// The pick fails as it is for a priority in panic, with limits as without.
#[test]
fn a_pick_for_a_panicking_priority_fails_for_panic_whatever_else_would_stop_it() {
    for limits in [
        Limits::default(),
        Limits::default().max_requests_per_endpoint(1),
    ] {
        let builder = builder(levels(&[3])).policy(Tiers::new(RoundRobin::new()));
        let rule = PanicRule::envoy().action(PanicAction::FailFast);
        let fleet = builder.panic_rule(rule).limits(limits).build().unwrap();
        mark(&fleet, [0, 1], Mark::Down);
        let held = fleet.lease(&2).unwrap();
        let tried = [held.id()];
        for avoid in [&[][..], &tried] {
            let error = fleet.pick_endpoint_with(&PickOptions::new().avoid(avoid));
            assert_eq!(error.unwrap_err(), PickError::TooFewEligible);
        }
        assert_eq!(fleet.stats().saturated, 0);
    }
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
fn without_a_panic_rule_no_eligible_endpoint_is_an_error() {
    let builder = builder(levels(&[2, 2])).policy(Tiers::new(RoundRobin::new()));
    let fleet = builder.panic_rule(PanicRule::off()).build().unwrap();
    mark(&fleet, 0..4, Mark::Down);
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::AllEjected);
    mark(&fleet, [3], Mark::Auto);
    assert_eq!(share(&taken(&fleet, 100), |n| n == 3), 1.0);
}

/// A single spare that is down, beside a priority that carries everything, concerns no request.
#[test]
fn panic_in_a_priority_without_a_load_is_no_news() {
    let builder = builder(levels(&[3, 1])).policy(Tiers::new(RoundRobin::new()));
    let fleet = builder.events(64).build().unwrap();
    mark(&fleet, [0, 3], Mark::Down);
    let tiers = fleet.tiers();
    let shown = |tier: &Tier| (tier.load_percent, tier.panicking);
    assert_eq!(
        tiers.iter().map(shown).collect::<Vec<_>>(),
        [(100.0, false), (0.0, true)]
    );
    let both = taken(&fleet, 1000);
    assert_eq!(both.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert!(!fleet.stats().panicking);
    assert_eq!(fleet.take_events(), []);

    mark(&fleet, [1], Mark::Down); // one of three: now all four take requests
    assert_eq!(taken(&fleet, 1000).len(), 4);
    assert!(fleet.stats().panicking);
    let events = fleet.take_events();
    assert!(
        matches!(
            events[..],
            [Event {
                kind: EventKind::PanicBegun { eligible: 1, .. },
                ..
            }]
        ),
        "{events:?}"
    );
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

/// Panic under one `Tiers` says nothing once another policy has been in force: at 55 % it does not begin anew.
#[test]
fn a_panic_is_forgotten_while_another_policy_is_in_force() {
    let tiers = || Tiers::new(RoundRobin::new());
    let builder = builder(levels(&[20])).policy(tiers());
    let fleet = builder.events(64).build().unwrap();
    mark(&fleet, 0..12, Mark::Down);
    sequence(&fleet, 1);
    assert!(fleet.stats().panicking);
    fleet.set_policy(RoundRobin::new()).unwrap();
    mark(&fleet, 0..12, Mark::Auto);
    mark(&fleet, 0..9, Mark::Down);
    assert!(!fleet.stats().panicking);
    drop(fleet.take_events());
    fleet.set_policy(tiers()).unwrap();
    assert!(sequence(&fleet, 100).iter().all(|&number| number >= 9));
    assert!(!fleet.stats().panicking);
    assert_eq!(fleet.take_events(), []);
}

/// One of two endpoints of the first priority is down, which is three quarters of it by weight. 1.4 times what is left
/// is carried.
#[test]
fn a_priority_is_as_well_as_its_weights_say_where_that_is_set() {
    for (by_weight, to_first) in [(false, 0.7), (true, 0.35)] {
        let mut servers = levels(&[2, 2]);
        servers[0] = servers[0].clone().with_weight(3);
        let policy = Tiers::new(RoundRobin::new()).weighted_priority_health(by_weight);
        let builder = builder(servers).policy(policy);
        let fleet = builder.panic_rule(PanicRule::off()).build().unwrap();
        mark(&fleet, 0..1, Mark::Down);
        let seen = taken(&fleet, PICKS);
        assert!(near(share(&seen, |n| n < 2), to_first, PICKS), "{seen:?}");
    }
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
    // A retry that has tried the one healthy endpoint goes to a degraded one.
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
    let builder = common::setup(4, &clock).ejection(five_in_a_row());
    let fleet = builder.policy(RoundRobin::new()).build().unwrap();
    mark(&fleet, [0], Mark::Degraded);
    assert_eq!(
        taken(&fleet, 400),
        (0..4).map(|number| (number, 100)).collect()
    );
    fail(&fleet, 0, 5);
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
    // Weight 0 and back does not change its state.
    fleet.insert(Target::new(0, ()).with_weight(0)).unwrap();
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
    mark(&fleet, [0], Mark::Auto);
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
}

/// Chooses index 3, however many members there are.
#[derive(Clone, Debug)]
struct Fourth;

impl Picker<Server> for Fourth {
    fn pick(&self, _: &mut PickContext<'_, Server>) -> Option<Choice> {
        Some(Choice::at(3))
    }
}

/// Index 3 is valid in the fleet, but not among the three members of the first priority.
#[test]
fn an_index_out_of_range_of_a_priority_is_counted_and_another_of_it_is_picked() {
    let fleet = fleet(&[3, 2], from_picker(Fourth));
    assert!(sequence(&fleet, 10).iter().all(|&number| number < 3));
    assert_eq!(fleet.stats().policy_faults, 10);
}
