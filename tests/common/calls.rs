//! A caller under test: a transport that answers by a script, and a timer that the test steps.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use evenkeel::{
    CallPlan, Caller, CallerError, Clock, Endpoint, Fleet, FleetBuilder, ManualClock, Outcome,
    Random, Tick, Timer, Transport,
};

use super::{MILLI, Server, setup};

/// A timer on a manual clock. It records the durations it was asked to sleep.
#[derive(Clone, Default)]
pub(crate) struct ManualTimer {
    pub(crate) clock: ManualClock,
    pub(crate) waits: Arc<Mutex<Vec<Duration>>>,
}

impl Timer for ManualTimer {
    fn now(&self) -> Tick {
        self.clock.now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.waits.lock().unwrap().push(duration);
        let (clock, end) = (self.clock.clone(), self.clock.now().after(duration));
        poll_fn(move |_| match clock.now() >= end {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok(u16),
    /// After this many polls.
    OkLate(u16, u32),
    /// An error that is not retryable.
    Reject,
    Fail,
    /// As `Fail`, after this many polls.
    FailLate(u32),
    Hang,
    Panic,
}

/// A transport that gives these answers in turn and repeats the last for ever. It records what was sent to which
/// server.
pub(crate) struct Script {
    answers: Mutex<VecDeque<Answer>>,
    pub(crate) sent: Mutex<Vec<(usize, u8)>>,
}

impl Script {
    pub(crate) fn new(answers: &[Answer]) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.iter().copied().collect()),
            sent: Mutex::default(),
        })
    }

    pub(crate) fn sent(&self) -> Vec<usize> {
        let sent = self.sent.lock().unwrap();
        sent.iter().map(|(number, _)| *number).collect()
    }
}

/// The error of [`Answer::Reject`], which is not retryable.
pub(crate) const REJECTED: Failed = Failed(usize::MAX);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) usize);

impl Transport<Server, u8> for Script {
    type Response = u16;
    type Error = Failed;

    async fn send(&self, server: &Server, request: u8) -> Result<u16, Failed> {
        let number = server.key();
        self.sent.lock().unwrap().push((number, request));
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            match answers.len() {
                1 => answers[0],
                _ => answers.pop_front().unwrap(),
            }
        };
        match answer {
            Answer::Ok(status) => Ok(status),
            Answer::OkLate(status, polls) => {
                pending(polls).await;
                Ok(status)
            }
            Answer::Reject => Err(REJECTED),
            Answer::Fail => Err(Failed(number)),
            Answer::FailLate(polls) => {
                pending(polls).await;
                Err(Failed(number))
            }
            Answer::Hang => std::future::pending().await,
            Answer::Panic => panic!("as told"),
        }
    }

    fn classify(&self, result: &Result<u16, Failed>) -> Outcome {
        match result {
            Ok(429) => Outcome::overloaded(None),
            Ok(500..) | Err(_) => Outcome::Failure,
            Ok(_) => Outcome::Success,
        }
    }

    /// 429 and 500 are retryable, 501 is not.
    fn is_retryable(&self, result: &Result<u16, Failed>) -> bool {
        let is_retryable = self.classify(result).is_fault() || *result == Ok(429);
        is_retryable && *result != Ok(501) && *result != Err(REJECTED)
    }
}

pub(crate) async fn pending(mut polls: u32) {
    poll_fn(|_| {
        polls = polls.saturating_sub(1);
        if polls == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

pub(crate) type CallerUnderTest = Caller<Fleet<Server>, Arc<Script>>;

pub(crate) struct CallerFixture {
    pub(crate) timer: ManualTimer,
    pub(crate) fleet: Fleet<Server>,
    pub(crate) script: Arc<Script>,
    pub(crate) caller: CallerUnderTest,
}

impl CallerFixture {
    pub(crate) fn new(servers: usize, plan: CallPlan, answers: &[Answer]) -> Self {
        Self::of(servers, plan, answers, |fleet| fleet)
    }

    pub(crate) fn of(
        servers: usize,
        plan: CallPlan,
        answers: &[Answer],
        set: impl FnOnce(FleetBuilder<Server>) -> FleetBuilder<Server>,
    ) -> Self {
        let timer = ManualTimer::default();
        let fleet = set(setup(servers, &timer.clock));
        // A policy that may choose a failed server again, so that only `avoid` can send a retry elsewhere.
        let fleet = fleet.policy(Random::new()).build().unwrap();
        let script = Script::new(answers);
        let caller = Caller::new(fleet.clone(), script.clone(), plan, timer.clone()).unwrap();
        Self {
            timer,
            fleet,
            script,
            caller,
        }
    }

    /// Polls the future, a millisecond apart, until it is ready.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..100_000 {
            if let Poll::Ready(output) = poll(future.as_mut()) {
                return output;
            }
            self.timer.clock.advance(MILLI);
        }
        panic!("it hangs");
    }

    pub(crate) fn call(&self) -> Result<u16, CallerError<Failed>> {
        self.run(self.caller.call(7))
    }

    /// How requests ended, over all members: recent successes, failures, timeouts and abandoned ones.
    pub(crate) fn outcomes(&self) -> [u64; 4] {
        let mut all = [0; 4];
        for member in self.fleet.members() {
            let outcomes = member.outcomes();
            all[0] += outcomes.in_window - outcomes.faults_in_window;
            all[1] += u64::from(outcomes.failures);
            all[2] += u64::from(outcomes.timeouts);
            all[3] += u64::from(outcomes.abandoned);
        }
        all
    }
}

/// A plan whose retry budget does not run out: its floor is 1000 retries.
pub(crate) fn plan_with_ample_budget(attempts: u32) -> CallPlan {
    CallPlan::default()
        .attempts(attempts)
        .budget_floor(1000)
        .seed(1)
}
