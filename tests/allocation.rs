//! Promise 7: after a thread's first pick, picks and records allocate nothing.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use evenkeel::{
    Adaptive, AdaptiveLimit, CallPlan, Caller, Cluster, Failover, Fleet, Hedge, LeastConnections,
    LeastResponseTime, Limits, LoadBalancer, ManualClock, Outcome, PickOptions, PowerOfTwo, Random,
    RoundRobin, Target, Throttle, Tiers, Upkeep, WeightedRoundRobin, from_fn, from_sleep,
};

struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is the system allocator's; counting touches a const thread-local only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_in(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

type Server = Target<u32, ()>;
type Policy = Box<dyn LoadBalancer<Server>>;

fn policies() -> Vec<Policy> {
    vec![
        Box::new(RoundRobin::new()),
        Box::new(WeightedRoundRobin::new()),
        Box::new(Random::new()),
        Box::new(LeastConnections::new()),
        Box::new(PowerOfTwo::new()),
        Box::new(LeastResponseTime::new()),
        Box::new(Adaptive::new()),
        Box::new(Tiers::new(PowerOfTwo::new()).prefer_zone("b")),
        Box::new(Tiers::new(Adaptive::new()).locality_weights([("a", 1), ("b", 2)])),
    ]
}

/// A server whose weight is its key, in one of two priorities and three zones.
fn server(key: u32) -> Server {
    let zone = ["a", "b", "c"][key as usize % 3];
    let server = Target::new(key, ()).with_weight(key);
    server.with_priority(key % 2).with_locality(zone)
}

fn fleet(policy: Policy, upkeep: Upkeep, clock: &ManualClock) -> Fleet<Server> {
    Fleet::builder()
        .endpoints((1..=10).map(server))
        .policy(policy)
        .upkeep(upkeep)
        .clock(clock.clone())
        .build()
        .unwrap()
}

/// Sends pairs of requests in virtual time: the second of each pair avoids the first one's member. They end with all
/// kinds of outcome, and enough of them fail to eject.
fn requests(fleet: &impl Cluster<Endpoint = Server>, clock: &ManualClock, step: Duration) {
    for round in 0..5000u32 {
        let first = fleet.pick_endpoint().unwrap();
        let tried = [first.id()];
        let second = fleet
            .pick_endpoint_with(&PickOptions::new().avoid(&tried))
            .unwrap();
        let bad = round % 7 < 5;
        first.record(if bad {
            Outcome::Failure
        } else {
            Outcome::Success
        });
        match round % 4 {
            0 => drop(second),
            1 => second.record(Outcome::Timeout),
            2 => second.record_with_latency(Outcome::Success, Duration::from_millis(3)),
            _ => second.record(Outcome::Ignored),
        }
        clock.advance(step);
    }
}

#[test]
fn the_counter_counts() {
    assert!(allocations_in(|| drop(std::hint::black_box(Box::new(1)))) > 0);
}

#[test]
fn no_policy_allocates_when_the_caller_does_upkeep() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let clock = ManualClock::new();
        let fleet = fleet(policy, Upkeep::Caller, &clock);
        drop(fleet.pick_endpoint());
        let step = Duration::from_millis(5);
        let allocated = allocations_in(|| requests(&fleet, &clock, step));
        assert_eq!(allocated, 0, "{name}");
        assert!(
            fleet.stats().ejections > 0,
            "{name}: ejections and probes are part of it"
        );
    }
}

/// Nor does a round robin whose weights fit no table. Here some endpoints wait for thousands of picks.
#[test]
fn uneven_weights_allocate_nothing_either() {
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints((1..=40).map(|key| Target::new(key, ()).with_weight(1 + u32::pow(key, 4))))
        .policy(WeightedRoundRobin::new())
        .upkeep(Upkeep::Caller)
        .clock(clock.clone())
        .build()
        .unwrap();
    drop(fleet.pick_endpoint());
    let step = Duration::from_millis(5);
    assert_eq!(allocations_in(|| requests(&fleet, &clock, step)), 0);
}

/// Limits of every kind allocate nothing, including refused picks and the adaptive limit's adjustments.
#[test]
fn limits_allocate_nothing_either() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let clock = ManualClock::new();
        let rule = AdaptiveLimit::default().min_concurrency(1);
        let limits = Limits::default().max_requests(12).max_probes(1);
        let fleet = Fleet::builder()
            .endpoints((1..=10).map(|key| Target::new(key, ()).with_weight(key)))
            .policy(policy)
            .limits(limits.adaptive(rule.initial_concurrency(2)))
            .upkeep(Upkeep::Caller)
            .clock(clock.clone())
            .build()
            .unwrap();
        drop(fleet.pick_endpoint());
        let mut leases = Vec::with_capacity(16);
        let step = Duration::from_millis(5);
        let allocated = allocations_in(|| {
            for _ in 0..2000 {
                leases.extend((0..16).filter_map(|_| fleet.pick_endpoint().ok()));
                clock.advance(step);
                leases
                    .drain(..)
                    .for_each(|lease| lease.record(Outcome::Success));
            }
            requests(&fleet, &clock, step);
        });
        assert_eq!(allocated, 0, "{name}");
        assert!(fleet.stats().saturated > 1000, "{name}");
        let moved = |limit| limit != Some(2);
        assert!(fleet.members().iter().any(|it| moved(it.limit())), "{name}");
    }
}

#[test]
fn a_failover_allocates_nothing_either() {
    let clock = ManualClock::new();
    let zone = || fleet(Box::new(Adaptive::new()), Upkeep::Caller, &clock);
    let (here, there) = (zone(), zone());
    let cluster = Failover::new(here.clone(), there.clone());
    drop(cluster.pick_endpoint());
    let step = Duration::from_millis(5);
    assert_eq!(allocations_in(|| requests(&cluster, &clock, step)), 0);
    assert!(here.stats().ejections > 0 && there.stats().ejections > 0);
}

/// Recording ejections, returns, panic and slow starts as events allocates nothing, while there is room and when it is
/// full.
#[test]
fn to_keep_events_allocates_nothing_either() {
    for capacity in [4, 1 << 16] {
        let clock = ManualClock::new();
        let fleet = Fleet::builder()
            .endpoints((1..=10).map(|key| Target::new(key, ())))
            .upkeep(Upkeep::Caller)
            .clock(clock.clone())
            .events(capacity)
            .build()
            .unwrap();
        drop(fleet.pick_endpoint());
        let step = Duration::from_millis(5);
        let allocated = allocations_in(|| requests(&fleet, &clock, step));
        assert_eq!(allocated, 0);
        let told = fleet.take_events().len();
        let dropped = fleet.stats().events_dropped;
        assert!(told == 4 && dropped > 0 || told > 4 && dropped == 0);
    }
}

#[test]
fn by_default_only_picks_that_do_upkeep_allocate() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let clock = ManualClock::new();
        let fleet = fleet(policy, Upkeep::Picks, &clock);
        drop(fleet.pick_endpoint());
        let mut allocating = 0;
        for round in 0..10_000u32 {
            let work = || {
                let lease = fleet.pick_endpoint().unwrap();
                lease.record(if round % 7 < 5 {
                    Outcome::Failure
                } else {
                    Outcome::Success
                });
            };
            allocating += u32::from(allocations_in(work) > 0);
            clock.advance(Duration::from_millis(2));
        }
        // This is 20 s, with upkeep ten times a second by one pick each. Upkeep keeps what it has allocated.
        assert!(allocating <= 20, "{name}: {allocating} picks allocated");
        assert!(fleet.stats().ejections > 0, "{name}");
    }
}

/// A call that is answered at once allocates only for its timers (the deadline's and the hedge's), and once more if its
/// plan has hedges.
#[test]
fn a_call_allocates_for_its_timers_and_for_hedging_only() {
    let mut plain = CallPlan::default();
    plain.deadline = None;
    let limited = CallPlan::default();
    let throttled = plain.clone().throttle(Throttle::default());
    let throttled = throttled.max_concurrent_retries(3);
    let unknown = plain.clone().hedge(Hedge::at_percentile(95));
    let hedged = plain.clone().hedge(Hedge::after(Duration::from_secs(1)));
    for (name, plan, expected) in [
        ("plain", plain, 0),
        ("limited", limited, 1),
        ("throttled", throttled, 0),
        ("not hedged yet", unknown, 1),
        ("hedged", hedged, 2),
    ] {
        let clock = ManualClock::new();
        let fleet = fleet(Box::new(RoundRobin::new()), Upkeep::Caller, &clock);
        let transport = from_fn(|_: &Server, n: u8| async move { Ok::<_, ()>(n + 1) });
        // The future must have a size: boxing a zero-sized one allocates nothing.
        let never = |time: Duration| async move {
            std::future::pending::<()>().await;
            assert!(time.is_zero(), "it is kept until then");
        };
        let caller = Caller::new(fleet, transport, plan, from_sleep(never)).unwrap();
        let call = || {
            let mut call = std::pin::pin!(caller.call(1));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(call.as_mut().poll(&mut cx).is_ready());
        };
        call();
        let allocated = allocations_in(|| (0..10).for_each(|_| call()));
        assert_eq!(allocated, 10 * expected, "{name}");
    }
}
