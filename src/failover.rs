//! A cluster made of two clusters, chosen by their health: [`Failover`].

mod split;

use std::fmt;

use crate::balancer::Cursor;
use crate::cluster::Cluster;
use crate::error::{BuildError, PickError};
use crate::member::Lease;
use crate::options::{MemberId, PickOptions};
use crate::settings::within;
use crate::shared::{GOLDEN, entropy, mix};
use crate::sync::process;
use split::{Split, share};

/// Envoy's overprovisioning factor, in percent.
const OVERPROVISIONING: u32 = 140;

/// Two clusters as one: the preferred one takes all requests while enough of it is eligible, and the spare one takes
/// the rest.
///
/// It is for zones and regions: make one [`Fleet`](crate::Fleet) for each, and nest `Failover`s for more than two.
///
/// # How requests are shared
///
/// Requests are shared as Envoy shares them among priorities. The preferred cluster's share of the requests is its
/// [`availability`](Cluster::availability) times the [overprovisioning factor](Self::overprovisioning_factor), 1.4, and
/// at most 1: two of ten endpoints may be out before the first request goes elsewhere. The spare cluster gets the rest.
/// If both shares add up to less than 1 (with two in ten and three in ten eligible, say), requests are divided in
/// proportion. With nothing eligible in either, which of the two is well is not known: each gets half, and its own
/// panic rule decides. (Envoy divides by the number of hosts.)
///
/// The availability of a `Failover` is the sum of both, at most 1, so `Failover::new(Failover::new(a, b), c)` shares as
/// Envoy does among three priorities. Nested to the right it does not: the inner clusters are then held to the share
/// that they could take of all requests, and the last one gets some requests while the second is short of capacity.
///
/// A request with an [affinity](PickOptions::affinity) is placed by its hash: a session stays with its cluster unless
/// the shares move past it. Other requests follow a low-discrepancy sequence, one per thread (see [`Cursor`]). Of any n
/// consecutive requests of one thread, the preferred cluster gets its share to within a few. There are no runs to one
/// side, as random draws would produce, and no period that a caller's own pattern could resonate with.
///
/// # When the chosen cluster has no endpoint
///
/// The other cluster is asked at once, whatever the reason. If neither has an endpoint, the error is that of the
/// cluster closer to having one, in this order: saturated, avoided, declined, too few eligible, all ejected, all
/// draining, empty. If both are equally close, it is the preferred cluster's.
///
/// A retry goes to the cluster not yet tried, if any of it is eligible, or nothing in either: if a whole zone dies, a
/// second try there would fail too. Every pick that [avoids](PickOptions::avoid) a member counts as a retry, for
/// whatever reason it does. See [`retries_elsewhere`](Self::retries_elsewhere).
///
/// # Panic
///
/// While both clusters together have enough eligible endpoints, their [panic rules](crate::PanicRule) are suspended, as
/// in Envoy: a fleet with one eligible endpoint in ten gets 14 % of the requests, all for that endpoint. Each fleet's
/// own rule applies only while both together are short of endpoints, or if neither yields an endpoint otherwise.
///
/// # How a cluster comes back
///
/// Ejected endpoints of both clusters are probed by requests that would go elsewhere, for each fleet at most one in
/// eleven while its probes fail ([`pick_probe`](Cluster::pick_probe)). So a cluster that is entirely out comes back by
/// itself, and its share grows with each endpoint that returns. If its fleet has
/// [active checks](crate::Fleet::health_check), no request becomes a probe. Endpoints that return together take all of
/// their cluster's requests from the start; where that is too much for them, let the checks require more than one pass.
///
/// # How to set up its fleets
///
/// By default a fleet ejects at most half of its endpoints, and hardly any while all fail alike, because its requests
/// have nowhere else to go. Under a `Failover` they have. [`Ejection::under_failover`](crate::Ejection::under_failover)
/// says so: all endpoints may be ejected and spared, and consecutive failures eject whatever the other endpoints do.
///
/// ```
/// use evenkeel::{Cluster, Ejection, Failover, Fleet, Mark, Outcome};
///
/// let zone = |name: &str| {
///     let ejection = Ejection::under_failover();
///     let endpoints = (0..4).map(|number| format!("{name}-{number}"));
///     Fleet::builder().name(name).endpoints(endpoints).ejection(ejection).build()
/// };
/// let (here, there) = (zone("here")?, zone("there")?);
/// let cluster = Failover::new(here.clone(), there.clone());
/// assert_eq!(cluster.preferred_load(), 1.0);
///
/// // Half of its endpoints are out: it keeps 1.4 times a half of the load.
/// for number in 0..2 {
///     here.mark(&format!("here-{number}"), Mark::Down);
/// }
/// assert!((cluster.preferred_load() - 0.7).abs() < 1e-9);
/// let mut at_home = 0;
/// for _ in 0..1000 {
///     let lease = cluster.pick_endpoint()?;
///     at_home += usize::from(lease.endpoint().starts_with("here"));
///     lease.record(Outcome::Success);
/// }
/// assert!((690..=710).contains(&at_home));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What it costs
///
/// While the preferred cluster has enough eligible endpoints, a pick reads four more words of its fleets. It takes no
/// lock and does not allocate.
///
/// Source: Envoy's priority levels, overprovisioning factor and aggregate cluster.
pub struct Failover<A, B> {
    preferred: A,
    spare: B,
    name: String,
    factor: f64,
    retries_elsewhere: bool,
    cursor: Cursor,
    /// A hash of the two clusters' names: it differs between nested failovers and is the same in every process.
    salt: u64,
}

impl<A, B> Failover<A, B>
where
    A: Cluster,
    B: Cluster<Endpoint = A::Endpoint>,
{
    /// Creates a failover that prefers `preferred` to `spare`.
    #[must_use]
    pub fn new(preferred: A, spare: B) -> Self {
        let name = format!("{}|{}", preferred.name(), spare.name());
        // FNV-1a, mixed further below: the standard library's hash functions may change from one version to the next.
        let salt = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        let seed = entropy();
        Self {
            preferred,
            spare,
            name,
            factor: f64::from(OVERPROVISIONING) / 100.0,
            retries_elsewhere: true,
            cursor: Cursor::new(shards, |shard| mix(seed ^ shard as u64)),
            salt: mix(salt),
        }
    }

    /// Sets the name, for logs and metrics. Defaults to both clusters' names, such as `"here|there"`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how many times its eligible share of the requests a cluster can take, in percent: 1 to 10000. Defaults to
    /// 140, as in Envoy: the endpoints left in a cluster have room to spare, and a nearby endpoint answers sooner than
    /// a distant one.
    ///
    /// Below 100, some requests go to the spare cluster even if all of the preferred one is eligible.
    ///
    /// # Errors
    ///
    /// [`BuildError::Setting`] if `percent` is out of range.
    pub fn overprovisioning_factor(mut self, percent: u32) -> Result<Self, BuildError> {
        let field = ("Failover::overprovisioning_factor", percent);
        within(1..=10_000, "from 1 to 10000", [field])?;
        self.factor = f64::from(percent) / 100.0;
        Ok(self)
    }

    /// Sets whether a retry goes to the cluster that has not been tried, if any of it is eligible, or nothing in
    /// either. Defaults to `true`: retries are rare, and the failure of one endpoint may be shared by everything near
    /// it. (Envoy needs the `previous_priorities` plugin for this.) It makes a retry, and only a retry, look at each
    /// endpoint of a fleet.
    #[must_use]
    pub const fn retries_elsewhere(mut self, elsewhere: bool) -> Self {
        self.retries_elsewhere = elsewhere;
        self
    }

    /// Makes the split between the clusters repeatable, for tests that use one thread at a time: all threads then share
    /// one sequence. By default each thread's sequence starts at random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.cursor = Cursor::new(1, |_| seed);
        self
    }

    /// Returns the preferred cluster.
    #[must_use]
    pub const fn preferred(&self) -> &A {
        &self.preferred
    }

    /// Returns the spare cluster, which takes what the preferred one cannot.
    #[must_use]
    pub const fn spare(&self) -> &B {
        &self.spare
    }

    /// Returns the share of the requests that goes to the preferred cluster at present, from 0 to 1.
    #[must_use]
    pub fn preferred_load(&self) -> f64 {
        self.split().preferred
    }

    fn split(&self) -> Split {
        let (preferred, spare) = (&self.preferred, &self.spare);
        Split::new(self.factor, preferred.availability(), || {
            spare.availability()
        })
    }

    /// Returns whether the preferred cluster is asked first.
    fn prefers(&self, split: Split, options: &PickOptions<'_>) -> bool {
        if let Some(elsewhere) = self.untried(options.avoid) {
            return elsewhere;
        }
        if split.preferred >= 1.0 || split.preferred <= 0.0 {
            return split.preferred > 0.0;
        }
        let draw = match options.affinity {
            // Mixed, so that it does not depend on the same bits of the hash as a policy's choice.
            Some(hash) => mix(hash ^ self.salt),
            None => {
                let turn = self.cursor.next(process::thread_number());
                turn.wrapping_mul(GOLDEN)
            }
        };
        (draw as f64) < split.preferred * u64::MAX as f64
    }

    /// For a retry: `Some(true)` if only the spare cluster was tried and the preferred one has anything eligible, or
    /// nothing is in either; `Some(false)` for the reverse, and `None` otherwise.
    fn untried(&self, avoid: &[MemberId]) -> Option<bool> {
        if avoid.is_empty() || !self.retries_elsewhere {
            return None;
        }
        let untried = match (self.preferred.is_tried(avoid), self.spare.is_tried(avoid)) {
            (true, false) => false,
            (false, true) => true,
            _ => return None,
        };
        let (preferred, spare) = self.have_any();
        let is_worth_it = if untried { preferred } else { spare };
        (is_worth_it || !(preferred || spare)).then_some(untried)
    }

    /// Whether the preferred and the spare cluster have anything eligible.
    fn have_any(&self) -> (bool, bool) {
        let has_any = |availability| share(availability) > 0.0;
        (
            has_any(self.preferred.availability()),
            has_any(self.spare.availability()),
        )
    }

    fn pick_from(
        &self,
        prefers: bool,
        options: &PickOptions<'_>,
    ) -> Result<Lease<A::Endpoint>, PickError> {
        if prefers {
            self.preferred.pick_endpoint_with(options).or_else(|first| {
                let other = self.spare.pick_endpoint_with(options);
                other.map_err(|second| closer_error(first, second))
            })
        } else {
            self.spare.pick_endpoint_with(options).or_else(|second| {
                let other = self.preferred.pick_endpoint_with(options);
                other.map_err(|first| closer_error(first, second))
            })
        }
    }
}

impl<A, B> Cluster for Failover<A, B>
where
    A: Cluster,
    B: Cluster<Endpoint = A::Endpoint>,
{
    type Endpoint = A::Endpoint;

    fn name(&self) -> &str {
        &self.name
    }

    fn pick_endpoint_with(
        &self,
        options: &PickOptions<'_>,
    ) -> Result<Lease<A::Endpoint>, PickError> {
        if options.avoid.is_empty() && !options.without_probe {
            if let Some(probe) = self.pick_probe() {
                return Ok(probe);
            }
        }
        let split = self.split();
        let prefers = self.prefers(split, options);
        let own = PickOptions {
            without_probe: true,
            without_panic: options.without_panic || split.is_enough,
            ..*options
        };
        let picked = self.pick_from(prefers, &own);
        if picked.is_ok() || own.without_panic == options.without_panic {
            return picked;
        }
        // Both together had enough eligible endpoints, but none for this request. Rather than fail, apply each
        // cluster's own panic rule.
        let last = PickOptions {
            without_probe: true,
            is_repeated: true,
            ..*options
        };
        self.pick_from(prefers, &last)
    }

    /// Returns the sum of both, at most 1.
    fn availability(&self) -> f64 {
        (share(self.preferred.availability()) + share(self.spare.availability())).min(1.0)
    }

    fn pick_probe(&self) -> Option<Lease<A::Endpoint>> {
        let probe = self.preferred.pick_probe();
        probe.or_else(|| self.spare.pick_probe())
    }

    fn is_tried(&self, members: &[MemberId]) -> bool {
        let tried = (
            self.preferred.is_tried(members),
            self.spare.is_tried(members),
        );
        match self.have_any() {
            (false, false) => tried.0 || tried.1,
            // One with nothing eligible need not have been tried.
            (preferred, spare) => (tried.0 || !preferred) && (tried.1 || !spare),
        }
    }

    /// Returns whether either has a healthy choice, of those that have anything eligible.
    fn has_healthy(&self) -> bool {
        let (preferred, spare) = self.have_any();
        if preferred || spare {
            (preferred && self.preferred.has_healthy()) || (spare && self.spare.has_healthy())
        } else {
            // A fleet without endpoints says that it has one.
            self.preferred.has_healthy() && self.spare.has_healthy()
        }
    }

    fn leaves_none(&self, avoid: &[MemberId]) -> bool {
        self.preferred.leaves_none(avoid) && self.spare.leaves_none(avoid)
    }
}

impl<A: Clone, B: Clone> Clone for Failover<A, B> {
    /// Clones the clusters and settings. Clones share the sequence by which requests are split.
    fn clone(&self) -> Self {
        Self {
            preferred: self.preferred.clone(),
            spare: self.spare.clone(),
            name: self.name.clone(),
            cursor: self.cursor.clone(),
            ..*self
        }
    }
}

impl<A, B> fmt::Debug for Failover<A, B>
where
    A: Cluster + fmt::Debug,
    B: Cluster<Endpoint = A::Endpoint> + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failover")
            .field("name", &self.name)
            .field("preferred_load", &self.preferred_load())
            .field("preferred", &self.preferred)
            .field("spare", &self.spare)
            .finish_non_exhaustive()
    }
}

/// Returns the error that was closer to picking an endpoint, or the first if both were equally close.
const fn closer_error(first: PickError, second: PickError) -> PickError {
    const fn closeness(error: PickError) -> u32 {
        match error {
            // There a later try may succeed, and those avoided stay so.
            PickError::Saturated => 6,
            PickError::AllAvoided => 5,
            PickError::Declined => 4,
            PickError::TooFewEligible => 3,
            PickError::AllEjected => 2,
            PickError::AllDraining => 1,
            _ => 0,
        }
    }
    if closeness(second) > closeness(first) {
        second
    } else {
        first
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
