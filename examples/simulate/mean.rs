//! Means over seeds, and how two of them compare.

use std::time::Duration;

use evenkeel::sim::Report;

/// Means over seeds of the figures of the scenario's window. Times are in milliseconds unless noted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mean {
    /// The sum over all seeds.
    pub(crate) requests: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) success_p99: f64,
    pub(crate) errors: f64,
    pub(crate) goodput: f64,
    pub(crate) attempts: f64,
    pub(crate) share_to_unwell: f64,
    pub(crate) unwell: f64,
    pub(crate) max_over_mean: f64,
    /// In seconds. `None` if any seed has no such time.
    pub(crate) detected: Option<f64>,
    /// In seconds. `None` if any seed has no such time.
    pub(crate) recovered: Option<f64>,
    pub(crate) false_ejections: f64,
    pub(crate) ejected_share: f64,
    pub(crate) moments: Vec<Slice>,
}

/// A slice of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slice {
    /// When it began, in seconds.
    pub(crate) at: f64,
    pub(crate) p99: f64,
    pub(crate) share: f64,
}

pub(crate) fn in_milliseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

impl Mean {
    pub(crate) fn of(reports: &[&Report]) -> Self {
        let seeds = reports.len().max(1) as f64;
        let mean = |value: &dyn Fn(&Report) -> f64| {
            reports.iter().map(|report| value(report)).sum::<f64>() / seeds
        };
        let all_or_none = |value: &dyn Fn(&Report) -> Option<Duration>| {
            let times: Option<Vec<Duration>> = reports.iter().map(|report| value(report)).collect();
            times.map(|times| times.iter().map(Duration::as_secs_f64).sum::<f64>() / seeds)
        };
        let moments = reports.iter().map(|report| report.moments.len()).min();
        let moments = (0..moments.unwrap_or(0)).map(|number| Slice {
            at: mean(&|report| report.moments[number].at.as_secs_f64()),
            p99: mean(&|report| in_milliseconds(report.moments[number].p99)),
            share: mean(&|report| report.moments[number].share),
        });
        Self {
            requests: reports.iter().map(|report| report.window.requests).sum(),
            p50: mean(&|report| in_milliseconds(report.window.latency.p50)),
            p99: mean(&|report| in_milliseconds(report.window.latency.p99)),
            p999: mean(&|report| in_milliseconds(report.window.latency.p999)),
            success_p99: mean(&|report| in_milliseconds(report.window.success.p99)),
            errors: mean(&|report| report.window.errors),
            goodput: mean(&|report| report.window.goodput),
            attempts: mean(&|report| report.window.attempts),
            share_to_unwell: mean(&|report| report.window.share_to_unwell),
            unwell: mean(&|report| report.window.unwell),
            max_over_mean: mean(&|report| report.window.max_over_mean),
            detected: all_or_none(&|report| report.detected_after),
            recovered: all_or_none(&|report| report.recovered_after),
            false_ejections: mean(&|report| report.false_ejections as f64),
            ejected_share: mean(&|report| report.ejected_share),
            moments: moments.collect(),
        }
    }

    /// The order of entries: by p99, then by errors. The p99 is equal once one request in a hundred fails in both.
    pub(crate) fn rank(&self) -> [f64; 3] {
        [self.p99, self.errors, self.p999]
    }

    /// Whether the p99 is more than 2 % above the other's.
    pub(crate) fn is_slower_than(&self, other: &Self) -> bool {
        self.p99 > other.p99 * 1.02
    }

    /// Whether more requests fail, by more than 0.01 percentage points and by more than two standard errors of the
    /// difference.
    pub(crate) fn fails_more_than(&self, other: &Self) -> bool {
        let variance =
            |mean: &Self| mean.errors * (1.0 - mean.errors) / mean.requests.max(1) as f64;
        let chance = 2.0 * (variance(self) + variance(other)).sqrt();
        self.errors - other.errors > chance.max(0.0001)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_errors_are_more_than_chance() {
        let errors = |share| Mean {
            requests: 1_000_000,
            errors: share,
            ..Mean::default()
        };
        assert!(errors(0.0003).fails_more_than(&errors(0.0001)));
        assert!(!errors(0.000_15).fails_more_than(&errors(0.0001)));
        // At one half, the standard deviation of each is 0.05 percentage points.
        assert!(!errors(0.501).fails_more_than(&errors(0.5)));
        assert!(errors(0.502).fails_more_than(&errors(0.5)));
    }
}
