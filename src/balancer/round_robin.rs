//! The policies that pick endpoints in turn: [`RoundRobin`] and [`WeightedRoundRobin`].

use super::cumulative::effective_weights;
use super::endless::Endless;
use super::ready::Ready;
use super::schedule::Schedule;
use super::{Asker, Choice, Cursor, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::time::Tick;

/// Picks one endpoint after the other, each as often as any other. A weight counts only as 0 or not.
///
/// Use it for equal endpoints and equal requests with few clients: no policy varies less. It breaks down where either
/// differs, as it looks at nothing: a slow endpoint gets as much as a fast one.
///
/// Each shard of threads walks on its own, so the order is strict within a shard. While endpoints are refused, their
/// turns go to others at random, so that no neighbour gets double load.
///
/// Source: as old as time sharing; for servers, DNS's rotation (RFC 1794).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RoundRobin;

impl RoundRobin {
    /// Creates the policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Picks each endpoint in proportion to its weight, evenly spread: smooth weighted round robin.
///
/// If the sum of the weights over their greatest common divisor is at most 1024, or at most 16 times the number of
/// endpoints, one cycle holds each endpoint exactly as often as its weight says, for each shard of threads by itself.
/// Within the cycle every endpoint stays less than two visits from its share. One visit is skipped in 2^64 / length
/// picks, which is 10^12 with the longest cycle.
///
/// For more uneven weights the sequence is endless and computed as it is needed: one pick in 31 of a shard takes the
/// next 31 turns. Every endpoint is then within two visits of its share at any time, and if there are several shards,
/// within two more for each, as each has some turns in hand. Turns are taken under a lock that no pick waits for: if a
/// thread is held up there, the others pick by the golden ratio, which strays by 4 visits in a thousand picks and 7 in a
/// million, and this is made up for afterwards. A request takes half as long again as with a table, and an endpoint some
/// 120 bytes more.
///
/// As long as one shard picks and none is held up, no endpoint waits for more than twice the inverse of its share,
/// rounded up.
///
/// Use it for endpoints whose capacity is known and does not change. It breaks down where capacity changes, as it looks
/// at nothing but health.
///
/// Source: both sequences are pfair schedules (Baruah et al. 1996), smooth in the sense of nginx's.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct WeightedRoundRobin;

impl WeightedRoundRobin {
    /// Creates the policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for RoundRobin {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        walk(&vec![1; view.members().len()], view, false)
    }
}

impl<E: Endpoint> LoadBalancer<E> for WeightedRoundRobin {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        walk(&effective_weights(view.members()), view, true)
    }
}

/// Above this many members, the next one is prefetched. At 600 bytes and more each, with what lies beside them, they no
/// longer fit in a core's own cache, taken as one mebibyte.
const NEAR: usize = 1024;

fn walk<E: Endpoint>(weights: &[u64], view: &View<'_, E>, weighted: bool) -> Box<dyn Picker<E>> {
    view.pick_of_all();
    let cursor = view.cursor();
    match Schedule::new(weights) {
        None => Box::new(EndlessPicker(Endless::new(weights, cursor))),
        Some(table) if view.members().len() > NEAR => {
            Box::new(RoundRobinPicker::<true>::new(table, cursor, weighted))
        }
        Some(table) => Box::new(RoundRobinPicker::<false>::new(table, cursor, weighted)),
    }
}

/// Walks a table. `FAR` is true above [`NEAR`] members. It is part of the type, as a check at run time would cost
/// smaller fleets a nanosecond.
struct RoundRobinPicker<const FAR: bool> {
    table: Schedule,
    cursor: Cursor,
    ready: Ready,
    weighted: bool,
}

impl<E: Endpoint, const FAR: bool> Picker<E> for RoundRobinPicker<FAR> {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let index = self.next(cx.shard(), |_| {})?;
        if cx.may_pick(index) {
            return Some(Choice::at(index));
        }
        draw_other(cx, self.weighted, |random| self.table.draw(random))
    }

    fn pick_of_all(&self, all: &[Member<E>], asker: Asker<'_>, _: Tick) -> Option<Choice> {
        let fetch = |next: usize| {
            if let Some(next) = all.get(next).filter(|_| FAR) {
                next.prefetch();
            }
        };
        self.next(asker.shard(), fetch).map(Choice::at)
    }
}

impl<const FAR: bool> RoundRobinPicker<FAR> {
    fn new(table: Schedule, cursor: Cursor, weighted: bool) -> Self {
        Self {
            ready: Ready::nothing(cursor.positions()),
            table,
            cursor,
            weighted,
        }
    }

    /// Returns the member whose turn it is, and prepares the next one. If both are found at once, the next one is
    /// passed to `will_be`.
    #[inline(always)]
    fn next(&self, shard: usize, will_be: impl FnOnce(usize)) -> Option<usize> {
        let position = self.cursor.next(shard);
        let after = position.wrapping_add(1);
        match (self.ready.at(shard, position), self.table.at(after)) {
            (Some(index), Some(next)) => {
                self.ready.put(shard, after, next);
                will_be(next);
                Some(index)
            }
            _ => self.look_up(shard, position),
        }
    }

    /// The slow path of `next`, kept out of line so that the fast path stays small.
    #[inline(never)]
    fn look_up(&self, shard: usize, position: u64) -> Option<usize> {
        let after = position.wrapping_add(1);
        self.ready.put(shard, after, self.table.at(after)?);
        self.table.at(position)
    }
}

/// Takes turns that no table can hold.
struct EndlessPicker(Endless);

impl<E: Endpoint> Picker<E> for EndlessPicker {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let index = self.0.next(cx.shard())?;
        if cx.may_pick(index) {
            return Some(Choice::at(index));
        }
        draw_other(cx, true, |random| self.0.draw(random))
    }

    fn pick_of_all(&self, _: &[Member<E>], asker: Asker<'_>, _: Tick) -> Option<Choice> {
        self.0.next(asker.shard()).map(Choice::at)
    }
}

/// Draws another member at random, as the one whose turn it is may not be picked.
#[cold]
#[inline(never)]
fn draw_other<E: Endpoint>(
    cx: &mut PickContext<'_, E>,
    weighted: bool,
    draw: impl Fn(u64) -> Option<usize>,
) -> Option<Choice> {
    let weight_of = if weighted {
        |member: &Member<E>| u64::from(member.weight().get())
    } else {
        |_: &Member<E>| 1
    };
    cx.draw_by(weight_of, draw).map(Choice::at)
}
