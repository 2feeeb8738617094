//! Detection where there are few requests: which bad endpoints are found, and how soon.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Server, servers};
use evenkeel::{
    Adaptive, Cluster, Endpoint, Fleet, LoadBalancer, ManualClock, MemberState, Outcome, RoundRobin,
};

/// The number of requests that the first of `endpoints` gets until it is ejected, if each of them ends as `bad`. The
/// others answer in 10 ms. Sends at most 60 rounds of requests, `per_second` of them a second in all.
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
fn an_endpoint_that_fails_everything_is_ejected_however_few_the_requests() {
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

/// The default policy asks it less and less often as it becomes known to be bad, and still ejects it.
#[test]
fn the_default_policy_ejects_a_failing_endpoint_too() {
    for (endpoints, per_second) in [(20, 1), (20, 2), (20, 5), (100, 10)] {
        let asked =
            requests_until_ejected(Adaptive::new(), endpoints, per_second, Outcome::Failure);
        assert!(
            asked.is_some_and(|asked| asked <= 6),
            "{endpoints} endpoints, {per_second} a second: {asked:?}"
        );
    }
}

/// An endpoint of few at which three in ten requests fail is ejected, although it is avoided. Before the fix, what was
/// known of it had faded before its next request: with ten seeds of a minute each it was ejected in between none and
/// eight of them, and 118 to 155 requests failed.
#[test]
fn a_bad_endpoint_of_few_is_ejected_though_it_is_avoided() {
    for (endpoints, per_second) in [(2, 5), (2, 20), (2, 40), (3, 10), (3, 40)] {
        let (mut failed, mut ejected) = (0, 0);
        for seed in 0..10u64 {
            let clock = ManualClock::new();
            let builder = Fleet::builder().endpoints(servers(&vec![1; endpoints]));
            let fleet = builder.seed(seed).clock(clock.clone()).build().unwrap();
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            for request in 0..80 * per_second {
                clock.advance(Duration::from_secs(1) / per_second);
                let lease = fleet.pick_endpoint().unwrap();
                random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                let is_bad = request >= 20 * per_second && lease.endpoint().key() == 0;
                let fails = is_bad && (random >> 33) % 10 < 3;
                failed += u32::from(fails);
                let outcome = if fails {
                    Outcome::Failure
                } else {
                    Outcome::Success
                };
                lease.record_with_latency(outcome, Duration::from_millis(10));
            }
            ejected += u32::from(fleet.stats().ejections > 0);
        }
        // Measured are 81 to 95 failures, and an ejection with all ten seeds. The requests are the same in each run.
        let seen = format!("{endpoints} of {per_second}: {failed} failed, ejected in {ejected}");
        assert!(failed <= 110 && ejected >= 9, "{seen}");
    }
}

/// The evidence against an endpoint that gets no more requests fades. It never rises again as the requests that it had
/// leave the window.
#[test]
fn evidence_never_rises_by_itself() {
    let clock = ManualClock::new();
    let builder = Fleet::builder().endpoints(servers(&[1; 3])).seed(5);
    let fleet = builder.clock(clock.clone()).build().unwrap();
    let success = |number| {
        clock.advance(Duration::from_millis(2));
        fleet.lease(&number).unwrap().record(Outcome::Success);
    };
    (0..3_000).for_each(|request| success(request % 3));
    fleet.lease(&0).unwrap().record(Outcome::Failure);
    let mut before = f64::INFINITY;
    for _ in 0..60 {
        for _ in 0..10 {
            (0..50).for_each(|request| success(1 + request % 2));
            fleet.maintain();
        }
        let evidence = fleet.member(&0).unwrap().explain().evidence.unwrap().value;
        assert!(evidence <= before + 1e-3, "{evidence} after {before}");
        before = evidence;
    }
    assert!(before < 3.0, "{before}");
}

/// Where every endpoint fails one request in a hundred, some of a few endpoints are always under suspicion. That is not
/// taken for a failure of all, so an endpoint that fails one in twenty costs more than the others. The figure is for
/// ten seeds. 40 seeds had 1 947 failures above one in a hundred, and 5 077 while that cost did not count.
#[test]
fn an_endpoint_of_few_that_fails_more_than_the_others_costs_more() {
    let (mut failed, mut all) = (0u64, 0u64);
    for seed in 1..=10u64 {
        let clock = ManualClock::new();
        let builder = Fleet::builder().endpoints(servers(&[1; 3])).seed(seed);
        let fleet = builder.clock(clock.clone()).build().unwrap();
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for request in 0..100 * 200 {
            clock.advance(Duration::from_millis(5));
            let lease = fleet.pick_endpoint().unwrap();
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            let is_bad = lease.endpoint().key() == 0 && request > 4_000;
            let fails = (random >> 33) % 1_000 < if is_bad { 50 } else { 10 };
            (failed, all) = (failed + u64::from(fails), all + 1);
            let outcome = if fails {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            lease.record_with_latency(outcome, Duration::from_millis(10));
        }
    }
    let above = failed - all / 100;
    assert!(above < 400, "{above} of {all}");
}
