//! Statistics of a caller.

use std::time::Duration;

use super::error::StopReason;
use crate::shared::Counter;

/// What a caller and its clones have done since the caller was built. See [`Caller::stats`](crate::Caller::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallerStats {
    /// Calls that were sent at least once. The number of attempts is this and [`retries`](Self::retries) together.
    pub requests: u64,
    /// Attempts after the first, hedges included.
    pub retries: u64,
    /// The retries that were [hedges](crate::Hedge): sent while an earlier attempt was still in flight.
    pub hedges: u64,
    /// Hedges whose answer became the call's answer.
    pub hedges_won: u64,
    /// Attempts that were cut off by [`attempt_timeout`](crate::CallPlan::attempt_timeout) or the deadline.
    pub timeouts: u64,
    /// Calls that ended with [`StopReason::NotRetryable`].
    pub not_retryable: u64,
    /// Calls that ended with [`StopReason::AttemptsUsed`].
    pub attempts_used: u64,
    /// Calls that ended with [`StopReason::Pick`], unsent or between two attempts.
    pub pick_failures: u64,
    /// Calls that ended with [`StopReason::BudgetExhausted`].
    pub budget_exhausted: u64,
    /// Calls that ended with [`StopReason::NoEndpointLeft`].
    pub no_endpoint_left: u64,
    /// Calls that ended with [`StopReason::Deadline`].
    pub deadlines: u64,
    /// Calls that ended with [`StopReason::TooManyRetries`].
    pub too_many_retries: u64,
    /// Calls that ended with [`StopReason::Throttled`].
    pub throttled: u64,
    /// How many retries the budget allows at present.
    pub budget_left: u64,
    /// How many retries, hedges included, are in flight at present.
    pub retries_in_flight: u64,
    /// After how long a [hedge](crate::Hedge) is sent at present. `None` if the plan has no hedge, or while its
    /// percentile is not known.
    pub hedge_delay: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: Counter,
    pub(super) retries: Counter,
    pub(super) hedges: Counter,
    pub(super) hedges_won: Counter,
    pub(super) timeouts: Counter,
    not_retryable: Counter,
    attempts_used: Counter,
    pick_failures: Counter,
    budget_exhausted: Counter,
    no_endpoint_left: Counter,
    deadlines: Counter,
    too_many_retries: Counter,
    throttled: Counter,
}

impl Counters {
    pub(super) fn count_stop(&self, reason: StopReason) {
        match reason {
            StopReason::BudgetExhausted => self.budget_exhausted.count(),
            StopReason::NoEndpointLeft => self.no_endpoint_left.count(),
            StopReason::Deadline => self.deadlines.count(),
            StopReason::TooManyRetries => self.too_many_retries.count(),
            StopReason::Throttled => self.throttled.count(),
            StopReason::NotRetryable => self.not_retryable.count(),
            StopReason::AttemptsUsed => self.attempts_used.count(),
            StopReason::Pick(_) => self.pick_failures.count(),
        }
    }

    pub(super) fn stats(
        &self,
        budget_left: u64,
        retries_in_flight: u64,
        hedge_delay: Option<Duration>,
    ) -> CallerStats {
        CallerStats {
            requests: self.requests.get(),
            retries: self.retries.get(),
            hedges: self.hedges.get(),
            hedges_won: self.hedges_won.get(),
            timeouts: self.timeouts.get(),
            not_retryable: self.not_retryable.get(),
            attempts_used: self.attempts_used.get(),
            pick_failures: self.pick_failures.get(),
            budget_exhausted: self.budget_exhausted.get(),
            no_endpoint_left: self.no_endpoint_left.get(),
            deadlines: self.deadlines.get(),
            too_many_retries: self.too_many_retries.get(),
            throttled: self.throttled.get(),
            budget_left,
            retries_in_flight,
            hedge_delay,
        }
    }
}
