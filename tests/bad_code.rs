//! Promise: user code may panic or misbehave, and the fleet stays consistent: nothing is half done, no count is lost,
//! and no ejected endpoint is picked.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use common::{
    SECOND, Server, ejected, exact, fail, number, probe, sequence, servers, setup, state,
};
use evenkeel::{
    Alarm, BuildError, Choice, Cluster, Endpoint, Fleet, Health, HealthTracker, Judging,
    LoadBalancer, ManualClock, Mark, MemberId, MemberState, Outcome, PickContext, PickError,
    Picker, Random, RoundRobin, Sample, Target, Tick, UpdateError, View, Weight, from_picker,
};

fn panics<R>(f: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

fn ids<E: Endpoint>(fleet: &Fleet<E>) -> Vec<MemberId> {
    fleet.members().iter().map(|member| member.id()).collect()
}

/// A policy that panics while it builds a picker, once its flag is set.
#[derive(Clone, Debug, Default)]
struct Brittle(Arc<AtomicBool>);

impl LoadBalancer<Server> for Brittle {
    fn picker(&self, view: &View<'_, Server>) -> Box<dyn Picker<Server>> {
        assert!(!self.0.load(Ordering::Relaxed), "planned");
        RoundRobin::new().picker(view)
    }
}

#[test]
fn a_policy_that_panics_over_a_new_set_leaves_the_old_one_in_force() {
    let policy = Brittle::default();
    let fleet = setup(3, &ManualClock::new()).policy(policy.clone());
    let fleet = fleet.build().unwrap();
    let lease = fleet.lease(&0).unwrap();
    let before = ids(&fleet);
    policy.0.store(true, Ordering::Relaxed);
    let refused = Err("the policy panicked".to_string());
    let result_text =
        |result: Result<_, UpdateError>| result.map(|_| ()).map_err(|e| e.to_string());
    assert_eq!(result_text(fleet.update(servers(&[1; 9]))), refused);
    assert_eq!(result_text(fleet.update([])), refused);
    assert_eq!(result_text(fleet.insert(Target::new(7, ()))), refused);
    assert_eq!(
        result_text(fleet.insert(Target::new(0, ()).with_weight(9))),
        refused
    );
    let set = fleet
        .set_policy(policy.clone())
        .map(|()| Default::default());
    assert_eq!(result_text(set), refused);
    assert_eq!(ids(&fleet), before);
    assert!(fleet.members().iter().all(|m| m.weight() == Weight::ONE));
    assert_eq!(fleet.stats().in_flight, 1);
    assert_eq!(fleet.lease(&7).unwrap_err(), PickError::UnknownKey);
    let walk = sequence(&fleet, 6);
    assert_eq!(walk[..3], walk[3..], "the old picker walks on");
    assert_eq!(fleet.stats().policy_faults, 0);
    drop(lease);
    policy.0.store(false, Ordering::Relaxed);
    assert_eq!(fleet.update(servers(&[1; 9])).unwrap().added, 6);
}

#[derive(Debug)]
struct PanicsInCheck;

impl LoadBalancer<Server> for PanicsInCheck {
    fn picker(&self, view: &View<'_, Server>) -> Box<dyn Picker<Server>> {
        RoundRobin::new().picker(view)
    }

    fn check(&self) -> Result<(), BuildError> {
        panic!("planned")
    }
}

#[test]
fn a_policy_that_panics_over_its_settings_is_refused() {
    let builder = || setup(3, &ManualClock::new());
    let refused = builder().policy(PanicsInCheck).build().unwrap_err();
    assert_eq!(refused.to_string(), "the policy panicked");
    let fleet = builder().policy(RoundRobin::new()).build().unwrap();
    let refused = fleet.set_policy(PanicsInCheck).unwrap_err();
    assert_eq!(refused.to_string(), "the policy panicked");
    assert_eq!(sequence(&fleet, 3).len(), 3, "the old picker walks on");
}

#[test]
fn a_removal_or_drain_does_not_fail_when_the_policy_panics() {
    let policy = Brittle::default();
    let fleet = setup(4, &ManualClock::new()).policy(policy.clone());
    let fleet = fleet.build().unwrap();
    policy.0.store(true, Ordering::Relaxed);
    assert!(fleet.remove(&0));
    assert_eq!(fleet.stats().policy_faults, 1);
    assert!(fleet.drain(&1).is_some());
    assert_eq!(fleet.stats().policy_faults, 2);
    // The fallback picks at random: of 200 picks, one of two is missed with odds of 2^-199.
    let seen = sequence(&fleet, 200);
    assert!(seen.iter().all(|number| [2, 3].contains(number)));
    assert!(seen.contains(&2) && seen.contains(&3));
    // The next change of the set replaces the fallback by the policy's own picker.
    policy.0.store(false, Ordering::Relaxed);
    fleet.insert(Target::new(2, ())).unwrap();
    let seen = sequence(&fleet, 20);
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
}

/// A picker that panics, chooses a fixed index, or declines.
#[derive(Clone, Copy, Debug)]
enum Odd {
    Panics,
    Chooses(usize),
    Declines,
}

impl Picker<Server> for Odd {
    fn pick(&self, _: &mut PickContext<'_, Server>) -> Option<Choice> {
        match self {
            Self::Panics => panic!("planned"),
            Self::Chooses(index) => Some(Choice::at(*index)),
            Self::Declines => None,
        }
    }
}

#[test]
fn a_panic_in_a_pick_goes_to_its_caller_and_leaves_nothing_behind() {
    let fleet = setup(3, &ManualClock::new()).policy(from_picker(Odd::Panics));
    let fleet = fleet.build().unwrap();
    let held = fleet.lease(&1).unwrap();
    for _ in 0..100 {
        assert!(panics(|| fleet.pick_endpoint()));
    }
    assert_eq!(fleet.stats().in_flight, 1);
    fleet.set_policy(Random::new()).unwrap();
    sequence(&fleet, 10);
    drop(held);
    assert_eq!(fleet.stats().in_flight, 0);
}

#[test]
fn an_index_out_of_range_is_counted_and_another_is_picked() {
    for index in [3, usize::MAX] {
        let fleet = setup(3, &ManualClock::new()).policy(from_picker(Odd::Chooses(index)));
        let fleet = fleet.build().unwrap();
        sequence(&fleet, 10);
        assert_eq!(fleet.stats().policy_faults, 10);
    }
}

#[test]
fn a_policy_that_insists_on_a_refused_endpoint_does_not_get_it() {
    let fleet = setup(4, &ManualClock::new()).policy(from_picker(Odd::Chooses(0)));
    let fleet = fleet.build().unwrap();
    assert_eq!(sequence(&fleet, 10), [0; 10]);
    fail(&fleet, 0, 5);
    // The others are drawn by weight: of 200 picks, one of three is missed with odds of 3 · (2/3)^200, 10^-35.
    let seen = sequence(&fleet, 200);
    assert!(!seen.contains(&0), "an ejected endpoint was picked");
    assert!((1..4).all(|number| seen.contains(&number)));
    // Not counted as a fault of the policy: health may change while a policy chooses.
    assert_eq!(fleet.stats().policy_faults, 0);
}

#[test]
fn a_policy_that_wants_none_is_told_apart_from_there_being_none() {
    let fleet = setup(2, &ManualClock::new()).policy(from_picker(Odd::Declines));
    let fleet = fleet.build().unwrap();
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Declined);
    fleet.update(servers(&[0])).unwrap();
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::AllDraining);
    fleet.update([]).unwrap();
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Empty);
}

/// A tracker that raises an alarm at each fault, and panics in the methods whose flag is set.
#[derive(Clone, Debug, Default)]
struct Shaky {
    in_record: Arc<AtomicBool>,
    in_health: Arc<AtomicBool>,
    in_readmitted: Arc<AtomicBool>,
}

impl HealthTracker for Shaky {
    fn record(&self, sample: &Sample, _: &Judging<'_>) -> Alarm {
        assert!(!self.in_record.load(Ordering::Relaxed), "planned");
        match sample.outcome.is_fault() {
            true => Alarm::Eject,
            false => Alarm::None,
        }
    }
    fn health(&self, _: &Judging<'_>) -> Health {
        assert!(!self.in_health.load(Ordering::Relaxed), "planned");
        Health::new(1.0, 1)
    }
    fn readmitted(&self, _: Tick) {
        assert!(!self.in_readmitted.load(Ordering::Relaxed), "planned");
    }
}

fn shaken(count: usize, clock: &ManualClock) -> (Fleet<Server>, Shaky) {
    let tracker = Shaky::default();
    let make = {
        let tracker = tracker.clone();
        move |_: &Server| tracker.clone()
    };
    // One successful probe brings an endpoint back.
    let ejection = exact().healthy_threshold(1);
    let fleet = setup(count, clock).ejection(ejection).tracker(make);
    (fleet.build().unwrap(), tracker)
}

#[test]
fn a_tracker_that_panics_in_record_does_not_cost_a_count() {
    let (fleet, tracker) = shaken(4, &ManualClock::new());
    tracker.in_record.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        let lease = fleet.pick_endpoint().unwrap();
        assert!(panics(|| lease.record(Outcome::Success)), "told to nobody");
    }
    assert_eq!(fleet.stats().in_flight, 0);
    tracker.in_record.store(false, Ordering::Relaxed);
    sequence(&fleet, 10);
}

#[test]
fn a_tracker_that_panics_while_a_lease_is_dropped_is_caught_and_counted() {
    let (fleet, tracker) = shaken(4, &ManualClock::new());
    tracker.in_record.store(true, Ordering::Relaxed);
    drop(fleet.pick_endpoint().unwrap());
    assert_eq!(fleet.stats().tracker_panics, 1);
    // A panic during unwinding is caught too: it would abort the process.
    let unwound = panics(|| {
        let _lease = fleet.pick_endpoint().unwrap();
        panic!("planned");
    });
    assert!(unwound);
    assert_eq!(fleet.stats().tracker_panics, 2);
    assert_eq!(fleet.stats().in_flight, 0);
}

#[test]
fn a_tracker_that_panics_at_upkeep_is_caught_and_counted() {
    let clock = ManualClock::new();
    let (fleet, tracker) = shaken(4, &clock);
    tracker.in_health.store(true, Ordering::Relaxed);
    fleet.maintain();
    assert_eq!(fleet.stats().tracker_panics, 4);
    clock.advance(SECOND);
    sequence(&fleet, 1);
    assert_eq!(fleet.stats().tracker_panics, 8, "by a pick");
    assert_eq!(ejected(&fleet), [0; 0]);
}

#[test]
fn a_tracker_that_panics_over_a_return_loses_no_place_and_no_probe() {
    let clock = ManualClock::new();
    let (fleet, tracker) = shaken(4, &clock);
    fail(&fleet, 0, 1);
    clock.advance(SECOND * 2);
    for panic_in in [&tracker.in_readmitted, &tracker.in_record] {
        let lease = probe(&fleet);
        panic_in.store(true, Ordering::Relaxed);
        assert!(panics(|| lease.record(Outcome::Success)));
        panic_in.store(false, Ordering::Relaxed);
        assert_eq!(state(&fleet, 0), MemberState::Ejected);
        assert_eq!((fleet.stats().ejected, fleet.stats().in_flight), (1, 0));
        clock.advance(SECOND * 2);
    }
    probe(&fleet).record(Outcome::Success);
    assert_eq!(
        (state(&fleet, 0), fleet.stats().ejected),
        (MemberState::Warming, 0)
    );
}

#[test]
fn a_tracker_that_panics_while_the_fleet_shrinks_does_not_stop_the_update() {
    let (fleet, tracker) = shaken(4, &ManualClock::new());
    fail(&fleet, 0, 1);
    fail(&fleet, 1, 1);
    tracker.in_readmitted.store(true, Ordering::Relaxed);
    assert!(fleet.remove(&3));
    assert_eq!((ejected(&fleet).len(), fleet.stats().ejected), (1, 1));
    assert_eq!(fleet.stats().tracker_panics, 1);
}

#[test]
fn a_maker_of_trackers_that_panics_leaves_the_old_set_in_force() {
    let made = AtomicU32::new(0);
    let make = move |_: &Server| {
        assert!(made.fetch_add(1, Ordering::Relaxed) < 3, "planned");
        Shaky::default()
    };
    let fleet = setup(2, &ManualClock::new()).tracker(make).build().unwrap();
    let before = ids(&fleet);
    // The first new endpoint gets a tracker; making one for the second panics.
    for error in [
        fleet.update(servers(&[1; 5])).unwrap_err(),
        fleet.insert(Target::new(9, ())).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "the health tracker panicked");
    }
    assert_eq!(ids(&fleet), before);
    // A member that stays keeps its tracker.
    assert_eq!(fleet.update(servers(&[5, 5])).unwrap().updated, 2);
    sequence(&fleet, 10);

    let never = |_: &Server| -> Shaky { panic!("planned") };
    let built = setup(2, &ManualClock::new()).tracker(never).build();
    assert!(matches!(
        built,
        Err(BuildError::Update(UpdateError::Panicked { .. }))
    ));
}

thread_local! {
    /// How many calls of `Fuse`'s `Hash`, `Eq` and `Clone` are left until one panics; 0 means never.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

fn burn() {
    let left = CALLS.get();
    CALLS.set(left.saturating_sub(1));
    assert_ne!(left, 1, "planned");
}

/// A key whose methods panic when `CALLS` has run out. All keys have the same hash, so `Eq` is called often.
#[derive(Debug)]
struct Fuse(usize);

impl Clone for Fuse {
    fn clone(&self) -> Self {
        burn();
        Self(self.0)
    }
}

impl Hash for Fuse {
    fn hash<H: Hasher>(&self, state: &mut H) {
        burn();
        state.write_u8(0);
    }
}

impl PartialEq for Fuse {
    fn eq(&self, other: &Self) -> bool {
        burn();
        self.0 == other.0
    }
}

impl Eq for Fuse {}

type Fused = Target<Fuse, ()>;

fn fused(range: std::ops::Range<usize>) -> impl Iterator<Item = Fused> {
    range.map(|number| Target::new(Fuse(number), ()))
}

/// Asserts that the fleet holds exactly these members, finds each by its key, and works from there on.
fn assert_whole(fleet: &Fleet<Fused>, expected: std::ops::Range<usize>) {
    let mut keys: Vec<_> = fleet
        .members()
        .iter()
        .map(|m| m.endpoint().key().0)
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, expected.clone().collect::<Vec<_>>());
    for key in expected.clone() {
        assert_eq!(fleet.lease(&Fuse(key)).unwrap().endpoint().key().0, key);
    }
    fleet.pick_endpoint().unwrap().record(Outcome::Success);
    for key in expected {
        assert!(fleet.remove(&Fuse(key)));
        assert!(!fleet.remove(&Fuse(key)));
    }
    assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Empty);
    assert_eq!(fleet.update(fused(0..3)).unwrap().added, 3);
}

#[test]
fn a_key_that_panics_at_any_call_leaves_the_old_set_in_force() {
    type Step = (&'static str, fn(&Fleet<Fused>), std::ops::Range<usize>);
    let steps: [Step; 6] = [
        ("update", |fleet| drop(fleet.update(fused(2..6))), 2..6),
        (
            "insert",
            |fleet| drop(fleet.insert(Target::new(Fuse(4), ()))),
            0..5,
        ),
        ("remove", |fleet| assert!(fleet.remove(&Fuse(3))), 0..3),
        (
            "mark",
            |fleet| assert!(fleet.mark(&Fuse(2), Mark::Up)),
            0..4,
        ),
        ("lease", |fleet| drop(fleet.lease(&Fuse(2)).unwrap()), 0..4),
        ("drain", |fleet| drop(fleet.drain(&Fuse(2)).unwrap()), 0..4),
    ];
    for (name, step, after) in steps {
        let mut panicked = 0;
        for k in 1..50 {
            let fleet = Fleet::builder().endpoints(fused(0..4)).seed(k.into());
            let fleet = fleet.build().unwrap();
            let held = fleet.lease(&Fuse(1)).unwrap();
            let before = ids(&fleet);
            CALLS.set(k);
            let failed = panics(|| step(&fleet));
            CALLS.set(0);
            panicked += u32::from(failed);
            if failed {
                assert_eq!(ids(&fleet), before, "{name}, call {k}");
                assert_eq!(fleet.stats().in_flight, 1, "{name}, call {k}");
            }
            drop(held);
            if name == "drain" && !failed {
                assert_eq!(fleet.stats().routable, 3);
                fleet.insert(Target::new(Fuse(2), ())).unwrap();
            }
            assert_whole(&fleet, if failed { 0..4 } else { after.clone() });
        }
        assert!(panicked >= 2, "{name} was put to the test {panicked} times");
    }
}

#[test]
fn an_iterator_that_panics_leaves_the_old_set_in_force() {
    let fleet = setup(3, &ManualClock::new()).build().unwrap();
    let before = ids(&fleet);
    let bad = servers(&[1; 9])
        .into_iter()
        .inspect(|server| assert_ne!(server.key(), 5, "planned"));
    assert!(panics(|| fleet.update(bad)));
    assert_eq!(ids(&fleet), before);
    assert_eq!(number(&fleet.lease(&2).unwrap()), 2);
    assert_eq!(fleet.update(servers(&[1; 9])).unwrap().added, 6);
}
