//! What does a change of the set cost, and how does it affect picks?
//!
//! `cargo bench --bench update -- --summary` prints medians and says which rows meet their bound. Without it criterion
//! measures each row by itself.

#![allow(missing_docs)] // criterion's macro makes a public function.

mod common;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use common::{Arm, Server, asked_for, fleet, median, servers};
use criterion::Criterion;
use evenkeel::{
    Cluster, Fleet, LoadBalancer, Mark, Outcome, PowerOfTwo, Target, WeightedRoundRobin,
};

fn change(
    name: String,
    fleet: Fleet<Server>,
    mut change: impl FnMut(&Fleet<Server>) + Send + Clone + Sync + 'static,
) -> Arm {
    let fleet = Arc::new(fleet);
    let again = change.clone();
    change(&fleet);
    Arm::new(name, 1, move |_| {
        let (fleet, mut change) = (fleet.clone(), again.clone());
        move || change(&fleet)
    })
    .warm_up(2)
}

/// Inserts an endpoint and removes it again: two changes.
fn in_and_out(fleet: &Fleet<Server>) {
    fleet
        .insert(Target::new(u32::MAX, ()).with_weight(5))
        .expect("there is room");
    assert!(fleet.remove(&u32::MAX));
}

fn reweigh() -> impl FnMut(&Fleet<Server>) + Clone + Send + Sync {
    let mut weight = 1;
    move |fleet| {
        weight = weight % 10 + 1;
        fleet
            .insert(Target::new(3, ()).with_weight(weight))
            .expect("it is there");
    }
}

fn flip(fleet: &Fleet<Server>) {
    fleet.mark(&3, Mark::Down);
    fleet.mark(&3, Mark::Auto);
}

struct Row {
    arm: Arm,
    /// How many changes an operation makes.
    changes: f64,
    most: Duration,
}

fn rows() -> Vec<Row> {
    const MILLI: Duration = Duration::from_millis(1);
    let mut rows = Vec::new();
    let mut row = |arm, changes, most| rows.push(Row { arm, changes, most });
    for (count, plain, exact) in [
        (10_000, MILLI * 3 / 10, MILLI),
        (100_000, 5 * MILLI, 5 * MILLI),
    ] {
        let two = |what: &str| format!("{what}, power of two, N = {count}");
        let wrr = |what: &str| format!("{what}, weighted round robin, N = {count}");
        row(
            change(
                two("insert, remove"),
                fleet(count, PowerOfTwo::new()),
                in_and_out,
            ),
            2.0,
            plain,
        );
        row(
            change(two("re-weigh"), fleet(count, PowerOfTwo::new()), reweigh()),
            1.0,
            plain,
        );
        row(
            change(
                wrr("insert, remove"),
                fleet(count, WeightedRoundRobin::new()),
                in_and_out,
            ),
            2.0,
            exact,
        );
        row(
            change(
                wrr("re-weigh"),
                fleet(count, WeightedRoundRobin::new()),
                reweigh(),
            ),
            1.0,
            exact,
        );
    }
    let all = |fleet: &Fleet<Server>| {
        fleet.update(servers(10_000)).expect("the keys differ");
    };
    row(
        change(
            "update all, N = 10000".into(),
            fleet(10_000, PowerOfTwo::new()),
            all,
        ),
        1.0,
        4 * MILLI,
    );
    row(
        change(
            "health flip, N = 10000".into(),
            fleet(10_000, PowerOfTwo::new()),
            flip,
        ),
        2.0,
        MILLI / 10,
    );
    row(by_hand(10_000), 1.0, Duration::MAX);
    rows
}

/// The hand-written alternative: replaces a list behind a lock.
fn by_hand(count: u32) -> Arm {
    let list: Arc<RwLock<Vec<Server>>> = Arc::new(RwLock::new(servers(count).collect()));
    Arm::new(
        format!("by hand: replace the list, N = {count}"),
        1,
        move |_| {
            let list = list.clone();
            move || *list.write().expect("nobody panics") = black_box(servers(count).collect())
        },
    )
}

/// The median and the 99.9th percentile of a pick's time, first without and then with concurrent changes.
fn picks_beside_changes(policy: impl LoadBalancer<Server> + 'static) -> [(f64, f64); 2] {
    let fleet = fleet(10_000, policy);
    let measure = || {
        let mut times: Vec<f64> = (0..300_000)
            .map(|_| {
                let start = Instant::now();
                let lease = fleet.pick_endpoint().expect("there are endpoints");
                let took = start.elapsed().as_nanos() as f64;
                lease.record_with_latency(Outcome::Success, Duration::from_millis(1));
                took
            })
            .collect();
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[times.len() / 1000 * 999])
    };
    let quiet = measure();
    let stop = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                in_and_out(&fleet);
            }
        });
        let busy = measure();
        stop.store(true, Ordering::Relaxed);
        busy
    });
    [quiet, busy]
}

fn summary() {
    println!("| change | ms | at most | holds |");
    println!("|---|---:|---:|---|");
    for Row {
        mut arm,
        changes,
        most,
    } in rows()
    {
        let times = (0..15).map(|_| arm.run(6).as_secs_f64() * 1e3 / 6.0 / changes);
        let time = median(times.collect());
        let holds = match most {
            Duration::MAX => "",
            most if time <= most.as_secs_f64() * 1e3 => "yes",
            _ => "NO",
        };
        let most = if most == Duration::MAX {
            String::new()
        } else {
            format!("{most:?}")
        };
        println!("| {} | {time:.3} | {most} | {holds} |", arm.name);
    }
    let [quiet, busy] = picks_beside_changes(PowerOfTwo::new());
    let most = 10.0 * quiet.0 + 1_000.0;
    let holds = if busy.1 <= most { "yes" } else { "NO" };
    let (median, worst) = (quiet.0 / 1e6, busy.1 / 1e6);
    println!("| a pick's median, quiet, clock included, N = 10000 | {median:.6} | | |");
    println!(
        "| a pick's p99.9 beside changes, N = 10000 | {worst:.6} | {:.6} | {holds} |",
        most / 1e6
    );
}

fn main() {
    if asked_for("--summary") {
        return summary();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let arms = rows().into_iter().map(|row| row.arm).collect();
    common::criterion_runs(&mut criterion, "update", arms);
    criterion.final_summary();
}
