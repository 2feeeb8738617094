//! Promise: upkeep looks at each endpoint as often as its interval says, however many there are.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{MILLI, SECOND, Server};
use evenkeel::{
    Alarm, Cluster, Ejection, Fleet, Health, HealthTracker, Judging, ManualClock, Outcome,
    RoundRobin, Sample, SlidingWindow, Target, Tick,
};

/// The crate's own tracker, with a count of how often it is asked for an endpoint's health.
#[derive(Debug)]
struct Counting(Arc<AtomicU64>, SlidingWindow);

impl HealthTracker for Counting {
    fn record(&self, sample: &Sample, cx: &Judging<'_>) -> Alarm {
        self.1.record(sample, cx)
    }

    fn health(&self, cx: &Judging<'_>) -> Health {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.health(cx)
    }

    fn readmitted(&self, at: Tick) {
        self.1.readmitted(at);
    }
}

/// How often each of `count` endpoints is looked at in `picks` picks that are `apart` from one another.
fn looks(count: usize, window: Duration, picks: u32, apart: Duration) -> f64 {
    let (clock, looks) = (ManualClock::new(), Arc::new(AtomicU64::new(0)));
    let ejection = Ejection::default().window(window);
    let (counter, settings) = (looks.clone(), ejection.clone());
    let fleet: Fleet<Server> = Fleet::builder()
        .endpoints((0..count).map(|n| Target::new(n, ())))
        .policy(RoundRobin::new())
        .ejection(ejection)
        .tracker(move |_: &Server| Counting(counter.clone(), SlidingWindow::new(&settings)))
        .clock(clock.clone())
        .seed(7)
        .build()
        .unwrap();
    for _ in 0..picks {
        clock.advance(apart);
        fleet.pick_endpoint().unwrap().record(Outcome::Success);
    }
    looks.load(Ordering::Relaxed) as f64 / count as f64
}

/// The interval is 10 us for each endpoint, so 30 000 endpoints are looked at three times in a second, and once more
/// where a sweep begins with one. It was 192 times when the interval grew with the fleet but the limit on how far ahead
/// upkeep may be due did not.
#[test]
fn thirty_thousand_are_looked_at_three_times_in_a_second() {
    let each = looks(30_000, 10 * SECOND, 100_000, Duration::from_micros(10));
    assert!((2.0..=4.0).contains(&each), "{each}");
}

/// With a short window the interval grows for fewer endpoints already: it is 21 ms for 2 100. In a second, with a pick
/// each 10 us, they are looked at no more often than that.
#[test]
fn a_short_window_makes_upkeep_no_endless_work() {
    let each = looks(2_100, 100 * MILLI, 100_000, Duration::from_micros(10));
    assert!((40.0..=49.0).contains(&each), "{each}");
    let each = looks(2_100, 100 * MILLI, 10_000, Duration::ZERO);
    assert!(each <= 1.0, "{each} while no time passes");
}
