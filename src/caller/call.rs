//! The state of a call, from its first attempt to its last, and the loop that runs it.

use super::attempt::{AttemptEnd, Ended, in_time};
use super::error::{CallerError, StopReason};
use super::plan::{CallPlan, MOST_ATTEMPTS};
use super::throttle::Sent;
use super::{CallOptions, Inner};
use crate::cluster::Cluster;
use crate::options::{MemberId, PickOptions};
use crate::outcome::Outcome;
use crate::settings::DAY;
use crate::time::Tick;
use crate::transport::Transport;

use std::time::Duration;

/// The state of a call: its options, and the results of its attempts so far.
pub(super) struct CallState<'a, R, E> {
    pick: PickOptions<'a>,
    /// The deadline of the call.
    pub(super) ends: Option<Tick>,
    /// How many attempts the call may make.
    pub(super) most_attempts: u32,
    /// How long each attempt may take.
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) attempts: u32,
    /// Endpoints to avoid: those that the caller listed and those that the request was sent to, except `last_tried`.
    /// That one is added later so that the first attempt, which is mostly the only one, allocates nothing.
    tried: Vec<MemberId>,
    last_tried: Option<MemberId>,
    timed_out: bool,
    /// The `Ok` of the attempt that ended last, if it returned one.
    answer: Option<R>,
    last: Option<E>,
}

/// What the end of an attempt means for its call.
pub(super) enum Verdict<R> {
    /// The answer of the call.
    Good(R),
    /// A bad result that may be retried.
    Bad,
    /// A bad result that must not be retried; attempts in flight may still bring a good answer.
    Last(StopReason),
    /// A bad result that ends the call, because other endpoints would answer the same.
    Final,
}

impl<R> Verdict<R> {
    /// For an attempt without others in flight: the answer, `None` after a bad result that may be retried, or the
    /// reason why the call ends.
    #[inline]
    fn alone(self) -> Result<Option<R>, StopReason> {
        match self {
            Self::Good(answer) => Ok(Some(answer)),
            Self::Bad => Ok(None),
            Self::Last(reason) => Err(reason),
            Self::Final => Err(StopReason::NotRetryable),
        }
    }
}

impl<'a, R, E> CallState<'a, R, E> {
    #[inline]
    pub(super) fn new(options: &CallOptions<'a>, plan: &CallPlan, now: Tick) -> Self {
        // A timer of the user's is not asked for what it may be unable to add to a time.
        let limit = |own: Option<Duration>, plans| own.or(plans).filter(|limit| *limit <= DAY);
        let deadline = limit(options.deadline, plan.deadline);
        let attempts = options.attempts;
        Self {
            pick: options.pick,
            ends: deadline.map(|deadline| now.after(deadline)),
            most_attempts: attempts.map_or(plan.attempts, |most| most.clamp(1, MOST_ATTEMPTS)),
            attempt_timeout: limit(options.attempt_timeout, plan.attempt_timeout),
            attempts: 0,
            tried: options.pick.avoid.to_vec(),
            last_tried: None,
            timed_out: false,
            answer: None,
            last: None,
        }
    }

    /// Returns the endpoints to avoid from here on.
    #[inline]
    pub(super) fn avoid(&mut self) -> &[MemberId] {
        self.tried.extend(self.last_tried.take());
        &self.tried
    }

    /// Lets the request go to endpoints that were tried: to all but the last of them, or to that one as well if it is
    /// the only one left to avoid. Returns `false` if there are none.
    #[cold]
    fn forget_tried(&mut self) -> bool {
        let given = self.pick.avoid.len();
        match self.avoid().len() - given {
            0 => return false,
            1 => self.tried.truncate(given),
            tried => drop(self.tried.drain(given..given + tried - 1)),
        }
        true
    }

    /// Returns the options of the next pick.
    #[inline]
    pub(super) fn pick(&mut self) -> PickOptions<'_> {
        let pick = self.pick;
        pick.avoid(self.avoid())
    }

    pub(super) fn note_sent(&mut self, to: MemberId) {
        self.attempts += 1;
        self.last_tried = Some(to);
    }

    /// Takes in the end of an attempt. `has_others` tells whether others are in flight: what this one says of its own
    /// endpoint does not end them.
    #[inline]
    pub(super) fn note_end(
        &mut self,
        ended: Ended<R, E>,
        retry_timeouts: bool,
        has_others: bool,
    ) -> Verdict<R> {
        (self.timed_out, self.answer) = (false, None);
        match ended.end {
            AttemptEnd::Answered {
                result,
                is_retryable,
                outcome,
            } => {
                let is_overloaded = matches!(outcome, Outcome::Overloaded { .. });
                let is_final = !(is_retryable || is_overloaded && has_others);
                match result {
                    Ok(answer) if is_final => return Verdict::Good(answer),
                    Ok(answer) => self.answer = Some(answer),
                    Err(error) => self.last = Some(error),
                }
                if is_final {
                    return Verdict::Final;
                }
                if !is_retryable {
                    return Verdict::Last(StopReason::NotRetryable);
                }
            }
            AttemptEnd::CutOff { by_deadline } => {
                self.timed_out = true;
                if by_deadline {
                    return Verdict::Last(StopReason::Deadline);
                }
                if !retry_timeouts {
                    return Verdict::Last(StopReason::NotRetryable);
                }
            }
        }
        Verdict::Bad
    }

    #[inline]
    fn finish(self, reason: StopReason) -> Result<R, CallerError<E>> {
        self.answer.ok_or(CallerError {
            reason,
            attempts: self.attempts,
            timed_out: self.timed_out,
            last: self.last,
        })
    }
}

impl<C: Cluster, T> Inner<C, T> {
    pub(super) async fn run<Req, F>(
        &self,
        options: CallOptions<'_>,
        mut make: F,
    ) -> Result<T::Response, CallerError<T::Error>>
    where
        T: Transport<C::Endpoint, Req, Response: Send, Error: Send>,
        Req: Send,
        F: FnMut() -> Req + Send,
    {
        let mut now = self.timer.tick();
        let mut call = CallState::new(&options, &self.plan, now);
        let mut sent = None;
        let reason = loop {
            if call.attempts == 0 && !self.admits(now) {
                break StopReason::Throttled;
            }
            let mut launch = self.launch(&mut call, now, &mut make);
            while matches!(launch, Err(StopReason::NoEndpointLeft))
                && self.plan.repeat_endpoints
                && call.forget_tried()
            {
                launch = self.launch(&mut call, now, &mut make);
            }
            let launch = match launch {
                Ok(launch) => launch,
                Err(reason) => break reason,
            };
            if let (None, Some(throttling)) = (&sent, &self.throttling) {
                let patience = launch.in_flight.lease.patience();
                sent = Some(throttling.sent(&*self.timer, now, patience));
            }
            // Without hedges it is sent from here, which keeps this future as small as possible: passing what an
            // attempt holds through three futures costs as much as the pick.
            let came = if self.hedging.is_some() && call.most_attempts > 1 {
                Box::pin(self.race(launch, &mut call, now, &mut make)).await
            } else {
                let (in_flight, request) = (launch.in_flight, launch.request);
                let answer = self.transport.send(in_flight.lease.endpoint(), request);
                let result = in_time(&*self.timer, in_flight.time(), answer).await;
                let ended = self.record_end(in_flight, result);
                call.note_end(ended, self.plan.retry_timeouts, false)
                    .alone()
            };
            match came {
                Ok(Some(answer)) => {
                    sent.into_iter().for_each(Sent::end);
                    return Ok(answer);
                }
                Ok(None) => {}
                Err(reason) => break reason,
            }
            let wait = match self.next(&mut call) {
                Ok(wait) => wait,
                Err(reason) => break reason,
            };
            if !wait.is_zero() {
                self.timer.sleep_boxed(wait).await;
            }
            now = self.timer.tick();
        };
        sent.into_iter().for_each(Sent::end);
        self.counters.count_stop(reason);
        call.finish(reason)
    }

    #[inline]
    fn admits(&self, now: Tick) -> bool {
        let has_healthy = || self.cluster.has_healthy();
        self.throttling
            .as_ref()
            .is_none_or(|throttling| throttling.admits(now, has_healthy, || self.random()))
    }

    /// Returns how long to wait before the next attempt, or why there is none. It checks here what would refuse the
    /// retry, so that no call waits in vain.
    fn next<R, E>(&self, call: &mut CallState<'_, R, E>) -> Result<Duration, StopReason> {
        let now = self.timer.tick();
        let wait = self.plan.backoff(call.attempts, self.random());
        if call.attempts >= call.most_attempts {
            Err(StopReason::AttemptsUsed)
        } else if call.ends.is_some_and(|ends| ends.since(now) <= wait) {
            Err(StopReason::Deadline)
        } else if !self.plan.repeat_endpoints && self.cluster.leaves_none(call.avoid()) {
            Err(StopReason::NoEndpointLeft)
        } else if !self.slots.0.has_room() {
            Err(StopReason::TooManyRetries)
        } else if self.budget.left(now) == 0 {
            Err(StopReason::BudgetExhausted)
        } else {
            Ok(wait)
        }
    }
}
