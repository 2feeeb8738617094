//! A table of cumulative weights for drawing members: each point on the line belongs to one member.

use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::below;

/// The widest ratio of weights: a lighter member counts as 1 in this of the heaviest. Below that, a share is too small
/// to be told from none.
const WIDEST: u64 = 65_536;

/// The most stretches that the line is cut into for each member.
const STRETCHES: u64 = 4;

/// The members' weights as policies use them: at most [`WIDEST`] apart.
pub(super) fn effective_weights<E: Endpoint>(members: &[Member<E>]) -> Vec<u64> {
    // Read each weight once: with many members, each read is a cache miss.
    let mut weights: Vec<u64> = members
        .iter()
        .map(|member| member.weight().get().into())
        .collect();
    let heaviest = weights.iter().copied().max().unwrap_or(0);
    // At least 1, in case of members with weight 0. A fleet passes none.
    let lightest = heaviest.div_ceil(WIDEST).max(1);
    for weight in &mut weights {
        *weight = lightest.max(*weight);
    }
    weights
}

/// Cumulative weights with a guide table. Finding a point takes O(1) steps on average and O(log n) at worst, whatever
/// the weights.
#[derive(Debug)]
pub(super) struct Cumulative {
    /// The end of each member's interval.
    ends: Box<[u64]>,
    /// For each stretch of 2^shift points, the member that its first point belongs to.
    guide: Box<[u32]>,
    shift: u32,
    total: u64,
}

impl Cumulative {
    /// Builds the table. No weight may be 0.
    pub(super) fn new(weights: &[u64]) -> Self {
        Self::with_stretches(STRETCHES, weights)
    }

    /// Builds a table that takes half the memory and is built in half the time, where few points are looked up.
    pub(super) fn coarse(weights: &[u64]) -> Self {
        Self::with_stretches(1, weights)
    }

    fn with_stretches(of_each: u64, weights: &[u64]) -> Self {
        let ends: Box<[u64]> = weights
            .iter()
            .scan(0u64, |end, &weight| {
                *end += weight;
                Some(*end)
            })
            .collect();
        let total = ends.last().copied().unwrap_or(0);
        let stretches = of_each * weights.len() as u64;
        let shift = (0..64)
            .find(|shift| total >> shift <= stretches)
            .unwrap_or(0);
        let mut member = 0;
        let guide = (0..=total >> shift)
            .map(|stretch| {
                while member + 1 < ends.len() && ends[member] <= stretch << shift {
                    member += 1;
                }
                member as u32
            })
            .collect();
        Self {
            ends,
            guide,
            shift,
            total,
        }
    }

    #[inline]
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The length of a member's interval.
    #[inline]
    pub(super) fn weight(&self, index: usize) -> u64 {
        self.ends[index] - self.start(index)
    }

    #[inline]
    fn start(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Finds the member whose interval contains a point below the total; `None` if there is no member.
    #[inline]
    pub(super) fn locate(&self, point: u64) -> Option<usize> {
        let stretch = (point >> self.shift) as usize;
        let first = *self.guide.get(stretch)? as usize;
        // The member is nearly always the first of the stretch or the next one. No branch decides between the two, as
        // it would be mispredicted.
        let near = first + usize::from(*self.ends.get(first)? <= point);
        if *self.ends.get(near)? > point {
            return Some(near);
        }
        self.locate_after(near, stretch, point)
    }

    #[cold]
    fn locate_after(&self, near: usize, stretch: usize, point: u64) -> Option<usize> {
        let end = self.ends.len() - 1;
        let last = self
            .guide
            .get(stretch + 1)
            .map_or(end, |&last| last as usize);
        let after = self
            .ends
            .get(near..=last)?
            .partition_point(|&end| end <= point);
        Some(near + after)
    }

    /// Draws a member by weight.
    #[inline]
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        self.locate(below(self.total(), random))
    }

    /// Draws by weight among all members but one, by cutting that one's interval out.
    #[inline]
    pub(super) fn draw_other(&self, than: usize, random: u64) -> Option<usize> {
        let end = self.ends[than];
        let start = self.start(than);
        let rest = self.total() - (end - start);
        if rest == 0 {
            return None;
        }
        let point = below(rest, random);
        self.locate(if point < start {
            point
        } else {
            point + (end - start)
        })
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(
            prop_oneof![
                1u64..10,
                Just(1),
                Just(u64::from(u32::MAX)),
                1u64..=u64::from(u32::MAX)
            ],
            1..200,
        )
    }

    proptest! {
        /// Compares with a linear walk over the weights.
        #[test]
        fn a_draw_finds_what_a_linear_walk_finds(weights in weights(), random: u64) {
            let table = Cumulative::new(&weights);
            let point = below(weights.iter().sum(), random);
            let mut left = point;
            let mut walk = 0;
            while left >= weights[walk] {
                left -= weights[walk];
                walk += 1;
            }
            prop_assert_eq!(table.locate(point), Some(walk));
            prop_assert_eq!(Cumulative::coarse(&weights).locate(point), Some(walk));
            prop_assert!(table.guide.len() <= STRETCHES as usize * weights.len() + 1);
        }

        #[test]
        fn a_second_draw_differs_from_the_first(weights in weights(), first: u64, second: u64) {
            let table = Cumulative::new(&weights);
            let first = table.draw(first).unwrap();
            match table.draw_other(first, second) {
                Some(other) => prop_assert_ne!(other, first),
                None => prop_assert_eq!(weights.len(), 1),
            }
        }
    }

    #[test]
    fn the_second_draw_is_by_weight_among_the_rest() {
        let table = Cumulative::new(&[5, 3, 2]);
        let mut seen = [0; 3];
        for point in 0..7u64 {
            let random = ((u128::from(point) << 64) / 7 + (1 << 32)) as u64;
            seen[table.draw_other(1, random).unwrap()] += 1;
        }
        assert_eq!(seen, [5, 0, 2]);
    }

    #[test]
    fn an_empty_set_yields_no_member() {
        assert_eq!(Cumulative::new(&[]).draw(7), None);
    }

    #[test]
    fn ten_thousand_of_the_heaviest_do_not_overflow() {
        let table = Cumulative::new(&[u64::from(u32::MAX); 10_000]);
        assert_eq!(table.draw(0), Some(0));
        assert_eq!(table.draw(u64::MAX), Some(9_999));
    }
}
