//! Waiting for a drained endpoint's last request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::member::State;
use crate::shared::EventKind;
use crate::sync::Arc;
use crate::time::Tick;

/// Resolves when the last request on a drained endpoint has ended. From then on no lease on it appears.
///
/// Needs no runtime: it is woken by whoever ends the last request.
///
/// # Cancel safety
///
/// Dropping it does not undo the drain; call [`drain`](crate::Fleet::drain) again to wait again.
#[must_use = "a drain takes effect at once; await this to know when the last request has ended"]
pub struct Drain {
    state: Arc<State>,
    ticket: Option<u64>,
}

/// How a drain ended. There is one way so far; one by deadline is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Drained {
    /// No request is in flight any more.
    Empty,
}

impl Drain {
    pub(super) const fn new(state: Arc<State>) -> Self {
        Self {
            state,
            ticket: None,
        }
    }

    /// It takes no more requests. Tells when the last has ended, which may have been already.
    pub(super) fn begun(&self, now: Tick) {
        self.state.tell(now, EventKind::DrainBegun);
        if self.state.gate.announce() {
            self.state.tell(now, EventKind::DrainOver);
        }
    }

    /// Requests still in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.state.gate.inside()
    }
}

impl Future for Drain {
    type Output = Drained;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Drained> {
        let this = &mut *self;
        this.state
            .gate
            .poll_empty(cx, &mut this.ticket)
            .map(|()| Drained::Empty)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.state.gate.forget(ticket);
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("id", &self.state.id)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
