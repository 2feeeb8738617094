//! One cell of a member's gate: what one shard of threads writes with each request to the endpoint.
//!
//! One word holds how many of the shard's requests are inside, whether more may enter, and how many have ended well. So
//! the value returned by one read-modify-write decides, and counting a success costs no second write.
//!
//! The word, from the top: `well: 16 | closed: 1 | generation: 23 (wrapping) | inside: 24`. `well` counts successes
//! that are not in the window yet. They belong to the bucket that is open there, and are moved into it when a success
//! comes for another bucket, or when there are [`MANY`] of them. All writes are read-modify-writes.

use std::time::Duration;

use super::standing::EPOCH_MASK;
use crate::health::{AdaptiveLimit, BUCKETS, Concurrency, Counts, Open, Window};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Tick;

const INSIDE_BITS: u32 = 24;
const INSIDE_MASK: u64 = (1 << INSIDE_BITS) - 1;
const GENERATION_BITS: u32 = 23;
pub(super) const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
const CLOSED: u64 = 1 << (INSIDE_BITS + GENERATION_BITS);
const SUCCESS_SHIFT: u32 = INSIDE_BITS + GENERATION_BITS + 1;
const SUCCESS: u64 = 1 << SUCCESS_SHIFT;

/// The most requests that may be inside a cell: 65 536 below the field's end, so that as many threads may be between
/// entering and being refused at once without a carry.
pub(super) const FULL: u64 = INSIDE_MASK - (1 << 16);

/// The number of successes from which on they are moved to the window. It is low enough to leave room for 64 512
/// threads that each add one meanwhile, and for as many cells' worth in a bucket.
const MANY: u64 = 1024;

/// The bits of a word of which one is set if `well` is at least [`MANY`].
const MANY_SUCCESSES: u64 = (u16::MAX as u64 & !(MANY - 1)) << SUCCESS_SHIFT;

/// Why a request may not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The gate is closed, or its data is newer: an update has completed since the pick's snapshot.
    Stale,
    /// The limit is reached; without a limit, as many requests are inside as can be counted.
    Full,
}

/// What a request finds when it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// The request was the last inside this cell, and the gate is closed.
    pub(super) last_of_closed: bool,
}

impl Left {
    const INSIDE: Self = Self {
        last_of_closed: false,
    };
}

/// The fields are in this order so that those that each request touches share a cache line most of the time.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Cell {
    word: AtomicU64,
    /// How many requests may be inside; [`UNLIMITED`] without a limit.
    limit: AtomicU32,
    /// A copy of the epoch of the member's standing, as each request reads it when it begins and when it ends; and
    /// [`WATCHED`] above it.
    epoch: AtomicU32,
    pub(super) window: Window,
    /// What an adaptive limit follows; `None` for a fixed limit, or none.
    concurrency: Option<Box<Concurrency>>,
}

/// Set in a cell's epoch while successes are of interest to the member's tracker: one that may have something to take
/// back, or one of the user's. Most of the time it is not set, and a success leaves without a look at the tracker, which
/// is on a cache line of its own.
const WATCHED: u32 = 1 << 31;

/// The `limit` of a cell without a limit: more than are ever inside.
const UNLIMITED: u32 = u32::MAX;

impl Cell {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            word: AtomicU64::new(0),
            limit: AtomicU32::new(UNLIMITED),
            epoch: AtomicU32::new(0),
            window: Window::new(window),
            concurrency: None,
        }
    }

    /// The same cell with at most `limit` requests inside. With a `rule` the limit adapts.
    pub(super) fn limited_to(self, limit: u32, rule: Option<AdaptiveLimit>) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            concurrency: rule.map(|rule| Box::new(Concurrency::new(rule))),
            ..self
        }
    }

    /// Tells an adaptive limit how long a success took.
    pub(super) fn observe_latency(&self, now: Tick, latency: Duration) {
        if let Some(concurrency) = &self.concurrency {
            concurrency.note_success(now, latency, self.inside(), &self.limit);
        }
    }

    /// Tells an adaptive limit that the endpoint was overloaded.
    pub(super) fn note_overloaded(&self, now: Tick) {
        if let Some(concurrency) = &self.concurrency {
            concurrency.note_overloaded(now, self.inside(), &self.limit);
        }
    }

    /// How many requests may be inside, if that is limited.
    #[inline]
    pub(super) fn limit(&self) -> Option<u32> {
        // ORDERING: Relaxed. A number complete in itself. An adaptive limit moves, and the last value is as good as the
        // next.
        let limit = self.limit.load(Ordering::Relaxed);
        (limit != UNLIMITED).then_some(limit)
    }

    #[inline]
    fn is_limited(&self) -> bool {
        self.limit().is_some()
    }

    /// The epoch of the member's standing that was shown last.
    #[inline]
    pub(super) fn epoch(&self) -> u32 {
        self.shown() & EPOCH_MASK
    }

    /// The epoch and [`WATCHED`]. While that is set, the value equals no epoch.
    #[inline]
    pub(super) fn shown(&self) -> u32 {
        // ORDERING: Acquire. Pairs with `show_epoch`: a thread that sees a member return sees its record cleared.
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether the tracker is to be told of successes.
    pub(super) fn is_watched(&self) -> bool {
        self.shown() & WATCHED != 0
    }

    /// Has the tracker told of successes that leave by this cell, or no longer.
    pub(super) fn set_watched(&self, is: bool) {
        // ORDERING: Relaxed, both. The fences of the gate order it. Read-modify-writes, so that a thread that reads the
        // word still sees what came before the epoch in it.
        if is {
            self.epoch.fetch_or(WATCHED, Ordering::Relaxed);
        } else {
            self.epoch.fetch_and(!WATCHED, Ordering::Relaxed);
        }
    }

    /// Shows this epoch even over a later one. For a broken variant in a model.
    #[cfg(all(test, evenkeel_loom))]
    pub(super) fn set_epoch(&self, epoch: u32) {
        // ORDERING: Release. As in `show_epoch`; not what is broken.
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Shows the epoch that the member's standing has turned to, unless a later one has been shown meanwhile.
    pub(super) fn show_epoch(&self, epoch: u32) {
        let is_later = |shown: u32| epoch.wrapping_sub(shown) & EPOCH_MASK <= EPOCH_MASK / 2;
        // ORDERING: Release, and Relaxed to look. Pairs with `epoch`. Each epoch is shown by the thread that turned to
        // it.
        let _ = self
            .epoch
            .fetch_update(Ordering::Release, Ordering::Relaxed, |shown| {
                is_later(shown).then_some(epoch | shown & WATCHED)
            });
    }

    /// Enters with data of `generation`. An update in progress may not have moved the word yet, so a word of an older
    /// generation admits the request; one of a newer generation refuses it. Without a limit, a refused request is
    /// counted inside until it leaves.
    #[inline]
    pub(super) fn enter(&self, generation: u64) -> Result<(), Refused> {
        if self.is_limited() {
            return self.enter_below_limit(generation);
        }
        // ORDERING: Acquire. Pairs with the Release of `close` and `renew`: a refused request sees, on its next load,
        // the snapshot that was published before.
        let word = self.word.fetch_add(1, Ordering::Acquire);
        if is_plain(word, generation) {
            return Ok(());
        }
        refusal(word, generation, FULL)
    }

    /// Enters if fewer requests than the limit are inside. A compare-and-swap on the word that counts decides, so there
    /// are never more, not even for a moment. Kept out of line so that cells without a limit do not pay for it.
    #[inline(never)]
    fn enter_below_limit(&self, generation: u64) -> Result<(), Refused> {
        // ORDERING: Relaxed. As in `limit`.
        let limit = self.limit.load(Ordering::Relaxed).into();
        // ORDERING: Acquire, here and below. As in `enter`: a request that is refused as stale finds the newer
        // snapshot.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            refusal(word, generation, limit)?;
            // ORDERING: Acquire, both. As above.
            match self.word.compare_exchange_weak(
                word,
                word + 1,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(found) => word = found,
            }
        }
    }

    /// Whether the limit leaves room for another request.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        // ORDERING: Relaxed, both. A hint to choose by; the entry itself decides.
        let inside = self.word.load(Ordering::Relaxed) & INSIDE_MASK;
        inside < self.limit.load(Ordering::Relaxed).into()
    }

    /// Enters whatever the limit. For a broken variant in a model.
    #[cfg(all(test, evenkeel_loom))]
    pub(super) fn count_anyway(&self) -> bool {
        // ORDERING: Acquire. As in `enter`; not what is broken.
        self.word.fetch_add(1, Ordering::Acquire);
        true
    }

    /// Whether a refused request has been counted inside for a moment, and has to leave.
    #[inline]
    pub(super) fn counts_refused(&self) -> bool {
        !self.is_limited()
    }

    /// Leaves.
    #[inline]
    pub(super) fn leave(&self) -> Left {
        // ORDERING: Release. Pairs with the Acquire of `inside`: a thread that finds the gate empty sees all that the
        // leases did.
        let word = self.word.fetch_sub(1, Ordering::Release);
        left(word)
    }

    /// Leaves, and counts a success at this time.
    #[inline]
    pub(super) fn leave_with_success(&self, at: Tick) -> Left {
        self.leave_with_success_at_once(at)
            .unwrap_or_else(|| self.leave_with_success_later(at))
    }

    /// As [`leave_with_success`](Self::leave_with_success) if the window's open bucket is of this time. Otherwise
    /// changes nothing and returns `None`.
    #[inline(always)]
    pub(super) fn leave_with_success_at_once(&self, at: Tick) -> Option<Left> {
        if !self.window.is_open_at(at) {
            return None;
        }
        // The lower fields lose one and do not borrow, as this request is inside.
        // ORDERING: Release. As in `leave`.
        let word = self.word.fetch_add(SUCCESS - 1, Ordering::Release);
        if word & (CLOSED | MANY_SUCCESSES) == 0 {
            return Some(Left::INSIDE);
        }
        Some(self.left_well(word, at))
    }

    /// Leaves with the first success of a bucket, or with one of a bucket before the open one.
    #[cold]
    #[inline(never)]
    fn leave_with_success_later(&self, at: Tick) -> Left {
        if !self.open(at) {
            self.window.record(at, false);
            return self.leave();
        }
        // ORDERING: Release. As in `leave`.
        let word = self.word.fetch_add(SUCCESS - 1, Ordering::Release);
        self.left_well(word, at)
    }

    /// Handles the rare cases of a success that left and found this word: moves successes that have become many, and
    /// reports whether it was the last out of a closed gate.
    #[cold]
    #[inline(never)]
    fn left_well(&self, word: u64, at: Tick) -> Left {
        if word & MANY_SUCCESSES != 0 {
            self.open(at);
        }
        left(word)
    }

    /// Opens the bucket of this time, after moving the successes counted so far to the bucket they belong to. `false`
    /// if the time is before the open bucket, or if another thread is moving.
    #[cold]
    fn open(&self, at: Tick) -> bool {
        let claim = self.window.claim(at);
        if let Open::Claimed(number) = claim {
            self.settle(number, at);
        }
        claim != Open::Taken
    }

    /// Moves the successes to bucket `number` of the window, and opens the bucket of `at`. The window is claimed, so no
    /// other thread moves them. They are added to the window before they are taken from the word, so a concurrent
    /// reader sees some twice and misses none: a moment of too few successes could eject.
    fn settle(&self, number: u64, at: Tick) {
        // ORDERING: Relaxed. A statistic; the claim keeps other threads from moving the same.
        let well = self.word.load(Ordering::Relaxed) >> SUCCESS_SHIFT;
        self.window.add(number, well, 0);
        // ORDERING: Release. Pairs with `last`: a reader that does not see them here sees them in the window.
        self.word
            .fetch_sub(well << SUCCESS_SHIFT, Ordering::Release);
        self.window.open(at);
    }

    /// What the window holds at `now`, with the successes that are not in it yet.
    pub(super) fn counts(&self, now: Tick) -> Counts {
        self.last(BUCKETS, now)
    }

    /// What the window's last `buckets` buckets hold. The successes that are not in it yet are included if the open
    /// bucket is one of those: an endpoint that has only failed or refused since does not open another.
    pub(super) fn last(&self, buckets: u64, now: Tick) -> Counts {
        // ORDERING: Acquire. Pairs with `settle`. The word is read first: successes are in the window before they leave
        // the word.
        let well = self.word.load(Ordering::Acquire) >> SUCCESS_SHIFT;
        let is_held = self.window.holds_the_open_one(buckets, now);
        let mut counts = self.window.last(buckets, now);
        counts.total += if is_held { well } else { 0 };
        counts
    }

    /// Forgets what was counted, unless another thread is moving it or `now` is before the open bucket. Then successes
    /// may stay, which eject nothing.
    pub(super) fn clear(&self, now: Tick) {
        if let Open::Claimed(_) = self.window.claim(now) {
            // ORDERING: Relaxed, both. As in `settle`.
            let well = self.word.load(Ordering::Relaxed) >> SUCCESS_SHIFT;
            self.word
                .fetch_sub(well << SUCCESS_SHIFT, Ordering::Relaxed);
            self.window.open(now);
        }
        self.window.clear();
    }

    /// Closes the gate: no request enters any more.
    pub(super) fn close(&self) {
        // ORDERING: AcqRel. Release: pairs with `enter`. Acquire: a sum taken later by this thread does not miss a
        // request that entered before.
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Moves to the next generation. Only the writer calls it.
    pub(super) fn renew(&self) {
        let next = |word| {
            let next = (generation_of(word) + 1) & GENERATION_MASK;
            Some(word & !(GENERATION_MASK << INSIDE_BITS) | next << INSIDE_BITS)
        };
        // ORDERING: AcqRel, and Acquire to try again. As in `close`.
        let _ = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        // ORDERING: Acquire. Pairs with `close`.
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// How many requests are inside. A refused entry counts for the moment it takes.
    #[inline]
    pub(super) fn inside(&self) -> u64 {
        // ORDERING: Acquire. Pairs with the Release of `leave`.
        self.word.load(Ordering::Acquire) & INSIDE_MASK
    }
}

#[inline]
const fn generation_of(word: u64) -> u64 {
    (word >> INSIDE_BITS) & GENERATION_MASK
}

/// Whether the word is of an open gate, of exactly this generation, with fewer than 2^23 requests inside. One
/// comparison replaces the checks of [`refusal`]; a word that is not plain may still admit.
#[inline]
const fn is_plain(word: u64, generation: u64) -> bool {
    const TOP: u32 = INSIDE_BITS - 1;
    (word << (64 - SUCCESS_SHIFT)) >> (64 - SUCCESS_SHIFT + TOP) == generation << 1
}

/// Refuses a request with data of `generation` if the word says so, where at most `most` requests may be inside.
#[inline]
const fn refusal(word: u64, generation: u64, most: u64) -> Result<(), Refused> {
    let ahead = generation_of(word).wrapping_sub(generation) & GENERATION_MASK;
    let newer = ahead != 0 && ahead <= GENERATION_MASK / 2;
    if word & CLOSED != 0 || newer {
        Err(Refused::Stale)
    } else if word & INSIDE_MASK >= most {
        Err(Refused::Full)
    } else {
        Ok(())
    }
}

#[inline]
fn left(word: u64) -> Left {
    debug_assert!(word & INSIDE_MASK > 0, "who leaves has entered");
    Left {
        last_of_closed: word & CLOSED != 0 && word & INSIDE_MASK == 1,
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
