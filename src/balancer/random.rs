//! The policy that picks at random by weight: [`Random`].

use super::drawn::Drawn;
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::time::Tick;

/// Picks a random endpoint, in proportion to its weight.
///
/// Use it for very many clients with little traffic each, where no client knows more. It breaks down under load: of n
/// simultaneous requests over n endpoints, the unluckiest endpoint gets about ln n / ln ln n (Raab and Steger 1998).
/// Nothing steers requests away from a slow endpoint.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Random;

impl Random {
    /// Creates the policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for Random {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        Box::new(RandomPicker(Drawn::new(view)))
    }
}

struct RandomPicker(Drawn);

impl<E: Endpoint> Picker<E> for RandomPicker {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        if cx.any_will_do() {
            return self.next(cx.shard(), || cx.random());
        }
        cx.draw(self.0.table()).map(Choice::at)
    }

    fn pick_of_all(&self, _: &[Member<E>], asker: Asker<'_>, _: Tick) -> Option<Choice> {
        let mut randoms = asker.randoms();
        self.next(asker.shard(), || randoms.next())
    }
}

impl RandomPicker {
    #[inline(always)]
    fn next(&self, shard: usize, random: impl FnMut() -> u64) -> Option<Choice> {
        let draw = self.0.draw(shard, random)?;
        let first = draw.first();
        draw.end();
        Some(Choice::at(first))
    }
}
