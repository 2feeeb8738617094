//! Setting up a fleet.

use std::fmt;
use std::time::Duration;

use super::registry::{MakeTracker, Registry};
use super::update::Duplicates;
use super::{Fleet, Upkeep};
use crate::balancer::{Cursor, LoadBalancer, PowerOfTwo};
use crate::endpoint::Endpoint;
use crate::error::BuildError;
use crate::health::{Ejection, HealthTracker};
use crate::shared::{MAX_MEMBERS, Setup, Shared, mix};
use crate::sync::Arc;
use crate::time::{Clock, MonotonicClock};

/// Sets up a [`Fleet`]. Every setting has a default that is safe alone.
#[must_use = "a builder does nothing until it is built"]
pub struct FleetBuilder<E: Endpoint> {
    name: String,
    endpoints: Vec<E>,
    policy: Arc<dyn LoadBalancer<E>>,
    tracker: Option<Box<MakeTracker<E>>>,
    ejection: Ejection,
    panic_threshold_percent: u32,
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
            policy: Arc::new(PowerOfTwo::new()),
            tracker: None,
            ejection: Ejection::default(),
            panic_threshold_percent: 50,
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

    /// How to choose. Defaults to [`PowerOfTwo`]: it needs no feedback but its own, costs the same for
    /// any number of endpoints, and is what Envoy, gRPC, Finagle and tower choose by for load.
    pub fn policy(mut self, policy: impl LoadBalancer<E> + 'static) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// When an endpoint is taken out, and for how long. Defaults to [`Ejection::default`].
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = ejection;
        self
    }

    /// How to judge: makes a tracker for each new endpoint, which it is shown. It runs under the update
    /// mutex, so it must not change the fleet. Defaults to [`SlidingWindow`](crate::SlidingWindow).
    pub fn tracker<T, F>(mut self, make: F) -> Self
    where
        T: HealthTracker + 'static,
        F: Fn(&E) -> T + Send + Sync + 'static,
    {
        self.tracker = Some(Box::new(move |endpoint| Box::new(make(endpoint))));
        self
    }

    /// The panic rule: below this share of eligible endpoints, in percent by count of those with a
    /// weight, health is ignored and all take requests, ejected and marked down ones included. 0 to
    /// 100; 0 turns it off, and picks fail when none is eligible. Defaults to 50, Envoy's
    /// `healthy_panic_threshold`: with more than half gone, the fault is likelier in what all share
    /// than in each, and the rest could not carry the load.
    pub fn panic_threshold_percent(mut self, percent: u32) -> Self {
        self.panic_threshold_percent = percent;
        self
    }

    /// From how long on a lease that is dropped without a word counts as a timeout; shorter ones say
    /// nothing. [`Duration::MAX`] is never. Defaults to three times the fleet's usual latency, at least
    /// 50 ms, and 1 s while none is known: async timeouts drop futures, and an endpoint that hangs would
    /// look spotless if a drop said nothing. If you drop leases for reasons of your own (the loser of a
    /// hedge, a client that has gone), record [`Ignored`](crate::Outcome::Ignored) instead.
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
        if self.panic_threshold_percent > 100 {
            return Err(BuildError::setting(
                "FleetBuilder::panic_threshold_percent",
                self.panic_threshold_percent,
                "from 0 to 100",
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
            patience: self.patience,
            panic_threshold_percent: self.panic_threshold_percent,
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

/// A seed of the operating system's; should it have none, of the standard library's hash keys.
fn entropy() -> u64 {
    use rand::TryRng;
    use std::hash::{BuildHasher, RandomState};

    rand::rngs::SysRng
        .try_next_u64()
        .unwrap_or_else(|_| RandomState::new().hash_one(0u64))
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
