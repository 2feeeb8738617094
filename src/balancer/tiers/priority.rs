//! How the load is divided among priorities: Envoy's arithmetic, in whole percent. Pure.

use crate::health::PanicRule;

/// The endpoints of one priority, in numbers or in weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) hosts: u64,
    pub(super) healthy: u64,
    pub(super) degraded: u64,
    /// Those that do not count in a share, as nothing is known of them. A fleet has none: who drains or has no weight
    /// is not among the hosts.
    pub(super) excluded: u64,
}

/// What one priority gets, in percent of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) healthy: u32,
    pub(super) degraded: u32,
    /// Whether health counts for nothing there. Before the division: whether it was so until now.
    pub(super) panics: bool,
}

impl Level {
    const fn judged(self) -> u64 {
        self.hosts.saturating_sub(self.excluded)
    }

    /// How much of the load it could carry, in percent: so many hosts carry `overprovisioning` percent of their share.
    fn carries(self, hosts: u64, overprovisioning: u32) -> u32 {
        let carried = u128::from(hosts) * u128::from(overprovisioning);
        carried
            .checked_div(self.judged().into())
            .map_or(0, |percent| percent.min(100) as u32)
    }

    fn panics(self, rule: &PanicRule, until_now: bool) -> bool {
        let judged = self.judged();
        if judged == 0 {
            return rule.threshold_percent > 0;
        }
        let eligible = self.healthy + self.degraded;
        let refused = judged.saturating_sub(eligible);
        rule.panics(judged as usize, refused as usize, until_now)
    }
}

/// Divides the load: by `health`, which may be in weights, with panic by `hosts`, which are numbers.
///
/// Each priority is taken for what it could carry, at most 100. Healthy ones first, in order; what is left over goes to the
/// degraded; rounding goes to the first that is available. A priority panics by its own share, and only where all together
/// cannot carry the load. Where all panic, each gets as much as it has hosts. Where nobody is available and there is no
/// panic rule, the first gets all, and fails; or the first that has anybody, where Envoy takes none that carries less than a percent.
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

/// Nobody carries a whole percent: the first who has anybody gets all.
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

/// Turns what each could carry into what each gets; returns what all could carry together, at most 100.
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
    let mut left = 100;
    let mut take = |part: &mut u32| {
        let available = *part > 0;
        *part = left.min(*part * 100 / total);
        left -= *part;
        available
    };
    let mut first_healthy = None;
    let mut first_degraded = None;
    for (at, load) in loads.iter_mut().enumerate() {
        if take(&mut load.healthy) && first_healthy.is_none() {
            first_healthy = Some(at);
        }
    }
    for (at, load) in loads.iter_mut().enumerate() {
        if take(&mut load.degraded) && first_degraded.is_none() {
            first_degraded = Some(at);
        }
    }
    if let Some(at) = first_healthy {
        loads[at].healthy += left;
    } else if let Some(at) = first_degraded {
        loads[at].degraded += left;
    }
    total
}

/// All panic: by number of hosts, the excluded too.
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

/// The load's parts as a draw meets them: of which priority, whether of its degraded ones, and how many percent. The
/// healthy lie first, in order.
pub(super) fn parts(loads: &[Load]) -> impl Iterator<Item = (usize, bool, u32)> {
    let healthy = loads.iter().enumerate();
    let healthy = healthy.map(|(at, load)| (at, false, load.healthy));
    let degraded = loads.iter().enumerate();
    healthy.chain(degraded.map(|(at, load)| (at, true, load.degraded)))
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
