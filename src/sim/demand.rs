//! The amount of work in a request: how long it takes a server of speed 1.

use std::time::Duration;

use super::random::Stream;
use crate::error::BuildError;
use crate::time::nanos;

/// A distribution of durations.
///
/// In a [`Scenario`](super::Scenario) it is the distribution of a request's work: how long a server of speed 1 is busy
/// with the request. In [`Fault::at_random`](super::Fault::at_random) it is the distribution of the lengths of healthy
/// and faulty periods.
///
/// ```
/// use evenkeel::sim::Demand;
/// use std::time::Duration;
///
/// let cache = Demand::bimodal(Duration::from_millis(5), Duration::from_millis(105), 0.05);
/// assert_eq!(cache.mean(), Duration::from_millis(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand(Shape);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Exponential { mean: f64 },
    Normal { mean: f64, deviation: f64 },
    LogNormal { mean: f64, variation: f64 },
    Bimodal { usual: f64, rare: f64, share: f64 },
    Pareto { mean: f64, shape: f64 },
}

fn float(duration: Duration) -> f64 {
    nanos(duration) as f64
}

impl Demand {
    /// An exponential distribution: many short times and few long ones. The standard deviation equals the mean.
    #[must_use]
    pub fn exponential(mean: Duration) -> Self {
        Self(Shape::Exponential { mean: float(mean) })
    }

    /// A normal distribution, for requests of nearly equal work.
    ///
    /// The standard deviation is at most a third of the mean, so that the part which is cut off at 0 is negligible.
    #[must_use]
    pub fn normal(mean: Duration, deviation: Duration) -> Self {
        Self(Shape::Normal {
            mean: float(mean),
            deviation: float(deviation),
        })
    }

    /// A log-normal distribution of this mean. `variation` is the coefficient of variation: the standard deviation
    /// divided by the mean, from 0 to 100.
    #[must_use]
    pub fn log_normal(mean: Duration, variation: f64) -> Self {
        Self(Shape::LogNormal {
            mean: float(mean),
            variation,
        })
    }

    /// A distribution of two values: `rare` with the probability `share`, from 0 to 1, and `usual` otherwise.
    #[must_use]
    pub fn bimodal(usual: Duration, rare: Duration, share: f64) -> Self {
        Self(Shape::Bimodal {
            usual: float(usual),
            rare: float(rare),
            share,
        })
    }

    /// A Pareto distribution of this mean: the share of times longer than x falls as x to the power of −`shape`.
    /// `shape` is above 1.
    #[must_use]
    pub fn pareto(mean: Duration, shape: f64) -> Self {
        Self(Shape::Pareto {
            mean: float(mean),
            shape,
        })
    }

    /// A constant: every draw is `time`.
    #[must_use]
    pub fn always(time: Duration) -> Self {
        Self::normal(time, Duration::ZERO)
    }

    /// The mean of the distribution.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.mean_nanos() as u64)
    }

    pub(super) fn mean_nanos(&self) -> f64 {
        match self.0 {
            Shape::Exponential { mean }
            | Shape::Normal { mean, .. }
            | Shape::LogNormal { mean, .. }
            | Shape::Pareto { mean, .. } => mean,
            Shape::Bimodal { usual, rare, share } => usual + (rare - usual) * share,
        }
    }

    /// Draws a time in nanoseconds, at least 1.
    pub(super) fn draw(&self, stream: &mut Stream) -> f64 {
        let drawn = match self.0 {
            Shape::Exponential { mean } => mean * stream.exponential(),
            Shape::Normal { mean, deviation } => mean + deviation * stream.normal(),
            Shape::LogNormal { mean, variation } => {
                let square = variation.mul_add(variation, 1.0).ln();
                mean * (square.sqrt() * stream.normal() - square / 2.0).exp()
            }
            Shape::Bimodal { usual, rare, share } => {
                if stream.share() <= share {
                    rare
                } else {
                    usual
                }
            }
            Shape::Pareto { mean, shape } => {
                mean * (shape - 1.0) / shape * stream.share().powf(-1.0 / shape)
            }
        };
        drawn.max(1.0)
    }

    pub(super) fn check(&self, field: &'static str) -> Result<(), BuildError> {
        let refuse = |value: f64, expected| {
            Err(BuildError::setting(
                field,
                format_args!("{value}"),
                expected,
            ))
        };
        match self.0 {
            Shape::Normal { mean, deviation } if deviation > mean / 3.0 => {
                refuse(deviation, "of a deviation of at most a third of the mean")
            }
            Shape::LogNormal { variation, .. } if !(0.0..=100.0).contains(&variation) => {
                refuse(variation, "of a variation from 0 to 100")
            }
            Shape::Bimodal { share, .. } if !(0.0..=1.0).contains(&share) => {
                refuse(share, "of a share from 0 to 1")
            }
            Shape::Pareto { shape, .. } if !(shape > 1.0 && shape.is_finite()) => {
                refuse(shape, "of a shape above 1")
            }
            _ if !(1_000.0..=3.6e12).contains(&self.mean_nanos()) => refuse(
                self.mean_nanos(),
                "of a mean from 1000 nanoseconds to an hour",
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Purpose;
    use super::*;

    const TEN: Duration = Duration::from_millis(10);

    /// Takes 400 000 draws of each distribution. The standard deviation of the sample mean is variation / sqrt(400 000)
    /// of the mean: 0.16 % for the exponential and 0.63 % for a log-normal of variation 4, so 4 % is beyond 6 sigma.
    /// A Pareto of shape 1.8 has no finite variance. One of shape 3 has a variation of 0.87, so the test uses that.
    #[test]
    fn the_mean_is_the_mean() {
        for demand in [
            Demand::exponential(TEN),
            Demand::normal(TEN, TEN / 20),
            Demand::log_normal(TEN, 4.0),
            Demand::bimodal(TEN / 2, TEN * 21 / 2, 0.05),
            Demand::pareto(TEN, 3.0),
            Demand::always(TEN),
        ] {
            let mut stream = Stream::new(7, Purpose::Demand, 0);
            let sum: f64 = (0..400_000).map(|_| demand.draw(&mut stream)).sum();
            let mean = sum / 400_000.0;
            assert!((mean / 1e7 - 1.0).abs() < 0.04, "{demand:?}: {mean}");
            assert_eq!(demand.mean(), TEN);
        }
    }

    #[test]
    fn a_heavy_tail_falls_as_its_shape_says() {
        let demand = Demand::pareto(TEN, 1.8);
        let mut stream = Stream::new(7, Purpose::Demand, 0);
        let least = 1e7 * 0.8 / 1.8;
        let over = (0..100_000)
            .filter(|_| demand.draw(&mut stream) > 10.0 * least)
            .count();
        // The expected share is 10^-1.8 = 1.585 %. The standard deviation is sqrt(1585) = 40, and six of these are 240.
        assert!(over.abs_diff(1585) < 240, "{over}");
    }

    #[test]
    fn impossible_demands_are_named() {
        for (demand, text) in [
            (Demand::exponential(Duration::ZERO), "a mean from"),
            (Demand::normal(TEN, TEN), "a third of the mean"),
            (Demand::log_normal(TEN, f64::NAN), "NaN"),
            (Demand::bimodal(TEN, TEN, 1.5), "1.5"),
            (Demand::pareto(TEN, 1.0), "a shape above 1"),
        ] {
            let error = demand.check("Scenario::demand").unwrap_err().to_string();
            assert!(
                error.contains(text) && error.starts_with("Scenario::demand"),
                "{error}"
            );
        }
    }
}
