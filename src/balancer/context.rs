//! What a picker sees of one pick: [`PickContext`].

mod slow_start;

use std::fmt;

use super::cumulative::Cumulative;
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::health::Usual;
use crate::member::Member;
use crate::options::PickOptions;
use crate::shared::{CostBasis, GOLDEN, Shared, below, mix};
use crate::sync::process;
use crate::time::Tick;

/// How often a choice that may not be picked is redrawn from a table before all members are looked at. With half of the
/// weight refused, one pick in 256 gets that far.
const REDRAWS: usize = 8;

/// One pick, as a [`Picker`](super::Picker) sees it.
pub struct PickContext<'a, E: Endpoint> {
    members: &'a [Member<E>],
    options: &'a PickOptions<'a>,
    now: Tick,
    shard: usize,
    /// The counter behind this pick's random numbers. It is taken from the shard on first use, so a pick that needs no
    /// random number does not pay for it.
    counter: Option<u64>,
    health_mode: HealthMode,
    /// Every member may be picked: none is refused, none is to be avoided, and none has a limit.
    any_will_do: bool,
    /// Whether members may have limits.
    heeds_limits: bool,
    /// The random number that decides about members in slow start, the same throughout a pick. `None` to ignore slow
    /// start.
    draw: Option<u64>,
    shared: Option<&'a Shared>,
    /// Which part of the members this is; `None` for all of them.
    part: Option<&'a Subset<'a>>,
    /// Why the policy lets this pick fail, if it does.
    failure: Option<PickError>,
}

/// The part of the members that a policy within a policy chooses from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subset<'a> {
    /// The index in the fleet of each member of the part.
    places: &'a [u32],
    wants: Wants,
}

/// Which members of a part may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// All eligible members.
    Any,
    /// Members that are not degraded.
    Healthy,
    /// Members that are degraded.
    Degraded,
}

impl Subset<'_> {
    /// The index in the fleet of the member at this index of the part.
    fn place(&self, index: usize) -> usize {
        self.places.get(index).map_or(index, |&at| at as usize)
    }

    fn wants<E: Endpoint>(&self, member: &Member<E>) -> bool {
        match self.wants {
            Wants::Any => true,
            Wants::Healthy => !member.core().is_degraded(),
            Wants::Degraded => member.core().is_degraded(),
        }
    }
}

/// How health counts in one pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthMode {
    /// No member is refused for its health, so there is nothing to check.
    AllEligible,
    /// Members refused for their health are not picked.
    Respect,
    /// Panic: so many members are refused that health is ignored.
    Ignore,
}

impl<'a, E: Endpoint> PickContext<'a, E> {
    /// Creates a pick among these members by the calling thread, for tests and benchmarks of a policy. The same seed
    /// gives the same random numbers. A fleet creates its own contexts. [`View::new`](super::View::new) says where to
    /// take members from.
    #[must_use]
    pub fn new(
        members: &'a [Member<E>],
        options: &'a PickOptions<'a>,
        now: Tick,
        seed: u64,
    ) -> Self {
        Self {
            members,
            options,
            now,
            shard: process::thread_number(),
            counter: Some(seed),
            health_mode: HealthMode::Respect,
            any_will_do: false,
            heeds_limits: members
                .first()
                .is_some_and(|first| first.core().shared.limits_endpoints),
            draw: Some(mix(!seed)),
            shared: None,
            part: None,
            failure: None,
        }
    }

    #[inline]
    pub(crate) fn of_fleet(
        members: &'a [Member<E>],
        options: &'a PickOptions<'a>,
        now: Tick,
        shard: usize,
        shared: &'a Shared,
        health_mode: HealthMode,
    ) -> Self {
        Self {
            members,
            options,
            now,
            shard,
            counter: None,
            health_mode,
            any_will_do: health_mode == HealthMode::AllEligible
                && options.avoid.is_empty()
                && !shared.limits_endpoints,
            heeds_limits: shared.limits_endpoints,
            draw: None,
            shared: Some(shared),
            part: None,
            failure: None,
        }
    }

    /// Runs the same pick among a part of the members, for a policy within a policy. The random sequence continues
    /// where the part left it. Slow start admits the same members inside and outside.
    pub(super) fn narrow<R>(
        &mut self,
        members: &[Member<E>],
        places: &[u32],
        wants: Wants,
        health_mode: HealthMode,
        pick: impl FnOnce(&mut PickContext<'_, E>) -> R,
    ) -> R {
        let all = wants == Wants::Any;
        let which = Subset { places, wants };
        let mut part = PickContext {
            members,
            options: self.options,
            now: self.now,
            shard: self.shard,
            counter: self.counter,
            health_mode,
            any_will_do: all
                && health_mode == HealthMode::AllEligible
                && self.options.avoid.is_empty()
                && !self.heeds_limits,
            heeds_limits: self.heeds_limits,
            draw: self.draw,
            shared: self.shared,
            part: Some(&which),
            failure: None,
        };
        let result = pick(&mut part);
        (self.counter, self.failure) = (part.counter, part.failure);
        result
    }

    pub(super) const fn health_mode(&self) -> HealthMode {
        self.health_mode
    }

    /// Sets the reason for which the pick fails if the policy then chooses no member.
    pub(super) const fn set_failure(&mut self, why: Option<PickError>) {
        self.failure = why;
    }

    /// Why the policy lets the pick fail, if it does.
    pub(crate) const fn failure(&self) -> Option<PickError> {
        self.failure
    }

    pub(crate) const fn heeds_limits(&self) -> bool {
        self.heeds_limits
    }

    /// All members with a weight above 0 that are not draining: the slice that the picker was prepared for, in the same
    /// order.
    #[must_use]
    pub const fn members(&self) -> &'a [Member<E>] {
        self.members
    }

    /// Whether the member at this index may be picked. `false` for an index out of range.
    ///
    /// It may if it is not ejected, not marked down, not to be avoided and not at its [limit](crate::Limits). A member
    /// in slow start may be picked with the probability of its share so far; the answer is the same throughout one
    /// pick. (So a policy that picks the member with the fewest requests in flight gives such a member that part of all
    /// picks where the others are busy, and not of its share.) Each pick draws anew, also for one
    /// [affinity](PickOptions::affinity): with a policy that keeps sessions on endpoints, those of such a member move
    /// back and forth until its slow start is over, unless [`SlowStart::window`](crate::SlowStart::window) is zero. In
    /// panic, health does not count.
    #[inline]
    #[must_use]
    pub fn may_pick(&self, index: usize) -> bool {
        if self.any_will_do {
            return index < self.members.len();
        }
        self.may_pick_by_looks(index)
    }

    /// Kept out of line so that picks without restrictions stay small.
    #[inline(never)]
    fn may_pick_by_looks(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(|member| {
            !self.avoids(member)
                && self.is_eligible(index, member)
                && self.has_room(member)
                && self.wants(member)
        })
    }

    #[inline]
    fn avoids(&self, member: &Member<E>) -> bool {
        let avoid = self.options.avoid;
        !avoid.is_empty() && avoid.contains(&member.id())
    }

    #[inline]
    fn wants(&self, member: &Member<E>) -> bool {
        self.part.is_none_or(|part| part.wants(member))
    }

    #[inline]
    fn has_room(&self, member: &Member<E>) -> bool {
        !self.heeds_limits || member.has_room()
    }

    /// Whether all members may be picked.
    #[inline]
    pub(super) const fn any_will_do(&self) -> bool {
        self.any_will_do
    }

    fn is_eligible(&self, index: usize, member: &Member<E>) -> bool {
        match self.draw {
            _ if self.health_mode == HealthMode::Ignore => true,
            // Each member gets a number of its own by its index in the fleet. By its id, which is unique in the
            // process, the decisions for a seed would depend on what else the process has.
            Some(draw) => {
                let place = self.part.map_or(index, |part| part.place(index));
                member.admits(self.now, mix(draw ^ place as u64))
            }
            None => self.health_mode == HealthMode::AllEligible || member.takes_requests(),
        }
    }

    /// The options that the caller gave.
    #[must_use]
    pub const fn options(&self) -> &'a PickOptions<'a> {
        self.options
    }

    /// The fleet's usual latency and error rate, as of the last upkeep.
    #[must_use]
    pub fn usual(&self) -> Usual {
        self.shared.map_or_else(Usual::default, Shared::usual)
    }

    pub(super) fn cost_basis(&self) -> CostBasis {
        self.shared
            .map_or_else(CostBasis::default, |shared| shared.rates.cost_basis())
    }

    /// The time of the pick.
    #[must_use]
    pub const fn now(&self) -> Tick {
        self.now
    }

    /// The shard of the calling thread, for a [`Cursor`](super::Cursor).
    #[must_use]
    pub const fn shard(&self) -> usize {
        self.shard
    }

    /// Returns a random index below `bound`, or 0 for bound 0.
    pub fn random_below(&mut self, bound: usize) -> usize {
        below(bound as u64, self.random()) as usize
    }

    /// Returns 64 random bits.
    pub(super) fn random(&mut self) -> u64 {
        let counter = match (self.counter, self.shared) {
            (None, Some(shared)) => shared.random(self.shard),
            (counter, _) => counter.unwrap_or(0).wrapping_add(GOLDEN),
        };
        self.counter = Some(counter);
        mix(counter)
    }

    /// Draws from the table up to `REDRAWS` times, and then among all that may be picked.
    pub(super) fn draw(&mut self, table: &Cumulative) -> Option<usize> {
        self.draw_by(by_weight, |random| table.draw(random))
    }

    /// Draws a member other than `than` that may be picked; `None` if there is none. A member in slow start competes
    /// with one that is not only with the probability of its share: it has less in flight, and would win each time.
    #[inline]
    pub(super) fn draw_other(&mut self, table: &Cumulative, than: usize) -> Option<usize> {
        // One lot for all draws: with one for each, a member that competes seldom would do so sooner or later.
        let lot = if self.heeds_slow_start() {
            self.random()
        } else {
            0
        };
        let may = |cx: &Self, other| cx.may_pick(other) && cx.may_compete(other, than, lot);
        for _ in 0..REDRAWS {
            let other = table.draw_other(than, self.random())?;
            if may(self, other) {
                return Some(other);
            }
        }
        self.draw_among(by_weight, |cx, other| other != than && may(cx, other))
    }

    /// As `draw`, from any table; `weight_of` is a member's weight in it.
    pub(super) fn draw_by(
        &mut self,
        weight_of: fn(&Member<E>) -> u64,
        draw: impl Fn(u64) -> Option<usize>,
    ) -> Option<usize> {
        for _ in 0..REDRAWS {
            let index = draw(self.random())?;
            if self.may_pick(index) {
                return Some(index);
            }
        }
        self.draw_among(weight_of, Self::may_pick)
    }

    /// One draw by weight among all that may be picked; O(members).
    pub(crate) fn draw_usable(&mut self) -> Option<usize> {
        self.draw_among(by_weight, Self::may_pick)
    }

    /// One draw by weight among all that `may` be drawn.
    fn draw_among(
        &mut self,
        weight_of: fn(&Member<E>) -> u64,
        may: impl Fn(&Self, usize) -> bool,
    ) -> Option<usize> {
        let members = self.members;
        let total = (0..members.len())
            .filter(|&index| may(self, index))
            .map(|index| weight_of(&members[index]))
            .sum();
        if total == 0 {
            return None;
        }
        let mut point = below(total, self.random());
        let mut last = None;
        for index in (0..members.len()).filter(|&index| may(self, index)) {
            last = Some(index);
            let weight = weight_of(&members[index]);
            if point < weight {
                break;
            }
            point -= weight;
        }
        // Health may have changed between the two passes; the last member seen is as good as any.
        last
    }

    /// Why no member may be picked, though some are eligible by health: all of them are to be avoided, or the ones that
    /// are not are at their limit. `None` also if a member may be picked by now.
    pub(crate) fn why_none(&self) -> Option<PickError> {
        let mut why = None;
        for (index, member) in self.members.iter().enumerate() {
            if !self.is_eligible(index, member) {
                continue;
            }
            if self.avoids(member) {
                why = why.or(Some(PickError::AllAvoided));
            } else if self.has_room(member) {
                return None;
            } else {
                why = Some(PickError::Saturated);
            }
        }
        why
    }

    /// Whether any member is eligible by health, at its limit or not.
    pub(crate) fn has_eligible(&self) -> bool {
        let mut members = self.members.iter().enumerate();
        members.any(|(index, member)| self.is_eligible(index, member))
    }

    /// Runs `look` with limits ignored.
    pub(crate) fn without_limits<R>(&mut self, look: impl FnOnce(&mut Self) -> R) -> R {
        let heeds_limits = std::mem::replace(&mut self.heeds_limits, false);
        let found = look(self);
        self.heeds_limits = heeds_limits;
        found
    }

    pub(crate) const fn set_health_mode(&mut self, health_mode: HealthMode) {
        self.health_mode = health_mode;
    }
}

fn by_weight<E: Endpoint>(member: &Member<E>) -> u64 {
    member.weight().get().into()
}

impl<E: Endpoint> fmt::Debug for PickContext<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickContext")
            .field("members", &self.members.len())
            .field("options", &self.options)
            .field("now", &self.now)
            .field("shard", &self.shard)
            .field("health_mode", &self.health_mode)
            .finish_non_exhaustive()
    }
}
