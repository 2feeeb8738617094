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

/// Where the search for a member to probe has got to. Whoever is searching has taken it; others go on
/// with their picks.
#[derive(Debug)]
pub(super) struct ProbeSearch {
    taken: AtomicU64,
    at: AtomicU64,
    left: AtomicU64,
    earliest: AtomicU64,
}

impl ProbeSearch {
    pub(super) fn new() -> Self {
        Self {
            taken: AtomicU64::new(0),
            at: AtomicU64::new(0),
            left: AtomicU64::new(0),
            earliest: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes it, unless somebody has.
    fn take(&self) -> bool {
        // ORDERING: Acquire. Pairs with `give_back`: the last searcher's words are read. Relaxed on
        // failure: nothing is done then.
        self.taken
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    fn give_back(&self) {
        // ORDERING: Release. Pairs with `take`.
        self.taken.store(0, Ordering::Release);
    }

    /// The next slice of a search through `members`: where it begins and how long it is.
    fn slice(&self, members: usize) -> (u64, u64) {
        // ORDERING: Relaxed, here and in `end`, all words: whoever has taken the search is alone with
        // them, and `take` orders one after the other.
        let mut left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            left = members as u64;
            // ORDERING: Relaxed. As above.
            self.earliest.store(u64::MAX, Ordering::Relaxed);
        }
        let length = left.min(SLICE as u64);
        // ORDERING: Relaxed, both. As above.
        self.left.store(left - length, Ordering::Relaxed);
        (self.at.fetch_add(length, Ordering::Relaxed), length)
    }

    /// A slice has been looked at: when to go on. At once after a find, from the start, or with members
    /// left; else at the earliest time that one of them all is due.
    fn end(&self, found: bool, earliest: Tick, now: Tick) -> Tick {
        if found {
            // ORDERING: Relaxed. As in `slice`.
            self.left.store(0, Ordering::Relaxed);
            return now;
        }
        // ORDERING: Relaxed. As in `slice`.
        let before = self
            .earliest
            .fetch_min(earliest.as_nanos(), Ordering::Relaxed);
        // ORDERING: Relaxed. As in `slice`.
        if self.left.load(Ordering::Relaxed) > 0 {
            return now;
        }
        Tick::from_nanos(before.min(earliest.as_nanos()))
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
        if !search.take() {
            return None;
        }
        let longest = shared.longest_ejection();
        let mut found = None;
        // Before the members are looked at: an ejection that comes meanwhile is not lost.
        if shared.probe_due.claim(now, now.after(longest)) {
            let snapshot: &Snapshot<E> = &self.inner.current.load();
            let members = &snapshot.routable;
            let (start, length) = search.slice(members.len());
            let mut earliest = Tick::from_nanos(u64::MAX);
            for step in 0..length {
                let at = start.wrapping_add(step) % members.len() as u64;
                let member = &members[at as usize];
                let standing = member.core().standing.get();
                if standing.probe_is_due(now, longest) {
                    found = member.claim_probe(now);
                    if found.is_some() {
                        break;
                    }
                } else if standing.is_ejected() {
                    earliest = earliest.min(standing.probe_due_at(now));
                }
            }
            let next = search.end(found.is_some(), earliest, now);
            shared.probe_due.lower(next);
        }
        search.give_back();
        found
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Two picks search at once, one finding something due at 5, the other at 7, in a set of two slices:
    /// whoever comes last knows the earlier time, and no slice is looked at twice.
    fn two_searchers(take: fn(&ProbeSearch) -> bool) {
        loom::model(move || {
            let search = Arc::new(ProbeSearch::new());
            let look = move |search: &ProbeSearch, due: u64| {
                take(search).then(|| {
                    let (start, _) = search.slice(2 * SLICE);
                    let next = search.end(false, Tick::from_nanos(due), Tick::ZERO);
                    search.give_back();
                    (start, next)
                })
            };
            let other = search.clone();
            let thread = thread::spawn(move || look(&other, 5));
            let mine = look(&search, 7);
            let theirs = thread.join().unwrap();
            if let (Some((one, _)), Some((another, _))) = (mine, theirs) {
                assert_ne!(one, another, "a slice was looked at twice");
                // One of them ended the search, and had seen what the other saw.
                let ends = [mine, theirs].into_iter().flatten().map(|(_, next)| next);
                let last = ends.filter(|next| *next > Tick::ZERO).collect::<Vec<_>>();
                assert_eq!(last, [Tick::from_nanos(5)], "a due time was lost");
            }
        });
    }

    #[test]
    fn one_searches_at_a_time() {
        two_searchers(ProbeSearch::take);
    }

    /// Broken: nobody takes it.
    #[test]
    #[should_panic = "a due time was lost"]
    fn broken_variant_search_together() {
        two_searchers(|_| true);
    }
}
