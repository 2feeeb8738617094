//! Helpers of the simulation tests: policies and scenarios by name.

use std::time::Duration;

use evenkeel::sim::{Policy, Scenario, policies, scenarios};

pub(crate) fn named(name: &str) -> Policy {
    policies()
        .into_iter()
        .find(|policy| policy.name() == name)
        .unwrap()
}

pub(crate) fn scenario(name: &str) -> Scenario {
    scenarios()
        .into_iter()
        .find(|scenario| scenario.name() == name)
        .unwrap()
}

/// Scenario S1a, in which all endpoints are alike, cut to 12 s.
pub(crate) fn well() -> Scenario {
    scenario("S1a").cut_to(Duration::from_secs(12))
}
