//! A simulator that drives real fleets against modelled servers, in virtual time, with the feature
//! `sim`.
//!
//! It judges decisions: tail latency and errors as callers would see them, under servers that are slow, lie,
//! die and return, beside other balancers' rules and beside oracles that know everything. It tests the
//! crate: after each event its promises are checked. And it is a tool: [model your own
//! fleet](crate::docs::simulate) and run your policy and settings before you ship them.
//!
//! - [`Scenario`] and [`Fault`]: what is simulated; [`scenarios`] are built in.
//! - [`Policy`]: what is compared; [`policies`] are built in. The crate's own run as they are.
//! - [`run`] gives the [`Report`] of one seed, [`Study`] those of many on all cores.
//!
//! Everything comes from one seed, in streams of their own for arrivals, work, faults and choices, so
//! that all policies meet the same requests, and a seed replays a run to the last event.
//!
//! # Limits
//!
//! Left out: zones and priorities, hedges, connections and their set-up, caches, competition for processors between requests of one
//! server, retransmits, and delays in the client itself. What the table says of another balancer, it says of
//! its rule as modelled here.

mod balancing;
mod calendar;
mod callers;
mod catalogue;
mod condition;
mod demand;
mod drivers;
mod engine;
mod error;
mod fault;
mod fleets;
mod histogram;
mod invariants;
mod machine;
mod meter;
mod models;
mod oracle;
mod policy;
mod random;
mod report;
mod scenario;
mod study;

pub use catalogue::scenarios;
pub use demand::Demand;
pub use error::SimError;
pub use fault::Fault;
pub use fleets::Server;
pub use policy::{Policy, policies};
pub use report::{Figures, Latencies, Moment, Report};
pub use scenario::Scenario;
pub use study::{Study, run};
