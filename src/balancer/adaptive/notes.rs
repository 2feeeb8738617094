//! What the threads of a shard keep from one pick to the next.

use crate::balancer::cumulative::Cumulative;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Of many endpoints, so many that were good the last time are compared,
const REMEMBERED: usize = 8;

/// and so many rows, each drawn by the weight of its members.
const ROWS: usize = 3;

/// From one draw to the next, on a line of 2^64: by the golden ratio, which spreads the draws of picks in a row evenly. By chance
/// some would not be looked at for long.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// What an endpoint is taken to cost while nothing is known of any, in nanoseconds.
pub(super) const UNKNOWN: f32 = 1.0;

/// Some of many members, by their indices: those that a pick compares.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Those that were good the last time.
    pub(super) good: [usize; REMEMBERED],
    /// Those that were drawn; whoever shares a row with one is compared too.
    pub(super) drawn: [usize; ROWS],
}

/// What the threads of a shard keep.
#[derive(Debug)]
pub(super) struct Notes {
    /// The time in turns: when the last one chosen had its turn.
    pub(super) present: AtomicU32,
    /// An `f32`'s bits: what is usual, as long as that is known; else what a request costs at the best that is known, alone. An
    /// unknown one is taken to be as good while it is not known what is usual, so it is tried when its turn comes.
    pub(super) least: AtomicU32,
    /// Where the last draw was.
    point: AtomicU64,
    /// Members that were good the last time.
    good: [AtomicU32; REMEMBERED],
}

impl Notes {
    /// `begin` tells where draws begin.
    pub(super) fn new(begin: u64, present: u32) -> Self {
        Self {
            present: AtomicU32::new(present),
            least: AtomicU32::new(UNKNOWN.to_bits()),
            point: AtomicU64::new(begin),
            good: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// The next draw.
    pub(super) fn draw(&self) -> u64 {
        // ORDERING: Relaxed, both. A hint; two threads of a shard may draw the same.
        let point = self.point.load(Ordering::Relaxed).wrapping_add(STEP);
        self.point.store(point, Ordering::Relaxed);
        point
    }

    /// Some of so many: that were good the last time, and some drawn.
    pub(super) fn candidates(&self, table: &Cumulative, count: usize) -> Candidates {
        let last = count.saturating_sub(1);
        // ORDERING: Relaxed, all. Hints, checked like any other; where two threads of a shard draw the same, both compare it.
        let mut point = self.point.load(Ordering::Relaxed);
        let drawn = std::array::from_fn(|_| {
            point = point.wrapping_add(STEP);
            table.draw(point).unwrap_or(0)
        });
        self.point.store(point, Ordering::Relaxed);
        // ORDERING: Relaxed. As above.
        let good = self
            .good
            .each_ref()
            .map(|index| (index.load(Ordering::Relaxed) as usize).min(last));
        Candidates { good, drawn }
    }

    /// The worst of the remembered: which, and what it costs.
    pub(super) fn worst(good: &[usize], cost: impl Fn(usize) -> f32) -> (usize, f32) {
        let mut worst = (0, f32::NEG_INFINITY);
        for (at, index) in good.iter().enumerate() {
            // One that is there twice takes the place of another.
            let twice = good[..at].contains(index);
            let cost = if twice { f32::INFINITY } else { cost(at) };
            if cost > worst.1 {
                worst = (at, cost);
            }
        }
        worst
    }

    /// The first of the drawn that is better takes the place of the worst of the remembered. `costs` are of the drawn ones.
    pub(super) fn remember(
        &self,
        candidates: &Candidates,
        (worst, most): (usize, f32),
        costs: [f32; ROWS],
    ) {
        let mut drawn = candidates.drawn.iter().zip(costs);
        let better =
            |(index, cost): &(&usize, f32)| *cost < most && !candidates.good.contains(index);
        if let Some((&index, _)) = drawn.find(better) {
            // ORDERING: Relaxed. As in `candidates`.
            self.good[worst].store(index as u32, Ordering::Relaxed);
        }
    }
}
