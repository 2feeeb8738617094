//! Promise: a bad endpoint is ejected at once, never more of them than the cap, and none for less.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{
    MILLI, SECOND, Server, ejected, exact, fail, five_in_a_row, number, one_out, sequence, servers,
    setup, state,
};
use evenkeel::{
    Alarm, Cluster, Ejection, Endpoint, Health, HealthTracker, Judging, ManualClock, Mark,
    MemberState, Outcome, PickError, PickOptions, Random, Sample, SlowStart, Target, Upkeep,
};

/// Asserts that this many failures eject, and that the very next pick goes elsewhere.
fn eject_at(failures: usize, ejection: &Ejection) {
    // Of two servers, so that a pick that ignored the ejection would show in every second run.
    for seed in 0..100 {
        let builder = setup(2, &ManualClock::new()).ejection(ejection.clone());
        let fleet = builder.seed(seed).build().unwrap();
        fail(&fleet, 0, failures - 1);
        assert_eq!(state(&fleet, 0), MemberState::Ready);
        fail(&fleet, 0, 1);
        assert_eq!(state(&fleet, 0), MemberState::Ejected);
        assert_eq!(number(&fleet.pick_endpoint().unwrap()), 1, "seed {seed}");
    }
}

#[test]
fn the_second_failure_ejects_where_no_other_endpoint_fails() {
    eject_at(2, &Ejection::default());
}

/// Its share grows like that of a returning endpoint, but it has no ejection behind it, so one failure does not eject
/// it.
#[test]
fn a_new_endpoint_that_warms_up_is_not_on_trial() {
    let slow_start = SlowStart::default().new_endpoints(true);
    let builder = setup(10, &ManualClock::new()).slow_start(slow_start);
    let fleet = builder.build().unwrap();
    fleet.insert(Target::new(10, ())).unwrap();
    assert_eq!(state(&fleet, 10), MemberState::Warming);
    fail(&fleet, 10, 1);
    assert_eq!(ejected(&fleet), []);
    fail(&fleet, 10, 1);
    assert_eq!(ejected(&fleet), [10]);
}

#[test]
fn five_failures_in_a_row_eject_where_that_is_set() {
    eject_at(5, &five_in_a_row());
}

#[test]
fn a_score_below_the_threshold_ejects_from_the_minimum_volume_on() {
    let ejection = exact().cusum_threshold(0.0).minimum_volume(20);
    let clock = ManualClock::new();
    let fleet = setup(4, &clock).ejection(ejection).build().unwrap();
    fail(&fleet, 0, 19);
    fleet.maintain();
    assert_eq!(ejected(&fleet), [0; 0], "19 requests are too few");
    fail(&fleet, 0, 1);
    assert_eq!(ejected(&fleet), [0]);
    // A score of exactly one half is not below the threshold.
    for _ in 0..20 {
        fleet.lease(&1).unwrap().record(Outcome::Success);
        fail(&fleet, 1, 1);
    }
    assert_eq!(ejected(&fleet), [0]);
}

/// A tracker whose health depends on the number of its endpoint, and that never raises an alarm.
#[derive(Debug)]
struct Opinion(usize);

impl HealthTracker for Opinion {
    fn record(&self, _: &Sample, _: &Judging<'_>) -> Alarm {
        Alarm::None
    }
    fn health(&self, _: &Judging<'_>) -> Health {
        match self.0 {
            0 => Health::new(0.49, 20),
            1 => Health::new(0.49, 19),
            2 => Health::new(0.50, 20),
            _ => Health::new(1.0, 20),
        }
    }
}

#[test]
fn upkeep_ejects_by_the_score_of_a_tracker_of_ones_own() {
    for by_picks in [false, true] {
        let clock = ManualClock::new();
        let make = |server: &Server| Opinion(server.key());
        let upkeep = if by_picks {
            Upkeep::Picks
        } else {
            Upkeep::Caller
        };
        let fleet = setup(4, &clock).upkeep(upkeep).tracker(make);
        let fleet = fleet.build().unwrap();
        clock.advance(SECOND);
        if by_picks {
            sequence(&fleet, 1);
        } else {
            sequence(&fleet, 10);
            assert_eq!(ejected(&fleet), [0; 0], "nobody has done upkeep");
            fleet.maintain();
        }
        // Only server 0 is below the threshold on enough requests.
        assert_eq!(ejected(&fleet), [0], "by picks: {by_picks}");
    }
}

#[test]
fn when_all_fail_no_more_are_ejected_than_the_cap_allows() {
    let fleet = setup(10, &ManualClock::new()).build().unwrap();
    for round in 0..200 {
        fail(&fleet, round % 10, 1);
        assert!(ejected(&fleet).len() <= 5, "after {round} failures");
    }
    let stats = fleet.stats();
    assert_eq!((stats.ejected, stats.ejection_limit), (5, 5));
    assert_eq!(stats.ejections, 5);
    assert!(stats.ejections_overflow > 0);
}

#[test]
fn no_instant_shows_more_ejected_than_the_cap_while_threads_fail_everything() {
    for seed in 0..50 {
        // Time stands still, so none returns, and members that are counted one after the other are ejected at the same
        // time.
        let fleet = setup(10, &ManualClock::new()).seed(seed).build().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let failing: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| (0..100).for_each(|turn| fail(&fleet, turn % 10, 1))))
                .collect();
            let sampler = scope.spawn(|| {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(fleet.stats().ejected).max(ejected(&fleet).len());
                }
                most
            });
            failing
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            done.store(true, Ordering::Relaxed);
            let most = sampler.join().unwrap();
            assert!(most <= 5, "{most} of 10 were ejected at once");
        });
        assert_eq!(fleet.stats().ejected, 5);
    }
}

#[test]
fn health_counts_at_half_eligible_and_not_below() {
    let fleet = setup(10, &ManualClock::new()).policy(Random::new());
    let fleet = fleet.build().unwrap();
    (0..4).for_each(|number| fail(&fleet, number, 5));
    assert!(fleet.mark(&4, Mark::Down));
    // 2000 picks of ten or five: one is missed with odds of 10 · 0.9^2000, 10^-90.
    let seen = |fleet| sequence(fleet, 2000).into_iter().collect::<BTreeSet<_>>();
    assert!(!fleet.stats().panicking);
    assert_eq!(seen(&fleet), (5..10).collect());
    assert!(fleet.mark(&5, Mark::Down));
    assert!(fleet.stats().panicking);
    assert_eq!(seen(&fleet), (0..10).collect());
    // Half is enough to stay out of panic, but not to leave it.
    assert!(fleet.mark(&5, Mark::Auto));
    assert_eq!(seen(&fleet), (0..10).collect());
    assert!(fleet.mark(&4, Mark::Auto));
    assert!(!fleet.stats().panicking);
    assert_eq!(seen(&fleet), (4..10).collect());
}

#[test]
fn with_the_panic_rule_off_no_eligible_endpoint_is_an_error() {
    let fleet = setup(4, &ManualClock::new())
        .ejection(exact().max_ejection_percent(100))
        .panic_threshold_percent(0)
        .build()
        .unwrap();
    (0..3).for_each(|number| fail(&fleet, number, 5));
    assert_eq!(sequence(&fleet, 100), [3; 100]);
    fail(&fleet, 3, 5);
    let error = fleet.pick_endpoint().unwrap_err();
    assert_eq!(error, PickError::AllEjected);
}

#[test]
fn removing_an_ejected_endpoint_frees_its_place_under_the_cap() {
    // Of three one may be ejected: if a removal kept its slot, the second round would find none.
    let fleet = setup(2, &ManualClock::new()).build().unwrap();
    for round in 0..100 {
        let fresh = 2 + round;
        fleet.insert(Target::new(fresh, ())).unwrap();
        fail(&fleet, fresh, 5);
        assert_eq!(ejected(&fleet), [fresh], "no room in round {round}");
        assert!(fleet.remove(&fresh));
    }
    assert_eq!(fleet.stats().ejected, 0);
    assert_eq!(fleet.stats().ejections, 100);
}

#[test]
fn an_endpoint_inserted_again_within_a_minute_comes_back_ejected() {
    let (fleet, clock) = one_out();
    assert!(fleet.remove(&0));
    assert_eq!(fleet.stats().ejected, 0);
    clock.advance(SECOND * 60);
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(ejected(&fleet), [0]);
    assert_eq!(fleet.stats().ejected, 1);

    assert!(fleet.remove(&0));
    clock.advance(SECOND * 60 + MILLI);
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(ejected(&fleet), [0; 0]);
    assert_eq!(fleet.stats().ejected, 0);
}

#[test]
fn a_shrinking_fleet_lets_the_earliest_ejected_back_in() {
    let clock = ManualClock::new();
    let hour = Duration::from_secs(3600);
    let ejection = exact().base_ejection_time(hour).max_ejection_time(hour);
    let fleet = setup(10, &clock).ejection(ejection).build().unwrap();
    for number in [3, 1, 4, 0, 2] {
        clock.advance(SECOND);
        fail(&fleet, number, 5);
    }
    // Of seven, three may be ejected.
    let kept = || servers(&[1; 10]).into_iter().filter(|s| s.key() < 7);
    assert_eq!(fleet.update(kept()).unwrap().removed, 3);
    assert_eq!(ejected(&fleet), [0, 2, 4]);
    assert_eq!(fleet.stats().ejected, 3);
    // Outcomes from before its ejection do not eject it again.
    fail(&fleet, 3, 4);
    fleet.maintain();
    assert_eq!(ejected(&fleet), [0, 2, 4]);
}

#[test]
fn a_mark_outranks_health_until_it_is_taken_back() {
    let (fleet, _clock) = one_out();
    assert!(fleet.mark(&0, Mark::Up));
    assert_eq!(state(&fleet, 0), MemberState::Up);
    assert!(sequence(&fleet, 2000).contains(&0));
    fail(&fleet, 0, 50);
    assert_eq!(
        state(&fleet, 0),
        MemberState::Up,
        "an outcome against a mark"
    );

    assert!(fleet.mark(&0, Mark::Down));
    assert_eq!(state(&fleet, 0), MemberState::Down);
    assert!(!sequence(&fleet, 2000).contains(&0));
    assert_eq!(fleet.stats().marked_down, 1);
    // An update of its data does not take the mark back.
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(state(&fleet, 0), MemberState::Down);

    assert!(fleet.mark(&0, Mark::Auto));
    assert_eq!(state(&fleet, 0), MemberState::Ready);
    assert_eq!(fleet.stats().marked_down, 0);
    fail(&fleet, 0, 5);
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
    assert!(!fleet.mark(&77, Mark::Down), "there is no 77");
}

#[test]
fn overloaded_and_ignored_never_eject() {
    let fleet = setup(4, &ManualClock::new()).build().unwrap();
    for outcome in [
        Outcome::Ignored,
        Outcome::overloaded(None),
        Outcome::overloaded(Some(SECOND)),
    ] {
        for _ in 0..1000 {
            fleet.lease(&0).unwrap().record(outcome);
        }
        fleet.maintain();
        assert_eq!(ejected(&fleet), [0; 0], "{outcome:?}");
    }
}

#[test]
fn a_lease_dropped_within_the_patience_says_nothing_and_a_longer_one_is_a_timeout() {
    let clock = ManualClock::new();
    let builder = setup(4, &clock).ejection(five_in_a_row());
    let fleet = builder.patience(SECOND).build().unwrap();
    let hold = |times: usize, for_how_long| {
        let leases: Vec<_> = (0..times).map(|_| fleet.lease(&0).unwrap()).collect();
        clock.advance(for_how_long);
        drop(leases);
    };
    hold(1000, SECOND);
    fleet.maintain();
    assert_eq!(ejected(&fleet), [0; 0]);
    hold(4, SECOND + Duration::from_nanos(1));
    assert_eq!(ejected(&fleet), [0; 0]);
    hold(1, SECOND + Duration::from_nanos(1));
    assert_eq!(ejected(&fleet), [0]);
}

/// One of ten is ejected, which is no panic: a retry that has tried all others fails, and is not sent to the ejected
/// one.
#[test]
fn a_retry_does_not_resort_to_an_ejected_endpoint() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(five_in_a_row()).build().unwrap();
    fail(&fleet, 0, 5);
    let members = fleet.members();
    let ids: Vec<_> = members.iter().map(|member| member.id()).collect();
    let others = PickOptions::new().avoid(&ids[1..]);
    let refused = fleet.pick_endpoint_with(&others).unwrap_err();
    assert_eq!(refused, PickError::AllAvoided);
    let last = PickOptions::new().avoid(&ids[2..]);
    let left = fleet.pick_endpoint_with(&last).unwrap();
    assert_eq!(left.endpoint().key(), 1);
}
