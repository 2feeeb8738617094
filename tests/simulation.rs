//! The crate's promises in the simulator: every built-in scenario and random ones, checked after each event.
//!
//! `SEEDS` sets the number of seeds. The long run is:
//!
//! `SEEDS=10000 cargo test --release --features sim --test simulation -- --ignored`.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::sims::{named, scenario, well};
use common::{MILLI, SECOND};
use evenkeel::sim::{
    self, Demand, Fault, Policy, Report, Scenario, SimError, Study, policies, scenarios,
};
use evenkeel::{Ejection, Fleet, HealthCheckSettings, LeastConnections, PowerOfTwo, RoundRobin};

fn seeds(by_default: u64) -> u64 {
    let set = std::env::var("SEEDS");
    set.map_or(by_default, |seeds| {
        seeds.parse().expect("SEEDS is a number")
    })
}

/// The crate's own policies. The baselines and oracles that they are compared with promise nothing.
fn shipped() -> Vec<Policy> {
    let all = policies().into_iter();
    all.filter(|policy| !policy.is_baseline() && !policy.is_oracle())
        .collect()
}

/// Every scenario cut to 12 virtual seconds, with faults from 3 s to 9 s.
fn short() -> Vec<Scenario> {
    let all = scenarios().into_iter();
    all.map(|scenario| scenario.cut_to(12 * SECOND)).collect()
}

fn keep_the_promises(seeds: std::ops::Range<u64>) -> Vec<Report> {
    match Study::new(short(), shipped(), seeds).run(|_, _| ()) {
        Ok(reports) => reports,
        Err(error) => panic!("{error}{}", replay(&error)),
    }
}

fn replay(error: &SimError) -> String {
    match error {
        SimError::Broken {
            scenario,
            policy,
            seed,
            ..
        } => format!(
            "\nreplay: cargo run --release --features sim --example simulate -- {scenario} --cut 12 --policy {policy} --seed {seed} --seeds 1"
        ),
        _ => String::new(),
    }
}

#[test]
fn the_promises_hold_in_every_scenario() {
    let reports = keep_the_promises(1..1 + seeds(2));
    assert!(reports.iter().all(|report| report.requests > 1000));
}

/// A random combination of settings and faults.
fn random_scenario(seed: u64) -> (Scenario, Policy) {
    let mut state = seed;
    let mut below = move |bound: u64| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % bound
    };
    let servers = 1 + below(30) as usize;
    let demand = match below(3) {
        0 => Demand::exponential(5 * MILLI),
        1 => Demand::log_normal(20 * MILLI, 3.0),
        _ => Demand::pareto(10 * MILLI, 1.8),
    };
    let mut scenario = Scenario::new(format!("random {seed}"), "")
        .servers(servers)
        .weight(0..servers / 2, 1 + below(9) as u32)
        .slots(1 + below(6) as usize)
        .clients(1 + below(12) as usize)
        .load(0.2 + below(12) as f64 / 10.0)
        .demand(demand)
        .timeout(100 * MILLI)
        .cancels(below(2) == 0)
        .retries(below(4) as u32)
        .length(8 * SECOND)
        .warm_up(SECOND)
        .window(2 * SECOND, 6 * SECOND);
    if below(2) == 0 {
        scenario = scenario.queue(below(20) as usize);
    }
    if below(2) == 0 {
        let count = 1 + below(servers as u64) as usize;
        scenario = scenario.churn((50 + below(2000) as u32) * MILLI, count, 0.3, SECOND);
    }
    for _ in 0..below(4) {
        let fault = match below(7) {
            0 => Fault::slow(0.1),
            1 => Fault::fails(0.3),
            2 => Fault::fails(1.0),
            3 => Fault::stalls(),
            4 => Fault::refuses(),
            5 => Fault::hangs(),
            _ => Fault::tail(0.05, 20.0),
        };
        let start = below(servers as u64) as usize;
        let end = start + 1 + below((servers - start) as u64) as usize;
        let fault = fault.on(start..end);
        scenario = scenario.fault(match below(3) {
            0 => fault,
            1 => fault.flapping((10 + below(900) as u32) * MILLI, 300 * MILLI),
            _ => fault.at_random(Demand::exponential(SECOND), Demand::exponential(SECOND / 4)),
        });
    }
    let checks = (below(2) == 0).then(|| {
        HealthCheckSettings::default()
            .interval((100 + below(900) as u32) * MILLI)
            .timeout((10 + below(200) as u32) * MILLI)
            .initial_jitter(SECOND)
    });
    let (which, percent) = (below(3), below(101) as u32);
    let (base, panic) = (10 + below(2000) as u32, below(101) as u32);
    let policy = Policy::fleet("random settings", "", move || {
        let ejection = Ejection::default()
            .max_ejection_percent(percent)
            .base_ejection_time(base * MILLI)
            .max_ejection_time(4 * base * MILLI);
        let builder = Fleet::builder()
            .ejection(ejection)
            .panic_threshold_percent(panic);
        match which {
            0 => builder.policy(PowerOfTwo::new()),
            1 => builder.policy(LeastConnections::new()),
            _ => builder.policy(RoundRobin::new()),
        }
    });
    let policy = match checks {
        Some(checks) => policy.with_checks(checks),
        None => policy,
    };
    (scenario, policy)
}

#[test]
fn the_promises_hold_in_random_scenarios() {
    for seed in 0..50 * seeds(2) {
        let (scenario, policy) = random_scenario(seed);
        if let Err(error) = sim::run(&scenario, &policy, seed) {
            panic!("random scenario {seed}: {error}");
        }
    }
}

#[test]
#[ignore = "the long run: a thousand seeds unless SEEDS says otherwise"]
fn the_promises_hold_for_long() {
    for seed in 0..seeds(1000) {
        keep_the_promises(1000 + seed..1001 + seed);
        let (scenario, policy) = random_scenario(1 << 32 | seed);
        if let Err(error) = sim::run(&scenario, &policy, seed) {
            panic!("random scenario {}: {error}", 1u64 << 32 | seed);
        }
    }
}

#[test]
fn a_seed_replays_and_another_differs() {
    let (scenario, policy) = (
        scenario("S14").cut_to(3 * SECOND),
        named("least-response-time"),
    );
    let first = sim::run(&scenario, &policy, 7).unwrap();
    assert_eq!(first, sim::run(&scenario, &policy, 7).unwrap());
    let other = sim::run(&scenario, &policy, 8).unwrap();
    assert_ne!(first.event_hash, other.event_hash);
}

#[test]
fn reports_do_not_depend_on_the_number_of_threads() {
    let few = || {
        short()
            .into_iter()
            .take(4)
            .map(|scenario| scenario.cut_to(2 * SECOND))
    };
    let study = |threads| Study::new(few().collect(), shipped(), 1..3).threads(threads);
    let reports = study(1).run(|_, _| ()).unwrap();
    assert_eq!(reports, study(3).run(|_, _| ()).unwrap());
}

#[test]
fn all_policies_meet_the_same_requests() {
    let scenario = scenario("S11").cut_to(4 * SECOND);
    let requests = |policy: &Policy| sim::run(&scenario, policy, 3).unwrap().requests;
    let counts: Vec<u64> = policies().iter().map(requests).collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn a_retry_rescues_and_the_budget_bounds_it() {
    let dead = |retries| {
        let scenario = scenario("S5a").cut_to(12 * SECOND).retries(retries);
        sim::run(&scenario, &named("plain-round-robin"), 1)
            .unwrap()
            .window
    };
    let (without, with) = (dead(0), dead(1));
    assert!(without.errors > 0.04 && without.attempts == 1.0);
    assert_eq!(with.errors, 0.0);
    assert!(with.attempts > 1.04);
    let all_dead = scenario("S5a")
        .cut_to(12 * SECOND)
        .fault(Fault::fails(1.0))
        .retries(3);
    let report = sim::run(&all_dead, &named("plain-round-robin"), 1)
        .unwrap()
        .window;
    // A fifth of the requests, and what ten clients have saved up before: at most 100 retries each, of 3 360 requests
    // each.
    assert!(
        report.attempts < 1.2 + 10.0 * 100.0 / report.requests as f64,
        "{report:?}"
    );
    assert!(report.retries_denied > 0);
}

#[test]
fn requests_under_way_at_the_end_are_followed() {
    let hung = scenario("S1a")
        .length(2 * SECOND)
        .warm_up(SECOND)
        .window(SECOND, 2 * SECOND);
    let report = sim::run(&hung.fault(Fault::hangs()), &named("plain-random"), 1).unwrap();
    let window = report.window;
    assert!(
        window.requests > 5000 && window.errors == 1.0 && window.attempts == 1.0,
        "{window:?}"
    );
    assert_eq!(window.latency.p50, SECOND);
}

#[test]
fn no_budget_is_no_retry() {
    let dead = well().retries(1).retry_budget(0.0).fault(Fault::fails(1.0));
    let window = sim::run(&dead, &named("plain-random"), 1).unwrap().window;
    // Requests that began before the fault may still succeed.
    let failed = (window.errors * window.requests as f64).round() as u64;
    assert!(failed > 30_000 && window.attempts == 1.0, "{window:?}");
    assert_eq!(window.retries_denied, failed);
}

#[test]
fn impossible_settings_are_named() {
    let run = |scenario: Scenario| {
        let policy = Policy::fleet("defaults", "", Fleet::builder);
        sim::run(&scenario, &policy, 1).unwrap_err().to_string()
    };
    let base = || Scenario::new("x", "");
    for (scenario, text) in [
        (base().servers(0), "Scenario::servers is 0"),
        (base().clients(0), "Scenario::clients is 0"),
        (base().slots(0), "Scenario::slots is 0"),
        (base().load(f64::NAN), "Scenario::load is NaN"),
        (
            base().unlimited_slots(),
            "Scenario::load is 0.7; it must be left out",
        ),
        (base().per_second(-1.0), "Scenario::per_second is -1"),
        (base().speed(0..1, 0.0), "Scenario::speed is 0"),
        (base().one_way(SECOND), "Scenario::one_way is 1s"),
        (base().length(Duration::MAX), "Scenario::length is"),
        (base().warm_up(61 * SECOND), "Scenario::warm_up is 61s"),
        (
            base().window(SECOND, SECOND),
            "Scenario::window is (1s, 1s)",
        ),
        (
            base().window(SECOND, 9 * SECOND),
            "Scenario::window is (1s, 9s)",
        ),
        (base().speed(0..1, 1e-9), "Scenario::speed is 1e-9"),
        (base().retries(9), "Scenario::retries is 9"),
        (
            base().surge(SECOND, 2 * SECOND, -1.0),
            "Scenario::surge is -1",
        ),
        (
            base().demand(Demand::pareto(SECOND, 0.5)),
            "Scenario::demand is 0.5",
        ),
        (base().fault(Fault::fails(1.5)), "Fault::fails is 1.5"),
        (base().fault(Fault::slow(0.0)), "Fault::slow is 0"),
        (base().fault(Fault::slow(1e-15)), "Fault::slow is 1e-15"),
        (
            base().fault(Fault::hangs().between(2 * SECOND, SECOND)),
            "Fault::between is (2s, 1s)",
        ),
        (base().fault(Fault::hangs().on(7..30)), "Fault::on is 7..30"),
        (
            base().churn(Duration::ZERO, 1, 0.5, SECOND),
            "Scenario::churn is",
        ),
        (
            base().replace(SECOND, 1, 0.0, SECOND),
            "Scenario::replace is 0",
        ),
    ] {
        let error = run(scenario);
        assert!(error.starts_with(text), "{error}");
    }
    let policy = Policy::fleet("bad", "", || Fleet::builder().panic_threshold_percent(101));
    let error = sim::run(&base(), &policy, 1).unwrap_err().to_string();
    assert!(
        error.contains("PanicRule::threshold_percent is 101"),
        "{error}"
    );
}
