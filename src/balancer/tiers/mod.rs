//! Priorities, zones and degraded endpoints, over any policy: [`Tiers`].

mod counted;
mod layout;
mod picker;
mod plan;
mod priority;
mod zones;

use std::collections::BTreeMap;

use super::{LoadBalancer, Picker, View};
use crate::endpoint::Endpoint;
use crate::error::BuildError;
use layout::Layout;
use picker::Tiered;

/// Divides the load among priorities and zones, and lets another policy choose within each.
///
/// Endpoints say where they belong by [`Endpoint::priority`] and [`Endpoint::locality`]. Each priority is taken for
/// the share of its endpoints that is eligible, times an overprovisioning factor of 1.4: one with eight of ten eligible carries all
/// of the load, one with five of ten 70 % of it. The first priority gets what it carries, the next what is left,
/// and so on. Endpoints [marked degraded](crate::Mark::Degraded) get what the healthy ones of *all* priorities cannot carry. Within a
/// priority zones do not count, unless [`prefer_zone`](Self::prefer_zone), [`zone_aware`](Self::zone_aware) or
/// [`locality_weights`](Self::locality_weights) says how; the last of them counts.
///
/// Health, slow start, limits and [`avoid`](crate::PickOptions::avoid) hold within each; a tier that is all in slow start keeps its load.
/// Where a tier has nobody left (all tried, or at their limit, say), the pick goes to the rest of its priority, then to the other
/// priorities with a load, then to those without. A retry is drawn like any pick, so it may go to the zone that has just failed: where
/// zones fail as one, use a [`Failover`](crate::Failover) over a fleet for each. An [affinity](crate::PickOptions::affinity) keeps to a
/// priority and zone as long as their loads allow. `Tiers` within `Tiers` add nothing. Positions, such as a round robin's, belong to a
/// priority and zone, and survive updates.
///
/// # Panic
///
/// The [panic rule](crate::PanicRule) is applied to each priority by itself, and only while all together cannot carry the load: with
/// the first priority dead and the second well there is none, whatever the share of the dead. In a priority that
/// panics, health counts for nothing, or picks that were for it [fail](crate::PickError::TooFewEligible). If all panic, each gets
/// as much as it has endpoints. Under a [`Failover`](crate::Failover) with enough elsewhere, the load is divided as if there were no panic
/// rule. [`Fleet::tiers`](crate::Fleet::tiers) shows loads and panic, [`Stats::panicking`](crate::Stats::panicking) whether any panics, and
/// an event tells when the first begins and when the last is over; [`Member::explain`](crate::Member::explain) does not know of it.
///
/// The [cap on ejections](crate::Ejection) still counts the fleet as a whole: with half of it in the first priority, a default cap lets
/// all of that be ejected, with more of it not. Raise it where a priority may fail as one.
///
/// # Cost
///
/// A pick costs 20 to 50 ns more than by the policy alone, measured on two busy cores (`cargo bench --bench pick -- two`). After a change of
/// anybody's health one pick counts anew who is eligible, 256 endpoints at most; the next ones go on with it, and until the
/// count is complete loads are as they were. Whoever is ejected is passed over at once all the same. Each zone of a priority keeps a table of
/// the inner policy's, and so does each priority of several zones.
///
/// Breaks down with a few endpoints in a priority, as its share goes in large steps: of two, one well carries 70 %. And the load
/// goes by the number of endpoints that are well, not by how busy they are.
///
/// Source: Envoy's priority levels, panic thresholds, zone aware routing and locality weighted load balancing, with its numbers.
/// It differs where this is better for the caller: zones count in each priority and not only in the first, and panic has
/// the [gap](crate::PanicRule::hysteresis_percent) that it has elsewhere here.
///
/// # Examples
///
/// ```
/// use evenkeel::{Cluster, Endpoint, Fleet, Mark, RoundRobin, Target, Tiers};
///
/// let here = (0..4).map(|n| Target::new(n, ()));
/// let far = (4..8).map(|n| Target::new(n, ()).with_priority(1));
/// let fleet = Fleet::builder().endpoints(here.chain(far)).policy(Tiers::new(RoundRobin::new())).build()?;
/// assert_eq!(fleet.pick_endpoint()?.endpoint().priority(), 0);
///
/// // Half of the first priority carries 70 % of the load.
/// fleet.mark(&0, Mark::Down);
/// fleet.mark(&1, Mark::Down);
/// let loads: Vec<_> = fleet.tiers().iter().map(|tier| tier.load_percent).collect();
/// assert_eq!(loads, [70.0, 30.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tiers<L> {
    inner: L,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    overprovisioning: u32,
    weighted_priority_health: bool,
    zones: ZoneRule,
    min_cluster_size: usize,
    force_local: Option<usize>,
    basis: LocalityBasis,
}

#[derive(Clone, Debug)]
enum ZoneRule {
    Off,
    Prefer(Box<str>),
    Callers(Box<str>, BTreeMap<Box<str>, u32>),
    Weights(BTreeMap<Box<str>, u32>),
}

/// What a zone has, when it is compared with others. See [`Tiers::locality_basis`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalityBasis {
    /// As many as are eligible there. The default, Envoy's `HEALTHY_HOSTS_NUM`.
    #[default]
    HealthyHostsNum,
    /// The sum of their weights. Envoy's `HEALTHY_HOSTS_WEIGHT`.
    HealthyHostsWeight,
}

/// One zone of one priority, and what it gets. See [`Fleet::tiers`](crate::Fleet::tiers).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tier {
    /// Its priority.
    pub priority: u32,
    /// Its zone; empty where zones do not count.
    pub locality: String,
    /// Its endpoints with a weight that do not drain.
    pub hosts: usize,
    /// Those that take requests, and are not degraded.
    pub healthy: usize,
    /// Those that take requests, and are degraded.
    pub degraded: usize,
    /// The share of all picks that it gets, in percent, 0 to 100. Where its priority's load is not divided among zones, by
    /// how many eligible endpoints it has of those in the priority, in panic of all.
    pub load_percent: f64,
    /// Whether its priority panics.
    pub panicking: bool,
}

impl<L> Tiers<L> {
    /// Priorities over this policy; zones do not count.
    #[must_use]
    pub const fn new(inner: L) -> Self {
        Self {
            inner,
            settings: Settings {
                overprovisioning: 140,
                weighted_priority_health: false,
                zones: ZoneRule::Off,
                min_cluster_size: 6,
                force_local: None,
                basis: LocalityBasis::HealthyHostsNum,
            },
        }
    }

    /// How much of its share an endpoint can carry, in percent, above 0: with 140, a priority or a zone gives load away once less than 72 %
    /// of it is eligible. Defaults to 140, Envoy's.
    #[must_use]
    pub const fn overprovisioning_factor(mut self, percent: u32) -> Self {
        self.settings.overprovisioning = percent;
        self
    }

    /// Whether a priority's health is by weights and not by numbers of endpoints; panic is by numbers still. Defaults to `false`,
    /// as Envoy's.
    #[must_use]
    pub const fn weighted_priority_health(mut self, is: bool) -> Self {
        self.settings.weighted_priority_health = is;
        self
    }

    /// Sends what is for a priority to the endpoints in this zone of it, as far as their eligible share times the factor carries
    /// it, and the rest to its other zones in proportion to who is eligible there. A priority without endpoints in the zone
    /// is divided among the others.
    ///
    /// It does not know how many callers share a zone: where they are not spread like the endpoints, a small zone with many callers is
    /// overloaded. Then [`zone_aware`](Self::zone_aware).
    #[must_use]
    pub fn prefer_zone(mut self, zone: impl Into<Box<str>>) -> Self {
        self.settings.zones = ZoneRule::Prefer(zone.into());
        self
    }

    /// Keeps as much as can be in my zone, so that all endpoints are loaded alike if all callers do so: `callers` tells how many
    /// stand in each zone, mine included. A zone with at least as large a share of the endpoints as of the callers keeps all; else it keeps the
    /// ratio of the two, and the rest goes where there are more endpoints than callers. In parts of 1/10000; in each
    /// priority; zones do not count where there are fewer than two with endpoints or with callers, or fewer endpoints than
    /// [`min_cluster_size`](Self::min_cluster_size). Envoy's zone aware routing.
    ///
    /// ```
    /// use evenkeel::{Fleet, RoundRobin, Target, Tiers};
    ///
    /// // Half of the callers stand in a, and a quarter of the endpoints.
    /// let zones = ["a", "b", "b", "b"].iter().cycle().take(8).enumerate();
    /// let policy = Tiers::new(RoundRobin::new()).zone_aware("a", [("a", 2), ("b", 2)]);
    /// let fleet = Fleet::builder()
    ///     .endpoints(zones.map(|(key, &zone)| Target::new(key, ()).with_locality(zone)))
    ///     .policy(policy)
    ///     .build()?;
    /// let loads: Vec<_> = fleet.tiers().iter().map(|tier| tier.load_percent).collect();
    /// assert_eq!(loads, [50.0, 50.0]);
    /// # Ok::<(), evenkeel::BuildError>(())
    /// ```
    #[must_use]
    pub fn zone_aware<Z: Into<Box<str>>>(
        mut self,
        zone: impl Into<Box<str>>,
        callers: impl IntoIterator<Item = (Z, u32)>,
    ) -> Self {
        let callers = callers.into_iter();
        let callers = callers.map(|(zone, count)| (zone.into(), count)).collect();
        self.settings.zones = ZoneRule::Callers(zone.into(), callers);
        self
    }

    /// With fewer eligible endpoints in a priority, [`zone_aware`](Self::zone_aware) does not count there. Defaults to
    /// 6, Envoy's.
    #[must_use]
    pub const fn min_cluster_size(mut self, endpoints: usize) -> Self {
        self.settings.min_cluster_size = endpoints;
        self
    }

    /// With at least so many eligible endpoints in my zone, [`zone_aware`](Self::zone_aware) keeps all there. Defaults to
    /// never; Envoy's `force_local_zone`.
    #[must_use]
    pub const fn force_local_zone_min_size(mut self, endpoints: usize) -> Self {
        self.settings.force_local = Some(endpoints);
        self
    }

    /// By what [`zone_aware`](Self::zone_aware) and [`prefer_zone`](Self::prefer_zone) compare zones. Defaults to numbers, as Envoy.
    #[must_use]
    pub const fn locality_basis(mut self, basis: LocalityBasis) -> Self {
        self.settings.basis = basis;
        self
    }

    /// Divides each priority among zones by these weights, each times the eligible share of the zone times the factor, at
    /// most 1. A zone that is not named, or of weight 0, gets nothing as long as another can take it; if none
    /// can, zones do not count. Envoy's locality weighted load balancing.
    #[must_use]
    pub fn locality_weights<Z: Into<Box<str>>>(
        mut self,
        weights: impl IntoIterator<Item = (Z, u32)>,
    ) -> Self {
        let weights = weights.into_iter();
        let weights = weights
            .map(|(zone, weight)| (zone.into(), weight))
            .collect();
        self.settings.zones = ZoneRule::Weights(weights);
        self
    }
}

impl<E: Endpoint, L: LoadBalancer<E>> LoadBalancer<E> for Tiers<L> {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        if view.is_part() {
            // Of one priority already: others, and panic, are for the outer one.
            return self.inner.picker(view);
        }
        view.judge_panic();
        let layout = Layout::new(&self.settings, view.members());
        Box::new(Tiered::new(&self.inner, layout, view))
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.settings.overprovisioning == 0 {
            let field = "Tiers::overprovisioning_factor";
            return Err(BuildError::setting(field, 0, "above 0"));
        }
        self.inner.check()
    }
}
