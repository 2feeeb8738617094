//! Endpoints' keys, hashed once, so that no code of the user's runs when a map grows or is walked.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use crate::sync::Arc;

/// A key beside its hash. The hash narrows a search; the whole key decides. Clones share the key.
#[derive(Debug)]
pub(super) struct Hashed<K> {
    hash: u64,
    key: Arc<K>,
}

impl<K> Clone for Hashed<K> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            key: self.key.clone(),
        }
    }
}

impl<K: Hash> Hashed<K> {
    /// Runs the user's `Hash`, so it is called outside any lock. The hasher's state is random, so that keys cannot be
    /// chosen to collide.
    pub(super) fn new(state: &RandomState, key: K) -> Self {
        Self {
            hash: state.hash_one(&key),
            key: Arc::new(key),
        }
    }
}

impl<K> Hashed<K> {
    pub(super) fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Eq> PartialEq for Hashed<K> {
    fn eq(&self, other: &Self) -> bool {
        // A shared key equals itself: the user's `Eq` is not called.
        self.hash == other.hash && (Arc::ptr_eq(&self.key, &other.key) || *self.key == *other.key)
    }
}

impl<K: Eq> Eq for Hashed<K> {}

impl<K> Hash for Hashed<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A map from hashed keys.
pub(super) type KeyMap<K, V> = HashMap<Hashed<K>, V, PrehashedBuilder>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PrehashedBuilder;

impl BuildHasher for PrehashedBuilder {
    type Hasher = PrehashedHasher;
    fn build_hasher(&self) -> PrehashedHasher {
        PrehashedHasher(0)
    }
}

pub(super) struct PrehashedHasher(u64);

impl Hasher for PrehashedHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is called, by `Hashed`.
        bytes
            .iter()
            .for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
