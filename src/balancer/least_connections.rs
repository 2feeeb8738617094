//! The least busy of all.

use super::cumulative::{Cumulative, effective_weights};
use super::lanes::{FOUR, Fours, Lanes};
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::{LANES, Randoms, Readings, Spots, below};
use crate::time::Tick;

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
            parts: weights.iter().map(|&weight| 1.0 / weight as f32).collect(),
            board: view.board(),
        })
    }
}

struct Scan {
    table: Cumulative,
    /// What one request is of each one's weight.
    parts: Box<[f32]>,
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

    /// A row's loads by the board, and the least of them; `None` if it does not lie there side by side.
    #[inline]
    fn weigh_by_board(&self, loads: &mut [f32], row: usize) -> Option<f32> {
        let spots = self.board.as_ref()?.row(row)?;
        Some(weigh_spots(loads, spots, self.parts_of(row)))
    }

    /// A row's loads by these counts.
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

/// What a pick compares, and draws from.
trait Field {
    /// Works out a row's loads, infinite where somebody may not be picked, and returns the least.
    fn weigh(&self, scan: &Scan, loads: &mut [f32], row: usize) -> f32;

    fn random(&mut self) -> u64;
}

impl<E: Endpoint> Field for PickContext<'_, E> {
    #[inline]
    fn weigh(&self, scan: &Scan, loads: &mut [f32], row: usize) -> f32 {
        if self.any_will_do() {
            if let Some(least) = scan.weigh_by_board(loads, row) {
                return least;
            }
        }
        scan.weigh_each(loads, row, |index| match self.may_pick(index) {
            true => scan.in_flight(self.members(), index) as f32,
            false => f32::INFINITY,
        })
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
    fn weigh(&self, scan: &Scan, loads: &mut [f32], row: usize) -> f32 {
        let by_board = scan.weigh_by_board(loads, row);
        by_board.unwrap_or_else(|| {
            let count = |index| scan.in_flight(self.members, index) as f32;
            scan.weigh_each(loads, row, count)
        })
    }

    #[inline]
    fn random(&mut self) -> u64 {
        self.randoms.next()
    }
}

/// So much more or less than another is the same: rounded, equal fractions may differ by one in 2^22. Others are told apart, unless
/// they differ by less than one in 2^19; both for weights up to 2^24, above which they are rounded.
const SAME: f32 = 1.0 + 1.0 / (1 << 21) as f32;

/// (In-flight + 1) / weight: by a product, as a division takes the time of ten.
#[inline]
fn load_of(count: f32, part: f32) -> f32 {
    (count + 1.0) * part
}

/// The lower one; neither is no number, so that one instruction does.
#[inline]
fn lower(one: f32, other: f32) -> f32 {
    if one < other { one } else { other }
}

/// The loads of those side by side. A function of its own and by fours, so that the compiler takes four at a time, from
/// reading them on: four that are written one by one and read at once are waited for.
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

impl Scan {
    /// The one with the lowest load of all, `drawn` if nobody may be picked.
    #[inline(never)]
    fn least(&self, drawn: usize, field: &mut impl Field) -> Choice {
        let mut loads: Fours<f32> = [[0.0; FOUR]; LANES / FOUR];
        // Infinite as long as nobody may be picked.
        let mut load = f32::INFINITY;
        // Of all that have it, by weight: a row takes the place of the one before it as often as its part of their weight is.
        let (mut lowest, mut equals) = (Lowest::default(), 0);
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
            // By the first of the equals: by the last, each row might be a little lower than the one before.
            let most = load * SAME;
            let lanes = Lanes::that(&loads, lanes, |load| load <= most);
            let weight = lanes.map(|lane| self.table.weight(first + lane)).sum();
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
