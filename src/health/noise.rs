//! How much of what endpoints show is chance: of their latency estimates, and of the ages of their requests in flight.
//!
//! Where times vary widely from request to request, endpoints that are alike look different: one that happened to get
//! long requests seems slow, and one that works on a long request seems to hang.

use std::time::Duration;

use super::latency::weight_at_pace;
use crate::sync::AtomicF32;

/// Requests in flight are overdue if their mean age is more than this many times the cost of a request: what counts at
/// least, see [`UsualAges`].
pub(crate) const OVERDUE: f32 = 3.0;

/// How much latencies vary from request to request: the mean square of how far an answer is from the estimate before
/// it, as a part of that, both in square roots. It is 0.27 for times that are distributed exponentially, and 0.53 where
/// one request in twenty takes 25 times as long as the others.
#[derive(Debug)]
pub(crate) struct Spread(AtomicF32);

impl Spread {
    pub(crate) fn new() -> Self {
        Self(AtomicF32::new(0.0))
    }

    /// Counts an answer. Threads of a shard may lose each other's counts, which matters little.
    pub(crate) fn count(&self, off: f32) {
        /// The weight of one answer.
        const WEIGHT: f32 = 1.0 / 256.0;
        /// An answer counts as no further off than this, so that one alone tells little.
        const FURTHEST: f32 = 3.0;
        let (off, spread) = (off.min(FURTHEST), self.get());
        self.0.set(spread + (off * off - spread) * WEIGHT);
    }

    pub(crate) fn get(&self) -> f32 {
        self.0.get()
    }
}

/// The standard deviation, as a part of it, that the latency estimate of an endpoint has by chance, if it answers
/// `pace` requests a second.
pub(crate) fn noise_of_estimates(spread: f32, pace: f32) -> f32 {
    let weight = weight_at_pace(pace);
    // Of an average with this weight for each new sample. Twice that for the square of a square root.
    2.0 * (spread * weight / (2.0 - weight)).sqrt()
}

/// How far a client's own requests in flight tell how busy endpoints are, from 0 to 1, if each gets `pace` requests a
/// second from it, which take `usual`.
///
/// The fewer of a server's requests are this client's, the fewer it has in flight there: latencies are then the only
/// sign of what the others send, and each is worth following. From a quarter of a request at each endpoint on,
/// requests in flight tell something; from 0.65 on, enough. In the simulation ten clients have 0.2 to 0.4.
pub(crate) fn in_flight_tells(pace: f32, usual: Duration) -> f32 {
    const LEAST: f32 = 0.25;
    const ENOUGH: f32 = 0.65;
    // Little's law.
    let in_flight = pace * usual.as_secs_f32();
    ((in_flight - LEAST) / (ENOUGH - LEAST)).clamp(0.0, 1.0)
}

/// The mean age of requests in flight, as a multiple of the cost of a request, that one in twenty busy endpoints
/// exceeds; at least [`OVERDUE`]. It rises while more do and falls while fewer do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsualAges(f32);

impl Default for UsualAges {
    fn default() -> Self {
        Self(OVERDUE)
    }
}

impl UsualAges {
    /// Takes in the mean age at a busy endpoint, as a multiple of the cost of a request there.
    pub(crate) fn see(&mut self, times: f32) {
        /// The share of endpoints that exceeds it.
        const SHARE: f32 = 0.05;
        /// A single endpoint that hangs for five seconds, of five that are looked at ten times a second, raises it by
        /// half. It is overdue for all that, as its age grows sooner.
        const STEP: f32 = 0.01;
        /// Requests that are older are overdue in any case, and may be streams.
        const MOST: f32 = 4.0 * OVERDUE;
        let factor = match times > self.0 {
            true => 1.0 + STEP * (1.0 - SHARE),
            false => 1.0 - STEP * SHARE,
        };
        self.0 = (self.0 * factor).clamp(OVERDUE, MOST);
    }

    /// From which age on requests are overdue, where requests in flight tell this much: with few in flight, an endpoint
    /// that hangs would be found late.
    pub(crate) fn overdue(self, tells: f32) -> f32 {
        OVERDUE + (self.0 - OVERDUE) * tells
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

    /// The spread, and the standard deviation of estimates as a part of their mean, after `count` answers at this pace.
    fn measured(pace: f32, count: u32) -> (f32, f32) {
        let (cell, spread) = (LatencyCell::new(), Spread::new());
        let mut estimates = Vec::new();
        for (answer, millis) in (0..count).zip(exponential()) {
            let at = Tick::from_nanos((f64::from(answer) * 1e9 / f64::from(pace)) as u64);
            let latency = Duration::from_secs_f64(millis / 1e3);
            let seen = cell.observe(at, latency, || None);
            seen.off.into_iter().for_each(|off| spread.count(off));
            estimates.push(f64::from(seen.estimate));
        }
        let late = &estimates[estimates.len() / 10..];
        let mean = late.iter().sum::<f64>() / late.len() as f64;
        let square = late
            .iter()
            .map(|one| (one / mean - 1.0).powi(2))
            .sum::<f64>();
        (spread.get(), (square / late.len() as f64).sqrt() as f32)
    }

    /// The variation of estimates that is computed is the one that estimates of like answers have.
    #[test]
    fn the_noise_is_what_estimates_vary_by() {
        for pace in [2.0, 8.0, 30.0] {
            let (spread, deviation) = measured(pace, 40_000);
            // The square root of exponential times has a squared variation of 4 / pi - 1 = 0.27. The estimate that it is
            // measured from varies by a twentieth to a sixth of that; the last 256 answers count, whose mean square is
            // off by a tenth.
            assert!((0.2..0.42).contains(&spread), "{spread}");
            let computed = noise_of_estimates(spread, pace);
            let off = computed / deviation;
            // A square of the deviation's next term at the slowest pace, and the root of the spread's error.
            assert!(
                (0.8..1.3).contains(&off),
                "{pace}: {computed} for {deviation}"
            );
        }
    }

    #[test]
    fn in_flight_tells_from_a_quarter_of_a_request_on() {
        let tells = |pace| in_flight_tells(pace, Duration::from_millis(100));
        assert_eq!([0.0, 2.5, 6.5, 1e9].map(tells), [0.0, 0.0, 1.0, 1.0]);
        assert!((tells(4.5) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn one_in_twenty_ages_is_beyond_the_usual() {
        let mut ages = UsualAges::default();
        let (mut beyond, mut sum) = (0, 0.0);
        for (look, millis) in (0..40_000).zip(exponential()) {
            let age = (millis / 8.0) as f32;
            if look >= 20_000 {
                beyond += u32::from(age > ages.overdue(1.0));
                sum += ages.overdue(1.0);
            }
            ages.see(age);
        }
        // The balance of rises and falls: 0.95 up and 0.05 down. Binomial with 20 000 looks: 1000 +- 31, and what the
        // last looks left, at most ln(10) / 0.01 steps of 0.05.
        assert!((870..1130).contains(&beyond), "{beyond}");
        // The quantile: 2.5 ln(20) = 7.5.
        let mean = sum / 20_000.0;
        assert!((6.8..8.2).contains(&mean), "{mean}");
        (0..40_000).for_each(|_| ages.see(0.0));
        assert_eq!((ages.overdue(1.0), ages.overdue(0.0)), (OVERDUE, OVERDUE));
        (0..40_000).for_each(|_| ages.see(f32::INFINITY));
        assert_eq!(
            (ages.overdue(1.0), ages.overdue(0.0)),
            (4.0 * OVERDUE, OVERDUE)
        );
    }
}
