//! Promise 2: in-flight is exact, however a request ends.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use evenkeel::{
    Cluster, ClusterExt, Fleet, Lease, ManualClock, Mark, Outcome, PickError, Target, from_fn,
};

type Server = Target<&'static str, Arc<()>>;

fn fleet() -> Fleet<Server> {
    let servers = ["a", "b"].map(|key| Target::new(key, Arc::new(())));
    Fleet::builder()
        .endpoints(servers)
        .clock(ManualClock::new())
        .seed(1)
        .build()
        .unwrap()
}

fn in_flight(fleet: &Fleet<Server>) -> u64 {
    let members: u64 = fleet
        .members()
        .iter()
        .map(|member| member.in_flight())
        .sum();
    assert_eq!(members, fleet.stats().in_flight);
    members
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Is pending for this many polls.
async fn pending(times: u32) {
    for _ in 0..times {
        let mut yielded = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut yielded, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

#[test]
fn every_outcome_ends_a_lease_once() {
    let fleet = fleet();
    let outcomes = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Timeout,
        Outcome::Unreachable,
        Outcome::overloaded(Some(Duration::MAX)),
        Outcome::Ignored,
        Outcome::Abandoned,
    ];
    for outcome in outcomes {
        let leases = [
            fleet.pick_endpoint().unwrap(),
            fleet.pick_endpoint().unwrap(),
        ];
        assert_eq!(in_flight(&fleet), 2);
        let [one, other] = leases;
        one.record(outcome);
        assert_eq!(in_flight(&fleet), 1);
        other.record_with_latency(outcome, Duration::MAX);
        assert_eq!(in_flight(&fleet), 0);
    }
}

#[test]
fn a_drop_ends_a_lease() {
    let fleet = fleet();
    drop(fleet.pick_endpoint().unwrap());
    assert_eq!(in_flight(&fleet), 0);
}

#[test]
fn a_panic_ends_a_lease() {
    let fleet = fleet();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _lease = fleet.pick_endpoint().unwrap();
        panic!("the caller's");
    }));
    assert!(unwound.is_err());
    assert_eq!(in_flight(&fleet), 0);
}

#[test]
fn another_thread_may_end_a_lease() {
    let fleet = fleet();
    let lease = fleet.pick_endpoint().unwrap();
    std::thread::spawn(move || lease.record(Outcome::Success))
        .join()
        .unwrap();
    assert_eq!(in_flight(&fleet), 0);
}

#[test]
fn a_lease_may_end_after_the_removal_and_after_the_fleet() {
    let fleet = fleet();
    let data = fleet.lease(&"a").unwrap().endpoint().data().clone();
    let (removed, last) = (fleet.lease(&"a").unwrap(), fleet.lease(&"b").unwrap());
    assert!(fleet.remove(&"a"));
    assert_eq!(in_flight(&fleet), 1, "the removed one's is its own");
    assert_eq!(Arc::strong_count(&data), 2, "a lease keeps its endpoint");
    removed.record(Outcome::Failure);
    assert_eq!(Arc::strong_count(&data), 1, "and the last one lets it go");
    drop(fleet);
    assert_eq!(last.endpoint().data().as_ref(), &());
    last.record(Outcome::Success);
}

#[test]
fn an_old_incarnations_leases_are_not_the_new_ones() {
    let fleet = fleet();
    let old: Vec<_> = (0..100).map(|_| fleet.lease(&"a").unwrap()).collect();
    fleet.remove(&"a");
    fleet.insert(Target::new("a", Arc::new(()))).unwrap();
    old.into_iter()
        .for_each(|lease| lease.record(Outcome::Failure));
    let new = fleet.member(&"a").unwrap();
    assert_eq!((new.in_flight(), new.outcomes().in_window), (0, 0));
    assert_eq!(new.explain().evidence.unwrap().value, 0.0);
    assert_eq!(fleet.stats().ejections, 0);
}

#[test]
fn a_change_of_weight_data_or_policy_keeps_the_count() {
    let fleet = fleet();
    let lease = fleet.lease(&"a").unwrap();
    let id = lease.id();
    fleet
        .insert(Target::new("a", Arc::new(())).with_weight(7))
        .unwrap();
    fleet.set_policy(evenkeel::LeastConnections::new()).unwrap();
    let member = fleet
        .members()
        .into_iter()
        .find(|member| member.id() == id)
        .unwrap();
    assert_eq!((member.in_flight(), member.weight().get()), (1, 7));
    lease.record(Outcome::Success);
    assert_eq!(member.in_flight(), 0);
}

/// The window leaves out requests from before such a change; the counts for display have them.
#[test]
fn a_request_picked_before_a_mark_a_weight_of_0_or_a_drain_is_late() {
    let weighted = |fleet: &Fleet<Server>, weight: u32| {
        let server = Target::new("a", Arc::new(())).with_weight(weight);
        fleet.insert(server).map(drop).unwrap();
    };
    type Change<'a> = (&'a dyn Fn(&Fleet<Server>), u64);
    let changes: [Change<'_>; 6] = [
        (&|fleet| assert!(fleet.mark(&"a", Mark::Up)), 0),
        (&|fleet| assert!(fleet.mark(&"a", Mark::Down)), 0),
        (&|fleet| weighted(fleet, 0), 0),
        (&|fleet| assert!(fleet.drain(&"a").is_some()), 0),
        (&|fleet| assert!(fleet.mark(&"a", Mark::Degraded)), 1),
        (&|fleet| weighted(fleet, 9), 1),
    ];
    for (at, (change, counted)) in changes.into_iter().enumerate() {
        let fleet = fleet();
        let lease = fleet.lease(&"a").unwrap();
        let member = lease.member().clone();
        change(&fleet);
        lease.record(Outcome::Failure);
        let outcomes = member.outcomes();
        let window = (outcomes.in_window, outcomes.faults_in_window);
        assert_eq!((window, outcomes.failures), ((counted, counted), 1), "{at}");
    }
}

#[test]
fn a_tracked_future_that_is_dropped_at_any_point_ends_its_lease() {
    let fleet = fleet();
    for polls in 0..4 {
        let lease = fleet.pick_endpoint().unwrap();
        let mut tracked = Box::pin(lease.track(pending(2), |()| Outcome::Success));
        let ready = (0..polls)
            .filter(|_| poll(tracked.as_mut()).is_ready())
            .take(1)
            .count();
        assert_eq!(in_flight(&fleet), 1 - ready as u64, "after {polls} polls");
        if ready == 1 {
            continue;
        }
        drop(tracked);
        assert_eq!(in_flight(&fleet), 0, "dropped after {polls} polls");
    }
}

#[test]
fn a_call_that_is_dropped_at_any_point_ends_its_lease() {
    let fleet = fleet();
    let transport = from_fn(|_: &Server, polls: u32| async move {
        pending(polls).await;
        Ok::<_, std::io::Error>(polls)
    });
    for polls in 0..3 {
        let mut call = Box::pin(fleet.call(&transport, 3));
        assert_eq!(
            in_flight(&fleet),
            0,
            "nothing happens before the first poll"
        );
        for _ in 0..polls {
            assert!(poll(call.as_mut()).is_pending());
            assert_eq!(in_flight(&fleet), 1);
        }
        drop(call);
        assert_eq!(in_flight(&fleet), 0, "dropped after {polls} polls");
    }
    let mut call = pin!(fleet.call(&transport, 0));
    assert!(matches!(poll(call.as_mut()), Poll::Ready(Ok(0))));
    assert_eq!(in_flight(&fleet), 0);
}

#[test]
fn a_transport_that_panics_ends_its_lease_and_the_panic_goes_on() {
    let fleet = fleet();
    let transport = from_fn(|_: &Server, (): ()| async move {
        pending(1).await;
        if true {
            panic!("the transport's");
        }
        Ok::<_, std::io::Error>(())
    });
    let mut call = Box::pin(fleet.call(&transport, ()));
    assert!(poll(call.as_mut()).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| poll(call.as_mut()).is_ready())).is_err());
    drop(call);
    assert_eq!(in_flight(&fleet), 0);
}

#[test]
fn a_runtime_that_shuts_down_ends_a_thousand_leases() {
    let fleet = fleet();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    for _ in 0..1000 {
        let lease = fleet.pick_endpoint().unwrap();
        runtime.spawn(lease.track(std::future::pending::<()>(), |()| Outcome::Success));
    }
    assert_eq!(in_flight(&fleet), 1000);
    drop(runtime);
    assert_eq!(in_flight(&fleet), 0);
}

#[test]
fn two_threads_that_pick_and_record_lose_nothing() {
    let fleet = fleet();
    let held: Vec<Vec<Lease<Server>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut held = Vec::new();
                    for round in 0..50_000usize {
                        held.push(fleet.pick_endpoint().unwrap());
                        if held.len() > 50 {
                            held.swap_remove(round % 50).record(Outcome::Success);
                        }
                    }
                    held
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(
        in_flight(&fleet),
        held.iter().map(Vec::len).sum::<usize>() as u64
    );
    drop(held);
    assert_eq!(in_flight(&fleet), 0);
}

#[test]
fn a_lease_outside_any_fleet_needs_none() {
    let lease = Lease::detached("alone".to_string());
    assert_eq!(lease.endpoint(), "alone");
    lease.record(Outcome::Failure);
    drop(Lease::detached("dropped".to_string()));
}

#[test]
fn a_fleet_without_endpoints_says_so() {
    let empty: Fleet<String> = std::iter::empty().collect();
    assert_eq!(empty.pick_endpoint().unwrap_err(), PickError::Empty);
}

/// A thread-local whose destructor picks after the crate's own thread-locals are gone: those were initialised later,
/// and the last initialised is destroyed first.
#[test]
fn a_pick_in_a_threads_last_moments_works() {
    struct Last(Fleet<Server>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.pick_endpoint().unwrap().record(Outcome::Success);
        }
    }
    thread_local!(static LAST: std::cell::OnceCell<Last> = const { std::cell::OnceCell::new() });
    let fleet = fleet();
    for _ in 0..100 {
        let fleet = fleet.clone();
        let here = move || {
            LAST.with(|last| assert!(last.set(Last(fleet.clone())).is_ok()));
            fleet.pick_endpoint().unwrap().record(Outcome::Success);
        };
        std::thread::spawn(here).join().unwrap();
    }
    assert_eq!(in_flight(&fleet), 0);
}
