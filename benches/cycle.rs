//! What does a whole request cost the crate: pick, lease, record, release, beside the floor of two
//! atomic writes and beside what people write by hand?
//!
//! `cargo bench --bench cycle`. Read ratios within one run; the times belong to the machine.

#![allow(missing_docs)] // criterion's macro makes a public function.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use evenkeel::{
    Cluster, Fleet, LeastConnections, LeastResponseTime, LoadBalancer, Outcome, PowerOfTwo, Random,
    Target, WeightedRoundRobin,
};

type Server = Target<u32, ()>;

fn servers(count: u32) -> impl Iterator<Item = Server> {
    (0..count).map(|key| Target::new(key, ()).with_weight(key % 10 + 1))
}

fn fleet(count: u32, policy: Box<dyn LoadBalancer<Server>>) -> Fleet<Server> {
    let builder = Fleet::builder().endpoints(servers(count)).policy(policy);
    builder.build().expect("the settings are the defaults")
}

/// What a service has before it has a balancer: a list behind a lock, a counter, a count each.
struct ByHand {
    servers: RwLock<Vec<Arc<(Server, AtomicUsize)>>>,
    next: AtomicUsize,
}

impl ByHand {
    fn new(count: u32) -> Self {
        let servers = servers(count).map(|server| Arc::new((server, AtomicUsize::new(0))));
        Self {
            servers: RwLock::new(servers.collect()),
            next: AtomicUsize::new(0),
        }
    }

    fn cycle(&self) {
        let chosen = {
            let servers = self.servers.read().expect("nobody panics");
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            servers[next % servers.len()].clone()
        };
        chosen.1.fetch_add(1, Ordering::Relaxed);
        black_box(&chosen.0);
        chosen.1.fetch_sub(1, Ordering::Relaxed);
    }
}

fn cycle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cycle");
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(1));
    let word = AtomicU64::new(0);
    group.bench_function("floor: two atomic writes", |bencher| {
        bencher.iter(|| {
            word.fetch_add(1, Ordering::Relaxed);
            word.fetch_sub(1, Ordering::Relaxed)
        });
    });
    group.bench_function("the clock, once", |bencher| {
        bencher.iter(std::time::Instant::now)
    });
    for count in [10, 1000] {
        let by_hand = ByHand::new(count);
        group.bench_function(BenchmarkId::new("by hand, round robin", count), |bencher| {
            bencher.iter(|| by_hand.cycle());
        });
        let policies: [(&str, Box<dyn LoadBalancer<Server>>); 5] = [
            ("weighted round robin", Box::new(WeightedRoundRobin::new())),
            ("random", Box::new(Random::new())),
            ("power of two", Box::new(PowerOfTwo::new())),
            ("least response time", Box::new(LeastResponseTime::new())),
            ("least connections", Box::new(LeastConnections::new())),
        ];
        for (name, policy) in policies {
            let fleet = fleet(count, policy);
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    let lease = fleet.pick_endpoint().expect("there are endpoints");
                    black_box(lease.endpoint());
                    lease.record(Outcome::Success);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, cycle);
criterion_main!(benches);
