//! How a new or returning endpoint reaches its full share of traffic: [`SlowStart`].

use std::time::Duration;

use crate::error::BuildError;
use crate::settings::{DAY, setters, within};

/// How an endpoint that returns from an ejection, or is new, reaches its full share of traffic.
///
/// The share grows step by step, so that an endpoint that has not recovered fails few requests, and a recovered one can
/// warm up. This holds for every policy: a pick that falls on such an endpoint goes there with the probability below,
/// and to another endpoint otherwise.
///
/// ```text
/// share = max(minimum_share, (t / window) ^ (1 / aggression), missing)          t: time since it came
/// ```
///
/// `missing` applies to returning endpoints only. It is the share of endpoints that are out or in slow start, if that
/// leaves the others short of capacity ([`Ejection::spare_capacity_percent`](crate::Ejection::spare_capacity_percent)),
/// and 0 otherwise. If four of ten return at once, each begins at 0.4, since the others cannot take everything that the
/// four do not.
///
/// If [checks](crate::HealthCheck) brought back an endpoint that requests had ejected, the time for which it passed
/// them counts too, up to half of the window. By default that is 2 s
/// ([`Ejection::base_ejection_time`](crate::Ejection::base_ejection_time)). During slow start, half of the evidence is
/// enough to eject an endpoint that was ejected before.
///
/// The initial set of a fleet has no slow start, and neither has a set that replaces all endpoints: there would be no
/// other endpoint to take over the requests.
///
/// Source: Envoy's slow start, with its formula and names (`slow_start_window`, `aggression`, `min_weight_percent`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SlowStart {
    /// How long slow start takes, up to a day. Zero turns it off. Defaults to 5 s: in the simulator's scenarios with
    /// cold and returning servers, 10 s cost more than they saved. (Envoy: off.)
    pub window: Duration,
    /// The shape of the ramp, from 0.1 to 10. Above 1 the share grows fast at first, below 1 slowly. Defaults to 1,
    /// which is linear, as in Envoy.
    pub aggression: f64,
    /// The smallest share, 0.01 to 1. Defaults to 0.1, as in Envoy.
    pub minimum_share: f64,
    /// Whether endpoints that an update adds begin with slow start too. Defaults to `false`: a policy that looks at
    /// latency sees by itself that an endpoint is cold, and with a policy that does not, a new endpoint gets exactly
    /// its share. (Envoy applies slow start to both or to neither.)
    pub new_endpoints: bool,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(5),
            aggression: 1.0,
            minimum_share: 0.1,
            new_endpoints: false,
        }
    }
}

impl SlowStart {
    /// Turns slow start off: an endpoint gets its full share at once.
    #[must_use]
    pub fn off() -> Self {
        Self {
            window: Duration::ZERO,
            ..Self::default()
        }
    }

    setters! {
        window: Duration,
        aggression: f64,
        minimum_share: f64,
        new_endpoints: bool,
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        within(
            Duration::ZERO..=DAY,
            "at most a day",
            [("SlowStart::window", self.window)],
        )?;
        let aggression = ("SlowStart::aggression", self.aggression);
        within(0.1..=10.0, "from 0.1 to 10.0", [aggression])?;
        let share = ("SlowStart::minimum_share", self.minimum_share);
        within(0.01..=1.0, "from 0.01 to 1.0", [share])
    }

    /// The share of an endpoint whose slow start began this long ago, without the part that is `missing`.
    pub(crate) fn share(&self, since: Duration) -> f64 {
        if since >= self.window {
            return 1.0;
        }
        let passed = since.as_secs_f64() / self.window.as_secs_f64();
        let share = if self.aggression == 1.0 {
            passed
        } else {
            passed.powf(1.0 / self.aggression)
        };
        share.clamp(self.minimum_share.min(1.0), 1.0)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_named() {
        let good = SlowStart::default;
        let table = [
            (good().window(Duration::MAX), "SlowStart::window is"),
            (good().aggression(0.0), "SlowStart::aggression is 0"),
            (good().aggression(f64::NAN), "SlowStart::aggression is NaN"),
            (good().minimum_share(0.0), "SlowStart::minimum_share is 0"),
            (good().minimum_share(1.1), "SlowStart::minimum_share is 1.1"),
        ];
        for (settings, message) in table {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        assert_eq!(good().check(), Ok(()));
        assert_eq!(SlowStart::off().check(), Ok(()));
        assert_eq!(SlowStart::off().share(Duration::ZERO), 1.0);
    }

    fn share(settings: &SlowStart, millis: u64) -> f64 {
        settings.share(Duration::from_millis(millis))
    }

    #[test]
    fn envoy_case_94_shares_over_a_minute() {
        let minute = SlowStart::default().window(Duration::from_secs(60));
        let table = [
            (12_000, 0.2),
            (20_000, 0.333),
            (0, 0.1),
            (5_999, 0.1),
            (59_999, 1.0),
            (60_000, 1.0),
            (600_000, 1.0),
        ];
        for (millis, expected) in table {
            let share = share(&minute, millis);
            assert!((share - expected).abs() < 0.001, "{millis} ms: {share}");
        }
    }

    #[test]
    fn envoy_case_96_shares_by_aggression() {
        let table = [(1.5, 9, 0.932), (1.0, 5, 0.5), (1.0, 6, 0.6)];
        for (aggression, seconds, expected) in table {
            let ten = SlowStart::default().window(Duration::from_secs(10));
            let share = share(&ten.aggression(aggression), seconds * 1_000);
            assert!((share - expected).abs() < 0.001, "{seconds} s: {share}");
        }
    }
}
