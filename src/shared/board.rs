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

mod readings;

pub(crate) use readings::{LANES, Readings, Spot, Spots};

/// Places on a page.
const PLACES: usize = 64;

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Ages are counted in units of 2 to the power of this, in nanoseconds.
const AGE_BITS: u32 = 14;

/// What ages in total are told in: so many in a nanosecond.
pub(crate) const AGES: u64 = 1 << (COUNT_BITS - AGE_BITS);

/// The turn of who has had none, and has come to others.
pub(crate) const JOINED: u32 = 1;

/// The sign of a cost.
const INVITATION: u32 = 1 << 31;

/// How many a place counts: 65 536 below the field's end, so that as many threads may all be between
/// adding and finding it full without a carry.
const FULL: u64 = COUNT_MASK - (1 << 16);

/// One more in flight, which started then.
#[inline]
const fn one(start: Tick) -> u64 {
    (start.as_nanos() >> AGE_BITS) << COUNT_BITS | 1
}

/// What is in flight at a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load(u64);

impl Load {
    /// How many requests.
    #[inline]
    pub(crate) const fn count(self) -> u32 {
        (self.0 & COUNT_MASK) as u32
    }

    /// How long they have been in flight, in total, in parts of a nanosecond ([`AGES`]); negative if they started later than `now`, by
    /// another thread's clock.
    #[inline]
    pub(crate) const fn ages(self, now: Tick) -> i64 {
        // As many starts at this time as there are, less what the starts are, in the topmost 40 bits, as a number with a sign. The
        // count is added to the one as it is in the other.
        let one = one(now);
        one.wrapping_mul(self.0 & COUNT_MASK).wrapping_sub(self.0) as i64
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
    /// When a member's turn is next, in rounds of a picker's own. 0 if it has had none, [`JOINED`] if it has had none since it has
    /// come to others.
    turns: [AtomicU32; PLACES],
    /// A bit for each place that somebody has.
    taken: AtomicU64,
}

/// Where requests have been in flight for more than so many times what one costs there, as a time, in the mean, others are preferred: before it
/// answers, an endpoint shows that it does not. It counts for so many times its cost then, and no more: one that works on a long request has been
/// waited for as long as one that hangs.
pub(crate) const OVERDUE: f32 = 3.0;

/// But no longer than this in the mean, in nanoseconds: a minute is four times what a [`Caller`](crate::Caller) waits at most by default. What
/// is in flight for longer is a stream, or a lease that nobody ends, and would keep others away for as long as it is there.
const FORGOTTEN: f32 = 60e9;

/// Or than so many times what a request usually costs, where that takes longer.
const FORGOTTEN_TIMES: f32 = 4.0 * OVERDUE;

/// The mean age, in nanoseconds, from which on requests count as forgotten, where one usually costs this.
#[inline(always)]
pub(crate) const fn forgotten(usual: f32) -> f32 {
    let times = FORGOTTEN_TIMES * usual;
    if times > FORGOTTEN { times } else { FORGOTTEN }
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
        let load = Load(self.page.loads[self.at].load(Ordering::Relaxed));
        let ages = u64::try_from(load.ages(now)).unwrap_or(0) / AGES;
        let mean = ages.checked_div(load.count().into())?;
        Some(Duration::from_nanos(mean))
    }

    /// The same, as long as it tells how long answers take: `None` where what is in flight is [`forgotten`].
    pub(crate) fn waiting(&self, now: Tick, usual: Option<Duration>) -> Option<Duration> {
        let longest = forgotten(usual.map_or(0.0, |usual| usual.as_nanos() as f32));
        self.mean_age(now)
            .filter(|age| age.as_nanos() as f32 <= longest)
    }

    /// What a request costs there where nothing is in flight, in nanoseconds.
    #[inline]
    pub(crate) fn set_cost(&self, cost: f32) {
        // ORDERING: Relaxed. As in `add`.
        self.page.costs[self.at].store(cost.to_bits(), Ordering::Relaxed);
    }

    /// That, if it is known.
    pub(crate) fn cost(&self) -> Option<f32> {
        // ORDERING: Relaxed. As in `add`.
        let bits = self.page.costs[self.at].load(Ordering::Relaxed) & !INVITATION;
        (bits != 0).then(|| f32::from_bits(bits))
    }

    /// The same, where nothing has been seen of it since: an invitation stands. One that is accepted meanwhile may be given
    /// again, once.
    pub(crate) fn adjust_cost(&self, cost: f32) {
        let cell = &self.page.costs[self.at];
        // ORDERING: Relaxed, both. As in `add`.
        let invitation = cell.load(Ordering::Relaxed) & INVITATION;
        cell.store(cost.to_bits() | invitation, Ordering::Relaxed);
    }

    /// It is of somebody who has come to others that are known.
    pub(crate) fn joins(&self) {
        // ORDERING: Relaxed. As in `add`.
        self.page.turns[self.at].store(JOINED, Ordering::Relaxed);
    }

    /// Whether that has had no turn since.
    pub(crate) fn has_just_joined(&self) -> bool {
        // ORDERING: Relaxed. As in `add`.
        self.page.turns[self.at].load(Ordering::Relaxed) == JOINED
    }

    /// Whether it is of the first set, and has had none yet.
    pub(crate) fn has_had_no_turn(&self) -> bool {
        // ORDERING: Relaxed. As in `add`.
        self.page.turns[self.at].load(Ordering::Relaxed) == 0
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

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
