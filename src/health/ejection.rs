//! Ejection: its settings, and its rules as functions of values.

use std::time::Duration;

use super::Health;
use crate::error::BuildError;

/// When an endpoint is taken out of rotation, for how long, and how many may be.
///
/// An ejected endpoint gets no requests until its time is up. Then one request is sent to it, the
/// probe: a success brings it back, a fault ejects it again for twice as long. So an endpoint that has
/// recovered returns within the ejection then running, at most [`max_ejection_time`](Self::max_ejection_time)
/// and jitter, given traffic: the pick that takes the probe is found within n / 64 picks of n endpoints,
/// and while probes do not end well, at most one pick in eleven is one.
///
/// The names are Envoy's and gRPC's (A50) where they have one.
///
/// ```
/// use evenkeel::{Ejection, Fleet};
/// use std::time::Duration;
///
/// let careful = Ejection::default()
///     .consecutive_failures(10)
///     .base_ejection_time(Duration::from_secs(30))
///     .max_ejection_time(Duration::from_secs(300))
///     .max_ejection_percent(10);
/// let fleet: Fleet<String> = Fleet::builder().ejection(careful).build()?;
/// # Ok::<(), evenkeel::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ejection {
    /// Faults in a row that eject. 0 turns this off. Defaults to 5, as Envoy's `consecutive_5xx`: few
    /// enough to act on a dead endpoint within five requests, and one in 3 million by chance where 5 %
    /// fail.
    pub consecutive_failures: u32,
    /// The health score below which an endpoint is ejected, `0.0..=1.0`; 0 turns this off. Defaults to
    /// 0.5: more faults than successes, or a sixth of faults at an endpoint that is much slower than the
    /// others (see [`SlidingWindow`](crate::SlidingWindow)). Above 0.6, slowness alone ejects. (Envoy
    /// compares success rates with the other endpoints' instead.)
    pub score_threshold: f64,
    /// Requests in the window before the score counts; 0 is as good as 1. Defaults to 20, Hystrix' and Linkerd's choice;
    /// Envoy's 100 in 10 s is out of reach for many a client.
    pub minimum_volume: u64,
    /// How far back the score looks: 100 ms to 1 h, in ten buckets. Defaults to 10 s, Envoy's
    /// `interval`, sliding.
    pub window: Duration,
    /// The first ejection's length: 1 ms to a day. Each further one doubles, up to
    /// [`max_ejection_time`](Self::max_ejection_time). Defaults to 2 s. (Envoy: 30 s. There a return is
    /// at full weight and costs five failures or more; here it costs one probe, so it can be tried
    /// sooner.)
    pub base_ejection_time: Duration,
    /// The longest ejection, up to a day; below the base time it counts as that, as Envoy's. Defaults to
    /// 64 s, the base doubled five times. (Envoy: 300 s.) An endpoint that stayed in for this long after
    /// an ejection starts from the base again.
    pub max_ejection_time: Duration,
    /// How far an ejection's length is moved at random, up and down, in percent, 0 to 100: so that
    /// many clients do not return together. Defaults to 25.
    pub jitter_percent: u32,
    /// How many endpoints may be ejected at once, in percent by count of those with a weight, 0 to 100,
    /// rounded down, though at least one of two or more unless this is 0. Defaults to 50: a dead zone of
    /// three can be taken out whole. (Envoy: 10, and none of fewer than ten.)
    pub max_ejection_percent: u32,
    /// When the first probe without an outcome is given up and another may be sent: 1 ms to a day. It
    /// doubles with each ejection or lost probe in a row, up to the longest ejection; an answer after that
    /// decides nothing, so set it above what a good answer may take. Defaults to 10 s.
    pub probe_timeout: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            score_threshold: 0.5,
            minimum_volume: 20,
            window: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(2),
            max_ejection_time: Duration::from_secs(64),
            jitter_percent: 25,
            max_ejection_percent: 50,
            probe_timeout: Duration::from_secs(10),
        }
    }
}

macro_rules! setters {
    ($($field:ident: $type:ty,)*) => { $(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
        #[must_use]
        pub const fn $field(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
    )* };
}

impl Ejection {
    /// No ejections at all. Scores are still kept.
    #[must_use]
    pub fn off() -> Self {
        Self {
            max_ejection_percent: 0,
            ..Self::default()
        }
    }

    setters! {
        consecutive_failures: u32,
        score_threshold: f64,
        minimum_volume: u64,
        window: Duration,
        base_ejection_time: Duration,
        max_ejection_time: Duration,
        jitter_percent: u32,
        max_ejection_percent: u32,
        probe_timeout: Duration,
    }

    /// The longest that an ejection may be, jitter aside.
    pub(crate) fn longest_ejection(&self) -> Duration {
        self.max_ejection_time.max(self.base_ejection_time)
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        const MILLI: Duration = Duration::from_millis(1);
        const DAY: Duration = Duration::from_secs(86_400);
        let span = |field, value: Duration, least, most, expected| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(BuildError::setting(field, value, expected))
            }
        };
        span(
            "Ejection::window",
            self.window,
            100 * MILLI,
            Duration::from_secs(3600),
            "from 100 ms to 1 h",
        )?;
        span(
            "Ejection::base_ejection_time",
            self.base_ejection_time,
            MILLI,
            DAY,
            "from 1 ms to a day",
        )?;
        span(
            "Ejection::max_ejection_time",
            self.max_ejection_time,
            Duration::ZERO,
            DAY,
            "at most a day",
        )?;
        span(
            "Ejection::probe_timeout",
            self.probe_timeout,
            MILLI,
            DAY,
            "from 1 ms to a day",
        )?;
        if !(0.0..=1.0).contains(&self.score_threshold) {
            return Err(BuildError::setting(
                "Ejection::score_threshold",
                self.score_threshold,
                "from 0.0 to 1.0",
            ));
        }
        for (field, percent) in [
            ("Ejection::jitter_percent", self.jitter_percent),
            ("Ejection::max_ejection_percent", self.max_ejection_percent),
        ] {
            if percent > 100 {
                return Err(BuildError::setting(field, percent, "from 0 to 100"));
            }
        }
        Ok(())
    }
}

/// Whether a health is bad enough, on enough evidence.
pub(crate) fn earned_ejection(settings: &Ejection, health: Health) -> bool {
    // Anew, as the fields are public.
    let health = Health::new(health.score, health.samples);
    health.samples >= settings.minimum_volume.max(1) && health.score < settings.score_threshold
}

/// The length of the `times`-th ejection in a row, `random` deciding the jitter.
pub(crate) fn ejection_time(settings: &Ejection, times: u32, random: u64) -> Duration {
    let doublings = times.saturating_sub(1).min(31);
    let length = settings
        .base_ejection_time
        .saturating_mul(1 << doublings)
        .min(settings.longest_ejection());
    let swing = u64::from(settings.jitter_percent) * 10_000;
    // Parts per million: from 1 - swing to 1 + swing.
    let factor = 1_000_000 - swing + random % (2 * swing + 1);
    let nanos = length.as_nanos() * u128::from(factor) / 1_000_000;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(Duration::from_millis(1))
}

/// How long the probe after the `times`-th ejection in a row may take. It doubles like the ejections: an
/// endpoint that answers later than the first timeout still gets to show that it does.
pub(crate) fn probe_time(settings: &Ejection, times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(31);
    let longest = settings.longest_ejection().max(settings.probe_timeout);
    settings
        .probe_timeout
        .saturating_mul(1 << doublings)
        .min(longest)
}

/// How many of `count` endpoints may be ejected at once.
pub(crate) fn ejection_limit(count: usize, max_percent: u32) -> usize {
    match (count, max_percent) {
        (0 | 1, _) | (_, 0) => 0,
        _ => (count * max_percent as usize / 100).max(1),
    }
}

/// Whether health is to be ignored: less than `threshold_percent` of the endpoints are eligible.
#[inline]
pub(crate) fn panicking(count: usize, refused: usize, threshold_percent: u32) -> bool {
    count.saturating_sub(refused) * 100 < count * threshold_percent as usize
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cap_is_floored_and_at_least_one_of_two() {
        let table = [
            (0, 50, 0),
            (1, 100, 0),
            (2, 50, 1),
            (2, 10, 1),
            (3, 50, 1),
            (4, 50, 2),
            (9, 10, 1),
            (10, 10, 1),
            (21, 50, 10),
            (100, 33, 33),
            (5, 0, 0),
            (5, 100, 5),
        ];
        for (count, percent, limit) in table {
            assert_eq!(
                ejection_limit(count, percent),
                limit,
                "{percent} % of {count}"
            );
        }
    }

    #[test]
    fn panic_below_half_and_not_at_half() {
        assert!(!panicking(4, 2, 50));
        assert!(panicking(4, 3, 50));
        assert!(!panicking(0, 0, 50));
        assert!(!panicking(4, 4, 0));
        assert!(panicking(3, 2, 50));
    }

    #[test]
    fn lengths_double_to_the_maximum() {
        let settings = Ejection::default().jitter_percent(0);
        let seconds: Vec<u64> = (1..9)
            .map(|times| ejection_time(&settings, times, 7).as_secs())
            .collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 64, 64]);
    }

    proptest! {
        #[test]
        fn a_length_stays_within_its_jitter(times in 0u32.., random: u64, base in 1u64..86_400_000, jitter in 0u32..=100) {
            let settings = Ejection::default()
                .base_ejection_time(Duration::from_millis(base))
                .max_ejection_time(Duration::from_secs(86_400))
                .jitter_percent(jitter);
            let plain = ejection_time(&settings.clone().jitter_percent(0), times, 0);
            let length = ejection_time(&settings, times, random);
            let share = f64::from(jitter) / 100.0;
            prop_assert!(length.as_secs_f64() <= plain.as_secs_f64() * (1.0 + share) + 1e-6);
            prop_assert!(length.as_secs_f64() >= plain.as_secs_f64() * (1.0 - share) - 1e-6);
        }

        #[test]
        fn no_setting_brings_a_rule_down(times: u32, random: u64, base: u64, max: u64, score: f64) {
            let settings = Ejection::default()
                .base_ejection_time(Duration::from_secs(base))
                .max_ejection_time(Duration::from_secs(max))
                .score_threshold(score);
            let _ = settings.check();
            let _ = ejection_time(&settings, times, random);
            let _ = earned_ejection(&settings, Health::new(score, random));
        }
    }

    #[test]
    fn each_setting_out_of_range_is_named() {
        let good = Ejection::default;
        let table = [
            (good().window(Duration::ZERO), "Ejection::window is 0ns"),
            (good().window(Duration::MAX), "Ejection::window is"),
            (
                good().base_ejection_time(Duration::ZERO),
                "Ejection::base_ejection_time is 0ns",
            ),
            (
                good().max_ejection_time(Duration::MAX),
                "Ejection::max_ejection_time is",
            ),
            (
                good().probe_timeout(Duration::MAX),
                "Ejection::probe_timeout is",
            ),
            (
                good().score_threshold(f64::NAN),
                "Ejection::score_threshold is NaN",
            ),
            (
                good().score_threshold(-0.1),
                "Ejection::score_threshold is -0.1",
            ),
            (
                good().jitter_percent(101),
                "Ejection::jitter_percent is 101",
            ),
            (
                good().max_ejection_percent(101),
                "Ejection::max_ejection_percent is 101",
            ),
        ];
        for (settings, message) in table {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        assert_eq!(good().check(), Ok(()));
        assert_eq!(Ejection::off().check(), Ok(()));
    }
}
