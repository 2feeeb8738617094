//! A simulator that runs real fleets against modelled servers in virtual time. Requires the feature `sim`.
//!
//! The simulator has three uses:
//!
//! - It evaluates balancing decisions. It measures the tail latency and the errors that callers see while servers are
//!   slow, misreport, die and return, and compares the crate with other balancers' rules and with oracles that have
//!   perfect information.
//! - It tests the crate. After each event it checks the crate's invariants for what the event touched.
//! - It is a planning tool. [Model your own fleet](crate::docs::simulate) and run your policy and settings before you
//!   ship them.
//!
//! The main types are:
//!
//! - [`Scenario`] and [`Fault`] describe what is simulated. [`scenarios`] returns the built-in scenarios.
//! - [`Policy`] is what is compared. [`policies`] returns the built-in policies. The crate's own policies run
//!   unmodified.
//! - [`run`] returns the [`Report`] of one seed. [`Study`] runs many seeds on all cores.
//!
//! All randomness derives from one seed. Arrivals, work, faults and choices have separate random streams, so every
//! policy meets the same requests, and a seed replays a run exactly, to the last event.
//!
//! # Limits
//!
//! The model leaves out zones and priorities, hedges, connections and their set-up, caches, competition for processors
//! between the requests of one server, retransmits, and delays in the client itself. The results for another balancer
//! apply to its rule as modelled here.

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
