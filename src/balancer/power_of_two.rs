//! The policy that picks the less busy of two endpoints: [`PowerOfTwo`].

use super::drawn::{Drawn, PreparedDraw};
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::time::Tick;

/// Picks, of two different endpoints drawn by weight, the one with fewer requests in flight for its weight.
///
/// Two choices reduce the longest queue from ln n / ln ln n to ln ln n / ln 2, at the cost of one more draw (Azar,
/// Broder, Karlin, Upfal 1994; Mitzenmacher 1996). Both are drawn in proportion to weight. The first is taken if it is
/// idle, so at low load every endpoint gets its share. Otherwise the second wins if its (in-flight + 1) / weight is
/// strictly lower. That formula alone would starve idle light endpoints, and in-flight / weight would flood a light one
/// as soon as the heavy ones have a request.
///
/// It breaks down with few endpoints, as both of a pair may be bad: with 2 bad ones of 4, one request in six meets two
/// bad ones. Requests that fail fast leave nothing in flight, so only ejection keeps a fast-failing endpoint from
/// drawing more.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PowerOfTwo;

impl PowerOfTwo {
    /// Creates the policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for PowerOfTwo {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        Box::new(PowerOfTwoPicker(Drawn::new(view)))
    }
}

struct PowerOfTwoPicker(Drawn);

impl<E: Endpoint> Picker<E> for PowerOfTwoPicker {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let members = cx.members();
        if cx.any_will_do() {
            let draw = self.0.draw(cx.shard(), || cx.random())?;
            return Some(of_drawn(members, draw, || cx.random()));
        }
        let table = self.0.table();
        let first = cx.draw(table)?;
        let busy = members[first].in_flight();
        if busy == 0 {
            return Some(Choice::at(first));
        }
        let second = cx.draw_other(table, first);
        Some(fewer(members, (first, busy), second))
    }

    fn pick_of_all(&self, all: &[Member<E>], asker: Asker<'_>, _: Tick) -> Option<Choice> {
        let mut randoms = asker.randoms();
        let draw = self.0.draw(asker.shard(), || randoms.next())?;
        Some(of_drawn(all, draw, || randoms.next()))
    }
}

#[inline(always)]
fn of_drawn<E: Endpoint>(
    members: &[Member<E>],
    draw: PreparedDraw<'_>,
    random: impl FnMut() -> u64,
) -> Choice {
    let first = draw.first();
    let busy = members[first].in_flight();
    if busy == 0 {
        draw.end();
        return Choice::at(first);
    }
    of_two(members, draw, busy, random)
}

/// Kept out of line so that the path for an idle first member stays small.
#[inline(never)]
fn of_two<E: Endpoint>(
    members: &[Member<E>],
    draw: PreparedDraw<'_>,
    busy: u64,
    random: impl FnMut() -> u64,
) -> Choice {
    let first = draw.first();
    fewer(members, (first, busy), draw.second(random))
}

/// The first member, which has `busy` requests in flight, or the other if it has fewer for its weight.
#[inline]
fn fewer<E: Endpoint>(
    members: &[Member<E>],
    (first, busy): (usize, u64),
    other: Option<usize>,
) -> Choice {
    let better = other.filter(|&second| {
        // (in_flight + 1) / weight, compared by cross-multiplying.
        let load = |in_flight: u64, other: usize| {
            (u128::from(in_flight) + 1) * u128::from(members[other].weight().get())
        };
        load(members[second].in_flight(), first) < load(busy, second)
    });
    Choice::at(better.unwrap_or(first))
}
