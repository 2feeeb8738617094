//! The one that should answer first, of two.

use super::power_of_two::Pairs;
use super::{Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;

/// Of two different endpoints drawn by weight, the one with the lower latency × (1 + in-flight for its
/// weight): least response time by peak EWMA.
///
/// The latency is [`Member::latency`]: a higher sample counts at once, lower ones over seconds, and
/// failures only if they are slower. An endpoint that has not answered yet counts as fast as the other
/// of the pair. The in-flight count is taken relative to the mean weight. The second drawn wins only if
/// it is strictly better.
///
/// For endpoints of different speeds. It breaks down with few endpoints, as
/// [`PowerOfTwo`](super::PowerOfTwo); after a single slow answer, which it holds against an endpoint
/// for 10 s or so; and where latencies differ slightly but lastingly, it prefers the faster even when
/// all are idle.
///
/// Source: Finagle's peak EWMA over two choices, as in Linkerd and tower, except that there an idle
/// endpoint's estimate decays to zero, a failure counts like an answer, and the pair is not weighted.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LeastResponseTime;

impl LeastResponseTime {
    /// The policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for LeastResponseTime {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        let pairs = Pairs::new(view);
        Box::new(Sooner {
            mean_weight: pairs.mean_weight(),
            pairs,
        })
    }
}

struct Sooner {
    pairs: Pairs,
    mean_weight: f64,
}

impl<E: Endpoint> Picker<E> for Sooner {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let (first, second) = self.pairs.draw(cx)?;
        let members = cx.members();
        let better = second.filter(|&second| {
            let (first, second) = (&members[first], &members[second]);
            let known = |member: &Member<E>| member.latency().map(|latency| latency.as_secs_f64());
            let (one, other) = (known(first), known(second));
            let (one, other) = (one.or(other).unwrap_or(1.0), other.or(one).unwrap_or(1.0));
            let queue = |member: &Member<E>| {
                1.0 + member.in_flight() as f64 * self.mean_weight
                    / f64::from(member.weight().get())
            };
            other * queue(second) < one * queue(first)
        });
        Some(Choice::at(better.unwrap_or(first)))
    }
}
