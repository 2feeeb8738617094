//! What does it cost to end a request, by outcome and by tracker?
//!
//! Each arm measures a cycle of pick and record, as a record needs a lease. Ejections are off. The one
//! written by hand ends well.
//! `cargo bench --bench record`.

#![allow(missing_docs)] // criterion's macro makes a public function.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Arm, Server, by_hand, servers};
use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::{
    Alarm, Cluster, Ejection, Fleet, Health, HealthTracker, Judging, Outcome, Sample,
    SlidingWindow, WeightedRoundRobin,
};

/// The built-in tracker behind the virtual call that a user's tracker needs.
#[derive(Debug)]
struct Mine(SlidingWindow);

impl HealthTracker for Mine {
    fn record(&self, sample: &Sample, cx: &Judging<'_>) -> Alarm {
        self.0.record(sample, cx)
    }
    fn health(&self, cx: &Judging<'_>) -> Health {
        self.0.health(cx)
    }
}

fn ended(name: &str, fleet: Fleet<Server>, outcome: Outcome) -> Arm {
    let fleet = Arc::new(fleet);
    Arm::new(name, 1, move |_| {
        let fleet = fleet.clone();
        move || {
            let lease = fleet.pick_endpoint().expect("there are endpoints");
            lease.record_with_latency(outcome, Duration::from_millis(1));
        }
    })
}

fn record(criterion: &mut Criterion) {
    let builder = || {
        let builder = Fleet::builder().endpoints(servers(100));
        builder
            .policy(WeightedRoundRobin::new())
            .ejection(Ejection::off())
    };
    let build = || builder().build().expect("the settings are in range");
    let mine = builder().tracker(|_| Mine(SlidingWindow::new(&Ejection::off())));
    let mine = mine.build().expect("the settings are in range");
    let arms = vec![
        common::floor_a(1),
        ended("success", build(), Outcome::Success),
        ended("success, a tracker of the user's", mine, Outcome::Success),
        ended("failure", build(), Outcome::Failure),
        ended("ignored", build(), Outcome::Ignored),
        ended("abandoned", build(), Outcome::Abandoned),
    ];
    let [list, _] = by_hand::requests(100, 1);
    let arms = arms.into_iter().chain([list]).collect();
    common::criterion_runs(criterion, "record", arms);
}

criterion_group!(benches, record);
criterion_main!(benches);
