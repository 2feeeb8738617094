//! The main job on real input: HTTP servers on this machine, 48 concurrent callers, and a fleet that
//! changes under them. While traffic flows without a pause,
//!
//! 1. three servers of weights 3 : 2 : 1, the last of them slow, share it by weighted round robin,
//! 2. the policy is changed, and the slow one gets less,
//! 3. one server is killed, and ejected after a few failures,
//! 4. it is started again on the same port, and comes back by itself,
//! 5. a fourth is inserted,
//! 6. the slow one is drained and removed.
//!
//! Each step prints a table and checks its promises; a broken one makes the example exit with 1. It
//! takes about ten seconds:
//!
//! ```sh
//! cargo run --release --example quickstart
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use evenkeel::{
    Cluster, Ejection, Endpoint, Fleet, LeastResponseTime, Member, MemberState, Outcome, Weight,
    WeightedRoundRobin,
};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Tasks that send one request after the other.
const CALLERS: u64 = 48;
/// The least number of requests in all, and in each of the five steps that are measured.
const REQUESTS: u64 = 20_000;
const REQUESTS_A_STEP: u64 = REQUESTS / 5;
/// How long traffic flows in each of them, at least.
const STEP: Duration = Duration::from_millis(1400);
/// How long a caller waits for an answer.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Faults in a row that eject. It is the default, named because a bound below depends on it.
const FAULTS: u32 = 5;
/// The first ejection's length. Shorter than the default, so that the example is.
const BACK_OFF: Duration = Duration::from_millis(500);
/// How far a share of weighted round robin may be off, in percentage points.
const TOLERANCE: f64 = 0.5;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

// ----------------------------------------------------------------------------------- the servers

/// A real HTTP/1.1 server in this process.
struct Server {
    site: Arc<Site>,
    address: SocketAddr,
    running: JoinHandle<()>,
}

struct Site {
    name: &'static str,
    delay: Duration,
    /// Requests that have reached it.
    arrived: AtomicU64,
}

impl Server {
    async fn start(name: &'static str, delay: u64) -> Fallible<Self> {
        let site = Arc::new(Site {
            name,
            delay: Duration::from_millis(delay),
            arrived: AtomicU64::new(0),
        });
        Self::listen(site, ([127, 0, 0, 1], 0).into()).await
    }

    async fn listen(site: Arc<Site>, address: SocketAddr) -> Fallible<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            site: Arc::clone(&site),
            address: listener.local_addr()?,
            running: tokio::spawn(site.serve(listener)),
        })
    }

    /// Closes the port and breaks off all connections, as a crash would.
    async fn kill(&mut self) {
        self.running.abort();
        // All that an aborted task can say is that it was aborted.
        let _ = (&mut self.running).await;
    }

    fn arrived(&self) -> u64 {
        self.site.arrived.load(Ordering::SeqCst)
    }

    /// What a client knows of it.
    fn backend(&self, weight: u32) -> Backend {
        Backend {
            name: self.site.name,
            address: self.address,
            weight: weight.into(),
            pool: Mutex::default(),
            tally: Mutex::default(),
        }
    }
}

impl Site {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        // Goes with this task, and takes the connections along.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    let site = Arc::clone(&self);
                    let answer = service_fn(move |_| {
                        let site = Arc::clone(&site);
                        async move {
                            site.arrived.fetch_add(1, Ordering::SeqCst);
                            sleep(site.delay).await;
                            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(site.name))))
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    connections.spawn(http.serve_connection(TokioIo::new(stream), answer));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

// ------------------------------------------------------------------------------------ the client

type Connection = SendRequest<Empty<Bytes>>;

/// The endpoint type is the user's own and carries what is the user's: here a pool of connections, and
/// a tally for the tables.
struct Backend {
    name: &'static str,
    address: SocketAddr,
    weight: Weight,
    pool: Mutex<Vec<Connection>>,
    tally: Mutex<Tally>,
}

impl Endpoint for Backend {
    type Key = &'static str;

    fn key(&self) -> Self::Key {
        self.name
    }

    fn weight(&self) -> Weight {
        self.weight
    }
}

impl Backend {
    /// Sends a GET and returns the status.
    async fn get(&self) -> Fallible<u16> {
        let mut connection = self.connect().await?;
        let request = Request::get("/").header("host", self.name);
        let response = connection.send_request(request.body(Empty::new())?).await?;
        let status = response.status().as_u16();
        // A connection is free for the next request once the body has been read.
        response.into_body().collect().await?;
        lock(&self.pool).push(connection);
        Ok(status)
    }

    /// A kept connection, or a new one.
    async fn connect(&self) -> Fallible<Connection> {
        let keep = || lock(&self.pool).pop();
        while let Some(mut kept) = keep() {
            // One that the server has closed meanwhile says so here, and is dropped.
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        let stream = TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// What callers saw of one endpoint in one step, or of all in the end.
#[derive(Default)]
struct Tally {
    picked: u64,
    latencies: Vec<Duration>,
    faults: Vec<Outcome>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.picked += other.picked;
        self.latencies.extend(other.latencies);
        self.faults.extend(other.faults);
    }

    /// The p50 and the p99 of the successes, in milliseconds, for display.
    fn quantiles(&mut self) -> [String; 2] {
        self.latencies.sort_unstable();
        [50, 99].map(|percent| {
            let rank = (self.latencies.len() * percent).div_ceil(100);
            let latency = rank.checked_sub(1).map(|at| self.latencies[at]);
            latency.map_or_else(|| "-".into(), milliseconds)
        })
    }
}

/// What all callers share.
struct Client {
    fleet: Fleet<Backend>,
    stop: AtomicBool,
    refused_picks: AtomicU64,
    /// The endpoint that has been removed; set once `remove` has returned.
    removed: OnceLock<&'static str>,
    picks_of_removed: AtomicU64,
}

/// One caller: picks an endpoint, does its own I/O, and tells the fleet how that went.
async fn call_until_stopped(client: Arc<Client>) {
    while !client.stop.load(Ordering::SeqCst) {
        // Read before the pick: a pick that starts now must not yield it.
        let removed = client.removed.get();
        let Ok(lease) = client.fleet.pick_endpoint() else {
            client.refused_picks.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        let backend = lease.endpoint();
        if removed == Some(&backend.name) {
            client.picks_of_removed.fetch_add(1, Ordering::SeqCst);
        }
        lock(&backend.tally).picked += 1;

        let started = Instant::now();
        let outcome = match timeout(TIMEOUT, backend.get()).await {
            Ok(Ok(status)) if status >= 500 => Outcome::Failure,
            Ok(Ok(_)) => Outcome::Success,
            // Refused, reset, or broken off.
            Ok(Err(_)) => Outcome::Unreachable,
            Err(_) => Outcome::Timeout,
        };
        let latency = started.elapsed();
        if outcome.is_fault() {
            lock(&backend.tally).faults.push(outcome);
        } else {
            lock(&backend.tally).latencies.push(latency);
        }
        // Were this task dropped before this line, so would be the lease. The fleet takes that for an
        // abandoned request: neutral if it was short, a timeout if it outlasted the fleet's patience.
        lease.record(outcome);
    }
}

// ----------------------------------------------------------------------- the steps and the tables

/// Watches the callers: prints the tables, and keeps the books.
struct Show {
    client: Arc<Client>,
    total: Tally,
    broken: Vec<String>,
}

/// One line of a table; shares in percent.
struct Row {
    name: &'static str,
    wanted: f64,
    had: f64,
    faults: usize,
}

impl Show {
    fn members(&self) -> Vec<Member<Backend>> {
        self.client.fleet.members()
    }

    fn promise(&mut self, kept: bool, broken: impl Into<String>) {
        if !kept {
            let broken = broken.into();
            println!("   BROKEN: {broken}");
            self.broken.push(broken);
        }
    }

    /// Waits until an endpoint is in this state, and promises that this takes `most` at most.
    async fn wait_for(&mut self, name: &str, state: MemberState, since: Instant, most: Duration) {
        let is = |it: &Member<Backend>| it.endpoint().name == name && it.state() == state;
        while !self.members().iter().any(is) && since.elapsed() < most {
            sleep(Duration::from_millis(1)).await;
        }
        let took = since.elapsed();
        let within = format!("{} ms, at most {most:?}", milliseconds(took));
        println!("   {name} is {state} after {within}");
        self.promise(took < most, format!("{name} is not {state}"));
    }

    /// Lets traffic flow for a while. Then prints the table, and adds its numbers to the total.
    async fn flow(&mut self) -> Vec<Row> {
        let started = Instant::now();
        let picked = |member: &Member<Backend>| lock(&member.endpoint().tally).picked;
        while started.elapsed() < STEP
            || self.members().iter().map(picked).sum::<u64>() < REQUESTS_A_STEP
        {
            sleep(Duration::from_millis(10)).await;
        }
        self.table()
    }

    /// The same from 0, for a step in which nobody may see a fault.
    async fn calm(&mut self) -> Vec<Row> {
        self.sweep();
        let rows = self.flow().await;
        let faults: usize = rows.iter().map(|row| row.faults).sum();
        self.promise(faults == 0, format!("{faults} faults in a calm step"));
        rows
    }

    /// The same under weighted round robin, with everybody in.
    async fn even(&mut self) {
        for row in self.calm().await {
            let (had, wanted) = (row.had, row.wanted);
            let off = format!("{} had {had:.2} % and not {wanted:.2} %", row.name);
            self.promise((wanted - had).abs() <= TOLERANCE, off);
        }
    }

    /// Adds what is tallied so far to the total; returns how many faults were among it.
    fn sweep(&mut self) -> usize {
        let before = self.total.faults.len();
        for member in self.members() {
            let tally = std::mem::take(&mut *lock(&member.endpoint().tally));
            self.total.add(tally);
        }
        self.total.faults.len() - before
    }

    fn table(&mut self) -> Vec<Row> {
        println!(
            "   endpoint  weight  share wanted      had  in flight   p50 ms   p99 ms  faults  \
             score  state"
        );
        let members = self.members();
        let tally = |of: &Member<Backend>| std::mem::take(&mut *lock(&of.endpoint().tally));
        let tallies: Vec<Tally> = members.iter().map(tally).collect();
        let weight = |of: &Member<Backend>| match of.state() {
            MemberState::Ready | MemberState::Up => f64::from(of.weight().get()),
            _ => 0.0,
        };
        let weights: f64 = members.iter().map(weight).sum();
        let picks: u64 = tallies.iter().map(|tally| tally.picked).sum();
        let mut rows = Vec::new();
        for (member, mut tally) in members.iter().zip(tallies) {
            let name = member.endpoint().name;
            let wanted = 100.0 * weight(member) / weights.max(1.0);
            let had = 100.0 * tally.picked as f64 / picks.max(1) as f64;
            let faults = tally.faults.len();
            let [p50, p99] = tally.quantiles();
            let (weight, in_flight) = (member.weight().get(), member.in_flight());
            let (score, state) = (member.score(), member.state());
            println!(
                "   {name:<8}  {weight:>6}  {wanted:>10.1} %  {had:>5.1} %  {in_flight:>9}  \
                 {p50:>7}  {p99:>7}  {faults:>6}  {score:>5.2}  {state}"
            );
            rows.push(Row {
                name,
                wanted,
                had,
                faults,
            });
            self.total.add(tally);
        }
        rows
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// How many probes can have gone out within `down`. Each back-off is twice the one before, and jitter
/// can make it a quarter shorter.
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

    println!("\n2. set_policy(LeastResponseTime): gamma gets less");
    fleet.set_policy(LeastResponseTime::new())?;
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
    // The last back-off may have begun just now, a quarter longer by jitter; the probe takes time too.
    let bound = BACK_OFF.mul_f64(1.25) * (1 << probes) + 2 * TIMEOUT;
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

    // What the crash may cost: FAULTS faults in a row eject. A caller has one request at a time, so when
    // the last of these is recorded, at most CALLERS others have been picked before and are on their
    // way. After that no request goes there but the probes, one a back-off; and nothing else fails.
    // (An answer that beta sent just before it died may set the row back. There is room for that: only
    // a part of the callers can have been at beta.)
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
