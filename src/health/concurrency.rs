//! The adaptive limit: the rule of [`AdaptiveLimit`] as a function of values, and the words that requests update for
//! it.
//!
//! A *look* is one evaluation of the rule. Since the last look, requests collect: latencies, as `samples: 20 | sum: 44`
//! in units of 64 ns; how many of them ended in a timeout or met an overloaded endpoint; and the most in flight. The
//! thread that finds a look due claims it by a compare-and-swap of `since`. It takes what has been collected, and has
//! the remaining words to itself until it stores the time of this look. What other threads add in the meantime is for
//! the next look.

use std::time::Duration;

use super::AdaptiveLimit;
use crate::sync::{AtomicF32, AtomicU32, AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// The fewest latencies that make a usable mean. Of fewer it would be noise.
const ENOUGH: u64 = 25;

/// The most latencies in a look. The sum has room for 2^12 of the longest, and for as many again from threads that read
/// the count at the same time.
const MANY: u64 = 1 << 12;

/// The unit of a latency, and the longest latency that is believed: 68 s.
const UNIT_NANOS: u64 = 64;
const LONGEST: u64 = (1 << 30) - 1;
const SUM_BITS: u32 = 44;
const SUM_MASK: u64 = (1 << SUM_BITS) - 1;
const SAMPLE: u64 = 1 << SUM_BITS;

/// Time constants of the usual latency: `QUIET` while little is in flight, and otherwise `QUICKER` for lower latencies
/// and `SLOWER` for higher ones. Those two are no further apart, or the average would follow the lowest of noisy means.
/// Means of 25 latencies stray by a fifth where service times are exponential. With these constants the average settles
/// a fifth too low, which the buffer makes up for.
const QUIET: Duration = Duration::from_secs(10);
const QUICKER: Duration = Duration::from_secs(60);
const SLOWER: Duration = Duration::from_secs(600);

/// The value of `since` while a look is under way.
const CLAIMED: u64 = u64::MAX;

/// What was collected between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sampled {
    /// The number of successes with a latency, and their mean latency in nanoseconds.
    samples: u64,
    mean: f32,
    /// How many requests ended in a timeout or met an overloaded endpoint.
    overloaded: u32,
    /// The most requests in flight at once.
    most: u32,
    /// The time between the two looks.
    length: Duration,
}

/// The state that one look hands to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
struct LimitState {
    limit: u32,
    /// The usual latency in nanoseconds; 0 while unknown.
    usual: f32,
}

impl AdaptiveLimit {
    /// The new state, from the old one and what was sampled.
    fn next_state(&self, state: LimitState, sampled: &Sampled) -> LimitState {
        let limit = state.limit as f32;
        let is_pressed = 2 * u64::from(sampled.most) > u64::from(state.limit);
        let is_known = sampled.samples >= ENOUGH;
        let usual = match state.usual {
            usual if !is_known => usual,
            usual if usual <= 0.0 => sampled.mean,
            usual => {
                let tau = match sampled.mean > usual {
                    _ if !is_pressed => QUIET,
                    true => SLOWER,
                    false => QUICKER,
                };
                let share = (sampled.length.as_secs_f32() / tau.as_secs_f32()).min(1.0);
                usual + (sampled.mean - usual) * share
            }
        };
        // The value before this look: the new latency must not hide in its own average.
        let before = if state.usual > 0.0 {
            state.usual
        } else {
            usual
        };
        let gradient = if is_known {
            let buffer = 1.0 + self.buffer_percent as f32 / 100.0;
            (before * buffer / sampled.mean.max(1.0)).clamp(0.5, 2.0)
        } else {
            1.0
        };
        let ended = sampled.samples as f32 + sampled.overloaded as f32;
        let overloaded = sampled.overloaded as f32 / ended.max(1.0);
        let next = limit * gradient * (1.0 - overloaded / 2.0);
        let next = (next + next.sqrt()) as u32;
        let next = if is_pressed {
            next
        } else {
            next.min(state.limit)
        };
        let limit = next.clamp(self.min_concurrency, self.max_concurrency_limit);
        LimitState { limit, usual }
    }
}

/// What an endpoint's requests collect, and what the last look found.
#[derive(Debug)]
pub(crate) struct Concurrency {
    rule: AdaptiveLimit,
    /// The time of the last look in nanoseconds, or [`CLAIMED`].
    since: AtomicU64,
    latencies: AtomicU64,
    overloaded: AtomicU32,
    most: AtomicU32,
    /// The usual latency in nanoseconds.
    usual: AtomicF32,
}

impl Concurrency {
    pub(crate) fn new(rule: AdaptiveLimit) -> Self {
        Self {
            rule,
            // The first look comes as soon as there are enough samples.
            since: AtomicU64::new(0),
            latencies: AtomicU64::new(0),
            overloaded: AtomicU32::new(0),
            most: AtomicU32::new(0),
            usual: AtomicF32::new(0.0),
        }
    }

    /// Takes in a success that took `latency` while `in_flight` requests were in flight. Adjusts `limit` if a look is
    /// due.
    pub(crate) fn note_success(
        &self,
        now: Tick,
        latency: Duration,
        in_flight: u64,
        limit: &AtomicU32,
    ) {
        // ORDERING: Relaxed. One look more or less does no harm, and the field has room for that many threads.
        let samples = self.latencies.load(Ordering::Relaxed) >> SUM_BITS;
        if samples < MANY {
            let units = (nanos(latency) / UNIT_NANOS).clamp(1, LONGEST);
            // ORDERING: Relaxed. A statistic, complete in its word.
            self.latencies.fetch_add(SAMPLE + units, Ordering::Relaxed);
        }
        self.note_in_flight(in_flight);
        if samples + 1 >= ENOUGH {
            self.look(now, limit);
        }
    }

    /// Takes in a timeout, or an answer that the endpoint is overloaded. Adjusts `limit` if a look is due.
    pub(crate) fn note_overloaded(&self, now: Tick, in_flight: u64, limit: &AtomicU32) {
        // ORDERING: Relaxed. A statistic.
        self.overloaded.fetch_add(1, Ordering::Relaxed);
        self.note_in_flight(in_flight);
        self.look(now, limit);
    }

    fn note_in_flight(&self, in_flight: u64) {
        let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        // ORDERING: Relaxed, both. A statistic. The load avoids most writes.
        if in_flight > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(in_flight, Ordering::Relaxed);
        }
    }

    fn look(&self, now: Tick, limit: &AtomicU32) {
        if let Some(length) = self.claim(now) {
            self.look_claimed(length, limit);
            // ORDERING: Release. Pairs with the claim: the next look sees what this one stored, including the limit.
            self.since
                .store(now.as_nanos().min(CLAIMED - 1), Ordering::Release);
        }
    }

    /// Claims the look if it is due. Returns the time since the last one.
    fn claim(&self, now: Tick) -> Option<Duration> {
        // ORDERING: Relaxed. The compare-and-swap below decides.
        let since = self.since.load(Ordering::Relaxed);
        let length = self.passed(since, now)?;
        // ORDERING: Acquire. Pairs with the Release of the last look. Relaxed on failure, as nothing is done then.
        self.since
            .compare_exchange(since, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| length)
    }

    /// The time since the last look, if another one is due. A `since` that is slightly ahead comes from another thread.
    /// One that is further ahead was set by a clock that has gone back since; the look is due then.
    fn passed(&self, since: u64, now: Tick) -> Option<Duration> {
        let interval = self.rule.concurrency_update_interval;
        let length = match now.as_nanos().checked_sub(since) {
            _ if since == CLAIMED => return None,
            Some(length) => Duration::from_nanos(length),
            None if since - now.as_nanos() > nanos(interval) => interval,
            None => return None,
        };
        (length >= interval).then_some(length)
    }

    /// Evaluates the rule. The look is claimed, so no other thread writes the words that this one writes.
    fn look_claimed(&self, length: Duration, limit: &AtomicU32) {
        // ORDERING: Relaxed, all. Requests add to these in any order; what this look does not take, the next one takes.
        let latencies = self.latencies.swap(0, Ordering::Relaxed);
        let overloaded = self.overloaded.swap(0, Ordering::Relaxed);
        let most = self.most.swap(0, Ordering::Relaxed);
        let samples = latencies >> SUM_BITS;
        let sum = ((latencies & SUM_MASK) * UNIT_NANOS) as f32;
        let sampled = Sampled {
            samples,
            mean: sum / samples.max(1) as f32,
            overloaded,
            most,
            length,
        };
        // ORDERING: Relaxed, here and below. The claim makes this thread the only one that writes these, and claims
        // order one look after the other. A request may enter by the old limit or by the new one: the limit guards a
        // count, not data.
        let state = LimitState {
            limit: limit.load(Ordering::Relaxed),
            usual: self.usual.get(),
        };
        let state = self.rule.next_state(state, &sampled);
        self.usual.set(state.usual);
        // ORDERING: Relaxed. As above.
        limit.store(state.limit, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    const SECOND: Tick = Tick::from_nanos(1_000_000_000);

    /// Two requests time out when a look is due. The limit shrinks once, and what the look does not take is left for
    /// the next one.
    fn two_look_at_once(look: fn(&Concurrency, &AtomicU32)) {
        loom::model(move || {
            let cell = Concurrency::new(AdaptiveLimit::default());
            let shared = Arc::new((cell, AtomicU32::new(100)));
            let other = shared.clone();
            let thread = thread::spawn(move || look(&other.0, &other.1));
            look(&shared.0, &shared.1);
            thread.join().unwrap();
            let (cell, limit) = &*shared;
            // ORDERING: Relaxed, here and below. After the join.
            let limit = limit.load(Ordering::Relaxed);
            assert_eq!(limit, 57, "it shrank twice for one look");
            assert!(cell.overloaded.load(Ordering::Relaxed) <= 1);
            // ORDERING: Relaxed. As above.
            let since = cell.since.load(Ordering::Relaxed);
            assert_eq!(since, SECOND.as_nanos(), "nobody can look any more");
        });
    }

    #[test]
    fn only_one_thread_looks_at_a_time() {
        two_look_at_once(|cell, limit| cell.note_overloaded(SECOND, 100, limit));
    }

    /// Broken: a thread that finds a look due evaluates it without a claim.
    #[test]
    #[should_panic = "it shrank twice for one look"]
    fn broken_variant_look_without_a_claim() {
        two_look_at_once(|cell, limit| {
            // ORDERING: Relaxed, all. As in `note_overloaded`, but without the claim.
            cell.overloaded.fetch_add(1, Ordering::Relaxed);
            cell.note_in_flight(100);
            if let Some(length) = cell.passed(cell.since.load(Ordering::Relaxed), SECOND) {
                cell.look_claimed(length, limit);
                cell.since.store(SECOND.as_nanos(), Ordering::Release);
            }
        });
    }
}
