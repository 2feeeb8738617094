//! How a request ended: [`Outcome`], and the [`Sample`] a health tracker sees of it.

use std::time::Duration;

use crate::time::Tick;

/// How a request ended, as far as the endpoint's health is concerned.
///
/// A 404 is usually a [`Success`](Self::Success): the endpoint did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The endpoint answered as it should.
    Success,
    /// The endpoint answered, and the answer is its fault (an HTTP 5xx).
    Failure,
    /// No answer in the caller's time.
    Timeout,
    /// The endpoint could not be reached (connection refused, reset, no route).
    Unreachable,
    /// The endpoint said that it is overloaded (HTTP 429, or 503 with `Retry-After`). Not a fault: it never ejects, and neither success nor
    /// failure is counted. [`Adaptive`](crate::Adaptive) prefers others for as long as the endpoint asked, or 1 s (at most the longest
    /// ejection, or 1000 s where that is longer). Its cost counts twice, and more the larger a share it refuses beyond a tenth more than
    /// others do, in the last second or two (or tenths of a [window](crate::Ejection::window) shorter than ten): up to thousands of times
    /// for one that refuses all.
    ///
    /// Other policies ignore it, and to [`LeastConnections`](crate::LeastConnections) and [`PowerOfTwo`](crate::PowerOfTwo) an endpoint
    /// that refuses at once is the least busy. With them, or with your own [tracker](crate::HealthTracker) (where it only doubles the
    /// cost), record [`Failure`](Self::Failure) where one endpoint may refuse for long.
    #[non_exhaustive]
    Overloaded {
        /// When the endpoint asked to be tried again.
        retry_after: Option<Duration>,
    },
    /// The endpoint said that it is going away (HTTP/2 `GOAWAY`, a 503 with `Connection: close` before a shutdown, a gRPC
    /// lame duck). It gets no new requests from the next pick on: it is ejected at once, by
    /// [`Detector::GoingAway`](crate::Detector::GoingAway), if the
    /// [cap](crate::Ejection::max_ejection_percent) has room. Not a fault: neither success nor failure is counted, for it
    /// or for the fleet. What is in flight there may finish.
    ///
    /// It returns as any ejected one, by probes after its time, so a server restarted at the same address comes back; one removed and
    /// inserted again is in at once. With the cap reached, or ejections off, it stays in, and [`Adaptive`](crate::Adaptive) prefers others
    /// for a second, as after [`Overloaded`](Self::Overloaded). The [panic rule](crate::PanicRule) may ignore it, as any ejection. As the
    /// answer to a probe or a check it keeps the endpoint out.
    ///
    /// If a good answer announces it, call [`Lease::going_away`](crate::Lease::going_away) and then record the success. A
    /// [`Transport`](crate::Transport) does not see the lease: classify it as `GoingAway`; the success is then not counted.
    GoingAway,
    /// Says nothing about the endpoint: the caller's own limit, a bad request.
    Ignored,
    /// The lease was dropped without a record. Neutral, unless it outlasted the fleet's patience: then it counts as a
    /// [`Timeout`](Self::Timeout) (see [`FleetBuilder::patience`](crate::FleetBuilder::patience)).
    Abandoned,
}

impl Outcome {
    /// [`Overloaded`](Self::Overloaded), with the time the endpoint asked for, if it did.
    #[must_use]
    pub const fn overloaded(retry_after: Option<Duration>) -> Self {
        Self::Overloaded { retry_after }
    }

    /// Whether the endpoint is at fault: failure, timeout or unreachable.
    #[must_use]
    #[inline]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Failure | Self::Timeout | Self::Unreachable)
    }
}

/// `Ok` is a success and `Err` a failure. Look closer where you can: a timeout is a
/// [`Timeout`](Outcome::Timeout).
impl<T, E> From<&Result<T, E>> for Outcome {
    fn from(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(_) => Self::Failure,
        }
    }
}

/// Which kind of request a [`Sample`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SampleKind {
    /// A request like any other.
    Request,
    /// The one request that an ejected endpoint got to show that it is back. The fleet decides by it.
    Probe,
    /// A request picked before the endpoint was last ejected or readmitted. It may be kept for display,
    /// and must not lead to a verdict about what the endpoint is now.
    Late,
}

/// One finished request, as a [`HealthTracker`](crate::HealthTracker) sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took; `None` when that was not measured.
    pub latency: Option<Duration>,
    /// When it ended.
    pub at: Tick,
    /// Which kind of request it was.
    pub kind: SampleKind,
}

impl Sample {
    /// A sample of an ordinary request.
    #[must_use]
    pub const fn new(outcome: Outcome, latency: Option<Duration>, at: Tick) -> Self {
        Self {
            outcome,
            latency,
            at,
            kind: SampleKind::Request,
        }
    }

    /// The same of another kind.
    #[must_use]
    pub const fn with_kind(mut self, kind: SampleKind) -> Self {
        self.kind = kind;
        self
    }
}
