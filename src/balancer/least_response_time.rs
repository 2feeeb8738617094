//! The policy that picks, of two endpoints, the one that should answer first: [`LeastResponseTime`].

use super::drawn::Drawn;
use super::{Asker, Choice, LoadBalancer, PickContext, Picker, View};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::time::Tick;

/// Picks the cheaper of two different endpoints drawn by weight. The cost is latency × (in-flight + 1) / weight, where
/// the weight counts only if the first one drawn is busy.
///
/// The latency is [`Member::latency`], an average that no single sample dominates. A failure counts only if it is
/// slower. An endpoint that has not answered yet counts as being as fast as the other of the pair.
///
/// The second one drawn never wins when it costs as much or more, so equal endpoints get their shares. When its cost is
/// lower by a factor r < 1, it wins with probability 1 - r³: nearly always where the difference is plain (seven times
/// in eight at half the cost), and seldom where it is noise. If it always won, then of two endpoints at 10 and 11 ms
/// the second would get nothing as long as the caller sends one request at a time, and nothing would show that it has
/// become faster.
///
/// Use it for very many endpoints of different speeds. It breaks down with few endpoints, as
/// [`PowerOfTwo`](super::PowerOfTwo) does.
///
/// Source: Finagle's peak EWMA over two choices, as in Linkerd and tower. There, a slow answer is believed at once, the
/// lower cost always wins, an idle endpoint's estimate decays to zero, a failure counts like an answer, and the pair is
/// not weighted.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LeastResponseTime;

impl LeastResponseTime {
    /// Creates the policy; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<E: Endpoint> LoadBalancer<E> for LeastResponseTime {
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
        view.pick_of_all();
        Box::new(LeastResponseTimePicker(Drawn::new(view)))
    }
}

struct LeastResponseTimePicker(Drawn);

impl<E: Endpoint> Picker<E> for LeastResponseTimePicker {
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice> {
        let members = cx.members();
        if cx.any_will_do() {
            return self.of_all(members, cx.shard(), || cx.random());
        }
        let first = cx.draw(self.0.table())?;
        let second = cx.draw_other(self.0.table(), first);
        Some(sooner(members, first, second, || cx.random()))
    }

    fn pick_of_all(&self, all: &[Member<E>], asker: Asker<'_>, _: Tick) -> Option<Choice> {
        let mut randoms = asker.randoms();
        self.of_all(all, asker.shard(), || randoms.next())
    }
}

impl LeastResponseTimePicker {
    /// Chooses where all members may be picked.
    #[inline(always)]
    fn of_all<E: Endpoint>(
        &self,
        members: &[Member<E>],
        shard: usize,
        mut random: impl FnMut() -> u64,
    ) -> Option<Choice> {
        let draw = self.0.draw(shard, &mut random)?;
        let (first, second) = (draw.first(), draw.second(&mut random));
        Some(sooner(members, first, second, random))
    }
}

/// The first member, or the other if it costs less and wins by its probability.
#[inline]
fn sooner<E: Endpoint>(
    members: &[Member<E>],
    first: usize,
    other: Option<usize>,
    random: impl FnOnce() -> u64,
) -> Choice {
    let better = other.filter(|&second| {
        let cost = ratio(&members[second], &members[first]);
        cost < 1.0 && share(random()) >= cost.powi(3)
    });
    Choice::at(better.unwrap_or(first))
}

/// A random number from 0 up to, but not including, 1.
#[inline]
fn share(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// The cost of a request to the second member, as a multiple of its cost to the first.
#[inline]
fn ratio<E: Endpoint>(second: &Member<E>, first: &Member<E>) -> f64 {
    let nanos = |member: &Member<E>| member.core().latency.nanos();
    let latency = match (nanos(second), nanos(first)) {
        (Some(second), Some(first)) => f64::from(second) / f64::from(first),
        _ => 1.0,
    };
    let (before_second, before_first) = (second.in_flight(), first.in_flight());
    let queue = |in_flight: u64| in_flight as f64 + 1.0;
    if before_first == 0 {
        // Both were drawn by weight, so for an idle member the weight has already counted.
        return latency * queue(before_second);
    }
    let weights = f64::from(first.weight().get()) / f64::from(second.weight().get());
    latency * queue(before_second) / queue(before_first) * weights
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::{Fleet, Outcome, Target};
    use std::time::Duration;

    /// The queue counts in proportion to the weight. An idle first member was drawn by weight, so its weight does not
    /// count again.
    #[test]
    fn a_request_costs_by_latency_queue_and_weight() {
        let servers = [5, 45].map(|weight| Target::new(weight, ()).with_weight(weight));
        let fleet: Fleet<_> = servers.into_iter().collect();
        let lease = |weight| fleet.lease(&weight).unwrap();
        let members = fleet.members();
        let ratio = || ratio(&members[1], &members[0]);
        assert_eq!(ratio(), 1.0);
        let one = lease(5);
        assert_eq!(ratio(), 1.0 / 2.0 / 9.0);
        let _others = [lease(45), lease(45)];
        assert_eq!(ratio(), 3.0 / 2.0 / 9.0);
        lease(5).record_with_latency(Outcome::Success, Duration::from_millis(10));
        lease(45).record_with_latency(Outcome::Success, Duration::from_millis(40));
        assert!((ratio() - 4.0 * 3.0 / 2.0 / 9.0).abs() < 1e-6);
        drop(one);
        assert!((ratio() - 4.0 * 3.0).abs() < 1e-6);
    }
}
