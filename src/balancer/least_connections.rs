//! The least busy of all.

use super::cumulative::{Cumulative, effective_weights};
use super::lanes::Lanes;
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::{LANES, Randoms, Readings, below};

/// Of all endpoints, the one with the fewest requests in flight for its weight; among equals, one drawn
/// by weight.
///
/// One endpoint is drawn by weight first, and taken if it is idle: so at low load everybody gets its
/// share. Otherwise the least (in-flight + 1) / weight of all decides. A scan costs O(n): fine to a few
/// hundred endpoints, [`PowerOfTwo`](super::PowerOfTwo) beyond.
///
/// Leases that were picked before it came into force ([`Fleet::set_policy`](crate::Fleet::set_policy)), and probes,
/// do not count here.
///
/// For equal endpoints under load from one client it is the best there is. It breaks down where an
/// endpoint fails fast, which leaves it idle and so preferred until it is ejected; and it looks at no
/// latency, so a slow endpoint is found out only by its queue.
///
/// Source: HAProxy's `leastconn` and its (connections + 1) / weight; the draw among the idle is this
/// crate's, as that formula alone starves light endpoints.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LeastConnections;

impl LeastConnections {
    /// The policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for LeastConnections {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        let weights = effective_weights(view.members());
        Box::new(Scan {
            table: Cumulative::new(&weights),
            weights: weights.iter().map(|&weight| weight as f32).collect(),
            board: view.board(),
        })
    }
}

struct Scan {
    table: Cumulative,
    weights: Box<[f32]>,
    /// `None` where the view was not the fleet's own.
    board: Option<Readings>,
}

impl Scan {
    fn in_flight<E: Endpoint>(&self, members: &[Member<E>], index: usize) -> u64 {
        match &self.board {
            Some(board) => board.at(index).load().count().into(),
            None => members[index].in_flight(),
        }
    }

    /// Looks at a row's requests in flight on the board; `false` if there is none.
    #[inline]
    fn look_at_board(&self, counts: &mut [f32], row: usize) -> bool {
        let Some(spots) = self.board.as_ref().and_then(|board| board.row(row)) else {
            return false;
        };
        for (count, spot) in counts.iter_mut().zip(spots.iter()) {
            // With a sign, as that is what processors convert at once.
            *count = spot.load().count() as i32 as f32;
        }
        true
    }

    #[inline(never)]
    fn look_at_each<E: Endpoint>(&self, counts: &mut [f32], row: usize, cx: &PickContext<'_, E>) {
        for (count, index) in counts.iter_mut().zip(row * LANES..) {
            *count = if cx.may_pick(index) {
                self.in_flight(cx.members(), index) as f32
            } else {
                f32::INFINITY
            };
        }
    }
}

/// What a pick compares, and draws from.
trait Field {
    /// Looks at a row's requests in flight: infinitely many where somebody may not be picked.
    fn look(&self, scan: &Scan, counts: &mut [f32], row: usize);

    fn random(&mut self) -> u64;
}

impl<E: Endpoint> Field for PickContext<'_, E> {
    #[inline]
    fn look(&self, scan: &Scan, counts: &mut [f32], row: usize) {
        if !(self.any_will_do() && scan.look_at_board(counts, row)) {
            scan.look_at_each(counts, row, self);
        }
    }

    #[inline]
    fn random(&mut self) -> u64 {
        self.random()
    }
}

/// All members, who may all be picked.
struct All<'a, E: Endpoint> {
    members: &'a [Member<E>],
    randoms: Randoms,
}

impl<E: Endpoint> Field for All<'_, E> {
    #[inline]
    fn look(&self, scan: &Scan, counts: &mut [f32], row: usize) {
        if !scan.look_at_board(counts, row) {
            for (count, index) in counts.iter_mut().zip(row * LANES..) {
                *count = scan.in_flight(self.members, index) as f32;
            }
        }
    }

    #[inline]
    fn random(&mut self) -> u64 {
        self.randoms.next()
    }
}

/// Makes loads of counts, (in-flight + 1) / weight, and returns the least as its bits, which are in the same order. Equal fractions
/// are equal here as well, as a division is rounded correctly; others differ, unless by less than one in 2^22;
/// both for weights up to 2^24, above which they are rounded. A function
/// of its own and a plain loop, so that the compiler takes several at a time.
#[inline(never)]
fn weigh(counts: &mut [f32], weights: &[f32]) -> u32 {
    let mut least = u32::MAX;
    for (count, weight) in counts.iter_mut().zip(weights) {
        *count = (*count + 1.0) / weight;
        least = least.min(count.to_bits());
    }
    least
}

/// Those of a row that have the lowest load so far.
#[derive(Debug, Default)]
struct Lowest {
    row: usize,
    lanes: Lanes,
    weight: u64,
}

impl<E: Endpoint> Picker<E> for Scan {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let drawn = cx.draw(&self.table)?;
        if self.in_flight(cx.members(), drawn) == 0 {
            return Some(Choice::at(drawn));
        }
        Some(self.least(drawn, cx))
    }

    fn pick_of_all(&self, all: &[Member<E>], asker: Asker<'_>) -> Option<Choice> {
        let mut randoms = asker.randoms();
        let drawn = self.table.draw(randoms.next())?;
        if self.in_flight(all, drawn) == 0 {
            return Some(Choice::at(drawn));
        }
        let members = all;
        Some(self.least(drawn, &mut All { members, randoms }))
    }
}

impl Scan {
    /// The one with the lowest load of all, `drawn` if nobody may be picked.
    #[inline(never)]
    fn least(&self, drawn: usize, field: &mut impl Field) -> Choice {
        let mut loads = [0.0; LANES];
        // Infinite as long as nobody may be picked.
        let mut load = f32::INFINITY.to_bits();
        // Of all that have it, by weight: a row takes the place of the one before it as often as its part of their weight is.
        let (mut lowest, mut equals) = (Lowest::default(), 0);
        for (row, weights) in self.weights.chunks(LANES).enumerate() {
            let loads = &mut loads[..weights.len()];
            field.look(self, loads, row);
            let least = weigh(loads, weights);
            if least > load || least == f32::INFINITY.to_bits() {
                continue;
            }
            let lanes = Lanes::that(loads.iter().map(|load| load.to_bits() == least));
            let weight = lanes
                .map(|lane| self.table.weight(row * LANES + lane))
                .sum();
            if least < load {
                (load, equals) = (least, 0);
            }
            equals += weight;
            if weight == equals || below(equals, field.random()) < weight {
                lowest = Lowest { row, lanes, weight };
            }
        }
        let mut point = below(lowest.weight, field.random());
        let mut chosen = drawn;
        for lane in lowest.lanes {
            chosen = lowest.row * LANES + lane;
            let weight = self.table.weight(chosen);
            if point < weight {
                break;
            }
            point -= weight;
        }
        Choice::at(chosen)
    }
}
