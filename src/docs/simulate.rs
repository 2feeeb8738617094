//! How to model your own fleet and try policies and settings on it before you ship them.
//!
//! The [simulator](crate::sim) comes with the feature `sim`. It runs real fleets, with your policy, your tracker and
//! your settings, in virtual time: a minute of a busy service takes a fraction of a second.
//!
//! # Your fleet in twenty lines
//!
//! You need to know how many servers and clients there are, how many requests a server works on at once, how long a
//! request takes, and how busy the servers are.
//!
//! ```
//! use evenkeel::sim::{Demand, Fault, Policy, Scenario, Study};
//! use evenkeel::{Ejection, Fleet, LeastConnections};
//! use std::time::Duration;
//!
//! const MILLI: Duration = Duration::from_millis(1);
//!
//! let workers = Scenario::new("workers", "two of twelve hang")
//!     .servers(12)
//!     .slots(8)
//!     .clients(6)
//!     .load(0.6)
//!     .demand(Demand::log_normal(20 * MILLI, 1.5))
//!     .timeout(500 * MILLI)
//!     .fault(Fault::hangs().on(0..2))
//!     .cut_to(Duration::from_secs(12)); // quick, for this page
//! let eager = || Fleet::builder().ejection(Ejection::default().consecutive_failures(3));
//! let policies = vec![
//!     Policy::fleet("two", "the defaults", Fleet::builder),
//!     Policy::fleet("eager", "out after three", eager),
//!     Policy::fleet("all", "a look at all", move || eager().policy(LeastConnections::new())),
//! ];
//! for report in Study::new(vec![workers], policies, 1..3).run(|_, _| ())? {
//!     let window = report.window;
//!     println!("{:8} p99 {:?}, {:.2} % errors", report.policy, window.latency.p99, 100.0 * window.errors);
//! #   assert!(window.errors < 0.05);
//! }
//! # Ok::<(), evenkeel::sim::SimError>(())
//! ```
//!
//! Look at the figures in [`Report::window`](crate::sim::Report::window) first. They cover the time in which faults are
//! on, unless the scenario says otherwise, and count each error as long as the timeout, so that failing fast does not
//! look good. Compare policies over several seeds: they serve the same requests, so a difference between policies
//! becomes significant before the figures themselves are exact.
//!
//! # What a server is
//!
//! A server has [slots](crate::sim::Scenario::slots), the number of requests that it works on at once. Other requests
//! queue, first come first served. Each request brings [work](crate::sim::Scenario::demand), the time it takes at speed
//! 1; all slots work at the server's speed, which faults and warming up change. If you know a server's throughput and
//! its idle latency, the number of slots is about their product (Little's law).
//!
//! For servers that never queue (a proxy to something else, say), use
//! [`unlimited_slots`](crate::sim::Scenario::unlimited_slots) and set the number of requests [per
//! second](crate::sim::Scenario::per_second).
//!
//! # What can go wrong
//!
//! | in reality | as a fault |
//! |---|---|
//! | a bad host, a throttled one | [`Fault::slow`](crate::sim::Fault::slow) |
//! | a broken dependency, a bad deployment | [`Fault::fails`](crate::sim::Fault::fails) |
//! | a garbage collection, a paused process | [`Fault::stalls`](crate::sim::Fault::stalls) |
//! | a dead process | [`Fault::refuses`](crate::sim::Fault::refuses) |
//! | a dead host, a firewall that drops | [`Fault::hangs`](crate::sim::Fault::hangs) |
//! | a cold cache for some of the requests | [`Fault::tail`](crate::sim::Fault::tail) |
//! | a deployment | [`Scenario::churn`](crate::sim::Scenario::churn), [`Scenario::replace`](crate::sim::Scenario::replace) |
//! | a spike of traffic | [`Scenario::surge`](crate::sim::Scenario::surge), with a bounded [`queue`](crate::sim::Scenario::queue) |
//!
//! Each can be limited to some servers and to a time window, and can rotate among servers or strike at random.
//!
//! # On the command line
//!
//! The example runs the built-in scenarios and policies. Run your own with [`Study`](crate::sim::Study), as above.
//!
//! ```text
//! cargo run --release --features sim --example simulate -- --list
//! cargo run --release --features sim --example simulate -- S5b S14 --policy power-of-two,kratos --seeds 10
//! cargo run --release --features sim --example simulate -- S7a --svg pictures
//! ```
//!
//! # A violated promise
//!
//! After each event the simulator checks what the event touched, and it checks everything now and then: removed
//! endpoints are never picked, in-flight counts equal the leases held, the cap on ejections holds, scores are within 0
//! and 1, ejections end in time, and no endpoint outlives its leases. A violation is a
//! [`SimError::Broken`](crate::sim::SimError::Broken) with the seed that replays it; please report it.
