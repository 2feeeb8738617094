//! Promise 1: a pick that starts after `remove`, `update` or `insert` has returned never yields what the change removed
//! or replaced. Once a drain has resolved, no lease on the drained incarnation appears.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread::ScopedJoinHandle;

use evenkeel::{
    Choice, Cluster, Drain, Drained, Endpoint, Fleet, MemberId, Outcome, PickContext, PickError,
    Picker, Target, from_picker,
};

/// A key, and the version of its data. Each change brings a higher version.
type Versioned = Target<usize, u64>;

const KEYS: usize = 6;

/// What the updater's calls have returned so far. Readers check their picks against it.
#[derive(Default)]
struct Observed {
    /// The lowest version of each key that a pick starting from now on may yield.
    floor: [AtomicU64; KEYS],
    /// The incarnations whose drain has resolved.
    resolved: Mutex<HashSet<MemberId>>,
    done: AtomicBool,
    /// Picks of all readers together.
    picks: AtomicU64,
}

fn wait(drain: Drain) {
    let mut drain = pin!(drain);
    loop {
        match drain.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Drained::Empty) => return,
            Poll::Ready(_) => unreachable!("it has no deadline"),
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

fn read(fleet: &Fleet<Versioned>, observed: &Observed) -> u64 {
    let mut picks = 0;
    let mut held = Vec::new();
    while !observed.done.load(SeqCst) {
        let floors: Vec<u64> = observed
            .floor
            .iter()
            .map(|floor| floor.load(SeqCst))
            .collect();
        let lease = match fleet.pick_endpoint() {
            Ok(lease) => lease,
            Err(PickError::Empty | PickError::AllDraining) => continue,
            Err(error) => panic!("{error}"),
        };
        let (key, version) = (lease.id(), *lease.endpoint().data());
        let at = lease.endpoint().key();
        assert!(
            version >= floors[at],
            "{key}: {version} picked after {} was told",
            floors[at]
        );
        picks += 1;
        observed.picks.fetch_add(1, SeqCst);
        held.push(lease);
        for lease in &held {
            let resolved = observed.resolved.lock().unwrap().contains(&lease.id());
            assert!(
                !resolved,
                "a lease on {} beside its resolved drain",
                lease.id()
            );
        }
        if held.len() > 3 {
            held.remove(0).record(Outcome::Success);
        }
    }
    picks
}

/// A policy that yields the thread now and then between the snapshot and the choice, so that an update can complete in
/// between.
#[derive(Clone, Debug)]
struct YieldsDuringPick;

impl Picker<Versioned> for YieldsDuringPick {
    fn pick(&self, cx: &mut PickContext<'_, Versioned>) -> Option<Choice> {
        if cx.random_below(8) == 0 {
            std::thread::yield_now();
        }
        let count = cx.members().len();
        (count > 0).then(|| Choice::at(cx.random_below(count)))
    }
}

/// Two readers and one updater that inserts, replaces, removes, re-inserts and drains, 10 000 times or more.
#[test]
fn a_storm_of_updates_yields_no_removed_endpoint() {
    let endpoints = (0..KEYS).map(|key| Target::new(key, 1));
    let policy = from_picker(YieldsDuringPick);
    let fleet = Fleet::builder()
        .endpoints(endpoints)
        .policy(policy)
        .build()
        .unwrap();
    let observed = Observed::default();
    let picks: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| read(&fleet, &observed)))
            .collect();
        let mut version = 1;
        for round in 0usize.. {
            // However fast updates are, the readers must meet many of them. A reader that has finished early has
            // failed.
            let met = observed.picks.load(SeqCst) > 10_000;
            if round >= 10_000 && (met || readers.iter().any(ScopedJoinHandle::is_finished)) {
                break;
            }
            let key = round % KEYS;
            version += 1;
            let floor = |version| observed.floor[key].store(version, SeqCst);
            match (round / KEYS) % 5 {
                0 => {
                    fleet.insert(Target::new(key, version)).unwrap();
                    floor(version);
                }
                1 => {
                    fleet.remove(&key);
                    floor(version);
                    version += 1;
                    fleet.insert(Target::new(key, version)).unwrap();
                }
                2 => {
                    let all = (0..KEYS).map(|key| Target::new(key, version));
                    fleet.update(all).unwrap();
                    observed
                        .floor
                        .iter()
                        .for_each(|floor| floor.store(version, SeqCst));
                }
                3 => {
                    let members = fleet.members();
                    let drained = members.iter().find(|m| m.endpoint().key() == key).unwrap();
                    wait(fleet.drain(&key).unwrap());
                    observed.resolved.lock().unwrap().insert(drained.id());
                    floor(version);
                    fleet.insert(Target::new(key, version)).unwrap();
                }
                _ => {
                    fleet
                        .update(
                            (0..KEYS)
                                .filter(|&k| k != key)
                                .map(|k| Target::new(k, version)),
                        )
                        .unwrap();
                    observed
                        .floor
                        .iter()
                        .for_each(|floor| floor.store(version, SeqCst));
                    floor(version + 1);
                    version += 1;
                    fleet.insert(Target::new(key, version)).unwrap();
                }
            }
        }
        observed.done.store(true, SeqCst);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum()
    });
    assert!(picks > 1000, "the readers did run: {picks}");
    assert_eq!(fleet.stats().in_flight, 0);
}

/// A change of the set, made by the policy during a pick.
type ChangeOfSet = dyn Fn(&Fleet<Versioned>) + Send + Sync;

/// A policy that changes the set during its own pick, once, after it has seen the old set. This is what an update on
/// another thread does if it completes at the worst moment.
#[derive(Clone)]
struct ChangesSetDuringPick {
    fleet: Arc<OnceLock<Fleet<Versioned>>>,
    change: Arc<ChangeOfSet>,
}

impl Picker<Versioned> for ChangesSetDuringPick {
    fn pick(&self, cx: &mut PickContext<'_, Versioned>) -> Option<Choice> {
        if *cx.members()[0].endpoint().data() == 1 {
            self.fleet.get().map(&*self.change);
        }
        Some(Choice::at(0))
    }
}

impl std::fmt::Debug for ChangesSetDuringPick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddling")
    }
}

/// The version that a pick yields if the set changes while it is under way.
fn picked_under(change: impl Fn(&Fleet<Versioned>) + Send + Sync + 'static) -> u64 {
    let policy = ChangesSetDuringPick {
        fleet: Arc::default(),
        change: Arc::new(change),
    };
    let fleet = Fleet::builder()
        .endpoints([Target::new(0, 1), Target::new(1, 2)])
        .policy(from_picker(policy.clone()))
        .build()
        .unwrap();
    policy.fleet.set(fleet.clone()).unwrap();
    *fleet.pick_endpoint().unwrap().endpoint().data()
}

#[test]
fn a_pick_under_way_does_not_yield_what_has_been_removed_meanwhile() {
    assert_eq!(picked_under(|fleet| assert!(fleet.remove(&0))), 2);
}

#[test]
fn a_pick_under_way_does_not_yield_what_has_been_drained_meanwhile() {
    assert_eq!(picked_under(|fleet| wait(fleet.drain(&0).unwrap())), 2);
}

#[test]
fn a_pick_under_way_does_not_yield_what_has_been_replaced_meanwhile() {
    let replace = |fleet: &Fleet<Versioned>| {
        fleet.insert(Target::new(0, 7)).unwrap();
    };
    assert_eq!(picked_under(replace), 7);
    let replace = |fleet: &Fleet<Versioned>| {
        fleet
            .update([Target::new(0, 8), Target::new(1, 9)])
            .unwrap();
    };
    assert_eq!(picked_under(replace), 8);
}

#[test]
fn a_drain_resolves_with_the_last_lease_and_not_before() {
    let fleet: Fleet<Versioned> = (0..2).map(|key| Target::new(key, 1)).collect();
    let leases: Vec<_> = (0..3).map(|_| fleet.lease(&0).unwrap()).collect();
    let mut drain = pin!(fleet.drain(&0).unwrap());
    for lease in leases {
        assert!(
            drain
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        lease.record(Outcome::Success);
    }
    assert!(
        drain
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    );
    assert_eq!(fleet.lease(&0).unwrap_err(), PickError::Draining);
}

#[test]
fn a_drain_wakes_the_task_that_waits() {
    struct Count(AtomicU64);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let fleet: Fleet<Versioned> = (0..2).map(|key| Target::new(key, 1)).collect();
    let lease = fleet.lease(&0).unwrap();
    let count = Arc::new(Count(AtomicU64::new(0)));
    let waker = Waker::from(count.clone());
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(fleet.drain(&0).unwrap())).collect();
    for drain in &mut waiting {
        assert!(
            drain
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    drop(waiting.pop());
    lease.record(Outcome::Success);
    assert_eq!(count.0.load(SeqCst), 2, "two wait, one has given up");
}

#[test]
fn a_drain_holds_through_updates_until_the_endpoint_is_inserted_again() {
    let fleet: Fleet<Versioned> = (0..2).map(|key| Target::new(key, 1)).collect();
    let picks_of = |key: usize| {
        let hits = (0..200).filter(|_| {
            let lease = fleet.pick_endpoint().unwrap();
            lease.endpoint().key() == key
        });
        hits.count()
    };
    let old = fleet.lease(&0).unwrap();
    let drain = fleet.drain(&0).unwrap();
    fleet.update((0..2).map(|key| Target::new(key, 2))).unwrap();
    assert_eq!(picks_of(0), 0);
    assert_eq!(fleet.stats().members, 2);
    fleet.insert(Target::new(0, 3)).unwrap();
    assert!(picks_of(0) > 0);
    assert_eq!(
        drain.in_flight(),
        1,
        "the old incarnation's request is still its own"
    );
    old.record(Outcome::Success);
    wait(drain);
}

#[test]
fn a_removed_endpoint_is_freed_with_its_last_lease() {
    // With many members (one seat each), the next member array is made from one that was in force before.
    for (count, rounds) in [(3, 1000), (5000, 100)] {
        let data = Arc::new(());
        let all = || (0..count).map(|key| Target::new(key, data.clone()));
        let held = || Arc::strong_count(&data) - 1;
        let fleet: Fleet<Target<usize, Arc<()>>> = all().collect();
        for round in 0..rounds {
            let key = round * 37 % count;
            fleet.remove(&key);
            assert_eq!(held(), count - 1, "of {count}");
            fleet.insert(Target::new(key, data.clone())).unwrap();
            fleet.insert(Target::new(count / 2, data.clone())).unwrap();
            assert_eq!(held(), count, "of {count}");
        }
        let lease = fleet.lease(&0).unwrap();
        for _ in 0..rounds / 10 {
            fleet.update(all()).unwrap();
        }
        let more = "a lease holds its own endpoint and no more";
        assert_eq!(held(), count + 1, "{more}, of {count}");
        drop(lease);
        assert_eq!(held(), count);
        fleet.update(all().take(2)).unwrap();
        assert_eq!(held(), 2);
        fleet.update(all()).unwrap();
        drop(fleet);
        assert_eq!(held(), 0);
    }
}

/// An endpoint whose copies can be counted.
type Counted = Target<usize, Arc<()>>;

/// Removes a hundred endpoints during its first pick, which holds the old set meanwhile.
#[derive(Clone, Debug, Default)]
struct Removing(Arc<OnceLock<Fleet<Counted>>>, Arc<AtomicBool>);

impl Picker<Counted> for Removing {
    fn pick(&self, cx: &mut PickContext<'_, Counted>) -> Option<Choice> {
        if let (false, Some(fleet)) = (self.1.swap(true, SeqCst), self.0.get()) {
            (0..100).for_each(|key| assert!(fleet.remove(&key)));
            let first = cx.members()[0].endpoint();
            assert_eq!(Arc::strong_count(first.data()), 5001, "all are held");
        }
        Some(Choice::at(0))
    }
}

#[test]
fn a_pick_under_way_does_not_keep_what_is_removed_for_longer_than_it_takes() {
    let data = Arc::new(());
    let held = || Arc::strong_count(&data) - 1;
    let policy = Removing::default();
    let fleet = Fleet::builder()
        .endpoints((0..5000).map(|key| Target::new(key, data.clone())))
        .policy(from_picker(policy.clone()))
        .build()
        .unwrap();
    policy.0.set(fleet.clone()).unwrap();
    let picked = fleet.pick_endpoint().unwrap();
    assert_eq!(picked.endpoint().key(), 100);
    fleet.maintain();
    assert_eq!(held(), 4900);
    assert!(fleet.remove(&4000));
    assert_eq!(held(), 4899);
    let keys: HashSet<usize> = fleet.members().iter().map(|m| m.endpoint().key()).collect();
    assert_eq!(keys.len(), 4899);
    assert!(keys.iter().all(|&key| key >= 100 && key != 4000));
}
