//! What an endpoint costs that has not answered yet, and one that never does.

use super::state::State;
use crate::time::Tick;

/// What a request to a new endpoint costs, as a share of the usual cost, so that it is tried.
pub(super) const PROMISE: f32 = 0.85;

/// After this many requests within the window that ended without an answer, an endpoint no longer counts as new.
const ENOUGH: u32 = 3;

/// How many requests end without an answer in a row once in a thousand times at an endpoint that answers, where callers
/// abandon this share of what they send to such endpoints; at least [`ENOUGH`].
fn enough(abandoned: f32) -> u32 {
    const MOST: f32 = 0.99;
    let by_chance = 1e-3f32.ln() / abandoned.clamp(0.0, MOST).ln();
    ENOUGH.max(by_chance.ceil() as u32)
}

impl State {
    /// The factor on the cost of an endpoint that has not answered since it was new, once enough of its requests have
    /// ended without an answer; `None` otherwise. Each abandoned request adds to it: a caller had waited for it. Where
    /// most requests are abandoned, also at endpoints that answer, it takes as many as chance does not explain.
    ///
    /// Without this factor such an endpoint would be promising for ever, and would get nearly all requests where these
    /// do not overlap: requests that are given up before the fleet's patience is over, as for a hedge, are no faults.
    pub(super) fn silence(&self, now: Tick) -> Option<f32> {
        if self.latency.has_answers() {
            return None;
        }
        let (abandoned, others) = self.untold(now);
        let enough = enough(self.shared.rates.abandoned_rate());
        (abandoned.saturating_add(others) >= enough).then(|| abandoned.max(1) as f32 / PROMISE)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_abandoned_elsewhere_the_less_it_tells() {
        let rates = [0.0, 0.1, 0.5, 0.9, 0.95, 1.0, f32::NAN];
        assert_eq!(rates.map(enough), [3, 3, 10, 66, 135, 688, 3]);
    }
}
