//! Finding whom to probe, and keeping probes to a share of the picks.

use super::Fleet;
use super::snapshot::Snapshot;
use super::upkeep::SLICE;
use crate::endpoint::Endpoint;
use crate::member::Lease;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// Where the search for a member to probe has got to. Whoever is searching has taken it; others go on
/// with their picks.
#[derive(Debug)]
pub(super) struct ProbeSearch {
    taken: AtomicU64,
    /// Where the next slice begins.
    at: AtomicU64,
    /// How many members this search has still to look at; 0 between searches.
    left: AtomicU64,
    /// When the next of those that it has looked at is due.
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
        // ORDERING: Relaxed, here and below, all words: whoever has taken the search is alone with
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

    /// A probe was found: the next search begins behind it, so that nobody is always the first.
    fn found(&self, next: u64) {
        // ORDERING: Relaxed, both. As in `slice`.
        self.left.store(0, Ordering::Relaxed);
        self.at.store(next, Ordering::Relaxed);
    }

    /// Nobody was due in this slice, and one of them will be at `earliest`. `None` if there are more to
    /// look at; else when the first of all is due.
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
    /// Makes this pick a probe, if one is due and enough others were none. Looks at a slice of the
    /// members; a search goes through all of them, a slice a pick. Where nobody is eligible no pick has anything better to
    /// do, if this fleet `is_all` it can go to.
    pub(super) fn probe(&self, now: Tick, is_all: bool) -> Option<Lease<E>> {
        let shared = &*self.inner.shared;
        let search = &self.inner.probe_search;
        if shared.ledger.read().ejected == 0 {
            return None;
        }
        // Who checks out of band probes too: then no request has to.
        let due = shared.probe_due.is_due(now) && !shared.prober.is_here(now);
        let is_turn = shared.may_probe() || (is_all && self.nobody_is_eligible());
        if !is_turn || !due || !search.take() {
            return None;
        }
        let found = self.look(now);
        search.give_back();
        found
    }

    fn nobody_is_eligible(&self) -> bool {
        let refused = self.inner.shared.ledger.read().refused();
        refused >= self.inner.current.load().count
    }

    fn look(&self, now: Tick) -> Option<Lease<E>> {
        let shared = &*self.inner.shared;
        let search = &self.inner.probe_search;
        let longest = shared.longest_ejection();
        // Before the members are looked at: an ejection that comes meanwhile is not lost.
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
                    shared.probe_sent();
                    search.found(at + 1);
                    shared.probe_due.lower(now);
                    return Some(probe);
                }
            } else if standing.is_ejected() {
                earliest = earliest.min(standing.probe_due_at(now));
            }
        }
        // An update may have moved a member behind the search, so it is repeated after an interval,
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

    /// Two picks search at once, one finding something due at 5, the other at 7, in a set of two slices:
    /// whoever comes last knows the earlier time, and no slice is looked at twice.
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
