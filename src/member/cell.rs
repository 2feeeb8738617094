//! What a shard of threads writes with each request to one endpoint: how many of its requests are inside,
//! whether more may enter, and which have ended well. All in one word, so that the value returned by one
//! read-modify-write decides, and a good end costs no second one.
//!
//! The word, from the top: `well: 16 | closed: 1 | generation: 23 (wrapping) | inside: 24`. `well` counts
//! successes that are not in the window yet; they belong to the bucket that is open there, and are moved when
//! a success comes for another, or when they are [`MANY`]. All writes are read-modify-writes.

use std::time::Duration;

use crate::health::{Counts, Open, Window};
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

const INSIDE_BITS: u32 = 24;
const INSIDE_MASK: u64 = (1 << INSIDE_BITS) - 1;
const GENERATION_BITS: u32 = 23;
pub(super) const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
const CLOSED: u64 = 1 << (INSIDE_BITS + GENERATION_BITS);
const WELL_SHIFT: u32 = INSIDE_BITS + GENERATION_BITS + 1;
const WELL: u64 = 1 << WELL_SHIFT;

/// How many may be inside a cell: 65 536 below the field's end, so that as many threads may all be
/// between entering and being refused without a carry.
pub(super) const FULL: u64 = INSIDE_MASK - (1 << 16);

/// From how many on successes are moved to the window: as few as leave room for 64 512 threads that
/// all add one meanwhile, and for as many cells' worth in a bucket.
const MANY: u64 = 1024;

/// Why a request may not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The gate is closed, or its data newer: an update has been completed since the pick's snapshot.
    Stale,
    /// As many are inside as can be counted.
    Full,
}

/// What a request leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// It was the last inside this cell, and the gate is closed.
    pub(super) last_of_closed: bool,
}

/// In this order, so that what each request touches lies on one line.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Cell {
    word: AtomicU64,
    pub(super) window: Window,
}

impl Cell {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            word: AtomicU64::new(0),
            window: Window::new(window),
        }
    }

    /// Enters, for data of `generation`. An update in progress may not have moved the word yet, so an
    /// older one is fine; a newer one is not. Who is refused is inside until it leaves.
    #[inline]
    pub(super) fn enter(&self, generation: u64) -> Result<(), Refused> {
        // ORDERING: Acquire. Pairs with the Release of `close` and `renew`: who is refused sees, on
        // its next load, the snapshot that was published before.
        let word = self.word.fetch_add(1, Ordering::Acquire);
        refusal(word, generation, FULL)
    }

    /// The same, if fewer than `limit` are inside. The word that counts decides, by a compare-and-swap: so there are never
    /// more, not even for a moment, and who is refused has not been inside.
    pub(super) fn enter_below(&self, generation: u64, limit: u32) -> Result<(), Refused> {
        // ORDERING: Acquire, here and below. As in `enter`: who is refused as stale finds the newer snapshot.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            refusal(word, generation, limit.into())?;
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

    /// Whether fewer than `limit` are inside.
    #[inline]
    pub(super) fn has_room(&self, limit: u32) -> bool {
        // ORDERING: Relaxed. A look, to choose by; who enters is decided there.
        self.word.load(Ordering::Relaxed) & INSIDE_MASK < limit.into()
    }

    /// Leaves.
    #[inline]
    pub(super) fn leave(&self) -> Left {
        // ORDERING: Release. Pairs with the Acquire of `inside`: who finds the gate empty sees all
        // that the leases did.
        let word = self.word.fetch_sub(1, Ordering::Release);
        left(word)
    }

    /// Leaves, and counts a success of this time.
    #[inline]
    pub(super) fn leave_well(&self, at: Tick) -> Left {
        if !self.window.is_open_at(at) && !self.open(at) {
            self.window.record(at, false);
            return self.leave();
        }
        // The lower fields lose one and do not borrow, as this request is inside.
        // ORDERING: Release. As in `leave`.
        let word = self.word.fetch_add(WELL - 1, Ordering::Release);
        if (word >> WELL_SHIFT) + 1 >= MANY {
            self.open(at);
        }
        left(word)
    }

    /// Opens the bucket of this time, with what was counted for the one before moved there. `false` if the time
    /// is before the open bucket's, or another is at it.
    #[cold]
    fn open(&self, at: Tick) -> bool {
        let claim = self.window.claim(at);
        if let Open::Claimed(number) = claim {
            self.settle(number, at);
        }
        claim != Open::Taken
    }

    /// Moves the successes to bucket `number` of the window, and opens the one of `at`. The window is
    /// claimed, so nobody else does. Added before they are taken, so that who reads meanwhile sees some twice
    /// and none not at all: a moment of too little success could eject.
    fn settle(&self, number: u64, at: Tick) {
        // ORDERING: Relaxed. A statistic; the claim keeps others from doing the same.
        let well = self.word.load(Ordering::Relaxed) >> WELL_SHIFT;
        self.window.add(number, well, 0);
        // ORDERING: Release. Pairs with `counts`: who does not see them here sees them there.
        self.word.fetch_sub(well << WELL_SHIFT, Ordering::Release);
        self.window.open(at);
    }

    /// What the window holds at `now`, with the successes that are not in it yet.
    pub(super) fn counts(&self, now: Tick) -> Counts {
        // ORDERING: Acquire. Pairs with `settle`. The word first: they are in the window before they leave it.
        let well = self.word.load(Ordering::Acquire) >> WELL_SHIFT;
        let is_held = self.window.holds_the_open_one(now);
        let mut counts = self.window.counts(now);
        counts.total += if is_held { well } else { 0 };
        counts
    }

    /// What the later half of the window holds, with those successes.
    pub(super) fn recent(&self, now: Tick) -> Counts {
        // ORDERING: Acquire. As in `counts`.
        let well = self.word.load(Ordering::Acquire) >> WELL_SHIFT;
        let mut counts = self.window.recent(now);
        counts.total += well;
        counts
    }

    /// Forgets what was counted, unless somebody is moving it or `now` is before the open bucket: then successes may
    /// stay, which eject nobody.
    pub(super) fn clear(&self, now: Tick) {
        if let Open::Claimed(_) = self.window.claim(now) {
            // ORDERING: Relaxed, both. As in `settle`.
            let well = self.word.load(Ordering::Relaxed) >> WELL_SHIFT;
            self.word.fetch_sub(well << WELL_SHIFT, Ordering::Relaxed);
            self.window.open(now);
        }
        self.window.clear();
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        // ORDERING: AcqRel. Release: pairs with `enter`. Acquire: a sum taken later by this thread does
        // not miss who entered before.
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Moves to the next generation. Only the writer does.
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

    /// How many are inside; a refused entry counts for the moment it takes.
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

/// Whether a word refuses who comes with data of `generation`, where `most` may be inside.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn cell() -> Cell {
        Cell::new(Duration::from_secs(10))
    }

    fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    #[test]
    fn a_generation_that_wraps_carries_nowhere() {
        let cell = cell();
        // ORDERING: Relaxed, here and below. One thread.
        let last = GENERATION_MASK << INSIDE_BITS | (MANY - 1) << WELL_SHIFT;
        cell.word.store(last, Ordering::Relaxed);
        assert_eq!(cell.enter(GENERATION_MASK), Ok(()));
        cell.renew();
        assert_eq!(cell.inside(), 1);
        assert!(!cell.is_closed());
        assert_eq!(cell.enter(GENERATION_MASK), Err(Refused::Stale));
        assert_eq!(cell.enter(0), Ok(()));
        // ORDERING: Relaxed. One thread.
        assert_eq!(cell.word.load(Ordering::Relaxed) >> WELL_SHIFT, MANY - 1);
    }

    #[test]
    fn a_full_cell_refuses_instead_of_carrying() {
        let cell = cell();
        // ORDERING: Relaxed. One thread.
        cell.word.store(FULL - 1, Ordering::Relaxed);
        assert_eq!(cell.enter(0), Ok(()));
        assert_eq!(cell.enter(0), Err(Refused::Full));
        assert_eq!(
            cell.leave(),
            Left {
                last_of_closed: false
            }
        );
        assert_eq!(cell.inside(), FULL);
    }

    #[test]
    fn many_successes_in_one_bucket_are_all_counted() {
        let cell = cell();
        for _ in 0..10 * MANY + 7 {
            cell.enter(0).unwrap();
            cell.leave_well(at(5 * SECOND));
        }
        assert_eq!(cell.counts(at(5 * SECOND)).total, 10 * MANY + 7);
        assert_eq!(cell.inside(), 0);
    }

    proptest! {
        /// Against a window that is told each at once, whatever the clock does, as of the latest time.
        #[test]
        fn counts_what_a_window_counts(
            steps in prop::collection::vec((0i64..3_000, 0u8..10), 1..400),
        ) {
            let cell = cell();
            let window = Window::new(Duration::from_secs(10));
            let (mut now, mut latest) = (0i64, Tick::ZERO);
            for (millis, what) in steps {
                now = match what {
                    // A clock that is a little behind, as another thread's may be.
                    0 => (now - millis).max(0),
                    1 => now + millis * 10,
                    _ => now + millis,
                };
                let at = at(now as u64 * 1_000_000);
                cell.enter(0).unwrap();
                if what == 2 {
                    cell.window.record(at, true);
                    cell.leave();
                } else {
                    cell.leave_well(at);
                }
                window.record(at, what == 2);
                latest = latest.max(at);
                prop_assert_eq!(cell.counts(latest), window.counts(latest));
                prop_assert_eq!(cell.inside(), 0);
            }
        }
    }

    #[test]
    fn what_is_cleared_is_gone() {
        let cell = cell();
        for second in 0..3 {
            cell.enter(0).unwrap();
            cell.leave_well(at(second * SECOND));
        }
        cell.clear(at(3 * SECOND));
        assert_eq!(cell.counts(at(3 * SECOND)), Counts::default());
    }

    #[test]
    fn a_clock_ten_years_ahead_and_back_heals() {
        let cell = cell();
        let ten_years = 10 * 365 * 86_400;
        for second in [ten_years, ten_years + 1, 3, 4, 5] {
            cell.enter(0).unwrap();
            cell.leave_well(at(second * SECOND));
        }
        assert_eq!(cell.counts(at(5 * SECOND)).total, 3);
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    fn at(second: u64) -> Tick {
        Tick::from_nanos(second * 1_000_000_000)
    }

    /// Two successes of the next second end at once, while one of the last is not in the window yet. All
    /// three are counted once, in their own seconds.
    fn two_leave_at_rollover(leave: fn(&Cell, Tick)) {
        loom::model(move || {
            let cell = Arc::new(Cell::new(Duration::from_secs(10)));
            (0..3).for_each(|_| cell.enter(0).unwrap());
            cell.leave_well(at(1));
            let other = cell.clone();
            let thread = thread::spawn(move || leave(&other, at(2)));
            leave(&cell, at(2));
            thread.join().unwrap();
            assert_eq!(cell.counts(at(2)).total, 3, "a success was lost or doubled");
            // Nine seconds later the first is out of the window.
            let later = cell.counts(at(11)).total;
            assert_eq!(later, 2, "a success was counted in another's second");
            assert_eq!(cell.inside(), 0);
        });
    }

    #[test]
    fn rollover_counts_each_success_once() {
        two_leave_at_rollover(|cell, at| {
            cell.leave_well(at);
        });
    }

    /// Broken: whoever finds another bucket open moves what there is, without a claim.
    #[test]
    #[should_panic = "a success was counted in another's second"]
    fn broken_variant_move_without_a_claim() {
        two_leave_at_rollover(|cell, at| {
            if !cell.window.is_open_at(at) {
                cell.settle(11, at);
            }
            // ORDERING: Release. As in `leave_well`; not what is broken.
            cell.word.fetch_add(WELL - 1, Ordering::Release);
        });
    }

    /// A reader beside a move sees each success at least once.
    fn a_reader_beside_a_move(count: fn(&Cell) -> u64) {
        loom::model(move || {
            let cell = Arc::new(Cell::new(Duration::from_secs(10)));
            (0..3).for_each(|_| cell.enter(0).unwrap());
            cell.leave_well(at(1));
            cell.leave_well(at(1));
            let seen = cell.clone();
            let reader = thread::spawn(move || count(&seen));
            cell.leave_well(at(2));
            let count = reader.join().unwrap();
            assert!(count >= 2, "successes were out of sight");
        });
    }

    #[test]
    fn a_move_is_never_out_of_sight() {
        a_reader_beside_a_move(|cell| cell.counts(at(2)).total);
    }

    /// Broken: the window first.
    #[test]
    #[should_panic = "successes were out of sight"]
    fn broken_variant_window_first() {
        a_reader_beside_a_move(|cell| {
            let total = cell.window.counts(at(2)).total;
            // ORDERING: Acquire. As in `counts`; not what is broken.
            total + (cell.word.load(Ordering::Acquire) >> WELL_SHIFT)
        });
    }
}
