//! Many calls at once over any cluster, with any plan, polled and dropped at random, while the set changes: all counts
//! add up.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use common::calls::{ManualTimer, pending, poll};
use common::{MILLI, SECOND, Server, policies};
use evenkeel::{
    Adaptive, AdaptiveLimit, Alarm, CallOptions, CallPlan, Caller, CallerError, Cluster, Ejection,
    Endpoint, EventKind, Failover, Fleet, Health, HealthCheckSettings, HealthTracker, Hedge,
    Judging, Limits, Mark, MemberState, Outcome, PanicAction, PanicRule, RoundRobin, Sample,
    Target, Throttle, Tiers, Transport,
};

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct Wild {
    rng: Mutex<Rng>,
    sent: Mutex<Vec<(u32, usize)>>,
    panics: bool,
}

fn outcome(code: u8) -> Outcome {
    match code {
        0..=9 => Outcome::Success,
        10 => Outcome::Failure,
        11 => Outcome::Timeout,
        12 => Outcome::Unreachable,
        13 => Outcome::overloaded(None),
        14 => Outcome::overloaded(Some(Duration::from_secs(3))),
        15 => Outcome::overloaded(Some(Duration::MAX)),
        16 => Outcome::GoingAway,
        17 => Outcome::Ignored,
        _ => Outcome::Abandoned,
    }
}

fn retryable(code: u8) -> bool {
    matches!(code, 9..=13 | 16)
}

impl Transport<Server, u32> for Wild {
    type Response = u8;
    type Error = u8;

    async fn send(&self, server: &Server, call: u32) -> Result<u8, u8> {
        self.sent.lock().unwrap().push((call, server.key()));
        let (kind, code, polls, is_ok) = {
            let mut rng = self.rng.lock().unwrap();
            (
                rng.below(40),
                rng.below(19) as u8,
                rng.below(12) as u32,
                rng.one_in(3),
            )
        };
        match kind {
            0 => std::future::pending::<()>().await,
            1 if self.panics => panic!("as told"),
            _ => pending(polls).await,
        }
        if kind < 20 {
            return Ok(1);
        }
        if is_ok { Ok(code) } else { Err(code) }
    }

    fn classify(&self, result: &Result<u8, u8>) -> Outcome {
        outcome(match result {
            Ok(code) | Err(code) => *code,
        })
    }

    fn is_retryable(&self, result: &Result<u8, u8>) -> bool {
        match result {
            Ok(code) | Err(code) => retryable(*code),
        }
    }
}

/// A tracker that ejects at the first fault, always looks bad, or panics now and then.
#[derive(Debug)]
struct Own(u64);

impl HealthTracker for Own {
    fn record(&self, sample: &Sample, _: &Judging<'_>) -> Alarm {
        match self.0 {
            0 if sample.outcome.is_fault() => Alarm::Eject,
            _ => Alarm::None,
        }
    }
    fn health(&self, _: &Judging<'_>) -> Health {
        assert!(self.0 < 2, "as told");
        Health::new(if self.0 == 1 { 0.0 } else { 1.0 }, 1_000)
    }
}

fn fleet(rng: &mut Rng, hand: &ManualTimer, base: usize) -> Fleet<Server> {
    let count = [0, 1, 2, 5, 12][rng.below(5) as usize];
    let endpoint = |number: usize, rng: &mut Rng| {
        Target::new(base + number, ())
            .with_weight([1, 1, 3, 0][rng.below(4) as usize])
            .with_priority(rng.below(2) as u32)
            .with_locality(["a", "b"][rng.below(2) as usize])
    };
    let mut limits = Limits::default();
    if rng.one_in(3) {
        limits = limits.max_requests(1 + rng.below(20) as u32);
    }
    if rng.one_in(3) {
        limits = limits.max_requests_per_endpoint(1 + rng.below(4) as u32);
    } else if rng.one_in(3) {
        limits = limits.adaptive(AdaptiveLimit::default());
    }
    if rng.one_in(3) {
        limits = limits.max_probes(1);
    }
    let ejection = match rng.below(4) {
        0 => Ejection::off(),
        1 => Ejection::under_failover(),
        2 => Ejection::default()
            .healthy_threshold(1)
            .consecutive_failures(2),
        _ => Ejection::default(),
    };
    let panic = match rng.below(3) {
        0 => PanicRule::off(),
        1 => PanicRule::default().action(PanicAction::FailFast),
        _ => PanicRule::default(),
    };
    let endpoints: Vec<_> = (0..count).map(|number| endpoint(number, rng)).collect();
    let mut builder = Fleet::builder()
        .endpoints(endpoints)
        .clock(hand.clock.clone())
        .seed(rng.next())
        .events(1 << 16)
        .limits(limits)
        .ejection(ejection)
        .panic_rule(panic);
    if rng.one_in(4) {
        let kind = rng.below(3);
        builder = builder.tracker(move |_| Own(kind));
    }
    match rng.below(9) {
        0 => builder.policy(Tiers::new(Adaptive::new()).prefer_zone("a")),
        1 => builder.policy(Tiers::new(RoundRobin::new())),
        at => builder.policy(policies().swap_remove(at as usize - 2).1),
    }
    .build()
    .unwrap()
}

type Any = Arc<dyn Cluster<Endpoint = Server>>;
type Call<'a> = Pin<Box<dyn Future<Output = Result<u8, CallerError<u8>>> + Send + 'a>>;

fn run(seed: u64) {
    let mut rng = Rng(seed);
    let hand = ManualTimer::default();
    let fleets: Vec<_> = (0..1 + rng.below(3) as usize)
        .map(|at| fleet(&mut rng, &hand, at * 100))
        .collect();
    let elsewhere = !rng.one_in(3);
    let all = fleets.iter().map(|fleet| Arc::new(fleet.clone()) as Any);
    let cluster = all
        .reduce(|a, b| Arc::new(Failover::new(a, b).seed(seed).retries_elsewhere(elsewhere)) as Any)
        .unwrap();
    let mut plan = CallPlan::default()
        .attempts(1 + rng.below(6) as u32)
        .retry_timeouts(!rng.one_in(3))
        .seed(seed);
    if rng.one_in(2) {
        plan = plan.attempt_timeout(MILLI * (1 + rng.below(20) as u32));
    }
    match rng.below(3) {
        0 => {
            plan = plan.hedge(
                Hedge::after(MILLI * (1 + rng.below(5) as u32)).max_hedges(1 + rng.below(3) as u32),
            )
        }
        1 => plan = plan.hedge(Hedge::at_percentile(90).min_samples(10)),
        _ => {}
    }
    if rng.one_in(2) {
        plan = plan.throttle(Throttle::default());
    }
    if rng.one_in(3) {
        plan = plan.max_concurrent_retries(rng.below(4) as u32);
    }
    if rng.one_in(2) {
        plan = plan.budget_percent(100).budget_floor(100);
    }
    if rng.one_in(3) {
        plan = plan.backoff_base(Duration::ZERO);
    }
    let wild = Wild {
        rng: Mutex::new(Rng(rng.next())),
        sent: Mutex::default(),
        panics: rng.one_in(3),
    };
    let caller = Caller::new(cluster, &wild, plan, hand.clone()).unwrap();

    let jumps = rng.one_in(4);
    let mut checks: Vec<_> = match rng.one_in(3) {
        true => {
            let settings = HealthCheckSettings::default()
                .interval(SECOND)
                .timeout(MILLI * 200);
            let drive = |fleet: &Fleet<Server>| fleet.health_check(settings.clone()).unwrap();
            fleets.iter().map(drive).collect()
        }
        false => Vec::new(),
    };
    let mut probes = Vec::new();
    let (mut finished, mut stopped, mut cut) = (0u64, 0u64, 0u64);
    let mut open: Vec<Call<'_>> = Vec::new();
    let calls = 600u32;
    let mut next = 0u32;
    let mut changes = 0;
    while next < calls || !open.is_empty() {
        if next < calls && open.len() < 30 && rng.one_in(2) {
            let id = next;
            next += 1;
            let mut options = CallOptions::new();
            match rng.below(12) {
                0 => options = options.deadline(Duration::ZERO),
                1 => options = options.deadline(MILLI * 5),
                2 => options = options.attempts(9),
                3 => options = options.attempt_timeout(Duration::ZERO),
                4 => options = options.affinity(rng.next()),
                5 => {
                    options = options
                        .deadline(Duration::MAX)
                        .attempt_timeout(Duration::MAX)
                }
                _ => {}
            }
            if options.deadline.is_none() || options.deadline == Some(Duration::MAX) {
                options = options.deadline(MILLI * 400);
            }
            open.push(Box::pin(caller.call_with_options(options, move || id)));
        }
        let mut at = 0;
        while at < open.len() {
            if rng.one_in(3) {
                at += 1;
                continue;
            }
            let polled = catch_unwind(AssertUnwindSafe(|| poll(open[at].as_mut())));
            match polled {
                Err(_) => {
                    drop(open.swap_remove(at));
                    cut += 1;
                }
                Ok(Poll::Ready(result)) => {
                    drop(open.swap_remove(at));
                    finished += 1;
                    stopped += u64::from(match result {
                        Ok(code) => retryable(code),
                        Err(_) => true,
                    });
                }
                Ok(Poll::Pending) if rng.one_in(200) => {
                    drop(open.swap_remove(at));
                    cut += 1;
                }
                Ok(Poll::Pending) => at += 1,
            }
        }
        hand.clock.advance(MILLI * rng.below(4) as u32);
        for check in &mut checks {
            probes.extend(check.tick());
        }
        if rng.one_in(3) && !probes.is_empty() {
            let at = rng.below(probes.len() as u64) as usize;
            let probe = probes.swap_remove(at);
            match rng.one_in(10) {
                true => drop(probe),
                false => probe.finish(outcome(rng.below(19) as u8)),
            }
        }
        if jumps && rng.one_in(100) {
            use evenkeel::Clock;
            let now = hand.clock.now();
            let by = Duration::from_secs([1, 100, 10_000, 10_000_000][rng.below(4) as usize]);
            match rng.one_in(2) {
                true => hand.clock.advance(by),
                false => {
                    let back = now.as_nanos().saturating_sub(by.as_nanos() as u64);
                    hand.clock.set(evenkeel::Tick::from_nanos(back));
                    // So that waits of the calls end.
                    hand.clock.advance(Duration::from_secs(rng.below(2)));
                }
            }
        }
        if rng.one_in(50) {
            changes += 1;
            let at = rng.below(fleets.len() as u64) as usize;
            let fleet = &fleets[at];
            let key = at * 100 + rng.below(12) as usize;
            match rng.below(9) {
                0 => drop(fleet.remove(&key)),
                1 => drop(fleet.drain(&key)),
                2 => {
                    let _ = fleet.insert(Target::new(key, ()).with_weight(rng.below(3) as u32));
                }
                3 => drop(fleet.mark(&key, Mark::Down)),
                4 => drop(fleet.mark(&key, Mark::Up)),
                5 => drop(fleet.mark(&key, Mark::Degraded)),
                6 => drop(fleet.mark(&key, Mark::Auto)),
                7 => fleet.maintain(),
                _ => hand.clock.advance(SECOND * 3),
            }
        }
    }
    drop(open);
    for probe in probes {
        probe.finish(Outcome::Success);
    }
    drop(checks);
    let stats = caller.stats();
    let what = format!(
        "seed {seed}: {stats:?} finished {finished} cut {cut} changes {changes} {fleets:?}"
    );
    assert_eq!(finished + cut, u64::from(calls), "{what}");
    let sent = wild.sent.lock().unwrap();
    assert_eq!(
        sent.len() as u64,
        stats.requests + stats.retries,
        "sent; {what}"
    );
    let distinct: BTreeSet<u32> = sent.iter().map(|(call, _)| *call).collect();
    assert_eq!(distinct.len() as u64, stats.requests, "{what}");
    assert_eq!(stats.retries_in_flight, 0, "{what}");
    assert!(stats.hedges <= stats.retries && stats.hedges_won <= stats.hedges);
    let reasons = stats.not_retryable
        + stats.attempts_used
        + stats.pick_failures
        + stats.budget_exhausted
        + stats.no_endpoint_left
        + stats.deadlines
        + stats.too_many_retries
        + stats.throttled;
    assert_eq!(reasons, stopped, "reasons; {what}");
    for fleet in &fleets {
        let stats = fleet.stats();
        assert_eq!((stats.in_flight, stats.probing), (0, 0), "{what}");
        let out = |it: &evenkeel::Member<Server>| {
            matches!(it.state(), MemberState::Ejected | MemberState::Probing)
        };
        let members = fleet.members();
        assert_eq!(
            members.iter().filter(|it| out(it)).count(),
            stats.ejected,
            "{what}"
        );
        assert!(stats.ejected <= stats.ejection_limit, "{what}");
        assert_eq!(stats.policy_faults, 0, "{what}");
        if let Some(most) = stats.max_requests {
            let _ = fleet.insert(Target::new(99_999, ()));
            if fleet.member(&99_999).unwrap().limit().is_none() {
                let held: Vec<_> = (0..most).map(|_| fleet.lease(&99_999)).collect();
                assert!(held.iter().all(Result::is_ok), "{what}");
                assert!(fleet.lease(&99_999).is_err(), "{what}");
            }
        }
        // By endpoint, ejections and returns alternate.
        let mut is_out: BTreeMap<_, bool> = BTreeMap::new();
        for event in fleet.take_events() {
            let Some(id) = event.member else { continue };
            let out = is_out.entry(id).or_default();
            match event.kind {
                EventKind::Ejected { .. } => {
                    *out = true;
                }
                EventKind::Returned { .. } => {
                    assert!(*out, "{event:?} {what}");
                    *out = false;
                }
                _ => {}
            }
        }
    }
}

#[test]
fn all_adds_up() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("as told") {
            eprintln!("{text}");
        }
    }));
    let seeds = std::env::var("STORM").map_or(60, |times| times.parse().unwrap());
    for seed in 0..seeds {
        run(seed);
    }
}
