//! Shared by the benchmarks: fleets, floors, and arms that criterion and the summary both run.
#![allow(dead_code)] // Each benchmark uses some of it.

pub(crate) mod by_hand;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use criterion::Criterion;
use evenkeel::{Cluster, Fleet, Lease, LoadBalancer, Outcome, Target};

pub(crate) type Server = Target<u32, ()>;

/// Servers with weights 1 to 10.
pub(crate) fn servers(count: u32) -> impl Iterator<Item = Server> {
    (0..count).map(|key| Target::new(key, ()).with_weight(key % 10 + 1))
}

pub(crate) fn fleet(count: u32, policy: impl LoadBalancer<Server> + 'static) -> Fleet<Server> {
    let builder = Fleet::builder().endpoints(servers(count)).policy(policy);
    builder.build().expect("the settings are the defaults")
}

/// A measurement. It runs a number of operations on each of its threads and returns the mean time per thread.
pub(crate) struct Arm {
    pub(crate) name: String,
    pub(crate) threads: usize,
    /// Untimed operations before each run, because other arms have used the caches in between.
    warm_up: u64,
    run: Box<dyn FnMut(u64, u64) -> Duration>,
}

impl Arm {
    /// `make` creates the operation of a thread, given the thread's number.
    pub(crate) fn new<F>(
        name: impl Into<String>,
        threads: usize,
        make: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: FnMut(),
    {
        let run = move |warm_up, operations| match threads {
            1 => {
                let mut operation = make(0);
                timed(&mut operation, warm_up);
                timed(&mut operation, operations)
            }
            _ => together(threads, &make, warm_up, operations),
        };
        Self {
            name: name.into(),
            threads,
            warm_up: 1_000,
            run: Box::new(run),
        }
    }

    /// Sets how many untimed operations precede each run.
    pub(crate) fn warm_up(mut self, operations: u64) -> Self {
        self.warm_up = operations;
        self
    }

    /// One run: the time that a thread takes for all its operations, averaged over the threads.
    pub(crate) fn run(&mut self, operations: u64) -> Duration {
        (self.run)(self.warm_up, operations)
    }
}

fn timed(operation: &mut impl FnMut(), operations: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..operations {
        operation();
    }
    start.elapsed()
}

fn together<F: FnMut()>(
    threads: usize,
    make: &(impl Fn(usize) -> F + Sync),
    warm_up: u64,
    operations: u64,
) -> Duration {
    let barrier = Barrier::new(threads);
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut operation = make(thread);
                    timed(&mut operation, warm_up);
                    barrier.wait();
                    timed(&mut operation, operations)
                })
            })
            .collect();
        let times = threads.into_iter().map(|thread| thread.join());
        times
            .map(|time| time.expect("no arm panics"))
            .sum::<Duration>()
    });
    times / threads as u32
}

#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

/// Floor A: two atomic writes on a cache line of the thread's own.
pub(crate) fn floor_a(threads: usize) -> Arm {
    Arm::new(format!("floor A, {threads} threads"), threads, |_| {
        let line = Line::default();
        move || {
            line.0.fetch_add(1, Ordering::Relaxed);
            black_box(line.0.fetch_sub(1, Ordering::Relaxed));
        }
    })
}

/// Floor B: two atomic writes on a random one of `count` lines that all threads share.
pub(crate) fn floor_b(count: u32, threads: usize) -> Arm {
    let lines: Arc<[Line]> = (0..count).map(|_| Line::default()).collect();
    Arm::new(
        format!("floor B of {count}, {threads} threads"),
        threads,
        move |thread| {
            let lines = lines.clone();
            let mut state = 0x9E37_79B9_7F4A_7C15 * (thread as u64 + 1);
            move || {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                let line = &lines[(((state >> 32) * u64::from(count)) >> 32) as usize].0;
                line.fetch_add(1, Ordering::Relaxed);
                black_box(line.fetch_sub(1, Ordering::Relaxed));
            }
        },
    )
}

/// How the latency of a cycle's request is known.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// The caller passes the latency.
    Given,
    /// The crate measures the latency.
    Measured,
}

/// A cycle: pick, lease, look at the endpoint, record, release. Each thread holds `held` leases.
pub(crate) fn cycle<C>(name: String, cluster: Arc<C>, threads: usize, held: usize, end: End) -> Arm
where
    C: Cluster<Endpoint = Server> + ?Sized + 'static,
{
    Arm::new(name, threads, move |_| {
        let cluster = cluster.clone();
        let mut leases: VecDeque<Lease<Server>> = VecDeque::with_capacity(held + 1);
        let finish = move |lease: Lease<Server>| match end {
            End::Given => lease.record_with_latency(Outcome::Success, Duration::from_millis(1)),
            End::Measured => lease.record(Outcome::Success),
        };
        move || {
            let lease = cluster.pick_endpoint().expect("there are endpoints");
            black_box(lease.endpoint());
            if held <= 1 {
                return finish(lease);
            }
            leases.push_back(lease);
            if leases.len() >= held {
                if let Some(oldest) = leases.pop_front() {
                    finish(oldest);
                }
            }
        }
    })
}

/// Runs the arms with criterion.
pub(crate) fn criterion_runs(criterion: &mut Criterion, group: &str, arms: Vec<Arm>) {
    let mut group = criterion.benchmark_group(group);
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(800));
    for mut arm in arms {
        let name = arm.name.clone();
        group.bench_function(name, |bencher| bencher.iter_custom(|count| arm.run(count)));
    }
    group.finish();
}

/// Runs all arms in turn, round after round, so that disturbances of the machine affect all of them. Returns the median
/// time per operation of each arm, in nanoseconds.
pub(crate) fn interleaved(arms: &mut [Arm], rounds: usize, time: Duration) -> Vec<f64> {
    let operations: Vec<u64> = arms
        .iter_mut()
        .map(|arm| {
            let once = arm.run(2_000).max(arm.run(2_000)).as_secs_f64() / 2_000.0;
            (time.as_secs_f64() / once.max(1e-9)) as u64 + 1
        })
        .collect();
    let mut times = vec![Vec::with_capacity(rounds); arms.len()];
    for round in 0..rounds {
        for step in 0..arms.len() {
            // The order differs from round to round.
            let at = (step * 7 + round * 3) % arms.len();
            let at = if arms.len() % 7 == 0 {
                (step + round * 3) % arms.len()
            } else {
                at
            };
            let took = arms[at].run(operations[at]).as_secs_f64() * 1e9;
            times[at].push(took / operations[at] as f64);
        }
    }
    times.into_iter().map(median).collect()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Whether the command line contains this flag.
pub(crate) fn asked_for(flag: &str) -> bool {
    std::env::args().any(|argument| argument == flag)
}
