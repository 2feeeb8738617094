//! What a fleet keeps for parts of its set: those that a policy within a policy chooses from.

use std::collections::BTreeMap;

use super::Cursor;
use crate::shared::mix;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// How many parts that no longer exist are kept beside the live ones.
const SPARE: usize = 64;

/// The key of a part: its priority, and its zone if the part is a zone.
pub(super) type PartKey = (u32, Option<Box<str>>);

/// The positions of the parts of a set, and whether each is in panic. The fleet owns them, as it owns its own position,
/// so they survive updates and changes of the policy.
#[derive(Debug)]
pub(crate) struct Nested {
    /// The seed for the positions of new parts.
    origin: u64,
    /// Whether any part was in panic.
    pub(super) any_panics: Arc<Memory>,
    parts: Mutex<BTreeMap<PartKey, Kept>>,
}

/// What is kept for one part.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) cursor: Cursor,
    pub(super) panics: Arc<Memory>,
}

/// Whether there was panic at the last count.
#[derive(Debug)]
pub(super) struct Memory(AtomicBool);

impl Memory {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(super) fn get(&self) -> bool {
        // ORDERING: Relaxed. One remembered bit; a pick that counts has claimed the count.
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the flag and returns its previous value.
    pub(super) fn set(&self, is: bool) -> bool {
        // ORDERING: Relaxed. As above. A swap, so that of two counts by two snapshots only one sees itself change the
        // flag.
        self.0.swap(is, Ordering::Relaxed)
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

    /// Returns what is kept for this part. A new part gets a starting position of its own, derived from the fleet's.
    pub(super) fn part(&self, shards: usize, key: PartKey) -> Kept {
        let name = key.1.as_deref().unwrap_or_default().bytes();
        let start = u64::from(key.0) << 1 | u64::from(key.1.is_some());
        let seed = name.fold(mix(self.origin ^ mix(start)), |seed, byte| {
            mix(seed ^ u64::from(byte))
        });
        let new = || Kept {
            // 31 bits, as for the fleet's own cursor.
            cursor: Cursor::new(shards, |shard| mix(seed ^ mix(shard as u64)) >> 33),
            panics: Arc::new(Memory::new()),
        };
        self.parts.lock().entry(key).or_insert_with(new).clone()
    }

    /// Forgets that parts were in panic, as no policy judges them any more. Returns whether any that had a load was.
    pub(super) fn forget_panic(&self) -> bool {
        for kept in self.parts.lock().values() {
            kept.panics.set(false);
        }
        self.any_panics.set(false)
    }

    /// Forgets parts that are not live, once there are more than `SPARE` of them. A part that is gone for a single
    /// update keeps its position.
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
    fn removed_parts_do_not_accumulate() {
        let nested = Nested::new(7);
        for zone in 0..1000 {
            let key: PartKey = (0, Some(format!("{zone}").into()));
            nested.part(1, key.clone());
            nested.keep_only(&[key].into());
            assert!(nested.len() <= 2 + SPARE);
        }
    }
}
