//! The settings of a caller: [`CallPlan`].

use std::time::Duration;

use super::hedge::Hedge;
use super::throttle::Throttle;
use crate::error::BuildError;
use crate::settings::{DAY, MILLI, setters, within};
use crate::shared::below;
use crate::time::nanos;

/// The settings of a [`Caller`](crate::Caller): how many times and for how long a request is tried, and how many
/// retries there may be in total.
///
/// ```
/// use evenkeel::CallPlan;
/// use std::time::Duration;
///
/// let plan = CallPlan::default()
///     .attempts(3)
///     .attempt_timeout(Duration::from_millis(300))
///     .deadline(Duration::from_secs(1));
/// assert_eq!(plan.budget_percent, 20);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CallPlan {
    /// How many times a request is sent at most, the first attempt and hedges included: 1 to 16.
    ///
    /// Defaults to 2 (one retry), as Envoy's `num_retries`: each attempt goes to another endpoint, and two bad ones in
    /// a row are rare where bad endpoints are ejected.
    pub attempts: u32,
    /// How long each attempt may take: 1 ms to a day. An attempt that takes longer is cut off and counts as
    /// [`Outcome::Timeout`](crate::Outcome::Timeout).
    ///
    /// Unset by default, as Envoy's `per_try_timeout`: only the service knows what is long. **Set it, or a
    /// [`hedge`](Self::hedge).** Without either, an endpoint that accepts a request and never answers uses up the whole
    /// deadline, and there is no retry.
    pub attempt_timeout: Option<Duration>,
    /// How long a call may take in total, waits included: 1 ms to a day. Defaults to 15 s, Envoy's route timeout. Set
    /// the field to `None` for no limit.
    ///
    /// A first attempt that is cut off by the deadline counts as [`Outcome::Timeout`](crate::Outcome::Timeout). A later
    /// attempt had less time, so it counts as [`Outcome::Abandoned`](crate::Outcome::Abandoned), and the fleet's
    /// patience decides.
    pub deadline: Option<Duration>,
    /// Whether an attempt that was cut off after [`attempt_timeout`](Self::attempt_timeout) is retried. Defaults to
    /// `true`, because a timeout is a fault.
    ///
    /// The endpoint may still have carried out the request, so set this to `false` for requests that must not run
    /// twice.
    pub retry_timeouts: bool,
    /// Whether a retry may go to an endpoint that the request was sent to before, once no other is left. It goes to the
    /// last of them only if that is the only one. A hedge alone opens no second round.
    ///
    /// Defaults to `false`, where Envoy and gRPC pick any endpoint for a retry: with a choice, the same one is likely
    /// to fail again. Set it where one or two addresses stand for more servers, such as the virtual address of a
    /// service.
    pub repeat_endpoints: bool,
    /// The longest wait before the first retry; it doubles with each further one. 0 (no waits) to a day. Defaults to 25
    /// ms, as in Envoy.
    ///
    /// The wait is drawn uniformly between 0 and that (full jitter), so that requests that failed together do not
    /// return together.
    pub backoff_base: Duration,
    /// Where the doubling ends: [`backoff_base`](Self::backoff_base) to a day. Defaults to 250 ms, as in Envoy.
    pub backoff_max: Duration,
    /// How many retries are allowed for each hundred requests of the last ten seconds: 0 to 100. Defaults to 20, as in
    /// Envoy and Finagle: in an outage the load grows by a fifth at most.
    pub budget_percent: u32,
    /// How many retries are allowed in ten seconds if [`budget_percent`](Self::budget_percent) allows fewer: 0 to 1000.
    /// Defaults to 3, Envoy's `min_retry_concurrency`.
    ///
    /// The default detector ejects an endpoint after two failures or three timeouts if no other endpoint fails, so
    /// three retries cover its death. (It takes more timeouts where they come after only a few times the usual latency;
    /// see [`Ejection::cusum_threshold`](crate::Ejection::cusum_threshold). With Finagle's 10 a *second*, each of a
    /// thousand clients that send now and then could double its load in an outage.)
    ///
    /// An endpoint that stays dead also costs a retry for each of its first two probes. At two requests a second or
    /// fewer, with a policy that does not avoid it, one call fails for that, or two where there are two endpoints. A
    /// floor of 6 hides them.
    pub budget_floor: u32,
    /// How many retries, hedges included, may be in flight at once: 0 to a million. Unset by default.
    ///
    /// Envoy's `max_retries` is 3, for a whole cluster whatever its load, so that a service of a thousand requests a
    /// second retries hardly anything. Here the budget grows with the load and bounds what an outage costs. This
    /// setting bounds what retries hold while they are in flight (memory, connections).
    pub max_concurrent_retries: Option<u32>,
    /// Whether and when a request is sent a second time before the first attempt has answered. Unset by default,
    /// because it is only for requests that may be carried out twice.
    pub hedge: Option<Hedge>,
    /// Whether calls are refused before they are sent, while the cluster has no healthy choice and most requests fail.
    /// Unset by default: it is for clients of servers that can be overloaded.
    pub throttle: Option<Throttle>,
    /// Makes random draws repeatable: waits, and what a [`Throttle`] refuses. By default the seed comes from the
    /// operating system.
    pub seed: Option<u64>,
}

impl Default for CallPlan {
    fn default() -> Self {
        Self {
            attempts: 2,
            attempt_timeout: None,
            deadline: Some(Duration::from_secs(15)),
            retry_timeouts: true,
            repeat_endpoints: false,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget_percent: 20,
            budget_floor: 3,
            max_concurrent_retries: None,
            hedge: None,
            throttle: None,
            seed: None,
        }
    }
}

/// The largest number of attempts of one call.
pub(super) const MOST_ATTEMPTS: u32 = 16;

impl CallPlan {
    setters! {
        attempts: u32,
        attempt_timeout: Duration => Some(attempt_timeout),
        deadline: Duration => Some(deadline),
        retry_timeouts: bool,
        repeat_endpoints: bool,
        backoff_base: Duration,
        backoff_max: Duration,
        budget_percent: u32,
        budget_floor: u32,
        max_concurrent_retries: u32 => Some(max_concurrent_retries),
        hedge: Hedge => Some(hedge),
        throttle: Throttle => Some(throttle),
        seed: u64 => Some(seed),
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let attempts = ("CallPlan::attempts", self.attempts);
        within(1..=MOST_ATTEMPTS, "from 1 to 16", [attempts])?;
        let percent = ("CallPlan::budget_percent", self.budget_percent);
        within(0..=100, "from 0 to 100", [percent])?;
        let floor = ("CallPlan::budget_floor", self.budget_floor);
        within(0..=1000, "from 0 to 1000", [floor])?;
        let retries = self.max_concurrent_retries;
        let retries = retries.map(|most| ("CallPlan::max_concurrent_retries", most));
        within(0..=1_000_000, "at most a million", retries)?;
        let limits = [
            ("CallPlan::attempt_timeout", self.attempt_timeout),
            ("CallPlan::deadline", self.deadline),
        ];
        let limits = limits
            .into_iter()
            .filter_map(|(field, limit)| Some((field, limit?)));
        within(MILLI..=DAY, "from 1 ms to a day", limits)?;
        let (base, max) = (self.backoff_base, self.backoff_max);
        within(
            Duration::ZERO..=DAY,
            "at most a day",
            [("CallPlan::backoff_base", base)],
        )?;
        within(
            base..=DAY,
            "backoff_base to a day",
            [("CallPlan::backoff_max", max)],
        )?;
        self.hedge.as_ref().map_or(Ok(()), Hedge::check)?;
        self.throttle.as_ref().map_or(Ok(()), Throttle::check)
    }

    /// Returns the wait before a retry, numbered from 1, drawn with 64 random bits.
    pub(super) fn backoff(&self, retry: u32, random: u64) -> Duration {
        let doubled = self.backoff_base.saturating_mul(1 << (retry - 1).min(31));
        Duration::from_nanos(below(nanos(doubled.min(self.backoff_max)), random))
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_between_zero_and_the_doubled_base() {
        let plan = CallPlan::default();
        for (retry, longest) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (15, 250)] {
            let longest = Duration::from_millis(longest);
            assert_eq!(plan.backoff(retry, 0), Duration::ZERO);
            assert!(plan.backoff(retry, u64::MAX) < longest);
            assert!(plan.backoff(retry, u64::MAX) > longest - Duration::from_micros(1));
            assert_eq!(plan.backoff(retry, 1 << 63), longest / 2);
        }
        let none = plan.backoff_base(Duration::ZERO);
        assert_eq!(none.backoff(3, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_their_names() {
        let plan = CallPlan::default;
        let bad = [
            ("attempts", plan().attempts(0)),
            ("attempts", plan().attempts(17)),
            ("attempt_timeout", plan().attempt_timeout(Duration::ZERO)),
            ("deadline", plan().deadline(Duration::MAX)),
            ("backoff_base", plan().backoff_base(Duration::MAX)),
            ("backoff_max", plan().backoff_max(MILLI)),
            ("backoff_max", plan().backoff_max(Duration::MAX)),
            ("budget_percent", plan().budget_percent(101)),
            ("budget_floor", plan().budget_floor(1001)),
            (
                "max_concurrent_retries",
                plan().max_concurrent_retries(1_000_001),
            ),
        ];
        for (name, plan) in bad {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("CallPlan::{name} ")), "{error}");
        }
        assert_eq!(plan().check(), Ok(()));
        let hedge = Hedge::after(MILLI).max_hedges(0);
        assert!(plan().hedge(hedge).check().is_err());
        let throttle = Throttle::default().k(0.0);
        assert!(plan().throttle(throttle).check().is_err());
    }
}
