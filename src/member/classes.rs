//! Counts of how requests to an endpoint ended in the sliding window, for each way other than success. For display, off
//! the fast path.

use std::time::Duration;

use super::state::State;
use crate::outcome::Outcome;
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// How requests to an endpoint ended in the [sliding window](crate::Ejection::window). See
/// [`Member::outcomes`](super::Member::outcomes).
///
/// The first two numbers decide ejections, are exact, and leave out probes and requests that are
/// [late](crate::SampleKind::Late): picked before the last ejection or return, or before the endpoint last came into
/// rotation or left it by a mark, its weight or a drain. The others are estimates for display, and include those. Each
/// estimate is the count of the present period, which is as long as the window, plus the part of the period before it
/// that the window still covers, as if its outcomes had come evenly. Outcomes beyond a million of a class in one period
/// are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcomes {
    /// Requests that ended well or in a fault. The built-in tracker's score rests on them.
    pub in_window: u64,
    /// How many of those ended in a fault.
    pub faults_in_window: u64,
    /// Failures.
    pub failures: u32,
    /// Timeouts, including leases that were dropped after the fleet's patience was over.
    pub timeouts: u32,
    /// Results that the endpoint could not be reached.
    pub unreachable: u32,
    /// Results that the endpoint was overloaded.
    pub overloaded: u32,
    /// Results that the endpoint is going away.
    pub going_away: u32,
    /// Results that say nothing about the endpoint.
    pub ignored: u32,
    /// Leases that were dropped before the fleet's patience was over, or whose time was not measured.
    pub abandoned: u32,
}

const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_SHIFT: u32 = 2 * COUNT_BITS;
const EPOCH_MASK: u64 = (1 << (64 - EPOCH_SHIFT)) - 1;

/// Counts of the present period and the one before, from the top: `epoch: 24 | before: 20 | present: 20`. The epoch is
/// the number of the period, which is as long as the window. A word that is untouched for 2^24 of them (5 years, at 10
/// s) reads as present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    epoch: u64,
    before: u64,
    present: u64,
}

impl Pair {
    const fn read(word: u64) -> Self {
        Self {
            epoch: word >> EPOCH_SHIFT,
            before: word >> COUNT_BITS & COUNT_MASK,
            present: word & COUNT_MASK,
        }
    }

    const fn word(self) -> u64 {
        self.epoch << EPOCH_SHIFT | self.before << COUNT_BITS | self.present
    }

    /// The same word at this epoch. At the epoch just before the word's, as by another thread's clock, it stays as it
    /// is; at one further back the clock has jumped, and the word starts over.
    const fn at(self, epoch: u64) -> Self {
        let epoch = epoch & EPOCH_MASK;
        let before = match epoch.wrapping_sub(self.epoch) & EPOCH_MASK {
            0 | EPOCH_MASK => return self,
            1 => self.present,
            _ => 0,
        };
        Self {
            epoch,
            before,
            present: 0,
        }
    }

    fn with_one(self) -> Self {
        let present = (self.present + 1).min(COUNT_MASK);
        Self { present, ..self }
    }

    /// About how many there were in the last `window` nanoseconds.
    fn estimate(self, now: u64, window: u64) -> u32 {
        let left = window - now % window;
        let of_before = u128::from(self.before) * u128::from(left) / u128::from(window);
        (of_before as u64 + self.present) as u32
    }
}

/// The [`Pair`] of each way to end other than success.
#[derive(Debug, Default)]
pub(super) struct Classes {
    failures: AtomicU64,
    timeouts: AtomicU64,
    unreachable: AtomicU64,
    overloaded: AtomicU64,
    going_away: AtomicU64,
    ignored: AtomicU64,
    abandoned: AtomicU64,
}

impl Classes {
    pub(super) fn count(&self, outcome: Outcome, at: Tick, window: Duration) {
        let class = match outcome {
            Outcome::Success => return,
            Outcome::Failure => &self.failures,
            Outcome::Timeout => &self.timeouts,
            Outcome::Unreachable => &self.unreachable,
            Outcome::Overloaded { .. } => &self.overloaded,
            Outcome::GoingAway => &self.going_away,
            Outcome::Ignored => &self.ignored,
            Outcome::Abandoned => &self.abandoned,
        };
        let epoch = at.as_nanos() / nanos(window).max(1);
        let counted = |word| Some(Pair::read(word).at(epoch).with_one().word());
        // ORDERING: Relaxed, both. A statistic, complete in its word.
        let _ = class.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    /// How many requests ended in each class within the window.
    pub(super) fn read(&self, now: Tick, window: Duration) -> Outcomes {
        let (now, window) = (now.as_nanos(), nanos(window).max(1));
        let count = |class: &AtomicU64| {
            // ORDERING: Relaxed. As above.
            let pair = Pair::read(class.load(Ordering::Relaxed));
            pair.at(now / window).estimate(now, window)
        };
        Outcomes {
            failures: count(&self.failures),
            timeouts: count(&self.timeouts),
            unreachable: count(&self.unreachable),
            overloaded: count(&self.overloaded),
            going_away: count(&self.going_away),
            ignored: count(&self.ignored),
            abandoned: count(&self.abandoned),
            ..Outcomes::default()
        }
    }
}

impl State {
    /// Counts an outcome by class, also one reported for a request that goes on.
    pub(super) fn count(&self, outcome: Outcome, now: Tick) {
        let window = self.shared.ejection.window;
        self.classes.count(outcome, now, window);
    }

    /// How many requests within the window were abandoned, and how many said nothing of health otherwise.
    pub(crate) fn untold(&self, now: Tick) -> (u32, u32) {
        let ended = self.classes.read(now, self.shared.ejection.window);
        let others = ended.overloaded.saturating_add(ended.ignored);
        (ended.abandoned, others.saturating_add(ended.going_away))
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        let now = self.shared.now();
        let counts = self.gate.counts(now);
        Outcomes {
            in_window: counts.total,
            faults_in_window: counts.faults,
            ..self.classes.read(now, self.shared.ejection.window)
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn what_is_before_fades_out_over_a_window() {
        let classes = Classes::default();
        let failures = |millis| classes.read(at(millis), WINDOW).failures;
        for _ in 0..100 {
            classes.count(Outcome::Failure, at(5_000), WINDOW);
        }
        classes.count(Outcome::Ignored, at(5_000), WINDOW);
        assert_eq!((failures(5_000), failures(9_999)), (100, 100));
        assert_eq!((failures(10_000), failures(15_000)), (100, 50));
        classes.count(Outcome::Failure, at(15_000), WINDOW);
        assert_eq!((failures(15_000), failures(19_900)), (51, 2));
        assert_eq!((failures(25_000), failures(30_000)), (0, 0));
        let read = classes.read(at(5_000), WINDOW);
        assert_eq!((read.timeouts, read.abandoned), (0, 0));
    }

    #[test]
    fn a_full_count_stays_full() {
        let full = Pair {
            epoch: 7,
            before: COUNT_MASK,
            present: COUNT_MASK,
        };
        assert_eq!(full.with_one(), full);
        assert_eq!(Pair::read(full.word()), full);
        assert_eq!(full.estimate(0, 10), 2 * COUNT_MASK as u32);
    }

    proptest! {
        /// Against a list of what there was and when: exact where the period before is covered as a whole or not at
        /// all, and otherwise between what came within one period and within two.
        #[test]
        fn is_of_the_last_window(
            mut times in prop::collection::vec(0u64..100_000, 0..50), look in 0u64..100_000,
        ) {
            times.sort_unstable();
            let classes = Classes::default();
            let before: Vec<_> = times.into_iter().filter(|&time| time <= look).collect();
            for &time in &before {
                classes.count(Outcome::Timeout, at(time), WINDOW);
            }
            let since = |start: u64| before.iter().filter(|&&time| time >= start).count() as u32;
            let epoch = look / 10_000 * 10_000;
            let found = classes.read(at(look), WINDOW).timeouts;
            prop_assert!(found >= since(epoch));
            prop_assert!(found <= since(epoch.saturating_sub(10_000)));
            if look == epoch {
                prop_assert_eq!(found, since(epoch.saturating_sub(10_000)));
            }
        }

        #[test]
        fn no_time_and_no_window_overflows(time: u64, look: u64, window: u64) {
            let (classes, window) = (Classes::default(), Duration::from_nanos(window));
            classes.count(Outcome::Abandoned, Tick::from_nanos(time), window);
            prop_assert!(classes.read(Tick::from_nanos(look), window).abandoned <= 1);
        }
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    const WINDOW: Duration = Duration::from_nanos(10);

    /// Two requests end as one period turns into the next: both are counted, in one or the other.
    fn count_at_the_turn(count: fn(&Classes, Tick)) {
        loom::model(move || {
            let classes = Arc::new(Classes::default());
            let other = {
                let classes = classes.clone();
                thread::spawn(move || count(&classes, Tick::from_nanos(9)))
            };
            count(&classes, Tick::from_nanos(10));
            other.join().unwrap();
            let found = classes.read(Tick::from_nanos(10), WINDOW).failures;
            assert_eq!(found, 2, "one was lost");
        });
    }

    #[test]
    fn none_is_lost_at_the_turn() {
        count_at_the_turn(|classes, at| classes.count(Outcome::Failure, at, WINDOW));
    }

    /// Broken: a load and a store.
    #[test]
    #[should_panic = "one was lost"]
    fn broken_variant_load_then_store() {
        count_at_the_turn(|classes, at| {
            // ORDERING: Relaxed, both. As in `count`; not what is broken.
            let pair = Pair::read(classes.failures.load(Ordering::Relaxed));
            let counted = pair.at(at.as_nanos() / 10).with_one();
            classes.failures.store(counted.word(), Ordering::Relaxed);
        });
    }
}
