//! Promise: checks that pass do not keep in whom requests find bad, as a page that is well while requests fail would.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::{SUCCESS, each_second, with};
use common::{Server, exact};
use evenkeel::{Cluster, Ejection, HealthCheckSettings, Outcome};

/// Requests that fail in so many seconds, where one of ten fails this share of them and all checks pass, answered within a millisecond; and
/// whether it has been out.
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
        // A tick a millisecond: each check is answered before the next.
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

/// Sixteen passes take back what one failure tells. They came before the next request: half of ten seconds' requests to it failed, and it was
/// never out.
#[test]
fn who_fails_requests_is_out_though_its_page_is_well() {
    for percent in [50, 100] {
        let (without, _) = failed(exact(), None, (200, 10), percent);
        let (with_checks, was_out) = failed(exact(), Some(each_second()), (200, 10), percent);
        assert!(was_out, "{percent} %");
        // As soon as without; and after two seconds of passing checks once more, where requests would probe.
        assert!(
            with_checks <= without + 6,
            "{percent} %: {with_checks} for {without}"
        );
    }
}
