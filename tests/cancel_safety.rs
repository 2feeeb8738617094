//! Promise: every future of the crate may be dropped wherever it waits. Each is polled a number of times and dropped,
//! for every number until it has ended or has gone through all of its waits. (`tests/drain_deadline.rs` does so with
//! `Retire` and with drains that have a deadline.)
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use common::calls::{Answer, CallerFixture, CallerUnderTest, ManualTimer, pending, poll};
use common::checks::each_second;
use common::{MILLI, SECOND, Server, fail, five_in_a_row, setup};
use evenkeel::{
    CallOptions, CallPlan, Cluster, ClusterExt, Drained, Fleet, Hedge, Member, Outcome, Throttle,
    Transport, from_fn,
};

type Run = Pin<Box<dyn Future<Output = ()>>>;
type Call = fn(CallerUnderTest) -> Run;
type OnFleet = fn(Fleet<Server>) -> Run;
type OfChecks = fn(&Fleet<Server>, &ManualTimer) -> Run;

/// A future about to be polled, and what must hold after it is dropped.
struct Case {
    timer: ManualTimer,
    run: Run,
    /// Is told how often the future was polled. Returns a description of the state, by which a test knows that all
    /// waits were met.
    check: Box<dyn FnOnce(&str) -> String>,
}

/// Drops the future after 0 to `most` polls, made anew each time. Returns whether it ended, and all descriptions.
fn drop_at_each_wait(name: &str, most: usize, make: &dyn Fn() -> Case) -> (bool, BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    for polls in 0..=most {
        let mut case = make();
        let mut has_ended = false;
        for _ in 0..polls {
            has_ended = poll(case.run.as_mut()).is_ready();
            if has_ended {
                break;
            }
            case.timer.clock.advance(MILLI);
        }
        drop(case.run);
        seen.insert((case.check)(&format!(
            "{name}, dropped after {polls} polls"
        )));
        if has_ended {
            return (true, seen);
        }
    }
    (false, seen)
}

const FLOOR: u64 = 10;

fn plan() -> CallPlan {
    let plan = CallPlan::default().attempts(4).budget_floor(FLOOR as u32);
    let plan = plan.budget_percent(0).max_concurrent_retries(2).seed(3);
    plan.throttle(Throttle::default())
}

/// Asserts that counts, budget and slots are right. Describes how many attempts were sent and how many of them were
/// abandoned.
fn caller_is_right(fixture: &CallerFixture, at: &str) -> String {
    let stats = fixture.caller.stats();
    let sent = fixture.script.sent();
    let attempts = sent.len() as u64;
    assert_eq!(fixture.fleet.stats().in_flight, 0, "{at}");
    assert_eq!(attempts, stats.requests + stats.retries, "{at}");
    assert_eq!(stats.budget_left, FLOOR - stats.retries, "{at}");
    assert_eq!(stats.retries_in_flight, 0, "{at}");
    assert_eq!(fixture.outcomes().iter().sum::<u64>(), attempts, "{at}");
    assert_eq!(
        sent.iter().collect::<BTreeSet<_>>().len(),
        sent.len(),
        "{at}"
    );
    format!("{attempts} sent, {} let go of", fixture.outcomes()[3])
}

fn calling(plan: CallPlan, answers: &[Answer], call: Call) -> Case {
    let fixture = CallerFixture::new(6, plan, answers);
    Case {
        timer: fixture.timer.clone(),
        run: call(fixture.caller.clone()),
        check: Box::new(move |at| caller_is_right(&fixture, at)),
    }
}

#[test]
fn calls_with_retries() {
    let answers = [
        Answer::FailLate(3),
        Answer::Hang,
        Answer::FailLate(2),
        Answer::FailLate(2),
    ];
    let calls: [(&str, Call); 3] = [
        ("call", |caller| {
            Box::pin(async move { drop(caller.call(0).await) })
        }),
        ("call_with", |caller| {
            Box::pin(async move { drop(caller.call_with(|| 0).await) })
        }),
        ("call_with_options", |caller| {
            Box::pin(async move {
                let options = CallOptions::new().deadline(SECOND);
                drop(caller.call_with_options(options, || 0).await);
            })
        }),
    ];
    for (name, call) in calls {
        let make = || calling(plan().attempt_timeout(4 * MILLI), &answers, call);
        let (has_ended, seen) = drop_at_each_wait(name, 5_000, &make);
        assert!(has_ended, "{name}");
        // Dropped before the first poll, in each attempt, in each wait, and at the end.
        let expected = (0..=4)
            .map(|sent| (sent, 0))
            .chain((1..=4).map(|sent| (sent, 1)));
        let expected = expected.map(|(sent, open)| format!("{sent} sent, {open} let go of"));
        assert_eq!(seen, expected.collect(), "{name}");
    }
}

#[test]
fn calls_with_hedges() {
    let hedge = Hedge::after(3 * MILLI).max_hedges(2);
    let answers = [
        Answer::FailLate(12),
        Answer::FailLate(12),
        Answer::Hang,
        Answer::OkLate(200, 3),
    ];
    let make = || {
        let plan = plan().attempt_timeout(20 * MILLI).hedge(hedge);
        calling(plan, &answers, |caller| {
            Box::pin(async move { drop(caller.call(0).await) })
        })
    };
    let (has_ended, seen) = drop_at_each_wait("hedged", 5_000, &make);
    assert!(has_ended);
    // One, two and three in flight; two and one when the earlier ones have failed; none in the wait before the last
    // attempt; and so on.
    for expected in [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (3, 2),
        (3, 1),
        (3, 0),
        (4, 1),
        (4, 0),
    ] {
        let expected = format!("{} sent, {} let go of", expected.0, expected.1);
        assert!(seen.contains(&expected), "{expected} of {seen:?}");
    }

    // A hedge wins. Its delay is a percentile that is known after one call.
    let make = || {
        let hedge = Hedge::at_percentile(50).min_samples(1);
        let fixture = CallerFixture::new(
            6,
            plan().hedge(hedge),
            &[Answer::Ok(200), Answer::Hang, Answer::OkLate(200, 4)],
        );
        fixture.call().unwrap();
        let caller = fixture.caller.clone();
        let first = fixture.script.sent()[0];
        Case {
            timer: fixture.timer.clone(),
            run: Box::pin(async move { assert_eq!(caller.call(0).await, Ok(200)) }),
            check: Box::new(move |at| {
                // The second call may use the first call's server again.
                let again = fixture.script.sent()[1..].contains(&first);
                let mut sent = fixture.script.sent.lock().unwrap();
                if again {
                    sent[0].0 = usize::MAX;
                }
                drop(sent);
                caller_is_right(&fixture, at)
            }),
        }
    };
    let (has_ended, seen) = drop_at_each_wait("percentile", 100, &make);
    assert!(has_ended);
    for expected in [
        "1 sent, 0 let go of",
        "2 sent, 1 let go of",
        "3 sent, 2 let go of",
    ] {
        assert!(seen.contains(expected), "{expected} of {seen:?}");
    }
}

/// A fleet of two of which one is ejected and due for a probe, so the next request is its probe.
fn one_to_probe(timer: &ManualTimer) -> Fleet<Server> {
    let fleet = setup(2, &timer.clock)
        .ejection(five_in_a_row())
        .build()
        .unwrap();
    fail(&fleet, 0, 5);
    assert_eq!(common::ejected(&fleet), [0]);
    timer.clock.advance(3 * SECOND);
    fleet
}

/// Asserts that nothing is in flight and that the next probe brings back the ejected server: no probe is stuck.
fn can_be_probed(fleet: &Fleet<Server>, timer: &ManualTimer, at: &str) {
    assert_eq!(fleet.stats().in_flight, 0, "{at}");
    if common::ejected(fleet).is_empty() {
        return;
    }
    // After a probe without a verdict the next is due after the base time and ten picks.
    timer.clock.advance(3 * SECOND);
    for _ in 0..12 {
        fleet.pick_endpoint().unwrap().record(Outcome::Success);
    }
    assert!(common::ejected(fleet).is_empty(), "{at}: {fleet:?}");
}

/// A request on the fleet of [`one_to_probe`], answered after three polls.
fn on_a_probe(make: OnFleet) -> Case {
    let timer = ManualTimer::default();
    let fleet = one_to_probe(&timer);
    let run = make(fleet.clone());
    Case {
        timer: timer.clone(),
        run,
        check: Box::new(move |at| {
            let probed = fleet.member(&0).unwrap().outcomes();
            can_be_probed(&fleet, &timer, at);
            format!("{} let go of", probed.abandoned)
        }),
    }
}

async fn answers(_: &Server) -> Outcome {
    pending(3).await;
    Outcome::Success
}

fn through() -> impl Transport<Server, u8, Response = (), Error = ()> {
    from_fn(|_: &Server, _: u8| async move {
        pending(3).await;
        Ok(())
    })
}

#[test]
fn one_attempt_that_is_a_probe() {
    let table: [(&str, OnFleet); 4] = [
        ("ClusterExt::call", |fleet| {
            Box::pin(async move { fleet.call(&through(), 0).await.unwrap() })
        }),
        ("Lease::track", |fleet| {
            let lease = fleet.pick_endpoint().unwrap();
            assert!(lease.is_probe());
            let server = lease.endpoint().clone();
            Box::pin(async move {
                let answer = async move { answers(&server).await };
                lease.track(answer, |outcome| *outcome).await;
            })
        }),
        ("Lease::track_with", |fleet| {
            let lease = fleet.pick_endpoint().unwrap();
            Box::pin(async move {
                let ask = async |server: &Server| answers(server).await;
                lease.track_with(ask, |outcome| *outcome).await;
            })
        }),
        ("Caller::call", |fleet| {
            let timer = ManualTimer::default();
            let caller = evenkeel::Caller::new(fleet, through(), plan(), timer).unwrap();
            Box::pin(async move { caller.call(0).await.unwrap() })
        }),
    ];
    for (name, make) in table {
        let (has_ended, seen) = drop_at_each_wait(name, 100, &|| on_a_probe(make));
        assert!(has_ended, "{name}");
        let expected = ["0 let go of", "1 let go of"].map(String::from);
        assert_eq!(seen, expected.into(), "{name}");
    }
}

#[test]
fn a_drain() {
    let make = || {
        let timer = ManualTimer::default();
        let fleet = setup(2, &timer.clock).build().unwrap();
        let lease = fleet.lease(&0).unwrap();
        let drain = fleet.drain(&0).unwrap();
        // The last request ends after the drain has been polled.
        let end = async move {
            let mut drain = drain;
            let mut lease = Some(lease);
            let mut polls = 0;
            std::future::poll_fn(move |cx| {
                polls += 1;
                if polls == 3 {
                    lease.take().unwrap().record(Outcome::Success);
                }
                Pin::new(&mut drain).poll(cx).map(|drained| {
                    assert_eq!(drained, Drained::Empty);
                })
            })
            .await;
        };
        Case {
            timer,
            run: Box::pin(end),
            check: Box::new(move |at| {
                assert_eq!(fleet.stats().in_flight, 0, "{at}");
                // The drain goes on without its future.
                assert!(fleet.lease(&0).is_err(), "{at}");
                let mut again = Box::pin(fleet.drain(&0).unwrap());
                assert_eq!(poll(again.as_mut()), Poll::Ready(Drained::Empty), "{at}");
                String::new()
            }),
        }
    };
    assert!(drop_at_each_wait("Drain", 10, &make).0);
}

/// Active checks of two servers, one of them ejected. A check takes three polls, and there is a second between checks.
/// The future is dropped before the first check, during it, between checks and during the next.
fn checking(make: OfChecks) -> Case {
    let timer = ManualTimer::default();
    let fleet = one_to_probe(&timer);
    let run = make(&fleet, &timer);
    Case {
        timer: timer.clone(),
        run,
        check: Box::new(move |at| {
            can_be_probed(&fleet, &timer, at);
            String::new()
        }),
    }
}

fn sleeps(timer: &ManualTimer) -> impl Fn(Duration) -> Run + use<> {
    let timer = timer.clone();
    move |length| {
        let timer = timer.clone();
        Box::pin(async move { evenkeel::Timer::sleep(&timer, length).await })
    }
}

#[test]
fn health_checks() {
    let table: [(&str, OfChecks); 2] = [
        ("HealthCheck::run", |fleet, timer| {
            let checks = fleet.health_check(each_second()).unwrap();
            let check = |member: Member<Server>| async move { answers(member.endpoint()).await };
            Box::pin(checks.run(check, sleeps(timer)))
        }),
        ("HealthCheck::run_through", |fleet, timer| {
            let checks = fleet.health_check(each_second()).unwrap();
            Box::pin(checks.run_through(through(), |_| 0, sleeps(timer)))
        }),
    ];
    for (name, make) in table {
        let (has_ended, _) = drop_at_each_wait(name, 1_100, &|| checking(make));
        assert!(!has_ended, "{name} goes on for ever");
    }
}
