//! Upkeep: what is done now and then instead of at each request. It updates scores, ejects by score, works out what is
//! usual in the fleet, and frees what no reader holds any more.

use super::Fleet;
use super::keys::Hashed;
use super::registry::{Freed, Registry};
use super::snapshot::Snapshot;
use crate::endpoint::Endpoint;
use crate::time::Tick;

/// How many members one pick looks at, when it does upkeep or searches for a member to probe.
pub(super) const SLICE: usize = 64;

/// What does upkeep: picks, or the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Upkeep {
    /// Picks do it when it is due. All endpoints are looked at ten times a second, and for each 64 of them one pick
    /// does a slice. More often if a tenth of [`Ejection::window`](crate::Ejection::window) is shorter than 100 ms,
    /// less often if 10 us per endpoint is longer. The default.
    #[default]
    Picks,
    /// You do it, with [`Fleet::maintain`], about ten times a second. Picks then take no lock.
    ///
    /// If you do not call it:
    ///
    /// - Scores, and the latencies of idle endpoints, do not change.
    /// - The usual latency stays unknown, so [patience](crate::FleetBuilder::patience) stays at 1 s.
    /// - The request rate ([`Ejection::max_ejection_requests`](crate::Ejection::max_ejection_requests)), a shortage of
    ///   capacity or of room under the cap ([`spare_capacity_percent`](crate::Ejection::spare_capacity_percent)), and
    ///   what others refuse ([`Outcome::Overloaded`](crate::Outcome::Overloaded)) stay unknown too.
    /// - A health tracker of yours ejects by alarm only.
    /// - A slow start ends, but nothing tells: its endpoint's [state](crate::Member::state) stays
    ///   [`Warming`](crate::MemberState::Warming).
    ///
    /// Ejections in the request path, returns and drains go on.
    Caller,
}

impl<E: Endpoint> Fleet<E> {
    /// Does all upkeep now. Optional: by default, picks do it in slices when it is due. Call it from a timer of yours,
    /// with [`Upkeep::Caller`], or to keep an idle fleet's numbers fresh.
    pub fn maintain(&self) {
        let shared = &*self.inner.shared;
        let now = shared.now_for_all();
        // Claimed before the states are read, so that an alarm in the meantime is not lost.
        let _ = shared.upkeep_due.claim(now, now.after(shared.interval()));
        shared.deadlines.wake(&shared.upkeep_due, now);
        // Dropped after unlocking.
        let _free;
        let mut registry = self.inner.registry.lock();
        let registry = &mut *registry;
        registry.sweep.restart();
        while !registry.sweep.slice(&registry.slots, shared, now) {}
        _free = registry.free(&self.inner.current.load(), now);
    }

    /// Does one slice of upkeep, for a pick. Does nothing if another pick has claimed it, or an update is under way.
    pub(super) fn upkeep_slice(&self, now: Tick) {
        let shared = &*self.inner.shared;
        // The claim comes first: otherwise every pick would try the mutex while an update is stuck.
        if !shared.upkeep_due.claim(now, now.after(shared.interval())) {
            return;
        }
        // Before the lock, so that an update does not delay it.
        shared.deadlines.wake(&shared.upkeep_due, now);
        let _free;
        let Some(mut registry) = self.inner.registry.try_lock() else {
            return;
        };
        let registry = &mut *registry;
        if registry.sweep.is_at_start() {
            shared.forget_old_readings(now);
        }
        if !registry.sweep.slice(&registry.slots, shared, now) {
            shared.upkeep_due.lower(now);
        }
        _free = registry.free(&self.inner.current.load(), now);
    }
}

impl<E: Endpoint> Registry<E> {
    /// Takes out what is no longer needed, to be dropped after unlocking.
    fn free(
        &mut self,
        in_force: &Snapshot<E>,
        now: Tick,
    ) -> (Freed<E>, Vec<Hashed<<E as Endpoint>::Key>>) {
        let mut keys = Vec::new();
        self.remembered.prune(now, self.slots.len(), &mut keys);
        (self.free_retired(in_force), keys)
    }
}
