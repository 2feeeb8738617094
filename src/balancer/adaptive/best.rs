//! The best of the rows compared so far, and what else was seen on the way.

use super::rows::{Least, Measure, NEVER, NOBODY, Row, Terms, is_near};

#[derive(Clone, Copy, Debug)]
pub(super) struct Best {
    /// The least cost, if it were nobody's turn.
    cost: i32,
    index: usize,
    /// How long ago the first turn of the idle came,
    late: i32,
    /// and the least cost of those who have it.
    due: i32,
    due_index: usize,
    /// What is known to be the least that a request costs anybody alone, where that was asked; infinite if it is not known.
    own: f32,
    /// Somebody with an invitation.
    pub(super) invited: Option<usize>,
}

impl Best {
    pub(super) const fn none() -> Self {
        Self {
            cost: NOBODY,
            index: 0,
            late: NEVER,
            due: NOBODY,
            due_index: 0,
            own: f32::INFINITY,
            invited: None,
        }
    }

    /// One row more. `is_before` tells who comes first of equals.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        (row, least): (&Row, &Least),
        with: &Measure,
        terms: &Terms<&[f32]>,
        index: impl Fn(usize) -> usize,
        is_before: impl Fn(usize, usize) -> bool,
    ) {
        let cost = least.cost;
        if cost <= self.cost && cost < NOBODY {
            for lane in row.at_cost(cost) {
                let index = index(lane);
                if self.cost != cost || is_before(index, self.index) {
                    (self.cost, self.index) = (cost, index);
                }
            }
        }
        if with.due.is_some() && least.late > NEVER && least.late >= self.late {
            if least.late > self.late {
                (self.late, self.due) = (least.late, NOBODY);
            }
            for (lane, due) in row.due(least.late, with, terms) {
                let index = index(lane);
                let is_first = due == self.due && is_before(index, self.due_index);
                if due < self.due || is_first {
                    (self.due, self.due_index) = (due, index);
                }
            }
        }
        if let Some(own) = least.own {
            self.own = self.own.min(own);
        }
    }

    /// Others, of rows that have been compared apart.
    #[inline(always)]
    pub(super) fn join(&mut self, other: &Self, is_before: impl Fn(usize, usize) -> bool) {
        let is_first = other.cost == self.cost && is_before(other.index, self.index);
        if other.cost < self.cost || (is_first && other.cost < NOBODY) {
            (self.cost, self.index) = (other.cost, other.index);
        }
        let is_due_first = other.due == self.due && is_before(other.due_index, self.due_index);
        let is_sooner = other.due < self.due || is_due_first;
        if other.late > self.late || (other.late == self.late && other.late > NEVER && is_sooner) {
            (self.late, self.due) = (other.late, other.due);
            self.due_index = other.due_index;
        }
        self.own = self.own.min(other.own);
        self.invited = other.invited.or(self.invited);
    }

    /// Those of whom one may be it: of the least cost, and whose turn it is.
    pub(super) fn both(&self) -> [Option<usize>; 2] {
        [
            (self.cost < NOBODY).then_some(self.index),
            (self.late > NEVER).then_some(self.due_index),
        ]
    }

    /// Who it is; `None` if nobody was compared.
    #[inline]
    pub(super) fn index(&self, is_before: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let is_first = || is_before(self.due_index, self.index);
        if is_near(self.late) && (self.due < self.cost || self.due == self.cost && is_first()) {
            return Some(self.due_index);
        }
        (self.cost < NOBODY).then_some(self.index)
    }

    /// The least that a request costs anybody alone, if that is known of one.
    pub(super) fn least(&self) -> Option<f32> {
        (self.own < f32::INFINITY).then_some(self.own)
    }
}
