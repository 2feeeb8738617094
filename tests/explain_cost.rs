//! Promise: of an endpoint that is ready and gets next to nothing the explanation says what requests are taken to cost there.
#![allow(clippy::unwrap_used)]

mod common;

use common::{MILLI, setup};
use evenkeel::{Cluster, ManualClock, Outcome};

/// It is eligible, and gets nothing all the same: the line says why.
#[test]
fn who_is_slow_costs_so_many_times_the_usual() {
    let clock = ManualClock::new();
    let fleet = setup(5, &clock).build().unwrap();
    let answer = |latency: fn(usize) -> u32| {
        for _ in 0..50 {
            clock.advance(MILLI * 100);
            for key in 0..5 {
                let lease = fleet.lease(&key).unwrap();
                lease.record_with_latency(Outcome::Success, MILLI * latency(key));
            }
            fleet.maintain();
        }
    };
    answer(|_| 10);
    let cost = fleet.member(&0).unwrap().explain().cost.unwrap();
    assert!((cost - 1.0).abs() < 0.1, "{cost}");
    answer(|key| if key == 0 { 1_000 } else { 10 });
    let why = fleet.member(&0).unwrap().explain();
    assert!(why.is_eligible && why.cost.unwrap() > 50.0, "{why:?}");
    let line = why.to_string();
    assert!(line.contains(" times the usual; evidence 0.0"), "{line}");
    // And who has not answered, before it does.
    let _hangs = fleet.pick_endpoint().unwrap();
    let hung = fleet
        .members()
        .iter()
        .position(|member| member.in_flight() > 0)
        .unwrap();
    clock.advance(MILLI * 500);
    let cost = fleet.member(&hung).unwrap().explain().cost.unwrap();
    assert!((cost - 3.0).abs() < 0.3, "{cost}");
}
