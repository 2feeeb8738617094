//! The best of the rows compared so far.

use super::rows::{CompareParams, Least, NEVER, NO_COST, Row, Terms, is_near};

#[derive(Clone, Copy, Debug)]
pub(super) struct Best {
    /// The least cost, computed as if no member were next.
    cost: i32,
    index: usize,
    /// How long ago the earliest turn of the idle members came,
    lateness: i32,
    /// and the least cost of a member with that turn, as it is due.
    due: i32,
    due_index: usize,
    /// The least own cost that is known of any member, where it was looked for; infinite if none is known.
    own: f32,
    /// A member with an invitation: a mark by which upkeep asks one pick to try an endpoint that is avoided or unknown.
    pub(super) invited: Option<usize>,
}

impl Best {
    pub(super) const fn none() -> Self {
        Self {
            cost: NO_COST,
            index: 0,
            lateness: NEVER,
            due: NO_COST,
            due_index: 0,
            own: f32::INFINITY,
            invited: None,
        }
    }

    /// Adds a row. `is_before` decides which of two equals comes first.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        (row, least): (&Row, &Least),
        with: &CompareParams,
        terms: &Terms<&[f32]>,
        index: impl Fn(usize) -> usize,
        is_before: impl Fn(usize, usize) -> bool,
    ) {
        let cost = least.cost;
        if cost <= self.cost && cost < NO_COST {
            for lane in row.at_cost(cost) {
                let index = index(lane);
                if self.cost != cost || is_before(index, self.index) {
                    (self.cost, self.index) = (cost, index);
                }
            }
        }
        if with.due.is_some() && least.lateness > NEVER && least.lateness >= self.lateness {
            if least.lateness > self.lateness {
                (self.lateness, self.due) = (least.lateness, NO_COST);
            }
            for (lane, due) in row.due(least.lateness, with, terms) {
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

    /// Merges the best of other rows, which were compared separately.
    #[inline(always)]
    pub(super) fn join(&mut self, other: &Self, is_before: impl Fn(usize, usize) -> bool) {
        let is_first = other.cost == self.cost && is_before(other.index, self.index);
        if other.cost < self.cost || (is_first && other.cost < NO_COST) {
            (self.cost, self.index) = (other.cost, other.index);
        }
        let is_due_first = other.due == self.due && is_before(other.due_index, self.due_index);
        let is_sooner = other.due < self.due || is_due_first;
        if other.lateness > self.lateness
            || (other.lateness == self.lateness && other.lateness > NEVER && is_sooner)
        {
            (self.lateness, self.due) = (other.lateness, other.due);
            self.due_index = other.due_index;
        }
        self.own = self.own.min(other.own);
        self.invited = other.invited.or(self.invited);
    }

    /// The members that may turn out to be the best: the one of least cost, and the one whose turn came first.
    pub(super) fn both(&self) -> [Option<usize>; 2] {
        [
            (self.cost < NO_COST).then_some(self.index),
            (self.lateness > NEVER).then_some(self.due_index),
        ]
    }

    /// The best member; `None` if none was compared.
    #[inline]
    pub(super) fn index(&self, is_before: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let is_first = || is_before(self.due_index, self.index);
        if is_near(self.lateness) && (self.due < self.cost || self.due == self.cost && is_first()) {
            return Some(self.due_index);
        }
        (self.cost < NO_COST).then_some(self.index)
    }

    /// The least own cost that is known of any member.
    pub(super) fn least(&self) -> Option<f32> {
        (self.own < f32::INFINITY).then_some(self.own)
    }
}
