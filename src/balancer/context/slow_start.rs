//! What slow start does in one pick.

use super::{HealthMode, PickContext};
use crate::endpoint::Endpoint;

impl<E: Endpoint> PickContext<'_, E> {
    /// The same pick with slow start taken into account, for when some member is in it.
    pub(crate) fn with_slow_start(mut self) -> Self {
        self.draw = Some(self.random());
        self
    }

    pub(crate) const fn heeds_slow_start(&self) -> bool {
        self.draw.is_some()
    }

    /// Ignores slow start for the rest of the pick, as no other member is left.
    pub(crate) const fn lift_slow_start(&mut self) {
        self.draw = None;
    }

    /// Runs `f` without slow start. If that finds a member, slow start stays ignored for the rest of the pick.
    pub(in crate::balancer) fn as_if_warm<R>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Option<R>,
    ) -> Option<R> {
        let draw = self.draw.take();
        let chosen = f(self);
        if chosen.is_none() {
            self.draw = draw;
        }
        chosen
    }

    /// As `may_pick`, without slow start.
    pub(in crate::balancer) fn may_pick_if_warm(&self, index: usize) -> bool {
        let Some(member) = self.members.get(index) else {
            return false;
        };
        let healthy = self.health_mode == HealthMode::Ignore || member.takes_requests();
        healthy && !self.avoids(member) && self.has_room(member) && self.wants(member)
    }

    /// Whether slow start counts in this pick and the member is in it.
    pub(in crate::balancer) fn is_warming(&self, index: usize) -> bool {
        self.slow_start_share(index) < 1.0
    }

    /// Whether the fleet is short of capacity because members are out or in slow start.
    pub(in crate::balancer) fn is_short(&self) -> bool {
        self.shared.is_some_and(|shared| shared.missing() > 0.0)
    }

    /// The share that slow start leaves to the member; 1 if it is not in slow start, or if that does not count.
    pub(in crate::balancer) fn slow_start_share(&self, index: usize) -> f64 {
        let counts = self.draw.is_some() && self.health_mode != HealthMode::Ignore;
        let member = self.members.get(index).filter(|_| counts);
        member.map_or(1.0, |member| member.slow_start_share(self.now))
    }

    /// Whether this member, drawn as the other of a pair, takes part, by a random lot. See
    /// [`draw_other`](Self::draw_other).
    pub(in crate::balancer) fn may_compete(&self, other: usize, with: usize, lot: u64) -> bool {
        let share = self.slow_start_share(other);
        share >= 1.0 || self.is_warming(with) || (lot as f64) < share * u64::MAX as f64
    }
}
