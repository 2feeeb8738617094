//! The order in which a weighted round robin visits its members: the tables, and what computes them. Pure: a position
//! in, a member out.

use std::borrow::Cow;

use crate::shared::below;
pub(super) use alike::Alike;
pub(super) use order::{Order, order_of};
use spread::{Part, spread};
pub(super) use visits::from_within;

mod alike;
mod calendar;
mod order;
mod scan;
mod spread;
mod visits;

/// The longest exact table, in entries per member. Beyond it, weights are so uneven that one member would fill most of
/// the table.
const LONGEST: u64 = 16;

/// The length that a table may have with any number of members: a page of memory.
const PAGE: u64 = 1024;

/// With this many members of equal weight it hardly matters where exactly the visits lie that they share: between two
/// visits of one lie those of all others, so its distances vary by one part in this many.
const MANY: usize = 32;

/// A sequence of members in which each comes as often as its weight says, evenly spread.
#[derive(Debug)]
pub(super) enum Schedule {
    /// All weights are equal: the members come one after the other.
    Equal(Turns),
    /// One whole cycle, exact: each member comes `weight / gcd` times.
    Exact(Turns, Box<[u32]>),
}

impl Schedule {
    /// Builds the table; `None` if it would be too long. No weight may be 0.
    pub(super) fn new(weights: &[u64]) -> Option<Self> {
        debug_assert!(weights.iter().all(|&weight| weight > 0));
        let counts = lowest_terms(weights);
        let members = weights.len() as u64;
        match counts.iter().sum::<u64>() {
            length if length == members => Some(Self::Equal(Turns::of(length))),
            length if length <= (LONGEST * members).max(PAGE) => {
                Some(Self::Exact(Turns::of(length), rotate(&counts, length)))
            }
            _ => None,
        }
    }

    /// The member at this position; `None` if there is no member.
    #[inline]
    pub(super) fn at(&self, position: u64) -> Option<usize> {
        match self {
            Self::Exact(turns, cycle) => cycle.get(turns.at(position)).map(|&at| at as usize),
            Self::Equal(turns) => (turns.length > 0).then(|| turns.at(position)),
        }
    }

    /// The member at a random position.
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        match self {
            Self::Equal(turns) if turns.length == 0 => None,
            Self::Equal(turns) => Some(below(turns.length, random) as usize),
            Self::Exact(turns, cycle) => Some(cycle[below(turns.length, random) as usize] as usize),
        }
    }
}

/// Maps positions to a cycle: the remainder by the length, without a division, which takes as long as the rest of a
/// choice.
///
/// A position times 2^64 / length, modulo 2^64, is how far round the cycle it is. Half a step is added, so that
/// rounding does not reach a neighbouring slot. As the factor is rounded up, one slot is skipped once in more than 2^64
/// / length positions: 10^12 with the longest possible table. No slot is skipped where positions wrap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    length: u64,
    /// 2^64 / length, rounded up.
    step: u64,
}

impl Turns {
    const fn of(length: u64) -> Self {
        // For length 1 this is 2^64, which wraps to 0.
        let step = match u64::MAX.checked_div(length) {
            Some(most) => most.wrapping_add(1),
            None => 0,
        };
        Self { length, step }
    }

    #[inline]
    const fn at(self, position: u64) -> usize {
        let middle = position.wrapping_mul(self.step).wrapping_add(self.step / 2);
        below(self.length, middle) as usize
    }
}

/// The smallest weights of the same proportions.
fn lowest_terms(weights: &[u64]) -> Cow<'_, [u64]> {
    let mut divisor = 0;
    for &weight in weights {
        divisor = gcd(divisor, weight);
        if divisor == 1 {
            return weights.into();
        }
    }
    let divisor = divisor.max(1);
    weights.iter().map(|weight| weight / divisor).collect()
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Builds a cycle of `length` slots in which member i comes `counts[i]` times. Members of equal count share the slots
/// that [`spread()`] gives to all of them, in turn, so a table for ten thousand members of ten different weights takes
/// as long as one for ten members. After any number of slots, the members of one count together are less than one visit
/// off their share. As they take turns, each is less than two off its own.
fn rotate(counts: &[u64], length: u64) -> Box<[u32]> {
    let alike = Alike::new(counts);
    let mut turns: Vec<_> = alike.groups().map(|group| group.iter().cycle()).collect();
    let turn = |group: u32| turns[group as usize].next().copied().unwrap_or(0);
    spread(&alike.weights(counts), length, part_of(&alike), turn)
}

/// How much of the cycle of these groups has to be computed.
fn part_of(alike: &Alike) -> Part {
    match alike.groups().all(|group| group.len() >= MANY) {
        true => Part::Half,
        false => Part::All,
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picks(weights: &[u64], range: std::ops::Range<u64>) -> Vec<usize> {
        let schedule = Schedule::new(weights).expect("they fit a table");
        range.filter_map(|position| schedule.at(position)).collect()
    }

    #[test]
    fn one_to_two() {
        // Envoy's case 45.
        assert_eq!(picks(&[1, 2], 0..6), [1, 0, 1, 1, 0, 1]);
        assert_eq!(picks(&[20, 40], 0..3), [1, 0, 1]);
    }

    #[test]
    fn a_hundred_and_twenty_eight_rising_weights() {
        // Envoy's case 51: 8256 picks, member i exactly i + 1 times. As 8256 > 16 · 128, a fleet has no table of this
        // cycle; `tests/round_robin.rs` has what it does instead.
        let weights: Vec<u64> = (1..=128).collect();
        let length = weights.iter().sum();
        let mut seen = vec![0u64; 128];
        spread(&weights, length, Part::All, |member| member)
            .iter()
            .for_each(|&member| seen[member as usize] += 1);
        assert_eq!(seen, weights);
        assert!(Schedule::new(&weights).is_none());
    }

    #[test]
    fn equal_weights_go_one_after_the_other() {
        let expected: Vec<usize> = (0..128).cycle().take(300).collect();
        assert_eq!(picks(&[7; 128], 0..300), expected);
    }

    #[test]
    fn one_heavy_member_among_fifty_light_ones_gets_every_other_pick() {
        let mut weights = vec![1; 51];
        weights[20] = 50;
        let picks = picks(&weights, 0..100);
        assert!(picks.chunks(2).all(|pair| pair.contains(&20)), "{picks:?}");
    }

    /// The distances between a member's visits, over the cycle's end too.
    fn distances(weights: &[u64], member: usize) -> Vec<u64> {
        let length: u64 = weights.iter().sum();
        let picks = picks(weights, 0..2 * length);
        let at = (0u64..).zip(picks).filter(|(_, pick)| *pick == member);
        let at: Vec<u64> = at.map(|(at, _)| at).collect();
        at.windows(2).map(|two| two[1] - two[0]).collect()
    }

    /// A cycle whose last half is the first one backwards would bring the two visits next to each other.
    #[test]
    fn a_light_member_comes_at_even_distances() {
        let beside_many = |light: u64| {
            let mut weights = vec![9; 40];
            weights.push(light);
            weights
        };
        let cases = [
            (vec![49, 49, 2], 50),
            (vec![10, 9, 2], 10),
            (vec![9, 9, 2], 10),
            (beside_many(2), 181),
            (beside_many(4), 91),
        ];
        for (weights, ideal) in cases {
            let distances = distances(&weights, weights.len() - 1);
            let even = ideal - 1..=ideal + 1;
            assert!(
                distances.iter().all(|one| even.contains(one)),
                "{distances:?}"
            );
        }
    }

    /// The n members of a group share its visits, which lie in windows side by side. So a member's visits are n - 1 to
    /// n + 1 windows apart, and a window begins and ends at a whole slot.
    #[test]
    fn members_of_large_groups_come_at_even_distances() {
        for (members, of_each) in [(3 * 32, 32), (3 * 39, 39), (2 * 100, 100)] {
            let weights: Vec<u64> = (0..members)
                .map(|member| 2 * (member / of_each) + 1)
                .collect();
            let length: u64 = weights.iter().sum();
            for member in 0..weights.len() {
                let ideal = length as f64 / weights[member] as f64;
                let off = ideal / of_each as f64 + 1.0;
                for distance in distances(&weights, member) {
                    assert!(
                        (distance as f64 - ideal).abs() <= off,
                        "{distance} for {ideal}"
                    );
                }
            }
        }
    }

    #[test]
    fn half_a_cycle_is_computed_where_all_groups_are_large() {
        let groups = |one, other| Alike::new(&[vec![3; one], vec![5; other]].concat());
        assert_eq!(part_of(&groups(32, 100)), Part::Half);
        assert_eq!(part_of(&groups(31, 100)), Part::All);
    }

    #[test]
    fn an_empty_set_yields_no_member() {
        let table = Schedule::new(&[]).unwrap();
        assert_eq!((table.at(3), table.draw(3)), (None, None));
    }

    proptest! {
        /// Naive model: a share is weight / sum. Every prefix is within two visits of it, and no member waits for more
        /// than twice its ideal gap.
        #[test]
        fn every_prefix_is_close_and_no_gap_is_wide(weights in prop::collection::vec(1u64..25, 2..40)) {
            let table = Schedule::new(&weights).unwrap();
            let total: u64 = weights.iter().sum();
            let mut seen = vec![0u64; weights.len()];
            let mut last = vec![None; weights.len()];
            for position in 0..20_000u64 {
                let member = table.at(position).unwrap();
                seen[member] += 1;
                if let Some(last) = last[member].replace(position) {
                    let ideal = total as f64 / weights[member] as f64;
                    // Gaps are whole numbers: a window of two ideal gaps may touch one slot more.
                    prop_assert!((position - last) as f64 <= 2.0 * ideal + 1.0, "{} for {ideal}", position - last);
                }
                if position % 97 == 0 {
                    for (&seen, &weight) in seen.iter().zip(&weights) {
                        let share = (position + 1) as f64 * weight as f64 / total as f64;
                        prop_assert!((seen as f64 - share).abs() <= 2.0 + 1e-9, "{seen} for {share}");
                    }
                }
            }
        }

        /// Positions are remainders over any practical range, and advance evenly from any start, also across the wrap.
        #[test]
        fn turns_are_remainders(length in 1u64..1 << 24, start in any::<u64>(), few in 0u64..1 << 32) {
            let turns = Turns::of(length);
            prop_assert_eq!(turns.at(few) as u64, few % length);
            let next = |position: u64| (turns.at(position) as u64 + 1) % length;
            for start in [start, u64::MAX - 50] {
                // A slot is skipped once in at least 2^40 positions: here, with a probability of 1 in 10^9.
                for position in (0..100).map(|step| start.wrapping_add(step)) {
                    prop_assert_eq!(turns.at(position.wrapping_add(1)) as u64, next(position));
                }
            }
        }

        #[test]
        fn a_cycle_visits_each_member_exactly_by_weight(counts in prop::collection::vec(1u64..30, 1..60)) {
            let length: u64 = counts.iter().sum();
            let mut seen = vec![0u64; counts.len()];
            rotate(&counts, length).iter().for_each(|&member| seen[member as usize] += 1);
            prop_assert_eq!(seen, counts);
        }
    }
}
