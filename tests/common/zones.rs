//! Zones of servers, each zone a fleet of its own, in virtual time.

use evenkeel::{
    Cluster, Ejection, Endpoint, Failover, Fleet, FleetBuilder, Lease, ManualClock, Mark, Outcome,
    SlowStart, Target,
};

use super::Server;

/// Servers `from`, `from + 1`, ...; the zone of a server is its number divided by 100.
pub(crate) fn zone(from: usize, count: usize, clock: &ManualClock) -> FleetBuilder<Server> {
    Fleet::builder()
        .endpoints((from..from + count).map(|number| Target::new(number, ())))
        .clock(clock.clone())
        .slow_start(SlowStart::off())
        .ejection(zone_ejection())
        .seed(from as u64)
}

/// The ejection settings that `Failover` recommends for its fleets.
pub(crate) fn zone_ejection() -> Ejection {
    Ejection::under_failover().jitter_percent(0)
}

pub(crate) fn two(count: usize) -> (Fleet<Server>, Fleet<Server>, ManualClock) {
    let clock = ManualClock::new();
    let fleet = |from| zone(from, count, &clock).build().unwrap();
    (fleet(0), fleet(100), clock)
}

pub(crate) fn failover(
    a: &Fleet<Server>,
    b: &Fleet<Server>,
) -> Failover<Fleet<Server>, Fleet<Server>> {
    Failover::new(a.clone(), b.clone()).seed(1)
}

/// Marks `count` servers down, from number `from` on.
pub(crate) fn mark_down(fleet: &Fleet<Server>, from: usize, count: usize) {
    for number in from..from + count {
        assert!(fleet.mark(&number, Mark::Down));
    }
}

pub(crate) fn zone_of(lease: &Lease<Server>) -> usize {
    lease.endpoint().key() / 100
}

/// How many of `picks` requests each zone gets.
pub(crate) fn shares<const N: usize>(
    cluster: &impl Cluster<Endpoint = Server>,
    picks: usize,
) -> [usize; N] {
    let mut seen = [0; N];
    for _ in 0..picks {
        let lease = cluster.pick_endpoint().unwrap();
        seen[zone_of(&lease)] += 1;
        lease.record(Outcome::Success);
    }
    seen
}
