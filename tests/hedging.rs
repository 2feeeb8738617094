//! Promise: a hedge goes to another endpoint, the first good answer is the call's result, and the other attempts are
//! dropped.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::calls::{
    Answer, CallerFixture, Failed, ManualTimer, pending, plan_with_ample_budget, poll,
};
use common::{MILLI, SECOND, Server, ejected, setup};
use evenkeel::{
    CallPlan, Caller, CallerError, Clock, Ejection, Endpoint, Fleet, FleetBuilder, Hedge, Outcome,
    RoundRobin, StopReason, Tick, Transport, from_fn,
};

/// A plan with one hedge after 10 ms.
fn hedged(attempts: u32) -> CallPlan {
    plan_with_ample_budget(attempts).hedge(Hedge::after(10 * MILLI))
}

/// How many servers it was sent to; asserts that they differ.
fn sent(fixture: &CallerFixture) -> usize {
    let mut sent = fixture.script.sent();
    let all = sent.len();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), all, "one was tried twice");
    all
}

fn elapsed(fixture: &CallerFixture) -> Duration {
    fixture.timer.clock.now().since(Tick::ZERO)
}

#[test]
fn a_slow_endpoint_is_overtaken_by_another() {
    let fixture = CallerFixture::new(5, hedged(2), &[Answer::Hang, Answer::Ok(200)]);
    assert_eq!(fixture.call().unwrap(), 200);
    assert_eq!((sent(&fixture), elapsed(&fixture)), (2, 10 * MILLI));
    // The attempt that is dropped counts as neither good nor bad.
    assert_eq!(fixture.outcomes(), [1, 0, 0, 1]);
    assert_eq!(fixture.fleet.stats().in_flight, 0);
    let stats = fixture.caller.stats();
    assert_eq!((stats.requests, stats.retries), (1, 1));
    assert_eq!((stats.hedges, stats.hedges_won), (1, 1));
    assert_eq!((stats.budget_left, stats.retries_in_flight), (999, 0));
}

/// Also where the first answer comes at the moment at which the hedge is due. Such a hedge used to be charged and
/// counted, but dropped before it was sent.
#[test]
fn a_charged_hedge_is_sent() {
    for polls in 1..30 {
        let fixture = CallerFixture::new(5, hedged(2), &[Answer::OkLate(200, polls), Answer::Hang]);
        assert_eq!(fixture.call().unwrap(), 200);
        let stats = fixture.caller.stats();
        let all = stats.requests + stats.retries;
        assert_eq!(sent(&fixture) as u64, all, "after {polls} polls");
    }
}

/// Nor is that answer lost if the hedge, as soon as it is sent, fails with an error that is not retryable.
#[test]
fn an_answer_that_is_there_when_a_hedge_is_sent_is_the_calls() {
    for polls in 1..=12 {
        let fixture =
            CallerFixture::new(5, hedged(2), &[Answer::OkLate(200, polls), Answer::Reject]);
        assert_eq!(fixture.call().unwrap(), 200, "after {polls} polls");
        assert_eq!(fixture.fleet.stats().in_flight, 0);
    }
}

#[test]
fn an_answer_in_time_is_not_hedged_and_a_late_one_may_win_yet() {
    let fixture = CallerFixture::new(5, hedged(2), &[Answer::OkLate(200, 9)]);
    assert_eq!(fixture.call().unwrap(), 200);
    assert_eq!(fixture.caller.stats().hedges, 0);

    let fixture = CallerFixture::new(5, hedged(2), &[Answer::OkLate(200, 15), Answer::Hang]);
    assert_eq!(fixture.call().unwrap(), 200);
    assert_eq!(sent(&fixture), 2);
    assert_eq!(fixture.outcomes(), [1, 0, 0, 1]);
    let stats = fixture.caller.stats();
    assert_eq!((stats.hedges, stats.hedges_won), (1, 0));
}

#[test]
fn a_bad_answer_waits_for_the_other() {
    for answers in [
        [Answer::FailLate(12), Answer::OkLate(200, 9)],
        [Answer::OkLate(200, 20), Answer::Fail],
        [Answer::OkLate(200, 20), Answer::Ok(500)],
    ] {
        let fixture = CallerFixture::new(5, hedged(3), &answers);
        assert_eq!(fixture.call().unwrap(), 200);
        assert_eq!(sent(&fixture), 2);
        assert_eq!(fixture.outcomes(), [1, 1, 0, 0]);
    }
}

#[test]
fn two_bad_answers_are_followed_by_a_retry_elsewhere() {
    let answers = [Answer::FailLate(12), Answer::FailLate(9), Answer::Ok(200)];
    let fixture = CallerFixture::new(5, hedged(3), &answers);
    assert_eq!(fixture.call().unwrap(), 200);
    assert_eq!(sent(&fixture), 3);
    assert_eq!(fixture.outcomes(), [1, 2, 0, 0]);

    let fixture = CallerFixture::new(5, hedged(2), &answers);
    let error = fixture.call().unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::AttemptsUsed, 2)
    );
    let hedge = fixture.script.sent()[1];
    assert_eq!(error.last, Some(Failed(hedge)));
}

#[test]
fn what_is_not_to_be_retried_ends_the_call() {
    let fixture = CallerFixture::new(5, hedged(3), &[Answer::Hang, Answer::Reject]);
    let error = fixture.call().unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::NotRetryable, 2)
    );
    assert_eq!(fixture.outcomes(), [0, 1, 0, 1]);
}

#[test]
fn where_there_can_be_no_hedge_the_call_goes_on() {
    let slow = [Answer::OkLate(200, 30)];
    let one_endpoint = CallerFixture::new(1, hedged(3), &slow);
    let one_attempt = CallerFixture::new(5, hedged(1), &slow);
    let no_budget = CallerFixture::new(5, hedged(3).budget_percent(0).budget_floor(0), &slow);
    let no_slot = CallerFixture::new(5, hedged(3).max_concurrent_retries(0), &slow);
    for fixture in [one_endpoint, one_attempt, no_budget, no_slot] {
        assert_eq!(fixture.call().unwrap(), 200);
        // The hedge's timer polls the attempt once more when it fires.
        assert!((28 * MILLI..=29 * MILLI).contains(&elapsed(&fixture)));
        assert_eq!(sent(&fixture), 1);
        assert_eq!(fixture.caller.stats().hedges, 0);
        assert_eq!(fixture.outcomes(), [1, 0, 0, 0]);
    }
}

#[test]
fn hedges_follow_one_another_up_to_as_many_as_are_asked_for() {
    for (most, expected) in [(1, 2), (2, 3), (15, 5)] {
        let plan = plan_with_ample_budget(5).hedge(Hedge::after(10 * MILLI).max_hedges(most));
        let fixture = CallerFixture::new(9, plan.deadline(SECOND), &[Answer::Hang]);
        let error = fixture.call().unwrap_err();
        assert_eq!(
            (error.reason, error.timed_out),
            (StopReason::Deadline, true)
        );
        assert_eq!(
            (sent(&fixture), error.attempts),
            (expected, expected as u32)
        );
        assert_eq!(elapsed(&fixture), SECOND);
        // The first attempt had the whole deadline and counts as a timeout. The others had less, so the patience, 1 s
        // here, decides: abandoned.
        assert_eq!(fixture.outcomes(), [0, 0, 1, expected as u64 - 1]);
    }
}

#[test]
fn each_attempt_has_its_own_time() {
    let plan = hedged(2).attempt_timeout(25 * MILLI);
    let fixture = CallerFixture::new(5, plan, &[Answer::Hang, Answer::OkLate(200, 20)]);
    assert_eq!(fixture.call().unwrap(), 200);
    // The first is not abandoned: it timed out at 25 ms, and the hedge went on to 29 ms.
    assert_eq!(fixture.outcomes(), [1, 0, 1, 0]);
    assert_eq!(elapsed(&fixture), 29 * MILLI);

    let plan = hedged(3).attempt_timeout(25 * MILLI).retry_timeouts(false);
    let fixture = CallerFixture::new(5, plan, &[Answer::Hang]);
    let error = fixture.call().unwrap_err();
    assert_eq!(error.reason, StopReason::NotRetryable);
    assert_eq!((sent(&fixture), elapsed(&fixture)), (2, 35 * MILLI));
}

type ByServer = Result<u16, CallerError<()>>;

/// Server 0 hangs, the others answer after 5 ms. Returns which servers are ejected after 100 calls, and the fleet.
fn one_hangs(patience: Option<Duration>) -> (Vec<usize>, Fleet<Server>) {
    let timer = ManualTimer::default();
    let fleet = setup(10, &timer.clock).policy(RoundRobin::new());
    let fleet = match patience {
        Some(patience) => fleet.patience(patience),
        None => fleet,
    };
    let fleet = fleet.build().unwrap();
    // The server has answered once: an unknown latency is not raised.
    let lease = fleet.lease(&0).unwrap();
    lease.record_with_latency(Outcome::Success, 5 * MILLI);
    let transport = from_fn(|server: &Server, _: u8| {
        let hangs = server.key() == 0;
        async move {
            pending(if hangs { u32::MAX } else { 5 }).await;
            Ok::<_, ()>(200_u16)
        }
    });
    let caller = Caller::new(fleet.clone(), transport, hedged(2), timer.clone()).unwrap();
    for _ in 0..100 {
        let mut call = Box::pin(caller.call(0));
        let answer: ByServer = loop {
            if let Poll::Ready(answer) = poll(call.as_mut()) {
                break answer;
            }
            timer.clock.advance(MILLI);
        };
        assert_eq!(answer, Ok(200));
    }
    (ejected(&fleet), fleet)
}

#[test]
fn an_endpoint_that_hangs_is_ejected_if_that_outlasts_patience() {
    let (out, _) = one_hangs(Some(12 * MILLI));
    assert_eq!(out, [0]);
}

/// An attempt is dropped after 15 ms, less than the least patience of 50 ms, so only the latency shows it.
#[test]
fn an_attempt_dropped_within_patience_shows_only_in_the_latency() {
    let (out, fleet) = one_hangs(None);
    assert_eq!(out, []);
    let hangs = fleet.member(&0).unwrap();
    let other = fleet.member(&1).unwrap();
    assert_eq!(
        (hangs.outcomes().timeouts, hangs.outcomes().failures),
        (0, 0)
    );
    assert!(hangs.outcomes().abandoned > 5);
    assert!(hangs.latency() > other.latency(), "{hangs:?} {other:?}");
}

#[test]
fn a_percentile_is_waited_for_once_it_is_known() {
    // The percentile is not known yet: the first call takes its 50 ms.
    let mut answers = vec![Answer::OkLate(200, 51)];
    answers.extend([Answer::OkLate(200, 5); 99]);
    answers.extend([Answer::Hang, Answer::Ok(201)]);
    let plan = plan_with_ample_budget(2).hedge(Hedge::at_percentile(95));
    let fixture = CallerFixture::new(5, plan, &answers);
    assert_eq!(fixture.caller.stats().hedge_delay, None);
    for _ in 0..100 {
        assert_eq!(fixture.call().unwrap(), 200);
    }
    let stats = fixture.caller.stats();
    assert_eq!(stats.hedges, 0);
    let delay = stats.hedge_delay.expect("a hundred are measured");
    assert!((4 * MILLI..=5 * MILLI).contains(&delay), "{delay:?}");
    let before = elapsed(&fixture);
    assert_eq!(fixture.call().unwrap(), 201);
    // 95 in 100 took 4 ms; the estimate is an eighth more at most, and is seen at the next millisecond.
    assert_eq!(elapsed(&fixture) - before, 5 * MILLI);
}

/// Half of the answers take 20 ms or less, one in ten 100 ms or more, and one in a hundred a second: a tail that a
/// hedge mostly overtakes. The 90th percentile is estimated as 100 to 113 ms, so 8.9 to 10 % of 5000 are hedged: 500 at
/// most, with a standard deviation of 21 for the draws, and of 25 for four estimates that are exact to 0.9 points each;
/// 5 of both together make 665. If losing attempts were not counted, the tail would be cut off again and again, and
/// more and more requests would be hedged.
#[test]
fn the_tail_is_not_forgotten_because_it_is_hedged() {
    let timer = ManualTimer::default();
    let fleet = setup(5, &timer.clock).policy(RoundRobin::new());
    let fleet = fleet.build().unwrap();
    let turn = AtomicU64::new(0);
    let transport = from_fn(|_: &Server, _: u8| {
        // A draw from 0 to 99, by multiplicative hashing.
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let draw = (turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100;
        async move {
            pending(1 + 1000 / (100 - draw as u32)).await;
            Ok::<_, ()>(200)
        }
    });
    let plan = plan_with_ample_budget(2).budget_percent(100);
    let plan = plan.hedge(Hedge::at_percentile(90));
    let caller = Caller::new(fleet, transport, plan, timer.clone()).unwrap();
    for _ in 0..5_000 {
        let mut call = Box::pin(caller.call(0));
        while poll(call.as_mut()).is_pending() {
            timer.clock.advance(MILLI);
        }
    }
    let hedges = caller.stats().hedges;
    assert!((300..=665).contains(&hedges), "{hedges} of 5000");
}

/// The percentile is of first attempts, from their start to their answer. A first attempt that fails has no latency,
/// however its hedge ends; and a hedge that fails says nothing about how long the first takes.
#[test]
fn what_fails_has_no_latency() {
    for (first, hedge, expected) in [
        (Answer::FailLate(9), Answer::OkLate(200, 41), 3..6),
        (Answer::OkLate(200, 41), Answer::Fail, 39..46),
    ] {
        let mut answers = vec![Answer::OkLate(200, 5); 100];
        answers.extend([first, hedge].repeat(400));
        let plan = plan_with_ample_budget(2).hedge(Hedge::at_percentile(50));
        let plan = plan.backoff_base(Duration::ZERO);
        let off = |fleet: FleetBuilder<Server>| fleet.ejection(Ejection::off());
        let fixture = CallerFixture::of(5, plan, &answers, off);
        while fixture.script.sent().len() < 800 {
            fixture.call().unwrap();
        }
        let waits = fixture.timer.waits.lock().unwrap();
        let delay = waits.iter().rfind(|wait| **wait < SECOND).unwrap();
        assert!(
            expected.contains(&delay.as_millis()),
            "{first:?}: {delay:?}"
        );
    }
}

/// Answers in turn, after this many polls. A 429 is an overload, which is not retryable.
struct InTurn {
    answers: Vec<(u32, Result<u16, u16>)>,
    sent: AtomicU64,
}

impl Transport<Server, ()> for InTurn {
    type Response = u16;
    type Error = u16;

    async fn send(&self, _: &Server, (): ()) -> Result<u16, u16> {
        let turn = self.sent.fetch_add(1, Ordering::Relaxed) as usize;
        let (polls, answer) = self.answers[turn];
        pending(polls).await;
        answer
    }

    fn classify(&self, result: &Result<u16, u16>) -> Outcome {
        match result {
            Ok(429) | Err(429) => Outcome::overloaded(None),
            result => Outcome::from(result),
        }
    }
}

/// The hedge of a request that would have succeeded meets an overloaded server, and is refused at once. That used to be
/// the result of the call.
#[test]
fn a_refusal_as_overloaded_does_not_end_the_attempts_in_flight() {
    let outcome = |answers: &[(u32, Result<u16, u16>)]| {
        let hand = ManualTimer::default();
        let fleet = setup(5, &hand.clock).build().unwrap();
        let (answers, sent) = (answers.to_vec(), AtomicU64::new(0));
        let transport = InTurn { answers, sent };
        let caller = Caller::new(&fleet, transport, hedged(3), hand.clone()).unwrap();
        let mut call = std::pin::pin!(caller.call(()));
        let result = loop {
            if let Poll::Ready(result) = poll(call.as_mut()) {
                break result.map_err(|error| (error.reason, error.last));
            }
            hand.clock.advance(MILLI);
        };
        assert_eq!(fleet.stats().in_flight, 0);
        (result, caller.stats().requests + caller.stats().retries)
    };
    for refused in [Ok(429), Err(429)] {
        // The hedge is refused, or the first attempt while the hedge is in flight.
        assert_eq!(outcome(&[(30, Ok(200)), (1, refused)]), (Ok(200), 2));
        assert_eq!(outcome(&[(20, refused), (20, Ok(200))]), (Ok(200), 2));
        // No other attempt follows, and the last result is the call's.
        let failed = Err((StopReason::NotRetryable, Some(500)));
        assert_eq!(outcome(&[(30, Err(500)), (1, refused)]), (failed, 2));
        let both = outcome(&[(20, refused), (20, refused)]);
        let expected = refused.map_err(|error| (StopReason::NotRetryable, Some(error)));
        assert_eq!(both, (expected, 2));
        // Alone, it ends the call.
        assert_eq!(outcome(&[(1, refused)]), (expected, 1));
    }
}

/// A server that refuses or fails at once is not fast, also where its answer is the call's: with that percentile, every
/// request after an overload would be hedged at once, as far as the budget goes.
#[test]
fn an_answer_that_is_a_refusal_or_a_failure_has_no_latency() {
    // Neither is retried: 429 by default, and 501 by what `Script` says.
    let hand = ManualTimer::default();
    let fleet = setup(3, &hand.clock).build().unwrap();
    let (answers, sent) = (vec![(1, Ok(429)); 3_000], AtomicU64::new(0));
    let plan = CallPlan::default().hedge(Hedge::at_percentile(95));
    let caller = Caller::new(&fleet, InTurn { answers, sent }, plan.clone(), hand).unwrap();
    for _ in 0..3_000 {
        assert!(poll(std::pin::pin!(caller.call(()))).is_ready());
    }
    assert_eq!(caller.stats().hedge_delay, None);

    let fixture = CallerFixture::new(3, plan, &[Answer::Ok(501)]);
    (0..1_000).for_each(|_| assert_eq!(fixture.call(), Ok(501)));
    assert_eq!(fixture.caller.stats().hedge_delay, None);
}

/// A hedge comes after 5 ms and answers within 2. An ejected endpoint that is well again and answers after 20 comes
/// back: all of its probes used to be overtaken, and it stayed out for good. One that hangs is probed less and less
/// often, and each probe is hedged after the patience, of 50 ms.
#[test]
fn an_ejected_endpoint_slower_than_hedges_comes_back() {
    for (polls, is_back) in [(20, true), (u32::MAX, false)] {
        let hand = ManualTimer::default();
        let fleet = setup(5, &hand.clock).policy(RoundRobin::new());
        let fleet = fleet.build().unwrap();
        let transport = from_fn(move |server: &Server, _: u8| {
            let polls = if server.key() == 0 { polls } else { 2 };
            async move {
                pending(polls).await;
                Ok::<_, Failed>(())
            }
        });
        let plan = plan_with_ample_budget(2).hedge(Hedge::after(5 * MILLI));
        let caller = Caller::new(&fleet, transport, plan, hand.clone()).unwrap();
        let call = || {
            let mut call = std::pin::pin!(caller.call(0));
            let mut took = 0;
            while poll(call.as_mut()).is_pending() {
                hand.clock.advance(MILLI);
                took += 1;
            }
            hand.clock.advance(3 * MILLI);
            took
        };
        assert!((0..300).all(|_| call() < 52));
        for _ in 0..5 {
            fleet.lease(&0).unwrap().record(Outcome::Unreachable);
        }
        assert_eq!(ejected(&fleet), [0]);
        let longest = (0..10_000).map(|_| call()).max().unwrap();
        assert_eq!(ejected(&fleet).is_empty(), is_back);
        assert!(longest <= 52, "{longest}");
    }
}
