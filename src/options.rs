//! What a caller may say with a pick: [`PickOptions`], and [`MemberId`] to say whom it means.

use std::fmt;

/// One incarnation of an endpoint in a fleet. Unique in the process, never reused: an endpoint that is
/// removed and inserted again has another id.
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

/// What a caller wants of one pick. By default nothing in particular.
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
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PickOptions<'a> {
    /// A hash of what should stay together (a session, a key). No built-in policy chooses an endpoint by it; a
    /// [`Failover`](crate::Failover) keeps it to a cluster and [`Tiers`](crate::Tiers) to a priority and zone, as far as their health
    /// allows, except for requests that become probes. Defaults to none.
    pub affinity: Option<u64>,
    /// Members not to pick, typically those already tried for this request. Each costs a comparison per candidate, so keep it to a handful.
    /// A pick that avoids anybody counts as a retry: it never becomes a probe, and a [`Failover`](crate::Failover) sends it to the cluster
    /// not yet tried. Defaults to none.
    pub avoid: &'a [MemberId],
    /// Who asks has asked for a probe already.
    pub(crate) without_probe: bool,
    /// Who asks has somewhere else to go with it: that few are eligible is no reason to ignore health, nor to fail.
    pub(crate) without_panic: bool,
}

impl<'a> PickOptions<'a> {
    /// Nothing in particular.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            affinity: None,
            avoid: &[],
            without_probe: false,
            without_panic: false,
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
