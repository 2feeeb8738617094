//! The members by key, and how one set becomes the next. Everything here runs under the update mutex.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Changes;
use super::keys::{Hashed, KeyMap};
use super::remembered::Remembered;
use super::snapshot::Snapshot;
use super::upkeep::Sweep;
use crate::balancer::{Cursor, LoadBalancer, Random, View};
use crate::endpoint::{Endpoint, Weight};
use crate::error::UpdateError;
use crate::health::{HealthTracker, SlidingWindow, ejection_limit};
use crate::member::{Former, Gate, Member, Phase, Tracker};
use crate::shared::Shared;
use crate::sync::{Arc, SnapshotCell};
use crate::time::Tick;

/// Makes a tracker for each new endpoint.
pub(super) type MakeTracker = dyn Fn() -> Box<dyn HealthTracker> + Send + Sync;

/// What discovery or an operator says about an endpoint. It outranks the endpoint's own record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mark {
    /// Takes requests, whatever its health.
    Up,
    /// Takes none.
    Down,
    /// Its health decides. The default.
    #[default]
    Auto,
}

pub(super) struct Registry<E: Endpoint> {
    pub(super) slots: Vec<Slot<E>>,
    pub(super) index: KeyMap<E::Key, usize>,
    pub(super) policy: Arc<dyn LoadBalancer<E>>,
    pub(super) make_tracker: Option<Box<MakeTracker>>,
    pub(super) cursor: Cursor,
    pub(super) remembered: Remembered<E::Key>,
    pub(super) sweep: Sweep,
    /// Snapshots that a reader may still hold.
    retired: Vec<Arc<Snapshot<E>>>,
}

pub(super) struct Slot<E: Endpoint> {
    pub(super) member: Member<E>,
    pub(super) draining: bool,
    pub(super) mark: Mark,
    /// The ejection that it had when it left rotation for a weight of 0.
    former: Option<Former>,
}

impl<E: Endpoint> Clone for Slot<E> {
    fn clone(&self) -> Self {
        Self {
            member: self.member.clone(),
            ..*self
        }
    }
}

impl<E: Endpoint> Slot<E> {
    const fn new(member: Member<E>) -> Self {
        Self {
            member,
            draining: false,
            mark: Mark::Auto,
            former: None,
        }
    }

    pub(super) fn is_routable(&self) -> bool {
        !self.draining && self.member.weight() > Weight::ZERO
    }

    /// Where it should stand, by its place in rotation and by somebody's word.
    pub(super) fn settle(&self, shared: &Shared, now: Tick) {
        let core = self.member.core();
        let standing = core.standing.get();
        let judged = standing.phase == Phase::In || standing.is_ejected();
        let phase = match self.mark {
            _ if !self.is_routable() => Phase::Off,
            Mark::Up => Phase::Up,
            Mark::Down => Phase::Down,
            Mark::Auto if judged => return,
            Mark::Auto => Phase::In,
        };
        if standing.is_ejected() && phase != Phase::Off {
            core.readmit(now);
        }
        core.standing.place(&shared.ledger, phase, now);
    }
}

/// The next set, before it is published; after that, what is left over of the last one. It is declared
/// before the lock is taken, so that the users' values in it are dropped after unlocking.
pub(super) struct Change<E: Endpoint> {
    pub(super) slots: Vec<Slot<E>>,
    /// Slots of `slots` that are new, or whose place in rotation may have changed.
    touched: Vec<usize>,
    /// Members whose data is replaced.
    renewed: Vec<Member<E>>,
    /// Members that take no more requests, with their place in rotation taken away.
    leaving: Vec<Slot<E>>,
    /// Who comes into rotation with an ejection from before.
    ejected_before: Vec<(usize, Former)>,
    pub(super) counts: Changes,
    snapshots: Vec<Arc<Snapshot<E>>>,
    pub(super) keys: Vec<Hashed<E::Key>>,
}

impl<E: Endpoint> Change<E> {
    pub(super) fn to(slots: Vec<Slot<E>>) -> Self {
        Self {
            slots,
            touched: Vec::new(),
            renewed: Vec::new(),
            leaving: Vec::new(),
            ejected_before: Vec::new(),
            counts: Changes::default(),
            snapshots: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Takes this one out of rotation for good.
    pub(super) fn leave(&mut self, slot: &Slot<E>) {
        self.leaving.push(Slot {
            draining: true,
            ..slot.clone()
        });
    }

    /// Adds a member, with what is remembered of it.
    pub(super) fn add(&mut self, member: Member<E>, former: Option<Former>) -> usize {
        let at = self.slots.len();
        if let Some(former) = former {
            member.core().standing.remember(former.standing);
        }
        self.slots.push(Slot {
            former: former.filter(|former| former.standing.is_ejected()),
            ..Slot::new(member)
        });
        self.touch(at);
        self.counts.added += 1;
        at
    }

    /// Puts another incarnation in the place of a draining one.
    pub(super) fn revive(&mut self, at: usize, member: Member<E>) {
        self.slots[at] = Slot::new(member);
        self.touch(at);
        self.counts.added += 1;
    }

    /// The slot's place in rotation may have changed. An ejection is kept for as long as it is out, and
    /// resumed when it is in again, unless somebody's word says where it stands.
    fn touch(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let core = slot.member.core();
        if !slot.is_routable() {
            let ejected = Some(core.former()).filter(|now| now.standing.is_ejected());
            slot.former = ejected.or(slot.former);
        } else if let Some(former) = slot.former.take().filter(|_| slot.mark == Mark::Auto) {
            core.hold_out();
            self.ejected_before.push((at, former));
            return;
        }
        self.touched.push(at);
    }

    /// Replaces the data of the slot at `at`. Its place, its state and its mark stay.
    pub(super) fn renew(&mut self, at: usize, endpoint: E, weight: Weight) {
        let slot = &mut self.slots[at];
        let state = slot.member.core().clone();
        let generation = Gate::next_generation(slot.member.generation());
        slot.member = Member::new(endpoint, weight, generation, state);
        self.renewed.push(slot.member.clone());
        self.touch(at);
        self.counts.updated += 1;
    }
}

/// Runs code of the user's: a panic in it becomes an error.
fn guarded<T>(what: &'static str, f: impl FnOnce() -> T) -> Result<T, UpdateError> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|_| UpdateError::Panicked { what })
}

impl<E: Endpoint> Registry<E> {
    pub(super) fn new(
        policy: Arc<dyn LoadBalancer<E>>,
        make_tracker: Option<Box<MakeTracker>>,
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
            retired: Vec::new(),
        }
    }

    /// A tracker for an endpoint that was not there.
    pub(super) fn tracker(&self, shared: &Shared) -> Result<Tracker, UpdateError> {
        match &self.make_tracker {
            None => Ok(Tracker::Window(SlidingWindow::new(&shared.ejection))),
            Some(make) => guarded("health tracker", make).map(Tracker::Custom),
        }
    }

    /// The policy's snapshot of these slots.
    pub(super) fn snapshot(
        &self,
        policy: &dyn LoadBalancer<E>,
        slots: &[Slot<E>],
    ) -> Result<Snapshot<E>, UpdateError> {
        let (routable, rest) = split(slots);
        let view = View::with_cursor(&routable, self.cursor.clone());
        let picker = guarded("policy", || policy.picker(&view))?;
        Ok(Snapshot {
            routable,
            rest,
            picker,
        })
    }

    /// As [`snapshot`](Self::snapshot), for a removal, which must not fail: where the policy panics, a
    /// weighted random one stands in until the next change.
    pub(super) fn snapshot_at_any_rate(&self, slots: &[Slot<E>], shared: &Shared) -> Snapshot<E> {
        self.snapshot(&*self.policy, slots).unwrap_or_else(|_| {
            shared.counters.policy_faults.count();
            let (routable, rest) = split(slots);
            let picker = Random::new().picker(&View::with_cursor(&routable, self.cursor.clone()));
            Snapshot {
                routable,
                rest,
                picker,
            }
        })
    }

    /// Puts a change in force; it is left with what it replaced. Nothing can fail from here on. The
    /// order keeps the promises: the cap on ejections holds before and after the one store that
    /// publishes, and a gate is closed only when the snapshot without its member can be found.
    pub(super) fn commit(
        &mut self,
        shared: &Shared,
        current: &SnapshotCell<Snapshot<E>>,
        change: &mut Change<E>,
        snapshot: Snapshot<E>,
        now: Tick,
    ) {
        let Change {
            slots,
            touched,
            renewed,
            leaving,
            ejected_before,
            ..
        } = change;
        let changing = || leaving.iter().chain(touched.iter().map(|&at| &slots[at]));
        // Who leaves rotation and holds a slot of the ledger gives it back; who comes into rotation can
        // be picked the moment it is published.
        changing()
            .filter(|slot| slot.is_routable() || slot.member.core().standing.get().is_ejected())
            .for_each(|slot| slot.settle(shared, now));
        let limit = ejection_limit(
            snapshot.routable.len(),
            shared.ejection.max_ejection_percent,
        );
        if limit < shared.ledger.read().limit {
            Self::shrink(shared, slots, limit, now);
        }
        let old = current.swap(Arc::new(snapshot));
        leaving
            .iter()
            .for_each(|slot| slot.member.core().gate.close());
        renewed.iter().for_each(|member| member.core().gate.renew());
        changing().for_each(|slot| slot.settle(shared, now));
        shared.ledger.set_limit(limit);
        // Held out of rotation until here, where the new limit counts.
        for &(at, former) in ejected_before.iter() {
            slots[at].member.core().resume(former, now);
        }
        std::mem::swap(&mut self.slots, slots);
        self.retired.push(old);
        change.snapshots = self.free_retired();
    }

    /// Lowers the cap and lets back in, the longest ejected first, who is above it.
    fn shrink(shared: &Shared, slots: &[Slot<E>], limit: usize, now: Tick) {
        let tally = shared.ledger.set_limit(limit);
        if tally.ejected <= limit {
            return;
        }
        let mut ejected: Vec<_> = slots
            .iter()
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

    /// Takes out the retired snapshots that nobody holds any more, to be dropped after unlocking. A
    /// reader never has the last reference: it would pay for the whole set.
    pub(super) fn free_retired(&mut self) -> Vec<Arc<Snapshot<E>>> {
        let (held, free) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition(|snapshot| Arc::strong_count(snapshot) > 1);
        self.retired = held;
        free
    }
}

type Members<E> = Box<[Member<E>]>;

/// Those of these slots that may take requests, and the others.
fn split<E: Endpoint>(slots: &[Slot<E>]) -> (Members<E>, Members<E>) {
    let members = |routable: bool| {
        let wanted = slots.iter().filter(|slot| slot.is_routable() == routable);
        wanted.map(|slot| slot.member.clone()).collect()
    };
    (members(true), members(false))
}
