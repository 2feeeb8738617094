//! Hedged requests, which are sent to a second endpoint before the first has answered: [`Hedge`].

use std::time::Duration;

use super::latencies::Latencies;
use crate::error::BuildError;
use crate::settings::{DAY, MILLI, setters, within};

/// Settings for hedging: when a [`Caller`](crate::Caller) sends a request to another endpoint although the first has
/// not answered yet, and takes the first good answer (Dean and Barroso, "The Tail at Scale", CACM 2013; gRPC's A6).
///
/// Hedging makes the slowest requests faster and costs some load. It is **only for requests that may be carried out
/// twice**, so it is off by default.
///
/// - A hedge goes to an endpoint that the request has not been sent to. It is one of the plan's
///   [`attempts`](crate::CallPlan::attempts) and is charged to the retry budget. If no endpoint, attempt or budget is
///   left, no hedge is sent, and the call goes on with the attempts in flight.
/// - The first good answer wins: an `Ok` that is not retryable. After a retryable result the call waits for the other
///   attempts. An `Err` that [`is_retryable`](crate::Transport::is_retryable) refuses ends the call, because other
///   endpoints would answer the same. A refusal as [`Overloaded`](crate::Outcome::Overloaded) is of one endpoint only:
///   if it is not retryable, no further attempt is sent, but the call waits for those in flight.
/// - The losers' futures are then dropped and count as [`Outcome::Abandoned`](crate::Outcome::Abandoned): neutral,
///   unless an attempt outlasted the fleet's [`patience`](crate::FleetBuilder::patience), by default three times the
///   usual latency and at least 50 ms. So an endpoint that hangs is ejected although hedges answer in its place, if a
///   hedge's delay and an answer together outlast patience. If they do not, set patience lower; otherwise the endpoint
///   shows only by its latency estimate, which such a drop raises.
/// - A request that is the half-open probe of an ejected endpoint is hedged no earlier than after the fleet's patience,
///   or 1 s if that is less. Otherwise an endpoint that is well again would never come back if it takes longer than a
///   hedge's delay and an answer: a probe that is dropped sooner says nothing.
///
/// ```
/// use evenkeel::{CallPlan, Hedge};
/// use std::time::Duration;
///
/// // A second attempt once the first takes longer than 95 of 100 requests do.
/// let plan = CallPlan::default().hedge(Hedge::at_percentile(95));
/// // Up to two more, 30 ms apart.
/// let other = CallPlan::default().attempts(3).hedge(Hedge::after(Duration::from_millis(30)).max_hedges(2));
/// # assert!(plan != other);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hedge {
    /// How long a request waits for an answer before a hedge is sent, and then before each further one.
    pub delay: HedgeDelay,
    /// How many hedges may be sent beside an attempt: 1 to 15. Defaults to 1, because the second of two endpoints is
    /// rarely slow too. A retry that follows when all of them have failed may be hedged as well.
    /// [`CallPlan::attempts`](crate::CallPlan::attempts) limits all together.
    pub max_hedges: u32,
    /// How many attempts must have been measured before a percentile is known: 1 to 1000. Until then no request is
    /// hedged. Defaults to 100, at which the share beyond a 95th percentile is known to 2.2 points (one standard
    /// deviation).
    pub min_samples: u32,
}

/// The delay before a hedge. See [`Hedge::delay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// A fixed delay: 1 ms to a day.
    Fixed(Duration),
    /// This percentile of the time that first attempts take: 50 to 99.
    ///
    /// It is that of the last one to two thousand first attempts (of calls, and of their retries) of this caller and
    /// its clones, and at most an eighth above the exact one. Calls that may be sent only once do not count. An attempt
    /// that was cut off, by its time limit or by a hedge's answer, counts with the time it had: otherwise hedging
    /// itself would hide the tail. Failures and refusals as overloaded do not count.
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

    /// Sends a hedge after this delay without an answer.
    #[must_use]
    pub const fn after(delay: Duration) -> Self {
        Self::new(HedgeDelay::Fixed(delay))
    }

    /// Sends a hedge when an answer takes longer than this percentile: see [`HedgeDelay::Percentile`]. The paper uses
    /// 95, so that one in twenty requests is sent twice.
    #[must_use]
    pub const fn at_percentile(percent: u32) -> Self {
        Self::new(HedgeDelay::Percentile(percent))
    }

    setters! {
        max_hedges: u32,
        min_samples: u32,
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        match self.delay {
            HedgeDelay::Fixed(delay) => {
                within(MILLI..=DAY, "from 1 ms to a day", [("Hedge::delay", delay)])
            }
            HedgeDelay::Percentile(percent) => {
                let expected = "a percentile from 50 to 99";
                within(50..=99, expected, [("Hedge::delay", percent)])
            }
        }?;
        within(
            1..=15,
            "from 1 to 15",
            [("Hedge::max_hedges", self.max_hedges)],
        )?;
        let samples = ("Hedge::min_samples", self.min_samples);
        within(1..=1000, "from 1 to 1000", [samples])
    }
}

/// A caller's hedging: the settings, and the latencies measured for them.
pub(super) struct Hedging {
    pub(super) settings: Hedge,
    /// `None` if the delay is fixed.
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

    /// Returns the measured latencies, if the delay is a percentile.
    pub(super) fn latencies(&self) -> Option<&Latencies> {
        self.latencies.as_deref()
    }

    /// Returns the delay before the next hedge; `None` while the percentile is not known.
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
