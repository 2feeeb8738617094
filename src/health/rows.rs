//! Counts of faults in a row, packed into one word.

use crate::outcome::Outcome;

/// Faults in a row, by class. Each count stops at 2^21 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// Faults of any class.
    pub(super) any: u64,
    /// Faults without an answer from the endpoint: timeouts and unreachable outcomes.
    pub(super) gateway: u64,
    /// Unreachable outcomes.
    pub(super) local: u64,
}

impl Rows {
    const BITS: u32 = 21;
    const MOST: u64 = (1 << Self::BITS) - 1;

    pub(super) const fn read(word: u64) -> Self {
        Self {
            any: word & Self::MOST,
            gateway: (word >> Self::BITS) & Self::MOST,
            local: (word >> (2 * Self::BITS)) & Self::MOST,
        }
    }

    pub(super) const fn pack(self) -> u64 {
        self.any | self.gateway << Self::BITS | self.local << (2 * Self::BITS)
    }

    pub(super) fn and(self, outcome: Outcome) -> Self {
        let next = |row: u64, goes_on: bool| {
            if goes_on {
                (row + 1).min(Self::MOST)
            } else {
                0
            }
        };
        Self {
            any: next(self.any, true),
            gateway: next(self.gateway, outcome != Outcome::Failure),
            local: next(self.local, outcome == Outcome::Unreachable),
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_row_of_its_own() {
        let rows = |outcomes: &[Outcome]| {
            let none = Rows::read(0);
            outcomes
                .iter()
                .fold(none, |rows, outcome| rows.and(*outcome))
        };
        use Outcome::{Failure, Timeout, Unreachable};
        let count = |rows: Rows| (rows.any, rows.gateway, rows.local);
        assert_eq!(count(rows(&[Failure, Timeout, Unreachable])), (3, 2, 1));
        assert_eq!(count(rows(&[Unreachable, Timeout, Unreachable])), (3, 3, 1));
        assert_eq!(count(rows(&[Unreachable, Unreachable, Failure])), (3, 0, 0));
        let most = Rows {
            any: Rows::MOST,
            gateway: Rows::MOST,
            local: Rows::MOST,
        };
        assert_eq!(most.and(Unreachable), most);
        assert_eq!(Rows::read(most.pack()), most);
    }
}
