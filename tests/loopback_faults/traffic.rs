//! The client: sends requests at a fixed rate, however they end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel::{Cluster, Endpoint, Fleet, Outcome, Target};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep_until, timeout};

/// The time between two requests.
pub(crate) const PERIOD: Duration = Duration::from_micros(2500);
/// How long a caller waits for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An endpoint's data: its address, and its kept-alive connections.
struct Peer {
    address: SocketAddr,
    pool: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Peer {
    /// Sends a GET and returns the status.
    async fn get(&self) -> Fallible<u16> {
        let mut connection = self.connect().await?;
        let request = Request::get("/").header("host", "server");
        let response = connection.send_request(request.body(Empty::new())?).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        self.pool.lock().unwrap().push(connection);
        Ok(status)
    }

    /// A kept connection, or a new one.
    async fn connect(&self) -> Fallible<SendRequest<Empty<Bytes>>> {
        let keep = || self.pool.lock().unwrap().pop();
        while let Some(mut kept) = keep() {
            // A connection that the server has closed meanwhile fails here.
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TokioIo::new(TcpStream::connect(self.address).await?);
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// One request as its caller saw it.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// When it was to start, counted from the first request.
    pub(crate) at: Duration,
    /// The server; `None` if the pick was refused.
    pub(crate) server: Option<usize>,
    pub(crate) outcome: Outcome,
    /// Counted from when it was to start, so that a stall of this process shows.
    pub(crate) latency: Duration,
}

impl Seen {
    pub(crate) fn is_error(&self) -> bool {
        self.outcome != Outcome::Success
    }
}

struct Shared {
    fleet: Fleet<Target<usize, Peer>>,
    begun: Instant,
    seen: Mutex<Vec<Seen>>,
    stop: AtomicBool,
}

/// The running client, with threads of its own.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    runtime: Runtime,
    launcher: JoinHandle<()>,
}

impl Traffic {
    /// Starts requests over a fleet that has the defaults everywhere.
    pub(crate) fn start(addresses: impl Iterator<Item = SocketAddr>) -> Self {
        let peers = addresses.enumerate().map(|(number, address)| {
            let pool = Mutex::default();
            Target::new(number, Peer { address, pool })
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            fleet: Fleet::builder().endpoints(peers).build().unwrap(),
            begun: Instant::now(),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let launcher = runtime.spawn(launch(Arc::clone(&shared)));
        Self {
            shared,
            runtime,
            launcher,
        }
    }

    /// The time since the first request was to start.
    pub(crate) fn now(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    pub(crate) fn wait_until(&self, at: Duration) {
        std::thread::sleep(at.saturating_sub(self.now()));
    }

    /// The requests that have ended by now.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Starts no more requests, waits for those under way, and returns all.
    pub(crate) fn finish(self) -> Vec<Seen> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.runtime.block_on(self.launcher).unwrap();
        assert_eq!(self.shared.fleet.stats().in_flight, 0);
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }
}

async fn launch(shared: Arc<Shared>) {
    let mut under_way = JoinSet::new();
    for number in 0.. {
        let at = PERIOD * number;
        sleep_until((shared.begun + at).into()).await;
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        under_way.spawn(call(Arc::clone(&shared), at));
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

async fn call(shared: Arc<Shared>, at: Duration) {
    let (server, outcome) = match shared.fleet.pick_endpoint() {
        Err(_) => (None, Outcome::Ignored),
        Ok(lease) => {
            let outcome = match timeout(TIMEOUT, lease.endpoint().data().get()).await {
                Ok(Ok(status)) if status >= 500 => Outcome::Failure,
                Ok(Ok(_)) => Outcome::Success,
                // The connection was refused, reset or broken off.
                Ok(Err(_)) => Outcome::Unreachable,
                Err(_) => Outcome::Timeout,
            };
            let server = lease.endpoint().key();
            lease.record(outcome);
            (Some(server), outcome)
        }
    };
    let latency = shared.begun.elapsed().saturating_sub(at);
    shared.seen.lock().unwrap().push(Seen {
        at,
        server,
        outcome,
        latency,
    });
}
