//! One after the other, with or without weights.

use super::cumulative::effective_weights;
use super::ready::Ready;
use super::schedule::Schedule;
use super::{Asker, Choice, Cursor, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::time::Tick;

/// One endpoint after the other, each as often as any other; weights count only as 0 or not.
///
/// For equal endpoints and equal requests, with few clients: nothing varies less. It breaks down where
/// either differs, as it looks at nothing: a slow endpoint gets as much as a fast one.
///
/// Each shard of threads walks on its own, so within one thread the order is strict. While endpoints
/// are refused, their turns go to others at random, so no neighbour gets double load.
///
/// Source: as old as time sharing; for servers, DNS's rotation (RFC 1794).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RoundRobin;

impl RoundRobin {
    /// The policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Each endpoint in proportion to its weight, evenly spread. The smooth weighted round robin.
///
/// Where the sum of the weights over their greatest common divisor is at most 1024, or 16 times the number of
/// endpoints, one cycle holds each exactly as often as its weight says, and within it nobody is two
/// visits off its share; one visit is passed over in 2^64 / length picks, 10^12 with the longest cycle. For more uneven
/// weights the sequence is endless, and any stretch of a million picks is within 7 of exact. Either holds for each shard of threads by itself. A pick costs the same
/// whatever the weights.
///
/// For endpoints whose capacity is known and does not change. It breaks down where it does: it looks at
/// nothing but health.
///
/// Sources: the table is a pfair schedule (Baruah et al. 1996), smooth in the sense of nginx's; the
/// endless sequence is the golden ratio's Kronecker sequence (Weyl 1916).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct WeightedRoundRobin;

impl WeightedRoundRobin {
    /// The policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// More members than this are not all in a processor's own cache, a mebibyte with 600 bytes each and more beside them: then
/// whose turn is next is fetched meanwhile.
const NEAR: usize = 1024;

/// With `FAR` for many: a type of its own, as the others would pay a nanosecond for the question.
struct Walk<const FAR: bool> {
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
        Box::new(Walk::<true>::new(schedule, cursor, weighted))
    } else {
        Box::new(Walk::<false>::new(schedule, cursor, weighted))
    }
}

impl<E: Endpoint, const FAR: bool> Picker<E> for Walk<FAR> {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let index = self.next(cx.shard(), |_| {})?;
        if cx.may_pick(index) {
            return Some(Choice::at(index));
        }
        self.instead(cx)
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

impl<const FAR: bool> Walk<FAR> {
    fn new(schedule: Schedule, cursor: Cursor, weighted: bool) -> Self {
        Self {
            ready: Ready::nothing(cursor.positions()),
            schedule,
            cursor,
            weighted,
        }
    }

    /// Whose turn it is; and whoever is next, as that is known.
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

    /// Where there is more to do. Apart, so that others do not carry it.
    #[inline(never)]
    fn look_up(&self, shard: usize, position: u64) -> Option<usize> {
        let ready = self.ready.at(shard, position);
        let index = ready.or_else(|| self.schedule.at(position))?;
        let after = position.wrapping_add(1);
        self.ready.put(shard, after, self.schedule.at(after)?);
        Some(index)
    }

    /// Another at random, as it may not be the one whose turn it is.
    #[cold]
    #[inline(never)]
    fn instead<E: Endpoint>(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let weight_of = if self.weighted {
            |member: &Member<E>| u64::from(member.weight().get())
        } else {
            |_: &Member<E>| 1
        };
        cx.draw_by(weight_of, |random| self.schedule.draw(random))
            .map(Choice::at)
    }
}
