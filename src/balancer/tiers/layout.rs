//! Which members form which priority and zone, and what is fixed about each.

use std::ops::Range;

use super::priority::{self, Level, Load};
use super::zones::{self, Callers, Rule, Zone};
use super::{LocalityBasis, Settings, ZoneRule};
use crate::endpoint::Endpoint;
use crate::health::PanicRule;
use crate::member::Member;

/// The members sorted by priority and zone.
pub(super) struct Layout {
    /// Each member's index in the fleet.
    pub(super) places: Box<[u32]>,
    /// Each member's group.
    pub(super) group_of: Box<[u32]>,
    /// The zones of all priorities.
    pub(super) groups: Box<[Group]>,
    pub(super) priorities: Box<[Priority]>,
    overprovisioning: u32,
    weighted_priority_health: bool,
    by_weight: bool,
    zones: Option<Rule>,
}

/// One zone of one priority.
pub(super) struct Group {
    pub(super) zone: Box<str>,
    pub(super) members: Range<usize>,
    /// The sum of the members' weights.
    weight: u64,
    /// The part of the zone that does not change with health.
    fixed: Zone,
}

pub(super) struct Priority {
    pub(super) number: u32,
    pub(super) members: Range<usize>,
    pub(super) groups: Range<usize>,
}

/// The eligible members of a group, in numbers and in weights.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) healthy: u64,
    pub(super) degraded: u64,
    healthy_weight: u64,
    degraded_weight: u64,
}

impl Count {
    pub(super) fn add(&mut self, weight: u64, is_degraded: bool) {
        let (count, sum) = if is_degraded {
            (&mut self.degraded, &mut self.degraded_weight)
        } else {
            (&mut self.healthy, &mut self.healthy_weight)
        };
        *count += 1;
        *sum += weight;
    }

    fn of(self, is_degraded: bool) -> (u64, u64) {
        if is_degraded {
            (self.degraded, self.degraded_weight)
        } else {
            (self.healthy, self.healthy_weight)
        }
    }
}

/// Buffers for a division, allocated in advance, as a pick that counts must not allocate.
pub(super) struct Scratch {
    pub(super) counts: Box<[Count]>,
    pub(super) loads: Box<[Load]>,
    /// As `loads`, with the panic rule suspended, which a cluster over the fleet may ask for.
    pub(super) suspended: Box<[Load]>,
    hosts: Box<[Level]>,
    weights: Box<[Level]>,
    zones: Box<[Zone]>,
    shares: Box<[u64]>,
}

impl Layout {
    pub(super) fn new<E: Endpoint>(settings: &Settings, members: &[Member<E>]) -> Self {
        let counts_zones = !matches!(settings.zones, ZoneRule::Off);
        let zone_of = |endpoint| {
            if counts_zones {
                E::locality(endpoint)
            } else {
                ""
            }
        };
        let endpoints = members.iter().map(Member::endpoint);
        let mut sorted: Vec<_> = endpoints
            .map(|endpoint| (endpoint.priority(), zone_of(endpoint)))
            .zip(0u32..)
            .collect();
        sorted.sort_unstable();
        let places = sorted.iter().map(|(_, place)| *place).collect();
        let mut groups: Vec<Group> = Vec::new();
        let mut priorities: Vec<Priority> = Vec::new();
        let mut group_of = Vec::with_capacity(sorted.len());
        for (at, ((number, zone), place)) in sorted.into_iter().enumerate() {
            let is_new = priorities.last().is_none_or(|last| last.number != number);
            if is_new {
                let (members, groups) = (at..at, groups.len()..groups.len());
                priorities.push(Priority {
                    number,
                    members,
                    groups,
                });
            }
            if is_new || groups.last().is_none_or(|last| *last.zone != *zone) {
                groups.push(settings.group(zone, at));
            }
            let group_count = groups.len();
            if let (Some(priority), Some(group)) = (priorities.last_mut(), groups.last_mut()) {
                group.members.end = at + 1;
                group.weight += u64::from(members[place as usize].weight().get());
                priority.members.end = at + 1;
                priority.groups.end = group_count;
            }
            group_of.push(group_count as u32 - 1);
        }
        Self {
            places,
            group_of: group_of.into(),
            groups: groups.into(),
            priorities: priorities.into(),
            overprovisioning: settings.overprovisioning,
            weighted_priority_health: settings.weighted_priority_health,
            by_weight: settings.basis == LocalityBasis::HealthyHostsWeight,
            zones: settings.rule(),
        }
    }

    pub(super) fn scratch(&self) -> Scratch {
        let most = self.priorities.iter().map(|priority| priority.groups.len());
        let most = most.max().unwrap_or(0);
        let priorities = self.priorities.len();
        Scratch {
            counts: vec![Count::default(); self.groups.len()].into(),
            loads: vec![Load::default(); priorities].into(),
            suspended: vec![Load::default(); priorities].into(),
            hosts: vec![Level::default(); priorities].into(),
            weights: vec![Level::default(); priorities].into(),
            zones: vec![Zone::default(); most].into(),
            shares: vec![0; most].into(),
        }
    }

    /// Divides the load by what has been counted. Before the call, `loads` says which priorities are in panic so far.
    pub(super) fn divide(&self, scratch: &mut Scratch, rule: &PanicRule) {
        for (at, priority) in self.priorities.iter().enumerate() {
            let (mut hosts, mut weights) = (Level::default(), Level::default());
            for group in priority.groups.clone() {
                let count = scratch.counts[group];
                hosts.hosts += self.groups[group].members.len() as u64;
                hosts.healthy += count.healthy;
                hosts.degraded += count.degraded;
                weights.hosts += self.groups[group].weight;
                weights.healthy += count.healthy_weight;
                weights.degraded += count.degraded_weight;
            }
            (scratch.hosts[at], scratch.weights[at]) = (hosts, weights);
        }
        let health = if self.weighted_priority_health {
            &scratch.weights
        } else {
            &scratch.hosts
        };
        let none = PanicRule::off();
        for (rule, loads) in [(rule, &mut scratch.loads), (&none, &mut scratch.suspended)] {
            priority::divide(health, &scratch.hosts, self.overprovisioning, rule, loads);
        }
    }

    /// Divides the load of one priority's healthy or degraded members among its zones. `None` where zones do not count.
    pub(super) fn divide_zones<'a>(
        &self,
        scratch: &'a mut Scratch,
        priority: usize,
        is_degraded: bool,
    ) -> Option<&'a [u64]> {
        let groups = self.priorities[priority].groups.clone();
        let rule = self.zones.filter(|_| groups.len() > 1)?;
        let by_weight = self.by_weight && !matches!(rule, Rule::Weights { .. });
        let zones = &mut scratch.zones[..groups.len()];
        for (zone, at) in zones.iter_mut().zip(groups) {
            let group = &self.groups[at];
            let (count, weight) = scratch.counts[at].of(is_degraded);
            let (hosts, eligible) = if by_weight {
                (group.weight, weight)
            } else {
                (group.members.len() as u64, count)
            };
            *zone = Zone {
                hosts,
                eligible,
                eligible_count: count,
                ..group.fixed
            };
        }
        let shares = &mut scratch.shares[..zones.len()];
        zones::divide(rule, zones, shares).then_some(&*shares)
    }
}

impl Settings {
    fn rule(&self) -> Option<Rule> {
        let overprovisioning = self.overprovisioning;
        match &self.zones {
            ZoneRule::Off => None,
            ZoneRule::Prefer(_) => Some(Rule::Prefer { overprovisioning }),
            ZoneRule::Weights(_) => Some(Rule::Weights { overprovisioning }),
            ZoneRule::Callers(_, callers) => Some(Rule::Callers(Callers {
                total: callers.values().map(|&count| u64::from(count)).sum(),
                zones: callers.values().filter(|&&count| count > 0).count(),
                min_cluster_size: self.min_cluster_size as u64,
                force_local: self.force_local.map(|least| least as u64),
            })),
        }
    }

    fn group(&self, zone: &str, at: usize) -> Group {
        let mut fixed = Zone::default();
        match &self.zones {
            ZoneRule::Off => {}
            ZoneRule::Prefer(mine) => fixed.is_mine = **mine == *zone,
            ZoneRule::Weights(weights) => fixed.weight = weights.get(zone).copied().unwrap_or(0),
            ZoneRule::Callers(mine, callers) => {
                fixed.is_mine = **mine == *zone;
                fixed.callers = callers.get(zone).copied().unwrap_or(0).into();
            }
        }
        Group {
            zone: zone.into(),
            members: at..at,
            weight: 0,
            fixed,
        }
    }
}
