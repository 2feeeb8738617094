//! Whom requests find out where there are few of them.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Server, servers};
use evenkeel::{
    Adaptive, Cluster, Endpoint, Fleet, LoadBalancer, ManualClock, MemberState, Outcome, RoundRobin,
};

/// How many requests the first of so many endpoints gets, of which each ends so, until it is ejected; the others answer in 10 ms.
/// At most 60 rounds of requests, of so many a second in all.
fn requests_until_ejected(
    policy: impl LoadBalancer<Server> + 'static,
    endpoints: usize,
    per_second: u32,
    bad: Outcome,
) -> Option<usize> {
    let clock = ManualClock::new();
    let builder = Fleet::builder().endpoints(servers(&vec![1; endpoints]));
    let builder = builder.seed(5).clock(clock.clone()).policy(policy);
    let fleet = builder.build().unwrap();
    let mut failed = 0;
    for _ in 0..endpoints * 60 {
        clock.advance(Duration::from_secs(1) / per_second);
        let lease = fleet.pick_endpoint().unwrap();
        if lease.endpoint().key() > 0 {
            lease.record_with_latency(Outcome::Success, Duration::from_millis(10));
            continue;
        }
        failed += 1;
        lease.record_with_latency(bad, Duration::from_millis(10));
        if fleet.member(&0).unwrap().state() == MemberState::Ejected {
            return Some(failed);
        }
    }
    None
}

#[test]
fn who_fails_all_is_ejected_however_few_requests_there_are() {
    for (endpoints, per_second) in [(20, 1), (20, 2), (20, 5), (20, 100), (100, 10), (3, 1)] {
        for bad in [Outcome::Failure, Outcome::Timeout, Outcome::Unreachable] {
            let asked = requests_until_ejected(RoundRobin::new(), endpoints, per_second, bad);
            assert!(
                asked.is_some_and(|asked| asked <= 4),
                "{endpoints} endpoints, {per_second} a second, {bad:?}: {asked:?}"
            );
        }
    }
}

/// It is asked less and less often, as it is known to be bad.
#[test]
fn the_default_policy_ejects_it_too() {
    for (endpoints, per_second) in [(20, 1), (20, 2), (20, 5), (100, 10)] {
        let asked =
            requests_until_ejected(Adaptive::new(), endpoints, per_second, Outcome::Failure);
        assert!(
            asked.is_some_and(|asked| asked <= 6),
            "{endpoints} endpoints, {per_second} a second: {asked:?}"
        );
    }
}
