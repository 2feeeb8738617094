//! What does a choice alone cost, by policy and number of endpoints?
//!
//! Measures `Picker::pick` through `PickContext::new`, without snapshot, lease and record, next to hand-written
//! alternatives. `cargo bench --bench pick`.

#![allow(missing_docs)] // criterion's macro makes a public function.

mod common;

use std::hint::black_box;
use std::sync::Arc;

use common::{Arm, Server, by_hand, fleet};
use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::{
    Endpoint, Fleet, LeastConnections, LeastResponseTime, LoadBalancer, Member, PickContext,
    PickOptions, Picker, PowerOfTwo, Random, RoundRobin, Target, Tick, Tiers, View,
    WeightedRoundRobin,
};

fn policy(name: &str, count: u32, policy: impl LoadBalancer<Server>) -> Arm {
    let members = fleet(count, RoundRobin::new()).members();
    among(name, count, members, policy)
}

/// Two priorities of three zones each, over a policy that is also measured by itself.
fn tiers(count: u32) -> Arm {
    let zone = |key: u32| ["a", "b", "c"][key as usize % 3];
    let servers = (0..count).map(|key| {
        let server = Target::new(key, ()).with_weight(key % 10 + 1);
        server.with_priority(key % 2).with_locality(zone(key))
    });
    let fleet: Fleet<Server> = servers.collect();
    let policy = Tiers::new(PowerOfTwo::new()).prefer_zone("a");
    among("tiers of power of two", count, fleet.members(), policy)
}

fn among(
    name: &str,
    count: u32,
    members: Vec<Member<Server>>,
    policy: impl LoadBalancer<Server>,
) -> Arm {
    let members = Arc::new(members);
    let picker: Arc<dyn Picker<Server>> = policy.picker(&View::new(&members)).into();
    Arm::new(format!("{name}, N = {count}"), 1, move |_| {
        let (members, picker, options) = (members.clone(), picker.clone(), PickOptions::new());
        let mut seed = 0;
        move || {
            seed += 1;
            let mut cx = PickContext::new(&members, &options, Tick::ZERO, seed);
            black_box(picker.pick(&mut cx));
        }
    })
}

/// The hand-written alternative: a list behind a lock, and a counter.
fn list_and_counter(count: u32) -> Arm {
    let list = Arc::new(by_hand::List::new(count));
    let name = format!("by hand: RwLock and counter, N = {count}");
    Arm::new(name, 1, move |_| {
        let list = list.clone();
        move || {
            black_box(list.next(|one| one.server.key()));
        }
    })
}

/// Another: nginx's smooth weighted round robin behind a mutex.
fn smooth_behind_a_mutex(count: u32) -> Arm {
    let smooth = Arc::new(by_hand::Smooth::new(count));
    let name = format!("by hand: smooth, mutex, N = {count}");
    Arm::new(name, 1, move |_| {
        let smooth = smooth.clone();
        move || {
            black_box(smooth.next());
        }
    })
}

fn pick(criterion: &mut Criterion) {
    let mut arms = vec![common::floor_a(1)];
    for count in [2, 16, 256, 10_000] {
        arms.push(policy("round robin", count, RoundRobin::new()));
        arms.push(policy(
            "weighted round robin",
            count,
            WeightedRoundRobin::new(),
        ));
        arms.push(policy("random", count, Random::new()));
        arms.push(policy("power of two", count, PowerOfTwo::new()));
        arms.push(tiers(count));
        arms.push(policy(
            "least response time",
            count,
            LeastResponseTime::new(),
        ));
        arms.push(policy("least connections", count, LeastConnections::new()));
        arms.push(list_and_counter(count));
        if count <= 256 {
            arms.push(smooth_behind_a_mutex(count));
        }
    }
    common::criterion_runs(criterion, "pick", arms);
}

criterion_group!(benches, pick);
criterion_main!(benches);
