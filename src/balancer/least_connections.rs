//! The policy that picks the least busy of all endpoints: [`LeastConnections`].

use super::cumulative::{Cumulative, effective_weights};
use super::lanes::{FOUR, Fours, Lanes};
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::{BoardView, LANES, Randoms, Spots, below};
use crate::time::Tick;

/// Picks the endpoint with the fewest requests in flight for its weight, out of all; among equals, one by weight at
/// random.
///
/// One endpoint is drawn by weight first and taken if it is idle, so at low load every endpoint gets its share.
/// Otherwise the least (in-flight + 1) / weight of all decides. A scan costs O(n), which is fine up to a few hundred
/// endpoints; use [`PowerOfTwo`](super::PowerOfTwo) beyond.
///
/// Leases that were picked before the policy came into force ([`Fleet::set_policy`](crate::Fleet::set_policy)) do not
/// count here, and neither do probes.
///
/// For equal endpoints under load from one client it is the best policy there is. It breaks down where an endpoint
/// fails fast: that endpoint is idle and so preferred until it is ejected. It does not look at latency, so only a queue
/// reveals a slow endpoint.
///
/// Source: HAProxy's `leastconn` and its (connections + 1) / weight. The draw among idle endpoints is this crate's, as
/// that formula alone starves light endpoints.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LeastConnections;

impl LeastConnections {
    /// Creates the policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for LeastConnections {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        let weights = effective_weights(view.members());
        Box::new(LeastConnectionsPicker {
            table: Cumulative::new(&weights),
            parts: weights.iter().map(|&weight| 1.0 / weight as f32).collect(),
            board: view.board(),
        })
    }
}

struct LeastConnectionsPicker {
    table: Cumulative,
    /// The reciprocal of each member's weight: what one request adds to its load.
    parts: Box<[f32]>,
    /// `None` if the view was not the fleet's own.
    board: Option<BoardView>,
}

impl LeastConnectionsPicker {
    fn in_flight<E: Endpoint>(&self, members: &[Member<E>], index: usize) -> u64 {
        match &self.board {
            Some(board) => board.at(index).load().count().into(),
            None => members[index].in_flight(),
        }
    }

    /// Computes a row's loads from the board and returns the least; `None` if the row is not contiguous there.
    #[inline]
    fn weigh_by_board(&self, loads: &mut [f32], row: usize) -> Option<f32> {
        let spots = self.board.as_ref()?.row(row)?;
        Some(weigh_spots(loads, spots, self.parts_of(row)))
    }

    /// Computes a row's loads from `count` and returns the least.
    fn weigh_each(&self, loads: &mut [f32], row: usize, count: impl Fn(usize) -> f32) -> f32 {
        let parts = self.parts_of(row);
        let mut least = f32::INFINITY;
        for ((load, part), index) in loads.iter_mut().zip(parts).zip(row * LANES..) {
            *load = load_of(count(index), *part);
            least = lower(*load, least);
        }
        least
    }

    #[inline]
    fn parts_of(&self, row: usize) -> &[f32] {
        &self.parts[row * LANES..]
    }
}

/// The members that a pick compares, and its random numbers.
trait Field {
    /// Computes a row's loads, infinite for members that may not be picked, and returns the least.
    fn weigh(&self, picker: &LeastConnectionsPicker, loads: &mut [f32], row: usize) -> f32;

    fn random(&mut self) -> u64;
}

impl<E: Endpoint> Field for PickContext<'_, E> {
    #[inline]
    fn weigh(&self, picker: &LeastConnectionsPicker, loads: &mut [f32], row: usize) -> f32 {
        if self.any_will_do() {
            if let Some(least) = picker.weigh_by_board(loads, row) {
                return least;
            }
        }
        picker.weigh_each(loads, row, |index| match self.may_pick(index) {
            true => {
                let count = picker.in_flight(self.members(), index) as f32;
                // In slow start it has only a part of its weight. Otherwise, as it has less in flight than others that
                // are busy, it would be chosen by each pick that slow start admits.
                (count + 1.0) / self.slow_start_share(index) as f32 - 1.0
            }
            false => f32::INFINITY,
        })
    }

    #[inline]
    fn random(&mut self) -> u64 {
        self.random()
    }
}

/// All members, where all of them may be picked.
struct All<'a, E: Endpoint> {
    members: &'a [Member<E>],
    randoms: Randoms,
}

impl<E: Endpoint> Field for All<'_, E> {
    #[inline]
    fn weigh(&self, picker: &LeastConnectionsPicker, loads: &mut [f32], row: usize) -> f32 {
        let by_board = picker.weigh_by_board(loads, row);
        by_board.unwrap_or_else(|| {
            let count = |index| picker.in_flight(self.members, index) as f32;
            picker.weigh_each(loads, row, count)
        })
    }

    #[inline]
    fn random(&mut self) -> u64 {
        self.randoms.next()
    }
}

/// Two loads count as equal if they differ by less than this factor. Rounding may make equal fractions differ by one
/// part in 2^22. Different fractions are told apart unless they differ by less than one part in 2^19. Both hold for
/// weights up to 2^24; heavier weights are rounded themselves.
const SAME: f32 = 1.0 + 1.0 / (1 << 21) as f32;

/// (In-flight + 1) / weight, as a product with the reciprocal: a division takes as long as ten products.
#[inline]
fn load_of(count: f32, part: f32) -> f32 {
    (count + 1.0) * part
}

/// The lower of two numbers. Neither is NaN, so this is one instruction.
#[inline]
fn lower(one: f32, other: f32) -> f32 {
    if one < other { one } else { other }
}

/// Computes the loads of contiguous places. It is a function of its own that works by fours, so that the compiler
/// vectorises it from the reads on: four values stored one by one and then loaded together would have to wait for the
/// stores.
#[inline(never)]
fn weigh_spots(loads: &mut [f32], spots: Spots<'_>, parts: &[f32]) -> f32 {
    let (fours, left) = spots.counts();
    let mut least = [f32::INFINITY; 4];
    let rest = loads.len() & !3;
    let places = loads.chunks_exact_mut(4).zip(parts.chunks_exact(4));
    for ((loads, parts), counts) in places.zip(fours) {
        for lane in 0..4 {
            loads[lane] = load_of(counts[lane] as f32, parts[lane]);
            least[lane] = lower(loads[lane], least[lane]);
        }
    }
    let places = loads[rest..].iter_mut().zip(&parts[rest..]);
    for ((load, part), count) in places.zip(left) {
        *load = load_of(count as f32, *part);
        least[0] = lower(*load, least[0]);
    }
    least.into_iter().fold(f32::INFINITY, lower)
}

/// The members of a row that have the lowest load so far.
#[derive(Debug, Default)]
struct Tied {
    row: usize,
    lanes: Lanes,
    weight: u64,
}

impl<E: Endpoint> Picker<E> for LeastConnectionsPicker {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let drawn = cx.draw(&self.table)?;
        if self.in_flight(cx.members(), drawn) == 0 {
            return Some(Choice::at(drawn));
        }
        Some(self.least(drawn, cx))
    }

    fn pick_of_all(&self, all: &[Member<E>], asker: Asker<'_>, _: Tick) -> Option<Choice> {
        let mut randoms = asker.randoms();
        let drawn = self.table.draw(randoms.next())?;
        if self.in_flight(all, drawn) == 0 {
            return Some(Choice::at(drawn));
        }
        let members = all;
        Some(self.least(drawn, &mut All { members, randoms }))
    }
}

impl LeastConnectionsPicker {
    /// The member with the lowest load, or `drawn` if none may be picked.
    #[inline(never)]
    fn least(&self, drawn: usize, field: &mut impl Field) -> Choice {
        let mut loads: Fours<f32> = [[0.0; FOUR]; LANES / FOUR];
        // Infinite until a member that may be picked is found.
        let mut load = f32::INFINITY;
        // Chooses by weight among all equals: a row replaces the one before it with the probability of its part of
        // their weight.
        let (mut tied, mut equals) = (Tied::default(), 0);
        for row in 0..self.parts.len().div_ceil(LANES) {
            let first = row * LANES;
            let lanes = LANES.min(self.parts.len() - first);
            let least = field.weigh(self, &mut loads.as_flattened_mut()[..lanes], row);
            if least > load * SAME || least == f32::INFINITY {
                continue;
            }
            if least * SAME < load {
                (load, equals) = (least, 0);
            }
            // Compares with the first of the equals. Against the last, each row could be a little lower than the one
            // before.
            let most = load * SAME;
            let lanes = Lanes::matching(&loads, lanes, |load| load <= most);
            let weight = lanes.map(|lane| self.table.weight(first + lane)).sum();
            equals += weight;
            if weight == equals || below(equals, field.random()) < weight {
                tied = Tied { row, lanes, weight };
            }
        }
        let mut point = below(tied.weight, field.random());
        let mut chosen = drawn;
        for lane in tied.lanes {
            chosen = tied.row * LANES + lane;
            let weight = self.table.weight(chosen);
            if point < weight {
                break;
            }
            point -= weight;
        }
        Choice::at(chosen)
    }
}
