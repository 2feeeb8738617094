//! One check of one endpoint.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::book::Sent;
use super::steps::Checks;
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::outcome::Outcome;
use crate::sync::Arc;

/// One check of one endpoint, to be sent by the caller. See [`HealthCheck`](crate::HealthCheck).
///
/// If it is dropped without [`finish`](Self::finish), it says nothing: the endpoint stays where it is, and is checked
/// again after an interval. If it is neither finished nor dropped (as after [`std::mem::forget`]), it counts as a
/// timeout at the first tick after twice its [`timeout`](Self::timeout); what it says after that decides nothing.
///
/// It may be sent to another thread, and may outlive its endpoint's removal, the driver and the fleet. It keeps the
/// endpoint alive, as a lease does.
#[must_use = "a probe that is dropped says nothing"]
pub struct Probe<E: Endpoint> {
    member: Member<E>,
    checks: Arc<Checks>,
    /// `None` once it has been finished.
    sent: Option<Sent>,
}

impl<E: Endpoint> Probe<E> {
    pub(super) const fn new(member: Member<E>, checks: Arc<Checks>, sent: Sent) -> Self {
        Self {
            member,
            checks,
            sent: Some(sent),
        }
    }

    /// Returns the endpoint to check.
    pub fn endpoint(&self) -> &E {
        self.member.endpoint()
    }

    /// Returns the member to check, with its live numbers.
    pub const fn member(&self) -> &Member<E> {
        &self.member
    }

    /// Returns how long to wait for an answer, from now. The caller keeps the time: when it is over, finish with
    /// [`Outcome::Timeout`].
    pub fn timeout(&self) -> Duration {
        self.checks.settings.timeout
    }

    /// Ends the check with this outcome.
    ///
    /// - [`Success`](Outcome::Success) passes.
    /// - [`Failure`](Outcome::Failure) is a bad answer, and decides at once, whatever the threshold: the endpoint
    ///   itself says that it is not well. [`GoingAway`](Outcome::GoingAway) decides in the same way. It is for an
    ///   answer that asks to be taken out now, as before a shutdown.
    /// - [`Timeout`](Outcome::Timeout) and [`Unreachable`](Outcome::Unreachable) are no answer, which may be the
    ///   network's fault: they count towards the threshold. If a bad answer should do no more than that, as a retriable
    ///   status does in Envoy, finish with `Timeout`.
    /// - [`Overloaded`](Outcome::Overloaded), [`Ignored`](Outcome::Ignored) and [`Abandoned`](Outcome::Abandoned) say
    ///   nothing. An overloaded endpoint is not checked before the time that it has asked for, at most twice the
    ///   longest interval set.
    ///
    /// The effect is in force when this returns. It takes the driver's mutex briefly.
    ///
    /// # Panics
    ///
    /// Only if a [`HealthTracker`](crate::HealthTracker) of yours does when it is told that its endpoint is back. The
    /// endpoint is then checked again.
    pub fn finish(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(sent) = self.sent.take() {
            self.checks.settle(sent, self.member.core(), outcome);
        }
    }
}

impl<E: Endpoint> Drop for Probe<E> {
    fn drop(&mut self) {
        // This reads a clock of the user's, perhaps while another panic unwinds; a second panic would abort.
        let _ = catch_unwind(AssertUnwindSafe(|| self.end(Outcome::Ignored)));
    }
}

impl<E: Endpoint> fmt::Debug for Probe<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
