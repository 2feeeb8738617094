//! The better of two.

use super::cumulative::{Cumulative, effective_weights};
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::shared::Randoms;
use crate::time::Tick;

/// Of two different endpoints drawn by weight, the one with fewer requests in flight for its weight.
///
/// Two choices bring the longest queue from ln n / ln ln n down to ln ln n / ln 2, at the cost of one
/// more draw (Azar, Broder, Karlin, Upfal 1994; Mitzenmacher 1996). Both are drawn in proportion to
/// weight. The first is taken if it is idle, so at low load everybody gets its share; else the second
/// wins if its (in-flight + 1) / weight is strictly lower. That formula alone would starve light endpoints
/// when idle, and in-flight / weight would flood a light one as soon as the heavy ones have a request.
///
/// It breaks down with few endpoints, as a pair may be bad on both sides: with 2 bad ones of 4, one
/// request in six meets two bad ones. And requests that fail fast leave nothing in flight, so it takes
/// ejection to keep them from drawing more.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PowerOfTwo;

impl PowerOfTwo {
    /// The policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for PowerOfTwo {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        Box::new(Fewer(Pairs::new(view)))
    }
}

struct Fewer(Pairs);

impl<E: Endpoint> Picker<E> for Fewer {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let first = self.0.first(cx)?;
        let busy = cx.members()[first].in_flight();
        if busy == 0 {
            return Some(Choice::at(first));
        }
        let second = self.0.second(first, cx);
        Some(fewer(cx.members(), first, busy, second))
    }

    fn pick_of_all(&self, all: &[Member<E>], asker: Asker<'_>, _: Tick) -> Option<Choice> {
        let mut randoms = asker.randoms();
        let first = self.0.0.draw(randoms.next())?;
        let busy = all[first].in_flight();
        if busy == 0 {
            return Some(Choice::at(first));
        }
        Some(self.of_two(all, first, busy, randoms))
    }
}

impl Fewer {
    /// Apart, so that a draw that finds an idle one does not carry it.
    #[inline(never)]
    fn of_two<E: Endpoint>(
        &self,
        all: &[Member<E>],
        first: usize,
        busy: u64,
        mut randoms: Randoms,
    ) -> Choice {
        let second = self.0.0.draw_other(first, randoms.next());
        fewer(all, first, busy, second)
    }
}

/// The first, which has so many in flight, or the other if that has fewer for its weight.
#[inline]
fn fewer<E: Endpoint>(
    members: &[Member<E>],
    first: usize,
    busy: u64,
    other: Option<usize>,
) -> Choice {
    let better = other.filter(|&second| {
        // (in_flight + 1) / weight, multiplied out.
        let load = |in_flight: u64, other: usize| {
            (u128::from(in_flight) + 1) * u128::from(members[other].weight().get())
        };
        load(members[second].in_flight(), first) < load(busy, second)
    });
    Choice::at(better.unwrap_or(first))
}

/// Draws two different members by weight.
pub(super) struct Pairs(Cumulative);

impl Pairs {
    pub(super) fn new<E: Endpoint>(view: &View<'_, E>) -> Self {
        Self(Cumulative::new(&effective_weights(view.members())))
    }

    /// One that may be picked.
    #[inline]
    pub(super) fn first<E: Endpoint>(&self, cx: &mut PickContext<'_, E>) -> Option<usize> {
        cx.draw(&self.0)
    }

    /// Two where all may be picked, if there are two.
    #[inline]
    pub(super) fn of_all(&self, randoms: &mut Randoms) -> Option<(usize, Option<usize>)> {
        let first = self.0.draw(randoms.next())?;
        Some((first, self.0.draw_other(first, randoms.next())))
    }

    /// Another, if one is found.
    #[inline]
    pub(super) fn second<E: Endpoint>(
        &self,
        first: usize,
        cx: &mut PickContext<'_, E>,
    ) -> Option<usize> {
        // Where one of n is refused, one redraw is enough but in one case of n squared.
        (0..3).find_map(|_| {
            let second = self.0.draw_other(first, cx.random())?;
            cx.may_pick(second).then_some(second)
        })
    }
}
