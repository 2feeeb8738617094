//! The rules of ejection, as pure functions: when a score ejects, for how long, and how many at once.

use std::time::Duration;

use super::ejection::Backoff;
use super::{Ejection, Health};

/// Whether a health score is bad enough, with enough samples, to eject.
pub(crate) fn earned_ejection(settings: &Ejection, health: Health) -> bool {
    // Clamped anew, as the fields are public.
    let health = Health::new(health.score, health.samples);
    health.samples >= settings.minimum_volume.max(1) && health.score < settings.score_threshold
}

/// The state of the fleet when an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FleetState {
    /// Whether the endpoints that are left have too much to do.
    pub(crate) short: bool,
    /// How many requests a second the fleet sends for each ejected endpoint; 0 if hardly any, or if it is not known
    /// yet.
    pub(crate) rate: f64,
}

/// Whether more of `count` endpoints are out than the fleet can spare. It can always spare one.
pub(crate) fn exceeds_spare(settings: &Ejection, out: usize, count: usize) -> bool {
    out > 1 && out * 100 > settings.spare_capacity_percent as usize * count
}

/// The length of the first ejection, without jitter. If the fleet is `short` of capacity it is a quarter, to see
/// whether the fault was only momentary.
pub(crate) fn first_time(settings: &Ejection, short: bool) -> Duration {
    settings.base_ejection_time / if short { 4 } else { 1 }
}

/// The length of the `times`-th ejection in a row. `random` decides the jitter.
pub(crate) fn ejection_time(
    settings: &Ejection,
    times: u32,
    fleet_state: FleetState,
    random: u64,
) -> Duration {
    let multiple = match settings.backoff {
        Backoff::Doubling => 1 << times.saturating_sub(1).min(31),
        Backoff::Linear => times.max(1),
    };
    let length = settings
        .base_ejection_time
        .saturating_mul(multiple)
        .min(settings.longest_in(fleet_state));
    let length = match (fleet_state.short, times) {
        (false, _) => length,
        (true, 0 | 1) => first_time(settings, true),
        (true, _) => length / 2,
    };
    let swing = u64::from(settings.jitter_percent) * 10_000;
    // The factor in parts per million: from 1 - swing to 1 + swing.
    let factor = 1_000_000 - swing + random % (2 * swing + 1);
    let nanos = length.as_nanos() * u128::from(factor) / 1_000_000;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(Duration::from_millis(1))
}

/// How long the probe after the `times`-th ejection in a row may take. The time doubles like the ejections, so that an
/// endpoint that answers later than the first timeout can still show that it does.
pub(crate) fn probe_time(settings: &Ejection, times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(31);
    let longest = settings.longest_ejection().max(settings.probe_timeout);
    settings
        .probe_timeout
        .saturating_mul(1 << doublings)
        .min(longest)
}

/// How many of `times` ejections in a row still count after the endpoint has `stayed` in. None do where capacity is
/// short: the next failure may then come from a cause that all share.
pub(crate) fn times_left(settings: &Ejection, times: u32, short: bool, stayed: Duration) -> u32 {
    if short {
        return 0;
    }
    let forgotten = stayed.as_millis() / settings.backoff_decay.as_millis().max(1);
    times.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
}

/// How many of `count` endpoints may be ejected at once.
pub(crate) fn ejection_limit(settings: &Ejection, count: usize) -> usize {
    let percent = settings.max_ejection_percent as usize;
    let one_of_two = settings.always_eject_one && percent > 0 && count >= 2;
    (count * percent / 100).max(usize::from(one_of_two))
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cap_is_floored_and_at_least_one_of_two() {
        let table = [
            (0, 50, 0),
            (0, 100, 0),
            (1, 99, 0),
            (1, 100, 1),
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
                ejection_limit(&Ejection::default().max_ejection_percent(percent), count),
                limit,
                "{percent} % of {count}"
            );
        }
        let never_one = Ejection::default()
            .max_ejection_percent(10)
            .always_eject_one(false);
        assert_eq!(ejection_limit(&never_one, 9), 0);
        assert_eq!(ejection_limit(&never_one, 10), 1);
    }

    /// A strain with an unknown request rate.
    fn fleet_state(short: bool) -> FleetState {
        FleetState { short, rate: 0.0 }
    }

    #[test]
    fn with_many_requests_lengths_double_until_a_probe_is_one_in_ten_thousand() {
        let longest = |short, rate| {
            let settings = Ejection::default().jitter_percent(0);
            let fleet_state = FleetState { short, rate };
            ejection_time(&settings, 9, fleet_state, 7).as_secs_f64()
        };
        let rates = [0.0, 1.0, 156.0, 200.0, 500.0, 1e9, f64::MAX, f64::NAN, -1.0];
        let lengths = [64.0, 64.0, 64.0, 50.0, 20.0, 8.0, 8.0, 64.0, 64.0];
        assert_eq!(rates.map(|rate| longest(false, rate)), lengths);
        // Where capacity is short: one in 333 (a thirtieth, rounded down twice), and no less than the base time.
        let rates = [0.0, 1.0, 10.0, 33.3, 111.0, 500.0, 1e9, f64::NAN];
        let lengths = [32, 32, 32, 10, 3, 2, 2, 32];
        assert_eq!(rates.map(|rate| longest(true, rate) as u64), lengths);
        let busy = FleetState {
            short: true,
            rate: 1e9,
        };
        assert_eq!(Ejection::envoy().longest_in(busy), Duration::from_secs(300));
    }

    #[test]
    fn lengths_double_to_the_maximum() {
        let settings = Ejection::default().jitter_percent(0);
        let seconds: Vec<u64> = (1..9)
            .map(|times| ejection_time(&settings, times, fleet_state(false), 7).as_secs())
            .collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn lengths_are_half_where_capacity_is_short_and_the_first_a_quarter() {
        let settings = Ejection::default().jitter_percent(0);
        let millis: Vec<_> = (1..9)
            .map(|times| ejection_time(&settings, times, fleet_state(true), 7).as_millis())
            .collect();
        assert_eq!(
            millis,
            [500, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000, 32_000]
        );
    }

    #[test]
    fn a_tenth_can_be_spared_and_always_one() {
        let default = Ejection::default();
        let table = [
            (0, 0, false),
            (1, 2, false),
            (2, 4, true),
            (2, 20, false),
            (3, 20, true),
            (3, 30, false),
            (1_000_000, 1_000_000, true),
        ];
        for (out, count, short) in table {
            assert_eq!(
                exceeds_spare(&default, out, count),
                short,
                "{out} of {count}"
            );
        }
        let off = Ejection::default().spare_capacity_percent(100);
        assert!(!exceeds_spare(&off, 1_000_000, 1_000_000));
        assert!(!exceeds_spare(&Ejection::envoy(), 20, 20));
    }

    proptest! {
        #[test]
        fn a_length_stays_within_its_jitter(times in 0u32.., short: bool, random: u64, base in 1u64..86_400_000, jitter in 0u32..=100) {
            let settings = Ejection::default()
                .base_ejection_time(Duration::from_millis(base))
                .max_ejection_time(Duration::from_secs(86_400))
                .jitter_percent(jitter);
            let plain = ejection_time(&settings.clone().jitter_percent(0), times, fleet_state(short), 0);
            let length = ejection_time(&settings, times, fleet_state(short), random);
            let share = f64::from(jitter) / 100.0;
            prop_assert!(length.as_secs_f64() <= plain.as_secs_f64() * (1.0 + share) + 1e-6);
            prop_assert!(length.as_secs_f64() >= plain.as_secs_f64() * (1.0 - share) - 1e-6);
        }

        #[test]
        fn no_setting_brings_a_rule_down(times: u32, short: bool, random: u64, base: u64, max: u64, score: f64) {
            let settings = Ejection::default()
                .base_ejection_time(Duration::from_secs(base))
                .max_ejection_time(Duration::from_secs(max))
                .score_threshold(score);
            let _ = settings.check();
            let _ = ejection_time(&settings, times, fleet_state(short), random);
            let _ = earned_ejection(&settings, Health::new(score, random));
        }
    }

    #[test]
    fn a_probes_time_is_not_cut_to_a_shorter_ejection() {
        let settings = Ejection::default().probe_timeout(Duration::from_secs(100));
        let seconds = [1, 2].map(|times| probe_time(&settings, times).as_secs());
        assert_eq!(seconds, [100; 2]);
    }

    #[test]
    fn ejections_are_forgotten_one_after_the_other() {
        let settings = Ejection::default();
        let left = |seconds| times_left(&settings, 3, false, Duration::from_secs(seconds));
        assert_eq!([0, 29, 30, 61, 90, 1_000].map(left), [3, 3, 2, 1, 0, 0]);
        assert_eq!(times_left(&settings, 3, true, Duration::ZERO), 0);
    }
}
