//! The request path.

use super::Fleet;
use crate::balancer::{PickContext, Regard};
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::member::{Lease, Refused};
use crate::options::PickOptions;

/// How often a pick that meets a full member chooses again.
const FULL_CHOICES: u32 = 8;

impl<E: Endpoint> Fleet<E> {
    #[inline]
    pub(super) fn pick(&self, options: &PickOptions<'_>) -> Result<Lease<E>, PickError> {
        let inner = &*self.inner;
        let shared = &*inner.shared;
        let shard = shared.shard();
        let mut now = shared.time(shard);
        let is_due = |now| inner.upkeep_by_picks && shared.upkeep_due.is_due(now);
        if is_due(now.at) || !shared.is_calm(now.at) {
            // What is decided by deadlines is not left to an old reading.
            now = shared.refreshed(now);
            if is_due(now.at) {
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
        // Repeats only when an update has been completed since the snapshot, or for a full member.
        loop {
            let snapshot = inner.current.load();
            let regard = snapshot.regard(shared, options, now.at)?;
            let members = snapshot.routable();
            let mut cx = PickContext::of_fleet(members, options, now.at, shard, shared, regard);
            if regard != Regard::NoneRefused && shared.is_warming(now.at) {
                cx = cx.with_slow_start();
            }
            let index = snapshot.choose(&mut cx, shared)?;
            let seat = snapshot.seat(index, shard);
            match seat.enter() {
                // Built where it is returned: to move it costs as much as to count it.
                Ok(epoch) => return Ok(seat.lease(now, epoch, false, snapshot.reads_board)),
                Err(Refused::Stale) => {}
                Err(Refused::Full) => {
                    full += 1;
                    if full >= FULL_CHOICES {
                        return Err(PickError::Saturated);
                    }
                }
            }
        }
    }
}
