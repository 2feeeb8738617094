//! The loads in force as picks read them: words that are each complete in themselves.

use super::layout::{Layout, Scratch};
use super::priority::parts;
use crate::shared::below;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The load is divided in whole percent, as in Envoy.
const PARTS: usize = 100;

/// The part of a priority that a percent of the load belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoadPart {
    /// The index of the priority.
    pub(super) priority: usize,
    pub(super) is_degraded: bool,
    /// Whether health is ignored there.
    pub(super) panics: bool,
}

impl LoadPart {
    const fn pack(self) -> u32 {
        (self.priority as u32) << 2 | (self.panics as u32) << 1 | self.is_degraded as u32
    }

    const fn read(word: u32) -> Self {
        Self {
            priority: (word >> 2) as usize,
            is_degraded: word & 1 != 0,
            panics: word & 2 != 0,
        }
    }
}

/// The loads by priority and by zone.
///
/// A pick that reads while they are written may see a mix of old and new words, and goes by shares between the two. It
/// still cannot get a member that may not be picked, as each choice is checked.
#[derive(Debug)]
pub(super) struct Plan {
    /// The part that each percent belongs to: under the panic rule, and with the panic rule suspended.
    tables: [Box<[AtomicU32]>; 2],
    priorities: Box<[Published]>,
}

#[derive(Debug)]
struct Published {
    /// Whether the priority has a load and is in panic: health is ignored for it, or its picks fail.
    panics: AtomicBool,
    /// In percent: of the healthy members, and of the degraded ones.
    loads: [AtomicU32; 2],
    /// The end of each zone's share, for the healthy and for the degraded members; all 0 where zones do not count.
    zones: [Box<[AtomicU64]>; 2],
}

// ORDERING: Relaxed in all of this file. Each word is complete in itself. `Counted` ensures that a pick that sees a
// complete count sees the words of that count.
impl Plan {
    pub(super) fn new(layout: &Layout) -> Self {
        let ends = |zones: usize| (0..zones).map(|_| AtomicU64::new(0)).collect();
        let published = |zones: usize| Published {
            panics: AtomicBool::new(false),
            loads: [AtomicU32::new(0), AtomicU32::new(0)],
            zones: [ends(zones), ends(zones)],
        };
        let table = || (0..PARTS).map(|_| AtomicU32::new(0)).collect();
        let priorities = layout.priorities.iter();
        Self {
            tables: [table(), table()],
            priorities: priorities.map(|it| published(it.groups.len())).collect(),
        }
    }

    /// Puts in force what has been counted and divided.
    pub(super) fn publish(&self, layout: &Layout, scratch: &mut Scratch) {
        for (table, loads) in self.tables.iter().zip([&scratch.loads, &scratch.suspended]) {
            let mut cells = table.iter();
            for (priority, is_degraded, percent) in parts(loads) {
                let panics = loads[priority].panics;
                let word = LoadPart {
                    priority,
                    is_degraded,
                    panics,
                }
                .pack();
                for cell in cells.by_ref().take(percent as usize) {
                    // ORDERING: Relaxed. As above.
                    cell.store(word, Ordering::Relaxed);
                }
            }
        }
        for (load, published) in scratch.loads.iter().zip(&self.priorities) {
            let [healthy, degraded] = &published.loads;
            // ORDERING: Relaxed, all three. As above.
            healthy.store(load.healthy, Ordering::Relaxed);
            degraded.store(load.degraded, Ordering::Relaxed);
            published
                .panics
                .store(load.acts_in_panic(), Ordering::Relaxed);
        }
        for (priority, published) in self.priorities.iter().enumerate() {
            for (is_degraded, ends) in [false, true].into_iter().zip(&published.zones) {
                let shares = layout.divide_zones(scratch, priority, is_degraded);
                let mut end = 0u64;
                for (at, cell) in ends.iter().enumerate() {
                    end += shares.map_or(0, |shares| shares[at]);
                    // ORDERING: Relaxed. As above.
                    cell.store(end, Ordering::Relaxed);
                }
            }
        }
    }

    /// The part that a random number falls in.
    #[inline]
    pub(super) fn drawn(&self, random: u64, without_panic: bool) -> LoadPart {
        let at = below(PARTS as u64, random) as usize;
        let table = &self.tables[usize::from(without_panic)];
        // ORDERING: Relaxed. As above.
        LoadPart::read(table[at].load(Ordering::Relaxed))
    }

    /// The zone that a random number falls in, as an index among the priority's zones; `None` where zones do not count.
    #[inline]
    pub(super) fn zone(&self, part: LoadPart, random: u64) -> Option<usize> {
        let ends = &self.priorities[part.priority].zones[usize::from(part.is_degraded)];
        // ORDERING: Relaxed. As above.
        let total = ends.last()?.load(Ordering::Relaxed);
        if total == 0 {
            return None;
        }
        let point = below(total, random);
        // ORDERING: Relaxed. As above.
        let zone = ends.partition_point(|end| end.load(Ordering::Relaxed) <= point);
        // The point may lie beyond the last end if the ends have just been lowered.
        (zone < ends.len()).then_some(zone)
    }

    /// All parts, in the order in which a pick that found no member tries them: those with a load, then those without.
    /// Within each, healthy members come before degraded ones, then by priority. The order follows the loads under the
    /// panic rule even where the rule is suspended, as it is only an order.
    pub(super) fn in_order(&self) -> impl Iterator<Item = LoadPart> {
        [true, false].into_iter().flat_map(move |loaded| {
            [false, true].into_iter().flat_map(move |is_degraded| {
                let priorities = self.priorities.iter().enumerate();
                priorities.filter_map(move |(priority, published)| {
                    // ORDERING: Relaxed, both. As above.
                    let load = published.loads[usize::from(is_degraded)].load(Ordering::Relaxed);
                    let panics = published.panics.load(Ordering::Relaxed);
                    ((load > 0) == loaded).then_some(LoadPart {
                        priority,
                        is_degraded,
                        panics,
                    })
                })
            })
        })
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_comes_out_as_it_went_in(priority in 0usize..1_000_000, is_degraded: bool, panics: bool) {
            let part = LoadPart { priority, is_degraded, panics };
            prop_assert_eq!(LoadPart::read(part.pack()), part);
        }
    }
}
