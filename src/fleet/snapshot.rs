//! What one store publishes: the members and the picker prepared for them.

use crate::balancer::{Asker, Choice, PickContext, Picker, Regard};
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::health::PanicAction;
use crate::member::Member;
use crate::options::{MemberId, PickOptions};
use crate::shared::{Shared, Tally};
use crate::time::Tick;

/// How often a pick that found nobody looks again.
const LOOKS: usize = 3;

pub(super) struct Snapshot<E: Endpoint> {
    /// Those that may take requests, of a weight above 0 and not draining: the first seats of all, then
    /// the second seats of all, and so on.
    pub(super) seats: Box<[Member<E>]>,
    /// How many of them there are.
    pub(super) count: usize,
    /// How many seats each has, a power of two, less one.
    pub(super) other_seats: usize,
    /// Which set it is: another with each change.
    pub(super) edition: u64,
    /// The others.
    pub(super) rest: Box<[Member<E>]>,
    pub(super) picker: Box<dyn Picker<E>>,
    /// Whether the picker reads the board, so that leases are to be on it.
    pub(super) reads_board: bool,
    /// Whether the picker answers [`Picker::pick_of_all`], and endpoints have no limits.
    pub(super) picks_of_all: bool,
    /// Whether the picker judges panic itself.
    pub(super) judges_panic: bool,
}

impl<E: Endpoint> Snapshot<E> {
    /// Those that may take requests.
    #[inline]
    pub(super) fn routable(&self) -> &[Member<E>] {
        &self.seats[..self.count]
    }

    /// The same by the seats that a shard uses, so that its picks neither wait for another's leases nor have those wait.
    #[inline]
    pub(super) fn routable_by(&self, shard: usize) -> &[Member<E>] {
        &self.seats[(shard & self.other_seats) * self.count..][..self.count]
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member<E>> {
        self.routable().iter().chain(&self.rest)
    }

    /// What health counts for, by the ledger; or that picks are to fail, as so few are eligible.
    #[inline]
    pub(super) fn regard(
        &self,
        shared: &Shared,
        options: &PickOptions<'_>,
        now: Tick,
    ) -> Result<Regard, PickError> {
        if shared.is_calm(now) {
            return Ok(Regard::NoneRefused);
        }
        self.regard_of_refused(shared, options, now)
    }

    #[cold]
    fn regard_of_refused(
        &self,
        shared: &Shared,
        options: &PickOptions<'_>,
        now: Tick,
    ) -> Result<Regard, PickError> {
        let tally = shared.ledger.read();
        if tally.refused() == 0 && !shared.is_warming(now) {
            return Ok(Regard::NoneRefused);
        }
        if self.judges_panic || options.without_panic || !self.panics(tally, shared) {
            return Ok(Regard::Heed);
        }
        match shared.ledger.rule().action {
            PanicAction::IgnoreHealth => Ok(Regard::Ignore),
            PanicAction::FailFast => Err(PickError::TooFewEligible),
        }
    }

    /// Whether it is panic: of any tier, if the policy has tiers, which are counted anew for it.
    pub(super) fn shows_panic(&self, tally: Tally, shared: &Shared) -> bool {
        if self.judges_panic {
            return self.picker.tiers().iter().any(|tier| tier.panicking);
        }
        self.panics(tally, shared)
    }

    /// Whether it is panic. By the members here, so that it takes no more than the ledger's word; between the two
    /// thresholds what it was before goes on.
    pub(super) fn panics(&self, tally: Tally, shared: &Shared) -> bool {
        let rule = shared.ledger.rule();
        rule.panics(self.count, tally.refused(), tally.panics)
    }

    /// Whether it is panic everywhere: of all tiers, if the policy has tiers.
    fn panics_everywhere(&self, tally: Tally, shared: &Shared) -> bool {
        if self.judges_panic {
            return self.picker.tiers().iter().all(|tier| tier.panicking);
        }
        self.panics(tally, shared)
    }

    /// Whether health still tells good from bad. An empty set has a reason of its own to fail for.
    pub(super) fn has_healthy(&self, shared: &Shared) -> bool {
        let tally = shared.ledger.read();
        let is_judged = tally.refused() < self.count
            && tally.ejected < tally.limit
            && shared.usual_now(shared.shard(), false).error_rate() < 0.5
            && !self.panics_everywhere(tally, shared);
        is_judged || self.count == 0
    }

    /// Whether all that a pick could choose are among these.
    pub(super) fn leaves_none(&self, shared: &Shared, avoid: &[MemberId]) -> bool {
        let tally = shared.ledger.read();
        if self.count.saturating_sub(tally.refused()) > avoid.len() {
            return false;
        }
        // Who is down in a tier that does not panic counts too: a wrong `false` costs a wait.
        let ignores_health = self.shows_panic(tally, shared);
        !self.routable().iter().any(|member| {
            (ignores_health || member.takes_requests()) && !avoid.contains(&member.id())
        })
    }

    /// Whom a picker that needs no context chooses of these, all that may be picked, if the pick needs none.
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

    /// Whom one chooses that needs a context, where all may be picked. Apart, so that those that do not need one do not
    /// carry it.
    #[inline(never)]
    pub(super) fn choose_by_context<'a>(
        &self,
        members: &'a [Member<E>],
        options: &PickOptions<'_>,
        now: Tick,
        shard: usize,
        shared: &Shared,
    ) -> Result<&'a Member<E>, PickError> {
        let calm = Regard::NoneRefused;
        let mut cx = PickContext::of_fleet(members, options, now, shard, shared, calm);
        self.choose(&mut cx, shared).map(|index| &members[index])
    }

    /// The picker's choice, held to what it may choose.
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

    /// Another than the policy's first choice, which is none that may be picked.
    #[cold]
    #[inline(never)]
    pub(super) fn choose_again(
        &self,
        first: Option<Choice>,
        cx: &mut PickContext<'_, E>,
        shared: &Shared,
    ) -> Result<usize, PickError> {
        self.look_again(first, cx, shared)
            .inspect_err(|error| shared.refused(*error))
    }

    /// Members come and go between a look and the next; so look again before saying that there is
    /// none, or that the policy wants none.
    fn look_again(
        &self,
        first: Option<Choice>,
        cx: &mut PickContext<'_, E>,
        shared: &Shared,
    ) -> Result<usize, PickError> {
        // Where all are at their limit there are many who ask: one look at all has to do.
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
                // One that has tiers knows best where else to go: it was overtaken by a change.
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

    /// What panic a policy with tiers found in one of them goes for the choice it made there, and for no other.
    fn heed_again(&self, cx: &mut PickContext<'_, E>) {
        if self.judges_panic {
            cx.set_regard(Regard::Heed);
        }
    }

    /// Whom the policy would choose if there were no limits: it wants that one, and found no room there.
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

    /// Any that may be picked, by weight, or the reason why there is none.
    fn any(&self, cx: &mut PickContext<'_, E>, shared: &Shared) -> Result<usize, PickError> {
        if self.count == 0 {
            return Err(if self.rest.is_empty() {
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
                // Whoever is in it may be all that is left by now.
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
        // None eligible is less than any threshold, whatever the ledger said a moment ago.
        cx.set_regard(Regard::Ignore);
        let saturated = PickError::Saturated;
        cx.draw_usable()
            .ok_or_else(|| cx.why_none().unwrap_or(saturated))
    }
}
