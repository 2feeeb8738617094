//! The request path.

use super::Fleet;
use crate::balancer::{PickContext, Regard};
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::member::{Lease, Refused};
use crate::options::PickOptions;
use crate::shared::Reading;
use crate::time::Tick;

/// How often a pick that meets a member with as many requests as can be counted chooses again.
const FULL_CHOICES: u32 = 8;

/// How often one that is told at the gate that the member's last place went meanwhile. Each time another request took it;
/// so often in a row that does not happen.
const LOST_RACES: u32 = 1_000;

impl<E: Endpoint> Fleet<E> {
    #[inline]
    pub(super) fn pick(&self, options: &PickOptions<'_>) -> Result<Lease<E>, PickError> {
        self.pick_any::<false>(options)
    }

    /// Where the fleet's requests are limited: a slot first. The lease gives it back when it ends; should there be none, or
    /// a policy panic, it is given back here.
    #[cold]
    fn pick_within_limit(&self, options: &PickOptions<'_>) -> Result<Lease<E>, PickError> {
        let slot = self.inner.shared.slot()?;
        let lease = self.pick_any::<true>(options)?;
        Ok(lease.with_slot(slot))
    }

    /// All is well, most of the time: then there is nothing to look at but the choice. It is asked here whether requests
    /// are limited, unless the caller has a slot already: the path to it is then one jump. Never inlined: beside the other
    /// ways, a lease would be built in one place and moved to another, which costs a tenth of a request (`cargo bench --bench
    /// cycle`).
    #[inline(never)]
    fn pick_any<const HAS_SLOT: bool>(
        &self,
        options: &PickOptions<'_>,
    ) -> Result<Lease<E>, PickError> {
        let inner = &*self.inner;
        let shared = &*inner.shared;
        if !HAS_SLOT && shared.requests.is_some() {
            return self.pick_within_limit(options);
        }
        let shard = shared.shard();
        let now = shared.time(shared.own(shard));
        // Before the ledger is read: whom an update has brought in out of rotation is counted by then.
        let snapshot = inner.current.load();
        // By a reading that is used again, upkeep is no more due than it was.
        if shared.is_calm(now.at) && !(now.is_fresh && self.upkeep_is_due(now.at)) {
            let members = snapshot.routable_by(shard);
            let seat = match snapshot.choose_of_all(members, options, now.at, shard, shared) {
                Some(seat) => seat,
                None => snapshot.choose_by_context(members, options, now.at, shard, shared)?,
            };
            if let Ok(epoch) = seat.enter_in_calm() {
                // Built where it is returned: to move it costs as much as to count it.
                return Ok(seat.lease(now, epoch, false, snapshot.reads_board));
            }
        }
        drop(snapshot);
        self.pick_with_care(options, now)
    }

    #[inline]
    fn upkeep_is_due(&self, now: Tick) -> bool {
        self.inner.upkeep_by_picks && self.inner.shared.upkeep_due.is_due(now)
    }

    /// Where there is something to be done, somebody to be refused, or an update has been completed meanwhile.
    #[cold]
    #[inline(never)]
    fn pick_with_care(
        &self,
        options: &PickOptions<'_>,
        now: Reading,
    ) -> Result<Lease<E>, PickError> {
        let inner = &*self.inner;
        let shared = &*inner.shared;
        let shard = shared.shard();
        let mut now = now;
        if self.upkeep_is_due(now.at) || !shared.is_calm(now.at) {
            // What is decided by deadlines is not left to an old reading.
            now = shared.refreshed(now);
            if self.upkeep_is_due(now.at) {
                self.upkeep_slice(now.at);
            }
            // A retry never becomes a probe: it has failed once already.
            if !shared.ledger.is_quiet() && options.avoid.is_empty() && !options.without_probe {
                if let Some(probe) = self.probe(now.at, true) {
                    return Ok(probe);
                }
            }
        }
        let mut full = 0;
        // Repeats only when an update has been completed since the snapshot, or another request has taken the last place
        // at a member; of those so many at most.
        loop {
            let snapshot = inner.current.load();
            let regard = snapshot.regard(shared, options, now.at)?;
            let members = snapshot.routable_by(shard);
            let mut cx = PickContext::of_fleet(members, options, now.at, shard, shared, regard);
            if regard != Regard::NoneRefused && shared.is_warming(now.at) {
                cx = cx.with_slow_start();
            }
            let index = snapshot.choose(&mut cx, shared)?;
            let seat = &members[index];
            match seat.enter() {
                Ok(epoch) => return Ok(seat.lease(now, epoch, false, snapshot.reads_board)),
                Err(Refused::Stale) => {}
                Err(Refused::Full) => {
                    full += 1;
                    let most = if shared.limits_endpoints {
                        LOST_RACES
                    } else {
                        FULL_CHOICES
                    };
                    if full >= most {
                        return Err(shared.saturated());
                    }
                }
            }
        }
    }
}
