//! Promise: the explanation of an endpoint that is ready but gets hardly any requests says what a request there is
//! taken to cost.
#![allow(clippy::unwrap_used)]

mod common;

use common::{MILLI, SECOND, Server, fail, five_in_a_row, setup};
use evenkeel::{
    Cluster, Fleet, ManualClock, MemberId, MemberState, Outcome, PickOptions, SlowStart,
};

/// Five endpoints answer ten times a second for five seconds, each with its latency in milliseconds.
fn answer(fleet: &Fleet<Server>, clock: &ManualClock, latency: fn(usize) -> u32) {
    for _ in 0..50 {
        clock.advance(MILLI * 100);
        for key in 0..5 {
            let lease = fleet.lease(&key).unwrap();
            lease.record_with_latency(Outcome::Success, MILLI * latency(key));
        }
        fleet.maintain();
    }
}

/// A slow endpoint is eligible and still gets nothing; the explanation says why.
#[test]
fn a_slow_endpoint_costs_a_multiple_of_the_usual() {
    let clock = ManualClock::new();
    let fleet = setup(5, &clock).build().unwrap();
    answer(&fleet, &clock, |_| 10);
    let cost = fleet.member(&0).unwrap().explain().cost.unwrap();
    assert!((cost - 1.0).abs() < 0.1, "{cost}");
    answer(&fleet, &clock, |key| if key == 0 { 1_000 } else { 10 });
    let why = fleet.member(&0).unwrap().explain();
    assert!(why.is_eligible && why.cost.unwrap() > 50.0, "{why:?}");
    let line = why.to_string();
    assert!(line.contains(" times the usual; evidence 0.0"), "{line}");
    // The cost also shows an endpoint that has not answered, before it does.
    let _hangs = fleet.pick_endpoint().unwrap();
    let hung = fleet
        .members()
        .iter()
        .position(|member| member.in_flight() > 0)
        .unwrap();
    clock.advance(MILLI * 500);
    let cost = fleet.member(&hung).unwrap().explain().cost.unwrap();
    assert!((cost - 3.0).abs() < 0.3, "{cost}");
}

/// A request in flight at a slow endpoint is overdue once it has taken three times what a request costs there, as in a
/// pick. An endpoint twice as slow costs seven times the usual, so its request is not overdue after 100 ms, but after
/// 300 ms.
#[test]
fn a_slow_endpoints_request_is_overdue_by_its_own_cost() {
    let clock = ManualClock::new();
    let fleet = setup(5, &clock).build().unwrap();
    answer(&fleet, &clock, |key| if key == 0 { 20 } else { 10 });
    let cost = || fleet.member(&0).unwrap().explain().cost.unwrap();
    let members = fleet.members();
    let others: Vec<MemberId> = members[1..].iter().map(|member| member.id()).collect();
    let _hangs = fleet
        .pick_endpoint_with(&PickOptions::new().avoid(&others))
        .unwrap();
    let alone = cost();
    assert!((5.5..7.5).contains(&alone), "{alone}");
    clock.advance(MILLI * 100);
    assert_eq!(cost(), alone);
    clock.advance(MILLI * 200);
    assert_eq!(cost(), 3.0 * alone);
}

/// Just after its return an endpoint has few answers, so a latency above the usual is likely chance: twice as slow
/// costs twice the usual, not seven times.
#[test]
fn an_endpoint_on_trial_costs_in_proportion_to_its_latency() {
    let clock = ManualClock::new();
    let slow_start = SlowStart::default().window(SECOND * 60);
    let builder = setup(5, &clock)
        .ejection(five_in_a_row())
        .slow_start(slow_start);
    let fleet = builder.build().unwrap();
    answer(&fleet, &clock, |_| 10);
    fail(&fleet, 0, 5);
    clock.advance(SECOND * 2);
    while fleet.member(&0).unwrap().state() != MemberState::Warming {
        let lease = fleet.pick_endpoint().unwrap();
        lease.record_with_latency(Outcome::Success, MILLI * 10);
        clock.advance(MILLI);
    }
    answer(&fleet, &clock, |key| if key == 0 { 20 } else { 10 });
    let cost = || fleet.member(&0).unwrap().explain().cost.unwrap();
    assert!((1.5..2.2).contains(&cost()), "{}", cost());
    // Once it is no longer on trial, it costs what any endpoint would.
    clock.advance(SECOND * 60);
    answer(&fleet, &clock, |key| if key == 0 { 20 } else { 10 });
    assert!((5.5..7.5).contains(&cost()), "{}", cost());
}
