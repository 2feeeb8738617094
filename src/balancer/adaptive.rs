//! The default policy, which picks the endpoint that should cost a request least, out of all: [`Adaptive`].

use std::time::Duration;

use super::cumulative::{Cumulative, effective_weights};
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::{BoardView, CostBasis, JOINED, forgotten};
use crate::sync::{Ordering, Padded};
use crate::time::{Tick, nanos};

mod best;
mod compare;
mod notes;
mod rows;
mod turns;
mod waiting;

use best::Best;
use notes::{Notes, UNKNOWN};
use rows::{CompareParams, Terms};
use turns::{BEHIND, ahead, later, virtual_now};
use waiting::max_waited_rounds;

/// Up to this many endpoints, all of them are compared.
const ALL: usize = 256;

/// An odd multiplier that carries differences into the high bits.
const SPREAD: u64 = 0xD6E8_FEB8_6659_FD93;

/// The length of the heaviest member's round, as a power of two. Turns and rounds are in units of virtual time.
const ROUND_BITS: u32 = 10;
const HEAVIEST: u32 = 1 << ROUND_BITS;

/// A turn this far ahead of the virtual time is one of long ago that has wrapped: a round is at most 2^26.
const FAR: i32 = 1 << 30;

/// Picks the endpoint where a request should cost least, by latency, requests in flight for the weight, their age, and
/// errors. The default policy.
///
/// ```text
/// cost    = own · (in_flight + 1) · mean weight / weight · (1 − 0.02 · waited)
/// own     = latency · penalty                         three times that while requests in flight are overdue
/// latency = usual · (1 + min((x − 1)² / s, 3 x))      above x = 1; s: an eighth, or more where estimates are noisy
///           usual · (x − min((1 − x)² / 2, 0.03 x))   below
/// penalty = 1 / (1 − e)² + 20 e                       e: its share of errors above the fleet's, in the window's later
///                                                     half, or n / (n + 4) with n failures in a row beyond chance
/// waited  = rounds since its turn came, at most r     r: max(1.5 p, 2 / p) within 2 to 16, and at most max(200 / p,
///                                                     6), with p requests a second to each endpoint
/// ```
///
/// Here x is the endpoint's latency estimate divided by the fleet's usual latency. Requests in flight are overdue, and
/// triple the cost, if their mean age is more than `late` times latency · penalty; `late` is at least 3. If they are
/// older than a minute, or than 12 times the usual latency where that is longer, they are taken for streams and their
/// age is ignored. `waited`
/// is counted in rounds: each endpoint has one turn in a round, as in a fair queue, and the heavier an endpoint is, the
/// shorter its round. Failures in a row count (the built-in tracker counts them) from the fifth on, or beyond what
/// happens once in a thousand times where others fail too. There, the nearer an endpoint is to failing all that
/// succeeds elsewhere, the more e is a share of that.
///
/// Where times vary widely from request to request, chance makes like endpoints look different. What a client has in
/// flight itself then tells more than what it has measured. If it has 0.65 requests in
/// flight at each endpoint in the mean, or more, s is four times the standard deviation that estimates have by chance
/// (if that is more than an eighth), and `late` is what one busy endpoint in twenty exceeds, at most 12. With a quarter
/// or less, as where there are many clients, latencies are the only sign of what the others send; s is an eighth then,
/// and `late` 3. In between, both are in between.
///
/// The square of x − 1 keeps the noise of estimates small, while an endpoint that is half as slow again as usual counts
/// as three times as slow. In proportion to latency, too many requests would go to slow endpoints where a part of the
/// latency is a network's, or where a weight promises too much. In slow start after an ejection the latency does count
/// in proportion, as answers are few then.
///
/// Idle endpoints whose turn has come count as if they were hardly lighter than the heaviest. By weights alone the
/// light ones would never be used at low load. Where latencies vary at random and few requests are open, ten endpoints
/// of a half to a tenth of the weight of ten others get 0.5 to 1.6 times their share (`tests/operations.rs`), lighter
/// ones up to seven times. A single one gets a fourth to 2.5 times its share, or up to 14 times if it is much lighter.
/// At less than a request a second each, invitations alone may give light ones four times their share. For exact
/// shares, as of a canary, use another policy.
///
/// Each endpoint of the initial set has one turn before any is preferred, in an order drawn by weight. A fleet that has
/// few requests before it is dropped therefore uses light endpoints more than their share. An endpoint that joins later
/// is invited: a pick is sent to it, and again for as long as its requests tell nothing of it. Where endpoints get less
/// than one request a second each, it also has a turn without an invitation. Until its third answer, an endpoint counts
/// as slightly better than usual. It no longer does if three requests within the window ended without telling anything
/// of it and none with an answer (more where callers abandon many requests at endpoints that answer, too); if n of them
/// were abandoned, as where a hedge overtakes an endpoint that hangs, it counts as n times as slow as usual.
///
/// Endpoints that are known to be alike are thus served one after the other, each by its weight, as by
/// [`WeightedRoundRobin`](super::WeightedRoundRobin). Endpoints that differ by no more than the noise of their
/// estimates are all used, but not evenly while no requests queue: one of twenty or a hundred like endpoints may get up
/// to ten times its share for a while (and more after others have joined), and others a tenth (F3 of
/// `benches/quality.md`). This does not happen where requests to each endpoint are many seconds apart.
///
/// Up to 256 endpoints are all compared. Of more, 104 are: eight that were good last time (per shard of threads), and
/// three rows of 32 in the order of the set, drawn by their members' weight and spread evenly over the picks. Shares of
/// like endpoints are then within a few requests of what is due. With very different weights and low load, the lightest
/// may get twice their share. An endpoint that is avoided and idle for a second is invited now and then to show how it
/// is: invitations take at most one request in fifty, and after each answer that is no better the next comes only after
/// twice as long, up to 16 s. Below ten requests a second there are fewer. At one a second, of which a slow endpoint
/// gets hardly any, it takes three minutes until it is seen that it is quick again.
///
/// The policy combines known rules, as each of them fails alone: both of two endpoints drawn at random may be bad,
/// requests in flight do not reveal a fast failure, and latency does not reveal a growing queue. Comparing all does not
/// herd, as each pick raises the cost that it saw. A pick costs 2 to 3 ns for each endpoint compared
/// (`benches/README.md`), and all threads write to the words that they compare. It breaks down where latency depends on
/// the request more than on the endpoint, and one endpoint gets all heavy requests: see
/// [`docs::policies`](crate::docs::policies#how-to-choose) for streams.
///
/// Sources: comparing all, C3 (NSDI 2015); mean age, brpc's locality-aware balancing; remembered choices, Mitzenmacher,
/// Prabhakar and Shah (2002); turns, start-time fair queueing (Goyal and others, 1996). The formula and its numbers are
/// this crate's, chosen by its simulation: see `benches/quality.md`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Adaptive;

impl Adaptive {
    /// Creates the policy; it has no settings.
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
        let picker = AdaptivePicker::new(&weights, view.board(), order, cursor.shards());
        let pace = view
            .members()
            .first()
            .map(|one| one.core().shared.rates.pace());
        picker.assign_first_turns(pace.unwrap_or(0.0), order);
        Box::new(picker)
    }
}

struct AdaptivePicker {
    /// The length of each member's round: the virtual time from one of its turns to the next, inversely proportional to
    /// its weight.
    rounds: Box<[u32]>,
    /// The terms of each member's cost.
    terms: Terms<Box<[f32]>>,
    /// The factor of an idle member's own cost when it is the one to go next. `None` if all weights are equal, as it
    /// then makes no difference whose turn it is.
    due: Option<f32>,
    /// How far from the end of the set the member stands that comes first among equals. It differs between fleets, so
    /// that many clients do not all choose the same member.
    shift: usize,
    /// The least round length for limiting what the chosen member keeps of its waiting. Where only some members are
    /// compared by a pick, the heavy ones have many turns between two looks, so it is the round of the mean weight. 0
    /// where all are compared.
    kept: u32,
    table: Cumulative,
    /// `None` if the view was not the fleet's own.
    board: Option<BoardView>,
    notes: Box<[Padded<Notes>]>,
}

impl AdaptivePicker {
    /// `order` decides which member comes first among equals, and where draws begin.
    fn new(weights: &[u64], board: Option<BoardView>, order: u64, shards: usize) -> Self {
        let mean = weights.iter().sum::<u64>() as f64 / weights.len().max(1) as f64;
        let most = weights.iter().copied().max().unwrap_or(1);
        let queue = (mean / (most << ROUND_BITS) as f64) as f32;
        // At most 2^26, as a weight is at least 1/65536 of the heaviest.
        let round = |weight: u64| ((most << ROUND_BITS) / weight.max(1)) as u32;
        let is_weighted = weights.iter().any(|&weight| weight != most);
        let due = is_weighted.then_some(queue * HEAVIEST as f32);
        let terms = weights.iter().map(|&weight| {
            let per_round = weight as f32 / (most << ROUND_BITS) as f32;
            (per_round, queue * round(weight) as f32)
        });
        let rounds: Box<[u32]> = weights.iter().map(|&weight| round(weight)).collect();
        let virtual_now = board
            .as_ref()
            .map_or(0, |board| virtual_now(board, &rounds));
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
                    Padded(Notes::new(begin, virtual_now))
                })
                .collect(),
        }
    }

    /// The notes that the threads of this shard share.
    #[inline]
    fn notes_of(&self, shard: usize) -> &Notes {
        &self.notes[shard & (self.notes.len() - 1)].0
    }

    /// The values that a pick compares with.
    #[inline]
    fn compare_params(
        &self,
        notes: &Notes,
        now: Tick,
        usual: Option<Duration>,
        basis: CostBasis,
    ) -> CompareParams {
        // ORDERING: Relaxed, both. A hint.
        let least = notes.least.load(Ordering::Relaxed);
        let known = usual.map(|usual| nanos(usual) as f32);
        if let Some(usual) = known.filter(|usual| usual.to_bits() != least) {
            notes.least.store(usual.to_bits(), Ordering::Relaxed);
        }
        let rounds = max_waited_rounds(basis.pace);
        let usual = known.unwrap_or_else(|| f32::from_bits(least));
        CompareParams {
            now,
            knows_usual: known.is_some(),
            usual,
            overdue: basis.overdue,
            forgotten: forgotten(usual),
            due: self.due,
            rounds,
            untried: if self.kept > 0 { rounds } else { 0.0 },
            // ORDERING: Relaxed. A hint; the members' own turns count.
            virtual_now: notes.virtual_now.load(Ordering::Relaxed),
        }
    }

    /// Whether `one` comes before `other` among equals.
    fn is_before(&self, one: usize, other: usize) -> bool {
        let count = self.rounds.len();
        let place = |index: usize| match index + self.shift {
            place if place < count => place,
            beyond => beyond - count,
        };
        place(one) < place(other)
    }

    /// Chooses the best of the members compared, and sets its next turn. An invited member comes first. If the best has
    /// not had its first turn, `any` member may be picked, and weights differ, one without a first turn is drawn by
    /// weight.
    #[inline(always)]
    fn choose(
        &self,
        best: &Best,
        board: &BoardView,
        with: &CompareParams,
        notes: &Notes,
        any: bool,
    ) -> Option<usize> {
        let invited = best.invited.filter(|&index| board.at(index).accept());
        let mut index = invited.or_else(|| best.index(|one, other| self.is_before(one, other)))?;
        if board.at(index).turn() == 0 && any && self.due.is_some() {
            index = self.draw_untried(board, notes).unwrap_or(index);
        }
        let (spot, round) = (board.at(index), self.rounds[index]);
        // A member that has waited for longer than waiting counts must not have many turns in a row.
        let waited = round.max(self.kept).saturating_mul(with.rounds as u32);
        let waited = waited.min(FAR as u32 / 2);
        let turn = match spot.turn() {
            // It has had no turn, or its last one is so long ago that it wrapped and seems to be ahead.
            turn if turn <= JOINED || ahead(turn, with.virtual_now) > FAR => with.virtual_now,
            turn => later(turn, with.virtual_now.wrapping_sub(waited)),
        };
        spot.set_turn(turn.wrapping_add(round).max(JOINED + 1));
        if let Some(least) = best.least() {
            // ORDERING: Relaxed. A hint.
            notes.least.store(least.to_bits(), Ordering::Relaxed);
        }
        // The turn of an invited member does not advance the virtual time: a light one's is far ahead, and all others
        // would then seem to have waited for long.
        if invited.is_none() {
            let next = later(with.virtual_now, turn);
            // ORDERING: Relaxed, both. A hint; the members' own turns count.
            let before = notes.virtual_now.load(Ordering::Relaxed);
            notes.virtual_now.store(next, Ordering::Relaxed);
            if before ^ next >= BEHIND {
                self.bring_forward(board, next);
            }
        }
        Some(index)
    }

    /// Draws a member that has had no turn by weight; `None` if 16 draws find none. Without the draw, the requests of a
    /// fleet that has few before it is dropped would ignore weights.
    #[cold]
    #[inline(never)]
    fn draw_untried(&self, board: &BoardView, notes: &Notes) -> Option<usize> {
        const DRAWS: u32 = 16;
        let drawn = (0..DRAWS).filter_map(|_| self.table.draw(notes.draw()));
        let mut waiting = drawn.filter(|&index| board.at(index).turn() == 0);
        waiting.next()
    }

    /// Picks without a board, by what each member shows. Ties go to the first member counted from a random one.
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

impl<E: Endpoint> Picker<E> for AdaptivePicker {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let members = cx.members();
        let Some(board) = &self.board else {
            return self.without_board(cx, members).map(Choice::at);
        };
        let notes = self.notes_of(cx.shard());
        let mut with = self.compare_params(notes, cx.now(), cx.usual().latency(), cx.cost_basis());
        let virtual_now = with.virtual_now;
        let many = (members.len() > ALL).then(|| notes.candidates(&self.table, members.len()));
        let mut best_of = |may_pick: Option<&dyn Fn(usize) -> bool>| {
            let mut best = match &many {
                Some(candidates) => self.some(candidates, board, &with, notes, may_pick),
                None => self.all(board, &mut with, may_pick),
            };
            // An invitation stands until slow start, too, lets a pick accept it.
            best.invited = best.invited.filter(|&index| cx.may_pick(index));
            self.choose(&best, board, &with, notes, may_pick.is_none())
        };
        if cx.any_will_do() {
            return best_of(None).map(Choice::at);
        }
        let chosen = if cx.heeds_slow_start() {
            // The member that would be chosen without slow start uses up its turn even if slow start then refuses it.
            // Otherwise it would be the best of the next pick too, and get its full share from the first pick that slow
            // start admits. Nor is it considered before its turn: it has less to do than others, so where these are
            // busy it would be the best of every pick. Unless capacity is short: then no other can take what it does
            // not.
            let any_turn = cx.is_short();
            let has_turn = |index: usize| {
                any_turn || !cx.is_warming(index) || self.has_turn(board, index, virtual_now)
            };
            let warm = best_of(Some(&|index| cx.may_pick_if_warm(index) && has_turn(index)))
                .filter(|&first| cx.may_pick(first));
            // Another one in slow start may be next: those that are not may all be dead, where the cap keeps them in.
            warm.or_else(|| best_of(Some(&|index| cx.may_pick(index) && has_turn(index))))
        } else {
            None
        };
        let chosen = chosen.or_else(|| best_of(Some(&|index| cx.may_pick(index))));
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
        let mut with = self.compare_params(notes, now, usual, asker.cost_basis());
        let best = self.all(board, &mut with, None);
        self.choose(&best, board, &with, notes, true)
            .map(Choice::at)
    }

    fn resume(&self) {
        self.adopt_turns();
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
