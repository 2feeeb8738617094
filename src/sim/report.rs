//! What a simulation found: [`Report`].

use std::time::Duration;

/// What one run found. Times are virtual.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The policy's name.
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// Events simulated.
    pub events: u64,
    /// Requests simulated, the warm-up's included.
    pub requests: u64,
    /// Active checks sent, by all clients.
    pub checks: u64,
    /// A hash of all events in order: the same scenario, policy and seed give the same one.
    pub event_hash: u64,
    /// From the end of the warm-up to the end.
    pub run: Figures,
    /// In the scenario's window alone.
    pub window: Figures,
    /// From the first fault that singles servers out to the first half second in which they got less
    /// than a quarter of their fair share by weight (or longer, where half a second has too few requests to
    /// tell). `None` where there is no such fault, or they never did. Servers of several such faults count
    /// together, from the beginning of the first to the end of the last.
    pub detected_after: Option<Duration>,
    /// From the end of the last such fault to the first second in which they had half of their fair
    /// share or more (by the median of tenths). `None` where there is none, or they never had.
    pub recovered_after: Option<Duration>,
    /// At the end of the last such fault, how long it was until the ejections then running of these servers were to end in a
    /// probe: the median over servers and clients, 0 for one that was not out. `None` where there is no such fault; 0 for
    /// a model or an oracle.
    pub out_for: Option<Duration>,
    /// The longest of these.
    pub longest_out_for: Option<Duration>,
    /// Endpoints taken out, by all clients.
    pub ejections: u64,
    /// Those of them that nothing was wrong with, now or in the last timeout, or no more than with all.
    pub false_ejections: u64,
    /// The share of endpoints that were out, over clients and the window, sampled ten times a second.
    pub ejected_share: f64,
    /// The highest that it was.
    pub most_ejected: f64,
    /// The run in slices of equal length.
    pub moments: Vec<Moment>,
}

/// Figures of a stretch of time. Latencies count from a request's arrival, retries included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Figures {
    /// Requests that arrived in it.
    pub requests: u64,
    /// Latencies where each error counts as the timeout, or as long as it took if that is longer: a policy
    /// must not look good for failing fast.
    pub latency: Latencies,
    /// Latencies of successes alone.
    pub success: Latencies,
    /// The share of requests that failed.
    pub errors: f64,
    /// Successes a second.
    pub goodput: f64,
    /// Attempts for each request.
    pub attempts: f64,
    /// Retries that the budget denied.
    pub retries_denied: u64,
    /// The share of attempts that went to servers with something wrong at that time.
    pub share_to_unwell: f64,
    /// The share of servers that had something wrong, sampled ten times a second: what that share would be at
    /// random.
    pub unwell: f64,
    /// The most loaded server's requests for its speed, as a multiple of the mean.
    pub max_over_mean: f64,
}

/// Percentiles, in virtual time, within 0.8 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// The median.
    pub p50: Duration,
    /// The 90th percentile.
    pub p90: Duration,
    /// The 99th.
    pub p99: Duration,
    /// The 99.9th.
    pub p999: Duration,
    /// The mean.
    pub mean: Duration,
}

/// A slice of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Moment {
    /// When it began.
    pub at: Duration,
    /// Median latency of the requests that arrived in it, errors counted as the timeout.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The share of requests that failed.
    pub errors: f64,
    /// The share of attempts that went to the servers that faults single out; where no fault does, to those
    /// with something wrong at that time.
    pub share: f64,
}
