//! The order in which a weighted round robin visits its members. Pure: a position in, a member out.

use std::borrow::Cow;

use super::cumulative::Cumulative;
use crate::shared::{GOLDEN, below};
use spread::spread;

mod spread;

/// Longest exact table, in entries a member. Beyond, weights are so uneven that a table would be
/// mostly one member's.
const LONGEST: u64 = 16;

/// But so many in any case: a page of memory, where members are few.
const PAGE: u64 = 1024;

/// A sequence of members, each as often as its weight says, spread evenly.
#[derive(Debug)]
pub(super) enum Schedule {
    /// All weights are equal: one after the other.
    Equal(Turns),
    /// One whole cycle, exact: each member `weight / gcd` times.
    Exact(Turns, Box<[u32]>),
    /// The multiples of the golden ratio, mod 1, on the line of cumulative weights: endless and even. A
    /// Kronecker sequence keeps within O(log n) of exact after n picks, and the golden ratio has the
    /// smallest constant. How far it strays is
    /// measured by `the_golden_line_strays_by_less_than_seven_in_a_million`; it takes ten times the picks
    /// to stray by one more.
    Golden(Cumulative),
}

impl Schedule {
    /// None of the weights is 0.
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

    /// Who is at this position; `None` if there is nobody.
    pub(super) fn at(&self, position: u64) -> Option<usize> {
        match self {
            Self::Golden(line) => line.draw(position.wrapping_mul(GOLDEN)),
            _ => self.in_turn(position),
        }
    }

    /// The same where it is found at once; `None` on the golden line, too.
    #[inline]
    pub(super) fn in_turn(&self, position: u64) -> Option<usize> {
        match self {
            Self::Exact(turns, cycle) => cycle.get(turns.at(position)).map(|&at| at as usize),
            Self::Equal(turns) => (turns.length > 0).then(|| turns.at(position)),
            Self::Golden(_) => None,
        }
    }

    /// Who is at a random position.
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        match self {
            Self::Equal(turns) if turns.length == 0 => None,
            Self::Equal(turns) => Some(below(turns.length, random) as usize),
            Self::Exact(turns, cycle) => Some(cycle[below(turns.length, random) as usize] as usize),
            Self::Golden(line) => line.draw(random),
        }
    }
}

/// Positions taken round and round: the remainder by the length, without a division, which takes as long as all the
/// rest of a choice.
///
/// A position times 2^64 / length, modulo 2^64, is how far round it is; the middle of a place is asked for, so that
/// rounding moves nobody. As the factor is rounded up, one place is passed over once in more than 2^64 / length positions: in
/// 10^12 with the longest table there can be, and not where positions wrap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    length: u64,
    /// 2^64 / length, rounded up.
    step: u64,
}

impl Turns {
    const fn of(length: u64) -> Self {
        // For 1 it is 2^64, which is 0.
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

/// A cycle of `length` slots in which member i stands `counts[i]` times: those of one count share the
/// slots that [`spread()`] gives to all of them, in turn. So a table for ten thousand members of ten weights
/// takes as long as one for ten members. After any number of slots, all of one count are less than one visit
/// off their share together, and they take turns, so each is less than two off its own.
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
    spread(&shares, length, turn)
}

/// The members by their counts, and where those of each count begin: sorted without comparisons, as no count is above the
/// table's length.
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
        // Envoy's case 51: 8256 picks, member i exactly i + 1 times. As 8256 > 16 · 128, a fleet walks
        // the golden line, which may be 5 off; the table, asked beside it, is exact.
        let weights: Vec<u64> = (1..=128).collect();
        let length = weights.iter().sum();
        let mut seen = vec![0u64; 128];
        spread(&weights, length, |member| member)
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
    fn one_heavy_among_fifty_light_is_every_other() {
        let mut weights = vec![1; 51];
        weights[20] = 50;
        let picks = picks(&weights, 0..100);
        assert!(picks.chunks(2).all(|pair| pair.contains(&20)), "{picks:?}");
    }

    /// The most that any stretch of the line, wherever it lies and however long it is, can be off its due
    /// after so many picks from any beginning. Exact: with the points x sorted and n of them, the count
    /// in a stretch between two of them is off by a difference of f(i) = i - n·x(i), and by 1 at most for
    /// its ends.
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

    /// The numbers of picks are the worst ones that a search found, up to each power of ten; sums of
    /// every other Fibonacci number are the bad ones.
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
    fn nobody_is_nobody() {
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
        /// Naive model: a share is weight / sum. Every prefix of a table is within two visits of it, and
        /// any 20 000 picks of the golden line within 5 (see there); nobody waits for more than twice
        /// its ideal gap.
        #[test]
        fn every_prefix_is_close_and_no_gap_is_wide(weights in uneven(), start in 0u64..1 << 60) {
            let schedule = Schedule::new(&weights);
            let total: u64 = weights.iter().sum();
            let exact = matches!(schedule, Schedule::Exact(..) | Schedule::Equal(_));
            // A table is asked from its beginning; the golden line anywhere.
            let start = if exact { 0 } else { start };
            let bound = if exact { 2.0 } else { 5.0 };
            let mut seen = vec![0u64; weights.len()];
            let mut last = vec![None; weights.len()];
            for step in 0..20_000u64 {
                let member = schedule.at(start + step).unwrap();
                seen[member] += 1;
                if let Some(last) = last[member].replace(step) {
                    let ideal = total as f64 / weights[member] as f64;
                    // Gaps are whole: a window of two ideal gaps may touch one slot more.
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

        /// Positions are remainders as far as anybody counts, and go on evenly from wherever they begin, also over the end
        /// of their range.
        #[test]
        fn turns_are_remainders(length in 1u64..1 << 24, start in any::<u64>(), few in 0u64..1 << 32) {
            let turns = Turns::of(length);
            prop_assert_eq!(turns.at(few) as u64, few % length);
            let next = |position: u64| (turns.at(position) as u64 + 1) % length;
            for start in [start, u64::MAX - 50] {
                // A place is passed over once in 2^40 positions at least: here, with a chance of 1 in 10^9.
                for position in (0..100).map(|step| start.wrapping_add(step)) {
                    prop_assert_eq!(turns.at(position.wrapping_add(1)) as u64, next(position));
                }
            }
        }

        #[test]
        fn a_cycle_holds_everybody_exactly(counts in prop::collection::vec(1u64..30, 1..60)) {
            let length: u64 = counts.iter().sum();
            let mut seen = vec![0u64; counts.len()];
            rotate(&counts, length).iter().for_each(|&member| seen[member as usize] += 1);
            prop_assert_eq!(seen, counts);
        }
    }
}
