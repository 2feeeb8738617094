//! What a sweep over the members has seen so far.

use std::time::Duration;

use crate::shared::Shared;

/// How far a sweep over the members has got.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    pub(super) next: usize,
    pub(super) latencies: Vec<Duration>,
}

impl Sweep {
    pub(super) fn restart(&mut self) {
        self.next = 0;
        self.latencies.clear();
    }

    /// All have been looked at: publishes what is usual.
    pub(super) fn finish(&mut self, shared: &Shared) {
        // Of an even number the lower: of two, the slow one is not what is usual.
        let middle = self.latencies.len().saturating_sub(1) / 2;
        let median =
            (!self.latencies.is_empty()).then(|| *self.latencies.select_nth_unstable(middle).1);
        shared.set_usual_latency(median);
        self.restart();
    }
}
