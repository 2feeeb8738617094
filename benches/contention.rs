//! What does a whole request cost when 1, 2 or 4 threads share one fleet?
//!
//! `cargo bench --bench contention`. Times are per thread. With more threads than cores they include the cost of being
//! preempted.

#![allow(missing_docs)] // criterion's macro makes a public function.

mod common;

use std::sync::Arc;

use common::{Arm, End, Server, by_hand, cycle, fleet};
use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::{LeastConnections, LoadBalancer, PowerOfTwo, WeightedRoundRobin};

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
            arms.extend(by_hand::requests(count, threads));
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
