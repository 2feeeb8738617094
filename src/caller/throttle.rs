//! Adaptive throttling: refusing calls before they are sent, while most requests fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::recent::{Counts, Event, Recent};
use super::timer::DynTimer;
use crate::error::BuildError;
use crate::settings::{setters, within};
use crate::shared::{Load, one};
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// Settings for client-side throttling: when a [`Caller`](crate::Caller) refuses calls by itself. It is Google's
/// adaptive throttling ("Handling Overload", in *Site Reliability Engineering*, 2016), for when health is of no more
/// help.
///
/// While the cluster [has no healthy choice](crate::Cluster::has_healthy), a call is refused with
/// [`StopReason::Throttled`](crate::StopReason::Throttled) before it is sent. The probability is max(0, (requests - k *
/// accepts) / (requests + 1)), over the last ten seconds. *Requests* are calls that were sent and have ended, and those
/// that were refused. Calls in flight count, too, while their mean age exceeds the fleet's
/// [`patience`](crate::FleetBuilder::patience) and is less than a minute; a dropped call counts if it outlasted the
/// patience. *Accepts* are attempts that were answered neither with a fault nor with
/// [`Overloaded`](crate::Outcome::Overloaded). So overloaded servers get about k times the load that they can answer,
/// and not the whole demand. While there is a healthy choice nothing is refused: avoiding bad endpoints is then left to
/// ejection.
///
/// The window is ten seconds, not the book's two minutes: the book's client throttles by nothing else, while here it is
/// the last resort and should end soon after its cause. In an outage, a service that sends at most one request in ten
/// seconds has at most two thirds of them refused.
///
/// ```
/// use evenkeel::{CallPlan, Throttle};
///
/// let plan = CallPlan::default().throttle(Throttle::default().k(1.5));
/// assert_eq!(plan.throttle.unwrap().max_rejection_percent, 80);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Throttle {
    /// How many requests may be sent for each one that is accepted: 1 to 100. Defaults to 2, as in the book: servers
    /// get twice what they answer, so it shows soon when they can answer more. Lower values refuse earlier, and go on
    /// for longer while there is no healthy choice (with one endpoint there never is, as it is not ejected by default):
    /// once nothing fails, each ten seconds let through k times as much. From 80 % refused that takes some twenty
    /// seconds at 2 and more than a minute at 1.2; at 1 it has no end.
    pub k: f64,
    /// How many of a hundred requests are refused at most: 1 to 100. Defaults to 80, the `max_rejection_probability` of
    /// Envoy's admission control.
    ///
    /// Ejected endpoints come back by requests that probe them, so some requests must go on. At 100, a busy service
    /// would send about one request in ten seconds.
    pub max_rejection_percent: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            k: 2.0,
            max_rejection_percent: 80,
        }
    }
}

impl Throttle {
    setters! {
        k: f64,
        max_rejection_percent: u32,
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        within(1.0..=100.0, "from 1 to 100", [("Throttle::k", self.k)])?;
        let percent = (
            "Throttle::max_rejection_percent",
            self.max_rejection_percent,
        );
        within(1..=100, "from 1 to 100", [percent])
    }

    /// Returns the probability with which a request is refused.
    fn rejection(&self, counts: Counts) -> f64 {
        let requests = counts.requests as f64;
        let beyond = requests - self.k * counts.secondary as f64;
        (beyond / (requests + 1.0)).clamp(0.0, f64::from(self.max_rejection_percent) / 100.0)
    }
}

/// Calls that are open for longer in the mean are streams, as for `Adaptive`.
const STREAM: Duration = Duration::from_secs(60);

/// The counts of a throttle. Beyond a million accepts or four million requests in one second, they are not counted.
#[derive(Debug)]
pub(super) struct Throttling {
    settings: Throttle,
    recent: Recent,
    /// The calls in flight: their number and the sum of their starts.
    in_flight: AtomicU64,
    /// The patience of the fleet that the last call was sent to, in nanoseconds.
    patience: AtomicU64,
}

impl Throttling {
    pub(super) fn new(settings: Throttle) -> Self {
        Self {
            settings,
            recent: Recent::new(),
            in_flight: AtomicU64::new(0),
            patience: AtomicU64::new(u64::MAX),
        }
    }

    /// Returns whether to send a request, drawn with 64 random bits. Counts it if not.
    pub(super) fn admits(
        &self,
        now: Tick,
        has_healthy: impl FnOnce() -> bool,
        random: impl FnOnce() -> u64,
    ) -> bool {
        let mut counts = self.recent.counts(now);
        counts.requests += self.overdue(now);
        let rejection = self.settings.rejection(counts);
        if rejection <= 0.0 || has_healthy() {
            return true;
        }
        let is_admitted = (random() >> 11) as f64 / (1_u64 << 53) as f64 >= rejection;
        if !is_admitted {
            self.count_request(now);
        }
        is_admitted
    }

    /// Counts a request that was refused, or was sent and has ended.
    fn count_request(&self, now: Tick) {
        self.recent.add(now, Event::Request);
    }

    /// How many of the calls in flight count: none, or all if they are open for longer than the patience in the mean. A
    /// burst must not be refused for the answers that cannot have come yet, nor a call because of streams.
    fn overdue(&self, now: Tick) -> u64 {
        // ORDERING: Relaxed, both. Statistics, each complete in itself.
        let load = Load(self.in_flight.load(Ordering::Relaxed));
        let patience = Duration::from_nanos(self.patience.load(Ordering::Relaxed));
        match load.mean_age(now) {
            Some(age) if age > patience && age < STREAM => load.count().into(),
            _ => 0,
        }
    }

    /// A request is sent now.
    pub(super) fn sent<'a>(
        &'a self,
        timer: &'a dyn DynTimer,
        now: Tick,
        patience: Duration,
    ) -> Sent<'a> {
        // ORDERING: Relaxed, both. As above.
        self.patience.store(nanos(patience), Ordering::Relaxed);
        self.in_flight.fetch_add(one(now), Ordering::Relaxed);
        Sent {
            throttling: self,
            timer,
            at: now,
            patience,
            has_ended: false,
        }
    }

    /// Counts an accepted attempt.
    pub(super) fn count_accepted(&self, now: Tick) {
        self.recent.add(now, Event::Secondary);
    }
}

/// A request that has been sent. Dropped, it counts only if it outlasted the patience: the caller of a server that
/// hangs may give up, and one that answers may not be wanted any more.
pub(super) struct Sent<'a> {
    throttling: &'a Throttling,
    timer: &'a dyn DynTimer,
    at: Tick,
    patience: Duration,
    has_ended: bool,
}

impl Sent<'_> {
    /// The request has ended, and counts however short it was.
    pub(super) fn end(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        // The timer is the user's, and may be what has just panicked; a second panic would abort.
        let now = catch_unwind(AssertUnwindSafe(|| self.timer.tick())).unwrap_or(self.at);
        // ORDERING: Relaxed. As above.
        (self.throttling.in_flight).fetch_sub(one(self.at), Ordering::Relaxed);
        if self.has_ended || now.since(self.at) > self.patience {
            self.throttling.count_request(now);
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rejection(throttle: Throttle, requests: u64, secondary: u64) -> f64 {
        throttle.rejection(Counts {
            requests,
            secondary,
        })
    }

    #[test]
    fn the_rejection_follows_the_sre_books_formula() {
        let all = Throttle::default().max_rejection_percent(100);
        for (requests, accepts, expected) in [
            (0, 0, 0.0),
            (0, 7, 0.0),
            (1, 0, 0.5),
            (100, 0, 100.0 / 101.0),
            (100, 25, 50.0 / 101.0),
            (100, 50, 0.0),
            (100, 100, 0.0),
        ] {
            assert_eq!(rejection(all, requests, accepts), expected);
        }
        assert_eq!(rejection(all.k(1.0), 100, 50), 50.0 / 101.0);
        assert_eq!(rejection(Throttle::default(), 1000, 0), 0.8);
    }

    #[test]
    fn while_there_is_a_healthy_choice_nothing_is_refused() {
        let throttling = Throttling::new(Throttle::default());
        for _ in 0..1000 {
            assert!(throttling.admits(Tick::ZERO, || true, || 0));
            throttling.count_request(Tick::ZERO);
        }
        assert!(!throttling.admits(Tick::ZERO, || false, || 0));
        assert!(throttling.admits(Tick::ZERO, || false, || u64::MAX));
        // Ten seconds later the counts are forgotten.
        let later = Tick::from_nanos(10_000_000_000);
        assert!(throttling.admits(later, || false, || 0));
    }

    /// A timer whose time stands still.
    struct Still;

    impl DynTimer for Still {
        fn tick(&self) -> Tick {
            Tick::ZERO
        }

        fn sleep_boxed(&self, _: Duration) -> crate::transport::BoxFuture<'_, ()> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn what_is_in_flight_counts_from_the_patience_up_to_a_minute() {
        let throttling = Throttling::new(Throttle::default());
        let admits = |seconds| {
            let now = Tick::ZERO.after(Duration::from_secs(seconds));
            throttling.admits(now, || false, || 0)
        };
        let send = |_| throttling.sent(&Still, Tick::ZERO, Duration::from_secs(2));
        let sent: Vec<_> = (0..1000).map(send).collect();
        assert!(admits(0) && admits(1) && !admits(3) && !admits(59));
        // The two refused above have left the window of ten seconds.
        assert!(admits(80), "streams");
        drop(sent);
        assert!(
            admits(95),
            "none has ended, and none outlasted the patience"
        );
    }

    #[test]
    fn settings_out_of_range_are_refused_by_their_names() {
        let bad = [
            ("k", Throttle::default().k(0.99)),
            ("k", Throttle::default().k(f64::NAN)),
            ("k", Throttle::default().k(f64::INFINITY)),
            (
                "max_rejection_percent",
                Throttle::default().max_rejection_percent(0),
            ),
            (
                "max_rejection_percent",
                Throttle::default().max_rejection_percent(101),
            ),
        ];
        for (name, throttle) in bad {
            let error = throttle.check().expect_err("out of range").to_string();
            assert!(error.starts_with(&format!("Throttle::{name} ")), "{error}");
        }
        assert_eq!(Throttle::default().check(), Ok(()));
    }

    proptest! {
        #[test]
        fn more_accepts_refuse_fewer_and_more_requests_more(
            requests in 0u64..1 << 31, accepts in 0u64..1 << 31, k in 1.0f64..100.0, most in 1u32..=100,
        ) {
            let throttle = Throttle::default().k(k).max_rejection_percent(most);
            let here = rejection(throttle, requests, accepts);
            prop_assert!((0.0..=f64::from(most) / 100.0).contains(&here));
            prop_assert!(rejection(throttle, requests, accepts + 1) <= here);
            prop_assert!(rejection(throttle, requests + 1, accepts) >= here);
            prop_assert!(rejection(throttle.k(k + 1.0), requests, accepts) <= here);
            prop_assert!(requests as f64 > k * accepts as f64 || here == 0.0);
        }
    }
}
