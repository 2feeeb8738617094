//! Turns for weights that no table can hold.

use std::collections::VecDeque;

use super::Cursor;
use super::cumulative::Cumulative;
use super::schedule::{Alike, Order, from_within, order_of};
use crate::shared::{GOLDEN, below, mix};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, Padded};

/// How many turns a shard takes at a time. With the place of the next one they fill two cache lines.
const HAND: usize = if cfg!(evenkeel_loom) { 2 } else { 31 };

/// How many turns are computed at a time.
const AHEAD: usize = if cfg!(evenkeel_loom) { 2 } else { 32 };

/// How many visits out of turn are accounted for at a time.
const ACCOUNTED: u64 = 256;

/// How many times a pick tries to get at the turns while another thread takes some, for about as long as that takes. Then it
/// goes by the golden ratio.
const TRIES: u32 = if cfg!(evenkeel_loom) { 1 } else { 16 };

/// Turns in an endless order, handed out to the shards of threads.
///
/// A shard takes a hand of turns when it has used up the last one. So a shard's picks follow the order, and in total they
/// are off by what the shards have in hand: each less than two visits of a member.
///
/// A pick does not wait for another thread that takes turns. It tries for a moment, and then goes to a point on the line
/// of weights, by the golden ratio. Such visits are accounted for when a thread next takes turns: see [`Turns`].
#[derive(Debug)]
pub(super) struct Endless {
    hands: Box<[Padded<Hand>]>,
    turns: Mutex<Turns>,
    had: Had,
    line: Cumulative,
    cursor: Cursor,
}

impl Endless {
    /// No weight may be 0, and there must be a weight.
    pub(super) fn new(weights: &[u64], cursor: Cursor) -> Self {
        let positions = cursor.positions();
        let seed = positions.fold(0, |seed, position| mix(seed ^ position));
        Self {
            hands: (0..cursor.shards())
                .map(|_| Padded(Hand::empty()))
                .collect(),
            turns: Mutex::new(Turns::new(weights, seed)),
            had: Had::nothing(weights.len()),
            line: Cumulative::coarse(weights),
            cursor,
        }
    }

    /// The member whose turn it is.
    #[inline]
    pub(super) fn next(&self, shard: usize) -> Option<usize> {
        let hand = &self.hands[shard & (self.hands.len() - 1)].0;
        hand.take().or_else(|| self.fill(hand, shard))
    }

    /// A member at random, by weight.
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        self.line.draw(random)
    }

    /// Takes a hand of turns and returns the first.
    #[cold]
    #[inline(never)]
    fn fill(&self, hand: &Hand, shard: usize) -> Option<usize> {
        // Counted, so that a picker that follows begins elsewhere.
        let position = self.cursor.next(shard);
        for _ in 0..TRIES {
            if let Some(mut turns) = self.turns.try_lock() {
                if !turns.account(&self.had) {
                    break;
                }
                hand.fill(|| turns.next(&self.had));
            }
            if let Some(member) = hand.take() {
                return Some(member);
            }
            std::hint::spin_loop();
        }
        let member = self.line.draw(position.wrapping_mul(GOLDEN))?;
        self.had.add(member);
        Some(member)
    }
}

/// The turns that a shard has in hand.
///
/// Each is taken once, as it is swapped for none. So none is lost and none counts twice, whichever threads are held up;
/// at worst some are taken out of order.
#[derive(Debug)]
struct Hand {
    /// Where the next turn is expected. Threads of a shard that race may set it too high or too low; the turns that are
    /// passed over stay in hand.
    next: AtomicU32,
    turns: [AtomicU32; HAND],
}

const NONE: u32 = u32::MAX;

impl Hand {
    fn empty() -> Self {
        Self {
            next: AtomicU32::new(HAND as u32),
            turns: std::array::from_fn(|_| AtomicU32::new(NONE)),
        }
    }

    #[inline]
    fn take(&self) -> Option<usize> {
        // ORDERING: Relaxed, here and below. Each turn is complete in itself, and the place is a hint.
        let next = self.next.load(Ordering::Relaxed);
        for (after, turn) in (next + 1..).zip(self.turns.get(next as usize..)?) {
            // ORDERING: Relaxed. As above.
            let member = match turn.load(Ordering::Relaxed) {
                NONE => NONE,
                _ => turn.swap(NONE, Ordering::Relaxed),
            };
            if member != NONE {
                self.next.store(after, Ordering::Relaxed);
                return Some(member as usize);
            }
        }
        None
    }

    /// Fills it up. One thread at a time.
    fn fill(&self, mut turn: impl FnMut() -> u32) {
        for place in &self.turns {
            // ORDERING: Relaxed. As above. Only this thread puts a turn where there is none. It swaps it in, as a plain
            // store would be right only by an argument that the model checker does not know.
            if place.load(Ordering::Relaxed) == NONE {
                place.swap(turn(), Ordering::Relaxed);
            }
        }
        // ORDERING: Relaxed. As above.
        self.next.store(0, Ordering::Relaxed);
    }
}

/// Visits that members have had out of turn.
#[derive(Debug)]
struct Had {
    /// By member, less those that have been set against its turns.
    visits: Box<[AtomicU32]>,
    /// Of all members.
    sum: AtomicU64,
}

impl Had {
    fn nothing(members: usize) -> Self {
        Self {
            visits: (0..members).map(|_| AtomicU32::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    fn add(&self, member: usize) {
        // ORDERING: Relaxed, here and below. Counts, which may be seen in any order.
        self.visits[member].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self) -> u64 {
        // ORDERING: Relaxed. As above.
        self.sum.load(Ordering::Relaxed)
    }

    /// Sets a visit against the member's turn, if it has had one. One thread at a time.
    fn take(&self, member: u32) -> bool {
        let visits = &self.visits[member as usize];
        // ORDERING: Relaxed. As above.
        let any = visits.load(Ordering::Relaxed) > 0;
        if any {
            visits.fetch_sub(1, Ordering::Relaxed);
        }
        any
    }
}

/// Whose turn it is. Members of equal weight share the visits of their group in turn, so a member is off by less than
/// two visits, as its group is.
///
/// For each visit out of turn, one turn of the order passes unused. If its member has had a visit out of turn, they are
/// quits; otherwise the turn is owed to it, and it takes that of a member that has had one. So the order is not late for
/// long, whatever the weights of the members that came out of turn.
#[derive(Debug)]
struct Turns {
    order: Box<dyn Order>,
    alike: Alike,
    /// The place in its group of the next member of each.
    next: Box<[u32]>,
    /// Members in turn, computed in advance, and how many of them are used up.
    ahead: [u32; AHEAD],
    used: usize,
    /// How many visits out of turn are accounted for.
    accounted: u64,
    /// Members whose turns passed unused. There is room for one of each and some more.
    owed: VecDeque<u32>,
}

impl Turns {
    /// Begins somewhere in the order, depending on the seed.
    fn new(weights: &[u64], seed: u64) -> Self {
        let alike = Alike::new(weights);
        let shares = alike.weights(weights);
        let begin = |group: &[u32]| {
            let random = mix(seed.wrapping_sub(u64::from(group[0])));
            below(group.len() as u64, random) as u32
        };
        let mut turns = Self {
            order: order_of(from_within(&shares, shares.iter().sum(), seed)),
            next: alike.groups().map(begin).collect(),
            alike,
            ahead: [0; AHEAD],
            used: AHEAD,
            accounted: 0,
            owed: VecDeque::with_capacity(weights.len() + 64),
        };
        // Until who is ahead and who is behind is as it would be in the middle of the order.
        turns.look_ahead();
        turns.look_ahead();
        turns
    }

    /// Accounts for visits out of turn, though not for very many at a time. Returns whether no more can be accounted
    /// for; until then, which members are ahead is not known.
    fn account(&mut self, had: &Had) -> bool {
        let due = had.sum() - self.accounted;
        for _ in 0..due.min(ACCOUNTED) {
            if self.owed.len() == self.owed.capacity() {
                return true;
            }
            self.accounted += 1;
            let member = self.in_order();
            if !had.take(member) {
                self.owed.push_back(member);
            }
        }
        due <= ACCOUNTED
    }

    /// The member that takes the next turn.
    fn next(&mut self, had: &Had) -> u32 {
        let member = self.in_order();
        match self.owed.front() {
            Some(&owed) if had.take(member) => {
                self.owed.pop_front();
                owed
            }
            _ => member,
        }
    }

    fn in_order(&mut self) -> u32 {
        if self.used == self.ahead.len() {
            self.look_ahead();
        }
        self.used += 1;
        self.ahead[self.used - 1]
    }

    fn look_ahead(&mut self) {
        self.used = 0;
        self.order.take(&mut self.ahead);
        for turn in &mut self.ahead {
            let group = self.alike.group(*turn as usize);
            let next = &mut self.next[*turn as usize];
            *turn = group[*next as usize];
            *next += 1;
            if *next as usize == group.len() {
                *next = 0;
            }
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
