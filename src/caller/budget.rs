//! The retry budget: how many retries are allowed for the requests of the last ten seconds.

use super::recent::{Counts, Event, Recent};
use crate::time::Tick;

#[derive(Debug)]
pub(super) struct Budget {
    percent: u64,
    floor: u64,
    recent: Recent,
}

impl Budget {
    pub(super) fn new(percent: u32, floor: u32) -> Self {
        Self {
            percent: percent.into(),
            floor: floor.into(),
            recent: Recent::new(),
        }
    }

    /// Counts the first attempt of a request. Beyond four million in one second, requests are not counted and earn
    /// nothing.
    pub(super) fn deposit(&self, now: Tick) {
        self.recent.add(now, Event::Request);
    }

    /// Takes one retry from the budget. Returns whether it was granted.
    pub(super) fn withdraw(&self, now: Tick) -> bool {
        let may = |counts| self.left_of(counts) > 0;
        self.recent.add_if(now, Event::Secondary, may)
    }

    /// Returns how many retries are allowed now. A hint: `withdraw` decides.
    pub(super) fn left(&self, now: Tick) -> u64 {
        self.left_of(self.recent.counts(now))
    }

    fn left_of(&self, counts: Counts) -> u64 {
        let earned = counts.requests * self.percent / 100;
        earned.max(self.floor).saturating_sub(counts.secondary)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
