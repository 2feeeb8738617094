//! loadwise: `PowerOfTwoChoices` over the caller's slice, with `HealthTracker` and an in-flight count that the caller
//! keeps.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loadwise::filter::{Filter, HealthAware, HealthFilter};
use loadwise::strategy::PowerOfTwoChoices;
use loadwise::{
    ConsecutiveFailurePolicy, HealthStatus, HealthTracker, LoadMetric, Outcome, SelectionContext,
    Strategy,
};

use crate::arm::{Arm, Measure, Run, SHAPES, Shape, cycles, picks};

/// A node as a user would write it, on cache lines of its own so that it is not slower than necessary.
#[repr(align(128))]
struct Server {
    id: u32,
    in_flight: AtomicU64,
    tracker: Arc<HealthTracker<u32>>,
}

impl LoadMetric for Server {
    fn load_score(&self) -> f64 {
        // ORDERING: Relaxed. An estimate of the load; no other data is read through it.
        self.in_flight.load(Ordering::Relaxed) as f64
    }
}

impl LoadMetric for &Server {
    fn load_score(&self) -> f64 {
        (**self).load_score()
    }
}

impl HealthAware for &Server {
    fn health_status(&self) -> HealthStatus {
        self.tracker.status(&self.id)
    }
}

struct Servers {
    servers: Vec<Server>,
    strategy: PowerOfTwoChoices,
    filter: HealthFilter,
}

impl Servers {
    fn new(endpoints: u32) -> Self {
        let tracker = Arc::new(HealthTracker::new(ConsecutiveFailurePolicy::default()));
        let server = |id| Server {
            id,
            in_flight: AtomicU64::new(0),
            tracker: tracker.clone(),
        };
        Self {
            servers: (0..endpoints).map(server).collect(),
            strategy: PowerOfTwoChoices::new(),
            filter: HealthFilter::available(),
        }
    }

    fn any(&self) -> &Server {
        let chosen = self
            .strategy
            .select(&self.servers, &SelectionContext::default());
        &self.servers[chosen.expect("there are nodes")]
    }

    fn available(&self) -> &Server {
        let servers = self.servers.iter();
        let fit: Vec<&Server> = servers
            .filter(|server| self.filter.is_eligible(server))
            .collect();
        let chosen = self.strategy.select(&fit, &SelectionContext::default());
        fit[chosen.expect("all are healthy")]
    }
}

impl Server {
    /// The request, and its end as the caller has to report it.
    fn request(&self) {
        // ORDERING: Relaxed. A count that is only read as an estimate.
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        black_box(self.id);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.tracker.report_outcome(&self.id, &Outcome::Success);
    }
}

pub(super) fn arms(measure: Measure) -> Vec<Arm> {
    let any = SHAPES.map(|shape| any(measure, shape));
    let filtered = SHAPES.map(|shape| filtered(measure, shape));
    any.into_iter().chain(filtered).collect()
}

/// Counted: the choice; in a cycle also the caller's count and the report. Not counted: leaving out unhealthy nodes.
fn any(measure: Measure, shape: Shape) -> Arm {
    let counted = match measure {
        Measure::Pick => "choice; not who is healthy, not in flight; no weights",
        _ => "choice, in flight by the caller, report; not who is healthy; no weights",
    };
    let run = run(measure, shape, Servers::any);
    Arm::new(measure, "loadwise PowerOfTwoChoices", counted, shape, run)
}

/// Counted: as above, and before each choice the `HealthFilter` over all nodes, as nothing tells the caller when an
/// earlier list is out of date.
fn filtered(measure: Measure, shape: Shape) -> Arm {
    let counted = match measure {
        Measure::Pick => "HealthFilter over all nodes, choice; not in flight; no weights",
        _ => "HealthFilter over all nodes, choice, in flight by the caller, report; no weights",
    };
    let run = run(measure, shape, Servers::available);
    let name = "loadwise PowerOfTwoChoices, filtered";
    Arm::new(measure, name, counted, shape, run)
}

fn run(measure: Measure, shape: Shape, choose: fn(&Servers) -> &Server) -> Run {
    let servers = Servers::new(shape.endpoints);
    match measure {
        Measure::Pick => picks(shape.threads, move || choose(&servers).id),
        _ => cycles(shape.threads, move || choose(&servers).request()),
    }
}
