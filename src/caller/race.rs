//! Hedging: an attempt and its hedges, in flight concurrently.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Inner;
use super::attempt::{AttemptEnd, Launch, is_accepted};
use super::call::{CallState, Verdict};
use super::error::StopReason;
use super::hedge::Hedging;
use crate::cluster::Cluster;
use crate::time::Tick;
use crate::transport::{BoxFuture, Transport};

/// The attempts in flight. The first one is stored in the race's own future.
struct Flights<'a, F: Future> {
    first: Option<Pin<&'a mut F>>,
    hedges: Vec<Pin<Box<F>>>,
    /// A hedge that has not been polled yet, and so has not been sent.
    unsent: Option<Pin<Box<F>>>,
    /// The output of a hedge that completed at its first poll.
    early: Option<F::Output>,
}

impl<'a, F: Future> Flights<'a, F> {
    fn new(first: Pin<&'a mut F>) -> Self {
        Self {
            first: Some(first),
            hedges: Vec::new(),
            unsent: None,
            early: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.hedges.is_empty() && self.early.is_none()
    }

    /// Returns the output of an attempt that has ended, the earliest sent first. An unsent hedge is polled before the
    /// others, because it has been charged already and another attempt's answer may end the race.
    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        let sent = self.hedges.len();
        if let Some(mut hedge) = self.unsent.take() {
            match hedge.as_mut().poll(cx) {
                Poll::Ready(output) => self.early = Some(output),
                Poll::Pending => self.hedges.push(hedge),
            }
        }
        if let Some(first) = &mut self.first {
            if let Poll::Ready(output) = first.as_mut().poll(cx) {
                self.first = None;
                return Poll::Ready(output);
            }
        }
        for (at, hedge) in self.hedges.iter_mut().enumerate().take(sent) {
            if let Poll::Ready(output) = hedge.as_mut().poll(cx) {
                self.hedges.remove(at);
                return Poll::Ready(output);
            }
        }
        self.early.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// As [`poll_any`](Self::poll_any), or returns `None` if the timer rings. Attempts are polled first: an answer that
    /// arrives with it makes a hedge needless.
    fn poll_any_or(
        &mut self,
        timer: &mut Option<BoxFuture<'_, ()>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        match (self.poll_any(cx), timer) {
            (Poll::Ready(output), _) => Poll::Ready(Some(output)),
            (Poll::Pending, Some(timer)) => timer.as_mut().poll(cx).map(|()| None),
            (Poll::Pending, None) => Poll::Pending,
        }
    }
}

impl<C: Cluster, T> Inner<C, T> {
    /// Runs this attempt and its hedges. Returns the first good answer, `None` if all results were bad, or the reason
    /// why the call ends.
    pub(super) async fn race<Req, F>(
        &self,
        launch: Launch<'_, C, Req>,
        call: &mut CallState<'_, T::Response, T::Error>,
        begun: Tick,
        make: &mut F,
    ) -> Result<Option<T::Response>, StopReason>
    where
        T: Transport<C::Endpoint, Req, Response: Send, Error: Send>,
        Req: Send,
        F: FnMut() -> Req + Send,
    {
        let first_number = call.attempts;
        let least = launch.in_flight.least_hedge_delay();
        let first = pin!(self.attempt(launch));
        let mut flights = Flights::new(first);
        let mut due = self.hedge_due(call, first_number, least);
        let mut ends = None;
        loop {
            let ended = poll_fn(|cx| flights.poll_any_or(&mut due, cx)).await;
            let Some(ended) = ended else {
                let hedge = self.launch_hedge(call, make);
                due = hedge
                    .as_ref()
                    .and_then(|_| self.hedge_due(call, first_number, Duration::ZERO));
                flights.unsent = hedge.map(|hedge| Box::pin(self.attempt(hedge)));
                continue;
            };
            let is_first = ended.number == first_number;
            // A failure or a refusal has no latency, also where it is the answer of the call.
            let (was_cut_off, was_accepted) = match ended.end {
                AttemptEnd::CutOff { .. } => (true, false),
                AttemptEnd::Answered { outcome, .. } => (false, is_accepted(outcome)),
            };
            let has_others = !flights.is_empty();
            let verdict = call.note_end(ended, self.plan.retry_timeouts, has_others);
            let is_good = matches!(verdict, Verdict::Good(_));
            let has_latency = was_cut_off || is_good && was_accepted;
            if is_first && has_latency || is_good && flights.first.is_some() {
                self.record_latency(begun);
            }
            match verdict {
                Verdict::Good(answer) => {
                    if !is_first {
                        self.counters.hedges_won.count();
                    }
                    return Ok(Some(answer));
                }
                Verdict::Final => return Err(StopReason::NotRetryable),
                Verdict::Last(reason) => {
                    ends = Some(reason);
                    due = None;
                }
                Verdict::Bad => {}
            }
            if flights.is_empty() {
                return ends.map_or(Ok(None), Err);
            }
        }
    }

    /// Returns a timer for the next hedge, if there is to be one, after `least` at the earliest.
    fn hedge_due<R, E>(
        &self,
        call: &CallState<'_, R, E>,
        first_number: u32,
        least: Duration,
    ) -> Option<BoxFuture<'_, ()>> {
        let hedging = self.hedging.as_ref()?;
        let has_more = call.attempts < call.most_attempts
            && call.attempts - first_number < hedging.settings.max_hedges;
        let delay = hedging.delay().filter(|_| has_more)?;
        Some(self.timer.sleep_boxed(delay.max(least)))
    }

    /// Launches another attempt beside those in flight, unless budget, retry slots or endpoints are used up.
    fn launch_hedge<Req, R, E>(
        &self,
        call: &mut CallState<'_, R, E>,
        make: &mut impl FnMut() -> Req,
    ) -> Option<Launch<'_, C, Req>> {
        let now = self.timer.tick();
        if self.budget.left(now) == 0 || !self.slots.0.has_room() {
            return None;
        }
        let hedge = self.launch(call, now, make).ok()?;
        self.counters.hedges.count();
        Some(hedge)
    }

    /// Records the latency of a first attempt that ended, or was given up, now.
    fn record_latency(&self, begun: Tick) {
        let latencies = self.hedging.as_ref().and_then(Hedging::latencies);
        if let Some(latencies) = latencies {
            latencies.add(self.timer.tick().since(begun));
        }
    }
}
