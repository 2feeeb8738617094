//! Promise: the driver's future works with any timer and any I/O, checks concurrently, ends checks that take too long,
//! may be dropped at any point, and ends with its fleet.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::checks::{SUCCESS, each_second};
use common::{MILLI, SECOND, Server, ejected, exact, probe, setup};
use evenkeel::{
    Clock, Endpoint, Fleet, HealthCheckSettings, ManualClock, Member, Outcome, Tick, from_fn,
};

/// A timer on this clock.
fn timer(clock: &ManualClock) -> impl Fn(Duration) -> Sleep + use<> {
    let clock = clock.clone();
    move |length| Sleep {
        clock: clock.clone(),
        until: clock.now().after(length),
    }
}

struct Sleep {
    clock: ManualClock,
    until: Tick,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() < self.until {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

fn ten(clock: &ManualClock) -> Fleet<Server> {
    setup(10, clock).ejection(exact()).build().unwrap()
}

/// Polls the future each millisecond for `time`. Returns whether it has ended.
fn poll_for(run: Pin<&mut impl Future<Output = ()>>, clock: &ManualClock, time: Duration) -> bool {
    let mut run = run;
    let mut cx = Context::from_waker(Waker::noop());
    let end = clock.now().after(time);
    while clock.now() < end {
        if run.as_mut().poll(&mut cx).is_ready() {
            return true;
        }
        clock.advance(MILLI);
    }
    false
}

#[test]
fn run_ejects_an_endpoint_that_does_not_answer_and_brings_it_back() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    for number in 0..10 {
        let lease = fleet.lease(&number).unwrap();
        lease.record_with_latency(SUCCESS, MILLI);
    }
    let hangs = Rc::new(RefCell::new(true));
    let hang = hangs.clone();
    let check = move |member: Member<Server>| {
        let hang = hang.clone();
        async move {
            if member.endpoint().key() == 0 && *hang.borrow() {
                std::future::pending::<()>().await;
            }
            SUCCESS
        }
    };
    let checks = fleet.health_check(each_second()).unwrap();
    let mut run = Box::pin(checks.run(check, timer(&clock)));
    // Three timeouts of 200 ms, 100 ms apart.
    assert!(!poll_for(run.as_mut(), &clock, MILLI * 800));
    assert_eq!(ejected(&fleet), []);
    poll_for(run.as_mut(), &clock, MILLI * 5);
    assert_eq!(ejected(&fleet), [0]);
    *hangs.borrow_mut() = false;
    poll_for(run.as_mut(), &clock, SECOND * 3);
    assert_eq!(ejected(&fleet), []);
}

#[test]
fn checks_go_together_up_to_the_cap_and_one_for_each() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    let under_way = Rc::new(RefCell::new(vec![0_u32; 10]));
    let (seen, most) = (under_way.clone(), Rc::new(RefCell::new(0)));
    let (sleep, noted) = (timer(&clock), most.clone());
    let check = move |member: Member<Server>| {
        let number = member.endpoint().key();
        let (seen, wait) = (seen.clone(), sleep(MILLI * 50));
        seen.borrow_mut()[number] += 1;
        let all: u32 = seen.borrow().iter().sum();
        assert!(seen.borrow()[number] == 1 && all <= 4);
        let mut most = noted.borrow_mut();
        *most = all.max(*most);
        async move {
            wait.await;
            seen.borrow_mut()[number] -= 1;
            SUCCESS
        }
    };
    let checks = fleet.health_check(each_second().max_probes(4)).unwrap();
    let mut run = Box::pin(checks.run(check, timer(&clock)));
    poll_for(run.as_mut(), &clock, SECOND * 3);
    assert_eq!(*most.borrow(), 4);
}

#[test]
fn dropping_run_amid_checks_says_nothing_and_requests_become_probes_again() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    let check = |member: Member<Server>| async move {
        match member.endpoint().key() {
            0 => Outcome::Failure,
            _ => std::future::pending().await,
        }
    };
    let checks = fleet.health_check(each_second()).unwrap();
    let mut run = Box::pin(checks.run(check, timer(&clock)));
    poll_for(run.as_mut(), &clock, MILLI * 10);
    drop(run);
    assert_eq!(ejected(&fleet), [0]);
    clock.advance(SECOND * 2);
    probe(&fleet).record(SUCCESS);
    assert_eq!(ejected(&fleet), []);
}

/// A panic in a check goes to the caller and ends all checks; requests become probes again.
#[test]
fn a_check_that_panics_is_as_if_it_had_been_dropped() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    let checks = fleet.health_check(each_second()).unwrap();
    let check = |member: Member<Server>| async move {
        match member.endpoint().key() {
            0 => Outcome::Failure,
            9 => panic!("no health page"),
            _ => SUCCESS,
        }
    };
    let mut run = Box::pin(checks.run(check, timer(&clock)));
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        poll_for(run.as_mut(), &clock, MILLI * 10)
    }));
    assert!(polled.is_err());
    drop(run);
    assert_eq!(ejected(&fleet), [0]);
    clock.advance(SECOND * 2);
    probe(&fleet).record(SUCCESS);
    assert_eq!(ejected(&fleet), []);
    assert_eq!(fleet.stats().in_flight, 0);
}

#[test]
fn run_ends_within_a_second_of_its_fleet() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    let checks = fleet.health_check(HealthCheckSettings::default()).unwrap();
    let check = |_: Member<Server>| async { SUCCESS };
    let mut run = Box::pin(checks.run(check, timer(&clock)));
    assert!(!poll_for(run.as_mut(), &clock, SECOND * 10));
    drop(fleet);
    assert!(poll_for(run.as_mut(), &clock, SECOND + MILLI * 2));
}

#[test]
fn a_transport_sends_and_classifies() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    let transport = from_fn(|server: &Server, path: &'static str| {
        let bad = server.key() == 3 && path == "/health";
        async move { if bad { Err(503) } else { Ok(()) } }
    });
    let checks = fleet.health_check(each_second()).unwrap();
    let mut run = Box::pin(checks.run_through(transport, |_| "/health", timer(&clock)));
    poll_for(run.as_mut(), &clock, MILLI * 10);
    assert_eq!(ejected(&fleet), [3]);
}

/// The future is `Send`, so it can be spawned, if what it is given is.
#[test]
fn run_is_send_if_its_arguments_are() {
    fn sendable(_: impl Future + Send + 'static) {}
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    let checks = || fleet.health_check(each_second()).unwrap();
    sendable(checks().run(|_| async { SUCCESS }, timer(&clock)));
    let transport = from_fn(|_: &Server, ()| async { Ok::<(), ()>(()) });
    sendable(checks().run_through(transport, |_| (), timer(&clock)));
}
