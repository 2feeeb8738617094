//! Turns and the virtual time that they are set by. Both count modulo 2^32.

use super::{ALL, AdaptivePicker};
use crate::shared::{BoardView, JOINED, below, mix};
use crate::sync::Ordering;

/// How far turns and other shards' virtual times may fall behind: they are brought forward to here whenever the virtual
/// time passes a multiple of this. Left behind by 2^31 or more, they would seem to be ahead.
pub(super) const BEHIND: u32 = 1 << 29;

impl AdaptivePicker {
    /// Brings forward the turns of members that have not been chosen for long, as they are out or avoided, and the
    /// virtual time of shards that have not picked for long. A turn brought forward still counts as long ago.
    #[cold]
    #[inline(never)]
    pub(super) fn bring_forward(&self, board: &BoardView, virtual_now: u32) {
        let earliest = virtual_now.wrapping_sub(BEHIND);
        let is_behind = |time: u32| ahead(earliest, time) > 0;
        for index in 0..self.rounds.len() {
            let spot = board.at(index);
            let turn = spot.turn();
            if turn > JOINED && is_behind(turn) {
                spot.set_turn(earliest.max(JOINED + 1));
            }
        }
        for notes in &self.notes {
            // ORDERING: Relaxed, both. As in `choose`.
            if is_behind(notes.0.virtual_now.load(Ordering::Relaxed)) {
                notes.0.virtual_now.store(earliest, Ordering::Relaxed);
            }
        }
    }

    /// Sets the virtual time by the members' turns, which another picker may have set since. By its own time, those
    /// that the other has used would have had their turns far in advance, and would get none until the rest had caught
    /// up.
    pub(super) fn adopt_turns(&self) {
        let Some(board) = &self.board else { return };
        let virtual_now = virtual_now(board, &self.rounds);
        for notes in &self.notes {
            // ORDERING: Relaxed. A hint, as in `choose`.
            notes.0.virtual_now.store(virtual_now, Ordering::Relaxed);
        }
    }

    /// Gives members that have joined later their first turn within a round, where each endpoint will get less than one
    /// request a second. Invitations take one request in fifty, so at that rate many new members would wait for
    /// minutes. What a cold endpoint costs is negligible there.
    pub(super) fn assign_first_turns(&self, pace: f32, order: u64) {
        let Some(board) = &self.board else { return };
        let count = self.rounds.len();
        let has_joined = |&index: &usize| board.at(index).turn() == JOINED;
        let joined = (0..count).filter(has_joined);
        // The pace was measured over the members that were there before; this is their share of all.
        let share = 1.0 - joined.clone().count() as f32 / count.max(1) as f32;
        if count > ALL || pace <= 0.0 || pace * share >= 1.0 {
            return;
        }
        // ORDERING: Relaxed. No other thread has access to these notes yet.
        let virtual_now = self.notes_of(0).virtual_now.load(Ordering::Relaxed);
        for index in joined {
            let random = mix(order ^ (index as u64) << 32);
            let turn = virtual_now.wrapping_add(below(self.rounds[index].into(), random) as u32);
            board.at(index).set_turn(turn.max(JOINED + 1));
        }
    }

    /// Whether a member's turn has come, or it has had none.
    pub(super) fn has_turn(&self, board: &BoardView, index: usize, virtual_now: u32) -> bool {
        let turn = board.at(index).turn();
        turn <= JOINED || ahead(turn, virtual_now) <= 0
    }
}

/// The virtual time, recovered from the members' turns: when the latest turn was. An update therefore does not reset
/// it, which would make all members wait again.
pub(super) fn virtual_now(board: &BoardView, rounds: &[u32]) -> u32 {
    let turns = rounds.iter().enumerate().map(|(index, round)| {
        let turn = board.at(index).turn();
        (turn > JOINED).then(|| turn.wrapping_sub(*round))
    });
    turns.flatten().reduce(later).unwrap_or(0)
}

/// How far one turn is ahead of another, modulo 2^32.
#[inline]
pub(super) const fn ahead(one: u32, other: u32) -> i32 {
    one.wrapping_sub(other) as i32
}

#[inline]
pub(super) const fn later(one: u32, other: u32) -> u32 {
    if ahead(one, other) < 0 { other } else { one }
}
