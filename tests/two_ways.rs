//! Where all endpoints may be picked, the crate's policies are asked without a context. They make the same choices as
//! with one.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Server, servers};
use evenkeel::{
    Adaptive, Choice, Cluster, Endpoint, Fleet, Lease, LeastConnections, LeastResponseTime,
    LoadBalancer, ManualClock, Outcome, PickContext, Picker, PowerOfTwo, Random, RoundRobin, View,
    WeightedRoundRobin,
};
use proptest::prelude::*;

/// A user's policy around one of the crate's, which always picks with a context.
#[derive(Debug)]
struct ByContext<L>(L);

impl<L: LoadBalancer<Server>> LoadBalancer<Server> for ByContext<L> {
    fn picker(&self, view: &View<'_, Server>) -> Box<dyn Picker<Server>> {
        Box::new(Forward(self.0.picker(view)))
    }
}

struct Forward(Box<dyn Picker<Server>>);

impl Picker<Server> for Forward {
    fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
        self.0.pick(cx)
    }
}

/// The events between two picks.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Which of the open requests ends.
    ends: Option<prop::sample::Index>,
    latency: Duration,
    passes: Duration,
}

fn step() -> impl Strategy<Value = Step> {
    let ends = prop::option::weighted(0.6, any::<prop::sample::Index>());
    // Some answers are late, so that open requests become overdue.
    let latency = prop_oneof![4 => 1u64..20, 1 => 100u64..2000];
    (ends, latency, 0u64..10).prop_map(|(ends, latency, passes)| Step {
        ends,
        latency: Duration::from_millis(latency),
        passes: Duration::from_millis(passes),
    })
}

/// The endpoints that a fleet with this policy picks.
fn picks(
    policy: impl LoadBalancer<Server> + 'static,
    weights: &[u32],
    steps: &[Step],
) -> Vec<usize> {
    let clock = ManualClock::new();
    let builder = Fleet::builder().endpoints(servers(weights)).seed(7);
    let fleet = builder.clock(clock.clone()).policy(policy).build().unwrap();
    let mut open: Vec<Lease<Server>> = Vec::new();
    let pick = |step: &Step| {
        clock.advance(step.passes);
        if let Some(ends) = step.ends.filter(|_| !open.is_empty()) {
            let lease = open.swap_remove(ends.index(open.len()));
            lease.record_with_latency(Outcome::Success, step.latency);
        }
        open.push(fleet.pick_endpoint().unwrap());
        open.last().unwrap().endpoint().key()
    };
    steps.iter().map(pick).collect()
}

macro_rules! same_both_ways {
    ($($name:ident: $policy:expr,)*) => {
        proptest! {
            $(
                #[test]
                fn $name(
                    weights in prop_oneof![
                        prop::collection::vec(1u32..20, 1..80),
                        (1usize..80).prop_map(|count| vec![1; count]),
                    ],
                    steps in prop::collection::vec(step(), 1..300),
                ) {
                    let by_context = picks(ByContext($policy), &weights, &steps);
                    prop_assert_eq!(picks($policy, &weights, &steps), by_context);
                }
            )*
        }
    };
}

same_both_ways! {
    adaptive: Adaptive::new(),
    least_connections: LeastConnections::new(),
    least_response_time: LeastResponseTime::new(),
    power_of_two: PowerOfTwo::new(),
    random: Random::new(),
    round_robin: RoundRobin::new(),
    weighted_round_robin: WeightedRoundRobin::new(),
}
