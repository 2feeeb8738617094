//! How many requests may be under way at once: [`Limits`], and [`AdaptiveLimit`] for a limit that finds itself.

use std::time::Duration;

use crate::error::BuildError;

/// The most requests that a member's counter can hold.
const MOST: u32 = (1 << 24) - 1 - (1 << 16);

/// How many requests may be under way at once. Over its limit an endpoint is passed over, as an ejected one is; when all
/// that might be picked are at theirs, or the fleet is, a pick fails with
/// [`PickError::Saturated`](crate::PickError::Saturated) at once. Nothing waits: there is no queue here that could grow.
///
/// A limit is exact: no request is let in beyond it, at any instant, and a lease gives its place back however it ends. (An
/// [adaptive](Self::adaptive) one that falls below what is in flight lets that finish, and lets nothing in until it has.) The
/// [panic rule](crate::PanicRule) ignores health, never a limit; probes count, and so does
/// [`Fleet::lease`](crate::Fleet::lease). Checks out of band do not: they are not leases.
///
/// All are off by default. What limit is right is known by who knows the endpoints: one that is too low fails requests that
/// would have gone well. (Envoy's defaults, 1024 for a cluster of any size, guard a proxy's own queues and memory;
/// here nothing is queued, and what a request costs its caller is the caller's.) Users who set none pay nothing for it.
///
/// ```
/// use evenkeel::{Cluster, Fleet, Limits, PickError};
///
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b"].map(String::from))
///     .limits(Limits::default().max_requests_per_endpoint(1))
///     .build()?;
/// let (one, other) = (fleet.pick_endpoint()?, fleet.pick_endpoint()?);
/// assert_ne!(one.endpoint(), other.endpoint());
/// assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Saturated);
/// drop(one);
/// assert!(fleet.pick_endpoint().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Requests in flight at one endpoint, from 1 to 16 711 679. Defaults to none.
    ///
    /// It is the same number for each, whatever its weight: heavier ones reach it first, and lighter ones take what is left,
    /// by their weights. So it should be what the heaviest can bear, or weights should be alike.
    ///
    /// It belongs to the endpoint, not to its data: through updates of weight and data requests count on. One that is
    /// removed and comes back is another, which starts at 0; what is in flight at the old one counts there, and for the
    /// fleet.
    ///
    /// With it (or with [`adaptive`](Self::adaptive)) all threads count an endpoint's requests in one word, so that the
    /// number is exact. A request then costs more where several threads send to few endpoints. A pick that is refused has
    /// looked at all endpoints, some 20 ns for each; one that [`max_requests`](Self::max_requests) refuses at none.
    pub max_requests_per_endpoint: Option<u32>,
    /// Requests in flight of the whole fleet, from 1. Defaults to none. (Envoy: `max_requests`, of a cluster, 1024, and
    /// exceeded by as many threads as look at once.)
    ///
    /// Requests at endpoints that have been removed count until they end. With it all threads write one more word for each
    /// request.
    pub max_requests: Option<u32>,
    /// How many endpoints may be probed at once by requests, from 1. Defaults to none, as probes are bounded already: one for each
    /// ejected endpoint, and one pick in eleven while they do not end well. Where endpoints hang, each probe is a
    /// request that waits for its timeout; with many of them out, a bound keeps those few.
    ///
    /// A probe that was forgotten gives its place to the next when its time is up. Checks out of band
    /// ([`Fleet::health_check`](crate::Fleet::health_check)) count, and are not held up: their driver has its own cap.
    pub max_probes: Option<u32>,
    /// A limit for each endpoint that follows its latency. Defaults to none. With
    /// [`max_requests_per_endpoint`](Self::max_requests_per_endpoint) the lower of both holds.
    pub adaptive: Option<AdaptiveLimit>,
}

impl Limits {
    /// Sets [`max_requests_per_endpoint`](Self#structfield.max_requests_per_endpoint).
    #[must_use]
    pub const fn max_requests_per_endpoint(mut self, most: u32) -> Self {
        self.max_requests_per_endpoint = Some(most);
        self
    }

    /// Sets [`max_requests`](Self#structfield.max_requests).
    #[must_use]
    pub const fn max_requests(mut self, most: u32) -> Self {
        self.max_requests = Some(most);
        self
    }

    /// Sets [`max_probes`](Self#structfield.max_probes).
    #[must_use]
    pub const fn max_probes(mut self, most: u32) -> Self {
        self.max_probes = Some(most);
        self
    }

    /// Sets [`adaptive`](Self#structfield.adaptive).
    #[must_use]
    pub const fn adaptive(mut self, rule: AdaptiveLimit) -> Self {
        self.adaptive = Some(rule);
        self
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        within(
            "Limits::max_requests_per_endpoint",
            self.max_requests_per_endpoint,
            MOST,
        )?;
        within("Limits::max_requests", self.max_requests, u32::MAX)?;
        within("Limits::max_probes", self.max_probes, u32::MAX)?;
        self.adaptive.as_ref().map_or(Ok(()), AdaptiveLimit::check)
    }

    /// What a new endpoint may take, if that is limited.
    pub(crate) fn of_endpoint(&self) -> Option<u32> {
        let first = self.adaptive.as_ref().map(|rule| rule.initial_concurrency);
        let most = self.max_requests_per_endpoint;
        match (first, most) {
            (Some(first), Some(most)) => Some(first.min(most)),
            (first, most) => first.or(most),
        }
    }

    /// What of an adaptive limit is in force beside a plain one.
    pub(crate) fn rule(&self) -> Option<AdaptiveLimit> {
        let most = self.max_requests_per_endpoint.unwrap_or(MOST);
        let rule = self.adaptive.clone()?;
        Some(AdaptiveLimit {
            min_concurrency: rule.min_concurrency.min(most),
            max_concurrency_limit: rule.max_concurrency_limit.min(most),
            ..rule
        })
    }
}

fn within(field: &'static str, value: Option<u32>, most: u32) -> Result<(), BuildError> {
    match value {
        Some(value) if value == 0 || value > most => Err(BuildError::setting(
            field,
            value,
            if most == MOST {
                "from 1 to 16711679"
            } else {
                "at least 1"
            },
        )),
        _ => Ok(()),
    }
}

/// An adaptive limit on each endpoint's requests in flight: it grows while the endpoint is as quick as it is at low load, and shrinks when
/// it is slower, as then requests queue up there.
///
/// ```text
/// gradient = clamp(usual · (1 + buffer) / latency, 0.5, 2) · (1 − overloaded / 2)
/// limit'   = clamp(limit · gradient + √(limit · gradient), min, max)
/// ```
///
/// Each [interval](Self::concurrency_update_interval) with 25 latencies, or with a timeout or an answer that it is
/// overloaded: `latency` is their mean and `overloaded` the share of requests that ended so. Other failures count for
/// neither: they are health's. The limit never rises while fewer than half of it are in flight: then it is not what
/// holds requests back, and nothing would tell how high is too high. It never falls below
/// [`min_concurrency`](Self::min_concurrency), so nobody starves.
///
/// `usual` is a moving average of `latency`, over 10 s while at most half of the limit is in flight. Else what is seen may
/// be what the queue adds: it falls over a minute, and rises over ten. So an endpoint that is slower for good is believed
/// in the end; and the other way round, overload that never pauses raises what is usual and with it the limit, threefold in
/// half an hour where it is 70. That is where this rule breaks down: set a
/// [`max_concurrency_limit`](Self::max_concurrency_limit) that you can stand by. A pause of half a minute mends it.
///
/// Sources: Envoy's adaptive concurrency filter, with its rule, names and defaults; Netflix's concurrency-limits
/// (`Gradient2Limit`), for the long average in place of a time at the least limit, in which to measure, and for not
/// rising when not limited; DCTCP (Alizadeh and others, SIGCOMM 2010) for shrinking by half of the share that is marked.
/// That the average tells load from no load is this crate's.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveLimit {
    /// The least limit, from 1. Defaults to 3, as Envoy's.
    pub min_concurrency: u32,
    /// The limit that an endpoint begins with, between the least and the most. Defaults to 20, as that of Netflix's
    /// `Gradient2Limit`. (Envoy begins with the least.)
    pub initial_concurrency: u32,
    /// The most, up to 16 711 679. Defaults to 1000, as Envoy's.
    pub max_concurrency_limit: u32,
    /// By how much the latency may exceed what is usual before the limit has to shrink, in percent of that, up to 1000.
    /// More lets longer queues stand, less takes noise for a queue. Defaults to 25, as Envoy's `buffer`.
    pub buffer_percent: u32,
    /// The time between two looks, from 1 ms to a minute. Defaults to 100 ms, the interval of Envoy's example; it has no
    /// default.
    pub concurrency_update_interval: Duration,
}

impl Default for AdaptiveLimit {
    fn default() -> Self {
        Self {
            min_concurrency: 3,
            initial_concurrency: 20,
            max_concurrency_limit: 1000,
            buffer_percent: 25,
            concurrency_update_interval: Duration::from_millis(100),
        }
    }
}

impl AdaptiveLimit {
    /// Sets [`min_concurrency`](Self#structfield.min_concurrency).
    #[must_use]
    pub const fn min_concurrency(mut self, least: u32) -> Self {
        self.min_concurrency = least;
        self
    }

    /// Sets [`initial_concurrency`](Self#structfield.initial_concurrency).
    #[must_use]
    pub const fn initial_concurrency(mut self, first: u32) -> Self {
        self.initial_concurrency = first;
        self
    }

    /// Sets [`max_concurrency_limit`](Self#structfield.max_concurrency_limit).
    #[must_use]
    pub const fn max_concurrency_limit(mut self, most: u32) -> Self {
        self.max_concurrency_limit = most;
        self
    }

    /// Sets [`buffer_percent`](Self#structfield.buffer_percent).
    #[must_use]
    pub const fn buffer_percent(mut self, percent: u32) -> Self {
        self.buffer_percent = percent;
        self
    }

    /// Sets [`concurrency_update_interval`](Self#structfield.concurrency_update_interval).
    #[must_use]
    pub const fn concurrency_update_interval(mut self, interval: Duration) -> Self {
        self.concurrency_update_interval = interval;
        self
    }

    fn check(&self) -> Result<(), BuildError> {
        within(
            "AdaptiveLimit::max_concurrency_limit",
            Some(self.max_concurrency_limit),
            MOST,
        )?;
        let bounds = [
            ("AdaptiveLimit::min_concurrency", self.min_concurrency),
            (
                "AdaptiveLimit::initial_concurrency",
                self.initial_concurrency,
            ),
        ];
        let mut least = 1;
        for (field, value) in bounds {
            if !(least..=self.max_concurrency_limit).contains(&value) {
                let expected = "from 1, or from min_concurrency, to max_concurrency_limit";
                return Err(BuildError::setting(field, value, expected));
            }
            least = value;
        }
        if self.buffer_percent > 1000 {
            return Err(BuildError::setting(
                "AdaptiveLimit::buffer_percent",
                self.buffer_percent,
                "at most 1000",
            ));
        }
        let interval = self.concurrency_update_interval;
        if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&interval) {
            return Err(BuildError::setting(
                "AdaptiveLimit::concurrency_update_interval",
                interval,
                "from 1 ms to 1 min",
            ));
        }
        Ok(())
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_named() {
        let good = Limits::default;
        let rule = AdaptiveLimit::default;
        let table = [
            (good().max_requests(0), "Limits::max_requests is 0"),
            (good().max_probes(0), "Limits::max_probes is 0"),
            (
                good().max_requests_per_endpoint(0),
                "Limits::max_requests_per_endpoint is 0",
            ),
            (
                good().max_requests_per_endpoint(MOST + 1),
                "Limits::max_requests_per_endpoint is 16711680",
            ),
            (
                good().adaptive(rule().min_concurrency(0)),
                "AdaptiveLimit::min_concurrency is 0",
            ),
            (
                good().adaptive(rule().min_concurrency(1001)),
                "AdaptiveLimit::min_concurrency is 1001",
            ),
            (
                good().adaptive(rule().initial_concurrency(2)),
                "AdaptiveLimit::initial_concurrency is 2",
            ),
            (
                good().adaptive(rule().max_concurrency_limit(0)),
                "AdaptiveLimit::max_concurrency_limit is 0",
            ),
            (
                good().adaptive(rule().buffer_percent(1001)),
                "AdaptiveLimit::buffer_percent is 1001",
            ),
            (
                good().adaptive(rule().concurrency_update_interval(Duration::ZERO)),
                "AdaptiveLimit::concurrency_update_interval is 0ns",
            ),
        ];
        for (settings, message) in table {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        assert_eq!(good().check(), Ok(()));
        assert_eq!(good().adaptive(rule()).check(), Ok(()));
    }

    #[test]
    fn of_a_plain_and_an_adaptive_limit_the_lower_holds() {
        let both = Limits::default().adaptive(AdaptiveLimit::default());
        assert_eq!(both.of_endpoint(), Some(20));
        let both = both.max_requests_per_endpoint(2);
        assert_eq!(both.of_endpoint(), Some(2));
        let rule = both.rule().unwrap();
        assert_eq!((rule.min_concurrency, rule.max_concurrency_limit), (2, 2));
        assert_eq!(Limits::default().of_endpoint(), None);
    }
}
