//! Weighted random draws prepared one pick ahead: each pick draws for the next one, so that no pick waits for the
//! table.

use super::View;
use super::cumulative::{Cumulative, effective_weights};
use crate::endpoint::Endpoint;
use crate::sync::{AtomicU64, Ordering, Padded};

/// A table to draw from, and for each shard the members drawn for its next pick.
///
/// They share one word: `first: 32 | second: 32`. [`NO_MEMBER`] stands for a member that has not been drawn.
///
/// Two threads of a shard may race. Both then get the same members, once.
#[derive(Debug)]
pub(super) struct Drawn {
    table: Cumulative,
    next: Box<[Padded<AtomicU64>]>,
}

const NO_MEMBER: u32 = u32::MAX;

/// The members drawn for this pick, and the first member of the next.
#[must_use = "the next pick has no members"]
pub(super) struct PreparedDraw<'a> {
    of: &'a Drawn,
    word: &'a AtomicU64,
    first: u32,
    second: u32,
    next: usize,
}

impl Drawn {
    pub(super) fn new<E: Endpoint>(view: &View<'_, E>) -> Self {
        Self::from(&effective_weights(view.members()), view.cursor().shards())
    }

    fn from(weights: &[u64], shards: usize) -> Self {
        let none_drawn = |_| Padded(AtomicU64::new(word(NO_MEMBER, NO_MEMBER)));
        Self {
            table: Cumulative::new(weights),
            next: (0..shards).map(none_drawn).collect(),
        }
    }

    #[inline]
    pub(super) const fn table(&self) -> &Cumulative {
        &self.table
    }

    /// Takes the members drawn for this pick, where all may be picked; `None` if there is no member. Uses one random
    /// number, and two if no member had been drawn.
    #[inline]
    pub(super) fn draw(
        &self,
        shard: usize,
        mut random: impl FnMut() -> u64,
    ) -> Option<PreparedDraw<'_>> {
        let word = &self.next[shard & (self.next.len() - 1)].0;
        // ORDERING: Relaxed, here and below. Each word is complete in itself: any value stored there may be used.
        let drawn = word.load(Ordering::Relaxed);
        let (mut first, second) = ((drawn >> 32) as u32, drawn as u32);
        if first == NO_MEMBER {
            first = self.table.draw(random())? as u32;
        }
        let next = self.table.draw(random())?;
        Some(PreparedDraw {
            of: self,
            word,
            first,
            second,
            next,
        })
    }
}

impl PreparedDraw<'_> {
    #[inline]
    pub(super) const fn first(&self) -> usize {
        self.first as usize
    }

    /// Ends the pick without a second member. None is drawn for the next pick either, as it may not need one.
    #[inline]
    pub(super) fn end(self) {
        self.put(NO_MEMBER);
    }

    /// Returns a second member, different from the first, if there is one. The next pick is assumed to need one too, so
    /// its second is drawn now. Uses one random number or two.
    #[inline]
    pub(super) fn second(self, mut random: impl FnMut() -> u64) -> Option<usize> {
        let other = |than: usize, random| self.of.table.draw_other(than, random);
        let after = other(self.next, random());
        let second = match self.second {
            NO_MEMBER => other(self.first(), random()),
            second => Some(second as usize),
        };
        self.put(after.map_or(NO_MEMBER, |after| after as u32));
        second
    }

    #[inline]
    fn put(self, second: u32) {
        // ORDERING: Relaxed. As above.
        self.word
            .store(word(self.next as u32, second), Ordering::Relaxed);
    }
}

#[inline]
const fn word(first: u32, second: u32) -> u64 {
    (first as u64) << 32 | second as u64
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::shared::mix;
    use proptest::prelude::*;

    proptest! {
        /// Each member is drawn as the table draws it, one pick late, whether or not a second one is asked for.
        #[test]
        fn a_draw_is_for_the_next_pick(
            weights in prop::collection::vec(1u64..100, 1..20),
            asks in prop::collection::vec((0usize..4, any::<bool>()), 1..100),
        ) {
            let drawn = Drawn::from(&weights, 2);
            let mut counter = 0u64;
            let mut expected: [Option<(usize, Option<usize>)>; 2] = [None; 2];
            for (shard, wants_second) in asks {
                let numbers = std::cell::RefCell::new(Vec::new());
                let random = || {
                    counter += 1;
                    numbers.borrow_mut().push(mix(counter));
                    mix(counter)
                };
                let random = std::cell::RefCell::new(random);
                let draw = drawn.draw(shard, || random.borrow_mut()()).unwrap();
                let first = draw.first();
                let expected = &mut expected[shard % 2];
                let mut taken = numbers.borrow().clone().into_iter();
                let (due, second_due) = expected.unwrap_or_else(|| {
                    (drawn.table.draw(taken.next().unwrap()).unwrap(), None)
                });
                prop_assert_eq!(first, due);
                let next = drawn.table.draw(taken.next().unwrap()).unwrap();
                prop_assert_eq!(taken.next(), None);
                if wants_second {
                    let second = draw.second(|| random.borrow_mut()());
                    prop_assert_eq!(second.is_some(), weights.len() > 1);
                    prop_assert_ne!(second, Some(first));
                    prop_assert!(second_due.is_none() || second == second_due);
                    let at = numbers.borrow().len() - if second_due.is_some() { 1 } else { 2 };
                    let after = drawn.table.draw_other(next, numbers.borrow()[at]);
                    *expected = Some((next, after));
                } else {
                    draw.end();
                    *expected = Some((next, None));
                }
            }
        }
    }

    #[test]
    fn an_empty_set_yields_no_member() {
        assert!(Drawn::from(&[], 1).draw(0, || 7).is_none());
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use crate::shared::mix;
    use loom::thread;
    use std::sync::Arc;

    /// Two threads of a shard draw twice each from two members.
    fn two_draw(draw: fn(&Drawn, u64)) {
        loom::model(move || {
            let drawn = Arc::new(Drawn::from(&[1, 1], 1));
            let other = {
                let drawn = drawn.clone();
                thread::spawn(move || (0..2).for_each(|seed| draw(&drawn, seed)))
            };
            (2..4).for_each(|seed| draw(&drawn, seed));
            other.join().unwrap();
        });
    }

    fn pair(drawn: &Drawn, seed: u64) -> (usize, Option<usize>) {
        let mut counter = 10 * seed;
        let mut random = || {
            counter += 1;
            mix(counter)
        };
        let draw = drawn.draw(0, &mut random).unwrap();
        (draw.first(), draw.second(random))
    }

    #[test]
    fn the_second_member_differs_from_the_first() {
        two_draw(|drawn, seed| {
            let (first, second) = pair(drawn, seed);
            assert_eq!(second, Some(1 - first), "of two the other");
        });
    }

    /// Broken: the first member is written separately from the second.
    #[test]
    #[should_panic = "of two the other"]
    fn broken_variant_in_two_writes() {
        two_draw(|drawn, seed| {
            let cell = &drawn.next[0].0;
            // ORDERING: Relaxed, both. This is not what is broken.
            let before = cell.load(Ordering::Relaxed);
            let (first, second) = pair(drawn, seed);
            assert_eq!(second, Some(1 - first), "of two the other");
            let after = cell.load(Ordering::Relaxed);
            cell.store(word((after >> 32) as u32, before as u32), Ordering::Relaxed);
            cell.store(after, Ordering::Relaxed);
        });
    }
}
