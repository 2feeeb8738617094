//! The policies that pick endpoints in turn: [`RoundRobin`] and [`WeightedRoundRobin`].

use super::cumulative::effective_weights;
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
/// endpoints, one cycle holds each endpoint exactly as often as its weight says. Within the cycle every endpoint stays
/// less than two visits from its share. One visit is skipped in 2^64 / length picks, which is 10^12 with the longest
/// cycle. For more uneven weights the sequence is endless, and any stretch of a million picks is within 7 of exact.
/// Both hold for each shard of threads by itself. A pick costs the same whatever the weights.
///
/// Use it for endpoints whose capacity is known and does not change. It breaks down where capacity changes, as it looks
/// at nothing but health.
///
/// Sources: the table is a pfair schedule (Baruah et al. 1996), smooth in the sense of nginx's. The endless sequence is
/// the golden ratio's Kronecker sequence (Weyl 1916).
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

/// Above this many members, the next one is prefetched. At 600 bytes and more each, with what lies beside them, they no
/// longer fit in a core's own cache, taken as one mebibyte.
const NEAR: usize = 1024;

/// Walks a schedule. `FAR` is true above [`NEAR`] members. It is part of the type, as a check at run time would cost
/// smaller fleets a nanosecond.
struct RoundRobinPicker<const FAR: bool> {
    schedule: Schedule,
    cursor: Cursor,
    ready: Ready,
    weighted: bool,
}

impl<E: Endpoint> LoadBalancer<E> for RoundRobin {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        let schedule = Schedule::new(&vec![1; view.members().len()]);
        walk(schedule, view, false)
    }
}

impl<E: Endpoint> LoadBalancer<E> for WeightedRoundRobin {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        let schedule = Schedule::new(&effective_weights(view.members()));
        walk(schedule, view, true)
    }
}

fn walk<E: Endpoint>(schedule: Schedule, view: &View<'_, E>, weighted: bool) -> Box<dyn Picker<E>> {
    let cursor = view.cursor();
    if view.members().len() > NEAR {
        Box::new(RoundRobinPicker::<true>::new(schedule, cursor, weighted))
    } else {
        Box::new(RoundRobinPicker::<false>::new(schedule, cursor, weighted))
    }
}

impl<E: Endpoint, const FAR: bool> Picker<E> for RoundRobinPicker<FAR> {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let index = self.next(cx.shard(), |_| {})?;
        if cx.may_pick(index) {
            return Some(Choice::at(index));
        }
        self.draw_other(cx)
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
    fn new(schedule: Schedule, cursor: Cursor, weighted: bool) -> Self {
        Self {
            ready: Ready::nothing(cursor.positions()),
            schedule,
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
        match (self.ready.at(shard, position), self.schedule.in_turn(after)) {
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
        let ready = self.ready.at(shard, position);
        let index = ready.or_else(|| self.schedule.at(position))?;
        let after = position.wrapping_add(1);
        self.ready.put(shard, after, self.schedule.at(after)?);
        Some(index)
    }

    /// Draws another member at random, as the one whose turn it is may not be picked.
    #[cold]
    #[inline(never)]
    fn draw_other<E: Endpoint>(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let weight_of = if self.weighted {
            |member: &Member<E>| u64::from(member.weight().get())
        } else {
            |_: &Member<E>| 1
        };
        cx.draw_by(weight_of, |random| self.schedule.draw(random))
            .map(Choice::at)
    }
}
