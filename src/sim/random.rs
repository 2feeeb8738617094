//! Streams of randomness, one for each purpose, so that every policy meets the same requests and the
//! same faults, whatever it draws itself.

use crate::shared::{GOLDEN, below, mix};

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// When requests arrive, one stream a client.
    Arrivals,
    /// How much work a request is, one number a request.
    Demand,
    /// Whether a server fails a request, one number for a request and a server.
    Failures,
    /// When faults begin and end, one stream a server.
    Faults,
    /// What a policy draws, one stream a client.
    Policy,
    /// Whether a server fails a check, one number a check.
    Checks,
    /// How long a caller waits before a retry, one stream a client.
    Waits,
}

/// A generator: a counter, mixed (splitmix64).
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

    /// A share of 1: above 0, at most 1, so that its logarithm is finite.
    pub(super) fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// An index below `bound`, which is not 0.
    pub(super) const fn index(&mut self, bound: usize) -> usize {
        below(bound as u64, self.next()) as usize
    }

    /// Exponential of mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -self.share().ln()
    }

    /// Normal of mean 0 and deviation 1 (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means of 100 000 draws. Their deviations are 1/sqrt(12), 1 and 1 over sqrt(100 000), so 0.02 is
    /// beyond 6 sigma for each.
    #[test]
    fn moments_are_as_they_should_be() {
        let mut stream = Stream::new(7, Purpose::Demand, 0);
        let mut mean = |draw: fn(&mut Stream) -> f64| {
            (0..100_000).map(|_| draw(&mut stream)).sum::<f64>() / 100_000.0
        };
        assert!((mean(Stream::share) - 0.5).abs() < 0.02);
        assert!((mean(Stream::exponential) - 1.0).abs() < 0.02);
        assert!(mean(Stream::normal).abs() < 0.02);
        // The variance of a squared normal is 2: 0.03 is beyond 6 sigma.
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
