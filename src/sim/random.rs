//! Independent random streams, one per purpose, so that every policy meets the same requests and the same faults,
//! whatever the policy itself draws.

use crate::shared::{GOLDEN, below, mix};

/// The purpose of a random stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// When requests arrive; one stream per client.
    Arrivals,
    /// The work of a request; one stream per request.
    Demand,
    /// Whether a server fails a request, and whether the request is in the tail there; one stream per request and
    /// machine.
    Failures,
    /// When faults begin and end; one stream per fault and server.
    Faults,
    /// A policy's own draws; one stream per client. A fleet's seed comes from it.
    Policy,
    /// Whether a server fails an active check; one stream per check.
    Checks,
    /// The seed of a [`Caller`](crate::Caller), which draws the waits before retries; one stream per client.
    Waits,
}

/// A random generator: a counter and a mixing function (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Stream(u64);

impl Stream {
    pub(super) const fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let purpose = mix(purpose as u64 + 1);
        Self(mix(mix(seed ^ purpose).wrapping_add(mix(index ^ purpose))))
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A uniform number above 0 and at most 1, so that its logarithm is finite.
    pub(super) fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// A uniform index below `bound`. `bound` is not 0.
    pub(super) const fn index(&mut self, bound: usize) -> usize {
        below(bound as u64, self.next()) as usize
    }

    /// An exponential number of mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -self.share().ln()
    }

    /// A normal number of mean 0 and standard deviation 1 (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the means of 100 000 draws. Their standard deviations are 1/sqrt(12), 1 and 1, each over sqrt(100
    /// 000), so 0.02 is beyond 6 sigma for each.
    #[test]
    fn moments_are_as_they_should_be() {
        let mut stream = Stream::new(7, Purpose::Demand, 0);
        let mut mean = |draw: fn(&mut Stream) -> f64| {
            (0..100_000).map(|_| draw(&mut stream)).sum::<f64>() / 100_000.0
        };
        assert!((mean(Stream::share) - 0.5).abs() < 0.02);
        assert!((mean(Stream::exponential) - 1.0).abs() < 0.02);
        assert!(mean(Stream::normal).abs() < 0.02);
        // The variance of a squared normal number is 2, so 0.03 is beyond 6 sigma.
        assert!((mean(|stream| stream.normal().powi(2)) - 1.0).abs() < 0.03);
    }

    #[test]
    fn streams_of_other_purposes_and_indexes_differ() {
        let first = |purpose, index| Stream::new(7, purpose, index).next();
        let seen = [
            first(Purpose::Arrivals, 0),
            first(Purpose::Arrivals, 1),
            first(Purpose::Demand, 0),
            first(Purpose::Faults, 0),
            first(Purpose::Policy, 0),
        ];
        let distinct: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }
}
