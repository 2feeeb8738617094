//! What does a whole request cost the crate (pick, lease, record, release), compared with the floors?
//!
//! Floor A is two atomic writes on a cache line of the thread's own. Floor B is two atomic writes on a random one of as
//! many shared lines as there are endpoints.
//!
//! `cargo bench --bench cycle -- --summary` measures all rows in turn with the floors, which takes a minute and a half,
//! and says which rows meet their bound. Without `--summary` criterion measures each row by itself. Compare ratios
//! within one run; absolute times depend on the machine.

#![allow(missing_docs)] // criterion's macro makes a public function.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    Arm, End, Server, asked_for, by_hand, cycle, fleet, floor_a, floor_b, interleaved, servers,
};
use criterion::Criterion;
use evenkeel::{
    Adaptive, Cluster, Failover, Fleet, LeastConnections, LeastResponseTime, Limits, LoadBalancer,
    ManualClock, Outcome, PickContext, PickOptions, PowerOfTwo, Tick, View, WeightedRoundRobin,
};

/// The bound that a row must meet: a multiple of a floor or of another row. Floors and rows are given by name.
enum Bar {
    Times(f64, &'static str),
    /// This many times the same row with one thread.
    Own(f64),
    /// The row of this name plus this many times floor A.
    Above(&'static str, f64),
    /// No bound; for comparison only.
    None,
}

struct Row {
    arm: Arm,
    bar: Bar,
}

fn row(arm: Arm, bar: Bar) -> Row {
    Row { arm, bar }
}

/// `Picker::pick` alone.
fn pick(count: u32, threads: usize) -> Arm {
    let fleet = fleet(count, WeightedRoundRobin::new());
    let members = Arc::new(fleet.members());
    let picker: Arc<dyn evenkeel::Picker<Server>> = WeightedRoundRobin::new()
        .picker(&View::new(&members))
        .into();
    let name = format!("pick alone, N = {count}, {threads} threads");
    Arm::new(name, threads, move |_| {
        let (members, picker) = (members.clone(), picker.clone());
        let options = PickOptions::new();
        move || {
            let mut cx = PickContext::new(&members, &options, Tick::ZERO, 7);
            std::hint::black_box(picker.pick(&mut cx));
        }
    })
    .warm_up(warm_up(count))
}

/// Warm-up operations: more than a whole cycle through a policy's table.
fn warm_up(count: u32) -> u64 {
    10_000 + 8 * u64::from(count)
}

fn name(policy: &str, count: u32, threads: usize, held: usize, end: End) -> String {
    let end = match end {
        End::Given => "",
        End::Measured => ", default settings",
    };
    format!("{policy}, N = {count}, {threads} threads, {held} held{end}")
}

fn of<L>(policy: fn() -> L, called: &str, count: u32, threads: usize, held: usize, end: End) -> Arm
where
    L: LoadBalancer<Server> + 'static,
{
    let fleet = Arc::new(fleet(count, policy()));
    let name = name(called, count, threads, held, end);
    cycle(name, fleet, threads, held, end).warm_up(warm_up(count))
}

const A1: &str = "floor A, 1 threads";
const A2: &str = "floor A, 2 threads";
const B10: &str = "floor B of 10, 2 threads";
const B100: &str = "floor B of 100, 2 threads";

fn rows() -> Vec<Row> {
    use Bar::{Above, None as Compare, Own, Times};
    let mut rows = vec![
        row(floor_a(1), Compare),
        row(floor_a(2), Compare),
        row(floor_b(10, 2), Compare),
        row(floor_b(100, 2), Compare),
        row(floor_b(1000, 2), Compare),
        row(clock(), Compare),
    ];
    for count in [10, 100, 1_000, 10_000] {
        rows.push(row(pick(count, 1), Times(3.0, A1)));
        rows.push(row(pick(count, 2), Own(1.3)));
    }
    let wrr = |count, threads, held, end| {
        of(
            WeightedRoundRobin::new,
            "weighted round robin",
            count,
            threads,
            held,
            end,
        )
    };
    let two =
        |count, threads, held, end| of(PowerOfTwo::new, "power of two", count, threads, held, end);
    let all = |count, threads, held, end| {
        of(
            LeastConnections::new,
            "least connections",
            count,
            threads,
            held,
            end,
        )
    };
    let adaptive =
        |count, threads, held| of(Adaptive::new, "adaptive", count, threads, held, End::Given);
    for held in [1, 64] {
        for (count, times) in [(10, 5.0), (100, 5.0), (1_000, 5.0), (10_000, 6.0)] {
            rows.push(row(wrr(count, 1, held, End::Given), Times(times, A1)));
            rows.push(row(wrr(count, 2, held, End::Given), Times(6.0, A2)));
        }
        for count in [10, 100, 1_000] {
            rows.push(row(two(count, 1, held, End::Given), Times(7.0, A1)));
        }
        for count in [10, 1_000] {
            rows.push(row(two(count, 2, held, End::Given), Times(14.0, A2)));
        }
        for (count, threads) in [(10, 1), (100, 1), (256, 1), (1_000, 1), (10, 2), (100, 2)] {
            rows.push(row(adaptive(count, threads, held), Compare));
        }
        rows.push(row(all(10, 1, held, End::Given), Times(8.0, A1)));
        rows.push(row(all(100, 1, held, End::Given), Times(20.0, A1)));
        rows.push(row(all(10, 2, held, End::Given), Times(5.0, B10)));
        rows.push(row(all(100, 2, held, End::Given), Times(20.0, B100)));
    }
    for threads in [1, 2] {
        let by_hand = by_hand::requests(10, threads);
        rows.extend(by_hand.map(|arm| row(arm, Compare)));
    }
    rows.push(row(wrr(10, 1, 1, End::Measured), Times(7.0, A1)));
    rows.push(row(two(10, 1, 1, End::Measured), Times(7.0, A1)));
    rows.push(row(all(10, 1, 1, End::Measured), Times(7.0, A1)));
    rows.push(row(wrr(10, 2, 1, End::Measured), Times(9.0, A2)));
    for threads in [1, 2] {
        rows.push(row(uneven(threads), Compare));
    }
    let sooner = LeastResponseTime::new;
    rows.push(row(
        of(sooner, "least response time", 10, 1, 1, End::Measured),
        Compare,
    ));
    let through: Arc<dyn Cluster<Endpoint = Server>> =
        Arc::new(fleet(10, WeightedRoundRobin::new()));
    let plain = "weighted round robin, N = 10, 1 threads, 1 held";
    let called = "weighted round robin through dyn Cluster, N = 10".to_string();
    rows.push(row(
        cycle(called, through, 1, 1, End::Given),
        Above(plain, 0.5),
    ));
    rows.extend(limited().into_iter().map(|arm| row(arm, Compare)));
    let zone = || fleet(10, WeightedRoundRobin::new());
    let zones: Arc<dyn Cluster<Endpoint = Server>> = Arc::new(Failover::new(zone(), zone()));
    let called = "weighted round robin under a Failover, N = 10".to_string();
    rows.push(row(cycle(called, zones, 1, 1, End::Given), Compare));
    rows
}

/// Weights that no table can hold.
fn uneven(threads: usize) -> Arm {
    let weights = [997, 613, 410, 388, 331, 207, 88, 31, 20, 7];
    let servers = (0..).zip(weights);
    let servers = servers.map(|(key, weight)| Server::new(key, ()).with_weight(weight));
    let builder = Fleet::builder().endpoints(servers);
    let fleet = builder.policy(WeightedRoundRobin::new()).build();
    let fleet = Arc::new(fleet.expect("the settings are the defaults"));
    let name = format!("weighted round robin without a table, N = 10, {threads} threads");
    cycle(name, fleet, threads, 1, End::Given)
}

/// The same cycles with limits that are counted but never reached.
fn limited() -> Vec<Arm> {
    fn arm<L>(policy: fn() -> L, called: &str, count: u32, threads: usize, limits: Limits) -> Arm
    where
        L: LoadBalancer<Server> + 'static,
    {
        let of = match limits.max_requests {
            Some(_) => "the fleet",
            None => "each endpoint",
        };
        let builder = Fleet::builder().endpoints(servers(count)).policy(policy());
        let fleet = builder.limits(limits).build();
        let fleet = Arc::new(fleet.expect("the limits are in range"));
        let name = format!("{called}, N = {count}, {threads} threads, a limit of {of}");
        cycle(name, fleet, threads, 1, End::Given).warm_up(warm_up(count))
    }
    let each = || Limits::default().max_requests_per_endpoint(1_000);
    let all = || Limits::default().max_requests(1_000);
    let (wrr, called) = (WeightedRoundRobin::new, "weighted round robin");
    vec![
        arm(wrr, called, 10, 1, each()),
        arm(wrr, called, 10, 2, each()),
        arm(wrr, called, 100, 2, each()),
        arm(wrr, called, 10, 1, all()),
        arm(wrr, called, 10, 2, all()),
        arm(Adaptive::new, "adaptive", 10, 1, each()),
        arm(Adaptive::new, "adaptive", 100, 1, each()),
        arm(LeastConnections::new, "least connections", 100, 1, each()),
        refused(10),
        refused(100),
        refused(10_000),
    ]
}

/// A pick while all endpoints are at their limit.
fn refused(count: u32) -> Arm {
    let builder = Fleet::builder().endpoints(servers(count));
    let builder = builder.policy(WeightedRoundRobin::new());
    let fleet = builder
        .limits(Limits::default().max_requests_per_endpoint(1))
        .build()
        .expect("the limits are in range");
    let held: Vec<_> = std::iter::from_fn(|| fleet.pick_endpoint().ok()).collect();
    let shared = Arc::new((fleet, held));
    Arm::new(format!("refused, N = {count}"), 1, move |_| {
        let shared = shared.clone();
        move || {
            std::hint::black_box(shared.0.pick_endpoint().is_err());
        }
    })
}

fn clock() -> Arm {
    Arm::new("the clock, once", 1, |_| {
        || {
            std::hint::black_box(Instant::now());
        }
    })
}

/// The median time of a pick that does a slice of upkeep, in a fleet of 100 000 endpoints that has had requests.
fn upkeep_slice() -> Duration {
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints(servers(100_000))
        .policy(WeightedRoundRobin::new())
        .clock(clock.clone())
        .build()
        .expect("the settings are the defaults");
    for _ in 0..200_000 {
        let lease = fleet.pick_endpoint().expect("there are endpoints");
        lease.record_with_latency(Outcome::Success, Duration::from_millis(1));
    }
    let slice = || {
        clock.advance(Duration::from_millis(1_001));
        let start = Instant::now();
        let lease = fleet.pick_endpoint().expect("there are endpoints");
        let took = start.elapsed();
        lease.record_with_latency(Outcome::Success, Duration::from_millis(1));
        took.as_nanos() as f64
    };
    let times = (0..300).map(|_| slice()).collect();
    Duration::from_nanos(common::median(times) as u64)
}

fn summary() {
    let (mut arms, bars): (Vec<Arm>, Vec<Bar>) =
        rows().into_iter().map(|row| (row.arm, row.bar)).unzip();
    let times = interleaved(&mut arms, 15, Duration::from_millis(20));
    let time_of = |name: &str| {
        let at = arms.iter().position(|arm| arm.name == name);
        times[at.expect("a row has this name")]
    };
    println!("| row | ns | in floors | at most | holds |");
    println!("|---|---:|---:|---:|---|");
    for ((arm, bar), &time) in arms.iter().zip(&bars).zip(&times) {
        let floor = time_of(if arm.threads == 1 { A1 } else { A2 });
        let (is, most) = match bar {
            Bar::Times(most, of) => (time / time_of(of), *most),
            Bar::Own(most) => (
                time / time_of(&arm.name.replace("2 threads", "1 threads")),
                *most,
            ),
            Bar::Above(than, most) => ((time - time_of(than)) / floor, *most),
            Bar::None => {
                println!("| {} | {time:.1} | {:.1} A | | |", arm.name, time / floor);
                continue;
            }
        };
        let unit = match bar {
            Bar::Times(_, floor) if floor.starts_with("floor B") => "B",
            Bar::Own(_) => "of its own",
            _ => "A",
        };
        let holds = if is <= most { "yes" } else { "NO" };
        println!(
            "| {} | {time:.1} | {is:.1} {unit} | {most} {unit} | {holds} |",
            arm.name
        );
    }
    let slice = upkeep_slice();
    let holds = if slice <= Duration::from_micros(20) {
        "yes"
    } else {
        "NO"
    };
    let micros = slice.as_secs_f64() * 1e6;
    println!(
        "| the slice of upkeep that a pick may pay, N = 100000 | {micros:.1} µs | | 20 µs | {holds} |"
    );
}

fn main() {
    if asked_for("--summary") {
        return summary();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let arms = rows().into_iter().map(|row| row.arm).collect();
    common::criterion_runs(&mut criterion, "cycle", arms);
    criterion.final_summary();
}
