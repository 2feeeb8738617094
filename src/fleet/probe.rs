//! Finds the member to probe, and keeps probes to a share of the picks.

use super::Fleet;
use super::snapshot::Snapshot;
use super::upkeep::SLICE;
use crate::endpoint::Endpoint;
use crate::member::Lease;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::time::Tick;

/// Progress of the search for a member to probe. One pick at a time takes the search; others go on without it.
#[derive(Debug)]
pub(super) struct ProbeSearch {
    taken: AtomicBool,
    /// Position of the next slice, modulo the number of members.
    at: AtomicU64,
    /// How many members the present search has yet to look at; 0 between searches.
    left: AtomicU64,
    /// The earliest time at which one of the members looked at so far is due for a probe.
    earliest: AtomicU64,
}

impl ProbeSearch {
    pub(super) fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            at: AtomicU64::new(0),
            left: AtomicU64::new(0),
            earliest: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes the search; `false` if another pick has it.
    fn take(&self) -> bool {
        // ORDERING: Acquire. Pairs with `give_back`: the words of the last searcher are visible. Relaxed on failure:
        // nothing is read then.
        self.taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    fn give_back(&self) {
        // ORDERING: Release. Pairs with `take`.
        self.taken.store(false, Ordering::Release);
    }

    /// Returns the next slice of a search through this many members: where it begins, and its length.
    fn slice(&self, members: usize) -> (u64, u64) {
        // ORDERING: Relaxed, here and below, for all words: only the pick that has taken the search accesses them, and
        // `take` orders one owner after the other.
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

    /// Ends the search with a probe. The next search begins behind that member, so that no member always comes first.
    fn found(&self, next: u64) {
        // ORDERING: Relaxed, both. As in `slice`.
        self.left.store(0, Ordering::Relaxed);
        self.at.store(next, Ordering::Relaxed);
    }

    /// Ends a slice in which no member was due; `earliest` is when the first of them is. Returns `None` while the
    /// search has members left to look at, otherwise the earliest due time of the whole search.
    fn not_found(&self, earliest: Tick) -> Option<Tick> {
        // ORDERING: Relaxed. As in `slice`.
        let before = self
            .earliest
            .fetch_min(earliest.as_nanos(), Ordering::Relaxed);
        // ORDERING: Relaxed. As in `slice`.
        let done = self.left.load(Ordering::Relaxed) == 0;
        done.then(|| earliest.min(Tick::from_nanos(before)))
    }
}

impl<E: Endpoint> Fleet<E> {
    /// Turns this pick into a probe, if one is due and enough picks have gone by since the last one. Each pick looks at
    /// one slice of the members; a search goes through all of them.
    ///
    /// While no member is eligible, the share of picks does not matter, as no pick has anything better to do, provided
    /// that this fleet `is_all` the caller can go to.
    pub(super) fn probe(&self, now: Tick, is_all: bool) -> Option<Lease<E>> {
        let shared = &*self.inner.shared;
        let search = &self.inner.probe_search;
        if shared.ledger.read().ejected == 0 {
            return None;
        }
        // A driver of active checks sends the probes itself, so no request has to.
        let due = shared.probe_due.is_due(now) && !shared.prober.is_here(now);
        let is_turn = shared.may_probe() || (is_all && self.none_is_eligible());
        if !is_turn || !due || !search.take() {
            return None;
        }
        let found = self.look(now);
        search.give_back();
        found
    }

    fn none_is_eligible(&self) -> bool {
        let refused = self.inner.shared.ledger.read().refused();
        refused >= self.inner.current.load().count
    }

    fn look(&self, now: Tick) -> Option<Lease<E>> {
        let shared = &*self.inner.shared;
        let search = &self.inner.probe_search;
        let longest = shared.longest_ejection();
        // Claimed before the members are read, so that an ejection in the meantime is not lost.
        if !shared.probe_due.claim(now, now.after(longest)) {
            return None;
        }
        let snapshot: &Snapshot<E> = &self.inner.current.load();
        let members = snapshot.routable();
        let (start, length) = search.slice(members.len());
        let mut earliest = Tick::from_nanos(u64::MAX);
        for step in 0..length {
            let Some(at) = start.wrapping_add(step).checked_rem(members.len() as u64) else {
                break;
            };
            let member = &members[at as usize];
            let standing = member.core().standing.get();
            if standing.probe_is_due(now, longest) {
                if let Some(probe) = member.claim_probe(now) {
                    shared.note_probe_sent();
                    search.found(at + 1);
                    shared.probe_due.lower(now);
                    return Some(probe);
                }
            } else if standing.is_ejected() {
                earliest = earliest.min(standing.probe_due_at(now));
            }
        }
        // An update may move a member to where the search has been already, so the search repeats after an interval,
        // whatever it has seen.
        let next = search
            .not_found(earliest)
            .map_or(now, |earliest| earliest.min(now.after(shared.interval())));
        shared.probe_due.lower(next);
        None
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Two picks search a set of two slices at once; one finds a due time of 5, the other of 7. The one that finishes
    /// last reports the earlier time, and no slice is looked at twice.
    fn two_searchers(take: fn(&ProbeSearch) -> bool) {
        loom::model(move || {
            let search = Arc::new(ProbeSearch::new());
            let look = move |search: &ProbeSearch, due: u64| {
                take(search).then(|| {
                    let (start, _) = search.slice(2 * SLICE);
                    let end = search.not_found(Tick::from_nanos(due));
                    search.give_back();
                    (start, end)
                })
            };
            let other = search.clone();
            let thread = thread::spawn(move || look(&other, 5));
            let mine = look(&search, 7);
            let theirs = thread.join().unwrap();
            if let (Some((one, end)), Some((another, other_end))) = (mine, theirs) {
                assert_ne!(one, another, "a slice was looked at twice");
                let ends: Vec<_> = [end, other_end].into_iter().flatten().collect();
                assert_eq!(ends, [Tick::from_nanos(5)], "a due time was lost");
            }
        });
    }

    #[test]
    fn only_one_pick_searches_at_a_time() {
        two_searchers(ProbeSearch::take);
    }

    /// Broken: no pick takes the search.
    #[test]
    #[should_panic = "a due time was lost"]
    fn broken_variant_search_together() {
        two_searchers(|_| true);
    }
}
