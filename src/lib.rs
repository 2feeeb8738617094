//! Embeddable client-side load balancing.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod balancer;
mod cluster;
mod endpoint;
mod error;
mod fleet;
mod health;
mod member;
mod options;
mod outcome;
mod shared;
mod sync;
mod time;
mod transport;

pub use balancer::{
    Choice, Cursor, FromPicker, LeastConnections, LeastResponseTime, LoadBalancer, PickContext,
    Picker, PowerOfTwo, Random, RoundRobin, View, WeightedRoundRobin, from_picker,
};
pub use cluster::{Cluster, ClusterExt};
pub use endpoint::{Endpoint, Target, Weight};
pub use error::{BuildError, CallError, PickError, UpdateError};
pub use fleet::{Changes, Drain, Drained, Fleet, FleetBuilder, Mark, Stats, Upkeep};
pub use health::{Alarm, Ejection, Health, HealthTracker, Judging, SlidingWindow, Usual};
pub use member::{Lease, Member, MemberState};
pub use options::{MemberId, PickOptions};
pub use outcome::{Outcome, Sample, SampleKind};
pub use time::{Clock, ManualClock, MonotonicClock, Tick};
pub use transport::{BoxFuture, BoxTransport, DynTransport, FromFn, Transport, from_fn};
