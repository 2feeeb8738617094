//! Promise: features work together where they meet: limits, tiers, failover, probes, events and user clocks. Each of
//! these tests pins a bug that was found from outside.
#![allow(clippy::unwrap_used)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::tiers::{builder, levels, mark};
use common::{MILLI, SECOND, Server};
use evenkeel::{
    Clock, Cluster, Ejection, Endpoint, EventKind, Failover, Fleet, Limits, ManualClock, Mark,
    Outcome, PanicAction, PanicRule, PickError, RoundRobin, Target, Tick, Tiers,
};

fn all_may_go() -> Ejection {
    Ejection::default()
        .consecutive_failures(2)
        .max_ejection_percent(100)
}

/// A probe under a `Failover` takes a slot of the fleet's limit as any request does, and is not sent where none is
/// free.
#[test]
fn a_probe_under_a_failover_takes_a_place_of_the_fleet() {
    let clock = ManualClock::new();
    let zone = |first: usize| {
        Fleet::builder()
            .endpoints((first..first + 4).map(|number| Target::new(number, ())))
            .clock(clock.clone())
            .seed(1)
            .limits(Limits::default().max_requests(2))
            .ejection(all_may_go())
            .build()
            .unwrap()
    };
    let (a, b) = (zone(0), zone(10));
    let cluster = Failover::new(a.clone(), b).seed(1);
    while a.stats().ejected == 0 {
        a.pick_endpoint().unwrap().record(Outcome::Failure);
    }
    clock.advance(60 * SECOND);
    // Both slots are held, so there is none for a probe.
    let held = [a.pick_endpoint().unwrap(), a.pick_endpoint().unwrap()];
    for _ in 0..50 {
        cluster.pick_endpoint().unwrap().record(Outcome::Success);
        assert_eq!(a.stats().in_flight, 2);
    }
    drop(held);
    // One of the two was a probe that ended without a verdict: the next one is due after the base time, 2 s.
    for _ in 0..400 {
        cluster.pick_endpoint().unwrap().record(Outcome::Success);
        clock.advance(10 * MILLI);
    }
    assert_eq!(a.stats().ejected, 0);
    let both = [a.pick_endpoint().unwrap(), a.pick_endpoint().unwrap()];
    assert_eq!(a.pick_endpoint().unwrap_err(), PickError::Saturated);
    drop(both);
    assert_eq!(a.stats().in_flight, 0);
}

/// One endpoint takes its probes and never answers. Although only one probe may be under way, the others return.
#[test]
fn a_probe_that_hangs_gives_its_place_to_others() {
    for per_endpoint in [None, Some(1)] {
        let clock = ManualClock::new();
        let mut limits = Limits::default().max_probes(1);
        limits.max_requests_per_endpoint = per_endpoint;
        let fleet = Fleet::builder()
            .endpoints((0..6).map(|number| Target::new(number, ())))
            .clock(clock.clone())
            .seed(5)
            .policy(RoundRobin::new())
            .limits(limits)
            .ejection(all_may_go())
            .build()
            .unwrap();
        while fleet.stats().ejected < 6 {
            fleet.pick_endpoint().unwrap().record(Outcome::Failure);
            clock.advance(10 * MILLI);
        }
        let (mut hung, mut which) = (Vec::new(), None);
        for _ in 0..20_000 {
            clock.advance(100 * MILLI);
            let Ok(lease) = fleet.pick_endpoint() else {
                continue;
            };
            let number = lease.endpoint().key();
            if lease.is_probe() && *which.get_or_insert(number) == number {
                hung.push(lease);
            } else {
                lease.record(Outcome::Success);
            }
        }
        let stats = fleet.stats();
        assert_eq!(stats.ejected, 1, "{per_endpoint:?}: {stats:?}");
        assert!(stats.probing <= 1);
        drop(hung);
        assert_eq!(fleet.stats().in_flight, 0);
    }
}

/// A clock that panics on demand.
#[derive(Clone, Debug, Default)]
struct Bomb(Arc<AtomicBool>);

impl Clock for Bomb {
    fn now(&self) -> Tick {
        assert!(!self.0.load(Ordering::SeqCst), "the clock");
        Tick::ZERO
    }
}

/// The last lease of a drained endpoint ends while the clock panics: the process does not abort, and no slot is lost.
#[test]
fn a_clock_that_panics_as_a_drain_ends_costs_nothing() {
    for recorded in [true, false] {
        let bomb = Bomb::default();
        let fleet: Fleet<&'static str> = Fleet::builder()
            .endpoints(["a", "b"])
            .events(16)
            .limits(Limits::default().max_requests(1))
            .clock(bomb.clone())
            .build()
            .unwrap();
        let lease = fleet.pick_endpoint().unwrap();
        drop(fleet.drain(lease.endpoint()));
        bomb.0.store(true, Ordering::SeqCst);
        let ended = catch_unwind(AssertUnwindSafe(|| match recorded {
            true => lease.record(Outcome::Failure),
            false => drop(lease),
        }));
        assert!(ended.is_err() || !recorded);
        bomb.0.store(false, Ordering::SeqCst);
        assert!(fleet.pick_endpoint().is_ok());
    }
}

/// With tiers inside tiers only the outer ones count. Three of ten are down, all of one priority, and no panic begins.
#[test]
fn tiers_within_tiers_are_the_outer_ones() {
    let fleet = builder(levels(&[5, 5]))
        .panic_rule(PanicRule::default().action(PanicAction::FailFast))
        .policy(Tiers::new(Tiers::new(RoundRobin::new())))
        .events(64)
        .build()
        .unwrap();
    mark(&fleet, 0..3, Mark::Down);
    let first = (0..1000).filter(|_| fleet.pick_endpoint().unwrap().endpoint().priority() == 0);
    // Two of five carry 56 %; five standard deviations of 1000 picks are 78.
    assert!(first.count().abs_diff(560) <= 78);
    let panics = |kind: &EventKind| matches!(kind, EventKind::PanicBegun { .. });
    let events = fleet.take_events();
    assert!(
        !events.iter().any(|event| panics(&event.kind)),
        "{events:?}"
    );
}

/// Each panic that begins ends once, whether tiers or the fleet judged it at its beginning or do at its end.
#[test]
fn panic_is_told_in_pairs_through_changes_of_the_policy() {
    let panic_events = |fleet: &Fleet<Server>| -> String {
        let events = fleet.take_events().into_iter();
        let letters = events.filter_map(|event| match event.kind {
            EventKind::PanicBegun { .. } => Some('+'),
            EventKind::PanicOver { .. } => Some('-'),
            _ => None,
        });
        letters.collect()
    };
    let tiers = || Tiers::new(RoundRobin::new());
    let with = |sizes: &[usize]| {
        let builder = builder(levels(sizes)).policy(tiers()).events(256);
        builder.panic_rule(PanicRule::envoy()).build().unwrap()
    };
    // 40 of 100 in one priority are left and none in the other: the tier panics. Later 60 of 104 are left, so the fleet
    // as a whole does not panic, and the change of policy ends the tier's panic.
    let fleet = with(&[100, 4]);
    mark(&fleet, 60..104, Mark::Down);
    mark(&fleet, 0..20, Mark::Down);
    drop(fleet.pick_endpoint());
    assert_eq!(panic_events(&fleet), "+");
    mark(&fleet, 0..20, Mark::Auto);
    fleet.set_policy(RoundRobin::new()).unwrap();
    assert_eq!(panic_events(&fleet), "-");
    mark(&fleet, 60..104, Mark::Auto);
    drop(fleet.pick_endpoint());
    assert_eq!(panic_events(&fleet), "");

    // Both the tiers and the fleet panic: with the change of policy one panic ends and the other begins.
    let fleet = with(&[10, 10]);
    mark(&fleet, 0..18, Mark::Down);
    drop(fleet.pick_endpoint());
    assert_eq!(panic_events(&fleet), "+");
    fleet.set_policy(RoundRobin::new()).unwrap();
    assert_eq!(panic_events(&fleet), "-+");
    fleet.set_policy(tiers()).unwrap();
    drop(fleet.pick_endpoint());
    assert_eq!(panic_events(&fleet), "-+");
    mark(&fleet, 0..18, Mark::Auto);
    drop(fleet.pick_endpoint());
    assert_eq!(panic_events(&fleet), "-");

    // An empty fleet ends the panic.
    mark(&fleet, 0..20, Mark::Down);
    drop(fleet.pick_endpoint());
    assert_eq!(panic_events(&fleet), "+");
    fleet.update([]).unwrap();
    assert_eq!(panic_events(&fleet), "-");
}
