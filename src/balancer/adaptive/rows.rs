//! The cost of a request at each of a row of members, side by side. The loops over arrays are plain, so that the
//! compiler vectorises them to four members at a time.

use super::super::lanes::{FOUR, Fours, Lanes, either, filled, mask};
use super::{HEAVIEST, ahead};
use crate::health::OVERDUE;
use crate::shared::{AGE_UNITS_PER_NANO, JOINED, LANES, Spot};
use crate::time::Tick;

/// The part of a cost that each round of waiting takes off: 2 %.
const DISCOUNT: f32 = 0.02;

/// The factor of the cost of a member of the initial set that has had no turn: lower than any other. It is not 0, as
/// the padding lanes cost infinity, and 0 times infinity is NaN.
pub(super) const FIRST: f32 = 1e-6;

/// Where weights differ, an idle member whose turn has not come costs at least this many times what the due one does.
const NOT_DUE: f32 = 1.04;

/// What a request costs at an idle member whose turn has come, as a multiple of what it costs at the heaviest: the
/// sixteenth root of how much heavier that is. `weight` is the member's as a part of the heaviest's, at most 1. The root
/// is computed by the bits of the float, which are nearly a logarithm, and is at most 7 % too high.
///
/// With a power of 0, endpoints of a tenth of the others' weight got 24 % of few requests where 10 % are due, and with
/// 0.2 they got 8 %; those of half the weight got 31 % and 19 % where 33 % are due.
#[inline(always)]
pub(super) fn when_due(weight: f32) -> f32 {
    const ONE: u32 = 1.0f32.to_bits();
    // It wraps in padding lanes only, where the result is not used.
    f32::from_bits(ONE.wrapping_add(ONE.wrapping_sub(weight.to_bits()) >> 4))
}

/// The unit of ages, in nanoseconds.
const AGE: f32 = 1.0 / AGE_UNITS_PER_NANO as f32;

/// A lateness below that of any turn.
pub(super) const NEVER: i32 = i32::MIN;

/// What is known in advance of a row's members.
#[derive(Clone, Debug)]
pub(super) struct Terms<T> {
    /// The reciprocal of the length of each member's round.
    pub(super) per_round: T,
    /// What a request adds to the cost, in units of what a request costs alone: mean weight / weight.
    pub(super) queue: T,
}

/// The values that a pick compares with.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompareParams {
    pub(super) now: Tick,
    /// The cost of an unknown endpoint.
    pub(super) usual: f32,
    /// Whether `usual` is the fleet's usual latency. If not, it is the least own cost that is known of any member.
    pub(super) knows_usual: bool,
    /// The mean age beyond which requests in flight are overdue, as a multiple of the member's own cost.
    pub(super) overdue: f32,
    /// The mean age beyond which they are disregarded.
    pub(super) forgotten: f32,
    /// The factor of an idle member's own cost when it is the one to go next: its turn came first. `None` if it makes
    /// no difference whose turn it is.
    pub(super) due: Option<f32>,
    /// For how many rounds waiting counts.
    pub(super) rounds: f32,
    /// For how many rounds a member that joined later and has had no turn counts as having waited. 0 where all members
    /// are compared: a new one may be cold, and gets its turn by invitation. Where some of many are compared it is the
    /// maximum, as there is always one among them that has waited.
    pub(super) untried: f32,
    /// The virtual time.
    pub(super) virtual_now: u32,
}

/// What is read of a row's members, and then, in the same arrays, what is computed from it. Rows are padded to a
/// multiple of [`FOUR`], so that no loop has a scalar remainder.
#[derive(Debug)]
pub(super) struct Row {
    /// Requests in flight. Signed, as processors convert signed integers directly.
    count: Fours<i32>,
    /// The total age of the requests, in units of [`AGE`]; then the cost of a request as if no member were next.
    cost: Fours<f32>,
    /// The member's own cost from the board, which is what a request costs there while nothing is in flight; then the
    /// same, raised if the requests in flight are overdue.
    alone: Fours<f32>,
    /// The member's next turn; then how long ago it came, and [`NEVER`] if the member is busy or has had no turn.
    lateness: Fours<u32>,
    /// How many members the row has.
    lanes: usize,
}

impl CompareParams {
    /// The factor that waiting leaves of the cost of a member with this turn.
    #[inline(always)]
    fn waiting_factor(&self, turn: u32, per_round: f32) -> f32 {
        let waited = ahead(self.virtual_now, turn) as f32 * per_round;
        // The member may have had no turn.
        let waited = either(turn == JOINED, self.untried, waited);
        let waited = if waited > -1.0 { waited } else { -1.0 };
        let waited = if waited < self.rounds {
            waited
        } else {
            self.rounds
        };
        // Each member of the initial set has one turn before others are preferred for what is known of them.
        either(turn == 0, FIRST, 1.0 - DISCOUNT * waited)
    }
}

/// Whether a turn that came this long ago (or is ahead, if negative) is due: it may be at most one round of the
/// heaviest ahead. While all members are idle, there is always one nearer than that.
pub(super) fn is_near(lateness: i32) -> bool {
    lateness >= -(HEAVIEST as i32)
}

impl Terms<Box<[f32]>> {
    /// Builds the terms from pairs of the reciprocal of a round and what a request adds to the cost.
    pub(super) fn of(all: impl Iterator<Item = (f32, f32)>) -> Self {
        let (mut per_round, mut queue): (Vec<_>, Vec<_>) = all.unzip();
        fill(&mut per_round);
        fill(&mut queue);
        Self {
            per_round: per_round.into(),
            queue: queue.into(),
        }
    }

    /// The terms of these members, at most as many as a row has.
    #[inline]
    pub(super) fn of_these(&self, indices: &[usize]) -> Terms<[f32; LANES]> {
        let mut these = Terms {
            per_round: [1.0; LANES],
            queue: [1.0; LANES],
        };
        let places = these.per_round.iter_mut().zip(&mut these.queue);
        for ((per_round, queue), &index) in places.zip(indices) {
            (*per_round, *queue) = (self.per_round[index], self.queue[index]);
        }
        these
    }
}

/// Pads to a multiple of [`FOUR`], with a value that does no harm.
fn fill(terms: &mut Vec<f32>) {
    terms.resize(filled(terms.len()), 1.0);
}

impl<T: AsRef<[f32]>> Terms<T> {
    /// The terms of `lanes` members from `first` on.
    #[inline]
    pub(super) fn at(&self, first: usize, lanes: usize) -> Terms<&[f32]> {
        let range = first..first + filled(lanes);
        Terms {
            per_round: &self.per_round.as_ref()[range.clone()],
            queue: &self.queue.as_ref()[range],
        }
    }
}

impl Row {
    pub(super) const fn new() -> Self {
        Self {
            count: [[0; FOUR]; LANES / FOUR],
            cost: [[0.0; FOUR]; LANES / FOUR],
            alone: [[0.0; FOUR]; LANES / FOUR],
            lateness: [[0; FOUR]; LANES / FOUR],
            lanes: 0,
        }
    }

    /// Reads these members and compares them.
    #[inline(always)]
    pub(super) fn compare<'a>(
        &mut self,
        spots: impl Iterator<Item = Spot<'a>>,
        with: &CompareParams,
        terms: &Terms<&[f32]>,
    ) -> Least {
        self.see(spots, with.now);
        let own = if with.knows_usual {
            None
        } else {
            self.least_own()
        };
        let least = self.weigh(with, terms);
        Least { own, ..least }
    }

    /// Reads these members.
    #[inline(always)]
    fn see<'a>(&mut self, spots: impl Iterator<Item = Spot<'a>>, now: Tick) {
        let (count, ages) = (self.count.as_flattened_mut(), self.cost.as_flattened_mut());
        let (own, turn) = (
            self.alone.as_flattened_mut(),
            self.lateness.as_flattened_mut(),
        );
        let loads = count.iter_mut().zip(&mut *ages);
        let kept = own.iter_mut().zip(turn);
        let mut lanes = 0;
        for ((spot, (count, ages)), (own, turn)) in spots.zip(loads).zip(kept) {
            let load = spot.load();
            *count = load.count() as i32;
            *ages = load.ages(now) as f32;
            *own = spot.cost();
            *turn = spot.turn();
            lanes += 1;
        }
        self.lanes = lanes;
        // Padding: busy, and dearer than any member, whatever its turn.
        for lane in lanes..filled(lanes).min(LANES) {
            (count[lane], ages[lane], own[lane]) = (1, 0.0, f32::INFINITY);
        }
    }

    /// The least own cost of the row's members, if one without an invitation is known.
    #[inline(never)]
    fn least_own(&self) -> Option<f32> {
        let kept = self.alone.as_flattened()[..filled(self.lanes)].iter();
        // Bits of non-negative floats are in the order of the floats. After subtracting 1, an unknown cost (0) comes
        // last, and costs with a sign just before it.
        let before = |own: &f32| own.to_bits().wrapping_sub(1);
        let least = kept.map(before).fold(u32::MAX, u32::min);
        // The padding lanes are infinite.
        let is_known = least < f32::INFINITY.to_bits() - 1;
        is_known.then(|| f32::from_bits(least + 1))
    }

    /// Computes the costs of the members that have been read. Not inlined, so that the generated code does not depend
    /// on its surroundings.
    #[inline(never)]
    fn weigh(&mut self, with: &CompareParams, terms: &Terms<&[f32]>) -> Least {
        debug_assert_eq!(terms.queue.len(), filled(self.lanes), "a term for each");
        let lanes = terms.queue.len().min(LANES);
        let (queue, per_round) = (&terms.queue[..lanes], &terms.per_round[..lanes]);
        let count = &self.count.as_flattened()[..lanes];
        let cost = &mut self.cost.as_flattened_mut()[..lanes];
        let alone = &mut self.alone.as_flattened_mut()[..lanes];
        let lateness = &mut self.lateness.as_flattened_mut()[..lanes];
        let (mut least, mut latest, mut signs) = (NO_COST, NEVER, 0);
        let with = *with;
        // The member whose turn came first costs as little as the heaviest, and no other idle one costs less.
        let not_due = with.due.map_or(0.0, |due| due * NOT_DUE);
        // Equal weights cost 1.
        let heaviest = with.due.unwrap_or(1.0);
        for lane in 0..lanes {
            let own = alone[lane];
            signs |= own.to_bits();
            let known = either(own == 0.0, with.usual, own.abs());
            // Where nothing is in flight, nothing is overdue.
            let (ages, in_flight) = (cost[lane] * AGE, count[lane] as f32);
            let is_overdue =
                (ages > with.overdue * known * in_flight) & (ages <= with.forgotten * in_flight);
            alone[lane] = either(is_overdue, OVERDUE * known, known);
            let is_busy = count[lane] > 0;
            let busy = (count[lane] + 1) as f32 * queue[lane];
            let idle = if queue[lane] > not_due {
                queue[lane]
            } else {
                not_due
            };
            let turn = lateness[lane];
            // A turn that has come stays due until it is taken. If only the earliest did, a member that seems a little
            // slow would keep the turns of all lighter ones from being taken. One that has joined is invited.
            let has_come = (ahead(with.virtual_now, turn) >= 0) & (turn != JOINED);
            let weight = per_round[lane] * HEAVIEST as f32;
            let idle = either(has_come, heaviest * when_due(weight), idle);
            let load = either(is_busy, busy, idle);
            cost[lane] = alone[lane] * load * with.waiting_factor(turn, per_round[lane]);
            least = least.min(order(cost[lane]));
            // A member without a turn yet has none that came: it gets its first one, or is invited.
            let never = mask(is_busy | (turn == 0) | (turn == JOINED));
            lateness[lane] =
                (with.virtual_now.wrapping_sub(turn) & !never) | (NEVER as u32 & never);
            // Read from the array again: otherwise the compiler decides it lane by lane.
            latest = latest.max(lateness[lane] as i32);
        }
        Least {
            cost: least,
            lateness: latest,
            own: None,
            is_invited: signs >> 31 != 0,
        }
    }

    /// Takes a member out: no cost equals its cost, and it is not its turn.
    pub(super) fn take_out(&mut self, lane: usize) {
        self.cost.as_flattened_mut()[lane] = f32::from_bits(NO_COST as u32);
        self.lateness.as_flattened_mut()[lane] = NEVER as u32;
    }

    /// The least values of the members that are left. `own` still includes those taken out, as it tells what is usual.
    pub(super) fn least_left(&self, before: &Least) -> Least {
        let lanes = filled(self.lanes).min(LANES);
        let costs = self.cost.as_flattened()[..lanes].iter();
        let latenesses = self.lateness.as_flattened()[..lanes].iter();
        Least {
            cost: costs.map(|&own| order(own)).fold(NO_COST, i32::min),
            lateness: latenesses.map(|&own| own as i32).fold(NEVER, i32::max),
            ..*before
        }
    }

    /// The members where a request costs this.
    #[inline(always)]
    pub(super) fn at_cost(&self, cost: i32) -> impl Iterator<Item = usize> {
        Lanes::matching(&self.cost, self.lanes, |own| order(own) == cost)
    }

    /// The members whose turn came this long ago, and the cost of a request as they are next.
    #[inline(always)]
    pub(super) fn due(
        &self,
        lateness: i32,
        with: &CompareParams,
        terms: &Terms<&[f32]>,
    ) -> impl Iterator<Item = (usize, i32)> {
        let due = with.due.unwrap_or(f32::INFINITY);
        let turn = with.virtual_now.wrapping_sub(lateness as u32);
        let due_now = Lanes::matching(&self.lateness, self.lanes, |own| own == lateness as u32);
        due_now.map(move |lane| {
            let waiting_factor = with.waiting_factor(turn, terms.per_round[lane]);
            let alone = self.alone.as_flattened()[lane];
            (lane, order(alone * due * waiting_factor))
        })
    }

    /// How many members the row has.
    pub(super) const fn lanes(&self) -> usize {
        self.lanes
    }

    /// The cost of a request at a member as if no member were next.
    #[inline]
    pub(super) fn cost(&self, lane: usize) -> f32 {
        self.cost.as_flattened()[lane]
    }
}

/// A cost as an integer in the same order; costs are not negative.
#[inline(always)]
pub(super) fn order(cost: f32) -> i32 {
    cost.to_bits() as i32
}

/// More than any cost.
pub(super) const NO_COST: i32 = i32::MAX;

/// The least values of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least {
    /// The least cost, computed as if no member were next.
    pub(super) cost: i32,
    /// How long ago the earliest turn of the idle members came.
    pub(super) lateness: i32,
    /// The least own cost, where it was looked for and any is known.
    pub(super) own: Option<f32>,
    /// Whether any member has an invitation.
    pub(super) is_invited: bool,
}
