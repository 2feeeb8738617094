//! Waiting for a drained endpoint's last request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Fleet;
use super::keys::Hashed;
use crate::endpoint::Endpoint;
use crate::member::State;
use crate::shared::EventKind;
use crate::sync::Arc;
use crate::time::Tick;

/// Resolves when the last request on a drained endpoint has ended, or at its deadline if [one is
/// set](crate::Fleet::drain_within). Once the last request has ended, no further lease on the endpoint appears.
///
/// Needs no runtime: it is woken by the thread that ends the last request, and at the deadline by upkeep or the driver
/// of [checks](crate::HealthCheck).
///
/// # Cancel safety
///
/// Dropping it does not undo the drain. Call [`drain`](crate::Fleet::drain) again to wait again.
#[must_use = "a drain takes effect at once; await this to know when the last request has ended"]
pub struct Drain {
    state: Arc<State>,
    ticket: Option<u64>,
    deadline: Option<Tick>,
    /// The ticket of the wait for the deadline.
    alarm: Option<u64>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Drained {
    /// No request is in flight any more.
    Empty,
    /// The deadline has passed. The requests in flight may still finish.
    #[non_exhaustive]
    Deadline {
        /// How many requests are in flight, at least one.
        in_flight: u64,
    },
}

impl Drained {
    /// Whether no request is in flight any more.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The number of requests that were still in flight.
    #[must_use]
    pub const fn in_flight(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Deadline { in_flight } => in_flight,
        }
    }
}

impl Drain {
    pub(super) const fn new(state: Arc<State>, deadline: Option<Tick>) -> Self {
        Self {
            state,
            ticket: None,
            deadline,
            alarm: None,
        }
    }

    /// Tells that the drain has begun, and, if no request is in flight already, that it is over. Otherwise the last
    /// request tells the latter.
    pub(super) fn begun(&self, now: Tick) {
        self.state.tell(now, EventKind::DrainBegun);
        if self.state.gate.announce() {
            self.state.tell(now, EventKind::DrainOver);
        }
    }

    /// The number of requests still in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.state.gate.inside()
    }

    /// When it resolves at the latest, by the fleet's clock.
    #[must_use]
    pub const fn deadline(&self) -> Option<Tick> {
        self.deadline
    }
}

impl Future for Drain {
    type Output = Drained;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Drained> {
        let this = &mut *self;
        let (state, shared) = (&*this.state, &*this.state.shared);
        if state.gate.poll_empty(cx, &mut this.ticket).is_ready() {
            return Poll::Ready(Drained::Empty);
        }
        let Some(deadline) = this.deadline else {
            return Poll::Pending;
        };
        if shared.now() < deadline {
            let alarm = &mut this.alarm;
            shared
                .deadlines
                .wait(&shared.upkeep_due, deadline, cx, alarm);
            // Upkeep may have run before the task was listed, and may not run again.
            if shared.now() < deadline {
                return Poll::Pending;
            }
        }
        Poll::Ready(match state.gate.inside() {
            0 => Drained::Empty,
            in_flight => Drained::Deadline { in_flight },
        })
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.state.gate.forget(ticket);
        }
        if let Some(alarm) = self.alarm {
            self.state.shared.deadlines.forget(alarm);
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("id", &self.state.id)
            .field("in_flight", &self.in_flight())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Drains an endpoint, and then removes it. See [`Fleet::retire`].
///
/// # Cancel safety
///
/// Dropping it leaves the endpoint draining and does not remove it.
///
/// # Panics
///
/// When polled at the end of the drain, as [`Fleet::remove`].
#[must_use = "the drain takes effect at once; await this so that the endpoint is removed"]
pub struct Retire<E: Endpoint> {
    drain: Drain,
    fleet: Fleet<E>,
    key: Hashed<E::Key>,
}

impl<E: Endpoint> Retire<E> {
    pub(super) const fn new(drain: Drain, fleet: Fleet<E>, key: Hashed<E::Key>) -> Self {
        Self { drain, fleet, key }
    }

    /// When it stops waiting for requests in flight, by the fleet's clock.
    #[must_use]
    pub const fn deadline(&self) -> Option<Tick> {
        self.drain.deadline()
    }

    /// The number of requests still in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.drain.in_flight()
    }
}

impl<E: Endpoint> Future for Retire<E> {
    type Output = Drained;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Drained> {
        let this = &mut *self;
        let drained = std::task::ready!(Pin::new(&mut this.drain).poll(cx));
        let own = this.drain.state.id;
        this.fleet.remove_if(&this.key, |id| id == own);
        Poll::Ready(drained)
    }
}

impl<E: Endpoint> fmt::Debug for Retire<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retire")
            .field("key", self.key.key())
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
