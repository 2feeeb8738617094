//! The in-process [`Cluster`]: [`Fleet`].

mod builder;
mod change;
mod check;
mod drain;
mod events;
mod keys;
mod pick;
mod probe;
mod registry;
mod remembered;
mod seats;
mod snapshot;
mod sweep;
mod update;
mod upkeep;

use std::fmt;
use std::hash::RandomState;

use crate::balancer::{LoadBalancer, Random, Tier, View};
use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::health::Detector;
use crate::member::{Lease, Member, Refused};
use crate::options::{MemberId, PickOptions};
use crate::shared::{Events, Reading, Shared};
use crate::sync::{Arc, Mutex, SnapshotCell};
use crate::time::Tick;

pub use builder::FleetBuilder;
pub use change::Mark;
pub use check::{HealthCheck, Probe};
pub use drain::{Drain, Drained, Retire};
pub use events::Event;
pub use upkeep::Upkeep;

use probe::ProbeSearch;
use registry::Registry;
use snapshot::Snapshot;
use update::Duplicates;

/// A set of endpoints in this process, from which a policy picks one per request. It judges endpoints by the outcomes
/// of their requests, and the set can change at any time. Clones share it.
///
/// Picks, records and updates may be called from any thread. A pick takes no lock and does not allocate, except when it
/// does a slice of upkeep (see [`Upkeep`]). Ending the last request on a drained endpoint wakes its [`Drain`], under a
/// lock. Changes of the set take a mutex, build the next snapshot beside the one in force and publish it. Each costs
/// O(endpoints), even an `insert` of one.
///
/// # Memory ordering
///
/// What happens before a call of `update`, `insert`, `remove`, `drain`, `mark` or `set_policy` is visible to every pick
/// that starts after the call has returned. What a request did before its lease was recorded or dropped is visible to
/// the task that its [`Drain`] wakes.
///
/// # Examples
///
/// ```
/// use evenkeel::{Cluster, Fleet, Outcome, Target, WeightedRoundRobin};
///
/// let fleet = Fleet::builder()
///     .name("search")
///     .endpoints([
///         Target::new("a", "10.0.0.1:80").with_weight(3),
///         Target::new("b", "10.0.0.2:80").with_weight(1),
///     ])
///     .policy(WeightedRoundRobin::new())
///     .build()?;
///
/// let mut to_a = 0;
/// for _ in 0..400 {
///     let lease = fleet.pick_endpoint()?;
///     to_a += usize::from(*lease.endpoint().data() == "10.0.0.1:80");
///     lease.record(Outcome::Success);
/// }
/// assert_eq!(to_a, 300);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Fleet<E: Endpoint> {
    inner: Arc<Inner<E>>,
}

struct Inner<E: Endpoint> {
    name: String,
    shared: Arc<Shared>,
    current: SnapshotCell<Snapshot<E>>,
    registry: Mutex<Registry<E>>,
    probe_search: ProbeSearch,
    hash_state: RandomState,
    upkeep_by_picks: bool,
}

impl<E: Endpoint> Fleet<E> {
    /// Returns a builder with all defaults.
    pub fn builder() -> FleetBuilder<E> {
        FleetBuilder::new()
    }

    fn with(name: String, shared: Shared, registry: Registry<E>, upkeep_by_picks: bool) -> Self {
        let empty = Snapshot {
            seats: Box::default(),
            count: 0,
            other_seats: 0,
            edition: 0,
            unroutable: Box::default(),
            picker: Random::new().picker(&View::new(&[])),
            reads_board: false,
            picks_of_all: false,
            judges_panic: false,
        };
        let inner = Inner {
            name,
            shared: Arc::new(shared),
            current: SnapshotCell::new(empty),
            registry: Mutex::new(registry),
            probe_search: ProbeSearch::new(),
            hash_state: RandomState::new(),
            upkeep_by_picks,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The state shared with members and leases, for the simulator, which checks more than users can see.
    #[cfg(feature = "sim")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Calls `look` for each member, without a copy of the list.
    #[cfg(feature = "sim")]
    pub(crate) fn each_member<X>(
        &self,
        look: impl FnMut(&Member<E>) -> Result<(), X>,
    ) -> Result<(), X> {
        self.inner.current.load().members().try_for_each(look)
    }

    #[cfg(feature = "sim")]
    pub(crate) fn upkeep_by_picks(&self) -> bool {
        self.inner.upkeep_by_picks
    }

    /// Returns a lease on the endpoint with this key, whatever its health: for probes of your own, pinned sessions and
    /// operators. If the endpoint's ejection is over, the request is its half-open probe. Takes the update mutex.
    ///
    /// # Errors
    ///
    /// [`PickError::UnknownKey`] if no endpoint has this key. [`PickError::Draining`] if the endpoint is draining;
    /// weight 0, ejections and marks do not count here. [`PickError::Saturated`] if the endpoint, or the fleet, is at
    /// its [limit](crate::Limits).
    ///
    /// # Panics
    ///
    /// If the key's `Clone`, `Hash` or `Eq` do.
    pub fn lease(&self, key: &E::Key) -> Result<Lease<E>, PickError> {
        let key = self.hashed(key.clone());
        let (now, shard) = (self.inner.shared.now(), self.inner.shared.shard());
        // Repeats only when an update has replaced the endpoint after it was looked up.
        loop {
            let registry = self.inner.registry.lock();
            let &at = registry.index.get(&key).ok_or(PickError::UnknownKey)?;
            if registry.slots[at].draining {
                return Err(PickError::Draining);
            }
            let member = registry.slots[at].seat(shard).clone();
            drop(registry);
            let slot = self.inner.shared.slot(false)?;
            let kept = |lease: Lease<E>| Ok(lease.with_slot(slot));
            let board = self.inner.current.load().reads_board;
            if let Some(probe) = member.claim_probe(now) {
                return kept(probe);
            }
            match member.enter() {
                Ok(epoch) => return kept(member.lease(Reading::fresh(now), epoch, false, board)),
                Err(Refused::Stale) => {}
                Err(Refused::Full) => return Err(self.inner.shared.saturated(false)),
            }
        }
    }

    /// Returns the member with this key, or `None`. Takes the update mutex.
    ///
    /// # Panics
    ///
    /// If the key's `Clone`, `Hash` or `Eq` do.
    #[must_use]
    pub fn member(&self, key: &E::Key) -> Option<Member<E>> {
        let key = self.hashed(key.clone());
        let registry = self.inner.registry.lock();
        let &at = registry.index.get(&key)?;
        Some(registry.slots[at].member.clone())
    }

    /// Returns the time by this fleet's clock, by which events, ejections and drains give theirs.
    ///
    /// ```
    /// use evenkeel::{Fleet, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let fleet = Fleet::builder().endpoints(["a", "b"]).clock(clock.clone()).events(64).build()?;
    /// assert!(fleet.drain(&"a").is_some());
    /// clock.advance(Duration::from_secs(5));
    /// for event in fleet.take_events() {
    ///     let ago = fleet.now().since(event.at); // for a log: `SystemTime::now() - ago`
    ///     assert_eq!(ago, Duration::from_secs(5));
    /// }
    /// # Ok::<(), evenkeel::BuildError>(())
    /// ```
    #[must_use]
    pub fn now(&self) -> Tick {
        self.inner.shared.now()
    }

    /// Returns all members: first those that may take requests, then those of weight 0 or draining. O(endpoints).
    #[must_use]
    pub fn members(&self) -> Vec<Member<E>> {
        self.inner.current.load().members().cloned().collect()
    }

    /// Returns how the policy divides the load now, by eligible endpoints: one entry for each zone of each priority.
    /// Empty for a policy without tiers, that is, for all of the crate's but [`Tiers`](crate::Tiers). O(endpoints), and
    /// allocates: for display.
    #[must_use]
    pub fn tiers(&self) -> Vec<Tier> {
        self.inner.current.load().picker.tiers()
    }

    /// Returns how often this detector found an endpoint bad since the fleet was built, and how often that ejected the
    /// endpoint. A finding does not eject if the detector is [detect-only](crate::Ejection::detect_only), if the
    /// ejection was put down to another detector that found the endpoint bad too, or if the cap was reached.
    #[must_use]
    pub fn detections(&self, detector: Detector) -> Detections {
        let counters = self.inner.shared.counters.detections(detector);
        Detections {
            detected: counters.found.get(),
            ejected: counters.ejected.get(),
        }
    }

    /// Returns the fleet in numbers; O(endpoints). Each number is right by itself. Together they are of one moment only
    /// while nothing changes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let snapshot = self.inner.current.load();
        let shared = &*self.inner.shared;
        let tally = shared.ledger.read();
        let counters = &shared.counters;
        Stats {
            members: snapshot.members().count(),
            routable: snapshot.count,
            ejected: tally.ejected,
            ejection_limit: tally.limit,
            marked_down: tally.down,
            panicking: snapshot.shows_panic(tally, shared),
            in_flight: snapshot.members().map(Member::in_flight).sum(),
            ejections: counters.ejections.get(),
            ejections_overflow: counters.overflows.get(),
            saturated: counters.saturated.get(),
            max_requests: shared.limits.max_requests,
            max_requests_per_endpoint: shared.limits.max_requests_per_endpoint,
            probing: shared.ledger.probes.taken(),
            policy_faults: counters.policy_faults.get(),
            tracker_panics: counters.tracker_panics.get(),
            checks_ignored: shared.prober.is_ignored(shared.now()),
            events_dropped: shared.events.as_ref().map_or(0, Events::dropped),
        }
    }
}

/// How often a detector found an endpoint bad. See [`Fleet::detections`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detections {
    /// Outcomes, checks or upkeep passes in which the detector found an endpoint bad that was in rotation, and not marked
    /// up.
    pub detected: u64,
    /// Ejections put down to this detector.
    pub ejected: u64,
}

/// What an update changed, in numbers of endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Endpoints added.
    pub added: usize,
    /// Endpoints kept, with their data replaced.
    pub updated: usize,
    /// Endpoints removed.
    pub removed: usize,
}

/// A fleet in numbers. See [`Fleet::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// All members, including those draining and those of weight 0.
    pub members: usize,
    /// Members that are not draining and have a weight above 0.
    pub routable: usize,
    /// Members ejected now, including those being probed.
    pub ejected: usize,
    /// How many members may be ejected. While an update shrinks the fleet, this is the next set's limit already.
    pub ejection_limit: usize,
    /// Members marked down.
    pub marked_down: usize,
    /// Whether so few members are eligible that the [panic rule](crate::PanicRule) acts: health is ignored, or picks
    /// fail. With [`Tiers`](crate::Tiers), whether it acts in any priority that gets a share of the load;
    /// [`Fleet::tiers`] tells in which.
    pub panicking: bool,
    /// Requests in flight at all members. Requests at removed endpoints are not counted.
    pub in_flight: u64,
    /// Ejections since the fleet was built. Not counted are ejections renewed after a failed probe, and those that
    /// resume when an endpoint that was removed or of weight 0 comes back.
    pub ejections: u64,
    /// Attempts to eject an endpoint that the cap prevented. One bad endpoint may account for many.
    pub ejections_overflow: u64,
    /// Picks that failed with [`PickError::Saturated`].
    pub saturated: u64,
    /// The limit on requests in flight over all endpoints: [`Limits::max_requests`](crate::Limits::max_requests).
    pub max_requests: Option<u32>,
    /// The limit on requests in flight at each member:
    /// [`Limits::max_requests_per_endpoint`](crate::Limits::max_requests_per_endpoint). With an adaptive limit,
    /// [`Member::limit`] tells the present one.
    pub max_requests_per_endpoint: Option<u32>,
    /// Endpoints being probed now, by a request or by a check.
    pub probing: u64,
    /// How often the policy chose an index out of range, or panicked during a removal or a drain.
    pub policy_faults: u64,
    /// Caught panics of a health tracker.
    pub tracker_panics: u64,
    /// Whether the results of active checks are ignored now: see [`HealthCheck`].
    pub checks_ignored: bool,
    /// [Events](crate::FleetBuilder::events) dropped because the queue was full.
    pub events_dropped: u64,
}

impl<E: Endpoint> Cluster for Fleet<E> {
    type Endpoint = E;

    fn name(&self) -> &str {
        &self.inner.name
    }

    fn pick_endpoint_with(&self, options: &PickOptions<'_>) -> Result<Lease<E>, PickError> {
        self.pick(options)
    }

    fn availability(&self) -> f64 {
        let ledger = &self.inner.shared.ledger;
        let (count, refused) = (ledger.count(), ledger.read().refused());
        if count == 0 {
            return 0.0;
        }
        count.saturating_sub(refused) as f64 / count as f64
    }

    fn pick_probe(&self) -> Option<Lease<E>> {
        let shared = &*self.inner.shared;
        if shared.ledger.is_quiet() {
            return None;
        }
        let now = shared.now();
        // Picks may never reach this fleet, so upkeep is done here too: how much a probe's outcome proves depends on
        // the fleet's usual error rate, which upkeep works out.
        if self.inner.upkeep_by_picks && shared.upkeep_due.is_due(now) {
            self.upkeep_slice(now);
        }
        // No pick is refused here, so a fleet at its request limit is not counted as saturated, as in a repeated pick.
        let slot = shared.slot(true).ok()?;
        let probe = self.probe(now, false)?;
        Some(probe.with_slot(slot))
    }

    fn is_tried(&self, members: &[MemberId]) -> bool {
        let is_one = |member: &Member<E>| members.contains(&member.id());
        self.inner.current.load().members().any(is_one)
    }

    fn has_healthy(&self) -> bool {
        self.inner.current.load().has_healthy(&self.inner.shared)
    }

    fn leaves_none(&self, avoid: &[MemberId]) -> bool {
        let snapshot = self.inner.current.load();
        snapshot.leaves_none(&self.inner.shared, avoid)
    }
}

impl<E: Endpoint> Clone for Fleet<E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

/// A fleet with all defaults. Of endpoints with the same key the first counts; of more than a million endpoints the
/// first million do. Panics only if the endpoints' `key`, `weight`, `Hash` or `Eq` do.
impl<E: Endpoint> FromIterator<E> for Fleet<E> {
    fn from_iter<I: IntoIterator<Item = E>>(endpoints: I) -> Self {
        let first = endpoints.into_iter().take(crate::shared::MAX_MEMBERS);
        Self::builder()
            .endpoints(first)
            .build_with(Duplicates::FirstWins)
            .expect("the defaults are in range, duplicates are dropped, the policy does not panic")
    }
}

impl<E: Endpoint> fmt::Debug for Fleet<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("name", &self.inner.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
