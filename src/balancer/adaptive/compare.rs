//! Which members a pick compares: all of them, or some of many, and of those only the ones that may be picked.

use super::best::Best;
use super::notes::{Candidates, Notes};
use super::rows::{CompareParams, Least, Row, Terms};
use super::{AdaptivePicker, ahead};
use crate::shared::{BoardView, JOINED, LANES};

/// Whether a member may be picked, or `None` if all may. Asking takes longer than comparing.
type MayPick<'a> = Option<&'a dyn Fn(usize) -> bool>;

/// How often the best of a row are checked before all of the row are.
const LOOKS: usize = 5;

impl AdaptivePicker {
    /// Compares all members, or those that may be picked.
    ///
    /// The virtual time of a shard that picks seldom lags behind. All members would seem to have just had a turn, and
    /// the first of equals would be chosen each time. The comparison is then repeated at the time of the earliest turn
    /// to come.
    #[inline(always)]
    pub(super) fn all(
        &self,
        board: &BoardView,
        with: &mut CompareParams,
        may_pick: MayPick<'_>,
    ) -> Best {
        let best = self.rows(board, with, may_pick);
        let chosen = best.index(|one, other| self.is_before(one, other));
        // A turn that this shard has set is at most one round ahead.
        let is_far = |index: usize| {
            let turn = board.at(index).turn();
            turn > JOINED && ahead(turn, with.virtual_now) > self.rounds[index] as i32
        };
        if chosen.is_some_and(is_far) {
            return self.all_later(board, with, may_pick);
        }
        best
    }

    #[cold]
    #[inline(never)]
    fn all_later(
        &self,
        board: &BoardView,
        with: &mut CompareParams,
        may_pick: MayPick<'_>,
    ) -> Best {
        let turns = (0..self.rounds.len()).map(|index| board.at(index).turn());
        // Only turns ahead: a member that is out or avoided has one of long ago.
        let to_come = turns.filter(|&turn| turn > JOINED && ahead(turn, with.virtual_now) > 0);
        if let Some(next) = to_come.min_by_key(|&turn| ahead(turn, with.virtual_now)) {
            with.virtual_now = next;
        }
        self.rows(board, with, may_pick)
    }

    #[inline(always)]
    fn rows(&self, board: &BoardView, with: &CompareParams, may_pick: MayPick<'_>) -> Best {
        let mut best = Best::none();
        let mut row = Row::new();
        for number in 0..self.rounds.len().div_ceil(LANES) {
            self.row(&mut best, &mut row, board, with, number, may_pick);
        }
        best
    }

    /// Compares some of many members, or those of them that may be picked, and remembers the good ones.
    pub(super) fn some(
        &self,
        candidates: &Candidates,
        board: &BoardView,
        with: &CompareParams,
        notes: &Notes,
        may_pick: MayPick<'_>,
    ) -> Best {
        let (mut best, mut row) = (Best::none(), Row::new());
        let good = candidates.good.iter().copied();
        self.these(&mut best, &mut row, board, with, good, may_pick);
        // A member that was taken out because it may not be picked has NaN as its cost: it is not the worst, and stays
        // remembered.
        let worst = Notes::worst(&candidates.good, |lane| row.cost(lane));
        let costs = candidates.drawn.map(|index| {
            self.row(&mut best, &mut row, board, with, index / LANES, may_pick);
            row.cost(index % LANES)
        });
        notes.remember(candidates, worst, costs);
        best
    }

    /// Compares the members of one row.
    #[inline(always)]
    fn row(
        &self,
        best: &mut Best,
        row: &mut Row,
        board: &BoardView,
        with: &CompareParams,
        number: usize,
        may_pick: MayPick<'_>,
    ) {
        let first = number * LANES;
        let range = first..(first + LANES).min(self.rounds.len());
        let Some(spots) = board.row(number) else {
            return self.these(best, row, board, with, range, may_pick);
        };
        let terms = self.terms.at(first, range.len());
        let least = row.compare(spots.iter(), with, &terms);
        let index = |lane| first + lane;
        let Some(may_pick) = may_pick else {
            return self.add(best, (row, &least), board, with, &terms, index);
        };
        self.add_of(best, (row, least), board, with, &terms, (index, may_pick));
    }

    /// Compares up to [`LANES`] members from anywhere in the set, as one row.
    #[inline(never)]
    fn these(
        &self,
        best: &mut Best,
        row: &mut Row,
        board: &BoardView,
        with: &CompareParams,
        indices: impl Iterator<Item = usize>,
        may_pick: MayPick<'_>,
    ) {
        let mut places = [0; LANES];
        let mut lanes = 0;
        for (place, index) in places.iter_mut().zip(indices) {
            *place = index;
            lanes += 1;
        }
        let indices = &places[..lanes];
        let terms = self.terms.of_these(indices);
        let terms = terms.at(0, lanes);
        let spots = indices.iter().map(|&index| board.at(index));
        let least = row.compare(spots, with, &terms);
        let index = |lane: usize| indices[lane];
        let Some(may_pick) = may_pick else {
            return self.add(best, (row, &least), board, with, &terms, index);
        };
        self.add_of(best, (row, least), board, with, &terms, (index, may_pick));
    }

    /// Adds a row that has been compared.
    #[inline(always)]
    fn add(
        &self,
        best: &mut Best,
        (row, least): (&Row, &Least),
        board: &BoardView,
        with: &CompareParams,
        terms: &Terms<&[f32]>,
        index: impl Fn(usize) -> usize,
    ) {
        best.add((row, least), with, terms, &index, |one, other| {
            self.is_before(one, other)
        });
        if least.is_invited {
            let mut those = (0..row.lanes()).rev().map(index);
            let invited = those.find(|&index| board.at(index).cost().is_sign_negative());
            best.invited = invited.or(best.invited);
        }
    }

    /// Adds the members of a row that may be picked: checks the best of the row and takes out those that may not be
    /// picked, until the best may. `index` maps a lane to the member's index.
    #[inline(always)]
    fn add_of(
        &self,
        best: &mut Best,
        (row, mut least): (&mut Row, Least),
        board: &BoardView,
        with: &CompareParams,
        terms: &Terms<&[f32]>,
        (index, may_pick): (impl Fn(usize) -> usize, &dyn Fn(usize) -> bool),
    ) {
        let is_before = |one, other| self.is_before(one, other);
        for look in 0.. {
            let mut one = Best::none();
            one.add((&*row, &least), with, terms, &index, is_before);
            let mut may_all = true;
            for best in one.both().into_iter().flatten() {
                if !may_pick(best) {
                    // A member may be in the row twice; all its lanes are taken out. So each look removes a member, and
                    // the loop ends whatever `may_pick` answers.
                    let out = (0..row.lanes()).filter(|&lane| index(lane) == best);
                    out.for_each(|lane| row.take_out(lane));
                    may_all = false;
                }
            }
            if may_all {
                best.join(&one, is_before);
                break;
            }
            if look == LOOKS {
                let out = (0..row.lanes()).filter(|&lane| !may_pick(index(lane)));
                out.for_each(|lane| row.take_out(lane));
            }
            least = row.least_left(&least);
        }
        if least.is_invited {
            let mut those = (0..row.lanes()).rev().map(index);
            let invited =
                those.find(|&index| board.at(index).cost().is_sign_negative() && may_pick(index));
            best.invited = invited.or(best.invited);
        }
    }
}
