//! Errors of a call through a [`Caller`](crate::Caller).

use crate::error::PickError;

/// The reason why a call failed, the number of attempts, and the transport's last error.
///
/// Its source is [`last`](Self::last).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{reason}; sent {attempts} {}{}",
    if *.attempts == 1 { "time" } else { "times" },
    if *.timed_out { ", the last without an answer in time" } else { "" }
)]
#[non_exhaustive]
pub struct CallerError<E> {
    /// The reason why there was no further attempt.
    pub reason: StopReason,
    /// How many times the request was sent, hedges included.
    pub attempts: u32,
    /// Whether the attempt that ended last was cut off.
    pub timed_out: bool,
    /// The transport's error from the last attempt that ended with one.
    #[source]
    pub last: Option<E>,
}

impl<E> CallerError<E> {
    /// Creates the error of a call that failed unsent, for test doubles of a caller. The fields can be changed
    /// afterwards.
    #[must_use]
    pub const fn new(reason: StopReason) -> Self {
        Self {
            reason,
            attempts: 0,
            timed_out: false,
            last: None,
        }
    }
}

/// The reason why there was no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// The result must not be retried: see [`Transport::is_retryable`](crate::Transport::is_retryable) and
    /// [`CallPlan::retry_timeouts`](crate::CallPlan::retry_timeouts).
    #[error("the failure is not one to retry")]
    NotRetryable,
    /// All attempts that [`CallPlan::attempts`](crate::CallPlan::attempts) or
    /// [`CallOptions::attempts`](crate::CallOptions::attempts) allows have been made.
    #[error("all attempts were used")]
    AttemptsUsed,
    /// The deadline ([`CallPlan::deadline`](crate::CallPlan::deadline) or
    /// [`CallOptions::deadline`](crate::CallOptions::deadline)) has passed, or would pass before the next attempt.
    #[error("the deadline left no time")]
    Deadline,
    /// Every endpoint that could be picked has been tried, or is listed in
    /// [`PickOptions::avoid`](crate::PickOptions::avoid): see
    /// [`CallPlan::repeat_endpoints`](crate::CallPlan::repeat_endpoints). The call does not wait for an endpoint that
    /// asked to be tried later ([`Outcome::Overloaded`](crate::Outcome::Overloaded)): only you know how long your own
    /// caller has.
    #[error("no endpoint is left that was not tried")]
    NoEndpointLeft,
    /// The retries of the last ten seconds have used up the retry budget.
    #[error("the retry budget is exhausted")]
    BudgetExhausted,
    /// [`CallPlan::max_concurrent_retries`](crate::CallPlan::max_concurrent_retries) retries are in flight.
    #[error("too many retries are under way")]
    TooManyRetries,
    /// The call was refused before it was sent: see [`Throttle`](crate::Throttle).
    #[error("given up unsent, as most requests fail and no healthy endpoint is left")]
    Throttled,
    /// No endpoint could be picked. The call does not wait for one: neither for a slot below a [limit](crate::Limits),
    /// nor for an ejection to end.
    #[error("{0}")]
    Pick(PickError),
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn an_error_tells_the_reason_the_attempts_and_its_source() {
        let error = CallerError {
            reason: StopReason::BudgetExhausted,
            attempts: 1,
            timed_out: false,
            last: Some(std::io::Error::other("refused")),
        };
        assert_eq!(
            error.to_string(),
            "the retry budget is exhausted; sent 1 time"
        );
        assert_eq!(error.source().expect("a source").to_string(), "refused");
        let error = CallerError::<std::io::Error> {
            reason: StopReason::Deadline,
            attempts: 2,
            timed_out: true,
            last: None,
        };
        assert_eq!(
            error.to_string(),
            "the deadline left no time; sent 2 times, the last without an answer in time"
        );
        assert!(error.source().is_none());
    }
}
