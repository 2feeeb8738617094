//! How much of what endpoints show is chance: of their latency estimates, and of the ages of their requests in flight.
//!
//! Where times vary widely from request to request, endpoints that are alike look different: one that happened to get
//! long requests seems slow, and one that works on a long request seems to hang.

use std::time::Duration;

use super::latency::weight_at_pace;
use crate::sync::{AtomicU64, Ordering};

/// What the cost of a request is multiplied by at an endpoint whose requests in flight are overdue, so that an endpoint
/// that hangs is avoided before its requests time out. The factor does not grow with the age: an endpoint working on a
/// long request looks the same as one that hangs.
///
/// They are overdue if their mean age is more than a multiple of that cost; the multiple is at least this, too (see
/// [`AgeLimit`]).
pub(crate) const OVERDUE: f32 = 3.0;

/// What the answers to a shard's requests since the last sweep tell of how much latencies vary: the sum of the squares
/// of how far each was from the estimate before it, as a part of that, both in square roots; and their number.
///
/// In one word: `sum: 32, an f32 | count: 32`.
#[derive(Debug)]
pub(crate) struct Deviations(AtomicU64);

impl Deviations {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts an answer that deviates by this, up to `MOST` since the last sweep. Threads of a shard may lose each
    /// other's counts, or count some twice, which matters little.
    #[inline]
    pub(crate) fn count(&self, deviation: f32) {
        /// An answer counts as no further off than this, so that one alone tells little.
        const FURTHEST: f32 = 3.0;
        /// There may be no sweeps for long, and an `f32` adds no more than so many exactly.
        const MOST: u32 = 1 << 20;
        // ORDERING: Relaxed, here and below. A statistic, complete in itself.
        let (sum, count) = sum_and_count(self.0.load(Ordering::Relaxed));
        if count == MOST {
            return;
        }
        let sum = sum + deviation.min(FURTHEST).powi(2);
        let next = u64::from(sum.to_bits()) << 32 | u64::from(count + 1);
        // ORDERING: Relaxed. As above.
        self.0.store(next, Ordering::Relaxed);
    }

    /// Takes what has been counted.
    pub(crate) fn take(&self) -> (f32, u32) {
        // ORDERING: Relaxed. As above.
        sum_and_count(self.0.swap(0, Ordering::Relaxed))
    }
}

fn sum_and_count(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// How much latencies vary from request to request: the mean of these squares. It is 0.27 for times that are
/// distributed exponentially, and 0.53 where one request in twenty takes 25 times as long as the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Variance(f32);

impl Variance {
    /// Takes in what was counted since the last time.
    pub(crate) fn add(&mut self, counted: impl Iterator<Item = (f32, u32)>) {
        /// About the last so many answers count.
        const ANSWERS: f32 = 256.0;
        let (mut sum, mut count) = (0.0, 0.0);
        for one in counted {
            sum += one.0;
            count += one.1 as f32;
        }
        if count > 0.0 {
            self.0 += (sum / count - self.0) * count / (count + ANSWERS);
        }
    }

    /// The standard deviation, as a part of it, that the latency estimate of an endpoint has by chance, if it answers
    /// `pace` requests a second.
    pub(crate) fn of_estimates(self, pace: f32) -> f32 {
        let weight = weight_at_pace(pace);
        // Of an average with this weight for each new sample. Twice that for the square of a square root.
        2.0 * (self.0 * weight / (2.0 - weight)).sqrt()
    }
}

/// How far to rely on a client's own requests in flight for how busy endpoints are, from 0 to 1, if each gets `pace`
/// requests a second from it, which take `usual`.
///
/// The fewer of a server's requests are this client's, the fewer it has in flight there: latencies are then the only
/// sign of what the others send, and each is worth following. From a quarter of a request at each endpoint on,
/// requests in flight tell something; from 0.65 on, enough. In the simulation ten clients have 0.2 to 0.4.
pub(crate) fn reliance_on_in_flight(pace: f32, usual: Duration) -> f32 {
    const LEAST: f32 = 0.25;
    const ENOUGH: f32 = 0.65;
    // Little's law.
    let in_flight = pace * usual.as_secs_f32();
    ((in_flight - LEAST) / (ENOUGH - LEAST)).clamp(0.0, 1.0)
}

/// The mean age of requests in flight, as a multiple of the cost of a request, that one in twenty busy endpoints
/// exceeds; at least [`OVERDUE`]. It rises with each sweep in which more do, and falls with each in which fewer do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgeLimit {
    limit: f32,
    /// How many busy endpoints the sweep has seen, and how many of them beyond the limit.
    seen: u32,
    beyond: u32,
}

impl Default for AgeLimit {
    fn default() -> Self {
        Self {
            limit: OVERDUE,
            seen: 0,
            beyond: 0,
        }
    }
}

impl AgeLimit {
    /// Takes in the mean age at a busy endpoint, as a multiple of the cost of a request there.
    pub(crate) fn see(&mut self, age: f32) {
        self.seen += 1;
        self.beyond += u32::from(age > self.limit);
    }

    /// The sweep is over.
    pub(crate) fn end_sweep(&mut self) {
        /// The share of endpoints that exceeds it.
        const SHARE: f32 = 0.05;
        /// With ten sweeps a second, half of all beyond the limit raise it from the least to the most in three seconds,
        /// and it falls back in half a minute. One of five that hangs for five seconds doubles it; that one stays
        /// overdue, as the age of its requests grows sooner.
        const STEP: f32 = 0.1;
        /// Requests that are older are overdue in any case, and may be streams.
        const MOST: f32 = 4.0 * OVERDUE;
        if self.seen > 0 {
            let share = self.beyond as f32 / self.seen as f32;
            let next = self.limit * (1.0 + STEP * (share - SHARE));
            *self = Self {
                limit: next.clamp(OVERDUE, MOST),
                ..Self::default()
            };
        }
    }

    /// From which age on requests are overdue, with this reliance on requests in flight: where a client has few, an
    /// endpoint that hangs would be found late.
    pub(crate) fn overdue(self, reliance: f32) -> f32 {
        OVERDUE + (self.limit - OVERDUE) * reliance
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::health::LatencyCell;
    use crate::time::Tick;

    /// Exponentially distributed times with a mean of 20 ms, in milliseconds.
    fn exponential() -> impl Iterator<Item = f64> {
        // Knuth's linear congruential generator (MMIX); its high bits are random enough.
        let step = |state: &u64| {
            Some(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        };
        let states = std::iter::successors(Some(7), step).skip(10);
        states.map(|state| -20.0 * (((state >> 11) + 1) as f64 / (1u64 << 53) as f64).ln())
    }

    /// The variance, and the standard deviation of estimates as a part of their mean, after `count` answers at this
    /// pace.
    fn measured(pace: f32, count: u32) -> (Variance, f32) {
        let (cell, deviations) = (LatencyCell::new(), Deviations::new());
        let mut variance = Variance::default();
        let mut estimates = Vec::new();
        for (answer, millis) in (0..count).zip(exponential()) {
            let at = Tick::from_nanos((f64::from(answer) * 1e9 / f64::from(pace)) as u64);
            let latency = Duration::from_secs_f64(millis / 1e3);
            let seen = cell.observe(at, latency, || None);
            let deviation = seen.deviation.into_iter();
            deviation.for_each(|one| deviations.count(one));
            if answer % 10 == 0 {
                // Another shard has no requests.
                variance.add([deviations.take(), Deviations::new().take()].into_iter());
            }
            estimates.push(f64::from(seen.estimate));
        }
        let late = &estimates[estimates.len() / 10..];
        let count = late.len() as f64;
        let mean = late.iter().sum::<f64>() / count;
        let squares = late.iter().map(|one| (one / mean - 1.0).powi(2));
        (variance, (squares.sum::<f64>() / count).sqrt() as f32)
    }

    /// The deviation of estimates that is computed is the one that estimates of like answers have.
    #[test]
    fn the_noise_is_what_estimates_vary_by() {
        for pace in [2.0, 8.0, 30.0] {
            let (variance, deviation) = measured(pace, 40_000);
            // The squared variation of the roots of exponential times is 4 / pi - 1 = 0.27, and that of the estimate
            // before an answer adds up to 0.27 * 0.18 and to the mean of its reciprocal's square as much again: 0.27 to
            // 0.37. The mean of about 512 squares, each of which varies by 1.5 of the mean, is off by a fifteenth;
            // three of these.
            assert!((0.2..0.46).contains(&variance.0), "{variance:?}");
            // The root of that is off by half as much. The square of an estimate of deviation 0.4 varies by a tenth
            // more.
            let ratio = variance.of_estimates(pace) / deviation;
            assert!((0.8..1.25).contains(&ratio), "{pace}: {ratio}");
        }
    }

    #[test]
    fn without_sweeps_counts_end() {
        let deviations = Deviations::new();
        (0..=1 << 20).for_each(|_| deviations.count(1.0));
        assert_eq!(deviations.take(), ((1 << 20) as f32, 1 << 20));
        assert_eq!(deviations.take(), (0.0, 0));
    }

    #[test]
    fn a_thread_that_has_ended_is_forgotten() {
        let (ended, goes_on) = (Deviations::new(), Deviations::new());
        let mut variance = Variance::default();
        (0..1_000).for_each(|_| ended.count(3.0));
        variance.add([ended.take(), goes_on.take()].into_iter());
        assert!(variance.0 > 5.0);
        for _ in 0..300 {
            (0..10).for_each(|_| goes_on.count(0.1));
            variance.add([ended.take(), goes_on.take()].into_iter());
        }
        // Each ten answers leave 256 parts in 266: after 300 times, a hundred thousandth.
        assert!((variance.0 - 0.01).abs() < 0.001, "{variance:?}");
    }

    #[test]
    fn a_quarter_of_a_request_in_flight_tells_nothing() {
        let reliance = |pace| reliance_on_in_flight(pace, Duration::from_millis(100));
        assert_eq!([0.0, 2.5, 6.5, 1e9].map(reliance), [0.0, 0.0, 1.0, 1.0]);
        assert!((reliance(4.5) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn one_in_twenty_ages_is_beyond_the_limit() {
        let mut ages = exponential().map(|millis| (millis / 8.0) as f32);
        let mut limit = AgeLimit::default();
        let mut sweep = |limit: &mut AgeLimit| {
            (0..20).for_each(|_| limit.see(ages.next().unwrap_or(0.0)));
            limit.end_sweep();
            limit.overdue(1.0)
        };
        (0..1_000).for_each(|_| {
            sweep(&mut limit);
        });
        let mean = (0..1_000).map(|_| sweep(&mut limit)).sum::<f32>() / 1_000.0;
        // The quantile is 2.5 ln(20) = 7.5. A sweep of 20 moves the limit by a tenth of its binomial deviation of 0.05;
        // it wanders by some 3 % around that.
        assert!((6.8..8.2).contains(&mean), "{mean}");
        // Only sweeps that see busy endpoints change it.
        limit.end_sweep();
        let before = limit.overdue(1.0);
        limit.end_sweep();
        assert_eq!(limit.overdue(1.0), before);
    }

    #[test]
    fn the_limit_has_bounds() {
        let mut limit = AgeLimit::default();
        for (age, bound) in [(f32::INFINITY, 4.0 * OVERDUE), (0.0, OVERDUE)] {
            for _ in 0..400 {
                limit.see(age);
                limit.end_sweep();
            }
            assert_eq!((limit.overdue(1.0), limit.overdue(0.0)), (bound, OVERDUE));
        }
    }
}
