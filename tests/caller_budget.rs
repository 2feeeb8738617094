//! Promise: a caller's retries stay within its budget, and a call dropped at any point leaves counts and budget right.
#![allow(clippy::unwrap_used)]

mod common;

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use common::calls::{Answer, CallerFixture, ManualTimer, plan_with_ample_budget, poll};
use common::{MILLI, SECOND, Server, setup};
use evenkeel::{
    CallPlan, Caller, CallerError, Clock, Endpoint, Member, PowerOfTwo, RoundRobin, StopReason,
    Tick, from_fn,
};

#[test]
fn a_wait_that_overslept_the_deadline_is_not_followed_by_an_attempt() {
    let fixture = CallerFixture::new(
        3,
        plan_with_ample_budget(3).deadline(50 * MILLI),
        &[Answer::Fail],
    );
    let mut call = pin!(fixture.caller.call(0));
    assert!(poll(call.as_mut()).is_pending());
    fixture.timer.clock.advance(SECOND);
    let Poll::Ready(Err(error)) = poll(call.as_mut()) else {
        panic!("the deadline has passed");
    };
    assert_eq!((error.reason, error.attempts), (StopReason::Deadline, 1));
    assert_eq!(fixture.caller.stats().budget_left, 1000);
}

#[test]
fn a_total_outage_costs_a_fifth_and_no_more() {
    for (pause, seconds) in [
        (MILLI, 5),
        (10 * MILLI, 60),
        (SECOND, 200),
        (7 * SECOND, 700),
    ] {
        let plan = CallPlan::default().attempts(4).backoff_base(Duration::ZERO);
        let fixture = CallerFixture::new(6, plan, &[Answer::Fail]);
        let mut exhausted = 0;
        while fixture.timer.clock.now() < Tick::ZERO.after(seconds * SECOND) {
            let error = fixture.call().unwrap_err();
            exhausted += u64::from(error.reason == StopReason::BudgetExhausted);
            fixture.timer.clock.advance(pause);
        }
        let stats = fixture.caller.stats();
        let sent = fixture.script.sent().len() as u64;
        assert_eq!(sent, stats.requests + stats.retries);
        assert_eq!(exhausted, stats.budget_exhausted);
        assert!(exhausted > 0);
        let floor = 3 * u64::from(seconds / 10 + 1);
        let most = stats.requests / 5 + floor;
        assert!(stats.retries <= most, "{} > {most}", stats.retries);
        assert!(
            stats.retries * 10 >= stats.requests,
            "next to none: {stats:?}"
        );
    }
}

/// How many calls fail in a minute and a half, in which one of these servers dies after half a minute and stays dead.
fn failed_calls(servers: usize, pause: Duration, floor: Option<u32>, seed: u64, turn: bool) -> u32 {
    let timer = ManualTimer::default();
    let (clock, fleet) = (timer.clock.clone(), setup(servers, &timer.clock).seed(seed));
    let fleet = match turn {
        true => fleet.policy(RoundRobin::new()),
        false => fleet.policy(PowerOfTwo::new()),
    };
    let send = from_fn(move |server: &Server, _: ()| {
        let is_dead = server.key() == 1 && clock.now() > Tick::ZERO.after(30 * SECOND);
        async move { if is_dead { Err(()) } else { Ok(()) } }
    });
    let mut plan = CallPlan::default().backoff_base(Duration::ZERO).seed(seed);
    plan.budget_floor = floor.unwrap_or(plan.budget_floor);
    let caller = Caller::new(fleet.build().unwrap(), send, plan, timer.clone()).unwrap();
    let mut failed = 0;
    while timer.clock.now() < Tick::ZERO.after(90 * SECOND) {
        timer.clock.advance(pause);
        let Poll::Ready(result) = poll(pin!(caller.call(()))) else {
            panic!("nothing in it waits");
        };
        failed += u32::from(result.is_err());
    }
    failed
}

/// At few requests a second the floor is the budget. An endpoint that dies and stays dead takes some retries until it
/// is ejected and one for each of its probes; six within ten seconds hide all of that.
#[test]
fn a_floor_of_six_hides_an_endpoint_that_stays_dead() {
    let mut by_default = 0;
    for servers in 2..=4 {
        for (pause, seed) in [500, 1000]
            .into_iter()
            .flat_map(|it| (0..5).map(move |seed| (it, seed)))
        {
            for turn in [true, false] {
                let failed = |floor| failed_calls(servers, pause * MILLI, floor, seed, turn);
                assert_eq!(
                    failed(Some(6)),
                    0,
                    "{servers} servers, {pause} ms, seed {seed}"
                );
                let few = failed(None);
                assert!(
                    few <= 2,
                    "{few} of {servers} servers, {pause} ms, seed {seed}"
                );
                by_default += few;
            }
        }
    }
    assert!(
        by_default > 0,
        "the text of `budget_floor` says that some fail"
    );
}

#[test]
fn clones_and_threads_share_one_budget_to_the_last_token() {
    let plan = CallPlan::default().budget_percent(0).budget_floor(50);
    let plan = plan.backoff_base(Duration::ZERO);
    let fixture = CallerFixture::new(4, plan, &[Answer::Fail]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let caller = fixture.caller.clone();
            scope.spawn(move || {
                for _ in 0..100 {
                    assert!(poll(pin!(caller.call(0))).is_ready());
                }
            });
        }
    });
    let stats = fixture.caller.stats();
    assert_eq!((stats.requests, stats.retries), (400, 50));
    assert_eq!((stats.budget_left, stats.budget_exhausted), (0, 350));
    assert_eq!(fixture.script.sent().len(), 450);
}

#[test]
fn a_call_whose_token_another_call_took_during_its_wait_sends_nothing() {
    let plan = CallPlan::default().budget_percent(0).budget_floor(1);
    let fixture = CallerFixture::new(4, plan, &[Answer::Fail]);
    let (mut one, mut two) = (pin!(fixture.caller.call(0)), pin!(fixture.caller.call(0)));
    assert!(poll(one.as_mut()).is_pending());
    assert!(poll(two.as_mut()).is_pending());
    fixture.timer.clock.advance(25 * MILLI);
    let reason = |end| match end {
        Poll::Ready(Err(CallerError { reason, .. })) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(poll(one.as_mut())), StopReason::AttemptsUsed);
    assert_eq!(reason(poll(two.as_mut())), StopReason::BudgetExhausted);
    assert_eq!(fixture.script.sent().len(), 3);
    assert_eq!(fixture.fleet.stats().in_flight, 0);
    let ignored = |member: Member<Server>| member.outcomes().ignored;
    assert_eq!(
        fixture
            .fleet
            .members()
            .into_iter()
            .map(ignored)
            .sum::<u32>(),
        1
    );
    assert_eq!(fixture.caller.stats().budget_exhausted, 1);
    // An exhausted budget is seen before the back-off, so this call does not wait. (The waits counted below are two
    // back-offs and the deadlines of four attempts.)
    assert_eq!(
        reason(poll(pin!(fixture.caller.call(0)))),
        StopReason::BudgetExhausted
    );
    assert_eq!(fixture.timer.waits.lock().unwrap().len(), 2 + 4);
}

#[test]
fn a_call_dropped_after_any_poll_leaves_counts_and_budget_right() {
    let plan = CallPlan::default().attempts(4).budget_floor(10).seed(3);
    let plan = plan.budget_percent(0).attempt_timeout(4 * MILLI);
    let answers = [
        Answer::FailLate(3),
        Answer::Hang,
        Answer::FailLate(2),
        Answer::FailLate(2),
    ];
    let mut ended = false;
    let mut seen = std::collections::BTreeSet::new();
    for polls in 0.. {
        let fixture = CallerFixture::new(6, plan.clone(), &answers);
        {
            let mut call = Box::pin(fixture.caller.call(0));
            for _ in 0..polls {
                ended |= poll(call.as_mut()).is_ready();
                fixture.timer.clock.advance(MILLI);
                if ended {
                    break;
                }
            }
        }
        let stats = fixture.caller.stats();
        let sent = fixture.script.sent().len() as u64;
        let in_flight = fixture.fleet.stats().in_flight;
        assert_eq!(in_flight, 0, "dropped after {polls} polls");
        assert_eq!(
            sent,
            stats.requests + stats.retries,
            "dropped after {polls} polls"
        );
        assert_eq!(
            stats.budget_left,
            10 - sent.saturating_sub(1),
            "dropped after {polls} polls"
        );
        assert_eq!(
            fixture.outcomes().iter().sum::<u64>(),
            sent,
            "dropped after {polls} polls"
        );
        seen.insert((sent, fixture.outcomes()[3]));
        if ended {
            break;
        }
    }
    // Dropped before the first poll, in each attempt, in each wait, and at the end.
    let in_attempts = (1..=4).map(|sent| (sent, 1));
    let in_waits = (0..=4).map(|sent| (sent, 0));
    assert_eq!(seen, in_attempts.chain(in_waits).collect());
}

#[test]
fn a_transport_that_panics_leaves_counts_right() {
    let fixture = CallerFixture::new(3, plan_with_ample_budget(3), &[Answer::Fail, Answer::Panic]);
    let call = std::panic::AssertUnwindSafe(|| fixture.call());
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(fixture.fleet.stats().in_flight, 0);
    assert_eq!(fixture.outcomes(), [0, 1, 0, 1]);
    assert_eq!(fixture.caller.stats().retries, 1);
}

#[test]
fn waits_are_drawn_between_zero_and_what_doubles() {
    let plan = || plan_with_ample_budget(5).budget_floor(1000);
    let mut plan_without_deadline = plan();
    plan_without_deadline.deadline = None;
    let mut sums = [Duration::ZERO; 4];
    let rounds = 200;
    let fixture = CallerFixture::new(5, plan_without_deadline, &[Answer::Fail]);
    for _ in 0..rounds {
        fixture.timer.waits.lock().unwrap().clear();
        assert_eq!(fixture.call().unwrap_err().attempts, 5);
        fixture.timer.clock.advance(10 * SECOND);
        let waits = fixture.timer.waits.lock().unwrap();
        assert_eq!(waits.len(), 4);
        for (retry, wait) in waits.iter().enumerate() {
            assert!(*wait < 25 * MILLI * (1 << retry), "{waits:?}");
            sums[retry] += *wait;
        }
    }
    for (retry, sum) in sums.iter().enumerate() {
        let share = sum.as_secs_f64() / f64::from(rounds) / (0.025 * f64::from(1 << retry));
        assert!((0.4..0.6).contains(&share), "retry {retry}: {share}");
    }
}
