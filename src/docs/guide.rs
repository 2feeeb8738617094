//! How-tos, one per task.
//!
//! # Carry your own data
//!
//! An endpoint is a type of yours that carries whatever a request needs: a connection pool, a zone.
//!
//! ```
//! use evenkeel::{Cluster, Endpoint, Fleet, Weight};
//!
//! struct Backend {
//!     address: String,
//!     cores: u32,
//! }
//!
//! impl Endpoint for Backend {
//!     type Key = String;
//!     fn key(&self) -> String {
//!         self.address.clone()
//!     }
//!     fn weight(&self) -> Weight {
//!         Weight::new(self.cores)
//!     }
//! }
//!
//! let fleet = Fleet::builder()
//!     .name("search")
//!     .endpoints([Backend { address: "10.0.0.1:80".into(), cores: 8 }])
//!     .build()?;
//! assert_eq!(fleet.pick_endpoint()?.endpoint().cores, 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Follow service discovery
//!
//! Hand in the whole set whenever it changes. Endpoints that stay keep their in-flight counts, latency and health. If
//! an update is refused, the old set stays in force. An empty set is accepted: if it is more likely a fault of your
//! discovery, keep the last set; a key that occurs twice is refused, so remove duplicates. The new values replace the
//! old ones: share what must outlive an update (connections, counters) in an `Arc`. The new weight holds.
//!
//! ```
//! use evenkeel::{Fleet, Target};
//! use std::sync::Arc;
//!
//! type Server = Target<&'static str, Arc<()>>; // the data is a connection pool
//! let fleet: Fleet<Server> = ["a", "b"].map(|name| Target::new(name, Arc::default())).into_iter().collect();
//! let known = |name| fleet.member(&name).map(|it| Arc::clone(it.endpoint().data()));
//! let server = |(name, weight): (_, u32)| Target::new(name, known(name).unwrap_or_default()).with_weight(weight);
//! let changes = fleet.update([("b", 2), ("c", 1)].map(server))?;
//! assert_eq!((changes.added, changes.updated, changes.removed), (1, 1, 1));
//! # Ok::<(), evenkeel::UpdateError>(())
//! ```
//!
//! # Report what happened
//!
//! `Outcome::from(&result)` tells success from failure. Be more specific where you can: a 429, a timeout, a refused
//! connection. What says nothing about the endpoint (your own limit, a bad request) is
//! [`Ignored`](crate::Outcome::Ignored). In async code, [`Lease::track`](crate::Lease::track) records for you; if a
//! timeout drops its future, that counts as a timeout, provided it outlasted the fleet's
//! [patience](crate::FleetBuilder::patience).
//!
//! ```
//! use evenkeel::{Cluster, Fleet, Outcome};
//! use std::time::Duration;
//!
//! # let fleet: Fleet<String> = ["a".to_string()].into_iter().collect();
//! let lease = fleet.pick_endpoint()?;
//! let (status, says_connection_close) = (429, false); // your I/O
//! let outcome = match status {
//!     429 => Outcome::overloaded(Some(Duration::from_secs(1))),
//!     503 if says_connection_close => Outcome::GoingAway, // it shuts down
//!     500.. => Outcome::Failure,
//!     _ => Outcome::Success,
//! };
//! lease.record(outcome);
//! # Ok::<(), evenkeel::PickError>(())
//! ```
//!
//! Record before you use `?` on the result: an early return drops the lease, and a quick drop counts for nothing.
//!
//! # Send through a transport
//!
//! [`ClusterExt::call`](crate::ClusterExt::call) picks, sends, classifies and records. A [`Caller`](crate::Caller) also
//! retries what [`Transport::is_retryable`](crate::Transport::is_retryable) allows. By default it allows faults only,
//! so the 429 and 503 above only if you say so.
//!
//! # Retry on other endpoints
//!
//! A [`Caller`](crate::Caller) retries within a deadline and a retry budget. It needs a timer; any runtime's `sleep`
//! will do ([`from_sleep`](crate::from_sleep)), and blocking code needs no runtime: see [`Caller`](crate::Caller).
//!
//! ```
//! use evenkeel::{CallPlan, Caller, Fleet, StopReason, from_fn, from_sleep};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let fleet: Fleet<String> = ["a", "b", "c"].map(String::from).into_iter().collect();
//! # let send = from_fn(|_: &String, _: &'static str| async { Err::<u16, _>(std::io::Error::other("down")) });
//! let plan = CallPlan::default().attempts(3).attempt_timeout(Duration::from_millis(300));
//! let caller = Caller::new(fleet, send, plan, from_sleep(tokio::time::sleep))?;
//! // All are down: three attempts at three endpoints. Clones share the budget.
//! let error = caller.clone().call("/").await.unwrap_err();
//! assert_eq!((error.reason, error.attempts), (StopReason::AttemptsUsed, 3));
//! assert_eq!(caller.stats().budget_left, 1);
//! # Ok(())
//! # }
//! ```
//!
//! A call may override the plan ([`call_with_options`](crate::Caller::call_with_options)): its deadline (pass what is
//! left of your own caller's), or endpoints to avoid. With the feature `tokio`, use the timer `TokioTimer`, also in
//! paused time.
//!
//! # Hedge slow requests
//!
//! A [`Hedge`](crate::Hedge) sends the request to a second endpoint when the first takes long, and returns the first
//! good answer. It is for requests that may be carried out twice. Hedges are charged to the retry budget.
//!
//! ```
//! use evenkeel::{CallPlan, Caller, Fleet, Hedge, RoundRobin, from_fn, from_sleep};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let fleet = Fleet::builder().endpoints(["stuck", "b"].map(String::from)).policy(RoundRobin::new()).build()?;
//! # let send = from_fn(|address: &String, _: &'static str| {
//! #     let stuck = address == "stuck";
//! #     async move {
//! #         if stuck { std::future::pending::<()>().await }
//! #         Ok::<_, std::io::Error>(200)
//! #     }
//! # });
//! // Or `Hedge::at_percentile(95)`: of this caller's latencies, from 100 attempts on.
//! let plan = CallPlan::default().hedge(Hedge::after(Duration::from_millis(5)));
//! let caller = Caller::new(fleet, send, plan, from_sleep(tokio::time::sleep))?;
//! for _ in 0..2 {
//!     assert_eq!(caller.call("/").await?, 200); // one of the two is stuck
//! }
//! assert!(caller.stats().hedges_won > 0);
//! # Ok(())
//! # }
//! ```
//!
//! A losing attempt is dropped: neutral, unless it outlasted the fleet's [`patience`](crate::FleetBuilder::patience).
//! If hedges are sent after a few milliseconds, set patience a little below a hedge's delay and an answer together. An
//! endpoint that hangs is then ejected instead of being hedged around each time.
//!
//! # Protect overloaded servers
//!
//! The retry budget is on by default. A [`Throttle`](crate::Throttle) goes further: while the fleet has no healthy
//! choice and most requests fail, it refuses some of them unsent.
//! [`CallPlan::max_concurrent_retries`](crate::CallPlan::max_concurrent_retries) limits the retries in flight.
//!
//! ```
//! use evenkeel::{CallPlan, Caller, Fleet, StopReason, Throttle, from_fn, from_sleep};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let fleet: Fleet<String> = ["a".to_string()].into_iter().collect();
//! # let send = from_fn(|_: &String, _: &'static str| async { Err::<u16, _>(std::io::Error::other("down")) });
//! let plan = CallPlan::default().throttle(Throttle::default()).max_concurrent_retries(100);
//! let caller = Caller::new(fleet, send, plan, from_sleep(tokio::time::sleep))?;
//! let mut unsent = 0;
//! for _ in 0..100 {
//!     let error = caller.call("/").await.unwrap_err();
//!     unsent += u32::from(error.reason == StopReason::Throttled); // answer 503, or from a cache
//! }
//! assert!(unsent > 50);
//! # Ok(())
//! # }
//! ```
//!
//! # Retry by hand
//!
//! Avoid the endpoints you have tried. The others get the request in proportion to their weights, and
//! [`AllAvoided`](crate::PickError::AllAvoided) is returned when none is left.
//!
//! ```
//! use evenkeel::{Cluster, Fleet, MemberId, Outcome, PickError, PickOptions};
//!
//! # let fleet: Fleet<String> = ["a", "b", "c"].map(String::from).into_iter().collect();
//! let mut tried: Vec<MemberId> = Vec::new();
//! let answer = loop {
//!     let lease = match fleet.pick_endpoint_with(&PickOptions::new().avoid(&tried)) {
//!         Ok(lease) => lease,
//!         Err(PickError::AllAvoided) => break None,
//!         Err(error) => return Err(error),
//!     };
//!     tried.push(lease.id());
//!     let result: Result<u16, ()> = if tried.len() < 3 { Err(()) } else { Ok(200) }; // your I/O
//!     lease.record(Outcome::from(&result));
//!     if let Ok(status) = result {
//!         break Some(status);
//!     }
//! };
//! assert_eq!(answer, Some(200));
//! # Ok::<(), PickError>(())
//! ```
//!
//! # Limit requests in flight
//!
//! [`FleetBuilder::limits`](crate::FleetBuilder::limits) limits the requests in flight, per endpoint and in total. An
//! endpoint at its limit is passed over. When all are at their limits (or the only one that your own policy wants is),
//! picks fail at once with [`Saturated`](crate::PickError::Saturated): reject the request, or wait and try again. The
//! crate does not queue. By Little's law, a limit is the rate that an endpoint can serve times its latency at that
//! rate: 200 requests a second at 50 ms are 10 in flight.
//!
//! ```
//! use evenkeel::{Cluster, Fleet, Limits, PickError, Target};
//!
//! let fleet = Fleet::builder()
//!     .endpoints([Target::new("a", ()), Target::new("b", ())])
//!     .limits(Limits::default().max_requests_per_endpoint(10).max_requests(15))
//!     .build()?;
//! let mut leases = Vec::new();
//! let error = loop {
//!     match fleet.pick_endpoint() {
//!         Ok(lease) => leases.push(lease),
//!         Err(error) => break error,
//!     }
//! };
//! assert_eq!((leases.len(), error), (15, PickError::Saturated));
//! assert!(fleet.members().iter().all(|member| member.in_flight() <= 10 && member.limit() == Some(10)));
//! assert_eq!(fleet.stats().saturated, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! If you do not know the number, an [`AdaptiveLimit`](crate::AdaptiveLimit) finds it:
//! `Limits::default().adaptive(AdaptiveLimit::default().max_concurrency_limit(200))`.
//!
//! # Check endpoints actively
//!
//! [`Fleet::health_check`](crate::Fleet::health_check) makes a driver. It says which endpoint to check and when; you
//! send the check and report its outcome. Spawn its future ([`run`](crate::HealthCheck::run), or
//! [`run_through`](crate::HealthCheck::run_through) a transport), or call [`tick`](crate::HealthCheck::tick) from a
//! loop of yours, as here. Checks and requests together decide about an endpoint: see
//! [`HealthCheck`](crate::HealthCheck).
//!
//! ```
//! use evenkeel::{Fleet, HealthCheckSettings, Outcome};
//! use std::{sync::mpsc, thread, time::Duration};
//!
//! # fn get(address: &str, _: &str, _: Duration) -> Result<u16, std::io::Error> { Ok(if address == "a" { 200 } else { 503 }) }
//! let fleet: Fleet<String> = ["a", "b"].map(String::from).into_iter().collect();
//! let mut checks = fleet.health_check(HealthCheckSettings::default())?;
//! let (stop, stopped) = mpsc::channel::<()>();
//!
//! let checker = thread::spawn(move || {
//!     while !checks.is_over() {
//!         for probe in checks.tick() {
//!             let outcome = match get(probe.endpoint(), "/health", probe.timeout()) {
//!                 Ok(200) => Outcome::Success,
//!                 Ok(_) => Outcome::Failure, // takes it out at once
//!                 Err(_) => Outcome::Unreachable, // counts towards the threshold
//!             };
//!             probe.finish(outcome);
//!         }
//!         if stopped.recv_timeout(checks.next_due()) != Err(mpsc::RecvTimeoutError::Timeout) {
//!             break;
//!         }
//!     }
//! });
//! while fleet.stats().ejected == 0 {
//!     thread::yield_now();
//! }
//! assert_eq!(fleet.member(&"b".to_string()).map(|it| it.state().to_string()).as_deref(), Some("ejected"));
//! # drop(stop);
//! # checker.join().map_err(|_| "the checker panicked")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Fail over to another zone
//!
//! Make a fleet for each zone and a [`Failover`](crate::Failover) over them. The preferred fleet gets all requests
//! while 72 % of it (five in seven) is eligible, and gradually fewer below that. A `Failover` is a
//! [`Cluster`](crate::Cluster), so it can be nested for a third zone. A [`Caller`](crate::Caller) over it retries in
//! the zone not yet tried. Set [`Ejection::under_failover`](crate::Ejection::under_failover) on the fleets, because
//! their requests can go elsewhere: all endpoints may then be ejected and spared, and consecutive failures eject even
//! if the whole zone fails. Without it, half of a dead zone stays in rotation, and more than half of all requests fail.
//! `examples/failover.rs` kills a zone.
//!
//! ```
//! use evenkeel::{Cluster, Ejection, Failover, Fleet, Outcome, PickOptions};
//!
//! let zone = |name: &str, endpoints: [&str; 2]| {
//!     let ejection = Ejection::under_failover();
//!     let endpoints = endpoints.map(String::from);
//!     Fleet::builder().name(name).endpoints(endpoints).ejection(ejection).build()
//! };
//! let near = Failover::new(zone("a", ["a1", "a2"])?, zone("b", ["b1", "b2"])?);
//! let cluster = Failover::new(near, zone("far", ["f1", "f2"])?);
//!
//! let first = cluster.pick_endpoint()?;
//! let tried = [first.id()];
//! assert!(first.endpoint().starts_with('a'));
//! first.record(Outcome::Unreachable);
//! let second = cluster.pick_endpoint_with(&PickOptions::new().avoid(&tried))?;
//! assert!(second.endpoint().starts_with('b'));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Send to my zone first, and to spares last
//!
//! Endpoints name their zone and priority, and [`Tiers`](crate::Tiers) wraps the policy that chooses within a zone. A
//! zone keeps what it can carry. The rest goes to the other zones, and what all of them cannot carry goes to the next
//! priority.
//!
//! ```
//! use evenkeel::{Adaptive, Cluster, Endpoint, Fleet, Mark, Target, Tiers};
//!
//! let in_zone = |first: u32, zone: &'static str| (first..first + 4).map(move |n| Target::new(n, ()).with_locality(zone));
//! let spares = in_zone(8, "c").map(|spare| spare.with_priority(1));
//! let fleet = Fleet::builder()
//!     .endpoints(in_zone(0, "a").chain(in_zone(4, "b")).chain(spares))
//!     .policy(Tiers::new(Adaptive::new()).prefer_zone("a"))
//!     .build()?;
//! assert_eq!(fleet.pick_endpoint()?.endpoint().locality(), "a");
//!
//! // Half of a is down: it keeps 70 %. Six of eight still carry all, so the spares get nothing.
//! for down in [0, 1] {
//!     fleet.mark(&down, Mark::Down);
//! }
//! let load = |fleet: &Fleet<_>| -> Vec<f64> { fleet.tiers().iter().map(|tier| tier.load_percent).collect() };
//! assert_eq!(load(&fleet), [70.0, 30.0, 0.0]);
//!
//! // All of zone a and one of zone b are out: three of eight carry 52 %.
//! for down in 2..=4 {
//!     fleet.mark(&down, Mark::Down);
//! }
//! assert_eq!(load(&fleet), [0.0, 52.0, 48.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! If you know how many callers are in each zone, [`zone_aware`](crate::Tiers::zone_aware) keeps all endpoints evenly
//! loaded. [`locality_weights`](crate::Tiers::locality_weights) divides requests by weights of yours.
//! [`Mark::Degraded`](crate::Mark::Degraded) makes an endpoint a spare, whatever its priority.
//!
//! # Take an endpoint out gracefully
//!
//! [`Fleet::retire`](crate::Fleet::retire) stops new requests at once, waits until the last one has ended or the time
//! is up, and removes the endpoint. [`Fleet::drain`](crate::Fleet::drain) and
//! [`drain_within`](crate::Fleet::drain_within) do not remove it. Picks, the ticks of a
//! [`HealthCheck`](crate::HealthCheck), [`maintain`](crate::Fleet::maintain) and polls notice the deadline; on an idle
//! fleet, wrap the future in a timeout of yours. A discovery that still lists a retired endpoint inserts it anew with
//! its next `update`: delist it first, or drain it and let the discovery remove it. An endpoint that announces its
//! shutdown is ejected by [`Outcome::GoingAway`](crate::Outcome::GoingAway). Weight 0 also stops new requests, until
//! the weight returns. A [`Mark`](crate::Mark) is for doubts about health: the panic rule may ignore it.
//!
//! ```
//! use evenkeel::Fleet;
//! use std::time::Duration;
//!
//! # async fn example(fleet: Fleet<String>) {
//! if let Some(retire) = fleet.retire(&"10.0.0.1:80".to_string(), Duration::from_secs(30)) {
//!     let drained = retire.await;
//!     println!("{} requests were left", drained.in_flight());
//! }
//! # }
//! ```
//!
//! # Inspect a fleet
//!
//! [`Fleet::stats`](crate::Fleet::stats) returns the numbers of the fleet, [`Fleet::members`](crate::Fleet::members)
//! those of each endpoint. Neither takes a lock.
//!
//! ```
//! use evenkeel::{Cluster, Fleet};
//!
//! # let fleet: Fleet<String> = ["a".to_string()].into_iter().collect();
//! let lease = fleet.pick_endpoint()?;
//! for member in fleet.members() {
//!     println!(
//!         "{} {} in flight, {:?}, score {:.2}, {}",
//!         member.endpoint(),
//!         member.in_flight(),
//!         member.latency(),
//!         member.score(),
//!         member.state(),
//!     );
//! }
//! assert_eq!(fleet.stats().in_flight, 1);
//! # drop(lease);
//! # Ok::<(), evenkeel::PickError>(())
//! ```
//!
//! [`Member::explain`](crate::Member::explain) says, as data and as text, why an endpoint gets no or few requests:
//! whether it may be picked, and its cost to `Adaptive` (at a few times the usual cost, it gets little). With
//! [`events`](crate::FleetBuilder::events) set, the fleet keeps events until you take them.
//!
//! ```
//! use evenkeel::{Fleet, ManualClock, Outcome};
//!
//! let fleet = Fleet::builder()
//!     .endpoints(["a", "b", "c"].map(String::from))
//!     .clock(ManualClock::new())
//!     .seed(7)
//!     .events(1024)
//!     .build()?;
//! for _ in 0..2 {
//!     fleet.lease(&"a".to_string())?.record(Outcome::Unreachable);
//! }
//! let why = fleet.member(&"a".to_string()).map(|member| member.explain().to_string());
//! assert_eq!(
//!     why.as_deref(),
//!     Some(
//!         "ejected by the sequential test 0.0 s ago (evidence 11.4 of 11.0), probe in 2.1 s, 5 good probes wanted; \
//!          0 in flight"
//!     )
//! );
//! for event in fleet.take_events() {
//!     println!("{:?} ago: {event}", fleet.now().since(event.at)); // "a" ejected by the sequential test for 2.1s
//! }
//! assert!(fleet.take_events().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Test a service
//!
//! Write it against [`Cluster`](crate::Cluster), and use a cluster of your own in tests, with
//! [`Lease::detached`](crate::Lease::detached), which also shows what the service recorded. Or use a fleet with a
//! [`ManualClock`](crate::ManualClock) and a [seed](crate::FleetBuilder::seed): it decides the same in each run, and
//! you control the time.
//!
//! ```
//! use evenkeel::{Cluster, Fleet, ManualClock, MemberState, Outcome};
//! use std::time::Duration;
//!
//! let clock = ManualClock::new();
//! let fleet = Fleet::builder()
//!     .endpoints(["a", "b"].map(String::from))
//!     .clock(clock.clone())
//!     .seed(7)
//!     .build()?;
//! for _ in 0..5 {
//!     fleet.lease(&"a".to_string())?.record(Outcome::Unreachable);
//! }
//! assert_eq!(fleet.members()[0].state(), MemberState::Ejected);
//!
//! clock.advance(Duration::from_secs(3)); // the first ejection lasts 2 s, give or take a quarter
//! let probe = fleet.pick_endpoint()?;
//! assert!(probe.is_probe() && probe.endpoint() == "a");
//! probe.record(Outcome::Success);
//! for _ in 1..5 {
//!     fleet.pick_endpoint()?.record(Outcome::Success); // five good ones in a row
//! }
//! assert_eq!(fleet.members()[0].state(), MemberState::Warming); // its share rises for 5 s
//! clock.advance(Duration::from_secs(5));
//! fleet.maintain();
//! assert_eq!(fleet.members()[0].state(), MemberState::Ready);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
