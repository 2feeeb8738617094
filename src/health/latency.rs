//! A moving average of latency in one word: `samples: 2 (up to 3) | milliseconds: 30 (wrapping) | f32`. The `f32` is
//! the square root of nanoseconds.
//!
//! The average is of square roots. One slow answer would dominate an average of plain latencies, and an average of
//! logarithms would hardly show that one answer in twenty is slow. A failure never lowers the estimate. The estimate of
//! an idle endpoint returns to what is usual in the fleet, not to 0, which would make the endpoint look ideal.

use std::time::Duration;

use super::suspicion::exp;
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// Time constant of samples: after this time 37 % of their weight is left. A shorter one reacts sooner to a noisy
/// neighbour; a longer one knows more where each caller sees few requests. Over all simulated scenarios 2 s are best.
const TAU_MILLIS: u32 = 2_000;

/// Time constant with which an idle endpoint's estimate returns to what is usual.
const IDLE_TAU_MILLIS: u32 = 5 * TAU_MILLIS;

/// The least weight of a sample: however fast samples come, the average is of about 100 of them.
const LEAST: f32 = 0.01;

/// The greatest weight of a sample, however long ago the last one was.
const MOST: f32 = 0.3;

/// A sample counts for no more than 100 times the average; in square roots, 10 times. Otherwise a stream that was open
/// for half a minute would outweigh all other answers, of milliseconds. An endpoint that really is so slow shows it
/// again.
const SPIKE: f32 = 10.0;

/// The longest latency that is believed, so that a clock that jumped does not distort an average for days.
const LONGEST: Duration = Duration::from_secs(300);

/// An endpoint is new until it has answered this often: the first answer includes a connection set-up, and a single
/// answer may be chance. The sample counter stops here.
const NEW: u32 = 3;

/// Bits of the stamp. It wraps after 12 days.
const STAMP_BITS: u32 = 30;
const STAMP_MASK: u32 = (1 << STAMP_BITS) - 1;

/// A stamp further ahead of the present than this was left by a clock that has gone back since.
pub(super) const AHEAD_MILLIS: u32 = 60_000;

/// An endpoint idle for this long drifts toward what is usual. If it then answers like the others, the estimate moves
/// half-way to the usual one, since the endpoint has more likely changed than not. If it is still `FAR` above, it moves
/// all the way.
const IDLE_MILLIS: u32 = 1_000;

/// More than 1.7 times the usual latency is far off; in square roots. Below, the difference may be noise of few
/// answers.
const FAR: f32 = 1.3;

/// Up to 1.5 times the usual latency is like the others; in square roots.
const LIKE_OTHERS: f32 = 1.225;

/// A latency estimate that any number of threads may update.
#[derive(Debug)]
pub(crate) struct LatencyCell(AtomicU64);

/// The result of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Observation {
    /// The new estimate, in nanoseconds.
    pub(crate) estimate: f32,
    /// Whether the endpoint was idle for a while and then answered like the others, or no usual latency is known.
    pub(crate) is_back: bool,
    /// How far the answer was from the estimate before it, as a part of that, both in square roots. `None` while that
    /// was new.
    pub(crate) deviation: Option<f32>,
}

/// The word before the first sample. An estimate is at least 1 ns, so no other word is 0.
const UNKNOWN: u64 = 0;

impl LatencyCell {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Duration> {
        self.nanos().map(|nanos| Duration::from_nanos(nanos as u64))
    }

    /// The estimate in nanoseconds.
    #[inline]
    pub(crate) fn nanos(&self) -> Option<f32> {
        // ORDERING: Relaxed. One word, complete in itself.
        let word = self.0.load(Ordering::Relaxed);
        (word != UNKNOWN).then(|| squared(root(word)))
    }

    /// Whether the estimate rests on too few answers.
    pub(crate) fn is_new(&self) -> bool {
        // ORDERING: Relaxed. As above.
        samples(self.0.load(Ordering::Relaxed)) < NEW
    }

    /// Whether it has answered since it was new, or marked as new again.
    pub(crate) fn has_answers(&self) -> bool {
        samples(self.0.load(Ordering::Relaxed)) > 0
    }

    /// Marks the estimate as new and lowers it to what is usual, if it is above: the past says little about the
    /// present. The next answer replaces it.
    pub(crate) fn reset(&self, usual: Option<Duration>) {
        let most = usual.map_or(f32::INFINITY, believable);
        self.change(|word| (word != UNKNOWN).then(|| pack(0, when(word), root(word).min(most))));
    }

    /// Whether an estimate is known but marked as new again.
    pub(crate) fn is_reset(&self) -> bool {
        self.nanos().is_some() && self.is_new()
    }

    /// The time since the last sample, in milliseconds.
    pub(crate) fn idle_millis(&self, now: Tick) -> u32 {
        // ORDERING: Relaxed. As above.
        elapsed(self.0.load(Ordering::Relaxed), stamp(now))
    }

    /// Takes in an answer that took `latency`. The first estimate is the mean of the first answer and what is usual, in
    /// square roots, if that is known.
    #[inline]
    pub(crate) fn observe(
        &self,
        now: Tick,
        latency: Duration,
        usual: impl Fn() -> Option<Duration>,
    ) -> Observation {
        let (stamp, sample) = (stamp(now), believable(latency));
        let (mut is_back, mut deviation) = (false, None);
        let first = || usual().map_or(sample, |usual| (believable(usual) + sample) / 2.0);
        let estimate = self.change(|word| {
            is_back = false;
            deviation = (samples(word) >= NEW).then(|| (sample / root(word) - 1.0).abs());
            Some(match word {
                UNKNOWN => pack(1, stamp, first()),
                word if elapsed(word, stamp) >= IDLE_MILLIS => {
                    let usual = usual().map_or(f32::INFINITY, believable);
                    let next = observed(word, stamp, sample);
                    is_back = usual < f32::INFINITY && sample < LIKE_OTHERS * usual;
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
        Observation {
            estimate,
            is_back,
            deviation,
        }
    }

    /// Takes in a request that ended without an answer after `latency`. That is a lower bound, so the estimate can only
    /// rise. An endpoint without an estimate keeps none, and an estimate marked as new stays as it is.
    pub(crate) fn raise(&self, now: Tick, latency: Duration) {
        let sample = believable(latency);
        self.change(|word| {
            (samples(word) > 0 && sample > root(word)).then(|| observed(word, stamp(now), sample))
        });
    }

    /// Moves an idle endpoint's estimate toward this latency. `passed` is the time since this was last done.
    pub(crate) fn settle(&self, now: Tick, latency: Duration, passed: Duration) {
        let latency = believable(latency);
        let passed = passed.as_millis() as u32;
        self.change(|word| {
            let idle = elapsed(word, stamp(now));
            let (tau, from) = (IDLE_TAU_MILLIS, IDLE_MILLIS);
            (word != UNKNOWN && idle >= from).then(|| {
                // The stamp stays as it is: it tells when the endpoint last answered.
                u64::from(
                    (latency + (root(word) - latency) * remaining(passed, tau))
                        .max(1.0)
                        .to_bits(),
                ) | word & (u64::from(u32::MAX) << 32)
            })
        });
    }

    /// Changes the word and returns the estimate. After four failed tries it gives up: under such contention other
    /// samples get in.
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

/// The word after a sample.
#[inline]
fn observed(word: u64, stamp: u32, sample: f32) -> u64 {
    let left = remaining(elapsed(word, stamp), TAU_MILLIS);
    let (root, samples) = (root(word), samples(word));
    // The first few samples form approximately a plain mean.
    let share = if samples < NEW {
        1.0 / (samples + 1) as f32
    } else {
        weight(left)
    };
    let sample = if samples < NEW {
        sample
    } else {
        sample.min(SPIKE * root)
    };
    let next = root + (sample - root) * share;
    pack((samples + 1).min(NEW), stamp, next)
}

/// The weight of a sample, of which the ones before have `left` this much.
#[inline]
fn weight(left: f32) -> f32 {
    (1.0 - left).clamp(LEAST, MOST)
}

/// The weight of each sample where `pace` come in a second.
pub(super) fn weight_at_pace(pace: f32) -> f32 {
    const LONGEST_MILLIS: f32 = 1e6;
    let apart = (1e3 / pace).min(LONGEST_MILLIS);
    weight(1.0 / exp(apart / TAU_MILLIS as f32))
}

/// The share of its weight that a sample has left after this time.
#[inline]
fn remaining(elapsed: u32, tau: u32) -> f32 {
    1.0 / exp(elapsed as f32 / tau as f32)
}

/// The square root of a latency, limited to what is believed.
#[inline]
fn believable(latency: Duration) -> f32 {
    (nanos(latency.min(LONGEST)).max(1) as f32).sqrt()
}

#[inline]
fn squared(root: f32) -> f32 {
    root * root
}

/// The stamp of a time. It wraps after 12 days. A stamp that is up to a minute ahead of the present reads as current;
/// one that is further ahead reads as days old.
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
mod tests;
