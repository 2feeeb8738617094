//! Promises 3 and 4 where endpoints come and go: an ejection outlasts a flap of discovery and a detour over weight 0,
//! keeps its age and gets its probe; and a key that panics leaves the old set in force. Each of these tests pins a bug.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{SECOND, ejected, exact, fail, number, probe, sequence, servers, setup, state};
use evenkeel::{
    Cluster, Ejection, Endpoint, Fleet, ManualClock, Mark, MemberState, Outcome, Target,
    WeightedRoundRobin,
};

/// Of two endpoints one may be ejected, of one none: the limit is 0 while the ejected endpoint is absent.
#[test]
fn a_flap_in_a_fleet_of_two_keeps_the_ejection() {
    let fleet = setup(2, &ManualClock::new()).build().unwrap();
    fail(&fleet, 0, 5);
    assert_eq!(ejected(&fleet), [0]);
    assert!(fleet.remove(&0));
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(ejected(&fleet), [0]);
}

/// Three of six may be ejected, of three one.
#[test]
fn a_flap_of_a_dead_zone_keeps_its_ejections() {
    let fleet = setup(6, &ManualClock::new()).build().unwrap();
    (3..6).for_each(|n| fail(&fleet, n, 5));
    assert_eq!(ejected(&fleet), [3, 4, 5]);
    fleet.update(servers(&[1; 3])).unwrap();
    fleet.update(servers(&[1; 6])).unwrap();
    assert_eq!(ejected(&fleet), [3, 4, 5]);
}

/// One update replaces an ejected endpoint by another that is remembered as ejected.
#[test]
fn a_place_given_back_by_the_same_update_is_used() {
    let fleet = setup(2, &ManualClock::new()).build().unwrap();
    fail(&fleet, 0, 5);
    fleet.update(servers(&[1; 3]).split_off(1)).unwrap(); // servers 1, 2
    fail(&fleet, 2, 5);
    assert_eq!(ejected(&fleet), [2]);
    fleet.update(servers(&[1; 2])).unwrap(); // servers 0, 1
    assert_eq!(ejected(&fleet), [0]);
}

/// An endpoint whose ejection is over is inserted after the search for probes has found nothing due for a day.
#[test]
fn a_restored_ejection_gets_its_probe_when_it_is_due() {
    let clock = ManualClock::new();
    let day = SECOND * 86_400;
    let ejection = exact()
        .max_ejection_time(day)
        .base_ejection_time(SECOND * 2)
        .probe_timeout(day);
    let fleet = setup(10, &clock).ejection(ejection).build().unwrap();
    fail(&fleet, 0, 5); // ejected until 2 s
    fail(&fleet, 1, 5); // ejected until 2 s
    assert!(fleet.remove(&0));
    clock.advance(SECOND * 2);
    let held = probe(&fleet); // of server 1; given up after a day
    assert_eq!(number(&held), 1);
    sequence(&fleet, 10); // the next search finds nothing sooner
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(state(&fleet, 0), MemberState::Ejected);
    let mut waited = 0;
    while !fleet.pick_endpoint().unwrap().is_probe() {
        clock.advance(SECOND * 60);
        waited += 60;
        assert!(
            waited < 3600,
            "its time was up before, and it still waits after an hour"
        );
    }
}

#[test]
fn a_detour_over_weight_zero_keeps_the_ejection() {
    let fleet = setup(10, &ManualClock::new()).build().unwrap();
    fail(&fleet, 0, 5);
    fleet.insert(Target::new(0, ()).with_weight(0)).unwrap();
    fleet.insert(Target::new(0, ()).with_weight(1)).unwrap();
    assert_eq!(ejected(&fleet), [0]);
}

/// Two of five may be ejected, and other endpoints have taken both slots meanwhile.
#[test]
fn an_ejection_that_the_cap_has_no_room_for_any_more_is_over_and_it_takes_requests() {
    let fleet = setup(5, &ManualClock::new()).build().unwrap();
    fail(&fleet, 0, 5);
    fleet.insert(Target::new(0, ()).with_weight(0)).unwrap();
    (1..3).for_each(|n| fail(&fleet, n, 5));
    assert_eq!(ejected(&fleet), [1, 2]);
    fleet.insert(Target::new(0, ()).with_weight(1)).unwrap();
    assert_eq!(ejected(&fleet), [1, 2]);
    assert!(sequence(&fleet, 200).contains(&0), "{fleet:?}");
}

thread_local! { static CALLS: Cell<u32> = const { Cell::new(0) }; }
fn burn() {
    let left = CALLS.get();
    CALLS.set(left.saturating_sub(1));
    assert_ne!(left, 1, "planned");
}
#[derive(Clone, Debug)]
struct Fuse(usize);
impl Hash for Fuse {
    fn hash<H: Hasher>(&self, state: &mut H) {
        burn();
        state.write_usize(self.0); // a good hash: `Eq` is called for equal keys only
    }
}
impl PartialEq for Fuse {
    fn eq(&self, other: &Self) -> bool {
        burn();
        self.0 == other.0
    }
}
impl Eq for Fuse {}

fn flapped() -> Fleet<Target<Fuse, ()>> {
    let fused = (0..4).map(|n| Target::new(Fuse(n), ()));
    let fleet = Fleet::builder()
        .endpoints(fused)
        .seed(1)
        .clock(ManualClock::new())
        .build()
        .unwrap();
    (0..5).for_each(|_| fleet.lease(&Fuse(0)).unwrap().record(Outcome::Failure));
    assert!(fleet.remove(&Fuse(0))); // the ejection is remembered from here on
    fleet.insert(Target::new(Fuse(0), ())).unwrap();
    fleet.insert(Target::new(Fuse(4), ())).unwrap();
    fleet
}

fn check(step: impl Fn(&Fleet<Target<Fuse, ()>>)) {
    let mut wrong = Vec::new();
    for k in 1..30 {
        let fleet = flapped();
        CALLS.set(k);
        let failed = catch_unwind(AssertUnwindSafe(|| step(&fleet))).is_err();
        CALLS.set(0);
        if !failed {
            continue;
        }
        assert_eq!(fleet.members().len(), 5);
        for n in 0..5 {
            let found = fleet.lease(&Fuse(n)).map(|l| l.endpoint().key().0);
            if found != Ok(n) {
                wrong.push(format!("Eq/Hash call {k}: key {n} now finds {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Looking up remembered ejections calls the user's `Eq`, so it happens before anything changes.
#[test]
fn a_key_that_panics_during_an_update_leaves_the_old_index() {
    check(|fleet| drop(fleet.update((1..5).map(|n| Target::new(Fuse(n), ())))));
}

#[test]
fn a_key_that_panics_during_a_removal_leaves_the_old_index() {
    check(|fleet| assert!(fleet.remove(&Fuse(0))));
}

#[test]
fn a_restored_ejection_keeps_its_age_when_the_fleet_shrinks() {
    let clock = ManualClock::new();
    let hour = SECOND * 3600;
    let ejection = exact().base_ejection_time(hour).max_ejection_time(hour);
    let fleet = setup(10, &clock).ejection(ejection).build().unwrap();
    for n in 0..4 {
        clock.advance(SECOND);
        fail(&fleet, n, 5);
    }
    assert!(fleet.remove(&3));
    fleet.insert(Target::new(3, ())).unwrap();
    assert_eq!(ejected(&fleet), [0, 1, 2, 3]);
    fleet.update(servers(&[1; 7])).unwrap(); // three may be ejected
    assert_eq!(ejected(&fleet), [1, 2, 3], "0 was ejected first");
}

/// An endpoint that returns by an operator's mark starts afresh.
#[test]
fn failures_from_before_a_mark_do_not_eject_after_it() {
    let fleet = setup(10, &ManualClock::new()).build().unwrap();
    fail(&fleet, 0, 5);
    assert!(fleet.mark(&0, Mark::Up) && fleet.mark(&0, Mark::Auto));
    fail(&fleet, 0, 1);
    assert_eq!(ejected(&fleet), [0; 0]);
}

/// A key that counts its copies.
#[derive(Clone, Debug)]
struct Counted(
    usize,
    #[expect(dead_code, reason = "it is counted")] Arc<()>,
);

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Counted {}
impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn as_many_removed_endpoints_as_live_ones_are_remembered_for_a_minute() {
    let (clock, count) = (ManualClock::new(), Arc::new(()));
    let key = |n| Counted(n, count.clone());
    let target = |n| Target::new(key(n), ());
    let fleet = Fleet::builder()
        .endpoints((0..1000).map(target))
        .clock(clock.clone())
        .build()
        .unwrap();
    for n in 0..500 {
        (0..5).for_each(|_| fleet.lease(&key(n)).unwrap().record(Outcome::Failure));
    }
    assert_eq!(fleet.stats().ejected, 500);
    // One key in each endpoint, one in the index, and the original.
    assert_eq!(Arc::strong_count(&count), 2001);
    fleet.update([target(1000)]).unwrap();
    assert_eq!(
        Arc::strong_count(&count),
        3 + 64,
        "64 are remembered at least"
    );
    clock.advance(SECOND * 61);
    sequence_of_any(&fleet);
    assert_eq!(Arc::strong_count(&count), 3, "and upkeep forgets them");
}

fn sequence_of_any(fleet: &Fleet<Target<Counted, ()>>) {
    for _ in 0..3 {
        fleet.pick_endpoint().unwrap().record(Outcome::Success);
    }
}

/// Promise 9: which ejections are remembered beyond the limit does not depend on a map's order.
#[test]
fn the_same_seed_remembers_the_same() {
    let run = || {
        let fleet = setup(400, &ManualClock::new()).build().unwrap();
        (0..200).for_each(|n| fail(&fleet, n, 5));
        fleet.update(servers(&[1; 410]).split_off(400)).unwrap();
        fleet.update(servers(&[1; 400])).unwrap();
        ejected(&fleet)
    };
    let first = run();
    assert_eq!(first.len(), 64);
    assert_eq!(first, run());
}

/// Leases by key while the endpoint's data is replaced all the time.
#[test]
fn a_lease_by_key_does_not_fail_beside_an_update() {
    let fleet = setup(2, &ManualClock::new()).build().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20_000 {
                fleet.insert(Target::new(0, ())).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            fleet.lease(&0).unwrap().record(Outcome::Success);
        }
    });
}

/// An endpoint that comes back while its ejection lasts is published before the ejection is resumed. A pick at that
/// moment must not take it for well: two threads, as long as it takes to change the set 300 times.
#[test]
fn a_pick_beside_an_update_does_not_take_a_resumed_ejection_for_well() {
    let clock = ManualClock::new();
    let long = Ejection::default().base_ejection_time(SECOND * 60);
    // So many that the publication takes a while.
    let fleet = setup(3_000, &clock)
        .ejection(long)
        .policy(WeightedRoundRobin::new());
    let fleet = fleet.build().unwrap();
    let others: Vec<_> = fleet
        .members()
        .iter()
        .map(|it| it.endpoint().clone())
        .collect();
    fail(&fleet, 0, 5);
    assert_eq!(fleet.member(&0).unwrap().state(), MemberState::Ejected);
    let is_over = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let picks = scope.spawn(|| {
            let mut found = 0;
            while !is_over.load(Ordering::Relaxed) {
                let lease = fleet.pick_endpoint().unwrap();
                found += u32::from(lease.endpoint().key() == 0);
                lease.record(Outcome::Success);
            }
            found
        });
        for _ in 0..300 {
            // Without it and with it again, all others with their data replaced.
            fleet.update(others[1..].to_vec()).unwrap();
            fleet.update(others.clone()).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        picks.join().unwrap()
    });
    assert_eq!(fleet.member(&0).unwrap().state(), MemberState::Ejected);
    assert_eq!(found, 0);
}
