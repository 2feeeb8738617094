//! A caller's settings: [`CallPlan`].

use std::time::Duration;

use super::hedge::Hedge;
use super::throttle::Throttle;
use crate::error::BuildError;
use crate::shared::below;
use crate::time::nanos;

/// How often a request is tried, for how long, and how many retries there may be over all.
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
    /// How often a request is sent at most, the first time and hedges included: 1 to 16. Defaults to 2, one retry, as Envoy's
    /// `num_retries`: each goes to another endpoint, and two bad ones in a row are rare where bad ones are ejected.
    pub attempts: u32,
    /// How long each attempt may take: 1 ms to a day. One that takes longer is cut off, and counts as
    /// [`Outcome::Timeout`](crate::Outcome::Timeout). Unset by default, as Envoy's `per_try_timeout`: what is long,
    /// the service knows. **Set it, or a [`hedge`](Self::hedge):** without, an endpoint that accepts a request and never
    /// answers uses up the whole deadline, and there is no retry.
    pub attempt_timeout: Option<Duration>,
    /// How long a call may take in all, waits included: 1 ms to a day. Defaults to 15 s, Envoy's route
    /// timeout. A first attempt that is cut off by it counts as [`Outcome::Timeout`](crate::Outcome::Timeout). A later one
    /// had less than its time, so it counts as [`Outcome::Abandoned`](crate::Outcome::Abandoned), and the fleet's patience
    /// decides. Set the field to `None` for no limit.
    pub deadline: Option<Duration>,
    /// Whether an attempt that was cut off after [`attempt_timeout`](Self::attempt_timeout) is tried again. Defaults
    /// to yes, as a timeout is a fault. It may have been carried out, so say no where it must not be twice.
    pub retry_timeouts: bool,
    /// The longest wait before the first retry; it doubles with each further one. The wait is drawn evenly between 0
    /// and that (full jitter), so that requests which failed together do not return together. 0 to a day. Defaults to
    /// 25 ms, Envoy's. 0: no waits.
    pub backoff_base: Duration,
    /// Where the doubling ends: [`backoff_base`](Self::backoff_base) to a day. Defaults to 250 ms, Envoy's.
    pub backoff_max: Duration,
    /// How many retries there may be for each hundred requests of the last ten seconds: 0 to 100. Defaults to 20,
    /// Envoy's and Finagle's: in an outage the load grows by a fifth at most.
    pub budget_percent: u32,
    /// How many retries there may be in ten seconds where [`budget_percent`](Self::budget_percent) makes fewer: 0 to
    /// 1000. Defaults to 3, Envoy's `min_retry_concurrency`. The default detector ejects after two failures, or three
    /// timeouts, where nobody else fails, so three cover an endpoint that dies. (Finagle's 10 a *second* would let each of a thousand clients
    /// that send now and then double its load in an outage.)
    pub budget_floor: u32,
    /// How many retries, hedges included, may be under way at once: 0 to a million. Unset by default, unlike Envoy's
    /// `max_retries` of 3: that counts for a whole cluster whatever its load, so a service of a thousand requests
    /// a second retries hardly anything. The budget grows with the load and bounds what an outage costs;
    /// this is for what retries hold on to while they are under way (memory, connections).
    pub max_concurrent_retries: Option<u32>,
    /// Whether and when a request is sent a second time before the first has answered. Unset by default, as it is
    /// only for requests that may be carried out twice.
    pub hedge: Option<Hedge>,
    /// Whether requests are given up before they are sent, while the cluster has no healthy choice and most
    /// are answered badly. Unset by default: it is for clients of servers that overload.
    pub throttle: Option<Throttle>,
    /// Makes repeatable what is drawn: waits, and what a [`Throttle`] refuses. Unset by default: then a seed of the operating system's.
    pub seed: Option<u64>,
}

impl Default for CallPlan {
    fn default() -> Self {
        Self {
            attempts: 2,
            attempt_timeout: None,
            deadline: Some(Duration::from_secs(15)),
            retry_timeouts: true,
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

macro_rules! setters {
    ($($field:ident: $type:ty => $value:expr,)*) => { $(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
        #[must_use]
        pub const fn $field(mut self, $field: $type) -> Self {
            self.$field = $value;
            self
        }
    )* };
}

/// The most attempts of one call.
pub(super) const MOST_ATTEMPTS: u32 = 16;

const MILLI: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

impl CallPlan {
    setters! {
        attempts: u32 => attempts,
        attempt_timeout: Duration => Some(attempt_timeout),
        deadline: Duration => Some(deadline),
        retry_timeouts: bool => retry_timeouts,
        backoff_base: Duration => backoff_base,
        backoff_max: Duration => backoff_max,
        budget_percent: u32 => budget_percent,
        budget_floor: u32 => budget_floor,
        max_concurrent_retries: u32 => Some(max_concurrent_retries),
        hedge: Hedge => Some(hedge),
        throttle: Throttle => Some(throttle),
        seed: u64 => Some(seed),
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let counts = [
            (
                "CallPlan::attempts",
                self.attempts,
                1..=MOST_ATTEMPTS,
                "from 1 to 16",
            ),
            (
                "CallPlan::budget_percent",
                self.budget_percent,
                0..=100,
                "from 0 to 100",
            ),
            (
                "CallPlan::budget_floor",
                self.budget_floor,
                0..=1000,
                "from 0 to 1000",
            ),
            (
                "CallPlan::max_concurrent_retries",
                self.max_concurrent_retries.unwrap_or(0),
                0..=1_000_000,
                "at most a million",
            ),
        ];
        for (field, count, range, expected) in counts {
            if !range.contains(&count) {
                return Err(BuildError::setting(field, count, expected));
            }
        }
        let limits = [
            ("CallPlan::attempt_timeout", self.attempt_timeout),
            ("CallPlan::deadline", self.deadline),
        ];
        for (field, limit) in limits {
            if let Some(limit) = limit.filter(|limit| !(MILLI..=DAY).contains(limit)) {
                return Err(BuildError::setting(field, limit, "from 1 ms to a day"));
            }
        }
        if self.backoff_base > DAY {
            let (field, base) = ("CallPlan::backoff_base", self.backoff_base);
            return Err(BuildError::setting(field, base, "at most a day"));
        }
        if !(self.backoff_base..=DAY).contains(&self.backoff_max) {
            let (field, max) = ("CallPlan::backoff_max", self.backoff_max);
            return Err(BuildError::setting(field, max, "backoff_base to a day"));
        }
        self.hedge.as_ref().map_or(Ok(()), Hedge::check)?;
        self.throttle.as_ref().map_or(Ok(()), Throttle::check)
    }

    /// The wait before this retry, from 1 on, for 64 random bits.
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
    fn what_is_out_of_range_is_refused_by_its_name() {
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
