//! How a request ended: [`Outcome`], and [`Sample`], the form in which a health tracker sees it.

use std::fmt;
use std::time::Duration;

use crate::time::Tick;

/// How a request ended, as far as the endpoint's health is concerned.
///
/// A 404 is usually a [`Success`](Self::Success): the endpoint did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The endpoint answered as expected.
    Success,
    /// The endpoint answered with an error of its own (an HTTP 5xx).
    Failure,
    /// The endpoint did not answer within the caller's time limit.
    Timeout,
    /// The endpoint could not be reached (connection refused, reset, no route).
    Unreachable,
    /// The endpoint refused the request because it is overloaded (HTTP 429, or 503 with `Retry-After`).
    ///
    /// This is not a fault: it never ejects, and it counts neither as a success nor as a failure.
    /// [`Adaptive`](crate::Adaptive) prefers other endpoints for as long as the endpoint asked, or for 1 s if it did
    /// not say; at most for the longest ejection and at most for 1000 s. During that time a request to it counts at
    /// twice its cost. The factor grows with the share of requests that the endpoint refuses, as far as it exceeds that
    /// of the others by more than a tenth; an endpoint that refuses everything reaches a factor of thousands. The share
    /// is that of the last one to two seconds, or of the last one to two tenths of the
    /// [window](crate::Ejection::window) where that is shorter.
    ///
    /// Other policies ignore this outcome. To [`LeastConnections`](crate::LeastConnections) and
    /// [`PowerOfTwo`](crate::PowerOfTwo), an endpoint that refuses at once is the least loaded. With these policies,
    /// record [`Failure`](Self::Failure) where one endpoint may refuse for long.
    #[non_exhaustive]
    Overloaded {
        /// How long the endpoint asked clients to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// The endpoint announced that it is shutting down (HTTP/2 `GOAWAY`, a 503 with `Connection: close` before a
    /// shutdown, a gRPC lame duck).
    ///
    /// It is ejected at once, by [`Detector::GoingAway`](crate::Detector::GoingAway), if the
    /// [cap](crate::Ejection::max_ejection_percent) has room, and gets no new requests from the next pick on. Requests
    /// in flight there may finish. This is not a fault: it counts neither as a success nor as a failure, for the
    /// endpoint or for the fleet.
    ///
    /// The endpoint returns like any ejected one, by probes after its ejection time, so a server restarted at the same
    /// address comes back. An endpoint that is removed and inserted again is in rotation at once. If the cap is
    /// reached, or ejections are off, the endpoint stays in rotation, and [`Adaptive`](crate::Adaptive) prefers others
    /// for a second, as after [`Overloaded`](Self::Overloaded). The [panic rule](crate::PanicRule) may ignore this
    /// ejection like any other. As the answer to a probe or a check, this outcome keeps the endpoint ejected.
    ///
    /// If a successful answer carries the announcement, call [`Lease::going_away`](crate::Lease::going_away) and then
    /// record the success. A [`Transport`](crate::Transport) has no access to the lease: let it classify the answer as
    /// `GoingAway`; the success is then not counted.
    GoingAway,
    /// The result says nothing about the endpoint (a limit of the caller's own, a bad request).
    Ignored,
    /// The lease was dropped without a record.
    ///
    /// It is neutral, unless the lease was held for longer than the fleet's patience: then it counts as a
    /// [`Timeout`](Self::Timeout) (see [`FleetBuilder::patience`](crate::FleetBuilder::patience)).
    Abandoned,
}

impl Outcome {
    /// Creates an [`Overloaded`](Self::Overloaded) with the delay that the endpoint asked for, if any.
    #[must_use]
    pub const fn overloaded(retry_after: Option<Duration>) -> Self {
        Self::Overloaded { retry_after }
    }

    /// Returns whether the endpoint is at fault: a failure, a timeout or unreachable.
    #[must_use]
    #[inline]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Failure | Self::Timeout | Self::Unreachable)
    }
}

/// The outcome in words: `going away`. The delay of [`Overloaded`](Outcome::Overloaded) is left out, so that the text
/// can be a metric's label.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Overloaded { .. } => "overloaded",
            Self::GoingAway => "going away",
            Self::Ignored => "ignored",
            Self::Abandoned => "abandoned",
        })
    }
}

/// `Ok` becomes a success and `Err` a failure, whatever the error. Be more specific where you can: a timeout is a
/// [`Timeout`](Outcome::Timeout). For a [`TcpStream`](std::net::TcpStream), for example:
///
/// ```
/// use evenkeel::Outcome;
/// use std::io::{self, ErrorKind};
///
/// fn outcome<T>(result: &io::Result<T>) -> Outcome {
///     let Err(error) = result else { return Outcome::Success };
///     match error.kind() {
///         ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Timeout, // `WouldBlock`: a read timeout on Unix
///         ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory => Outcome::Ignored, // short of ports or memory here
///         ErrorKind::InvalidData => Outcome::Failure, // it has answered
///         _ => Outcome::Unreachable,
///     }
/// }
/// assert_eq!(outcome::<()>(&Err(ErrorKind::ConnectionReset.into())), Outcome::Unreachable);
/// ```
impl<T, E> From<&Result<T, E>> for Outcome {
    fn from(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(_) => Self::Failure,
        }
    }
}

/// The kind of request that a [`Sample`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SampleKind {
    /// An ordinary request.
    Request,
    /// The half-open probe of an ejected endpoint. The fleet decides by its outcome, and by nothing else, whether the
    /// endpoint returns: if your tracker ejects for slowness, record a slow answer as a [`Timeout`](Outcome::Timeout),
    /// or the endpoint returns slow and is ejected again, for longer each time.
    Probe,
    /// A request that was picked before the endpoint was last ejected or readmitted, [marked](crate::Mark) up or down
    /// or left to its health again, given weight 0 or a weight again, or drained. A tracker may keep it for display,
    /// but must not judge the endpoint's present health by it.
    Late,
}

/// One finished request, as a [`HealthTracker`](crate::HealthTracker) sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// How the request ended.
    pub outcome: Outcome,
    /// How long the request took; `None` if it was not measured.
    pub latency: Option<Duration>,
    /// When the request ended.
    pub at: Tick,
    /// The kind of request.
    pub kind: SampleKind,
}

impl Sample {
    /// Creates a sample of an ordinary request.
    #[must_use]
    pub const fn new(outcome: Outcome, latency: Option<Duration>, at: Tick) -> Self {
        Self {
            outcome,
            latency,
            at,
            kind: SampleKind::Request,
        }
    }

    /// Sets the kind of request.
    #[must_use]
    pub const fn with_kind(mut self, kind: SampleKind) -> Self {
        self.kind = kind;
        self
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reads_as_a_label() {
        let asked = Outcome::overloaded(Some(Duration::from_secs(3)));
        assert_eq!(asked.to_string(), "overloaded");
        assert_eq!(format!("{:>10}", Outcome::GoingAway), "going away");
    }
}
