//! What the threads of a shard keep from one pick to the next.

use crate::balancer::PickContext;
use crate::balancer::cumulative::Cumulative;
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::sync::{AtomicU32, Ordering};

/// Of many endpoints, so many that were good the last time are compared,
const REMEMBERED: usize = 8;

/// and so many drawn by weight.
const DRAWN: usize = 16;

/// The indices of those that are compared.
pub(super) type Candidates = [usize; REMEMBERED + DRAWN];

/// What an endpoint is taken to cost while nothing is known of any, in nanoseconds.
pub(super) const UNKNOWN: f32 = 1.0;

/// What the threads of a shard keep.
#[derive(Debug)]
pub(super) struct Notes {
    /// The time in turns: when the last one chosen had its turn.
    pub(super) present: AtomicU32,
    /// An `f32`'s bits: what is usual, as long as that is known; else what a request costs at the best that is known, alone. An
    /// unknown one is taken to be as good while it is not known what is usual, so it is tried when its turn comes.
    pub(super) least: AtomicU32,
    /// Members that were good the last time.
    good: [AtomicU32; REMEMBERED],
}

impl Notes {
    pub(super) fn new() -> Self {
        Self {
            present: AtomicU32::new(0),
            least: AtomicU32::new(UNKNOWN.to_bits()),
            good: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Some that were good the last time, and some drawn.
    pub(super) fn candidates<E: Endpoint>(
        &self,
        table: &Cumulative,
        members: &[Member<E>],
        cx: &mut PickContext<'_, E>,
    ) -> Candidates {
        let last = members.len() - 1;
        std::array::from_fn(|at| match self.good.get(at) {
            // ORDERING: Relaxed. A hint, checked like any other.
            Some(index) => (index.load(Ordering::Relaxed) as usize).min(last),
            None => table.draw(cx.random()).unwrap_or(0),
        })
    }

    /// The first of the drawn that is better takes the place of the worst of the remembered.
    pub(super) fn remember(&self, candidates: &Candidates, cost: impl Fn(usize) -> f32) {
        let (old, drawn) = candidates.split_at(REMEMBERED);
        let (mut worst, mut most) = (0, f32::NEG_INFINITY);
        for (at, index) in old.iter().enumerate() {
            // One that is there twice takes the place of another.
            let twice = old[..at].contains(index);
            let cost = if twice { f32::INFINITY } else { cost(at) };
            if cost > most {
                (worst, most) = (at, cost);
            }
        }
        let mut drawn = drawn.iter().zip(REMEMBERED..);
        let better = |(index, lane): &(&usize, usize)| cost(*lane) < most && !old.contains(index);
        if let Some((&index, _)) = drawn.find(better) {
            // ORDERING: Relaxed. As in `candidates`.
            self.good[worst].store(index as u32, Ordering::Relaxed);
        }
    }
}
