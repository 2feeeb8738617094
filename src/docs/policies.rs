//! Which policy, and when each breaks down.
//!
//! | policy | looks at | cost of a pick |
//! |---|---|---|
//! | [`Adaptive`](crate::Adaptive), the default | latency, in-flight, age and errors of all, or of 104 beyond 256 | grows with their number up to 256 |
//! | [`PowerOfTwo`](crate::PowerOfTwo) | in-flight of two, drawn by weight | the same for any number |
//! | [`LeastConnections`](crate::LeastConnections) | in-flight of all | grows with their number, unless the first drawn is idle |
//! | [`LeastResponseTime`](crate::LeastResponseTime) | latency and in-flight of two | the same for any number |
//! | [`WeightedRoundRobin`](crate::WeightedRoundRobin) | weights | the same for any number and any weights |
//! | [`RoundRobin`](crate::RoundRobin) | nothing | the same for any number |
//! | [`Random`](crate::Random) | weights | the same for any number |
//! | [`Tiers`](crate::Tiers) over any of them | who is eligible in each priority and zone | some tens of nanoseconds beside the inner one's |
//!
//! # How to choose
//!
//! *No reason for another:* `Adaptive`. It is served in turn where all are alike, sees the slow, the stalled and the failing, and is
//! back at a healed one within seconds, at most some twenty of them. It prefers what it knows to be quick, so where there is little to do it
//! does not use like endpoints evenly.
//!
//! *Endpoints alike, requests alike, few clients:* `RoundRobin` or `WeightedRoundRobin`. Nothing varies less.
//!
//! *Picks that must cost next to nothing:* `WeightedRoundRobin`; and where load matters, `PowerOfTwo`, or `LeastConnections` up to a few hundred
//! endpoints. With few endpoints the full scan is clearly better: with two bad ones of four, one pair in
//! six is bad on both sides.
//!
//! *Very many endpoints of different speeds, without known weights:* `LeastResponseTime`, or `Adaptive`, which remembers good
//! ones.
//!
//! *A thousand clients with a request now and then:* no client knows much about load. Policies that look at in-flight come close to
//! `Random`; latencies tell a little more.
//!
//! *Endpoints further off, or spare ones:* `Tiers` over the policy that you would use otherwise; see
//! [the guide](super::guide#send-to-my-zone-first-and-to-spares-last).
//!
//! *Streams, or requests of very different length:* give each kind a fleet of its own, or record the lease when the headers are there, as what comes after says
//! little of how soon the next request is answered. Beside short requests, one that is open for more than three times as long as answers take makes its
//! endpoint count for three times its latency with `Adaptive`, and one more in flight with all that look at those; where many of few endpoints have a stream
//! open and the others none, these get most of what is short, up to some five at a time each more. `PowerOfTwo` takes less notice of it. With a
//! [`Transport`](crate::Transport) a request ends when its future does: one that returns at the headers ends the lease there, and a drain does not wait
//! for the body.
//!
//! # What they have in common
//!
//! - Weight 0 takes nothing. Where endpoints are drawn or scheduled, ratios beyond 65 536 count as that. Weights up to [`u32::MAX`] on a million
//!   endpoints do not overflow, and memory goes with the number of endpoints.
//! - An ejected, marked down or avoided endpoint, or one at its [limit](crate::Limits), is passed over, and its requests go to the others *at
//!   random by weight*, never to its neighbour alone: a table's choice that may not be picked is drawn
//!   again up to 8 times, and then once among all that may.
//! - At low load every endpoint with a weight gets its share, as far as the policy looks at load alone. A formula that compares (in-flight + 1) /
//!   weight alone would give all to the heaviest: so ties and the idle are drawn by weight.
//! - Positions and counts belong to the fleet, so no update starts a sequence over.
//!
//! # Fast failures
//!
//! An endpoint that fails at once has nothing in flight and, by its latency, looks fast. Failures
//! therefore never lower a latency estimate, and the sequential test takes the endpoint out after two of them where others do not
//! fail. Where failures are too few to eject, a policy that looks at in-flight alone sends it a little
//! more than its share; to `Adaptive` they cost.
