//! Two zones of real servers, with a fleet each, under a `Failover`, and 16 callers with one retry. All servers of the
//! preferred zone are killed. Its traffic moves to the other zone, and comes back by itself once the servers are
//! started again. If a caller sees an error, the example exits with 1. It takes about eight seconds:
//!
//! ```sh
//! cargo run --release --example failover
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel::{
    CallPlan, Caller, Cluster, Ejection, Endpoint, Failover, Fleet, Outcome, Transport, from_sleep,
};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// The zones by name, the preferred one first.
const ZONES: [&str; 2] = ["west", "east"];
const SERVERS_A_ZONE: usize = 3;
/// Tasks that each send one request after the other.
const CALLERS: usize = 16;
/// How long a server takes to answer.
const WORK: Duration = Duration::from_millis(2);
/// The time that one line of the timeline covers.
const LINE: Duration = Duration::from_millis(250);
/// The length of the first ejection, shorter than the default to keep the example short.
const BACK_OFF: Duration = Duration::from_millis(500);
/// How long the zone is down. Ejections last 0.5 s, 1 s and 2 s, plus or minus a quarter, so the last ends at most 2.5
/// s after the restart. The five good probes per server take almost no time.
const DOWN: Duration = Duration::from_millis(2500);
const BACK_WITHIN: Duration = Duration::from_millis(3000);

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// An endpoint: its zone, its address, and its idle connections.
struct Backend {
    zone: usize,
    address: SocketAddr,
    pool: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Endpoint for Backend {
    type Key = SocketAddr;

    fn key(&self) -> SocketAddr {
        self.address
    }
}

impl Backend {
    /// An idle connection, or a new one.
    async fn connect(&self) -> Fallible<SendRequest<Empty<Bytes>>> {
        let keep = || self.pool().pop();
        while let Some(mut kept) = keep() {
            // Fails if the server has closed the connection in the meantime.
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TokioIo::new(TcpStream::connect(self.address).await?);
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Empty<Bytes>>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A GET. The response is the zone that answered.
struct Http;

impl Transport<Backend, ()> for Http {
    type Response = usize;
    type Error = Box<dyn Error + Send + Sync>;

    async fn send(&self, backend: &Backend, (): ()) -> Fallible<usize> {
        let mut connection = backend.connect().await?;
        let request = Request::get("/").header("host", ZONES[backend.zone]);
        let response = connection.send_request(request.body(Empty::new())?).await?;
        response.into_body().collect().await?;
        backend.pool().push(connection);
        Ok(backend.zone)
    }

    /// The servers either answer well or not at all.
    fn classify(&self, result: &Fallible<usize>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Unreachable,
        }
    }
}

/// Serves until the task is aborted, which also drops the connections.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let answer = service_fn(|_| async {
                    sleep(WORK).await;
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                });
                let http = hyper::server::conn::http1::Builder::new();
                connections.spawn(http.serve_connection(TokioIo::new(stream), answer));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Starts a real HTTP/1.1 server in this process.
async fn start(address: SocketAddr) -> Fallible<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    Ok((listener.local_addr()?, tokio::spawn(serve(listener))))
}

/// Starts a zone's servers, and builds a fleet of them.
async fn zone(number: usize) -> Fallible<(Vec<(SocketAddr, JoinHandle<()>)>, Fleet<Backend>)> {
    let mut servers = Vec::new();
    for _ in 0..SERVERS_A_ZONE {
        servers.push(start(([127, 0, 0, 1], 0).into()).await?);
    }
    // There is another zone to fall back to. So all endpoints may be ejected, capacity never counts as short, and an
    // endpoint that fails is not excused because the others fail too.
    let ejection = Ejection::under_failover().base_ejection_time(BACK_OFF);
    let backend = |&(address, _): &(SocketAddr, _)| Backend {
        zone: number,
        address,
        pool: Mutex::default(),
    };
    let fleet = Fleet::builder()
        .name(ZONES[number])
        .endpoints(servers.iter().map(backend))
        .ejection(ejection)
        .build()?;
    Ok((servers, fleet))
}

type Zones = Failover<Fleet<Backend>, Fleet<Backend>>;

/// State that all callers share.
struct Client {
    caller: Caller<Zones, Http>,
    stop: AtomicBool,
    answers: [AtomicU64; 2],
    errors: AtomicU64,
}

async fn call_until_stopped(client: Arc<Client>) {
    while !client.stop.load(Ordering::SeqCst) {
        match client.caller.call(()).await {
            Ok(zone) => client.answers[zone].fetch_add(1, Ordering::SeqCst),
            Err(_) => client.errors.fetch_add(1, Ordering::SeqCst),
        };
    }
}

/// Prints the timeline and checks the promises.
struct Show {
    client: Arc<Client>,
    begun: Instant,
    seen: [u64; 3],
    broken: Vec<String>,
}

impl Show {
    /// Lets traffic flow, and prints a line each quarter of a second. Returns the preferred zone's share in the last
    /// line.
    async fn flow(&mut self, time: Duration) -> f64 {
        let until = Instant::now() + time;
        let mut share = 0.0;
        while Instant::now() < until {
            sleep(LINE).await;
            share = self.line();
        }
        share
    }

    fn line(&mut self) -> f64 {
        let client = &self.client;
        let [west, east] = client
            .answers
            .each_ref()
            .map(|it| it.load(Ordering::SeqCst));
        let stats = client.caller.stats();
        let now = [west, east, stats.retries];
        let [west, east, retries] = [0, 1, 2].map(|at| now[at] - self.seen[at]);
        self.seen = now;
        let percent = |part: u64| 100.0 * part as f64 / (west + east).max(1) as f64;
        println!(
            "{:>7.2} s  {:>5} {:>6.1} % {:>6.1} %  {:>7} {:>7}   {:.0} % of west is eligible",
            self.begun.elapsed().as_secs_f64(),
            west + east,
            percent(west),
            percent(east),
            retries,
            client.errors.load(Ordering::SeqCst),
            100.0 * client.caller.cluster().preferred().availability(),
        );
        percent(west)
    }

    fn say(&self, what: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        println!("{at:>7.2} s  {what}");
    }

    fn promise(&mut self, kept: bool, broken: impl Into<String>) {
        if !kept {
            self.broken.push(broken.into());
        }
    }
}

#[tokio::main]
async fn main() -> Fallible<ExitCode> {
    let (mut west, west_fleet) = zone(0).await?;
    let (_east, east_fleet) = zone(1).await?;
    let zones = Failover::new(west_fleet.clone(), east_fleet);
    // Two attempts. If the first fails, the second goes to the other zone.
    let plan = CallPlan::default().attempts(2);
    let client = Arc::new(Client {
        caller: Caller::new(zones, Http, plan, from_sleep(sleep))?,
        stop: AtomicBool::new(false),
        answers: Default::default(),
        errors: AtomicU64::new(0),
    });
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_until_stopped(Arc::clone(&client)));
    }
    let mut show = Show {
        client: Arc::clone(&client),
        begun: Instant::now(),
        seen: [0; 3],
        broken: Vec::new(),
    };

    println!("     time  calls    west     east   retries  errors");
    let share = show.flow(Duration::from_millis(1500)).await;
    show.promise(share == 100.0, "not all went to west while it was well");

    show.say("all servers of west are killed: ports closed, connections broken off");
    for (_, server) in &mut west {
        server.abort();
        // The error of an aborted task only says that it was aborted.
        let _ = server.await;
    }
    let share = show.flow(DOWN).await;
    show.promise(share == 0.0, "not all moved to east");

    show.say("they are started again on the same ports");
    let restarted = Instant::now();
    for (address, server) in &mut west {
        *server = start(*address).await?.1;
    }
    while west_fleet.availability() < 1.0 && restarted.elapsed() < BACK_WITHIN {
        show.flow(LINE).await;
    }
    show.say(&format!(
        "west is back {:.1?} after that",
        restarted.elapsed()
    ));
    show.promise(west_fleet.availability() == 1.0, "west is not back");
    let share = show.flow(Duration::from_secs(1)).await;
    show.promise(share == 100.0, "not all came back to west");

    client.stop.store(true, Ordering::SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    let (errors, stats) = (client.errors.load(Ordering::SeqCst), client.caller.stats());
    println!(
        "{} calls, {} retries, {errors} errors, in {:.1} s",
        stats.requests,
        stats.retries,
        show.begun.elapsed().as_secs_f64(),
    );
    show.promise(errors == 0, "callers saw errors");
    show.promise(stats.retries > 0, "nobody was at west when it was killed");
    if show.broken.is_empty() {
        println!("All promises were kept.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("Broken promises:\n   {}", show.broken.join("\n   "));
    Ok(ExitCode::FAILURE)
}
