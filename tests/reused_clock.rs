//! With a clock whose readings may be reused, decisions by deadlines and windows stay right.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{MILLI, SECOND, Server, bring_back, exact, fail, servers};
use evenkeel::{
    Clock, Cluster, Ejection, Endpoint, Fleet, FleetBuilder, LeastConnections, LoadBalancer,
    ManualClock, MemberState, Outcome, PickContext, PickOptions, RoundRobin, SlowStart, Tick, View,
};

/// A clock that stands still until moved, and whose readings may be reused like the operating system clock's.
#[derive(Clone, Debug)]
struct Reused(ManualClock);

impl Clock for Reused {
    fn now(&self) -> Tick {
        self.0.now()
    }
    fn may_be_reused(&self) -> bool {
        true
    }
}

fn setup(count: usize, clock: &ManualClock) -> FleetBuilder<Server> {
    let builder = Fleet::builder().endpoints(servers(&vec![1; count]));
    builder.clock(Reused(clock.clone())).seed(7)
}

/// Picks and ends `picks` requests, 100 ns apart.
fn burst(fleet: &Fleet<Server>, clock: &ManualClock, picks: usize) {
    for _ in 0..picks {
        clock.advance(Duration::from_nanos(100));
        fleet.pick_endpoint().unwrap().record(Outcome::Success);
    }
}

/// A burst leaves an old reading behind. Requests after it, a millisecond apart and picked by key, must not be counted
/// at the time of that reading: with only faults in the window, four in a hundred would look like all.
#[test]
fn successes_after_a_burst_are_counted_when_they_end() {
    let clock = ManualClock::new();
    let by_score = Ejection::default().cusum_threshold(0.0);
    let fleet = setup(2, &clock).ejection(by_score).build().unwrap();
    burst(&fleet, &clock, 20);
    clock.advance(60 * SECOND);
    for request in 0..3000 {
        clock.advance(MILLI);
        let lease = fleet.lease(&0).unwrap();
        let bad = request % 25 == 24;
        lease.record_with_latency(
            if bad {
                Outcome::Failure
            } else {
                Outcome::Success
            },
            MILLI,
        );
    }
    fleet.maintain();
    assert_eq!(fleet.stats().ejections, 0);
    assert!(fleet.member(&0).unwrap().score() > 0.9, "{fleet:?}");
}

/// A burst of picks whose requests end together much later. The leases that were not measured end first. They count as
/// of their end, except for the few before the first that reads the clock.
#[test]
fn a_fan_out_is_counted_when_it_ends() {
    for given in [None, Some(60 * SECOND)] {
        let clock = ManualClock::new();
        let fleet = setup(1, &clock).build().unwrap();
        burst(&fleet, &clock, 1_000);
        let leases: Vec<_> = (0..1_000).map(|_| fleet.pick_endpoint().unwrap()).collect();
        clock.advance(60 * SECOND);
        for (number, lease) in leases.into_iter().rev().enumerate() {
            let outcome = if number == 10 {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            match given {
                Some(latency) => lease.record_with_latency(outcome, latency),
                None => lease.record(outcome),
            }
        }
        let counted = fleet.member(&0).unwrap().outcomes().in_window;
        assert!(counted >= 980, "{counted} of 1000");
    }
}

/// The same where no request fails: a measured lease reads the clock, even if the caller says how long the request
/// took.
#[test]
fn a_fan_out_that_goes_well_is_counted_when_it_ends() {
    for given in [None, Some(15 * SECOND)] {
        let clock = ManualClock::new();
        let fleet = setup(1, &clock).build().unwrap();
        for _ in 0..4 {
            let pick = || {
                clock.advance(Duration::from_nanos(100));
                fleet.pick_endpoint().unwrap()
            };
            let leases: Vec<_> = (0..100).map(|_| pick()).collect();
            clock.advance(15 * SECOND);
            for lease in leases {
                clock.advance(Duration::from_nanos(100));
                match given {
                    Some(latency) => lease.record_with_latency(Outcome::Success, latency),
                    None => lease.record(Outcome::Success),
                }
            }
            // Except those before the first that was measured.
            let counted = fleet.member(&0).unwrap().outcomes().in_window;
            assert!(counted >= 60, "{counted} of 100");
        }
    }
}

/// A new endpoint gets its share step by step, even if a burst ended just now or long ago.
#[test]
fn slow_start_counts_after_a_burst() {
    for ago in [Duration::from_micros(10), 60 * SECOND] {
        let clock = ManualClock::new();
        let builder = setup(4, &clock).policy(RoundRobin::new());
        let slow_start = SlowStart::default().new_endpoints(true);
        let fleet = builder.slow_start(slow_start).build().unwrap();
        // After this many picks nearly all uses of a reading are left.
        burst(&fleet, &clock, 945);
        clock.advance(ago);
        fleet.insert(Server::new(4, ())).unwrap();
        let mut to_it = 0;
        for _ in 0..100 {
            clock.advance(Duration::from_nanos(100));
            let lease = fleet.pick_endpoint().unwrap();
            to_it += usize::from(lease.endpoint().key() == 4);
            lease.record(Outcome::Success);
        }
        // A tenth of its twenty turns, and some picks that were drawn again. All of its turns would be twenty.
        assert!(to_it <= 10, "{to_it} of 100 after {ago:?}");
    }
}

/// A task that waits for a drain's deadline is woken by the first pick after the deadline, even where an earlier burst
/// has left an old reading with many uses.
#[test]
fn a_deadline_is_kept_after_a_burst() {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }
    let clock = ManualClock::new();
    let fleet = setup(2, &clock).policy(RoundRobin::new()).build().unwrap();
    let _held = fleet.lease(&0).unwrap();
    burst(&fleet, &clock, 945);
    let mut drain = pin!(fleet.drain_within(&0, 5 * SECOND).unwrap());
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    for second in 1..=6 {
        assert!(!woken.0.load(SeqCst), "before second {second}");
        clock.advance(SECOND);
        fleet.pick_endpoint().unwrap().record(Outcome::Success);
        if woken.0.load(SeqCst) {
            assert!(second >= 5, "in second {second}");
            break;
        }
    }
    assert!(woken.0.load(SeqCst));
    assert!(drain.poll(&mut cx).is_ready());
}

/// Bursts of picks whose requests end together 15 s later, again and again, one in five with a failure.
#[test]
fn a_fan_out_ejects_no_working_endpoint() {
    let clock = ManualClock::new();
    let by_score = Ejection::default().cusum_threshold(0.0);
    let fleet = setup(2, &clock).ejection(by_score).build().unwrap();
    for _ in 0..10 {
        let leases: Vec<_> = (0..400)
            .map(|_| {
                clock.advance(Duration::from_nanos(100));
                fleet.pick_endpoint().unwrap()
            })
            .collect();
        clock.advance(15 * SECOND);
        for (number, lease) in leases.into_iter().enumerate() {
            clock.advance(Duration::from_nanos(100));
            let bad = number % 10 < 2;
            lease.record(if bad {
                Outcome::Failure
            } else {
                Outcome::Success
            });
        }
    }
    assert_eq!(fleet.stats().ejections, 0);
}

/// An ejection lasts its full time, even for a shard whose last reading is hours old, and only one probe is out at a
/// time.
#[test]
fn an_ejection_is_not_ended_by_an_old_reading() {
    let clock = ManualClock::new();
    let fleet = setup(4, &clock).ejection(exact()).build().unwrap();
    // An endpoint has been ejected and is back, so that from now on a search for probes is due.
    fail(&fleet, 3, 5);
    clock.advance(3 * SECOND);
    bring_back(&fleet);
    burst(&fleet, &clock, 9);
    clock.advance(10_000 * SECOND);
    fail(&fleet, 0, 5);
    assert_eq!(fleet.member(&0).unwrap().state(), MemberState::Ejected);
    for _ in 0..1900 {
        clock.advance(MILLI);
        let lease = fleet.pick_endpoint().unwrap();
        assert!(!lease.is_probe(), "a probe before its time");
        lease.record(Outcome::Success);
    }
    clock.advance(200 * MILLI);
    let probe = fleet.pick_endpoint().unwrap();
    assert!(
        probe.is_probe(),
        "the first pick after its time is the probe"
    );
    assert!((0..100).all(|_| !fleet.pick_endpoint().unwrap().is_probe()));
}

/// An endpoint that is back gets its share step by step, even where most picks use an old reading. A quarter of the
/// 2 000 picks are its turns. It takes a tenth of those at first, and a few more that were drawn again: 50 to 70, with
/// a sigma of 8. All of its turns would be 500.
#[test]
fn slow_start_counts_for_picks_that_use_a_reading_again() {
    let clock = ManualClock::new();
    let builder = setup(4, &clock).policy(RoundRobin::new());
    let fleet = builder.ejection(exact()).build().unwrap();
    fail(&fleet, 3, 5);
    clock.advance(3 * SECOND);
    bring_back(&fleet);
    clock.advance(MILLI);
    let mut to_it = 0;
    for _ in 0..2_000 {
        clock.advance(Duration::from_nanos(100));
        let lease = fleet.pick_endpoint().unwrap();
        to_it += usize::from(lease.endpoint().key() == 3);
        lease.record(Outcome::Success);
    }
    assert_eq!(fleet.member(&3).unwrap().state(), MemberState::Warming);
    assert!((10..120).contains(&to_it), "{to_it} of 2000");
}

/// With a view that the user has made, the policy compares the members' own counts of requests in flight.
#[test]
fn least_connections_sees_loads_through_any_view() {
    let clock = ManualClock::new();
    let fleet = setup(2, &clock).policy(RoundRobin::new()).build().unwrap();
    let _held: Vec<_> = (0..100).map(|_| fleet.lease(&0).unwrap()).collect();
    let members = fleet.members();
    let picker = LeastConnections::new().picker(&View::new(&members));
    let options = PickOptions::new();
    for seed in 0..100 {
        let mut cx = PickContext::new(&members, &options, Tick::ZERO, seed);
        let choice = picker.pick(&mut cx).unwrap();
        assert_eq!(members[choice.index()].endpoint().key(), 1);
    }
}
