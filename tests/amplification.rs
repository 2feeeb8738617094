//! Promise: in an outage, retries and hedges together add at most a fifth of the requests and the floor of three per
//! window, and no request is sent to an endpoint twice.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use common::calls::{ManualTimer, pending, poll};
use common::{MILLI, SECOND, Server, setup};
use evenkeel::{CallPlan, Caller, Clock, Endpoint, Hedge, Outcome, PanicRule, Tick, Transport};
use proptest::prelude::*;

/// A transport whose every request fails, at once or late, or hangs, depending on the numbers of request and server.
#[derive(Default)]
struct Outage {
    sent: Mutex<HashMap<u64, HashSet<usize>>>,
    attempts: Mutex<u64>,
}

#[derive(Debug)]
struct Down;

impl Transport<Server, u64> for &Outage {
    type Response = ();
    type Error = Down;

    async fn send(&self, server: &Server, request: u64) -> Result<(), Down> {
        *self.attempts.lock().unwrap() += 1;
        let is_new = self
            .sent
            .lock()
            .unwrap()
            .entry(request)
            .or_default()
            .insert(server.key());
        assert!(
            is_new,
            "request {request} was sent to {} twice",
            server.key()
        );
        match (request + server.key() as u64) % 4 {
            0 => std::future::pending().await,
            1 => pending(15).await,
            _ => {}
        }
        Err(Down)
    }

    fn classify(&self, _: &Result<(), Down>) -> Outcome {
        Outcome::Failure
    }
}

/// Keeps up to `together` calls under way for `length`, each started `pause` after the one before it ended. Returns the
/// number of requests and the number of attempts.
fn outage(
    plan: CallPlan,
    servers: usize,
    together: usize,
    pause: Duration,
    length: Duration,
) -> (u64, u64) {
    let timer = ManualTimer::default();
    let fleet = setup(servers, &timer.clock).panic_rule(PanicRule::off());
    let fleet = fleet.build().unwrap();
    let outage = Outage::default();
    let caller = Caller::new(&fleet, &outage, plan, timer.clone()).unwrap();
    let mut number = 0;
    let mut calls: Vec<(Tick, Option<Pin<Box<_>>>)> = Vec::new();
    calls.resize_with(together, || (Tick::ZERO, None));
    while timer.clock.now() < Tick::ZERO.after(length) {
        for (starts, call) in &mut calls {
            if call.is_none() && timer.clock.now() >= *starts {
                number += 1;
                *call = Some(Box::pin(caller.call(number)));
            }
            if let Some(running) = call {
                if poll(running.as_mut()).is_ready() {
                    *call = None;
                    *starts = timer.clock.now().after(pause);
                }
            }
        }
        timer.clock.advance(MILLI);
    }
    drop(calls);
    assert_eq!(fleet.stats().in_flight, 0);
    let (stats, attempts) = (caller.stats(), *outage.attempts.lock().unwrap());
    assert_eq!(attempts, stats.requests + stats.retries);
    assert_eq!(stats.retries_in_flight, 0);
    (stats.requests, attempts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_total_outage_is_not_made_worse_than_by_a_fifth_and_the_floor(
        servers in 1usize..12,
        together in 1usize..12,
        pause in 0u64..200,
        attempts in 1u32..6,
        hedges in 1u32..4,
        delay in 1u64..30,
        timeout in 5u64..60,
        seed: u64,
    ) {
        let hedge = Hedge::after(Duration::from_millis(delay)).max_hedges(hedges);
        let plan = CallPlan::default().attempts(attempts).seed(seed).hedge(hedge);
        let plan = plan.attempt_timeout(Duration::from_millis(timeout));
        let (length, pause) = (25 * SECOND, Duration::from_millis(pause));
        let (requests, attempts) = outage(plan, servers, together, pause, length);
        // 25 s touch three windows of 10 s, each with a floor of 3 retries.
        prop_assert!(attempts <= requests + requests / 5 + 3 * 3, "{attempts} for {requests}");
    }
}

#[test]
fn the_budget_is_used_and_not_a_fraction_of_it() {
    let hedge = Hedge::after(5 * MILLI);
    let plan = CallPlan::default()
        .attempts(4)
        .hedge(hedge)
        .attempt_timeout(20 * MILLI);
    let (requests, attempts) = outage(plan, 10, 8, 10 * MILLI, 30 * SECOND);
    let retries = attempts - requests;
    assert!(retries * 10 >= requests, "{retries} for {requests}");
}
