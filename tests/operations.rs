//! Promise: what operators do to a service over time has the effect that they expect. Answers take times that vary at
//! random, with an exponential distribution, and requests overlap.
#![allow(clippy::unwrap_used)]

mod common;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use common::{MILLI, SECOND, Server, ejected, policies, servers};
use evenkeel::{
    Adaptive, Clock, Cluster, Endpoint, EventKind, Fleet, Lease, ManualClock, Outcome, RoundRobin,
};

/// Requests in virtual time, with exponentially distributed gaps and answers.
struct Traffic {
    fleet: Fleet<Server>,
    clock: ManualClock,
    random: u64,
    /// How requests end, and how many in a hundred do. The others succeed.
    outcome: Outcome,
    percent: u64,
    /// This server fails all requests.
    dead: Option<usize>,
    /// The servers before this one take five times as long.
    slow: usize,
    /// Those in flight, by when they end.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    leases: Vec<Option<Lease<Server>>>,
    /// How many requests each server got since this was last taken.
    seen: Vec<f64>,
}

impl Traffic {
    fn new(fleet: Fleet<Server>, clock: ManualClock) -> Self {
        Self {
            fleet,
            clock,
            random: 1,
            outcome: Outcome::Success,
            percent: 100,
            dead: None,
            slow: 0,
            ends: BinaryHeap::new(),
            leases: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// An exponentially distributed time.
    fn about(&mut self, mean: Duration) -> u64 {
        let unit = (self.next_random() >> 11) as f64 / (1u64 << 53) as f64;
        (-(1.0 - unit).ln() * mean.as_nanos() as f64) as u64
    }

    fn now(&self) -> u64 {
        self.clock.now().as_nanos()
    }

    fn advance_to(&self, end: u64) {
        let time = Duration::from_nanos(end.saturating_sub(self.now()));
        self.clock.advance(time);
    }

    /// Records the requests that end by `until`, each at its time.
    fn end_until(&mut self, until: u64) {
        while let Some(&Reverse((end, place))) = self.ends.peek().filter(|next| next.0.0 <= until) {
            self.ends.pop();
            self.advance_to(end);
            let lease = self.leases[place].take().unwrap();
            let is_one = self.percent == 100 || self.next_random() % 100 < self.percent;
            let is_dead = self.dead == Some(lease.endpoint().key());
            lease.record(match (is_dead, is_one) {
                (true, _) => Outcome::Failure,
                (false, true) => self.outcome,
                (false, false) => Outcome::Success,
            });
        }
        self.advance_to(until);
    }

    /// Sends `rate` requests a second for `time`. They take about `mean` each.
    fn run(&mut self, time: Duration, rate: u32, mean: Duration) {
        self.run_every(SECOND / rate, time, mean);
    }

    /// Sends a request about every `gap` for `time`. They take about `mean` each.
    fn run_every(&mut self, gap: Duration, time: Duration, mean: Duration) {
        let until = self.now() + time.as_nanos() as u64;
        self.seen = vec![0.0; 100];
        loop {
            let next = self.now() + self.about(gap);
            self.end_until(next.min(until));
            if next >= until {
                return;
            }
            let lease = self.fleet.pick_endpoint().unwrap();
            let server = lease.endpoint().key();
            self.seen[server] += 1.0;
            let times = if server < self.slow { 5 } else { 1 };
            let end = next + self.about(mean * times);
            self.ends.push(Reverse((end, self.leases.len())));
            self.leases.push(Some(lease));
        }
    }

    /// The share of the servers from `first` on.
    fn share_from(&self, first: usize) -> f64 {
        self.seen[first..].iter().sum::<f64>() / self.seen.iter().sum::<f64>()
    }

    fn ejections(&self) -> usize {
        let events = self.fleet.take_events();
        let ejected = events
            .iter()
            .filter(|it| matches!(it.kind, EventKind::Ejected { .. }));
        ejected.count()
    }
}

fn with(weights: &[u32], policy: common::Policy) -> Traffic {
    let clock = ManualClock::new();
    let builder = Fleet::builder().endpoints(servers(weights)).policy(policy);
    let fleet = builder.clock(clock.clone()).seed(7).events(1024).build();
    Traffic::new(fleet.unwrap(), clock)
}

fn ten_of_each(heavy: u32, light: u32) -> Vec<u32> {
    [[heavy; 10], [light; 10]].concat()
}

/// Before the fix, they got 0.1 to 0.7 of what is due to them.
#[test]
fn light_endpoints_get_their_share_although_latencies_vary() {
    for (heavy, light) in [(2, 1), (3, 1), (9, 1)] {
        for (rate, seconds) in [(50, 120), (200, 50), (1_000, 15)] {
            let mut traffic = with(&ten_of_each(heavy, light), Box::new(Adaptive::new()));
            traffic.run(SECOND * 5, rate, MILLI * 10);
            traffic.run(SECOND * seconds, rate, MILLI * 10);
            let due = f64::from(light) / f64::from(heavy + light);
            let of_due = traffic.share_from(10) / due;
            assert!(
                (0.6..1.6).contains(&of_due),
                "{heavy}:{light} at {rate}/s: {of_due} of what is due"
            );
        }
    }
}

/// Blue and green: the weights of the old and the new endpoints change in steps, and back at once.
#[test]
fn traffic_follows_the_weights_step_by_step_and_back() {
    for (name, policy) in policies() {
        if name == "RoundRobin" {
            continue; // It ignores weights.
        }
        let mut traffic = with(&ten_of_each(1, 0), policy);
        for (old, new) in [(1, 0), (99, 1), (90, 10), (50, 50), (0, 100), (100, 0)] {
            let endpoints = servers(&ten_of_each(old, new));
            traffic.fleet.update(endpoints).unwrap();
            traffic.run(SECOND * 10, 300, MILLI * 10);
            let (share, due) = (
                traffic.share_from(10),
                f64::from(new) / f64::from(old + new),
            );
            assert!(
                (due * 0.6..=due * 1.6).contains(&share),
                "{name}, {old}:{new}: {share}"
            );
        }
    }
}

/// A dependency of all endpoints makes them five times as slow for a while. No endpoint is ejected, then or later.
#[test]
fn a_common_slowness_ejects_no_endpoint() {
    for (name, policy) in policies() {
        let mut traffic = with(&[1; 20], policy);
        for mean in [10, 50, 10] {
            traffic.run(SECOND * 30, 100, MILLI * mean);
            assert_eq!(traffic.ejections(), 0, "{name}");
        }
    }
}

/// All endpoints fail all requests at once for 20 s. A policy that compares them sends several in a row to one
/// endpoint, and in the first seconds the window of the others still shows successes. Before the fix, up to half of the
/// endpoints were ejected with `Adaptive`, probes that failed while all did made their ejections longer, and some were
/// out for 20 s after the outage.
#[test]
fn after_an_outage_of_all_no_endpoint_stays_out_for_long() {
    for (count, rate) in [(20, 200), (100, 560)] {
        for (name, policy) in policies() {
            let mut traffic = with(&vec![1; count], policy);
            traffic.run(SECOND * 20, rate, MILLI * 10);
            traffic.outcome = Outcome::Failure;
            let mut most = 0;
            for _ in 0..200 {
                traffic.run(MILLI * 100, rate, MILLI);
                most = most.max(ejected(&traffic.fleet).len());
            }
            // Two random choices may meet an endpoint twice before the others fail.
            assert!(10 * most <= 3 * count, "{name}: {most} of {count}");
            traffic.outcome = Outcome::Success;
            // The last probe may fail as the outage ends. The next comes after the base ejection time and a quarter.
            traffic.run(MILLI * 2_500 + MILLI * 100, rate, MILLI * 10);
            let out = ejected(&traffic.fleet);
            assert!(out.is_empty(), "{name}, {count}, {rate}: {out:?}");
        }
    }
}

/// From one moment on a small share of all requests fails, wherever they go. It is not held against the endpoints that
/// fail two of them first. Before the fix, up to half of the endpoints were ejected in the first two seconds, as few
/// were under suspicion at once.
#[test]
fn a_small_share_of_failures_everywhere_ejects_few() {
    let most_out = |seed: u64, policy| {
        let mut traffic = with(&[1; 20], policy);
        traffic.random = seed << 32;
        traffic.run(SECOND * 2, 10_000, MILLI * 10);
        (traffic.outcome, traffic.percent) = (Outcome::Failure, 5);
        let mut most = 0;
        for _ in 0..20 {
            traffic.run(MILLI * 100, 10_000, MILLI * 10);
            most = most.max(ejected(&traffic.fleet).len());
        }
        most
    };
    let mut sums = BTreeMap::new();
    for seed in 1..=4 {
        for (name, policy) in policies() {
            *sums.entry(name).or_default() += most_out(seed, policy);
        }
    }
    assert!(sums.values().all(|&sum: &usize| sum <= 4 * 4), "{sums:?}");
}

/// One endpoint dies where a few requests fail everywhere. That is no common fault, and the endpoint is found as soon
/// as the weight of a failure says: ln(0.3 / 0.01), so that four exceed 11.
#[test]
fn a_dead_endpoint_is_found_beside_a_few_failures_everywhere() {
    for count in [3, 5, 20] {
        let mut requests = 0.0;
        for seed in 0..10 {
            let mut traffic = with(&vec![1; count], Box::new(RoundRobin::new()));
            traffic.random = seed << 32;
            (traffic.outcome, traffic.percent) = (Outcome::Failure, 1);
            let rate = 200 * count as u32;
            traffic.run(SECOND * 12, rate, MILLI);
            traffic.dead = Some(1);
            while !ejected(&traffic.fleet).contains(&1) {
                traffic.run(MILLI, rate, MILLI);
                requests += traffic.seen[1] / 10.0;
            }
        }
        // One more is in flight in one case of five.
        assert!(requests < 4.5, "{requests} of {count}");
    }
}

/// The most of some 300 requests, one every `gap`, that one of 20 endpoints gets after all have hung for `hung` seconds
/// and have been well for `well` seconds.
fn most_of_one(seed: u64, gap: Duration, (hung, well): (u32, u32)) -> f64 {
    let mut traffic = with(&[1; 20], Box::new(Adaptive::new()));
    traffic.random = seed;
    traffic.run_every(gap, gap * 150, MILLI * 10);
    traffic.outcome = Outcome::Timeout;
    traffic.run_every(gap, SECOND * hung, SECOND);
    traffic.outcome = Outcome::Success;
    traffic.run_every(gap, SECOND * well, MILLI * 10);
    traffic.run_every(gap, gap * 300, MILLI * 10);
    traffic.seen.iter().copied().fold(0.0, f64::max)
}

/// All endpoints hang for half a minute, and the client has few requests. Minutes later, several are used again. Before
/// the fix, all requests went to one for good: to the first that had answered.
#[test]
fn not_one_endpoint_gets_everything_after_all_hung() {
    for seed in 1..=8 {
        let most = |hung| most_of_one(seed, MILLI * 200, (hung, 180));
        let (after, without) = (most(30), most(0));
        assert!(after < 150.0, "{after}, without an outage {without}");
    }
}

/// With a request every five seconds, no endpoint has answered within the last second most of the time. Before the fix,
/// nothing was then known of what is usual now: ten minutes after an outage of five, one endpoint got all 300 requests,
/// and half an hour after it too. Now one gets 50 to 130 of them, and 25 to 35 without an outage.
#[test]
fn not_one_endpoint_gets_everything_after_all_hung_where_requests_are_rare() {
    for seed in 1..=8 {
        let after = most_of_one(seed, SECOND * 5, (300, 600));
        // Of eight seeds the mean is 101 and the deviation 22.
        assert!(after < 200.0, "{after}");
    }
}

/// Most endpoints are five times as slow, and the client has few requests: those that are quick share them, and the
/// slow ones are tried now and then. Before the fix, one of the eight got 80 % of the requests, the slow ones 1.2 %.
/// If only what answers now counted, they would get 9 %.
#[test]
fn the_quick_ones_among_many_slow_ones_share_the_requests() {
    let (mut most, mut slow) = (0.0, 0.0);
    for seed in 1..=4 {
        let mut traffic = with(&[1; 20], Box::new(Adaptive::new()));
        (traffic.random, traffic.slow) = (seed, 12);
        traffic.run(SECOND * 60, 5, MILLI * 5);
        traffic.run(SECOND * 240, 5, MILLI * 5);
        let all: f64 = traffic.seen.iter().sum();
        most += traffic.seen.iter().copied().fold(0.0, f64::max) / all / 4.0;
        slow += 1.0 / 4.0 - traffic.share_from(traffic.slow) / 4.0;
    }
    // Over 24 seeds: 0.30 and 0.027, with deviations of 0.075 and 0.009. A mean of four has half of these: the limits
    // are four of them away.
    assert!(most < 0.46 && slow < 0.045, "{most}, {slow}");
}
