//! What policies compare of all members, side by side: a member's own cells are several lines away from each
//! other, and these are eight or sixteen to a line.
//!
//! In-flight counts are written only while a policy looks at them (see `View::board`), by each lease that was picked
//! then, probes apart. A lease picked before is not on it, so it never shows more than is in flight. Costs
//! and turns are written by whoever knows better, always.
//!
//! The count shares a word with the sum of the starts of what is counted, so that one load tells the mean age of
//! what is in flight. From the top: `starts: 40 (wrapping, in 16 us) | in flight: 24`. The sum is read
//! modulo 2^40: an age in total of 203 days wraps.

use std::time::Duration;

use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};
use crate::time::Tick;

/// Places on a page.
const PLACES: usize = 64;

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The sign of a cost.
const INVITATION: u32 = 1 << 31;

/// How many a place counts: 65 536 below the field's end, so that as many threads may all be between
/// adding and finding it full without a carry.
const FULL: u64 = COUNT_MASK - (1 << 16);

/// One more in flight, which started then.
#[inline]
const fn one(start: Tick) -> u64 {
    (start.as_nanos() >> 14) << COUNT_BITS | 1
}

/// What is in flight at a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// How many requests.
    pub(crate) count: u64,
    /// How long they have been in flight, in total, in nanoseconds.
    pub(crate) ages: u64,
}

impl Load {
    #[inline]
    const fn read(word: u64, now: Tick) -> Self {
        let count = word & COUNT_MASK;
        let ages = (now.as_nanos() >> 14)
            .wrapping_mul(count)
            .wrapping_sub(word >> COUNT_BITS);
        // As a number with a sign: a start that is later than `now` by another thread's clock is no age.
        let ages = ((ages << COUNT_BITS) as i64) >> COUNT_BITS;
        let ages = if ages > 0 { (ages as u64) << 14 } else { 0 };
        Self { count, ages }
    }
}

/// All pages. It belongs to the writer; members hold places on pages.
#[derive(Debug)]
pub(crate) struct Board {
    pages: Vec<Arc<Page>>,
    /// The first page that may have a free place, as far as is known since the last look at all.
    free_from: usize,
}

#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Page {
    loads: [AtomicU64; PLACES],
    /// What a request costs at a member where nothing is in flight, by its latency and its errors: the bits of an
    /// `f32`, in nanoseconds. 0 while unknown; with a minus sign, an invitation to the next pick.
    costs: [AtomicU32; PLACES],
    /// When a member's turn is next, in rounds of a picker's own.
    turns: [AtomicU32; PLACES],
    /// A bit for each place that somebody has.
    taken: AtomicU64,
}

/// A member's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    page: Arc<Page>,
    at: usize,
}

impl Board {
    pub(crate) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            free_from: 0,
        }
    }

    /// A free place: the first, so members that come together are side by side.
    pub(crate) fn place(&mut self) -> Place {
        let full = |page: &&Arc<Page>| page.free().is_none();
        self.free_from += self.pages[self.free_from..].iter().take_while(full).count();
        if self.free_from == self.pages.len() {
            self.pages.push(Arc::new(Page::new()));
        }
        let page = self.pages[self.free_from].clone();
        let at = page.free().unwrap_or(0);
        // ORDERING: Acquire. Pairs with the Release of `Place::drop`: what the last one took away is seen.
        page.taken.fetch_or(1 << at, Ordering::Acquire);
        // ORDERING: Relaxed, both. Nobody reads the place yet.
        page.costs[at].store(0, Ordering::Relaxed);
        page.turns[at].store(0, Ordering::Relaxed);
        Place { page, at }
    }

    /// Drops the pages that nobody has a place on, and sees anew which have free ones.
    pub(crate) fn prune(&mut self) {
        // ORDERING: Relaxed. A place that is given back meanwhile is seen the next time; a picker that still reads
        // a page holds it.
        self.pages
            .retain(|page| page.taken.load(Ordering::Relaxed) != 0);
        self.free_from = 0;
    }
}

impl Page {
    fn new() -> Self {
        Self {
            loads: std::array::from_fn(|_| AtomicU64::new(0)),
            costs: std::array::from_fn(|_| AtomicU32::new(0)),
            turns: std::array::from_fn(|_| AtomicU32::new(0)),
            taken: AtomicU64::new(0),
        }
    }

    fn free(&self) -> Option<usize> {
        // ORDERING: Relaxed. Only the writer takes places; one that is given back may be seen late.
        let free = self.taken.load(Ordering::Relaxed).trailing_ones() as usize;
        (free < PLACES).then_some(free)
    }
}

impl Place {
    /// One more is in flight, since `start`. `false` if there are more than can be counted; then it is not.
    #[inline]
    pub(crate) fn add(&self, start: Tick) -> bool {
        // ORDERING: Relaxed, here and below. What a policy compares; it orders nothing.
        let before = self.page.loads[self.at].fetch_add(one(start), Ordering::Relaxed);
        let fits = before & COUNT_MASK < FULL;
        if !fits {
            self.take(start);
        }
        fits
    }

    /// One less, which was added with this start.
    #[inline]
    pub(crate) fn take(&self, start: Tick) {
        // ORDERING: Relaxed. As in `add`.
        self.page.loads[self.at].fetch_sub(one(start), Ordering::Relaxed);
    }

    /// The mean age of what is in flight and counted here.
    pub(crate) fn mean_age(&self, now: Tick) -> Option<Duration> {
        // ORDERING: Relaxed. As in `add`.
        let load = Load::read(self.page.loads[self.at].load(Ordering::Relaxed), now);
        let mean = load.ages.checked_div(load.count)?;
        Some(Duration::from_nanos(mean))
    }

    /// What a request costs there where nothing is in flight, in nanoseconds.
    #[inline]
    pub(crate) fn set_cost(&self, cost: f32) {
        // ORDERING: Relaxed. As in `add`.
        self.page.costs[self.at].store(cost.to_bits(), Ordering::Relaxed);
    }

    /// The same, where nothing has been seen of it since: an invitation stands. One that is accepted meanwhile may be given
    /// again, once.
    pub(crate) fn adjust_cost(&self, cost: f32) {
        let cell = &self.page.costs[self.at];
        // ORDERING: Relaxed, both. As in `add`.
        let invitation = cell.load(Ordering::Relaxed) & INVITATION;
        cell.store(cost.to_bits() | invitation, Ordering::Relaxed);
    }

    /// Whether there is an invitation that nobody has accepted.
    pub(crate) fn is_invited(&self) -> bool {
        // ORDERING: Relaxed. As in `add`.
        self.page.costs[self.at].load(Ordering::Relaxed) & INVITATION != 0
    }

    /// Invites the next pick, until the endpoint has answered.
    pub(crate) fn invite(&self) {
        // ORDERING: Relaxed. As in `add`.
        self.page.costs[self.at].fetch_or(INVITATION, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Its leases hold the member, so all that were added have been taken.
        // ORDERING: Release. Pairs with `Board::place`.
        self.page
            .taken
            .fetch_and(!(1 << self.at), Ordering::Release);
    }
}

/// Some members' places, for a picker to read.
#[derive(Debug)]
pub(crate) struct Readings {
    /// Stretches of members whose places lie side by side.
    runs: Box<[Run]>,
    /// Each member's run, and its place there in the lowest six bits.
    places: Box<[u32]>,
}

#[derive(Debug)]
struct Run {
    page: Arc<Page>,
    start: usize,
    length: usize,
}

/// One member's place, to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot<'a> {
    load: &'a AtomicU64,
    cost: &'a AtomicU32,
    turn: &'a AtomicU32,
}

impl Spot<'_> {
    /// Requests in flight.
    #[inline]
    pub(crate) fn in_flight(self) -> u64 {
        // ORDERING: Relaxed. As in `Place::add`.
        self.load.load(Ordering::Relaxed) & COUNT_MASK
    }

    /// The same, and their ages.
    #[inline]
    pub(crate) fn load(self, now: Tick) -> Load {
        // ORDERING: Relaxed. As in `Place::add`.
        Load::read(self.load.load(Ordering::Relaxed), now)
    }

    /// See [`Place::set_cost`]; 0 while unknown, negative if there is an invitation.
    #[inline]
    pub(crate) fn cost(self) -> f32 {
        // ORDERING: Relaxed. As in `Place::add`.
        f32::from_bits(self.cost.load(Ordering::Relaxed))
    }

    /// Takes the invitation, if nobody else has.
    #[cold]
    pub(crate) fn accept(self) -> bool {
        // ORDERING: Relaxed. As in `Place::add`; who clears the bit has it.
        self.cost.fetch_and(!INVITATION, Ordering::Relaxed) & INVITATION != 0
    }

    /// When its turn is next.
    #[inline]
    pub(crate) fn turn(self) -> u32 {
        // ORDERING: Relaxed. As in `Place::add`.
        self.turn.load(Ordering::Relaxed)
    }

    /// Says when its turn is next. Of two that do so at once, one is forgotten.
    #[inline]
    pub(crate) fn set_turn(self, turn: u32) {
        // ORDERING: Relaxed. As in `Place::add`.
        self.turn.store(turn, Ordering::Relaxed);
    }
}

impl Run {
    #[inline]
    fn spots(&self) -> impl Iterator<Item = Spot<'_>> + Clone {
        let Page {
            loads,
            costs,
            turns,
            ..
        } = &*self.page;
        let range = self.start..self.start + self.length;
        let (loads, costs) = (&loads[range.clone()], &costs[range.clone()]);
        let all = loads.iter().zip(costs).zip(&turns[range]);
        all.map(|((load, cost), turn)| Spot { load, cost, turn })
    }
}

impl Readings {
    /// `None` if any of them has no place.
    pub(crate) fn of<'a>(members: impl Iterator<Item = Option<&'a Place>>) -> Option<Self> {
        let mut runs: Vec<Run> = Vec::new();
        let mut places = Vec::new();
        for place in members {
            let place = place?;
            let follows = |run: &&mut Run| {
                Arc::ptr_eq(&run.page, &place.page) && run.start + run.length == place.at
            };
            match runs.last_mut().filter(follows) {
                Some(run) => run.length += 1,
                None => runs.push(Run {
                    page: place.page.clone(),
                    start: place.at,
                    length: 1,
                }),
            }
            places.push((runs.len() - 1) as u32 * PLACES as u32 + place.at as u32);
        }
        Some(Self {
            runs: runs.into(),
            places: places.into(),
        })
    }

    /// The place of the member at this index.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Spot<'_> {
        let place = self.places[index] as usize;
        let (page, at) = (&self.runs[place / PLACES].page, place % PLACES);
        Spot {
            load: &page.loads[at],
            cost: &page.costs[at],
            turn: &page.turns[at],
        }
    }

    /// All places, in the order of the members.
    #[inline]
    pub(crate) fn spots(&self) -> impl Iterator<Item = Spot<'_>> + Clone {
        self.runs.iter().flat_map(Run::spots)
    }

    /// Shows each member's index, place and weight to `look`, as long as it says to go on.
    #[inline]
    pub(crate) fn each<W: Copy>(
        &self,
        weights: &[W],
        mut look: impl FnMut(usize, Spot<'_>, W) -> bool,
    ) {
        let mut first = 0;
        for run in &self.runs {
            let weights = &weights[first..first + run.length];
            for (at, (spot, &weight)) in run.spots().zip(weights).enumerate() {
                if !look(first + at, spot, weight) {
                    return;
                }
            }
            first += run.length;
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
