//! What a shard of threads has to itself: where its random numbers have got to, and the last reading of the
//! clock.
//!
//! A reading of the operating system's clock costs as much as ten atomic writes, more than all the rest of
//! a request. So while a shard's picks and records come thick, one of them in [`FEW`] to [`MANY`] reads it, and the others take
//! its reading: as many as come within [`AGE_NANOS`]. Each use counts, so that after a burst no more than [`MANY`] take an old
//! one, and after a short one or a slow one no more than [`FEW`]. An old one is forgotten before that when somebody of the shard
//! reads the clock for anything else, or somebody of another for upkeep; and any is by a change of the set or a return. It is a pick that reads, as
//! its request is then measured: where a record found that all uses are gone and began anew, picks and records in turns
//! would leave every reading to a record, and measure nothing.

use super::{GOLDEN, Shared, mix};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Tick;

/// How long a reading is used while uses come thick. They do where [`FEW`] of them come within it: more than a million a
/// second, which is half as many requests. Where they are fewer, a reading costs little, and each is measured.
const AGE_NANOS: u64 = 32_000;

/// How many uses a reading has at least, its own among them, if it is used again at all.
const FEW: u64 = 32;

/// How many at most, at four million a second and more: a thread that asks so often does nothing else. Twice as
/// many as the reading before had, so that this takes a burst of some length.
const MANY: u64 = 128;

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

/// The random numbers of a pick: from one of its shard's on, counted up and mixed. The first is ready.
pub(crate) struct Randoms {
    first: Option<u64>,
    counter: u64,
}

impl Randoms {
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.first.take().unwrap_or_else(|| {
            self.counter = self.counter.wrapping_add(GOLDEN);
            mix(self.counter)
        })
    }
}

/// Threads of one shard may race for its words: then a reading may get the uses of the one before, [`MANY`] at
/// most, and two may draw the same number, once.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The counter of its random numbers.
    entropy: AtomicU64,
    /// The next of them, worked out ahead by the last to draw, so that nobody waits for it.
    ready: AtomicU64,
    /// The first number of the next pick: `ready`, mixed.
    first: AtomicU64,
    /// The last reading.
    tick: AtomicU64,
    /// How many uses it has had, or has, if all come.
    uses: AtomicU64,
    /// One more than how many of them are left; 0 if it is not to be used again.
    left: AtomicU64,
    /// An `f32`'s bits: the share of its last requests that failed,
    pub(super) failing: AtomicU32,
    /// and that failed at another endpoint than the one before that did.
    pub(super) failing_around: AtomicU32,
    /// How many requests these two are of: since the first that failed.
    pub(super) counted: AtomicU32,
    /// At which endpoint the last one failed.
    pub(super) failed_at: AtomicU64,
    /// 1 while the fault is in what all share.
    pub(super) is_common: AtomicU32,
}

impl Shard {
    pub(super) fn new(entropy: u64) -> Self {
        Self {
            entropy: AtomicU64::new(entropy),
            ready: AtomicU64::new(mix(entropy)),
            first: AtomicU64::new(mix(mix(entropy))),
            tick: AtomicU64::new(0),
            uses: AtomicU64::new(0),
            left: AtomicU64::new(0),
            failing: AtomicU32::new(0),
            failing_around: AtomicU32::new(0),
            counted: AtomicU32::new(0),
            failed_at: AtomicU64::new(0),
            is_common: AtomicU32::new(0),
        }
    }

    /// The next random number. Two threads of a shard may get the same one, now and then.
    #[inline]
    pub(super) fn random(&self) -> u64 {
        // ORDERING: Relaxed, all. Nothing is ordered by them. The counter is a read-modify-write: a thread that was held
        // up would put it back to where it was, and all that were drawn meanwhile would be drawn again.
        let random = self.ready.load(Ordering::Relaxed);
        let counter = self.entropy.fetch_add(GOLDEN, Ordering::Relaxed);
        let next = counter.wrapping_add(GOLDEN);
        let ready = mix(next);
        // ORDERING: Relaxed, both. As above.
        self.ready.store(ready, Ordering::Relaxed);
        self.first.store(mix(ready), Ordering::Relaxed);
        random
    }

    /// The random numbers of a pick.
    #[inline]
    pub(crate) fn randoms(&self) -> Randoms {
        // ORDERING: Relaxed. As in `random`.
        let first = Some(self.first.load(Ordering::Relaxed));
        let counter = self.random();
        Randoms { first, counter }
    }

    /// The last reading, if it may be used once more.
    #[inline]
    pub(crate) fn last(&self) -> Option<Reading> {
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

    /// A record has read the clock for itself: it counts as a use all the same, so that reading falls to a pick again.
    pub(crate) fn count_use(&self) {
        let _ = self.last();
    }

    /// Somebody has read the clock. If the last reading is more than 64 us old, twice as old as one that is used again gets, it
    /// was left over from a burst, and is not used again.
    pub(crate) fn forget_old(&self, now: Tick) {
        const OLD: u64 = 2 * AGE_NANOS;
        // ORDERING: Relaxed. As in `last`.
        let read = self.tick.load(Ordering::Relaxed);
        // Another thread of the shard may have read a little later.
        if now.as_nanos().wrapping_sub(read).wrapping_add(OLD) > 2 * OLD {
            self.forget();
        }
    }

    /// The last reading is not used again; a use that comes at the same time may keep it.
    fn forget(&self) {
        // ORDERING: Relaxed, both. As in `last`. The line stays shared where there is nothing to forget.
        if self.left.load(Ordering::Relaxed) != 0 {
            self.left.store(0, Ordering::Relaxed);
        }
    }

    /// A pick has read the clock, as the last reading might not be used again.
    pub(super) fn have_read(&self, now: Tick) {
        // ORDERING: Relaxed, all. As in `last`.
        let left = self.left.load(Ordering::Relaxed);
        let before = self.tick.load(Ordering::Relaxed);
        self.tick.store(now.as_nanos(), Ordering::Relaxed);
        // 1: all uses have come. 0: none was to come, and a record may have read for itself.
        let uses = if left == 1 {
            self.uses.load(Ordering::Relaxed)
        } else {
            2
        };
        let within_age = AGE_NANOS * uses / now.as_nanos().wrapping_sub(before).max(1);
        let next = within_age.min(2 * uses.max(FEW / 2)).min(MANY);
        // ORDERING: Relaxed, both. As above.
        self.uses.store(next, Ordering::Relaxed);
        self.left
            .store(if next < FEW { 0 } else { next }, Ordering::Relaxed);
    }
}

impl Shared {
    /// The time for a pick by this shard: while those come thick, often the last reading.
    #[inline]
    pub(crate) fn time(&self, own: &Shard) -> Reading {
        own.last().unwrap_or_else(|| self.read_clock(own))
    }

    /// The time for a record. One that finds no reading to use leaves it to a pick to bring the next: only what is picked by
    /// a fresh one is measured.
    #[inline]
    pub(crate) fn time_of_end(&self, own: &Shard) -> Tick {
        own.last().map_or_else(|| self.end(), |last| last.at)
    }

    #[cold]
    #[inline(never)]
    fn end(&self) -> Tick {
        self.clock.now()
    }

    /// Forgets what readings are left over from bursts.
    pub(crate) fn forget_old_readings(&self, now: Tick) {
        let all = self.shards_own.iter();
        all.for_each(|own| own.0.forget_old(now));
    }

    /// Forgets all readings: something begins that none of them may be older than.
    pub(super) fn forget_readings(&self) {
        self.shards_own.iter().for_each(|own| own.0.forget());
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
    fn each_is_measured_at_more_than_two_microseconds_apart() {
        let times = (1..100).map(|pick| pick * 2_001);
        assert!(read(times).into_iter().all(|fresh| fresh));
    }

    #[test]
    fn one_in_so_many_reads_when_they_come_thick() {
        let fresh = read((1..=1 + 10 * FEW).map(|pick| 1_000_000 + pick * 999));
        assert_eq!(&fresh[..3], [true, true, false]);
        assert_eq!(fresh.iter().filter(|fresh| **fresh).count(), 1 + 10);
    }

    #[test]
    fn the_thicker_they_come_the_fewer_read() {
        let gaps = |apart: u64| {
            let fresh = read((1..=2_000).map(|pick| 1_000_000 + pick * apart));
            let reads = fresh.iter().enumerate().filter(|(_, fresh)| **fresh);
            let at: Vec<usize> = reads.map(|(at, _)| at).collect();
            at.windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>()
        };
        assert_eq!(gaps(100)[..5], [1, 32, 64, 128, 128]);
        // As many as come in 32 us.
        assert_eq!(gaps(400)[..5], [1, 32, 64, 80, 80]);
    }

    /// Picks and records in turns, from either beginning: a pick in sixteen reads. Where records took their turn at reading
    /// and began anew, as they once did, none did any more.
    #[test]
    fn one_pick_in_sixteen_reads_whatever_falls_between() {
        for odd in [0, 1, 2, 7] {
            let shard = Shard::new(0);
            let mut reads = 0;
            for at in 0..1_600 {
                // A pick and its record in less than 2 us; half of that would be thick enough for more uses.
                reads += u32::from(pick(&shard, 1_000_000 + at * 1_900));
                // A record, and once some more.
                (0..if at == 50 { 1 + odd } else { 1 }).for_each(|_| {
                    let _ = shard.last();
                });
            }
            assert!((94..=102).contains(&reads), "{reads} of 1600");
        }
    }

    #[test]
    fn a_burst_that_ends_leaves_few_unmeasured() {
        for (length, most) in [(5, FEW), (60, 2 * FEW), (10_000, MANY)] {
            let burst = (1..=length).map(|pick| pick * 100);
            let later = (1..=200).map(|pick| pick * 1_000_000_000);
            let mut fresh = read(burst.chain(later));
            let later = fresh.split_off(length as usize);
            let unmeasured = later.iter().take_while(|fresh| !**fresh).count();
            assert!(unmeasured < most as usize, "{unmeasured} after {length}");
            assert!(later[unmeasured..].iter().all(|fresh| *fresh));
        }
    }

    #[test]
    fn what_is_left_over_is_forgotten_by_the_next_who_reads_the_clock() {
        let shard = Shard::new(0);
        let burst: Vec<u64> = (1..=1_000).map(|pick| 1_000_000 + pick * 100).collect();
        for at in &burst {
            pick(&shard, *at);
        }
        let end = burst[burst.len() - 1];
        shard.forget_old(Tick::from_nanos(end + AGE_NANOS));
        assert!(!pick(&shard, end), "as old as they come");
        shard.forget_old(Tick::from_nanos(end + 3 * AGE_NANOS));
        assert!(pick(&shard, end + 3 * AGE_NANOS));
    }

    #[test]
    fn a_clock_that_goes_back_is_read_again() {
        let fresh = read([9_000_000, 1_000, 2_000_000, 3_000_000]);
        assert_eq!(fresh, [true; 4]);
    }
}
