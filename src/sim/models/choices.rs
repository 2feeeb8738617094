//! Power of d choices: the least loaded of d random members.

use super::{Model, ModelView};

/// Picks the member with the fewest requests in flight of `D` different random members. Of equal ones the first drawn
/// wins. The crate ships D = 2; this model is for larger D.
pub(in crate::sim) struct Choices<const D: usize>;

impl<const D: usize> Model for Choices<D> {
    fn new(_: usize) -> Self {
        Self
    }

    fn pick(&mut self, view: &mut ModelView<'_>) -> usize {
        let count = view.members.len();
        let mut drawn = [0; D];
        let wanted = D.min(count);
        let mut known = 0;
        while known < wanted {
            let at = view.random.index(count);
            if !drawn[..known].contains(&at) {
                drawn[known] = at;
                known += 1;
            }
        }
        let machines = drawn[..known].iter().map(|&at| view.members[at] as usize);
        // `min_by_key` returns the first of equal ones.
        machines
            .min_by_key(|&machine| view.in_flight[machine])
            .unwrap_or(0)
    }
}
