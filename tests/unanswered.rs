//! Promise: an endpoint whose requests end without telling anything of it is not preferred for being unknown.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Mutex;

use common::calls::{ManualTimer, pending, plan_with_ample_budget, poll};
use common::checks::{each_second, with};
use common::{MILLI, SECOND, Server, exact, setup};
use evenkeel::{Caller, Cluster, Endpoint, Fleet, Hedge, Lease, ManualClock, Outcome, from_fn};

/// Sends a request every `apart` milliseconds, 4000 after 1000 that do not count. Server 0 holds each for 13 ms, and
/// then gives the outcome, or is let go of; the others answer in 3 ms. Returns how many of the 4000 went to server 0.
fn to_zero(
    fleet: &Fleet<Server>,
    clock: &ManualClock,
    apart: u32,
    outcome: Option<Outcome>,
) -> u32 {
    let mut open: VecDeque<(evenkeel::Tick, Lease<Server>)> = VecDeque::new();
    let (mut to_zero, mut request) = (0, 0);
    let mut due = evenkeel::Clock::now(clock);
    while request < 5_000 {
        clock.advance(match open.is_empty() {
            true => due.since(evenkeel::Clock::now(clock)),
            false => MILLI,
        });
        let now = evenkeel::Clock::now(clock);
        for _ in 0..open.len() {
            let (end, lease) = open.pop_front().unwrap();
            match (end <= now, lease.endpoint().key(), outcome) {
                (false, ..) => open.push_back((end, lease)),
                (true, 0, None) => drop(lease),
                (true, 0, Some(outcome)) => lease.record(outcome),
                (true, ..) => lease.record(Outcome::Success),
            }
        }
        if now < due {
            continue;
        }
        due = due.after(MILLI * apart);
        let lease = fleet.pick_endpoint().unwrap();
        let is_zero = lease.endpoint().key() == 0;
        to_zero += u32::from(is_zero && request >= 1_000);
        request += 1;
        open.push_back((now.after(MILLI * if is_zero { 13 } else { 3 }), lease));
    }
    to_zero
}

/// Abandoned requests, as beside hedges, were waited for: it gets next to none. Others may say nothing of it by chance:
/// it gets no more than its share. Before the fix it got 3720 of 4000 in a fleet of ten.
#[test]
fn one_that_has_never_answered() {
    for servers in [2, 4, 10] {
        for apart in [20, 10, 5, 1] {
            let seen = |outcome| {
                let clock = ManualClock::new();
                let fleet = setup(servers, &clock).build().unwrap();
                to_zero(&fleet, &clock, apart, outcome)
            };
            let what = format!("{servers} servers, {apart} ms apart");
            let abandoned = seen(None);
            assert!(abandoned <= 40, "{what}: {abandoned}");
            let ignored = seen(Some(Outcome::Ignored));
            assert!(ignored <= 4_000 / servers as u32 + 100, "{what}: {ignored}");
            // As soon as it answers, it is known.
            assert!(seen(Some(Outcome::Success)) <= 40, "{what}");
        }
    }
}

#[test]
fn one_that_joined_and_has_never_answered() {
    let clock = ManualClock::new();
    let fleet = setup(5, &clock).build().unwrap();
    let zero = fleet.member(&0).unwrap().endpoint().clone();
    fleet.remove(&0);
    to_zero(&fleet, &clock, 10, None);
    fleet.insert(zero).unwrap();
    let seen = to_zero(&fleet, &clock, 10, None);
    assert!(seen <= 40, "{seen}");
    // It has recovered, and answers like the others: it is used like them.
    let mut to_zero = 0;
    for _ in 0..4_000 {
        clock.advance(10 * MILLI);
        let lease = fleet.pick_endpoint().unwrap();
        to_zero += u32::from(lease.endpoint().key() == 0);
        lease.record_with_latency(Outcome::Success, 3 * MILLI);
    }
    assert!(to_zero >= 400, "{to_zero}");
}

/// Checks have brought server 0 back, which the health page does not deserve: its requests hang.
#[test]
fn one_that_checks_have_brought_back() {
    let mut setting = with(4, exact(), each_second());
    to_zero(&setting.fleet, &setting.clock, 10, Some(Outcome::Success));
    setting.round(|_| Outcome::Success);
    setting.clock.advance(SECOND);
    setting.round(|number| match number {
        0 => Outcome::Failure,
        _ => Outcome::Success,
    });
    assert!(setting.is_out(0));
    for _ in 0..400 {
        setting.clock.advance(MILLI * 20);
        setting.round(|_| Outcome::Success);
    }
    assert!(!setting.is_out(0));
    let seen = to_zero(&setting.fleet, &setting.clock, 10, None);
    assert!(seen <= 120, "{seen}");
}

/// Server 0 hangs from the start. A hedge answers each time, before patience is over.
#[test]
fn one_that_hedges_answer_for() {
    let hand = ManualTimer::default();
    let fleet = setup(4, &hand.clock).build().unwrap();
    let sent = Mutex::new([0u32; 4]);
    let transport = from_fn(|server: &Server, _: u8| {
        let number = server.key();
        sent.lock().unwrap()[number] += 1;
        async move {
            if number == 0 {
                std::future::pending::<()>().await;
            }
            pending(3).await;
            Ok::<u16, ()>(200)
        }
    });
    let plan = plan_with_ample_budget(2)
        .budget_percent(100)
        .hedge(Hedge::after(10 * MILLI));
    let caller = Caller::new(&fleet, transport, plan, hand.clone()).unwrap();
    for _ in 0..4_000 {
        let mut call = pin!(caller.call(1));
        while poll(call.as_mut()).is_pending() {
            hand.clock.advance(MILLI);
        }
    }
    let sent = sent.lock().unwrap();
    assert!(sent[0] <= 40, "{sent:?}");
}

/// Nine in ten requests are let go of after 10 ms, at all endpoints. By chance some of these have not answered after
/// three requests. Before the fix, one or two of ten got next to none of the requests of the first minute for that.
#[test]
fn those_that_have_not_answered_where_most_requests_are_abandoned() {
    for seed in 3..9 {
        let clock = ManualClock::new();
        let fleet = setup(10, &clock).seed(seed).build().unwrap();
        let (mut open, mut seen, mut random) = (VecDeque::new(), [0; 10], seed);
        for _ in 0..20_000 {
            let lease = fleet.pick_endpoint().unwrap();
            seen[lease.endpoint().key()] += 1;
            open.push_back(lease);
            clock.advance(MILLI);
            if open.len() < 10 {
                continue;
            }
            let oldest = open.pop_front().unwrap();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            if (random >> 33) % 10 == 0 {
                oldest.record_with_latency(Outcome::Success, 10 * MILLI);
            }
        }
        assert!(seen.iter().all(|&seen| seen >= 1_500), "{seed}: {seen:?}");
    }
}
