//! Judges one endpoint from the outcomes of its requests: the trait [`HealthTracker`] and the built-in
//! [`SlidingWindow`]. The fleet acts on the verdict, by the settings in [`Ejection`].

mod check;
mod concurrency;
mod cost;
mod detector;
mod ejection;
mod latency;
mod limits;
mod noise;
mod outliers;
mod panic;
mod refusals;
mod rows;
mod rule;
mod slow_start;
mod suspicion;
mod tracker;
mod verdict;
mod window;

use std::fmt;
use std::time::Duration;

use crate::outcome::Sample;
use crate::time::Tick;

pub use check::HealthCheckSettings;
pub(crate) use check::{CheckResult, CheckWeighing, Checked, Pace};
pub(crate) use concurrency::Concurrency;
pub(crate) use cost::{cost_of_latency, error_factor, error_penalty, suspect_factor};
pub use detector::Detector;
pub(crate) use detector::Detectors;
pub use ejection::{Backoff, Ejection};
pub(crate) use latency::LatencyCell;
pub use limits::{AdaptiveLimit, Limits};
pub(crate) use noise::{AgeLimit, Deviations, OVERDUE, Variance, reliance_on_in_flight};
pub(crate) use outliers::{Report, Thresholds, compares_endpoints, lower_median, outliers};
pub use panic::{PanicAction, PanicRule};
pub(crate) use refusals::Refusals;
pub(crate) use rule::{FailedRequest, Rule};
pub use slow_start::SlowStart;
pub(crate) use suspicion::{Evidence, Fading, HOPELESS};
pub use tracker::SlidingWindow;
pub(crate) use tracker::{SampleClass, health};
pub(crate) use verdict::{
    FleetState, earned_ejection, ejection_limit, ejection_time, exceeds_spare, first_time,
    probe_time, times_left,
};
pub(crate) use window::{BUCKETS, Counts, HALF_BUCKETS, Open, RECENT_BUCKETS, Window};

/// Watches one endpoint and judges its health. Object-safe. A fleet makes one instance for each endpoint.
///
/// Implement it, and pass it to [`FleetBuilder::tracker`](crate::FleetBuilder::tracker), to judge by something else
/// than the built-in [`SlidingWindow`]. The built-in tracker is held concretely and costs no virtual call.
///
/// It takes the place of the sequential test and of the counts of failures in a row: the settings of [`Ejection`] for
/// these have no effect then, also not those of [`Ejection::envoy`] and [`Ejection::under_failover`]. What upkeep
/// compares (success rates, failure percentages, latencies), checks and
/// [`Outcome::GoingAway`](crate::Outcome::GoingAway) eject as with the built-in tracker.
///
/// A tracker only judges. Whatever it says, the fleet counts outcomes and latencies itself: for policies, for
/// [`Usual`], for [`Member::outcomes`](crate::Member::outcomes), and to pass over an endpoint that is overloaded.
///
/// # Examples
///
/// A tracker that ejects after two failures in a row:
///
/// ```
/// use evenkeel::{Alarm, Cluster, Fleet, Health, HealthTracker, Judging, Outcome, Sample, SampleKind};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// #[derive(Debug, Default)]
/// struct TwoStrikes(AtomicU32);
///
/// impl HealthTracker for TwoStrikes {
///     fn record(&self, sample: &Sample, _: &Judging<'_>) -> Alarm {
///         if sample.kind != SampleKind::Request {
///             return Alarm::None; // the fleet judges probes; late results say nothing
///         }
///         if !sample.outcome.is_fault() {
///             self.0.store(0, Ordering::Relaxed);
///             return Alarm::None;
///         }
///         match self.0.fetch_add(1, Ordering::Relaxed) {
///             0 => Alarm::None,
///             _ => Alarm::Eject,
///         }
///     }
///     fn health(&self, _: &Judging<'_>) -> Health {
///         Health::new(1.0 / (1.0 + f64::from(self.0.load(Ordering::Relaxed))), 1)
///     }
///     fn readmitted(&self, _: evenkeel::Tick) {
///         self.0.store(0, Ordering::Relaxed);
///     }
/// }
///
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b"].map(String::from))
///     .tracker(|_| TwoStrikes::default())
///     .build()?;
/// for _ in 0..2 {
///     fleet.lease(&"a".to_string())?.record(Outcome::Failure);
/// }
/// assert!((0..100).all(|_| fleet.pick_endpoint().is_ok_and(|lease| lease.endpoint() == "b")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait HealthTracker: fmt::Debug + Send + Sync {
    /// Records one finished request and tells whether to eject the endpoint.
    ///
    /// It runs on the request path, so it must neither block nor allocate. [`Alarm::Eject`] ejects the endpoint at once
    /// if the cap on ejections leaves room. The fleet heeds it only for samples of kind
    /// [`Request`](crate::SampleKind::Request).
    fn record(&self, sample: &Sample, cx: &Judging<'_>) -> Alarm;

    /// Returns the endpoint's health now.
    ///
    /// It is called at upkeep, not per pick, and under the update mutex, so it must not change the fleet. A panic in it
    /// is caught and counted. An endpoint whose score is below [`Ejection::score_threshold`] with at least
    /// [`Ejection::minimum_volume`] samples is ejected.
    fn health(&self, cx: &Judging<'_>) -> Health;

    /// Called when the endpoint is back after an ejection: what was recorded before must not eject it again.
    ///
    /// It may be called under the update mutex, so it must not change the fleet. The default implementation does
    /// nothing.
    fn readmitted(&self, now: Tick) {
        let _ = now;
    }
}

impl<T: HealthTracker + ?Sized> HealthTracker for Box<T> {
    fn record(&self, sample: &Sample, cx: &Judging<'_>) -> Alarm {
        (**self).record(sample, cx)
    }
    fn health(&self, cx: &Judging<'_>) -> Health {
        (**self).health(cx)
    }
    fn readmitted(&self, now: Tick) {
        (**self).readmitted(now);
    }
}

/// What a tracker asks the fleet to do after a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alarm {
    /// Do nothing.
    None,
    /// Eject this endpoint now.
    Eject,
}

/// A tracker's verdict on its endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// The score, from 0 (useless) to 1 (as good as any).
    pub score: f64,
    /// How many requests the score is based on.
    pub samples: u64,
}

impl Health {
    /// Creates a verdict. The score is clamped to `0.0..=1.0`. NaN carries no information: it becomes a score of 1 with
    /// no samples, which ejects no endpoint.
    #[must_use]
    pub const fn new(score: f64, samples: u64) -> Self {
        if score.is_nan() {
            Self {
                score: 1.0,
                samples: 0,
            }
        } else {
            Self {
                score: score.clamp(0.0, 1.0),
                samples,
            }
        }
    }
}

/// What a tracker may know besides the sample: the time, the endpoint's own load, and what is usual in the fleet.
#[derive(Clone, Copy, Debug)]
pub struct Judging<'a> {
    now: Tick,
    usual: &'a Usual,
    latency: Option<Duration>,
    in_flight: u64,
    mean_age: Option<Duration>,
    fading: Fading,
    on_parole: bool,
}

impl<'a> Judging<'a> {
    /// Creates a context for tests of a tracker: nothing in flight, no latency known.
    #[must_use]
    pub const fn new(now: Tick, usual: &'a Usual) -> Self {
        Self {
            now,
            usual,
            latency: None,
            in_flight: 0,
            mean_age: None,
            fading: Fading::SHORT,
            on_parole: false,
        }
    }

    /// Sets how long evidence lasts.
    pub(crate) fn with_fading(mut self, fading: Fading) -> Self {
        self.fading = fading;
        self
    }

    /// How long evidence lasts.
    pub(crate) const fn fading(&self) -> Fading {
        self.fading
    }

    /// Sets whether half of the evidence is enough to eject the endpoint.
    pub(crate) const fn on_parole_if(mut self, on_parole: bool) -> Self {
        self.on_parole = on_parole;
        self
    }

    /// Whether half of the evidence is enough to eject the endpoint.
    pub(crate) const fn is_on_parole(&self) -> bool {
        self.on_parole
    }

    /// Sets the endpoint's latency estimate.
    #[must_use]
    pub const fn with_latency(mut self, latency: Option<Duration>) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the number of requests in flight.
    #[must_use]
    pub const fn with_in_flight(mut self, in_flight: u64) -> Self {
        self.in_flight = in_flight;
        self
    }

    /// Sets the mean age of the requests in flight.
    #[must_use]
    pub const fn with_mean_age(mut self, age: Option<Duration>) -> Self {
        self.mean_age = age;
        self
    }

    /// The current time.
    #[must_use]
    pub const fn now(&self) -> Tick {
        self.now
    }

    /// What is usual in the fleet.
    #[must_use]
    pub const fn usual(&self) -> &'a Usual {
        self.usual
    }

    /// The endpoint's latency estimate; `None` until it has answered.
    #[must_use]
    pub const fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// The number of requests in flight at the endpoint, including the one being recorded.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The mean age of the requests in flight: the current time minus the mean of their start times.
    ///
    /// An endpoint that has stopped answering shows it here before it shows in the latency estimate. `None` in these
    /// cases:
    ///
    /// - Nothing is in flight.
    /// - The mean age is above one minute, or above twelve times the usual latency if that is longer. Such requests are
    ///   streams, or leases that are never ended.
    /// - The fleet's policy does not use ages, so they are not kept. [`Adaptive`](crate::Adaptive) uses them.
    #[must_use]
    pub const fn mean_age(&self) -> Option<Duration> {
        self.mean_age
    }
}

/// What is usual in the fleet: its median latency and its error rate.
#[derive(Clone, Debug, Default)]
pub struct Usual {
    latency: Option<Duration>,
    error_rate: f64,
}

impl Usual {
    /// Creates one for tests of a tracker, with an error rate of 0.
    #[must_use]
    pub const fn new(latency: Option<Duration>) -> Self {
        Self {
            latency,
            error_rate: 0.0,
        }
    }

    /// Sets the share of requests that fail.
    #[must_use]
    pub const fn with_error_rate(mut self, error_rate: f64) -> Self {
        self.error_rate = error_rate;
        self
    }

    /// The share of the fleet's requests that fail, 0 to 1.
    ///
    /// Normally it is the share in the window, as of the last upkeep, without endpoints that stand out. When at least
    /// two fifths of the other endpoints are under suspicion at once, or half have failed more than twice the usual
    /// share of their requests within the last two tenths of the window but no more than half, the cause is likely
    /// something that all of them share. What an endpoint fails while as many are ejected as the cap allows may be for
    /// too much load. Then it is the share among the last requests of the calling thread's shard,
    /// without the request being recorded, if that is higher. It stays so for as long as requests keep failing at
    /// different endpoints.
    ///
    /// In a fleet whose trackers are your own it is always the share in the window: only the built-in tracker tells
    /// which endpoints are under suspicion. Endpoints that stand out are then those whose score ejects.
    #[must_use]
    pub const fn error_rate(&self) -> f64 {
        self.error_rate
    }

    /// The median of the endpoints' latency estimates, as of the last upkeep; of an even number, the lower of the two
    /// in the middle. `None` while no endpoint has answered.
    #[must_use]
    pub const fn latency(&self) -> Option<Duration> {
        self.latency
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_score_from_outside_is_made_harmless() {
        assert_eq!(
            Health::new(-3.0, 9),
            Health {
                score: 0.0,
                samples: 9
            }
        );
        assert_eq!(
            Health::new(f64::INFINITY, 9),
            Health {
                score: 1.0,
                samples: 9
            }
        );
        assert_eq!(
            Health::new(f64::NAN, 9),
            Health {
                score: 1.0,
                samples: 0
            }
        );
    }
}
