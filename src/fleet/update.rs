//! Changes of the set. Each reads what it needs from the user's values before locking, prepares the next set, and puts
//! it in force at once or not at all.

use std::collections::hash_map::Entry;
use std::time::Duration;

use super::change::{Change, Mark};
use super::keys::{Hashed, KeyMap, PrehashedBuilder};
use super::registry::check;
use super::seats::seats_for;
use super::{Changes, Drain, Fleet, Retire};
use crate::balancer::LoadBalancer;
use crate::endpoint::{Endpoint, Weight};
use crate::error::UpdateError;
use crate::member::{Member, Newcomer, Seats};
use crate::options::MemberId;
use crate::shared::MAX_MEMBERS;
use crate::sync::Arc;

/// What to do with a key that occurs twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    Refuse,
    FirstWins,
}

/// The endpoints handed in, in order, and where each is among them, by key.
type Incoming<E> = (KeyMap<<E as Endpoint>::Key, usize>, Vec<Listed<E>>);

/// An endpoint handed in, until it has its place in the next set.
struct Listed<E: Endpoint> {
    key: Hashed<E::Key>,
    /// Its data and weight; `None` once they are in the next set.
    data: Option<(E, Weight)>,
    /// Its place in the next set; 0 until it is there.
    place: usize,
}

impl<E: Endpoint> Fleet<E> {
    /// Makes the set equal to `endpoints`: those not listed are removed, new ones are added, and those that stay get
    /// the new data and weight. They keep their in-flight counts, latencies, health, ejections, marks and places in the
    /// order. A draining endpoint goes on draining.
    ///
    /// Once this has returned, no pick that starts afterwards yields an endpoint that it removed, or data that it
    /// replaced. Picks go on meanwhile, without waiting.
    ///
    /// What it removed or replaced is dropped before it returns, on this thread, unless something still holds it: a
    /// lease, a [`Member`] or a [`Probe`](crate::Probe), whose end drops it; or a pick under way, after which the next
    /// change or upkeep drops it, which may be part of a pick. So a destructor of yours must not block.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if a key occurs twice, if there are more than a million endpoints (the iterator is asked for no
    /// more), or if the policy or the function that makes health trackers panics. The old set stays in force.
    ///
    /// # Panics
    ///
    /// If the iterator, or the endpoints' `key`, `weight`, `Hash` or `Eq` do. The old set stays in force.
    pub fn update(&self, endpoints: impl IntoIterator<Item = E>) -> Result<Changes, UpdateError> {
        self.replace_all(endpoints, Duplicates::Refuse)
    }

    fn collect(
        &self,
        endpoints: impl IntoIterator<Item = E>,
        duplicates: Duplicates,
    ) -> Result<Incoming<E>, UpdateError> {
        let endpoints = endpoints.into_iter();
        // A size hint may be anything, so it is capped.
        let expected = endpoints.size_hint().0.min(MAX_MEMBERS);
        let mut index = KeyMap::with_capacity_and_hasher(expected, PrehashedBuilder);
        let mut listed = Vec::with_capacity(expected);
        for endpoint in endpoints {
            let (key, weight) = (self.hashed(endpoint.key()), endpoint.weight());
            match (index.entry(key.clone()), duplicates) {
                (Entry::Vacant(place), _) => {
                    room_for(listed.len() + 1)?;
                    place.insert(listed.len());
                    listed.push(Listed {
                        key,
                        data: Some((endpoint, weight)),
                        place: 0,
                    });
                }
                (Entry::Occupied(_), Duplicates::FirstWins) => {}
                (Entry::Occupied(_), Duplicates::Refuse) => {
                    return Err(UpdateError::duplicate(key.key()));
                }
            }
        }
        if index.capacity() > 4 * index.len() {
            // Nearly all endpoints were duplicates.
            index.shrink_to_fit();
        }
        Ok((index, listed))
    }

    pub(super) fn replace_all(
        &self,
        endpoints: impl IntoIterator<Item = E>,
        duplicates: Duplicates,
    ) -> Result<Changes, UpdateError> {
        let inner = &*self.inner;
        let (mut index, mut listed) = self.collect(endpoints, duplicates)?;
        let now = inner.shared.now_for_all();
        let live = listed.len();
        let mut change = Change::new();

        let mut registry = inner.registry.lock();
        let registry = &mut *registry;
        let mut newcomers = Vec::new();
        // For each place in the last set, where in the list its endpoint is.
        let mut listed_at = vec![None; registry.slots.len()];
        for (at, one) in listed.iter().enumerate() {
            match registry.index.get(&one.key) {
                Some(&place) => listed_at[place] = Some(at),
                None => newcomers.push(at),
            }
        }
        change.replace_range(0, registry.slots.len());
        for (slot, at) in registry.slots.iter().zip(&listed_at) {
            let Some(at) = *at else {
                change.retire_member(slot);
                change.counts.removed += 1;
                continue;
            };
            let one = &mut listed[at];
            one.place = match one.data.take_if(|_| !slot.draining) {
                Some((endpoint, weight)) => change.renew(slot, endpoint, weight),
                None => change.keep(slot.clone()),
            };
        }
        let mut trackers = Vec::with_capacity(newcomers.len());
        for &at in &newcomers {
            // Endpoints are taken only after all trackers are made: if that fails, they are dropped after unlocking.
            if let Some((endpoint, _)) = &listed[at].data {
                trackers.push(registry.tracker(endpoint)?);
            }
        }
        let made_from = newcomers.iter().zip(trackers).filter_map(|(&at, tracker)| {
            let (endpoint, weight) = listed[at].data.take()?;
            Some(Newcomer {
                endpoint,
                weight,
                tracker,
                place: registry.board.place(),
            })
        });
        let members = self.newcomers(live, made_from.collect());
        for (at, member) in newcomers.into_iter().zip(members) {
            let past_ejection = registry.remembered.recall(&listed[at].key, now);
            listed[at].place = change.add(member, past_ejection);
        }
        let stays = |place: usize| listed_at[place].is_some();
        registry.remember_all_but(stays, now, live, &mut change.keys);
        let policy = registry.policy.clone();
        let snapshot = registry.snapshot(&*policy, &change)?;

        index.values_mut().for_each(|at| *at = listed[*at].place);
        std::mem::swap(&mut registry.index, &mut index);
        registry.commit(inner, &mut change, snapshot, now);
        Ok(change.counts)
    }

    /// Adds an endpoint. If there is one with its key already, replaces that one's data and weight; it keeps its
    /// in-flight count, latency, health and ejection. A draining endpoint that is inserted again is another
    /// incarnation: it starts afresh, and the drain goes on with the requests of the old one.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), except that no key can occur twice.
    ///
    /// # Panics
    ///
    /// As [`update`](Self::update).
    pub fn insert(&self, endpoint: E) -> Result<Changes, UpdateError> {
        let inner = &*self.inner;
        let (key, weight) = (self.hashed(endpoint.key()), endpoint.weight());
        let now = inner.shared.now_for_all();
        let mut change = Change::new();

        let mut registry = inner.registry.lock();
        let registry = &mut *registry;
        let live = registry.slots.len() + 1;
        let place = registry.index.get(&key).copied();
        let is_kept = place.is_some_and(|at| !registry.slots[at].draining);
        if place.is_none() {
            room_for(live)?;
        }
        // An endpoint that was draining starts afresh.
        let past_ejection = match place {
            Some(_) => None,
            None => registry.remembered.recall(&key, now),
        };
        let at = place.unwrap_or(registry.slots.len());
        change.replace_range(at, place.iter().len());
        if is_kept {
            change.renew(&registry.slots[at], endpoint, weight);
        } else {
            // If this fails, the endpoint is dropped after unlocking, as an argument is dropped last.
            let tracker = registry.tracker(&endpoint)?;
            let newcomer = Newcomer {
                endpoint,
                weight,
                tracker,
                place: registry.board.place(),
            };
            for member in self.newcomers(live, vec![newcomer]) {
                change.add(member, past_ejection);
            }
        }
        let policy = registry.policy.clone();
        let snapshot = registry.snapshot(&*policy, &change)?;
        if place.is_none() {
            registry.index.insert(key, at);
        }
        registry.commit(inner, &mut change, snapshot, now);
        Ok(change.counts)
    }

    /// Removes the endpoint with this key; `false` if there is none. Leases on it stay valid, and the endpoint is
    /// dropped when the last one has ended. No pick that starts after this has returned yields it. Waits for an update
    /// under way.
    ///
    /// A removal does not fail. If the policy panics over the smaller set, a weighted random policy stands in until the
    /// next change, and [`Stats::policy_faults`](crate::Stats::policy_faults) counts it.
    ///
    /// # Panics
    ///
    /// If the key's `Clone`, `Hash` or `Eq` do. Nothing has changed then.
    pub fn remove(&self, key: &E::Key) -> bool {
        self.remove_if(&self.hashed(key.clone()), |_| true)
    }

    /// As [`remove`](Self::remove), but only if `is_meant` accepts the member's id.
    pub(super) fn remove_if(
        &self,
        key: &Hashed<E::Key>,
        is_meant: impl FnOnce(MemberId) -> bool,
    ) -> bool {
        let inner = &*self.inner;
        let now = inner.shared.now_for_all();
        let mut change = Change::new();

        let mut registry = inner.registry.lock();
        let registry = &mut *registry;
        let Some((key, &at)) = registry.index.get_key_value(key) else {
            return false;
        };
        if !is_meant(registry.slots[at].member.id()) {
            return false;
        }
        let key = key.clone();
        change.replace_range(at, 1);
        let slot = &registry.slots[at];
        let (past_ejection, live) = (slot.past_ejection(), registry.slots.len() - 1);
        change.retire_member(slot);
        let (remembered, out) = (&mut registry.remembered, &mut change.keys);
        remembered.keep(key.clone(), past_ejection, now, live, out);
        let snapshot = registry.snapshot_or_stand_in(&change, &inner.shared);
        registry.index.retain(|_, place| {
            let keep = *place != at;
            *place -= usize::from(*place > at);
            keep
        });
        change.keys.push(key);
        registry.commit(inner, &mut change, snapshot, now);
        true
    }

    /// Takes the endpoint with this key out of rotation and lets its requests finish; `None` if there is no such
    /// endpoint. It stays in [`members`](Self::members) as draining, also through [`update`](Self::update)s that list
    /// it, until it is removed or inserted again.
    ///
    /// Like a removal, it does not fail if the policy panics.
    ///
    /// # Panics
    ///
    /// As [`remove`](Self::remove).
    pub fn drain(&self, key: &E::Key) -> Option<Drain> {
        self.drain_by(&self.hashed(key.clone()), None)
    }

    /// As [`drain`](Self::drain), but resolves after `within` at the latest, by the fleet's clock, whatever is in
    /// flight then; [`Drained`](crate::Drained) tells. The endpoint stays draining until it is removed or inserted
    /// again, and requests still in flight may finish.
    ///
    /// The crate starts no timer. The task is woken by the first upkeep after the deadline (picks do it within a tenth
    /// of a second), by a tick of [`HealthCheck`](crate::HealthCheck), or by your [`maintain`](Self::maintain). With
    /// none of these it is not woken; if it is polled after the deadline, it resolves all the same.
    ///
    /// # Panics
    ///
    /// As [`remove`](Self::remove).
    ///
    /// ```
    /// use evenkeel::{Cluster, Drained, Fleet, ManualClock, Outcome};
    /// use std::{pin::pin, task::{Context, Poll, Waker}, time::Duration};
    ///
    /// let clock = ManualClock::new();
    /// let fleet = Fleet::builder().endpoints(["a".to_string()]).clock(clock.clone()).build()?;
    /// let lease = fleet.pick_endpoint()?; // one that hangs
    /// let mut drain = pin!(fleet.drain_within(&"a".to_string(), Duration::from_secs(30)).ok_or("it is there")?);
    /// let mut cx = Context::from_waker(Waker::noop());
    /// assert!(drain.as_mut().poll(&mut cx).is_pending());
    /// clock.advance(Duration::from_secs(30));
    /// let Poll::Ready(drained) = drain.as_mut().poll(&mut cx) else { panic!("its time is over") };
    /// assert_eq!((drained.is_complete(), drained.in_flight()), (false, 1));
    /// # drop(lease);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain_within(&self, key: &E::Key, within: Duration) -> Option<Drain> {
        self.drain_by(&self.hashed(key.clone()), Some(within))
    }

    /// Drains the endpoint with this key, and removes it when its last request has ended or `within` has passed,
    /// whichever comes first. `None` if there is no such endpoint. The drain takes effect at once, but the removal only
    /// if the future is awaited: spawn it. It is woken like the one of [`drain_within`](Self::drain_within).
    ///
    /// An endpoint inserted under this key in the meantime is another one, and stays. Leases still held stay valid.
    ///
    /// A thread without a runtime calls [`drain`](Self::drain), sleeps until the drain's
    /// [`in_flight`](Drain::in_flight) is 0 or its own time is up, and calls [`remove`](Self::remove).
    ///
    /// # Panics
    ///
    /// As [`remove`](Self::remove); the future too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the endpoint draining and does not remove it.
    pub fn retire(&self, key: &E::Key, within: Duration) -> Option<Retire<E>> {
        let key = self.hashed(key.clone());
        let drain = self.drain_by(&key, Some(within))?;
        Some(Retire::new(drain, self.clone(), key))
    }

    fn drain_by(&self, key: &Hashed<E::Key>, within: Option<Duration>) -> Option<Drain> {
        let inner = &*self.inner;
        let now = inner.shared.now_for_all();
        let mut change = Change::new();

        let mut registry = inner.registry.lock();
        let registry = &mut *registry;
        let at = *registry.index.get(key)?;
        let core = registry.slots[at].member.core().clone();
        let drain = Drain::new(core, within.map(|within| now.after(within)));
        if !registry.slots[at].draining {
            change.retire_member(&registry.slots[at]);
            change.replace_range(at, 1);
            change.keep(registry.slots[at].drained());
            let snapshot = registry.snapshot_or_stand_in(&change, &inner.shared);
            registry.commit(inner, &mut change, snapshot, now);
            drain.begun(now);
        }
        Some(drain)
    }

    /// Marks the endpoint with this key as up, down or degraded, or leaves it to its health again; `false` if there is
    /// none. The next pick sees the mark. It holds until another mark, also through updates of the endpoint's data.
    ///
    /// While an endpoint is marked up or down, outcomes are still recorded but cannot eject it. A degraded one is
    /// judged as usual. The panic rule may override a mark down; see [`Mark::Down`].
    ///
    /// # Panics
    ///
    /// As [`remove`](Self::remove).
    pub fn mark(&self, key: &E::Key, mark: Mark) -> bool {
        let inner = &*self.inner;
        let key = self.hashed(key.clone());
        let now = inner.shared.now_for_all();
        let mut registry = inner.registry.lock();
        let Some(&at) = registry.index.get(&key) else {
            return false;
        };
        let slot = &mut registry.slots[at];
        slot.mark = mark;
        slot.settle(now);
        inner.shared.settle_panic(now);
        true
    }

    /// Returns the mark of the endpoint with this key; `None` if there is none. Takes the update mutex.
    ///
    /// [`Member::state`] shows a mark only where it decides the state: an endpoint that is marked degraded and is
    /// ejected shows as ejected.
    ///
    /// # Panics
    ///
    /// As [`remove`](Self::remove).
    #[must_use]
    pub fn mark_of(&self, key: &E::Key) -> Option<Mark> {
        let key = self.hashed(key.clone());
        let registry = self.inner.registry.lock();
        let at = *registry.index.get(&key)?;
        Some(registry.slots[at].mark)
    }

    /// Replaces the policy while requests are in flight. In-flight counts and health stay.
    /// [`LeastConnections`](crate::LeastConnections) and [`Adaptive`](crate::Adaptive) compare only requests picked
    /// from then on, unless one of the two was in force before; older ones still count as [in
    /// flight](crate::Member::in_flight).
    ///
    /// # Errors
    ///
    /// [`UpdateError::Panicked`] if the policy panics while it checks its settings or prepares its picker;
    /// [`UpdateError::Setting`] if one of its settings is out of range. The old policy stays in force.
    pub fn set_policy(&self, policy: impl LoadBalancer<E> + 'static) -> Result<(), UpdateError> {
        check(&policy).map_err(UpdateError::of_setting)?;
        let inner = &*self.inner;
        let mut policy: Arc<dyn LoadBalancer<E>> = Arc::new(policy);
        let now = inner.shared.now_for_all();
        let mut change = Change::new();

        let mut registry = inner.registry.lock();
        let registry = &mut *registry;
        let snapshot = registry.snapshot(&*policy, &change)?;
        std::mem::swap(&mut registry.policy, &mut policy);
        registry.commit(inner, &mut change, snapshot, now);
        Ok(())
    }

    pub(super) fn hashed(&self, key: E::Key) -> Hashed<E::Key> {
        Hashed::new(&self.inner.hash_state, key)
    }

    /// Makes members for new endpoints, in a fleet of `live` members.
    fn newcomers(&self, live: usize, new: Vec<Newcomer<E>>) -> Vec<Seats<E>> {
        let shared = &self.inner.shared;
        let cells = shared.shards().min(seats_for(live));
        Member::newcomers(shared, cells, new)
    }
}

const fn room_for(count: usize) -> Result<(), UpdateError> {
    if count > MAX_MEMBERS {
        return Err(UpdateError::TooManyEndpoints { limit: MAX_MEMBERS });
    }
    Ok(())
}
