//! Promise: an endpoint that says it is going away gets no new requests from the next pick on, within the cap. This is
//! no fault, and an endpoint that comes back is let in.
#![allow(clippy::unwrap_used)]

mod common;

use common::calls::{Answer, CallerFixture, plan_with_ample_budget};
use common::checks::{SUCCESS, each_second, server_zero_answers, with};
use common::{
    MILLI, SECOND, bring_back, ejected, exact, number, one_out, policies, sequence, setup, state,
};
use evenkeel::{
    Cluster, Detector, Ejection, EventKind, Fleet, ManualClock, Mark, MemberState, Outcome, Target,
    Transport, from_fn,
};

fn goes(fleet: &Fleet<common::Server>, number: usize) {
    fleet.lease(&number).unwrap().record(Outcome::GoingAway);
}

#[test]
fn the_next_pick_never_yields_an_endpoint_going_away_whatever_the_policy() {
    for (name, policy) in policies() {
        let clock = ManualClock::new();
        let fleet = setup(4, &clock).policy(policy).ejection(exact());
        let fleet = fleet.build().unwrap();
        sequence(&fleet, 40);
        let lease = fleet.pick_endpoint().unwrap();
        let gone = number(&lease);
        lease.record(Outcome::GoingAway);
        assert!(!sequence(&fleet, 200).contains(&gone), "{name}");
        clock.advance(MILLI * 1900);
        assert!(!sequence(&fleet, 200).contains(&gone), "{name}");
    }
}

#[test]
fn an_endpoint_going_away_is_ejected_and_explained_as_such() {
    let fleet = setup(4, &ManualClock::new()).events(64).ejection(exact());
    let fleet = fleet.build().unwrap();
    goes(&fleet, 1);
    assert_eq!(ejected(&fleet), [1]);
    let why = fleet.member(&1).unwrap().explain();
    assert_eq!(why.ejection.unwrap().detector, Some(Detector::GoingAway));
    assert_eq!(
        why.to_string(),
        "ejected as it was going away 0.0 s ago, probe in 2.0 s, 5 good probes wanted; 0 in flight"
    );
    let found = fleet.detections(Detector::GoingAway);
    assert_eq!((found.detected, found.ejected), (1, 1));
    let events = fleet.take_events();
    assert!(matches!(
        events[0].kind,
        EventKind::Ejected {
            detector: Some(Detector::GoingAway),
            times: 1,
            ..
        }
    ));
    assert_eq!(
        events[0].to_string(),
        "1 ejected as it was going away for 2.0s"
    );
    assert_eq!(events.len(), 1);
}

#[test]
fn going_away_is_not_a_fault() {
    let clock = ManualClock::new();
    let fleet = setup(4, &clock).ejection(exact()).build().unwrap();
    sequence(&fleet, 40);
    let lease = fleet.lease(&1).unwrap();
    // The reply is late, but says nothing about latency.
    clock.advance(SECOND);
    let member = fleet.member(&1).unwrap();
    let before = (member.outcomes(), member.latency(), member.score());
    lease.record(Outcome::GoingAway);
    let after = member.outcomes();
    assert_eq!(after.going_away, 1);
    assert_eq!(
        (after.in_window, after.faults_in_window),
        (before.0.in_window, 0)
    );
    assert_eq!((member.latency(), member.score()), (before.1, before.2));
    fleet.maintain();
    let usual = fleet.member(&2).unwrap().explain().usual_error_rate;
    assert_eq!(usual, Some(0.0));
}

#[test]
fn the_cap_holds_and_an_endpoint_that_stays_in_is_spared() {
    let clock = ManualClock::new();
    let fleet = setup(4, &clock).ejection(exact()).build().unwrap();
    sequence(&fleet, 400);
    for number in [0, 1, 2] {
        goes(&fleet, number);
        assert!(fleet.stats().ejected <= 2);
    }
    assert_eq!(
        (ejected(&fleet), fleet.stats().ejections_overflow),
        (vec![0, 1], 1)
    );
    let seen = sequence(&fleet, 100);
    let to_last = seen.iter().filter(|&&number| number == 3).count();
    assert!(to_last > 90, "{to_last}");
    clock.advance(MILLI * 1500);
    fleet.maintain();
    let seen = sequence(&fleet, 400);
    let to_last = seen.iter().filter(|&&number| number == 2).count();
    assert!(to_last > 100, "{to_last}");
    // A fleet of one, or with ejections off, has nowhere else to go.
    for (count, ejection) in [(1, exact()), (4, Ejection::off())] {
        let fleet = setup(count, &clock).ejection(ejection).build().unwrap();
        goes(&fleet, 0);
        assert_eq!(state(&fleet, 0), MemberState::Ready);
        assert!(sequence(&fleet, 40).contains(&0));
    }
    let only = exact().detect_only(Detector::GoingAway);
    let fleet = setup(4, &clock).ejection(only).build().unwrap();
    goes(&fleet, 0);
    assert_eq!(ejected(&fleet), []);
    assert_eq!(fleet.detections(Detector::GoingAway).detected, 1);
}

#[test]
fn a_restarted_endpoint_comes_back_by_probes() {
    let clock = ManualClock::new();
    let fleet = setup(4, &clock).ejection(exact()).build().unwrap();
    goes(&fleet, 1);
    clock.advance(SECOND * 2);
    bring_back(&fleet);
    assert!(matches!(state(&fleet, 1), MemberState::Warming));
}

#[test]
fn an_endpoint_inserted_again_after_a_removal_is_a_new_one() {
    let clock = ManualClock::new();
    let fleet = setup(4, &clock).ejection(exact()).build().unwrap();
    goes(&fleet, 1);
    // New data does not end the ejection: discovery lists all endpoints each time.
    fleet.insert(Target::new(1, ())).unwrap();
    assert_eq!(ejected(&fleet), [1]);
    fleet.remove(&1);
    fleet.insert(Target::new(1, ())).unwrap();
    assert_eq!((ejected(&fleet), fleet.stats().ejected), (vec![], 0));
    assert!(sequence(&fleet, 40).contains(&1));
    // An ejection for faults is remembered across a removal.
    common::fail(&fleet, 2, 5);
    fleet.remove(&2);
    fleet.insert(Target::new(2, ())).unwrap();
    assert_eq!(ejected(&fleet), [2]);
}

#[test]
fn requests_in_flight_may_finish_and_old_news_is_ignored() {
    let clock = ManualClock::new();
    let fleet = setup(4, &clock).ejection(exact()).build().unwrap();
    let held: Vec<_> = (0..3).map(|_| fleet.lease(&1).unwrap()).collect();
    let [first, second, third] = <[_; 3]>::try_from(held).unwrap();
    first.going_away();
    first.going_away();
    assert_eq!((ejected(&fleet), fleet.stats().ejections), (vec![1], 1));
    assert_eq!(fleet.detections(Detector::GoingAway).detected, 1);
    first.record(Outcome::Success);
    second.record(Outcome::GoingAway);
    assert_eq!(fleet.stats().in_flight, 1);
    clock.advance(SECOND * 2);
    bring_back(&fleet);
    // This reply belongs to the time before the ejection.
    third.record(Outcome::GoingAway);
    assert_eq!((ejected(&fleet), fleet.stats().in_flight), (vec![], 0));
    assert_eq!(fleet.stats().ejections, 1);
}

#[test]
fn a_mark_up_outranks_going_away() {
    let fleet = setup(4, &ManualClock::new())
        .ejection(exact())
        .build()
        .unwrap();
    fleet.mark(&1, Mark::Up);
    goes(&fleet, 1);
    assert_eq!(state(&fleet, 1), MemberState::Up);
}

#[test]
fn a_probe_told_of_going_away_starts_the_count_again() {
    let (fleet, clock) = one_out();
    clock.advance(SECOND * 2);
    for _ in 0..4 {
        let probe = common::probe(&fleet);
        probe.record_with_latency(Outcome::Success, MILLI);
    }
    common::probe(&fleet).record(Outcome::GoingAway);
    let why = fleet.member(&0).unwrap().explain();
    assert_eq!((why.times, why.until), (1, Some(SECOND * 2)));
    assert_eq!(why.ejection.unwrap().probes_wanted, Some(5));
}

/// The good answer of a probe carries the announcement: it does not bring the endpoint back.
#[test]
fn a_probe_whose_good_answer_says_so_stays_out() {
    let (fleet, clock) = common::one_out_by(common::five_in_a_row());
    clock.advance(SECOND * 2);
    let probe = common::probe(&fleet);
    probe.going_away();
    probe.record_with_latency(Outcome::Success, MILLI);
    assert_eq!((ejected(&fleet), fleet.stats().probing), (vec![0], 0));
    let why = fleet.member(&0).unwrap().explain();
    assert_eq!((why.times, why.until), (1, Some(SECOND * 2)));
    // It was not in rotation, so this found nothing bad there.
    assert_eq!(fleet.detections(Detector::GoingAway).detected, 0);
    // Nor does one that is dropped, or whose request fails.
    clock.advance(SECOND * 2);
    let probe = common::probe(&fleet);
    probe.going_away();
    drop(probe);
    let why = fleet.member(&0).unwrap().explain();
    assert_eq!((why.times, fleet.stats().probing), (1, 0));
    clock.advance(SECOND * 2);
    let probe = common::probe(&fleet);
    probe.record_with_latency(Outcome::Success, MILLI);
    assert_eq!(ejected(&fleet), []);
}

#[test]
fn a_check_told_of_going_away_ejects_at_once() {
    let mut setting = with(10, exact(), each_second());
    setting.round(|_| SUCCESS);
    setting.clock.advance(SECOND);
    setting.round(server_zero_answers(Outcome::GoingAway));
    assert!(setting.is_out(0));
}

#[test]
fn a_caller_retries_elsewhere() {
    let fixture = CallerFixture::new(4, plan_with_ample_budget(2), &[Answer::Ok(200)]);
    let fleet = fixture.fleet.clone();
    assert_eq!(fixture.call().unwrap(), 200);
    struct Going;
    impl Transport<common::Server, ()> for Going {
        type Response = ();
        type Error = ();
        async fn send(&self, _: &common::Server, (): ()) -> Result<(), ()> {
            Err(())
        }
        fn classify(&self, _: &Result<(), ()>) -> Outcome {
            Outcome::GoingAway
        }
    }
    assert!(Going.is_retryable(&Err(())));
    // An answer counts as one, even with a notice that the endpoint is going away.
    assert!(!Going.is_retryable(&Ok(())));
    let caller = evenkeel::Caller::new(
        fleet.clone(),
        Going,
        plan_with_ample_budget(2),
        fixture.timer.clone(),
    )
    .unwrap();
    let error = fixture.run(caller.call(())).unwrap_err();
    assert_eq!((error.attempts, ejected(&fleet).len()), (2, 2));
    let plain = from_fn(|_: &common::Server, ()| async { Err::<(), ()>(()) });
    assert!(Transport::<_, ()>::is_retryable(&plain, &Err(())));
}

/// Two threads report all endpoints as going away, over and over: the cap always holds, and the counts agree at the
/// end.
#[test]
fn the_cap_holds_when_all_go_away_at_once() {
    let rounds: u32 = std::env::var("STORM").map_or(1, |rounds| rounds.parse().unwrap());
    let fleet: Fleet<common::Server> = Fleet::builder()
        .endpoints(common::servers(&[1; 6]))
        .ejection(
            Ejection::default()
                .base_ejection_time(MILLI)
                .healthy_threshold(1),
        )
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..5_000 * rounds {
                    let lease = fleet.pick_endpoint().unwrap();
                    if round % 3 == 0 {
                        lease.going_away();
                    }
                    assert!(fleet.stats().ejected <= 3);
                    lease.record(match round % 5 {
                        0 => Outcome::GoingAway,
                        _ => Outcome::Success,
                    });
                }
            });
        }
    });
    assert_eq!(fleet.stats().ejected, ejected(&fleet).len());
    assert_eq!(fleet.stats().in_flight, 0);
    assert!(fleet.detections(Detector::GoingAway).ejected > 0);
}
