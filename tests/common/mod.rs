//! Helpers shared by the integration tests.
#![allow(dead_code)] // No test file uses all of them.

pub(crate) mod calls;
pub(crate) mod checks;
#[cfg(feature = "sim")]
pub(crate) mod sims;
pub(crate) mod tiers;
pub(crate) mod zones;

use std::time::Duration;

use evenkeel::{
    Adaptive, Cluster, Ejection, Endpoint, Fleet, FleetBuilder, Lease, LeastConnections,
    LeastResponseTime, LoadBalancer, ManualClock, MemberState, Outcome, PickOptions, PowerOfTwo,
    Random, RoundRobin, SlowStart, Target, WeightedRoundRobin,
};

/// An endpoint identified by its number.
pub(crate) type Server = Target<usize, ()>;

pub(crate) const MILLI: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Servers numbered from 0 with these weights.
pub(crate) fn servers(weights: &[u32]) -> Vec<Server> {
    let numbered = weights.iter().enumerate();
    numbered
        .map(|(number, &weight)| Target::new(number, ()).with_weight(weight))
        .collect()
}

pub(crate) const RISING: [u32; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
pub(crate) const THREE_TO_ONE: [u32; 2] = [3, 1];
pub(crate) const NO_OPTIONS: PickOptions<'static> = PickOptions::new();

/// A fleet of servers with these weights, whose time stands still.
pub(crate) fn weighted(policy: Policy, weights: &[u32], seed: u64) -> Fleet<Server> {
    Fleet::builder()
        .endpoints(servers(weights))
        .policy(policy)
        .clock(ManualClock::new())
        .seed(seed)
        .build()
        .unwrap()
}

/// A builder for `count` servers of weight 1 that runs on `clock` and is deterministic (fixed seed).
pub(crate) fn setup(count: usize, clock: &ManualClock) -> FleetBuilder<Server> {
    Fleet::builder()
        .endpoints(servers(&vec![1; count]))
        .clock(clock.clone())
        .seed(7)
}

/// The default settings without jitter, so that times are exact.
pub(crate) fn exact() -> Ejection {
    Ejection::default().jitter_percent(0)
}

/// Ejects after five failures in a row and by nothing else, for 2 s; one successful probe brings an endpoint back.
pub(crate) fn five_in_a_row() -> Ejection {
    exact()
        .cusum_threshold(0.0)
        .score_threshold(0.0)
        .consecutive_failures(5)
        .healthy_threshold(1)
}

/// The default number of successful probes in a row that bring an endpoint back.
pub(crate) const GOOD_PROBES: usize = 5;

/// Sends `times` failing requests to the server of this number.
pub(crate) fn fail(fleet: &Fleet<Server>, number: usize, times: usize) {
    for _ in 0..times {
        fleet.lease(&number).unwrap().record(Outcome::Failure);
    }
}

pub(crate) fn state(fleet: &Fleet<Server>, number: usize) -> MemberState {
    let members = fleet.members();
    let member = members.iter().find(|m| m.endpoint().key() == number);
    member.unwrap().state()
}

/// The numbers of the ejected servers, sorted; one that is being probed counts.
pub(crate) fn ejected(fleet: &Fleet<Server>) -> Vec<usize> {
    let out = |state| matches!(state, MemberState::Ejected | MemberState::Probing);
    let members = fleet.members();
    let mut numbers: Vec<_> = members
        .iter()
        .filter(|member| out(member.state()))
        .map(|member| member.endpoint().key())
        .collect();
    numbers.sort_unstable();
    numbers
}

pub(crate) fn number(lease: &Lease<Server>) -> usize {
    lease.endpoint().key()
}

/// The numbers of the servers that take the next `picks` requests, each of which ends well before the next.
pub(crate) fn sequence(fleet: &Fleet<Server>, picks: usize) -> Vec<usize> {
    (0..picks)
        .map(|_| {
            let lease = fleet.pick_endpoint().unwrap();
            let number = number(&lease);
            lease.record_with_latency(Outcome::Success, MILLI);
            number
        })
        .collect()
}

/// How many of `picks` requests each of `servers` servers takes. Up to `in_flight` are open at once: when that many
/// are, the oldest ends with a success and a latency of 1 ms.
pub(crate) fn shares(
    fleet: &Fleet<Server>,
    options: &PickOptions<'_>,
    servers: usize,
    in_flight: usize,
    picks: usize,
) -> Vec<u64> {
    let mut seen = vec![0; servers];
    let mut held = std::collections::VecDeque::with_capacity(in_flight);
    for _ in 0..picks {
        let lease = fleet.pick_endpoint_with(options).unwrap();
        seen[number(&lease)] += 1;
        held.push_back(lease);
        if held.len() == in_flight {
            let oldest = held.pop_front().unwrap();
            oldest.record_with_latency(Outcome::Success, MILLI);
        }
    }
    seen
}

pub(crate) type Policy = Box<dyn LoadBalancer<Server>>;

/// Every policy, by name.
pub(crate) fn policies() -> Vec<(&'static str, Policy)> {
    vec![
        ("RoundRobin", Box::new(RoundRobin::new())),
        ("WeightedRoundRobin", Box::new(WeightedRoundRobin::new())),
        ("Random", Box::new(Random::new())),
        ("LeastConnections", Box::new(LeastConnections::new())),
        ("PowerOfTwo", Box::new(PowerOfTwo::new())),
        ("LeastResponseTime", Box::new(LeastResponseTime::new())),
        ("Adaptive", Box::new(Adaptive::new())),
    ]
}

/// Ten servers, of which server 0 is ejected at 0 s, for 2 s.
pub(crate) fn one_out() -> (Fleet<Server>, ManualClock) {
    one_out_by(exact())
}

/// As [`one_out`], with these ejection settings and without slow start, so that a return is to the full share at once.
pub(crate) fn one_out_by(ejection: Ejection) -> (Fleet<Server>, ManualClock) {
    let clock = ManualClock::new();
    let builder = setup(10, &clock).slow_start(SlowStart::off());
    let fleet = builder.ejection(ejection).build().unwrap();
    fail(&fleet, 0, 5);
    assert_eq!(ejected(&fleet), [0]);
    (fleet, clock)
}

/// Picks until the due probe comes. After a probe that did not end well, ten other picks go first.
pub(crate) fn probe(fleet: &Fleet<Server>) -> Lease<Server> {
    for _ in 0..=10 {
        let lease = fleet.pick_endpoint().unwrap();
        if lease.is_probe() {
            return lease;
        }
        lease.record(Outcome::Success);
    }
    panic!("no probe, though one is due")
}

/// Brings back one ejected server whose probe is due, by [`GOOD_PROBES`] successful probes in a row.
pub(crate) fn bring_back(fleet: &Fleet<Server>) {
    let before = ejected(fleet).len();
    for good in 1..=GOOD_PROBES {
        assert_eq!(ejected(fleet).len(), before, "before good probe {good}");
        probe(fleet).record_with_latency(Outcome::Success, MILLI);
    }
    assert_eq!(ejected(fleet).len(), before - 1);
}

pub(crate) fn assert_no_probe(fleet: &Fleet<Server>) {
    for _ in 0..64 {
        let lease = fleet.pick_endpoint().unwrap();
        assert!(!lease.is_probe(), "a probe that is not due: {lease:?}");
        lease.record(Outcome::Success);
    }
}
