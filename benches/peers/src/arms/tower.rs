//! tower: `p2c::Balance` over endpoints that answer at once. It cannot pick without a call, so there are only cycles.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwmaDiscover, PendingRequestsDiscover};
use tower::{BoxError, Service, ServiceExt};

use crate::arm::{Arm, Measure, Run, SHAPES, Shape, on_threads};

/// An endpoint that does no work.
#[derive(Clone)]
struct Idle;

impl Service<()> for Idle {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

type List = ServiceList<Vec<Idle>>;

fn list(endpoints: u32) -> List {
    ServiceList::new::<()>(vec![Idle; endpoints as usize])
}

fn pending_requests(endpoints: u32) -> Balance<PendingRequestsDiscover<List>, ()> {
    let load = PendingRequestsDiscover::new::<()>(list(endpoints), CompleteOnResponse::default());
    Balance::new(load)
}

fn peak_ewma(endpoints: u32) -> Balance<PeakEwmaDiscover<List>, ()> {
    // The values of tower's own example.
    let first_guess = Duration::from_millis(30);
    let decay = Duration::from_secs(10);
    let completion = CompleteOnResponse::default();
    let load = PeakEwmaDiscover::new::<()>(list(endpoints), first_guess, decay, completion);
    Balance::new(load)
}

/// The number of slots that tower's documentation asks for: at least as many as there are concurrent requests.
const BUFFER: usize = 1024;

/// Concurrent requests per thread in the arms that measure throughput.
const MANY: usize = 64;

pub(super) fn arms(measure: Measure) -> Vec<Arm> {
    if measure != Measure::Cycle {
        return Vec::new();
    }
    let runtimes = [1, 2].map(|workers| Arc::new(runtime(workers)));
    let mut arms = Vec::new();
    let names = [
        "tower PendingRequests, owned by one thread",
        "tower PendingRequests behind Buffer, 1 task a thread",
        "tower PendingRequests behind Buffer, 64 tasks a thread",
    ];
    rows(&mut arms, names, &runtimes, pending_requests);
    let names = [
        "tower PeakEwma, owned by one thread",
        "tower PeakEwma behind Buffer, 1 task a thread",
        "tower PeakEwma behind Buffer, 64 tasks a thread",
    ];
    rows(&mut arms, names, &runtimes, peak_ewma);
    arms
}

fn runtime(workers: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .build()
        .expect("threads can be started")
}

/// Counted in the first arm: readiness, choice, call, and the answer that ends the count; no weights, no health. In the
/// other arms also the way through the `Buffer` and back, on a runtime with as many workers as the column has threads.
/// Not counted: waking a thread outside the runtime, which a blocking caller would pay for.
fn rows<S>(
    arms: &mut Vec<Arm>,
    names: [&'static str; 3],
    runtimes: &[Arc<Runtime>; 2],
    make: fn(u32) -> S,
) where
    S: Service<(), Response = (), Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
{
    let [own, one, many] = names;
    // It takes `&mut self`; with one owner it need not be shared.
    for shape in SHAPES.into_iter().filter(|shape| shape.threads == 1) {
        let counted = "choice, call, load; not shared; no weights, no health";
        let run = owned(make(shape.endpoints));
        arms.push(Arm::new(Measure::Cycle, own, counted, shape, run));
    }
    for (name, tasks, counted) in [
        (
            one,
            1,
            "as owned, and the Buffer there and back; one request at a time",
        ),
        (
            many,
            MANY,
            "as owned, and the Buffer there and back; 64 requests at a time",
        ),
    ] {
        arms.extend(SHAPES.map(|shape| {
            let runtime = runtimes[shape.threads - 1].clone();
            let run = buffered(runtime, shape, tasks, make(shape.endpoints));
            Arm::new(Measure::Cycle, name, counted, shape, run)
        }));
    }
}

fn owned<S>(service: S) -> Run
where
    S: Service<(), Response = (), Error = BoxError> + Send + 'static,
{
    let service = Mutex::new(service);
    Box::new(move |count| {
        on_threads(1, |_| {
            // Locked once per run, not once per request.
            let mut service = service.lock().expect("no arm panics");
            let started = Instant::now();
            futures::executor::block_on(requests(&mut *service, count));
            started.elapsed()
        })
    })
}

fn buffered<S>(runtime: Arc<Runtime>, shape: Shape, tasks: usize, service: S) -> Run
where
    S: Service<(), Response = (), Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
{
    let service = {
        let _inside = runtime.enter();
        Buffer::new(service, BUFFER)
    };
    Box::new(move |count| {
        let barrier = Arc::new(tokio::sync::Barrier::new(tasks * shape.threads));
        let each = count / tasks as u64;
        let running: Vec<_> = (0..tasks * shape.threads)
            .map(|_| {
                let mut service = service.clone();
                let barrier = barrier.clone();
                runtime.spawn(async move {
                    barrier.wait().await;
                    let started = Instant::now();
                    requests(&mut service, each).await;
                    (started, Instant::now())
                })
            })
            .collect();
        let spans = futures::future::join_all(running);
        let spans = runtime.block_on(spans).into_iter();
        let spans: Vec<_> = spans.map(|span| span.expect("no arm panics")).collect();
        let first = spans.iter().map(|span| span.0).min();
        let last = spans.iter().map(|span| span.1).max();
        // Tasks share the workers, so the time is that of all workers from the first start to the last end.
        let span = last.zip(first).map(|(last, first)| last - first);
        span.expect("there are tasks") * shape.threads as u32
    })
}

async fn requests<S>(service: &mut S, count: u64)
where
    S: Service<(), Response = (), Error = BoxError>,
{
    for _ in 0..count {
        let ready = service.ready().await.expect("no endpoint fails");
        ready.call(()).await.expect("no endpoint fails");
    }
}
