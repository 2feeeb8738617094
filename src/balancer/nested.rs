//! What a fleet keeps for the parts of its set that a policy within a policy chooses from.

use std::collections::BTreeMap;

use super::Cursor;
use crate::shared::mix;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// How many parts that are no more are kept beside those that are.
const SPARE: usize = 64;

/// A part: its priority, and its zone where the part is one.
pub(super) type PartKey = (u32, Option<Box<str>>);

/// The positions of parts of the set, and whether it was panic there. They belong to the fleet, as its own position
/// does, and survive updates and changes of the policy.
#[derive(Debug)]
pub(crate) struct Nested {
    /// What the positions of new parts start from.
    origin: u64,
    /// Whether it was panic in any of them.
    pub(super) any_panics: Arc<Memory>,
    parts: Mutex<BTreeMap<PartKey, Kept>>,
}

/// What is kept of one part.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) cursor: Cursor,
    pub(super) panics: Arc<Memory>,
}

/// Whether it was panic when that was last counted.
#[derive(Debug)]
pub(super) struct Memory(AtomicU64);

impl Memory {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn get(&self) -> bool {
        // ORDERING: Relaxed. A memory of one bit; who counts has claimed the count.
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Returns what it was.
    pub(super) fn set(&self, is: bool) -> bool {
        // ORDERING: Relaxed. As above; a swap, so that of two counts by two snapshots one has turned it.
        self.0.swap(is.into(), Ordering::Relaxed) != 0
    }
}

impl Nested {
    pub(super) fn new(origin: u64) -> Self {
        Self {
            origin,
            any_panics: Arc::new(Memory::new()),
            parts: Mutex::new(BTreeMap::new()),
        }
    }

    /// What is kept of this part. A new one starts at a place of its own, from the fleet's.
    pub(super) fn part(&self, shards: usize, key: PartKey) -> Kept {
        let name = key.1.as_deref().unwrap_or_default().bytes();
        let start = u64::from(key.0) << 1 | u64::from(key.1.is_some());
        let seed = name.fold(mix(self.origin ^ mix(start)), |seed, byte| {
            mix(seed ^ u64::from(byte))
        });
        let new = || Kept {
            // Of 31 bits, as the fleet's own.
            cursor: Cursor::new(shards, |shard| mix(seed ^ mix(shard as u64)) >> 33),
            panics: Arc::new(Memory::new()),
        };
        self.parts.lock().entry(key).or_insert_with(new).clone()
    }

    /// Forgets parts that are not among these, once they are many: one that is away for an update keeps its place.
    pub(super) fn keep_only(&self, live: &std::collections::BTreeSet<PartKey>) {
        let mut parts = self.parts.lock();
        if parts.len() > live.len() + SPARE {
            parts.retain(|key, _| live.contains(key));
        }
    }

    #[cfg(all(test, not(evenkeel_loom)))]
    pub(super) fn len(&self) -> usize {
        self.parts.lock().len()
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_its_position_and_each_has_its_own() {
        let nested = Nested::new(7);
        let first = nested.part(1, (0, None)).cursor;
        let position = first.next(0);
        assert_eq!(nested.part(1, (0, None)).cursor.next(0), position + 1);
        let others = [(1, None), (0, Some("".into())), (0, Some("a".into()))];
        for key in others {
            assert_ne!(nested.part(1, key).cursor.next(0), position + 2);
        }
    }

    #[test]
    fn the_same_origin_gives_the_same_positions() {
        let start = |origin| {
            Nested::new(origin)
                .part(2, (3, Some("a".into())))
                .cursor
                .next(1)
        };
        assert_eq!(start(5), start(5));
        assert_ne!(start(5), start(6));
    }

    #[test]
    fn parts_that_are_gone_do_not_add_up() {
        let nested = Nested::new(7);
        for zone in 0..1000 {
            let key: PartKey = (0, Some(format!("{zone}").into()));
            nested.part(1, key.clone());
            nested.keep_only(&[key].into());
            assert!(nested.len() <= 2 + SPARE);
        }
    }
}
