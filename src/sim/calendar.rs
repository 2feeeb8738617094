//! The event queues: a tournament tree with one time per server and client, and FIFO lanes for events with a constant
//! delay.

use std::collections::VecDeque;

/// The time of an entry without an event.
pub(super) const NEVER: u64 = u64::MAX;

/// A tournament tree: a fixed number of entries, each with the time of its next event.
///
/// The earliest entry is at the root. Of entries with equal times the one with the lowest index wins. A change costs
/// O(log entries), and there are no stale entries to skip.
#[derive(Debug)]
pub(super) struct Tournament {
    /// A complete binary tree with the root at index 1 and the leaves in the second half. Each node holds the earliest
    /// time below it and the entry with that time.
    nodes: Vec<(u64, u32)>,
    leaves: usize,
}

impl Tournament {
    pub(super) fn new(entries: usize) -> Self {
        let leaves = entries.next_power_of_two();
        let mut nodes = vec![(NEVER, 0); 2 * leaves];
        for (entry, node) in nodes[leaves..].iter_mut().enumerate() {
            node.1 = entry as u32;
        }
        Self { nodes, leaves }
    }

    pub(super) fn set(&mut self, entry: usize, at: u64) {
        let mut node = self.leaves + entry;
        self.nodes[node].0 = at;
        while node > 1 {
            node /= 2;
            let (left, right) = (self.nodes[2 * node], self.nodes[2 * node + 1]);
            let winner = if right.0 < left.0 { right } else { left };
            if self.nodes[node] == winner {
                return;
            }
            self.nodes[node] = winner;
        }
    }

    pub(super) fn first(&self) -> (u64, usize) {
        let (at, entry) = self.nodes[1];
        (at, entry as usize)
    }

    pub(super) fn at(&self, entry: usize) -> u64 {
        self.nodes[self.leaves + entry].0
    }
}

/// A FIFO queue of events that all have the same delay, so they occur in the order of insertion.
#[derive(Debug)]
pub(super) struct Lane<T> {
    delay: u64,
    waiting: VecDeque<(u64, T)>,
}

impl<T> Lane<T> {
    pub(super) fn new(delay: u64) -> Self {
        Self {
            delay,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn put(&mut self, now: u64, event: T) {
        self.waiting
            .push_back((now.saturating_add(self.delay), event));
    }

    pub(super) fn first(&self) -> u64 {
        self.waiting.front().map_or(NEVER, |(at, _)| *at)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.waiting.pop_front().map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compares with a linear scan over all entries.
        #[test]
        fn the_earliest_is_on_top(
            entries in 1usize..40,
            changes in prop::collection::vec((0usize..40, 0u64..100), 1..200),
        ) {
            let mut tournament = Tournament::new(entries);
            let mut plain = vec![NEVER; entries];
            for (entry, at) in changes {
                let entry = entry % entries;
                tournament.set(entry, at);
                plain[entry] = at;
                let least = *plain.iter().min().unwrap();
                let first = plain.iter().position(|&at| at == least).unwrap();
                prop_assert_eq!(tournament.first(), (least, first));
                prop_assert_eq!(tournament.at(entry), at);
            }
        }
    }

    #[test]
    fn a_lane_keeps_its_order() {
        let mut lane = Lane::new(5);
        lane.put(1, 'a');
        lane.put(2, 'b');
        assert_eq!(lane.first(), 6);
        assert_eq!(
            (lane.pop(), lane.pop(), lane.pop()),
            (Some('a'), Some('b'), None)
        );
        assert_eq!(lane.first(), NEVER);
    }
}
