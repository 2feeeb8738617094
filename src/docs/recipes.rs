//! Whole services: a proxy, connection pools, a blocking client, a database with replicas, a metrics page.
//!
//! Single tasks are in [the guide](super::guide).
//!
//! # A proxy that streams bodies
//!
//! A [`Transport`](crate::Transport) ends its request when its future does, at the headers, and so does a
//! [`Caller`](crate::Caller). For the endpoint to be busy until the body has ended, pick by hand and move the lease
//! into the body. Record with the time to the headers, or the speed of your clients counts as the endpoint's latency.
//!
//! ```
//! use evenkeel::{Lease, Outcome};
//! use hyper::body::{Body, Frame, SizeHint};
//! use std::pin::Pin;
//! use std::task::{Context, Poll};
//! use std::time::{Duration, Instant};
//!
//! struct Tracked<B: Body> {
//!     body: B,
//!     held: Option<(Lease<String>, Duration)>, // with the time to the headers
//! }
//!
//! impl<B: Body> Tracked<B> {
//!     fn end(&mut self, outcome: Outcome) {
//!         if let Some((lease, to_headers)) = self.held.take() {
//!             lease.record_with_latency(outcome, to_headers);
//!         }
//!     }
//! }
//!
//! impl<B: Body + Unpin> Body for Tracked<B> {
//!     type Data = B::Data;
//!     type Error = B::Error;
//!
//!     fn poll_frame(
//!         mut self: Pin<&mut Self>,
//!         cx: &mut Context<'_>,
//!     ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
//!         let frame = Pin::new(&mut self.body).poll_frame(cx);
//!         match &frame {
//!             Poll::Ready(Some(Err(_))) => self.end(Outcome::Unreachable), // it died in the middle
//!             Poll::Ready(None) => self.end(Outcome::Success),
//!             _ => {}
//!         }
//!         frame
//!     }
//!     fn is_end_stream(&self) -> bool {
//!         self.body.is_end_stream()
//!     }
//!     fn size_hint(&self) -> SizeHint {
//!         self.body.size_hint()
//!     }
//! }
//!
//! impl<B: Body> Drop for Tracked<B> {
//!     fn drop(&mut self) {
//!         // A server need not poll a body that is at its end (a known length, a 204). Otherwise the client has gone.
//!         self.end(if self.body.is_end_stream() { Outcome::Success } else { Outcome::Ignored });
//!     }
//! }
//!
//! # use evenkeel::{Cluster, Fleet};
//! # use http_body_util::{BodyExt, Full};
//! # use hyper::body::Bytes;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let fleet: Fleet<String> = ["10.0.0.1:80".to_string()].into_iter().collect();
//! # let answer = |text: &'static str| Full::new(Bytes::from(text));
//! let (lease, begun) = (fleet.pick_endpoint()?, Instant::now());
//! let body = answer("streamed"); // your request to `lease.endpoint()`, until its headers are there
//! let tracked = Tracked { body, held: Some((lease, begun.elapsed())) };
//! assert_eq!(fleet.stats().in_flight, 1); // a drain waits for it
//! assert_eq!(tracked.collect().await?.to_bytes(), "streamed");
//! assert_eq!((fleet.stats().in_flight, fleet.members()[0].outcomes().in_window), (0, 1));
//!
//! let held = Some((fleet.pick_endpoint()?, Duration::ZERO));
//! drop(Tracked { body: answer("the client leaves"), held });
//! assert_eq!((fleet.stats().in_flight, fleet.members()[0].outcomes().ignored), (0, 1));
//! # Ok(())
//! # }
//! ```
//!
//! - An endpoint that stops in the middle of a body looks like a slow client. Put a timer into `poll_frame` that runs
//!   while the body is pending, and record [`Timeout`](crate::Outcome::Timeout) when it fires.
//! - For an answer such as a 500, keep the outcome beside the lease in place of `Success`.
//! - If the client leaves before the headers, the server drops your handler and the lease with it: that is
//!   [`Abandoned`](crate::Outcome::Abandoned), or a timeout if it outlasted
//!   [`patience`](crate::FleetBuilder::patience).
//! - A retry by hand has no retry budget.
//! - A proxy that is itself short of processor time or file descriptors sees timeouts at endpoints that are well, and
//!   ejects them. Limit what it accepts, as by [`max_requests`](crate::Limits::max_requests), and record
//!   [`Ignored`](crate::Outcome::Ignored) for errors of its own (too many open files).
//! - Bodies that take much longer than headers count as load, and lower scores towards 0.6 with policies that compare
//!   ages: see [policies](super::policies#how-to-choose).
//!
//! # A connection pool for each endpoint
//!
//! Put the pool into the endpoint's data, in an `Arc`, and hand it on in updates
//! ([example](super::guide#follow-service-discovery)).
//!
//! - A pooled connection that turns out dead says that the server was restarted, not that it is bad. Within
//!   [`Transport::send`](crate::Transport::send), go on to the next connection and at last to a new one, and return the
//!   result of that one. A request that must not be carried out twice may go on only if nothing of it was sent.
//! - If a time limit drops `send`, its connection must be dropped with it: take it out of the pool while it is in use.
//! - The data of an endpoint that is removed or replaced is dropped before `update` or `remove` returns, unless a
//!   lease, [`Member`](crate::Member), [`Probe`](crate::Probe) or a pick under way still holds it. See
//!   [`Fleet::update`](crate::Fleet::update).
//!
//! # A blocking client
//!
//! [`Caller`](crate::Caller#in-blocking-code) works without a runtime. An attempt is not cut off, so the socket's
//! timeouts have to respect the deadline. [`call_with`](crate::Caller::call_with) makes the request of each attempt
//! just before it is sent, so the request can carry what is left:
//!
//! ```
//! use evenkeel::{CallPlan, Caller, Fleet, from_fn, from_sleep};
//! use std::task::{Context, Poll, Waker};
//! use std::time::{Duration, Instant};
//! use std::{pin::pin, thread};
//!
//! fn block_on<F: Future>(future: F) -> F::Output {
//!     let Poll::Ready(output) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else {
//!         unreachable!("nothing in it waits")
//!     };
//!     output
//! }
//!
//! # fn get(_: &str, _: &str, limit: Duration) -> std::io::Result<u16> {
//! #     assert!(!limit.is_zero() && limit <= Duration::from_millis(200));
//! #     Ok(200)
//! # }
//! # let fleet: Fleet<String> = ["a", "b"].map(String::from).into_iter().collect();
//! let send = from_fn(|address: &String, (path, left): (&'static str, Duration)| {
//!     let limit = left.min(Duration::from_millis(200)).max(Duration::from_millis(1)); // 0 is no limit to a socket
//!     let result = get(address, path, limit);
//!     async move { result }
//! });
//! let timer = from_sleep(|duration| async move { thread::sleep(duration) });
//! let deadline = Duration::from_millis(350);
//! let caller = Caller::new(fleet, send, CallPlan::default().deadline(deadline), timer)?;
//!
//! let end = Instant::now() + deadline;
//! let make = || ("/", end.saturating_duration_since(Instant::now()));
//! assert_eq!(block_on(caller.call_with(make))?, 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A database with a primary and replicas
//!
//! Use two fleets that share the nodes. The fleet for writes holds the primary; the fleet for reads holds all nodes,
//! the primary as a spare. They judge a node apart: one that cannot write may still read.
//!
//! ```
//! use evenkeel::{Adaptive, Cluster, Endpoint, Fleet, Target, Tiers, UpdateError};
//! use std::sync::Arc;
//!
//! #[derive(Clone)]
//! struct Node {
//!     name: &'static str,
//!     pool: Arc<()>, // your connection pool
//! }
//! type Nodes = Fleet<Target<&'static str, Arc<()>>>;
//!
//! /// Tells both fleets what your watcher sees: who is primary, and whose lag is too long.
//! fn seen(nodes: &[Node], primary: &str, lagging: &[&str], writes: &Nodes, reads: &Nodes) -> Result<(), UpdateError> {
//!     let target = |node: &Node| Target::new(node.name, Arc::clone(&node.pool));
//!     writes.update(nodes.iter().filter(|node| node.name == primary).map(target))?;
//!     reads.update(nodes.iter().map(|node| {
//!         let spare = target(node).with_priority(u32::from(node.name == primary));
//!         spare.with_weight(u32::from(!lagging.contains(&node.name)))
//!     }))?;
//!     Ok(())
//! }
//!
//! let nodes = ["a", "b", "c", "d"].map(|name| Node { name, pool: Arc::default() });
//! let writes = Fleet::builder().name("writes").build()?;
//! let reads = Fleet::builder().name("reads").policy(Tiers::new(Adaptive::new())).build()?;
//! seen(&nodes, "a", &["c", "d"], &writes, &reads)?;
//! for _ in 0..100 {
//!     assert_eq!(reads.pick_endpoint()?.endpoint().key(), "b");
//! }
//! seen(&nodes, "b", &["c", "d"], &writes, &reads)?; // failover: b is promoted
//! assert_eq!(writes.pick_endpoint()?.endpoint().key(), "b");
//! # use evenkeel::{Mark, MemberState, Outcome, RoundRobin};
//! # let plain = Fleet::builder().endpoints(["b", "c", "d"]).policy(RoundRobin::new()).build()?;
//! # assert!(plain.mark(&"c", Mark::Down) && plain.mark(&"d", Mark::Down));
//! # let read = (0..9).filter_map(|_| Some(*plain.pick_endpoint().ok()?.endpoint()));
//! # assert_eq!(read.collect::<std::collections::BTreeSet<_>>().len(), 3); // the panic rule
//! # assert!(["b", "c", "d"].iter().all(|key| reads.mark(key, Mark::Auto)));
//! # let all = |lagging: &[&'static str]| seen(&nodes, "a", lagging, &writes, &reads);
//! # let spare = || reads.tiers().last().map(|tier| tier.load_percent);
//! # all(&[])?;
//! # assert!(reads.mark(&"c", Mark::Down));
//! # assert_eq!(spare(), Some(7.0));
//! # assert!(reads.mark(&"d", Mark::Down));
//! # assert_eq!(spare(), Some(54.0));
//! # assert!(reads.mark(&"c", Mark::Auto) && reads.mark(&"d", Mark::Auto));
//! # for _ in 0..5 { reads.lease(&"b")?.record(Outcome::Unreachable); }
//! # let state = || reads.member(&"b").map(|member| member.state());
//! # assert_eq!(state(), Some(MemberState::Ejected));
//! # assert!(reads.mark(&"b", Mark::Up) && reads.mark(&"b", Mark::Auto));
//! # assert!(matches!(state(), Some(MemberState::Ready | MemberState::Warming)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - A replica that must not be read gets weight 0, which nothing overrides. A [`Mark`](crate::Mark) may be overridden
//!   by the panic rule: with two of three replicas marked down in a fleet without spares, all three are read.
//! - Under `Tiers`, a replica that is ejected or marked down moves part of the reads to the primary before the others
//!   are full: 7 % with one of three out, 54 % with two. With weight 0 it does not count, and the primary gets nothing
//!   until no replica is left or the others are ejected. To keep more reads at the replicas, raise
//!   [`overprovisioning_factor`](crate::Tiers::overprovisioning_factor).
//! - A [`Caller`](crate::Caller) tries a single endpoint once, unless
//!   [`repeat_endpoints`](crate::CallPlan::repeat_endpoints) is set: while the primary is down, writes fail with
//!   [`NoEndpointLeft`](crate::StopReason::NoEndpointLeft). To wait for the failover, pause and call again.
//! - For writes, let [`is_retryable`](crate::Transport::is_retryable) accept only what was not carried out (a refused
//!   connection, a read-only answer), and turn [`retry_timeouts`](crate::CallPlan::retry_timeouts) off.
//! - A node that was ejected and is known to be restarted is back at once after [`Mark::Up`](crate::Mark::Up) and
//!   [`Mark::Auto`](crate::Mark::Auto).
//!
//! # A metrics page
//!
//! What to publish is in [tuning](super::tuning#what-to-publish). The crate keeps totals for the fleet, and a window
//! for each endpoint. Totals by endpoint are yours: count them in the endpoint's data, in an `Arc` that updates hand
//! on, or they start over.
//!
//! ```
//! use evenkeel::{Endpoint, Fleet, Target};
//! use std::collections::BTreeMap;
//! use std::fmt::Write;
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! type Server = Target<String, Arc<AtomicU64>>; // counts its answers
//!
//! type Events = BTreeMap<(String, &'static str), u64>;
//!
//! fn page(fleet: &Fleet<Server>, events: &mut Events) -> Result<String, std::fmt::Error> {
//!     let (mut page, stats) = (String::new(), fleet.stats());
//!     writeln!(page, "fleet_ejected {}\nfleet_ejections_total {}", stats.ejected, stats.ejections)?;
//!     for member in fleet.members() {
//!         let key = member.endpoint().key();
//!         writeln!(page, "in_flight{{endpoint={key:?}}} {}", member.in_flight())?;
//!         writeln!(page, "state{{endpoint={key:?},state=\"{}\"}} 1", member.state())?;
//!         writeln!(page, "answers_total{{endpoint={key:?}}} {}", member.endpoint().data().load(Ordering::Relaxed))?;
//!         if let Some(latency) = member.latency() {
//!             writeln!(page, "latency_seconds{{endpoint={key:?}}} {}", latency.as_secs_f64())?;
//!         }
//!     }
//!     for event in fleet.take_events() {
//!         *events.entry((event.key.unwrap_or_default(), event.kind.name())).or_default() += 1;
//!     }
//!     for ((key, kind), count) in events {
//!         writeln!(page, "events_total{{endpoint={key:?},kind={kind:?}}} {count}")?;
//!     }
//!     Ok(page)
//! }
//!
//! # let target = |name: &str| Target::new(name.to_string(), Arc::default());
//! let fleet: Fleet<Server> = Fleet::builder().endpoints(["a", "b", "c"].map(target)).events(1024).build()?;
//! # for _ in 0..5 { fleet.lease(&"a".to_string())?.record(evenkeel::Outcome::Unreachable); }
//! let page = page(&fleet, &mut BTreeMap::new())?;
//! assert!(page.contains("state{endpoint=\"a\",state=\"ejected\"} 1\n"));
//! assert!(page.contains("events_total{endpoint=\"a\",kind=\"ejected\"} 1\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - Some parsers want all lines of a metric together: then loop over the members once for each metric.
//! - Take events in one place only, and before an `update` that may remove endpoints: afterwards their events have no
//!   key.
//! - A key's `Debug` is a valid label value if it is a string of printable characters.
//! - Failed picks other than `Saturated` are counted only by a [`Caller`](crate::Caller): without one, count them where
//!   you pick.
