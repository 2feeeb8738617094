//! Members grouped by weight.

/// The members in groups of equal weight, the lightest first.
#[derive(Debug)]
pub(in crate::balancer) struct Alike {
    /// All members, group by group.
    members: Box<[u32]>,
    /// Where each group begins among them, and the end of the last one.
    starts: Box<[u32]>,
}

impl Alike {
    /// Weights must fit in 32 bits.
    pub(in crate::balancer) fn new(weights: &[u64]) -> Self {
        let heaviest = weights.iter().copied().max().unwrap_or(0);
        // Room for a counter for each weight, as it is in any table.
        if heaviest <= 16 * weights.len() as u64 + 1024 {
            Self::counted(weights, heaviest as usize)
        } else {
            Self::sorted(weights)
        }
    }

    /// Counting sort.
    fn counted(weights: &[u64], heaviest: usize) -> Self {
        let mut starts = vec![0u32; heaviest + 2];
        weights
            .iter()
            .for_each(|&weight| starts[weight as usize + 1] += 1);
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        let mut next = starts.clone();
        let mut members = vec![0; weights.len()];
        for (member, &weight) in (0u32..).zip(weights) {
            let place = &mut next[weight as usize];
            members[*place as usize] = member;
            *place += 1;
        }
        starts.dedup();
        Self {
            members: members.into(),
            starts: starts.into(),
        }
    }

    /// Sorts words of `weight: 32 | member: 32`.
    fn sorted(weights: &[u64]) -> Self {
        let mut words: Vec<u64> = (0u64..)
            .zip(weights)
            .map(|(member, &weight)| weight << 32 | member)
            .collect();
        words.sort_unstable();
        let mut end = 0;
        let groups = words.chunk_by(|one, next| one >> 32 == next >> 32);
        let ends = groups.map(|group| {
            end += group.len() as u32;
            end
        });
        Self {
            starts: std::iter::once(0).chain(ends).collect(),
            members: words.iter().map(|&word| word as u32).collect(),
        }
    }

    /// The number of groups.
    pub(in crate::balancer) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub(in crate::balancer) fn group(&self, at: usize) -> &[u32] {
        &self.members[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    pub(in crate::balancer) fn groups(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|at| self.group(at))
    }

    /// What each group weighs.
    pub(in crate::balancer) fn weights(&self, weights: &[u64]) -> Vec<u64> {
        self.groups()
            .map(|group| group.len() as u64 * weights[group[0] as usize])
            .collect()
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a search through all members.
        #[test]
        fn a_group_is_all_members_of_a_weight(weights in prop::collection::vec(1u64..8, 0..40), scale in 1u64..4) {
            let counted = Alike::counted(&weights, 8);
            let apart: Vec<u64> = weights.iter().map(|weight| weight << (8 * scale)).collect();
            for alike in [counted, Alike::sorted(&weights), Alike::new(&weights), Alike::new(&apart)] {
                let groups: Vec<Vec<u32>> = alike.groups().map(<[u32]>::to_vec).collect();
                let expected = (1..8u64).map(|of| {
                    let is = |&member: &u32| weights[member as usize] == of;
                    (0..weights.len() as u32).filter(is).collect::<Vec<u32>>()
                });
                let expected: Vec<Vec<u32>> = expected.filter(|group| !group.is_empty()).collect();
                prop_assert_eq!(groups, expected);
            }
        }
    }
}
