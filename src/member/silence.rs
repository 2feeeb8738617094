//! What an endpoint costs that has not answered yet, and one that never does.

use super::state::State;
use crate::time::Tick;

/// What a request to a new endpoint costs, as a share of the usual cost, so that it is tried.
pub(super) const PROMISE: f32 = 0.85;

/// After this many requests within the window that ended without an answer, an endpoint no longer counts as new.
const ENOUGH: u32 = 3;

impl State {
    /// The factor on the cost of an endpoint that has not answered since it was new, once enough of its requests have
    /// ended without an answer; `None` otherwise. Each abandoned request adds to it: a caller had waited for it.
    ///
    /// Without this factor such an endpoint would be promising for ever, and would get nearly all requests where these do
    /// not overlap: requests that are given up before the fleet's patience is over, as for a hedge, are no faults.
    pub(super) fn silence(&self, now: Tick) -> Option<f32> {
        if self.latency.has_answers() {
            return None;
        }
        let (abandoned, others) = self.untold(now);
        (abandoned.saturating_add(others) >= ENOUGH).then(|| abandoned.max(1) as f32 / PROMISE)
    }
}
