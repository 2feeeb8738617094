//! The simulator and its models of other balancers, compared with published results and with theory.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::sims::{named, scenario};
use evenkeel::sim::{self, Policy, Report, Scenario, policies};
use evenkeel::{Cluster, Fleet, LoadBalancer, PowerOfTwo, Random, Target};

fn run(scenario: &Scenario, policy: &str) -> Report {
    sim::run(scenario, &named(policy), 1).unwrap()
}

/// Shares of the window's attempts that went to unwell servers, in percent.
fn shares<const N: usize>(name: &str, policies: [&str; N]) -> [f64; N] {
    let scenario = scenario(name);
    policies.map(|policy| 100.0 * run(&scenario, policy).window.share_to_unwell)
}

/// Linkerd 2016: one of 11 servers answers in 2 s, at 1 000 requests a second. The published order of these policies is
/// round robin, least loaded, peak EWMA, with 95, 99 and 99.9 % of the requests within a second. Another model of the
/// same scenario saw 9.09, 1.02 and 0.16 % of the requests go to the slow server.
///
/// With 30 000 requests the deviation of a share of 1 % is 0.06 points, so 0.3 is five of them. Peak EWMA sends a few
/// requests each time that its memory fades.
#[test]
fn linkerds_slow_server_gets_what_was_published() {
    let [round_robin, two, peak] = shares("S3b", ["plain-round-robin", "p2c", "peak-ewma"]);
    assert!((round_robin - 9.09).abs() < 0.02, "{round_robin}");
    assert!((two - 1.02).abs() < 0.3, "{two}");
    assert!((peak - 0.16).abs() < 0.1, "{peak}");
}

/// brpc 3340: two of four servers are 5 ms slower. Two choices meet both slow ones once in six picks, so no rule over
/// two choices can do better than 16.7 %. Another model saw 21.3, 17.5 and 18.9 % for these three.
///
/// With 120 000 requests the deviation is 0.12 points, and a point is 8 of them.
#[test]
fn two_choices_have_a_floor() {
    let [two, peak, kratos, all, random] =
        shares("S3c", ["p2c", "peak-ewma", "kratos", "c3", "plain-random"]);
    assert!((two - 21.3).abs() < 1.0, "{two}");
    assert!((peak - 17.5).abs() < 1.0, "{peak}");
    assert!((kratos - 18.9).abs() < 1.0, "{kratos}");
    assert!(peak > 16.0 && two > 16.0 && kratos > 16.0);
    assert!(all < 5.0, "who looks at all is not bound by it: {all}");
    assert!((random - 50.0).abs() < 1.0, "{random}");
}

/// Fast failures attract policies that do not see errors, and an ejector with a cap of a tenth leaves most of the dead
/// servers in. (Another model saw 29, 43, 19, 5.5 and 0.31 % of errors.)
#[test]
fn five_dead_servers_of_twenty_divide_the_rules() {
    let scenario = scenario("S5b");
    let errors = |policy| 100.0 * run(&scenario, policy).window.errors;
    let [two, peak, envoy, kratos, breaker] =
        ["p2c", "peak-ewma", "envoy", "kratos", "peak-ewma-breaker"].map(errors);
    assert!(
        peak > two && two > 25.0 && envoy < 25.0,
        "{peak} {two} {envoy}"
    );
    assert!(
        envoy > 15.0 && kratos < 10.0 && kratos > 2.0,
        "{envoy} {kratos}"
    );
    assert!(breaker < 0.6, "{breaker}");
}

/// Linkerd's load biaser takes a failure for an answer of 5 s. An endpoint that has failed once is avoided until that
/// has faded, with a time constant of 10 s, to what others cost: 5 s / 17 ms is e^5.7.
///
/// Each of ten clients fails once, plus the requests that it has in flight there at that time. It sends 28 requests a
/// second to a server, so 0.04 during the 1.5 ms that a failure takes, and 0.3 of 0.28 during the 10 ms of another
/// answer: 0.8 in all, and more than 6 with odds of 1e-5. (Another model saw 0.006 % of 168 000, which is 10, and the
/// breaker never opens.)
#[test]
fn linkerds_biaser_pays_one_failure_a_client() {
    for name in ["S4", "S5a", "S6"] {
        for policy in ["linkerd-biaser", "linkerd-biaser-breaker"] {
            let report = run(&scenario(name), policy);
            let failed = (report.run.errors * report.run.requests as f64).round();
            assert!((10.0..=16.0).contains(&failed), "{name} {policy}: {failed}");
            assert_eq!(report.ejections, 0, "{name} {policy}");
        }
    }
    // Where five of twenty servers fail, both of a pair fail once in 19 pairs, as long as none is ejected: 10 / 190 =
    // 5.26 % of 144 000 requests, with a deviation of 0.06 points.
    let [alone, broken] = ["linkerd-biaser", "linkerd-biaser-breaker"]
        .map(|policy| 100.0 * run(&scenario("S5b"), policy).window.errors);
    assert!((alone - 5.26).abs() < 0.3, "{alone}");
    // As without the bias: five failures each, and probes. (The other model saw 0.31 %.)
    assert!((broken - 0.31).abs() < 0.08, "{broken}");
}

/// The biaser returns a server late: after a stall of 5 s another model saw half the share after 38 s, and after 22 s
/// with peak EWMA. The cost falls by a tenth in a second, which is what a measurement of a second can tell apart. The
/// tolerance of 4 s is e^0.4, half again the cost.
#[test]
fn linkerds_biaser_comes_back_late() {
    let stall = scenario("S7a");
    let after = |policy| run(&stall, policy).recovered_after.unwrap().as_secs_f64();
    let (peak, biaser) = (after("peak-ewma"), after("linkerd-biaser-breaker"));
    assert!((peak - 22.0).abs() < 4.0, "{peak}");
    assert!((biaser - 38.0).abs() < 4.0, "{biaser}");
}

/// The supermarket queue (Mitzenmacher 1996; Vvedenskaya, Dobrushin, Karpelevich 1996): at load 0.9 the mean time in
/// the system, in service times, is 10 for one choice (M/M/1), and the sum over i of 0.9^((d^i - 1) / (d - 1)) / 0.9
/// for d choices: 2.61 for two and 1.78 for four.
///
/// Tolerances: with one choice, 100 queues whose relaxation takes 1 / (1 - sqrt(0.9))^2 = 380 services, 3.8 s, make
/// some 3 900 independent samples in 295 s. A sample's deviation is its mean, so the mean of them has 1.6 %, and 10 %
/// is 6 of those. With more choices relaxation is far shorter. The formula is the limit for infinitely many servers;
/// 100 are within 3 % of it.
#[test]
fn queues_are_as_long_as_theory_says() {
    let shop = Scenario::new("shop", "")
        .servers(100)
        .slots(1)
        .clients(1)
        .load(0.9)
        .one_way(Duration::ZERO)
        .timeout(Duration::from_secs(60))
        .length(Duration::from_secs(300));
    for (policy, services, tolerance) in [
        ("plain-random", 10.0, 0.10),
        ("p2c", 2.614, 0.04),
        ("p2c-4", 1.777, 0.04),
    ] {
        let mean = run(&shop, policy).run.latency.mean.as_secs_f64() / 0.01;
        assert!(
            (mean / services - 1.0).abs() < tolerance,
            "{policy}: {mean}"
        );
    }
}

/// An oracle knows more than any policy. Where all servers are alike, no policy beats the best oracle by more than the
/// 0.8 % to which each of the two percentiles is counted.
#[test]
fn oracles_bound_the_others() {
    let scenario = scenario("S1b").cut_to(Duration::from_secs(20));
    let p99 = |policy: &Policy| {
        let report = sim::run(&scenario, policy, 1).unwrap();
        report.window.latency.p99.as_secs_f64()
    };
    let (oracles, others): (Vec<_>, Vec<_>) = policies().into_iter().partition(Policy::is_oracle);
    let bound = oracles.iter().map(p99).fold(f64::INFINITY, f64::min);
    for policy in &others {
        let p99 = p99(policy);
        assert!(
            p99 >= bound * 0.984,
            "{}: {p99} under {bound}",
            policy.name()
        );
    }
}

/// Oracles count requests that are still on the wire. With 10 ms each way, an oracle that did not see those would send
/// a burst to every server that looked idle, and be worse than a choice by the client's own requests in flight.
#[test]
fn oracles_count_what_is_on_the_wire() {
    let far = scenario("S15b")
        .one_way(Duration::from_millis(10))
        .cut_to(Duration::from_secs(12));
    let p99 = |policy| run(&far, policy).window.latency.p99;
    for oracle in ["oracle-queue", "oracle-work"] {
        assert!(p99(oracle) < p99("p2c"), "{oracle}");
        assert!(p99(oracle) < Duration::from_millis(20 + 60), "{oracle}");
    }
}

/// n balls in n bins, n = 2^16. The fullest bin holds about ln n / ln ln n = 4.6 and some for one choice (7 or 8 seen
/// elsewhere in six trials), and ln ln n / ln 2 + O(1) for two (3 or 4). The bins are filled by the crate's own
/// policies, with a lease for each ball.
#[test]
fn balls_in_bins() {
    type Bin = Target<u32, ()>;
    let fullest = |policy: Box<dyn LoadBalancer<Bin>>| {
        let fleet = Fleet::builder()
            .endpoints((0..1 << 16).map(|bin| Target::new(bin, ())))
            .policy(policy)
            .seed(7)
            .build()
            .unwrap();
        let balls: Vec<_> = (0..1 << 16)
            .map(|_| fleet.pick_endpoint().unwrap())
            .collect();
        let fullest = balls.iter().map(|lease| lease.member().in_flight()).max();
        fullest.unwrap()
    };
    assert!((6..=10).contains(&fullest(Box::new(Random::new()))));
    assert!((3..=4).contains(&fullest(Box::new(PowerOfTwo::new()))));
}
