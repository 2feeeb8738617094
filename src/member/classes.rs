//! How often requests to an endpoint ended in each way, other than well: for display, off the fast path.

use crate::outcome::Outcome;
use crate::sync::{AtomicU32, Ordering};

/// How requests to an endpoint ended. See [`Member::outcomes`](super::Member::outcomes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcomes {
    /// Requests in the sliding window that ended well or in a fault: what the health score rests on.
    pub in_window: u64,
    /// Those of them that ended in a fault.
    pub faults_in_window: u64,
    /// Failures since the endpoint came, as the other counts below, probes included. Each wraps after 2^32.
    pub failures: u32,
    /// Timeouts, dropped leases that outlasted patience included.
    pub timeouts: u32,
    /// Times it was out of reach.
    pub unreachable: u32,
    /// Times it said it was overloaded.
    pub overloaded: u32,
    /// Times it said that it is going away.
    pub going_away: u32,
    /// Results that say nothing.
    pub ignored: u32,
    /// Leases dropped before patience was over.
    pub abandoned: u32,
}

#[derive(Debug, Default)]
pub(super) struct Classes([AtomicU32; 7]);

impl Classes {
    pub(super) fn count(&self, outcome: Outcome) {
        let class = match outcome {
            Outcome::Success => return,
            Outcome::Failure => 0,
            Outcome::Timeout => 1,
            Outcome::Unreachable => 2,
            Outcome::Overloaded { .. } => 3,
            Outcome::Ignored => 4,
            Outcome::Abandoned => 5,
            Outcome::GoingAway => 6,
        };
        // ORDERING: Relaxed. A statistic.
        self.0[class].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Outcomes {
        // ORDERING: Relaxed. As above.
        let count = |class: usize| self.0[class].load(Ordering::Relaxed);
        Outcomes {
            failures: count(0),
            timeouts: count(1),
            unreachable: count(2),
            overloaded: count(3),
            ignored: count(4),
            abandoned: count(5),
            going_away: count(6),
            ..Outcomes::default()
        }
    }
}
