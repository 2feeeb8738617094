//! How the load is divided among priorities: Envoy's arithmetic, in whole percent. Pure.

use crate::health::PanicRule;

/// The endpoints of one priority, in numbers or in weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) hosts: u64,
    pub(super) healthy: u64,
    pub(super) degraded: u64,
}

/// The load of one priority, in percent of the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) healthy: u32,
    pub(super) degraded: u32,
    /// Whether the priority is in panic, so that health is ignored. Before the division: whether it was until now.
    pub(super) panics: bool,
}

impl Load {
    /// Whether panic makes a difference: whether there is a load for which health is ignored, or picks fail.
    pub(super) const fn acts_in_panic(self) -> bool {
        self.panics && self.healthy + self.degraded > 0
    }
}

impl Level {
    /// How much of the load the priority could carry, in percent: `hosts` of it carry `overprovisioning` percent of
    /// their share.
    fn carries(self, hosts: u64, overprovisioning: u32) -> u32 {
        let carried = u128::from(hosts) * u128::from(overprovisioning);
        carried
            .checked_div(self.hosts.into())
            .map_or(0, |percent| percent.min(100) as u32)
    }

    fn panics(self, rule: &PanicRule, until_now: bool) -> bool {
        if self.hosts == 0 {
            return rule.threshold_percent > 0;
        }
        let eligible = self.healthy + self.degraded;
        let refused = self.hosts.saturating_sub(eligible);
        rule.panics(self.hosts as usize, refused as usize, until_now)
    }
}

/// Divides the load by `health`, which may be in weights, and judges panic by `hosts`, which is in numbers.
///
/// Each priority counts for what it could carry, at most 100. Healthy members come first, in order of priority; the
/// degraded get what is left over; and what rounding leaves goes to the first part that is available. A priority panics
/// by its own share, and only where all together cannot carry the load. Where all panic, each gets a share by its
/// number of hosts. Where no priority carries a whole percent and not all of them panic, the first one with an eligible
/// host gets all; Envoy gives all to the first priority there, even if it has none. If no host is eligible at all, the
/// first priority gets all, and its picks fail.
pub(super) fn divide(
    health: &[Level],
    hosts: &[Level],
    overprovisioning: u32,
    rule: &PanicRule,
    loads: &mut [Load],
) {
    for (load, level) in loads.iter_mut().zip(health) {
        load.healthy = level.carries(level.healthy, overprovisioning);
        load.degraded = level.carries(level.degraded, overprovisioning);
    }
    let total = split(loads);
    for (load, level) in loads.iter_mut().zip(hosts) {
        load.panics = total < 100 && level.panics(rule, load.panics);
    }
    if loads.iter().all(|load| load.panics) {
        by_hosts(hosts, loads);
    } else if total == 0 {
        to_the_first(hosts, loads);
    }
}

/// No priority carries a whole percent: the first one with an eligible host gets all.
fn to_the_first(hosts: &[Level], loads: &mut [Load]) {
    let healthy = hosts.iter().position(|level| level.healthy > 0);
    let degraded = hosts.iter().position(|level| level.degraded > 0);
    match (healthy, degraded) {
        (None, Some(at)) => loads[at].degraded = 100,
        (at, _) => {
            if let Some(load) = loads.get_mut(at.unwrap_or(0)) {
                load.healthy = 100;
            }
        }
    }
}

/// Turns what each priority could carry into what it gets. Returns what all could carry together, at most 100.
fn split(loads: &mut [Load]) -> u32 {
    let could = |load: &Load| load.healthy + load.degraded;
    let total = loads
        .iter()
        .map(could)
        .fold(0, u32::saturating_add)
        .min(100);
    if total == 0 {
        return 0;
    }
    let first_healthy = loads.iter().position(|load| load.healthy > 0);
    let first_degraded = loads.iter().position(|load| load.degraded > 0);
    let mut left = 100;
    let mut take = |part: &mut u32| {
        *part = left.min(*part * 100 / total);
        left -= *part;
    };
    loads.iter_mut().for_each(|load| take(&mut load.healthy));
    loads.iter_mut().for_each(|load| take(&mut load.degraded));
    match (first_healthy, first_degraded) {
        (Some(at), _) => loads[at].healthy += left,
        (None, Some(at)) => loads[at].degraded += left,
        (None, None) => {}
    }
    total
}

/// All panic: divides by the number of hosts.
fn by_hosts(hosts: &[Level], loads: &mut [Load]) {
    let total: u64 = hosts.iter().map(|level| level.hosts).sum();
    let mut left = 100;
    for (load, level) in loads.iter_mut().zip(hosts) {
        let percent = (100 * level.hosts).checked_div(total).unwrap_or(0) as u32;
        (load.healthy, load.degraded) = (percent, 0);
        left -= percent;
    }
    let first = hosts.iter().position(|level| level.hosts > 0).unwrap_or(0);
    if let Some(load) = loads.get_mut(first) {
        load.healthy += left;
    }
}

/// The parts of the load in the order of a draw: the priority, whether it is of degraded members, and the percentage.
/// The healthy parts come first, in order of priority.
pub(super) fn parts(loads: &[Load]) -> impl Iterator<Item = (usize, bool, u32)> {
    let healthy = loads.iter().enumerate();
    let healthy = healthy.map(|(at, load)| (at, false, load.healthy));
    let degraded = loads.iter().enumerate();
    healthy.chain(degraded.map(|(at, load)| (at, true, load.degraded)))
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
