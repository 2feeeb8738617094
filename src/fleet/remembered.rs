//! What is remembered of an endpoint after its removal, so that a flapping discovery does not clear the record of a bad
//! one.

use std::collections::VecDeque;
use std::time::Duration;

use super::keys::{Hashed, KeyMap};
use crate::member::PastEjection;
use crate::time::Tick;

/// How long a removed endpoint's ejection is remembered.
const RETENTION: Duration = Duration::from_secs(60);

/// How many endpoints are remembered at most; or as many as the fleet has members, if those are more.
const MIN_CAPACITY: usize = 64;

/// Ejections of recently removed endpoints. The oldest is forgotten first.
#[derive(Debug)]
pub(super) struct Remembered<K> {
    past_ejections: KeyMap<K, (Tick, PastEjection)>,
    order: VecDeque<(Tick, Hashed<K>)>,
}

impl<K: Eq> Remembered<K> {
    pub(super) fn new() -> Self {
        Self {
            past_ejections: KeyMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Remembers an endpoint, if it has ever been ejected: otherwise there is nothing to remember. Keys forgotten in
    /// exchange go to `out`, as dropping a key runs the user's code.
    ///
    /// Runs the keys' `Eq`, which may panic, so it comes before any other step of a change: an entry too many does no
    /// harm.
    pub(super) fn keep(
        &mut self,
        key: Hashed<K>,
        past_ejection: PastEjection,
        now: Tick,
        live: usize,
        out: &mut Vec<Hashed<K>>,
    ) {
        // One whose ejections are forgotten replaces what is remembered from before.
        if past_ejection.standing().times > 0 || self.past_ejections.contains_key(&key) {
            // Both places share one key, so that forgetting it does not call the user's `Eq`.
            let known = self
                .past_ejections
                .get_key_value(&key)
                .map(|(known, _)| known.clone());
            let key = known.unwrap_or(key);
            self.past_ejections
                .insert(key.clone(), (now, past_ejection));
            self.order.push_back((now, key));
        }
        self.prune(now, live, out);
    }

    /// Forgets entries that are too old or too many.
    pub(super) fn prune(&mut self, now: Tick, live: usize, out: &mut Vec<Hashed<K>>) {
        let expired = |at: Tick| now.since(at) > RETENTION || at > now;
        while self.order.len() > live.max(MIN_CAPACITY)
            || self.order.front().is_some_and(|(at, _)| expired(*at))
        {
            let Some((at, key)) = self.order.pop_front() else {
                break;
            };
            // A younger entry under the same key stays. The user's `Eq` is not called: the keys are shared.
            if self
                .past_ejections
                .get(&key)
                .is_some_and(|(kept, _)| *kept == at)
            {
                out.extend(self.past_ejections.remove_entry(&key).map(|(key, _)| key));
            }
            out.push(key);
        }
    }

    /// What is remembered of this endpoint, if it was removed recently enough.
    pub(super) fn recall(&self, key: &Hashed<K>, now: Tick) -> Option<PastEjection> {
        let (at, past_ejection) = self.past_ejections.get(key)?;
        (now >= *at && now.since(*at) <= RETENTION).then_some(*past_ejection)
    }
}
