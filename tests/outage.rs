//! Promise: where all fail alike nobody is bad, also where nothing is answered well any more.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{MILLI, ejected, setup};
use evenkeel::{Adaptive, Cluster, LoadBalancer, ManualClock, Outcome, PowerOfTwo, RoundRobin};

/// The most of ten that are out at once while this share of all requests fails, for 20 s after 20 s in which all went well.
fn most_out(
    policy: impl LoadBalancer<common::Server> + 'static,
    a_second: u32,
    percent: u64,
) -> usize {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).policy(policy).build().unwrap();
    let apart = Duration::from_secs(1) / a_second;
    let (mut most, mut random) = (0, 1u64);
    for request in 0..40 * a_second {
        clock.advance(apart);
        let lease = fleet.pick_endpoint().unwrap();
        random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let fails = request >= 20 * a_second && (random >> 33) % 100 < percent;
        let outcome = if fails {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        lease.record_with_latency(outcome, MILLI);
        if request % 16 == 0 {
            most = most.max(ejected(&fleet).len());
        }
    }
    most
}

/// Half of all is the cap, and what it was. In turns nobody fails twice before four have failed once, which tells that it is all; by two
/// choices at random some do.
#[test]
fn where_all_fail_next_to_nobody_is_out() {
    for a_second in [20, 200, 2_000] {
        for (percent, at_most) in [
            (50, [1, 3, 1]),
            (90, [0, 3, 1]),
            (97, [0, 3, 1]),
            (99, [0, 3, 1]),
            (100, [0, 3, 1]),
        ] {
            let most = [
                most_out(RoundRobin::new(), a_second, percent),
                most_out(PowerOfTwo::new(), a_second, percent),
                most_out(Adaptive::new(), a_second, percent),
            ];
            let are_few = most
                .iter()
                .zip(at_most)
                .all(|(most, at_most)| *most <= at_most);
            assert!(are_few, "{percent} % of {a_second} a second: {most:?}");
        }
    }
}
