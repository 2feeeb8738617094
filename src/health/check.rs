//! Active checks: their settings, and their rules as functions of values. Who sends them is the fleet's
//! [`HealthCheck`](crate::HealthCheck).

use std::time::Duration;

use crate::error::BuildError;
use crate::outcome::Outcome;

/// How endpoints are checked, how often, and how many answers it takes.
///
/// The names are Envoy's where it has one, and [`envoy`](Self::envoy) has its values; it has no defaults for the first four. An interval runs from
/// the end of one check to the start of the next.
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
    /// From one check of an endpoint that passes to the next: 1 ms to a day. Defaults to 5 s, as of
    /// NGINX Plus and Google Cloud.
    pub interval: Duration,
    /// How long an answer may take: 1 ms to a day. Defaults to 1 s, Kubernetes' choice.
    pub timeout: Duration,
    /// Passes in a row that bring back an endpoint that checks ejected, at least 1; more if requests ejected it, see
    /// [`HealthCheck`](crate::HealthCheck). Defaults to 2, HAProxy's `rise`: a process that has just started may answer once and die.
    pub healthy_threshold: u32,
    /// Checks in a row without an answer (timeout, unreachable) that take an endpoint out, at least 1.
    /// Defaults to 3, HAProxy's `fall`: a packet may be lost, and the one sent again too. An answer that
    /// is a failure takes it out at once, whatever this is, as in Envoy.
    pub unhealthy_threshold: u32,
    /// From one failed check of an ejected endpoint to the next: 1 ms to a day. Unset by default: then [`interval`](Self::interval), at
    /// most 1 s. (Envoy: the interval, for which a recovered endpoint is missed.) Shorter where capacity is short: about half of
    /// [`Ejection::base_ejection_time`](crate::Ejection::base_ejection_time).
    pub unhealthy_interval: Option<Duration>,
    /// The same while passes are too few to bring it back. Unset by default: then the interval, at most 1 s. (Envoy: the interval. An
    /// endpoint back sooner serves sooner.)
    pub healthy_edge_interval: Option<Duration>,
    /// The same while unanswered checks are too few to take it out. Unset by default: then the interval, at most 1 s. (Envoy: the unhealthy
    /// interval. Meanwhile requests go to an endpoint that is likely dead.)
    pub unhealthy_edge_interval: Option<Duration>,
    /// The interval in place of all others until the fleet has had a request: 1 ms to a day. Unset by
    /// default: then there is no difference. (Envoy: 60 s. A proxy is set up with many clusters that it
    /// may never use; a fleet in a process is there to be used, and its first request should not meet an
    /// endpoint that died a minute ago.) Traffic is noticed within a second, and checks then come sooner.
    pub no_traffic_interval: Option<Duration>,
    /// An endpoint's first check comes at random within this time after it is first seen, up to a day.
    /// Defaults to 0, as Envoy's: at once, within [`max_probes`](Self::max_probes).
    pub initial_jitter: Duration,
    /// How much longer an interval may be at random, in percent, 0 to 100: so that many clients do
    /// not check together. Defaults to 10: it parts clients that began together, and finds hardly later. (Envoy's `interval_jitter_percent`: 0.)
    pub jitter_percent: u32,
    /// How many checks may be under way at once, over all endpoints, at least 1. Defaults to 64: with
    /// answers within 10 ms, 6400 checks a second. (Envoy has no such bound.)
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

macro_rules! setters {
    ($($field:ident: $type:ty => $value:expr,)*) => { $(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
        #[must_use]
        pub const fn $field(mut self, $field: $type) -> Self {
            self.$field = $value;
            self
        }
    )* };
}

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

impl HealthCheckSettings {
    /// As Envoy has them: these four, which it wants to be given, and its defaults for the rest. That is, after a failed check the interval as
    /// ever, 60 s while there is no traffic, and no jitter.
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
        interval: Duration => interval,
        timeout: Duration => timeout,
        healthy_threshold: u32 => healthy_threshold,
        unhealthy_threshold: u32 => unhealthy_threshold,
        unhealthy_interval: Duration => Some(unhealthy_interval),
        healthy_edge_interval: Duration => Some(healthy_edge_interval),
        unhealthy_edge_interval: Duration => Some(unhealthy_edge_interval),
        no_traffic_interval: Duration => Some(no_traffic_interval),
        initial_jitter: Duration => initial_jitter,
        jitter_percent: u32 => jitter_percent,
        max_probes: usize => max_probes,
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        const SPAN: &str = "from 1 ms to a day";
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
        for (field, span) in spans {
            if let Some(span) = span.filter(|span| !(MILLI..=DAY).contains(span)) {
                return Err(BuildError::setting(field, span, SPAN));
            }
        }
        if self.initial_jitter > DAY {
            return Err(BuildError::setting(
                "HealthCheckSettings::initial_jitter",
                self.initial_jitter,
                "at most a day",
            ));
        }
        if self.jitter_percent > 100 {
            return Err(BuildError::setting(
                "HealthCheckSettings::jitter_percent",
                self.jitter_percent,
                "from 0 to 100",
            ));
        }
        for (field, count) in [
            (
                "HealthCheckSettings::healthy_threshold",
                self.healthy_threshold as usize,
            ),
            (
                "HealthCheckSettings::unhealthy_threshold",
                self.unhealthy_threshold as usize,
            ),
            ("HealthCheckSettings::max_probes", self.max_probes),
        ] {
            if count == 0 {
                return Err(BuildError::setting(field, count, "at least 1"));
            }
        }
        Ok(())
    }

    /// How long until the next check, `random` deciding the jitter. Never below 1 ms.
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
        // Below two days, as `check` has been passed.
        let more = Duration::from_nanos(u64::try_from(more).unwrap_or(u64::MAX));
        length.saturating_add(more).max(MILLI)
    }

    /// When the first check of an endpoint comes after it has been seen.
    pub(crate) fn first_wait(&self, random: u64) -> Duration {
        let most = self.initial_jitter.as_nanos().max(1);
        let wait = u128::from(random) % most;
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// From when on a check without a word is given up, and counts as a timeout. Twice the timeout: the
    /// caller's timer is a little late, its answer later still.
    pub(crate) const fn patience(&self) -> Duration {
        self.timeout.saturating_mul(2)
    }

    /// No wait is longer than this.
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

/// What a check's outcome says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Pass,
    /// No answer: counts towards the unhealthy threshold.
    Miss,
    /// A bad answer: decides at once.
    Fail,
    Nothing,
}

impl Told {
    pub(crate) const fn by(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Pass,
            Outcome::Timeout | Outcome::Unreachable => Self::Miss,
            Outcome::Failure | Outcome::GoingAway => Self::Fail,
            Outcome::Overloaded { .. } | Outcome::Ignored | Outcome::Abandoned => Self::Nothing,
        }
    }
}

/// How a check's result counts for the sequential test of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Test {
    /// If the endpoint is under suspicion, and against others of which at least this share fail.
    IfSuspect(f32),
    /// Also if it is not: it was looked at because others are.
    Anyway,
}

/// How soon the next check comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It passes: the interval.
    Passing,
    /// It fails: the unhealthy interval.
    Failing,
    /// It passed, not yet often enough: the healthy edge interval.
    Recovering,
    /// It gave no answer, not yet often enough: the unhealthy edge interval.
    Doubted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// No result yet.
    Unknown,
    Passing,
    Failing,
}

/// What the checks of one endpoint say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    verdict: Verdict,
    /// Results in a row that speak against the verdict.
    row: u32,
}

impl Checked {
    /// Nothing: the first result decides.
    pub(crate) const UNKNOWN: Self = Self::new(Verdict::Unknown);
    /// It passes, as far as is known.
    pub(crate) const PASSING: Self = Self::new(Verdict::Passing);

    const fn new(verdict: Verdict) -> Self {
        Self { verdict, row: 0 }
    }

    pub(crate) fn is_failing(self) -> bool {
        self.verdict == Verdict::Failing
    }

    /// Passing, if nothing is known.
    pub(crate) fn or_passing(self) -> Self {
        match self.verdict {
            Verdict::Unknown => Self::PASSING,
            _ => self,
        }
    }

    /// It has been found to be out, by whomever: it takes the healthy threshold to come back. Passes of
    /// before it was out do not count.
    pub(crate) fn found_out(self) -> Self {
        if self.is_failing() {
            self
        } else {
            Self::new(Verdict::Failing)
        }
    }

    /// After this result; and how soon the next check is to come.
    pub(crate) fn after(self, settings: &HealthCheckSettings, told: Told) -> (Self, Pace) {
        let (verdict, against, threshold, doubt) = match (told, self.verdict) {
            (Told::Nothing, Verdict::Failing) => return (self, Pace::Failing),
            (Told::Nothing, _) if self.row > 0 => return (self, Pace::Doubted),
            (Told::Nothing, _) => return (self, Pace::Passing),
            (Told::Pass, Verdict::Failing) => (
                Verdict::Passing,
                Verdict::Failing,
                settings.healthy_threshold,
                Pace::Recovering,
            ),
            (Told::Miss, Verdict::Passing) => (
                Verdict::Failing,
                Verdict::Passing,
                settings.unhealthy_threshold,
                Pace::Doubted,
            ),
            (Told::Pass, _) => return (Self::PASSING, Pace::Passing),
            (Told::Miss | Told::Fail, _) => return (Self::new(Verdict::Failing), Pace::Failing),
        };
        let row = self.row.saturating_add(1);
        if row < threshold {
            let verdict = against;
            return (Self { verdict, row }, doubt);
        }
        let pace = match verdict {
            Verdict::Failing => Pace::Failing,
            _ => Pace::Passing,
        };
        (Self::new(verdict), pace)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
