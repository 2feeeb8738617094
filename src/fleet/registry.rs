//! The members by key, and how one set becomes the next. Everything here runs under the update mutex.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Inner;
use super::change::{Change, Slot};
use super::keys::{Hashed, KeyMap};
use super::remembered::Remembered;
use super::seats::{Members, Seating, Spare};
use super::snapshot::Snapshot;
use super::sweep::Sweep;
use crate::balancer::{Cursor, LoadBalancer, Picker, Random, View};
use crate::endpoint::Endpoint;
use crate::error::{BuildError, UpdateError};
use crate::health::{HealthTracker, ejection_limit};
use crate::member::{Member, Tracker};
use crate::shared::{Board, Shared};
use crate::sync::{Arc, yield_now};
use crate::time::Tick;

/// Makes a health tracker for each new endpoint.
pub(super) type MakeTracker<E> = dyn Fn(&E) -> Box<dyn HealthTracker> + Send + Sync;

pub(super) struct Registry<E: Endpoint> {
    pub(super) slots: Vec<Slot<E>>,
    pub(super) index: KeyMap<E::Key, usize>,
    pub(super) policy: Arc<dyn LoadBalancer<E>>,
    pub(super) make_tracker: Option<Box<MakeTracker<E>>>,
    pub(super) cursor: Cursor,
    pub(super) remembered: Remembered<E::Key>,
    pub(super) sweep: Sweep,
    pub(super) board: Board,
    /// The edition of the snapshot in force.
    edition: u64,
    /// Retired snapshots that a reader may still hold.
    retired: Vec<Arc<Snapshot<E>>>,
    spare: Spare<E>,
}

/// What is to be dropped after unlocking: snapshots, and handles taken out of an array of seats that is used again.
pub(super) type Freed<E> = (Vec<Arc<Snapshot<E>>>, Vec<Member<E>>);

/// Runs code of the user's, and turns a panic in it into an error.
fn guarded<T>(what: &'static str, f: impl FnOnce() -> T) -> Result<T, UpdateError> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|_| UpdateError::Panicked { what })
}

/// Checks whether a policy's settings are in range.
pub(super) fn check<E: Endpoint>(policy: &dyn LoadBalancer<E>) -> Result<(), BuildError> {
    guarded("policy", || policy.check())?
}

impl<E: Endpoint> Registry<E> {
    pub(super) fn new(
        policy: Arc<dyn LoadBalancer<E>>,
        make_tracker: Option<Box<MakeTracker<E>>>,
        cursor: Cursor,
    ) -> Self {
        Self {
            slots: Vec::new(),
            index: KeyMap::default(),
            policy,
            make_tracker,
            cursor,
            remembered: Remembered::new(),
            sweep: Sweep::default(),
            board: Board::new(),
            edition: 0,
            retired: Vec::new(),
            spare: Spare::none(),
        }
    }

    /// Makes the tracker of a new endpoint.
    pub(super) fn tracker(&self, endpoint: &E) -> Result<Tracker, UpdateError> {
        match &self.make_tracker {
            None => Ok(Tracker::built_in()),
            Some(make) => guarded("health tracker", || make(endpoint)).map(Tracker::custom),
        }
    }

    /// Remembers the members that do not stay, in a fleet of `live`. Keys that are forgotten for it go to `out`.
    pub(super) fn remember_all_but(
        &mut self,
        stays: impl Fn(usize) -> bool,
        now: Tick,
        live: usize,
        out: &mut Vec<Hashed<E::Key>>,
    ) {
        let mut leaving: Vec<_> = self
            .index
            .iter()
            .filter(|(_, place)| !stays(**place))
            .map(|(key, &place)| (self.slots[place].past_ejection(), place, key))
            .collect();
        // The oldest ejection first, as the first is the first to be forgotten. Sorted, as the map has no order.
        leaving
            .sort_unstable_by_key(|(past_ejection, place, _)| (past_ejection.ejected_at, *place));
        for (past_ejection, _, key) in leaving {
            self.remembered
                .keep(key.clone(), past_ejection, now, live, out);
        }
    }

    /// Builds the snapshot of the set after this change, with a picker of this policy.
    pub(super) fn snapshot(
        &mut self,
        policy: &dyn LoadBalancer<E>,
        change: &Change<E>,
    ) -> Result<Snapshot<E>, UpdateError> {
        self.snapshot_with(change, |view| guarded("policy", || policy.picker(view)))
    }

    fn snapshot_with<X>(
        &mut self,
        change: &Change<E>,
        prepare: impl FnOnce(&View<'_, E>) -> Result<Box<dyn Picker<E>>, X>,
    ) -> Result<Snapshot<E>, X> {
        let seating = self.spare.seat(change.next(&self.slots));
        let view = View::with_cursor(seating.first(), self.cursor.clone());
        let picker = prepare(&view)?;
        let (reads_board, judges_panic) = (view.reads_board(), view.judges_panic());
        // All members of a fleet share one `Shared`, so the first one tells whether endpoints have limits.
        let is_limited = |first: &Member<E>| first.core().shared.limits_endpoints;
        let picks_of_all = view.picks_of_all() && !seating.first().first().is_some_and(is_limited);
        let Seating { members, count, .. } = seating;
        Ok(Snapshot {
            seats: members,
            count,
            other_seats: seating.others,
            edition: self.edition + 1,
            unroutable: unroutable(change.next(&self.slots)),
            picker,
            reads_board,
            picks_of_all,
            judges_panic,
        })
    }

    /// As [`snapshot`](Self::snapshot), for removals and drains, which must not fail: if the policy panics, a weighted
    /// random one stands in until the next change.
    pub(super) fn snapshot_or_stand_in(
        &mut self,
        change: &Change<E>,
        shared: &Shared,
    ) -> Snapshot<E> {
        let policy = self.policy.clone();
        self.snapshot(&*policy, change).unwrap_or_else(|_| {
            shared.counters.policy_faults.count();
            let random = |view: &View<'_, E>| Ok::<_, Infallible>(Random::new().picker(view));
            let Ok(stand_in) = self.snapshot_with(change, random);
            Snapshot {
                // Leases stay on the board until the policy is back, which may read it.
                reads_board: true,
                ..stand_in
            }
        })
    }

    /// Puts a change in force. Nothing can fail from here on, and the change is left with what it replaced. The order
    /// keeps the promises: the cap on ejections holds before and after the one store that publishes, and a gate is
    /// closed only when the snapshot without its member can be found.
    pub(super) fn commit(
        &mut self,
        inner: &Inner<E>,
        change: &mut Change<E>,
        snapshot: Snapshot<E>,
        now: Tick,
    ) {
        let shared = &*inner.shared;
        let (count, judges_panic) = (snapshot.count, snapshot.judges_panic);
        let limit = ejection_limit(&shared.ejection, count);
        change.apply(&mut self.slots);
        let slots = &self.slots;
        change.settle_arriving(slots, now);
        change.hold_leaving(slots, now);
        if shared.slow_start.new_endpoints {
            change.warm_new(slots, count, now);
        }
        if limit < shared.ledger.read().limit {
            shared.ledger.set_limit(limit);
            // An alarm may hold a slot whose member is not ejected yet, or eject a member that leaves: nothing is
            // published before the cap holds. Such an alarm is a few instructions from its end.
            while shared.ledger.read().ejected > limit {
                change.hold_leaving(slots, now);
                Self::pardon_down_to(limit, shared, slots, now);
                yield_now();
            }
        }
        change.hold_ejected_before(slots, now);
        shared.set_interval(slots.len());
        self.edition = snapshot.edition;
        let old = inner.current.swap(Arc::new(snapshot));
        change.shut_replaced(slots);
        change.settle(slots, now);
        shared.ledger.set_limit(limit);
        shared.ledger.set_judged_by_policy(judges_panic);
        shared.ledger.set_count(count);
        if (!judges_panic || count == 0) && self.cursor.forgets_panic() {
            shared.panic_is_over(now);
        }
        change.resume_ejections(slots, now);
        shared.settle_panic(now);
        self.retired.push(old);
        self.board.prune();
        change.freed = self.free_retired(&inner.current.load());
    }

    /// Returns ejected members to rotation, the earliest ejected first, until no more than `limit` are ejected.
    fn pardon_down_to(limit: usize, shared: &Shared, slots: &[Slot<E>], now: Tick) {
        let mut ejected: Vec<_> = slots
            .iter()
            .filter(|slot| slot.is_routable())
            .map(|slot| slot.member.core())
            .filter(|core| core.standing.get().is_ejected())
            .collect();
        ejected.sort_by_key(|core| core.ejected_at());
        for core in ejected {
            if shared.ledger.read().ejected <= limit {
                break;
            }
            core.pardon(now);
        }
    }

    /// Takes out the retired snapshots that no reader holds any more, to be dropped after unlocking. A reader never has
    /// the last reference: it would pay for freeing the whole set.
    pub(super) fn free_retired(&mut self, in_force: &Snapshot<E>) -> Freed<E> {
        let (held, mut free): (_, Vec<_>) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition(|snapshot| Arc::strong_count(snapshot) > 1);
        self.retired = held;
        let mut unseated = Vec::new();
        // Arrays with several seats per member are no use: the seats of one member do not stand together.
        let last = free.last_mut().and_then(Arc::get_mut);
        if let Some(last) = last.filter(|last| last.other_seats + in_force.other_seats == 0) {
            let seats = std::mem::take(&mut last.seats);
            unseated = self.spare.keep(seats, &in_force.seats);
        }
        (free, unseated)
    }
}

fn unroutable<'a, E: Endpoint>(slots: impl Iterator<Item = &'a Slot<E>>) -> Members<E> {
    let unroutable = slots.filter(|slot| !slot.is_routable());
    unroutable.map(|slot| slot.member.clone()).collect()
}
