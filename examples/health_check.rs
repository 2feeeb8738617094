//! Active checks against real servers. One fleet is checked by the status of an HTTP answer, another by whether a TCP
//! connection opens. A server turns bad, is ejected before any request reaches it, and comes back by its checks.
//!
//! ```sh
//! cargo run --example health_check
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use evenkeel::{
    Cluster, Ejection, Fleet, HealthCheckSettings, Member, MemberState, Outcome, SlowStart,
    Transport,
};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Sends a GET of a path over a new connection.
struct Http;

impl Transport<SocketAddr, &'static str> for Http {
    type Response = StatusCode;
    type Error = Box<dyn Error + Send + Sync>;

    async fn send(&self, address: &SocketAddr, path: &'static str) -> Fallible<StatusCode> {
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        let request = Request::get(path).header("host", address.to_string());
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        Ok(response.status())
    }

    /// Classifies the answer to a check: 200 passes, and any other status means that the server is unhealthy.
    fn classify(&self, result: &Fallible<StatusCode>) -> Outcome {
        match result {
            Ok(StatusCode::OK) => Outcome::Success,
            Ok(_) => Outcome::Failure,
            Err(_) => Outcome::Unreachable,
        }
    }
}

/// The TCP check: whether a connection opens.
async fn connect(member: Member<SocketAddr>) -> Outcome {
    match TcpStream::connect(member.endpoint()).await {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Unreachable,
    }
}

/// A real HTTP/1.1 server. While it is ill, it answers with status 503.
#[derive(Default)]
struct Server {
    ill: AtomicBool,
    checks: AtomicU64,
    /// How many requests it got, and below how many of them while it was ill.
    requests: AtomicU64,
    met_ill: AtomicU64,
}

impl Server {
    fn answer(&self, request: &Request<Incoming>) -> StatusCode {
        let ill = self.ill.load(Ordering::SeqCst);
        if request.uri().path() != "/health" {
            self.requests.fetch_add(1, Ordering::SeqCst);
            self.met_ill.fetch_add(u64::from(ill), Ordering::SeqCst);
        } else {
            self.checks.fetch_add(1, Ordering::SeqCst);
        }
        if ill {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&self);
            let service = service_fn(move |request| {
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = server.answer(&request);
                async { Ok::<_, Infallible>(response) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    }
}

/// Binds a port and serves on it until the task is aborted.
async fn start(
    address: SocketAddr,
    server: &Arc<Server>,
) -> Fallible<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((address, tokio::spawn(Arc::clone(server).serve(listener))))
}

async fn wait_for(fleet: &Fleet<SocketAddr>, key: SocketAddr, state: MemberState) -> Fallible<()> {
    let begun = Instant::now();
    while fleet
        .member(&key)
        .is_none_or(|member| member.state() != state)
    {
        if begun.elapsed() > Duration::from_secs(3) {
            return Err(format!("{key} is not {state} after 3 s").into());
        }
        sleep(Duration::from_millis(2)).await;
    }
    println!("   {state} after {} ms", begun.elapsed().as_millis());
    Ok(())
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let servers: [Arc<Server>; 3] = Default::default();
    let mut addresses = Vec::new();
    let mut tasks = Vec::new();
    for server in &servers {
        let (address, task) = start(any, server).await?;
        addresses.push(address);
        tasks.push(task);
    }
    let (bad, bad_server) = (addresses[0], &servers[0]);

    // Short times, to keep the example short. The ejection lasts half a second; then two passes bring the endpoint
    // back.
    let ejection = Ejection::default().base_ejection_time(Duration::from_millis(500));
    let fleet = || {
        let builder = Fleet::builder().endpoints(addresses.iter().copied());
        let at_once = builder.slow_start(SlowStart::off());
        at_once.ejection(ejection.clone()).build()
    };
    let settings = HealthCheckSettings::default()
        .interval(Duration::from_millis(100))
        .unhealthy_threshold(3);

    println!("1. HTTP status: three servers pass");
    let by_status = fleet()?;
    let checks = by_status.health_check(settings.clone())?;
    let status_task = tokio::spawn(checks.run_through(Http, |_| "/health", sleep));
    while servers
        .iter()
        .any(|server| server.checks.load(Ordering::SeqCst) < 2)
    {
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(by_status.stats().ejected, 0);

    println!("2. one says 503 on /health: out at the first such answer");
    bad_server.ill.store(true, Ordering::SeqCst);
    wait_for(&by_status, bad, MemberState::Ejected).await?;
    for _ in 0..100 {
        let lease = by_status.pick_endpoint()?;
        assert!(!lease.is_probe() && *lease.endpoint() != bad);
        let status = Http.send(lease.endpoint(), "/").await?;
        assert_eq!(status, StatusCode::OK);
        lease.record(Outcome::Success);
    }
    println!("   100 requests, none of them met it");

    println!("3. it stays out for as long as its checks fail, and no request is a probe");
    sleep(Duration::from_millis(1200)).await;
    let state = by_status.member(&bad).map(|member| member.state());
    assert!(matches!(
        state,
        Some(MemberState::Ejected | MemberState::Probing)
    ));
    assert!((0..100).all(|_| by_status.pick_endpoint().is_ok_and(|it| !it.is_probe())));

    println!("4. it is well again: back by two checks");
    bad_server.ill.store(false, Ordering::SeqCst);
    wait_for(&by_status, bad, MemberState::Ready).await?;
    assert_eq!(bad_server.met_ill.load(Ordering::SeqCst), 0);

    println!("5. TCP connect: its port is closed, out after three checks");
    let by_connect = fleet()?;
    let checks = by_connect.health_check(settings)?;
    let connect_task = tokio::spawn(checks.run(connect, sleep));
    sleep(Duration::from_millis(150)).await;
    assert_eq!(by_connect.stats().ejected, 0);
    tasks[0].abort();
    wait_for(&by_connect, bad, MemberState::Ejected).await?;

    println!("6. its port is open again: back by two checks");
    let (_, task) = start(bad, bad_server).await?;
    tasks.push(task);
    wait_for(&by_connect, bad, MemberState::Ready).await?;

    println!("7. the fleets are dropped: the tasks that checked them end by themselves");
    drop((by_status, by_connect));
    status_task.await?;
    connect_task.await?;

    for (number, server) in servers.iter().enumerate() {
        let checks = server.checks.load(Ordering::SeqCst);
        let requests = server.requests.load(Ordering::SeqCst);
        println!("   server {number}: {checks} checks by status, {requests} requests");
    }
    Ok(())
}
