//! While more endpoints are out than the fleet can spare and the others have too much to do, they are let back sooner, and take what is
//! missing. And where requests are many, no ejection is longer than it takes for its probe to be one of very many.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::checks::each_second;
use common::{MILLI, SECOND, Server, by_row, ejected, exact, fail, number, setup, state};
use evenkeel::{
    Cluster, Endpoint, Fleet, ManualClock, Mark, MemberState, Outcome, SlowStart, Tick,
    WeightedRoundRobin,
};

/// Ten endpoints, of which one can be spared; answers take 10 ms.
fn ten(clock: &ManualClock, slow_start: SlowStart) -> Fleet<Server> {
    let fleet = setup(10, clock).policy(WeightedRoundRobin::new());
    let fleet = fleet
        .ejection(by_row())
        .slow_start(slow_start)
        .build()
        .unwrap();
    answer(&fleet, clock, 10 * MILLI);
    fleet
}

/// Each endpoint that is in answers a hundred times in ten seconds, so that this is how long it takes.
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

/// Sends a probe to each whose time is up, and ends it like this; all answers take so long.
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

/// Out after a while in which it came back some times: it has failed four times in a row.
fn fail_often(fleet: &Fleet<Server>, clock: &ManualClock, number: usize) {
    for _ in 0..3 {
        fail(fleet, number, 5);
        clock.advance(20 * SECOND);
        probe_all(fleet, Outcome::Success, 10 * MILLI);
    }
    fail(fleet, number, 5);
}

#[test]
fn while_the_others_keep_up_an_ejection_is_as_long_as_ever() {
    let clock = ManualClock::new();
    let fleet = ten(&clock, SlowStart::off());
    fail_often(&fleet, &clock, 0);
    (1..4).for_each(|n| fail(&fleet, n, 5));
    assert_eq!(out_for(&fleet, 0), 16_000);
    answer(&fleet, &clock, 19 * MILLI);
    assert_eq!(out_for(&fleet, 0), 6_000);
}

#[test]
fn where_they_have_too_much_to_do_it_is_over_soon_and_forgotten() {
    let clock = ManualClock::new();
    let fleet = ten(&clock, SlowStart::off());
    fail_often(&fleet, &clock, 0);
    (1..4).for_each(|n| fail(&fleet, n, 5));
    answer(&fleet, &clock, 30 * MILLI);
    // Of the sixteen seconds that it had, it is half as long.
    assert_eq!([0, 1, 2, 3].map(|n| out_for(&fleet, n)), [0; 4]);
    probe_all(&fleet, Outcome::Success, 30 * MILLI);
    assert_eq!(ejected(&fleet), []);
    // Once nobody is missing they begin anew, but for the last of them, which can be spared.
    answer(&fleet, &clock, 10 * MILLI);
    let times = [0, 1, 2, 3].map(|n| fleet.member(&n).unwrap().explain().times);
    assert_eq!(
        times.iter().filter(|&&times| times == 0).count(),
        3,
        "{times:?}"
    );
}

/// But not before it wants to be asked again.
#[test]
fn who_asked_to_be_spared_is_left_alone() {
    let clock = ManualClock::new();
    let fleet = ten(&clock, SlowStart::off());
    (0..4).for_each(|n| fail(&fleet, n, 5));
    clock.advance(2 * SECOND);
    probe_all(&fleet, Outcome::overloaded(Some(15 * SECOND)), 10 * MILLI);
    answer(&fleet, &clock, 30 * MILLI);
    assert_eq!([0, 1, 2, 3].map(|n| out_for(&fleet, n)), [5_000; 4]);
}

/// The checks that bring one back are spread over a quarter of the base ejection time then.
#[test]
fn checks_bring_back_sooner_whom_the_others_miss() {
    let back_after = |latency| {
        let clock = ManualClock::new();
        let builder = setup(10, &clock).ejection(by_row().healthy_threshold(5));
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

/// A quarter of the base time, and half of the usual for each probe that fails.
#[test]
fn who_fails_then_is_out_for_a_quarter_and_then_for_halves() {
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
    let generous = by_row().spare_capacity_percent(100);
    let fleet = setup(10, &clock).ejection(generous).build().unwrap();
    answer(&fleet, &clock, 10 * MILLI);
    (1..4).for_each(|n| fail(&fleet, n, 5));
    answer(&fleet, &clock, 100 * MILLI);
    fail(&fleet, 0, 5);
    assert_eq!(out_for(&fleet, 0), 2_000);
}

/// Of ten, four come back at once while the others have too much to do: each begins with two fifths of its share, not with a tenth; and
/// with a tenth if they have not.
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
        // With a share s, four of ten get 4 s of 10 - 4 (1 - s). A deviation of the share seen is at most 0.002.
        let expected = share / (10.0 - 4.0 * (1.0 - share));
        let seen = to_first.count() as f64 / f64::from(picks);
        assert!(
            (seen - expected).abs() < 0.01,
            "{latency}: {seen} for {expected}"
        );
    }
}

/// Ten more beside ten that have too much to do come to their share step by step all the same: nobody is missing.
#[test]
fn the_new_are_more_than_there_were() {
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

/// Who is ejected anew before upkeep has counted is not two that are missing.
#[test]
fn nobody_is_missing_twice() {
    for percent in [10, 100] {
        let clock = ManualClock::new();
        let slow = SlowStart::default().window(1000 * SECOND);
        let settings = by_row()
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

/// The longest ejection of one of ten that fails all, at a thousand requests a second for two and a half minutes.
fn longest(requests: u64) -> u128 {
    let clock = ManualClock::new();
    let settings = by_row().max_ejection_requests(requests);
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
    // The window holds nine to ten tenths of its length, so the rate is read up to a tenth too low.
    let longest_by_rate = longest(10_000);
    assert!(
        (10_000..=11_200).contains(&longest_by_rate),
        "{longest_by_rate}"
    );
    assert_eq!(longest(1), 8_000);
    assert_eq!(longest(0), 64_000);
}

/// A hundred requests a second would make ten thousand in 100 s; it is the only one that is out, each time.
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

/// Those marked down are idle, so what is known of them drifts to what is usual: it must not be what is.
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

/// What is kept of it wraps after 8192 s: who has never asked for it is not spared shortly before, nor who has once again after.
#[test]
fn nobody_is_spared_again_when_the_time_wraps() {
    let clock = ManualClock::new();
    let wrap = SECOND * 8_192;
    clock.set(Tick::from_nanos((wrap - SECOND * 40).as_nanos() as u64));
    let fleet = setup(3, &clock).build().unwrap();
    let spared = |key: usize| fleet.member(&key).unwrap().explain().spared_for;
    assert_eq!(spared(0), None);
    let busy = fleet.lease(&1).unwrap();
    busy.record(Outcome::overloaded(Some(SECOND)));
    let left = spared(1).unwrap();
    // Kept in parts of a second.
    assert!(left >= SECOND && left <= SECOND + MILLI * 250, "{left:?}");
    clock.advance(SECOND * 2);
    fleet.maintain();
    clock.advance(wrap - SECOND * 5);
    assert_eq!(spared(1), None);
}

/// Of each endpoint its own calm counts: where the quick are out the others are slower than the middle of all was, and none of them has more to
/// do. Nor is anything known of those that take the place of all.
#[test]
fn the_slow_of_a_mixed_fleet_do_not_pass_for_busy() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(by_row()).build().unwrap();
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

/// Of 16 that are left one is known from before: that it is slower does not say that all have too much to do. And those that came while
/// some were marked down may have too much to do like any other.
#[test]
fn those_known_in_calm_decide_and_not_one_of_them() {
    for (known, latency, is_short) in [(1, 10, false), (16, 30, true), (0, 30, true)] {
        let clock = ManualClock::new();
        let settings = by_row().spare_capacity_percent(10);
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
        // Only the one that is known is slower, or all are.
        answer(&|key| if key < kept { 30 } else { latency });
        let victim = if known == 0 { 100 } else { 4 };
        fail(&fleet, victim, 5);
        let expected = if is_short { 500 } else { 2_000 };
        assert_eq!(out_for(&fleet, victim), expected, "{known} known");
    }
}

/// What is known of one that is idle drifts to what is usual, and is not what is calm there.
#[test]
fn after_an_idle_night_the_slow_of_a_mixed_fleet_do_not_pass_for_busy() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).ejection(by_row()).build().unwrap();
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
