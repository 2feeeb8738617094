//! The client: endpoints that carry a pool of connections, and the callers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use evenkeel::{Cluster, Endpoint, Fleet, Outcome, Weight};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::{Fallible, TIMEOUT};

pub(crate) type Connection = SendRequest<Empty<Bytes>>;

/// The user's own endpoint type. It carries what the user needs: here a pool of connections, and a tally for the
/// tables.
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) weight: Weight,
    pub(crate) pool: Mutex<Vec<Connection>>,
    pub(crate) tally: Mutex<Tally>,
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
    pub(crate) async fn get(&self) -> Fallible<u16> {
        let mut connection = self.connect().await?;
        let request = Request::get("/").header("host", self.name);
        let response = connection.send_request(request.body(Empty::new())?).await?;
        let status = response.status().as_u16();
        // A connection is free for the next request once the body has been read.
        response.into_body().collect().await?;
        lock(&self.pool).push(connection);
        Ok(status)
    }

    /// An idle connection, or a new one.
    pub(crate) async fn connect(&self) -> Fallible<Connection> {
        let keep = || lock(&self.pool).pop();
        while let Some(mut kept) = keep() {
            // Fails if the server has closed the connection in the meantime; the connection is then dropped.
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

/// What callers measured at one endpoint in one step, or in total.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) picked: u64,
    pub(crate) latencies: Vec<Duration>,
    pub(crate) faults: Vec<Outcome>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.picked += other.picked;
        self.latencies.extend(other.latencies);
        self.faults.extend(other.faults);
    }

    /// The p50 and the p99 of the successful requests, in milliseconds, for display.
    pub(crate) fn quantiles(&mut self) -> [String; 2] {
        self.latencies.sort_unstable();
        [50, 99].map(|percent| {
            let rank = (self.latencies.len() * percent).div_ceil(100);
            let latency = rank.checked_sub(1).map(|at| self.latencies[at]);
            latency.map_or_else(|| "-".into(), milliseconds)
        })
    }
}

/// State that all callers share.
pub(crate) struct Client {
    pub(crate) fleet: Fleet<Backend>,
    pub(crate) stop: AtomicBool,
    pub(crate) refused_picks: AtomicU64,
    /// The endpoint that has been removed. Set after `remove` has returned.
    pub(crate) removed: OnceLock<&'static str>,
    pub(crate) picks_of_removed: AtomicU64,
}

/// One caller: picks an endpoint, does its own I/O, and records the outcome.
pub(crate) async fn call_until_stopped(client: Arc<Client>) {
    while !client.stop.load(Ordering::SeqCst) {
        // Read before the pick: a pick that starts after the removal must not return this endpoint.
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
            // Connection refused, reset, or closed early.
            Ok(Err(_)) => Outcome::Unreachable,
            Err(_) => Outcome::Timeout,
        };
        let latency = started.elapsed();
        if outcome.is_fault() {
            lock(&backend.tally).faults.push(outcome);
        } else {
            lock(&backend.tally).latencies.push(latency);
        }
        // If this task is dropped before this line, the lease is dropped too. The fleet treats that as an abandoned
        // request: it is neutral if it was short, and a timeout if it took longer than the fleet's patience.
        lease.record(outcome);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
