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
use crate::settings::within;
use layout::Layout;
use picker::Tiered;

/// Divides the load among priorities and zones, and lets another policy choose within each.
///
/// An endpoint says where it belongs by [`Endpoint::priority`] and [`Endpoint::locality`]. A priority can carry its
/// eligible share of endpoints times an overprovisioning factor of 1.4: one with eight of ten endpoints eligible
/// carries all of the load, one with five of ten carries 70 % of it. The first priority gets what it can carry, the
/// next one what is left, and so on. Endpoints [marked degraded](crate::Mark::Degraded) get what the healthy ones of
/// *all* priorities cannot carry.
///
/// Within a priority, zones do not count unless [`prefer_zone`](Self::prefer_zone), [`zone_aware`](Self::zone_aware) or
/// [`locality_weights`](Self::locality_weights) says how. If several are called, the last one applies.
///
/// Health, slow start, limits and [`avoid`](crate::PickOptions::avoid) apply within each tier. A tier of which all
/// endpoints are in slow start keeps its load. Where a tier has no endpoint left (for example, all have been tried or
/// are at their limit), the pick goes to the rest of its priority, then to the other priorities with a load, then to
/// those without one. A retry is drawn like any pick, so it may go to the zone that has just failed: where zones fail
/// as one, use a [`Failover`](crate::Failover) over one fleet per zone. An [affinity](crate::PickOptions::affinity)
/// keeps to a priority and zone as long as their loads allow. Positions, such as a round robin's, belong to a priority
/// and zone, and survive updates. `Tiers` within `Tiers` have no effect.
///
/// # Panic
///
/// The [panic rule](crate::PanicRule) applies to each priority separately, and only while all priorities together
/// cannot carry the load. With the first priority dead and the second well there is no panic, whatever the share of
/// dead endpoints. In a priority that is in panic, health is ignored, or picks for that priority
/// [fail](crate::PickError::TooFewEligible). If all are in panic, each gets a share of the load by its number of
/// endpoints. In a priority without a load, which gets only picks for which the others have no endpoint left, health
/// counts. Under a [`Failover`](crate::Failover) with enough capacity elsewhere, the load is divided as if there were
/// no panic rule.
///
/// [`Fleet::tiers`](crate::Fleet::tiers) shows loads and panic, and [`Stats::panicking`](crate::Stats::panicking)
/// whether any priority with a load is in panic. An event tells when the first such panic begins and when the last one
/// ends.
/// [`Member::explain`](crate::Member::explain) does not take it into account.
///
/// The [cap on ejections](crate::Ejection) still counts the fleet as a whole. With half of the fleet in the first
/// priority, the default cap lets all of that priority be ejected; with more than half in it, not all. Raise the cap
/// where a priority may fail as one.
///
/// # Cost
///
/// A pick costs 20 to 50 ns more than with the inner policy alone, measured on two busy cores (`cargo bench --bench
/// pick -- two`). After a change of any endpoint's health, one pick counts again which endpoints are eligible, 256 at
/// most, and the next picks continue the count. Until the count is complete, the loads stay as they were. An ejected
/// endpoint is passed over at once all the same. Each zone of a priority has a table of the inner policy's, and so does
/// each priority with several zones.
///
/// It breaks down with a few endpoints in a priority, as its load changes in large steps: with one of two well, it
/// carries 70 %. The load follows the number of endpoints that are well, not how busy they are.
///
/// Source: Envoy's priority levels, panic thresholds, zone aware routing and locality weighted load balancing, with its
/// numbers. It differs where that is better for the caller: zones count in each priority and not only in the first, and
/// panic has the same [gap](crate::PanicRule::hysteresis_percent) as elsewhere in this crate.
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

/// The size by which zones are compared. See [`Tiers::locality_basis`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalityBasis {
    /// The number of eligible endpoints. The default, Envoy's `HEALTHY_HOSTS_NUM`.
    #[default]
    HealthyHostsNum,
    /// The sum of the eligible endpoints' weights. Envoy's `HEALTHY_HOSTS_WEIGHT`.
    HealthyHostsWeight,
}

/// One zone of one priority, and its share of the load. See [`Fleet::tiers`](crate::Fleet::tiers).
///
/// A picker of yours makes one from the default, whose fields can be changed afterwards.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Tier {
    /// The priority.
    pub priority: u32,
    /// The zone; empty where zones do not count.
    pub locality: String,
    /// The number of endpoints that have a weight and are not draining.
    pub hosts: usize,
    /// The number of endpoints that take requests and are not degraded.
    pub healthy: usize,
    /// The number of endpoints that take requests and are degraded.
    pub degraded: usize,
    /// The share of all picks that the zone gets, in percent, 0 to 100. Where the load of a priority is not divided
    /// among its zones, each zone's share follows its number of eligible endpoints, or in panic its number of
    /// endpoints.
    pub load_percent: f64,
    /// Whether the priority is in panic. Without a load that has no effect.
    pub panicking: bool,
}

impl<L> Tiers<L> {
    /// Creates priorities over the policy `inner`. Zones do not count.
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

    /// Sets the overprovisioning factor: how much of its share an endpoint can carry, in percent, above 0. With 140, a
    /// priority or a zone gives load away once less than 72 % of it is eligible. Defaults to 140, as in Envoy.
    #[must_use]
    pub const fn overprovisioning_factor(mut self, percent: u32) -> Self {
        self.settings.overprovisioning = percent;
        self
    }

    /// Sets whether a priority's health is measured by weights instead of numbers of endpoints. Panic is still judged
    /// by numbers. Defaults to `false`, as in Envoy.
    #[must_use]
    pub const fn weighted_priority_health(mut self, is: bool) -> Self {
        self.settings.weighted_priority_health = is;
        self
    }

    /// Prefers this zone: sends the load of a priority to its endpoints in the zone, as far as their eligible share
    /// times the overprovisioning factor carries it. The rest goes to the other zones, in proportion to their eligible
    /// endpoints. A priority without endpoints in the zone is divided among the others.
    ///
    /// This does not know how many callers share a zone. Where callers are not distributed like the endpoints, a small
    /// zone with many callers is overloaded; then use [`zone_aware`](Self::zone_aware).
    #[must_use]
    pub fn prefer_zone(mut self, zone: impl Into<Box<str>>) -> Self {
        self.settings.zones = ZoneRule::Prefer(zone.into());
        self
    }

    /// Keeps as much load as possible in `zone`, the caller's own, such that all endpoints are loaded alike if all
    /// callers use this rule. Envoy's zone aware routing.
    ///
    /// `callers` tells how many callers each zone has, including `zone`. A zone whose share of the endpoints is at
    /// least its share of the callers keeps all of its load. Otherwise it keeps the ratio of the two shares, and the
    /// rest goes to zones that have a larger share of the endpoints than of the callers. Shares are in units of
    /// 1/10000, in each priority separately. Zones do not count where fewer than two have endpoints, where fewer than
    /// two have callers, or where fewer endpoints than [`min_cluster_size`](Self::min_cluster_size) are eligible.
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

    /// Sets how many eligible endpoints a priority needs for [`zone_aware`](Self::zone_aware) to apply there. Defaults
    /// to 6, as in Envoy.
    #[must_use]
    pub const fn min_cluster_size(mut self, endpoints: usize) -> Self {
        self.settings.min_cluster_size = endpoints;
        self
    }

    /// Sets how many eligible endpoints in the caller's zone are enough for [`zone_aware`](Self::zone_aware) to keep
    /// all load there. By default no number is; Envoy's `force_local_zone`.
    #[must_use]
    pub const fn force_local_zone_min_size(mut self, endpoints: usize) -> Self {
        self.settings.force_local = Some(endpoints);
        self
    }

    /// Sets the size by which [`zone_aware`](Self::zone_aware) and [`prefer_zone`](Self::prefer_zone) compare zones.
    /// Defaults to numbers of endpoints, as in Envoy.
    #[must_use]
    pub const fn locality_basis(mut self, basis: LocalityBasis) -> Self {
        self.settings.basis = basis;
        self
    }

    /// Divides each priority among its zones by these weights. Envoy's locality weighted load balancing.
    ///
    /// Each weight is multiplied by the eligible share of the zone times the overprovisioning factor, at most 1. A zone
    /// that is not named, or has weight 0, gets nothing as long as another zone can take the load. If none can, zones
    /// do not count.
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
            // A view of a part belongs to one priority already. The outer `Tiers` divides the load and judges panic.
            return self.inner.picker(view);
        }
        view.judge_panic();
        let layout = Layout::new(&self.settings, view.members());
        Box::new(Tiered::new(&self.inner, layout, view))
    }

    fn check(&self) -> Result<(), BuildError> {
        let factor = (
            "Tiers::overprovisioning_factor",
            self.settings.overprovisioning,
        );
        within(1..=u32::MAX, "above 0", [factor])?;
        self.inner.check()
    }
}
