//! What a fleet does for trackers of the user's own: they only judge. All else that rests on outcomes, which is what
//! policies and upkeep work with, is the same as with the built-in tracker.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{
    Adaptive, Alarm, Cluster, Ejection, Fleet, Health, HealthTracker, Judging, ManualClock,
    Outcome, Sample, SlidingWindow, Tick,
};

/// A tracker that finds every endpoint well.
#[derive(Debug)]
struct Content;

impl HealthTracker for Content {
    fn record(&self, _: &Sample, _: &Judging<'_>) -> Alarm {
        Alarm::None
    }

    fn health(&self, _: &Judging<'_>) -> Health {
        Health::new(1.0, 100)
    }

    fn readmitted(&self, _: Tick) {}
}

fn fleet<T: HealthTracker + 'static>(
    clock: &Arc<ManualClock>,
    tracker: fn() -> T,
) -> Fleet<&'static str> {
    let endpoints = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let builder = Fleet::builder().endpoints(endpoints).seed(1);
    let builder = builder.policy(Adaptive::new()).clock(clock.clone());
    builder
        .tracker(move |_| Box::new(tracker()))
        .build()
        .unwrap()
}

/// Requests one after the other, 2 ms apart, each answered after 1 ms. Returns how many went to "a".
fn serve(
    fleet: &Fleet<&'static str>,
    clock: &ManualClock,
    requests: u64,
    mut outcome: impl FnMut(&str) -> Outcome,
) -> u64 {
    let mut first = 0;
    for _ in 0..requests {
        let lease = fleet.pick_endpoint().unwrap();
        clock.advance(Duration::from_millis(1));
        let endpoint = *lease.endpoint();
        first += u64::from(endpoint == "a");
        lease.record(outcome(endpoint));
        clock.advance(Duration::from_millis(1));
    }
    first
}

#[test]
fn adaptive_avoids_errors_that_the_tracker_does_not_mind() {
    let clock = Arc::new(ManualClock::new());
    let fleet = fleet(&clock, || Content);
    let mut visits = 0;
    let half = |endpoint: &str| {
        visits += u32::from(endpoint == "a");
        match endpoint {
            "a" if visits % 2 == 0 => Outcome::Failure,
            _ => Outcome::Success,
        }
    };
    let first = serve(&fleet, &clock, 2_000, half);
    // A tenth is its share. Half failing beside none costs a request about 14 times as much there.
    assert!(first < 100, "{first}");
    let outcomes = fleet.member(&"a").unwrap().outcomes();
    assert!(outcomes.faults_in_window > 0 && outcomes.in_window > outcomes.faults_in_window);
}

#[test]
fn adaptive_avoids_an_endpoint_for_as_long_as_it_asked() {
    let clock = Arc::new(ManualClock::new());
    let fleet = fleet(&clock, || Content);
    serve(&fleet, &clock, 200, |_| Outcome::Success);
    let busy = |endpoint: &str| match endpoint {
        "a" => Outcome::overloaded(Some(Duration::from_secs(3))),
        _ => Outcome::Success,
    };
    let first = serve(&fleet, &clock, 1_000, busy);
    // It asks for more than these two seconds, and with little to do others are always free: the first, and one in
    // fifty that are invitations at most.
    assert!(first <= 1 + 1_000 / 50, "{first}");
}

#[test]
fn adaptive_invites_an_endpoint_that_was_slow() {
    let clock = Arc::new(ManualClock::new());
    let fleet = fleet(&clock, || Content);
    serve(&fleet, &clock, 500, |_| Outcome::Success);
    let serve_slow_first = |requests: u64| {
        let mut first = 0;
        for _ in 0..requests {
            let lease = fleet.pick_endpoint().unwrap();
            let is_first = *lease.endpoint() == "a";
            first += u64::from(is_first);
            clock.advance(Duration::from_millis(if is_first { 100 } else { 1 }));
            lease.record(Outcome::Success);
            clock.advance(Duration::from_millis(1));
        }
        first
    };
    serve_slow_first(2_000);
    // It is well again. Its share of 5 000 requests is 500.
    let first = serve(&fleet, &clock, 5_000, |_| Outcome::Success);
    assert!(first > 250, "{first}");
}

#[test]
fn a_tracker_learns_how_much_fails_everywhere() {
    let clock = Arc::new(ManualClock::new());
    let fleet = fleet(&clock, || {
        SlidingWindow::new(&Ejection::default().cusum_threshold(0.0))
    });
    // Six in ten fail at each endpoint, by no pattern that endpoints share.
    let mut random = 1u64;
    let all_fail = |_: &str| {
        random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        match (random >> 33) % 10 < 6 {
            true => Outcome::Failure,
            false => Outcome::Success,
        }
    };
    serve(&fleet, &clock, 5_000, all_fail);
    // By itself each would have a score below 0.5, which ejects.
    assert_eq!(fleet.stats().ejections, 0);
}

/// Ejects "a" with its first failure, and remembers the highest usual share of failures that it was told.
#[derive(Debug)]
struct Told {
    is_first: bool,
    highest: Arc<Mutex<f64>>,
}

impl HealthTracker for Told {
    fn record(&self, sample: &Sample, cx: &Judging<'_>) -> Alarm {
        let mut highest = self.highest.lock().unwrap();
        *highest = highest.max(cx.usual().error_rate());
        match self.is_first && sample.outcome.is_fault() {
            true => Alarm::Eject,
            false => Alarm::None,
        }
    }

    fn health(&self, _: &Judging<'_>) -> Health {
        Health::new(1.0, 100)
    }

    fn readmitted(&self, _: Tick) {}
}

/// Also while no more may be ejected, and the one that is left fails.
#[test]
fn a_tracker_is_told_the_share_in_the_window() {
    let (clock, highest) = (Arc::new(ManualClock::new()), Arc::new(Mutex::new(0.0)));
    let told = highest.clone();
    let fleet = Fleet::builder()
        .endpoints(["a", "b"])
        .seed(1)
        .clock(clock.clone())
        .tracker(move |endpoint: &&str| {
            let (is_first, highest) = (*endpoint == "a", told.clone());
            Box::new(Told { is_first, highest })
        })
        .build()
        .unwrap();
    serve(&fleet, &clock, 200, |_| Outcome::Success);
    while fleet.stats().ejected == 0 {
        fleet.pick_endpoint().unwrap().record(Outcome::Failure);
    }
    // No time passes, so upkeep does not count these.
    (0..30).for_each(|_| fleet.lease(&"b").unwrap().record(Outcome::Failure));
    assert!(*highest.lock().unwrap() < 0.01, "{highest:?}");
}
