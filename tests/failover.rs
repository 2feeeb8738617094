//! Promise: of two clusters the preferred one gets as much as it can take, as its health says, and the spare one gets
//! the rest.
#![allow(clippy::unwrap_used)]

mod common;

use common::zones::{failover, mark_down, shares, two, zone, zone_of};
use common::{MILLI, Server};
use evenkeel::{
    BuildError, Cluster, Ejection, Endpoint, Failover, Fleet, Lease, ManualClock, Outcome,
    PanicAction, PanicRule, PickError, PickOptions, Target,
};

/// A golden-ratio sequence of n numbers has at most 1 + log2(n) / 2 numbers fewer below any mark than its share, some 8
/// in ten thousand; twice that is allowed.
const OFF: usize = 16;

#[test]
fn the_spare_cluster_gets_what_is_over() {
    for (down, spare_down, to_first) in [
        (0, 0, 10_000),
        (2, 0, 10_000),
        (3, 0, 9_800),
        (5, 0, 7_000),
        (9, 0, 1_400),
        (10, 0, 0),
        (8, 7, 4_000),
        (0, 10, 10_000),
        (9, 10, 10_000),
        (10, 10, 5_000),
    ] {
        let (a, b, _) = two(10);
        let cluster = failover(&a, &b);
        mark_down(&a, 0, down);
        mark_down(&b, 100, spare_down);
        let [first, _] = shares(&cluster, 10_000);
        assert!(first.abs_diff(to_first) <= OFF, "{down}: {first}");
        assert!((cluster.preferred_load() * 1e4 - to_first as f64).abs() < 1e-6);
    }
}

/// A whole zone dies. With the settings for fleets under a failover, its endpoints are ejected after three failures
/// each and the other zone gets everything. With the defaults half of the zone stays in, and more than half of the
/// requests fail.
#[test]
fn a_zone_that_dies_whole_is_out_whole() {
    let failed_later = |ejection: Ejection| {
        let clock = ManualClock::new();
        let build = |first| zone(first, 4, &clock).ejection(ejection.clone());
        let (a, b) = (build(0).build().unwrap(), build(100).build().unwrap());
        let cluster = failover(&a, &b);
        let mut failed = 0;
        for request in 0..2_000 {
            clock.advance(MILLI);
            let lease = cluster.pick_endpoint().unwrap();
            let is_dead = lease.endpoint().key() < 100;
            failed += u32::from(is_dead && request >= 100);
            lease.record_with_latency(
                if is_dead {
                    Outcome::Unreachable
                } else {
                    Outcome::Success
                },
                MILLI,
            );
        }
        failed
    };
    assert!(failed_later(Ejection::under_failover()) < 20);
    assert!(
        failed_later(Ejection::default()) > 600,
        "the default has nowhere else to go"
    );
}

#[test]
fn three_regions_share_as_three_priorities() {
    let (a, b, clock) = two(10);
    let c = zone(200, 10, &clock).build().unwrap();
    let cluster = Failover::new(failover(&a, &b), c.clone()).seed(1);
    assert_eq!(cluster.availability(), 1.0);
    assert_eq!(shares(&cluster, 1000), [1000, 0, 0]);
    mark_down(&a, 0, 5);
    // Two splits, so their deviations add up.
    let near = |seen: [usize; 3], expected: [usize; 3]| {
        let off = seen
            .iter()
            .zip(expected)
            .all(|(seen, it)| seen.abs_diff(it) <= 2 * OFF);
        assert!(off, "{seen:?} for {expected:?}");
    };
    near(shares(&cluster, 10_000), [7_000, 3_000, 0]);
    mark_down(&b, 100, 8);
    near(shares(&cluster, 10_000), [7_000, 2_800, 200]);
    mark_down(&a, 5, 5);
    near(shares(&cluster, 10_000), [0, 2_800, 7_200]);
    mark_down(&b, 108, 2);
    assert_eq!(shares(&cluster, 1000), [0, 0, 1000]);
    assert_eq!(cluster.availability(), 1.0);
    assert_eq!(cluster.name(), "fleet|fleet|fleet");
    assert_eq!(cluster.named("regions").name(), "regions");
}

#[test]
fn availability_is_the_share_that_is_eligible() {
    let (a, _, _) = two(4);
    assert_eq!(a.availability(), 1.0);
    mark_down(&a, 0, 1);
    common::fail(&a, 1, 3);
    assert_eq!(a.availability(), 0.5);
    assert_eq!(Box::new(&a).availability(), 0.5);
    // An endpoint of weight 0, or draining, does not count.
    a.insert(Target::new(2, ()).with_weight(0)).unwrap();
    drop(a.drain(&3));
    assert_eq!(a.availability(), 0.0);
    let empty: Fleet<Server> = std::iter::empty().collect();
    assert_eq!(empty.availability(), 0.0);
}

#[test]
fn a_few_healthy_endpoints_get_what_they_can_take_and_others_nothing() {
    for action in [PanicAction::IgnoreHealth, PanicAction::FailFast] {
        let clock = ManualClock::new();
        let rule = PanicRule::default().action(action);
        let a = zone(0, 10, &clock).panic_rule(rule).build().unwrap();
        let b = zone(100, 10, &clock).build().unwrap();
        let cluster = failover(&a, &b);
        mark_down(&a, 0, 9);
        assert!(a.stats().panicking);
        let mut at_home = 0usize;
        for _ in 0..10_000 {
            let number = cluster.pick_endpoint().unwrap().endpoint().key();
            assert!(number >= 9, "{number} is down");
            at_home += usize::from(number == 9);
        }
        assert!(at_home.abs_diff(1_400) <= OFF, "{at_home}");
    }
}

#[test]
fn where_both_are_short_each_ones_panic_rule_counts() {
    let (a, b, _) = two(10);
    let cluster = failover(&a, &b);
    mark_down(&a, 0, 8);
    mark_down(&b, 100, 8);
    let mut met_down = 0;
    for _ in 0..1000 {
        met_down += usize::from(cluster.pick_endpoint().unwrap().endpoint().key() % 100 < 8);
    }
    // Health is ignored in both: eight in ten, and 1000 * 0.8 has a standard deviation of 13; beyond five of them once
    // in 10^6.
    assert!((735..=865).contains(&met_down), "{met_down}");
}

#[test]
fn an_empty_spare_cluster_leaves_panic_to_the_preferred_one() {
    let (a, b, _) = two(4);
    let cluster = failover(&a, &b);
    mark_down(&a, 0, 4);
    b.update([]).unwrap();
    // Nothing is eligible anywhere, so the preferred cluster's panic rule ignores health.
    assert_eq!(shares(&cluster, 100), [100, 0]);
    a.update([]).unwrap();
    assert_eq!(cluster.pick_endpoint().unwrap_err(), PickError::Empty);
    b.insert(Target::new(100, ())).unwrap();
    assert_eq!(shares(&cluster, 100), [0, 100]);
}

#[test]
fn a_cluster_without_an_endpoint_is_not_the_end_of_a_pick() {
    let (a, b, _) = two(2);
    let cluster = failover(&a, &b);
    let tried: Vec<_> = a.members().iter().map(|member| member.id()).collect();
    // All endpoints of the preferred cluster are avoided.
    let options = PickOptions::new().avoid(&tried);
    let lease = cluster.pick_endpoint_with(&options).unwrap();
    assert_eq!(zone_of(&lease), 1);
    // All of the other are avoided too: that is the reason reported, even if the preferred cluster is empty.
    let all: Vec<_> = a.members().into_iter().chain(b.members()).collect();
    let all: Vec<_> = all.iter().map(|member| member.id()).collect();
    let options = PickOptions::new().avoid(&all);
    let error = cluster.pick_endpoint_with(&options).unwrap_err();
    assert_eq!(error, PickError::AllAvoided);
    a.update([]).unwrap();
    let error = cluster.pick_endpoint_with(&options).unwrap_err();
    assert_eq!(error, PickError::AllAvoided);
}

#[test]
fn a_retry_goes_where_it_has_not_been() {
    let (a, b, clock) = two(4);
    let c = zone(200, 4, &clock).build().unwrap();
    let near = failover(&a, &b);
    let cluster = Failover::new(near.clone(), c).seed(1);
    let pick = |tried: &[_]| {
        cluster
            .pick_endpoint_with(&PickOptions::new().avoid(tried))
            .unwrap()
    };
    for _ in 0..50 {
        let mut tried = Vec::new();
        let mut zones = Vec::new();
        for _ in 0..4 {
            let lease = pick(&tried);
            zones.push(zone_of(&lease));
            tried.push(lease.id());
        }
        // When all clusters have been tried, the retry goes where the first attempt would.
        assert_eq!(zones, [0, 1, 2, 0]);
    }
    let stay = near.retries_elsewhere(false);
    let tried = [a.members()[0].id()];
    let lease = stay.pick_endpoint_with(&PickOptions::new().avoid(&tried));
    assert_eq!(zone_of(&lease.unwrap()), 0);
    // A retry does not go to a cluster without an eligible endpoint, although both together have too few and that
    // cluster's panic rule would allow it.
    mark_down(&b, 100, 4);
    mark_down(&a, 1, 2);
    let lease = failover(&a, &b).pick_endpoint_with(&PickOptions::new().avoid(&tried));
    assert_eq!(zone_of(&lease.unwrap()), 0);
    let (a, b, _) = two(4);
    mark_down(&a, 0, 4);
    mark_down(&b, 101, 2);
    let tried = [b.members()[0].id()];
    let lease = failover(&a, &b).pick_endpoint_with(&PickOptions::new().avoid(&tried));
    assert_eq!(zone_of(&lease.unwrap()), 1);
}

/// Where nothing is eligible anywhere, a retry still goes to a cluster that has not been tried.
#[test]
fn a_retry_goes_elsewhere_where_all_is_out() {
    let (a, b, clock) = two(4);
    let c = zone(200, 4, &clock).build().unwrap();
    let cluster = Failover::new(failover(&a, &b), c.clone()).seed(1);
    for (fleet, from) in [(&a, 0), (&b, 100), (&c, 200)] {
        mark_down(fleet, from, 4);
    }
    for session in 0..50 {
        let (mut tried, mut zones) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            // By its session alone, each pick would go to the same side.
            let options = PickOptions::new().affinity(session).avoid(&tried);
            let lease = cluster.pick_endpoint_with(&options).unwrap();
            zones.push(zone_of(&lease));
            tried.push(lease.id());
        }
        // The second goes to the other side of the outer failover.
        assert_ne!(zones[0] == 2, zones[1] == 2, "{zones:?}");
    }
}

/// A nested cluster with no endpoint left need not have been tried: the retry goes on to the next cluster.
#[test]
fn a_retry_goes_past_a_nested_cluster_without_endpoints() {
    for dead in [0, 100] {
        let (a, b, clock) = two(4);
        let c = zone(200, 4, &clock).build().unwrap();
        let cluster = Failover::new(failover(&a, &b), c).seed(1);
        mark_down(if dead == 0 { &a } else { &b }, dead, 4);
        let first = cluster.pick_endpoint().unwrap();
        assert_ne!(zone_of(&first), 2);
        let tried = [first.id()];
        let retry = cluster.pick_endpoint_with(&PickOptions::new().avoid(&tried));
        assert_eq!(zone_of(&retry.unwrap()), 2, "{dead}");
    }
}

/// A cluster that reports full availability, as a fleet may have done just before it turned bad.
struct Hopeful(Fleet<Server>);

impl Cluster for Hopeful {
    type Endpoint = Server;

    fn name(&self) -> &str {
        "hopeful"
    }

    fn pick_endpoint_with(&self, options: &PickOptions<'_>) -> Result<Lease<Server>, PickError> {
        self.0.pick_endpoint_with(options)
    }
}

#[test]
fn a_cluster_that_turned_bad_since_it_was_asked_does_not_ignore_health() {
    let (a, b, _) = two(4);
    mark_down(&a, 0, 4);
    let cluster = Failover::new(Hopeful(a), b);
    assert_eq!(cluster.preferred_load(), 1.0);
    assert_eq!(shares(&cluster, 100), [0, 100]);
}

#[test]
fn a_session_stays_unless_the_parts_move_past_it() {
    let (a, b, clock) = two(10);
    let c = zone(200, 10, &clock).build().unwrap();
    let cluster = Failover::new(failover(&a, &b), c);
    let zones = || -> Vec<usize> {
        let pick = |hash| cluster.pick_endpoint_with(&PickOptions::new().affinity(hash));
        (0..4000)
            .map(|hash| zone_of(&pick(hash).unwrap()))
            .collect()
    };
    mark_down(&a, 0, 5);
    mark_down(&b, 100, 8);
    let before = zones();
    assert_eq!(before, zones());
    // 70, 28 and 2 %. Hashes fall as by chance: the deviation of 4000 * 0.7 is 29 and of 4000 * 0.02 it is 9; five of
    // each.
    let count = |zones: &[usize], zone| zones.iter().filter(|&&it| it == zone).count();
    assert!(
        count(&before, 0).abs_diff(2_800) < 145,
        "{}",
        count(&before, 0)
    );
    assert!(
        count(&before, 1).abs_diff(1_120) < 145,
        "{}",
        count(&before, 1)
    );
    assert!(count(&before, 2).abs_diff(80) < 45, "{}", count(&before, 2));
    mark_down(&a, 5, 1);
    let after = zones();
    let moved_in = before
        .iter()
        .zip(&after)
        .filter(|&(&before, &after)| before > 0 && after == 0);
    assert_eq!(
        moved_in.count(),
        0,
        "who had left does not come back for less"
    );
    assert!(count(&after, 0).abs_diff(2_240) < 160);
}

#[test]
fn a_setting_out_of_range_is_refused_by_its_name() {
    for percent in [0, 10_001] {
        let (a, b, _) = two(1);
        let error = failover(&a, &b)
            .overprovisioning_factor(percent)
            .unwrap_err();
        assert!(matches!(error, BuildError::Setting { .. }));
        let text = error.to_string();
        assert!(text.starts_with(&format!("Failover::overprovisioning_factor is {percent};")));
    }
    let (a, b, _) = two(10);
    let cluster = failover(&a, &b).overprovisioning_factor(100).unwrap();
    mark_down(&a, 0, 3);
    assert!((cluster.preferred_load() - 0.7).abs() < 1e-9);
    let shown = format!("{:?}", cluster.clone().named("ours"));
    assert!(
        shown.starts_with("Failover { name: \"ours\", preferred_load: 0.7"),
        "{shown}"
    );
}

/// What a caller asks before it throttles a call, and before it waits for a retry.
#[test]
fn a_failover_has_what_either_of_its_clusters_has() {
    let (a, b, _) = two(10);
    let cluster = failover(&a, &b);
    mark_down(&a, 0, 10);
    assert!(!a.has_healthy() && cluster.has_healthy());
    let ids: Vec<_> = b.members().iter().map(|member| member.id()).collect();
    assert!(!cluster.leaves_none(&ids[1..]));
    mark_down(&b, 100, 10);
    assert!(!cluster.has_healthy());
    let (a, b, _) = two(1);
    let cluster = failover(&a, &b);
    let id = |fleet: &Fleet<Server>| fleet.members()[0].id();
    assert!(!cluster.leaves_none(&[id(&a)]) && !cluster.leaves_none(&[id(&b)]));
    assert!(cluster.leaves_none(&[id(&b), id(&a)]));
}
