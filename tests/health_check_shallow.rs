//! Promise: an endpoint whose requests fail is ejected although its checks pass: its health page may not exercise what
//! fails.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::{SUCCESS, each_second, with};
use common::{Server, exact};
use evenkeel::{Cluster, Ejection, HealthCheckSettings, Outcome};

/// How many requests fail in this many seconds, and whether server 0 has been ejected. One of ten fails this share of
/// its requests; all checks pass, each answered within a millisecond.
fn failed(
    ejection: Ejection,
    checks: Option<HealthCheckSettings>,
    (a_second, seconds): (u32, u32),
    percent: u64,
) -> (usize, bool) {
    let mut setting = with(10, ejection, checks.clone().unwrap_or_else(each_second));
    setting
        .fleet
        .set_policy(evenkeel::RoundRobin::new())
        .unwrap();
    let apart = Duration::from_secs(1) / a_second;
    let (mut random, mut failed, mut was_out) = (7u64, 0, false);
    for _ in 0..seconds * a_second {
        // One tick a millisecond: each check is answered before the next.
        let mut left = apart;
        while !left.is_zero() {
            if checks.is_some() {
                setting.round(|_| SUCCESS);
            }
            let step = left.min(common::MILLI);
            setting.clock.advance(step);
            left -= step;
        }
        let lease: evenkeel::Lease<Server> = setting.fleet.pick_endpoint().unwrap();
        random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let fails = common::number(&lease) == 0 && (random >> 33) % 100 < percent;
        failed += usize::from(fails);
        lease.record(if fails { Outcome::Failure } else { SUCCESS });
        was_out |= setting.is_out(0);
    }
    (failed, was_out)
}

/// Sixteen passes take back what one failure weighs. They used to come before the next request: half of ten seconds'
/// requests to the endpoint failed, and it was never ejected.
#[test]
fn an_endpoint_that_fails_requests_is_ejected_though_its_page_is_well() {
    for percent in [50, 100] {
        let (without, _) = failed(exact(), None, (200, 10), percent);
        let (with_checks, was_out) = failed(exact(), Some(each_second()), (200, 10), percent);
        assert!(was_out, "{percent} %");
        // Ejected as soon as without checks; and once more after two seconds of passes, where without checks a request
        // would probe.
        assert!(
            with_checks <= without + 6,
            "{percent} %: {with_checks} for {without}"
        );
    }
}
