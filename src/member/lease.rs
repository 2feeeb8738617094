//! One request's hold on one endpoint.

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

/// One request's hold on one endpoint: counted as in flight until it is recorded or dropped.
///
/// Say how the request ended with [`record`](Self::record). A lease dropped without that, as when a timeout drops the future that holds it,
/// counts as [`Outcome::Abandoned`]: neutral, unless it outlasted the fleet's patience (and was measured: see
/// [`Clock::may_be_reused`](crate::Clock::may_be_reused)). So **record before you use `?` on the result**, or an endpoint that only returns
/// errors looks spotless. [`track`](Self::track), [`track_with`](Self::track_with) and [`ClusterExt::call`](crate::ClusterExt::call) record
/// for you. A lease may move to another thread, and outlive its endpoint's removal and its fleet.
///
/// The one way to lose count is [`std::mem::forget`]: it leaves one request in flight for ever (a probe is given up after its timeout).
#[must_use = "a lease that is dropped at once counts as an abandoned request"]
pub struct Lease<E: Endpoint> {
    seat: Seat<E>,
}

/// Leaves the gate when dropped, whatever happened before, unless it has left already. A probe that brought nothing makes room for
/// another.
#[repr(C)] // The handle, which tells a lease from an error, between the others: they are moved one by one then, see `Marks`.
struct Seat<E: Endpoint> {
    /// When it was picked; once it has ended well, when that was.
    at: Tick,
    member: Member<E>,
    marks: Marks,
}

impl<E: Endpoint> Drop for Seat<E> {
    #[inline(always)]
    fn drop(&mut self) {
        // Most have left when they ended.
        if !self.marks.has(Marks::LEFT) {
            self.leave();
        }
    }
}

impl<E: Endpoint> Lease<E> {
    /// The member's gate has been entered by its cell.
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
            seat: Seat {
                at: now.at,
                member,
                marks,
            },
        }
    }

    /// With the slot of the fleet's that was taken for it, where those are limited: it is given back when the lease has left.
    pub(crate) fn with_slot(mut self, slot: Option<Held<'_>>) -> Self {
        if let Some(slot) = slot {
            slot.keep();
            self.seat.marks = self.seat.marks.with_if(Marks::SLOT, true);
        }
        self
    }

    /// A lease on an endpoint of no fleet: for a [`Cluster`](crate::Cluster) of your own, and for tests
    /// of code that takes a lease. What is recorded goes nowhere. It allocates a member of its own, about
    /// a kibibyte.
    pub fn detached(endpoint: E) -> Self {
        let member = Member::alone(endpoint);
        let started = member.core().shared.now();
        member.enter().expect("a new gate is open");
        Self::new(member, Reading::fresh(started), 0, false, false)
    }

    /// The endpoint to send the request to.
    pub fn endpoint(&self) -> &E {
        self.seat.member.endpoint()
    }

    /// The member that it is on, with its live numbers.
    pub fn member(&self) -> &Member<E> {
        &self.seat.member
    }

    /// Which member it is, for [`PickOptions::avoid`](crate::PickOptions::avoid) on a retry.
    pub fn id(&self) -> MemberId {
        self.seat.member.id()
    }

    /// Whether this request is the half-open probe of an ejected endpoint.
    pub fn is_probe(&self) -> bool {
        self.seat.marks.has(Marks::PROBE)
    }

    /// Reports that the endpoint is going away while this request goes on, or beside its good answer: as [`Outcome::GoingAway`], but
    /// nothing is said of the request, which you still record.
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
        let state = self.seat.member.core();
        let now = state.shared.now();
        state.count(Outcome::GoingAway, now);
        // Of an endpoint that has been out and back meanwhile it is old news.
        state.goes_away(self.seat.marks.epoch(), now);
    }

    /// The request has ended like this. Its latency is the time since the pick.
    ///
    /// # Panics
    ///
    /// Only if a [`HealthTracker`](crate::HealthTracker) of yours does. The count stays right.
    #[inline]
    pub fn record(mut self, outcome: Outcome) {
        self.seat.end(outcome, None);
    }

    /// The request has ended like this, and took `latency` by your own measure, at most five minutes. Above half a million requests a
    /// second on one thread, one latency in 16 is used, and above two million one in 64.
    ///
    /// # Panics
    ///
    /// As [`record`](Self::record).
    #[inline]
    pub fn record_with_latency(mut self, outcome: Outcome, latency: Duration) {
        self.seat.end(outcome, Some(latency));
    }

    /// Awaits `future`, records what `classify` makes of its output, and returns the output.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future at any point, also before its first poll, drops the lease: the
    /// count goes down once, and the request counts as [`Outcome::Abandoned`]. The same holds if
    /// `future` or `classify` panics.
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

    /// As [`track`](Self::track), for a request that borrows the endpoint: `request` is handed it.
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
            .field("member", &self.seat.member)
            .field("probe", &self.is_probe())
            .finish_non_exhaustive()
    }
}
