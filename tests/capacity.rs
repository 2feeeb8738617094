//! Promise: while more endpoints are out than can be spared and the others are overloaded, ejected ones return sooner
//! and slow start begins at the missing share. At high request rates an ejection is limited to a number of requests.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::each_second;
use common::{MILLI, SECOND, Server, ejected, exact, fail, five_in_a_row, number, setup, state};
use evenkeel::{
    Cluster, Endpoint, Fleet, ManualClock, Mark, MemberState, Outcome, SlowStart, Tick,
    WeightedRoundRobin,
};

/// Ten endpoints, of which one can be spared, that have answered in 10 ms.
fn ten(clock: &ManualClock, slow_start: SlowStart) -> Fleet<Server> {
    let fleet = setup(10, clock).policy(WeightedRoundRobin::new());
    let fleet = fleet
        .ejection(five_in_a_row())
        .slow_start(slow_start)
        .build()
        .unwrap();
    answer(&fleet, clock, 10 * MILLI);
    fleet
}

/// For ten seconds each endpoint that is in answers ten times a second with this latency, so that its estimate settles
/// there.
fn answer(fleet: &Fleet<Server>, clock: &ManualClock, latency: Duration) {
    for _ in 0..100 {
        clock.advance(100 * MILLI);
        for number in (0..10).filter(|number| !ejected(fleet).contains(number)) {
            let lease = fleet.lease(&number).unwrap();
            lease.record_with_latency(Outcome::Success, latency);
        }
        fleet.maintain();
    }
}

/// Sends 200 requests and ends those that are probes with `outcome`, the others with success; all take `latency`.
fn probe_all(fleet: &Fleet<Server>, outcome: Outcome, latency: Duration) {
    for _ in 0..200 {
        let lease = fleet.pick_endpoint().unwrap();
        let outcome = if lease.is_probe() {
            outcome
        } else {
            Outcome::Success
        };
        lease.record_with_latency(outcome, latency);
    }
}

fn out_for(fleet: &Fleet<Server>, number: usize) -> u128 {
    let member = fleet.member(&number).unwrap();
    member.explain().until.unwrap().as_millis()
}

/// Ejects an endpoint that has been ejected and has returned three times before: its fourth ejection in a row, of 16 s.
fn fail_often(fleet: &Fleet<Server>, clock: &ManualClock, number: usize) {
    for _ in 0..3 {
        fail(fleet, number, 5);
        clock.advance(20 * SECOND);
        probe_all(fleet, Outcome::Success, 10 * MILLI);
    }
    fail(fleet, number, 5);
}

#[test]
fn an_ejection_is_of_full_length_while_the_others_keep_up() {
    let clock = ManualClock::new();
    let fleet = ten(&clock, SlowStart::off());
    fail_often(&fleet, &clock, 0);
    (1..4).for_each(|n| fail(&fleet, n, 5));
    assert_eq!(out_for(&fleet, 0), 16_000);
    answer(&fleet, &clock, 19 * MILLI);
    assert_eq!(out_for(&fleet, 0), 6_000);
}

#[test]
fn an_ejection_is_short_and_forgotten_where_the_others_are_overloaded() {
    let clock = ManualClock::new();
    let fleet = ten(&clock, SlowStart::off());
    fail_often(&fleet, &clock, 0);
    (1..4).for_each(|n| fail(&fleet, n, 5));
    answer(&fleet, &clock, 30 * MILLI);
    // Capacity is short, so the ejection of 16 s is cut to half of that, which is over.
    assert_eq!([0, 1, 2, 3].map(|n| out_for(&fleet, n)), [0; 4]);
    probe_all(&fleet, Outcome::Success, 30 * MILLI);
    assert_eq!(ejected(&fleet), []);
    // When no endpoint is missing any more, their ejections in a row are forgotten, except for the last to return,
    // which the fleet can spare.
    answer(&fleet, &clock, 10 * MILLI);
    let times = [0, 1, 2, 3].map(|n| fleet.member(&n).unwrap().explain().times);
    assert_eq!(
        times.iter().filter(|&&times| times == 0).count(),
        3,
        "{times:?}"
    );
}

/// A shortened ejection does not end before the time for which the endpoint asked to be left alone (`retry_after`).
#[test]
fn an_endpoint_that_asked_to_be_spared_is_left_alone() {
    let clock = ManualClock::new();
    let fleet = ten(&clock, SlowStart::off());
    (0..4).for_each(|n| fail(&fleet, n, 5));
    clock.advance(2 * SECOND);
    probe_all(&fleet, Outcome::overloaded(Some(15 * SECOND)), 10 * MILLI);
    answer(&fleet, &clock, 30 * MILLI);
    assert_eq!([0, 1, 2, 3].map(|n| out_for(&fleet, n)), [5_000; 4]);
}

/// Where capacity is short, the passes of checks that bring an endpoint back are spread over a quarter of the base
/// ejection time.
#[test]
fn checks_bring_endpoints_back_sooner_where_capacity_is_short() {
    let back_after = |latency| {
        let clock = ManualClock::new();
        let builder = setup(10, &clock).ejection(five_in_a_row().healthy_threshold(5));
        let fleet = builder.build().unwrap();
        answer(&fleet, &clock, 10 * MILLI);
        (0..4).for_each(|n| fail(&fleet, n, 5));
        answer(&fleet, &clock, latency);
        let mut checks = fleet.health_check(each_second()).unwrap();
        let mut waited = Duration::ZERO;
        while ejected(&fleet).contains(&0) {
            (checks.tick().into_iter()).for_each(|check| check.finish(Outcome::Success));
            clock.advance(MILLI);
            waited += MILLI;
        }
        waited
    };
    let (usual, missed) = (back_after(10 * MILLI), back_after(30 * MILLI));
    assert!(missed * 3 < usual, "{missed:?} for {usual:?}");
}

/// Where capacity is short, the first ejection lasts a quarter of the base time, and each after a failed probe half of
/// what is usual.
#[test]
fn ejections_where_capacity_is_short_last_a_quarter_and_then_halves() {
    let clock = ManualClock::new();
    let fleet = ten(&clock, SlowStart::off());
    (1..4).for_each(|n| fail(&fleet, n, 5));
    answer(&fleet, &clock, 30 * MILLI);
    fail(&fleet, 0, 5);
    for length in [500, 2_000, 4_000, 8_000] {
        assert_eq!(out_for(&fleet, 0), length);
        clock.advance(Duration::from_millis(length as u64));
        probe_all(&fleet, Outcome::Failure, 30 * MILLI);
    }
}

#[test]
fn nothing_is_shorter_where_all_can_be_spared() {
    let clock = ManualClock::new();
    let generous = five_in_a_row().spare_capacity_percent(100);
    let fleet = setup(10, &clock).ejection(generous).build().unwrap();
    answer(&fleet, &clock, 10 * MILLI);
    (1..4).for_each(|n| fail(&fleet, n, 5));
    answer(&fleet, &clock, 100 * MILLI);
    fail(&fleet, 0, 5);
    assert_eq!(out_for(&fleet, 0), 2_000);
}

/// Four of ten return at once. If the others are overloaded, each starts with two fifths of its share, as much as is
/// missing; if they are not, with a tenth.
#[test]
fn slow_start_begins_at_what_is_missing() {
    for (latency, share) in [(10, 0.1), (30, 0.4)] {
        let clock = ManualClock::new();
        let fleet = ten(&clock, SlowStart::default().window(1000 * SECOND));
        (0..4).for_each(|n| fail(&fleet, n, 5));
        answer(&fleet, &clock, latency * MILLI);
        probe_all(&fleet, Outcome::Success, latency * MILLI);
        fleet.maintain();
        assert!((0..4).all(|n| state(&fleet, n) == MemberState::Warming));
        let explained = fleet
            .member(&0)
            .unwrap()
            .explain()
            .slow_start_share
            .unwrap();
        assert!((explained - share).abs() < 0.01, "{latency}: {explained}");
        let picks = 20_000;
        let to_first = (0..picks).filter(|_| {
            let lease = fleet.pick_endpoint().unwrap();
            let number = number(&lease);
            lease.record(Outcome::Success);
            number == 0
        });
        // With a share of s, four of ten get 4 s of 10 - 4 (1 - s). The share seen has a standard deviation of 0.002 at
        // most.
        let expected = share / (10.0 - 4.0 * (1.0 - share));
        let seen = to_first.count() as f64 / f64::from(picks);
        assert!(
            (seen - expected).abs() < 0.01,
            "{latency}: {seen} for {expected}"
        );
    }
}

/// Ten new endpoints beside ten overloaded ones start with the least share: they do not replace missing ones.
#[test]
fn new_endpoints_do_not_replace_missing_ones() {
    let clock = ManualClock::new();
    let slow = SlowStart::default()
        .window(1000 * SECOND)
        .new_endpoints(true);
    let fleet = ten(&clock, slow);
    fleet.update(common::servers(&[1; 20])).unwrap();
    answer(&fleet, &clock, 30 * MILLI);
    let share = fleet.member(&15).unwrap().explain().slow_start_share;
    assert_eq!(share, Some(0.1));
}

/// An endpoint that is ejected again before upkeep has counted slow starts anew may be counted twice. The missing share
/// is capped at all endpoints: 1.0, not 1.7.
#[test]
fn the_missing_share_is_at_most_all_endpoints() {
    for percent in [10, 100] {
        let clock = ManualClock::new();
        let slow = SlowStart::default().window(1000 * SECOND);
        let settings = five_in_a_row()
            .max_ejection_percent(100)
            .spare_capacity_percent(percent);
        let fleet = setup(10, &clock)
            .ejection(settings)
            .slow_start(slow)
            .build()
            .unwrap();
        answer(&fleet, &clock, 10 * MILLI);
        (0..9).for_each(|n| fail(&fleet, n, 5));
        answer(&fleet, &clock, 30 * MILLI);
        probe_all(&fleet, Outcome::Success, 30 * MILLI);
        fleet.maintain();
        (0..8).for_each(|n| fail(&fleet, n, 5));
        let share = fleet
            .member(&8)
            .unwrap()
            .explain()
            .slow_start_share
            .unwrap();
        let expected = if percent == 100 { 0.1 } else { 1.0 };
        assert!((share - expected).abs() < 0.01, "{percent} %: {share}");
    }
}

/// The longest ejection of a server that fails everything, one of ten, at a thousand requests a second for 150 s.
fn longest(requests: u64) -> u128 {
    let clock = ManualClock::new();
    let settings = five_in_a_row().max_ejection_requests(requests);
    let fleet = setup(10, &clock).ejection(settings).build().unwrap();
    let mut longest = 0;
    for _ in 0..150_000 {
        clock.advance(MILLI);
        let lease = fleet.pick_endpoint().unwrap();
        if number(&lease) == 0 {
            lease.record(Outcome::Failure);
            if state(&fleet, 0) == MemberState::Ejected {
                longest = longest.max(out_for(&fleet, 0));
            }
        } else {
            lease.record(Outcome::Success);
        }
    }
    longest
}

#[test]
fn no_ejection_is_longer_than_ten_thousand_requests_and_four_times_the_base() {
    // The window covers nine to ten tenths of its length, so the rate is read up to a tenth too low, and the ejection
    // is up to a ninth too long.
    let longest_by_rate = longest(10_000);
    assert!(
        (10_000..=11_200).contains(&longest_by_rate),
        "{longest_by_rate}"
    );
    assert_eq!(longest(1), 8_000);
    assert_eq!(longest(0), 64_000);
}

/// At a hundred requests a second, 10 000 requests take 100 s, so that limit does not bind. The endpoint is the only
/// one that is out, each time.
#[test]
fn where_requests_are_few_an_ejection_doubles_past_four_times_the_base() {
    let clock = ManualClock::new();
    let fleet = ten(&clock, SlowStart::off());
    for length in [2_000, 4_000, 8_000, 16_000] {
        fail(&fleet, 0, 5);
        assert_eq!(out_for(&fleet, 0), length);
        (0..2).for_each(|_| answer(&fleet, &clock, 10 * MILLI));
        probe_all(&fleet, Outcome::Success, 10 * MILLI);
    }
}

/// Endpoints marked down are idle, so their estimates drift toward the fleet's usual latency and must not count for it.
#[test]
fn half_of_all_marked_down_do_not_hide_that_the_others_are_slow() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(exact()).build().unwrap();
    let answer = |ticks: usize, latency: Duration| {
        for _ in 0..ticks {
            for key in 0..10 {
                if fleet.member(&key).unwrap().state() == MemberState::Ready {
                    let lease = fleet.lease(&key).unwrap();
                    lease.record_with_latency(Outcome::Success, latency);
                }
            }
            clock.advance(MILLI * 100);
            fleet.maintain();
        }
    };
    answer(100, MILLI * 10);
    (0..5).for_each(|key| assert!(fleet.mark(&key, Mark::Down)));
    answer(300, MILLI * 100);
    let usual = fleet.member(&9).unwrap().explain().usual_latency.unwrap();
    assert!(usual > MILLI * 90, "{usual:?}");
}

/// The time until which an endpoint is spared is stored modulo 8192 s. An endpoint that has never asked for it is not
/// spared shortly before the wrap, and one that has is not spared again after it.
#[test]
fn no_endpoint_is_spared_again_when_the_time_wraps() {
    let clock = ManualClock::new();
    let wrap = SECOND * 8_192;
    clock.set(Tick::from_nanos((wrap - SECOND * 40).as_nanos() as u64));
    let fleet = setup(3, &clock).build().unwrap();
    let spared = |key: usize| fleet.member(&key).unwrap().explain().spared_for;
    assert_eq!(spared(0), None);
    let busy = fleet.lease(&1).unwrap();
    busy.record(Outcome::overloaded(Some(SECOND)));
    let left = spared(1).unwrap();
    // Stored in eighths of a second, rounded up.
    assert!(left >= SECOND && left <= SECOND + MILLI * 250, "{left:?}");
    clock.advance(SECOND * 2);
    fleet.maintain();
    clock.advance(wrap - SECOND * 5);
    assert_eq!(spared(1), None);
}

/// Latency is compared with the endpoint's own calm latency (while no more are out than can be spared). Where the fast
/// ones are out, the others are slower than the median of all was, but not overloaded. Endpoints that replace the set
/// have no calm latency yet, so they do not count as overloaded.
#[test]
fn the_slow_of_a_mixed_fleet_do_not_pass_for_busy() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(five_in_a_row()).build().unwrap();
    let answer = |fleet: &Fleet<Server>, own: fn(usize) -> Duration| {
        for _ in 0..100 {
            clock.advance(100 * MILLI);
            for number in fleet.members().iter().map(|member| member.endpoint().key()) {
                if state(fleet, number) == MemberState::Ready {
                    let lease = fleet.lease(&number).unwrap();
                    lease.record_with_latency(Outcome::Success, own(number));
                }
            }
            fleet.maintain();
        }
    };
    let mixed = |number| MILLI * if number < 6 { 5 } else { 25 };
    answer(&fleet, mixed);
    fail_often(&fleet, &clock, 0);
    (1..4).for_each(|n| fail(&fleet, n, 5));
    answer(&fleet, mixed);
    assert_eq!(out_for(&fleet, 0), 6_000);
    let others = (20..30).map(|key| evenkeel::Target::new(key, ()));
    fleet
        .update(
            (0..4)
                .map(|key| evenkeel::Target::new(key, ()))
                .chain(others),
        )
        .unwrap();
    (1..4).for_each(|n| fail(&fleet, n, 5));
    answer(&fleet, |_| MILLI * 100);
    fail(&fleet, 20, 5);
    assert_eq!(out_for(&fleet, 20), 2_000);
}

/// If only one of 16 endpoints is known from before, its slowness does not mean that all are overloaded; if all are
/// known, it does. Endpoints that joined while some were marked down can be overloaded like any other.
#[test]
fn many_known_baselines_decide_and_one_alone_does_not() {
    for (known, latency, is_short) in [(1, 10, false), (16, 30, true), (0, 30, true)] {
        let clock = ManualClock::new();
        let settings = five_in_a_row().spare_capacity_percent(10);
        let fleet = setup(20, &clock).ejection(settings).build().unwrap();
        let answer = |own: &dyn Fn(usize) -> u32| {
            for _ in 0..100 {
                clock.advance(100 * MILLI);
                for key in fleet.members().iter().map(|member| member.endpoint().key()) {
                    if state(&fleet, key) == MemberState::Ready {
                        let lease = fleet.lease(&key).unwrap();
                        lease.record_with_latency(Outcome::Success, MILLI * own(key));
                    }
                }
                fleet.maintain();
            }
        };
        answer(&|_| 10);
        (0..4).for_each(|key| assert!(fleet.mark(&key, Mark::Down)));
        let kept = 4 + known;
        let set = (0..kept).chain(100..116 - known);
        fleet
            .update(set.map(|key| evenkeel::Target::new(key, ())))
            .unwrap();
        if known == 0 {
            answer(&|_| 10);
        }
        // Either only the known endpoint becomes slower, or all do.
        answer(&|key| if key < kept { 30 } else { latency });
        let victim = if known == 0 { 100 } else { 4 };
        fail(&fleet, victim, 5);
        let expected = if is_short { 500 } else { 2_000 };
        assert_eq!(out_for(&fleet, victim), expected, "{known} known");
    }
}

/// An idle endpoint's latency estimate drifts toward the fleet's usual latency, which does not become its calm latency.
#[test]
fn after_an_idle_night_the_slow_of_a_mixed_fleet_do_not_pass_for_busy() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(five_in_a_row()).build().unwrap();
    let answer = |ticks: usize| {
        for _ in 0..ticks {
            clock.advance(100 * MILLI);
            for key in 0..10 {
                if state(&fleet, key) == MemberState::Ready {
                    let lease = fleet.lease(&key).unwrap();
                    let own = MILLI * if key < 6 { 5 } else { 25 };
                    lease.record_with_latency(Outcome::Success, own);
                }
            }
            fleet.maintain();
        }
    };
    answer(100);
    for _ in 0..6_000 {
        clock.advance(100 * MILLI);
        fleet.maintain();
    }
    answer(20);
    (0..4).for_each(|key| fail(&fleet, key, 5));
    answer(10);
    fail(&fleet, 4, 5);
    assert_eq!(out_for(&fleet, 4), 2_000);
}
