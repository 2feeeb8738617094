//! The one that should answer first, of all.

use super::cumulative::{Cumulative, effective_weights};
use super::{Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::{Readings, Spot};
use crate::sync::{AtomicU32, Ordering, Padded};
use crate::time::{Tick, nanos};

/// Up to so many endpoints are compared, all of them.
const ALL: usize = 256;

/// Of more, so many that were good the last time,
const REMEMBERED: usize = 8;

/// and so many drawn by weight.
const DRAWN: usize = 16;

/// From how many times an endpoint's latency on the age of what is in flight there takes its place: before it
/// answers, it shows that it does not.
const OVERDUE: f32 = 3.0;

/// What a round of waiting takes off a cost: 2 %.
const DISCOUNT: f32 = 0.02;

/// It counts for as many rounds as go by in this time, in seconds: the oftener endpoints are tried, the more of what
/// differs between their estimates is noise, and the less is lost by a try.
const WAITING: f32 = 1.5;

/// But for so many at least, which keeps equals in turn,
const FEWEST: f32 = 2.0;

/// and so many at most.
const MOST: f32 = 16.0;

/// What an endpoint is taken to cost while nothing is known of any, in nanoseconds.
const UNKNOWN: f32 = 1.0;

/// A round of the heaviest is 2 to the power of this.
const ROUND_BITS: u32 = 10;
const HEAVIEST: u32 = 1 << ROUND_BITS;

/// Among the idle of different weights, what others cost than the one whose turn it is.
const NOT_DUE: f32 = 1.04;

/// No turn is so far ahead of the time: a round is at most 2^26.
const FAR: i32 = 1 << 30;

/// The endpoint where a request should cost least: by its latency, its requests in flight for its weight, how long those have
/// been on their way, and its errors.
///
/// ```text
/// cost     = latency · (in_flight + 1) · mean weight / weight · penalty · (1 − 0.02 · waited)
/// latency  = the endpoint's estimate, or the mean age of its requests in flight where that is more than 3 times it
/// penalty  = 1 / (1 − x)² + 20 x    x: its share of errors above the fleet's, in the window's later half
/// waited   = rounds since its turn came, by its weight; at most as many as go by in 1.5 s, and from 2 to 16
/// ```
///
/// The idle endpoint whose turn it is counts as one of the heaviest: by weights alone the light would never be used while there
/// is little to do.
///
/// So where all are alike they are served one after the other, each by its weight, as by
/// [`WeightedRoundRobin`](super::WeightedRoundRobin); and where they differ by no more than the noise of
/// their estimates, they are all used.
///
/// Up to 256 endpoints are all compared; of more, eight that were good the last time (for each shard of threads) and sixteen
/// drawn by weight. An endpoint that has been avoided and idle for a second is invited now and then to show how it is: by one
/// request in fifty at most, and each time it is no better after twice as long, up to 32 s.
///
/// It joins what others have found. Of two drawn at random both may be bad; in-flight alone does not see a fast failure, latency
/// alone not the queue that is building up; and to compare all does not herd, as each pick raises the cost that it saw. A pick costs
/// about 8 ns for each endpoint compared (`benches/README.md`), and all threads write what they compare. It breaks down
/// where latencies differ by what is asked for more than by who answers, and one endpoint gets all of the heavy requests.
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
        let weights = effective_weights(view.members());
        let mean = weights.iter().sum::<u64>() as f64 / weights.len().max(1) as f64;
        let most = weights.iter().copied().max().unwrap_or(1);
        let terms = weights.iter().map(|&weight| Terms {
            per_round: weight as f32 / (most << ROUND_BITS) as f32,
            // At most 2^26, as weights are at least 1/65536 of the heaviest.
            round: ((most << ROUND_BITS) / weight.max(1)) as u32,
        });
        let cursor = view.cursor();
        Box::new(Lowest {
            terms: terms.collect(),
            queue: (mean / (most << ROUND_BITS) as f64) as f32,
            is_weighted: weights.iter().any(|&weight| weight != most),
            first: cursor.next(0) as usize,
            table: Cumulative::new(&weights),
            board: view.board(),
            notes: (0..cursor.shards()).map(|_| Padded(Notes::new())).collect(),
        })
    }
}

/// What is known of a member beforehand.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// One by the length of its round.
    per_round: f32,
    /// How much later its next turn is than this one.
    round: u32,
}

/// What the threads of a shard keep.
#[derive(Debug)]
struct Notes {
    /// The time in turns: when the last one chosen had its turn.
    present: AtomicU32,
    /// An `f32`'s bits: what a request costs at the best that is known, alone. An unknown one is taken to be as good
    /// while it is not known what is usual, so it is tried when its turn comes.
    least: AtomicU32,
    /// Members that were good the last time.
    good: [AtomicU32; REMEMBERED],
}

impl Notes {
    fn new() -> Self {
        Self {
            present: AtomicU32::new(0),
            least: AtomicU32::new(UNKNOWN.to_bits()),
            good: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

struct Lowest {
    terms: Box<[Terms]>,
    /// Whether weights differ.
    is_weighted: bool,
    /// What a request in flight adds to the cost for the length of a member's round: so much for the mean weight as
    /// one request costs alone.
    queue: f32,
    /// Who is first of equals: in each fleet another, so that many clients do not all choose the same.
    first: usize,
    table: Cumulative,
    /// `None` where the view was not the fleet's own.
    board: Option<Readings>,
    notes: Box<[Padded<Notes>]>,
}

/// What a pick compares by.
struct Comparison<'a> {
    notes: &'a Notes,
    now: Tick,
    /// What an unknown endpoint costs.
    usual: f32,
    /// See [`Lowest::queue`].
    queue: f32,
    /// For how many rounds waiting counts.
    rounds: f32,
    /// The time in turns.
    present: u32,
}

impl Comparison<'_> {
    #[inline]
    fn cost(&self, spot: Spot<'_>, terms: Terms, due: Option<u32>) -> f32 {
        let load = spot.load(self.now);
        let own = spot.cost().abs();
        let own = if own == 0.0 { self.usual } else { own };
        // With a sign, as that is what processors convert at once.
        let (count, ages) = (load.count as i32 as f32, load.ages as i64 as f32);
        // The mean age, multiplied out.
        let own = if ages > OVERDUE * own * count {
            mean(ages, count)
        } else {
            own
        };
        let waited = match spot.turn() {
            0 => 0.0,
            turn => ahead(self.present, turn) as f32 * terms.per_round,
        };
        let waited = waited.clamp(-1.0, self.rounds);
        let alone = self.queue * terms.round as i32 as f32;
        let load = if load.count > 0 {
            (count + 1.0) * alone
        } else {
            // Whose turn it is costs as little as the heaviest, and no other idle one less.
            let least = self.queue * HEAVIEST as f32;
            match due {
                Some(due) if spot.turn() == due => least,
                Some(_) => alone.max(least * NOT_DUE),
                None => alone,
            }
        };
        own * load * (1.0 - DISCOUNT * waited)
    }
}

/// The best so far, and what else was seen on the way.
struct Best {
    cost: f32,
    index: Option<usize>,
    /// The least that a request costs, alone.
    least: f32,
    invited: Option<usize>,
}

impl Lowest {
    /// The best of these, whose turn it was.
    #[inline]
    fn best<'a>(
        &self,
        board: &Readings,
        with: &Comparison<'_>,
        spots: impl Iterator<Item = (usize, Spot<'a>)> + Clone,
    ) -> Option<usize> {
        let due = self.is_weighted.then(|| due(spots.clone(), with.present));
        let mut best = Best {
            cost: f32::INFINITY,
            index: None,
            least: f32::INFINITY,
            invited: None,
        };
        spots.for_each(|(index, spot)| {
            let cost = with.cost(spot, self.terms[index], due);
            if cost < best.cost || (cost == best.cost && self.comes_before(index, best.index)) {
                (best.cost, best.index) = (cost, Some(index));
            }
            let own = spot.cost();
            if own.is_sign_negative() {
                best.invited = Some(index);
            } else if own > 0.0 && own < best.least {
                best.least = own;
            }
        });
        let invited = best.invited.filter(|&index| board.at(index).accept());
        let index = invited.or(best.index)?;
        let (spot, round) = (board.at(index), self.terms[index].round);
        // Whoever has waited for longer than counts does not have many turns at once.
        let waited = round.saturating_mul(with.rounds as u32);
        let turn = match spot.turn() {
            // It has had none; or so long ago that it looks to be ahead.
            turn if turn == 0 || ahead(turn, with.present) > FAR => with.present,
            turn => later(turn, with.present.wrapping_sub(waited)),
        };
        spot.set_turn(turn.wrapping_add(round).max(1));
        if best.least < f32::INFINITY {
            // ORDERING: Relaxed. A hint.
            with.notes
                .least
                .store(best.least.to_bits(), Ordering::Relaxed);
        }
        // ORDERING: Relaxed. A hint; the members' own turns count.
        with.notes
            .present
            .store(later(with.present, turn), Ordering::Relaxed);
        Some(index)
    }

    /// The best of these that may be picked. Whoever it would be but for its slow start has had its turn: else it
    /// would be the best of the next pick too, and have its full share by the first that lets it.
    fn best_of<E: Endpoint>(
        &self,
        of: impl Iterator<Item = usize> + Clone,
        board: &Readings,
        with: &Comparison<'_>,
        cx: &PickContext<'_, E>,
    ) -> Option<usize> {
        let best = |may_pick: &dyn Fn(usize) -> bool| {
            let usable = of.clone().filter(|&index| may_pick(index));
            self.best(board, with, usable.map(|index| (index, board.at(index))))
        };
        if cx.heeds_slow_start() {
            let first = best(&|index| cx.may_pick_if_warm(index))?;
            if cx.may_pick(first) {
                return Some(first);
            }
        }
        best(&|index| cx.may_pick(index))
    }

    fn comes_before(&self, one: usize, other: Option<usize>) -> bool {
        let place = |index: usize| index.wrapping_sub(self.first) % self.terms.len().max(1);
        other.is_none_or(|other| place(one) < place(other))
    }

    /// Some that were good the last time, and some drawn.
    fn candidates<E: Endpoint>(
        &self,
        notes: &Notes,
        cx: &mut PickContext<'_, E>,
    ) -> [usize; REMEMBERED + DRAWN] {
        let last = self.terms.len() - 1;
        std::array::from_fn(|at| match notes.good.get(at) {
            // ORDERING: Relaxed. A hint, checked like any other.
            Some(index) => (index.load(Ordering::Relaxed) as usize).min(last),
            None => self.table.draw(cx.random()).unwrap_or(0),
        })
    }

    /// The first of the drawn that is better takes the place of the worst of the remembered.
    fn remember(
        &self,
        board: &Readings,
        candidates: &[usize; REMEMBERED + DRAWN],
        with: &Comparison<'_>,
    ) {
        let (old, drawn) = candidates.split_at(REMEMBERED);
        let cost = |index: usize| with.cost(board.at(index), self.terms[index], None);
        let (mut worst, mut most) = (0, f32::NEG_INFINITY);
        for (at, &index) in old.iter().enumerate() {
            // One that is there twice takes the place of another.
            let twice = old[..at].contains(&index);
            let cost = if twice { f32::INFINITY } else { cost(index) };
            if cost > most {
                (worst, most) = (at, cost);
            }
        }
        let better = |index: &&usize| cost(**index) < most && !old.contains(index);
        if let Some(&index) = drawn.iter().find(better) {
            // ORDERING: Relaxed. As in `candidates`.
            with.notes.good[worst].store(index as u32, Ordering::Relaxed);
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
            latency
                * (1.0
                    + members[index].in_flight() as f32
                        * self.queue
                        * self.terms[index].round as f32)
        };
        let usable = order.filter(|&index| cx.may_pick(index));
        usable.min_by(|&one, &other| cost(one).total_cmp(&cost(other)))
    }
}

/// Whose turn it is of the idle: the first, if it is no further off than a round of the heaviest. Nearer than that somebody's
/// is, while all are idle.
fn due<'a>(spots: impl Iterator<Item = (usize, Spot<'a>)>, present: u32) -> u32 {
    let idle = spots.filter(|(_, spot)| spot.in_flight() == 0);
    let first = idle
        .map(|(_, spot)| spot.turn())
        .reduce(|one, other| if ahead(one, other) > 0 { other } else { one });
    let is_near = |first: &u32| ahead(*first, present) <= HEAVIEST as i32;
    // Nobody's turn is so long ago.
    first
        .filter(is_near)
        .unwrap_or_else(|| present.wrapping_sub(FAR as u32))
}

/// Seldom asked for: the division is kept out of the way.
#[cold]
fn mean(sum: f32, count: f32) -> f32 {
    sum / count
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
        let notes = &self.notes[cx.shard() & (self.notes.len() - 1)].0;
        let usual = cx.usual().latency();
        let with = Comparison {
            notes,
            now: cx.now(),
            queue: self.queue,
            usual: match usual {
                Some(usual) => nanos(usual) as f32,
                // ORDERING: Relaxed. A hint.
                None => f32::from_bits(notes.least.load(Ordering::Relaxed)),
            },
            rounds: (cx.pace() * WAITING).clamp(FEWEST, MOST),
            // ORDERING: Relaxed. A hint; the members' own turns count.
            present: notes.present.load(Ordering::Relaxed),
        };
        let chosen = if members.len() > ALL {
            let candidates = self.candidates(notes, cx);
            let chosen = self.best_of(candidates.into_iter(), board, &with, cx);
            self.remember(board, &candidates, &with);
            chosen.or_else(|| cx.draw(&self.table))
        } else if cx.any_will_do() {
            self.best(board, &with, board.spots().enumerate())
        } else {
            self.best_of(0..members.len(), board, &with, cx)
        };
        chosen.map(Choice::at)
    }
}
