//! While more endpoints are out than the fleet can spare, they are let back sooner, and take what is missing. And where requests are
//! many, no ejection is longer than it takes for its probe to be one of very many.
#![allow(clippy::unwrap_used)]

mod common;

use common::{MILLI, SECOND, Server, by_row, ejected, fail, number, setup, state};
use evenkeel::{Cluster, Fleet, ManualClock, MemberState, Outcome, SlowStart, WeightedRoundRobin};

/// Ten endpoints, of which one can be spared.
fn ten(clock: &ManualClock) -> Fleet<Server> {
    setup(10, clock).ejection(by_row()).build().unwrap()
}

/// Sends one probe to each whose time is up, and ends it like this.
fn probe_all(fleet: &Fleet<Server>, outcome: Outcome) {
    for _ in 0..200 {
        let lease = fleet.pick_endpoint().unwrap();
        let is_probe = lease.is_probe();
        lease.record(if is_probe { outcome } else { Outcome::Success });
    }
}

fn out_for(fleet: &Fleet<Server>, number: usize) -> u128 {
    let member = fleet.member(&number).unwrap();
    member.explain().until.unwrap().as_millis()
}

#[test]
fn one_is_out_for_the_base_time_and_those_beyond_for_a_quarter() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    (0..3).for_each(|n| fail(&fleet, n, 5));
    assert_eq!([0, 1, 2].map(|n| out_for(&fleet, n)), [2_000, 500, 500]);
}

#[test]
fn those_that_fail_their_probes_are_out_for_half_as_long_as_one_would_be() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    (0..3).for_each(|n| fail(&fleet, n, 5));
    for half in [2_000, 4_000, 8_000] {
        clock.advance(clock_step(&fleet, 2));
        probe_all(&fleet, Outcome::Failure);
        assert_eq!(out_for(&fleet, 2), half);
    }
}

fn clock_step(fleet: &Fleet<Server>, number: usize) -> std::time::Duration {
    MILLI * u32::try_from(out_for(fleet, number)).unwrap()
}

/// What has been ejected before counts for one that is out alone, and not where many are.
#[test]
fn who_fails_again_with_many_others_begins_anew() {
    let clock = ManualClock::new();
    let fleet = ten(&clock);
    for _ in 0..3 {
        (0..4).for_each(|n| fail(&fleet, n, 5));
        assert_eq!([1, 2, 3].map(|n| out_for(&fleet, n)), [500; 3]);
        clock.advance(10 * SECOND);
        probe_all(&fleet, Outcome::Success);
        assert_eq!(ejected(&fleet), []);
    }
    // The first of each time counted those before.
    fail(&fleet, 0, 5);
    assert_eq!(out_for(&fleet, 0), 16_000);
}

#[test]
fn nothing_is_shorter_where_all_can_be_spared() {
    let clock = ManualClock::new();
    let generous = by_row().spare_capacity_percent(100);
    let fleet = setup(10, &clock).ejection(generous).build().unwrap();
    (0..5).for_each(|n| fail(&fleet, n, 5));
    assert_eq!([0, 4].map(|n| out_for(&fleet, n)), [2_000, 2_000]);
}

/// Of ten, four come back at once: each begins with two fifths of its share, not with a tenth; and one that comes back alone
/// with a tenth.
#[test]
fn slow_start_begins_at_what_is_missing() {
    let clock = ManualClock::new();
    let slow = SlowStart::default().window(100 * SECOND);
    let build = || {
        let fleet = setup(10, &clock).policy(WeightedRoundRobin::new());
        fleet.ejection(by_row()).slow_start(slow.clone()).build()
    };
    let returned = |count| {
        let fleet = build().unwrap();
        (0..count).for_each(|n| fail(&fleet, n, 5));
        clock.advance(2 * SECOND);
        probe_all(&fleet, Outcome::Success);
        fleet.maintain();
        assert!((0..count).all(|n| state(&fleet, n) == MemberState::Warming));
        fleet
    };
    for (count, share) in [(1, 0.1), (4, 0.4)] {
        let fleet = returned(count);
        let explained = fleet
            .member(&0)
            .unwrap()
            .explain()
            .slow_start_share
            .unwrap();
        assert!((explained - share).abs() < 0.01, "{count}: {explained}");
        let picks = 20_000;
        let to_first = (0..picks).filter(|_| {
            let lease = fleet.pick_endpoint().unwrap();
            let number = number(&lease);
            lease.record(Outcome::Success);
            number == 0
        });
        // With a share s, c of ten get c s of 10 - c (1 - s). A deviation of the share seen is at most 0.002.
        let expected = share / (10.0 - count as f64 * (1.0 - share));
        let seen = to_first.count() as f64 / picks as f64;
        assert!(
            (seen - expected).abs() < 0.02,
            "{count}: {seen} for {expected}"
        );
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
