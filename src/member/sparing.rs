//! An endpoint that says that it has too much to do: how much others are preferred to it, and for how long.

use std::time::Duration;

use super::state::State;
use crate::health::{LATEST, cost_of};
use crate::outcome::{Outcome, Sample};
use crate::sync::{AtomicU32, Ordering};
use crate::time::{Tick, nanos};

/// How many times its cost an endpoint counts for that has said so once: so that it gets requests only where others have more to do. No
/// more than that: what it does not get fills the others, and where all queues are short, they say the same in turn. What it refuses beyond
/// what others do adds to it: who answers at once has none in flight, and would be preferred the more it refuses.
const SPARED: f32 = 2.0;

/// What it refuses beyond others counts from here on: where all are busy some are a little busier, and the next moment others.
const SOME_MORE: f64 = 0.1;

/// So many requests that it did not refuse are taken to have been, so that a few refusals of few say little.
const FEW: u64 = 30;

/// The most it may come to.
const MOST: f32 = 4_000.0;

/// For how long, where it does not say.
const A_MOMENT: Duration = Duration::from_secs(1);

/// The furthest ahead that a word can tell from what is over.
const LONGEST: Duration = Duration::from_secs(1_000);

/// Parts of a second that times are kept in: they wrap after two hours,
const PARTS: u64 = 8;

/// and parts of one that factors are.
const FINE: f32 = 16.0;

#[derive(Debug, Default)]
pub(super) struct Sparing {
    /// Until when others are preferred, in parts of a second (wrapping), and what its cost is multiplied by: `until: 16 | factor: 16`; 0
    /// for not at all.
    word: AtomicU32,
}

impl Sparing {
    /// Until when, and what its cost is multiplied by; `None` where that is over. An end further ahead than can be was set by a clock that
    /// has gone back.
    fn get(&self, now: Tick, longest: Duration) -> Option<(Duration, f32)> {
        // ORDERING: Relaxed, here and below. A word complete in itself.
        let word = self.word.load(Ordering::Relaxed);
        let left = ((word >> 16) as u16).wrapping_sub((now.as_millis() * PARTS / 1_000) as u16);
        let left = Duration::from_millis(u64::from(left) * 1_000 / PARTS);
        let is_on = word != 0 && !left.is_zero() && left <= longest.min(LONGEST) + A_MOMENT;
        is_on.then(|| (left, (word & 0xFFFF) as f32 / FINE))
    }

    fn set(&self, until: Tick, factor: f32) {
        let factor = (factor.min(MOST) * FINE) as u32;
        // Rounded up, so that what is to be spared for a moment is.
        let until = (until.as_millis() * PARTS).div_ceil(1_000) as u16;
        // ORDERING: Relaxed. As above.
        self.word
            .store(u32::from(until) << 16 | factor, Ordering::Relaxed);
    }

    /// Otherwise it would be of now once more when parts of a second have wrapped.
    fn forget(&self, now: Tick, longest: Duration) {
        // ORDERING: Relaxed, all. As above. What is said meanwhile stands.
        let word = self.word.load(Ordering::Relaxed);
        if word != 0 && self.get(now, longest).is_none() {
            let _ = (self.word).compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl State {
    /// An adaptive limit shrinks by what says that the endpoint has too much to do.
    pub(super) fn note_overload(&self, sample: &Sample) {
        let says_so = matches!(
            sample.outcome,
            Outcome::Timeout | Outcome::Overloaded { .. }
        );
        if says_so && self.shared.limits.adaptive.is_some() {
            self.gate.was_overloaded(sample.at);
        }
    }

    /// It has refused a request, as it has too much to do: others are preferred for as long as it asked, or a second, and at most
    /// for the longest ejection.
    pub(super) fn refuses(&self, retry_after: Option<Duration>, now: Tick) {
        if let Some(refused) = self.refused() {
            refused.count(self.second(now));
        }
        let (refused, answered) = self.refusals(now);
        let share = refused as f64 / (refused + answered + FEW) as f64;
        let usual = f64::from(self.shared.trend.refusal_rate()) + SOME_MORE;
        // Of what others do not refuse.
        let factor = SPARED * cost_of((share - usual) / (1.0 - usual).max(0.1));
        let so_far = self.sparing.get(now, self.shared.longest_ejection());
        // It said until when: what it is like is known until then. Else each refusal tells anew.
        let held = match (retry_after, so_far) {
            (Some(_), Some((_, held))) => held,
            _ => 0.0,
        };
        self.spare(retry_after.unwrap_or(A_MOMENT), factor.max(held), now);
    }

    /// Others are preferred for a moment.
    pub(super) fn spare_a_moment(&self, now: Tick) {
        self.spare(A_MOMENT, SPARED, now);
    }

    fn spare(&self, wait: Duration, factor: f32, now: Tick) {
        let wait = wait.min(self.shared.longest_ejection()).min(LONGEST);
        self.sparing.set(now.after(wait), factor);
        self.set_penalty(now, &self.shared.usual());
    }

    /// For how long others are preferred for what it said.
    pub(super) fn spared_for(&self, now: Tick) -> Option<Duration> {
        let longest = self.shared.longest_ejection();
        self.sparing.get(now, longest).map(|(left, _)| left)
    }

    /// How many times its cost it counts for, for what it said.
    pub(super) fn spared(&self, now: Tick) -> f32 {
        let longest = self.shared.longest_ejection();
        (self.sparing.get(now, longest)).map_or(1.0, |(_, factor)| factor)
    }

    /// What it said and refused, where that is over.
    pub(crate) fn forget_spared(&self, now: Tick) {
        self.sparing.forget(now, self.shared.longest_ejection());
        if let Some(refused) = self.refused() {
            refused.forget(self.second(now));
        }
    }

    /// How many requests it refused lately, and, if any, how many it answered well or not meanwhile. With a tracker of the user's none are known to
    /// be refused.
    pub(crate) fn refusals(&self, now: Tick) -> (u64, u64) {
        let refused = self
            .refused()
            .map_or(0, |refused| refused.get(self.second(now)));
        if refused == 0 {
            // Most refuse nothing: upkeep asks all, and a sum is a look at each cell.
            return (0, 0);
        }
        // Those are counted by tenths of the window.
        let (tenth, second) = self.tenth_and_second();
        let answered = u128::from(self.gate.last(LATEST, now).total);
        let answered = answered * u128::from(second) / u128::from(tenth);
        (refused.into(), answered as u64)
    }

    /// How long refusals are counted for, in nanoseconds: a second, or a tenth of the window, if that is shorter; and that.
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
    fn what_is_said_is_over_in_time_and_after_a_clock_that_went_back() {
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
            assert_eq!(most, MOST);
            sparing.forget(at(start), longest);
            assert_eq!(sparing.get(at(start + 50_000), longest), None);
        }
    }
}
