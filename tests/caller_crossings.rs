//! Where a caller or a failover meets limits, overload, empty fleets and panic.
#![allow(clippy::unwrap_used)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::calls::{Answer, CallerFixture, ManualTimer, Script, plan_with_ample_budget, poll};
use common::{MILLI, Server, setup};
use evenkeel::{
    CallPlan, Caller, Cluster, Ejection, Failover, Fleet, Hedge, Limits, ManualClock, Mark,
    PanicAction, PanicRule, PickError, PickOptions, StopReason, Throttle, Tick, Timer, from_fn,
};

/// How many of 4000 calls the throttle refuses.
fn throttled<C: Cluster<Endpoint = Server>>(hand: &ManualTimer, cluster: C, answer: Answer) -> u64 {
    let plan = plan_with_ample_budget(1).throttle(Throttle::default());
    let caller = Caller::new(cluster, Script::new(&[answer]), plan, hand.clone()).unwrap();
    for _ in 0..4_000 {
        hand.clock.advance(5 * MILLI);
        assert!(!matches!(poll(pin!(caller.call(1))), Poll::Pending));
    }
    caller.stats().throttled
}

/// Servers that refuse all as overloaded are not ejected, and they are what a throttle is for. Before the fix nothing
/// was refused with more than one server.
#[test]
fn a_throttle_protects_servers_that_say_they_are_overloaded() {
    for servers in [1, 2, 6] {
        let hand = ManualTimer::default();
        let fleet = setup(servers, &hand.clock).build().unwrap();
        let refused = throttled(&hand, &fleet, Answer::Ok(429));
        assert!((3_000..3_400).contains(&refused), "{servers}: {refused}");
        assert!(!fleet.has_healthy() && fleet.stats().ejected == 0);
    }
    // One of three does: the others are a healthy choice.
    let hand = ManualTimer::default();
    let fleet = setup(3, &hand.clock).build().unwrap();
    for _ in 0..4_000 {
        hand.clock.advance(MILLI);
        fleet
            .lease(&0)
            .unwrap()
            .record(evenkeel::Outcome::overloaded(None));
        fleet
            .pick_endpoint()
            .unwrap()
            .record(evenkeel::Outcome::Success);
    }
    assert!(fleet.has_healthy());
}

/// An empty fleet says that it has a healthy choice, because its picks fail anyway. Beside it nothing was throttled.
#[test]
fn a_throttle_over_a_dead_fleet_and_an_empty_one() {
    for (preferred, spare) in [(6, 0), (0, 6), (6, 6)] {
        let hand = ManualTimer::default();
        let build = |count| {
            let ejection = Ejection::under_failover();
            setup(count, &hand.clock)
                .ejection(ejection)
                .build()
                .unwrap()
        };
        let cluster = Failover::new(build(preferred), build(spare));
        let refused = throttled(&hand, cluster, Answer::Fail);
        assert!(
            (3_000..3_400).contains(&refused),
            "{preferred}, {spare}: {refused}"
        );
    }
    let empty = || Fleet::<Server>::from_iter([]);
    assert!(Failover::new(empty(), empty()).has_healthy());
}

/// Each fleet counts a refused pick once, though clusters that are short of room are asked twice.
#[test]
fn a_pick_that_all_clusters_refuse_counts_once() {
    let clock = ManualClock::new();
    let build = |limits: Limits| setup(2, &clock).limits(limits).build().unwrap();
    for limits in [
        Limits::default().max_requests(2),
        Limits::default().max_requests_per_endpoint(1),
    ] {
        let fleets = [(); 4].map(|()| build(limits.clone()));
        let [a, b, c, d] = &fleets;
        let held: Vec<_> = fleets
            .iter()
            .flat_map(|fleet| {
                [
                    fleet.pick_endpoint().unwrap(),
                    fleet.pick_endpoint().unwrap(),
                ]
            })
            .collect();
        let saturated = || fleets.each_ref().map(|fleet| fleet.stats().saturated);
        let two = Failover::new(a, b);
        assert_eq!(two.pick_endpoint().unwrap_err(), PickError::Saturated);
        assert_eq!(saturated(), [1, 1, 0, 0]);
        let four = Failover::new(Failover::new(two, c), d);
        assert_eq!(four.pick_endpoint().unwrap_err(), PickError::Saturated);
        assert_eq!(saturated(), [2, 2, 1, 1]);
        drop(held);
    }
}

/// The only endpoint of one cluster has been tried, and those of the other are full: a later try may succeed.
#[test]
fn a_retry_that_finds_no_room_elsewhere_is_told_so() {
    let clock = ManualClock::new();
    let one = setup(1, &clock).build().unwrap();
    let limits = Limits::default().max_requests(1);
    let full = setup(2, &clock).limits(limits).build().unwrap();
    let held = full.pick_endpoint().unwrap();
    let tried = [one.members()[0].id()];
    let options = PickOptions::new().avoid(&tried);
    for cluster in [Failover::new(&one, &full), Failover::new(&full, &one)] {
        let error = cluster.pick_endpoint_with(&options).unwrap_err();
        assert_eq!(error, PickError::Saturated);
    }
    drop(held);
    assert!(
        Failover::new(&one, &full)
            .pick_endpoint_with(&options)
            .is_ok()
    );
}

/// In a panic that fails picks, no endpoint is left beside the one that was tried: the call does not wait for it.
#[test]
fn nobody_waits_for_a_retry_in_a_panic_that_fails_picks() {
    let rule = PanicRule::default().action(PanicAction::FailFast);
    let answers = [Answer::FailLate(5)];
    let stage = CallerFixture::of(4, plan_with_ample_budget(2), &answers, |fleet| {
        fleet.panic_rule(rule)
    });
    let mut call = pin!(stage.caller.call(1));
    assert!(poll(call.as_mut()).is_pending());
    for number in 0..4 {
        stage.fleet.mark(&number, Mark::Down);
    }
    let error = stage.run(call).unwrap_err();
    assert_eq!(error.reason, StopReason::NoEndpointLeft);
    // The only sleep is the deadline's.
    assert_eq!(stage.timer.waits.lock().unwrap().len(), 1);
}

/// Hedges are counted for each attempt that they are sent beside.
#[test]
fn a_retry_may_be_hedged_too() {
    for (attempts, hedges) in [(2, 1), (3, 1), (4, 2), (8, 4)] {
        let answers = [Answer::FailLate(12), Answer::FailLate(9)].repeat(8);
        let plan = plan_with_ample_budget(attempts).hedge(Hedge::after(10 * MILLI).max_hedges(1));
        let stage = CallerFixture::new(20, plan, &answers);
        assert_eq!(stage.call().unwrap_err().attempts, attempts);
        assert_eq!(stage.caller.stats().hedges, hedges, "{attempts}");
    }
}

/// A timer that panics once its flag is set.
struct Brittle<'a>(&'a AtomicBool);

impl Timer for Brittle<'_> {
    fn now(&self) -> Tick {
        assert!(!self.0.load(Ordering::Relaxed), "planned");
        Tick::ZERO
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending().await
    }
}

/// A timer that panics after an attempt: the throttle reads it again while that panic unwinds, which used to abort the
/// process.
#[test]
fn a_timer_that_panics_under_a_throttle_panics_once() {
    static IS_BROKEN: AtomicBool = AtomicBool::new(false);
    let fleet = setup(3, &ManualClock::new()).build().unwrap();
    let send = from_fn(|_: &Server, _: u8| async {
        IS_BROKEN.store(true, Ordering::Relaxed);
        Err::<(), _>(())
    });
    let plan = CallPlan::default().throttle(Throttle::default());
    let caller = Caller::new(&fleet, send, plan, Brittle(&IS_BROKEN)).unwrap();
    let called = catch_unwind(AssertUnwindSafe(|| poll(pin!(caller.call(1)))));
    IS_BROKEN.store(false, Ordering::Relaxed);
    assert!(called.is_err());
    assert_eq!((fleet.stats().in_flight, caller.stats().requests), (0, 1));
}
