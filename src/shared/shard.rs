//! What a shard of threads has to itself: where its random numbers have got to, and the last reading of the
//! clock.
//!
//! A reading of the operating system's clock costs as much as ten atomic writes, more than all the rest of
//! a request. So while a shard's picks and records come thick, one in [`REUSED`] + 1 reads it and the others take
//! its reading. Each use counts, so that after a burst no more than [`REUSED`] take an old one. It is a pick that reads, as
//! its request is then measured: where a record found that all uses are gone and began anew, picks and records in turns
//! would leave every reading to a record, and measure nothing.

use super::Shared;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Tick;

/// How many uses one reading has beside its own.
const REUSED: u64 = 31;

/// Uses come thick while they are no further apart than this: more than a million a second, which is half as many requests.
/// Where they are fewer, a reading costs little, and each is measured.
const THICK_NANOS: u64 = 1_000;

/// A time, and whether the clock was read for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Tick,
    pub(crate) is_fresh: bool,
}

impl Reading {
    pub(crate) const fn fresh(at: Tick) -> Self {
        Self { at, is_fresh: true }
    }
}

/// Threads of one shard may race for its words: then a reading has a use more or less.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) entropy: AtomicU64,
    /// The last reading.
    tick: AtomicU64,
    /// One more than how many uses it still has; 0 if it has none.
    left: AtomicU64,
    /// An `f32`'s bits: the share of its last requests that failed.
    pub(super) failing: AtomicU32,
}

impl Shard {
    pub(super) fn new(entropy: u64) -> Self {
        Self {
            entropy: AtomicU64::new(entropy),
            tick: AtomicU64::new(0),
            left: AtomicU64::new(0),
            failing: AtomicU32::new(0),
        }
    }

    /// The last reading, if it may be used once more.
    #[inline]
    pub(super) fn last(&self) -> Option<Reading> {
        // ORDERING: Relaxed, here and below. A time orders nothing.
        let left = self.left.load(Ordering::Relaxed);
        if left <= 1 {
            return None;
        }
        // ORDERING: Relaxed, both. As above. A store, not a read-modify-write: see at the type.
        self.left.store(left - 1, Ordering::Relaxed);
        let at = Tick::from_nanos(self.tick.load(Ordering::Relaxed));
        let is_fresh = false;
        Some(Reading { at, is_fresh })
    }

    /// A pick has read the clock, as the last reading might not be used again.
    pub(super) fn have_read(&self, now: Tick) {
        // ORDERING: Relaxed, all. As in `last`.
        let left = self.left.load(Ordering::Relaxed);
        let before = self.tick.load(Ordering::Relaxed);
        self.tick.store(now.as_nanos(), Ordering::Relaxed);
        // 1: as many as may have used the last reading. 0: none has, and a record has read for itself.
        let uses = if left == 1 { REUSED + 1 } else { 2 };
        let thick = now.as_nanos().wrapping_sub(before) < uses * THICK_NANOS;
        let left = if thick { REUSED + 1 } else { 0 };
        // ORDERING: Relaxed. As above.
        self.left.store(left, Ordering::Relaxed);
    }
}

impl Shared {
    /// The time for a pick by this shard: while those come thick, often the last reading.
    #[inline]
    pub(crate) fn time(&self, shard: usize) -> Reading {
        let own = self.own(shard);
        own.last().unwrap_or_else(|| self.read_clock(own))
    }

    /// The time for a record. One that finds no reading to use leaves it to a pick to bring the next: only what is picked by
    /// a fresh one is measured.
    #[inline]
    pub(crate) fn time_of_end(&self, shard: usize) -> Tick {
        self.own(shard)
            .last()
            .map_or_else(|| self.end(), |last| last.at)
    }

    #[cold]
    #[inline(never)]
    fn end(&self) -> Tick {
        self.clock.now()
    }

    /// A record has read the clock for itself: it counts as a use all the same, so that reading falls to a pick again.
    pub(crate) fn count_use(&self, shard: usize) {
        let _ = self.own(shard).last();
    }

    /// The same time, read from the clock.
    pub(crate) fn refreshed(&self, reading: Reading) -> Reading {
        if reading.is_fresh {
            reading
        } else {
            Reading::fresh(self.now())
        }
    }

    /// Apart, so that the request path does not carry what it takes to call a clock.
    #[cold]
    #[inline(never)]
    fn read_clock(&self, own: &Shard) -> Reading {
        let now = self.clock.now();
        if self.reuses_time {
            own.have_read(now);
        }
        Reading::fresh(now)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    /// A pick at this time; whether it reads the clock.
    fn pick(shard: &Shard, at: u64) -> bool {
        let used = shard.last();
        if used.is_none() {
            shard.have_read(Tick::from_nanos(at));
        }
        used.is_none()
    }

    /// Picks at these times; which of them read the clock.
    fn read(times: impl IntoIterator<Item = u64>) -> Vec<bool> {
        let shard = Shard::new(0);
        times.into_iter().map(|at| pick(&shard, at)).collect()
    }

    #[test]
    fn each_is_measured_at_two_microseconds_or_more_apart() {
        let times = (1..100).map(|pick| pick * 2 * THICK_NANOS);
        assert!(read(times).into_iter().all(|fresh| fresh));
    }

    #[test]
    fn one_in_so_many_reads_when_they_come_thick() {
        let fresh = read((1..=1 + 320).map(|pick| 1_000_000 + pick * 100));
        assert_eq!(&fresh[..3], [true, true, false]);
        assert_eq!(fresh.iter().filter(|fresh| **fresh).count(), 1 + 10);
    }

    /// Picks and records in turns, from either beginning: a pick in sixteen reads. Where records took their turn at reading
    /// and began anew, as they once did, none did any more.
    #[test]
    fn one_pick_in_sixteen_reads_whatever_falls_between() {
        for odd in [0, 1, 2, 7] {
            let shard = Shard::new(0);
            let mut reads = 0;
            for at in 0..1_600 {
                reads += u32::from(pick(&shard, 1_000_000 + at * 100));
                // A record, and once some more.
                (0..if at == 50 { 1 + odd } else { 1 }).for_each(|_| {
                    let _ = shard.last();
                });
            }
            assert!((99..=102).contains(&reads), "{reads} of 1600");
        }
    }

    #[test]
    fn a_burst_that_ends_leaves_few_unmeasured() {
        let burst = (1..=5).map(|pick| pick * 100);
        let later = (1..=50).map(|pick| pick * 1_000_000_000);
        let fresh = read(burst.chain(later));
        let unmeasured = fresh.iter().filter(|fresh| !**fresh).count() as u64;
        assert!(unmeasured <= REUSED, "{unmeasured}");
        assert!(fresh[REUSED as usize + 2..].iter().all(|fresh| *fresh));
    }

    #[test]
    fn a_clock_that_goes_back_is_read_again() {
        let fresh = read([9_000_000, 1_000, 2_000_000, 3_000_000]);
        assert_eq!(fresh, [true; 4]);
    }
}
