//! The state that the threads of a shard keep from one pick to the next.

use crate::balancer::cumulative::Cumulative;
use crate::shared::GOLDEN;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Of many endpoints, a pick compares this many that were good last time,
const REMEMBERED: usize = 8;

/// and this many rows, each drawn by the weight of its members.
const ROWS: usize = 3;

/// The distance from one draw to the next on a line of 2^64. It follows the golden ratio, which spreads the draws of
/// successive picks evenly. With random draws, some rows would go unread for long.
const STEP: u64 = GOLDEN;

/// The assumed cost of an endpoint while none is known, in nanoseconds.
pub(super) const UNKNOWN: f32 = 1.0;

/// The members that a pick compares out of many, by their indices.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Members that were good last time.
    pub(super) good: [usize; REMEMBERED],
    /// Members that were drawn. All members of their rows are compared.
    pub(super) drawn: [usize; ROWS],
}

/// The state that the threads of a shard keep.
#[derive(Debug)]
pub(super) struct Notes {
    /// The virtual time: the turn of the last member chosen.
    pub(super) virtual_now: AtomicU32,
    /// The bits of an `f32`: the fleet's usual latency as long as it is known, and otherwise the least own cost that is
    /// known. While the usual latency is unknown, an unknown endpoint counts as good as that, so it is tried when its
    /// turn comes.
    pub(super) least: AtomicU32,
    /// The point of the last draw.
    point: AtomicU64,
    /// Members that were good last time.
    good: [AtomicU32; REMEMBERED],
}

impl Notes {
    /// `begin` is the point at which draws begin.
    pub(super) fn new(begin: u64, virtual_now: u32) -> Self {
        Self {
            virtual_now: AtomicU32::new(virtual_now),
            least: AtomicU32::new(UNKNOWN.to_bits()),
            point: AtomicU64::new(begin),
            good: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Returns the next draw.
    pub(super) fn draw(&self) -> u64 {
        // ORDERING: Relaxed, both. A hint; two threads of a shard may draw the same.
        let point = self.point.load(Ordering::Relaxed).wrapping_add(STEP);
        self.point.store(point, Ordering::Relaxed);
        point
    }

    /// Selects members to compare out of `count`: the ones that were good last time, and some drawn.
    pub(super) fn candidates(&self, table: &Cumulative, count: usize) -> Candidates {
        let last = count.saturating_sub(1);
        // ORDERING: Relaxed, all. Hints, checked like any other; two threads of a shard may draw the same rows.
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

    /// The worst of the remembered members: its place and its cost.
    pub(super) fn worst(good: &[usize], cost: impl Fn(usize) -> f32) -> (usize, f32) {
        let mut worst = (0, f32::NEG_INFINITY);
        for (at, index) in good.iter().enumerate() {
            // A member that is remembered twice gives up a place.
            let twice = good[..at].contains(index);
            let cost = if twice { f32::INFINITY } else { cost(at) };
            if cost > worst.1 {
                worst = (at, cost);
            }
        }
        worst
    }

    /// Replaces the worst of the remembered members by the first drawn one that is better. `costs` are those of the
    /// drawn members.
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
