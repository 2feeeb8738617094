//! The limit that finds itself: the rule of [`AdaptiveLimit`], a function of values, and the words around it that requests
//! add to.
//!
//! What is seen since the last look: `samples: 20 | sum: 44`, of latencies in 64 ns, and beside it how many requests ended in
//! a timeout or an answer of too much to do, and the most in flight. Whoever finds that it is time claims the look by
//! a swap of its start, is alone with the rest until it stores the next start, and takes what there is; others add
//! meanwhile to what the next look takes.

use std::time::Duration;

use super::AdaptiveLimit;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// So many latencies make a mean; of fewer it would be noise.
const ENOUGH: u64 = 25;

/// More are not added to one: 2^12 samples of the longest, and as many again by threads that look at once, fit the sum.
const MANY: u64 = 1 << 12;

/// What a latency is counted in, and the longest that is believed: 68 s.
const UNIT_NANOS: u64 = 64;
const LONGEST: u64 = (1 << 30) - 1;
const SUM_BITS: u32 = 44;
const SUM_MASK: u64 = (1 << SUM_BITS) - 1;
const SAMPLE: u64 = 1 << SUM_BITS;

/// Time constants of what is usual: of what is seen while little is in flight, and, while much is, of what is quicker and
/// of what is slower. The last two are no further apart, as the average would else be that of the best of the noise: with
/// means of 25 latencies, which stray by a fifth where service times are exponential, it settles a fifth too low, and
/// the buffer takes that up.
const QUIET: Duration = Duration::from_secs(10);
const QUICKER: Duration = Duration::from_secs(60);
const SLOWER: Duration = Duration::from_secs(600);

/// A look is under way.
const CLAIMED: u64 = u64::MAX;

/// What was seen between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    /// Latencies of successes, and their mean in nanoseconds.
    samples: u64,
    mean: f32,
    /// Requests that ended in a timeout, or an answer of too much to do.
    overloaded: u32,
    /// The most requests in flight.
    most: u32,
    /// How long that took.
    length: Duration,
}

/// What is known between two looks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    limit: u32,
    /// In nanoseconds; 0 while unknown.
    usual: f32,
}

impl AdaptiveLimit {
    /// What becomes of what was known by what was seen.
    fn look(&self, known: Known, seen: &Seen) -> Known {
        let limit = known.limit as f32;
        let is_pressed = 2 * u64::from(seen.most) > u64::from(known.limit);
        let is_known = seen.samples >= ENOUGH;
        let usual = match known.usual {
            usual if !is_known => usual,
            usual if usual <= 0.0 => seen.mean,
            usual => {
                let tau = match seen.mean > usual {
                    _ if !is_pressed => QUIET,
                    true => SLOWER,
                    false => QUICKER,
                };
                let share = (seen.length.as_secs_f32() / tau.as_secs_f32()).min(1.0);
                usual + (seen.mean - usual) * share
            }
        };
        // What was usual before this: it must not hide in its own average.
        let before = if known.usual > 0.0 {
            known.usual
        } else {
            usual
        };
        let gradient = if is_known {
            let buffer = 1.0 + self.buffer_percent as f32 / 100.0;
            (before * buffer / seen.mean.max(1.0)).clamp(0.5, 2.0)
        } else {
            1.0
        };
        let ended = seen.samples as f32 + seen.overloaded as f32;
        let overloaded = seen.overloaded as f32 / ended.max(1.0);
        let next = limit * gradient * (1.0 - overloaded / 2.0);
        let next = (next + next.sqrt()) as u32;
        let next = if is_pressed {
            next
        } else {
            next.min(known.limit)
        };
        let limit = next.clamp(self.min_concurrency, self.max_concurrency_limit);
        Known { limit, usual }
    }
}

/// What an endpoint's requests add to, and what the last look found.
#[derive(Debug)]
pub(crate) struct Concurrency {
    rule: AdaptiveLimit,
    /// When the last look was, in nanoseconds, or [`CLAIMED`].
    since: AtomicU64,
    latencies: AtomicU64,
    overloaded: AtomicU32,
    most: AtomicU32,
    /// An `f32`'s bits: what is usual, in nanoseconds.
    usual: AtomicU32,
}

impl Concurrency {
    pub(crate) fn new(rule: AdaptiveLimit) -> Self {
        Self {
            rule,
            // The first look is when there is enough to look at.
            since: AtomicU64::new(0),
            latencies: AtomicU64::new(0),
            overloaded: AtomicU32::new(0),
            most: AtomicU32::new(0),
            usual: AtomicU32::new(0),
        }
    }

    /// A success took so long, while so many were in flight. `limit` is adjusted, if this is the time to look.
    pub(crate) fn succeeded(
        &self,
        now: Tick,
        latency: Duration,
        in_flight: u64,
        limit: &AtomicU32,
    ) {
        // ORDERING: Relaxed. A look more or less does no harm; the field has room for as many threads.
        let samples = self.latencies.load(Ordering::Relaxed) >> SUM_BITS;
        if samples < MANY {
            let units = (nanos(latency) / UNIT_NANOS).clamp(1, LONGEST);
            // ORDERING: Relaxed. A statistic, complete in its word.
            self.latencies.fetch_add(SAMPLE + units, Ordering::Relaxed);
        }
        self.saw(in_flight);
        if samples + 1 >= ENOUGH {
            self.look(now, limit);
        }
    }

    /// One timed out, or the endpoint said that it has too much to do. The same.
    pub(crate) fn was_overloaded(&self, now: Tick, in_flight: u64, limit: &AtomicU32) {
        // ORDERING: Relaxed. A statistic.
        self.overloaded.fetch_add(1, Ordering::Relaxed);
        self.saw(in_flight);
        self.look(now, limit);
    }

    fn saw(&self, in_flight: u64) {
        let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        // ORDERING: Relaxed, both. A statistic; the load keeps most from writing.
        if in_flight > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(in_flight, Ordering::Relaxed);
        }
    }

    fn look(&self, now: Tick, limit: &AtomicU32) {
        if let Some(length) = self.claim(now) {
            self.look_claimed(length, limit);
            // ORDERING: Release. Pairs with the claim: the next look sees what this one stored, the limit too.
            self.since
                .store(now.as_nanos().min(CLAIMED - 1), Ordering::Release);
        }
    }

    /// Claims the look, if it is time: how long it is since the last.
    fn claim(&self, now: Tick) -> Option<Duration> {
        // ORDERING: Relaxed. The swap below decides.
        let since = self.since.load(Ordering::Relaxed);
        let length = self.passed(since, now)?;
        // ORDERING: Acquire. Pairs with the Release of who looked last. Relaxed on failure: nothing is done then.
        self.since
            .compare_exchange(since, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| length)
    }

    /// How long it is since then, if that is time for a look. A start a little ahead is another thread's; one that is
    /// further ahead was set by a clock that has gone back, and is taken to be as long ago as need be.
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

    /// The look is claimed: nobody else is at the words that it writes.
    fn look_claimed(&self, length: Duration, limit: &AtomicU32) {
        // ORDERING: Relaxed, all. Requests add to them in any order; what one look does not take the next one does.
        let latencies = self.latencies.swap(0, Ordering::Relaxed);
        let overloaded = self.overloaded.swap(0, Ordering::Relaxed);
        let most = self.most.swap(0, Ordering::Relaxed);
        let samples = latencies >> SUM_BITS;
        let sum = ((latencies & SUM_MASK) * UNIT_NANOS) as f32;
        let seen = Seen {
            samples,
            mean: sum / samples.max(1) as f32,
            overloaded,
            most,
            length,
        };
        // ORDERING: Relaxed, here and below. Who has claimed the look is alone with these, and the claims order one look
        // after the other. Who enters by the limit enters by the last or by this one: it guards a count, not data.
        let known = Known {
            limit: limit.load(Ordering::Relaxed),
            usual: f32::from_bits(self.usual.load(Ordering::Relaxed)),
        };
        let known = self.rule.look(known, &seen);
        // ORDERING: Relaxed, both. As above.
        self.usual.store(known.usual.to_bits(), Ordering::Relaxed);
        limit.store(known.limit, Ordering::Relaxed);
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

    /// Two requests time out when it is time to look: the limit shrinks once, and what the look does not take is there for
    /// the next.
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
    fn one_looks_at_a_time() {
        two_look_at_once(|cell, limit| cell.was_overloaded(SECOND, 100, limit));
    }

    /// Broken: whoever finds that it is time looks, without a claim.
    #[test]
    #[should_panic = "it shrank twice for one look"]
    fn broken_variant_look_without_a_claim() {
        two_look_at_once(|cell, limit| {
            // ORDERING: Relaxed, all. As in `was_overloaded`, but for the claim.
            cell.overloaded.fetch_add(1, Ordering::Relaxed);
            cell.saw(100);
            if let Some(length) = cell.passed(cell.since.load(Ordering::Relaxed), SECOND) {
                cell.look_claimed(length, limit);
                cell.since.store(SECOND.as_nanos(), Ordering::Release);
            }
        });
    }
}
