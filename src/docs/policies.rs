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
//! *No reason for another:* `Adaptive`. Endpoints that are alike it serves in turn; it sees the slow, the stalled and the failing, and uses
//! a recovered one again within seconds, at most some twenty. It prefers endpoints it knows to be quick, so at low load it does not use
//! like endpoints evenly.
//!
//! *Endpoints alike, requests alike, few clients:* `RoundRobin` or `WeightedRoundRobin`. Nothing varies less.
//!
//! *Picks that must cost next to nothing:* `WeightedRoundRobin`; where load matters, `PowerOfTwo`, or `LeastConnections` up to a few
//! hundred endpoints. With few, the full scan is clearly better: with two bad ones of four, `PowerOfTwo` draws both for one request in six.
//!
//! *Very many endpoints of different speeds, without known weights:* `LeastResponseTime`, or `Adaptive`, which remembers good
//! ones.
//!
//! *A thousand clients with few requests each:* none knows much about load. Policies that look at requests in flight come close to
//! `Random`; latency tells a little more.
//!
//! *Remote or spare endpoints:* `Tiers` over the policy that you would use otherwise; see [the
//! guide](super::guide#send-to-my-zone-first-and-to-spares-last).
//!
//! *Streams, or requests of very different length:* give each kind a fleet of its own, or record the lease at the headers, as what comes
//! after says little of how soon the next request is answered. Beside short requests, one open for more than three times as long as answers
//! take makes `Adaptive` count its endpoint at three times its cost, for a minute, and every policy that looks at requests in flight count one more.
//! Where many of few endpoints have a stream open and the others none, these get most of the short requests, up to some five at a time each
//! more; `PowerOfTwo` takes less notice. With a [`Transport`](crate::Transport) a request ends when its future does: one that returns at
//! the headers ends the lease there, and a drain does not wait for the body.
//!
//! # What they have in common
//!
//! - Weight 0 takes nothing. Where endpoints are drawn or scheduled, ratios beyond 65 536 count as that. A million endpoints of weight
//!   [`u32::MAX`] do not overflow, and memory grows with the number of endpoints only.
//! - An ejected, marked-down or avoided endpoint, or one at its [limit](crate::Limits), is passed over, and its requests go to the others
//!   *at random by weight*, never just to its neighbour: a choice that may not be picked is drawn again up to 8 times, then once among all
//!   that may.
//! - At low load every endpoint with a weight gets its share, as far as the policy looks at load alone. Comparing (in-flight + 1) / weight
//!   alone would send all to the heaviest, so ties and idle endpoints are drawn by weight.
//! - Positions and counts belong to the fleet, so no update starts a sequence over.
//!
//! # Fast failures
//!
//! An endpoint that fails at once has nothing in flight and, by its latency, looks fast. Failures therefore never lower a latency estimate,
//! and the sequential test ejects the endpoint after two of them where others do not fail. Where failures are too few to eject, a policy
//! that looks at in-flight alone sends it a little more than its share; `Adaptive` charges for them.
