//! Who asks for a choice where there is nothing to look at: all members may be picked.

use crate::shared::{GOLDEN, Shared, mix};

/// The calling thread's shard, and its random numbers: what is left of a [`PickContext`](super::PickContext) where all may be
/// picked. To make one of those takes as long as such a choice.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    shared: &'a Shared,
    shard: usize,
}

impl<'a> Asker<'a> {
    #[inline]
    pub(crate) const fn new(shared: &'a Shared, shard: usize) -> Self {
        Self { shared, shard }
    }

    #[inline]
    pub(super) const fn shard(self) -> usize {
        self.shard
    }

    /// The random numbers that a pick would draw.
    #[inline]
    pub(super) fn randoms(self) -> Randoms {
        Randoms(self.shared.random(self.shard))
    }
}

/// The random numbers of one pick.
pub(super) struct Randoms(u64);

impl Randoms {
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        let next = mix(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        next
    }
}
