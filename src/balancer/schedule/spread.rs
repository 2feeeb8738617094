//! Spreads visits evenly over the slots of a cycle.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Up to this many members, a scan over all of them is quicker than a heap.
const FEW: usize = 16;

/// Builds a cycle of `length` slots in which member i comes `counts[i]` times.
///
/// Its k-th visit lies at slot `floor(k·length/count)` or later, and before slot `ceil((k+1)·length/count)`. Of the
/// members that may take a slot, the one with the earliest deadline takes it. A schedule within such windows exists,
/// and earliest deadline first finds it (pfair scheduling: Baruah, Cohen, Plaxton, Varvel 1996, on one processor). So
/// after any number of slots every member is less than one visit from its share.
///
/// Without the earliest slots, fifty light members would all come at once, and a heavy one would wait for them.
///
/// `turn` maps the member whose visit it is to the entry of the cycle.
pub(super) fn spread(counts: &[u64], length: u64, turn: impl FnMut(u32) -> u32) -> Box<[u32]> {
    match counts.len() {
        ..=4 => walk::<4>(counts, length, turn),
        5..=10 => walk::<10>(counts, length, turn),
        11..=FEW => walk::<FEW>(counts, length, turn),
        _ => by_heap(counts, length, turn),
    }
}

/// As [`spread`], for any number of members.
fn by_heap(counts: &[u64], length: u64, mut turn: impl FnMut(u32) -> u32) -> Box<[u32]> {
    const NO_MEMBER: u32 = u32::MAX;
    let deadline =
        |member: u32, visits: u64| ((visits + 1) * length).div_ceil(counts[member as usize]);
    // For each slot, a linked list of the members whose next visit may not be earlier. Each member is in at most one.
    let mut first_at = vec![NO_MEMBER; length as usize];
    let mut next_in_chain = vec![NO_MEMBER; counts.len()];
    let mut visits = vec![0u64; counts.len()];
    let mut ready: BinaryHeap<Reverse<(u64, u32)>> = (0..counts.len() as u32)
        .map(|member| Reverse((deadline(member, 0), member)))
        .collect();
    let mut cycle = Vec::with_capacity(length as usize);
    for slot in 0..length {
        let mut member = first_at[slot as usize];
        while member != NO_MEMBER {
            ready.push(Reverse((deadline(member, visits[member as usize]), member)));
            member = next_in_chain[member as usize];
        }
        let Some(Reverse((_, member))) = ready.pop() else {
            continue;
        };
        cycle.push(turn(member));
        let index = member as usize;
        visits[index] += 1;
        if visits[index] < counts[index] {
            let release = (visits[index] * length / counts[index]).max(slot + 1) as usize;
            next_in_chain[index] = first_at[release];
            first_at[release] = member;
        }
    }
    cycle.into()
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

/// As [`spread`], for at most `N` members. `N` is small enough for the compiler to unroll the scan. The longest table
/// has 2^24 slots, so a deadline leaves room for the member.
fn walk<const N: usize>(
    counts: &[u64],
    length: u64,
    mut turn: impl FnMut(u32) -> u32,
) -> Box<[u32]> {
    let mut next = [Visits::NONE.slots(); N];
    let mut visits = [Visits::NONE; N];
    for (member, &count) in (0u32..).zip(counts) {
        let at = member as usize;
        (next[at], visits[at]) = Visits::of(member, count, length);
    }
    let choose = |slot| {
        let mut first = u32::MAX;
        for of in &next {
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
            &mut next[member as usize % N],
            &mut visits[member as usize % N],
        );
        *next = visits.slots();
        visits.advance();
        turn(member)
    };
    (0..length as u32).map(choose).collect()
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// With few members, the scan gives the same cycle as the heap.
        #[test]
        fn few_members_are_spread_alike_by_scan_and_heap(counts in prop::collection::vec(1u64..200, 1..=FEW)) {
            let (length, whose) = (counts.iter().sum(), |member| member);
            prop_assert_eq!(spread(&counts, length, whose), by_heap(&counts, length, whose));
        }
    }
}
