//! The `load` mode: concurrent callers that each send one request after the other, and what they measured.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use evenkeel::{Cluster, Fleet, LoadBalancer, Outcome, PowerOfTwo, RoundRobin};
use hdrhistogram::Histogram;
use hyper::StatusCode;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cpu::Snapshot;
use crate::measured::Measured;
use crate::upstream::Upstream;
use crate::{Fallible, machine};

/// Worker threads that the callers share.
pub(crate) const WORKERS: usize = 2;
/// How much longer than planned a run may take, so that a proxy that hangs does not hang the comparison.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// How an address is chosen for each request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Balancer {
    /// A fleet with its default settings: `Adaptive` compares all endpoints.
    Default,
    /// A fleet that takes the less busy of two, as the proxies do.
    PowerOfTwo,
    /// A fleet with round robin, as the counter does it, which shows the cost of the rest of a fleet.
    RoundRobin,
    /// A counter modulo the number of addresses. With one address it always chooses that one.
    Counter,
}

/// The job of one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) balancer: Balancer,
    pub(crate) callers: usize,
    pub(crate) warm_up: Duration,
    pub(crate) span: Duration,
    pub(crate) addresses: Vec<SocketAddr>,
    /// The processes whose CPU time to read, besides this one.
    pub(crate) upstreams: Vec<u32>,
    pub(crate) proxy: Vec<u32>,
}

impl Job {
    /// The job as arguments for the `load` mode.
    pub(crate) fn args(&self) -> Vec<String> {
        let balancer = match self.balancer {
            Balancer::Default => "default",
            Balancer::PowerOfTwo => "power-of-two",
            Balancer::RoundRobin => "round-robin",
            Balancer::Counter => "counter",
        };
        vec![
            "load".into(),
            balancer.into(),
            self.callers.to_string(),
            self.warm_up.as_millis().to_string(),
            self.span.as_millis().to_string(),
            joined(&self.addresses),
            joined(&self.upstreams),
            joined(&self.proxy),
        ]
    }

    /// Parses the arguments after `load`.
    pub(crate) fn parse(args: &[&str]) -> Fallible<Self> {
        let &[
            balancer,
            callers,
            warm_up,
            span,
            addresses,
            upstreams,
            proxy,
        ] = args
        else {
            return Err("load takes seven arguments".into());
        };
        Ok(Self {
            balancer: match balancer {
                "default" => Balancer::Default,
                "power-of-two" => Balancer::PowerOfTwo,
                "round-robin" => Balancer::RoundRobin,
                "counter" => Balancer::Counter,
                other => return Err(format!("no balancer is called {other}").into()),
            },
            callers: callers.parse()?,
            warm_up: Duration::from_millis(warm_up.parse()?),
            span: Duration::from_millis(span.parse()?),
            addresses: split(addresses)?,
            upstreams: split(upstreams)?,
            proxy: split(proxy)?,
        })
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(",")
}

fn split<T>(list: &str) -> Fallible<Vec<T>>
where
    T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let items = list.split(',').filter(|item| !item.is_empty());
    items.map(|item| item.parse().map_err(Into::into)).collect()
}

/// Does the job and prints the measurements on one line.
pub(crate) fn run(job: &Job) -> Fallible<ExitCode> {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(WORKERS).enable_all().build()?;
    let within = job.warm_up + job.span + GRACE;
    let measured = runtime.block_on(async { timeout(within, measure(job)).await })??;
    println!("{}", measured.line());
    Ok(ExitCode::SUCCESS)
}

async fn measure(job: &Job) -> Fallible<Measured> {
    let client = Arc::new(Client::new(job)?);
    let mut callers = JoinSet::new();
    for _ in 0..job.callers {
        callers.spawn(Arc::clone(&client).call_until_stopped());
    }
    sleep(job.warm_up).await;

    let before = Snapshot::take(&job.upstreams, &job.proxy)?;
    let begun = Instant::now();
    client.phase.store(MEASURED, Ordering::Relaxed);
    sleep(job.span).await;
    client.phase.store(OVER, Ordering::Relaxed);
    let seconds = begun.elapsed().as_secs_f64();
    let spent = Snapshot::take(&job.upstreams, &job.proxy)?.since(&before);

    let mut all = Tally::new()?;
    while let Some(tally) = callers.join_next().await {
        let tally = tally??;
        all.latencies.add(&tally.latencies)?;
        all.errors += tally.errors;
    }
    let requests = all.latencies.len();
    if requests == 0 {
        return Err(format!("no request succeeded, {} failed", all.errors).into());
    }
    let quantile = |at| all.latencies.value_at_quantile(at) as f64 / 1000.0;
    Ok(Measured {
        rate: requests as f64 / seconds,
        errors: all.errors as f64,
        p50: quantile(0.5),
        p99: quantile(0.99),
        client: spent.client / requests as f64,
        upstreams: spent.upstreams / requests as f64,
        proxy: spent.proxy / requests as f64,
        others: 100.0 * spent.other / (seconds * 1e6 * machine::processors() as f64),
    })
}

const WARMING: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

/// State that all callers share.
struct Client {
    route: Route,
    phase: AtomicU8,
}

enum Route {
    Fleet(Fleet<Upstream>),
    Counter(Vec<Upstream>, AtomicUsize),
}

fn fleet_with(
    upstreams: Vec<Upstream>,
    policy: impl LoadBalancer<Upstream> + 'static,
) -> Fallible<Route> {
    let fleet = Fleet::builder().endpoints(upstreams).policy(policy);
    Ok(Route::Fleet(fleet.build()?))
}

/// The measurements of one caller, or of all.
struct Tally {
    /// Latencies of the successes, in nanoseconds.
    latencies: Histogram<u64>,
    errors: u64,
}

impl Client {
    fn new(job: &Job) -> Fallible<Self> {
        let upstreams = job.addresses.iter().map(|&address| Upstream::new(address));
        let upstreams = upstreams.collect::<Fallible<Vec<_>>>()?;
        let route = match job.balancer {
            Balancer::Default => Route::Fleet(Fleet::builder().endpoints(upstreams).build()?),
            Balancer::PowerOfTwo => fleet_with(upstreams, PowerOfTwo::new())?,
            Balancer::RoundRobin => fleet_with(upstreams, RoundRobin::new())?,
            Balancer::Counter => Route::Counter(upstreams, AtomicUsize::new(0)),
        };
        Ok(Self {
            route,
            phase: AtomicU8::new(WARMING),
        })
    }

    async fn call_until_stopped(self: Arc<Self>) -> Fallible<Tally> {
        let mut tally = Tally::new()?;
        while self.phase.load(Ordering::Relaxed) != OVER {
            let begun = Instant::now();
            let status = self.call().await;
            let took = begun.elapsed();
            if !matches!(status, Ok(StatusCode::OK)) {
                // Errors count during the warm-up too, as none is expected at any time.
                tally.errors += 1;
                sleep(Duration::from_millis(1)).await;
            } else if self.phase.load(Ordering::Relaxed) == MEASURED {
                tally.latencies.record(took.as_nanos() as u64)?;
            }
        }
        Ok(tally)
    }

    /// Sends one request along the route.
    async fn call(&self) -> Fallible<StatusCode> {
        match &self.route {
            Route::Fleet(fleet) => {
                let lease = fleet.pick_endpoint()?;
                let result = lease.endpoint().get().await;
                lease.record(match &result {
                    Ok(status) if status.is_server_error() => Outcome::Failure,
                    Ok(_) => Outcome::Success,
                    Err(_) => Outcome::Unreachable,
                });
                result
            }
            Route::Counter(upstreams, next) => {
                let next = next.fetch_add(1, Ordering::Relaxed);
                upstreams[next % upstreams.len()].get().await
            }
        }
    }
}

impl Tally {
    fn new() -> Fallible<Self> {
        // From a microsecond to a minute, with three significant digits.
        Ok(Self {
            latencies: Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?,
            errors: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_its_arguments() {
        let job = Job {
            balancer: Balancer::PowerOfTwo,
            callers: 3,
            warm_up: Duration::from_millis(10),
            span: Duration::from_millis(20),
            addresses: vec![([127, 0, 0, 1], 80).into(), ([127, 0, 0, 1], 81).into()],
            upstreams: vec![5, 6],
            proxy: vec![],
        };
        let args = job.args();
        let args: Vec<&str> = args[1..].iter().map(String::as_str).collect();
        assert_eq!(Job::parse(&args).unwrap(), job);
    }
}
