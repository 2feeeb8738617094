//! Promise: with the default policy, every endpoint is used even where there is little load, both from the first
//! request on and when it joins later. An endpoint that joins later is not flooded.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::{MILLI, SECOND, Server, policies, setup};
use evenkeel::{
    Clock, Cluster, Ejection, Endpoint, Fleet, Lease, ManualClock, Outcome, Target, Tick,
};

/// Sends requests one after the other, `apart` between them, and returns the endpoint of each. Answers take about
/// 10 ms.
fn requests(
    fleet: &Fleet<Server>,
    clock: &ManualClock,
    (count, apart): (usize, Duration),
    latency: impl Fn(usize, usize) -> Duration,
) -> Vec<usize> {
    let request = |number| {
        clock.advance(apart);
        let lease = fleet.pick_endpoint().unwrap();
        let to = lease.endpoint().key();
        let latency = latency(to, number);
        clock.advance(latency);
        lease.record_with_latency(Outcome::Success, latency);
        to
    };
    (0..count).map(request).collect()
}

/// A latency from 5 to 15 ms that differs from request to request.
fn varying(to: usize, number: usize) -> Duration {
    let mixed = (to * 7919 + number * 104_729 + 17) % 101;
    Duration::from_micros(5_000 + 100 * mixed as u64)
}

fn fleet(count: usize, clock: &ManualClock) -> Fleet<Server> {
    let endpoints = (0..count).map(|key| Target::new(key, ()));
    let builder = Fleet::builder().endpoints(endpoints).seed(1);
    builder.clock(clock.clone()).build().unwrap()
}

#[test]
fn each_endpoint_has_a_turn_before_any_is_preferred() {
    for apart in [MILLI * 10, SECOND] {
        let clock = ManualClock::new();
        let mut first = requests(&fleet(40, &clock), &clock, (40, apart), varying);
        first.sort_unstable();
        assert_eq!(first, (0..40).collect::<Vec<_>>());
    }
}

/// 200 clients start together, each with 2 requests a second for 100 endpoints, so that first turns take 50 seconds.
/// They begin at different endpoints, and go on at different ones. Before the fix, 70 of them sent their third request
/// to the first endpoint, and many of the next to those behind the first 64.
#[test]
fn clients_that_start_together_go_their_own_ways() {
    const COUNT: usize = 100;
    let picks: Vec<Vec<usize>> = (0..200)
        .map(|seed| {
            let clock = ManualClock::new();
            let endpoints = (0..COUNT).map(|key| Target::new(key, ()));
            let builder = Fleet::builder().endpoints(endpoints).seed(seed);
            let fleet = builder.clock(clock.clone()).build().unwrap();
            requests(&fleet, &clock, (60, MILLI * 490), varying)
        })
        .collect();
    for number in 0..60 {
        let mut seen = [0; COUNT];
        picks.iter().for_each(|picks| seen[picks[number]] += 1);
        // Two are expected at each. Of 6000 counts, the highest at random is 9 or 10.
        let most = seen.iter().max().unwrap();
        assert!(*most <= 12, "{number}: {most}");
    }
}

/// An endpoint that joins is used within 60 requests. Before the fix it never got a request: its cost was the usual
/// one, and one of the others always cost less.
#[test]
fn an_endpoint_that_joins_known_ones_is_used_soon() {
    let own = |to: usize, _| Duration::from_millis(if to == 10 { 9 } else { 5 + to as u64 });
    for apart in [MILLI * 20, MILLI * 200] {
        let clock = ManualClock::new();
        let fleet = fleet(10, &clock);
        requests(&fleet, &clock, (300, apart), own);
        fleet.insert(Target::new(10, ())).unwrap();
        let to = requests(&fleet, &clock, (550, apart), own);
        let first = to.iter().position(|&to| to == 10).unwrap();
        assert!(first < 60, "{first}");
    }
}

/// Each endpoint has its own latency, from 8 to 12 ms. Before the fix the quickest, by the latencies measured first,
/// got everything but the invitations.
#[test]
fn a_slightly_quicker_endpoint_does_not_get_everything() {
    let own = |to: usize, _| Duration::from_micros(8_000 + 40 * to as u64);
    for (apart, most) in [(MILLI * 30, 15), (SECOND, 2)] {
        let clock = ManualClock::new();
        let to = requests(&fleet(100, &clock), &clock, (4_000, apart), own);
        let times = (0..100).map(|key| to.iter().filter(|&&to| to == key).count());
        let busiest = times.max().unwrap();
        assert!(busiest <= 40 * most, "{busiest} of 4000");
    }
}

/// An endpoint whose first request gives no verdict is asked again. Before the fix it was never asked again: 1 of
/// 20 000 requests.
#[test]
fn an_endpoint_whose_first_request_tells_nothing_is_asked_again() {
    let first_end = [
        None,
        Some(Outcome::Ignored),
        Some(Outcome::overloaded(None)),
    ];
    // Endpoint 10 joins ten others, or is one of the first set. Its latency is a fifth of the next lowest.
    for (first_set, first_end) in [11, 10]
        .into_iter()
        .flat_map(|set| first_end.map(|first_end| (set, first_end)))
    {
        let clock = ManualClock::new();
        let fleet = fleet(first_set, &clock);
        let mut times = 0;
        let mut run = |count| {
            for _ in 0..count {
                clock.advance(MILLI * 20);
                let lease = fleet.pick_endpoint().unwrap();
                let to = lease.endpoint().key();
                let latency = MILLI * if to == 10 { 1 } else { 5 + to as u32 };
                clock.advance(latency);
                times += usize::from(to == 10);
                match first_end {
                    _ if to != 10 || times > 1 => {
                        lease.record_with_latency(Outcome::Success, latency);
                    }
                    Some(outcome) => lease.record(outcome),
                    None => drop(lease),
                }
            }
        };
        run(300);
        if first_set == 10 {
            fleet.insert(Target::new(10, ())).unwrap();
        }
        run(1_000);
        assert!(
            times > 700,
            "{times} with {first_end:?}, of {first_set} at first"
        );
    }
}

/// A hundred endpoints join ten at once, of which one had been slow. The new ones are asked in the order in which they
/// joined, and the one that was slow is asked in between.
#[test]
fn new_endpoints_are_asked_in_order_and_do_not_keep_others_away() {
    let clock = ManualClock::new();
    let fleet = fleet(10, &clock);
    let apart = MILLI * 10;
    let own = |to: usize| MILLI * (5 + to.min(9) as u32);
    let slow = |to: usize, _| if to == 0 { MILLI * 200 } else { own(to) };
    requests(&fleet, &clock, (600, apart), slow);
    for key in 10..110 {
        fleet.insert(Target::new(key, ())).unwrap();
    }
    let to = requests(&fleet, &clock, (6_000, apart), |to, _| own(to));
    let first = |key: usize| to.iter().position(|&to| to == key);
    let joined: Vec<usize> = (10..110).map_while(first).collect();
    assert!(joined.len() >= 50 && joined.is_sorted(), "{joined:?}");
    assert!(first(0) < first(40), "{:?} after {:?}", first(0), first(40));
}

/// However long an endpoint has been slow, it is asked within 17 s of its recovery, as invitations are at most 16 s
/// apart (a request takes 11 ms here). With up to 32 s between two invitations it took up to 21 s.
#[test]
fn a_long_slow_endpoint_is_asked_soon_after_it_has_recovered() {
    for seconds in [20, 40, 60, 90] {
        let clock = ManualClock::new();
        let fleet = fleet(10, &clock);
        let latency =
            |slow: bool| move |to: usize, _| MILLI * if slow && to == 0 { 500 } else { 10 };
        requests(&fleet, &clock, (1_000, MILLI), latency(false));
        let is_slow = requests(&fleet, &clock, (seconds * 80, MILLI), latency(true));
        assert!(is_slow.iter().filter(|&&to| to == 0).count() < seconds);
        let to = requests(&fleet, &clock, (2_000, MILLI), latency(false));
        let first = to.iter().position(|&to| to == 0).unwrap();
        assert!(first < 17_000 / 11, "{first} requests after {seconds} s");
    }
}

/// It is invited after one second, two, four, eight and then every sixteen. Where the sequential test is off, as in
/// Envoy's settings, no endpoint stands out by it.
#[test]
fn an_endpoint_that_stays_slow_is_asked_less_and_less_often() {
    for ejection in [Ejection::default(), Ejection::envoy()] {
        let clock = ManualClock::new();
        let endpoints = (0..10).map(|key| Target::new(key, ()));
        let builder = Fleet::builder().endpoints(endpoints).seed(1);
        let builder = builder.ejection(ejection.clone()).clock(clock.clone());
        let fleet = builder.build().unwrap();
        let latency =
            |slow: bool| move |to: usize, _| MILLI * if slow && to == 0 { 500 } else { 10 };
        requests(&fleet, &clock, (1_000, MILLI), latency(false));
        let to = requests(&fleet, &clock, (60 * 80, MILLI), latency(true));
        let times = to.iter().filter(|&&to| to == 0).count();
        assert!((4..=12).contains(&times), "{times} with {ejection:?}");
    }
}

/// The first request of endpoint 10 is dropped; from then on it is the quickest. Requests come in bursts, in even or in
/// odd seconds.
#[test]
fn an_endpoint_of_unknown_latency_is_asked_whenever_requests_come() {
    for (every, from) in [(1, 0), (2, 0), (2, 1), (4, 1)] {
        let clock = ManualClock::new();
        clock.set(evenkeel::Tick::from_nanos(from * 1_000_000_000));
        let fleet = fleet(10, &clock);
        let mut times = 0;
        for burst in 0..200 {
            if burst == 20 {
                fleet.insert(Target::new(10, ())).unwrap();
            }
            for _ in 0..50 {
                let lease = fleet.pick_endpoint().unwrap();
                let to = lease.endpoint().key();
                let latency = MILLI * if to == 10 { 1 } else { 5 + to as u32 };
                clock.advance(latency);
                times += usize::from(to == 10);
                if to != 10 || times > 1 {
                    lease.record_with_latency(Outcome::Success, latency);
                }
            }
            let next = SECOND * (from as u32 + every * (burst + 1));
            clock.set(evenkeel::Tick::from_nanos(next.as_nanos() as u64));
        }
        assert!(
            times > 4_000,
            "{times} with a burst each {every} s from {from}"
        );
    }
}

#[test]
fn a_new_endpoint_is_invited_also_without_the_sequential_test() {
    let clock = ManualClock::new();
    let endpoints = (0..10).map(|key| Target::new(key, ()));
    let off = evenkeel::Ejection::default().cusum_threshold(0.0);
    let builder = Fleet::builder().endpoints(endpoints).seed(1).ejection(off);
    let fleet = builder.clock(clock.clone()).build().unwrap();
    let own = |to: usize, _| MILLI * if to == 10 { 1 } else { 5 + to as u32 };
    requests(&fleet, &clock, (300, MILLI * 20), own);
    fleet.insert(Target::new(10, ())).unwrap();
    let to = requests(&fleet, &clock, (1_000, MILLI * 20), own);
    assert!(to.iter().filter(|&&to| to == 10).count() > 500);
}

/// A hundred callers, ten servers of 10 ms, and one that joins and never answers. It gets about as many requests as are
/// in flight at each of the others.
#[test]
fn an_endpoint_that_hangs_from_its_first_request_on_is_not_flooded() {
    let seeing_load = ["LeastConnections", "PowerOfTwo", "Adaptive"];
    let those = policies()
        .into_iter()
        .filter(|(name, _)| seeing_load.contains(name));
    for (name, policy) in those {
        let clock = ManualClock::new();
        let fleet = setup(10, &clock).policy(policy).build().unwrap();
        let (mut open, mut hung) = (VecDeque::new(), Vec::new());
        for step in 0..1_500 {
            if step == 500 {
                fleet.insert(Target::new(10, ())).unwrap();
            }
            clock.advance(MILLI);
            while open.front().is_some_and(|(end, _)| *end <= clock.now()) {
                let (_, lease): (Tick, Lease<Server>) = open.pop_front().unwrap();
                lease.record(Outcome::Success);
            }
            while open.len() + hung.len() < 100 {
                let lease = fleet.pick_endpoint().unwrap();
                if lease.endpoint().key() == 10 {
                    hung.push(lease);
                } else {
                    open.push_back((clock.now().after(MILLI * 10), lease));
                }
            }
        }
        // Nine each: 100 in flight at eleven endpoints. Drawing only two endpoints, or the cost of those that answer,
        // may give one a few more.
        assert!((5..=14).contains(&hung.len()), "{name}: {}", hung.len());
    }
}
