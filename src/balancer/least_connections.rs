//! The least busy of all.

use super::cumulative::{Cumulative, effective_weights};
use super::{Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::shared::below;

/// Of all endpoints, the one with the fewest requests in flight for its weight; among equals, one drawn
/// by weight.
///
/// One endpoint is drawn by weight first, and taken if it is idle: so at low load everybody gets its
/// share. Otherwise the least (in-flight + 1) / weight of all decides. A scan costs O(n): fine to a few
/// hundred endpoints, [`PowerOfTwo`](super::PowerOfTwo) beyond.
///
/// For equal endpoints under load from one client it is the best there is. It breaks down where an
/// endpoint fails fast, which leaves it idle and so preferred until it is ejected; and it looks at no
/// latency, so a slow endpoint is found out only by its queue.
///
/// Source: HAProxy's `leastconn` and its (connections + 1) / weight; the draw among the idle is this
/// crate's, as that formula alone starves light endpoints.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LeastConnections;

impl LeastConnections {
    /// The policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for LeastConnections {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        let weights = effective_weights(view.members());
        Box::new(Scan {
            table: Cumulative::new(&weights),
            weights: weights.into(),
        })
    }
}

struct Scan {
    table: Cumulative,
    weights: Box<[u64]>,
}

impl<E: Endpoint> Picker<E> for Scan {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let members = cx.members();
        let drawn = cx.draw(&self.table)?;
        if members[drawn].in_flight() == 0 {
            return Some(Choice::at(drawn));
        }
        // Load and weight of the least so far, and the weight of all that equal it.
        let mut least: Option<(usize, u128, u64)> = None;
        let mut equals = 0;
        for (index, &weight) in self.weights.iter().enumerate() {
            if !cx.may_pick(index) {
                continue;
            }
            let load = u128::from(members[index].in_flight()) + 1;
            // load / weight against least / its weight, multiplied out.
            let order = least.map_or(std::cmp::Ordering::Less, |(_, least, of)| {
                (load * u128::from(of)).cmp(&(least * u128::from(weight)))
            });
            let takes = match order {
                std::cmp::Ordering::Less => {
                    equals = weight;
                    true
                }
                std::cmp::Ordering::Equal => {
                    equals += weight;
                    below(equals, cx.random()) < weight
                }
                std::cmp::Ordering::Greater => false,
            };
            if takes {
                least = Some((index, load, weight));
            }
        }
        Some(Choice::at(least.map_or(drawn, |(index, ..)| index)))
    }
}
