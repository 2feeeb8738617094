//! Promise: a fleet reports what happens as events, each once, in order, and within the configured capacity.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{SECOND, Server, ejected, exact, servers, setup};
use evenkeel::{
    Cluster, Detector, Ejection, EventKind, Fleet, FleetBuilder, ManualClock, Mark, MemberState,
    Outcome, Return, SlowStart, Tick,
};

/// Ten servers that need one successful probe to return; up to 64 events are kept.
fn watched(clock: &ManualClock) -> FleetBuilder<Server> {
    setup(10, clock).ejection(quick()).events(64)
}

fn quick() -> Ejection {
    exact().healthy_threshold(1)
}

fn eject(fleet: &Fleet<Server>, number: usize) {
    while !ejected(fleet).contains(&number) {
        fleet.lease(&number).unwrap().record(Outcome::Unreachable);
    }
}

fn probe(fleet: &Fleet<Server>, number: usize, outcome: Outcome) {
    let probe = fleet.lease(&number).unwrap();
    assert!(probe.is_probe());
    probe.record(outcome);
}

/// The pending events as lines, each after its time.
fn event_lines(fleet: &Fleet<Server>) -> Vec<String> {
    let events = fleet.take_events();
    let line = |event: &evenkeel::Event<usize>| {
        let at = Duration::from_nanos(event.at.as_nanos());
        format!("{at:?} {event}")
    };
    events.iter().map(line).collect()
}

fn slow_start_over(fleet: &Fleet<Server>, clock: &ManualClock) {
    clock.advance(SECOND * 5);
    fleet.maintain();
}

#[test]
fn an_ejection_its_probes_and_its_return_are_told_in_order() {
    let clock = ManualClock::new();
    let fleet = watched(&clock).build().unwrap();
    assert!(fleet.take_events().is_empty());
    clock.advance(SECOND);
    eject(&fleet, 3);
    clock.advance(SECOND * 2);
    probe(&fleet, 3, Outcome::Failure);
    clock.advance(SECOND * 4);
    probe(&fleet, 3, Outcome::Success);
    slow_start_over(&fleet, &clock);
    let expected = [
        "1s 3 ejected by the sequential test for 2.0s",
        "3s 3 still out after a bad probe, for 4.0s, 2nd time in a row",
        "7s 3 back after good probes",
        "7s 3 slow start begins",
        "12s 3 slow start is over",
    ];
    assert_eq!(event_lines(&fleet), expected);
    assert!(fleet.take_events().is_empty(), "each is told once");
}

#[test]
fn an_event_carries_its_member_and_the_key_while_there_is_one() {
    let clock = ManualClock::new();
    let fleet = watched(&clock).build().unwrap();
    let id = fleet.member(&3).unwrap().id();
    eject(&fleet, 3);
    let event = fleet.take_events().pop().unwrap();
    assert_eq!((event.member, event.key), (Some(id), Some(3)));
    let until = Tick::from_nanos(2_000_000_000);
    let EventKind::Ejected {
        detector,
        times,
        until: told_until,
        ..
    } = event.kind
    else {
        panic!("{event:?}");
    };
    let expected = (Some(Detector::Cusum), 1, until);
    assert_eq!((detector, times, told_until), expected);

    eject(&fleet, 4);
    let four = fleet.member(&4).unwrap().id();
    assert!(fleet.remove(&4));
    let event = fleet.take_events().pop().unwrap();
    assert_eq!((event.member, event.key), (Some(four), None));
    assert!(event.to_string().starts_with(&format!("{four} ejected")));
    // The ejection was remembered: the new incarnation is ejected for the same reason.
    fleet.insert(servers(&[1; 5]).pop().unwrap()).unwrap();
    let event = fleet.take_events().pop().unwrap();
    assert_eq!(event.key, Some(4));
    assert_ne!(event.member, Some(four));
    assert!(
        event
            .to_string()
            .starts_with("4 ejected by the sequential test")
    );
}

#[test]
fn panic_begins_and_is_over_once() {
    let clock = ManualClock::new();
    let fleet = watched(&clock).build().unwrap();
    (0..6).for_each(|number| assert!(fleet.mark(&number, Mark::Down)));
    assert!(fleet.mark(&0, Mark::Auto) && fleet.mark(&0, Mark::Down));
    assert!(fleet.mark(&0, Mark::Auto) && fleet.mark(&1, Mark::Auto));
    let expected = [
        "0ns panic begins: 4 of 10 are eligible",
        "0ns panic is over: 6 of 10 are eligible",
    ];
    assert_eq!(event_lines(&fleet), expected);
    // An update changes the number of members, and with it whether the fleet panics.
    assert_eq!(fleet.update(servers(&[1; 6])).unwrap().removed, 4);
    assert_eq!(
        event_lines(&fleet),
        ["0ns panic begins: 2 of 6 are eligible"]
    );
    fleet.update(servers(&[1; 10])).unwrap();
    assert_eq!(
        event_lines(&fleet),
        ["0ns panic is over: 6 of 10 are eligible"]
    );
}

#[test]
fn a_pardon_and_a_mark_are_told_from_a_probe() {
    let clock = ManualClock::new();
    let fleet = watched(&clock).slow_start(SlowStart::off());
    let fleet = fleet.build().unwrap();
    (0..3).for_each(|number| {
        clock.advance(SECOND / 10);
        eject(&fleet, number);
    });
    assert_eq!(fleet.take_events().len(), 3);
    // Of five, two may be ejected: the one ejected first returns.
    fleet.update(servers(&[1; 5])).unwrap();
    assert!(fleet.mark(&1, Mark::Up));
    let kinds: Vec<_> = fleet
        .take_events()
        .into_iter()
        .map(|it| (it.key, it.kind))
        .collect();
    let by = |it: &EventKind| match it {
        EventKind::Returned { by, .. } => Some(*by),
        _ => None,
    };
    let returns: Vec<_> = kinds.iter().map(|(key, kind)| (*key, by(kind))).collect();
    let expected = [
        (Some(0), Some(Return::Pardon)),
        (Some(1), Some(Return::Mark)),
    ];
    assert_eq!(returns, expected, "{kinds:?}");
}

/// Two of five may be ejected. While an ejected endpoint has weight 0, or is removed, others take both places, so its
/// ejection cannot resume. A reader of events that sees no return would count it as ejected from then on.
#[test]
fn an_ejection_that_cannot_resume_for_the_cap_is_told_as_over() {
    type Away = fn(&Fleet<Server>);
    let of_weight_0: Away = |fleet| {
        fleet.insert(Server::new(0, ()).with_weight(0)).unwrap();
    };
    let removed: Away = |fleet| assert!(fleet.remove(&0));
    for away in [of_weight_0, removed] {
        let clock = ManualClock::new();
        let fleet = setup(5, &clock).ejection(quick()).events(64);
        let fleet = fleet.build().unwrap();
        eject(&fleet, 0);
        away(&fleet);
        (1..3).for_each(|number| eject(&fleet, number));
        assert_eq!(fleet.take_events().len(), 3);
        fleet.insert(Server::new(0, ())).unwrap();
        assert_eq!(ejected(&fleet), [1, 2]);
        let expected = [
            "0ns 0 back, as the cap leaves no room for it",
            "0ns 0 slow start begins",
        ];
        assert_eq!(event_lines(&fleet), expected);
    }
}

#[test]
fn an_ejection_that_resumes_after_its_time_waits_for_its_probe() {
    let clock = ManualClock::new();
    let fleet = watched(&clock).build().unwrap();
    eject(&fleet, 0);
    fleet.insert(Server::new(0, ()).with_weight(0)).unwrap();
    clock.advance(SECOND * 3);
    fleet.insert(Server::new(0, ())).unwrap();
    let expected = [
        "0ns 0 ejected by the sequential test for 2.0s",
        "3s 0 ejected by the sequential test, a probe is due",
    ];
    assert_eq!(event_lines(&fleet), expected);
    assert_eq!(fleet.stats().ejections, 1, "it is the same ejection");
}

/// A mark that was set while an ejected endpoint had weight 0 ends the ejection once the weight returns.
#[test]
fn an_ejection_that_cannot_resume_for_a_mark_is_told_as_over() {
    for mark in [Mark::Up, Mark::Down] {
        let clock = ManualClock::new();
        let fleet = watched(&clock).build().unwrap();
        eject(&fleet, 0);
        fleet.insert(Server::new(0, ()).with_weight(0)).unwrap();
        assert!(fleet.mark(&0, mark));
        assert_eq!(fleet.take_events().len(), 1, "the ejection");
        fleet.insert(Server::new(0, ())).unwrap();
        let expected = ["0ns 0 not ejected any more, as it is marked"];
        assert_eq!(event_lines(&fleet), expected);
        assert!(fleet.mark(&0, Mark::Auto));
        assert_eq!((ejected(&fleet), event_lines(&fleet)), (vec![], vec![]));
    }
}

/// What is inserted after a drain is another process, and an ejection is forgotten a minute after the removal: then
/// neither an ejection nor a return is told.
#[test]
fn an_ejection_that_is_forgotten_is_not_told_again() {
    type Away = fn(&Fleet<Server>, &ManualClock);
    let drained: Away = |fleet, _| assert!(fleet.drain(&0).is_some() && fleet.remove(&0));
    let of_weight_0_and_drained: Away = |fleet, _| {
        fleet.insert(Server::new(0, ()).with_weight(0)).unwrap();
        assert!(fleet.drain(&0).is_some() && fleet.remove(&0));
    };
    let long_removed: Away = |fleet, clock| {
        assert!(fleet.remove(&0));
        clock.advance(SECOND * 61);
    };
    for away in [drained, of_weight_0_and_drained, long_removed] {
        let clock = ManualClock::new();
        let fleet = watched(&clock).build().unwrap();
        eject(&fleet, 0);
        away(&fleet, &clock);
        assert!(!fleet.take_events().is_empty());
        fleet.insert(Server::new(0, ())).unwrap();
        assert_eq!((ejected(&fleet), event_lines(&fleet)), (vec![], vec![]));
    }
}

#[test]
fn a_drain_is_told_when_it_begins_and_when_the_last_request_has_ended() {
    let clock = ManualClock::new();
    let fleet = watched(&clock).build().unwrap();
    let leases: Vec<_> = (0..3).map(|_| fleet.lease(&2).unwrap()).collect();
    drop(fleet.drain(&2));
    drop(fleet.drain(&2));
    assert_eq!(event_lines(&fleet), ["0ns 2 drain begins"]);
    for (number, lease) in leases.into_iter().enumerate() {
        clock.advance(SECOND);
        match number {
            0 => lease.record(Outcome::Success),
            1 => drop(lease),
            _ => {
                assert!(fleet.take_events().is_empty());
                lease.record(Outcome::Failure);
            }
        }
    }
    assert_eq!(event_lines(&fleet), ["3s 2 drained"]);
    // With nothing in flight the drain ends at once. A second drain reports nothing.
    drop(fleet.drain(&5));
    drop(fleet.drain(&5));
    assert_eq!(event_lines(&fleet), ["3s 5 drain begins", "3s 5 drained"]);
    // A removed endpoint's last request ends no drain.
    let lease = fleet.lease(&6).unwrap();
    assert!(fleet.remove(&6));
    lease.record(Outcome::Success);
    assert!(fleet.take_events().is_empty());
}

#[test]
fn a_new_endpoint_that_starts_slowly_is_told() {
    let clock = ManualClock::new();
    let slow = SlowStart::default().new_endpoints(true);
    let fleet = watched(&clock).slow_start(slow).build().unwrap();
    assert!(fleet.take_events().is_empty(), "there is nobody else");
    fleet.insert(servers(&[1; 11]).pop().unwrap()).unwrap();
    slow_start_over(&fleet, &clock);
    let expected = ["0ns 10 slow start begins", "5s 10 slow start is over"];
    assert_eq!(event_lines(&fleet), expected);
}

#[test]
fn events_that_find_the_queue_full_are_dropped_and_counted() {
    let clock = ManualClock::new();
    let fleet = watched(&clock).events(3).build().unwrap();
    (0..5).for_each(|number| eject(&fleet, number));
    let keys: Vec<_> = fleet
        .take_events()
        .into_iter()
        .filter_map(|it| it.key)
        .collect();
    assert_eq!(keys, [0, 1, 2, 3], "rounded up to four, and the first stay");
    assert_eq!(fleet.stats().events_dropped, 1);
    // There is room again.
    assert!(fleet.mark(&0, Mark::Up));
    assert_eq!(fleet.take_events().len(), 1);
    assert_eq!(fleet.stats().events_dropped, 1);
}

#[test]
fn by_default_no_event_is_kept() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).build().unwrap();
    (0..5).for_each(|number| eject(&fleet, number));
    assert!(fleet.take_events().is_empty());
    assert_eq!(fleet.stats().events_dropped, 0);
}

/// Threads eject and return endpoints while another takes events: ejections and returns match the statistics, and
/// nothing is lost.
#[test]
fn nothing_is_lost_or_told_twice_while_threads_race() {
    let clock = ManualClock::new();
    let ejection = quick().max_ejection_percent(100);
    let fleet = setup(8, &clock).ejection(ejection).events(1 << 16);
    let fleet = fleet.panic_threshold_percent(50).build().unwrap();
    let mut events = Vec::new();
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..8)
            .map(|number| {
                let (fleet, clock) = (&fleet, &clock);
                scope.spawn(move || {
                    for _ in 0..200 {
                        eject(fleet, number);
                        clock.advance(SECOND * 100);
                        let back = fleet.lease(&number).unwrap();
                        back.record(Outcome::Success);
                    }
                })
            })
            .collect();
        while working.iter().any(|thread| !thread.is_finished()) {
            events.extend(fleet.take_events());
        }
    });
    events.extend(fleet.take_events());
    let stats = fleet.stats();
    let count =
        |wanted: fn(&EventKind) -> bool| events.iter().filter(|it| wanted(&it.kind)).count() as u64;
    let ejections = count(|kind| matches!(kind, EventKind::Ejected { .. }));
    let returns = count(|kind| matches!(kind, EventKind::Returned { .. }));
    assert_eq!(stats.events_dropped, 0);
    // By endpoint: a lost event of one does not make up for a doubled one of another.
    for member in fleet.members() {
        let own = events.iter().filter(|it| it.member == Some(member.id()));
        let balance: i32 = own
            .map(|it| match it.kind {
                EventKind::Ejected { .. } => 1,
                EventKind::Returned { .. } => -1,
                _ => 0,
            })
            .sum();
        let is_out = matches!(member.state(), MemberState::Ejected | MemberState::Probing);
        assert_eq!(balance, i32::from(is_out), "{member:?}");
    }
    assert_eq!(ejections, stats.ejections);
    assert_eq!(ejections - returns, stats.ejected as u64);
    let begun = count(|kind| matches!(kind, EventKind::PanicBegun { .. }));
    let over = count(|kind| matches!(kind, EventKind::PanicOver { .. }));
    assert_eq!(begun - over, u64::from(stats.panicking));
    assert!(fleet.pick_endpoint().is_ok());
}
