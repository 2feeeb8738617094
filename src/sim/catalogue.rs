//! The built-in scenarios.

use std::time::Duration;

use super::demand::Demand;
use super::fault::Fault;
use super::scenario::Scenario;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Returns the built-in scenarios.
///
/// Unless its description says otherwise, a scenario has the [defaults](Scenario): 20 servers of 4 slots, exponential
/// requests of 10 ms, 10 clients, load 0.7, 60 s, and faults from 15 s to 45 s.
///
/// Sources: S3b is Linkerd's comparison of 2016 ("Beyond round robin"). S3c is brpc's comparison with two slow servers
/// of four (its pull request 3340). S14 and S15 follow the noisy neighbours of Prequal and C3.
#[must_use]
#[rustfmt::skip] // It reads like a table.
pub fn scenarios() -> Vec<Scenario> {
    let base = Scenario::new;
    let alike = Demand::normal(10 * MILLI, MILLI / 2);
    let one = 0..1;
    let pauses = Fault::stalls().at_random(Demand::exponential(10 * SECOND), Demand::always(200 * MILLI));
    let noisy = Fault::slow(0.3).at_random(Demand::exponential(4500 * MILLI), Demand::exponential(500 * MILLI));
    let moments = Fault::fails(1.0).at_random(Demand::exponential(5 * SECOND), Demand::exponential(SECOND / 2));
    vec![
        base("S1a", "all alike, load 0.7"),
        base("S1b", "all alike, load 0.9").load(0.9),
        base("S1c", "all alike, load 0.9, one client").load(0.9).clients(1),
        base("S1d", "log-normal work of variation 4").demand(Demand::log_normal(10 * MILLI, 4.0)),
        base("S1e-1", "work that hardly varies, load 0.9, one client").demand(alike).load(0.9).clients(1),
        base("S1e-10", "the same, 10 clients").demand(alike).load(0.9).clients(10),
        base("S1e-200", "the same, 200 clients").demand(alike).load(0.9).clients(200),
        base("S2", "half of the servers at 0.4 of the speed, no weights given, load 0.8").speed(10..20, 0.4).load(0.8),
        base("S3a", "one of 20 at a tenth of its speed").fault(Fault::slow(0.1).on(one.clone())),
        base("S3b", "one of 11 answers in 2 s (Linkerd 2016)").servers(11).clients(1).unlimited_slots().per_second(1000.0).timeout(3 * SECOND)
            .demand(Demand::normal(167 * MILLI, 5 * MILLI)).fault(Fault::answers_in(2 * SECOND).on(one.clone())),
        base("S3c", "two of 4 are 5 ms slower (brpc 3340)").servers(4).clients(1).unlimited_slots().per_second(4000.0)
            .demand(Demand::exponential(MILLI / 4)).one_way(MILLI / 50).fault(Fault::answers_in(MILLI * 21 / 4).on(0..2)),
        base("S4", "one of 20 fails 30 % of its requests in 1 ms").fault(Fault::fails(0.3).on(one.clone())),
        base("S5a", "one of 20 fails all in 1 ms").fault(Fault::fails(1.0).on(one.clone())),
        base("S5b", "five of 20 fail all in 1 ms, load 0.6").load(0.6).fault(Fault::fails(1.0).on(0..5)),
        base("S6", "one of 20 flaps, 2 s bad and 2 s good").fault(Fault::fails(1.0).on(one.clone()).flapping(2 * SECOND, 2 * SECOND)),
        base("S7a", "one of 20 stalls for 5 s").fault(Fault::stalls().on(one).between(15 * SECOND, 20 * SECOND)),
        base("S7b", "each server pauses 200 ms every 10 s, load 0.6").load(0.6).fault(pauses),
        base("S8", "5 of 20 replaced by cold ones, 0.2 of the speed, warm in 15 s").replace(15 * SECOND, 5, 0.2, 15 * SECOND),
        base("S10a", "200 clients that know little each, load 0.8").clients(200).load(0.8),
        base("S11", "two of 20 replaced every 2 s, 0.3 of the speed, warm in 3 s, load 0.6").load(0.6).churn(2 * SECOND, 2, 0.3, 3 * SECOND),
        base("S12", "a zone is gone: 7 of 21 fail all in 1 ms, load 0.55").servers(21).load(0.55).fault(Fault::fails(1.0).on(0..7)),
        base("S13", "all fail 2 %, always, load 0.8").load(0.8).fault(Fault::fails(0.02).always()),
        base("S14", "noisy neighbours: each at 0.3 of its speed for 0.5 s of 5 s").fault(noisy.clone()),
        base("S14b", "the same, 100 clients").clients(100).fault(noisy.clone()),
        base("S15a", "100 servers, 100 clients, noisy neighbours").servers(100).clients(100).fault(noisy.clone()),
        base("S15b", "100 servers, 100 clients, all alike, load 0.9").servers(100).clients(100).load(0.9),
        base("S15c", "100 servers, 1000 clients, noisy neighbours").servers(100).clients(1000).fault(noisy),
        base("S17", "all fail 50 % for 20 s").fault(Fault::fails(0.5).between(15 * SECOND, 35 * SECOND)),
        base("S18", "all fail all in 1 ms for 20 s").fault(Fault::fails(1.0).between(15 * SECOND, 35 * SECOND)),
        base("S19", "load 1.2 for 10 s, at most 40 queue at a server").queue(40).surge(20 * SECOND, 30 * SECOND, 1.2 / 0.7),
        base("S20", "8 of 20 fail all in 1 ms for 0.5 s, every 5.5 s").fault(Fault::fails(1.0).on(0..8).flapping(SECOND / 2, 5 * SECOND)),
        base("S21", "each by itself fails all in 1 ms, for 0.5 s of 5.5 s").fault(moments),
        base("S22", "load 0.95, at most 4 queue at a server").load(0.95).queue(4),
        base("S23", "300 servers of one slot").servers(300).slots(1),
        base("F1", "fairness at load 0.3").load(0.3),
        base("F2", "fairness at load 0.3, 100 servers").servers(100).load(0.3),
        base("F3", "fairness at load 0.03, 100 servers").servers(100).load(0.03),
        base("F4", "fairness at load 0.6, 100 servers, 3 clients").servers(100).clients(3).load(0.6),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_name_and_can_be_run() {
        let all = scenarios();
        for (at, scenario) in all.iter().enumerate() {
            scenario.check().unwrap();
            scenario.clone().cut_to(12 * SECOND).check().unwrap();
            assert!(!scenario.about.is_empty());
            assert!(all[..at].iter().all(|other| other.name != scenario.name));
        }
    }

    #[test]
    fn cut_to_12_s_the_window_is_3_to_9() {
        for scenario in scenarios() {
            let cut = scenario.cut_to(12 * SECOND);
            assert_eq!(cut.window, (3 * SECOND, 9 * SECOND), "{}", cut.name);
        }
    }
}
