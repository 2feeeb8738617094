//! The request path.

use super::Fleet;
use crate::balancer::{HealthMode, PickContext};
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::member::{Lease, Refused};
use crate::options::PickOptions;
use crate::shared::Reading;
use crate::time::Tick;

/// A pick without endpoint limits fails after it has met this many full members. A member is full there only when its
/// counter is at its maximum.
const FULL_CHOICES: u32 = 8;

/// A pick with endpoint limits fails after it has met this many full members. It looks for room first, so each time
/// another request took the last place in between; that many lost races in a row do not happen.
const LOST_RACES: u32 = 1_000;

impl<E: Endpoint> Fleet<E> {
    #[inline]
    pub(super) fn pick(&self, options: &PickOptions<'_>) -> Result<Lease<E>, PickError> {
        self.pick_any::<false>(options)
    }

    /// Picks with a limit on the fleet's requests: takes a slot first. The lease gives the slot back when it ends. If
    /// the pick fails or the policy panics, the guard gives it back here.
    #[cold]
    fn pick_within_limit(&self, options: &PickOptions<'_>) -> Result<Lease<E>, PickError> {
        let slot = self.inner.shared.slot(options.is_repeated)?;
        let lease = self.pick_any::<true>(options)?;
        Ok(lease.with_slot(slot))
    }

    /// The fast path. Most of the time all is calm (no member is refused for its health or in slow start) and no upkeep
    /// is due, so there is nothing to do but to choose.
    ///
    /// Whether the fleet's requests are limited is checked here, unless the caller holds a slot already: that way the
    /// path with a limit is one jump away. Never inlined: next to the other paths, a lease would be built in one place
    /// and moved to another, which costs a tenth of a request (`cargo bench --bench cycle`).
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
        let now = shared.time(shared.shard_state(shard));
        // Loaded before the ledger is read: a member that an update brings in out of rotation is counted there by then.
        let snapshot = inner.current.load();
        // A reused clock reading cannot make upkeep newly due.
        if shared.is_calm(now.at) && !(now.is_fresh && self.upkeep_is_due(now.at)) {
            let members = snapshot.routable_by(shard);
            let seat = match snapshot.choose_of_all(members, options, now.at, shard, shared) {
                Some(seat) => seat,
                None => snapshot.choose_by_context(members, options, now.at, shard, shared)?,
            };
            if let Ok(epoch) = seat.enter_in_calm() {
                // Built in place, where it is returned: moving a lease costs as much as counting it.
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

    /// The slow path: something is due, some member may be refused, or an update has completed since the snapshot was
    /// loaded.
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
            // Deadlines are not decided by a reused clock reading.
            now = shared.refreshed(now);
            if self.upkeep_is_due(now.at) {
                self.upkeep_slice(now.at);
            }
            // A retry never becomes a probe: its request has failed once already.
            if !shared.ledger.is_quiet() && options.avoid.is_empty() && !options.without_probe {
                if let Some(probe) = self.probe(now.at, true) {
                    return Ok(probe);
                }
            }
        }
        let mut full = 0;
        // Repeats only when an update has completed since the snapshot was loaded, or when the chosen member is full
        // because another request took its last place. The latter repeats a limited number of times.
        loop {
            let snapshot = inner.current.load();
            let health_mode = snapshot.health_mode(shared, options, now.at)?;
            let members = snapshot.routable_by(shard);
            let mut cx =
                PickContext::of_fleet(members, options, now.at, shard, shared, health_mode);
            if health_mode != HealthMode::AllEligible && shared.is_warming(now.at) {
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
                        return Err(shared.saturated(options.is_repeated));
                    }
                }
            }
        }
    }
}
