//! The board: what policies compare across members, stored side by side. A member's own cells are several cache lines
//! apart; on the board eight or sixteen values share one line.
//!
//! In-flight counts are kept only while a policy reads them (see `View::board`). Each lease picked in that time is
//! counted, except probes. A lease picked before is not counted, so the board never shows more than is in flight. Costs
//! are kept always, except that a success updates the cost only if its lease is counted here. Pickers keep the turns.
//!
//! The count shares a word with the sum of the start times of the counted requests, so one load gives their mean age.
//! From the top: `starts: 40 (wrapping, in 16 us) | in flight: 24`. The sum is read modulo 2^40 as a signed number: a
//! total age above 104 days reads as negative.

use std::time::Duration;

use crate::health::OVERDUE;
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};
use crate::time::Tick;

mod view;

pub(crate) use view::{BoardView, LANES, Spot, Spots};

/// Places per page. A place is the set of cells of one member.
const PLACES: usize = 64;

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Start times are stored in units of 2 to the power of this, in nanoseconds (16 us).
const AGE_BITS: u32 = 14;

/// Units of [`Load::ages`] per nanosecond.
pub(crate) const AGE_UNITS_PER_NANO: u64 = 1 << (COUNT_BITS - AGE_BITS);

/// The turn of a member that joined others of known latency and has not had its first turn.
pub(crate) const JOINED: u32 = 1;

/// The sign bit of a cost, set while an invitation stands. An invitation asks the next pick to choose an idle member,
/// to show how it performs now.
const INVITATION: u32 = 1 << 31;

/// The most that a place counts: 65 536 below the end of the field, so that as many threads may be between adding and
/// finding the place full without a carry.
const FULL: u64 = COUNT_MASK - (1 << 16);

/// The word of one request in flight that started at `start`. Such words are added up and subtracted.
#[inline]
pub(crate) const fn one(start: Tick) -> u64 {
    (start.as_nanos() >> AGE_BITS) << COUNT_BITS | 1
}

/// What is in flight at a member: a number of requests and the sum of their start times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load(pub(crate) u64);

impl Load {
    /// The number of requests.
    #[inline]
    pub(crate) const fn count(self) -> u32 {
        (self.0 & COUNT_MASK) as u32
    }

    /// The mean age of the requests; `None` if there are none.
    pub(crate) fn mean_age(self, now: Tick) -> Option<Duration> {
        let ages = u64::try_from(self.ages(now)).unwrap_or(0) / AGE_UNITS_PER_NANO;
        let mean = ages.checked_div(self.count().into())?;
        Some(Duration::from_nanos(mean))
    }

    /// The total age of the requests, in units of 1/[`AGE_UNITS_PER_NANO`] ns. Negative if they started after `now` by
    /// another thread's clock.
    #[inline]
    pub(crate) const fn ages(self, now: Tick) -> i64 {
        // `count` times the present, less the sum of the starts, as a signed number whose unit is 2^14 ns times 2^-24.
        // The count field is in both operands and cancels out.
        let one = one(now);
        one.wrapping_mul(self.0 & COUNT_MASK).wrapping_sub(self.0) as i64
    }
}

/// All pages. The writer owns it; members hold places on pages.
#[derive(Debug)]
pub(crate) struct Board {
    pages: Vec<Arc<Page>>,
    /// The first page that may have a free place. Pages before it were full when they were last looked at.
    free_from: usize,
}

#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Page {
    loads: [AtomicU64; PLACES],
    /// The cost of a request at a member with nothing in flight, from its latency and its errors: the bits of an `f32`,
    /// in nanoseconds. 0 while unknown; negative while an invitation stands.
    costs: [AtomicU32; PLACES],
    /// When a member's turn is next, on the picker's virtual clock. 0 if it has had none; [`JOINED`] if it has had none
    /// and joined others of known latency.
    turns: [AtomicU32; PLACES],
    /// One bit per place, set while a member holds it.
    taken: AtomicU64,
}

/// A mean age above this no longer counts as overdue, in nanoseconds. One minute is four times the default deadline of
/// a [`Caller`](crate::Caller). A request that is older is a stream or a leaked lease, and would keep other requests
/// away for as long as it is open.
const FORGOTTEN: f32 = 60e9;

/// The same limit as a multiple of the fleet's usual cost, where that is more.
const FORGOTTEN_TIMES: f32 = 4.0 * OVERDUE;

/// The mean age, in nanoseconds, above which requests in flight are ignored, for this usual cost of a request.
#[inline(always)]
pub(crate) const fn forgotten(usual: f32) -> f32 {
    let times = FORGOTTEN_TIMES * usual;
    if times > FORGOTTEN { times } else { FORGOTTEN }
}

/// A member's place on the board. Dropping it gives the place back.
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

    /// Takes the first free place, so members that join together are side by side.
    pub(crate) fn place(&mut self) -> Place {
        let full = |page: &&Arc<Page>| page.free().is_none();
        self.free_from += self.pages[self.free_from..].iter().take_while(full).count();
        if self.free_from == self.pages.len() {
            self.pages.push(Arc::new(Page::new()));
        }
        let page = self.pages[self.free_from].clone();
        let at = page.free().unwrap_or(0);
        // ORDERING: Acquire. Pairs with the Release in `Place::drop`: what the last holder subtracted is visible.
        page.taken.fetch_or(1 << at, Ordering::Acquire);
        // ORDERING: Relaxed, both. No thread reads the place yet.
        page.costs[at].store(0, Ordering::Relaxed);
        page.turns[at].store(0, Ordering::Relaxed);
        Place { page, at }
    }

    /// Drops the pages without a member, and looks for free places from the first page again.
    pub(crate) fn prune(&mut self) {
        // ORDERING: Relaxed. A place given back meanwhile is seen the next time. A picker that still reads a page holds
        // a reference to it.
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
        // ORDERING: Relaxed. Only the writer takes places. One that is given back may be seen late.
        let free = self.taken.load(Ordering::Relaxed).trailing_ones() as usize;
        (free < PLACES).then_some(free)
    }
}

impl Place {
    /// Counts a request that started at `start`. Returns `false`, and does not count it, if the place is full.
    #[inline]
    pub(crate) fn add(&self, start: Tick) -> bool {
        // ORDERING: Relaxed, here and below. Values that a policy compares; they order nothing.
        let before = self.page.loads[self.at].fetch_add(one(start), Ordering::Relaxed);
        let fits = before & COUNT_MASK < FULL;
        if !fits {
            self.take(start);
        }
        fits
    }

    /// Stops counting a request that was added with this start.
    #[inline]
    pub(crate) fn take(&self, start: Tick) {
        // ORDERING: Relaxed. As in `add`.
        self.page.loads[self.at].fetch_sub(one(start), Ordering::Relaxed);
    }

    /// The mean age of the requests counted here; `None` if there are none.
    pub(crate) fn mean_age(&self, now: Tick) -> Option<Duration> {
        // ORDERING: Relaxed. As in `add`.
        Load(self.page.loads[self.at].load(Ordering::Relaxed)).mean_age(now)
    }

    /// The mean age, as a sign of how long answers take. `None` if the requests are too old for that (see
    /// [`forgotten`]).
    pub(crate) fn waiting(&self, now: Tick, usual: Option<Duration>) -> Option<Duration> {
        let longest = forgotten(usual.map_or(0.0, |usual| usual.as_nanos() as f32));
        self.mean_age(now)
            .filter(|age| age.as_nanos() as f32 <= longest)
    }

    /// Sets the cost of a request with nothing in flight, in nanoseconds, and ends any invitation.
    #[inline]
    pub(crate) fn set_cost(&self, cost: f32) {
        // ORDERING: Relaxed. As in `add`.
        self.page.costs[self.at].store(cost.to_bits(), Ordering::Relaxed);
    }

    /// The cost, if it is known.
    pub(crate) fn cost(&self) -> Option<f32> {
        // ORDERING: Relaxed. As in `add`.
        let bits = self.page.costs[self.at].load(Ordering::Relaxed) & !INVITATION;
        (bits != 0).then(|| f32::from_bits(bits))
    }

    /// Sets the cost where no new answer has been seen, and keeps an invitation. An invitation accepted meanwhile may
    /// be given once more.
    pub(crate) fn adjust_cost(&self, cost: f32) {
        let cell = &self.page.costs[self.at];
        // ORDERING: Relaxed, both. As in `add`.
        let invitation = cell.load(Ordering::Relaxed) & INVITATION;
        cell.store(cost.to_bits() | invitation, Ordering::Relaxed);
    }

    /// Marks the member as one that joined others of known latency.
    pub(crate) fn mark_joined(&self) {
        // ORDERING: Relaxed. As in `add`.
        self.page.turns[self.at].store(JOINED, Ordering::Relaxed);
    }

    /// Whether the member is marked by [`mark_joined`](Self::mark_joined) and has had no turn since.
    pub(crate) fn has_just_joined(&self) -> bool {
        // ORDERING: Relaxed. As in `add`.
        self.page.turns[self.at].load(Ordering::Relaxed) == JOINED
    }

    /// Whether the member has had no turn and is not marked by [`mark_joined`](Self::mark_joined): no latency was known
    /// when it came.
    pub(crate) fn has_had_no_turn(&self) -> bool {
        // ORDERING: Relaxed. As in `add`.
        self.page.turns[self.at].load(Ordering::Relaxed) == 0
    }

    /// Whether an invitation stands that no pick has accepted.
    pub(crate) fn is_invited(&self) -> bool {
        // ORDERING: Relaxed. As in `add`.
        self.page.costs[self.at].load(Ordering::Relaxed) & INVITATION != 0
    }

    /// Invites the next pick. The invitation stands until a pick accepts it or the endpoint's next answer sets a new
    /// cost.
    pub(crate) fn invite(&self) {
        // ORDERING: Relaxed. As in `add`.
        self.page.costs[self.at].fetch_or(INVITATION, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Leases hold the member, so every request that was added has been taken off by now.
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
