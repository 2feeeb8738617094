//! Limits on the requests in flight: [`Limits`], and [`AdaptiveLimit`] for a limit that adapts to latency.

use std::time::Duration;

use crate::error::BuildError;
use crate::settings::{MILLI, setters, within};

/// The most requests that a member's counter can hold.
const MOST: u32 = (1 << 24) - 1 - (1 << 16);
const UP_TO_MOST: &str = "from 1 to 16711679";

/// How many requests may be in flight at once.
///
/// A pick passes over an endpoint at its limit, as it passes over an ejected one. When every endpoint that might be
/// picked is at its limit, or the fleet is at its own, a pick fails at once with
/// [`PickError::Saturated`](crate::PickError::Saturated). Nothing waits: there is no queue here that could grow.
///
/// A limit is exact: at no instant is a request let in beyond it, and a lease gives its place back however it ends. (If
/// an [adaptive](Self::adaptive) limit falls below the number in flight, those requests finish, and none is let in
/// until there is room.) The [panic rule](crate::PanicRule) ignores health, never a limit. Probes count, and so does
/// [`Fleet::lease`](crate::Fleet::lease). Out-of-band checks do not count, as they are not leases.
///
/// All limits are off by default. The right limit depends on the endpoints, and one that is too low fails requests that
/// would have succeeded. (Envoy's defaults, 1024 for a cluster of any size, protect a proxy's own queues and memory.
/// Here nothing is queued, and a request's memory is the caller's.) A limit that is not set costs nothing.
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
    /// The most requests in flight at one endpoint, from 1 to 16 711 679. Defaults to none.
    ///
    /// The number is the same for each endpoint, whatever its weight. Heavier endpoints reach it first, and lighter
    /// ones share what is left, by their weights. So set it to what the heaviest endpoint can bear, or use similar
    /// weights.
    ///
    /// The count belongs to the endpoint, not to its data: it continues through updates of weight and data. An endpoint
    /// that is removed and inserted again is a new one that starts at 0. Requests in flight at the old one count there,
    /// and for the fleet.
    ///
    /// With this setting, or with [`adaptive`](Self::adaptive), all threads count an endpoint's requests in one word,
    /// so that the number is exact. A request then costs more where several threads send to few endpoints. A pick that
    /// is refused has looked at all endpoints, at some 20 ns each; one that [`max_requests`](Self::max_requests)
    /// refuses has looked at none.
    pub max_requests_per_endpoint: Option<u32>,
    /// The most requests in flight in the whole fleet, from 1. Defaults to none. (Envoy: `max_requests` of a cluster,
    /// 1024, which concurrent threads can each exceed by one.)
    ///
    /// Requests at removed endpoints count until they end. With this setting, every thread writes one more shared word
    /// for each request.
    pub max_requests: Option<u32>,
    /// How many endpoints may be probed at once by requests, from 1.
    ///
    /// Defaults to none, since probes are already bounded: one for each ejected endpoint, and one pick in eleven while
    /// they do not succeed. Where endpoints hang, each probe is a request that waits for its timeout. With many
    /// endpoints out, this limit keeps such requests few.
    ///
    /// When a forgotten probe's time is up, its place goes to the next. Out-of-band checks
    /// ([`Fleet::health_check`](crate::Fleet::health_check)) count but are not held up: their driver has its own limit.
    pub max_probes: Option<u32>,
    /// A limit for each endpoint that follows its latency. Defaults to none. If
    /// [`max_requests_per_endpoint`](Self::max_requests_per_endpoint) is set too, the lower of both applies.
    pub adaptive: Option<AdaptiveLimit>,
}

impl Limits {
    setters! {
        max_requests_per_endpoint: u32 => Some(max_requests_per_endpoint),
        max_requests: u32 => Some(max_requests),
        max_probes: u32 => Some(max_probes),
        adaptive: AdaptiveLimit => Some(adaptive),
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let each = self.max_requests_per_endpoint;
        let each = each.map(|most| ("Limits::max_requests_per_endpoint", most));
        within(1..=MOST, UP_TO_MOST, each)?;
        let all = [
            ("Limits::max_requests", self.max_requests),
            ("Limits::max_probes", self.max_probes),
        ];
        let all = all
            .into_iter()
            .filter_map(|(field, most)| Some((field, most?)));
        within(1..=u32::MAX, "at least 1", all)?;
        self.adaptive.as_ref().map_or(Ok(()), AdaptiveLimit::check)
    }

    /// The limit that a new endpoint begins with; `None` if endpoints are not limited.
    pub(crate) fn of_endpoint(&self) -> Option<u32> {
        let first = self.adaptive.as_ref().map(|rule| rule.initial_concurrency);
        let most = self.max_requests_per_endpoint;
        match (first, most) {
            (Some(first), Some(most)) => Some(first.min(most)),
            (first, most) => first.or(most),
        }
    }

    /// The adaptive rule with its bounds lowered to the fixed limit, if both are set.
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

/// An adaptive limit on each endpoint's requests in flight.
///
/// It grows while the endpoint is as fast as at low load. It shrinks when the endpoint is slower, since then requests
/// queue up there.
///
/// ```text
/// gradient = clamp(usual · (1 + buffer) / latency, 0.5, 2) · (1 − overloaded / 2)
/// limit'   = clamp(limit · gradient + √(limit · gradient), min, max)
/// ```
///
/// The limit is updated once an [interval](Self::concurrency_update_interval) has passed and there are 25 latencies, or
/// a timeout or an answer that the endpoint is overloaded. `latency` is the mean of the latencies since the last
/// update; with fewer than 25 of them the clamped factor is 1. `overloaded` is the share of requests that timed out or
/// met an overloaded endpoint. Other failures count for neither: health scoring deals with them. The limit never rises
/// while no more than half of it is in flight: then it does not hold requests back, and nothing would show when it is
/// too high. It never falls below [`min_concurrency`](Self::min_concurrency), so no endpoint starves.
///
/// `usual` is a moving average of `latency`, over 10 s while at most half of the limit is in flight. Above that, part
/// of the latency may come from the queue, so the average falls over a minute and rises over ten. In this way an
/// endpoint that is slower for good is eventually believed. The price is that overload without a pause raises the
/// average and with it the limit, threefold in half an hour where it is 70. That is where this rule breaks down: set a
/// [`max_concurrency_limit`](Self::max_concurrency_limit) that you can accept. A pause of half a minute repairs it.
///
/// Sources: Envoy's adaptive concurrency filter, for the rule, names and defaults. Netflix's concurrency-limits
/// (`Gradient2Limit`), for the long average, which replaces periods of measuring at the smallest limit, and for not
/// rising when not limited. DCTCP (Alizadeh and others, SIGCOMM 2010), for shrinking by half of the marked share. That
/// the average distinguishes load from no load is this crate's own.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveLimit {
    /// The smallest limit, from 1. Defaults to 3, as in Envoy.
    pub min_concurrency: u32,
    /// The limit that an endpoint begins with, between the smallest and the largest. Defaults to 20, as in Netflix's
    /// `Gradient2Limit`. (Envoy begins with the smallest.)
    pub initial_concurrency: u32,
    /// The largest limit, up to 16 711 679. Defaults to 1000, as in Envoy.
    pub max_concurrency_limit: u32,
    /// How far the latency may exceed what is usual before the limit has to shrink, in percent of the usual latency, up
    /// to 1000. A higher value allows longer queues; a lower one takes noise for a queue. Defaults to 25, as Envoy's
    /// `buffer`.
    pub buffer_percent: u32,
    /// The time between two updates of the limit, from 1 ms to a minute. Defaults to 100 ms, the interval of Envoy's
    /// example; Envoy has no default.
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
    setters! {
        min_concurrency: u32,
        initial_concurrency: u32,
        max_concurrency_limit: u32,
        buffer_percent: u32,
        concurrency_update_interval: Duration,
    }

    fn check(&self) -> Result<(), BuildError> {
        let (least, first) = (self.min_concurrency, self.initial_concurrency);
        let most = self.max_concurrency_limit;
        within(
            1..=MOST,
            UP_TO_MOST,
            [("AdaptiveLimit::max_concurrency_limit", most)],
        )?;
        let expected = "from 1, or from min_concurrency, to max_concurrency_limit";
        within(
            1..=most,
            expected,
            [("AdaptiveLimit::min_concurrency", least)],
        )?;
        within(
            least..=most,
            expected,
            [("AdaptiveLimit::initial_concurrency", first)],
        )?;
        let buffer = ("AdaptiveLimit::buffer_percent", self.buffer_percent);
        within(0..=1000, "at most 1000", [buffer])?;
        let interval = self.concurrency_update_interval;
        let interval = ("AdaptiveLimit::concurrency_update_interval", interval);
        let minute = Duration::from_secs(60);
        within(MILLI..=minute, "from 1 ms to 1 min", [interval])
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
