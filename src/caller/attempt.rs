//! One attempt of a call: pick and charge it, send it, record how it ended.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::call::CallState;
use super::timer::DynTimer;
use super::{Inner, StopReason};
use crate::cluster::Cluster;
use crate::error::PickError;
use crate::member::Lease;
use crate::outcome::Outcome;
use crate::shared::Held;
use crate::time::Tick;
use crate::transport::Transport;

/// The longest time for which a hedge waits for a probe to say something. The patience is as long where nothing is
/// known of the fleet's latency.
const MOST_PATIENCE: Duration = Duration::from_secs(1);

/// How long an attempt may take.
#[derive(Clone, Copy)]
struct TimeLimit {
    time: Option<Duration>,
    /// Whether the deadline sets this limit, rather than the attempt's own timeout.
    by_deadline: bool,
}

impl TimeLimit {
    /// Returns `None` if no time is left.
    fn new(own: Option<Duration>, ends: Option<Tick>, now: Tick) -> Option<Self> {
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

/// Returns the output of `future`, or `None` if the time is over before.
pub(super) async fn in_time<F: Future>(
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

/// Whether the endpoint did what was asked: it neither failed nor refused.
pub(super) const fn is_accepted(outcome: Outcome) -> bool {
    !outcome.is_fault() && !matches!(outcome, Outcome::Overloaded { .. })
}

/// An attempt that has been counted and charged, and is about to be sent.
pub(super) struct Launch<'a, C: Cluster, Req> {
    pub(super) in_flight: InFlight<'a, C>,
    pub(super) request: Req,
}

/// What an attempt holds until its end.
pub(super) struct InFlight<'a, C: Cluster> {
    pub(super) lease: Lease<C::Endpoint>,
    limit: TimeLimit,
    /// The number of this attempt in its call, from 1.
    number: u32,
    /// The slot of a retry; `None` for a first attempt.
    slot: Option<Held<'a>>,
}

impl<C: Cluster> InFlight<'_, C> {
    /// Returns how long the attempt may take.
    pub(super) const fn time(&self) -> Option<Duration> {
        self.limit.time
    }

    /// Returns how long a hedge waits at least. That of a half-open probe waits until the end of the probe says
    /// something: otherwise an endpoint that is well again, but answers later than hedges do, would never come back.
    pub(super) fn least_hedge_delay(&self) -> Duration {
        if self.lease.is_probe() {
            self.lease.patience().min(MOST_PATIENCE)
        } else {
            Duration::ZERO
        }
    }
}

/// How an attempt ended.
pub(super) struct Ended<R, E> {
    /// The number of this attempt in its call, from 1.
    pub(super) number: u32,
    pub(super) end: AttemptEnd<R, E>,
}

pub(super) enum AttemptEnd<R, E> {
    Answered {
        result: Result<R, E>,
        is_retryable: bool,
        outcome: Outcome,
    },
    CutOff {
        by_deadline: bool,
    },
}

impl<C: Cluster, T> Inner<C, T> {
    /// Picks an endpoint that has not been tried, and counts and charges the attempt to be sent there. Returns the
    /// reason if there is none.
    #[inline]
    pub(super) fn launch<Req, R, E>(
        &self,
        call: &mut CallState<'_, R, E>,
        now: Tick,
        make: &mut impl FnMut() -> Req,
    ) -> Result<Launch<'_, C, Req>, StopReason> {
        let limit = TimeLimit::new(call.attempt_timeout, call.ends, now);
        let limit = limit.ok_or(StopReason::Deadline)?;
        let is_retry = call.attempts > 0;
        let lease = match self.cluster.pick_endpoint_with(&call.pick()) {
            Ok(lease) => lease,
            Err(PickError::AllAvoided) if is_retry => return Err(StopReason::NoEndpointLeft),
            Err(error) => return Err(StopReason::Pick(error)),
        };
        let request = make();
        // Charged right before it is sent, with no await in between: a call that is dropped earlier has paid nothing.
        let slot = match self.charge(is_retry, now) {
            Ok(slot) => slot,
            Err(reason) => {
                lease.record(Outcome::Ignored);
                return Err(reason);
            }
        };
        call.note_sent(lease.id());
        let number = call.attempts;
        let in_flight = InFlight {
            lease,
            limit,
            number,
            slot,
        };
        Ok(Launch { in_flight, request })
    }

    /// Counts and charges what is about to be sent, if the budget and the limit on concurrent retries have room for it.
    #[inline]
    fn charge(&self, is_retry: bool, now: Tick) -> Result<Option<Held<'_>>, StopReason> {
        if !is_retry {
            self.budget.deposit(now);
            self.counters.requests.count();
            return Ok(None);
        }
        // The slot comes first, because a retry granted by the budget cannot be given back.
        let slot = self.slots.0.hold().ok_or(StopReason::TooManyRetries)?;
        if !self.budget.withdraw(now) {
            return Err(StopReason::BudgetExhausted);
        }
        self.counters.retries.count();
        Ok(Some(slot))
    }

    /// Sends the attempt. If the future is dropped before its end, the attempt counts as abandoned: neutral, unless it
    /// outlasted the fleet's patience.
    pub(super) async fn attempt<Req>(
        &self,
        launch: Launch<'_, C, Req>,
    ) -> Ended<T::Response, T::Error>
    where
        T: Transport<C::Endpoint, Req>,
        Req: Send,
    {
        let (in_flight, request) = (launch.in_flight, launch.request);
        let sent = self.transport.send(in_flight.lease.endpoint(), request);
        let result = in_time(&*self.timer, in_flight.time(), sent).await;
        self.record_end(in_flight, result)
    }

    /// Records how the attempt ended; `None` means that it was cut off.
    #[inline]
    pub(super) fn record_end<Req>(
        &self,
        in_flight: InFlight<'_, C>,
        result: Option<Result<T::Response, T::Error>>,
    ) -> Ended<T::Response, T::Error>
    where
        T: Transport<C::Endpoint, Req>,
    {
        let InFlight {
            lease,
            limit,
            number,
            slot: _slot,
        } = in_flight;
        let end = match result {
            Some(result) => {
                let outcome = self.transport.classify(&result);
                lease.record(outcome);
                self.note_answer(outcome);
                let is_retryable = self.transport.is_retryable(&result);
                AttemptEnd::Answered {
                    result,
                    is_retryable,
                    outcome,
                }
            }
            None => {
                self.counters.timeouts.count();
                // An attempt after the first had less than its own time, so the fleet's patience decides.
                lease.record(if limit.by_deadline && number > 1 {
                    Outcome::Abandoned
                } else {
                    Outcome::Timeout
                });
                let by_deadline = limit.by_deadline;
                AttemptEnd::CutOff { by_deadline }
            }
        };
        Ended { number, end }
    }

    #[inline]
    fn note_answer(&self, outcome: Outcome) {
        let Some(throttling) = &self.throttling else {
            return;
        };
        if is_accepted(outcome) {
            throttling.count_accepted(self.timer.tick());
        }
    }
}
