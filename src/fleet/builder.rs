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
use crate::shared::{MAX_MEMBERS, Setup, Shared, entropy, mix};
use crate::sync::Arc;
use crate::time::{Clock, MonotonicClock};

/// The most events that a fleet keeps.
const MOST_EVENTS: usize = 1 << 20;

/// Sets up a [`Fleet`]. Every setting has a default that is safe alone.
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

    /// A name, for logs and metrics. Defaults to `"fleet"`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds endpoints to the initial set. Defaults to none: a fleet may start empty. No more than a
    /// million and one are taken from the iterator; a million is what a fleet can hold.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        let room = (MAX_MEMBERS + 1).saturating_sub(self.endpoints.len());
        self.endpoints.extend(endpoints.into_iter().take(room));
        self
    }

    /// The policy. Defaults to [`Adaptive`]: of the policies simulated it has the lowest tail latency, or is within 7 % of it, in 36 of 38
    /// scenarios (`benches/quality.md`). Where a pick must cost as little as possible, use [`PowerOfTwo`](crate::PowerOfTwo) or
    /// [`WeightedRoundRobin`](crate::WeightedRoundRobin).
    pub fn policy(mut self, policy: impl LoadBalancer<E> + 'static) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// When an endpoint is taken out, and for how long. Defaults to [`Ejection::default`].
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = ejection;
        self
    }

    /// How an endpoint that is new, or back, gets its share. Defaults to [`SlowStart::default`].
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = slow_start;
        self
    }

    /// Makes a health tracker for each new endpoint, which it is shown. `make` runs under the update mutex, so it must not change the
    /// fleet. Defaults to [`SlidingWindow`](crate::SlidingWindow).
    pub fn tracker<T, F>(mut self, make: F) -> Self
    where
        T: HealthTracker + 'static,
        F: Fn(&E) -> T + Send + Sync + 'static,
    {
        self.tracker = Some(Box::new(move |endpoint| Box::new(make(endpoint))));
        self
    }

    /// What to do when few endpoints are eligible. Defaults to [`PanicRule::default`]: below 50 % health is ignored, and
    /// from 60 % on it counts again.
    pub fn panic_rule(mut self, rule: PanicRule) -> Self {
        self.panic = rule;
        self
    }

    /// The [panic rule](Self::panic_rule)'s [`threshold_percent`](PanicRule::threshold_percent) alone, 0 to 100; 0 turns
    /// the rule off. Defaults to 50.
    pub fn panic_threshold_percent(mut self, percent: u32) -> Self {
        self.panic.threshold_percent = percent;
        self
    }

    /// Caps requests in flight, per endpoint and in all. Defaults to [`Limits::default`]: no limit.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Queues events (ejections, returns, panic, slow starts, drains) for [`Fleet::take_events`], at most `capacity` at a time, rounded up
    /// to a power of two from 2 to 2^20. Each takes 40 bytes from the start. Defaults to 0: no events.
    ///
    /// When the queue is full, new events are dropped, and [`Stats::events_dropped`](crate::Stats::events_dropped) counts them. There can
    /// be two for each ejection and for each return, one for each bad probe, and those of the fleet; 1024, taken each second, do for some
    /// hundred endpoints.
    ///
    /// Whoever makes something happen (a request that ends, a pick that does upkeep, an update) writes some words
    /// into a queue without a lock and without allocating. No code of yours runs there: take the events in a loop of
    /// yours, and log or count them.
    pub fn events(mut self, capacity: usize) -> Self {
        self.events = capacity;
        self
    }

    /// How long a lease must have been held for a drop without a record to count as a timeout; a drop before that says nothing.
    /// [`Duration::MAX`] is never. Defaults to three times the fleet's usual latency, at least 50 ms, and 1 s while none is known: async
    /// timeouts drop futures, and an endpoint that hangs would look spotless if a drop said nothing. If you drop leases for reasons of your
    /// own (a client that has gone), record [`Ignored`](crate::Outcome::Ignored). (Envoy has none: a proxy's timeouts are its own.) A [`Caller`](crate::Caller)'s losing hedges are judged by
    /// it: see [`Hedge`](crate::Hedge).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Who does upkeep. Defaults to [`Upkeep::Picks`].
    pub fn upkeep(mut self, upkeep: Upkeep) -> Self {
        self.upkeep = upkeep;
        self
    }

    /// Where the time comes from. Defaults to [`MonotonicClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Makes decisions repeatable: the same seed, clock and calls in one order give the same decisions.
    /// All threads then share one shard, which costs speed. For tests and simulations. Defaults to a
    /// seed of the operating system's and a shard for each processor.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the fleet.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names the setting that is out of its range and its value, or tells why the initial
    /// set was refused.
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
        if self.events > MOST_EVENTS {
            return Err(BuildError::setting(
                "FleetBuilder::events",
                self.events,
                "at most 1048576",
            ));
        }
        if self.patience == Some(Duration::ZERO) {
            return Err(BuildError::setting(
                "FleetBuilder::patience",
                Duration::ZERO,
                "above 0",
            ));
        }
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
        // Another stream than the shards' own. Of 31 bits: a position is divided by a table's length, which
        // takes half the time while it has no more than 32.
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
