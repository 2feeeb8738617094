//! The one that should answer first, of all.

use std::time::Duration;

use super::cumulative::{Cumulative, effective_weights};
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::{JOINED, Readings, below, forgotten, mix};
use crate::sync::{Ordering, Padded};
use crate::time::{Tick, nanos};

mod best;
mod compare;
mod notes;
mod rows;

use best::Best;
use notes::{Notes, UNKNOWN};
use rows::{Measure, Terms};

/// Up to so many endpoints are compared, all of them.
const ALL: usize = 256;

/// To wait counts for as many rounds as go by in this time, in seconds: the oftener endpoints are tried, the less is lost by
/// a try.
const WAITING: f32 = 1.5;

/// For so many rounds at least, which keeps equals in turn,
const FEWEST: f32 = 2.0;

/// and so many at most.
const MOST: f32 = 16.0;

/// For this many rounds divided by how many requests a second an endpoint gets: where those are far apart estimates are old, and
/// nothing is lost by turns.
const SELDOM: f32 = 2.0;

/// But for no more than this divided by how many requests a second an endpoint gets: of so many answers the estimate is made,
/// and the more they are the less of what differs between two is noise.
const SURE: f32 = 200.0;

/// Where they are many, for so many rounds all the same: an endpoint that has been slow is not sure to be so still.
const SURELY: f32 = 6.0;

/// For how many rounds waiting counts, where an endpoint gets so many requests a second from this fleet.
#[inline]
fn patience(pace: f32) -> f32 {
    // Before anything is known of the pace it is 0, and all are alike.
    let enough = (SURE / pace).max(SURELY);
    (pace * WAITING)
        .max(SELDOM / pace)
        .clamp(FEWEST, MOST)
        .min(enough)
}

/// An odd number that moves whatever differs to the top.
const SPREAD: u64 = 0xD6E8_FEB8_6659_FD93;

/// A round of the heaviest is 2 to the power of this.
const ROUND_BITS: u32 = 10;
const HEAVIEST: u32 = 1 << ROUND_BITS;

/// No turn is so far ahead of the time: a round is at most 2^26.
const FAR: i32 = 1 << 30;

/// The endpoint where a request should cost least, by its latency, its requests in flight for its weight, their age, and its errors.
///
/// ```text
/// cost     = latency · (in_flight + 1) · mean weight / weight · penalty · (1 − 0.02 · waited)
/// latency  = of the endpoint's estimate in units of the fleet's usual, x: 1 + min(8 (x − 1)², 3 x) above 1, x − min((1 − x)² / 2, 0.03 x)
///            below; 3 times that, with the penalty, where the mean age of its requests in flight is more than 3 times that, up to a minute
///            or 12 times the usual
/// penalty  = 1 / (1 − e)² + 20 e    e: its share of errors above the fleet's, in the window's later half
/// waited   = rounds since its turn came, by its weight; at most as many as go by in 1.5 s, or 2 / (requests a second to each) where that
///            is more, from 2 to 16, and no more than 200 / (requests a second to each), or 6 where that is less
/// ```
///
/// So the noise of estimates counts for little, and an endpoint that is half as slow again as usual for three times: in proportion, too many
/// requests would go where part of the latency is a network's, or where a weight promises too much. In slow start after an ejection it is in
/// proportion, as answers are few then.
///
/// The idle endpoint whose turn it is counts as one of the heaviest: by weights alone the light would never be used while there
/// is little to do.
///
/// Each endpoint of the initial set has a turn before any is preferred, in an order by weight (so a fleet that has few requests before it is
/// dropped uses the light ones more than is due); one that joins later is invited to (again, as long as its requests tell nothing of it), and
/// has its turn anyhow where each gets less than one request a second. From its first answer to its third it counts as slightly better than
/// usual.
///
/// So where all are known to be alike they are served one after the other, each by its weight, as by
/// [`WeightedRoundRobin`](super::WeightedRoundRobin); and where they differ by no more than the noise of
/// their estimates, they are all used. Not evenly where nothing waits: one of twenty or a hundred like endpoints may then get up to ten times
/// its share for a while (and more after others have joined), and others a tenth (F3 of `benches/quality.md`), unless requests to each are
/// many seconds apart.
///
/// Up to 256 endpoints are all compared; of more, 104: eight that were good last time (per shard of threads) and three rows of 32 in the
/// order of the set, drawn by their members' weight and spread evenly over the picks. Shares of like endpoints are then within a few of
/// what is due; with very different weights and low load, the lightest may get twice theirs. An endpoint avoided and idle for a second is
/// invited now and then to show how it is: by at most one request in fifty, and after each answer that is no better only after twice as
/// long, up to 16 s.
///
/// It combines known rules: two drawn at random may both be bad; in-flight alone does not see a fast failure, nor latency alone a growing
/// queue; and comparing all does not herd, as each pick raises the cost it saw. A pick costs 2 to 3 ns for each endpoint compared
/// (`benches/README.md`), and all threads write what they compare. It breaks down where latency depends on the request more than on the
/// endpoint, and one endpoint gets all heavy requests: see [`docs::policies`](crate::docs::policies#how-to-choose) for streams.
///
/// Sources: comparing all, C3 (NSDI 2015); mean age, brpc's locality-aware balancing; remembered choices, Mitzenmacher, Prabhakar
/// and Shah (2002); turns, start-time fair queueing (Goyal and others, 1996). The formula and its numbers
/// are this crate's, chosen by its simulation: see `benches/quality.md`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Adaptive;

impl Adaptive {
    /// The policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for Adaptive {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        let cursor = view.cursor();
        if view.members().len() <= ALL {
            view.pick_of_all();
        }
        let order = cursor.next(0);
        let weights = effective_weights(view.members());
        let lowest = Lowest::new(&weights, view.board(), order, cursor.shards());
        let pace = view
            .members()
            .first()
            .map(|one| one.core().shared.trend.pace());
        lowest.seat(pace.unwrap_or(0.0), order);
        Box::new(lowest)
    }
}

struct Lowest {
    /// How much later each one's next turn is than this one.
    rounds: Box<[u32]>,
    /// What each one's cost comes from.
    terms: Terms<Box<[f32]>>,
    /// What an idle one's own cost is multiplied by when it is its turn: `None` if all weights are the same, so that it is
    /// the same as when it is not.
    due: Option<f32>,
    /// How far from the end the one is that comes first of equals: in each fleet another, so that many clients do not all
    /// choose the same.
    shift: usize,
    /// How much of what it has waited whoever is chosen keeps, in rounds of this length if its own is shorter: many endpoints are
    /// looked at in turns, and the heavy have many turns between two looks. 0 where all are looked at.
    kept: u32,
    table: Cumulative,
    /// `None` where the view was not the fleet's own.
    board: Option<Readings>,
    notes: Box<[Padded<Notes>]>,
}

impl Lowest {
    /// `order` tells who comes first of equals.
    fn new(weights: &[u64], board: Option<Readings>, order: u64, shards: usize) -> Self {
        let mean = weights.iter().sum::<u64>() as f64 / weights.len().max(1) as f64;
        let most = weights.iter().copied().max().unwrap_or(1);
        let queue = (mean / (most << ROUND_BITS) as f64) as f32;
        // At most 2^26, as weights are at least 1/65536 of the heaviest.
        let round = |weight: u64| ((most << ROUND_BITS) / weight.max(1)) as u32;
        let is_weighted = weights.iter().any(|&weight| weight != most);
        let due = is_weighted.then_some(queue * HEAVIEST as f32);
        let terms = weights.iter().map(|&weight| {
            let per_round = weight as f32 / (most << ROUND_BITS) as f32;
            (per_round, queue * round(weight) as f32)
        });
        let rounds: Box<[u32]> = weights.iter().map(|&weight| round(weight)).collect();
        let present = board.as_ref().map_or(0, |board| present(board, &rounds));
        Self {
            rounds,
            terms: Terms::of(terms),
            due,
            shift: order.wrapping_neg() as usize % weights.len().max(1),
            kept: match weights.len() {
                ..=ALL => 0,
                _ => ((most << ROUND_BITS) as f64 / mean.max(1.0)) as u32,
            },
            table: Cumulative::new(weights),
            board,
            notes: (0..shards as u64)
                .map(|shard| {
                    let begin = (order ^ shard << 32).wrapping_mul(SPREAD);
                    Padded(Notes::new(begin, present))
                })
                .collect(),
        }
    }

    /// What the threads of this shard keep.
    #[inline]
    fn notes_of(&self, shard: usize) -> &Notes {
        &self.notes[shard & (self.notes.len() - 1)].0
    }

    /// What a pick compares by.
    #[inline]
    fn measure(&self, notes: &Notes, now: Tick, usual: Option<Duration>, pace: f32) -> Measure {
        // ORDERING: Relaxed, both. A hint.
        let least = notes.least.load(Ordering::Relaxed);
        let known = usual.map(|usual| nanos(usual) as f32);
        if let Some(usual) = known.filter(|usual| usual.to_bits() != least) {
            notes.least.store(usual.to_bits(), Ordering::Relaxed);
        }
        let rounds = patience(pace);
        let usual = known.unwrap_or_else(|| f32::from_bits(least));
        Measure {
            now,
            knows_usual: known.is_some(),
            usual,
            forgotten: forgotten(usual),
            due: self.due,
            rounds,
            untried: if self.kept > 0 { rounds } else { 0.0 },
            // ORDERING: Relaxed. A hint; the members' own turns count.
            present: notes.present.load(Ordering::Relaxed),
        }
    }

    /// Who comes first of equals.
    fn is_before(&self, one: usize, other: usize) -> bool {
        let count = self.rounds.len();
        let place = |index: usize| match index + self.shift {
            place if place < count => place,
            beyond => beyond - count,
        };
        place(one) < place(other)
    }

    /// The best of those compared, whose turn it was. Of those that are to have their first one, where `any` may be picked, one by weight.
    #[inline(always)]
    fn choose(
        &self,
        best: &Best,
        board: &Readings,
        with: &Measure,
        notes: &Notes,
        any: bool,
    ) -> Option<usize> {
        let invited = best.invited.filter(|&index| board.at(index).accept());
        let mut index = invited.or_else(|| best.index(|one, other| self.is_before(one, other)))?;
        if board.at(index).turn() == 0 && any && self.due.is_some() {
            index = self.first(board, notes).unwrap_or(index);
        }
        let (spot, round) = (board.at(index), self.rounds[index]);
        // Whoever has waited for longer than counts does not have many turns at once.
        let waited = round.max(self.kept).saturating_mul(with.rounds as u32);
        let waited = waited.min(FAR as u32 / 2);
        let turn = match spot.turn() {
            // It has had none; or so long ago that it looks to be ahead.
            turn if turn <= JOINED || ahead(turn, with.present) > FAR => with.present,
            turn => later(turn, with.present.wrapping_sub(waited)),
        };
        spot.set_turn(turn.wrapping_add(round).max(JOINED + 1));
        if let Some(least) = best.least() {
            // ORDERING: Relaxed. A hint.
            notes.least.store(least.to_bits(), Ordering::Relaxed);
        }
        // Not to the turn of who is invited: that of a light one is far ahead, and all others would have waited for long.
        if invited.is_none() {
            // ORDERING: Relaxed. A hint; the members' own turns count.
            notes
                .present
                .store(later(with.present, turn), Ordering::Relaxed);
        }
        Some(index)
    }

    /// One that has had no turn, drawn by weight, if one is found soon: the requests of a fleet that has few before it is dropped would be
    /// without regard to weights.
    #[cold]
    #[inline(never)]
    fn first(&self, board: &Readings, notes: &Notes) -> Option<usize> {
        const DRAWS: u32 = 16;
        let drawn = (0..DRAWS).filter_map(|_| self.table.draw(notes.draw()));
        let mut waiting = drawn.filter(|&index| board.at(index).turn() == 0);
        waiting.next()
    }

    /// Gives those that have joined others their first turn within a round, where each endpoint will get less than one request a second.
    /// By invitations, one request in fifty, many of them would wait for minutes there; and what a cold one costs nobody feels.
    fn seat(&self, pace: f32, order: u64) {
        let Some(board) = &self.board else { return };
        let count = self.rounds.len();
        let has_joined = |&index: &usize| board.at(index).turn() == JOINED;
        let joined = (0..count).filter(has_joined);
        // It was of those that have been there.
        let share = 1.0 - joined.clone().count() as f32 / count.max(1) as f32;
        if count > ALL || pace <= 0.0 || pace * share >= 1.0 {
            return;
        }
        // ORDERING: Relaxed. Nobody else knows these notes yet.
        let present = self.notes_of(0).present.load(Ordering::Relaxed);
        for index in joined {
            let random = mix(order ^ (index as u64) << 32);
            let turn = present.wrapping_add(below(self.rounds[index].into(), random) as u32);
            board.at(index).set_turn(turn.max(JOINED + 1));
        }
    }

    /// Of members that nobody keeps a board of, by what each shows; the first of equals from a random one on.
    fn without_board<E: Endpoint>(
        &self,
        cx: &mut PickContext<'_, E>,
        members: &[Member<E>],
    ) -> Option<usize> {
        let start = cx.random_below(members.len());
        let order = (start..members.len()).chain(0..start);
        let cost = |index: usize| {
            let latency = members[index].latency();
            let latency = latency.map_or(UNKNOWN, |own| nanos(own) as f32);
            let queue = self.terms.queue[index];
            latency * (1.0 + members[index].in_flight() as f32 * queue)
        };
        let usable = order.filter(|&index| cx.may_pick(index));
        usable.min_by(|&one, &other| cost(one).total_cmp(&cost(other)))
    }
}

/// The time in turns, by the members' own: when the last one that had a turn had it. So no update starts it over, and has all wait for
/// the same again.
fn present(board: &Readings, rounds: &[u32]) -> u32 {
    let turns = rounds.iter().enumerate().map(|(index, round)| {
        let turn = board.at(index).turn();
        (turn > JOINED).then(|| turn.wrapping_sub(*round))
    });
    turns.flatten().reduce(later).unwrap_or(0)
}

/// How far one turn is ahead of another. They wrap.
#[inline]
const fn ahead(one: u32, other: u32) -> i32 {
    one.wrapping_sub(other) as i32
}

#[inline]
const fn later(one: u32, other: u32) -> u32 {
    if ahead(one, other) < 0 { other } else { one }
}

impl<E: Endpoint> Picker<E> for Lowest {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let members = cx.members();
        let Some(board) = &self.board else {
            return self.without_board(cx, members).map(Choice::at);
        };
        let notes = self.notes_of(cx.shard());
        let mut with = self.measure(notes, cx.now(), cx.usual().latency(), cx.pace());
        let many = (members.len() > ALL).then(|| notes.candidates(&self.table, members.len()));
        let mut best_of = |may_pick: Option<&dyn Fn(usize) -> bool>| {
            let best = match &many {
                Some(candidates) => self.some(candidates, board, &with, notes, may_pick),
                None => self.all(board, &mut with, may_pick),
            };
            self.choose(&best, board, &with, notes, may_pick.is_none())
        };
        if cx.any_will_do() {
            return best_of(None).map(Choice::at);
        }
        let warm = if cx.heeds_slow_start() {
            // Whoever it would be but for its slow start has had its turn: else it would be the best of the next pick too,
            // and have its full share by the first that lets it.
            best_of(Some(&|index| cx.may_pick_if_warm(index))).filter(|&first| cx.may_pick(first))
        } else {
            None
        };
        let chosen = warm.or_else(|| best_of(Some(&|index| cx.may_pick(index))));
        let chosen = match many {
            Some(_) => chosen.or_else(|| cx.draw(&self.table)),
            None => chosen,
        };
        chosen.map(Choice::at)
    }

    fn pick_of_all(&self, _: &[Member<E>], asker: Asker<'_>, now: Tick) -> Option<Choice> {
        let board = self.board.as_ref()?;
        let notes = self.notes_of(asker.shard());
        let usual = asker.usual().latency();
        let mut with = self.measure(notes, now, usual, asker.pace());
        let best = self.all(board, &mut with, None);
        self.choose(&best, board, &with, notes, true)
            .map(Choice::at)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
