//! Options of one pick: [`PickOptions`], and [`MemberId`], by which they name members.

use std::fmt;

/// The identity of one endpoint in a fleet, from its insertion to its removal. Unique in the process and never reused:
/// an endpoint that is removed and inserted again gets another id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

impl MemberId {
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberId({})", self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Options of one pick. The default sets none.
///
/// ```
/// use evenkeel::{Cluster, Fleet, Outcome, PickOptions};
///
/// let fleet: Fleet<String> = ["a", "b"].map(String::from).into_iter().collect();
/// let first = fleet.pick_endpoint()?;
/// let tried = [first.id()];
/// first.record(Outcome::Failure);
/// let second = fleet.pick_endpoint_with(&PickOptions::new().avoid(&tried))?;
/// assert_ne!(second.id(), tried[0]);
/// # Ok::<(), evenkeel::PickError>(())
/// ```
///
/// A policy of yours can keep a session on one endpoint, here by rendezvous hashing. A session moves only if its
/// endpoint may not be picked, and comes back with it. `Tiers::new(Sticky)` does the same within priorities and zones.
///
/// ```
/// use evenkeel::{
///     Choice, Cluster, Endpoint, Fleet, LoadBalancer, PickContext, PickOptions, Picker, SlowStart, View,
/// };
/// use std::hash::{DefaultHasher, Hash, Hasher};
/// use std::time::Duration;
///
/// #[derive(Debug)]
/// struct Sticky;
/// struct ByHash(Vec<u64>); // of the keys
///
/// fn hash(value: impl Hash) -> u64 {
///     let mut hasher = DefaultHasher::new();
///     value.hash(&mut hasher);
///     hasher.finish()
/// }
///
/// impl<E: Endpoint> LoadBalancer<E> for Sticky {
///     fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
///         let keys = view.members().iter().map(|member| hash(member.endpoint().key()));
///         Box::new(ByHash(keys.collect()))
///     }
/// }
/// impl<E: Endpoint> Picker<E> for ByHash {
///     fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
///         let any = cx.random_below(usize::MAX) as u64;
///         let session = cx.options().affinity.unwrap_or(any);
///         let usable = (0..self.0.len()).filter(|&i| cx.may_pick(i));
///         usable.max_by_key(|&i| hash((session, self.0[i]))).map(Choice::at)
///     }
/// }
///
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b", "c"])
///     .policy(Sticky)
///     .slow_start(SlowStart::default().window(Duration::ZERO)) // or sessions return one request at a time
///     .build()?;
/// let options = PickOptions::new().affinity(hash("session 7"));
/// let first = *fleet.pick_endpoint_with(&options)?.endpoint();
/// for _ in 0..10 {
///     assert_eq!(*fleet.pick_endpoint_with(&options)?.endpoint(), first);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PickOptions<'a> {
    /// A hash of what should stay together (a session, a key). Defaults to none.
    ///
    /// No built-in policy chooses an endpoint by it. A [`Failover`](crate::Failover) keeps a hash on one cluster, and
    /// [`Tiers`](crate::Tiers) keeps it on one priority and zone, as far as their health allows. Requests that become
    /// probes are the exception.
    pub affinity: Option<u64>,
    /// Members not to pick, typically those already tried for this request. Defaults to none.
    ///
    /// Each costs a comparison per candidate, so keep it to a handful. A pick that avoids any member counts as a retry:
    /// it never becomes a probe, and a [`Failover`](crate::Failover) sends it to the cluster not yet tried.
    pub avoid: &'a [MemberId],
    /// Set by a [`Failover`](crate::Failover), which has asked for a probe itself: this pick must not become one.
    pub(crate) without_probe: bool,
    /// Set by a [`Failover`](crate::Failover), which can use another cluster: if few endpoints are eligible, the pick
    /// neither ignores health nor fails for that.
    pub(crate) without_panic: bool,
    /// Set by a [`Failover`](crate::Failover) that asks a second time for one request: a refusal has been counted.
    pub(crate) is_repeated: bool,
}

impl<'a> PickOptions<'a> {
    /// Creates options that set nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            affinity: None,
            avoid: &[],
            without_probe: false,
            without_panic: false,
            is_repeated: false,
        }
    }

    /// Sets [`affinity`](Self::affinity).
    #[must_use]
    pub const fn affinity(mut self, hash: u64) -> Self {
        self.affinity = Some(hash);
        self
    }

    /// Sets [`avoid`](Self::avoid).
    #[must_use]
    pub const fn avoid(mut self, members: &'a [MemberId]) -> Self {
        self.avoid = members;
        self
    }
}
