//! The detectors that compare endpoints at upkeep, as pure functions.

use std::cmp::Ordering;

use super::window::Counts;
use super::{Detector, Detectors, Ejection};

/// What upkeep knows about one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    /// The latency estimate in nanoseconds; 0 while unknown.
    pub(crate) latency: f32,
}

impl Report {
    fn success_rate(&self) -> f64 {
        1.0 - self.counts.fault_rate()
    }

    const fn has_volume(&self, volume: u64) -> bool {
        self.counts.total > 0 && self.counts.total >= volume
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
                    && report.counts.faults * 100 >= report.counts.total * percent
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

/// Whether any of these detectors is on.
pub(crate) fn compares_endpoints(settings: &Ejection) -> bool {
    settings.success_rate_stdev_factor > 0.0
        || settings.failure_percentage_threshold > 0
        || settings.latency_factor > 0.0
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
    let middle = lower_median(&mut rates, f64::total_cmp)?;
    rates
        .iter_mut()
        .for_each(|rate| *rate = (*rate - middle).abs());
    let deviation = lower_median(&mut rates, f64::total_cmp)?;
    let deviation = (1.4826 * deviation).max(LEAST_DEVIATION);
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
    if latencies.len() < 3 {
        return None;
    }
    Some(settings.latency_factor * lower_median(&mut latencies, f64::total_cmp)?)
}

/// The median, the lower one of an even number: of two values, the slow one is not what is usual.
pub(crate) fn lower_median<T: Copy>(
    values: &mut [T],
    order: impl FnMut(&T, &T) -> Ordering,
) -> Option<T> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, order).1)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reports(rates: &[(u64, u64)]) -> Vec<Report> {
        let report = |&(total, faults)| Report {
            counts: Counts { total, faults },
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
            let report = |&(total, faults, latency): &(u64, u64, _)| {
                let counts = Counts { total: total >> 8, faults: faults >> 8 };
                Report { counts, latency }
            };
            let all: Vec<_> = rates.iter().map(report).collect();
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
