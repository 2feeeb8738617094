//! Why a call through a [`Caller`](crate::Caller) failed.

use crate::error::PickError;

/// Why a call failed, after how many attempts, and with which error of the transport's.
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
    /// Why it was not tried again.
    pub reason: StopReason,
    /// How often the request was sent, hedges included.
    pub attempts: u32,
    /// Whether the attempt that ended last was cut off.
    pub timed_out: bool,
    /// The transport's error of the attempt that last ended with one.
    #[source]
    pub last: Option<E>,
}

impl<E> CallerError<E> {
    /// A call that failed unsent, for this reason: for test doubles of a caller. The fields can be set.
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

/// Why a call was not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// What came is not to be tried again: see [`Transport::is_retryable`](crate::Transport::is_retryable) and
    /// [`CallPlan::retry_timeouts`](crate::CallPlan::retry_timeouts).
    #[error("the failure is not one to retry")]
    NotRetryable,
    /// [`CallPlan::attempts`](crate::CallPlan::attempts) have been made.
    #[error("all attempts were used")]
    AttemptsUsed,
    /// [`CallPlan::deadline`](crate::CallPlan::deadline) has passed, or would before the next attempt.
    #[error("the deadline left no time")]
    Deadline,
    /// Every endpoint that could be picked has been tried. Nothing waits for one that was, whatever it asked for
    /// ([`Outcome::Overloaded`](crate::Outcome::Overloaded)): who knows how long the caller has is the caller.
    #[error("no endpoint is left that was not tried")]
    NoEndpointLeft,
    /// There were too many retries in the last ten seconds.
    #[error("the retry budget is exhausted")]
    BudgetExhausted,
    /// [`CallPlan::max_concurrent_retries`](crate::CallPlan::max_concurrent_retries) are under way.
    #[error("too many retries are under way")]
    TooManyRetries,
    /// Given up before it was sent: see [`Throttle`](crate::Throttle).
    #[error("given up unsent, as most requests fail and no healthy endpoint is left")]
    Throttled,
    /// No endpoint could be picked. Nothing waits for one: not for a [limit](crate::Limits) that is reached, nor for an ejection
    /// to end.
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
