//! Spreads visits evenly over the slots of a cycle.

use super::calendar::Calendar;
use super::order::Order;
use super::scan::Scan;
use super::visits::from_start;

/// How much of a cycle is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// The first half; the last one is the first read backwards. It takes little more than half the time. Two visits
    /// of a member may stand next to each other in the middle, and where the cycle begins again, so this is for visits
    /// that many members share.
    Half,
}

/// Builds a cycle of `length` slots in which member i comes `counts[i]` times.
///
/// Its k-th visit lies at slot `floor(k·length/count)` or later, and before slot `ceil((k+1)·length/count)`. Of the
/// members that may take a slot, the one with the earliest deadline takes it, in the part that is computed. A schedule
/// within such windows exists, and earliest deadline first finds it (pfair scheduling: Baruah, Cohen, Plaxton, Varvel
/// 1996, on one processor). So after any number of slots every member is less than one visit from its share.
///
/// Without the earliest slots, fifty light members would all come at once, and a heavy one would wait for them.
///
/// `turn` maps the member whose visit it is to the entry of the cycle.
pub(super) fn spread(
    counts: &[u64],
    length: u64,
    part: Part,
    turn: impl FnMut(u32) -> u32,
) -> Box<[u32]> {
    let visits = from_start(counts, length);
    match counts.len() {
        ..=4 => build(counts, length, part, Scan::<4>::new(visits), turn),
        5..=10 => build(counts, length, part, Scan::<10>::new(visits), turn),
        11..=16 => build(counts, length, part, Scan::<16>::new(visits), turn),
        _ => build(counts, length, part, Calendar::new(visits), turn),
    }
}

fn build(
    counts: &[u64],
    length: u64,
    part: Part,
    mut order: impl Order,
    mut turn: impl FnMut(u32) -> u32,
) -> Box<[u32]> {
    if part == Part::Half {
        return mirrored(counts, length as usize, order, turn);
    }
    (0..length).map(|_| turn(order.next())).collect()
}

/// Computes the first half and reads it backwards for the last one. The window of the first visit read backwards is
/// that of the last, and so on, so both halves keep to the windows.
///
/// At the middle the halves may hold some members once too often together and others not often enough. The last one
/// then gives up slots from the middle on until it holds none too often. They go to the visits that are missing, again
/// by deadline, and there is a slot in time for each: the visits due before a slot in this gap have room from the left
/// end on, since the first half goes on like that; those that may not come before a slot have room up to the right end,
/// by the same argument backwards; those with both ends in the gap are no more than its slots, as in any schedule; and
/// all together are as many as slots.
fn mirrored(
    counts: &[u64],
    length: usize,
    mut order: impl Order,
    mut turn: impl FnMut(u32) -> u32,
) -> Box<[u32]> {
    let mut cycle = Vec::with_capacity(length);
    let mut take = |order: &mut _| {
        let member = Order::next(order);
        cycle.push(turn(member));
        member
    };
    let mut missing = Missing::of(counts);
    let half: Vec<u32> = (0..length.div_ceil(2))
        .map(|slot| {
            let member = take(&mut order);
            // The slot in the middle, if there is one, is its own counterpart.
            missing.add(member, if 2 * slot + 1 == length { -1 } else { -2 });
            member
        })
        .collect();
    let mut last = &half[..length / 2];
    while let (true, Some((&middle, rest))) = (missing.too_many > 0, last.split_last()) {
        missing.add(middle, 1);
        last = rest;
    }
    let all = 0..counts.len() as u32;
    all.filter(|&member| missing.has_none(member))
        .for_each(|member| order.withdraw(member));
    for _ in half.len()..length - last.len() {
        let member = take(&mut order);
        missing.add(member, -1);
        if missing.has_none(member) {
            order.withdraw(member);
        }
    }
    cycle.extend(last.iter().rev().map(|&member| turn(member)));
    cycle.into()
}

/// How many visits of each member a cycle does not hold yet; negative if it holds too many.
struct Missing {
    visits: Vec<i64>,
    /// Of how many members it holds too many.
    too_many: usize,
}

impl Missing {
    fn of(counts: &[u64]) -> Self {
        Self {
            visits: counts.iter().map(|&count| count as i64).collect(),
            too_many: 0,
        }
    }

    fn add(&mut self, member: u32, more: i64) {
        let visits = &mut self.visits[member as usize];
        self.too_many -= usize::from(*visits < 0);
        *visits += more;
        self.too_many += usize::from(*visits < 0);
    }

    fn has_none(&self, member: u32) -> bool {
        self.visits[member as usize] == 0
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts() -> impl Strategy<Value = Vec<u64>> {
        let count = prop_oneof![1u64..200, 1u64..4, 1u64..20_000];
        prop::collection::vec(count, 1..=32)
    }

    /// Each member's slots, in order.
    fn slots_of(cycle: &[u32], members: usize) -> Vec<Vec<u64>> {
        let mut slots = vec![Vec::new(); members];
        for (slot, &member) in (0u64..).zip(cycle) {
            slots[member as usize].push(slot);
        }
        slots
    }

    proptest! {
        #[test]
        fn each_visit_lies_within_its_window(counts in counts()) {
            let length = counts.iter().sum();
            for (part, few) in [(Part::All, true), (Part::Half, true), (Part::All, false), (Part::Half, false)] {
                let whose = |member| member;
                let cycle = match few {
                    true => spread(&counts, length, part, whose),
                    false => build(&counts, length, part, Calendar::new(from_start(&counts, length)), whose),
                };
                prop_assert_eq!(cycle.len() as u64, length);
                for (slots, &count) in slots_of(&cycle, counts.len()).iter().zip(&counts) {
                    prop_assert_eq!(slots.len() as u64, count);
                    for (k, &slot) in (0u64..).zip(slots) {
                        let window = k * length / count..((k + 1) * length).div_ceil(count);
                        prop_assert!(window.contains(&slot));
                    }
                }
            }
        }
    }
}
