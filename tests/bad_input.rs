//! Promise: no value brings a fleet down: bad values are refused with a typed error or made harmless.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{
    MILLI, SECOND, Server, ejected, exact, fail, number, policies, probe, sequence, servers, setup,
    shares, state,
};
use evenkeel::{
    Alarm, BuildError, Clock, Cluster, Ejection, Endpoint, Fleet, Health, HealthTracker, Judging,
    ManualClock, MemberId, MemberState, Outcome, PickError, PickOptions, Sample, Target, Tick,
    UpdateError,
};

fn ids(fleet: &Fleet<Server>) -> Vec<MemberId> {
    fleet.members().iter().map(|member| member.id()).collect()
}

#[test]
fn a_duplicate_key_is_refused_and_nothing_is_lost() {
    let fleet = setup(4, &ManualClock::new()).build().unwrap();
    let lease = fleet.lease(&0).unwrap();
    fail(&fleet, 1, 5);
    let before = ids(&fleet);

    let doubled = servers(&[9, 9]).into_iter().chain(servers(&[9]));
    let error = fleet.update(doubled).unwrap_err();
    assert!(
        matches!(&error, UpdateError::DuplicateKey { key, .. } if key == "0"),
        "{error:?}"
    );
    assert_eq!(ids(&fleet), before);
    assert!(fleet.members().iter().all(|m| m.weight().get() == 1));
    assert_eq!(fleet.stats().in_flight, 1);
    assert_eq!(ejected(&fleet), [1]);
    lease.record(Outcome::Success);
    assert_eq!(fleet.stats().in_flight, 0);
}

#[test]
fn a_duplicate_key_in_the_initial_set_is_a_build_error() {
    let doubled = servers(&[1, 1]).into_iter().chain(servers(&[1]));
    let error = Fleet::builder().endpoints(doubled).build().unwrap_err();
    assert!(matches!(
        error,
        BuildError::Update(UpdateError::DuplicateKey { .. })
    ));
}

/// A key whose `Debug` output contains terminal control sequences.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Hostile;

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a\r\n2026 ERROR forged \x1b[2J\u{9b}0m\u{7f}")?;
        f.write_str(&"x".repeat(1 << 16))
    }
}

#[test]
fn a_hostile_key_does_not_get_control_characters_into_the_message() {
    let twice = [Target::new(Hostile, ()), Target::new(Hostile, ())];
    let error = Fleet::builder().endpoints(twice).build().unwrap_err();
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.contains("forged") && text.len() < 600, "{text}");
    }
}

#[test]
fn a_key_breaks_no_line_of_an_event() {
    let one = [Target::new(Hostile, ())];
    let builder = Fleet::builder().endpoints(one).events(2);
    let fleet = builder.build().unwrap();
    drop(fleet.drain(&Hostile));
    let event = fleet.take_events().pop().unwrap();
    assert!(event.key.is_some());
    let text = event.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.contains("forged") && text.len() < 400, "{text}");
}

#[test]
fn weights_of_zero_everywhere_are_all_draining_until_an_update_heals_it() {
    for (name, policy) in policies() {
        let fleet = setup(3, &ManualClock::new()).policy(policy);
        let fleet = fleet.build().unwrap();
        fleet.update(servers(&[0, 0, 0])).unwrap();
        let error = fleet.pick_endpoint().unwrap_err();
        assert_eq!(error, PickError::AllDraining, "{name}");
        fleet.update(servers(&[0, 1, 0])).unwrap();
        assert_eq!(sequence(&fleet, 10), [1; 10], "{name}");
    }
}

#[test]
fn no_endpoints_are_empty_until_an_update_heals_it() {
    for (name, policy) in policies() {
        let fleet = Fleet::builder().policy(policy).build().unwrap();
        assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Empty);
        fleet.update(servers(&[1])).unwrap();
        assert_eq!(sequence(&fleet, 3), [0; 3], "{name}");
        fleet.update([]).unwrap();
        assert_eq!(fleet.pick_endpoint().unwrap_err(), PickError::Empty);
        fleet.maintain();
    }
}

#[test]
fn a_hundred_thousand_endpoints_work() {
    let many = || (0..100_000).map(|number| Target::new(number, ()));
    let fleet: Fleet<Server> = Fleet::builder().endpoints(many()).seed(1).build().unwrap();
    assert_eq!(fleet.stats().routable, 100_000);
    sequence(&fleet, 1000);
    let changes = fleet.update(many().skip(1)).unwrap();
    assert_eq!((changes.removed, changes.updated), (1, 99_999));
    assert!(fleet.remove(&50_000) && !fleet.remove(&50_000));
    assert_eq!(fleet.insert(Target::new(0, ())).unwrap().added, 1);
    for number in [0, 1, 49_999, 50_001, 99_999] {
        assert_eq!(fleet.lease(&number).unwrap().endpoint().key(), number);
    }
    fleet.maintain();
    assert_eq!(fleet.stats().members, 99_999);
}

#[test]
fn ten_thousand_of_the_heaviest_weight_do_not_overflow() {
    let weights = [u32::MAX; 10_000];
    for (name, policy) in policies() {
        let fleet = Fleet::builder().endpoints(servers(&weights)).policy(policy);
        let fleet = fleet.seed(1).build().unwrap();
        let seen = shares(&fleet, &PickOptions::new(), weights.len(), 16, 200);
        // The picks spread out: 200 picks of 10 000 endpoints coincide a few times at most.
        assert!(
            seen.iter().filter(|&&seen| seen > 0).count() > 150,
            "{name}"
        );
    }
}

#[test]
fn more_than_a_million_endpoints_are_refused_and_no_more_are_asked_for() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let endless = || {
        ASKED.store(0, Ordering::Relaxed);
        std::iter::repeat_with(|| Target::new(ASKED.fetch_add(1, Ordering::Relaxed), ()))
    };
    let fleet = setup(2, &ManualClock::new()).build().unwrap();
    let error = fleet.update(endless()).unwrap_err();
    assert!(matches!(
        error,
        UpdateError::TooManyEndpoints {
            limit: 1_000_000,
            ..
        }
    ));
    assert_eq!(ASKED.load(Ordering::Relaxed), 1_000_001);
    assert_eq!(fleet.stats().members, 2);

    let error = Fleet::builder().endpoints(endless()).build().unwrap_err();
    assert!(matches!(
        error,
        BuildError::Update(UpdateError::TooManyEndpoints { .. })
    ));
    assert_eq!(ASKED.load(Ordering::Relaxed), 1_000_001);
}

/// A tracker whose score is out of range. `Health::score` is public, so it bypasses the clamp in `Health::new`.
#[derive(Debug)]
struct Raw(f64);

impl HealthTracker for Raw {
    fn record(&self, _: &Sample, _: &Judging<'_>) -> Alarm {
        Alarm::None
    }
    fn health(&self, _: &Judging<'_>) -> Health {
        let mut health = Health::new(1.0, u64::MAX);
        health.score = self.0;
        health
    }
}

#[test]
fn scores_that_are_no_scores_are_made_harmless() {
    let table = [
        (f64::NAN, 1.0, 0),
        (-f64::NAN, 1.0, 0),
        (f64::INFINITY, 1.0, 0),
        (f64::MAX, 1.0, 0),
        (f64::NEG_INFINITY, 0.0, 2),
        (-1.0, 0.0, 2),
    ];
    for (raw, score, out) in table {
        let fleet = setup(4, &ManualClock::new()).tracker(move |_| Raw(raw));
        let fleet = fleet.build().unwrap();
        fleet.maintain();
        for member in fleet.members() {
            assert_eq!(member.score(), score, "{raw}");
        }
        assert_eq!(fleet.stats().ejected, out, "{raw}");
        sequence(&fleet, 10);
    }
}

#[test]
fn a_clock_that_goes_back_measures_nothing_and_ejects_no_endpoint() {
    let clock = ManualClock::new();
    clock.set(Tick::from_nanos(3_600_000_000_000));
    let fleet = setup(4, &clock).build().unwrap();
    for back in 1..=40u64 {
        let lease = fleet.lease(&0).unwrap();
        clock.set(Tick::from_nanos(
            clock.now().as_nanos() - back * 1_000_000_000,
        ));
        if back % 2 == 0 {
            lease.record(Outcome::Success);
        } else {
            // Dropped after no measurable time, so it says nothing.
            drop(lease);
        }
        fleet.maintain();
    }
    assert_eq!(fleet.members()[0].latency(), None);
    assert_eq!(ejected(&fleet), [0; 0]);
}

#[test]
fn the_longest_duration_as_a_latency_is_cut_to_five_minutes() {
    let fleet = setup(2, &ManualClock::new()).build().unwrap();
    let latency = || fleet.members()[0].latency().unwrap();
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Abandoned] {
        let lease = fleet.lease(&0).unwrap();
        lease.record_with_latency(outcome, Duration::MAX);
        let latency = latency();
        assert!(latency.as_secs().abs_diff(300) <= 1, "{latency:?}");
    }
    fleet.maintain();
    sequence(&fleet, 10);
    assert!(latency() <= Duration::from_secs(301), "{:?}", latency());
}

#[test]
fn the_longest_duration_as_the_patience_is_never() {
    let clock = ManualClock::new();
    let fleet = setup(2, &clock).patience(Duration::MAX).build().unwrap();
    let leases: Vec<_> = (0..100).map(|_| fleet.lease(&0).unwrap()).collect();
    clock.advance(Duration::MAX);
    drop(leases);
    fleet.maintain();
    assert_eq!(ejected(&fleet), [0; 0]);
}

#[test]
fn a_setting_out_of_range_is_refused_by_field_and_value() {
    let with = |ejection: Ejection| Fleet::<Server>::builder().ejection(ejection).build();
    let most = Duration::MAX;
    let day_and_more = Duration::from_millis(86_400_001);
    let table = [
        (with(exact().window(most)), "Ejection::window", most),
        (
            with(exact().window(MILLI * 99)),
            "Ejection::window",
            MILLI * 99,
        ),
        (
            with(exact().base_ejection_time(most)),
            "Ejection::base_ejection_time",
            most,
        ),
        (
            with(exact().base_ejection_time(Duration::ZERO)),
            "Ejection::base_ejection_time",
            Duration::ZERO,
        ),
        (
            with(exact().max_ejection_time(most)),
            "Ejection::max_ejection_time",
            most,
        ),
        (
            with(exact().probe_timeout(most)),
            "Ejection::probe_timeout",
            most,
        ),
        (
            with(exact().probe_timeout(day_and_more)),
            "Ejection::probe_timeout",
            day_and_more,
        ),
        (
            Fleet::builder().patience(Duration::ZERO).build(),
            "FleetBuilder::patience",
            Duration::ZERO,
        ),
    ];
    let table = table.map(|(built, field, value)| (built, field, format!("{value:?}")));
    let numbers = [
        (
            with(exact().score_threshold(f64::NAN)),
            "Ejection::score_threshold",
            "NaN",
        ),
        (
            with(exact().score_threshold(1.1)),
            "Ejection::score_threshold",
            "1.1",
        ),
        (
            with(exact().jitter_percent(101)),
            "Ejection::jitter_percent",
            "101",
        ),
        (
            with(exact().spare_capacity_percent(101)),
            "Ejection::spare_capacity_percent",
            "101",
        ),
        (
            with(exact().max_ejection_percent(u32::MAX)),
            "Ejection::max_ejection_percent",
            "4294967295",
        ),
        (
            Fleet::builder().panic_threshold_percent(101).build(),
            "PanicRule::threshold_percent",
            "101",
        ),
    ];
    let numbers = numbers.map(|(built, field, value)| (built, field, value.to_string()));
    for (built, expected, shown) in table.into_iter().chain(numbers) {
        match built {
            Err(BuildError::Setting { field, value, .. }) => {
                assert_eq!((field, value), (expected, shown));
            }
            other => panic!("{expected} = {shown} gave {other:?}"),
        }
    }
}

#[test]
fn avoiding_all_endpoints_and_avoiding_unknown_ones_differ() {
    let fleet = setup(3, &ManualClock::new()).build().unwrap();
    let strangers = ids(&setup(3, &ManualClock::new()).build().unwrap());
    let pick = |avoid: &[MemberId]| {
        let lease = fleet.pick_endpoint_with(&PickOptions::new().avoid(avoid));
        lease.map(|lease| number(&lease))
    };
    assert!(pick(&strangers).is_ok());
    assert_eq!(pick(&ids(&fleet)), Err(PickError::AllAvoided));
    fleet.update([]).unwrap();
    assert_eq!(pick(&strangers), Err(PickError::Empty));
}

/// Advances time by 300 s under traffic and asserts that all have returned. The longest ejection is 64 s without
/// jitter, and the wait for a lost probe starts at 10 s and is no longer than the longest ejection.
fn recovers(fleet: &Fleet<Server>, clock: &ManualClock) {
    for _ in 0..300 {
        sequence(fleet, 50);
        clock.advance(SECOND);
    }
    fleet.maintain();
    assert_eq!(ejected(fleet), [0; 0]);
    assert_eq!(fleet.stats().ejected, 0);
    for member in fleet.members() {
        assert_eq!(member.state(), MemberState::Ready);
        assert_eq!(member.score(), 1.0, "{member:?}");
        // Estimates of idle endpoints drift to the fleet's usual latency, in f32: within a thousandth.
        let latency = member.latency().unwrap();
        assert!(latency.abs_diff(MILLI) <= MILLI / 1000, "{member:?}");
    }
}

#[test]
fn a_clock_that_jumps_far_ahead_and_back_leaves_nothing_stuck() {
    // Stamps in milliseconds wrap at 2^32 ms.
    let wrap = Duration::from_millis(1 << 32);
    let ten_years = Duration::from_secs(10 * 365 * 86_400);
    for jump in [ten_years, wrap - SECOND, wrap, wrap + SECOND, Duration::MAX] {
        let clock = ManualClock::new();
        let fleet = setup(10, &clock).ejection(exact()).build().unwrap();
        for _ in 0..10 {
            sequence(&fleet, 50);
            clock.advance(SECOND);
        }
        fail(&fleet, 0, 5);
        fail(&fleet, 1, 5);
        clock.advance(SECOND * 2);
        let held = probe(&fleet);
        let before = clock.now();
        let across = fleet.lease(&5).unwrap();

        clock.advance(jump);
        // At the later time: windows fill, a third endpoint is ejected, and picks may take a probe.
        sequence(&fleet, 200);
        fail(&fleet, 2, 5);
        fleet.lease(&3).unwrap().record(Outcome::Success);
        // An answer that took all of the jump.
        across.record(Outcome::Success);
        fleet.maintain();
        sequence(&fleet, 200);

        clock.set(before);
        sequence(&fleet, 50);
        held.record(Outcome::Success);
        recovers(&fleet, &clock);
        // Endpoints are still judged.
        fail(&fleet, 4, 5);
        assert_eq!(state(&fleet, 4), MemberState::Ejected);
        clock.advance(SECOND * 2);
        assert_eq!(number(&probe(&fleet)), 4);
    }
}
