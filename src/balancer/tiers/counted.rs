//! When loads are counted anew: as soon as anybody's eligibility has changed, by one pick, a slice at a time.

use crate::shared::Ledger;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// How many members one pick looks at, at most.
pub(super) const SLICE: usize = 256;

/// A count that no ledger is at: its versions have 43 bits.
const NEVER: u64 = u64::MAX;

/// Which version of what is eligible the loads in force have been counted from, and the count under way. It is
/// claimed by one pick at a time; nobody waits for it.
#[derive(Debug)]
pub(super) struct Counted<T> {
    version: AtomicU64,
    under_way: Mutex<Count<T>>,
}

#[derive(Debug)]
struct Count<T> {
    /// The version that the count under way began at.
    version: u64,
    /// How many have been counted; 0 between counts.
    at: usize,
    /// What has been found.
    found: T,
}

/// What there is to count.
pub(super) trait Members<T> {
    /// How many.
    fn len(&self) -> usize;
    /// Begins anew.
    fn begin(&self, found: &mut T);
    /// Looks at one.
    fn count(&self, at: usize, found: &mut T);
    /// Puts in force what was found.
    fn publish(&self, found: &mut T);
}

impl<T> Counted<T> {
    /// Nothing has been counted.
    pub(super) fn new(found: T) -> Self {
        Self {
            version: AtomicU64::new(NEVER),
            under_way: Mutex::new(Count {
                version: NEVER,
                at: 0,
                found,
            }),
        }
    }

    /// Whether anything has changed since the count in force began.
    #[inline]
    pub(super) fn is_stale(&self, version: u64) -> bool {
        // ORDERING: Acquire. Pairs with the store in `go_on`: who finds the count complete sees what it published.
        self.version.load(Ordering::Acquire) != version
    }

    /// Goes on with the count by a slice, if nobody else is at it; those go by the loads in force. A change that comes while
    /// it is under way makes it stale when it is complete, so that it is begun again.
    #[cold]
    pub(super) fn go_on(&self, ledger: &Ledger, members: &impl Members<T>) {
        let Some(mut count) = self.under_way.try_lock() else {
            return;
        };
        let count = &mut *count;
        if count.at == 0 {
            // Before anybody is looked at: what changes after is counted, or makes this stale.
            count.version = ledger.flips().version();
            members.begin(&mut count.found);
        }
        let end = members.len().min(count.at + SLICE);
        (count.at..end).for_each(|at| members.count(at, &mut count.found));
        count.at = end;
        if end == members.len() {
            count.at = 0;
            members.publish(&mut count.found);
            // ORDERING: Release. Publishes the loads; pairs with `is_stale`.
            self.version.store(count.version, Ordering::Release);
        }
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
