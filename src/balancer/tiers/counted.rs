//! When loads are counted again: as soon as any member's eligibility has changed, one slice per pick.

use crate::shared::Ledger;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The most members that one pick counts.
pub(super) const SLICE: usize = 256;

/// A version that no ledger reaches: its versions have 43 bits.
const NEVER: u64 = u64::MAX;

/// The version of eligibility that the loads in force were counted from, and the count under way. One pick at a time
/// claims the count; no pick waits for it.
#[derive(Debug)]
pub(super) struct Counted<T> {
    version: AtomicU64,
    under_way: Mutex<Count<T>>,
}

#[derive(Debug)]
struct Count<T> {
    /// The version at which the count under way began.
    version: u64,
    /// How many members have been counted; 0 between counts.
    at: usize,
    /// The result so far.
    found: T,
}

/// The members to count.
pub(super) trait Members<T> {
    /// The number of members.
    fn len(&self) -> usize;
    /// Resets the result for a new count.
    fn begin(&self, found: &mut T);
    /// Counts one member.
    fn count(&self, at: usize, found: &mut T);
    /// Puts the result in force.
    fn publish(&self, found: &mut T);
}

impl<T> Counted<T> {
    /// Starts with nothing counted.
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

    /// Whether any eligibility has changed since the count in force began.
    #[inline]
    pub(super) fn is_stale(&self, version: u64) -> bool {
        // ORDERING: Acquire. Pairs with the store in `continue_count`: a pick that finds the count complete sees what
        // it published.
        self.version.load(Ordering::Acquire) != version
    }

    /// Continues the count by a slice, unless another pick is at it; such a pick uses the loads in force. A change that
    /// comes during a count makes it stale on completion, so that it begins again.
    #[cold]
    pub(super) fn continue_count(&self, ledger: &Ledger, members: &impl Members<T>) {
        let Some(mut count) = self.under_way.try_lock() else {
            return;
        };
        let count = &mut *count;
        if count.at == 0 {
            // Read before any member is counted: a later change is either counted or makes this count stale.
            count.version = ledger.eligibility().version();
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
