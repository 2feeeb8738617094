//! What does a whole request cost when 1, 2 or 4 threads share one fleet?
//!
//! `cargo bench --bench contention`. Times are per thread. With more threads than cores they include the cost of being
//! preempted.

#![allow(missing_docs)] // criterion's macro makes a public function.

mod common;

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use common::{Arm, End, Server, cycle, fleet, servers};
use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::{LeastConnections, LoadBalancer, PowerOfTwo, WeightedRoundRobin};

/// The hand-written alternative: a list behind a lock, a counter, and a count of requests in flight per server.
fn by_hand(count: u32, threads: usize) -> Arm {
    let one = |server: Server| Arc::new((server, AtomicUsize::new(0)));
    let list: Arc<RwLock<Vec<_>>> = Arc::new(RwLock::new(servers(count).map(one).collect()));
    let next = Arc::new(AtomicUsize::new(0));
    let name = format!("by hand, N = {count}, {threads} threads");
    Arm::new(name, threads, move |_| {
        let (list, next) = (list.clone(), next.clone());
        move || {
            let chosen = {
                let list = list.read().expect("nobody panics");
                list[next.fetch_add(1, Ordering::Relaxed) % list.len()].clone()
            };
            chosen.1.fetch_add(1, Ordering::Relaxed);
            black_box(&chosen.0);
            chosen.1.fetch_sub(1, Ordering::Relaxed);
        }
    })
}

fn of(
    called: &str,
    count: u32,
    threads: usize,
    policy: impl LoadBalancer<Server> + 'static,
) -> Arm {
    let name = format!("{called}, N = {count}, {threads} threads");
    cycle(name, Arc::new(fleet(count, policy)), threads, 1, End::Given)
}

fn contention(criterion: &mut Criterion) {
    let mut arms = Vec::new();
    for threads in [1, 2, 4] {
        arms.push(common::floor_a(threads));
        for count in [10, 1_000] {
            arms.push(common::floor_b(count, threads));
            arms.push(of(
                "weighted round robin",
                count,
                threads,
                WeightedRoundRobin::new(),
            ));
            arms.push(of("power of two", count, threads, PowerOfTwo::new()));
            arms.push(by_hand(count, threads));
        }
        arms.push(of(
            "least connections",
            10,
            threads,
            LeastConnections::new(),
        ));
    }
    common::criterion_runs(criterion, "contention", arms);
}

criterion_group!(benches, contention);
criterion_main!(benches);
