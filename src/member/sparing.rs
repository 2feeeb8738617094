//! What follows when an endpoint says that it is overloaded: how much policies prefer others, and for how long. In this
//! file an endpoint is *spared* while its cost is multiplied for that reason.

use std::time::Duration;

use super::state::State;
use crate::health::{RECENT_BUCKETS, error_factor};
use crate::outcome::{Outcome, Sample};
use crate::sync::{AtomicU32, Ordering};
use crate::time::{Tick, nanos};

/// The factor on the cost of an endpoint that has refused once: it gets requests only where others are busier. It is no
/// higher, because what the endpoint does not get fills the others, and where all queues are short they refuse in turn.
///
/// Refusing more than others do adds to the factor. An endpoint that refuses at once has nothing in flight, so policies
/// would prefer it the more, the more it refuses.
const SPARED: f32 = 2.0;

/// Refusals count only beyond the others' share plus this: where all endpoints are busy, some are a little busier for a
/// moment, and others the next.
const TOLERATED_EXCESS: f64 = 0.1;

/// An endpoint is taken to have answered this many more requests, so that a few refusals of few requests say little.
const PRIOR_ANSWERS: u64 = 30;

/// The highest factor.
const MAX_FACTOR: f32 = 4_000.0;

/// How long an endpoint is spared if it does not say.
const A_MOMENT: Duration = Duration::from_secs(1);

/// The furthest end that the word can tell from one that has passed.
const LONGEST: Duration = Duration::from_secs(1_000);

/// Ends are kept in this many parts of a second; they wrap after two hours.
const PARTS_PER_SECOND: u64 = 8;

/// Factors are kept in this many parts of one.
const FACTOR_PARTS: f32 = 16.0;

#[derive(Debug, Default)]
pub(super) struct Sparing {
    /// `until: 16 | factor: 16`: until when the endpoint is spared, in parts of a second (wrapping), and what its cost
    /// is multiplied by. 0 if it is not spared.
    word: AtomicU32,
}

impl Sparing {
    /// How long the endpoint is still spared, and what its cost is multiplied by; `None` if that is over. An end
    /// further ahead than it can be was set by a clock that has gone back.
    fn get(&self, now: Tick, longest: Duration) -> Option<(Duration, f32)> {
        // ORDERING: Relaxed, here and below. A word complete in itself.
        let word = self.word.load(Ordering::Relaxed);
        let left =
            ((word >> 16) as u16).wrapping_sub((now.as_millis() * PARTS_PER_SECOND / 1_000) as u16);
        let left = Duration::from_millis(u64::from(left) * 1_000 / PARTS_PER_SECOND);
        let is_on = word != 0 && !left.is_zero() && left <= longest.min(LONGEST) + A_MOMENT;
        is_on.then(|| (left, (word & 0xFFFF) as f32 / FACTOR_PARTS))
    }

    fn set(&self, until: Tick, factor: f32) {
        let factor = (factor.min(MAX_FACTOR) * FACTOR_PARTS) as u32;
        // Rounded up, so that even a short time is not lost.
        let until = (until.as_millis() * PARTS_PER_SECOND).div_ceil(1_000) as u16;
        // ORDERING: Relaxed. As above.
        self.word
            .store(u32::from(until) << 16 | factor, Ordering::Relaxed);
    }

    /// Clears a word whose time is over. Otherwise it would read as valid again when its time has wrapped.
    fn forget(&self, now: Tick, longest: Duration) {
        // ORDERING: Relaxed, all. As above. What is set meanwhile stays.
        let word = self.word.load(Ordering::Relaxed);
        if word != 0 && self.get(now, longest).is_none() {
            let _ = (self.word).compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl State {
    /// Shrinks an adaptive limit if the outcome says that the endpoint is overloaded.
    pub(super) fn note_overload(&self, sample: &Sample) {
        let says_so = matches!(
            sample.outcome,
            Outcome::Timeout | Outcome::Overloaded { .. }
        );
        if says_so && self.shared.limits.adaptive.is_some() {
            self.gate.note_overloaded(sample.at);
        }
    }

    /// Takes in a refusal ([`Outcome::Overloaded`]): the endpoint is spared for as long as it asked, or a second, and
    /// at most for the longest ejection.
    pub(super) fn note_refusal(&self, retry_after: Option<Duration>, now: Tick) {
        self.tracker.refused().count(self.second(now));
        let (refused, answered) = self.refusals(now);
        let share = refused as f64 / (refused + answered + PRIOR_ANSWERS) as f64;
        let usual = f64::from(self.shared.rates.refusal_rate()) + TOLERATED_EXCESS;
        // The excess as a share of what the others do not refuse.
        let factor = SPARED * error_factor((share - usual) / (1.0 - usual).max(0.1));
        let so_far = self.sparing.get(now, self.shared.longest_ejection());
        // If the endpoint has said until when, the former factor holds until then. Otherwise each refusal sets it anew.
        let held = match (retry_after, so_far) {
            (Some(_), Some((_, held))) => held,
            _ => 0.0,
        };
        self.spare(retry_after.unwrap_or(A_MOMENT), factor.max(held), now);
    }

    /// Spares the endpoint for a moment.
    pub(super) fn spare_a_moment(&self, now: Tick) {
        self.spare(A_MOMENT, SPARED, now);
    }

    fn spare(&self, wait: Duration, factor: f32, now: Tick) {
        let wait = wait.min(self.shared.longest_ejection()).min(LONGEST);
        self.sparing.set(now.after(wait), factor);
        self.set_penalty(now, &self.shared.usual());
    }

    /// How much longer the endpoint is spared; `None` if it is not.
    pub(super) fn spared_for(&self, now: Tick) -> Option<Duration> {
        let longest = self.shared.longest_ejection();
        self.sparing.get(now, longest).map(|(left, _)| left)
    }

    /// What its cost is multiplied by while it is spared; 1 otherwise.
    pub(super) fn sparing_factor(&self, now: Tick) -> f32 {
        let longest = self.shared.longest_ejection();
        (self.sparing.get(now, longest)).map_or(1.0, |(_, factor)| factor)
    }

    /// Forgets a time to be spared, and refusals, that are over.
    pub(crate) fn forget_spared(&self, now: Tick) {
        self.sparing.forget(now, self.shared.longest_ejection());
        self.tracker.refused().forget(self.second(now));
    }

    /// How many requests it refused in this second and the one before (tenths of a window shorter than ten seconds),
    /// and, if any, how many ended there in a success or a fault meanwhile.
    pub(crate) fn refusals(&self, now: Tick) -> (u64, u64) {
        let refused = self.tracker.refused().get(self.second(now));
        if refused == 0 {
            // Most endpoints refuse nothing. Upkeep asks every endpoint, and the sum below reads every cell.
            return (0, 0);
        }
        // Answers are counted by tenths of the window, so they are scaled.
        let (tenth, second) = self.tenth_and_second();
        let answered = u128::from(self.gate.last(RECENT_BUCKETS, now).total);
        let answered = answered * u128::from(second) / u128::from(tenth);
        (refused.into(), answered as u64)
    }

    /// A tenth of the window in nanoseconds, and for how long refusals are counted: a second, or that tenth if it is
    /// shorter.
    fn tenth_and_second(&self) -> (u64, u64) {
        let tenth = (nanos(self.shared.ejection.window) / 10).max(1);
        (tenth, tenth.min(1_000_000_000))
    }

    fn second(&self, at: Tick) -> u8 {
        (at.as_nanos() / self.tenth_and_second().1) as u8
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn sparing_ends_in_time_and_after_a_clock_that_went_back() {
        let longest = Duration::from_secs(64);
        let at = |millis: u64| Tick::from_nanos(millis * 1_000_000);
        for start in [0, 1, 999, 8_191_990, 8_192_000, 1 << 40] {
            let sparing = Sparing::default();
            assert_eq!(sparing.get(at(start), longest), None);
            sparing.set(at(start + 1_000), 2.0);
            let (left, factor) = sparing.get(at(start), longest).unwrap();
            assert!((1_000..=1_250).contains(&left.as_millis()), "{left:?}");
            assert_eq!(factor, 2.0);
            assert!(sparing.get(at(start + 999), longest).is_some());
            assert_eq!(sparing.get(at(start + 1_250), longest), None);
            sparing.set(at(start + 100_000), 1e9);
            assert_eq!(sparing.get(at(start), longest), None, "too far ahead");
            let (_, most) = sparing.get(at(start + 50_000), longest).unwrap();
            assert_eq!(most, MAX_FACTOR);
            sparing.forget(at(start), longest);
            assert_eq!(sparing.get(at(start + 50_000), longest), None);
        }
    }
}
