//! Measures what 16 callers in closed loops see when many of ten real servers are killed at once: three of them, with
//! and without a retry; then all of them; then all servers of a zone. It uses processes and sockets of this machine,
//! and default settings except where stated.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // This test gives the servers no orders.
#[path = "loopback_faults/server.rs"]
mod server;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use evenkeel::{
    CallPlan, Caller, Cluster, Ejection, Failover, Fleet, FleetBuilder, Outcome, PanicRule, Target,
    Transport, from_sleep,
};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use server::Server;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::sleep;

const SERVERS: usize = 10;
const CALLERS: usize = 16;
/// How long a caller waits after an error. This is the caller's own back-off, and no call of it is in flight meanwhile.
const AFTER_ERROR: Duration = Duration::from_millis(100);
const WARM_UP: Duration = Duration::from_millis(1500);

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Pool = Mutex<Vec<SendRequest<Empty<Bytes>>>>;
/// A server's address, and the idle connections to it.
type Peer = Target<SocketAddr, Pool>;

struct Http;

impl Transport<Peer, ()> for Http {
    type Response = SocketAddr;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    async fn send(&self, peer: &Peer, (): ()) -> Fallible<SocketAddr> {
        let (address, pool) = (evenkeel::Endpoint::key(peer), peer.data());
        let keep = || pool.lock().unwrap().pop();
        let mut ready = None;
        while let (None, Some(mut kept)) = (&ready, keep()) {
            // A connection that the server has closed meanwhile is found out here.
            ready = kept.ready().await.is_ok().then_some(kept);
        }
        let mut connection = match ready {
            Some(kept) => kept,
            None => {
                let stream = TokioIo::new(TcpStream::connect(address).await?);
                let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
                tokio::spawn(connection);
                sender
            }
        };
        let request = Request::get("/").header("host", "server");
        let response = connection.send_request(request.body(Empty::new())?).await?;
        response.into_body().collect().await?;
        pool.lock().unwrap().push(connection);
        Ok(address)
    }

    /// The servers answer well or not at all.
    fn classify(&self, result: &Fallible<SocketAddr>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Unreachable,
        }
    }
}

/// Callers in closed loops, on a runtime of their own.
struct Traffic<C> {
    client: Arc<Client<C>>,
    runtime: Runtime,
    callers: JoinSet<()>,
}

struct Client<C> {
    caller: Caller<C, Http>,
    stop: AtomicBool,
    successes: AtomicU64,
    errors: AtomicU64,
}

impl<C: Cluster<Endpoint = Peer> + 'static> Traffic<C> {
    fn start(cluster: C, attempts: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let plan = CallPlan::default().attempts(attempts);
        let client = Arc::new(Client {
            caller: Caller::new(cluster, Http, plan, from_sleep(sleep)).unwrap(),
            stop: AtomicBool::new(false),
            successes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn_on(call(Arc::clone(&client)), runtime.handle());
        }
        Self {
            client,
            runtime,
            callers,
        }
    }

    fn successes(&self) -> u64 {
        self.client.successes.load(SeqCst)
    }

    fn errors(&self) -> u64 {
        self.client.errors.load(SeqCst)
    }

    /// How long it takes from now until the next success; `None` if that is not within `most`.
    fn success_within(&self, most: Duration) -> Option<Duration> {
        let (begun, before) = (Instant::now(), self.successes());
        while begun.elapsed() < most {
            if self.successes() > before {
                return Some(begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    fn finish(mut self) {
        self.client.stop.store(true, SeqCst);
        self.runtime.block_on(async {
            while let Some(ended) = self.callers.join_next().await {
                ended.unwrap();
            }
        });
    }
}

async fn call<C: Cluster<Endpoint = Peer>>(client: Arc<Client<C>>) {
    while !client.stop.load(SeqCst) {
        if client.caller.call(()).await.is_ok() {
            client.successes.fetch_add(1, SeqCst);
        } else {
            client.errors.fetch_add(1, SeqCst);
            sleep(AFTER_ERROR).await;
        }
    }
}

fn fleet_of(servers: &[Server]) -> FleetBuilder<Peer> {
    let peers = servers
        .iter()
        .map(|it| Target::new(it.address, Pool::default()));
    Fleet::builder().endpoints(peers)
}

fn servers(count: usize) -> Vec<Server> {
    (0..count).map(|_| Server::start()).collect()
}

/// Serialises the tests: they would disturb each other, and one of them measures the whole process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Not a test: this is what the server processes run.
#[test]
fn serves() {
    if let Ok(address) = std::env::var(server::ADDRESS) {
        server::serve(&address);
    }
}

/// How many failures the callers see within 4 s after three of ten servers are killed.
fn three_are_killed(attempts: u32) -> u64 {
    let _turn = turn();
    let mut servers = servers(SERVERS);
    let fleet = fleet_of(&servers).build().unwrap();
    let traffic = Traffic::start(fleet.clone(), attempts);
    std::thread::sleep(WARM_UP);
    assert_eq!(traffic.errors(), 0);
    servers.iter_mut().take(3).for_each(Server::kill);
    std::thread::sleep(Duration::from_secs(4));
    let (errors, successes) = (traffic.errors(), traffic.successes());
    let stats = traffic.client.caller.stats();
    println!("{attempts} attempts: {errors} errors, {successes} successes, {stats:?}");
    assert_eq!(fleet.stats().ejected, 3);
    traffic.finish();
    assert_eq!(fleet.stats().in_flight, 0);
    errors
}

#[test]
fn three_of_ten_die_and_one_retry_hides_it() {
    assert!(three_are_killed(2) <= 3);
}

#[test]
fn three_of_ten_die_and_each_costs_what_detects_it() {
    /// Failures in a row that make the sequential test eject where no other endpoint fails.
    const EJECTS: u64 = 2;
    // When the last of these failures is recorded, earlier picks are still on their way: no more than there are
    // callers. After that only probes fail: ejections last 2 s and 4 s, give or take a quarter, so each server has one
    // in 4 s.
    let errors = three_are_killed(1);
    assert!(errors <= 3 * EJECTS + CALLERS as u64 + 3, "{errors}");
    assert!(errors > 0);
}

/// The processor time that this process has used, in seconds.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Fields 14 and 15, in hundredths of a second. The name before them may contain anything but ") ".
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / 100.0
}

/// Kills all servers and restarts them after three seconds. Returns the share of a processor that the callers' process
/// uses meanwhile, and the time from when the first server listens again to the first success.
fn all_are_killed(fleet: Fleet<Peer>, mut servers: Vec<Server>) -> (f64, Option<Duration>) {
    let traffic = Traffic::start(fleet.clone(), 2);
    std::thread::sleep(WARM_UP);
    assert_eq!(traffic.errors(), 0);
    servers.iter_mut().for_each(Server::kill);
    // What was in flight has ended by then.
    std::thread::sleep(Duration::from_millis(500));
    let (begun, before, successes) = (Instant::now(), processor_time(), traffic.successes());
    std::thread::sleep(Duration::from_millis(2500));
    let share = (processor_time() - before) / begun.elapsed().as_secs_f64();
    assert_eq!(traffic.successes(), successes);
    let errors = traffic.errors();
    let (one, others) = servers.split_first_mut().unwrap();
    one.restart();
    let first = std::thread::scope(|scope| {
        scope.spawn(|| others.iter_mut().for_each(Server::restart));
        match traffic.successes() > successes {
            true => Some(Duration::ZERO),
            false => traffic.success_within(Duration::from_secs(5)),
        }
    });
    println!(
        "{:.1} % of a processor, {errors} errors, {} ejected, first success after {first:?}",
        100.0 * share,
        fleet.stats().ejected
    );
    traffic.finish();
    assert_eq!(fleet.stats().in_flight, 0);
    (share, first)
}

/// The base ejection time is 1 s. Where only probes can find that a server is back, so is the longest ejection: it
/// would double while all are down.
#[test]
fn all_ten_die_and_no_processor_runs_hot() {
    let second = Duration::from_secs(1);
    let base = Ejection::default().base_ejection_time(second);
    let all = base.clone().max_ejection_time(second);
    let all = all.max_ejection_percent(100).consecutive_failures(3);
    for (ejection, panic) in [(base, PanicRule::default()), (all, PanicRule::off())] {
        let _turn = turn();
        let servers = servers(SERVERS);
        let fleet = fleet_of(&servers).ejection(ejection).panic_rule(panic);
        let (share, first) = all_are_killed(fleet.build().unwrap(), servers);
        assert!(share < 0.2, "{share} of a processor");
        assert!(first.is_some_and(|first| first <= 2 * second), "{first:?}");
    }
}

/// Two zones of three processes under a `Failover`: all of the preferred zone dies, and comes back.
#[test]
fn a_zone_dies_and_one_retry_hides_it() {
    let _turn = turn();
    let (mut near, far) = (servers(3), servers(3));
    let zone = |servers: &[Server]| {
        let ejection = Ejection::default().max_ejection_percent(100);
        let ejection = ejection.consecutive_failures(3);
        let builder = fleet_of(servers).ejection(ejection.base_ejection_time(WARM_UP / 3));
        builder.build().unwrap()
    };
    let fleet = zone(&near);
    let traffic = Traffic::start(Failover::new(fleet.clone(), zone(&far)), 2);
    std::thread::sleep(WARM_UP);
    near.iter_mut().for_each(Server::kill);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((fleet.availability(), traffic.errors()), (0.0, 0));
    near.iter_mut().for_each(Server::restart);
    // Ejections of 0.5 s, 1 s and 2 s, up to a quarter longer; then five successful probes for each server.
    let begun = Instant::now();
    while fleet.availability() < 1.0 && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("back after {:?}", begun.elapsed());
    assert_eq!((fleet.availability(), traffic.errors()), (1.0, 0));
    assert!(traffic.success_within(Duration::from_secs(1)).is_some());
    traffic.finish();
}
