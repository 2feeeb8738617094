//! The order in which a weighted round robin visits its members. Pure: a position in, a member out.

use std::borrow::Cow;

use super::cumulative::Cumulative;
use crate::shared::{GOLDEN, below};
use spread::{Part, spread};

mod spread;

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
    /// The multiples of the golden ratio, mod 1, on the line of cumulative weights: endless and even. A Kronecker
    /// sequence stays within O(log n) of exact after n picks, and the golden ratio has the smallest constant. The test
    /// `the_golden_line_strays_by_less_than_seven_in_a_million` measures how far it strays; it takes ten times the
    /// picks to stray by one more. No sequence stays within a constant of exact for all intervals (Schmidt 1972). One
    /// that stays within it for the intervals at hand needs a table as long as the sum of the weights, or a search
    /// among the members on each pick.
    Golden(Cumulative),
}

impl Schedule {
    /// Builds the schedule. No weight may be 0.
    pub(super) fn new(weights: &[u64]) -> Self {
        debug_assert!(weights.iter().all(|&weight| weight > 0));
        let counts = lowest_terms(weights);
        let members = weights.len() as u64;
        match counts.iter().sum::<u64>() {
            length if length == members => Self::Equal(Turns::of(length)),
            length if length <= (LONGEST * members).max(PAGE) => {
                Self::Exact(Turns::of(length), rotate(&counts, length))
            }
            _ => Self::Golden(Cumulative::new(weights)),
        }
    }

    /// The member at this position; `None` if there is no member.
    pub(super) fn at(&self, position: u64) -> Option<usize> {
        match self {
            Self::Golden(line) => line.draw(position.wrapping_mul(GOLDEN)),
            _ => self.in_turn(position),
        }
    }

    /// As `at` where a table lookup is enough; `None` also for the golden ratio's sequence.
    #[inline]
    pub(super) fn in_turn(&self, position: u64) -> Option<usize> {
        match self {
            Self::Exact(turns, cycle) => cycle.get(turns.at(position)).map(|&at| at as usize),
            Self::Equal(turns) => (turns.length > 0).then(|| turns.at(position)),
            Self::Golden(_) => None,
        }
    }

    /// The member at a random position.
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        match self {
            Self::Equal(turns) if turns.length == 0 => None,
            Self::Equal(turns) => Some(below(turns.length, random) as usize),
            Self::Exact(turns, cycle) => Some(cycle[below(turns.length, random) as usize] as usize),
            Self::Golden(line) => line.draw(random),
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
    let (members, starts) = by_count(counts);
    let alike: Vec<&[u32]> = starts
        .windows(2)
        .filter(|pair| pair[0] < pair[1])
        .map(|pair| &members[pair[0] as usize..pair[1] as usize])
        .collect();
    let shares: Vec<u64> = alike
        .iter()
        .map(|group| group.len() as u64 * counts[group[0] as usize])
        .collect();
    let mut turns: Vec<_> = alike.iter().map(|group| group.iter().cycle()).collect();
    let turn = |group: u32| turns[group as usize].next().copied().unwrap_or(0);
    spread(&shares, length, part_of(&alike), turn)
}

/// How much of the cycle of these groups has to be computed.
fn part_of(groups: &[&[u32]]) -> Part {
    match groups.iter().all(|group| group.len() >= MANY) {
        true => Part::Half,
        false => Part::All,
    }
}

/// Sorts the members by count, and returns where those of each count begin. It is a counting sort, as no count exceeds
/// the table's length.
fn by_count(counts: &[u64]) -> (Vec<u32>, Vec<u32>) {
    let most = counts.iter().copied().max().unwrap_or(0) as usize;
    let mut starts = vec![0u32; most + 2];
    counts
        .iter()
        .for_each(|&count| starts[count as usize + 1] += 1);
    let mut before = 0;
    for start in &mut starts {
        before += *start;
        *start = before;
    }
    let mut next = starts.clone();
    let mut members = vec![0; counts.len()];
    for (member, &count) in (0u32..).zip(counts) {
        let place = &mut next[count as usize];
        members[*place as usize] = member;
        *place += 1;
    }
    (members, starts)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picks(weights: &[u64], range: std::ops::Range<u64>) -> Vec<usize> {
        let schedule = Schedule::new(weights);
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
        // Envoy's case 51: 8256 picks, member i exactly i + 1 times. As 8256 > 16 · 128, a fleet uses the golden
        // ratio's sequence, which may be 5 off. The table, checked beside it, is exact.
        let weights: Vec<u64> = (1..=128).collect();
        let length = weights.iter().sum();
        let mut seen = vec![0u64; 128];
        spread(&weights, length, Part::All, |member| member)
            .iter()
            .for_each(|&member| seen[member as usize] += 1);
        assert_eq!(seen, weights);
        let mut seen = vec![0i64; 128];
        picks(&weights, 0..length)
            .into_iter()
            .for_each(|member| seen[member] += 1);
        assert!(
            seen.iter()
                .zip(1..)
                .all(|(&seen, weight): (_, i64)| (seen - weight).abs() <= 3)
        );
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
        let group = |members| vec![0; members];
        assert_eq!(part_of(&[&group(32), &group(100)]), Part::Half);
        assert_eq!(part_of(&[&group(31), &group(100)]), Part::All);
    }

    /// The most that any interval of the line, wherever it lies and however long it is, can be off its share after this
    /// many picks from any start. It is exact: with the n points x sorted, the count in an interval between two of them
    /// is off by a difference of f(i) = i - n·x(i), and its ends add at most 1.
    fn most_off(picks: u64) -> f64 {
        let mut points: Vec<u64> = (0..picks).map(|pick| pick.wrapping_mul(GOLDEN)).collect();
        points.sort_unstable();
        let place = |point: u64| picks as f64 * (point as f64 / 2f64.powi(64));
        let off = points
            .iter()
            .enumerate()
            .map(|(i, &point)| i as f64 - place(point));
        let (least, most) = off.fold((f64::MAX, f64::MIN), |(least, most), off| {
            (least.min(off), most.max(off))
        });
        most - least + 1.0
    }

    /// The numbers of picks are the worst that a search found up to each power of ten; sums of every other Fibonacci
    /// number are the bad ones.
    #[test]
    fn the_golden_line_strays_by_less_than_seven_in_a_million() {
        let found = [
            (3_740, 4.3),
            (9_855, 4.7),
            (96_203, 5.6),
            (974_169, 6.7),
            (976_818, 6.5),
        ];
        for (picks, bound) in found {
            let off = most_off(picks);
            println!("{off} after {picks} picks");
            assert!(
                (bound - 0.2..bound).contains(&off),
                "{off} after {picks} picks"
            );
        }
        assert!((1..1000).map(most_off).fold(0.0, f64::max) < 4.3);
    }

    #[test]
    fn an_empty_set_yields_no_member() {
        assert_eq!(Schedule::new(&[]).at(3), None);
        assert_eq!(Schedule::new(&[]).draw(3), None);
    }

    #[test]
    fn the_lightest_beside_the_heaviest_is_not_forgotten() {
        let schedule = Schedule::new(&[65_536, u64::from(u32::MAX)]);
        // Its share is 1 in 65 537: 10 visits, give or take 5.
        let seen = (0..655_370)
            .filter(|&position| schedule.at(position) == Some(0))
            .count();
        assert!((5..=15).contains(&seen), "{seen}");
    }

    fn uneven() -> impl Strategy<Value = Vec<u64>> {
        prop_oneof![
            prop::collection::vec(1u64..20, 2..40),
            prop::collection::vec(prop_oneof![Just(1u64), 1u64..1000, 1u64..65_536], 2..40),
        ]
    }

    proptest! {
        /// Naive model: a share is weight / sum. Every prefix of a table is within two visits of it, and any 20 000
        /// picks of the golden ratio's sequence within 5 (see there). No member waits more than twice its ideal gap.
        #[test]
        fn every_prefix_is_close_and_no_gap_is_wide(weights in uneven(), start in 0u64..1 << 60) {
            let schedule = Schedule::new(&weights);
            let total: u64 = weights.iter().sum();
            let exact = matches!(schedule, Schedule::Exact(..) | Schedule::Equal(_));
            // A table is read from its beginning, the golden ratio's sequence from anywhere.
            let start = if exact { 0 } else { start };
            let bound = if exact { 2.0 } else { 5.0 };
            let mut seen = vec![0u64; weights.len()];
            let mut last = vec![None; weights.len()];
            for step in 0..20_000u64 {
                let member = schedule.at(start + step).unwrap();
                seen[member] += 1;
                if let Some(last) = last[member].replace(step) {
                    let ideal = total as f64 / weights[member] as f64;
                    // Gaps are whole numbers: a window of two ideal gaps may touch one slot more.
                    prop_assert!((step - last) as f64 <= 2.0 * ideal + 1.0, "gap {} of {ideal}", step - last);
                }
                if step % 97 == 0 {
                    for (&seen, &weight) in seen.iter().zip(&weights) {
                        let share = (step + 1) as f64 * weight as f64 / total as f64;
                        prop_assert!((seen as f64 - share).abs() <= bound + 1e-9, "{seen} for {share}");
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
