//! Power of d choices: the least loaded of d members drawn at random.

use super::{Model, Sight};

/// Of `D` different members, the one with the fewest requests in flight, the first of several. The crate
/// ships D = 2; this is for more.
pub(in crate::sim) struct Choices<const D: usize>;

impl<const D: usize> Model for Choices<D> {
    fn new(_: usize) -> Self {
        Self
    }

    fn pick(&mut self, sight: &mut Sight<'_>) -> usize {
        let count = sight.members.len();
        let mut drawn = [0; D];
        let wanted = D.min(count);
        let mut known = 0;
        while known < wanted {
            let at = sight.random.index(count);
            if !drawn[..known].contains(&at) {
                drawn[known] = at;
                known += 1;
            }
        }
        let machines = drawn[..known].iter().map(|&at| sight.members[at] as usize);
        // The first of several: `min_by_key` takes it.
        machines
            .min_by_key(|&machine| sight.in_flight[machine])
            .unwrap_or(0)
    }
}
