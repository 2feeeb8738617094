//! Which of a row of members, as bits.

use crate::shared::LANES;

/// Some of a row, the first one first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lanes(u32);

/// The bit of each.
const BITS: [u32; LANES] = {
    let mut bits = [0; LANES];
    let mut lane = 0;
    while lane < LANES {
        bits[lane] = 1 << lane;
        lane += 1;
    }
    bits
};

impl Lanes {
    /// Those of which this holds. A plain loop without branches, so that the compiler can take several at a time.
    #[inline]
    pub(super) fn that(are: impl Iterator<Item = bool>) -> Self {
        let mut found = 0;
        for (is, bit) in are.zip(&BITS) {
            found |= bit & mask(is);
        }
        Self(found)
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

/// All bits or none.
#[inline]
pub(super) fn mask(is: bool) -> u32 {
    u32::from(is).wrapping_neg()
}

/// One or the other, both worked out: a branch for each member would be what nobody can foretell, and keep the compiler
/// from taking several at a time.
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
        fn are_those_that_it_holds_for(are in prop::collection::vec(any::<bool>(), 0..=LANES)) {
            let some: Vec<usize> = Lanes::that(are.iter().copied()).collect();
            let expected: Vec<usize> = (0..are.len()).filter(|&lane| are[lane]).collect();
            prop_assert_eq!(some, expected);
        }

        #[test]
        fn one_or_the_other(is: bool, one: f32, other: f32) {
            let expected = if is { one } else { other };
            prop_assert_eq!(either(is, one, other).to_bits(), expected.to_bits());
        }
    }
}
