//! Helpers of the tests of tiers.

use std::collections::BTreeMap;

use super::{Server, sequence};
use evenkeel::{
    Adaptive, Choice, Fleet, FleetBuilder, LoadBalancer, ManualClock, Mark, PanicRule, PickContext,
    Picker, PowerOfTwo, RoundRobin, Target, Tiers, WeightedRoundRobin, from_picker,
};

pub(crate) const PICKS: usize = 20_000;

/// Whether a share seen in `picks` picks is within five standard deviations of `share`: one in two million is not.
pub(crate) fn near(seen: f64, share: f64, picks: usize) -> bool {
    (seen - share).abs() <= 5.0 * (share * (1.0 - share) / picks as f64).sqrt() + 1e-9
}

/// This many servers in each priority, numbered consecutively.
pub(crate) fn levels(sizes: &[usize]) -> Vec<Server> {
    let level = |(priority, &size): (u32, &usize)| (0..size).map(move |_| priority);
    let priorities = (0..).zip(sizes).flat_map(level);
    let numbered = priorities.enumerate();
    numbered
        .map(|(number, priority)| Target::new(number, ()).with_priority(priority))
        .collect()
}

pub(crate) fn builder(servers: Vec<Server>) -> FleetBuilder<Server> {
    Fleet::builder()
        .endpoints(servers)
        .clock(ManualClock::new())
        .seed(7)
}

/// A fleet with these priorities and this policy within tiers, with one panic threshold and no gap (as Envoy).
pub(crate) fn fleet(sizes: &[usize], policy: impl LoadBalancer<Server> + 'static) -> Fleet<Server> {
    let builder = builder(levels(sizes)).policy(Tiers::new(policy));
    builder.panic_rule(PanicRule::envoy()).build().unwrap()
}

pub(crate) fn mark(fleet: &Fleet<Server>, numbers: impl IntoIterator<Item = usize>, mark: Mark) {
    for number in numbers {
        assert!(fleet.mark(&number, mark));
    }
}

/// How many of `picks` requests each server takes. Servers that take none are absent.
pub(crate) fn taken(fleet: &Fleet<Server>, picks: usize) -> BTreeMap<usize, usize> {
    let mut taken = BTreeMap::new();
    for number in sequence(fleet, picks) {
        *taken.entry(number).or_default() += 1;
    }
    taken
}

pub(crate) fn share(taken: &BTreeMap<usize, usize>, of: impl Fn(usize) -> bool) -> f64 {
    let all: usize = taken.values().sum();
    let some: usize = taken
        .iter()
        .filter(|(it, _)| of(**it))
        .map(|(_, n)| n)
        .sum();
    some as f64 / all as f64
}

/// Picks the usable member with the fewest requests in flight, the first of several.
#[derive(Clone, Debug)]
pub(crate) struct FewestFirst;

impl Picker<Server> for FewestFirst {
    fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
        let members = cx.members();
        let usable = (0..members.len()).filter(|&i| cx.may_pick(i));
        usable
            .min_by_key(|&i| members[i].in_flight())
            .map(Choice::at)
    }
}

pub(crate) fn policies() -> Vec<Box<dyn LoadBalancer<Server>>> {
    vec![
        Box::new(RoundRobin::new()),
        Box::new(WeightedRoundRobin::new()),
        Box::new(PowerOfTwo::new()),
        Box::new(Adaptive::new()),
        Box::new(from_picker(FewestFirst)),
    ]
}
