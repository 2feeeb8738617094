//! Promise 6 for wakers, drops and policies, which are the user's code: they may call the fleet, panic, or hold its
//! last lease. A deadlocked test would not end, so each test that could deadlock runs under a watchdog.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{SECOND, Server, servers};
use evenkeel::{
    Choice, Cluster, Drain, Fleet, Lease, LoadBalancer, ManualClock, Mark, Outcome, PickContext,
    Picker, Random, Target, View,
};

/// Runs `work`, which takes milliseconds. Half a minute means a deadlock.
fn without_deadlock(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    let ended = is_done.recv_timeout(Duration::from_secs(30));
    assert_ne!(ended, Err(mpsc::RecvTimeoutError::Timeout), "a deadlock");
    worker.join().unwrap();
}

fn poll(drain: Pin<&mut Drain>, waker: &Waker) -> bool {
    matches!(drain.poll(&mut Context::from_waker(waker)), Poll::Ready(_))
}

fn fleet_of_two() -> Fleet<Server> {
    servers(&[1, 1]).into_iter().collect()
}

/// A task of which only the waker is left, and which holds a lease.
struct Holding(#[expect(dead_code, reason = "it is dropped")] Mutex<Option<Lease<Server>>>);

impl Wake for Holding {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_holds_the_last_lease_may_be_replaced() {
    without_deadlock(|| {
        let fleet = fleet_of_two();
        let lease = fleet.lease(&0).unwrap();
        let mut drain = pin!(fleet.drain(&0).unwrap());
        let only = Waker::from(Arc::new(Holding(Mutex::new(Some(lease)))));
        assert!(!poll(drain.as_mut(), &only));
        drop(only);
        poll(drain.as_mut(), Waker::noop());
        assert!(poll(drain.as_mut(), Waker::noop()));
    });
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("planned");
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_asleep_and_harms_no_caller() {
    let fleet = fleet_of_two();
    let lease = fleet.lease(&0).unwrap();
    let mut first = pin!(fleet.drain(&0).unwrap());
    let mut second = pin!(fleet.drain(&0).unwrap());
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    assert!(!poll(first.as_mut(), &Waker::from(Arc::new(Panicking))));
    assert!(!poll(second.as_mut(), &Waker::from(flag.clone())));
    lease.record(Outcome::Success);
    assert!(flag.0.load(Ordering::SeqCst));
}

/// Calls everything that changes or reads the fleet, when woken.
struct Calling(Fleet<Server>);

impl Wake for Calling {
    fn wake(self: Arc<Self>) {
        let fleet = &self.0;
        fleet.update(servers(&[1, 1, 1])).unwrap();
        fleet.maintain();
        assert!(fleet.mark(&1, Mark::Up));
        drop((fleet.lease(&1), fleet.pick_endpoint(), fleet.stats()));
        assert!(fleet.remove(&2));
    }
}

#[test]
fn a_waker_may_call_the_fleet() {
    without_deadlock(|| {
        let fleet = fleet_of_two();
        let lease = fleet.lease(&0).unwrap();
        let mut drain = pin!(fleet.drain(&0).unwrap());
        let waker = Waker::from(Arc::new(Calling(fleet.clone())));
        assert!(!poll(drain.as_mut(), &waker));
        lease.record(Outcome::Success);
        assert_eq!(fleet.members().len(), 2);
    });
}

type Home = Arc<OnceLock<Fleet<Target<Key, ()>>>>;

/// A key that runs the fleet's upkeep when its last copy is dropped.
#[derive(Clone, Debug)]
struct Key(
    usize,
    #[expect(dead_code, reason = "it is dropped")] Arc<Last>,
);

#[derive(Debug)]
struct Last(Home, Arc<AtomicU64>);

impl Drop for Last {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        if let Some(fleet) = self.0.get() {
            fleet.maintain();
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn a_key_may_call_the_fleet_when_it_is_dropped() {
    // With many members (one seat each), the next member array is made from one that was in force before.
    for count in [4, 3000] {
        a_key_calls_the_fleet(count);
    }
}

fn a_key_calls_the_fleet(count: usize) {
    without_deadlock(move || {
        let (home, drops, clock) = (Home::default(), Arc::default(), ManualClock::new());
        // The others' keys do nothing when dropped: upkeep of thousands for each of thousands takes long.
        let home_of = |n| {
            if n < 4 {
                Arc::clone(&home)
            } else {
                Home::default()
            }
        };
        let key = |n| Key(n, Arc::new(Last(home_of(n), Arc::clone(&drops))));
        let fleet = Fleet::builder()
            .endpoints((0..count).map(|n| Target::new(key(n), ())))
            .clock(clock.clone())
            .build()
            .unwrap();
        assert!(home.set(fleet.clone()).is_ok());
        for _ in 0..3 {
            (0..5).for_each(|_| fleet.lease(&key(0)).unwrap().record(Outcome::Failure));
            assert!(fleet.remove(&key(0)));
            fleet.insert(Target::new(key(0), ())).unwrap();
            clock.advance(70 * SECOND);
            fleet
                .update((0..count).map(|n| Target::new(key(n), ())))
                .unwrap();
            fleet.pick_endpoint().unwrap().record(Outcome::Success);
        }
        assert!(drops.load(Ordering::SeqCst) > 0);
    });
}

/// A policy that finds no endpoint and then marks one up before it returns. This is what another thread does at the
/// worst moment.
#[derive(Clone)]
struct TooEarly(Arc<OnceLock<Fleet<Server>>>);

impl std::fmt::Debug for TooEarly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TooEarly")
    }
}

struct TooEarlyPicker(TooEarly, Box<dyn Picker<Server>>);

impl LoadBalancer<Server> for TooEarly {
    fn picker(&self, view: &View<'_, Server>) -> Box<dyn Picker<Server>> {
        Box::new(TooEarlyPicker(self.clone(), Random::new().picker(view)))
    }
}

impl Picker<Server> for TooEarlyPicker {
    fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
        let choice = self.1.pick(cx);
        if choice.is_none() {
            assert!(self.0.0.get().unwrap().mark(&0, Mark::Up));
        }
        choice
    }
}

#[test]
fn a_return_between_two_looks_is_no_refusal_of_the_policy() {
    let home = Arc::new(OnceLock::new());
    let fleet = Fleet::builder()
        .endpoints(servers(&[1, 1]))
        .policy(TooEarly(home.clone()))
        .panic_threshold_percent(0)
        .build()
        .unwrap();
    assert!(home.set(fleet.clone()).is_ok());
    assert!(fleet.mark(&0, Mark::Down) && fleet.mark(&1, Mark::Down));
    assert_eq!(common::number(&fleet.pick_endpoint().unwrap()), 0);
}
