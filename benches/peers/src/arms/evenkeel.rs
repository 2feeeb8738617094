//! This crate, with default settings for everything except the policy.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::{
    Adaptive, Cluster, Fleet, LeastConnections, LoadBalancer, Outcome, PowerOfTwo, Target,
    WeightedRoundRobin,
};

use super::{address, weight};
use crate::arm::{Arm, Measure, SHAPES, Shape, cycles, picks};

type Server = Target<SocketAddr, ()>;

/// The latency that the caller passes, in the arms where the caller measures it.
const GIVEN: Duration = Duration::from_millis(1);

fn fleet(endpoints: u32, policy: Box<dyn LoadBalancer<Server>>) -> Fleet<Server> {
    let servers = (0..endpoints).map(|n| Target::new(address(n), ()).with_weight(weight(n)));
    let builder = Fleet::builder().endpoints(servers).policy(policy);
    builder.build().expect("the settings are the defaults")
}

/// A policy, the names of its rows, and the largest number of endpoints that it is measured with.
struct Policy {
    make: fn() -> Box<dyn LoadBalancer<Server>>,
    pick: &'static str,
    given: &'static str,
    timed: &'static str,
    most: u32,
}

const POLICIES: [Policy; 4] = [
    Policy {
        make: || Box::new(WeightedRoundRobin::new()),
        pick: "evenkeel WeightedRoundRobin",
        given: "evenkeel WeightedRoundRobin, record_with_latency",
        timed: "evenkeel WeightedRoundRobin, record",
        most: 1000,
    },
    Policy {
        make: || Box::new(PowerOfTwo::new()),
        pick: "evenkeel PowerOfTwo",
        given: "evenkeel PowerOfTwo, record_with_latency",
        timed: "evenkeel PowerOfTwo, record",
        most: 1000,
    },
    Policy {
        make: || Box::new(LeastConnections::new()),
        pick: "evenkeel LeastConnections",
        given: "evenkeel LeastConnections, record_with_latency",
        timed: "evenkeel LeastConnections, record",
        // It looks at every endpoint and is documented as a policy for few.
        most: 10,
    },
    Policy {
        make: || Box::new(Adaptive::new()),
        pick: "evenkeel Adaptive",
        given: "evenkeel Adaptive, record_with_latency",
        timed: "evenkeel Adaptive, record",
        most: 1000,
    },
];

pub(super) fn arms(measure: Measure) -> Vec<Arm> {
    let mut arms = Vec::new();
    for policy in &POLICIES {
        for shape in SHAPES.iter().filter(|shape| shape.endpoints <= policy.most) {
            match measure {
                Measure::Pick => arms.push(picked(policy, *shape)),
                _ => arms.push(given(policy, *shape)),
            }
        }
        if measure == Measure::Cycle {
            let shapes = SHAPES.iter().filter(|shape| shape.endpoints <= policy.most);
            arms.extend(shapes.map(|shape| timed(policy, *shape)));
        }
    }
    arms
}

/// Counted: the clock, the choice, the in-flight increment, the endpoint's handle. Not counted: giving the lease back.
fn picked(policy: &Policy, shape: Shape) -> Arm {
    let fleet = fleet(shape.endpoints, (policy.make)());
    let pick = move || fleet.pick_endpoint().expect("there are endpoints");
    let counted = "clock, choice, in flight up; not the lease's end";
    Arm::new(
        Measure::Pick,
        policy.pick,
        counted,
        shape,
        picks(shape.threads, pick),
    )
}

/// Counted: everything, with health and ejection on. Not counted: how the caller measures the latency.
fn given(policy: &Policy, shape: Shape) -> Arm {
    let fleet = fleet(shape.endpoints, (policy.make)());
    let cycle = move || {
        let lease = fleet.pick_endpoint().expect("there are endpoints");
        black_box(lease.endpoint());
        lease.record_with_latency(Outcome::Success, GIVEN);
    };
    let counted = "all: health, latency, in flight; not how the caller measured the latency";
    Arm::new(
        Measure::Cycle,
        policy.given,
        counted,
        shape,
        cycles(shape.threads, cycle),
    )
}

/// Counted: everything, with health and ejection on and the latency measured by the crate.
fn timed(policy: &Policy, shape: Shape) -> Arm {
    let fleet = fleet(shape.endpoints, (policy.make)());
    let cycle = move || {
        let lease = fleet.pick_endpoint().expect("there are endpoints");
        black_box(lease.endpoint());
        lease.record(Outcome::Success);
    };
    let counted = "all: health, latency by its own clock, in flight";
    Arm::new(
        Measure::Cycle,
        policy.timed,
        counted,
        shape,
        cycles(shape.threads, cycle),
    )
}
