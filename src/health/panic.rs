//! When so few endpoints are eligible that health counts for nothing: [`PanicRule`].

use crate::error::BuildError;

/// What to do when few endpoints are eligible: the fault is then likelier shared than each one's own, and the few that are left could not
/// carry the load.
///
/// Panic begins when less than [`threshold_percent`](Self::threshold_percent) of the endpoints with a weight are eligible (neither ejected
/// nor marked down), and ends when that share plus [`hysteresis_percent`](Self::hysteresis_percent) is.
/// [`Stats::panicking`](crate::Stats::panicking) tells whether it is on, and [events](crate::FleetBuilder::events) when it began and ended.
///
/// [`Tiers`](crate::Tiers) applies the same rule to each priority by itself, and only while all together cannot carry the load.
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
    /// Panic begins below this share of eligible endpoints, in percent by count of those with a weight, 0 to 100. 0 turns
    /// the rule off: picks then fail with [`PickError::AllEjected`](crate::PickError::AllEjected) when none is
    /// eligible. Defaults to 50, Envoy's `healthy_panic_threshold`. Ejections alone leave half in
    /// ([`Ejection::max_ejection_percent`](crate::Ejection::max_ejection_percent) is 50), so by them
    /// panic begins only if either is moved. Marks, alone or beside ejections, make it begin as it is; a drained endpoint does not count.
    pub threshold_percent: u32,
    /// How many percentage points above the threshold panic ends, 0 to 100: in a fleet of 30, with the defaults, it begins at 14 eligible
    /// and ends at 18. Rounded down to whole endpoints, and never more than all of them. So with fewer than ten endpoints ten points are
    /// nothing: there each return is a large step by itself, and waiting for one more would send requests to endpoints known to be bad.
    ///
    /// Defaults to 10. Where endpoints fail from overload, all the load makes half of them fail, but not all of them: without a gap each
    /// return would end panic, and the load that comes with it would begin it again. (Envoy has none: panic ends at the threshold.)
    pub hysteresis_percent: u32,
    /// What picks do in panic. Defaults to [`PanicAction::IgnoreHealth`], Envoy's default.
    pub action: PanicAction,
}

/// What picks do in panic. See [`PanicRule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PanicAction {
    /// All endpoints take requests, ejected and marked down ones included. The default, as Envoy's.
    #[default]
    IgnoreHealth,
    /// Picks fail at once with [`PickError::TooFewEligible`](crate::PickError::TooFewEligible), so that the few that
    /// are well are not brought down by the load of all. For callers that have somewhere else to go. Ejected
    /// endpoints are probed as ever, by one pick in eleven at most or by [checks](crate::HealthCheck), so the fleet
    /// comes back by itself; [`Fleet::lease`](crate::Fleet::lease) does not fail for it. (Envoy:
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
    /// None: health always counts.
    #[must_use]
    pub fn off() -> Self {
        Self {
            threshold_percent: 0,
            ..Self::default()
        }
    }

    /// Envoy's: below 50 % and not at it, without a gap.
    #[must_use]
    pub fn envoy() -> Self {
        Self {
            hysteresis_percent: 0,
            ..Self::default()
        }
    }

    /// Sets [`threshold_percent`](Self#structfield.threshold_percent).
    #[must_use]
    pub const fn threshold_percent(mut self, percent: u32) -> Self {
        self.threshold_percent = percent;
        self
    }

    /// Sets [`hysteresis_percent`](Self#structfield.hysteresis_percent).
    #[must_use]
    pub const fn hysteresis_percent(mut self, percent: u32) -> Self {
        self.hysteresis_percent = percent;
        self
    }

    /// Sets [`action`](Self#structfield.action).
    #[must_use]
    pub const fn action(mut self, action: PanicAction) -> Self {
        self.action = action;
        self
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        for (field, percent) in [
            ("PanicRule::threshold_percent", self.threshold_percent),
            ("PanicRule::hysteresis_percent", self.hysteresis_percent),
        ] {
            if percent > 100 {
                return Err(BuildError::setting(field, percent, "from 0 to 100"));
            }
        }
        Ok(())
    }

    /// Whether it is panic when so many of so many are refused, if it was until now, or was not.
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
    fn it_begins_below_the_threshold_and_not_at_it() {
        let rule = PanicRule::default();
        let begins = |count, refused| rule.panics(count, refused, false);
        assert!(!begins(4, 2) && begins(4, 3) && begins(3, 2) && begins(1, 1));
        assert!(!begins(0, 0) && !begins(0, 3));
        assert!(!PanicRule::off().panics(4, 4, true));
    }

    #[test]
    fn it_is_over_a_tenth_above_the_threshold_rounded_down() {
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
            // With all eligible it is over, whatever the settings.
            let rule = rule.threshold_percent(100).hysteresis_percent(100);
            assert_eq!(least(&rule, count), Some(count));
        }
    }

    proptest! {
        #[test]
        fn who_was_calm_does_not_panic_sooner(
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
