//! Setting up a fleet.

use std::fmt;
use std::time::Duration;

use super::registry::{MakeTracker, Registry, check};
use super::update::Duplicates;
use super::{Fleet, Upkeep};
use crate::balancer::{Adaptive, Cursor, LoadBalancer};
use crate::endpoint::Endpoint;
use crate::error::BuildError;
use crate::health::{Ejection, HealthTracker, Limits, PanicRule, SlowStart};
use crate::settings::within;
use crate::shared::{MAX_MEMBERS, Setup, Shared, entropy, mix};
use crate::sync::Arc;
use crate::time::{Clock, MonotonicClock};

/// The largest capacity of a fleet's event queue.
const MOST_EVENTS: usize = 1 << 20;

/// Sets up a [`Fleet`]. Every setting has a default that is safe on its own.
#[must_use = "a builder does nothing until it is built"]
pub struct FleetBuilder<E: Endpoint> {
    name: String,
    endpoints: Vec<E>,
    policy: Arc<dyn LoadBalancer<E>>,
    tracker: Option<Box<MakeTracker<E>>>,
    ejection: Ejection,
    slow_start: SlowStart,
    panic: PanicRule,
    limits: Limits,
    events: usize,
    patience: Option<Duration>,
    upkeep: Upkeep,
    clock: Option<Arc<dyn Clock>>,
    seed: Option<u64>,
}

impl<E: Endpoint> FleetBuilder<E> {
    pub(super) fn new() -> Self {
        Self {
            name: "fleet".into(),
            endpoints: Vec::new(),
            policy: Arc::new(Adaptive::new()),
            tracker: None,
            ejection: Ejection::default(),
            slow_start: SlowStart::default(),
            panic: PanicRule::default(),
            limits: Limits::default(),
            events: 0,
            patience: None,
            upkeep: Upkeep::default(),
            clock: None,
            seed: None,
        }
    }

    /// Sets the fleet's name, for logs and metrics. Defaults to `"fleet"`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds endpoints to the initial set. Defaults to none: a fleet may start empty. At most a million and one are
    /// taken from the iterator, as a fleet can hold a million.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        let room = (MAX_MEMBERS + 1).saturating_sub(self.endpoints.len());
        self.endpoints.extend(endpoints.into_iter().take(room));
        self
    }

    /// Sets the policy. Defaults to [`Adaptive`]: in 36 of 38 simulated scenarios (`benches/quality.md`) it has the
    /// lowest tail latency of the policies simulated, or is within 7 % of it. Where a pick must cost as little as
    /// possible, use [`PowerOfTwo`](crate::PowerOfTwo) or [`WeightedRoundRobin`](crate::WeightedRoundRobin).
    pub fn policy(mut self, policy: impl LoadBalancer<E> + 'static) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Sets when an endpoint is ejected, and for how long. Defaults to [`Ejection::default`].
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = ejection;
        self
    }

    /// Sets how an endpoint that is new, or back from an ejection, ramps up to its share. Defaults to
    /// [`SlowStart::default`].
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = slow_start;
        self
    }

    /// Sets the function that makes the health tracker of each new endpoint, which it gets to see. `make` runs under
    /// the update mutex, so it must not change the fleet. Defaults to [`SlidingWindow`](crate::SlidingWindow).
    pub fn tracker<T, F>(mut self, make: F) -> Self
    where
        T: HealthTracker + 'static,
        F: Fn(&E) -> T + Send + Sync + 'static,
    {
        self.tracker = Some(Box::new(move |endpoint| Box::new(make(endpoint))));
        self
    }

    /// Sets what happens when few endpoints are eligible. Defaults to [`PanicRule::default`]: health is ignored when
    /// less than 50 % are eligible, and counts again from 60 % on.
    pub fn panic_rule(mut self, rule: PanicRule) -> Self {
        self.panic = rule;
        self
    }

    /// Sets only the [panic rule](Self::panic_rule)'s [`threshold_percent`](PanicRule::threshold_percent), from 0 to
    /// 100. 0 turns the rule off. Defaults to 50.
    pub fn panic_threshold_percent(mut self, percent: u32) -> Self {
        self.panic.threshold_percent = percent;
        self
    }

    /// Limits requests in flight, per endpoint and in all. Defaults to [`Limits::default`]: no limit.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Queues events (ejections, returns, panic, slow starts, drains) for [`Fleet::take_events`], at most `capacity` at
    /// a time. Defaults to 0: no events. The capacity is rounded up to a power of two, at least 2 and at most 2^20.
    /// Each place in the queue takes 40 bytes, allocated when the fleet is built.
    ///
    /// When the queue is full, new events are dropped, and [`Stats::events_dropped`](crate::Stats::events_dropped)
    /// counts them. An ejection or a return can cause two events each, a failed probe one, and the fleet as a whole has
    /// a few of its own. A capacity of 1024, with events taken each second, is enough for some hundred endpoints.
    ///
    /// An event is written where it happens: by a request that ends, a pick that does upkeep, or an update. That stores
    /// a few words in a queue, without a lock and without allocating. No code of yours runs there: take the events in a
    /// loop of yours, and log or count them.
    pub fn events(mut self, capacity: usize) -> Self {
        self.events = capacity;
        self
    }

    /// Sets how long a lease must have been held for a drop without a record to count as a timeout. A drop before that
    /// says nothing. [`Duration::MAX`] means never.
    ///
    /// Defaults to three times the fleet's usual latency (the median over its endpoints, as of the last upkeep), at
    /// least 50 ms, and to 1 s while that latency is unknown. The reason is that async timeouts drop futures: an
    /// endpoint that hangs would look spotless if a drop said nothing. (Envoy has no such setting: a proxy's timeouts
    /// are its own.)
    ///
    /// If you drop leases for reasons of your own (a client has gone), record [`Ignored`](crate::Outcome::Ignored). The
    /// losing hedges of a [`Caller`](crate::Caller) are judged by this setting too: see [`Hedge`](crate::Hedge).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Sets what triggers upkeep. Defaults to [`Upkeep::Picks`].
    pub fn upkeep(mut self, upkeep: Upkeep) -> Self {
        self.upkeep = upkeep;
        self
    }

    /// Sets the source of time. Defaults to [`MonotonicClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Makes decisions repeatable: with the same seed, clock and calls in the same order, a fleet makes the same
    /// decisions. All threads then share one shard, which costs speed, so use it for tests and simulations. Defaults to
    /// a seed from the operating system and a shard for each processor.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the fleet.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names the setting that is out of its range and its value, or tells why the initial set was
    /// refused.
    ///
    /// # Panics
    ///
    /// If the endpoints' `key`, `weight`, `Hash` or `Eq` do.
    pub fn build(self) -> Result<Fleet<E>, BuildError> {
        self.build_with(Duplicates::Refuse)
    }

    pub(super) fn build_with(self, duplicates: Duplicates) -> Result<Fleet<E>, BuildError> {
        self.ejection.check()?;
        self.slow_start.check()?;
        self.panic.check()?;
        self.limits.check()?;
        check(&*self.policy)?;
        let events = ("FleetBuilder::events", self.events);
        within(0..=MOST_EVENTS, "at most 1048576", [events])?;
        let patience = (self.patience).map(|patience| ("FleetBuilder::patience", patience));
        within(Duration::from_nanos(1)..=Duration::MAX, "above 0", patience)?;
        let shards = match self.seed {
            Some(_) => 1,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let seed = self.seed.unwrap_or_else(entropy);
        let shared = Shared::new(Setup {
            clock: self
                .clock
                .unwrap_or_else(|| Arc::new(MonotonicClock::new())),
            shards,
            seed,
            ejection: self.ejection,
            slow_start: self.slow_start,
            patience: self.patience,
            panic: self.panic,
            limits: self.limits,
            events: self.events,
        });
        // The cursors start from another random stream than the shards' own. Positions start with 31 bits because they
        // are divided by a table's length, and a division takes half the time while the position fits 32 bits.
        let cursor = Cursor::new(shards, |shard| mix(!seed ^ mix(shard as u64)) >> 33);
        let registry = Registry::new(self.policy, self.tracker, cursor);
        let upkeep_by_picks = self.upkeep == Upkeep::Picks;
        let fleet = Fleet::with(self.name, shared, registry, upkeep_by_picks);
        fleet.replace_all(self.endpoints, duplicates)?;
        Ok(fleet)
    }
}

impl<E: Endpoint> fmt::Debug for FleetBuilder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints.len())
            .field("policy", &self.policy)
            .field("ejection", &self.ejection)
            .finish_non_exhaustive()
    }
}
