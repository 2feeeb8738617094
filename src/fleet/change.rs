//! The next set of slots, before it is in force.

use std::fmt;

use super::Changes;
use super::keys::Hashed;
use super::registry::Freed;
use crate::endpoint::{Endpoint, Weight};
use crate::health::Detector;
use crate::member::{Gate, Member, PastEjection, Phase, Seats};
use crate::shared::{EventKind, Return};
use crate::sync::Arc;
use crate::time::Tick;

/// What service discovery or an operator says about an endpoint. It outranks the endpoint's health, and is forgotten
/// when the endpoint is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mark {
    /// Takes requests, whatever its health.
    Up,
    /// Takes no requests as long as enough others are eligible: the [panic rule](crate::PanicRule) ignores marks too.
    /// To take an endpoint out whatever happens to the others, drain it or remove it.
    Down,
    /// Can take requests, but others are preferred: with [`Tiers`](crate::Tiers) it gets some when the healthy
    /// endpoints of all priorities cannot carry the load. Its health is judged as with [`Auto`](Self::Auto), and other
    /// policies treat it as `Auto`.
    Degraded,
    /// Its health decides. The default.
    #[default]
    Auto,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Auto => "auto",
        })
    }
}

fn shared_seats<E: Endpoint>(others: Box<[Member<E>]>) -> Option<Arc<Vec<Member<E>>>> {
    (!others.is_empty()).then(|| Arc::new(others.into()))
}

/// The place of one endpoint in the set.
pub(super) struct Slot<E: Endpoint> {
    pub(super) member: Member<E>,
    /// The member's other seats, one for each further cell of its gate. One word, `None` in a large fleet, where no
    /// member has other seats and each word here is one more for each member.
    other_seats: Option<Arc<Vec<Member<E>>>>,
    pub(super) draining: bool,
    /// Whether the member's weight is above 0. Kept here because reading it from the member is a cache miss.
    has_weight: bool,
    pub(super) mark: Mark,
    /// The ejection to resume when the member, out of rotation for a weight of 0, is in again. Boxed, as few slots have
    /// one.
    past_ejection: Option<Box<PastEjection>>,
}

impl<E: Endpoint> Clone for Slot<E> {
    fn clone(&self) -> Self {
        Self {
            member: self.member.clone(),
            other_seats: self.other_seats.clone(),
            past_ejection: self.past_ejection.clone(),
            ..*self
        }
    }
}

impl<E: Endpoint> Slot<E> {
    fn new((member, others): Seats<E>) -> Self {
        Self {
            has_weight: member.weight() > Weight::ZERO,
            member,
            other_seats: shared_seats(others),
            draining: false,
            mark: Mark::Auto,
            past_ejection: None,
        }
    }

    /// The number of seats, a power of two.
    pub(super) fn seats(&self) -> usize {
        1 + self.other_seats.as_ref().map_or(0, |others| others.len())
    }

    /// The seat that this shard uses.
    pub(super) fn seat(&self, shard: usize) -> &Member<E> {
        let others = self.other_seats.as_ref().map_or(&[][..], |others| others);
        match shard & others.len() {
            0 => &self.member,
            other => &others[other - 1],
        }
    }

    /// The same slot, draining. An ejection from before does not resume: what comes after a drain is another process.
    pub(super) fn drained(&self) -> Self {
        Self {
            draining: true,
            past_ejection: None,
            ..self.clone()
        }
    }

    pub(super) const fn is_routable(&self) -> bool {
        !self.draining && self.has_weight
    }

    /// What to remember of the member if it is removed: also the ejection to resume when its weight returns.
    pub(super) fn past_ejection(&self) -> PastEjection {
        let kept = self.past_ejection.as_deref().copied();
        kept.unwrap_or_else(|| self.member.core().past_ejection())
    }

    /// Moves the member's standing to where its place in rotation and its mark put it.
    pub(super) fn settle(&self, now: Tick) {
        let core = self.member.core();
        self.settle_degraded();
        let standing = core.standing.get();
        let judged = standing.is_in() || standing.is_ejected();
        let phase = match self.mark {
            _ if !self.is_routable() => Phase::Off,
            Mark::Up => Phase::Up,
            Mark::Down => Phase::Down,
            Mark::Auto | Mark::Degraded if judged => return,
            Mark::Auto | Mark::Degraded => Phase::In,
        };
        if standing.is_ejected() && phase != Phase::Off {
            core.readmit(now);
        }
        let from = core.standing.place(&**core, phase, now);
        if from.is_ejected() && phase != Phase::Off {
            core.tell(now, EventKind::Returned { by: Return::Mark });
        }
    }

    /// The part of [`settle`](Self::settle) that does not concern health: publishes whether the member is degraded.
    pub(super) fn settle_degraded(&self) {
        let is = self.mark == Mark::Degraded && self.is_routable();
        self.member.core().set_degraded(is);
    }

    /// Whether the mark leaves the member to its health.
    const fn is_judged(&self) -> bool {
        matches!(self.mark, Mark::Auto | Mark::Degraded)
    }
}

/// A change of the set: some slots are replaced by others. After the commit it holds what is left of the last set. It
/// is declared before the lock is taken, so that the users' values in it are dropped after unlocking.
pub(super) struct Change<E: Endpoint> {
    /// The new slots, which replace `out` old ones from `at` on; after the commit, the old ones.
    slots: Vec<Slot<E>>,
    at: usize,
    out: usize,
    /// Places in the next set of members that are new, or that may have come into rotation or left it.
    touched: Vec<usize>,
    /// Places in the next set of new members.
    added: Vec<usize>,
    /// Places in the next set of members whose data is replaced.
    renewed: Vec<usize>,
    /// Slots, as draining, of members that take no more requests.
    leaving: Vec<Slot<E>>,
    /// Members that come into rotation with an ejection from before, by their places in the next set.
    ejected_before: Vec<(usize, PastEjection)>,
    /// Those whose ejection from before does not resume, as they are marked.
    marked_since: Vec<usize>,
    pub(super) counts: Changes,
    pub(super) freed: Freed<E>,
    pub(super) keys: Vec<Hashed<E::Key>>,
}

impl<E: Endpoint> Change<E> {
    /// An empty change.
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            at: 0,
            out: 0,
            touched: Vec::new(),
            added: Vec::new(),
            renewed: Vec::new(),
            leaving: Vec::new(),
            ejected_before: Vec::new(),
            marked_since: Vec::new(),
            counts: Changes::default(),
            freed: Freed::default(),
            keys: Vec::new(),
        }
    }

    /// Replaces `out` old slots from `at` on by those that are put in after this.
    pub(super) fn replace_range(&mut self, at: usize, out: usize) {
        (self.at, self.out) = (at, out);
    }

    /// Puts a slot in as it is. Returns its place in the next set.
    pub(super) fn keep(&mut self, slot: Slot<E>) -> usize {
        self.slots.push(slot);
        self.at + self.slots.len() - 1
    }

    /// The slots of the next set, where `last` are those of the last one.
    pub(super) fn next<'a>(
        &'a self,
        last: &'a [Slot<E>],
    ) -> impl Iterator<Item = &'a Slot<E>> + Clone {
        let (before, after) = (&last[..self.at], &last[self.at + self.out..]);
        before.iter().chain(&self.slots).chain(after)
    }

    /// Turns the last set into the next one, and keeps the slots that this takes out.
    pub(super) fn apply(&mut self, set: &mut Vec<Slot<E>>) {
        let new = std::mem::take(&mut self.slots);
        if self.out == set.len() {
            self.slots = std::mem::replace(set, new);
        } else {
            self.slots
                .extend(set.splice(self.at..self.at + self.out, new));
        }
    }

    /// Takes this member out of rotation for good.
    pub(super) fn retire_member(&mut self, slot: &Slot<E>) {
        self.leaving.push(slot.drained());
    }

    /// Puts a member in, with what is remembered of it. Returns its place.
    pub(super) fn add(&mut self, member: Seats<E>, past_ejection: Option<PastEjection>) -> usize {
        if let Some(past_ejection) = past_ejection {
            member.0.core().standing.remember(past_ejection.standing());
        }
        // An endpoint that announced its shutdown and was removed since is another process now: it is not kept out.
        let stays_out = |past_ejection: &PastEjection| {
            past_ejection.standing().is_ejected()
                && past_ejection.cause != Some(Detector::GoingAway)
        };
        let place = self.keep(Slot {
            past_ejection: past_ejection.filter(stays_out).map(Box::new),
            ..Slot::new(member)
        });
        self.touch(place);
        self.added.push(place);
        self.counts.added += 1;
        place
    }

    /// The member at this place may have come into rotation or left it. Its ejection is kept while it is out of
    /// rotation and resumed when it is in again, unless a mark decides its standing.
    fn touch(&mut self, place: usize) {
        let slot = &mut self.slots[place - self.at];
        let core = slot.member.core();
        if !slot.is_routable() {
            let ejected = Some(core.past_ejection()).filter(|now| now.standing().is_ejected());
            slot.past_ejection = ejected.map(Box::new).or_else(|| slot.past_ejection.take());
        } else if let Some(past_ejection) = slot.past_ejection.take() {
            if slot.is_judged() {
                core.hold_out();
                self.ejected_before.push((place, *past_ejection));
                return;
            }
            self.marked_since.push(place);
        }
        self.touched.push(place);
    }

    /// Puts a slot in with its data replaced. Its state and its mark stay. Returns its place.
    pub(super) fn renew(&mut self, slot: &Slot<E>, endpoint: E, weight: Weight) -> usize {
        let generation = Gate::next_generation(slot.member.generation());
        let seats = Member::seats(endpoint, weight, generation, slot.member.core());
        let place = self.keep(Slot {
            draining: slot.draining,
            mark: slot.mark,
            past_ejection: slot.past_ejection.clone(),
            ..Slot::new(seats)
        });
        self.renewed.push(place);
        self.touch(place);
        self.counts.updated += 1;
        place
    }

    /// The slots in the next set of the members touched, and those of the members that leave.
    fn changing<'a>(&'a self, set: &'a [Slot<E>]) -> impl Iterator<Item = &'a Slot<E>> {
        let touched = self.touched.iter().map(|&at| &set[at]);
        self.leaving.iter().chain(touched)
    }

    /// Settles the members that come into rotation: before the publication, as they can be picked from then on.
    pub(super) fn settle_arriving(&self, set: &[Slot<E>], now: Tick) {
        let arriving = self.changing(set).filter(|slot| slot.is_routable());
        arriving.for_each(|slot| slot.settle(now));
    }

    /// Has each ejected member that leaves rotation give its ledger slot back before the publication. It counts as down
    /// until then. Other leaving members may be picked until then, so they are settled after it.
    pub(super) fn hold_leaving(&self, set: &[Slot<E>], now: Tick) {
        let leaving = self.changing(set).filter(|slot| !slot.is_routable());
        leaving
            .map(|slot| slot.member.core())
            .filter(|core| core.standing.get().is_ejected())
            .for_each(|core| core.hold_down(now));
    }

    /// Begins the slow start of the new members. If all `count` in rotation are new, there are none to take the
    /// requests that it holds back.
    pub(super) fn warm_new(&self, set: &[Slot<E>], count: usize, now: Tick) {
        let added = self.added.iter().map(|&at| &set[at]);
        let new = added.filter(|slot| slot.is_routable());
        if new.clone().count() < count {
            new.for_each(|slot| slot.member.core().warm(now));
        }
    }

    /// Holds the members to be ejected again down until the new cap counts: from the publication until then, picks are
    /// to look at standings.
    pub(super) fn hold_ejected_before(&self, set: &[Slot<E>], now: Tick) {
        for &(at, _) in &self.ejected_before {
            set[at].member.core().hold_down(now);
        }
    }

    /// After the publication: lets no request enter any more where the member leaves, or with data that is replaced.
    pub(super) fn shut_replaced(&self, set: &[Slot<E>]) {
        for slot in &self.leaving {
            slot.member.core().gate.close();
        }
        for &at in &self.renewed {
            set[at].member.core().gate.renew();
        }
    }

    /// After the publication: settles all members that have changed, and tells of those that a mark has brought back.
    pub(super) fn settle(&self, set: &[Slot<E>], now: Tick) {
        self.changing(set).for_each(|slot| slot.settle(now));
        let by = Return::Mark;
        for &at in &self.marked_since {
            let core = set[at].member.core();
            core.tell(now, EventKind::Returned { by });
        }
    }

    /// Once the new cap counts: resumes the ejections from before.
    pub(super) fn resume_ejections(&self, set: &[Slot<E>], now: Tick) {
        for &(at, past_ejection) in &self.ejected_before {
            set[at].settle_degraded();
            set[at].member.core().resume(past_ejection, now);
        }
    }
}
