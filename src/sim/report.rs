//! The result of a simulation: [`Report`].

use std::time::Duration;

/// The result of one run. All times are virtual.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The policy's name.
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// The number of events simulated.
    pub events: u64,
    /// The number of requests simulated, including those of the warm-up.
    pub requests: u64,
    /// The number of active checks that all clients sent.
    pub checks: u64,
    /// A hash of all events in order. The same scenario, policy and seed give the same hash.
    pub event_hash: u64,
    /// The figures from the end of the warm-up to the end of the run.
    pub run: Figures,
    /// The figures of the scenario's [window](super::Scenario::window).
    pub window: Figures,
    /// How long clients took to avoid the servers that faults single out. `None` if there is no such fault, or if
    /// clients did not avoid them while the faults lasted.
    ///
    /// A fault singles servers out if it has a stated time (the window, a start and an end, or flapping) and does not
    /// affect all servers. The time runs from the beginning of the first such fault to the start of the first half
    /// second in which these servers got less than a quarter of their fair share of attempts by weight, in steps of a
    /// tenth of a second. If their fair share of half a second is less than four attempts, the span is as long as it
    /// takes to expect four, as fewer are not significant. The servers of several such faults count together, from the
    /// beginning of the first fault to the end of the last. Faults that together affect all servers single none out.
    pub detected_after: Option<Duration>,
    /// How long clients took to use these servers again after the end of the last such fault: the time until the start
    /// of the first second in which they got at least half of their fair share, by the median of its tenths. `None` if
    /// there is no such fault, or if they never did.
    pub recovered_after: Option<Duration>,
    /// How long these servers' ejections still had to run at the end of the last such fault: the median, over servers
    /// and clients, of the time until the next probe is due. A server that is not ejected counts as 0.
    ///
    /// `None` if there is no such fault, or if it outlasts the run. 0 for a model or an oracle.
    pub out_for: Option<Duration>,
    /// The longest of the times of which [`out_for`](Self::out_for) is the median.
    pub longest_out_for: Option<Duration>,
    /// The number of ejections by all clients.
    pub ejections: u64,
    /// The number of false ejections: those of a server that was not unwell, then or within one timeout before, and
    /// those while all servers were unwell in that sense.
    pub false_ejections: u64,
    /// The mean share of endpoints that were ejected, over all clients, sampled ten times a second in the window.
    pub ejected_share: f64,
    /// The largest share of endpoints that were ejected in any sample of the run.
    pub most_ejected: f64,
    /// The run in 120 slices of equal length.
    pub moments: Vec<Moment>,
}

/// The figures of a stretch of time.
///
/// A request counts for the stretch in which it arrived at its client. Its latency runs from then to its end, retries
/// included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Figures {
    /// The number of requests that arrived in the stretch and have ended.
    pub requests: u64,
    /// The latencies of all requests. Each error counts as the timeout, or as long as it took if that is longer, so
    /// that failing fast does not make a policy look good.
    pub latency: Latencies,
    /// The latencies of successful requests alone.
    pub success: Latencies,
    /// The share of requests that failed.
    pub errors: f64,
    /// The number of successful requests per second.
    pub goodput: f64,
    /// The mean number of attempts per request.
    pub attempts: f64,
    /// The number of retries that the budget denied.
    pub retries_denied: u64,
    /// The share of attempts that went to a server while it was [unwell](super::Fault#several-faults-at-once).
    pub share_to_unwell: f64,
    /// The mean share of servers that were unwell, sampled ten times a second. A policy that picks at random has this
    /// [`share_to_unwell`](Self::share_to_unwell).
    pub unwell: f64,
    /// The largest number of attempts relative to speed that a server got, as a multiple of the mean over all servers.
    pub max_over_mean: f64,
}

/// Latency percentiles in virtual time, accurate within 0.8 %, and the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// The median.
    pub p50: Duration,
    /// The 90th percentile.
    pub p90: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The 99.9th percentile.
    pub p999: Duration,
    /// The mean.
    pub mean: Duration,
}

/// The figures of one slice of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Moment {
    /// The start of the slice.
    pub at: Duration,
    /// The median latency of the requests that arrived in the slice. Errors count as in [`Figures::latency`].
    pub p50: Duration,
    /// The 99th percentile of these latencies.
    pub p99: Duration,
    /// The share of these requests that failed.
    pub errors: f64,
    /// The share of the attempts sent in the slice that went to the servers that faults single out. If no fault singles
    /// servers out, the share that went to a server while it was unwell.
    pub share: f64,
}
