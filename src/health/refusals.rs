//! Counts how often an endpoint refused a request because it is overloaded.

use crate::sync::{AtomicU32, Ordering};

/// How often the endpoint refused a request in this period and in the one before.
///
/// A period is a second, or a tenth of the window if that is shorter. From the top: `number: 8 (wrapping) | before: 12
/// | present: 12`, where `number` is the number of the present period.
#[derive(Debug)]
pub(crate) struct Refusals(AtomicU32);

impl Refusals {
    const BITS: u32 = 12;
    const FULL: u32 = (1 << Self::BITS) - 1;

    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The word moved on to period `number`. Counts older than the previous period are dropped.
    const fn at(word: u32, number: u8) -> u32 {
        let before = match number.wrapping_sub((word >> (2 * Self::BITS)) as u8) {
            0 => return word,
            1 => word & Self::FULL,
            _ => 0,
        };
        (number as u32) << (2 * Self::BITS) | before << Self::BITS
    }

    /// Counts one refusal. Beyond 4095 in a period, refusals are not counted.
    pub(crate) fn count(&self, number: u8) {
        let next = |word| {
            let word = Self::at(word, number);
            Some(word + u32::from(word & Self::FULL < Self::FULL))
        };
        // ORDERING: Relaxed, both. A statistic that is complete in its word.
        let _ = (self.0).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Clears the counts once they are over. Otherwise they would appear current again after `number` has wrapped.
    pub(crate) fn forget(&self, number: u8) {
        let over = |word| (word != 0 && Self::at(word, number) << 8 == 0).then_some(0);
        // ORDERING: Relaxed, both. As above.
        let _ = (self.0).fetch_update(Ordering::Relaxed, Ordering::Relaxed, over);
    }

    pub(crate) fn get(&self, number: u8) -> u32 {
        // ORDERING: Relaxed. As above.
        let word = Self::at(self.0.load(Ordering::Relaxed), number);
        (word >> Self::BITS & Self::FULL) + (word & Self::FULL)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compares the counts with a list of the refusals in the present period and in the one before.
        #[test]
        fn refusals_are_what_a_list_has(steps in prop::collection::vec(0u8..4, 1..200)) {
            let (refusals, mut all, mut now) = (Refusals::new(), Vec::new(), 0u8);
            for step in steps {
                now = now.wrapping_add(step.saturating_sub(1));
                refusals.count(now);
                all.push(now);
                for later in 0..4u8 {
                    let is_counted = |at: &&u8| now.wrapping_add(later).wrapping_sub(**at) <= 1;
                    // Refusals that are over have been forgotten long before the numbers wrap.
                    let lately = all.iter().rev().take(100).filter(is_counted).count();
                    prop_assert_eq!(refusals.get(now.wrapping_add(later)) as usize, lately);
                }
            }
        }
    }

    #[test]
    fn a_full_second_stays_full() {
        let refusals = Refusals::new();
        (0..5_000).for_each(|_| refusals.count(7));
        assert_eq!((refusals.get(7), refusals.get(8)), (4_095, 4_095));
        refusals.count(8);
        assert_eq!((refusals.get(8), refusals.get(9)), (4_096, 1));
        refusals.forget(9);
        assert_eq!(refusals.get(9), 1);
        refusals.forget(10);
        assert_eq!((refusals.get(10), refusals.get(8)), (0, 0));
    }
}
