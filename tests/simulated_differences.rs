//! Differences in latency, in the simulation: how `Adaptive` acts on differences that matter and on those that are
//! noise. Seeds are fixed, so a run gives the same figures each time. Each bound lies between the present figure and
//! that of a simpler formula ("a for b" below): costs in proportion to latency, or without regard to how much of it is
//! noise.
#![allow(clippy::unwrap_used)]

mod common;

use common::sims::named;
use common::{MILLI, SECOND};
use evenkeel::sim::{Demand, Fault, Figures, Scenario, Study};

/// The mean over three seeds of this figure of a run's window, of each of these policies.
fn mean<const N: usize>(
    scenario: Scenario,
    policies: [&str; N],
    of: impl Fn(&Figures) -> f64,
) -> [f64; N] {
    let study = Study::new(vec![scenario], policies.map(named).into(), 1..4);
    let reports = study.run(|_, _| ()).unwrap();
    policies.map(|policy| {
        let its = reports.iter().filter(|report| report.policy == policy);
        its.map(|report| of(&report.window)).sum::<f64>() / 3.0
    })
}

/// The mean p99 over three seeds, in milliseconds, of each of these policies.
fn p99<const N: usize>(scenario: Scenario, policies: [&str; N]) -> [f64; N] {
    mean(scenario, policies, |window| {
        window.latency.p99.as_secs_f64() * 1e3
    })
}

/// One client with all the load: 70 % of what ten servers of eight slots can do.
fn alone(name: &str) -> Scenario {
    short(name)
        .servers(10)
        .slots(8)
        .clients(1)
        .load(0.7)
        .timeout(3 * SECOND)
}

/// One request in twenty takes 25 times as long as the others.
fn one_in_twenty_long() -> Demand {
    Demand::bimodal(20 * MILLI, 500 * MILLI, 0.05)
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

/// One client, like servers, and one request in twenty that takes 25 times as long as the others: latencies and ages
/// differ by chance, and requests in flight tell all there is to know. Least connections has 44.6 ms. 45 ms for 60.
#[test]
fn chance_is_not_taken_for_slowness() {
    let [adaptive, least] = mean(
        alone("long and short").demand(one_in_twenty_long()),
        ["adaptive", "least-connections"],
        |window| window.latency.mean.as_secs_f64() * 1e3,
    );
    assert!(adaptive < 1.1 * least, "{adaptive} {least}");
}

/// The same with at most four requests waiting at a server, which refuses more. 0.1 % for 2.7.
#[test]
fn short_queues_are_not_overfilled_by_chance() {
    let [refused] = mean(
        alone("short queues").queue(4).demand(one_in_twenty_long()),
        ["adaptive"],
        |window| window.errors,
    );
    assert!(refused < 0.008, "{refused}");
}

/// Half of the servers have 0.4 of the others' speed, and times vary widely: the difference is seen through the noise.
/// 27 ms for 33; least connections has 30.
#[test]
fn a_difference_is_seen_through_noise() {
    let half = alone("half are slow").servers(20).slots(4);
    let half = half
        .speed(0..10, 0.4)
        .demand(Demand::log_normal(20 * MILLI, 2.0));
    let [adaptive, least] = mean(half, ["adaptive", "least-connections"], |window| {
        window.latency.mean.as_secs_f64() * 1e3
    });
    assert!(adaptive < least, "{adaptive} {least}");
}
