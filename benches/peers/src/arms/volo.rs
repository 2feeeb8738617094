//! volo: `WeightedRandomBalance`, its picker called directly, without a client around it.

use std::hint::black_box;
use std::net::SocketAddr;

use futures::FutureExt;
use volo::context::Endpoint;
use volo::discovery::WeightedStaticDiscover;
use volo::loadbalance::LoadBalance;
use volo::loadbalance::random::WeightedRandomBalance;

use super::{address, weight};
use crate::arm::{Arm, Measure, SHAPES, Shape, cycles, picks};

pub(super) fn arms(measure: Measure) -> Vec<Arm> {
    SHAPES.map(|shape| arm(measure, shape)).into()
}

/// Counted: the picker's future, polled once, the picker, and the first address that it yields. Not counted: the
/// client's context and layers around it, and outcomes, which it has no call for.
fn arm(measure: Measure, shape: Shape) -> Arm {
    let servers: Vec<(SocketAddr, u32)> = (0..shape.endpoints)
        .map(|number| (address(number), weight(number)))
        .collect();
    let discover = WeightedStaticDiscover::from(servers);
    let balance = WeightedRandomBalance::with_discover(&discover);
    // In a client each request brings its own; creating it is not the balancer's work.
    let service = Endpoint::new("service".into());
    let pick = move || {
        let picker = balance.get_picker(&service, &discover).now_or_never();
        let picker = picker.expect("a static set is known at once");
        let address = picker.expect("a static set cannot fail").next();
        address.expect("there are instances")
    };
    let name = "volo WeightedRandom";
    let (counted, run) = match measure {
        Measure::Pick => (
            "picker made and asked once; not the client around it",
            picks(shape.threads, pick),
        ),
        _ => (
            "as its pick; it has no report, and counts nothing in flight",
            cycles(shape.threads, move || {
                black_box(pick());
            }),
        ),
    };
    Arm::new(measure, name, counted, shape, run)
}
