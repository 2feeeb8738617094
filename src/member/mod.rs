//! One endpoint's life in a fleet: [`Member`], the handle that snapshots, policies and leases hold.

mod cell;
mod checking;
mod classes;
mod costing;
mod ejecting;
mod explain;
mod gate;
mod inviting;
mod lease;
mod marks;
mod newcomers;
mod silence;
mod sparing;
mod standing;
mod state;
mod warming;

use std::fmt;
use std::time::Duration;

use crate::endpoint::{Endpoint, Weight};
use crate::health::probe_time;
use crate::options::MemberId;
use crate::shared::{Reading, Shared};
use crate::sync::Arc;
use crate::time::Tick;

use cell::Cell;
pub(crate) use cell::Refused;
pub(crate) use checking::Probed;
pub use classes::Outcomes;
pub(crate) use explain::Ordinal;
pub use explain::{EjectionReason, Explanation, Figure};
pub(crate) use gate::Gate;
pub(crate) use inviting::Guest;
pub use lease::Lease;
pub(crate) use newcomers::{Newcomer, Seats};
use standing::ProbedBy;
pub(crate) use standing::{Phase, Standing};
pub(crate) use state::{PastEjection, State, Tracker};

/// A fleet's handle to one endpoint, with its live numbers. Cheap to clone.
///
/// A handle keeps the endpoint's data and weight as they were handed in when the handle was made, even after an update
/// has replaced them. Its live numbers are always current.
pub struct Member<E: Endpoint>(Arc<Seat<E>>);

/// One shard's copy of a member's handle: a reference count of its own, and what a pick and a lease read.
///
/// A member has one seat for each cell of its gate, so that leases of different shards count their handles in different
/// allocations. All seats of a member show the same endpoint, weight and state.
#[repr(C)] // What each request reads comes first, next to the reference count.
struct Seat<E> {
    /// The cell of the gate that this seat's leases enter by.
    cell: Arc<Cell>,
    /// The same as `state.shared`, without the step through the state.
    shared: Arc<Shared>,
    edition: Edition,
    weight: Weight,
    endpoint: Arc<E>,
    state: Arc<State>,
    /// The gate's other cell, if it has two. (With the two reference counts this makes 64 bytes: another seat's counts
    /// are off this line.)
    other_cell: Option<Arc<Cell>>,
}

/// The generation of the endpoint's data that a seat shows, times two. The lowest bit is set if the gate has a single
/// cell, whose count is then the member's total.
#[derive(Clone, Copy)]
struct Edition(u32);

impl Edition {
    const fn new(generation: u64, is_only_cell: bool) -> Self {
        // The cast loses nothing: a generation has 23 bits.
        Self((generation as u32) << 1 | is_only_cell as u32)
    }

    const fn generation(self) -> u64 {
        (self.0 >> 1) as u64
    }

    const fn is_only_cell(self) -> bool {
        self.0 & 1 != 0
    }
}

/// A member's state in one word. See [`Member::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberState {
    /// Takes requests.
    Ready,
    /// In slow start: takes a growing share of its requests ([`SlowStart`](crate::SlowStart)).
    Warming,
    /// Taken out of rotation for its health.
    Ejected,
    /// Ejected, with a request or a check under way that tests whether it has recovered.
    Probing,
    /// Marked down: takes no requests, except under the panic rule.
    Down,
    /// Marked up: takes requests, whatever its health.
    Up,
    /// [Marked degraded](crate::Mark::Degraded) and otherwise ready. With [`Tiers`](crate::Tiers) it takes requests
    /// only where the healthy endpoints cannot carry them; other policies treat it like any other endpoint.
    Degraded,
    /// Has weight 0: takes no requests.
    Idle,
    /// Drained or removed: takes no new requests; those in flight may finish.
    Draining,
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Warming => "warming",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
            Self::Down => "down",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Idle => "idle",
            Self::Draining => "draining",
        })
    }
}

impl<E: Endpoint> Member<E> {
    /// A member that belongs to no fleet.
    pub(crate) fn alone(endpoint: E) -> Self {
        let tracker = Tracker::built_in();
        let shared = Arc::new(Shared::alone());
        let gate = Gate::new(1, shared.ejection.window);
        let state = State::new(shared, None, gate, tracker, Phase::Up);
        Self::seats(endpoint, Weight::ONE, 0, &Arc::new(state)).0
    }

    /// The endpoint as it was handed in.
    pub fn endpoint(&self) -> &E {
        &self.0.endpoint
    }

    /// The id of this incarnation of the endpoint.
    pub fn id(&self) -> MemberId {
        self.0.state.id
    }

    /// The endpoint's weight when it was handed in.
    pub fn weight(&self) -> Weight {
        self.0.weight
    }

    /// Requests in flight. Exact while no request starts or ends.
    pub fn in_flight(&self) -> u64 {
        // Policies read this for many members, and each further pointer on the way is a cache miss.
        match &self.0.other_cell {
            Some(other) => self.0.cell.inside() + other.inside(),
            None if self.0.edition.is_only_cell() => self.0.cell.inside(),
            None => self.0.state.gate.inside(),
        }
    }

    /// The most requests that may be in flight ([`Limits`](crate::Limits)), or `None` without a limit. An adaptive
    /// limit is the current one; more requests than that may be in flight, from before it fell.
    pub fn limit(&self) -> Option<u32> {
        self.0.state.gate.limit()
    }

    /// A moving estimate of latency. `None` before the first success. Failures never lower it.
    ///
    /// It is the average of square roots of latencies, with a time constant of 2 s. After the first three samples, one
    /// sample weighs at least a hundredth and at most three tenths. While the endpoint is idle, the estimate moves
    /// towards what is usual with a time constant of 10 s: the fleet's median, or less if the endpoint itself, or after
    /// two minutes those that answered last, usually take less. An endpoint that [checks](crate::HealthCheck) brought
    /// back counts as new again: until it answers, its estimate is at most the median.
    pub fn latency(&self) -> Option<Duration> {
        self.0.state.latency.get()
    }

    /// The health score as of the last upkeep, from 0 to 1.
    ///
    /// With the built-in tracker it comes from the window's successes and from latency against the fleet
    /// ([`SlidingWindow`](crate::SlidingWindow)). An endpoint that was ejected for a few failures in a row, out of many
    /// requests, may show a high score.
    pub fn score(&self) -> f64 {
        self.0.state.score()
    }

    /// How this endpoint's requests ended in the sliding window, by class.
    pub fn outcomes(&self) -> Outcomes {
        self.0.state.outcomes()
    }

    /// The endpoint's present state.
    pub fn state(&self) -> MemberState {
        self.state_of(self.0.state.standing.get())
    }

    fn state_of(&self, standing: Standing) -> MemberState {
        match standing.phase {
            _ if self.0.state.gate.is_closed() => MemberState::Draining,
            Phase::In if self.0.state.is_degraded() => MemberState::Degraded,
            Phase::In => MemberState::Ready,
            Phase::Warming => MemberState::Warming,
            Phase::Ejected => MemberState::Ejected,
            Phase::Probing => MemberState::Probing,
            Phase::Down => MemberState::Down,
            Phase::Up => MemberState::Up,
            Phase::Off => MemberState::Idle,
        }
    }

    /// Prefetches the cache line that a lease reads first and writes. It is a load whose result the caller does not
    /// wait for.
    #[inline]
    pub(crate) fn prefetch(&self) {
        std::hint::black_box(Arc::strong_count(&self.0));
    }

    /// Whether both handles are the same seat of the same edition.
    pub(crate) fn is_same_seat(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many handles to this seat exist.
    #[cfg(all(test, not(evenkeel_loom)))]
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    pub(crate) fn core(&self) -> &Arc<State> {
        &self.0.state
    }

    pub(crate) fn generation(&self) -> u64 {
        self.0.edition.generation()
    }

    /// Whether its health allows a pick.
    pub(crate) fn takes_requests(&self) -> bool {
        self.0.state.standing.get().takes_requests()
    }

    /// Whether it is below its limit, if it has one.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        // A gate with a limit has one cell.
        self.0.cell.has_room()
    }

    /// Whether its health and its slow start allow a pick that has drawn this random number.
    #[inline]
    pub(crate) fn admits(&self, now: Tick, draw: u64) -> bool {
        let standing = self.0.state.standing.get();
        match standing.phase {
            Phase::Warming => self.admits_in_part(standing, now, draw),
            _ => standing.takes_requests(),
        }
    }

    /// The part of [`admits`](Self::admits) for a slow start. Kept out of line so the common path stays small: while
    /// any endpoint is in slow start, every pick asks its candidates, and most of them are not in one.
    #[cold]
    #[inline(never)]
    fn admits_in_part(&self, standing: Standing, now: Tick, draw: u64) -> bool {
        let state = self.core();
        let share = state.share_after(state.warming_for(standing, now).unwrap_or_default());
        share >= 1.0 || (draw as f64) < share * u64::MAX as f64
    }

    /// The share of its requests that slow start leaves it now, up to 1.
    pub(crate) fn slow_start_share(&self, now: Tick) -> f64 {
        let state = self.core();
        let warming = state.warming_for(state.standing.get(), now);
        warming.map_or(1.0, |warming| state.share_after(warming))
    }

    /// Enters the gate with a request. Returns the epoch that goes with its lease.
    pub(crate) fn enter(&self) -> Result<u32, Refused> {
        self.enter_since(self.0.state.standing.epoch())
    }

    /// Enters the gate for a pick that has found the fleet calm: no member refused for its health or in slow start. It
    /// takes the epoch from the seat's cell. After a return, the cell shows the new epoch before the fleet is calm.
    #[inline]
    pub(crate) fn enter_in_calm(&self) -> Result<u32, Refused> {
        self.enter_since(self.0.cell.epoch())
    }

    /// Enters the gate. The epoch is read before that, so a result counts as late if anything has changed since.
    #[inline(always)]
    fn enter_since(&self, epoch: u32) -> Result<u32, Refused> {
        match self.0.cell.enter(self.0.edition.generation()) {
            Ok(()) => Ok(epoch),
            Err(refused) => Err(self.turned_back(refused)),
        }
    }

    #[cold]
    #[inline(never)]
    fn turned_back(&self, refused: Refused) -> Refused {
        let state = self.core();
        state.gate.turn_back(self.cell());
        // The refused request was counted inside for a moment, and may have been the last to leave.
        state.announce_if_drained(Tick::ZERO);
        refused
    }

    /// The lease of a request that has entered; it is counted on the board if the policy reads the board.
    #[inline]
    pub(crate) fn lease(&self, now: Reading, epoch: u32, probe: bool, board: bool) -> Lease<E> {
        let place = || self.0.state.place.as_ref();
        let on_board = board && place().is_some_and(|place| place.add(now.at));
        Lease::new(self.clone(), now, epoch, probe, on_board)
    }

    /// Enters with a request as the half-open probe, if a probe is due and no driver checks out of band.
    pub(crate) fn claim_probe(&self, now: Tick) -> Option<Lease<E>> {
        let state = self.core();
        let shared = &*state.shared;
        if shared.limits.max_probes.is_some() {
            state.give_up_probe(now);
        }
        if shared.prober.is_here(now) || !self.has_room() {
            return None;
        }
        let timeout = |times| probe_time(&shared.ejection, times);
        let epoch = state.standing.claim_probe(
            &**state,
            ProbedBy::Request,
            now,
            timeout,
            shared.longest_ejection(),
        )?;
        // If the probe is leaked, the next one is due when this one times out.
        shared
            .probe_due
            .lower(state.standing.get().probe_due_at(now));
        if self.enter().is_err() {
            state.call_off(epoch, now);
            return None;
        }
        Some(self.lease(Reading::fresh(now), epoch, true, false))
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }

    fn cell(&self) -> &Cell {
        &self.0.cell
    }
}

impl<E: Endpoint> Clone for Member<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Endpoint> fmt::Debug for Member<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id())
            .field("key", &self.endpoint().key())
            .field("weight", &self.weight().get())
            .field("state", &self.state())
            .field("in_flight", &self.in_flight())
            .field("score", &self.score())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn a_refused_request_is_not_inside() {
        let member = Member::alone("a".to_string());
        member.core().gate.close();
        assert_eq!(member.enter(), Err(Refused::Stale));
        assert_eq!(member.enter_in_calm(), Err(Refused::Stale));
        assert_eq!(member.in_flight(), 0);
    }

    /// The gate has become full or closed since the caller looked.
    #[test]
    fn a_probe_that_cannot_be_sent_leaves_its_place_to_another() {
        let member = Member::alone("a".to_string());
        let state = member.core();
        let ledger = &state.shared.ledger;
        ledger.set_limit(1);
        let length = Duration::from_millis(1);
        state.standing.place(&**state, Phase::In, Tick::ZERO);
        let epoch = state.standing.epoch();
        (state.standing).eject(&**state, epoch, Tick::ZERO, |times, _| times, |_| length);
        state.gate.close();
        assert!(member.claim_probe(Tick::ZERO.after(length)).is_none());
        assert_eq!(ledger.probes.taken(), 0);
        assert_eq!(state.standing.get().phase, Phase::Ejected);
    }

    /// From a failure on until upkeep finds that successes have taken it back.
    #[test]
    fn the_tracker_is_told_of_successes_while_it_holds_a_failure() {
        let member = Member::alone("a".to_string());
        let (state, now) = (member.core(), Tick::ZERO);
        let end = |outcome| {
            member.enter().unwrap();
            let lease = member.lease(Reading::fresh(now), state.standing.epoch(), false, false);
            lease.record(outcome);
        };
        let upkeep = || state.examine(now, &state.shared.usual());
        assert!(!state.gate.is_watched());
        end(Outcome::Failure);
        upkeep();
        assert!(state.gate.is_watched());
        (0..100).for_each(|_| end(Outcome::Success));
        assert_eq!(state.evidence(now), 0.0);
        assert!(state.gate.is_watched());
        upkeep();
        assert!(!state.gate.is_watched());
    }
}
