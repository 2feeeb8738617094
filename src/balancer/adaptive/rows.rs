//! What a request costs at each of a row of members, side by side: in plain loops over arrays, which the compiler makes
//! instructions of that take four members or more at a time.

use std::ops::Range;

use super::super::lanes::{Lanes, either, mask};
use super::{HEAVIEST, ahead};
use crate::shared::{AGES, LANES, Spot};
use crate::time::Tick;

/// From how many times an endpoint's latency on the age of what is in flight there takes its place: before it
/// answers, it shows that it does not.
const OVERDUE: f32 = 3.0;

/// What a round of waiting takes off a cost: 2 %.
const DISCOUNT: f32 = 0.02;

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
    /// What an idle one's own cost is multiplied by when it is its turn; `None` if that does not matter.
    pub(super) due: Option<f32>,
    /// For how many rounds waiting counts.
    pub(super) rounds: f32,
    /// The time in turns.
    pub(super) present: u32,
}

/// What is seen of a row's members; when they have been compared, what it comes to is in the same place.
#[derive(Debug)]
pub(super) struct Row {
    /// Requests in flight.
    count: [i32; LANES],
    /// Their ages, in parts of a nanosecond; then what a request costs where it is nobody's turn.
    cost: [f32; LANES],
    /// What is kept as its own cost; then what a request costs alone, by that or by the mean age.
    alone: [f32; LANES],
    /// When its turn is next; then how long ago that came, and [`NEVER`] where somebody is busy.
    late: [u32; LANES],
}

impl Measure {
    /// What is left of a cost where a turn came so long ago.
    #[inline(always)]
    fn patience(&self, turn: u32, per_round: f32) -> f32 {
        let waited = ahead(self.present, turn) as f32 * per_round;
        // It may have had no turn.
        let waited = either(turn == 0, 0.0, waited);
        let waited = if waited > -1.0 { waited } else { -1.0 };
        let waited = if waited < self.rounds {
            waited
        } else {
            self.rounds
        };
        1.0 - DISCOUNT * waited
    }
}

/// Nearly always nobody's: the division is kept out of the way.
#[cold]
fn mean_ages(alone: &mut [f32], count: &[i32], ages: &[f32]) {
    for ((alone, count), ages) in alone.iter_mut().zip(count).zip(ages) {
        let (count, ages) = (*count as f32, ages * AGE);
        if ages > OVERDUE * *alone * count {
            *alone = ages / count;
        }
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
        let (per_round, queue): (Vec<_>, Vec<_>) = all.unzip();
        Self {
            per_round: per_round.into(),
            queue: queue.into(),
        }
    }

    /// Of these members, as many as a row has.
    pub(super) fn of_these(&self, indices: &[usize]) -> Terms<[f32; LANES]> {
        let of = |all: &[f32]| {
            let mut these = [0.0; LANES];
            for (own, &index) in these.iter_mut().zip(indices) {
                *own = all[index];
            }
            these
        };
        Terms {
            per_round: of(&self.per_round),
            queue: of(&self.queue),
        }
    }
}

impl<T: AsRef<[f32]>> Terms<T> {
    /// Of some of them.
    #[inline]
    pub(super) fn at(&self, range: Range<usize>) -> Terms<&[f32]> {
        Terms {
            per_round: &self.per_round.as_ref()[range.clone()],
            queue: &self.queue.as_ref()[range],
        }
    }

    /// Of how many.
    #[inline]
    pub(super) fn lanes(&self) -> usize {
        self.queue.as_ref().len()
    }
}

impl Row {
    pub(super) const fn new() -> Self {
        Self {
            count: [0; LANES],
            cost: [0.0; LANES],
            alone: [0.0; LANES],
            late: [0; LANES],
        }
    }

    /// Looks at these members.
    #[inline(always)]
    pub(super) fn see<'a>(&mut self, spots: impl Iterator<Item = Spot<'a>>, now: Tick) {
        let loads = self.count.iter_mut().zip(&mut self.cost);
        let kept = self.alone.iter_mut().zip(&mut self.late);
        for ((spot, (count, ages)), (own, turn)) in spots.zip(loads).zip(kept) {
            let load = spot.load();
            // With signs, as that is what processors convert at once.
            *count = load.count() as i32;
            *ages = load.ages(now) as f32;
            *own = spot.cost();
            *turn = spot.turn();
        }
    }

    /// Compares as many as there are terms for. Not inlined: what the compiler makes of it should not depend on what is
    /// around it.
    #[inline(never)]
    pub(super) fn compare(&mut self, with: &Measure, terms: &Terms<&[f32]>) -> Least {
        let lanes = terms.queue.len().min(LANES);
        let (queue, per_round) = (&terms.queue[..lanes], &terms.per_round[..lanes]);
        let (count, cost) = (&self.count[..lanes], &mut self.cost[..lanes]);
        let (alone, late) = (&mut self.alone[..lanes], &mut self.late[..lanes]);
        let mut least = Least {
            cost: NOBODY,
            late: NEVER,
            own: u32::MAX,
            signs: 0,
        };
        let mut is_overdue = 0;
        for lane in 0..lanes {
            let own = alone[lane];
            // An unknown cost is 0, so it comes last.
            least.own = least.own.min(own.to_bits().wrapping_sub(1));
            least.signs |= own.to_bits();
            alone[lane] = either(own == 0.0, with.usual, own.abs());
            is_overdue |= mask(cost[lane] * AGE > OVERDUE * alone[lane] * count[lane] as f32);
        }
        // Whose turn it is costs as little as the heaviest, and no other idle one less.
        let not_due = with.due.map_or(0.0, |due| due * NOT_DUE);
        if is_overdue != 0 {
            mean_ages(alone, count, cost);
        }
        for lane in 0..lanes {
            let is_busy = mask(count[lane] > 0);
            let busy = (count[lane] + 1) as f32 * queue[lane];
            let idle = if queue[lane] > not_due {
                queue[lane]
            } else {
                not_due
            };
            let load = either(count[lane] > 0, busy, idle);
            cost[lane] = alone[lane] * load * with.patience(late[lane], per_round[lane]);
            least.cost = least.cost.min(order(cost[lane]));
            late[lane] =
                (with.present.wrapping_sub(late[lane]) & !is_busy) | (NEVER as u32 & is_busy);
            least.late = least.late.max(late[lane] as i32);
        }
        least
    }

    /// Those of so many where a request costs this.
    pub(super) fn at_cost(&self, cost: i32, lanes: usize) -> impl Iterator<Item = usize> {
        Lanes::that(self.cost[..lanes].iter().map(|&own| order(own) == cost))
    }

    /// Those of so many whose turn came so long ago, and what a request costs as it is their turn.
    pub(super) fn due(
        &self,
        late: i32,
        with: &Measure,
        terms: &Terms<&[f32]>,
    ) -> impl Iterator<Item = (usize, i32)> {
        let due = with.due.unwrap_or(f32::INFINITY);
        let turn = with.present.wrapping_sub(late as u32);
        let own = &self.late[..terms.lanes()];
        Lanes::that(own.iter().map(|&own| own == late as u32)).map(move |lane| {
            let patience = with.patience(turn, terms.per_round[lane]);
            (lane, order(self.alone[lane] * due * patience))
        })
    }

    /// What a request costs each where it is nobody's turn.
    pub(super) const fn costs(&self) -> &[f32; LANES] {
        &self.cost
    }
}

/// A cost as a number in the same order: costs are not negative. Of floats there is no least one that processors would find
/// side by side, because of those that are not numbers.
#[inline(always)]
pub(super) fn order(cost: f32) -> i32 {
    cost.to_bits() as i32
}

/// More than any cost.
pub(super) const NOBODY: i32 = i32::MAX;

/// The least of a row.
#[derive(Debug)]
pub(super) struct Least {
    /// Of what a request costs where it is nobody's turn.
    pub(super) cost: i32,
    /// How long ago the first turn of the idle came.
    pub(super) late: i32,
    /// One less than the bits of the least that is known to be a member's own cost.
    pub(super) own: u32,
    /// The highest bit set if there is an invitation.
    signs: u32,
}

impl Least {
    #[inline]
    pub(super) const fn is_invited(&self) -> bool {
        self.signs >> 31 != 0
    }
}
