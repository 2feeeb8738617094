//! What a request costs at each of a row of members, side by side: in plain loops over arrays, which the compiler makes
//! instructions of that take four members at a time.

use super::super::lanes::{FOUR, Fours, Lanes, either, filled, mask};
use super::{HEAVIEST, ahead};
use crate::shared::{AGES, JOINED, LANES, OVERDUE, Spot};
use crate::time::Tick;

/// What a round of waiting takes off a cost: 2 %.
const DISCOUNT: f32 = 0.02;

/// What is left of the cost of who was there from the first on and has had no turn: less than anybody's. Not nothing, as nobody costs
/// more than any, and nothing times that is no number.
pub(super) const FIRST: f32 = 1e-6;

/// Among the idle of different weights, what others cost than the one whose turn it is.
const NOT_DUE: f32 = 1.04;

/// What ages are counted in, in nanoseconds.
const AGE: f32 = 1.0 / AGES as f32;

/// Further ahead than any turn is.
pub(super) const NEVER: i32 = i32::MIN;

/// What is known of a row's members beforehand.
#[derive(Clone, Debug)]
pub(super) struct Terms<T> {
    /// One by the length of its round.
    pub(super) per_round: T,
    /// What a request there adds to the cost: so much for the mean weight as one request costs alone.
    pub(super) queue: T,
}

/// What a pick compares by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    pub(super) now: Tick,
    /// What an unknown endpoint costs.
    pub(super) usual: f32,
    /// Whether that is the fleet's usual latency, and not the least that is known of anybody.
    pub(super) knows_usual: bool,
    /// What is in flight for longer, in the mean, is forgotten.
    pub(super) forgotten: f32,
    /// What an idle one's own cost is multiplied by when it is its turn; `None` if that does not matter.
    pub(super) due: Option<f32>,
    /// For how many rounds waiting counts.
    pub(super) rounds: f32,
    /// For how many rounds whoever has come to others and has had no turn has waited. None where all are compared: the new may be cold, and
    /// get their turn by invitation. Of many, as many as count: among so few there is always one that has waited.
    pub(super) untried: f32,
    /// The time in turns.
    pub(super) present: u32,
}

/// What is seen of a row's members; when they have been weighed, what it comes to is in the same place. Filled up to a
/// multiple of [`FOUR`], so that no loop has an end that is taken one by one.
#[derive(Debug)]
pub(super) struct Row {
    /// Requests in flight. With a sign, as that is what processors convert at once.
    count: Fours<i32>,
    /// Their ages, in parts of a nanosecond; then what a request costs where it is nobody's turn.
    cost: Fours<f32>,
    /// What is kept as its own cost; then what a request costs alone, with regard to the mean age.
    alone: Fours<f32>,
    /// When its turn is next; then how long ago that came, and [`NEVER`] where somebody is busy or has had none.
    late: Fours<u32>,
    /// How many there are.
    lanes: usize,
}

impl Measure {
    /// What is left of a cost where a turn came so long ago.
    #[inline(always)]
    fn patience(&self, turn: u32, per_round: f32) -> f32 {
        let waited = ahead(self.present, turn) as f32 * per_round;
        // It may have had no turn.
        let waited = either(turn == JOINED, self.untried, waited);
        let waited = if waited > -1.0 { waited } else { -1.0 };
        let waited = if waited < self.rounds {
            waited
        } else {
            self.rounds
        };
        // Of those who were there from the first on each has one before others are preferred for what is known of them.
        either(turn == 0, FIRST, 1.0 - DISCOUNT * waited)
    }
}

/// A turn that came so long ago is somebody's: it may be no further ahead than a round of the heaviest. Nearer than that
/// somebody's is, while all are idle.
pub(super) fn is_near(late: i32) -> bool {
    late >= -(HEAVIEST as i32)
}

impl Terms<Box<[f32]>> {
    /// Made from one by the length of each one's round, and what a request adds to its cost.
    pub(super) fn of(all: impl Iterator<Item = (f32, f32)>) -> Self {
        let (mut per_round, mut queue): (Vec<_>, Vec<_>) = all.unzip();
        fill(&mut per_round);
        fill(&mut queue);
        Self {
            per_round: per_round.into(),
            queue: queue.into(),
        }
    }

    /// Of these members, as many as a row has.
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

/// Up to a multiple of [`FOUR`], with what does no harm.
fn fill(terms: &mut Vec<f32>) {
    terms.resize(filled(terms.len()), 1.0);
}

impl<T: AsRef<[f32]>> Terms<T> {
    /// Of so many from this one on.
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
            late: [[0; FOUR]; LANES / FOUR],
            lanes: 0,
        }
    }

    /// Compares these members.
    #[inline(always)]
    pub(super) fn compare<'a>(
        &mut self,
        spots: impl Iterator<Item = Spot<'a>>,
        with: &Measure,
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

    /// Looks at these members.
    #[inline(always)]
    fn see<'a>(&mut self, spots: impl Iterator<Item = Spot<'a>>, now: Tick) {
        let (count, ages) = (self.count.as_flattened_mut(), self.cost.as_flattened_mut());
        let (own, turn) = (self.alone.as_flattened_mut(), self.late.as_flattened_mut());
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
        // Nobody: busy, and dearer than anybody, whatever its turn.
        for lane in lanes..filled(lanes).min(LANES) {
            (count[lane], ages[lane], own[lane]) = (1, 0.0, f32::INFINITY);
        }
    }

    /// The least of what is kept as somebody's own cost, if any is known that is no invitation.
    #[inline(never)]
    fn least_own(&self) -> Option<f32> {
        let kept = self.alone.as_flattened()[..filled(self.lanes)].iter();
        // By their bits, which are in the same order: an unknown one, which is 0, comes last, and before it those with a sign.
        let before = |own: &f32| own.to_bits().wrapping_sub(1);
        let least = kept.map(before).fold(u32::MAX, u32::min);
        // The nobodies' are infinite.
        let is_known = least < f32::INFINITY.to_bits() - 1;
        is_known.then(|| f32::from_bits(least + 1))
    }

    /// Weighs those that have been looked at. Not inlined: what the compiler makes of it should not depend on what is around
    /// it.
    #[inline(never)]
    fn weigh(&mut self, with: &Measure, terms: &Terms<&[f32]>) -> Least {
        debug_assert_eq!(terms.queue.len(), filled(self.lanes), "a term for each");
        let lanes = terms.queue.len().min(LANES);
        let (queue, per_round) = (&terms.queue[..lanes], &terms.per_round[..lanes]);
        let count = &self.count.as_flattened()[..lanes];
        let cost = &mut self.cost.as_flattened_mut()[..lanes];
        let alone = &mut self.alone.as_flattened_mut()[..lanes];
        let late = &mut self.late.as_flattened_mut()[..lanes];
        let (mut least, mut latest, mut signs) = (NOBODY, NEVER, 0);
        let with = *with;
        // Whose turn it is costs as little as the heaviest, and no other idle one less.
        let not_due = with.due.map_or(0.0, |due| due * NOT_DUE);
        for lane in 0..lanes {
            let own = alone[lane];
            signs |= own.to_bits();
            let known = either(own == 0.0, with.usual, own.abs());
            // Where nothing is in flight nothing is overdue.
            let (ages, in_flight) = (cost[lane] * AGE, count[lane] as f32);
            let is_overdue =
                (ages > OVERDUE * known * in_flight) & (ages <= with.forgotten * in_flight);
            alone[lane] = either(is_overdue, OVERDUE * known, known);
            let is_busy = count[lane] > 0;
            let busy = (count[lane] + 1) as f32 * queue[lane];
            let idle = if queue[lane] > not_due {
                queue[lane]
            } else {
                not_due
            };
            let load = either(is_busy, busy, idle);
            let turn = late[lane];
            cost[lane] = alone[lane] * load * with.patience(turn, per_round[lane]);
            least = least.min(order(cost[lane]));
            // Whoever has had no turn has none that came: it has its first, or is invited.
            let never = mask(is_busy | (turn == 0) | (turn == JOINED));
            late[lane] = (with.present.wrapping_sub(turn) & !never) | (NEVER as u32 & never);
            // Read again: otherwise it is taken for something to be decided one by one.
            latest = latest.max(late[lane] as i32);
        }
        Least {
            cost: least,
            late: latest,
            own: None,
            is_invited: signs >> 31 != 0,
        }
    }

    /// Takes this one out: nobody costs as much, and it is nobody's turn.
    pub(super) fn take_out(&mut self, lane: usize) {
        self.cost.as_flattened_mut()[lane] = f32::from_bits(NOBODY as u32);
        self.late.as_flattened_mut()[lane] = NEVER as u32;
    }

    /// The least of those that are left. What is kept as their own costs is still everybody's: it tells what is usual.
    pub(super) fn least_left(&self, before: &Least) -> Least {
        let lanes = filled(self.lanes).min(LANES);
        let costs = self.cost.as_flattened()[..lanes].iter();
        let lates = self.late.as_flattened()[..lanes].iter();
        Least {
            cost: costs.map(|&own| order(own)).fold(NOBODY, i32::min),
            late: lates.map(|&own| own as i32).fold(NEVER, i32::max),
            ..*before
        }
    }

    /// Those where a request costs this.
    #[inline(always)]
    pub(super) fn at_cost(&self, cost: i32) -> impl Iterator<Item = usize> {
        Lanes::that(&self.cost, self.lanes, |own| order(own) == cost)
    }

    /// Those whose turn came so long ago, and what a request costs as it is their turn.
    #[inline(always)]
    pub(super) fn due(
        &self,
        late: i32,
        with: &Measure,
        terms: &Terms<&[f32]>,
    ) -> impl Iterator<Item = (usize, i32)> {
        let due = with.due.unwrap_or(f32::INFINITY);
        let turn = with.present.wrapping_sub(late as u32);
        let due_now = Lanes::that(&self.late, self.lanes, |own| own == late as u32);
        due_now.map(move |lane| {
            let patience = with.patience(turn, terms.per_round[lane]);
            let alone = self.alone.as_flattened()[lane];
            (lane, order(alone * due * patience))
        })
    }

    /// How many there are.
    pub(super) const fn lanes(&self) -> usize {
        self.lanes
    }

    /// What a request costs this one where it is nobody's turn.
    #[inline]
    pub(super) fn cost(&self, lane: usize) -> f32 {
        self.cost.as_flattened()[lane]
    }
}

/// A cost as a number in the same order: costs are not negative.
#[inline(always)]
pub(super) fn order(cost: f32) -> i32 {
    cost.to_bits() as i32
}

/// More than any cost.
pub(super) const NOBODY: i32 = i32::MAX;

/// The least of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least {
    /// Of what a request costs where it is nobody's turn.
    pub(super) cost: i32,
    /// How long ago the first turn of the idle came.
    pub(super) late: i32,
    /// Of what is kept as a member's own cost, where that was asked and any is known.
    pub(super) own: Option<f32>,
    /// Whether somebody has an invitation.
    pub(super) is_invited: bool,
}
