//! Which policy to choose, and when each breaks down.
//!
//! | policy | looks at | cost of a pick |
//! |---|---|---|
//! | [`Adaptive`](crate::Adaptive), the default | latency, in-flight, age and errors of all, or of 104 beyond 256 | grows with their number up to 256 |
//! | [`PowerOfTwo`](crate::PowerOfTwo) | in-flight of two, drawn by weight | the same for any number |
//! | [`LeastConnections`](crate::LeastConnections) | in-flight of all | grows with their number, unless the first one drawn is idle |
//! | [`LeastResponseTime`](crate::LeastResponseTime) | latency and in-flight of two | the same for any number |
//! | [`WeightedRoundRobin`](crate::WeightedRoundRobin) | weights | the same for any number and any weights |
//! | [`RoundRobin`](crate::RoundRobin) | nothing | the same for any number |
//! | [`Random`](crate::Random) | weights | the same for any number |
//! | [`Tiers`](crate::Tiers) over any of them | eligible endpoints in each priority and zone | some tens of nanoseconds more than the inner policy's |
//!
//! # How to choose
//!
//! *By default:* `Adaptive`. It serves equal endpoints in turn, avoids slow, stalled and failing ones, and uses a
//! recovered one again within seconds, at most about twenty. It prefers endpoints that it knows to be quick, so at low
//! load it does not use equal endpoints evenly. After all have been slow or hung, a process with few requests may send
//! nearly all of them to one endpoint for two to three minutes, and half of them for ten (`tests/operations.rs`).
//!
//! *Equal endpoints, equal requests, few clients:* `RoundRobin` or `WeightedRoundRobin`. No other policy spreads
//! requests more evenly.
//!
//! *The cheapest picks:* `WeightedRoundRobin`. If load matters, `PowerOfTwo`, or `LeastConnections` up to a few hundred
//! endpoints. With few endpoints the full scan is clearly better: with two bad ones of four, `PowerOfTwo` draws both
//! for one request in six.
//!
//! *Very many endpoints of different speeds, without known weights:* `LeastResponseTime`, or `Adaptive`, which
//! remembers good endpoints.
//!
//! *One client that sends all the load to equal endpoints of one request at a time, and times that vary widely:*
//! `LeastConnections`. Its requests in flight tell all there is to know, and estimates of latency are mostly noise.
//! `Adaptive` follows latencies less there, but it still queues some requests beside idle endpoints. If endpoints work
//! on several requests at a time, the two are level, and where some are slower `Adaptive` is ahead
//! (`tests/simulated_differences.rs`).
//!
//! *A thousand clients with few requests each:* no client knows much about load. Policies that look at requests in
//! flight come close to `Random`; latency tells a little more.
//!
//! *Remote or spare endpoints:* `Tiers` over the policy that you would use otherwise; see [the
//! guide](super::guide#send-to-my-zone-first-and-to-spares-last).
//!
//! *Streams, or requests of very different length:* use a separate fleet for each kind, or record the lease when the
//! headers arrive: what comes after them says little about how soon the next request is answered. If a stream is open
//! beside short requests for more than three times as long as answers take, `Adaptive` counts its endpoint at three
//! times its cost, for a minute. (More than twelve times as long, if many of the client's own requests last long.)
//! Every policy that looks at requests in flight counts one more request. If many of a few endpoints have a stream open
//! and the others have none, the others get most of the short requests, up to about five more at a time each;
//! `PowerOfTwo` reacts less. With a [`Transport`](crate::Transport) a request ends when its future does: a future that
//! returns at the headers ends the lease there, and a drain does not wait for the body.
//!
//! # What all policies have in common
//!
//! - Weight 0 takes nothing. Where endpoints are drawn or scheduled, ratios above 65 536 count as 65 536. A million
//!   endpoints of weight [`u32::MAX`] do not overflow, and memory grows with the number of endpoints only.
//! - An ejected, marked-down or avoided endpoint, or one at its [limit](crate::Limits), is passed over. Its requests go
//!   to the others *at random by weight*, never just to its neighbour: a choice that may not be picked is redrawn up to
//!   8 times, then drawn once among all that may be picked.
//! - At low load every endpoint with a weight gets its share, as far as the policy looks at load alone. Comparing
//!   (in-flight + 1) / weight alone would send everything to the heaviest endpoint, so ties and idle endpoints are
//!   drawn by weight.
//! - Positions and counts belong to the fleet, so an update does not restart a sequence.
//!
//! # Fast failures
//!
//! An endpoint that fails at once has nothing in flight and a low latency, so it looks attractive. Failures therefore
//! never lower a latency estimate, and the sequential test ejects the endpoint after two failures if the others do not
//! fail. If failures are too rare to eject, a policy that looks only at requests in flight sends the endpoint a little
//! more than its share; `Adaptive` counts them as a cost.
