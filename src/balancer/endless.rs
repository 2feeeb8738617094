//! Turns for weights that no table can hold.

use std::collections::BinaryHeap;

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

/// Of how many visits out of turn it is forgotten whose they were. By then they are as even as the golden ratio makes
/// them, and to account for them would take long.
const FORGOTTEN: u64 = 1 << 16;

/// How many times a pick tries to get at the turns while another thread takes some: for about as long as that takes, if
/// the other is not held up. Then it goes by the golden ratio.
const TRIES: u32 = if cfg!(evenkeel_loom) { 1 } else { 16 };

/// Turns in an endless order, handed out to the shards of threads.
///
/// A shard takes a hand of turns when it has used up the last one. So a shard's picks follow the order, and in total they
/// are off by what the shards have in hand: each less than two visits of a member, unless its threads race for turns.
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
            had: Had::nothing(weights.len(), seed),
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
        self.cursor.next(shard);
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
        let member = self.line.draw(self.had.next_point())?;
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
    seed: u64,
}

impl Had {
    fn nothing(members: usize, seed: u64) -> Self {
        Self {
            seed,
            visits: (0..members).map(|_| AtomicU32::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one more visit, and returns the point for it in the golden ratio's sequence.
    fn next_point(&self) -> u64 {
        // ORDERING: Relaxed, here and below. Counts, which may be seen in any order.
        let before = self.sum.fetch_add(1, Ordering::Relaxed);
        self.seed.wrapping_add(before).wrapping_mul(GOLDEN)
    }

    /// The visit is this member's.
    fn add(&self, member: usize) {
        // ORDERING: Relaxed. As above.
        self.visits[member].fetch_add(1, Ordering::Relaxed);
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

    fn forget(&self) {
        for visits in &self.visits {
            // ORDERING: Relaxed. As above. One that is added meanwhile may be forgotten as well.
            visits.store(0, Ordering::Relaxed);
        }
    }
}

/// Whose turn it is. Members of equal weight share the visits of their group in turn, so a member is off by less than
/// two visits, as its group is.
///
/// For each visit out of turn, one turn of the order passes unused. If its member has had a visit out of turn, the two
/// cancel out; otherwise the member is owed a turn, and gets that of a member that has had a visit. This may take until a
/// light member comes, so a heavy one that is owed a turn also gets that of a lighter one, which is owed one instead.
#[derive(Debug)]
struct Turns {
    order: Box<dyn Order>,
    alike: Alike,
    /// The place in its group of the next member of each.
    next: Box<[u32]>,
    /// Whose turns are next, computed in advance, and how many of them are used up.
    ahead: [Turn; AHEAD],
    used: usize,
    /// How many visits out of turn are accounted for.
    accounted: u64,
    /// The turns that are owed, the heaviest member's first. There is room for one of each member and some more.
    owed: BinaryHeap<Turn>,
    /// The members among those. A member gives up one turn at a time for a heavier one.
    owing: Box<[bool]>,
}

/// A member's turn. The groups are numbered by weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    group: u32,
    member: u32,
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
            ahead: [Turn::default(); AHEAD],
            used: AHEAD,
            accounted: 0,
            owed: BinaryHeap::with_capacity(weights.len() + 64),
            owing: vec![false; weights.len()].into(),
        };
        // Until who is ahead and who is behind is as it would be in the middle of the order.
        turns.look_ahead();
        turns.look_ahead();
        turns
    }

    /// Accounts for visits out of turn, though not for very many at a time. Returns whether that is done; until then,
    /// it is not known which members are ahead.
    fn account(&mut self, had: &Had) -> bool {
        let due = had.sum() - self.accounted;
        if due > FORGOTTEN {
            self.accounted += due;
            self.owed.clear();
            self.owing.fill(false);
            had.forget();
            return true;
        }
        for _ in 0..due.min(ACCOUNTED) {
            if self.owed.len() == self.owed.capacity() {
                return true;
            }
            self.accounted += 1;
            let turn = self.in_order();
            if !had.take(turn.member) {
                self.owe(turn);
            }
        }
        due <= ACCOUNTED
    }

    /// The member that takes the next turn.
    fn next(&mut self, had: &Had) -> u32 {
        let turn = self.in_order();
        let Some(&owed) = self.owed.peek() else {
            return turn.member;
        };
        if had.take(turn.member) {
            self.owed.pop();
        } else if turn.group < owed.group && !self.owing[turn.member as usize] {
            self.owed.pop();
            self.owe(turn);
        } else {
            return turn.member;
        }
        self.owing[owed.member as usize] = false;
        owed.member
    }

    fn owe(&mut self, turn: Turn) {
        self.owing[turn.member as usize] = true;
        self.owed.push(turn);
    }

    fn in_order(&mut self) -> Turn {
        if self.used == self.ahead.len() {
            self.look_ahead();
        }
        self.used += 1;
        self.ahead[self.used - 1]
    }

    fn look_ahead(&mut self) {
        self.used = 0;
        let mut groups = [0; AHEAD];
        self.order.take(&mut groups);
        for (turn, group) in self.ahead.iter_mut().zip(groups) {
            let members = self.alike.group(group as usize);
            let next = &mut self.next[group as usize];
            let member = members[*next as usize];
            *next += 1;
            if *next as usize == members.len() {
                *next = 0;
            }
            *turn = Turn { group, member };
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
