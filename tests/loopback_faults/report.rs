//! The measurements of a run.

use std::fmt;
use std::time::Duration;

use crate::traffic::Seen;
use crate::{BAD, SERVERS};

/// The unit of time in which shares are measured. A fair share is ten requests of a slice.
pub(crate) const SLICE: Duration = Duration::from_millis(250);
/// The number of slices that must agree, so that chance does not decide.
const AGREE: usize = 3;

/// When the bad server turned bad, and when it was healed.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) hurt: Duration,
    pub(crate) healed: Duration,
}

/// The result of a run. Shares are in fair shares: 1 is a tenth of the requests.
pub(crate) struct Report {
    /// The bad server's share before the fault, without the first second.
    pub(crate) before: f64,
    /// The time from the fault to the first of two slices in which it gets less than a quarter of its fair share.
    pub(crate) detected: Option<Duration>,
    /// Its share from then until it is healed.
    pub(crate) share: f64,
    /// Errors of the bad server that callers saw, from beginning to end.
    pub(crate) errors: usize,
    /// Requests to any server while it was bad.
    pub(crate) requests: usize,
    /// Errors of the other servers, and refused picks.
    pub(crate) elsewhere: usize,
    /// The time from the healing until it had half of its fair share, by the median of three slices.
    pub(crate) returned: Option<Duration>,
    /// The longest that a request to another server took, from when it was to start. The others take 10 ms under any
    /// load, so what is above that comes from this machine.
    pub(crate) noise: Duration,
}

impl Report {
    pub(crate) fn of(seen: &[Seen], window: Window, end: Duration) -> Self {
        let Window { hurt, healed } = window;
        let bad = slices(seen, hurt, healed);
        let detected = bad
            .windows(2)
            .position(|two| two.iter().all(|&share| share < 0.25))
            .map(|slice| SLICE * slice as u32);
        let from = hurt + detected.unwrap_or_default();
        let is_bad = |seen: &&Seen| seen.server == Some(BAD);
        let is_elsewhere = |seen: &&Seen| !is_bad(seen);
        Self {
            before: share(seen, Duration::from_secs(1).min(hurt), hurt),
            detected,
            share: share(seen, from, healed),
            errors: seen.iter().filter(is_bad).filter(|s| s.is_error()).count(),
            requests: within(seen, hurt, healed).count(),
            elsewhere: seen
                .iter()
                .filter(is_elsewhere)
                .filter(|s| s.is_error())
                .count(),
            returned: returned(seen, healed, end),
            noise: seen
                .iter()
                .filter(is_elsewhere)
                .map(|seen| seen.latency)
                .max()
                .unwrap_or_default(),
        }
    }
}

/// The time from the healing until the bad server had half of its fair share; `None` if it had not before `end`.
pub(crate) fn returned(seen: &[Seen], healed: Duration, end: Duration) -> Option<Duration> {
    let slices = slices(seen, healed, end);
    let had_half = |some: &[f64]| some.iter().filter(|&&share| share >= 0.5).count() > AGREE / 2;
    let first = slices.windows(AGREE).position(had_half);
    first.map(|slice| SLICE * slice as u32)
}

fn within(seen: &[Seen], from: Duration, to: Duration) -> impl Iterator<Item = &Seen> {
    seen.iter().filter(move |s| (from..to).contains(&s.at))
}

/// The bad server's share of the requests between these times; NaN if there were none.
fn share(seen: &[Seen], from: Duration, to: Duration) -> f64 {
    let all = within(seen, from, to).count();
    let its = within(seen, from, to).filter(|s| s.server == Some(BAD));
    (its.count() * SERVERS) as f64 / all as f64
}

/// Its share of each slice that ends before `to`.
fn slices(seen: &[Seen], from: Duration, to: Duration) -> Vec<f64> {
    let starts = (0..).map(|slice| from + SLICE * slice);
    let whole = starts.take_while(|&start| start + SLICE <= to);
    whole
        .map(|start| share(seen, start, start + SLICE))
        .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |of: Option<Duration>| {
            of.map_or_else(
                || "never".into(),
                |time| format!("{:.2} s", time.as_secs_f64()),
            )
        };
        write!(
            f,
            "before {:>4.2}  detected {:>6}  share then {:>4.2}  errors {:>3} ({:>5.2} % of {})  elsewhere {}  \
             returned {:>7}  noise {:>3} ms",
            self.before,
            time(self.detected),
            self.share,
            self.errors,
            100.0 * self.errors as f64 / self.requests as f64,
            self.requests,
            self.elsewhere,
            time(self.returned),
            self.noise.as_millis(),
        )
    }
}
