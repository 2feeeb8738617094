//! The main use with real input: HTTP servers on this machine, 48 concurrent callers, and a fleet that changes under
//! load. While traffic flows without a pause,
//!
//! 1. three servers of weights 3 : 2 : 1, the last of them slow, share it by weighted round robin,
//! 2. the policy is changed, and the slow one gets less,
//! 3. one server is killed, and ejected after a few failures,
//! 4. it is started again on the same port, and comes back by itself,
//! 5. a fourth is inserted,
//! 6. the slow one is drained and removed.
//!
//! Each step prints a table and checks its promises. If one is broken, the example exits with 1. It takes about ten
//! seconds:
//!
//! ```sh
//! cargo run --release --example quickstart
//! ```

mod client;
mod server;
mod show;

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use evenkeel::{Adaptive, Ejection, Fleet, MemberState, Outcome, SlowStart, WeightedRoundRobin};
use tokio::task::JoinSet;

use client::{Client, Tally, call_until_stopped, milliseconds};
use server::Server;
use show::Show;

/// Tasks that each send one request after the other.
const CALLERS: u64 = 48;
/// The least number of requests in total, and in each of the five measured steps.
const REQUESTS: u64 = 20_000;
const REQUESTS_A_STEP: u64 = REQUESTS / 5;
/// How long traffic flows at least in each of these steps.
const STEP: Duration = Duration::from_millis(1400);
/// How long a caller waits for an answer.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Faults in a row that eject an endpoint. The default ejects after as many if no other endpoint fails. It is set
/// explicitly because a bound below depends on it.
const FAULTS: u32 = 2;
/// The length of the first ejection, shorter than the default to keep the example short.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The length of slow start after a return, also shorter than the default.
const WARM_UP: Duration = Duration::from_millis(500);
/// How far a share may be off under weighted round robin, in percentage points.
const TOLERANCE: f64 = 0.5;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many probes can be sent within `down`. Each back-off is twice the one before, and jitter can make it a quarter
/// shorter.
fn probes_within(down: Duration) -> u32 {
    let after = |probes: u32| BACK_OFF.mul_f64(0.75) * ((1 << probes) - 1);
    (1..).take_while(|&probes| after(probes) <= down).count() as u32
}

#[tokio::main]
async fn main() -> Fallible<ExitCode> {
    let begun = Instant::now();
    let alpha = Server::start("alpha", 2).await?;
    let mut beta = Server::start("beta", 2).await?;
    let gamma = Server::start("gamma", 15).await?;
    let ejection = Ejection::default()
        .consecutive_failures(FAULTS)
        .base_ejection_time(BACK_OFF);
    let fleet = Fleet::builder()
        .endpoints([alpha.backend(3), beta.backend(2), gamma.backend(1)])
        .policy(WeightedRoundRobin::new())
        .ejection(ejection)
        .slow_start(SlowStart::default().window(WARM_UP))
        .build()?;

    let client = Arc::new(Client {
        fleet: fleet.clone(),
        stop: AtomicBool::new(false),
        refused_picks: AtomicU64::new(0),
        removed: OnceLock::new(),
        picks_of_removed: AtomicU64::new(0),
    });
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_until_stopped(Arc::clone(&client)));
    }
    let mut show = Show {
        client: Arc::clone(&client),
        total: Tally::default(),
        broken: Vec::new(),
    };

    println!("1. weighted round robin, all healthy, gamma is slow ({CALLERS} callers)");
    show.even().await;

    println!("\n2. set_policy(Adaptive), the default: gamma gets less");
    fleet.set_policy(Adaptive::new())?;
    let rows = show.calm().await;
    let less = rows[2].had < 0.75 * rows[2].wanted;
    show.promise(less, "gamma did not get less");

    println!("\n3. round robin again, and beta is killed: port closed, connections broken off");
    fleet.set_policy(WeightedRoundRobin::new())?;
    show.sweep();
    let killed = Instant::now();
    beta.kill().await;
    let soon = Duration::from_secs(2);
    show.wait_for("beta", MemberState::Ejected, killed, soon)
        .await;
    let rows = show.flow().await;
    let mut crash_faults: usize = rows.iter().map(|row| row.faults).sum();

    println!("\n4. beta is started again on the same port, and comes back by itself");
    beta = Server::listen(Arc::clone(&beta.site), beta.address).await?;
    let (restarted, arrived) = (Instant::now(), beta.arrived());
    let down = restarted - killed;
    let probes = probes_within(down);
    // The last back-off may have just begun, and be a quarter longer by jitter. The probe takes time too.
    let bound = BACK_OFF.mul_f64(1.25) * (1 << probes) + WARM_UP + 2 * TIMEOUT;
    show.wait_for("beta", MemberState::Ready, restarted, bound)
        .await;
    crash_faults += show.sweep();
    show.even().await;
    show.promise(beta.arrived() > arrived, "beta is ready and gets nothing");

    println!("\n5. insert(delta), of weight 2");
    let delta = Server::start("delta", 2).await?;
    fleet.insert(delta.backend(2))?;
    show.even().await;
    show.promise(delta.arrived() > 0, "delta gets nothing");

    println!("\n6. drain(gamma)");
    let started = Instant::now();
    let drain = fleet.drain(&"gamma").ok_or("gamma is not there")?;
    let left = drain.in_flight();
    drain.await;
    let took = milliseconds(started.elapsed());
    let arrived = gamma.arrived();
    println!("   {left} requests were in flight, all ended after {took} ms");
    show.table();
    println!("   remove(gamma)");
    show.promise(fleet.remove(&"gamma"), "gamma could not be removed");
    client.removed.set("gamma")?;
    show.even().await;
    let late = gamma.arrived() - arrived;
    show.promise(late == 0, format!("{late} requests after gamma's drain"));

    client.stop.store(true, Ordering::SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    show.sweep();

    // The bound on failures of the crash. FAULTS faults in a row eject beta. A caller has one request at a time, so
    // when the last of these faults is recorded, at most CALLERS other picks of beta are in flight. After that only
    // probes go to beta, one per back-off, and no other request fails. (An answer that beta sent just before it died
    // may reset the row. The bound has room for that, as only some of the callers can have been at beta.)
    let bound = u64::from(FAULTS) + CALLERS + u64::from(probes);
    let [p50, p99] = show.total.quantiles();
    let count = |kind| show.total.faults.iter().filter(|&&is| is == kind).count();
    let unreachable = count(Outcome::Unreachable);
    let refused = client.refused_picks.load(Ordering::SeqCst);
    println!("\nWhat the callers saw");
    println!("   requests       {:>7}", show.total.picked);
    println!("   p50, p99       {p50:>7} ms, {p99} ms");
    println!("   refused picks  {refused:>7}");
    println!("   5xx            {:>7}", count(Outcome::Failure));
    println!("   timeouts       {:>7}", count(Outcome::Timeout));
    println!(
        "   unreachable    {unreachable:>7}, at most {bound}: {FAULTS} that eject \
         + {CALLERS} callers + {probes} probes in {:.1} s",
        down.as_secs_f64(),
    );

    let (requests, faults) = (show.total.picked, show.total.faults.len());
    show.promise(requests >= REQUESTS, "too few requests");
    show.promise(refused == 0, "picks were refused");
    let bounded = unreachable as u64 <= bound && unreachable == faults;
    show.promise(bounded, "more failures than a crash explains");
    show.promise(faults == crash_faults, "failures while no server was down");
    let picks = client.picks_of_removed.load(Ordering::SeqCst);
    show.promise(picks == 0, format!("{picks} picks of a removed endpoint"));
    let idle = fleet.members().iter().all(|member| member.in_flight() == 0);
    let idle = idle && fleet.stats().in_flight == 0;
    show.promise(idle, "requests are in flight that nobody makes");

    println!("   took {:.1} s", begun.elapsed().as_secs_f64());
    if show.broken.is_empty() {
        println!("All promises were kept.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("Broken promises:\n   {}", show.broken.join("\n   "));
    Ok(ExitCode::FAILURE)
}
