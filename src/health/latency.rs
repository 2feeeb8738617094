//! A moving average of latency in one word: `samples: 2 (up to 3) | milliseconds: 30 (wrapping) | f32`, the square root of
//! nanoseconds.
//!
//! The average is taken of square roots: of plain latencies one slow answer would own it, of logarithms it
//! would not see that one answer in twenty is slow. A failure never lowers it, and an idle endpoint's
//! estimate returns to what is usual in the fleet, not to 0, which would make it look ideal.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// Time constant of samples: of those before so long ago 37 % is left. Shorter ones follow a neighbour's noise
/// sooner, longer ones know more where each caller sees little; over all scenarios of the simulation 2 s are best.
const TAU_MILLIS: u32 = 2_000;

/// Time constant of an idle endpoint's way to what is usual.
const IDLE_TAU_MILLIS: u32 = 5 * TAU_MILLIS;

/// What a sample counts at least: 100 of them make an average, however fast they come.
const LEAST: f32 = 0.01;

/// And at most, however long the last one is ago.
const MOST: f32 = 0.3;

/// A sample counts for no more than 100 times the average; of square roots. Of a stream that was open for half a minute beside answers
/// of milliseconds more would be left than of all others, and who is so slow shows it again.
const SPIKE: f32 = 10.0;

/// The longest latency believed. A clock that jumped must not poison an average for days.
const LONGEST: Duration = Duration::from_secs(300);

/// An endpoint is new until it has answered so often: its first answer has a connection to set up, and one answer is
/// chance. The counter's end.
const NEW: u32 = 3;

/// Bits of the stamp. It wraps after 12 days.
const STAMP_BITS: u32 = 30;
const STAMP_MASK: u32 = (1 << STAMP_BITS) - 1;

/// A stamp that is ahead of the present by more than this was left by a clock that has gone back.
const AHEAD_MILLIS: u32 = 60_000;

/// An endpoint idle for this long drifts toward what is usual, and if it then answers like the others, it is taken
/// half-way there: that it has changed is likelier than that it has not. Or all the way, if it was far from there.
const IDLE_MILLIS: u32 = 1_000;

/// Above 1.7 times what is usual is far; of square roots. Nearer, what differs may be the noise of few answers.
const FAR: f32 = 1.3;

/// Up to 1.5 times what is usual is like the others; of square roots.
const LIKE_OTHERS: f32 = 1.225;

/// A latency estimate that any number of threads may feed.
#[derive(Debug)]
pub(crate) struct LatencyCell(AtomicU64);

/// What a sample made of an estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    /// In nanoseconds.
    pub(crate) estimate: f32,
    /// Whether it came after a long time and was like the others.
    pub(crate) is_back: bool,
}

/// No sample yet. An estimate is at least 1 ns, so no other word is 0.
const UNKNOWN: u64 = 0;

impl LatencyCell {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Duration> {
        self.nanos().map(|nanos| Duration::from_nanos(nanos as u64))
    }

    /// The same in nanoseconds.
    #[inline]
    pub(crate) fn nanos(&self) -> Option<f32> {
        // ORDERING: Relaxed. One word, complete in itself.
        let word = self.0.load(Ordering::Relaxed);
        (word != UNKNOWN).then(|| squared(root(word)))
    }

    /// Whether it rests on fewer answers than tell something.
    pub(crate) fn is_new(&self) -> bool {
        // ORDERING: Relaxed. As above.
        samples(self.0.load(Ordering::Relaxed)) < NEW
    }

    /// Takes it for new again, and no slower than what is usual: what it was says little of what it is. The next
    /// answer counts for all.
    pub(crate) fn begin_anew(&self, usual: Option<Duration>) {
        let most = usual.map_or(f32::INFINITY, believable);
        self.change(|word| (word != UNKNOWN).then(|| pack(0, when(word), root(word).min(most))));
    }

    /// Whether it was known, and is new again.
    pub(crate) fn is_anew(&self) -> bool {
        // ORDERING: Relaxed. As above.
        let word = self.0.load(Ordering::Relaxed);
        word != UNKNOWN && samples(word) < NEW
    }

    /// How long ago it was last fed, in milliseconds.
    pub(crate) fn idle_millis(&self, now: Tick) -> u32 {
        // ORDERING: Relaxed. As above.
        elapsed(self.0.load(Ordering::Relaxed), stamp(now))
    }

    /// An answer took `latency`. The first of all is half of what the estimate begins with, if it is known what
    /// is usual.
    #[inline]
    pub(crate) fn observe(
        &self,
        now: Tick,
        latency: Duration,
        usual: impl Fn() -> Option<Duration>,
    ) -> Seen {
        let (stamp, sample) = (stamp(now), believable(latency));
        let mut is_back = false;
        let first = || usual().map_or(sample, |usual| (believable(usual) + sample) / 2.0);
        let estimate = self.change(|word| {
            is_back = false;
            Some(match word {
                UNKNOWN => pack(1, stamp, first()),
                word if elapsed(word, stamp) >= IDLE_MILLIS => {
                    let usual = usual().map_or(f32::INFINITY, believable);
                    let next = observed(word, stamp, sample);
                    is_back = sample < LIKE_OTHERS * usual;
                    match root(next) / usual {
                        far if is_back && far > FAR => pack(samples(next), stamp, usual),
                        above if is_back && above > 1.0 => {
                            pack(samples(next), stamp, (root(next) + usual) / 2.0)
                        }
                        _ => next,
                    }
                }
                word => observed(word, stamp, sample),
            })
        });
        Seen { estimate, is_back }
    }

    /// A request that brought no answer took `latency`: a lower bound, so the estimate may only rise.
    /// An endpoint that fails fast before its first answer stays unknown, and one that is new again as it is.
    pub(crate) fn raise(&self, now: Tick, latency: Duration) {
        let sample = believable(latency);
        self.change(|word| {
            (samples(word) > 0 && sample > root(word)).then(|| observed(word, stamp(now), sample))
        });
    }

    /// An idle endpoint's estimate drifts toward the fleet's usual one, for the time that has `passed` since this
    /// was done last.
    pub(crate) fn settle(&self, now: Tick, usual: Duration, passed: Duration) {
        let usual = believable(usual);
        let passed = passed.as_millis() as u32;
        self.change(|word| {
            let idle = elapsed(word, stamp(now));
            let (tau, from) = (IDLE_TAU_MILLIS, IDLE_MILLIS);
            (word != UNKNOWN && idle >= from).then(|| {
                // The stamp stays: it is when the endpoint answered.
                u64::from(
                    (usual + (root(word) - usual) * remaining(passed, tau))
                        .max(1.0)
                        .to_bits(),
                ) | word & (u64::from(u32::MAX) << 32)
            })
        });
    }

    /// Tries a few times and then lets it be: under such contention other samples get in. Returns the
    /// estimate.
    #[inline]
    fn change(&self, mut next: impl FnMut(u64) -> Option<u64>) -> f32 {
        // ORDERING: Relaxed, here and below. One word, complete in itself.
        let mut word = self.0.load(Ordering::Relaxed);
        for _ in 0..4 {
            let Some(next) = next(word).filter(|next| *next != word) else {
                break;
            };
            // ORDERING: Relaxed, both. As above.
            match self
                .0
                .compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return squared(root(next)),
                Err(now) => word = now,
            }
        }
        squared(root(word))
    }
}

/// The estimate after a sample.
#[inline]
fn observed(word: u64, stamp: u32, sample: f32) -> u64 {
    let left = remaining(elapsed(word, stamp), TAU_MILLIS);
    let (root, samples) = (root(word), samples(word));
    // The first few are a plain mean, nearly.
    let share = if samples < NEW {
        1.0 / (samples + 1) as f32
    } else {
        (1.0 - left).clamp(LEAST, MOST)
    };
    let sample = if samples < NEW {
        sample
    } else {
        sample.min(SPIKE * root)
    };
    let next = root + (sample - root) * share;
    pack((samples + 1).min(NEW), stamp, next)
}

/// exp(-elapsed/τ), by its series in place of a call.
#[inline]
fn remaining(elapsed: u32, tau: u32) -> f32 {
    let z = elapsed as f32 / tau as f32;
    1.0 / (1.0 + z * (1.0 + z / 2.0 * (1.0 + z / 3.0)))
}

/// The square root of a latency that can be believed.
#[inline]
fn believable(latency: Duration) -> f32 {
    (nanos(latency.min(LONGEST)).max(1) as f32).sqrt()
}

#[inline]
fn squared(root: f32) -> f32 {
    root * root
}

/// Wraps after 12 days; a stamp older than half of that reads as one from the future, hence as stale.
#[inline]
fn stamp(now: Tick) -> u32 {
    now.as_millis() as u32 & STAMP_MASK
}

#[inline]
fn samples(word: u64) -> u32 {
    (word >> (32 + STAMP_BITS)) as u32
}

#[inline]
fn elapsed(word: u64, now: u32) -> u32 {
    let elapsed = now.wrapping_sub((word >> 32) as u32) & STAMP_MASK;
    let ahead = elapsed.wrapping_neg() & STAMP_MASK;
    if elapsed != 0 && ahead <= AHEAD_MILLIS {
        0
    } else {
        elapsed
    }
}

#[inline]
fn pack(samples: u32, stamp: u32, root: f32) -> u64 {
    u64::from(samples << STAMP_BITS | stamp) << 32 | u64::from(root.max(1.0).to_bits())
}

#[inline]
fn when(word: u64) -> u32 {
    (word >> 32) as u32 & STAMP_MASK
}

#[inline]
fn root(word: u64) -> f32 {
    f32::from_bits(word as u32)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    fn known(latency: Duration) -> LatencyCell {
        let cell = LatencyCell::new();
        (0..NEW).for_each(|_| {
            cell.observe(at(0), latency, || None);
        });
        assert!(!cell.is_new() && !cell.is_anew());
        cell
    }

    #[test]
    fn a_first_answer_that_took_long_is_soon_forgotten() {
        let cell = LatencyCell::new();
        for (request, millis) in [160, 10, 10].into_iter().enumerate() {
            assert!(cell.is_new());
            cell.observe(at(request as u64), millis * MILLI, || None);
        }
        // A third of 4 and two thirds of 1, squared.
        let after = cell.get().unwrap().as_secs_f64() / 0.010;
        assert!(!cell.is_new() && (3.9..4.1).contains(&after), "{after}");
    }

    #[test]
    fn the_first_answer_after_a_new_beginning_counts_for_all() {
        let cell = known(1_000 * MILLI);
        let shown = || cell.get().unwrap().as_secs_f64().mul_add(1_000.0, 0.5) as u32;
        cell.begin_anew(None);
        assert_eq!((cell.is_new(), shown()), (true, 1_000));
        cell.begin_anew(Some(20 * MILLI));
        assert_eq!((cell.is_new(), shown()), (true, 20));
        cell.observe(at(10), 10 * MILLI, || None);
        assert_eq!(shown(), 10);
        cell.begin_anew(Some(20 * MILLI));
        assert_eq!(shown(), 10, "only down");
        let unknown = LatencyCell::new();
        unknown.begin_anew(Some(MILLI));
        assert_eq!(unknown.get(), None);
    }

    #[test]
    fn a_spike_does_not_own_it() {
        let cell = known(10 * MILLI);
        // A hundred requests a second, and one of them takes a second: the root of 100 times is 10 times, of which a
        // hundredth is taken: (1 + 0.09) squared.
        for request in 1..200 {
            cell.observe(at(request * 10), 10 * MILLI, || None);
        }
        cell.observe(at(2_000), 1_000 * MILLI, || None);
        let after = cell.get().unwrap();
        assert!(after > 11 * MILLI && after < 13 * MILLI, "{after:?}");
    }

    #[test]
    fn it_follows_a_change_within_its_time_constant() {
        let cell = known(10 * MILLI);
        for request in 1..=40 {
            cell.observe(at(request * 100), 160 * MILLI, || None);
        }
        // After 4 s, two time constants, no more than 0.2 of what was is left: 4 - 3 * 0.15, squared, and
        // steps of 100 ms are a little less than e^(-t).
        let after = cell.get().unwrap().as_secs_f64() / 0.010;
        assert!((12.0..14.0).contains(&after), "{after}");
    }

    #[test]
    fn a_failure_never_lowers_it() {
        let cell = known(10 * MILLI);
        cell.raise(at(60_000), MILLI);
        assert!(cell.get().unwrap().abs_diff(10 * MILLI) < MILLI / 1000);
        cell.raise(at(60_000), 1_000 * MILLI);
        assert!(cell.get().unwrap() > 100 * MILLI);
        let unknown = LatencyCell::new();
        unknown.raise(at(0), MILLI);
        assert_eq!(unknown.get(), None);
    }

    #[test]
    fn the_first_sample_is_half_of_it_where_the_usual_is_known() {
        let cell = LatencyCell::new();
        cell.observe(at(0), Duration::ZERO, || Some(4 * MILLI));
        assert!(cell.get().unwrap().abs_diff(MILLI) < MILLI / 100);
    }

    #[test]
    fn an_idle_endpoint_returns_to_the_usual_not_to_zero() {
        let cell = known(100 * MILLI);
        for second in 1..200 {
            cell.settle(at(second * 1000), 5 * MILLI, Duration::from_secs(1));
        }
        let after = cell.get().unwrap();
        assert!(
            after >= 5 * MILLI - MILLI / 1000 && after < 6 * MILLI,
            "{after:?}"
        );
        let busy = known(100 * MILLI);
        busy.settle(at(999), 5 * MILLI, Duration::from_secs(1));
        assert_eq!(busy.get(), known(100 * MILLI).get());
    }

    #[test]
    fn an_answer_like_the_others_after_a_long_time_counts_for_more() {
        let after = |was: u32, answer: u32| {
            let cell = known(was * MILLI);
            cell.observe(at(5_000), answer * MILLI, || Some(10 * MILLI));
            cell.get().unwrap().as_secs_f64() * 1e3
        };
        // It is taken for well at once, however slow it was.
        for was in [40, 1_000] {
            assert!((after(was, 10) - 10.0).abs() < 0.01, "{}", after(was, 10));
        }
        // Of roots, 3.87 and 3.16, three tenths of the way are 3.66, and half of what is left 3.41.
        assert!((after(15, 10) - 11.6).abs() < 0.1, "{}", after(15, 10));
        // One that is slow still: three tenths of the way, from 31.6 to 6.3.
        assert!(after(1_000, 40) > 500.0);
    }

    #[test]
    fn the_longest_duration_is_a_long_one_and_no_more() {
        let cell = known(Duration::MAX);
        let off = cell.get().unwrap().abs_diff(LONGEST);
        // f32 keeps 24 bits of the root, so 23 of its square, and no more of a root of one.
        assert!(off < 100 * MILLI, "{off:?} off");
        assert!(known(Duration::ZERO).get().unwrap() <= Duration::from_nanos(1));
    }

    #[test]
    fn a_clock_ten_years_ahead_and_back_heals() {
        let cell = known(MILLI);
        cell.observe(at(10 * 365 * 86_400_000), 100 * MILLI, || None);
        (0..100).for_each(|second| {
            cell.observe(at(second * 1000), MILLI, || None);
        });
        assert!(cell.get().unwrap() < 2 * MILLI);
    }

    proptest! {
        /// Whatever is fed, the estimate stays between the least and the greatest sample.
        #[test]
        fn stays_within_what_it_saw(samples in prop::collection::vec((0u64..100_000, 1u64..10_000_000), 1..50)) {
            let cell = LatencyCell::new();
            for &(millis, latency) in &samples {
                cell.observe(at(millis), Duration::from_nanos(latency), || None);
                let seen = nanos(cell.get().unwrap()) as f64;
                let least = samples.iter().map(|s| s.1).min().unwrap() as f64;
                let most = samples.iter().map(|s| s.1).max().unwrap() as f64;
                // f32 keeps 24 bits: a relative error of 2^-23 a step, far below 1e-4 in 50.
                prop_assert!(seen >= least * 0.9999 - 1.0 && seen <= most * 1.0001 + 1.0);
            }
        }
    }
}
