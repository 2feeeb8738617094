//! Promise: a fleet takes no more memory per endpoint than documented, the user's data not counted, and changes leave
//! no memory behind.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use evenkeel::{
    Adaptive, Cluster, Fleet, HealthCheckSettings, LeastConnections, Limits, LoadBalancer,
    ManualClock, Outcome, PowerOfTwo, RoundRobin, Target, Tiers, WeightedRoundRobin,
};

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is the system allocator's; counting touches an atomic only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Server = Target<u32, ()>;

fn bytes_each(count: u32, policy: impl LoadBalancer<Server> + 'static) -> f64 {
    bytes_of(count, policy, |key| key % 10 + 1)
}

fn bytes_of(
    count: u32,
    policy: impl LoadBalancer<Server> + 'static,
    weight: fn(u32) -> u32,
) -> f64 {
    let before = LIVE.load(Ordering::Relaxed);
    let fleet = Fleet::builder()
        .endpoints((0..count).map(|key| Target::new(key, ()).with_weight(weight(key))))
        .policy(policy)
        .build()
        .unwrap();
    // Memory that changes of the set leave behind counts too.
    fleet.insert(Target::new(0, ()).with_weight(2)).unwrap();
    fleet.insert(Target::new(1, ()).with_weight(3)).unwrap();
    let after = LIVE.load(Ordering::Relaxed);
    drop(fleet);
    // The endpoint itself is the user's. The fleet's own memory, a few kilobytes, is not attributed to endpoints.
    let users = size_of::<Server>() as f64;
    (after - before - 4096) as f64 / f64::from(count) - users
}

/// The allocation count is the process's, so one test runs at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Changes could leave behind places, cells, deadlines, events, and memories of removed endpoints, which last for a
/// minute.
#[test]
fn changes_leave_nothing_behind() {
    let _one = ONE.lock();
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints((0..10).map(|key| Target::new(key, ())))
        .policy(Tiers::new(Adaptive::new()))
        .limits(Limits::default().max_requests_per_endpoint(100))
        .events(16)
        .clock(clock.clone())
        .build()
        .unwrap();
    let checks = fleet.health_check(HealthCheckSettings::default());
    let mut checks = checks.unwrap();
    let mut live = Vec::new();
    for key in 10..6_010 {
        clock.advance(Duration::from_millis(100));
        // The removed endpoint has failed and may be ejected, and one of its requests is still open.
        let open = fleet.lease(&(key - 10)).unwrap();
        for _ in 0..3 {
            let failed = fleet.lease(&(key - 10)).unwrap();
            failed.record(Outcome::Failure);
        }
        fleet.insert(Target::new(key, ())).unwrap();
        drop(fleet.drain_within(&(key - 10), Duration::from_secs(1)));
        assert!(fleet.remove(&(key - 10)));
        for probe in checks.tick() {
            probe.finish(Outcome::Success);
        }
        for _ in 0..10 {
            fleet.pick_endpoint().unwrap().record(Outcome::Success);
        }
        open.record(Outcome::Success);
        // After the first minute the number of remembered endpoints does not grow.
        if key % 1_000 == 0 {
            live.push(LIVE.load(Ordering::Relaxed));
        }
    }
    let grown = live.last().unwrap() - live[1];
    assert!(grown < 8 << 10, "{live:?}");
}

#[test]
fn an_endpoint_takes_a_bounded_amount_of_memory() {
    let _one = ONE.lock();
    let processors = std::thread::available_parallelism().unwrap().get();
    let shards = processors.next_power_of_two();
    for count in [1_000, 10_000, 100_000] {
        let cells = shards.min((4096 / count as usize).max(1).next_power_of_two());
        let most = 384.0 + 256.0 * cells as f64;
        for (name, bytes) in [
            ("round robin", bytes_each(count, RoundRobin::new())),
            ("adaptive", bytes_each(count, Adaptive::new())),
            ("power of two", bytes_each(count, PowerOfTwo::new())),
            (
                "least connections",
                bytes_each(count, LeastConnections::new()),
            ),
            (
                "weighted round robin",
                bytes_each(count, WeightedRoundRobin::new()),
            ),
        ] {
            println!("N = {count}, {name}: {bytes:.0} bytes each, at most {most}");
            assert!(bytes <= most, "{name}: {bytes} bytes for each of {count}");
        }
        // Weights that no table can hold: their turns are computed as they are needed.
        let uneven = |key| 1 + key * 7919 % 65_521;
        let bytes = bytes_of(count, WeightedRoundRobin::new(), uneven);
        println!("N = {count}, weighted round robin without a table: {bytes:.0} bytes each");
        assert!(bytes <= most + 128.0, "{bytes} bytes for each of {count}");
    }
}
