//! The least busy of all.

use super::cumulative::{Cumulative, effective_weights};
use super::{Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::{Readings, below};

/// Of all endpoints, the one with the fewest requests in flight for its weight; among equals, one drawn
/// by weight.
///
/// One endpoint is drawn by weight first, and taken if it is idle: so at low load everybody gets its
/// share. Otherwise the least (in-flight + 1) / weight of all decides. A scan costs O(n): fine to a few
/// hundred endpoints, [`PowerOfTwo`](super::PowerOfTwo) beyond.
///
/// Leases that were picked before it came into force ([`Fleet::set_policy`](crate::Fleet::set_policy)), and probes,
/// do not count here.
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
            board: view.board(),
        })
    }
}

struct Scan {
    table: Cumulative,
    weights: Box<[u64]>,
    /// `None` where the view was not the fleet's own.
    board: Option<Readings>,
}

impl Scan {
    fn in_flight<E: Endpoint>(&self, members: &[Member<E>], index: usize) -> u64 {
        match &self.board {
            Some(board) => board.at(index).in_flight(),
            None => members[index].in_flight(),
        }
    }

    /// Hands load and weight of those that may be picked to `look`, as long as it says to go on.
    #[inline]
    fn each<E: Endpoint>(
        &self,
        cx: &PickContext<'_, E>,
        mut look: impl FnMut(usize, u64, u64) -> bool,
    ) {
        match &self.board {
            // The usual case, and the one to be quick in.
            Some(board) if cx.any_will_do() => {
                board.each(&self.weights, |index, spot, weight| {
                    look(index, spot.in_flight() + 1, weight)
                });
            }
            _ => {
                let weights = self.weights.iter().copied().enumerate();
                for (index, weight) in weights.filter(|&(index, _)| cx.may_pick(index)) {
                    if !look(index, self.in_flight(cx.members(), index) + 1, weight) {
                        return;
                    }
                }
            }
        }
    }
}

impl<E: Endpoint> Picker<E> for Scan {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let members = cx.members();
        let drawn = cx.draw(&self.table)?;
        if self.in_flight(members, drawn) == 0 {
            return Some(Choice::at(drawn));
        }
        // The lowest load / weight, as the two numbers, and the weight of all that have it. Fractions are
        // compared multiplied out: loads have 32 bits, weights as well.
        let (mut lowest, mut of, mut equals) = (u64::MAX >> 32, 1, 0);
        self.each(cx, |_, load, weight| {
            let (own, least) = (load * of, lowest * weight);
            if own < least {
                (lowest, of, equals) = (load, weight, 0);
            }
            // No branch: there are many equals, and no telling which.
            equals += if own <= least { weight } else { 0 };
            true
        });
        // One of those that have it, drawn by weight.
        let point = below(equals, cx.random());
        let (mut chosen, mut passed) = (drawn, 0);
        self.each(cx, |index, load, weight| {
            let has_it = load * of == lowest * weight;
            passed += if has_it { weight } else { 0 };
            chosen = if has_it { index } else { chosen };
            // Counts may have changed since; then the last that has it is as good as any.
            passed <= point
        });
        Some(Choice::at(chosen))
    }
}
