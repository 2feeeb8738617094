//! The ejection settings: [`Ejection`].

use std::time::Duration;

use super::verdict::FleetState;
use super::{Detector, Detectors};
use crate::error::BuildError;
use crate::settings::{DAY, MILLI, setters, within};

/// When an endpoint is taken out of rotation, for how long, and how many may be out at once.
///
/// An ejected endpoint gets no requests until its time is up. Then it gets half-open probes, one request at a time.
/// After [`healthy_threshold`](Self::healthy_threshold) successes in a row it is back; a fault ejects it again for
/// longer. (While the whole fleet fails, a failed probe says little: then it takes more of them, and fewer successes.)
/// So, given traffic, a recovered endpoint returns when the current ejection ends. That takes at most
/// [`max_ejection_time`](Self::max_ejection_time) plus jitter, and less at [high request
/// rates](Self::max_ejection_requests) or while [capacity is short](Self::spare_capacity_percent). Of n endpoints, a
/// due probe is found within n / 64 picks. While probes fail, at most one pick in eleven is a probe. An endpoint that
/// is back reaches its share step by step: see [`SlowStart`](crate::SlowStart).
///
/// The names are Envoy's and gRPC's (A50) where they have one. [`envoy`](Self::envoy) has Envoy's values; where a
/// default differs, its documentation says why. The figures are from the simulator (feature `sim`).
///
/// ```
/// use evenkeel::{Ejection, Fleet};
/// use std::time::Duration;
///
/// let careful = Ejection::default()
///     .consecutive_failures(10)
///     .base_ejection_time(Duration::from_secs(30))
///     .max_ejection_time(Duration::from_secs(300))
///     .max_ejection_requests(0) // whatever the traffic
///     .max_ejection_percent(10);
/// let fleet: Fleet<String> = Fleet::builder().ejection(careful).build()?;
/// # Ok::<(), evenkeel::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ejection {
    /// The strength of evidence that ejects an endpoint (Page's CUSUM). Up to 50; 0 turns this off. Defaults to 11.
    ///
    /// It is the natural logarithm of a ratio: how much likelier the endpoint's outcomes are if it fails three times as
    /// often as the others (at least three in ten) than if it fails as often as they do. At 11, where no other endpoint
    /// fails, two failures with at most one success between them eject, or some three among twenty. (A timeout counts
    /// as three quarters of a failure, since the caller's deadline may have been too short: it takes three. A second in
    /// a row and later ones count for less, down to a tenth of that, if they come after less than 16 times the usual
    /// latency: there a queue alone makes timeouts, and in rows. A row longer than twice the number of requests that
    /// overlap is none of a queue, and counts in full again.) An endpoint that fails like the others, whatever their
    /// share, gets fewer than five false alarms in a million requests once the share is known (bound: e^11, one in
    /// 60 000), and a few more in the first half second after all begin to fail. Evidence fades with a time constant of
    /// 10 s, or the time of thirty requests to an endpoint if that is longer, up to ten minutes. So at low rates an
    /// endpoint that fails everything is out by its fourth failure, and two faults a day apart prove nothing. Envoy and
    /// gRPC have no such test. It replaces their failures in a row, which find an endpoint that fails three in ten
    /// after 599 requests, and eject every endpoint when all fail half.
    pub cusum_threshold: f64,
    /// Faults in a row, of any class, that eject. 0 turns this off and is the default: the sequential test finds the
    /// same sooner, and where every endpoint fails half, five in a row come every 62 requests. (Envoy's
    /// `consecutive_5xx`: 5.)
    pub consecutive_failures: u32,
    /// Timeouts and unreachable outcomes in a row that eject; a failure answer ends the row. Defaults to 0, off, for
    /// the same reason. (Envoy's `consecutive_gateway_failure`: 5, not enforced.)
    pub consecutive_gateway_failures: u32,
    /// Unreachable outcomes in a row that eject. Defaults to 0, off. (Envoy's `consecutive_local_origin_failure`: 5,
    /// where it tells these apart.)
    pub consecutive_local_origin_failures: u32,
    /// How many deviations below the others' success rate an endpoint is ejected, at most 1000. 0 turns this off and is
    /// the default, as the sequential test is seconds faster. Upkeep compares endpoints with at least
    /// [`success_rate_request_volume`](Self::success_rate_request_volume). The centre is their median. The deviation is
    /// 1.48 times the median deviation (for a normal distribution, the standard deviation), at least 2.5 percentage
    /// points: one extreme endpoint hides no other. (Envoy's `success_rate_stdev_factor` / 1000: 1.9, of mean and
    /// standard deviation.)
    pub success_rate_stdev_factor: f64,
    /// How many endpoints must have that volume. Defaults to 3: two can outvote one. (Envoy: 5, which a mean needs.)
    pub success_rate_minimum_hosts: u32,
    /// Requests in the window before an endpoint's success rate is compared. Defaults to 20, like
    /// [`minimum_volume`](Self::minimum_volume). (Envoy: 100.)
    pub success_rate_request_volume: u64,
    /// The share of faults in the window, in percent, at which an endpoint is ejected, whatever the others do. 0 turns
    /// this off and is the default: if all reach it, it ejects as many as the cap allows. (Envoy and gRPC: 85; Envoy
    /// does not enforce it.)
    pub failure_percentage_threshold: u32,
    /// How many endpoints must have that volume. Defaults to 3, so that a fleet of three is judged too. (Envoy: 5.)
    pub failure_percentage_minimum_hosts: u32,
    /// Requests in the window before a share of faults counts. Defaults to 20, like `minimum_volume`. (Envoy: 50.)
    pub failure_percentage_request_volume: u64,
    /// The multiple of the fleet's median latency above which an endpoint is ejected, at least 1. Upkeep compares at
    /// least three endpoints that have answered. 0 turns this off and is the default: policies that look at latency
    /// avoid a slow endpoint without taking its capacity away. Envoy and gRPC have no such setting.
    pub latency_factor: f64,
    /// The health score below which an endpoint is ejected, `0.0..=1.0`; 0 turns this off. Defaults to 0.5: the
    /// endpoint provably fails half of the requests that succeed elsewhere, or a sixth if it is also much slower than
    /// the others (see [`SlidingWindow`](crate::SlidingWindow)). Above 0.6, slowness alone ejects. Upkeep ejects an
    /// endpoint that is not slow only if it failed a request in the last two tenths of the [window](Self::window). An
    /// ejected endpoint returns by probes, not by its score.
    pub score_threshold: f64,
    /// Requests in the window before the score counts; 0 is the same as 1. Defaults to 20, as in Hystrix and Linkerd.
    /// Envoy's 100 in 10 s is out of reach for many clients.
    pub minimum_volume: u64,
    /// How far back the score looks, in ten buckets: 100 ms to 1 h. Defaults to 10 s, Envoy's `interval`, but sliding.
    pub window: Duration,
    /// The length of the first ejection: 1 ms to a day. Further ones in a row are longer, by
    /// [`backoff`](Self::backoff). Defaults to 2 s. (Envoy: 30 s. There an endpoint returns at full weight, which costs
    /// five failures or more. Here a try costs one probe, so it can come sooner.)
    pub base_ejection_time: Duration,
    /// The longest ejection, up to a day. A value below the base time counts as the base time, as in Envoy. At high
    /// request rates, [`max_ejection_requests`](Self::max_ejection_requests) shortens it. Defaults to 64 s, the base
    /// doubled five times. (Envoy: 300 s.)
    pub max_ejection_time: Duration,
    /// Shortens the longest ejection to the time in which the fleet sends this many requests for each ejected endpoint,
    /// but to no less than four times the base time; 0 turns this off. A probe of a dead endpoint fails one request, so
    /// there is no need to make probes rarer than one request in this many. Defaults to 10 000: 18 s at 560 requests a
    /// second. (Envoy: none.)
    pub max_ejection_requests: u64,
    /// How the length of ejections in a row grows. Defaults to [`Backoff::Doubling`]. (Envoy: [`Backoff::Linear`].) It
    /// does not grow for a probe that fails while two fifths of all requests do.
    pub backoff: Backoff,
    /// How long an endpoint must stay in for one of its ejections in a row to be forgotten: 1 ms to a day. Defaults to
    /// 30 s, three windows without an ejection. (Envoy: its interval, 10 s, with ejections of at least 30 s.)
    pub backoff_decay: Duration,
    /// Probes that must succeed in a row to bring an endpoint back: 1 to 100. Defaults to 5: an endpoint that fails
    /// three in ten passes one probe in 70 % of cases, and five in a row in 17 %. (Envoy: none; back when its time is
    /// up.)
    pub healthy_threshold: u32,
    /// How far an ejection's length is varied at random, up and down, in percent, 0 to 100, so that many clients do not
    /// return together. Defaults to 25: first probes spread over 1 s. (Envoy: `max_ejection_time_jitter`, none.)
    pub jitter_percent: u32,
    /// How many endpoints may be ejected at once, in percent by count of those with a weight, 0 to 100, rounded down.
    /// So the endpoint of a fleet that has only one is ejected with 100, and with less it never is. Defaults to 50: one
    /// dead zone of three can be out completely. (Envoy: 10.)
    pub max_ejection_percent: u32,
    /// How many endpoints the fleet can spare, in percent by count, 0 to 100, and always one; 100 turns this off.
    /// Capacity is short if more are out (ejected, marked down, or in slow start) and the others' latency has doubled,
    /// relative to each one's own latency while no more were out (the median over them). It stays short until that
    /// ratio is at most 1.5. The others cannot carry the load then, and keeping an endpoint out costs more than trying
    /// it. While capacity is short
    ///
    /// * an ejection lasts half as long, the first in a row a quarter, and those already running are cut to that.
    ///   Further ones in a row grow to no more than the time of a thirtieth of
    ///   [`max_ejection_requests`](Self::max_ejection_requests) for each ejected endpoint, or the base time if that is
    ///   longer;
    /// * returning endpoints have their ejections in a row forgotten, except the last ones, which can be spared;
    /// * passes of [checks](crate::HealthCheck) are spread over a quarter of the base time;
    /// * a [slow start](crate::SlowStart) has at least the share of endpoints that are out or in slow start.
    ///
    /// If an endpoint should be ejected but the [cap](Self::max_ejection_percent) is reached, one that is out may have
    /// recovered, and its slot is wanted. So ejected endpoints are probed after a quarter of the base time, then after
    /// the base time, then after twice as long each time (each quarter of it while nearly all requests fail), and
    /// passes of checks are spread over a quarter. With 100 this is off too.
    ///
    /// Defaults to 10, which is all that Envoy ejects by default, so it needs nothing like this. Where eight of 20 fail
    /// everything for 0.5 s of every 5.5 s, at 0.7 of the capacity, 0.6 % of all requests fail with `Adaptive` and with
    /// `PowerOfTwo`; without this 18 % and 23 % (S20 of `benches/quality.md`).
    pub spare_capacity_percent: u32,
    /// Whether one of two or more may be ejected whatever the percentage, unless that is 0. Defaults to `true`: in a
    /// fleet of three, a dead endpoint is a third of all requests. (Envoy's `always_eject_one_host`: `false`, so 10 %
    /// eject none of nine.)
    pub always_eject_one: bool,
    /// When the first probe without an outcome is given up and another may be sent: 1 ms to a day. It doubles with each
    /// ejection or lost probe in a row, up to the longest ejection. A later answer decides nothing, so set it above the
    /// time that a good answer may take. Defaults to 10 s, like the window: few answers take longer. (Envoy: none.)
    pub probe_timeout: Duration,
    /// Detectors that are counted but do not eject.
    pub(crate) detect_only: Detectors,
}

/// How the length of ejections in a row grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backoff {
    /// Each ejection is twice as long as the one before.
    Doubling,
    /// Each ejection is longer than the one before by the length of the first.
    Linear,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            cusum_threshold: 11.0,
            consecutive_failures: 0,
            consecutive_gateway_failures: 0,
            consecutive_local_origin_failures: 0,
            success_rate_stdev_factor: 0.0,
            success_rate_minimum_hosts: 3,
            success_rate_request_volume: 20,
            failure_percentage_threshold: 0,
            failure_percentage_minimum_hosts: 3,
            failure_percentage_request_volume: 20,
            latency_factor: 0.0,
            score_threshold: 0.5,
            minimum_volume: 20,
            window: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(2),
            max_ejection_time: Duration::from_secs(64),
            max_ejection_requests: 10_000,
            backoff: Backoff::Doubling,
            backoff_decay: Duration::from_secs(30),
            healthy_threshold: 5,
            jitter_percent: 25,
            max_ejection_percent: 50,
            spare_capacity_percent: 10,
            always_eject_one: true,
            probe_timeout: Duration::from_secs(10),
            detect_only: Detectors::NONE,
        }
    }
}

impl Ejection {
    /// Turns ejections off. Scores are still kept.
    #[must_use]
    pub fn off() -> Self {
        Self {
            max_ejection_percent: 0,
            ..Self::default()
        }
    }

    /// For the fleets under a [`Failover`](crate::Failover), which have somewhere else to send requests. All endpoints
    /// may be out ([`max_ejection_percent`](Self::max_ejection_percent) 100) and all can be spared
    /// ([`spare_capacity_percent`](Self::spare_capacity_percent) 100). Three [failures in a
    /// row](Self::consecutive_failures) eject whatever the others do: where a zone dies whole, each endpoint fails like
    /// its neighbours. With the defaults half of a dead zone stays in, and more than half of all requests fail.
    #[must_use]
    pub fn under_failover() -> Self {
        Self {
            max_ejection_percent: 100,
            spare_capacity_percent: 100,
            consecutive_failures: 3,
            ..Self::default()
        }
    }

    /// Envoy's detectors and values. Five faults in a row eject, and success rates 1.9 deviations below the others', as
    /// [computed here](Self::success_rate_stdev_factor). Gateway failures and failure percentage are detected, not
    /// enforced. Each ejection is 30 s longer, up to 300 s, without jitter; one is forgotten per 10 s in. At most 10 %
    /// are out, none of fewer than ten, and capacity does not count. A single good probe ends an ejection. The
    /// sequential test and the score, which Envoy does not have, are off.
    ///
    /// ```
    /// use evenkeel::{Detector, Ejection};
    ///
    /// let theirs = Ejection::envoy();
    /// assert_eq!(theirs.base_ejection_time.as_secs(), 30);
    /// assert!(!theirs.enforces(Detector::FailurePercentage));
    /// assert!(theirs.enforce(Detector::FailurePercentage).enforces(Detector::FailurePercentage));
    /// ```
    #[must_use]
    pub fn envoy() -> Self {
        Self {
            cusum_threshold: 0.0,
            consecutive_failures: 5,
            consecutive_gateway_failures: 5,
            success_rate_stdev_factor: 1.9,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            failure_percentage_threshold: 85,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            score_threshold: 0.0,
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_requests: 0,
            backoff: Backoff::Linear,
            backoff_decay: Duration::from_secs(10),
            healthy_threshold: 1,
            jitter_percent: 0,
            max_ejection_percent: 10,
            spare_capacity_percent: 100,
            always_eject_one: false,
            ..Self::default()
        }
        .detect_only(Detector::ConsecutiveGatewayFailures)
        .detect_only(Detector::FailurePercentage)
    }

    /// Counts what this detector finds without ejecting for it, to see what it would do: see
    /// [`Fleet::detections`](crate::Fleet::detections). Envoy's `enforcing_*` of 0.
    #[must_use]
    pub const fn detect_only(mut self, detector: Detector) -> Self {
        self.detect_only = self.detect_only.with(detector);
        self
    }

    /// Makes this detector eject, as all do by default. For those that [`envoy`](Self::envoy) only counts.
    #[must_use]
    pub const fn enforce(mut self, detector: Detector) -> Self {
        self.detect_only = self.detect_only.without(Detectors::NONE.with(detector));
        self
    }

    /// Whether this detector's findings eject.
    #[must_use]
    pub const fn enforces(&self, detector: Detector) -> bool {
        !self.detect_only.contains(detector)
    }

    setters! {
        cusum_threshold: f64,
        consecutive_failures: u32,
        consecutive_gateway_failures: u32,
        consecutive_local_origin_failures: u32,
        success_rate_stdev_factor: f64,
        success_rate_minimum_hosts: u32,
        success_rate_request_volume: u64,
        failure_percentage_threshold: u32,
        failure_percentage_minimum_hosts: u32,
        failure_percentage_request_volume: u64,
        latency_factor: f64,
        score_threshold: f64,
        minimum_volume: u64,
        window: Duration,
        base_ejection_time: Duration,
        max_ejection_time: Duration,
        max_ejection_requests: u64,
        backoff: Backoff,
        backoff_decay: Duration,
        healthy_threshold: u32,
        jitter_percent: u32,
        max_ejection_percent: u32,
        spare_capacity_percent: u32,
        always_eject_one: bool,
        probe_timeout: Duration,
    }

    /// The longest possible ejection, without jitter.
    pub(crate) fn longest_ejection(&self) -> Duration {
        self.max_ejection_time.max(self.base_ejection_time)
    }

    /// The longest ejection in this state of the fleet.
    pub(super) fn longest_in(&self, fleet_state: FleetState) -> Duration {
        let longest = self.longest_ejection();
        if self.max_ejection_requests == 0 {
            return longest;
        }
        // Where capacity is short, each second without an endpoint that is well again costs far more than a probe. The
        // length is halved there, so probes are no rarer than one in a thirtieth as many requests.
        let (requests, least) = match fleet_state.short {
            true => (self.max_ejection_requests / 15, 2),
            false => (self.max_ejection_requests, 4),
        };
        let enough = Duration::try_from_secs_f64(requests as f64 / fleet_state.rate);
        let least = self.base_ejection_time.saturating_mul(least).min(longest);
        enough.map_or(longest, |enough| enough.clamp(least, longest))
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let window = 100 * MILLI..=Duration::from_secs(3600);
        within(
            window,
            "from 100 ms to 1 h",
            [("Ejection::window", self.window)],
        )?;
        let spans = [
            ("Ejection::base_ejection_time", self.base_ejection_time),
            ("Ejection::probe_timeout", self.probe_timeout),
            ("Ejection::backoff_decay", self.backoff_decay),
        ];
        within(MILLI..=DAY, "from 1 ms to a day", spans)?;
        let longest = ("Ejection::max_ejection_time", self.max_ejection_time);
        within(Duration::ZERO..=DAY, "at most a day", [longest])?;
        let score = ("Ejection::score_threshold", self.score_threshold);
        within(0.0..=1.0, "from 0.0 to 1.0", [score])?;
        let cusum = ("Ejection::cusum_threshold", self.cusum_threshold);
        within(0.0..=50.0, "from 0.0 to 50.0", [cusum])?;
        let stdev = (
            "Ejection::success_rate_stdev_factor",
            self.success_rate_stdev_factor,
        );
        within(0.0..=1000.0, "from 0.0 to 1000.0", [stdev])?;
        if self.latency_factor != 0.0 {
            let latency = ("Ejection::latency_factor", self.latency_factor);
            within(1.0..=1e9, "0.0, or from 1.0 to 1e9", [latency])?;
        }
        let healthy = ("Ejection::healthy_threshold", self.healthy_threshold);
        within(1..=100, "from 1 to 100", [healthy])?;
        let percents = [
            (
                "Ejection::failure_percentage_threshold",
                self.failure_percentage_threshold,
            ),
            ("Ejection::jitter_percent", self.jitter_percent),
            ("Ejection::max_ejection_percent", self.max_ejection_percent),
            (
                "Ejection::spare_capacity_percent",
                self.spare_capacity_percent,
            ),
        ];
        within(0..=100, "from 0 to 100", percents)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
