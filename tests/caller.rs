//! Promise: a caller retries failed attempts on other endpoints, within its deadline, and says why it stopped.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::time::Duration;

use common::calls::{Answer, Failed, Hand, Script, Stage, lavish};
use common::{MILLI, SECOND, Server, setup};
use evenkeel::{
    BoxTransport, CallPlan, Caller, CallerError, Clock, Cluster, PickError, StopReason, Tick,
    Transport,
};

#[test]
fn a_retry_goes_to_an_endpoint_that_was_not_tried() {
    for _ in 0..20 {
        let stage = Stage::new(5, lavish(4), &[Answer::Fail]);
        let error = stage.call().unwrap_err();
        let mut sent = stage.script.sent();
        assert_eq!(error.last, Some(Failed(sent[3])));
        assert_eq!(
            (error.reason, error.attempts),
            (StopReason::AttemptsUsed, 4)
        );
        sent.sort_unstable();
        sent.dedup();
        assert_eq!(sent.len(), 4);
        // Each endpoint is charged with its own failure.
        assert_eq!(stage.outcomes(), [0, 4, 0, 0]);
        assert_eq!(stage.fleet.stats().in_flight, 0);
    }
}

#[test]
fn that_no_endpoint_is_left_is_said() {
    let stage = Stage::new(2, lavish(5), &[Answer::Fail]);
    let error = stage.call().unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::NoEndpointLeft, 2)
    );
    assert!(error.last.is_some());
    let stats = stage.caller.stats();
    assert_eq!((stats.requests, stats.retries), (1, 1));
    assert_eq!(stats.no_endpoint_left, 1);
}

#[test]
fn an_empty_cluster_is_the_picks_error_and_costs_nothing() {
    let stage = Stage::new(0, lavish(5), &[Answer::Fail]);
    let error = stage.call().unwrap_err();
    assert_eq!(error.reason, StopReason::Pick(PickError::Empty));
    assert_eq!((error.attempts, stage.caller.stats().requests), (0, 0));
}

#[test]
fn what_is_not_to_be_retried_is_not() {
    let stage = Stage::new(3, lavish(3), &[Answer::Ok(501), Answer::Ok(200)]);
    assert_eq!(stage.call().unwrap(), 501);
    assert_eq!(stage.script.sent().len(), 1);
    assert_eq!(stage.outcomes()[1], 1);

    let stage = Stage::new(
        3,
        lavish(3).attempt_timeout(SECOND).retry_timeouts(false),
        &[Answer::Hang],
    );
    let error = stage.call().unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::NotRetryable, 1)
    );
    assert!(error.timed_out);
}

#[test]
fn an_answer_that_is_retried_in_vain_is_returned() {
    let stage = Stage::new(3, lavish(2), &[Answer::Ok(500), Answer::Ok(503)]);
    assert_eq!(stage.call().unwrap(), 503);
    assert_eq!(stage.script.sent().len(), 2);
    // An earlier answer is not returned in place of a later failure.
    let stage = Stage::new(3, lavish(2), &[Answer::Ok(500), Answer::Fail]);
    assert_eq!(stage.call().unwrap_err().reason, StopReason::AttemptsUsed);
}

#[test]
fn an_attempt_that_takes_too_long_is_a_timeout_and_tried_elsewhere() {
    let plan = lavish(2).attempt_timeout(100 * MILLI);
    let stage = Stage::new(3, plan, &[Answer::Hang, Answer::Ok(200)]);
    assert_eq!(stage.call().unwrap(), 200);
    assert_eq!(stage.outcomes(), [1, 0, 1, 0]);
    assert_eq!(stage.caller.stats().timeouts, 1);
    let elapsed = stage.hand.clock.now().since(Tick::ZERO);
    assert!(
        (100 * MILLI..=125 * MILLI).contains(&elapsed),
        "{elapsed:?}"
    );
}

#[test]
fn the_deadline_ends_a_call_wherever_it_is() {
    // In the first attempt, which had the whole deadline: it counts as a timeout.
    let stage = Stage::new(3, lavish(3).deadline(50 * MILLI), &[Answer::Hang]);
    let error = stage.call().unwrap_err();
    assert_eq!((error.reason, error.attempts), (StopReason::Deadline, 1));
    assert!(error.timed_out);
    assert_eq!(stage.outcomes(), [0, 0, 1, 0]);
    assert_eq!(stage.hand.clock.now(), Tick::ZERO.after(50 * MILLI));
    assert_eq!(stage.caller.stats().deadlines, 1);

    // In a later attempt, which had only part of it: it counts as abandoned, which says nothing about the endpoint.
    let plan = lavish(3).deadline(50 * MILLI).backoff_base(Duration::ZERO);
    let stage = Stage::new(3, plan, &[Answer::FailLate(30), Answer::Hang]);
    let error = stage.call().unwrap_err();
    assert_eq!((error.reason, error.attempts), (StopReason::Deadline, 2));
    assert_eq!(stage.outcomes(), [0, 1, 0, 1]);
    assert!(error.last.is_some());
    assert_eq!(stage.hand.clock.now(), Tick::ZERO.after(50 * MILLI));

    // Before a back-off that would not end in time.
    let plan = lavish(3).deadline(50 * MILLI);
    let plan = plan.backoff_max(1000 * SECOND).backoff_base(1000 * SECOND);
    let stage = Stage::new(3, plan, &[Answer::Fail]);
    let error = stage.call().unwrap_err();
    assert_eq!((error.reason, error.attempts), (StopReason::Deadline, 1));
    assert!(!error.timed_out);
    assert_eq!(stage.hand.clock.now(), Tick::ZERO);
}

#[test]
fn requests_that_cannot_be_cloned_are_made_for_each_attempt() {
    let stage = Stage::new(5, lavish(3), &[Answer::Fail]);
    let mut made = 0;
    let result = stage.run(stage.caller.call_with(|| {
        made += 1;
        made
    }));
    assert_eq!(result.unwrap_err().attempts, 3);
    let sent = stage.script.sent.lock().unwrap();
    assert_eq!(
        sent.iter().map(|(_, request)| *request).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[test]
fn boxed_clusters_and_transports_keep_their_word_on_what_is_retried() {
    let script = Script::new(&[Answer::Ok(501)]);
    let boxed = BoxTransport::new(script.clone());
    assert!(!boxed.is_retryable(&Ok(501)) && boxed.is_retryable(&Ok(500)));
    assert!(!Box::new(&boxed).is_retryable(&Ok(501)));
    let stage = Stage::new(3, lavish(3), &[Answer::Fail]);
    let cluster: Box<dyn Cluster<Endpoint = Server>> = Box::new(stage.fleet.clone());
    let caller = Caller::new(cluster, boxed, lavish(3), stage.hand.clone()).unwrap();
    assert_eq!(stage.run(caller.call(0)).unwrap(), 501);
    assert_eq!(script.sent().len(), 1);
    assert_eq!(caller.plan().attempts, 3);
    assert_eq!(caller.cluster().name(), stage.fleet.name());
}

#[test]
fn a_plan_out_of_range_is_refused() {
    let hand = Hand::default();
    let fleet = setup(1, &hand.clock).build().unwrap();
    let plan = CallPlan::default().attempts(0);
    let error = Caller::new(fleet, (), plan, hand).unwrap_err().to_string();
    assert_eq!(error, "CallPlan::attempts is 0; it must be from 1 to 16");
}

/// A call can be spawned: the future that owns its caller is `Send` and `'static`.
#[test]
fn a_call_can_be_spawned() {
    fn spawn(future: impl Future<Output = Result<u16, CallerError<Failed>>> + Send + 'static) {
        drop(future);
    }
    let stage = Stage::new(3, lavish(3), &[Answer::Ok(200)]);
    let (caller, other) = (stage.caller.clone(), stage.caller.clone());
    spawn(async move { caller.call(0).await });
    spawn(async move { other.call_with(|| 0).await });
    assert_eq!(stage.script.sent().len(), 0);
}
