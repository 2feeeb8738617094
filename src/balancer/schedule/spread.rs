//! Spreads visits evenly over the slots of a cycle.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Up to this many members, a scan over all of them is quicker than a heap.
const FEW: usize = 16;

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
    match counts.len() {
        ..=4 => build(counts, length, part, Scan::<4>::new(counts, length), turn),
        5..=10 => build(counts, length, part, Scan::<10>::new(counts, length), turn),
        11..=FEW => build(counts, length, part, Scan::<FEW>::new(counts, length), turn),
        _ => build(counts, length, part, Heap::new(counts, length), turn),
    }
}

fn build(
    counts: &[u64],
    length: u64,
    part: Part,
    mut waiting: impl Waiting,
    mut turn: impl FnMut(u32) -> u32,
) -> Box<[u32]> {
    if part == Part::Half {
        return mirrored(counts, length as usize, waiting, turn);
    }
    let slots = 0..length as u32;
    slots.map(|slot| turn(waiting.next(slot))).collect()
}

/// The members that wait for their next visits.
trait Waiting {
    /// The member that takes this slot: of those that may, the one with the earliest deadline. Slots come in order.
    fn next(&mut self, slot: u32) -> u32;

    /// Takes a member out.
    fn withdraw(&mut self, member: u32);
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
    mut waiting: impl Waiting,
    mut turn: impl FnMut(u32) -> u32,
) -> Box<[u32]> {
    let mut cycle = Vec::with_capacity(length);
    let mut take = |waiting: &mut _, slot: usize| {
        let member = Waiting::next(waiting, slot as u32);
        cycle.push(turn(member));
        member
    };
    let mut missing = Missing::of(counts);
    let half: Vec<u32> = (0..length.div_ceil(2))
        .map(|slot| {
            let member = take(&mut waiting, slot);
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
        .for_each(|member| waiting.withdraw(member));
    for slot in half.len()..length - last.len() {
        let member = take(&mut waiting, slot);
        missing.add(member, -1);
        if missing.has_none(member) {
            waiting.withdraw(member);
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

/// Any number of members.
struct Heap<'a> {
    counts: &'a [u64],
    length: u64,
    /// For each slot, a linked list of the members whose next visit may not be earlier. Each member is in at most one.
    first_at: Vec<u32>,
    next_in_chain: Vec<u32>,
    visits: Vec<u64>,
    /// The members that may take a slot, by deadline, and those that were withdrawn since.
    ready: BinaryHeap<Reverse<(u64, u32)>>,
    withdrawn: Vec<bool>,
}

const NO_MEMBER: u32 = u32::MAX;

impl<'a> Heap<'a> {
    fn new(counts: &'a [u64], length: u64) -> Self {
        let mut heap = Self {
            counts,
            length,
            first_at: vec![NO_MEMBER; length as usize],
            next_in_chain: vec![NO_MEMBER; counts.len()],
            visits: vec![0; counts.len()],
            ready: BinaryHeap::with_capacity(counts.len()),
            withdrawn: vec![false; counts.len()],
        };
        (0..counts.len() as u32).for_each(|member| heap.is_ready(member));
        heap
    }

    fn is_ready(&mut self, member: u32) {
        let visits = self.visits[member as usize];
        let deadline = ((visits + 1) * self.length).div_ceil(self.counts[member as usize]);
        self.ready.push(Reverse((deadline, member)));
    }
}

impl Waiting for Heap<'_> {
    fn next(&mut self, slot: u32) -> u32 {
        let mut member = self.first_at[slot as usize];
        while member != NO_MEMBER {
            self.is_ready(member);
            member = self.next_in_chain[member as usize];
        }
        let is_in = |member: u32| !self.withdrawn[member as usize];
        let mut in_turn = std::iter::from_fn(|| self.ready.pop());
        // The windows leave no slot without a member.
        let member = in_turn.find_map(|Reverse((_, member))| is_in(member).then_some(member));
        let member = member.unwrap_or(0);
        let index = member as usize;
        self.visits[index] += 1;
        if self.visits[index] < self.counts[index] {
            let release = self.visits[index] * self.length / self.counts[index];
            let release = release.max(u64::from(slot) + 1) as usize;
            self.next_in_chain[index] = self.first_at[release];
            self.first_at[release] = member;
        }
        member
    }

    fn withdraw(&mut self, member: u32) {
        self.withdrawn[member as usize] = true;
    }
}

/// A member's visits one after the other, computed without a division for each.
#[derive(Clone, Copy)]
struct Visits {
    /// The first slot of the next visit's window,
    release: u32,
    /// and the end of the window, with the member in the lowest four bits so that ties go to the lowest member.
    deadline: u32,
    /// The first slot of the window after that, and the remainder that rounding down left, in parts of a slot.
    after: u32,
    over: u32,
    /// The distance from one window to the next: whole slots, and parts of a slot more.
    step: u32,
    more: u32,
    parts: u32,
}

impl Visits {
    /// A place without a member.
    const NONE: Self = Self {
        release: u32::MAX,
        deadline: u32::MAX,
        after: 0,
        over: 0,
        step: 0,
        more: 0,
        parts: 0,
    };

    /// The window of `member`'s first visit, and the state that yields its second.
    fn of(member: u32, count: u64, length: u64) -> (Slots, Self) {
        let (step, more) = ((length / count) as u32, (length % count) as u32);
        let mut visits = Self {
            deadline: member,
            step,
            more,
            parts: count as u32,
            ..Self::NONE
        };
        visits.advance();
        let first = visits.slots();
        visits.advance();
        (first, visits)
    }

    const fn slots(&self) -> Slots {
        Slots {
            release: self.release,
            deadline: self.deadline,
        }
    }

    /// Advances to the next visit: from `floor(k·length/count)`, and before `ceil((k+1)·length/count)`. After the last
    /// visit, the window starts at the end of the cycle.
    #[inline(always)]
    fn advance(&mut self) {
        let over = self.over + self.more;
        let is_whole = over >= self.parts;
        self.release = self.after;
        self.over = if is_whole { over - self.parts } else { over };
        self.after += self.step + u32::from(is_whole);
        let by = self.after + u32::from(self.over > 0);
        self.deadline = by << 4 | self.deadline & 15;
    }
}

/// The window of a visit.
#[derive(Clone, Copy)]
struct Slots {
    release: u32,
    deadline: u32,
}

/// At most `N` members. `N` is small enough for the compiler to unroll the scan. The longest table has 2^24 slots, so a
/// deadline leaves room for the member.
struct Scan<const N: usize> {
    next: [Slots; N],
    visits: [Visits; N],
}

impl<const N: usize> Scan<N> {
    fn new(counts: &[u64], length: u64) -> Self {
        let mut next = [Visits::NONE.slots(); N];
        let mut visits = [Visits::NONE; N];
        for (member, &count) in (0u32..).zip(counts) {
            let at = member as usize;
            (next[at], visits[at]) = Visits::of(member, count, length);
        }
        Self { next, visits }
    }
}

impl<const N: usize> Waiting for Scan<N> {
    #[inline(always)]
    fn next(&mut self, slot: u32) -> u32 {
        let mut first = u32::MAX;
        for of in &self.next {
            // Without a branch, as which members may take a slot changes all the time.
            let deadline = if of.release <= slot {
                of.deadline
            } else {
                u32::MAX
            };
            first = first.min(deadline);
        }
        let member = first & 15;
        // Computed in advance, so that the next slot does not wait for it.
        let (next, visits) = (
            &mut self.next[member as usize % N],
            &mut self.visits[member as usize % N],
        );
        *next = visits.slots();
        visits.advance();
        member
    }

    fn withdraw(&mut self, member: u32) {
        self.next[member as usize] = Visits::NONE.slots();
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts() -> impl Strategy<Value = Vec<u64>> {
        let count = prop_oneof![1u64..200, 1u64..4, 1u64..20_000];
        prop::collection::vec(count, 1..=2 * FEW)
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
            for part in [Part::All, Part::Half] {
                let cycle = spread(&counts, length, part, |member| member);
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

        /// With few members, the scan gives the same cycle as the heap.
        #[test]
        fn few_members_are_spread_alike_by_scan_and_heap(counts in prop::collection::vec(1u64..200, 1..=FEW)) {
            let (length, whose) = (counts.iter().sum(), |member| member);
            for part in [Part::All, Part::Half] {
                let by_heap = build(&counts, length, part, Heap::new(&counts, length), whose);
                prop_assert_eq!(spread(&counts, length, part, whose), by_heap);
            }
        }
    }
}
