//! Whether the endpoints that are left can carry what those that are out did.

use std::time::Duration;

use super::Shared;
use crate::health::{Strain, are_many};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// It is short where answers take so many times as long as in calm,
const SHORT: f32 = 2.0;

/// and until they take no more than this.
const ENOUGH: f32 = 1.5;

/// How soon what is calm follows answers that take longer, those that take less, and any while many are out: what lasts for
/// ten minutes is how it is. In seconds.
const RISES: f32 = 30.0;
const FALLS: f32 = 5.0;
const MOVES: f32 = 600.0;

/// An `f32`'s bits: how long an endpoint's answers take, in nanoseconds, while no more are out than can be spared. 0 if that is not
/// known. Of each its own: where the quick are out, those that are left are slower than all were, and none has more to do for that.
#[derive(Debug)]
pub(crate) struct Calm(AtomicU32);

impl Calm {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Its latency is this now, `passed` after the last time, and more or fewer are out than can be spared; or it is short. How many times as
    /// long as in calm that is; `None` if none has been seen.
    fn note(&self, latency: f32, (many_out, is_short): (bool, bool), passed: f32) -> Option<f32> {
        // ORDERING: Relaxed, both. Only upkeep writes it, one at a time.
        let calm = match f32::from_bits(self.0.load(Ordering::Relaxed)) {
            0.0 if is_short => return None,
            0.0 => latency.max(1.0),
            calm => calm,
        };
        let tau = match (many_out, latency > calm) {
            (true, _) => MOVES,
            (_, true) => RISES,
            _ => FALLS,
        };
        let next = calm + (latency - calm) * (passed / tau).min(1.0);
        // ORDERING: Relaxed. As above.
        self.0.store(next.max(1.0).to_bits(), Ordering::Relaxed);
        Some(latency / calm)
    }
}

/// What upkeep has found.
#[derive(Debug)]
pub(crate) struct Capacity {
    /// Endpoints in slow start that were out. Not the new: they are more than there were.
    warming: AtomicU64,
    /// 1 where more are out than can be spared, and answers take longer than in calm by far.
    short: AtomicU32,
}

impl Capacity {
    pub(super) fn new() -> Self {
        Self {
            warming: AtomicU64::new(0),
            short: AtomicU32::new(0),
        }
    }

    fn warming(&self) -> usize {
        // ORDERING: Relaxed, all, here and below. Statistics, each complete in itself.
        self.warming.load(Ordering::Relaxed) as usize
    }

    fn is_short(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.short.load(Ordering::Relaxed) != 0
    }

    /// So many times as long as in calm answers take now, and more or fewer are out than can be spared. While that is not known it is as it was.
    fn note(&self, times: Option<f32>, many_out: bool) {
        let was_short = self.is_short();
        let most = if was_short { ENOUGH } else { SHORT };
        let is_short = many_out && times.map_or(was_short, |times| times > most);
        // ORDERING: Relaxed. As above.
        self.short.store(is_short.into(), Ordering::Relaxed);
    }
}

impl Shared {
    /// Upkeep has seen an endpoint that takes requests, so long after it was there the last time: how many times as long its answers take as
    /// in calm, if that is known.
    pub(crate) fn strain_of(
        &self,
        calm: &Calm,
        latency: Duration,
        passed: Duration,
    ) -> Option<f32> {
        let latency = latency.as_nanos() as f32;
        let state = (self.many_are_out(), self.is_short());
        calm.note(latency, state, passed.as_secs_f32())
    }

    /// What upkeep has counted: how many are in slow start after they were out, and how many times as long as in calm answers take, if that
    /// is known.
    pub(crate) fn note_capacity(&self, warming: usize, times: Option<f32>) {
        // ORDERING: Relaxed. As above.
        (self.capacity.warming).store(warming as u64, Ordering::Relaxed);
        self.capacity.note(times, self.many_are_out());
    }

    /// Whether so many are out that those that are left have too much to do. Not any more for the last that come back: as many as
    /// can be spared have their ejections counted as ever.
    pub(crate) fn is_short(&self) -> bool {
        self.capacity.is_short() && self.many_are_out()
    }

    /// How the fleet stands.
    pub(crate) fn strain(&self) -> Strain {
        let out = self.ledger.read().ejected.max(1);
        Strain {
            short: self.is_short(),
            rate: f64::from(self.trend.rate()) / out as f64,
        }
    }

    /// The share of endpoints that are out or in slow start, where the others have too much to do; else 0.
    pub(crate) fn missing(&self) -> f64 {
        if self.is_short() {
            self.out() as f64 / self.ledger.count().max(1) as f64
        } else {
            0.0
        }
    }

    fn many_are_out(&self) -> bool {
        are_many(&self.ejection, self.out(), self.ledger.count())
    }

    /// How many are out, or in slow start after they were. Who has been ejected again since upkeep counted is no two.
    fn out(&self) -> usize {
        let out = self.ledger.read().refused() + self.capacity.warming();
        out.min(self.ledger.count())
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    struct Endpoint(Calm, Capacity);

    fn endpoint() -> Endpoint {
        Endpoint(Calm::new(), Capacity::new())
    }

    /// So many seconds of this latency, noted ten times a second; for how many of them it was short.
    fn during(of: &Endpoint, seconds: u32, latency: f32, many_out: bool) -> f32 {
        let noted = (0..10 * seconds).filter(|_| {
            let times = of.0.note(latency, (many_out, of.1.is_short()), 0.1);
            of.1.note(times, many_out);
            of.1.is_short()
        });
        noted.count() as f32 / 10.0
    }

    #[test]
    fn it_is_short_while_many_are_out_and_answers_take_twice_as_long() {
        let one = endpoint();
        assert_eq!(during(&one, 10, 10.0, false), 0.0);
        assert_eq!(during(&one, 10, 19.0, true), 0.0);
        assert_eq!(during(&one, 10, 25.0, true), 10.0);
        // Until it takes no more than half as long again.
        assert_eq!(during(&one, 10, 17.0, true), 10.0);
        assert_eq!(during(&one, 10, 14.0, true), 0.0);
        assert_eq!(during(&one, 10, 17.0, true), 0.0);
        let nobody_missing = during(&one, 10, 100.0, false);
        assert_eq!(nobody_missing, 0.0);
    }

    #[test]
    fn what_lasts_is_how_it_is() {
        let one = endpoint();
        during(&one, 10, 10.0, false);
        // To 50 from 10 by e-folds of 600 s: 1.5 times what is calm is below 50 after ln(40 / 16.7) of them.
        let short = during(&one, 1200, 50.0, true);
        assert!((short - 525.0).abs() < 10.0, "{short}");
        // And soon what is less.
        during(&one, 30, 10.0, false);
        assert_eq!(during(&one, 10, 25.0, true), 10.0);
    }

    #[test]
    fn of_one_that_comes_while_it_is_short_no_calm_is_known() {
        let calm = Calm::new();
        assert_eq!(calm.note(50.0, (true, true), 0.1), None);
        assert_eq!(calm.note(10.0, (true, false), 0.1), Some(1.0));
        assert_eq!(calm.note(30.0, (true, true), 0.1), Some(3.0));
    }

    #[test]
    fn no_latency_brings_it_down() {
        let one = endpoint();
        for latency in [f32::MAX, 0.0, 1.0, f32::MAX, 1.0] {
            during(&one, 1, latency, true);
            during(&one, 1, latency, false);
        }
    }
}
