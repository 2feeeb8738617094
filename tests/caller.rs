//! Promise: a caller retries failed attempts on other endpoints, within its deadline, and says why it stopped.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::time::Duration;

use common::calls::{Answer, CallerFixture, Failed, ManualTimer, Script, plan_with_ample_budget};
use common::{MILLI, SECOND, Server, setup};
use evenkeel::{
    BoxTransport, CallOptions, CallPlan, Caller, CallerError, Clock, Cluster, Ejection, Endpoint,
    PickError, StopReason, Tick, Transport,
};

#[test]
fn a_retry_goes_to_an_endpoint_that_was_not_tried() {
    for _ in 0..20 {
        let fixture = CallerFixture::new(5, plan_with_ample_budget(4), &[Answer::Fail]);
        let error = fixture.call().unwrap_err();
        let mut sent = fixture.script.sent();
        assert_eq!(error.last, Some(Failed(sent[3])));
        assert_eq!(
            (error.reason, error.attempts),
            (StopReason::AttemptsUsed, 4)
        );
        sent.sort_unstable();
        sent.dedup();
        assert_eq!(sent.len(), 4);
        // Each endpoint is charged with its own failure.
        assert_eq!(fixture.outcomes(), [0, 4, 0, 0]);
        assert_eq!(fixture.fleet.stats().in_flight, 0);
    }
}

#[test]
fn a_call_says_that_no_endpoint_is_left() {
    let fixture = CallerFixture::new(2, plan_with_ample_budget(5), &[Answer::Fail]);
    let error = fixture.call().unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::NoEndpointLeft, 2)
    );
    assert!(error.last.is_some());
    let stats = fixture.caller.stats();
    assert_eq!((stats.requests, stats.retries), (1, 1));
    assert_eq!(stats.no_endpoint_left, 1);
}

/// A caller that may repeat endpoints, all of which fail. None is ejected for that.
fn repeating(endpoints: usize, attempts: u32) -> CallerFixture {
    let plan = plan_with_ample_budget(attempts).repeat_endpoints(true);
    CallerFixture::of(endpoints, plan, &[Answer::Fail], |fleet| {
        fleet.ejection(Ejection::off())
    })
}

/// With leave to repeat, the request goes round: to each endpoint once before any again, and never twice in a row to the
/// same if there is another.
#[test]
fn endpoints_are_tried_again_if_the_plan_says_so() {
    let sent_of = |endpoints, attempts| {
        let fixture = repeating(endpoints, attempts);
        let error = fixture.call().unwrap_err();
        assert_eq!(
            (error.reason, error.attempts),
            (StopReason::AttemptsUsed, attempts)
        );
        assert_eq!(fixture.fleet.stats().in_flight, 0);
        fixture.script.sent()
    };
    assert_eq!(sent_of(1, 4), [0; 4]);
    for _ in 0..20 {
        let sent = sent_of(2, 5);
        assert!(sent.windows(2).all(|pair| pair[0] != pair[1]), "{sent:?}");
        let sent = sent_of(3, 6);
        assert!(sent.windows(2).all(|pair| pair[0] != pair[1]), "{sent:?}");
        let first: std::collections::BTreeSet<_> = sent[..3].iter().collect();
        assert_eq!(first.len(), 3, "{sent:?}");
    }
}

/// What the caller listed is avoided all the same.
#[test]
fn an_endpoint_to_avoid_is_not_tried_again() {
    let fixture = repeating(2, 3);
    let avoid = [fixture.fleet.members()[0].id()];
    let options = CallOptions::new().avoid(&avoid);
    let error = fixture
        .run(fixture.caller.call_with_options(options, || 7))
        .unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::AttemptsUsed, 3)
    );
    let other = fixture.fleet.members()[1].endpoint().key();
    assert!(fixture.script.sent().iter().all(|sent| *sent == other));
}

#[test]
fn an_empty_cluster_is_the_picks_error_and_costs_nothing() {
    let fixture = CallerFixture::new(0, plan_with_ample_budget(5), &[Answer::Fail]);
    let error = fixture.call().unwrap_err();
    assert_eq!(error.reason, StopReason::Pick(PickError::Empty));
    assert_eq!((error.attempts, fixture.caller.stats().requests), (0, 0));
}

#[test]
fn what_is_not_to_be_retried_is_not() {
    let fixture = CallerFixture::new(
        3,
        plan_with_ample_budget(3),
        &[Answer::Ok(501), Answer::Ok(200)],
    );
    assert_eq!(fixture.call().unwrap(), 501);
    assert_eq!(fixture.script.sent().len(), 1);
    assert_eq!(fixture.outcomes()[1], 1);

    let fixture = CallerFixture::new(
        3,
        plan_with_ample_budget(3)
            .attempt_timeout(SECOND)
            .retry_timeouts(false),
        &[Answer::Hang],
    );
    let error = fixture.call().unwrap_err();
    assert_eq!(
        (error.reason, error.attempts),
        (StopReason::NotRetryable, 1)
    );
    assert!(error.timed_out);
}

#[test]
fn an_answer_that_is_retried_in_vain_is_returned() {
    let fixture = CallerFixture::new(
        3,
        plan_with_ample_budget(2),
        &[Answer::Ok(500), Answer::Ok(503)],
    );
    assert_eq!(fixture.call().unwrap(), 503);
    assert_eq!(fixture.script.sent().len(), 2);
    // An earlier answer is not returned in place of a later failure.
    let fixture = CallerFixture::new(
        3,
        plan_with_ample_budget(2),
        &[Answer::Ok(500), Answer::Fail],
    );
    assert_eq!(fixture.call().unwrap_err().reason, StopReason::AttemptsUsed);
}

#[test]
fn an_attempt_that_takes_too_long_is_a_timeout_and_tried_elsewhere() {
    let plan = plan_with_ample_budget(2).attempt_timeout(100 * MILLI);
    let fixture = CallerFixture::new(3, plan, &[Answer::Hang, Answer::Ok(200)]);
    assert_eq!(fixture.call().unwrap(), 200);
    assert_eq!(fixture.outcomes(), [1, 0, 1, 0]);
    assert_eq!(fixture.caller.stats().timeouts, 1);
    let elapsed = fixture.timer.clock.now().since(Tick::ZERO);
    assert!(
        (100 * MILLI..=125 * MILLI).contains(&elapsed),
        "{elapsed:?}"
    );
}

#[test]
fn the_deadline_ends_a_call_wherever_it_is() {
    // In the first attempt, which had the whole deadline: it counts as a timeout.
    let fixture = CallerFixture::new(
        3,
        plan_with_ample_budget(3).deadline(50 * MILLI),
        &[Answer::Hang],
    );
    let error = fixture.call().unwrap_err();
    assert_eq!((error.reason, error.attempts), (StopReason::Deadline, 1));
    assert!(error.timed_out);
    assert_eq!(fixture.outcomes(), [0, 0, 1, 0]);
    assert_eq!(fixture.timer.clock.now(), Tick::ZERO.after(50 * MILLI));
    assert_eq!(fixture.caller.stats().deadlines, 1);

    // In a later attempt, which had only part of it: it counts as abandoned, which says nothing about the endpoint.
    let plan = plan_with_ample_budget(3)
        .deadline(50 * MILLI)
        .backoff_base(Duration::ZERO);
    let fixture = CallerFixture::new(3, plan, &[Answer::FailLate(30), Answer::Hang]);
    let error = fixture.call().unwrap_err();
    assert_eq!((error.reason, error.attempts), (StopReason::Deadline, 2));
    assert_eq!(fixture.outcomes(), [0, 1, 0, 1]);
    assert!(error.last.is_some());
    assert_eq!(fixture.timer.clock.now(), Tick::ZERO.after(50 * MILLI));

    // Before a back-off that would not end in time.
    let plan = plan_with_ample_budget(3).deadline(50 * MILLI);
    let plan = plan.backoff_max(1000 * SECOND).backoff_base(1000 * SECOND);
    let fixture = CallerFixture::new(3, plan, &[Answer::Fail]);
    let error = fixture.call().unwrap_err();
    assert_eq!((error.reason, error.attempts), (StopReason::Deadline, 1));
    assert!(!error.timed_out);
    assert_eq!(fixture.timer.clock.now(), Tick::ZERO);
}

#[test]
fn requests_that_cannot_be_cloned_are_made_for_each_attempt() {
    let fixture = CallerFixture::new(5, plan_with_ample_budget(3), &[Answer::Fail]);
    let mut made = 0;
    let result = fixture.run(fixture.caller.call_with(|| {
        made += 1;
        made
    }));
    assert_eq!(result.unwrap_err().attempts, 3);
    let sent = fixture.script.sent.lock().unwrap();
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
    let fixture = CallerFixture::new(3, plan_with_ample_budget(3), &[Answer::Fail]);
    let cluster: Box<dyn Cluster<Endpoint = Server>> = Box::new(fixture.fleet.clone());
    let caller = Caller::new(
        cluster,
        boxed,
        plan_with_ample_budget(3),
        fixture.timer.clone(),
    )
    .unwrap();
    assert_eq!(fixture.run(caller.call(0)).unwrap(), 501);
    assert_eq!(script.sent().len(), 1);
    assert_eq!(caller.plan().attempts, 3);
    assert_eq!(caller.cluster().name(), fixture.fleet.name());
}

#[test]
fn a_plan_out_of_range_is_refused() {
    let timer = ManualTimer::default();
    let fleet = setup(1, &timer.clock).build().unwrap();
    let plan = CallPlan::default().attempts(0);
    let error = Caller::new(fleet, (), plan, timer).unwrap_err().to_string();
    assert_eq!(error, "CallPlan::attempts is 0; it must be from 1 to 16");
}

/// A call can be spawned: the future that owns its caller is `Send` and `'static`.
#[test]
fn a_call_can_be_spawned() {
    fn spawn(future: impl Future<Output = Result<u16, CallerError<Failed>>> + Send + 'static) {
        drop(future);
    }
    let fixture = CallerFixture::new(3, plan_with_ample_budget(3), &[Answer::Ok(200)]);
    let (caller, other) = (fixture.caller.clone(), fixture.caller.clone());
    spawn(async move { caller.call(0).await });
    spawn(async move { other.call_with(|| 0).await });
    assert_eq!(fixture.script.sent().len(), 0);
}
