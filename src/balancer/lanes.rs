//! Values of a row of members side by side, in groups of four, and subsets of a row as bits. A lane is a member's index
//! in its row.

use crate::shared::LANES;

/// How many values are compared at once.
pub(super) const FOUR: usize = 4;

/// `lanes` rounded up to a whole number of groups.
#[inline]
pub(super) const fn filled(lanes: usize) -> usize {
    lanes.div_ceil(FOUR) * FOUR
}

/// One value for each member of a row, in groups of four.
pub(super) type Fours<T> = [[T; FOUR]; LANES / FOUR];

/// A subset of a row as bits. It iterates in ascending order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lanes(u32);

/// The bit of each lane.
const BITS: Fours<u32> = {
    let mut bits = [[0; FOUR]; LANES / FOUR];
    let mut lane = 0;
    while lane < LANES {
        bits[lane / FOUR][lane % FOUR] = 1 << lane;
        lane += 1;
    }
    bits
};

impl Lanes {
    /// The lanes among the first `lanes` whose value satisfies `is`. It has no branch per lane, so the compiler
    /// compares four at a time.
    #[inline(always)]
    pub(super) fn matching<T: Copy>(of: &Fours<T>, lanes: usize, is: impl Fn(T) -> bool) -> Self {
        let mut found = [0; FOUR];
        for (four, bits) in of[..lanes.div_ceil(FOUR)].iter().zip(&BITS) {
            for lane in 0..FOUR {
                found[lane] |= bits[lane] & mask(is(four[lane]));
            }
        }
        // Clears the padding lanes in the last group.
        let first = ((1u64 << lanes) - 1) as u32;
        Self((found[0] | found[1] | found[2] | found[3]) & first)
    }
}

impl Iterator for Lanes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let lane = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (lane < u32::BITS).then_some(lane as usize)
    }
}

/// All bits set, or none.
#[inline]
pub(super) fn mask(is: bool) -> u32 {
    u32::from(is).wrapping_neg()
}

/// Selects one of two values without a branch. A branch per member would be unpredictable and would keep the compiler
/// from vectorising.
#[inline]
pub(super) fn either(is: bool, one: f32, other: f32) -> f32 {
    f32::from_bits((one.to_bits() & mask(is)) | (other.to_bits() & !mask(is)))
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn matching_yields_the_lanes_where_the_predicate_holds(of: Fours<bool>, lanes in 0..=LANES) {
            let some: Vec<usize> = Lanes::matching(&of, lanes, |is| is).collect();
            let expected: Vec<usize> = (0..lanes).filter(|&lane| of.as_flattened()[lane]).collect();
            prop_assert_eq!(some, expected);
        }

        #[test]
        fn either_selects_by_the_condition(is: bool, one: f32, other: f32) {
            let expected = if is { one } else { other };
            prop_assert_eq!(either(is, one, other).to_bits(), expected.to_bits());
        }
    }
}
