//! Whether the endpoints that are in can carry the load of those that are out. If not, the fleet is *short* of
//! capacity.

use std::time::Duration;

use super::Shared;
use crate::health::{FleetState, exceeds_spare};
use crate::sync::{AtomicBool, AtomicF32, AtomicU64, Ordering};

/// The fleet becomes short if answers take more than this many times their baseline latency.
const SHORT: f32 = 2.0;

/// The fleet stays short until answers take no more than this many times their baseline latency.
const ENOUGH: f32 = 1.5;

/// Time constants, in seconds, with which the baseline latency follows higher latencies, lower ones, and any while many
/// endpoints are out. What lasts for ten minutes counts as normal.
const RISES: f32 = 30.0;
const FALLS: f32 = 5.0;
const MOVES: f32 = 600.0;

/// An endpoint's baseline latency, which is the one it has while no more endpoints are out than
/// can be spared, in nanoseconds. 0 while unknown. Each endpoint has its own: if the fast endpoints are out, the others
/// are slower than the fleet was, although none of them has more to do.
#[derive(Debug)]
pub(crate) struct BaselineLatency(AtomicF32);

impl BaselineLatency {
    pub(crate) fn new() -> Self {
        Self(AtomicF32::new(0.0))
    }

    /// The baseline latency, if it is known.
    pub(crate) fn get(&self) -> Option<Duration> {
        let baseline = self.0.get();
        (baseline > 0.0).then(|| Duration::from_nanos(baseline as u64))
    }

    /// Updates the baseline latency with the current `latency`, `passed` seconds after the last time. The pair says
    /// whether more endpoints are out than can be spared, and whether the fleet is short. Returns the ratio of the
    /// latency to the baseline, or `None` if no baseline latency is known.
    fn update(&self, latency: f32, (many_out, is_short): (bool, bool), passed: f32) -> Option<f32> {
        // Only upkeep writes it, one thread at a time.
        let baseline = match self.0.get() {
            0.0 if is_short => return None,
            0.0 => latency.max(1.0),
            baseline => baseline,
        };
        let tau = match (many_out, latency > baseline) {
            (true, _) => MOVES,
            (_, true) => RISES,
            _ => FALLS,
        };
        let next = baseline + (latency - baseline) * (passed / tau).min(1.0);
        self.0.set(next.max(1.0));
        Some(latency / baseline)
    }
}

/// What upkeep has found out about the capacity.
#[derive(Debug, Default)]
pub(crate) struct Capacity {
    /// How many endpoints are in slow start after an ejection. New endpoints do not count: they add to the capacity.
    warming: AtomicU64,
    /// Whether more endpoints are out than can be spared and answers take far longer than the baseline.
    short: AtomicBool,
}

impl Capacity {
    fn warming(&self) -> usize {
        // ORDERING: Relaxed, all, here and below. Statistics, each complete in itself.
        self.warming.load(Ordering::Relaxed) as usize
    }

    fn is_short(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.short.load(Ordering::Relaxed)
    }

    /// Updates whether the fleet is short. `times` is the ratio of latencies to baseline ones; if it is unknown,
    /// nothing changes while many endpoints are out.
    fn update(&self, times: Option<f32>, many_out: bool) {
        let was_short = self.is_short();
        let most = if was_short { ENOUGH } else { SHORT };
        let is_short = many_out && times.map_or(was_short, |times| times > most);
        // ORDERING: Relaxed. As above.
        self.short.store(is_short, Ordering::Relaxed);
    }
}

impl Shared {
    /// Updates the baseline latency of an endpoint that takes requests, `passed` after upkeep last saw it. Returns the
    /// ratio of its latency to the baseline, if that is known.
    pub(crate) fn strain_of(
        &self,
        baseline: &BaselineLatency,
        latency: Duration,
        passed: Duration,
    ) -> Option<f32> {
        let latency = latency.as_nanos() as f32;
        let state = (self.many_are_out(), self.is_short());
        baseline.update(latency, state, passed.as_secs_f32())
    }

    /// Publishes what upkeep has counted: how many endpoints are in slow start after an ejection, and the ratio of
    /// latencies to baseline ones, if that is known.
    pub(crate) fn note_capacity(&self, warming: usize, times: Option<f32>) {
        // ORDERING: Relaxed. As above.
        (self.capacity.warming).store(warming as u64, Ordering::Relaxed);
        self.capacity.update(times, self.many_are_out());
    }

    /// Whether so many endpoints are out that the others have too much to do. This ends for the last ones to come back:
    /// as many as can be spared have their ejections counted as usual.
    pub(crate) fn is_short(&self) -> bool {
        self.capacity.is_short() && self.many_are_out()
    }

    /// The state of the fleet for the length of an ejection.
    pub(crate) fn fleet_state(&self) -> FleetState {
        let out = self.ledger.read().ejected.max(1);
        FleetState {
            short: self.is_short(),
            rate: f64::from(self.rates.rate()) / out as f64,
        }
    }

    /// The share of endpoints that are out or in slow start if the fleet is short, or else 0.
    pub(crate) fn missing(&self) -> f64 {
        if self.is_short() {
            self.out() as f64 / self.ledger.count().max(1) as f64
        } else {
            0.0
        }
    }

    fn many_are_out(&self) -> bool {
        exceeds_spare(&self.ejection, self.out(), self.ledger.count())
    }

    /// How many endpoints are out, or in slow start after an ejection. One that was ejected again since upkeep counted
    /// is in both counts, so the sum is capped at the number of members.
    fn out(&self) -> usize {
        let out = self.ledger.read().refused() + self.capacity.warming();
        out.min(self.ledger.count())
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    struct Endpoint(BaselineLatency, Capacity);

    fn endpoint() -> Endpoint {
        Endpoint(BaselineLatency::new(), Capacity::default())
    }

    /// Notes this latency ten times a second for `seconds`. Returns for how many seconds the fleet was short.
    fn during(of: &Endpoint, seconds: u32, latency: f32, many_out: bool) -> f32 {
        let noted = (0..10 * seconds).filter(|_| {
            let times = of.0.update(latency, (many_out, of.1.is_short()), 0.1);
            of.1.update(times, many_out);
            of.1.is_short()
        });
        noted.count() as f32 / 10.0
    }

    #[test]
    fn capacity_is_short_while_many_are_out_and_answers_take_twice_as_long() {
        let one = endpoint();
        assert_eq!(during(&one, 10, 10.0, false), 0.0);
        assert_eq!(during(&one, 10, 19.0, true), 0.0);
        assert_eq!(during(&one, 10, 25.0, true), 10.0);
        // Short until answers take no more than half as long again.
        assert_eq!(during(&one, 10, 17.0, true), 10.0);
        assert_eq!(during(&one, 10, 14.0, true), 0.0);
        assert_eq!(during(&one, 10, 17.0, true), 0.0);
        let nobody_missing = during(&one, 10, 100.0, false);
        assert_eq!(nobody_missing, 0.0);
    }

    #[test]
    fn a_lasting_latency_becomes_the_baseline() {
        let one = endpoint();
        during(&one, 10, 10.0, false);
        // From 10 to 50 with a time constant of 600 s: 1.5 times the baseline latency is below 50 for ln(40 / 16.7)
        // time constants.
        let short = during(&one, 1200, 50.0, true);
        assert!((short - 525.0).abs() < 10.0, "{short}");
        // A lower latency counts as the baseline soon.
        during(&one, 30, 10.0, false);
        assert_eq!(during(&one, 10, 25.0, true), 10.0);
    }

    #[test]
    fn an_endpoint_that_joins_while_capacity_is_short_has_no_baseline() {
        let baseline = BaselineLatency::new();
        assert_eq!(baseline.update(50.0, (true, true), 0.1), None);
        assert_eq!(baseline.update(10.0, (true, false), 0.1), Some(1.0));
        assert_eq!(baseline.update(30.0, (true, true), 0.1), Some(3.0));
    }

    #[test]
    fn no_latency_breaks_the_baseline() {
        let one = endpoint();
        for latency in [f32::MAX, 0.0, 1.0, f32::MAX, 1.0] {
            during(&one, 1, latency, true);
            during(&one, 1, latency, false);
        }
    }
}
