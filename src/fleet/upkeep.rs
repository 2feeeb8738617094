//! Upkeep: what is done now and then instead of at each request. Scores, ejections by score, what is
//! usual, freeing what no reader holds any more.

use super::Fleet;
use super::keys::Hashed;
use super::registry::{Freed, Registry};
use super::snapshot::Snapshot;
use crate::endpoint::Endpoint;
use crate::time::Tick;

/// How many members one pick looks at, when it does upkeep or looks for one to probe.
pub(super) const SLICE: usize = 64;

/// Who does upkeep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Upkeep {
    /// Picks, when it is due: ten times a second (more often if a tenth of [`Ejection::window`](crate::Ejection::window) is less, less
    /// often if 10 us per endpoint is more) and per 64 endpoints, one pick claims a slice of 64. The default.
    #[default]
    Picks,
    /// You, with [`Fleet::maintain`], about ten times a second. Picks then take no lock. If you do not call it, scores and the latencies of
    /// idle endpoints stand still; the usual latency is never known (so patience stays at 1 s), nor the request rate, a shortage of
    /// capacity or of room under the cap ([`Ejection::max_ejection_requests`](crate::Ejection::max_ejection_requests),
    /// [`spare_capacity_percent`](crate::Ejection::spare_capacity_percent)), nor what others refuse
    /// ([`Outcome::Overloaded`](crate::Outcome::Overloaded)); and a tracker of yours ejects by alarm only. Ejections in the request path,
    /// returns and drains go on.
    Caller,
}

impl<E: Endpoint> Fleet<E> {
    /// Does all upkeep now. Optional: by default picks do it in slices when it is due. For a timer of
    /// yours, with [`Upkeep::Caller`], or so that an idle fleet's numbers are fresh.
    pub fn maintain(&self) {
        let shared = &*self.inner.shared;
        let now = shared.now_for_all();
        // Before the states are read: an alarm that comes meanwhile is not lost.
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

    /// One slice, by a pick; nothing if another has it, or an update is under way.
    pub(super) fn upkeep_slice(&self, now: Tick) {
        let shared = &*self.inner.shared;
        // The claim comes first: else every pick would bang on the mutex while an update is stuck.
        if !shared.upkeep_due.claim(now, now.after(shared.interval())) {
            return;
        }
        // Not held up by an update.
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
    /// Takes out what nobody needs any more.
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
