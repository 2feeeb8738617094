//! What one store publishes: the members, and the picker prepared for them.

use crate::balancer::{Asker, Choice, HealthMode, PickContext, Picker};
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::health::PanicAction;
use crate::member::Member;
use crate::options::{MemberId, PickOptions};
use crate::shared::{Own, Shared, Tally};
use crate::time::Tick;

/// How often a pick that found no member looks again.
const LOOKS: usize = 3;

pub(super) struct Snapshot<E: Endpoint> {
    /// The members that may take requests (weight above 0, not draining), seat by seat: the first seat of each member,
    /// then the second seat of each, and so on. A seat is a handle to a member for the use of some shards of threads,
    /// which keeps its reference count off other threads' cache lines.
    pub(super) seats: Box<[Member<E>]>,
    /// How many routable members there are.
    pub(super) count: usize,
    /// The number of seats per member, a power of two, less one.
    pub(super) other_seats: usize,
    /// The number of this set; each change gets another.
    pub(super) edition: u64,
    /// All other members: those of weight 0 or draining.
    pub(super) unroutable: Box<[Member<E>]>,
    pub(super) picker: Box<dyn Picker<E>>,
    /// Whether the picker reads the board (the members' loads side by side), so that leases must be counted there.
    pub(super) reads_board: bool,
    /// Whether the picker answers [`Picker::pick_of_all`], and endpoints have no limits.
    pub(super) picks_of_all: bool,
    /// Whether the picker applies the panic rule itself.
    pub(super) judges_panic: bool,
}

impl<E: Endpoint> Snapshot<E> {
    /// The members that may take requests.
    #[inline]
    pub(super) fn routable(&self) -> &[Member<E>] {
        &self.seats[..self.count]
    }

    /// The routable members through the seats of this shard, so that its picks do not contend with other shards'
    /// leases.
    #[inline]
    pub(super) fn routable_by(&self, shard: usize) -> &[Member<E>] {
        &self.seats[(shard & self.other_seats) * self.count..][..self.count]
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member<E>> {
        self.routable().iter().chain(&self.unroutable)
    }

    /// Returns how far health counts for this pick, by the ledger. Fails if so few members are eligible that the panic
    /// rule makes picks fail.
    #[inline]
    pub(super) fn health_mode(
        &self,
        shared: &Shared,
        options: &PickOptions<'_>,
        now: Tick,
    ) -> Result<HealthMode, PickError> {
        if shared.is_calm(now) {
            return Ok(HealthMode::AllEligible);
        }
        self.health_mode_of_refused(shared, options, now)
    }

    #[cold]
    fn health_mode_of_refused(
        &self,
        shared: &Shared,
        options: &PickOptions<'_>,
        now: Tick,
    ) -> Result<HealthMode, PickError> {
        let tally = shared.ledger.read();
        if tally.refused() == 0 && !shared.is_warming(now) {
            return Ok(HealthMode::AllEligible);
        }
        if self.judges_panic || options.without_panic || !self.panics(tally, shared) {
            return Ok(HealthMode::Respect);
        }
        match shared.ledger.rule().action {
            PanicAction::IgnoreHealth => Ok(HealthMode::Ignore),
            PanicAction::FailFast => Err(PickError::TooFewEligible),
        }
    }

    /// Whether the panic rule acts. If the policy has tiers, whether it acts in any of them that has a load; they are
    /// counted anew for this.
    pub(super) fn shows_panic(&self, tally: Tally, shared: &Shared) -> bool {
        if self.judges_panic {
            let mut tiers = self.picker.tiers().into_iter();
            return tiers.any(|tier| tier.panicking && tier.load_percent > 0.0);
        }
        self.panics(tally, shared)
    }

    /// Whether the panic rule acts on the whole set. Takes the number of members from this snapshot, so it reads no
    /// more than the ledger's word. Between the two thresholds panic stays as it was.
    pub(super) fn panics(&self, tally: Tally, shared: &Shared) -> bool {
        let rule = shared.ledger.rule();
        rule.panics(self.count, tally.refused(), tally.panics)
    }

    /// Whether the panic rule acts everywhere: in all tiers, if the policy has tiers.
    fn panics_everywhere(&self, tally: Tally, shared: &Shared) -> bool {
        if self.judges_panic {
            return self.picker.tiers().iter().all(|tier| tier.panicking);
        }
        self.panics(tally, shared)
    }

    /// Whether health still tells good members from bad. `true` for an empty set, whose picks fail for another reason.
    pub(super) fn has_healthy(&self, shared: &Shared) -> bool {
        let tally = shared.ledger.read();
        // Of what is not refused as overloaded, this share fails.
        let usual = shared.usual_now(shared.shard(), Own::default(), shared.now());
        let failing = usual.error_rate();
        let refused = f64::from(shared.rates.refusal_rate());
        let is_judged = tally.refused() < self.count
            && tally.ejected < tally.limit
            && (1.0 - failing) * (1.0 - refused) > 0.5
            && !self.panics_everywhere(tally, shared);
        is_judged || self.count == 0
    }

    /// Whether `avoid` contains all that a pick could choose.
    pub(super) fn leaves_none(&self, shared: &Shared, avoid: &[MemberId]) -> bool {
        let tally = shared.ledger.read();
        if self.count.saturating_sub(tally.refused()) > avoid.len() {
            return false;
        }
        // With tiers, a refused member of a tier without panic counts as available too: a wrong `false` only costs a
        // wait.
        let ignores_health = shared.ledger.rule().action == PanicAction::IgnoreHealth
            && self.shows_panic(tally, shared);
        !self.routable().iter().any(|member| {
            (ignores_health || member.takes_requests()) && !avoid.contains(&member.id())
        })
    }

    /// The choice of a picker that needs no context ([`Picker::pick_of_all`]), where all of `members` may be picked.
    /// `None` if the picker or this pick needs a context.
    #[inline]
    pub(super) fn choose_of_all<'a>(
        &self,
        members: &'a [Member<E>],
        options: &PickOptions<'_>,
        now: Tick,
        shard: usize,
        shared: &Shared,
    ) -> Option<&'a Member<E>> {
        if !self.picks_of_all || !options.avoid.is_empty() {
            return None;
        }
        let asker = Asker::new(shared, shard);
        let choice = self.picker.pick_of_all(members, asker, now)?;
        members.get(choice.index())
    }

    /// The choice of a picker that needs a context, where all members may be picked. Kept out of line so that the path
    /// of pickers that need none stays small.
    #[inline(never)]
    pub(super) fn choose_by_context<'a>(
        &self,
        members: &'a [Member<E>],
        options: &PickOptions<'_>,
        now: Tick,
        shard: usize,
        shared: &Shared,
    ) -> Result<&'a Member<E>, PickError> {
        let calm = HealthMode::AllEligible;
        let mut cx = PickContext::of_fleet(members, options, now, shard, shared, calm);
        self.choose(&mut cx, shared).map(|index| &members[index])
    }

    /// The picker's choice, replaced by another if that member may not be picked.
    #[inline]
    pub(super) fn choose(
        &self,
        cx: &mut PickContext<'_, E>,
        shared: &Shared,
    ) -> Result<usize, PickError> {
        match self.picker.pick(cx) {
            Some(choice) if cx.may_pick(choice.index()) => Ok(choice.index()),
            other => self.choose_again(other, cx, shared),
        }
    }

    /// Another choice, as the policy's first one is no member that may be picked. Counts a failure for want of room.
    #[cold]
    #[inline(never)]
    fn choose_again(
        &self,
        first: Option<Choice>,
        cx: &mut PickContext<'_, E>,
        shared: &Shared,
    ) -> Result<usize, PickError> {
        self.look_again(first, cx, shared)
            .inspect_err(|error| shared.count_refused(*error, cx.options().is_repeated))
    }

    /// Looks again. Members may become eligible between two looks, so one look is not enough to say that there is none,
    /// or that the policy declines.
    fn look_again(
        &self,
        first: Option<Choice>,
        cx: &mut PickContext<'_, E>,
        shared: &Shared,
    ) -> Result<usize, PickError> {
        if let (None, Some(why)) = (first, cx.failure()) {
            return Err(why);
        }
        // When all members are at their limit, many picks come here, so one pass over the members must be enough.
        if first.is_none() && cx.heeds_limits() && !cx.heeds_slow_start() {
            if let Some(error) = cx.why_none() {
                return Err(error);
            }
        }
        let mut choice = first;
        if cx.heeds_slow_start() && cx.draw_usable().is_none() {
            cx.lift_slow_start();
            choice = self.ask_again(cx);
        }
        for _ in 0..LOOKS {
            if let (None, Some(why)) = (choice, cx.failure()) {
                return Err(why);
            }
            match choice {
                Some(choice) if cx.may_pick(choice.index()) => return Ok(choice.index()),
                // A policy with tiers knows best where else to go; its choice was overtaken by a change of eligibility.
                Some(one) if self.judges_panic && one.index() < self.count => {
                    choice = self.ask_again(cx);
                }
                Some(choice) => {
                    self.count_fault(choice.index(), shared);
                    return self.any(cx, shared);
                }
                None if cx.draw_usable().is_some() => choice = self.ask_again(cx),
                None => return self.any(cx, shared),
            }
        }
        let Some(wanted) = choice.or_else(|| self.but_for_limits(cx)) else {
            return Err(cx.failure().unwrap_or(PickError::Declined));
        };
        let index = wanted.index();
        if cx.may_pick(index) {
            return Ok(index);
        }
        if choice.is_none() && cx.without_limits(|cx| cx.may_pick(index)) {
            return Err(PickError::Saturated);
        }
        self.count_fault(index, shared);
        self.any(cx, shared)
    }

    fn ask_again(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        self.heed_again(cx);
        self.picker.pick(cx)
    }

    /// Makes the pick heed health again after a policy with tiers has chosen: panic in one tier holds for the choice
    /// made there, and for no other.
    fn heed_again(&self, cx: &mut PickContext<'_, E>) {
        if self.judges_panic {
            cx.set_health_mode(HealthMode::Respect);
        }
    }

    /// The policy's choice if there were no limits. If it makes one, it wants that member and found no room there.
    fn but_for_limits(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        if !cx.heeds_limits() {
            return None;
        }
        cx.without_limits(|cx| self.ask_again(cx))
    }

    fn count_fault(&self, index: usize, shared: &Shared) {
        if index >= self.count {
            shared.counters.policy_faults.count();
        }
    }

    /// Draws any member that may be picked, by weight, or returns the reason why there is none.
    fn any(&self, cx: &mut PickContext<'_, E>, shared: &Shared) -> Result<usize, PickError> {
        if self.count == 0 {
            return Err(if self.unroutable.is_empty() {
                PickError::Empty
            } else {
                PickError::AllDraining
            });
        }
        self.heed_again(cx);
        for _ in 0..LOOKS {
            if let Some(index) = cx.draw_usable() {
                return Ok(index);
            }
            if cx.heeds_slow_start() {
                // Members in slow start may be the only ones left by now.
                cx.lift_slow_start();
            } else if let Some(error) = cx.why_none() {
                return Err(error);
            }
        }
        if cx.has_eligible() {
            match cx.draw_usable() {
                Some(index) => return Ok(index),
                None if cx.heeds_limits() => return Err(PickError::Saturated),
                None => {}
            }
        }
        match shared.ledger.rule() {
            rule if rule.threshold_percent == 0 || cx.options().without_panic => {
                return Err(PickError::AllEjected);
            }
            rule if rule.action == PanicAction::FailFast => return Err(PickError::TooFewEligible),
            _ => {}
        }
        // No eligible member is fewer than any threshold, whatever the ledger said a moment ago.
        cx.set_health_mode(HealthMode::Ignore);
        let saturated = PickError::Saturated;
        cx.draw_usable()
            .ok_or_else(|| cx.why_none().unwrap_or(saturated))
    }
}
