//! Differences in latency, in the simulation: how `Adaptive` acts on differences that matter and on those that are
//! noise. Seeds are fixed, so a run gives the same figures each time. Each bound lies between the present figure and
//! the figure with costs in proportion to latency ("a for b" below).
#![allow(clippy::unwrap_used)]

mod common;

use common::sims::named;
use common::{MILLI, SECOND};
use evenkeel::sim::{Demand, Fault, Scenario, Study};

/// The mean p99 over three seeds, in milliseconds, of each of these policies.
fn p99<const N: usize>(scenario: Scenario, policies: [&str; N]) -> [f64; N] {
    let study = Study::new(vec![scenario], policies.map(named).into(), 1..4);
    let reports = study.run(|_, _| ()).unwrap();
    policies.map(|policy| {
        let its = reports.iter().filter(|report| report.policy == policy);
        its.map(|report| report.window.latency.p99.as_secs_f64() * 1e3)
            .sum::<f64>()
            / 3.0
    })
}

fn short(name: &str) -> Scenario {
    Scenario::new(name, "").cut_to(30 * SECOND)
}

/// 20 ms of each latency are the network's, so a server at a fifth of its speed answers after 30 ms instead of 22. In
/// proportion, that is too small a difference to take off it the load that it cannot carry. 34 ms for 53; peak EWMA has
/// 42.
#[test]
fn a_slow_server_behind_a_far_network_is_avoided() {
    let far = short("far").one_way(10 * MILLI).servers(10);
    let far = far.demand(Demand::exponential(2 * MILLI));
    let [adaptive, peak] = p99(
        far.fault(Fault::slow(0.2).on(0..1)),
        ["adaptive", "peak-ewma"],
    );
    assert!(adaptive < peak, "{adaptive} {peak}");
}

/// Five of twenty servers have four times the others' weight and half their speed. 62 ms for 80.
#[test]
fn a_weight_that_promises_too_much_is_made_up_for() {
    let wrong = short("wrong weights").weight(0..5, 4).speed(0..5, 0.5);
    let [adaptive] = p99(wrong, ["adaptive"]);
    assert!(adaptive < 71.0, "{adaptive}");
}

/// Work that never varies, from twenty clients to two hundred servers: their latencies differ only by which of them was
/// busy a moment ago. Round robin, which follows no differences, has 20 ms. 22 ms for 27.
#[test]
fn noise_between_like_servers_is_not_followed() {
    let alike = short("alike").servers(200).clients(20).load(0.8);
    let [adaptive, turns] = p99(
        alike.demand(Demand::always(10 * MILLI)),
        ["adaptive", "round-robin"],
    );
    assert!(adaptive < 1.18 * turns, "{adaptive} {turns}");
}
