//! One check of one endpoint.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Core;
use super::book::Sent;
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::outcome::Outcome;
use crate::sync::Arc;

/// One check of one endpoint, to be sent by the caller. See [`HealthCheck`](crate::HealthCheck).
///
/// Dropped without a word it says nothing: the endpoint stays where it is, and is checked again after an
/// interval. One that is never finished nor dropped (as after [`std::mem::forget`]) counts as a timeout at
/// the first tick after twice its [`timeout`](Self::timeout); what it says after that decides nothing. It
/// may be sent to another thread, and outlive its endpoint's removal, the driver and the fleet; it keeps
/// the endpoint, as a lease does.
#[must_use = "a probe that is dropped says nothing"]
pub struct Probe<E: Endpoint> {
    member: Member<E>,
    core: Arc<Core>,
    /// Until it has been finished.
    sent: Option<Sent>,
}

impl<E: Endpoint> Probe<E> {
    pub(super) const fn new(member: Member<E>, core: Arc<Core>, sent: Sent) -> Self {
        Self {
            member,
            core,
            sent: Some(sent),
        }
    }

    /// The endpoint to check.
    pub fn endpoint(&self) -> &E {
        self.member.endpoint()
    }

    /// The member that it is on, with its live numbers.
    pub const fn member(&self) -> &Member<E> {
        &self.member
    }

    /// How long to wait for an answer, from now. It is for the caller to keep: then finish with
    /// [`Outcome::Timeout`].
    pub fn timeout(&self) -> Duration {
        self.core.settings.timeout
    }

    /// The check has ended like this.
    ///
    /// - [`Success`](Outcome::Success) passes.
    /// - [`Failure`](Outcome::Failure) is a bad answer, and decides at once, whatever the threshold: the
    ///   endpoint itself says that it is not well. So is [`GoingAway`](Outcome::GoingAway), for an answer that asks
    ///   to be taken out now, as before a shutdown.
    /// - [`Timeout`](Outcome::Timeout) and [`Unreachable`](Outcome::Unreachable) are no answer, which may be
    ///   the network's fault: they count towards the threshold. If a bad answer should do no more than
    ///   that, as in Envoy a retriable status, say `Timeout` of it.
    /// - [`Overloaded`](Outcome::Overloaded), [`Ignored`](Outcome::Ignored) and
    ///   [`Abandoned`](Outcome::Abandoned) say nothing. An overloaded endpoint is not checked before it has
    ///   asked to be, within the longest interval set, doubled.
    ///
    /// What follows from it is in force when this returns. It takes the driver's mutex, shortly.
    ///
    /// # Panics
    ///
    /// Only if a [`HealthTracker`](crate::HealthTracker) of yours does when it is told that its endpoint
    /// is back. The endpoint is then checked again.
    pub fn finish(mut self, outcome: Outcome) {
        self.say(outcome);
    }

    fn say(&mut self, outcome: Outcome) {
        if let Some(sent) = self.sent.take() {
            self.core.settle(sent, self.member.core(), outcome);
        }
    }
}

impl<E: Endpoint> Drop for Probe<E> {
    fn drop(&mut self) {
        // A clock of the user's is read, perhaps while another panic unwinds; a second one would abort.
        let _ = catch_unwind(AssertUnwindSafe(|| self.say(Outcome::Ignored)));
    }
}

impl<E: Endpoint> fmt::Debug for Probe<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
