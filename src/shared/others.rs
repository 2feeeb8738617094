//! How the others fare, for one that fails far more often than they do: of few endpoints its own failures are a large part of what is usual, and
//! held against that it would look like all.

use super::Shared;
use super::trend::Trend;
use crate::health::{Counts, Usual, least_share};
use crate::sync::{AtomicU64, Ordering};

/// Requests that a fleet is taken to have had without a failure, so that the first of few failures says
/// little about all.
pub(crate) const PRIOR: f64 = 50.0;

/// Only of one that is proven to fail more often than this, and than they may: else its failures and theirs may be one thing.
const FAR: f64 = 0.1;

/// Who has fewer than one in so many requests changes little of what is usual.
const LITTLE: u64 = 10;

/// What upkeep has counted of all, those that stand out apart.
#[derive(Debug)]
pub(super) struct Counted {
    requests: AtomicU64,
    faults: AtomicU64,
    /// 1 where those that stand out are not among them.
    is_apart: AtomicU64,
}

impl Counted {
    pub(super) fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            is_apart: AtomicU64::new(0),
        }
    }

    fn set(&self, all: Counts, is_apart: bool) {
        // ORDERING: Relaxed, all, here and below. Statistics; two that do not go together are off by one upkeep's worth.
        self.requests.store(all.total, Ordering::Relaxed);
        self.faults.store(all.faults, Ordering::Relaxed);
        self.is_apart.store(is_apart.into(), Ordering::Relaxed);
    }

    /// The share that failed of the others' requests, beside one with these counts that stands out or not; `None` if it is not proven
    /// that it fails far more often.
    fn of_others(&self, own: Counts, stands_out: bool) -> Option<f64> {
        // ORDERING: Relaxed, all. As above.
        let (all, failed) = (
            self.requests.load(Ordering::Relaxed),
            self.faults.load(Ordering::Relaxed),
        );
        let is_little = own.total.saturating_mul(LITTLE) < all;
        if is_little || (stands_out && self.is_apart.load(Ordering::Relaxed) != 0) {
            return None;
        }
        let requests = all.saturating_sub(own.total) as f64;
        let faults = (failed.saturating_sub(own.faults) as f64).min(requests);
        let most = 1.0 - least_share(requests - faults, requests);
        let least = least_share(own.faults as f64, own.total as f64);
        (least > FAR.max(most)).then_some(faults / (requests + PRIOR))
    }
}

impl Trend {
    /// What upkeep has counted of all, but for those that stand out if they are apart.
    pub(crate) fn count(&self, all: Counts, is_apart: bool) {
        self.counted.set(all, is_apart);
    }
}

impl Shared {
    /// What is usual elsewhere now, for an outcome of this shard's at an endpoint with these counts, that is under suspicion or not, and stands out or
    /// not.
    pub(crate) fn usual_elsewhere(
        &self,
        shard: usize,
        is_suspect: bool,
        (own, stands_out): (Counts, bool),
    ) -> Usual {
        let usual = self.usual_now(shard, is_suspect);
        if usual.error_rate() > f64::from(self.trend.error_rate()) {
            // The fault is in what all share.
            return usual;
        }
        match self.trend.counted.of_others(own, stands_out) {
            Some(others) => {
                let rate = usual.error_rate().min(others);
                usual.with_error_rate(rate)
            }
            None => usual,
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    const fn counts(total: u64, faults: u64) -> Counts {
        Counts { total, faults }
    }

    #[test]
    fn only_who_is_proven_to_fail_more_often_is_held_against_the_others() {
        let of_others = |own, all, stands_out| {
            let counted = Counted::new();
            counted.set(all, true);
            counted.of_others(own, stands_out)
        };
        // One of two, that failed five of its last 25 and the other none.
        assert_eq!(of_others(counts(25, 8), counts(50, 8), false), Some(0.0));
        // It is not in what was counted.
        assert_eq!(of_others(counts(25, 8), counts(50, 8), true), None);
        // The others failed as many.
        assert_eq!(of_others(counts(25, 8), counts(50, 16), false), None);
        // One in eight is no proof, and of the others nothing is known.
        assert_eq!(of_others(counts(8, 1), counts(50, 1), false), None);
        assert_eq!(of_others(counts(25, 8), counts(25, 8), false), None);
        // One of twenty.
        assert_eq!(of_others(counts(25, 25), counts(500, 25), false), None);
        // More have come since upkeep.
        assert_eq!(of_others(counts(60, 60), counts(100, 20), false), Some(0.0));
        assert_eq!(of_others(counts(0, 0), counts(0, 0), false), None);
    }
}
