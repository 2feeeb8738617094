//! The next member of a sequence, looked up one pick ahead so that no pick waits for the lookup.

use crate::sync::{AtomicU64, Ordering, Padded};

/// For each shard, a position and the member at it, in one word: `position: 32 (its lowest bits) | index: 32`.
///
/// Two threads of a shard may race. A position is then not ready, and the thread that takes it looks the member up. A
/// thread that is delayed while others take 2^32 positions may leave a word that matches again; the member is then out
/// of turn, once.
pub(super) struct Ready(Box<[Padded<AtomicU64>]>);

const INDEX_BITS: u32 = 32;

impl Ready {
    /// Creates words for shards at these positions, with nothing ready. The number of positions must be a power of two.
    pub(super) fn nothing(positions: impl Iterator<Item = u64>) -> Self {
        let gone = |position: u64| word(position.wrapping_sub(1), 0);
        let words = positions.map(|position| Padded(AtomicU64::new(gone(position))));
        Self(words.collect())
    }

    /// The member at this position, which the caller has taken, if it is ready.
    #[inline]
    pub(super) fn at(&self, shard: usize, position: u64) -> Option<usize> {
        // ORDERING: Relaxed, here and below. Each word is complete in itself: what it says of a position is always
        // true.
        let word = self.shard(shard).load(Ordering::Relaxed);
        let index = word as u32 as usize;
        (word >> INDEX_BITS == u64::from(position as u32)).then_some(index)
    }

    /// Stores the member at this position, for the pick that takes it.
    #[inline]
    pub(super) fn put(&self, shard: usize, position: u64, index: usize) {
        // ORDERING: Relaxed. As above.
        self.shard(shard)
            .store(word(position, index), Ordering::Relaxed);
    }

    #[inline]
    fn shard(&self, shard: usize) -> &AtomicU64 {
        &self.0[shard & (self.0.len() - 1)].0
    }
}

#[inline]
const fn word(position: u64, index: usize) -> u64 {
    position << INDEX_BITS | index as u32 as u64
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_prepared_position_is_ready() {
        for start in [0, 7, u64::from(u32::MAX), u64::MAX] {
            let ready = Ready::nothing([start, start].into_iter());
            assert_eq!(ready.at(0, start), None);
            ready.put(1, start, 3);
            assert_eq!((ready.at(0, start), ready.at(1, start)), (None, Some(3)));
            assert_eq!(ready.at(3, start), Some(3), "more threads than shards");
            assert_eq!(ready.at(1, start.wrapping_add(1)), None);
            assert_eq!(ready.at(1, start.wrapping_sub(1)), None);
        }
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Two threads of a shard take two positions each. The member found at a position is the one that the order has
    /// there.
    fn two_walk(walk: fn(&(AtomicU64, Ready))) {
        loom::model(move || {
            let shared = Arc::new((AtomicU64::new(0), Ready::nothing([0].into_iter())));
            let other = {
                let shared = shared.clone();
                thread::spawn(move || (0..2).for_each(|_| walk(&shared)))
            };
            (0..2).for_each(|_| walk(&shared));
            other.join().unwrap();
        });
    }

    /// The order of the test.
    fn order(position: u64) -> usize {
        (position * 10) as usize
    }

    fn step(shared: &(AtomicU64, Ready), put: fn(&Ready, u64)) {
        // ORDERING: Relaxed. As in `Cursor::next`.
        let position = shared.0.fetch_add(1, Ordering::Relaxed);
        if let Some(index) = shared.1.at(0, position) {
            assert_eq!(index, order(position), "out of turn");
        }
        put(&shared.1, position + 1);
    }

    #[test]
    fn a_prepared_member_is_the_one_in_turn() {
        two_walk(|shared| {
            step(shared, |ready, next| ready.put(0, next, order(next)));
        });
    }

    /// Broken: writes the member first and its position afterwards.
    #[test]
    #[should_panic = "out of turn"]
    fn broken_variant_in_two_writes() {
        two_walk(|shared| {
            step(shared, |ready, next| {
                // ORDERING: Relaxed. This is not what is broken.
                let word = ready.shard(0).load(Ordering::Relaxed);
                ready.put(0, word >> INDEX_BITS, order(next));
                ready.put(0, next, order(next));
            });
        });
    }
}
