//! The panic rule: when so few endpoints are eligible that health no longer counts. See [`PanicRule`].

use crate::error::BuildError;
use crate::settings::{setters, within};

/// What to do when too few endpoints are eligible.
///
/// With that many endpoints out, the fault is more likely in something they share than in each of them, and the few
/// that are left could not carry the load.
///
/// Panic begins when the share of eligible endpoints falls below [`threshold_percent`](Self::threshold_percent). It
/// ends when the share reaches that threshold plus [`hysteresis_percent`](Self::hysteresis_percent). An endpoint is
/// eligible if it is neither ejected nor marked down; the share is of the endpoints with a weight.
/// [`Stats::panicking`](crate::Stats::panicking) tells whether panic is on, and [events](crate::FleetBuilder::events)
/// tell when it began and ended.
///
/// [`Tiers`](crate::Tiers) applies the same rule to each priority separately, and only while all priorities together
/// cannot carry the load.
///
/// ```
/// use evenkeel::{Cluster, Fleet, Mark, PanicAction, PanicRule, PickError};
///
/// let rule = PanicRule::default().action(PanicAction::FailFast);
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b", "c"].map(String::from))
///     .panic_rule(rule)
///     .build()?;
/// for key in ["a", "b"] {
///     fleet.mark(&key.to_string(), Mark::Down);
/// }
/// assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::TooFewEligible);
/// fleet.mark(&"b".to_string(), Mark::Auto);
/// assert!(fleet.pick_endpoint().is_ok());
/// # Ok::<(), evenkeel::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PanicRule {
    /// Panic begins below this share of eligible endpoints, in percent, 0 to 100, by count of the endpoints with a
    /// weight. 0 turns the rule off: picks then fail with [`PickError::AllEjected`](crate::PickError::AllEjected) when
    /// no endpoint is eligible. Defaults to 50, Envoy's `healthy_panic_threshold`.
    ///
    /// With the defaults, ejections alone cannot start panic, since they leave half of the endpoints in
    /// ([`Ejection::max_ejection_percent`](crate::Ejection::max_ejection_percent) is 50). They can once either setting
    /// is changed. Endpoints marked down can start it with the defaults, alone or together with ejections. A draining
    /// endpoint does not count.
    pub threshold_percent: u32,
    /// How many percentage points above the threshold panic ends, 0 to 100. With the defaults, in a fleet of 30, panic
    /// begins at 14 eligible endpoints and ends at 18.
    ///
    /// The limit is rounded down to whole endpoints and is never more than all of them. With fewer than ten endpoints,
    /// ten points therefore have no effect: there each return is a large step by itself, and waiting for one more would
    /// send requests to endpoints known to be bad.
    ///
    /// Defaults to 10. Where endpoints fail from overload, the whole load makes half of them fail, but not all of them.
    /// Without a gap, each return would end panic, and the load that comes with it would begin it again. (Envoy has no
    /// gap: panic ends at the threshold.)
    pub hysteresis_percent: u32,
    /// What picks do in panic. Defaults to [`PanicAction::IgnoreHealth`], Envoy's default.
    pub action: PanicAction,
}

/// What picks do in panic. See [`PanicRule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PanicAction {
    /// All endpoints take requests, including those ejected or marked down. The default, as in Envoy.
    #[default]
    IgnoreHealth,
    /// Picks fail at once with [`PickError::TooFewEligible`](crate::PickError::TooFewEligible), so that the load of all
    /// endpoints does not bring down the few that are healthy. For callers that can send their requests elsewhere.
    ///
    /// Ejected endpoints are still probed, by at most one pick in eleven or by [checks](crate::HealthCheck), so the
    /// fleet recovers by itself. [`Fleet::lease`](crate::Fleet::lease) does not fail because of panic. (Envoy:
    /// `fail_traffic_on_panic`.)
    FailFast,
}

impl Default for PanicRule {
    fn default() -> Self {
        Self {
            threshold_percent: 50,
            hysteresis_percent: 10,
            action: PanicAction::IgnoreHealth,
        }
    }
}

impl PanicRule {
    /// Turns the rule off: health always counts.
    #[must_use]
    pub fn off() -> Self {
        Self {
            threshold_percent: 0,
            ..Self::default()
        }
    }

    /// Envoy's rule: panic is on below 50 %, not at 50 %, and there is no gap.
    #[must_use]
    pub fn envoy() -> Self {
        Self {
            hysteresis_percent: 0,
            ..Self::default()
        }
    }

    setters! {
        threshold_percent: u32,
        hysteresis_percent: u32,
        action: PanicAction,
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let percents = [
            ("PanicRule::threshold_percent", self.threshold_percent),
            ("PanicRule::hysteresis_percent", self.hysteresis_percent),
        ];
        within(0..=100, "from 0 to 100", percents)
    }

    /// Whether the fleet panics when `refused` of `count` endpoints are not eligible. `until_now` tells whether it
    /// panicked before; between the two thresholds that decides.
    pub(crate) fn panics(&self, count: usize, refused: usize, until_now: bool) -> bool {
        if self.threshold_percent == 0 {
            return false;
        }
        let (threshold, gap) = (
            self.threshold_percent as usize,
            self.hysteresis_percent as usize,
        );
        let eligible = count.saturating_sub(refused);
        let enough = count * (threshold + gap).min(100) / 100;
        eligible * 100 < count * threshold || (until_now && eligible < enough)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn panic_begins_below_the_threshold_and_not_at_it() {
        let rule = PanicRule::default();
        let begins = |count, refused| rule.panics(count, refused, false);
        assert!(!begins(4, 2) && begins(4, 3) && begins(3, 2) && begins(1, 1));
        assert!(!begins(0, 0) && !begins(0, 3));
        assert!(!PanicRule::off().panics(4, 4, true));
    }

    #[test]
    fn panic_is_over_a_tenth_above_the_threshold_rounded_down() {
        let least = |rule: &PanicRule, count: usize| {
            (0..=count).find(|eligible| !rule.panics(count, count - eligible, true))
        };
        let table = [
            (0, 0),
            (1, 1),
            (2, 1),
            (3, 2),
            (9, 5),
            (10, 6),
            (30, 18),
            (100, 60),
        ];
        for (count, expected) in table {
            let rule = PanicRule::default();
            assert_eq!(least(&rule, count), Some(expected), "of {count}");
            assert_eq!(least(&PanicRule::envoy(), count), Some(count.div_ceil(2)));
            // With all endpoints eligible panic is over, whatever the settings.
            let rule = rule.threshold_percent(100).hysteresis_percent(100);
            assert_eq!(least(&rule, count), Some(count));
        }
    }

    proptest! {
        #[test]
        fn panic_never_begins_where_it_would_already_be_over(
            threshold in 0u32..=100, gap in 0u32..=100, count in 0usize..=1_000_000, refused in 0usize..=1_000_000,
        ) {
            let rule = PanicRule::default().threshold_percent(threshold).hysteresis_percent(gap);
            prop_assert!(rule.panics(count, refused, true) || !rule.panics(count, refused, false));
            prop_assert!(!rule.panics(count, 0, true));
        }
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        let error = |rule: PanicRule| rule.check().unwrap_err().to_string();
        let rule = PanicRule::default;
        assert_eq!(
            error(rule().threshold_percent(101)),
            "PanicRule::threshold_percent is 101; it must be from 0 to 100"
        );
        assert!(
            error(rule().hysteresis_percent(101)).starts_with("PanicRule::hysteresis_percent is")
        );
        assert_eq!(PanicRule::off().check(), Ok(()));
    }
}
