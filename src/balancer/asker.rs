//! What a picker needs of a pick where all members may be picked: [`Asker`].

use crate::health::Usual;
use crate::shared::{CostBasis, Randoms, Shared};

/// The calling thread's shard, with its random numbers and the fleet's usual latency.
///
/// It stands in for a [`PickContext`](super::PickContext) where all members may be picked, as creating a context takes
/// as long as a choice. It is two words long so that it is passed in registers; for that the time is a separate
/// argument.
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
    pub(super) fn usual(self) -> Usual {
        self.shared.usual()
    }

    #[inline]
    pub(super) fn cost_basis(self) -> CostBasis {
        self.shared.rates.cost_basis()
    }

    #[inline]
    pub(super) const fn shard(self) -> usize {
        self.shard
    }

    /// The same random numbers that a context would draw.
    #[inline]
    pub(super) fn randoms(self) -> Randoms {
        self.shared.shard_state(self.shard).randoms()
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::balancer::{HealthMode, PickContext};
    use crate::options::PickOptions;
    use crate::time::Tick;

    #[test]
    fn draws_what_a_context_draws() {
        let (shared, same) = (Shared::alone(), Shared::alone());
        let options = PickOptions::new();
        for _ in 0..10 {
            let calm = HealthMode::AllEligible;
            let mut cx =
                PickContext::<String>::of_fleet(&[], &options, Tick::ZERO, 0, &shared, calm);
            let mut randoms = Asker::new(&same, 0).randoms();
            for _ in 0..5 {
                assert_eq!(randoms.next(), cx.random());
            }
        }
    }
}
