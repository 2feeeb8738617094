//! State of a shard of threads: its random number generator, the last clock reading, and its recent failures.
//!
//! Reading the operating system's clock costs as much as ten atomic writes, more than the rest of a request. So while a
//! shard's picks and records are frequent, only one in [`MIN_USES`] to [`MAX_USES`] of them reads the clock. The others
//! reuse that reading, as many as come within [`AGE_NANOS`].
//!
//! Each reuse is counted. After a burst at most [`MAX_USES`] picks and records use an old reading; after a short or
//! slow burst, at most [`MIN_USES`]. An old reading is discarded earlier if a thread of the shard reads the clock for
//! another purpose, or if any thread does so for upkeep. An update, a mark, `maintain` and the start of a slow start
//! discard readings of any age.
//!
//! Picks read the clock, because a pick with a fresh reading has its request measured. If a record that finds no uses
//! left took the next shared reading, then with picks and records in turn each reading would go to a record, and no
//! request would be measured.

use super::rates::COMMON_FAULT_SHARE;
use super::{GOLDEN, Shared, mix};
use crate::health::Deviations;
use crate::options::MemberId;
use crate::sync::{AtomicBool, AtomicF32, AtomicU32, AtomicU64, Ordering};
use crate::time::Tick;

/// How long a reading is reused while uses are frequent: at least [`MIN_USES`] within this time. That is more than a
/// million uses, or half a million requests, per second. Below that rate a reading costs little, and each request is
/// measured.
const AGE_NANOS: u64 = 32_000;

/// The least number of uses of a reading that is reused at all, its own included.
const MIN_USES: u64 = 32;

/// The largest number of uses, reached at four million uses per second: such a thread does nothing but pick. A reading
/// gets at most twice the uses of the one before, so reaching this takes a burst of some length.
const MAX_USES: u64 = 128;

/// The weight of one outcome in a shard's share of failures: about the last 32 outcomes count.
const WEIGHT: f32 = 1.0 / 32.0;

/// The first failure counts as one of this many requests, as if three successes preceded it.
const BEFORE: f32 = 4.0;

/// A common fault goes on while this share of requests fails, each at another endpoint than the failure before.
const HERE_AND_THERE: f32 = 0.1;

/// A share of failures below this counts as none.
const TRACE: f32 = 1e-4;

/// What failed before a pause of this length, ten minutes, belongs to another incident.
const PAUSE_MILLIS: u64 = 600_000;

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

/// The random numbers of one pick: a splitmix64 sequence that starts at one of the shard's numbers. The first is
/// computed in advance.
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

/// The state of one shard. Its threads may race for its words: a reading may then get the uses of the one before, at
/// most [`MAX_USES`], and two threads may draw the same number once.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The counter of the random number generator.
    entropy: AtomicU64,
    /// The next random number, computed in advance by the last draw so that no pick waits for it.
    ready: AtomicU64,
    /// The first random number of the next pick: `ready`, mixed.
    first: AtomicU64,
    /// The last clock reading, in nanoseconds.
    tick: AtomicU64,
    /// How many uses the last reading gets, those that are still to come included.
    uses: AtomicU64,
    /// One more than the uses that are left; 0 if the reading is not reused.
    left: AtomicU64,
    /// How far answers to its requests were from what was expected.
    pub(crate) deviations: Deviations,
    /// The share of the last requests that failed.
    pub(super) failing: AtomicF32,
    /// The share that failed at another endpoint than the failure before.
    failing_around: AtomicF32,
    /// How many requests these two shares cover, from the first failure on.
    counted: AtomicU32,
    /// The id of the endpoint where a request last failed; 0 for none.
    failed_at: AtomicU64,
    /// Whether this shard takes the fault for common (see `rates`).
    pub(super) is_common: AtomicBool,
    /// When the last request was counted, in milliseconds.
    counted_at: AtomicU64,
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
            deviations: Deviations::new(),
            failing: AtomicF32::new(0.0),
            failing_around: AtomicF32::new(0.0),
            counted: AtomicU32::new(0),
            failed_at: AtomicU64::new(0),
            is_common: AtomicBool::new(false),
            counted_at: AtomicU64::new(0),
        }
    }

    /// The next random number. Two threads of a shard may now and then get the same one.
    #[inline]
    pub(super) fn random(&self) -> u64 {
        // ORDERING: Relaxed, all. These order nothing. The counter is advanced by a read-modify-write: with a store, a
        // preempted thread could set it back, and all numbers drawn meanwhile would be drawn again.
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

    /// The last reading, if it may be reused once more. Counts the use.
    #[inline]
    pub(crate) fn last(&self) -> Option<Reading> {
        // ORDERING: Relaxed, here and below. A time orders nothing.
        let left = self.left.load(Ordering::Relaxed);
        if left <= 1 {
            return None;
        }
        // ORDERING: Relaxed, both. As above. A store, not a read-modify-write; see the type about races.
        self.left.store(left - 1, Ordering::Relaxed);
        let at = Tick::from_nanos(self.tick.load(Ordering::Relaxed));
        let is_fresh = false;
        Some(Reading { at, is_fresh })
    }

    /// Counts a use for a record that has read the clock itself, so that the next shared reading falls to a pick again.
    pub(crate) fn count_use(&self) {
        let _ = self.last();
    }

    /// Called after the clock was read. Discards a last reading that is more than 64 us old, twice the age that a
    /// reading in use reaches: it is left over from a burst.
    pub(super) fn forget_old(&self, now: Tick) {
        const OLD: u64 = 2 * AGE_NANOS;
        // ORDERING: Relaxed. As in `last`.
        let read = self.tick.load(Ordering::Relaxed);
        // Another thread of the shard may have read a slightly later time.
        if now.as_nanos().wrapping_sub(read).wrapping_add(OLD) > 2 * OLD {
            self.forget();
        }
    }

    /// Discards the last reading. A use at the same time may keep it.
    fn forget(&self) {
        // ORDERING: Relaxed, both. As in `last`. The load alone keeps the cache line shared if there is nothing to
        // discard.
        if self.left.load(Ordering::Relaxed) != 0 {
            self.left.store(0, Ordering::Relaxed);
        }
    }

    /// Called after a pick has read the clock because the last reading could not be reused. Sets how often this one may
    /// be.
    fn note_reading(&self, now: Tick) {
        // ORDERING: Relaxed, all. As in `last`.
        let left = self.left.load(Ordering::Relaxed);
        let before = self.tick.load(Ordering::Relaxed);
        self.tick.store(now.as_nanos(), Ordering::Relaxed);
        // 1: the last reading was used up. 0: it was not reused, so at most this pick and a record have come since.
        let uses = if left == 1 {
            self.uses.load(Ordering::Relaxed)
        } else {
            2
        };
        let within_age = AGE_NANOS * uses / now.as_nanos().wrapping_sub(before).max(1);
        let next = within_age.min(2 * uses.max(MIN_USES / 2)).min(MAX_USES);
        // ORDERING: Relaxed, both. As above.
        self.uses.store(next, Ordering::Relaxed);
        self.left
            .store(if next < MIN_USES { 0 } else { next }, Ordering::Relaxed);
    }
}

impl Shared {
    /// The time for a pick of this shard: often the last reading, while picks are frequent.
    #[inline]
    pub(crate) fn time(&self, shard: &Shard) -> Reading {
        shard.last().unwrap_or_else(|| self.read_clock(shard))
    }

    /// The time for a record. If no reading can be reused, it reads the clock for itself and leaves the next shared
    /// reading to a pick: only a request picked with a fresh reading is measured.
    #[inline]
    pub(crate) fn time_of_end(&self, shard: &Shard) -> Tick {
        shard.last().map_or_else(|| self.end(), |last| last.at)
    }

    #[cold]
    #[inline(never)]
    fn end(&self) -> Tick {
        self.clock.now()
    }

    /// Takes what the shards have counted of how far answers were from what was expected.
    pub(crate) fn take_deviations(&self) -> impl Iterator<Item = (f32, u32)> {
        self.shards.iter().map(|shard| shard.0.deviations.take())
    }

    /// Discards the readings of all shards that are left over from bursts.
    pub(crate) fn forget_old_readings(&self, now: Tick) {
        let all = self.shards.iter();
        all.for_each(|shard| shard.0.forget_old(now));
    }

    /// Discards all readings, because something begins for which no reading may be older.
    pub(super) fn forget_readings(&self) {
        self.shards.iter().for_each(|shard| shard.0.forget());
    }

    /// This reading if it is fresh, or else a new one.
    pub(crate) fn refreshed(&self, reading: Reading) -> Reading {
        if reading.is_fresh {
            reading
        } else {
            Reading::fresh(self.now())
        }
    }

    /// Kept out of line so the request path does not contain the call to a clock.
    #[cold]
    #[inline(never)]
    fn read_clock(&self, shard: &Shard) -> Reading {
        let now = self.clock.now();
        if self.reuses_time {
            shard.note_reading(now);
        }
        Reading::fresh(now)
    }
}

impl Shard {
    /// Whether the fault is common, given whether many endpoints are under suspicion now. Once it is, it stays so while
    /// this shard's requests fail at different endpoints, or mostly. Otherwise a few successes would clear the
    /// suspects, and the next two failures of an endpoint would count as its own.
    pub(super) fn update_is_common(&self, are_many: bool) -> bool {
        // ORDERING: Relaxed, both. A statistic.
        let was = self.is_common.load(Ordering::Relaxed);
        let goes_on = self.failing_around.get() >= HERE_AND_THERE
            || f64::from(self.failing.get()) >= COMMON_FAULT_SHARE;
        let is = are_many || (was && goes_on);
        if is != was {
            self.is_common.store(is, Ordering::Relaxed);
        }
        is
    }

    /// Whether none of the last requests failed.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.failing.is_zero()
    }

    /// Counts a request that succeeded.
    #[inline]
    pub(crate) fn count_success(&self, now: Tick) {
        if !self.is_quiet() {
            self.count(0.0, 0.0, now);
        }
    }

    /// Counts a request that ended in a fault at this endpoint.
    pub(crate) fn count_fault(&self, at: MemberId, now: Tick) {
        // ORDERING: Relaxed. A statistic.
        let before = self.failed_at.swap(at.get(), Ordering::Relaxed);
        let is_another = before != 0 && before != at.get();
        self.count(1.0, if is_another { 1.0 } else { 0.0 }, now);
    }

    /// Forgets what failed before a pause. A time that is as far ahead was set by a clock that has gone back since.
    pub(super) fn forget_past(&self, now: Tick) {
        // ORDERING: Relaxed, both. A statistic.
        let counted_at = self.counted_at.load(Ordering::Relaxed);
        if !self.is_quiet() && now.as_millis().abs_diff(counted_at) > PAUSE_MILLIS {
            self.counted.store(0, Ordering::Relaxed);
            self.failing.set(0.0);
            self.failing_around.set(0.0);
        }
    }

    /// Uses stores, not exchanges: threads of one shard may lose each other's counts, which matters little.
    #[cold]
    fn count(&self, failed: f32, around: f32, now: Tick) {
        self.forget_past(now);
        // ORDERING: Relaxed, both. A statistic.
        self.counted_at.store(now.as_millis(), Ordering::Relaxed);
        let counted = self.counted.load(Ordering::Relaxed);
        // A plain mean over the first requests, before there are more than the weight covers.
        let weight = WEIGHT.max(1.0 / (counted as f32 + BEFORE));
        let next = |share: f32, one: f32| share + (one - share) * weight;
        let failing = next(self.failing.get(), failed);
        let around = next(self.failing_around.get(), around);
        let ([failing, around], counted) = match failing < TRACE {
            true => ([0.0; 2], 0),
            false => ([failing, around], counted.saturating_add(1)),
        };
        // ORDERING: Relaxed. A statistic.
        self.counted.store(counted, Ordering::Relaxed);
        self.failing.set(failing);
        self.failing_around.set(around);
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    /// A pick at this time. Returns whether it reads the clock.
    fn pick(shard: &Shard, at: u64) -> bool {
        let used = shard.last();
        if used.is_none() {
            shard.note_reading(Tick::from_nanos(at));
        }
        used.is_none()
    }

    /// Picks at these times. Returns which of them read the clock.
    fn read(times: impl IntoIterator<Item = u64>) -> Vec<bool> {
        let shard = Shard::new(0);
        times.into_iter().map(|at| pick(&shard, at)).collect()
    }

    #[test]
    fn picks_two_microseconds_apart_are_all_measured() {
        let times = (1..100).map(|pick| pick * 2_001);
        assert!(read(times).into_iter().all(|fresh| fresh));
    }

    #[test]
    fn frequent_picks_reuse_a_reading_as_often_as_allowed() {
        let fresh = read((1..=1 + 10 * MIN_USES).map(|pick| 1_000_000 + pick * 999));
        assert_eq!(&fresh[..3], [true, true, false]);
        assert_eq!(fresh.iter().filter(|fresh| **fresh).count(), 1 + 10);
    }

    #[test]
    fn the_more_frequent_the_picks_the_fewer_read_the_clock() {
        let gaps = |apart: u64| {
            let fresh = read((1..=2_000).map(|pick| 1_000_000 + pick * apart));
            let reads = fresh.iter().enumerate().filter(|(_, fresh)| **fresh);
            let at: Vec<usize> = reads.map(|(at, _)| at).collect();
            at.windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>()
        };
        assert_eq!(gaps(100)[..5], [1, 32, 64, 128, 128]);
        // As many as come within 32 us.
        assert_eq!(gaps(400)[..5], [1, 32, 64, 80, 80]);
    }

    /// Picks and records alternate, from either start: one pick in sixteen reads the clock. In an earlier version
    /// records took turns at the shared reading, and then no pick read the clock any more.
    #[test]
    fn one_pick_in_sixteen_reads_the_clock_whatever_falls_between() {
        for odd in [0, 1, 2, 7] {
            let shard = Shard::new(0);
            let mut reads = 0;
            for at in 0..1_600 {
                // A pick and its record take less than 2 us; half of that would be frequent enough for more uses.
                reads += u32::from(pick(&shard, 1_000_000 + at * 1_900));
                // One record, and once some more.
                (0..if at == 50 { 1 + odd } else { 1 }).for_each(|_| {
                    let _ = shard.last();
                });
            }
            assert!((94..=102).contains(&reads), "{reads} of 1600");
        }
    }

    #[test]
    fn a_burst_that_ends_leaves_few_unmeasured() {
        for (length, most) in [(5, MIN_USES), (60, 2 * MIN_USES), (10_000, MAX_USES)] {
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
    fn a_leftover_reading_is_discarded_by_the_next_thread_that_reads_the_clock() {
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
