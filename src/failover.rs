//! A cluster over two clusters, by their health: [`Failover`].

use std::fmt;

use crate::balancer::Cursor;
use crate::cluster::Cluster;
use crate::error::{BuildError, PickError};
use crate::member::Lease;
use crate::options::{MemberId, PickOptions};
use crate::shared::{GOLDEN, entropy, mix};
use crate::sync::process;

/// Envoy's overprovisioning factor, in percent.
const OVERPROVISIONING: u32 = 140;

/// Two clusters as one: the preferred one takes all requests while enough of it is eligible, and the spare one the rest. For zones and
/// regions: one [`Fleet`](crate::Fleet) each, and `Failover` nested for more than two.
///
/// # How requests are shared
///
/// As Envoy shares them among priorities. The preferred cluster's part is its
/// [`availability`](Cluster::availability) times the [overprovisioning factor](Self::overprovisioning_factor), 1.4, at
/// most all: of ten endpoints two may be out before the first request goes elsewhere. The rest goes to the spare
/// one. If both together have less than all (such as two in ten and three in ten), they share in proportion; with nothing
/// eligible in either, the preferred one is asked first. `Failover` is available by what both have, at most 1, so
/// `Failover::new(Failover::new(a, b), c)` shares as Envoy does among three; nested to the right, the spare ones are
/// held to what they could take of all, and the last gets some while the second is short.
///
/// Requests with an [affinity](PickOptions::affinity) go by its hash: a session stays where it is unless the parts move
/// past it. Others go by a low-discrepancy sequence, one a thread (see [`Cursor`]): of any n requests in a row of one thread, the
/// preferred cluster gets its part to within a few, so there are no runs to one side as by chance, and no rhythm that
/// the callers' could fall in with.
///
/// # When the one chosen has none
///
/// Then the other is asked at once, whatever the reason. If neither has an endpoint, the error is of the one closer to having one, in this
/// order: avoided, saturated, declined, too few eligible, all ejected, all draining, empty; the preferred one's if equal.
///
/// A retry (a pick that [avoids](PickOptions::avoid) anybody, for whatever reason) goes to the cluster not yet tried, if any of it is
/// eligible: when a zone dies whole, a second try there would fail too. See [`retries_elsewhere`](Self::retries_elsewhere).
///
/// # Panic
///
/// While both together have enough, the clusters' [panic rules](crate::PanicRule) are suspended, as in Envoy: a fleet that
/// has one in ten eligible gets 14 % of the requests, for that one. Only when they are short together, or neither
/// yields an endpoint otherwise, do their rules apply, each fleet's own.
///
/// # How a cluster comes back
///
/// Ejected endpoints of both are probed by requests that would go elsewhere, one in eleven at most
/// ([`pick_probe`](Cluster::pick_probe)), so a cluster that is out altogether comes back by itself, and its part grows
/// with each endpoint that has returned. With [active checks](crate::Fleet::health_check) of its fleet, no request is a
/// probe. Endpoints that come back together share their cluster's requests from the first; where that is
/// too much for them, let the checks ask for more than one pass.
///
/// # How to set up its fleets
///
/// By default a fleet ejects at most half of its endpoints, and hardly any where all fail alike: it has nowhere else to go. Under a
/// `Failover` it has, and [`Ejection::under_failover`](crate::Ejection::under_failover) says so: all may be ejected and spared, and
/// failures in a row count whatever the others do.
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
/// // Half of it is gone: 1.4 times a half stays.
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
/// While the preferred cluster has enough, a pick reads four more words of its fleets'. It takes no lock and does not allocate.
///
/// Source: Envoy's priority levels, overprovisioning factor and aggregate cluster.
pub struct Failover<A, B> {
    preferred: A,
    spare: B,
    name: String,
    factor: f64,
    retries_elsewhere: bool,
    cursor: Cursor,
    /// Of its own for each of those that are nested, and the same in every process.
    salt: u64,
}

impl<A, B> Failover<A, B>
where
    A: Cluster,
    B: Cluster<Endpoint = A::Endpoint>,
{
    /// Prefers `preferred` to `spare`.
    #[must_use]
    pub fn new(preferred: A, spare: B) -> Self {
        let name = format!("{}|{}", preferred.name(), spare.name());
        // FNV-1a, with more after it: the standard library's hashes may change from one version to the next.
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

    /// Gives it a name, for logs and metrics. Defaults to both names, such as `"here|there"`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many times its eligible share of the requests a cluster can take, in percent: 1 to 10000. Defaults to 140,
    /// Envoy's: what is left of a cluster has room to spare, and a request that stays is answered sooner than one that goes
    /// far. Below 100, some requests go to the spare cluster even if the preferred one is whole.
    ///
    /// # Errors
    ///
    /// [`BuildError::Setting`] if it is out of its range.
    pub fn overprovisioning_factor(mut self, percent: u32) -> Result<Self, BuildError> {
        if !(1..=10_000).contains(&percent) {
            return Err(BuildError::setting(
                "Failover::overprovisioning_factor",
                percent,
                "from 1 to 10000",
            ));
        }
        self.factor = f64::from(percent) / 100.0;
        Ok(self)
    }

    /// Whether a retry goes to the cluster that has not been tried, if anything of it is eligible. Defaults to yes: a retry
    /// is rare, and who has failed once may have failed with all that are near it. (Envoy asks for the
    /// `previous_priorities` plugin.) It costs a look at each endpoint of a fleet, for retries only.
    #[must_use]
    pub const fn retries_elsewhere(mut self, elsewhere: bool) -> Self {
        self.retries_elsewhere = elsewhere;
        self
    }

    /// Makes it repeatable which requests go where, in one thread at a time: all threads then share one sequence. For
    /// tests. Unset by default: each thread's sequence begins at random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.cursor = Cursor::new(1, |_| seed);
        self
    }

    /// The cluster that is preferred.
    #[must_use]
    pub const fn preferred(&self) -> &A {
        &self.preferred
    }

    /// The one that takes what that cannot.
    #[must_use]
    pub const fn spare(&self) -> &B {
        &self.spare
    }

    /// The part of the requests that goes to the preferred cluster now, from 0 to 1.
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

    /// Whether the preferred one is asked first.
    fn prefers(&self, split: Split, options: &PickOptions<'_>) -> bool {
        if let Some(elsewhere) = self.untried(options.avoid) {
            return elsewhere;
        }
        if split.preferred >= 1.0 || split.preferred <= 0.0 {
            return split.preferred > 0.0;
        }
        let draw = match options.affinity {
            // Other bits than a policy takes of it.
            Some(hash) => mix(hash ^ self.salt),
            None => {
                let turn = self.cursor.next(process::thread_number());
                turn.wrapping_mul(GOLDEN)
            }
        };
        (draw as f64) < split.preferred * u64::MAX as f64
    }

    /// For a retry: whether the preferred one has not been tried, and the other has, or the reverse; and there is something.
    fn untried(&self, avoid: &[MemberId]) -> Option<bool> {
        if avoid.is_empty() || !self.retries_elsewhere {
            return None;
        }
        let tried = (self.preferred.is_tried(avoid), self.spare.is_tried(avoid));
        match tried {
            (true, false) if self.spare.availability() > 0.0 => Some(false),
            (false, true) if self.preferred.availability() > 0.0 => Some(true),
            _ => None,
        }
    }

    fn pick_from(
        &self,
        prefers: bool,
        options: &PickOptions<'_>,
    ) -> Result<Lease<A::Endpoint>, PickError> {
        if prefers {
            self.preferred.pick_endpoint_with(options).or_else(|first| {
                let other = self.spare.pick_endpoint_with(options);
                other.map_err(|second| more_telling(first, second))
            })
        } else {
            self.spare.pick_endpoint_with(options).or_else(|second| {
                let other = self.preferred.pick_endpoint_with(options);
                other.map_err(|first| more_telling(first, second))
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
        // There was enough, and none for this request. Rather than to fail, as each one's rule for panic says.
        let last = PickOptions {
            without_probe: true,
            ..*options
        };
        self.pick_from(prefers, &last)
    }

    /// What both have, at most 1.
    fn availability(&self) -> f64 {
        (share(self.preferred.availability()) + share(self.spare.availability())).min(1.0)
    }

    fn pick_probe(&self) -> Option<Lease<A::Endpoint>> {
        let probe = self.preferred.pick_probe();
        probe.or_else(|| self.spare.pick_probe())
    }

    fn is_tried(&self, members: &[MemberId]) -> bool {
        (self.preferred.is_tried(members) || self.preferred.availability() <= 0.0)
            && (self.spare.is_tried(members) || self.spare.availability() <= 0.0)
    }

    fn has_healthy(&self) -> bool {
        self.preferred.has_healthy() || self.spare.has_healthy()
    }

    fn leaves_none(&self, avoid: &[MemberId]) -> bool {
        self.preferred.leaves_none(avoid) && self.spare.leaves_none(avoid)
    }
}

impl<A: Clone, B: Clone> Clone for Failover<A, B> {
    /// Clones share the sequence by which requests are split.
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

/// How requests are shared between two clusters.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Split {
    /// The preferred one's part.
    preferred: f64,
    /// Whether they can take all together.
    is_enough: bool,
}

impl Split {
    /// By how much of each is eligible; of the spare one only if it matters.
    fn new(factor: f64, preferred: f64, spare: impl FnOnce() -> f64) -> Self {
        let first = (factor * share(preferred)).min(1.0);
        let (preferred, is_enough) = if first >= 1.0 {
            (1.0, true)
        } else {
            let total = first + (factor * share(spare())).min(1.0);
            // Of tenths, some sums are not quite one.
            let is_enough = total >= 1.0 - 1e-9;
            match total {
                _ if is_enough => (first, true),
                0.0 => (1.0, false),
                _ => (first / total, false),
            }
        };
        Self {
            preferred,
            is_enough,
        }
    }
}

/// What a cluster of the user's says, held to 0 to 1; no number is 0.
fn share(availability: f64) -> f64 {
    if availability.is_nan() {
        0.0
    } else {
        availability.clamp(0.0, 1.0)
    }
}

/// Of two reasons the one that was closer to an endpoint, the first if both were as close.
const fn more_telling(first: PickError, second: PickError) -> PickError {
    const fn closeness(error: PickError) -> u32 {
        match error {
            PickError::AllAvoided => 6,
            PickError::Saturated => 5,
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
