//! At random, by weight.

use super::cumulative::{Cumulative, effective_weights};
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::time::Tick;

/// A random endpoint, in proportion to its weight.
///
/// For very many clients with little traffic each, where no client knows more. It breaks down under
/// load: of n requests at once over n endpoints, the unluckiest endpoint gets about ln n / ln ln n
/// (Raab and Steger 1998), and nothing masks a slow one.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Random;

impl Random {
    /// The policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for Random {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        Box::new(Draw(Cumulative::new(&effective_weights(view.members()))))
    }
}

struct Draw(Cumulative);

impl<E: Endpoint> Picker<E> for Draw {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        cx.draw(&self.0).map(Choice::at)
    }

    fn pick_of_all(&self, _: &[Member<E>], asker: Asker<'_>, _: Tick) -> Option<Choice> {
        self.0.draw(asker.randoms().next()).map(Choice::at)
    }
}
