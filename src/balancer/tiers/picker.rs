//! The request path of [`Tiers`](super::Tiers).

use std::collections::BTreeSet;
use std::ops::Range;

use super::Tier;
use super::counted::{Counted, Members};
use super::layout::{Layout, Scratch};
use super::plan::{LoadPart, Plan};
use crate::balancer::context::Wants;
use crate::balancer::nested::Memory;
use crate::balancer::{Choice, HealthMode, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::error::PickError;
use crate::health::PanicAction;
use crate::member::Member;
use crate::shared::{Shared, mix};
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::time::Tick;

pub(super) struct Tiered<E: Endpoint> {
    /// Sorted by priority and zone, so that each part is a slice.
    members: Box<[Member<E>]>,
    layout: Layout,
    priorities: Box<[Pickers<E>]>,
    plan: Plan,
    counted: Counted<Scratch>,
    /// Whether any priority with a load was in panic, as last told by an event.
    any_panics: Arc<Memory>,
    /// `None` without members.
    shared: Option<Arc<Shared>>,
}

/// The inner policy's pickers for one priority.
struct Pickers<E: Endpoint> {
    all: Box<dyn Picker<E>>,
    /// Empty if there is only one zone.
    zones: Box<[Box<dyn Picker<E>>]>,
    /// Whether the last pick went to a zone: among the healthy members, and among the degraded ones.
    by_zone: [AtomicBool; 2],
    /// Whether the priority is in panic.
    panics: Arc<Memory>,
}

impl<E: Endpoint> Pickers<E> {
    /// Tells the pickers that come into use, as zones count now or do not count any more.
    #[inline]
    fn switch(&self, by_zone: bool, is_degraded: bool) {
        let last = &self.by_zone[usize::from(is_degraded)];
        // ORDERING: Relaxed, both. Of several picks that find a switch, one tells. Another may pick before it has.
        if last.load(Ordering::Relaxed) == by_zone
            || last.swap(by_zone, Ordering::Relaxed) == by_zone
        {
            return;
        }
        if by_zone {
            self.zones.iter().for_each(|zone| zone.resume());
        } else {
            self.all.resume();
        }
    }
}

impl<E: Endpoint> Tiered<E> {
    pub(super) fn new(inner: &impl LoadBalancer<E>, layout: Layout, view: &View<'_, E>) -> Self {
        let outer = view.members();
        let places = layout.places.iter();
        let members: Box<[_]> = places.map(|&place| outer[place as usize].clone()).collect();
        let fleets = view.cursor();
        let (nested, shards) = (fleets.nested(), fleets.shards());
        let mut live = BTreeSet::new();
        let mut part = |key: (u32, Option<Box<str>>), members: &[Member<E>]| {
            live.insert(key.clone());
            let kept = nested.part(shards, key);
            (view.part(inner, members, kept.cursor), kept.panics)
        };
        let priorities = layout.priorities.iter().map(|priority| {
            let (all, panics) = part((priority.number, None), &members[priority.members.clone()]);
            let zones = layout.groups[priority.groups.clone()].iter();
            let zones = zones.filter(|_| priority.groups.len() > 1).map(|group| {
                let key = (priority.number, Some(group.zone.clone()));
                part(key, &members[group.members.clone()]).0
            });
            let zones = zones.collect();
            Pickers {
                all,
                zones,
                by_zone: [AtomicBool::new(true), AtomicBool::new(true)],
                panics,
            }
        });
        let priorities = priorities.collect();
        nested.keep_only(&live);
        let shared = members.first().map(|member| member.core().shared.clone());
        let tiered = Self {
            plan: Plan::new(&layout),
            counted: Counted::new(layout.scratch()),
            any_panics: nested.any_panics.clone(),
            members,
            layout,
            priorities,
            shared,
        };
        if let Some(shared) = &tiered.shared {
            // Used until the first count is complete. The first pick counts again, as members settle only after this.
            let mut scratch = tiered.divided(shared);
            tiered.plan.publish(&tiered.layout, &mut scratch);
        }
        tiered
    }

    /// Divides the load by which members are eligible now.
    fn divided(&self, shared: &Shared) -> Scratch {
        let mut scratch = self.layout.scratch();
        (0..self.members.len()).for_each(|at| self.count(at, &mut scratch));
        self.divide(shared, &mut scratch);
        scratch
    }

    fn count(&self, at: usize, scratch: &mut Scratch) {
        let member = &self.members[at];
        if member.takes_requests() {
            let weight = u64::from(member.weight().get());
            let is_degraded = member.core().is_degraded();
            scratch.counts[self.layout.group_of[at] as usize].add(weight, is_degraded);
        }
    }

    fn divide(&self, shared: &Shared, scratch: &mut Scratch) {
        for (load, pickers) in scratch.loads.iter_mut().zip(&self.priorities) {
            load.panics = pickers.panics.get();
        }
        self.layout.divide(scratch, shared.ledger.rule());
    }

    /// Picks from this part of the load. Returns an index into the fleet's members.
    #[inline]
    fn pick_from(
        &self,
        part: LoadPart,
        zone: Option<usize>,
        some_degraded: bool,
        cx: &mut PickContext<'_, E>,
    ) -> Option<usize> {
        let pickers = &self.priorities[part.priority];
        let priority = &self.layout.priorities[part.priority];
        let all = || (&*pickers.all, priority.members.clone());
        if part.panics && !cx.options().without_panic {
            return self.pick_in_panic(all(), cx);
        }
        let wants = match (part.is_degraded, some_degraded) {
            (true, _) => Wants::Degraded,
            (false, true) => Wants::Healthy,
            (false, false) => Wants::Any,
        };
        let zoned = zone.and_then(|zone| {
            let group = &self.layout.groups[priority.groups.start + zone];
            Some((&**pickers.zones.get(zone)?, group.members.clone()))
        });
        self.pick_within(zoned.unwrap_or_else(all), wants, cx.health_mode(), cx)
    }

    fn pick_within(
        &self,
        (picker, range): (&dyn Picker<E>, Range<usize>),
        wants: Wants,
        health_mode: HealthMode,
        cx: &mut PickContext<'_, E>,
    ) -> Option<usize> {
        let (members, places) = (&self.members[range.clone()], &self.layout.places[range]);
        let chosen = cx.narrow(members, places, wants, health_mode, |part| {
            let index = picker.pick(part)?.index();
            if part.may_pick(index) {
                return Some(index);
            }
            if let (true, Some(shared)) = (index >= members.len(), &self.shared) {
                shared.counters.policy_faults.count();
            }
            part.draw_usable()
        });
        chosen.map(|index| places[index] as usize)
    }

    #[cold]
    fn pick_in_panic(
        &self,
        all: (&dyn Picker<E>, Range<usize>),
        cx: &mut PickContext<'_, E>,
    ) -> Option<usize> {
        let action = self.shared.as_ref()?.ledger.rule().action;
        if action == PanicAction::FailFast {
            cx.set_failure(Some(PickError::TooFewEligible));
            return None;
        }
        let chosen = self.pick_within(all, Wants::Any, HealthMode::Ignore, cx);
        if chosen.is_some() {
            // The fleet checks whether the choice may be picked.
            cx.set_health_mode(HealthMode::Ignore);
        }
        chosen
    }

    /// Tries elsewhere after a part had no member left: the rest of its priority, and then the other parts in their
    /// order. Slow start applies within each part. Where it refuses all that a part has, one of those is picked all the
    /// same.
    #[cold]
    fn pick_elsewhere(
        &self,
        first: LoadPart,
        zone: Option<usize>,
        some_degraded: bool,
        cx: &mut PickContext<'_, E>,
    ) -> Option<usize> {
        let mut failure = None;
        let its_others = zone.map(|_| first);
        let rest = its_others.into_iter().chain(self.plan.in_order());
        let all = std::iter::once((first, zone)).chain(rest.map(|part| (part, None)));
        for (at, (part, zone)) in all.enumerate() {
            let mut chosen = match at {
                // The first part has been tried.
                0 => None,
                _ => self.pick_from(part, zone, some_degraded, cx),
            };
            if chosen.is_none() && cx.heeds_slow_start() {
                chosen = cx.as_if_warm(|cx| self.pick_from(part, zone, some_degraded, cx));
            }
            if chosen.is_some() {
                cx.set_failure(None);
                return chosen;
            }
            failure = failure.or_else(|| cx.failure());
        }
        // A part that fails its picks is the reason only if it has a member that this pick could have had.
        let failure = failure.filter(|_| cx.as_if_warm(PickContext::draw_usable).is_some());
        cx.set_failure(failure);
        None
    }
}

/// The random numbers by which a pick draws its priority and zone. With an affinity they are the same for each pick
/// that has it, from other bits than an inner policy or a cluster over this one uses.
fn draws<E: Endpoint>(affinity: Option<u64>) -> impl FnMut(&mut PickContext<'_, E>) -> u64 {
    let mut hash = affinity.map(|hash| mix(!hash));
    move |cx| match &mut hash {
        Some(hash) => {
            *hash = mix(*hash);
            *hash
        }
        None => cx.random(),
    }
}

impl<E: Endpoint> Picker<E> for Tiered<E> {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let ledger = &self.shared.as_ref()?.ledger;
        cx.set_failure(None);
        let eligibility = ledger.eligibility();
        if self.counted.is_stale(eligibility.version()) {
            let counting = Counting {
                of: self,
                now: cx.now(),
            };
            self.counted.continue_count(ledger, &counting);
        }
        let mut draw = draws(cx.options().affinity);
        let part = self.plan.drawn(draw(cx), cx.options().without_panic);
        let pickers = &self.priorities[part.priority];
        let has_zones = !pickers.zones.is_empty();
        let zone = if has_zones && !part.panics {
            self.plan.zone(part, draw(cx))
        } else {
            None
        };
        if has_zones {
            pickers.switch(zone.is_some(), part.is_degraded);
        }
        let some_degraded = eligibility.some_degraded();
        let chosen = self.pick_from(part, zone, some_degraded, cx);
        // A part in panic that fails its picks must not flood the other parts with them.
        if chosen.is_none() && cx.failure().is_none() {
            let chosen = self.pick_elsewhere(part, zone, some_degraded, cx);
            return chosen.map(Choice::at);
        }
        chosen.map(Choice::at)
    }

    fn tiers(&self) -> Vec<Tier> {
        let Some(shared) = &self.shared else {
            return Vec::new();
        };
        let mut scratch = self.divided(shared);
        let mut tiers = Vec::with_capacity(self.layout.groups.len());
        for (at, priority) in self.layout.priorities.iter().enumerate() {
            let load = scratch.loads[at];
            let groups = &self.layout.groups[priority.groups.clone()];
            let counts: Vec<_> = scratch.counts[priority.groups.clone()].into();
            let mut percent = vec![0.0; groups.len()];
            for (is_degraded, load_of) in [(false, load.healthy), (true, load.degraded)] {
                let zoned = self.layout.divide_zones(&mut scratch, at, is_degraded);
                let shares: Vec<u64> = match zoned {
                    Some(shares) if !load.panics => shares.into(),
                    _ if load.panics => groups.iter().map(|it| it.members.len() as u64).collect(),
                    _ if is_degraded => counts.iter().map(|count| count.degraded).collect(),
                    _ => counts.iter().map(|count| count.healthy).collect(),
                };
                let all: f64 = shares.iter().map(|&share| share as f64).sum();
                for (percent, share) in percent.iter_mut().zip(shares) {
                    *percent += f64::from(load_of) * share as f64 / all.max(1.0);
                }
            }
            for ((group, count), load_percent) in groups.iter().zip(counts).zip(percent) {
                tiers.push(Tier {
                    priority: priority.number,
                    locality: group.zone.as_ref().into(),
                    hosts: group.members.len(),
                    healthy: count.healthy as usize,
                    degraded: count.degraded as usize,
                    load_percent,
                    panicking: load.panics,
                });
            }
        }
        tiers
    }
}

/// A count of one picker's members at a given time.
struct Counting<'a, E: Endpoint> {
    of: &'a Tiered<E>,
    now: Tick,
}

impl<E: Endpoint> Members<Scratch> for Counting<'_, E> {
    fn len(&self) -> usize {
        self.of.members.len()
    }

    fn begin(&self, scratch: &mut Scratch) {
        scratch.counts.fill(Default::default());
    }

    fn count(&self, at: usize, scratch: &mut Scratch) {
        self.of.count(at, scratch);
    }

    fn publish(&self, scratch: &mut Scratch) {
        let Some(shared) = &self.of.shared else {
            return;
        };
        self.of.divide(shared, scratch);
        self.of.plan.publish(&self.of.layout, scratch);
        let mut panics = false;
        for (load, pickers) in scratch.loads.iter().zip(&self.of.priorities) {
            pickers.panics.set(load.panics);
            panics |= load.acts_in_panic();
        }
        if self.of.any_panics.set(panics) != panics {
            let counts = scratch.counts.iter();
            let eligible: u64 = counts.map(|it| it.healthy + it.degraded).sum();
            shared.tell_panic(self.now, panics, eligible as usize, self.len());
        }
    }
}
