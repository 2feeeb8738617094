//! Earliest deadline first for many members, chained by slot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::order::Order;
use super::visits::Visits;

/// Slots of the calendar for each member. Members that wait for longer are in heaps; there are few visits of such
/// members, less than one in this many.
const AHEAD: usize = 4;

const NO_MEMBER: u32 = u32::MAX;

/// Any number of members. They are chained by the slot where their windows begin or end, so a slot takes a constant
/// number of steps on average, but for those of the few members in heaps.
#[derive(Debug)]
pub(super) struct Calendar {
    /// The next slot.
    slot: u64,
    visits: Box<[Visits]>,
    /// The next member of the same chain. Each member is in one chain or heap.
    chain: Box<[u32]>,
    /// The members whose window begins at a slot, for as many slots as the calendar has.
    begins: Box<[u32]>,
    begins_later: Heap,
    /// The members whose visit may take a slot by now, by the end of their window.
    ends: Box<[u32]>,
    ends_later: Heap,
    /// The chains of `ends` that have members.
    marks: Marks,
}

/// Members by slot, the earliest first.
type Heap = BinaryHeap<Reverse<(u64, u32)>>;

impl Calendar {
    pub(super) fn new(visits: impl Iterator<Item = Visits>) -> Self {
        let visits: Box<[Visits]> = visits.collect();
        let slots = (AHEAD * visits.len()).next_power_of_two().max(64);
        // Room for all that may come into a heap, so that none grows on a pick.
        let waits_long = |visits: &&Visits| visits.slots + 2 > slots as u64;
        let long = visits.iter().filter(waits_long).count();
        let mut calendar = Self {
            slot: 0,
            chain: vec![NO_MEMBER; visits.len()].into(),
            begins: vec![NO_MEMBER; slots].into(),
            begins_later: Heap::with_capacity(long),
            ends: vec![NO_MEMBER; slots].into(),
            ends_later: Heap::with_capacity(long),
            marks: Marks::new(slots),
            visits,
        };
        (0..calendar.visits.len() as u32)
            .rev()
            .for_each(|member| calendar.waits(member));
        calendar
    }

    const fn place(&self, slot: u64) -> usize {
        slot as usize & (self.begins.len() - 1)
    }

    /// Puts a member where its next window begins.
    fn waits(&mut self, member: u32) {
        let begin = self.visits[member as usize].begin.max(self.slot);
        if begin - self.slot < self.begins.len() as u64 {
            let place = self.place(begin);
            self.chain[member as usize] = std::mem::replace(&mut self.begins[place], member);
        } else {
            self.begins_later.push(Reverse((begin, member)));
        }
    }

    /// Moves the members on whose windows begin at the next slot.
    fn let_in(&mut self) {
        let place = self.place(self.slot);
        let mut member = std::mem::replace(&mut self.begins[place], NO_MEMBER);
        while member != NO_MEMBER {
            let next = self.chain[member as usize];
            self.may_come(member);
            member = next;
        }
        while let Some(&Reverse((begin, member))) = self.begins_later.peek() {
            if begin > self.slot {
                break;
            }
            self.begins_later.pop();
            self.may_come(member);
        }
    }

    /// Puts a member where its window ends.
    fn may_come(&mut self, member: u32) {
        let end = self.visits[member as usize].end().max(self.slot + 1);
        if end - self.slot <= self.ends.len() as u64 {
            let place = self.place(end);
            self.marks.set(place);
            self.chain[member as usize] = std::mem::replace(&mut self.ends[place], member);
        } else {
            self.ends_later.push(Reverse((end, member)));
        }
    }

    /// Takes the member whose window ends first, at the last slot's end or later.
    fn first(&mut self) -> Option<u32> {
        loop {
            let from = self.place(self.slot);
            let near = self.marks.first_from(from).map(|place| {
                let ahead = place.wrapping_sub(from) & (self.ends.len() - 1);
                (place, self.slot + ahead as u64)
            });
            let far = self.ends_later.peek().map(|&Reverse((end, _))| end);
            let member = match (near, far) {
                (Some((place, end)), far) if far.is_none_or(|far| end <= far) => {
                    let member = self.ends[place];
                    self.ends[place] = self.chain[member as usize];
                    if self.ends[place] == NO_MEMBER {
                        self.marks.clear(place);
                    }
                    member
                }
                _ => self.ends_later.pop()?.0.1,
            };
            if self.visits[member as usize].share > 0 {
                return Some(member);
            }
        }
    }
}

impl Order for Calendar {
    fn next(&mut self) -> u32 {
        self.let_in();
        self.slot += 1;
        let Some(member) = self.first() else { return 0 };
        self.visits[member as usize].advance();
        self.waits(member);
        member
    }

    /// Which chain a member is in is not known, so it stays there until its turn comes, and is dropped then.
    fn withdraw(&mut self, member: u32) {
        self.visits[member as usize].share = 0;
    }
}

/// Bits that are searched 4 096 at a time.
#[derive(Debug)]
struct Marks {
    bits: Box<[u64]>,
    /// The words of `bits` that are not 0.
    words: Box<[u64]>,
}

impl Marks {
    fn new(bits: usize) -> Self {
        let words = bits.div_ceil(64);
        Self {
            bits: vec![0; words].into(),
            words: vec![0; words.div_ceil(64)].into(),
        }
    }

    fn set(&mut self, bit: usize) {
        self.bits[bit / 64] |= 1 << (bit % 64);
        self.words[bit / 4096] |= 1 << (bit / 64 % 64);
    }

    fn clear(&mut self, bit: usize) {
        let word = &mut self.bits[bit / 64];
        *word &= !(1 << (bit % 64));
        if *word == 0 {
            self.words[bit / 4096] &= !(1 << (bit / 64 % 64));
        }
    }

    /// The first bit that is set from here on, and from the beginning if there is none up to the end.
    fn first_from(&self, bit: usize) -> Option<usize> {
        let word = bit / 64;
        let here = self.bits[word] & u64::MAX << (bit % 64);
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros() as usize);
        }
        let word = self.word_from(word + 1).or_else(|| self.word_from(0))?;
        Some(word * 64 + self.bits[word].trailing_zeros() as usize)
    }

    fn word_from(&self, word: usize) -> Option<usize> {
        let here = self.words.get(word / 64)? & u64::MAX << (word % 64);
        let after = self.words[word / 64 + 1..].iter().copied();
        let mut from = (word / 64..).zip(std::iter::once(here).chain(after));
        let (at, words) = from.find(|&(_, words)| words != 0)?;
        Some(at * 64 + words.trailing_zeros() as usize)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::super::scan::Scan;
    use super::super::visits::{from_start, from_within};
    use super::*;
    use proptest::prelude::*;

    fn share() -> impl Strategy<Value = u64> {
        prop_oneof![1u64..4, 1u64..1000, 1u64..1 << 20]
    }

    /// Whether each visit of the first slots lies within its window. A naive model of the windows: one at a time.
    fn keeps_to_windows(order: &mut dyn Order, mut visits: Vec<Visits>, slots: u64) -> bool {
        (0..slots).all(|slot| {
            let visits = &mut visits[order.next() as usize];
            let is_within = (visits.begin..visits.end()).contains(&slot);
            visits.advance();
            is_within
        }) && visits.iter().all(|visits| visits.end() > slots - 1)
    }

    proptest! {
        #[test]
        fn each_visit_lies_within_its_window(shares in prop::collection::vec(share(), 1..300), seed: u64) {
            let total = shares.iter().sum();
            let within: Vec<Visits> = from_within(&shares, total, seed);
            for visits in [from_start(&shares, total).collect(), within] {
                let mut calendar = Calendar::new(visits.iter().copied());
                prop_assert!(keeps_to_windows(&mut calendar, visits, 5_000));
            }
        }

        #[test]
        fn a_scan_keeps_to_windows_as_well(shares in prop::collection::vec(share(), 1..=16), seed: u64) {
            let total = shares.iter().sum();
            let visits: Vec<Visits> = from_within(&shares, total, seed);
            let mut scan = Scan::<16>::new(visits.iter().copied());
            prop_assert!(keeps_to_windows(&mut scan, visits, 5_000));
        }

        /// Against a search bit by bit.
        #[test]
        fn the_first_mark_is_found(set in prop::collection::vec(0usize..10_000, 0..20), from in 0usize..10_000) {
            let mut marks = Marks::new(10_000);
            set.iter().for_each(|&bit| marks.set(bit));
            let after = set.iter().filter(|&&bit| bit >= from).min();
            prop_assert_eq!(marks.first_from(from), after.or_else(|| set.iter().min()).copied());
            set.iter().for_each(|&bit| marks.clear(bit));
            prop_assert_eq!(marks.first_from(from), None);
        }
    }

    /// Over the ends of three laps.
    #[test]
    fn a_scan_goes_on_from_lap_to_lap() {
        let shares = [70_001, 1, 65_536, 1_000_003];
        let total = shares.iter().sum();
        let visits: Vec<Visits> = from_within(&shares, total, 7);
        let mut scan = Scan::<4>::new(visits.iter().copied());
        assert!(keeps_to_windows(&mut scan, visits, 3_500_000));
    }
}
