//! pingora-load-balancing: `LoadBalancer::select` over a static set, with no active health checks.

use std::collections::BTreeSet;
use std::hint::black_box;

use futures::FutureExt;
use pingora_load_balancing::discovery::Static;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, Random, RoundRobin};
use pingora_load_balancing::{Backend, Backends, LoadBalancer};

use super::{address, weight};
use crate::arm::{Arm, Measure, Run, SHAPES, Shape, cycles, picks};

/// How many candidates a selection may look at. Here the first is always usable.
const MAX_ITERATIONS: usize = 256;

pub(super) fn arms(measure: Measure) -> Vec<Arm> {
    let round_robin = SHAPES.map(|shape| {
        let name = "pingora RoundRobin";
        arm(name, measure, shape, run::<RoundRobin>(measure, shape))
    });
    let random = SHAPES.map(|shape| {
        arm(
            "pingora Random",
            measure,
            shape,
            run::<Random>(measure, shape),
        )
    });
    round_robin.into_iter().chain(random).collect()
}

/// Counted: the choice by weight, the look-up of its health, a clone of the backend; in a cycle also dropping the
/// clone. Not counted: in flight, latency and outcome, which it has no calls for.
fn arm(name: &'static str, measure: Measure, shape: Shape, run: Run) -> Arm {
    let counted = match measure {
        Measure::Pick => "choice, health look-up, clone of the backend",
        _ => "as its pick; it has no report, and counts nothing in flight",
    };
    Arm::new(measure, name, counted, shape, run)
}

fn run<S>(measure: Measure, shape: Shape) -> Run
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
    S::Config: 'static,
{
    let balancer = balancer::<S>(shape.endpoints);
    // The key is for hashing selections; these two ignore it.
    let select = move || {
        balancer
            .select(b"", MAX_ITERATIONS)
            .expect("there are backends")
    };
    match measure {
        Measure::Pick => picks(shape.threads, select),
        _ => cycles(shape.threads, move || {
            black_box(select());
        }),
    }
}

fn balancer<S>(endpoints: u32) -> LoadBalancer<S>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
    S::Config: 'static,
{
    let backends: BTreeSet<Backend> = (0..endpoints)
        .map(|number| {
            let weight = weight(number) as usize;
            Backend::new_with_weight(&address(number).to_string(), weight)
                .expect("it is an address")
        })
        .collect();
    let balancer = LoadBalancer::from_backends(Backends::new(Static::new(backends)));
    // Done once; in a pingora server a background service repeats it.
    let updated = balancer.update().now_or_never();
    updated
        .expect("a static set is known at once")
        .expect("a static set cannot fail");
    balancer
}
