//! Promise: the plan bounds retries under way, requests that would fail and waits that lead nowhere, and a call may
//! have options of its own.
#![allow(clippy::unwrap_used)]

mod common;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::calls::{
    Answer, CallerFixture, Failed, ManualTimer, pending, plan_with_ample_budget, poll,
};
use common::{MILLI, SECOND, Server, fail, setup};
use evenkeel::{
    CallOptions, CallPlan, Caller, CallerError, Clock, Cluster, Ejection, Endpoint, Fleet, Hedge,
    Mark, Outcome, PanicRule, PickError, StopReason, Throttle, Tick, from_fn,
};

#[test]
fn no_more_retries_are_under_way_than_the_limit_and_a_dropped_one_makes_room() {
    let plan = plan_with_ample_budget(3).backoff_base(Duration::ZERO);
    let plan = plan.max_concurrent_retries(1);
    let fixture = CallerFixture::new(5, plan, &[Answer::Fail, Answer::Hang, Answer::Fail]);
    let mut hangs = Box::pin(fixture.caller.call(0));
    assert!(poll(hangs.as_mut()).is_pending());
    assert_eq!(fixture.caller.stats().retries_in_flight, 1);
    let error = fixture.call().unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::TooManyRetries, 1)
    );
    assert_eq!(fixture.caller.stats().too_many_retries, 1);
    // The refused retry is neither charged to the budget nor sent.
    assert_eq!(fixture.caller.stats().budget_left, 999);
    assert_eq!(fixture.script.sent().len(), 3);
    drop(hangs);
    assert_eq!(fixture.caller.stats().retries_in_flight, 0);
    assert_eq!(fixture.call().unwrap_err().reason, StopReason::AttemptsUsed);
}

#[test]
fn a_call_whose_slot_another_call_took_during_its_wait_sends_nothing() {
    let fixture = CallerFixture::new(
        5,
        plan_with_ample_budget(2).max_concurrent_retries(1),
        &[Answer::Fail, Answer::Fail, Answer::Hang],
    );
    let (mut one, mut two) = (pin!(fixture.caller.call(0)), pin!(fixture.caller.call(0)));
    assert!(poll(one.as_mut()).is_pending() && poll(two.as_mut()).is_pending());
    fixture.timer.clock.advance(25 * MILLI);
    assert!(poll(one.as_mut()).is_pending());
    let Poll::Ready(Err(error)) = poll(two.as_mut()) else {
        panic!("there is one slot");
    };
    assert_eq!(error.reason, StopReason::TooManyRetries);
    let stats = fixture.caller.stats();
    assert_eq!((stats.retries, stats.budget_left), (1, 999));
    assert_eq!(fixture.fleet.stats().in_flight, 1);
}

#[test]
fn a_call_does_not_wait_for_a_retry_that_has_nowhere_to_go() {
    let fixture = CallerFixture::new(2, plan_with_ample_budget(5), &[Answer::Fail]);
    assert_eq!(
        fixture.call().unwrap_err().reason,
        StopReason::NoEndpointLeft
    );
    // One back-off, between the two attempts; the other two waits are the attempts' deadlines.
    assert_eq!(fixture.timer.waits.lock().unwrap().len(), 3);
    // An endpoint that is marked down does not count as left.
    let fixture = CallerFixture::of(2, plan_with_ample_budget(5), &[Answer::Fail], |fleet| {
        fleet.panic_rule(PanicRule::off())
    });
    fixture.fleet.mark(&1, Mark::Down);
    assert_eq!(
        fixture.call().unwrap_err().reason,
        StopReason::NoEndpointLeft
    );
    assert_eq!(fixture.timer.waits.lock().unwrap().len(), 1);
}

/// The waits counted here are the deadline of each attempt and the back-offs before retries.
#[test]
fn an_overloaded_endpoint_is_not_waited_for() {
    let plan = || plan_with_ample_budget(3).attempt_timeout(SECOND);
    let fixture = CallerFixture::new(3, plan(), &[Answer::Ok(429), Answer::Ok(200)]);
    assert_eq!(fixture.call().unwrap(), 200);
    let waits = fixture.timer.waits.lock().unwrap().clone();
    assert_eq!(waits.len(), 3);
    assert!(waits[1] < 25 * MILLI, "the ordinary wait: {waits:?}");
    // With no other endpoint the caller gets the answer itself.
    let fixture = CallerFixture::new(1, plan(), &[Answer::Ok(429)]);
    assert_eq!(fixture.call().unwrap(), 429);
    assert_eq!(fixture.script.sent().len(), 1);
    assert_eq!(fixture.caller.stats().no_endpoint_left, 1);
}

#[test]
fn a_fleet_says_when_none_is_left_beside_some() {
    let timer = ManualTimer::default();
    let fleet = setup(3, &timer.clock).build().unwrap();
    let ids: Vec<_> = fleet.members().iter().map(|member| member.id()).collect();
    assert!(!fleet.leaves_none(&[]) && !fleet.leaves_none(&ids[..2]));
    assert!(fleet.leaves_none(&ids));
    let number = |at: usize| fleet.members()[at].endpoint().key();
    fleet.mark(&number(2), Mark::Down);
    assert!(fleet.leaves_none(&ids[..2]) && !fleet.leaves_none(&ids[..1]));
    // Two of three down is panic, so health does not count.
    fleet.mark(&number(1), Mark::Down);
    assert!(!fleet.leaves_none(&ids[..2]) && fleet.leaves_none(&ids));
    assert!((&&Box::new(&fleet)).leaves_none(&ids));
}

#[test]
fn a_fleet_says_whether_health_still_tells() {
    let timer = ManualTimer::default();
    let setup = || {
        let ejection = Ejection::default().jitter_percent(0);
        setup(10, &timer.clock).ejection(ejection)
    };
    let fleet = setup().build().unwrap();
    assert!(fleet.has_healthy() && (&&Box::new(&fleet)).has_healthy());
    // Some are ejected: that is what ejection is for.
    for number in 0..5 {
        assert!(fleet.has_healthy(), "{number}");
        for other in number..10 {
            fleet.lease(&other).unwrap().record(Outcome::Success);
        }
        fail(&fleet, number, 5);
    }
    assert_eq!(fleet.stats().ejected, 5);
    // As many are ejected as the cap allows, half.
    assert!(!fleet.has_healthy());

    // As many are ejected as a cap of 20 % allows, far from panic: another bad endpoint could not be ejected.
    let two = Ejection::default()
        .jitter_percent(0)
        .max_ejection_percent(20);
    let fleet = setup().ejection(two).build().unwrap();
    for number in 0..2 {
        assert!(fleet.has_healthy(), "{number}");
        fail(&fleet, number, 5);
        for other in (2..10).cycle().take(40) {
            fleet.lease(&other).unwrap().record(Outcome::Success);
        }
    }
    assert_eq!(fleet.stats().ejected, 2);
    assert!(!fleet.has_healthy() && !fleet.stats().panicking);

    // None is eligible, with the panic rule off.
    let fleet = setup().panic_rule(PanicRule::off()).build().unwrap();
    for number in 0..10 {
        assert!(fleet.has_healthy(), "{number}");
        fleet.mark(&number, Mark::Down);
    }
    assert!(!fleet.has_healthy());

    // All are down, and the fleet panics.
    let fleet = setup().build().unwrap();
    for number in 0..10 {
        fleet.mark(&number, Mark::Down);
    }
    assert!(!fleet.has_healthy());

    // Where all fail alike, none is ejected.
    let fleet = setup().build().unwrap();
    for round in 0..40 {
        fail(&fleet, round % 10, 1);
        timer.clock.advance(50 * MILLI);
        fleet.maintain();
    }
    assert!(!fleet.has_healthy(), "{fleet:?}");
    assert!(Fleet::<Server>::from_iter([]).has_healthy());
}

/// The servers first all answer, then all fail, then all answer again; the caller throttles.
#[test]
fn in_an_outage_most_is_given_up_unsent_and_after_it_nothing() {
    let timer = ManualTimer::default();
    let fleet = setup(6, &timer.clock).build().unwrap();
    let is_up = AtomicBool::new(true);
    let transport = from_fn(|_: &Server, _: u8| {
        let is_up = is_up.load(Ordering::Relaxed);
        async move { if is_up { Ok(()) } else { Err(Failed(0)) } }
    });
    let plan = CallPlan::default().backoff_base(Duration::ZERO).seed(5);
    let plan = plan.throttle(Throttle::default());
    let caller = Caller::new(&fleet, transport, plan, timer.clone()).unwrap();
    let call = || {
        timer.clock.advance(5 * MILLI);
        match poll(pin!(caller.call(0))) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("nothing waits here"),
        }
    };
    for _ in 0..2_000 {
        call().unwrap();
    }
    is_up.store(false, Ordering::Relaxed);
    // 20 s of outage. Throttling begins once half of the ten-second window has failed; at the end the window holds
    // nothing from before the outage.
    for _ in 0..4_000 {
        let error = call().unwrap_err();
        if error.reason == StopReason::Throttled {
            assert_eq!((error.attempts, error.last), (0, None));
        }
    }
    let before = caller.stats();
    assert!(before.throttled > 0);
    for _ in 0..2_000 {
        call().unwrap_err();
    }
    let stats = caller.stats();
    assert_eq!(stats.requests + stats.throttled, 8_000);
    // Of 2000 requests 80 in a hundred are refused: 1600, with a standard deviation of 18; six of them are 108.
    let throttled = stats.throttled - before.throttled;
    assert!((1_490..=1_710).contains(&throttled), "{throttled}");
    // Only requests that are sent earn retries: 400 in ten seconds make 80.
    let retries = stats.retries - before.retries;
    assert!(retries <= 90 + 3, "{retries}");

    is_up.store(true, Ordering::Relaxed);
    let again = (0..2_000).filter(|_| call().is_err()).count();
    assert!(again < 1_700, "{again}");
    let late = (0..1_000).filter(|_| call().is_err()).count();
    assert_eq!(late, 0);
}

/// Of three servers one is dead, as many as the cap lets eject, so that there is no healthy choice for certain. Nothing
/// fails, though: what is in flight or dropped used to count as if it had failed, and three in four of a burst were
/// refused.
#[test]
fn a_burst_and_calls_that_are_dropped_are_not_throttled() {
    for servers in [1, 3] {
        let timer = ManualTimer::default();
        let fleet = setup(servers, &timer.clock).build().unwrap();
        if servers > 1 {
            fail(&fleet, 0, 5);
        }
        assert!(!fleet.has_healthy());
        let transport = from_fn(|_: &Server, _: u8| async {
            pending(2).await;
            Ok::<_, Failed>(())
        });
        let plan = CallPlan::default().throttle(Throttle::default()).seed(5);
        let caller = Caller::new(&fleet, transport, plan, timer.clone()).unwrap();
        let begin = |count: usize| {
            let mut calls: Vec<_> = (0..count).map(|_| Box::pin(caller.call(0))).collect();
            for call in &mut calls {
                assert!(poll(call.as_mut()).is_pending(), "{servers}");
            }
            calls
        };
        drop(begin(100));
        for mut call in begin(100) {
            assert!(matches!(poll(call.as_mut()), Poll::Ready(Ok(()))));
        }
        drop(begin(100));
        assert_eq!((begin(1).len(), caller.stats().throttled), (1, 0));
    }
}

/// A server hangs. With calls that would be open for 15 seconds, the throttle does not wait for their ends.
#[test]
fn calls_that_hang_are_throttled_before_they_end() {
    let timer = ManualTimer::default();
    let fleet = setup(1, &timer.clock).build().unwrap();
    let transport = from_fn(|_: &Server, _: u8| std::future::pending::<Result<(), Failed>>());
    let plan = CallPlan::default().throttle(Throttle::default()).seed(5);
    let caller = Caller::new(&fleet, transport, plan, timer.clone()).unwrap();
    let mut calls: Vec<_> = (0..200).map(|_| Box::pin(caller.call(0))).collect();
    let mut open = Vec::new();
    for call in &mut calls {
        open.push(poll(call.as_mut()).is_pending());
        timer.clock.advance(50 * MILLI);
    }
    // The mean age is the patience, a second, at about the fortieth call. From then on 80 of 100 are refused: of 160,
    // 32 are sent, and three deviations of 5 more or less.
    let sent = |range: std::ops::Range<usize>| open[range].iter().filter(|open| **open).count();
    assert_eq!(sent(0..39), 39);
    assert!((16..=48).contains(&sent(40..200)), "{}", sent(40..200));
}

/// A server hangs, and its callers give up after a time of their own.
#[test]
fn calls_that_are_given_up_after_the_patience_are_throttled() {
    let timer = ManualTimer::default();
    let fleet = setup(1, &timer.clock).build().unwrap();
    let transport = from_fn(|_: &Server, _: u8| std::future::pending::<Result<(), Failed>>());
    let plan = CallPlan::default().throttle(Throttle::default()).seed(5);
    let caller = Caller::new(&fleet, transport, plan, timer.clone()).unwrap();
    for _ in 0..100 {
        let mut call = Box::pin(caller.call(0));
        let _ = poll(call.as_mut());
        timer.clock.advance(50 * MILLI);
    }
    // The first ones outlasted nothing: nothing is known of latency, so the patience is a second.
    assert_eq!(caller.stats().throttled, 0);
    for _ in 0..20 {
        let mut call = Box::pin(caller.call(0));
        let _ = poll(call.as_mut());
        timer.clock.advance(SECOND + MILLI);
    }
    assert!(caller.stats().throttled >= 5, "{:?}", caller.stats());
}

/// Three of five requests fail everywhere, so health does not help. With k = 3, two good answers of five let six
/// requests be sent, which is more than there are, so nothing is refused. An answer of 429 (overloaded) is not a good
/// one.
#[test]
fn what_is_answered_well_counts_against_throttling_and_an_overload_does_not() {
    for (other, is_throttled) in [(200, false), (429, true)] {
        let plan = plan_with_ample_budget(1).throttle(Throttle::default().k(3.0));
        let (bad, other) = (Answer::Fail, Answer::Ok(other));
        let answers = [bad, bad, other, bad, other].repeat(400);
        let fixture = CallerFixture::new(6, plan, &answers);
        for _ in 0..1_900 {
            fixture.timer.clock.advance(5 * MILLI);
            let _ = fixture.call();
        }
        assert!(!fixture.fleet.has_healthy());
        let throttled = fixture.caller.stats().throttled;
        assert!((throttled > 0) == is_throttled, "{other:?}: {throttled}");
    }
}

/// A request that is slow by nature uses the same caller as the others, with an attempt timeout of its own.
#[test]
fn an_attempt_may_take_as_long_as_its_call_says() {
    let plan = || plan_with_ample_budget(2).attempt_timeout(20 * MILLI);
    let call = |answers: &[Answer], options: CallOptions<'_>| {
        let fixture = CallerFixture::new(3, plan(), answers);
        let result = fixture.run(fixture.caller.call_with_options(options, || 1));
        (result.map_err(|error| error.reason), fixture.caller.stats())
    };
    let late = [Answer::OkLate(200, 50), Answer::Hang];
    let (result, stats) = call(&late, CallOptions::new());
    assert_eq!((result, stats.timeouts), (Err(StopReason::AttemptsUsed), 2));
    for longest in [60 * MILLI, Duration::MAX] {
        let options = CallOptions::new().attempt_timeout(longest);
        let (result, stats) = call(&late, options);
        assert_eq!((result, stats.requests, stats.retries), (Ok(200), 1, 0));
    }
    let options = CallOptions::new().attempt_timeout(5 * MILLI);
    let (result, _) = call(&[Answer::OkLate(200, 10), Answer::Ok(201)], options);
    assert_eq!(result, Ok(201));
    // The deadline still limits the call.
    let options = options.attempt_timeout(Duration::MAX).deadline(30 * MILLI);
    assert_eq!(call(&late, options).0, Err(StopReason::Deadline));
}

#[test]
fn a_call_has_options_of_its_own() {
    let fixture = CallerFixture::new(3, plan_with_ample_budget(1), &[Answer::Hang]);
    let options = CallOptions::new().deadline(30 * MILLI);
    let call = fixture.caller.call_with_options(options, || 1);
    assert_eq!(fixture.run(call).unwrap_err().reason, StopReason::Deadline);
    assert_eq!(fixture.timer.clock.now(), Tick::ZERO.after(30 * MILLI));
    // A deadline of zero: nothing is sent.
    let call = fixture
        .caller
        .call_with_options(options.deadline(Duration::ZERO), || 1);
    let error = fixture.run(call).unwrap_err();
    assert_eq!((error.reason, error.attempts), (StopReason::Deadline, 0));
    assert_eq!(fixture.script.sent().len(), 1);

    // An endpoint that the call avoids is tried neither first nor later.
    let fixture = CallerFixture::new(4, plan_with_ample_budget(9), &[Answer::Fail]);
    let avoided = fixture.fleet.member(&2).unwrap().id();
    let ids = [avoided];
    let call = fixture
        .caller
        .call_with_options(CallOptions::new().avoid(&ids), || 1);
    let error = fixture.run(call).unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::NoEndpointLeft, 3)
    );
    assert!(!fixture.script.sent().contains(&2));
    let all: Vec<_> = fixture.fleet.members().iter().map(|it| it.id()).collect();
    let call = fixture
        .caller
        .call_with_options(CallOptions::new().avoid(&all), || 1);
    let error = fixture.run(call).unwrap_err();
    assert_eq!(error.reason, StopReason::Pick(PickError::AllAvoided));
    let options = CallOptions::new().affinity(3).avoid(&all);
    assert_eq!(
        options.pick.affinity,
        CallOptions::new().pick(options.pick).pick.affinity
    );
}

/// A request that must not be carried out twice shares the caller with requests that may.
#[test]
fn a_call_may_have_fewer_or_more_attempts_than_the_plan() {
    for hedge in [None, Some(Hedge::after(5 * MILLI))] {
        let mut plan = plan_with_ample_budget(3);
        plan.hedge = hedge;
        let fixture = CallerFixture::new(20, plan, &[Answer::Fail]);
        for (most, sent) in [(1, 1), (0, 1), (2, 2), (5, 5), (100, 16)] {
            let options = CallOptions::new().attempts(most);
            let call = fixture.caller.call_with_options(options, || 1);
            assert_eq!(fixture.run(call).unwrap_err().attempts, sent, "{most}");
        }
        let stats = fixture.caller.stats();
        assert_eq!(stats.attempts_used, 5);
    }
    // A call with one attempt that hangs is neither retried nor hedged.
    let mut plan = plan_with_ample_budget(3).deadline(SECOND);
    plan.hedge = Some(Hedge::after(5 * MILLI));
    let fixture = CallerFixture::new(9, plan, &[Answer::Hang]);
    let once = CallOptions::new().attempts(1);
    let call = fixture.caller.call_with_options(once, || 1);
    assert_eq!(fixture.run(call).unwrap_err().attempts, 1);
    assert_eq!(fixture.caller.stats().hedges, 0);
}

#[test]
fn each_reason_is_counted_and_a_double_can_say_it() {
    let empty = CallerFixture::new(0, plan_with_ample_budget(2), &[Answer::Fail]);
    let reason = empty.call().unwrap_err().reason;
    assert_eq!(reason, StopReason::Pick(PickError::Empty));
    assert_eq!(empty.caller.stats().pick_failures, 1);
    let error = CallerError::<Failed>::new(reason);
    assert_eq!((error.attempts, error.last), (0, None));
    let fixture = CallerFixture::new(3, plan_with_ample_budget(2), &[Answer::Fail]);
    assert_eq!(fixture.call().unwrap_err().reason, StopReason::AttemptsUsed);
    assert_eq!(fixture.caller.stats().attempts_used, 1);
}

/// A timer may be unable to add more than its time can hold, as [`std::time::Instant`] is, and panic.
#[test]
fn no_timer_is_asked_to_sleep_for_ever() {
    let fixture = CallerFixture::new(2, CallPlan::default(), &[Answer::OkLate(200, 3)]);
    let options = CallOptions::new()
        .attempt_timeout(Duration::MAX)
        .deadline(Duration::MAX);
    let call = fixture.caller.call_with_options(options, || 1);
    assert_eq!(fixture.run(call).unwrap(), 200);
    assert_eq!(*fixture.timer.waits.lock().unwrap(), []);
}
