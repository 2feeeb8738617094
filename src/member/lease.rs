//! One request's hold on one endpoint: [`Lease`].

mod ending;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::Member;
use super::marks::Marks;
use crate::endpoint::Endpoint;
use crate::options::MemberId;
use crate::outcome::Outcome;
use crate::shared::{Held, Reading};
use crate::time::Tick;

/// One request's hold on one endpoint: the request counts as in flight until the lease is recorded or dropped.
///
/// Say how the request ended with [`record`](Self::record). A lease that is dropped without that, as when a timeout
/// drops the future that holds it, counts as [`Outcome::Abandoned`]. That is neutral, unless the lease outlasted the
/// fleet's patience and its time was measured (see [`Clock::may_be_reused`](crate::Clock::may_be_reused)). So **record
/// before you use `?` on the result**, or an endpoint that only returns errors looks spotless. [`track`](Self::track),
/// [`track_with`](Self::track_with) and [`ClusterExt::call`](crate::ClusterExt::call) record for you.
///
/// A lease may move to another thread, and may outlive its endpoint's removal and its fleet.
///
/// Only [`std::mem::forget`] makes the count wrong: it leaves one request in flight for ever. (A forgotten probe is
/// given up after its timeout.)
#[must_use = "a lease that is dropped at once counts as an abandoned request"]
pub struct Lease<E: Endpoint> {
    guard: LeaseGuard<E>,
}

/// Leaves the gate when dropped, whatever happened before, unless it has left already. A probe without an outcome makes
/// room for another.
#[repr(C)] // The handle, whose niche tells a lease from an error, is in the middle: fields move one by one (`Marks`).
struct LeaseGuard<E: Endpoint> {
    /// When the request was picked; once it has ended well, when it ended.
    at: Tick,
    member: Member<E>,
    marks: Marks,
}

impl<E: Endpoint> Drop for LeaseGuard<E> {
    #[inline(always)]
    fn drop(&mut self) {
        // Most leases have left when they were recorded.
        if !self.marks.has(Marks::LEFT) {
            self.leave();
        }
    }
}

impl<E: Endpoint> Lease<E> {
    /// A lease of a request that has entered the member's gate by its cell.
    #[inline]
    pub(crate) fn new(
        member: Member<E>,
        now: Reading,
        epoch: u32,
        probe: bool,
        on_board: bool,
    ) -> Self {
        let marks = Marks::plain(epoch)
            .with_if(Marks::MEASURED, now.is_fresh)
            .with_if(Marks::PROBE, probe)
            .with_if(Marks::BOARD, on_board);
        Self {
            guard: LeaseGuard {
                at: now.at,
                member,
                marks,
            },
        }
    }

    /// Attaches the fleet's request slot that was taken for it, if those are limited. It is given back when the lease
    /// has left.
    pub(crate) fn with_slot(mut self, slot: Option<Held<'_>>) -> Self {
        if let Some(slot) = slot {
            slot.keep();
            self.guard.marks = self.guard.marks.with_if(Marks::SLOT, true);
        }
        self
    }

    /// A lease on an endpoint of no fleet: for a [`Cluster`](crate::Cluster) of your own, and for tests of code that
    /// takes a lease. What is recorded on it reaches no fleet; a clone of its [`member`](Self::member) counts it, so a
    /// test can see what was recorded. It allocates a member of its own, about one and a half kibibytes, with an id of
    /// its own: [`PickOptions::avoid`](crate::PickOptions::avoid) does not know the endpoint again by it, so a cluster
    /// of yours must remember which ids it gave out for which endpoint.
    ///
    /// ```
    /// use evenkeel::{Lease, Outcome};
    ///
    /// fn fetch(lease: Lease<String>) { // code of yours, under test
    ///     lease.record(Outcome::Unreachable);
    /// }
    ///
    /// let lease = Lease::detached("10.0.0.1:80".to_string());
    /// let member = lease.member().clone();
    /// fetch(lease);
    /// assert_eq!((member.in_flight(), member.outcomes().unreachable), (0, 1));
    /// ```
    pub fn detached(endpoint: E) -> Self {
        let member = Member::alone(endpoint);
        let started = member.core().shared.now();
        member.enter().expect("a new gate is open");
        Self::new(member, Reading::fresh(started), 0, false, false)
    }

    /// The endpoint to send the request to.
    pub fn endpoint(&self) -> &E {
        self.guard.member.endpoint()
    }

    /// The member that the lease is on, with its live numbers.
    pub fn member(&self) -> &Member<E> {
        &self.guard.member
    }

    /// The id of the member, for [`PickOptions::avoid`](crate::PickOptions::avoid) on a retry.
    pub fn id(&self) -> MemberId {
        self.guard.member.id()
    }

    /// From when on the request counts as a timeout if it is dropped.
    pub(crate) fn patience(&self) -> Duration {
        self.guard.member.core().shared.patience()
    }

    /// Whether this request is the half-open probe of an ejected endpoint.
    pub fn is_probe(&self) -> bool {
        self.guard.marks.has(Marks::PROBE)
    }

    /// Reports that the endpoint is going away while this request goes on, or beside its good answer. It acts as
    /// [`Outcome::GoingAway`], but leaves the outcome of the request open: you still record that. (For a probe it is
    /// the verdict, and the endpoint stays ejected whatever is recorded.)
    ///
    /// ```
    /// use evenkeel::{Cluster, Fleet, MemberState, Outcome};
    ///
    /// let fleet: Fleet<String> = ["a", "b"].map(String::from).into_iter().collect();
    /// let lease = fleet.pick_endpoint()?;
    /// let going = lease.endpoint().clone();
    /// lease.going_away(); // GOAWAY on its connection
    /// assert_eq!(lease.member().state(), MemberState::Ejected);
    /// for _ in 0..100 {
    ///     assert_ne!(*fleet.pick_endpoint()?.endpoint(), going);
    /// }
    /// lease.record(Outcome::Success);
    /// # Ok::<(), evenkeel::PickError>(())
    /// ```
    pub fn going_away(&self) {
        let state = self.guard.member.core();
        let now = state.shared.now();
        state.count(Outcome::GoingAway, now);
        // If the endpoint has been ejected and returned meanwhile, this has no effect on it.
        let epoch = self.guard.marks.epoch();
        if self.is_probe() {
            // This is the verdict of the probe: the outcome that is recorded later comes too late.
            state.conclude(epoch, Outcome::GoingAway, now);
        } else {
            state.on_going_away(epoch, now);
        }
    }

    /// Records how the request ended. Its latency is the time since the pick.
    ///
    /// # Panics
    ///
    /// Only if a [`HealthTracker`](crate::HealthTracker) of yours does. The count stays right.
    #[inline]
    pub fn record(mut self, outcome: Outcome) {
        self.guard.end(outcome, None);
    }

    /// Records how the request ended, with a `latency` measured by you; more than five minutes counts as five minutes.
    /// With a [clock that may be reused](crate::Clock::may_be_reused), as the default one, not every latency is used:
    /// above half a million requests a second on one thread one in 16, and above two million one in 64.
    ///
    /// # Panics
    ///
    /// As [`record`](Self::record).
    #[inline]
    pub fn record_with_latency(mut self, outcome: Outcome, latency: Duration) {
        self.guard.end(outcome, Some(latency));
    }

    /// Awaits `future`, records what `classify` makes of its output, and returns the output.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future at any point, also before its first poll, drops the lease: the count goes down
    /// once, and the request counts as [`Outcome::Abandoned`]. The same holds if `future` or `classify` panics.
    ///
    /// ```
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = std::pin::pin!(future);
    /// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     loop {
    /// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut cx) { return output }
    /// #     }
    /// # }
    /// use evenkeel::{Lease, Outcome};
    ///
    /// let lease = Lease::detached("10.0.0.1:80".to_string());
    /// let address = lease.endpoint().clone();
    /// let answer = lease.track(
    ///     async move { if address.ends_with("80") { 200 } else { 503 } },
    ///     |status| if *status < 500 { Outcome::Success } else { Outcome::Failure },
    /// );
    /// assert_eq!(block_on(answer), 200);
    /// ```
    pub async fn track<F, C>(self, future: F, classify: C) -> F::Output
    where
        F: Future,
        C: FnOnce(&F::Output) -> Outcome,
    {
        let output = future.await;
        let outcome = classify(&output);
        self.record(outcome);
        output
    }

    /// As [`track`](Self::track), for a request that borrows the endpoint: `request` is called with it.
    ///
    /// # Cancel safety
    ///
    /// As [`track`](Self::track).
    ///
    /// ```
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = std::pin::pin!(future);
    /// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     loop {
    /// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut cx) { return output }
    /// #     }
    /// # }
    /// use evenkeel::{Lease, Outcome};
    ///
    /// async fn get(address: &str) -> Result<u16, std::io::Error> {
    ///     Ok(if address.ends_with("80") { 200 } else { 503 })
    /// }
    ///
    /// let lease = Lease::detached("10.0.0.1:80".to_string());
    /// let answer = lease.track_with(async |address| get(address).await, |result| Outcome::from(result));
    /// assert_eq!(block_on(answer)?, 200);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn track_with<T, R, C>(self, request: R, classify: C) -> T
    where
        R: AsyncFnOnce(&E) -> T,
        C: FnOnce(&T) -> Outcome,
    {
        let output = request(self.endpoint()).await;
        let outcome = classify(&output);
        self.record(outcome);
        output
    }
}

impl<E: Endpoint> fmt::Debug for Lease<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("member", &self.guard.member)
            .field("probe", &self.is_probe())
            .finish_non_exhaustive()
    }
}
