//! How the load of one priority is divided among its zones. Pure.

/// The number of parts in a whole, as in Envoy.
const WHOLE: u64 = 10_000;

/// One zone of one priority, in numbers of endpoints, or in weights if zones are compared by weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Zone {
    /// Whether this is the caller's own zone.
    pub(super) is_mine: bool,
    /// How many callers the zone has.
    pub(super) callers: u64,
    /// The weight that the user gives the zone.
    pub(super) weight: u32,
    pub(super) hosts: u64,
    /// The endpoints that take the load to be divided: the healthy, or the degraded.
    pub(super) eligible: u64,
    /// The number of eligible endpoints, also where the other fields are weights.
    pub(super) eligible_count: u64,
}

/// The rule by which the load is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The caller's zone as far as it can carry, and the rest by eligible endpoints.
    Prefer { overprovisioning: u32 },
    /// Envoy's zone-aware routing: from all callers together, each zone gets as large a share as it has of the
    /// endpoints.
    Callers(Callers),
    /// Each zone by its weight and its eligible share.
    Weights { overprovisioning: u32 },
}

/// The callers as a whole, and the settings of zone-aware routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Callers {
    /// The callers in all zones, including zones without an endpoint.
    pub(super) total: u64,
    /// The number of zones with callers.
    pub(super) zones: usize,
    /// With fewer eligible endpoints than this in all zones, zones do not count.
    pub(super) min_cluster_size: u64,
    /// With at least this many in the caller's zone, it gets all.
    pub(super) force_local: Option<u64>,
}

/// Divides the load among `zones`, in proportion to the values written to `shares`. `false` if zones do not count, so
/// that a member is drawn from all zones together; the shares are then 0.
pub(super) fn divide(rule: Rule, zones: &[Zone], shares: &mut [u64]) -> bool {
    shares.fill(0);
    match rule {
        Rule::Prefer { overprovisioning } => prefer(overprovisioning, zones, shares),
        Rule::Callers(callers) => by_callers(callers, zones, shares),
        Rule::Weights { overprovisioning } => {
            for (share, zone) in shares.iter_mut().zip(zones) {
                let part = carried(zone, overprovisioning, 1_000_000);
                *share = u64::from(zone.weight).saturating_mul(part);
            }
        }
    }
    // The shares are laid end to end, so their sum must fit.
    let total = shares.iter().map(|&share| u128::from(share)).sum::<u128>();
    if total > u128::from(u64::MAX) {
        shares.iter_mut().for_each(|share| *share >>= 20);
    }
    total > 0
}

/// How much of its share a zone can carry, in parts of `whole`.
fn carried(zone: &Zone, overprovisioning: u32, whole: u64) -> u64 {
    let able = u128::from(zone.eligible) * u128::from(overprovisioning) * u128::from(whole / 100);
    let able = able.checked_div(zone.hosts.into()).unwrap_or(0);
    able.min(whole.into()) as u64
}

fn part_of(part: u64, whole: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(WHOLE);
    scaled.checked_div(whole.into()).unwrap_or(0) as u64
}

fn prefer(overprovisioning: u32, zones: &[Zone], shares: &mut [u64]) {
    let mine = zones.iter().find(|zone| zone.is_mine);
    let mine = mine.map_or(0, |zone| carried(zone, overprovisioning, WHOLE));
    let other = |zone: &Zone| if zone.is_mine { 0 } else { zone.eligible };
    local_and_rest(mine, zones, other, shares);
}

/// Gives the caller's zone `mine` parts of the whole, and the rest to the other zones in proportion to `rest_of`.
fn local_and_rest(mine: u64, zones: &[Zone], rest_of: impl Fn(&Zone) -> u64, shares: &mut [u64]) {
    let rest: u64 = zones.iter().map(&rest_of).fold(0, u64::saturating_add);
    // With very many heavy endpoints, the products would overflow.
    let shift = if rest > u64::MAX / WHOLE { 20 } else { 0 };
    let (rest, rest_of) = (rest >> shift, |zone: &Zone| rest_of(zone) >> shift);
    for (share, zone) in shares.iter_mut().zip(zones) {
        *share = match (zone.is_mine, rest) {
            (true, 0) => u64::from(mine > 0),
            (true, _) => mine * rest,
            (false, _) => rest_of(zone) * (WHOLE - mine),
        };
    }
}

fn by_callers(callers: Callers, zones: &[Zone], shares: &mut [u64]) {
    let eligible: u64 = zones.iter().map(|zone| zone.eligible).sum();
    let count: u64 = zones.iter().map(|zone| zone.eligible_count).sum();
    // Envoy leaves a zone without a healthy host out of some of its lists and not of others; here it counts.
    let mine = zones.iter().find(|zone| zone.is_mine);
    if zones.len() < 2 || callers.zones < 2 || eligible == 0 || count < callers.min_cluster_size {
        return;
    }
    let has = |zone: &Zone| part_of(zone.eligible, eligible);
    let asks = |zone: &Zone| part_of(zone.callers, callers.total);
    let forced = |zone: &Zone| {
        callers
            .force_local
            .is_some_and(|least| zone.eligible_count >= least)
    };
    let local = mine.map_or(0, |zone| {
        let enough = has(zone) > 0 && (has(zone) >= asks(zone) || forced(zone));
        if enough {
            WHOLE
        } else {
            part_of(has(zone), asks(zone)).min(WHOLE)
        }
    });
    let room = |zone: &Zone| {
        if zone.is_mine {
            0
        } else {
            has(zone).saturating_sub(asks(zone))
        }
    };
    if local < WHOLE && zones.iter().map(room).sum::<u64>() == 0 {
        // By rounding alone no zone has room: what is left over goes to all other zones alike.
        let even = |zone: &Zone| u64::from(!zone.is_mine && zone.eligible > 0);
        return local_and_rest(local, zones, even, shares);
    }
    local_and_rest(local, zones, room, shares);
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
