//! The rules of ejection, as pure functions.

use std::time::Duration;

use super::ejection::Backoff;
use super::{Detector, Detectors, Ejection, Health};

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
        .min(settings.longest_at(fleet_state.rate));
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
    match (count, settings.max_ejection_percent) {
        (0 | 1, _) | (_, 0) => 0,
        (_, percent) => {
            (count * percent as usize / 100).max(usize::from(settings.always_eject_one))
        }
    }
}

/// What upkeep knows about one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) total: u64,
    pub(crate) faults: u64,
    /// The latency estimate in nanoseconds; 0 while unknown.
    pub(crate) latency: f32,
}

impl Report {
    fn success_rate(&self) -> f64 {
        1.0 - self.faults as f64 / self.total.max(1) as f64
    }

    const fn has_volume(&self, volume: u64) -> bool {
        self.total > 0 && self.total >= volume
    }
}

/// The smallest deviation of success rates that is significant.
const LEAST_DEVIATION: f64 = 0.025;

/// The thresholds of the detectors that compare endpoints; `None` where a detector is off or has too few endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Thresholds {
    pub(crate) success_rate: Option<f64>,
    /// In nanoseconds.
    pub(crate) latency: Option<f64>,
}

/// The endpoints that stand out, by the detectors that compare: their indices and what found them. Also returns the
/// thresholds.
pub(crate) fn outliers(
    settings: &Ejection,
    reports: &[Report],
) -> (Vec<(usize, Detectors)>, Thresholds) {
    let thresholds = Thresholds {
        success_rate: success_rate_threshold(settings, reports),
        latency: latency_threshold(settings, reports),
    };
    let counts_faults = counts_faults(settings, reports);
    let found = |report: &Report| {
        Detectors::NONE
            .with_if(Detector::SuccessRate, || {
                let is_below = |threshold| report.success_rate() < threshold;
                report.has_volume(settings.success_rate_request_volume)
                    && thresholds.success_rate.is_some_and(is_below)
            })
            .with_if(Detector::FailurePercentage, || {
                let percent = u64::from(settings.failure_percentage_threshold);
                counts_faults
                    && report.has_volume(settings.failure_percentage_request_volume)
                    && report.faults * 100 >= report.total * percent
            })
            .with_if(Detector::LatencyOutlier, || {
                let is_above = |threshold| f64::from(report.latency) > threshold;
                thresholds.latency.is_some_and(is_above)
            })
    };
    let found = reports.iter().map(found).enumerate();
    let found = found.filter(|(_, detectors)| !detectors.is_empty());
    (found.collect(), thresholds)
}

/// The success rate below which an endpoint stands out, if the detector is on and has enough endpoints.
fn success_rate_threshold(settings: &Ejection, reports: &[Report]) -> Option<f64> {
    if settings.success_rate_stdev_factor <= 0.0 {
        return None;
    }
    let volume = settings.success_rate_request_volume;
    let judged = reports.iter().filter(|report| report.has_volume(volume));
    let mut rates: Vec<_> = judged.map(Report::success_rate).collect();
    if rates.len() < settings.success_rate_minimum_hosts.max(1) as usize {
        return None;
    }
    let middle = median(&mut rates);
    rates
        .iter_mut()
        .for_each(|rate| *rate = (*rate - middle).abs());
    let deviation = (1.4826 * median(&mut rates)).max(LEAST_DEVIATION);
    Some(middle - settings.success_rate_stdev_factor * deviation)
}

/// Whether the detector of shares of faults is on and has enough endpoints.
fn counts_faults(settings: &Ejection, reports: &[Report]) -> bool {
    let volume = settings.failure_percentage_request_volume;
    let judged = reports.iter().filter(|report| report.has_volume(volume));
    settings.failure_percentage_threshold > 0
        && judged.count() >= settings.failure_percentage_minimum_hosts as usize
}

/// The latency above which an endpoint stands out, in nanoseconds, if the detector is on and has enough endpoints.
fn latency_threshold(settings: &Ejection, reports: &[Report]) -> Option<f64> {
    if settings.latency_factor <= 0.0 {
        return None;
    }
    let known = reports.iter().filter(|report| report.latency > 0.0);
    let mut latencies: Vec<_> = known.map(|report| f64::from(report.latency)).collect();
    (latencies.len() >= 3).then(|| settings.latency_factor * median(&mut latencies))
}

/// The median; of an even number of values, the lower of the two in the middle. There must be at least one value.
fn median(values: &mut [f64]) -> f64 {
    let middle = (values.len() - 1) / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
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
        let longest = |rate| {
            let settings = Ejection::default().jitter_percent(0);
            let fleet_state = FleetState { short: false, rate };
            ejection_time(&settings, 9, fleet_state, 7).as_secs_f64()
        };
        let rates = [0.0, 1.0, 156.0, 200.0, 500.0, 1e9, f64::MAX, f64::NAN, -1.0];
        let lengths = [64.0, 64.0, 64.0, 50.0, 20.0, 8.0, 8.0, 64.0, 64.0];
        assert_eq!(rates.map(longest), lengths);
        let envoy = Ejection::envoy().longest_at(1e9);
        assert_eq!(envoy, Duration::from_secs(300));
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

    fn reports(rates: &[(u64, u64)]) -> Vec<Report> {
        let report = |&(total, faults)| Report {
            total,
            faults,
            latency: 0.0,
        };
        rates.iter().map(report).collect()
    }

    fn indices(found: &[(usize, Detectors)]) -> Vec<usize> {
        found.iter().map(|(index, _)| *index).collect()
    }

    #[test]
    fn one_extreme_endpoint_hides_no_other() {
        let settings = Ejection::default().success_rate_stdev_factor(1.9);
        let one = reports(&[(100, 20), (100, 0), (100, 0), (100, 0), (100, 1)]);
        assert_eq!(indices(&outliers(&settings, &one).0), [0]);
        let two = reports(&[(100, 20), (100, 100), (100, 0), (100, 0), (100, 1)]);
        assert_eq!(indices(&outliers(&settings, &two).0), [0, 1]);
        // With mean and standard deviation, the threshold would be 75.8 - 1.9 * 38.4 = 2.8 %, and the first would stay
        // in.
        let three = reports(&[(100, 20), (100, 0), (100, 0)]);
        assert_eq!(indices(&outliers(&settings, &three).0), [0]);
        let few = reports(&[(100, 20), (100, 0), (19, 0)]);
        assert_eq!(outliers(&settings, &few).0, []);
        let just_enough = reports(&[(20, 4), (20, 0), (20, 0)]);
        assert_eq!(indices(&outliers(&settings, &just_enough).0), [0]);
    }

    #[test]
    fn a_share_of_faults_ejects_whatever_others_do() {
        let settings = Ejection::default().failure_percentage_threshold(85);
        let all = reports(&[(100, 85), (100, 84), (100, 100), (10, 10)]);
        let found = outliers(&settings, &all).0;
        assert_eq!(indices(&found), [0, 2]);
        assert!(found[0].1.contains(Detector::FailurePercentage));
    }

    #[test]
    fn a_latency_far_above_the_median_stands_out() {
        let settings = Ejection::default().latency_factor(3.0);
        let report = |latency| Report {
            latency,
            ..Report::default()
        };
        let all = [10.0, 34.0, 11.0, 29.0, 0.0].map(report);
        assert_eq!(indices(&outliers(&settings, &all).0), [1]);
        assert_eq!(outliers(&settings, &all[..2]).0, []);
    }

    proptest! {
        #[test]
        fn no_report_brings_a_rule_down(
            rates in prop::collection::vec((any::<u64>(), any::<u64>(), any::<f32>()), 0..20),
            factor in 0.1..10.0f64,
            (hosts, volume, percent) in (0u32..6, 0u64..200, 0u32..=100),
        ) {
            let all: Vec<_> = rates.iter().map(|&(total, faults, latency)| Report { total: total >> 8, faults: faults >> 8, latency }).collect();
            let settings = Ejection::envoy().success_rate_stdev_factor(factor).latency_factor(1.0 + factor);
            let settings = settings
                .success_rate_minimum_hosts(hosts)
                .success_rate_request_volume(volume)
                .failure_percentage_threshold(percent)
                .failure_percentage_minimum_hosts(hosts)
                .failure_percentage_request_volume(volume);
            let _ = outliers(&settings, &all).0;
        }
    }
}
