//! What a request to a member costs, for policies that compare costs on the board.

use super::silence::PROMISE;
use super::state::State;
use crate::health::{HALF_BUCKETS, Rule, Usual, cost_of_latency, error_penalty, suspect_factor};
use crate::shared::Place;
use crate::time::{Tick, nanos};

impl State {
    /// Shows policies what a request costs here. A new endpoint costs less than usual, so that it is tried: else the
    /// first with a second answer as good as its first would look better than all with one answer, and keep its lead.
    pub(super) fn publish(&self, now: Tick, latency: f32, set: impl Fn(&Place, f32)) {
        // On parole it has few answers. What exceeds the usual is likely chance, so it counts in proportion only.
        let is_known = !self.is_on_parole(now);
        let latency = match (self.latency.is_new(), usual_nanos(&self.shared.usual())) {
            (true, Some(usual)) => PROMISE * latency.min(usual),
            // Unknown: the picker decides what that costs.
            (true, None) => 0.0,
            (false, Some(usual)) if is_known => {
                cost_of_latency(latency, usual, self.shared.rates.noise())
            }
            (false, _) => latency,
        };
        let penalty = self.penalty.get();
        self.place
            .iter()
            .for_each(|place| set(place, latency * penalty));
    }

    /// Sets what errors multiply the cost by. It counts the window's later half, so errors do not weigh for long on an
    /// endpoint with few requests since. It leaves out the buckets up to the last in which most requests failed
    /// everywhere, once that is over: else they would weigh longest on endpoints with few requests since.
    pub(super) fn set_penalty(&self, now: Tick, usual: &Usual) {
        let tenths = self.shared.tenths_since_common_fault(now);
        let counts = self.gate.last(tenths.min(HALF_BUCKETS), now);
        // As long as the counts show it: an endpoint that gets no requests has a row for ever.
        let row = self.rule().map_or(0, Rule::faults_in_a_row);
        let row = row.min(counts.faults);
        // As a common fault begins, upkeep's share is still that from before.
        let fails = usual.error_rate().max(self.shared.common_error_rate(now));
        let mut penalty = error_penalty(counts.faults, counts.total, row, fails);
        penalty *= self.sparing_factor(now) * self.silence(now).unwrap_or(1.0);
        if self.is_suspect(now) {
            penalty *= suspect_factor(usual.error_rate(), self.suspicion(now));
        }
        self.penalty.set(penalty);
        let own = self.latency.nanos();
        let untried = self.place.as_ref().filter(|place| place.has_had_no_turn());
        if let Some(place) = untried.filter(|_| own.is_none() && penalty == 1.0) {
            // Unknown: the picker decides what that costs. Upkeep looks at 64 members at a time, and what is usual
            // changes meanwhile: by costs that follow it, clients that start together would all send to the same one
            // next.
            place.adjust_cost(0.0);
        } else if let Some(latency) = own.or_else(|| usual_nanos(usual)) {
            self.publish(now, latency, Place::adjust_cost);
        }
    }

    /// The mean age of the requests in flight, as a multiple of what a request costs here; `None` if nothing is in
    /// flight, or the cost is not known.
    pub(crate) fn mean_age_in_costs(&self, usual: &Usual, now: Tick) -> Option<f32> {
        let place = self.place.as_ref()?;
        let age = place.waiting(now, usual.latency())?;
        Some(nanos(age) as f32 / place.cost()?)
    }
}

fn usual_nanos(usual: &Usual) -> Option<f32> {
    usual.latency().map(|latency| nanos(latency) as f32)
}
