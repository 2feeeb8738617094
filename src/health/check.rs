//! Active checks: their settings, and their rules as functions of values. The fleet's
//! [`HealthCheck`](crate::HealthCheck) is the driver that schedules them.

use std::time::Duration;

use crate::error::BuildError;
use crate::outcome::Outcome;
use crate::settings::{DAY, MILLI, setters, within};

/// How endpoints are checked, how often, and how many results bring one back or take one out.
///
/// The names are Envoy's where it has one. [`envoy`](Self::envoy) has Envoy's values; for the first four settings Envoy
/// has no defaults. An interval runs from the end of one check to the start of the next.
///
/// ```
/// use evenkeel::{Fleet, HealthCheckSettings};
/// use std::time::Duration;
///
/// let fleet: Fleet<String> = ["a", "b"].map(String::from).into_iter().collect();
/// let eager = HealthCheckSettings::default()
///     .interval(Duration::from_secs(1))
///     .timeout(Duration::from_millis(250))
///     .unhealthy_threshold(2);
/// let mut checks = fleet.health_check(eager)?;
/// assert_eq!(checks.tick().len(), 2);
/// # Ok::<(), evenkeel::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthCheckSettings {
    /// From one check of a passing endpoint to the next: 1 ms to a day. Defaults to 5 s, as in NGINX Plus and Google
    /// Cloud.
    pub interval: Duration,
    /// How long an answer may take: 1 ms to a day. Defaults to 1 s, as in Kubernetes.
    pub timeout: Duration,
    /// Passes in a row that bring back an endpoint ejected by checks, at least 1. An endpoint ejected by requests needs
    /// more: see [`HealthCheck`](crate::HealthCheck). Defaults to 2, HAProxy's `rise`: a process that has just started
    /// may answer once and die.
    pub healthy_threshold: u32,
    /// Checks in a row without an answer (timeout, unreachable) that take an endpoint out, at least 1. Defaults to 3,
    /// HAProxy's `fall`: a packet may be lost, and so may its retransmission. A failure answer takes the endpoint out
    /// at once, whatever this setting is, as in Envoy.
    pub unhealthy_threshold: u32,
    /// From one failed check of an ejected endpoint to the next: 1 ms to a day. Unset by default: then
    /// [`interval`](Self::interval), at most 1 s. (Envoy: the interval, for which a recovered endpoint is missed.)
    /// Where [capacity is short](crate::Ejection::spare_capacity_percent), the next check comes no later than an
    /// ejection would end that began then: for the first ejection in a row, a quarter of
    /// [`Ejection::base_ejection_time`](crate::Ejection::base_ejection_time).
    pub unhealthy_interval: Option<Duration>,
    /// The interval for an ejected endpoint that has passed, but not often enough to come back: 1 ms to a day. Unset by
    /// default: then [`interval`](Self::interval), at most 1 s. (Envoy: the interval. An endpoint that is back sooner
    /// serves sooner.)
    pub healthy_edge_interval: Option<Duration>,
    /// The interval for an endpoint that left checks unanswered, but not often enough to be taken out: 1 ms to a day.
    /// Unset by default: then [`unhealthy_interval`](Self::unhealthy_interval), at most 1 s. (Envoy: the unhealthy
    /// interval. In the meantime requests go to an endpoint that is likely dead.)
    pub unhealthy_edge_interval: Option<Duration>,
    /// The interval that replaces all others until the fleet has had a request: 1 ms to a day. Unset by default: then
    /// lack of traffic makes no difference. (Envoy: 60 s. A proxy is set up with many clusters that it may never use. A
    /// fleet in a process is there to be used, and its first request should not meet an endpoint that died a minute
    /// ago.) Traffic is noticed within a second, and checks are brought forward then.
    pub no_traffic_interval: Option<Duration>,
    /// The time within which an endpoint's first check comes, at random, after it is first seen: up to a day. Defaults
    /// to 0, as in Envoy: the check comes at once, within [`max_probes`](Self::max_probes).
    pub initial_jitter: Duration,
    /// How much longer an interval may be at random, in percent, 0 to 100, so that many clients do not check together.
    /// Defaults to 10: that separates clients that began together and hardly delays detection. (Envoy's
    /// `interval_jitter_percent`: 0.)
    pub jitter_percent: u32,
    /// How many checks may be under way at once, over all endpoints, at least 1. Defaults to 64: with answers within
    /// 10 ms, that allows 6400 checks a second. (Envoy has no such limit.)
    pub max_probes: usize,
}

impl Default for HealthCheckSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            unhealthy_interval: None,
            healthy_edge_interval: None,
            unhealthy_edge_interval: None,
            no_traffic_interval: None,
            initial_jitter: Duration::ZERO,
            jitter_percent: 10,
            max_probes: 64,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl HealthCheckSettings {
    /// Envoy's settings: the four that it requires, and its defaults for the rest. The interval stays the same after a
    /// failed check, is 60 s while there is no traffic, and has no jitter.
    ///
    /// ```
    /// use evenkeel::HealthCheckSettings;
    /// use std::time::Duration;
    ///
    /// let theirs = HealthCheckSettings::envoy(Duration::from_secs(10), Duration::from_secs(2), 3, 2);
    /// assert_eq!(theirs.no_traffic_interval, Some(Duration::from_secs(60)));
    /// assert_eq!(theirs.unhealthy_interval, Some(theirs.interval));
    /// ```
    #[must_use]
    pub fn envoy(
        interval: Duration,
        timeout: Duration,
        unhealthy_threshold: u32,
        healthy_threshold: u32,
    ) -> Self {
        Self {
            interval,
            timeout,
            healthy_threshold,
            unhealthy_threshold,
            unhealthy_interval: Some(interval),
            healthy_edge_interval: Some(interval),
            unhealthy_edge_interval: Some(interval),
            no_traffic_interval: Some(Duration::from_secs(60)),
            initial_jitter: Duration::ZERO,
            jitter_percent: 0,
            ..Self::default()
        }
    }

    setters! {
        interval: Duration,
        timeout: Duration,
        healthy_threshold: u32,
        unhealthy_threshold: u32,
        unhealthy_interval: Duration => Some(unhealthy_interval),
        healthy_edge_interval: Duration => Some(healthy_edge_interval),
        unhealthy_edge_interval: Duration => Some(unhealthy_edge_interval),
        no_traffic_interval: Duration => Some(no_traffic_interval),
        initial_jitter: Duration,
        jitter_percent: u32,
        max_probes: usize,
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let spans = [
            ("HealthCheckSettings::interval", Some(self.interval)),
            ("HealthCheckSettings::timeout", Some(self.timeout)),
            (
                "HealthCheckSettings::unhealthy_interval",
                self.unhealthy_interval,
            ),
            (
                "HealthCheckSettings::healthy_edge_interval",
                self.healthy_edge_interval,
            ),
            (
                "HealthCheckSettings::unhealthy_edge_interval",
                self.unhealthy_edge_interval,
            ),
            (
                "HealthCheckSettings::no_traffic_interval",
                self.no_traffic_interval,
            ),
        ];
        let spans = spans
            .into_iter()
            .filter_map(|(field, span)| Some((field, span?)));
        within(MILLI..=DAY, "from 1 ms to a day", spans)?;
        let initial = ("HealthCheckSettings::initial_jitter", self.initial_jitter);
        within(Duration::ZERO..=DAY, "at most a day", [initial])?;
        let jitter = ("HealthCheckSettings::jitter_percent", self.jitter_percent);
        within(0..=100, "from 0 to 100", [jitter])?;
        let thresholds = [
            (
                "HealthCheckSettings::healthy_threshold",
                self.healthy_threshold,
            ),
            (
                "HealthCheckSettings::unhealthy_threshold",
                self.unhealthy_threshold,
            ),
        ];
        within(1..=u32::MAX, "at least 1", thresholds)?;
        let probes = ("HealthCheckSettings::max_probes", self.max_probes);
        within(1..=usize::MAX, "at least 1", [probes])
    }

    /// The time until the next check. `random` decides the jitter. Never below 1 ms.
    pub(crate) fn wait(&self, pace: Pace, had_traffic: bool, random: u64) -> Duration {
        let short = self.interval.min(SECOND);
        let unhealthy = self.unhealthy_interval.unwrap_or(short);
        let usual = match pace {
            Pace::Passing => self.interval,
            Pace::Failing => unhealthy,
            Pace::Recovering => self.healthy_edge_interval.unwrap_or(short),
            Pace::Doubted => self
                .unhealthy_edge_interval
                .unwrap_or_else(|| unhealthy.min(SECOND)),
        };
        let length = match self.no_traffic_interval {
            Some(idle) if !had_traffic => idle,
            _ => usual,
        };
        let most = length.as_nanos() * u128::from(self.jitter_percent) / 100;
        let more = u128::from(random) % most.max(1);
        // Below two days if the settings passed `check`.
        let more = Duration::from_nanos(u64::try_from(more).unwrap_or(u64::MAX));
        length.saturating_add(more).max(MILLI)
    }

    /// The time from when an endpoint is first seen to its first check.
    pub(crate) fn first_wait(&self, random: u64) -> Duration {
        let most = self.initial_jitter.as_nanos().max(1);
        let wait = u128::from(random) % most;
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// The time after which a check without a result is given up and counts as a timeout. It is twice the timeout,
    /// since the caller's timer fires a little late and its result comes later still.
    pub(crate) const fn patience(&self) -> Duration {
        self.timeout.saturating_mul(2)
    }

    /// An upper bound for every wait. It includes the jitter, which at most doubles an interval.
    pub(crate) fn longest_wait(&self) -> Duration {
        [
            Some(self.initial_jitter),
            Some(self.patience()),
            Some(self.interval),
            self.unhealthy_interval,
            self.healthy_edge_interval,
            self.unhealthy_edge_interval,
            self.no_traffic_interval,
        ]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or_default()
        .saturating_mul(2)
    }
}

/// What a check's outcome says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    Pass,
    /// No answer. Counts towards the unhealthy threshold.
    NoAnswer,
    /// A failure answer. Decides at once.
    Fail,
    Inconclusive,
}

impl CheckResult {
    pub(crate) const fn by(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Pass,
            Outcome::Timeout | Outcome::Unreachable => Self::NoAnswer,
            Outcome::Failure | Outcome::GoingAway => Self::Fail,
            Outcome::Overloaded { .. } | Outcome::Ignored | Outcome::Abandoned => {
                Self::Inconclusive
            }
        }
    }
}

/// How a check's result counts for its endpoint's sequential test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CheckWeighing {
    /// It counts if the endpoint is under suspicion. The error rate of the others is taken to be at least this share.
    IfSuspect(f32),
    /// It counts even if the endpoint is not under suspicion: it was checked because others are.
    Anyway,
}

/// Which interval applies before the next check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It passes: `interval`.
    Passing,
    /// It fails: `unhealthy_interval`.
    Failing,
    /// It passed, but not often enough yet: `healthy_edge_interval`.
    Recovering,
    /// It gave no answer, but not often enough yet: `unhealthy_edge_interval`.
    Doubted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// There is no result yet.
    Unknown,
    Passing,
    Failing,
}

/// The state of one endpoint according to its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    verdict: Verdict,
    /// How many results in a row contradict the verdict.
    row: u32,
}

impl Checked {
    /// No result yet: the first result decides.
    pub(crate) const UNKNOWN: Self = Self::new(Verdict::Unknown);
    /// Passing, with no result to the contrary.
    pub(crate) const PASSING: Self = Self::new(Verdict::Passing);

    const fn new(verdict: Verdict) -> Self {
        Self { verdict, row: 0 }
    }

    pub(crate) fn is_failing(self) -> bool {
        self.verdict == Verdict::Failing
    }

    /// Turns an unknown state into passing.
    pub(crate) fn or_passing(self) -> Self {
        match self.verdict {
            Verdict::Unknown => Self::PASSING,
            _ => self,
        }
    }

    /// The state once the endpoint is found ejected, by checks or by requests. From then on it takes the healthy
    /// threshold to come back. Passes from before the ejection do not count.
    pub(crate) fn after_ejection(self) -> Self {
        if self.is_failing() {
            self
        } else {
            Self::new(Verdict::Failing)
        }
    }

    /// The state after this result, and the pace of the next check.
    pub(crate) fn after(self, settings: &HealthCheckSettings, result: CheckResult) -> (Self, Pace) {
        let row = self.row.saturating_add(1);
        let with_row = Self { row, ..self };
        match (result, self.verdict) {
            (CheckResult::Inconclusive, Verdict::Failing) => (self, Pace::Failing),
            (CheckResult::Inconclusive, _) if self.row > 0 => (self, Pace::Doubted),
            (CheckResult::Inconclusive, _) => (self, Pace::Passing),
            (CheckResult::Pass, Verdict::Failing) if row < settings.healthy_threshold => {
                (with_row, Pace::Recovering)
            }
            (CheckResult::NoAnswer, Verdict::Passing) if row < settings.unhealthy_threshold => {
                (with_row, Pace::Doubted)
            }
            (CheckResult::Pass, _) => (Self::PASSING, Pace::Passing),
            (CheckResult::NoAnswer | CheckResult::Fail, _) => {
                (Self::new(Verdict::Failing), Pace::Failing)
            }
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
