//! Promise: a drain with a deadline resolves when the last request has ended or its time is over, says which, and is
//! woken by picks or `maintain`. A retired endpoint is then removed, and only that one.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use common::{MILLI, SECOND, Server, setup, state};
use evenkeel::{
    Cluster, Drain, Drained, Endpoint, Fleet, HealthCheckSettings, Lease, ManualClock, MemberState,
    Outcome, Retire, Target, Upkeep,
};

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Woken {
    fn times(&self) -> u32 {
        self.0.load(SeqCst)
    }

    fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Arc::clone(self).into()))
    }
}

/// Three servers, and two requests in flight at server 1.
fn busy(upkeep: Upkeep) -> (Fleet<Server>, ManualClock, [Lease<Server>; 2]) {
    let clock = ManualClock::new();
    let fleet = setup(3, &clock).upkeep(upkeep).build().unwrap();
    let leases = [(); 2].map(|()| fleet.lease(&1).unwrap());
    (fleet, clock, leases)
}

/// A time at which no upkeep would be due anyway.
const DEADLINE: Duration = Duration::from_millis(1_050);

/// In a fleet without picks, driving active checks watches the deadline too.
#[test]
fn a_driver_of_checks_wakes_a_drain() {
    let (fleet, clock, leases) = busy(Upkeep::Caller);
    let mut checks = fleet.health_check(HealthCheckSettings::default()).unwrap();
    let mut drain = pin!(fleet.drain_within(&1, DEADLINE).unwrap());
    let woken = Arc::new(Woken::default());
    assert_eq!(woken.poll(drain.as_mut()), Poll::Pending);
    clock.advance(DEADLINE - MILLI);
    drop(checks.tick());
    assert_eq!(woken.times(), 0);
    clock.advance(MILLI);
    drop(checks.tick());
    assert_eq!(woken.times(), 1);
    assert!(woken.poll(drain.as_mut()).is_ready());
    drop(leases);
}

#[test]
fn a_drain_ends_before_the_deadline_with_the_last_request() {
    let (fleet, clock, [first, last]) = busy(Upkeep::Picks);
    let mut drain = pin!(fleet.drain_within(&1, DEADLINE).unwrap());
    let woken = Arc::new(Woken::default());
    assert_eq!(woken.poll(drain.as_mut()), Poll::Pending);
    first.record(Outcome::Success);
    clock.advance(DEADLINE - MILLI);
    assert_eq!(woken.poll(drain.as_mut()), Poll::Pending);
    assert_eq!(woken.times(), 0);
    drop(last);
    assert_eq!(woken.times(), 1);
    assert_eq!(woken.poll(drain.as_mut()), Poll::Ready(Drained::Empty));
    assert!(Drained::Empty.is_complete() && Drained::Empty.in_flight() == 0);
}

#[test]
fn a_pick_after_the_deadline_wakes_the_drain_at_once() {
    let (fleet, clock, [first, last]) = busy(Upkeep::Picks);
    let mut drain = pin!(fleet.drain_within(&1, DEADLINE).unwrap());
    let woken = Arc::new(Woken::default());
    assert_eq!(woken.poll(drain.as_mut()), Poll::Pending);
    // Upkeep runs meanwhile, at its own times.
    for _ in 1..1_050 {
        clock.advance(MILLI);
        drop(fleet.pick_endpoint());
    }
    assert_eq!(woken.times(), 0);
    clock.advance(MILLI);
    drop(fleet.pick_endpoint());
    assert_eq!(woken.times(), 1);
    let Poll::Ready(drained) = woken.poll(drain.as_mut()) else {
        panic!("its time is over");
    };
    assert_eq!((drained.is_complete(), drained.in_flight()), (false, 2));
    // The endpoint is left as after any drain.
    assert_eq!(state(&fleet, 1), MemberState::Draining);
    for lease in [first, last] {
        assert_eq!(lease.endpoint().key(), 1);
        lease.record(Outcome::Success);
    }
    assert_eq!(fleet.stats().in_flight, 0);
}

#[test]
fn maintain_wakes_a_drain_where_picks_do_no_upkeep() {
    let (fleet, clock, _leases) = busy(Upkeep::Caller);
    let mut drain = pin!(fleet.drain_within(&1, DEADLINE).unwrap());
    let woken = Arc::new(Woken::default());
    assert_eq!(woken.poll(drain.as_mut()), Poll::Pending);
    clock.advance(DEADLINE);
    drop(fleet.pick_endpoint());
    assert_eq!(woken.times(), 0);
    fleet.maintain();
    assert_eq!(woken.times(), 1);
}

#[test]
fn each_of_many_drains_waits_for_its_own_deadline() {
    let (fleet, clock, _leases) = busy(Upkeep::Picks);
    let woken: [Arc<Woken>; 3] = Default::default();
    let mut drains: Vec<Drain> = [3, 1, 2]
        .map(|seconds| fleet.drain_within(&1, SECOND * seconds).unwrap())
        .into();
    for (woken, drain) in woken.iter().zip(&mut drains) {
        assert!(woken.poll(Pin::new(drain)).is_pending());
    }
    let mut forever = fleet.drain(&1).unwrap();
    assert_eq!(forever.deadline(), None);
    let mut seen = Vec::new();
    for _ in 0..4 {
        clock.advance(SECOND);
        drop(fleet.pick_endpoint());
        seen.push(woken.each_ref().map(|it| it.times()));
    }
    assert_eq!(seen, [[0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 1]]);
    assert!(woken[0].poll(Pin::new(&mut forever)).is_pending());
}

#[test]
fn a_wait_dropped_at_any_point_wakes_no_task_and_the_drain_goes_on() {
    let (fleet, clock, [first, last]) = busy(Upkeep::Picks);
    let woken = Arc::new(Woken::default());
    for polls in 0..3 {
        let mut drain = Box::pin(fleet.drain_within(&1, DEADLINE).unwrap());
        for _ in 0..polls {
            assert!(woken.poll(drain.as_mut()).is_pending());
        }
        drop(drain);
        assert_eq!(Arc::strong_count(&woken), 1, "no waker is left");
    }
    clock.advance(DEADLINE);
    drop(fleet.pick_endpoint());
    drop((first, last));
    assert_eq!(woken.times(), 0);
    assert_eq!(state(&fleet, 1), MemberState::Draining);
    assert_eq!(fleet.stats().in_flight, 0);
}

#[test]
fn a_deadline_of_now_or_never() {
    let (fleet, clock, _leases) = busy(Upkeep::Picks);
    let woken = Arc::new(Woken::default());
    let now = fleet.drain_within(&1, Duration::ZERO).unwrap();
    let Poll::Ready(drained) = woken.poll(pin!(now)) else {
        panic!("it is over");
    };
    assert_eq!(drained.in_flight(), 2);
    let idle = fleet.drain_within(&2, Duration::ZERO).unwrap();
    assert_eq!(woken.poll(pin!(idle)), Poll::Ready(Drained::Empty));
    let mut never = pin!(fleet.drain_within(&1, Duration::MAX).unwrap());
    clock.advance(SECOND * 86_400);
    assert!(woken.poll(never.as_mut()).is_pending());
    assert!(fleet.drain_within(&9, SECOND).is_none());
}

#[test]
fn a_retired_endpoint_is_removed_when_empty_or_when_its_time_is_over() {
    for is_slow in [false, true] {
        let (fleet, clock, leases) = busy(Upkeep::Picks);
        let woken = Arc::new(Woken::default());
        let mut retire = pin!(fleet.retire(&1, DEADLINE).unwrap());
        assert!(woken.poll(retire.as_mut()).is_pending());
        assert_eq!(state(&fleet, 1), MemberState::Draining);
        let mut leases = Some(leases);
        if is_slow {
            clock.advance(DEADLINE);
            drop(fleet.pick_endpoint());
        } else {
            leases = None;
        }
        assert_eq!(woken.times(), 1);
        let Poll::Ready(drained) = woken.poll(retire.as_mut()) else {
            panic!("it is over");
        };
        assert_eq!(drained.is_complete(), !is_slow);
        assert!(fleet.member(&1).is_none());
        assert_eq!(fleet.members().len(), 2);
        drop(leases);
    }
}

#[test]
fn a_new_endpoint_under_a_retired_key_stays() {
    let (fleet, _, leases) = busy(Upkeep::Picks);
    let woken = Arc::new(Woken::default());
    let mut retire = pin!(fleet.retire(&1, DEADLINE).unwrap());
    assert_eq!(retire.in_flight(), 2);
    assert!(woken.poll(retire.as_mut()).is_pending());
    fleet.insert(Target::new(1, ())).unwrap();
    drop(leases);
    assert_eq!(woken.poll(retire.as_mut()), Poll::Ready(Drained::Empty));
    assert_eq!(state(&fleet, 1), MemberState::Ready);
    // A retire also resolves if its endpoint was removed before.
    let mut retire = pin!(fleet.retire(&1, DEADLINE).unwrap());
    fleet.remove(&1);
    assert_eq!(woken.poll(retire.as_mut()), Poll::Ready(Drained::Empty));
}

#[test]
fn a_dropped_retire_leaves_the_endpoint_draining() {
    let (fleet, _, leases) = busy(Upkeep::Picks);
    let woken = Arc::new(Woken::default());
    for polls in 0..2 {
        let mut retire: Pin<Box<Retire<Server>>> = Box::pin(fleet.retire(&1, DEADLINE).unwrap());
        for _ in 0..polls {
            assert!(woken.poll(retire.as_mut()).is_pending());
        }
    }
    drop(leases);
    assert_eq!((woken.times(), Arc::strong_count(&woken)), (0, 1));
    assert_eq!(state(&fleet, 1), MemberState::Draining);
}

/// Threads pick and hold requests while deadlines pass. Each drain resolves, and none before its deadline unless it is
/// empty.
#[test]
fn a_storm_of_deadlines() {
    use std::sync::atomic::AtomicBool;
    let rounds: usize = std::env::var("STORM").map_or(1, |rounds| rounds.parse().unwrap());
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints(common::servers(&[1; 4]))
        .clock(clock.clone())
        .build()
        .unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = std::collections::VecDeque::new();
            while !done.load(SeqCst) {
                held.push_back(fleet.pick_endpoint().unwrap());
                if held.len() > 50 {
                    held.pop_front();
                }
                clock.advance(MILLI);
            }
        });
        for round in 0..50 * rounds {
            let number = round % 4;
            let within = MILLI * (round % 40) as u32;
            let drain = fleet.drain_within(&number, within).unwrap();
            let (deadline, mut drain) = (drain.deadline().unwrap(), pin!(drain));
            let woken = Arc::new(Woken::default());
            let drained = loop {
                let before = woken.times();
                if let Poll::Ready(drained) = woken.poll(drain.as_mut()) {
                    break drained;
                }
                // Like an executor, this polls only after a wake-up.
                while woken.times() == before {
                    std::thread::yield_now();
                }
            };
            let now = evenkeel::Clock::now(&clock);
            assert!(drained.is_complete() || now >= deadline);
            fleet.insert(Target::new(number, ())).unwrap();
        }
        done.store(true, SeqCst);
    });
}
