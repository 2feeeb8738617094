//! Embeddable client-side load balancing: pick an endpoint per request, do your own I/O, report the outcome.
//!
//! # Overview
//!
//! - A [`Fleet`] is a set of endpoints in this process. It implements [`Cluster`], the trait that services are written
//!   against.
//! - [`pick_endpoint`](Cluster::pick_endpoint) returns a [`Lease`] on one endpoint. The lease counts as a request in
//!   flight until it is recorded or dropped.
//! - [`Lease::record`] reports how the request ended. A [`HealthTracker`] scores each endpoint by these outcomes. Bad
//!   endpoints are ejected, probed and readmitted by the rules in [`Ejection`]. A [`HealthCheck`], which you drive,
//!   adds active checks.
//! - A [`Caller`] does all of that for each request and retries failures on other endpoints, within a deadline and a
//!   retry budget.
//! - [`Limits`] cap the requests in flight, per endpoint and in total. A pick beyond a limit fails at once.
//! - A [`Failover`] combines two clusters by their health, for zones and regions.
//! - A [`LoadBalancer`] is a balancing policy. The crate has seven; the default is [`Adaptive`]. [`Tiers`] adds
//!   priorities and zones to any of them.
//! - An [`Endpoint`] is any type of yours with a key and a weight.
//!
//! The crate starts nothing: no thread, task, timer or socket. A [`Clock`] tells it the time and a lease tells it the
//! outcome, so it works under any async runtime or none.
//!
//! # First use
//!
//! ```
//! use evenkeel::{Cluster, Fleet, Outcome};
//!
//! # fn fetch(_: &str) -> Result<u16, std::io::Error> { Ok(200) }
//! let fleet: Fleet<String> =
//!     ["10.0.0.1:80", "10.0.0.2:80"].map(String::from).into_iter().collect();
//!
//! let lease = fleet.pick_endpoint()?; // per request
//! let result = fetch(lease.endpoint()); // your I/O
//! lease.record(Outcome::from(&result)); // feed back
//! # assert_eq!(fleet.stats().in_flight, 0);
//! # Ok::<(), evenkeel::PickError>(())
//! ```
//!
//! [`docs::guide`] has how-tos, [`docs::recipes`] whole services (a proxy, connection pools, a database), and
//! [`docs::policies`] helps to choose a policy. [`docs::tuning`] leads from symptoms and from Envoy's names to
//! settings, and [`docs::internals`] explains the implementation.
//!
//! # Limits
//!
//! - The crate balances what one process sends; processes share nothing. It does no service discovery: hand in the set
//!   of endpoints you know, and hand it in again when it changes.
//! - By default, slowness alone does not eject an endpoint. Policies that look at load or latency avoid slow endpoints.
//! - [`std::mem::forget`] of a lease leaves one request in flight for ever.
//! - A fleet holds at most a million endpoints. The target needs 64-bit atomics.
//!
//! # Crate features
//!
//! - `sim`: a simulator that drives real fleets against modelled servers, to try a policy and settings before they
//!   ship. It has no further dependencies. Off by default.
//! - `tokio`: `TokioTimer`, tokio's time for a [`Caller`]. It depends on tokio with its `time` feature only. Off by
//!   default; without it, [`from_sleep`] takes any runtime's sleep.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod balancer;
mod caller;
mod cluster;
pub mod docs;
mod endpoint;
mod error;
mod failover;
mod fleet;
mod health;
mod member;
mod options;
mod outcome;
mod settings;
mod shared;
#[cfg(all(feature = "sim", not(evenkeel_loom)))]
#[cfg_attr(docsrs, doc(cfg(feature = "sim")))]
pub mod sim;
mod sync;
mod time;
mod transport;

#[doc(hidden)]
pub use balancer::Asker;
pub use balancer::{
    Adaptive, Choice, Cursor, FromPicker, LeastConnections, LeastResponseTime, LoadBalancer,
    LocalityBasis, PickContext, Picker, PowerOfTwo, Random, RoundRobin, Tier, Tiers, View,
    WeightedRoundRobin, from_picker,
};
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use caller::TokioTimer;
pub use caller::{
    CallOptions, CallPlan, Caller, CallerError, CallerStats, FromSleep, Hedge, HedgeDelay,
    StopReason, Throttle, Timer, from_sleep,
};
pub use cluster::{Cluster, ClusterExt};
pub use endpoint::{Endpoint, Target, Weight};
pub use error::{BuildError, CallError, PickError, UpdateError};
pub use failover::Failover;
pub use fleet::{
    Changes, Detections, Drain, Drained, Event, Fleet, FleetBuilder, HealthCheck, Mark, Probe,
    Retire, Stats, Upkeep,
};
pub use health::{
    AdaptiveLimit, Alarm, Backoff, Detector, Ejection, Health, HealthCheckSettings, HealthTracker,
    Judging, Limits, PanicAction, PanicRule, SlidingWindow, SlowStart, Usual,
};
pub use member::{EjectionReason, Explanation, Figure, Lease, Member, MemberState, Outcomes};
pub use options::{MemberId, PickOptions};
pub use outcome::{Outcome, Sample, SampleKind};
pub use shared::{EventKind, Return};
pub use time::{Clock, ManualClock, MonotonicClock, Tick};
pub use transport::{BoxFuture, BoxTransport, DynTransport, FromFn, Transport, from_fn};

/// The README's example, compiled and run as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
