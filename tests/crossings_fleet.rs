//! Promise: features of one fleet work together where they meet: slow start, marks, checks, weights, windows, the cap and
//! upkeep. Each of these tests pins a bug that was found by going through their pairs.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::{
    MILLI, SECOND, Server, ejected, exact, fail, number, policies, probe, sequence, servers, setup,
    state,
};
use evenkeel::{
    Clock, Cluster, Detector, Ejection, EventKind, Fleet, HealthCheck, HealthCheckSettings, Lease,
    ManualClock, Mark, MemberState, Outcome, SlowStart, Target, Tick, Upkeep,
};

/// Latencies that vary by chance: exponential, with a mean of 10 ms. Endpoints that are all alike are served in turn,
/// and then many things work by themselves.
struct Noise(u64);

impl Noise {
    fn latency(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let unit = ((self.0 >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        Duration::from_secs_f64(-0.010 * unit.ln())
    }
}

/// A request that ends at this time.
type Held = (Tick, Lease<Server>);

/// Sends so many requests one after the other, this far apart. Returns how many went to server `to`.
fn serve(
    fleet: &Fleet<Server>,
    clock: &ManualClock,
    noise: &mut Noise,
    (requests, apart): (usize, Duration),
    to: usize,
) -> usize {
    let sent = (0..requests).filter(|_| {
        clock.advance(apart);
        let lease = fleet.pick_endpoint().unwrap();
        let is_there = number(&lease) == to;
        lease.record_with_latency(Outcome::Success, noise.latency());
        is_there
    });
    sent.count()
}

/// Twenty servers with 200 requests in flight; server 0 is back at 2 s. A policy that compares requests in flight finds
/// fewer there than elsewhere, with each pick. Of 10 000 picks in a second, 500 are its full share.
#[test]
fn one_that_is_back_gets_its_share_step_by_step_where_all_are_busy() {
    for (name, policy) in policies() {
        let clock = ManualClock::new();
        let ejection = exact().healthy_threshold(1);
        let builder = setup(20, &clock).policy(policy).ejection(ejection);
        let fleet = builder.build().unwrap();
        let mut held: VecDeque<Held> = VecDeque::new();
        // 10 000 requests a second, each of which takes 20 ms. Returns the part of its share that server 0 gets.
        let mut run = |millis: u32| {
            let mut seen = 0;
            for _ in 0..millis {
                clock.advance(MILLI);
                let is_over = |(end, _): &Held| *end <= clock.now();
                while held.front().is_some_and(is_over) {
                    held.pop_front().unwrap().1.record(Outcome::Success);
                }
                for _ in 0..10 {
                    let lease = fleet.pick_endpoint().unwrap();
                    seen += u32::from(number(&lease) == 0 && !lease.is_probe());
                    held.push_back((clock.now().after(20 * MILLI), lease));
                }
            }
            f64::from(seen) * 20.0 / f64::from(10 * millis)
        };
        run(1_000);
        fail(&fleet, 0, 2);
        run(1_990);
        while ejected(&fleet) == [0] {
            run(10);
        }
        // A tenth in the first second, then as many tenths as half seconds have passed. At 0.5 the standard deviation
        // of a part is 0.045 where picks go by chance.
        for (part, due) in [(run(500), 0.1), (run(500), 0.15), (run(500), 0.25)] {
            assert!(part < due + 0.15, "{name}: {part} of its share, not {due}");
        }
        run(2_500);
        let part = run(2_000);
        assert!((part - 1.0).abs() < 0.3, "{name}: {part} at the end");
    }
}

/// Where requests are few, `Adaptive` has a new endpoint tried by invitation. One in slow start got none before its
/// slow start was over, and then its full share at once.
#[test]
fn a_new_one_is_tried_while_it_is_in_slow_start() {
    let clock = ManualClock::new();
    let minute = SlowStart::default().window(SECOND * 60).new_endpoints(true);
    let fleet = setup(20, &clock).slow_start(minute).build().unwrap();
    let noise = &mut Noise(1);
    serve(&fleet, &clock, noise, (2_000, 10 * MILLI), 20);
    fleet.insert(Target::new(20, ())).unwrap();
    let seen = serve(&fleet, &clock, noise, (5_500, 10 * MILLI), 20);
    assert_eq!(state(&fleet, 20), MemberState::Warming);
    // Half of a share over the minute are 131, but shares vary where requests are few.
    assert!(seen >= 10, "{seen}");
}

/// An endpoint that is marked up is not judged, but is tried like any other.
#[test]
fn a_new_one_that_is_marked_up_is_tried() {
    for all in [false, true] {
        let clock = ManualClock::new();
        let fleet = setup(20, &clock).build().unwrap();
        let noise = &mut Noise(1);
        serve(&fleet, &clock, noise, (2_000, 10 * MILLI), 20);
        fleet.insert(Target::new(20, ())).unwrap();
        let marked = if all { 0..21 } else { 20..21 };
        marked.for_each(|number| assert!(fleet.mark(&number, Mark::Up)));
        let seen = serve(&fleet, &clock, noise, (6_000, 10 * MILLI), 20);
        assert!(seen >= 6, "all {all}: {seen}");
    }
}

/// A window of an hour has seen twenty seconds of requests. They earn as many invitations as with a short window.
#[test]
fn a_long_window_does_not_keep_a_new_one_waiting() {
    for seed in 1..4 {
        let clock = ManualClock::new();
        let hour = Ejection::default().window(SECOND * 3_600);
        let fleet = setup(20, &clock).ejection(hour).build().unwrap();
        let noise = &mut Noise(seed);
        serve(&fleet, &clock, noise, (2_000, 10 * MILLI), 20);
        fleet.insert(Target::new(20, ())).unwrap();
        serve(&fleet, &clock, noise, (2_000, 10 * MILLI), 20);
        let seen = serve(&fleet, &clock, noise, (10_000, 10 * MILLI), 20);
        assert!(seen >= 10, "{seed}: {seen}");
    }
}

/// Sends 1000 requests a second, and checks. The servers that are `dead` answer neither. Returns how many requests each
/// of the first four took.
fn run_with_checks(
    fleet: &Fleet<Server>,
    checks: &mut HealthCheck<Server>,
    clock: &ManualClock,
    noise: &mut Noise,
    seconds: u32,
    dead: impl Fn(usize) -> bool,
) -> [usize; 4] {
    let mut seen = [0; 4];
    let mut held: Vec<Held> = Vec::new();
    let outcome = |number| match dead(number) {
        true => Outcome::Unreachable,
        false => Outcome::Success,
    };
    for _ in 0..seconds * 1_000 {
        clock.advance(MILLI);
        for check in checks.tick() {
            let outcome = outcome(common::checks::key(&check));
            check.finish(outcome);
        }
        let lease = fleet.pick_endpoint().unwrap();
        seen.get_mut(number(&lease))
            .into_iter()
            .for_each(|it| *it += 1);
        held.push((clock.now().after(noise.latency()), lease));
        let (over, left) = held.into_iter().partition(|(end, _)| *end <= clock.now());
        held = left;
        for (_, lease) in Vec::<Held>::into_iter(over) {
            let outcome = outcome(number(&lease));
            lease.record(outcome);
        }
    }
    seen
}

/// While the cap keeps dead endpoints in, each request that fails there adds to the evidence. Once they are well, what
/// is beyond the threshold must not keep policies and checks away.
#[test]
fn who_was_dead_at_the_cap_is_used_again_when_it_is_well() {
    let fifth = Ejection::default().max_ejection_percent(20);
    for (dead, ejection) in [(1, Ejection::off()), (4, fifth)] {
        let clock = ManualClock::new();
        let fleet = setup(10, &clock).ejection(ejection).build().unwrap();
        let mut checks = fleet.health_check(HealthCheckSettings::default()).unwrap();
        let noise = &mut Noise(1);
        let mut run = |seconds, dead: usize| {
            let is_dead = |number| number < dead;
            run_with_checks(&fleet, &mut checks, &clock, noise, seconds, is_dead)
        };
        run(10, 0);
        run(20, dead);
        run(20, 0);
        let seen = run(20, 0);
        // 2000 are a share.
        let least = seen.iter().min().unwrap();
        assert!(*least > 1_000, "of {dead} that were dead: {seen:?}");
    }
}

/// Where the sequential test does not eject, checks do not decide about its suspects, so no endpoint costs more until
/// they have.
#[test]
fn one_failure_is_not_held_against_an_endpoint_that_is_not_tested() {
    let detect_only = Ejection::default().detect_only(Detector::Cusum);
    for ejection in [Ejection::envoy(), detect_only] {
        let clock = ManualClock::new();
        let fleet = setup(20, &clock).ejection(ejection).build().unwrap();
        let mut checks = fleet.health_check(HealthCheckSettings::default()).unwrap();
        let noise = &mut Noise(1);
        let mut run = |seconds| {
            for _ in 0..seconds * 10 {
                checks
                    .tick()
                    .into_iter()
                    .for_each(|it| it.finish(Outcome::Success));
                serve(&fleet, &clock, noise, (1, 100 * MILLI), 0);
            }
        };
        run(60);
        fail(&fleet, 0, 1);
        run(10);
        let cost = fleet.member(&0).unwrap().explain().cost;
        assert!(cost < Some(5.0), "{cost:?}");
    }
}

/// Detections are counted of endpoints in rotation that are judged: not of those that are out already, or marked.
#[test]
fn what_is_found_of_one_that_is_out_or_marked_does_not_count() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).build().unwrap();
    let found = |detector| fleet.detections(detector).detected;
    fail(&fleet, 0, 50);
    assert_eq!(found(Detector::Cusum), 1);
    assert!(fleet.mark(&1, Mark::Down) && fleet.mark(&2, Mark::Up));
    (1..3).for_each(|number| fail(&fleet, number, 50));
    assert_eq!(found(Detector::Cusum), 1);
    let mut checks = fleet.health_check(HealthCheckSettings::default()).unwrap();
    for _ in 0..60 {
        clock.advance(SECOND);
        for check in checks.tick() {
            let is_bad = common::checks::key(&check) == 1;
            let outcome = if is_bad {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            check.finish(outcome);
        }
    }
    assert_eq!(found(Detector::ActiveCheck), 0);
}

/// With `Upkeep::Caller` and without `maintain`, nobody ends a slow start. The trial that goes with it ends by time.
#[test]
fn one_failure_an_hour_after_its_return_does_not_eject() {
    let clock = ManualClock::new();
    let builder = setup(10, &clock).ejection(exact().healthy_threshold(1));
    let fleet = builder.upkeep(Upkeep::Caller).build().unwrap();
    fail(&fleet, 0, 2);
    clock.advance(SECOND * 2);
    probe(&fleet).record(Outcome::Success);
    clock.advance(SECOND * 3_600);
    fail(&fleet, 0, 1);
    assert_eq!(ejected(&fleet), [0; 0]);
}

/// Only an endpoint that takes requests begins a slow start, and one that does not is no other that could take them.
#[test]
fn one_of_weight_zero_begins_no_slow_start() {
    let clock = ManualClock::new();
    let asked = SlowStart::default().new_endpoints(true);
    let builder = setup(1, &clock).slow_start(asked).events(64);
    let fleet = builder.build().unwrap();
    fleet.update(servers(&[1, 1, 0])).unwrap();
    let begun = fleet.take_events().into_iter();
    let begun = begun.filter(|event| event.kind == EventKind::SlowStartBegun);
    assert_eq!(begun.map(|event| event.key).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(state(&fleet, 1), MemberState::Warming);
    assert_eq!(state(&fleet, 2), MemberState::Idle);
}

/// An ejection that is kept while the weight is 0 is remembered through a removal, too.
#[test]
fn a_detour_over_weight_zero_and_a_removal_keeps_the_ejection() {
    let fleet = setup(10, &ManualClock::new()).build().unwrap();
    fail(&fleet, 0, 5);
    for by_update in [false, true] {
        fleet.insert(Target::new(0, ()).with_weight(0)).unwrap();
        if by_update {
            fleet.update(servers(&[1; 10]).split_off(1)).unwrap();
        } else {
            assert!(fleet.remove(&0));
        }
        fleet.insert(Target::new(0, ())).unwrap();
        assert_eq!(ejected(&fleet), [0], "{by_update}");
    }
}

/// An endpoint that has started afresh after a drain is removed and comes back: the ejection of the one before it is
/// over.
#[test]
fn what_is_remembered_is_of_the_last_one_with_that_key() {
    let fleet = setup(10, &ManualClock::new()).build().unwrap();
    fail(&fleet, 0, 5);
    assert!(fleet.remove(&0));
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(ejected(&fleet), [0]);
    drop(fleet.drain(&0));
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(ejected(&fleet), [0; 0]);
    sequence(&fleet, 100);
    assert!(fleet.remove(&0));
    fleet.insert(Target::new(0, ())).unwrap();
    assert_eq!(ejected(&fleet), [0; 0]);
}
