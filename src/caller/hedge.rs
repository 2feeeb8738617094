//! When a request is sent a second time before the first has been answered: [`Hedge`].

use std::time::Duration;

use super::latencies::Latencies;
use crate::error::BuildError;

/// When a [`Caller`](crate::Caller) sends a request to another endpoint although the first has not answered yet, and takes the
/// answer that comes first (Dean and Barroso, "The Tail at Scale", CACM 2013; gRPC's A6). It makes the slowest requests
/// faster, for some load: **only for requests that may be carried out twice**, so off by default.
///
/// - A hedge goes to an endpoint that the request was not sent to, is one of the plan's
///   [`attempts`](crate::CallPlan::attempts), and is charged to the retry budget. Where no endpoint, attempt or budget is left, none is
///   sent, and the call goes on with those under way.
/// - The first good answer wins: an `Ok` that is not to be retried. A retryable result waits for the others. An `Err` that
///   [`is_retryable`](crate::Transport::is_retryable) refuses ends the call: others would say the same.
/// - The losers' futures are then dropped, which counts as [`Outcome::Abandoned`](crate::Outcome::Abandoned): neutral, unless it outlasted
///   the fleet's [`patience`](crate::FleetBuilder::patience), by default three times the usual latency and at least 50 ms. So an endpoint
///   that hangs is ejected although hedges answer for it, if a hedge's delay and an answer together outlast patience. If they do not, set
///   patience lower, or the endpoint shows only by the latency that such a drop raises.
///
/// ```
/// use evenkeel::{CallPlan, Hedge};
/// use std::time::Duration;
///
/// // One more, when it takes longer than 95 of 100 do.
/// let plan = CallPlan::default().hedge(Hedge::at_percentile(95));
/// // Up to two more, 30 ms apart.
/// let other = CallPlan::default().attempts(3).hedge(Hedge::after(Duration::from_millis(30)).max_hedges(2));
/// # assert!(plan != other);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hedge {
    /// How long a request is waited for before a hedge of it is sent, and after that before the next.
    pub delay: HedgeDelay,
    /// How many hedges a request may have: 1 to 15. Defaults to 1: the second of two is rarely slow too.
    /// [`CallPlan::attempts`](crate::CallPlan::attempts) bounds it as well.
    pub max_hedges: u32,
    /// How many attempts must have been measured before there is a percentile: 1 to 1000. Until then nothing is hedged. Defaults to
    /// 100, by which the share beyond a 95th percentile is known to 2.2 points (one standard deviation).
    pub min_samples: u32,
}

/// How long before a hedge. See [`Hedge::delay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// This long: 1 ms to a day.
    Fixed(Duration),
    /// As long as so many of a hundred first attempts take: 50 to 99. Of the last one to two thousand of this caller and its
    /// clones, and up to an eighth more than the exact one. One that was cut off, by its time or by a hedge's answer, counts
    /// with the time it had, or the tail would be forgotten just because it is hedged. Failures do not count.
    Percentile(u32),
}

impl Hedge {
    const fn new(delay: HedgeDelay) -> Self {
        Self {
            delay,
            max_hedges: 1,
            min_samples: 100,
        }
    }

    /// A hedge when this long has gone by without an answer.
    #[must_use]
    pub const fn after(delay: Duration) -> Self {
        Self::new(HedgeDelay::Fixed(delay))
    }

    /// A hedge when an answer takes longer than so many of a hundred: see [`HedgeDelay::Percentile`]. The paper has 95: one in
    /// twenty requests is sent twice.
    #[must_use]
    pub const fn at_percentile(percent: u32) -> Self {
        Self::new(HedgeDelay::Percentile(percent))
    }

    /// Sets [`max_hedges`](Self#structfield.max_hedges).
    #[must_use]
    pub const fn max_hedges(mut self, max_hedges: u32) -> Self {
        self.max_hedges = max_hedges;
        self
    }

    /// Sets [`min_samples`](Self#structfield.min_samples).
    #[must_use]
    pub const fn min_samples(mut self, min_samples: u32) -> Self {
        self.min_samples = min_samples;
        self
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        const MILLI: Duration = Duration::from_millis(1);
        const DAY: Duration = Duration::from_secs(86_400);
        let bad = |field, value: &dyn std::fmt::Debug, expected| {
            Err(BuildError::setting(field, value, expected))
        };
        match self.delay {
            HedgeDelay::Fixed(delay) if !(MILLI..=DAY).contains(&delay) => {
                return bad("Hedge::delay", &delay, "from 1 ms to a day");
            }
            HedgeDelay::Percentile(percent) if !(50..=99).contains(&percent) => {
                return bad("Hedge::delay", &percent, "a percentile from 50 to 99");
            }
            _ => {}
        }
        if !(1..=15).contains(&self.max_hedges) {
            return bad("Hedge::max_hedges", &self.max_hedges, "from 1 to 15");
        }
        if !(1..=1000).contains(&self.min_samples) {
            return bad("Hedge::min_samples", &self.min_samples, "from 1 to 1000");
        }
        Ok(())
    }
}

/// A caller's hedging: the settings, and what is measured for them.
pub(super) struct Hedging {
    pub(super) settings: Hedge,
    /// If the delay is a percentile.
    latencies: Option<Box<Latencies>>,
}

impl Hedging {
    pub(super) fn new(settings: Hedge) -> Self {
        let latencies = match settings.delay {
            HedgeDelay::Fixed(_) => None,
            HedgeDelay::Percentile(percent) => {
                Some(Box::new(Latencies::new(percent, settings.min_samples)))
            }
        };
        Self {
            settings,
            latencies,
        }
    }

    /// What is measured, if anything is.
    pub(super) fn latencies(&self) -> Option<&Latencies> {
        self.latencies.as_deref()
    }

    /// How long before the next hedge; `None` while that is not known.
    pub(super) fn delay(&self) -> Option<Duration> {
        match self.settings.delay {
            HedgeDelay::Fixed(delay) => Some(delay),
            HedgeDelay::Percentile(_) => self.latencies.as_ref()?.percentile(),
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_their_names() {
        let good = || Hedge::at_percentile(95);
        let bad = [
            ("delay", Hedge::after(Duration::ZERO)),
            ("delay", Hedge::after(Duration::MAX)),
            ("delay", Hedge::at_percentile(49)),
            ("delay", Hedge::at_percentile(100)),
            ("max_hedges", good().max_hedges(0)),
            ("max_hedges", good().max_hedges(16)),
            ("min_samples", good().min_samples(0)),
            ("min_samples", good().min_samples(1001)),
        ];
        for (name, hedge) in bad {
            let error = hedge.check().expect_err("out of range").to_string();
            assert!(error.starts_with(&format!("Hedge::{name} ")), "{error}");
        }
        assert_eq!(good().check(), Ok(()));
        assert_eq!(Hedge::after(Duration::from_millis(1)).check(), Ok(()));
    }
}
