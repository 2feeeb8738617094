//! The attempts of one call.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::error::{CallerError, StopReason};
use super::timer::DynTimer;
use super::{CallPlan, Inner};
use crate::cluster::Cluster;
use crate::error::PickError;
use crate::options::PickOptions;
use crate::outcome::Outcome;
use crate::time::Tick;
use crate::transport::Transport;

/// What has come of a call so far.
struct Story<R, E> {
    attempts: u32,
    timed_out: bool,
    /// What the last attempt brought, if it was an `Ok`.
    answer: Option<R>,
    last: Option<E>,
}

impl<R, E> Story<R, E> {
    fn begins_attempt(&mut self) {
        self.attempts += 1;
        self.timed_out = false;
        self.answer = None;
    }

    fn ends(self, reason: StopReason) -> Result<R, CallerError<E>> {
        self.answer.ok_or(CallerError {
            reason,
            attempts: self.attempts,
            timed_out: self.timed_out,
            last: self.last,
        })
    }
}

/// How long an attempt may take.
#[derive(Clone, Copy)]
struct Limit {
    time: Option<Duration>,
    /// Whether that is what the deadline leaves of an attempt's own time.
    by_deadline: bool,
}

impl Limit {
    /// `None` if there is no time left.
    fn new(plan: &CallPlan, ends: Option<Tick>, now: Tick) -> Option<Self> {
        let own = plan.attempt_timeout;
        let Some(left) = ends.map(|ends| ends.since(now)) else {
            return Some(Self {
                time: own,
                by_deadline: false,
            });
        };
        (!left.is_zero()).then(|| Self {
            time: Some(own.map_or(left, |own| own.min(left))),
            by_deadline: own.is_none_or(|own| left < own),
        })
    }
}

/// The output of `future`, unless the time is over before.
async fn within<F: Future>(
    timer: &dyn DynTimer,
    time: Option<Duration>,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut over = time.map(|time| timer.sleep_boxed(time));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        match &mut over {
            Some(over) => over.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

impl<C: Cluster, T> Inner<C, T> {
    pub(super) async fn run<Req, F>(
        &self,
        mut make: F,
    ) -> Result<T::Response, CallerError<T::Error>>
    where
        T: Transport<C::Endpoint, Req, Response: Send, Error: Send>,
        Req: Send,
        F: FnMut() -> Req + Send,
    {
        let (plan, timer) = (&self.plan, &*self.timer);
        let mut now = timer.tick();
        let ends = plan.deadline.map(|deadline| now.after(deadline));
        let mut story = Story {
            attempts: 0,
            timed_out: false,
            answer: None,
            last: None,
        };
        let mut tried = Vec::new();
        let reason = loop {
            let Some(limit) = Limit::new(plan, ends, now) else {
                break StopReason::Deadline;
            };
            let options = PickOptions::new().avoid(&tried);
            let lease = match self.cluster.pick_endpoint_with(&options) {
                Ok(lease) => lease,
                Err(PickError::AllAvoided) if !tried.is_empty() => {
                    break StopReason::NoEndpointLeft;
                }
                Err(error) => break StopReason::Pick(error),
            };
            let request = make();
            // Charged between two awaits, right before it is sent: who is dropped before has paid nothing.
            if !self.charge(story.attempts > 0, now) {
                lease.record(Outcome::Ignored);
                break StopReason::BudgetExhausted;
            }
            story.begins_attempt();
            let sent = self.transport.send(lease.endpoint(), request);
            let result = within(timer, limit.time, sent).await;
            let id = lease.id();
            let is_retryable = match result {
                Some(result) => {
                    lease.record(self.transport.classify(&result));
                    let is_retryable = self.transport.is_retryable(&result);
                    match result {
                        Ok(answer) if !is_retryable => return Ok(answer),
                        Ok(answer) => story.answer = Some(answer),
                        Err(error) => story.last = Some(error),
                    }
                    is_retryable
                }
                None => {
                    self.counters.timeouts.count();
                    story.timed_out = true;
                    // A later attempt had less than its time; then the fleet's patience decides.
                    lease.record(if limit.by_deadline && story.attempts > 1 {
                        Outcome::Abandoned
                    } else {
                        Outcome::Timeout
                    });
                    if limit.by_deadline {
                        break StopReason::Deadline;
                    }
                    plan.retry_timeouts
                }
            };
            let wait = match self.next(is_retryable, story.attempts, ends) {
                Ok(wait) => wait,
                Err(reason) => break reason,
            };
            tried.push(id);
            if !wait.is_zero() {
                timer.sleep_boxed(wait).await;
            }
            now = timer.tick();
        };
        self.counters.stopped(reason);
        story.ends(reason)
    }

    /// Counts what is about to be sent; false if the budget has no room for it.
    fn charge(&self, is_retry: bool, now: Tick) -> bool {
        if !is_retry {
            self.budget.deposit(now);
            self.counters.requests.count();
            return true;
        }
        let granted = self.budget.withdraw(now);
        if granted {
            self.counters.retries.count();
        }
        granted
    }

    /// How long to wait before the next attempt, or why there is none. Nobody waits for what can be refused now.
    fn next(
        &self,
        is_retryable: bool,
        attempts: u32,
        ends: Option<Tick>,
    ) -> Result<Duration, StopReason> {
        let now = self.timer.tick();
        let wait = self.plan.backoff(attempts, self.random());
        if !is_retryable {
            Err(StopReason::NotRetryable)
        } else if attempts >= self.plan.attempts {
            Err(StopReason::AttemptsUsed)
        } else if ends.is_some_and(|ends| ends.since(now) <= wait) {
            Err(StopReason::Deadline)
        } else if self.budget.left(now) == 0 {
            Err(StopReason::BudgetExhausted)
        } else {
            Ok(wait)
        }
    }
}
