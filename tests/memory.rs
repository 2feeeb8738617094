//! How much memory a fleet takes for each endpoint, the user's data apart.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use evenkeel::{
    Adaptive, Fleet, LeastConnections, LoadBalancer, PowerOfTwo, RoundRobin, Target,
    WeightedRoundRobin,
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
    let before = LIVE.load(Ordering::Relaxed);
    let fleet = Fleet::builder()
        .endpoints((0..count).map(|key| Target::new(key, ()).with_weight(key % 10 + 1)))
        .policy(policy)
        .build()
        .unwrap();
    // What changes of the set leave behind counts too.
    fleet.insert(Target::new(0, ()).with_weight(2)).unwrap();
    fleet.insert(Target::new(1, ()).with_weight(3)).unwrap();
    let after = LIVE.load(Ordering::Relaxed);
    drop(fleet);
    // The endpoint itself is the user's; the fleet's own, a few kilobytes, counts for none of them.
    let users = size_of::<Server>() as f64;
    (after - before - 4096) as f64 / f64::from(count) - users
}

/// One test in this file: the count is the process's.
#[test]
fn an_endpoint_takes_so_much() {
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
    }
}
