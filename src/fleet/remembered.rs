//! What is remembered of an endpoint after its removal, so that a discovery that flaps does not let a
//! bad one off.

use std::collections::VecDeque;
use std::time::Duration;

use super::keys::{Hashed, KeyMap};
use crate::member::Former;
use crate::time::Tick;

/// How long a removed endpoint's ejection is remembered.
const FOR: Duration = Duration::from_secs(60);

/// How many are remembered at least; else as many as the fleet has members.
const AT_LEAST: usize = 64;

/// Ejections of endpoints removed lately; oldest out first.
#[derive(Debug)]
pub(super) struct Remembered<K> {
    formers: KeyMap<K, (Tick, Former)>,
    order: VecDeque<(Tick, Hashed<K>)>,
}

impl<K: Eq> Remembered<K> {
    pub(super) fn new() -> Self {
        Self {
            formers: KeyMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Remembers one. Runs the keys' `Eq`, so it comes before anything else of a change is done: an
    /// entry too many does no harm. Who was never ejected has nothing to be remembered for. Who is forgotten instead
    /// goes to `out`: a key's drop is the user's code.
    pub(super) fn keep(
        &mut self,
        key: Hashed<K>,
        former: Former,
        now: Tick,
        live: usize,
        out: &mut Vec<Hashed<K>>,
    ) {
        if former.standing().times > 0 {
            // One shared key for both, so that forgetting it asks nobody's `Eq`.
            let known = self
                .formers
                .get_key_value(&key)
                .map(|(known, _)| known.clone());
            let key = known.unwrap_or(key);
            self.formers.insert(key.clone(), (now, former));
            self.order.push_back((now, key));
        }
        self.prune(now, live, out);
    }

    /// Forgets who is too old or too many.
    pub(super) fn prune(&mut self, now: Tick, live: usize, out: &mut Vec<Hashed<K>>) {
        let expired = |at: Tick| now.since(at) > FOR || at > now;
        while self.order.len() > live.max(AT_LEAST)
            || self.order.front().is_some_and(|(at, _)| expired(*at))
        {
            let Some((at, key)) = self.order.pop_front() else {
                break;
            };
            // A younger entry under the same key stays. No `Eq` of the user's runs: keys are shared.
            if self.formers.get(&key).is_some_and(|(kept, _)| *kept == at) {
                out.extend(self.formers.remove_entry(&key).map(|(key, _)| key));
            }
            out.push(key);
        }
    }

    /// What is remembered of this one, if it is not too long ago.
    pub(super) fn recall(&self, key: &Hashed<K>, now: Tick) -> Option<Former> {
        let (at, former) = self.formers.get(key)?;
        (now >= *at && now.since(*at) <= FOR).then_some(*former)
    }
}
