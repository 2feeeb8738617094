//! The request path.

use super::Fleet;
use super::snapshot::Snapshot;
use crate::balancer::PickContext;
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::member::{Lease, Refused};
use crate::options::PickOptions;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// How many members one pick looks at, when it looks for one to probe or does upkeep.
pub(super) const SLICE: usize = 64;

/// How often a pick that meets a full member chooses again.
const FULL_CHOICES: u32 = 8;

/// Where the search for a member to probe has got to. Its words are written by whoever has claimed the
/// due-time, one at a time; the claim orders them.
#[derive(Debug)]
pub(super) struct ProbeSearch {
    at: AtomicU64,
    left: AtomicU64,
    earliest: AtomicU64,
}

impl ProbeSearch {
    pub(super) fn new() -> Self {
        Self {
            at: AtomicU64::new(0),
            left: AtomicU64::new(0),
            earliest: AtomicU64::new(u64::MAX),
        }
    }
}

impl<E: Endpoint> Fleet<E> {
    pub(super) fn pick(&self, options: &PickOptions<'_>) -> Result<Lease<E>, PickError> {
        let inner = &*self.inner;
        let shared = &*inner.shared;
        let now = shared.now();
        if inner.upkeep_by_picks && shared.upkeep_due.is_due(now) {
            self.upkeep_slice(now);
        }
        // A retry never becomes a probe: it has failed once already.
        if options.avoid.is_empty()
            && shared.ledger.read().ejected > 0
            && shared.probe_due.is_due(now)
        {
            if let Some(lease) = self.probe(now) {
                return Ok(lease);
            }
        }
        let mut full = 0;
        // Repeats only when an update has been completed since the snapshot, or for a full member.
        loop {
            let snapshot = inner.current.load();
            let regard = snapshot.regard(shared.ledger.read(), shared);
            let members = &snapshot.routable;
            let mut cx = PickContext::of_fleet(members, options, now, shared, regard);
            let index = snapshot.choose(&mut cx, shared)?;
            match members[index].enter(cx.shard(), now) {
                Ok(lease) => return Ok(lease),
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

    /// Looks at a slice of the members for one whose ejection is over, and takes this request to it. A
    /// search goes through all of them, a slice a pick, and starts again when a probe goes out.
    fn probe(&self, now: Tick) -> Option<Lease<E>> {
        let shared = &*self.inner.shared;
        let search = &self.inner.probe_search;
        let longest = shared.longest_ejection();
        if !shared.probe_due.claim(now, now.after(longest)) {
            return None;
        }
        let snapshot: &Snapshot<E> = &self.inner.current.load();
        let members = &snapshot.routable;
        // ORDERING: Relaxed, all four words of the search below. One claimant at a time; the claim's
        // exchange comes after the last claimant's `lower`, which orders them.
        let mut left = search.left.load(Ordering::Relaxed);
        if left == 0 {
            left = members.len() as u64;
            // ORDERING: Relaxed. As above.
            search.earliest.store(u64::MAX, Ordering::Relaxed);
        }
        // ORDERING: Relaxed. As above.
        let mut earliest = search.earliest.load(Ordering::Relaxed);
        let slice = left.min(SLICE as u64);
        // ORDERING: Relaxed. As above.
        let start = search.at.fetch_add(slice, Ordering::Relaxed);
        let mut found = None;
        for step in 0..slice {
            let Some(index) = start.wrapping_add(step).checked_rem(members.len() as u64) else {
                break;
            };
            let member = &members[index as usize];
            let standing = member.core().standing.get();
            if standing.probe_is_due(now, longest) {
                found = member.claim_probe(now);
                if found.is_some() {
                    break;
                }
            } else if standing.is_ejected() {
                earliest = earliest.min(standing.probe_due_at(now).as_nanos());
            }
        }
        left = if found.is_some() { 0 } else { left - slice };
        // ORDERING: Relaxed, both. As above.
        search.left.store(left, Ordering::Relaxed);
        search.earliest.store(earliest, Ordering::Relaxed);
        if found.is_some() || left > 0 {
            shared.probe_due.lower(now);
        } else {
            shared.probe_due.lower(Tick::from_nanos(earliest));
        }
        found
    }
}
