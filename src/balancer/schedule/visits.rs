//! When a member's visits are due.

use crate::shared::{GOLDEN, below, mix};

/// The windows of a member's visits, one after the other, computed without a division for each. They lie side by side,
/// and each is as long as the inverse of the member's share.
#[derive(Clone, Copy, Debug)]
pub(in crate::balancer) struct Visits {
    /// The first slot of the window.
    pub(super) begin: u64,
    /// Where the window ends: whole slots, and a part of a slot, in shares.
    pub(super) whole: u64,
    pub(super) part: u64,
    /// How long a window is, likewise.
    pub(super) slots: u64,
    pub(super) rest: u64,
    /// The member's share; 0 if it has no more visits.
    pub(super) share: u64,
}

impl Visits {
    /// The first window is that of a whole visit, less `over` of `total` parts.
    pub(in crate::balancer) const fn new(share: u64, total: u64, over: u64) -> Self {
        Self {
            begin: 0,
            whole: (total - over) / share,
            part: (total - over) % share,
            slots: total / share,
            rest: total % share,
            share,
        }
    }

    /// The window ends before this slot.
    #[inline]
    pub(in crate::balancer) const fn end(&self) -> u64 {
        self.whole + (self.part > 0) as u64
    }

    /// Goes on to the next visit. A slot in which one window ends and the next begins belongs to both.
    #[inline(always)]
    pub(in crate::balancer) const fn advance(&mut self) {
        let part = self.part + self.rest;
        let is_whole = part >= self.share;
        self.begin = self.whole;
        self.part = if is_whole { part - self.share } else { part };
        self.whole += self.slots + is_whole as u64;
    }
}

/// The visits of members with these shares, none of which may be 0. All first windows begin at the first slot.
pub(in crate::balancer) fn from_start(shares: &[u64], total: u64) -> impl Iterator<Item = Visits> {
    shares
        .iter()
        .map(move |&share| Visits::new(share, total, 0))
}

/// The same from somewhere in an endless sequence: of each member's window a random part is over. Otherwise, whoever
/// began often would give more to heavy members than to light ones, as those come later in each beginning.
///
/// The parts that are over add up to a whole number of visits. That many members have had the visit of their window: those
/// whose windows end first, as these are served first. No more visits are then due by a slot than there are slots: by
/// slot t, at most t windows have ended, and as many more as visits were had. If the windows of all those are among
/// them, at most t visits are left. If not, only members that had theirs are due again, for no more than their shares.
pub(in crate::balancer) fn from_within(shares: &[u64], total: u64, seed: u64) -> Vec<Visits> {
    let random = |member: u64| mix(seed.wrapping_add(member.wrapping_mul(GOLDEN)));
    let mut over: Vec<u64> = (0..shares.len() as u64)
        .map(|member| below(total, random(member)))
        .collect();
    let (whole, rest) = sum(&over, total);
    let mut made = whole as usize;
    if let Some(first) = over.first_mut().filter(|_| rest > 0) {
        // So that they add up to a whole number.
        *first += total - rest;
        made += 1;
        if *first >= total {
            *first -= total;
            made -= 1;
        }
    }
    let mut visits: Vec<Visits> = shares
        .iter()
        .zip(&over)
        .map(|(&share, &over)| Visits::new(share, total, over))
        .collect();
    let mut by_end: Vec<(u64, u32)> = visits.iter().map(Visits::end).zip(0..).collect();
    if made > 0 {
        by_end.select_nth_unstable(made - 1);
    }
    for &(_, member) in &by_end[..made] {
        visits[member as usize].advance();
    }
    visits
}

/// The sum of numbers below `total`: how many times `total`, and what is left.
fn sum(numbers: &[u64], total: u64) -> (u64, u64) {
    numbers.iter().fold((0, 0), |(whole, rest), &number| {
        let rest = rest + number;
        if rest < total {
            (whole, rest)
        } else {
            (whole + 1, rest - total)
        }
    })
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against divisions: visit k lies between k and k + 1 times total / share, rounded outwards.
        #[test]
        fn windows_lie_side_by_side(share in 1u64..1 << 32, more in 0u64..1 << 40, over: u64) {
            let total = share + more;
            let over = below(total, over);
            let mut visits = Visits::new(share, total, over);
            for k in 1..200u64 {
                let parts = u128::from(k) * u128::from(total) - u128::from(over);
                prop_assert_eq!(u128::from(visits.end()), parts.div_ceil(share.into()));
                visits.advance();
                prop_assert_eq!(u128::from(visits.begin), parts / u128::from(share));
            }
        }

        /// In the middle of a sequence, as many members have had the visit of their window as the windows are over.
        #[test]
        fn a_beginning_within_the_sequence_is_in_balance(shares in prop::collection::vec(1u64..1000, 1..40), seed: u64) {
            let total: u64 = shares.iter().sum();
            let visits: Vec<Visits> = from_within(&shares, total, seed);
            // By slot t, no more visits are due than t, and no fewer may come than t.
            for slot in 1..100 {
                let visits_by = |edge: fn(&Visits) -> u64| -> u64 {
                    visits.iter().map(|visits| {
                        let mut visits = *visits;
                        let mut by = 0;
                        while edge(&visits) <= slot {
                            by += 1;
                            visits.advance();
                        }
                        by
                    }).sum()
                };
                prop_assert!(visits_by(Visits::end) <= slot);
                prop_assert!(visits_by(|visits| visits.begin + 1) >= slot);
            }
        }
    }
}
