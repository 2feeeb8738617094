//! The sweep over all members, a slice at a time: works out what is usual in the fleet, publishes scores and costs, and
//! finds outliers to eject.

mod cap_pressure;
mod census;
mod invitations;

use std::time::Duration;

use super::change::Slot;
use super::upkeep::SLICE;
use crate::endpoint::Endpoint;
use crate::health::{
    AgeLimit, Detector, Detectors, Variance, compares_endpoints, earned_ejection, lower_median,
    outliers, reliance_on_in_flight,
};
use crate::member::State;
use crate::options::MemberId;
use crate::shared::{EventKind, Shared};
use crate::time::Tick;
use cap_pressure::CapPressure;
use census::Census;
use invitations::Invitations;

/// An idle member's latency is not known any more after this time. With a minute, low traffic tried the slow members of
/// a mostly slow fleet twice as often: 5 % of five requests a second went to twelve such of twenty.
const LONG_MILLIS: u32 = 120_000;

/// How many requests without a failure are added to the fleet's, so that the first of few failures says little about
/// the whole fleet.
const PRIOR: f64 = 50.0;

/// A member that the sweep has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    index: usize,
    id: MemberId,
}

/// The sweeps over the members: how far the present one is, and what is known from those before.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: usize,
    census: Census,
    /// The median latency of members that answered recently, in the last sweep that saw any: with less than a request a
    /// second most sweeps see none.
    recent_median: Option<Duration>,
    /// Whether the median of all latencies tells nothing of the present.
    is_outdated: bool,
    /// When the sweep began, and how long after the one before.
    begun: Option<Tick>,
    passed: Duration,
    /// When the first sweep began.
    first: Option<Tick>,
    cap_pressure: CapPressure,
    /// Whether the probes of ejected members are to be brought forward, because their slots under the cap are wanted.
    makes_room: bool,
    invitations: Invitations,
    ages: AgeLimit,
    variance: Variance,
}

impl Sweep {
    pub(super) fn restart(&mut self) {
        self.next = 0;
        self.census.clear();
        self.invitations.restart();
    }

    /// Whether the sweep has looked at no member yet.
    pub(super) const fn is_at_start(&self) -> bool {
        self.next == 0
    }

    /// Looks at the next members. Returns `true` if the last of them was among these.
    pub(super) fn slice<E: Endpoint>(
        &mut self,
        slots: &[Slot<E>],
        shared: &Shared,
        now: Tick,
    ) -> bool {
        if self.is_at_start() {
            // At most 5 s, or an interval if that is longer: a clock may jump.
            let before = self.begun.replace(now);
            let passed = before.map_or_else(|| shared.interval(), |before| now.since(before));
            self.passed = passed.min(shared.interval().max(Duration::from_secs(5)));
            // A later one was set by a clock that has gone back since.
            self.first = self.first.filter(|first| *first <= now).or(Some(now));
            if shared.common_error_rate(now) > 0.0 {
                // Few ejections are tried then, so none may meet the cap. Members that are out may be better than those
                // in.
                shared.rates.note_overflow(now);
            }
            self.makes_room |= self.cap_pressure.claim_room(shared, now);
        }
        let end = slots.len().min(self.next + SLICE);
        for (index, slot) in (self.next..).zip(slots.get(self.next..end).unwrap_or_default()) {
            if !slot.draining {
                if slot.is_routable() {
                    self.invitations.count_weight(slot.member.weight());
                }
                self.look(index, slot, shared, now);
            }
        }
        self.next = end;
        let done = end >= slots.len();
        if done {
            self.finish(slots, shared, now);
        }
        done
    }

    fn look<E: Endpoint>(&mut self, index: usize, slot: &Slot<E>, shared: &Shared, now: Tick) {
        let core = &**slot.member.core();
        core.forget_spared(now);
        let usual = shared.usual();
        let standing = core.standing.get();
        // With requests in flight it is not idle, even if it has not answered for a while.
        let is_idle = core.gate.inside() == 0;
        if let Some(usual) = usual.latency().filter(|_| is_idle) {
            let latency = self.latency_when_idle(core, usual, now);
            core.latency.settle(now, latency, shared.interval());
        }
        if slot.is_routable() && standing.takes_requests() {
            self.census.note_latency(core, self.passed, shared, now);
            let age = core.mean_age_in_costs(&usual, now);
            age.into_iter().for_each(|age| self.ages.see(age));
        }
        if standing.is_ejected() && shared.is_short() {
            core.hasten(now, index);
        }
        if standing.is_ejected() && self.makes_room {
            core.make_room(now);
        }
        let warming = core.warming_for(standing, now);
        let has_warmed = warming >= Some(shared.slow_start.window);
        let is_back = warming.is_some() && !has_warmed && core.was_ejected();
        self.census.warming += usize::from(slot.is_routable() && is_back);
        if has_warmed && core.standing.warmed() {
            core.tell(now, EventKind::SlowStartOver);
        }
        let Some((health, report)) = core.examine(now, &usual) else {
            return;
        };
        let seen = Seen { index, id: core.id };
        let may_be_invited = if standing.is_in() {
            self.census.judge(seen, core, (health, report), shared, now)
        } else {
            if standing.takes_requests() {
                let unjudged = &mut self.census.unjudged;
                *unjudged = unjudged.and(report.counts);
            }
            standing.takes_requests()
        };
        // Not one in slow start after an ejection. A new one in slow start may be, as it would get nothing where
        // requests are few: others are known, and cost less.
        if may_be_invited && is_idle && !is_back {
            self.invitations.consider(seen, &slot.member, now);
        }
    }

    /// What the latency of an idle member drifts to: the fleet's usual one, which is the median of all estimates. Where
    /// there are few requests, most of these may be from a time when all were slow, or from slow members that are
    /// avoided. The first to answer soon would then get everything for good. So while the median is outdated, it drifts
    /// to the member's own baseline, or to what members that answer now take if that is more.
    ///
    /// A baseline, too, may be from a slow time. After [`LONG_MILLIS`], only members that answer now count. A slow
    /// member that is avoided then seems as quick as these some time later, and is tried.
    fn latency_when_idle(&self, core: &State, usual: Duration, now: Tick) -> Duration {
        let Some(recent) = self.recent_median.filter(|_| self.is_outdated) else {
            return usual;
        };
        if core.latency.idle_millis(now) >= LONG_MILLIS {
            return recent.min(usual);
        }
        let baseline = core.baseline_latency.get();
        baseline.map_or(usual, |baseline| baseline.max(recent).min(usual))
    }

    /// Updates whether the median of all latencies is outdated: members that answer now take less than half of it.
    /// Once it is, until they take nine tenths. Any smaller difference may be noise, and would send requests to avoided
    /// members too soon.
    fn compare_medians(&mut self, median: Option<Duration>) {
        let recent = lower_median(&mut self.census.recent, Duration::cmp);
        self.recent_median = recent.or(self.recent_median);
        if let Some((recent, all)) = self.recent_median.zip(median) {
            self.is_outdated = match self.is_outdated {
                true => recent * 10 < all * 9,
                false => recent * 2 < all,
            };
        }
    }

    /// The time in which the requests of the window were counted: a long window is not full for a while, and the rate
    /// of requests would seem low for that time.
    fn span(&self, shared: &Shared, now: Tick) -> Duration {
        const LEAST: Duration = Duration::from_secs(10);
        let so_far = self.first.map_or(LEAST, |first| now.since(first));
        shared.ejection.window.min(so_far.max(LEAST))
    }

    /// Ends the sweep: publishes what was found, ejects and invites.
    fn finish<E: Endpoint>(&mut self, slots: &[Slot<E>], shared: &Shared, now: Tick) {
        let span = self.span(shared, now);
        let median = lower_median(&mut self.census.latencies, Duration::cmp);
        shared.set_usual_latency(median);
        self.compare_medians(median);
        let census = &mut self.census;
        shared.note_capacity(census.warming, census.strain());
        let counted = census.counted();
        let error_rate = counted.faults as f64 / (counted.total as f64 + PRIOR);
        let pace = counted.total as f64 / census.judged.max(1) as f64 / span.as_secs_f64();
        let rates = &shared.rates;
        rates.publish(error_rate, census.suspects, census.judged);
        rates.set_failing_in_part(census.failing_in_part);
        rates.set_refusal_rate(census.refusal_rate());
        rates.set_abandoned_rate(census.abandoned_rate());
        let pace = pace as f32;
        rates.set_pace(pace, span);
        let reliance = median.map_or(0.0, |usual| reliance_on_in_flight(pace, usual));
        self.variance.add(shared.take_deviations());
        self.ages.end_sweep();
        let noise = reliance * self.variance.of_estimates(pace);
        rates.set_noise(noise, self.ages.overdue(reliance));
        let requests = counted.total + census.unjudged.total;
        self.eject_for_scores(slots, shared, now);
        if compares_endpoints(&shared.ejection) {
            self.eject_outliers(slots, shared, now);
        }
        self.invitations.end_sweep();
        self.invitations.earn(requests, self.passed, span, shared);
        self.invitations.invite(|seen| find(slots, seen), now);
        self.makes_room = false;
        self.restart();
    }

    /// Ejects for low scores, by what is usual now among the others: when a bucket leaves the window, all may be worse
    /// at once than they were. In the first seconds of a common fault the window still shows the successes before it,
    /// so what fails at this moment counts: otherwise the endpoints that got most requests since would be ejected for
    /// what all have. Ejects only a member that has failed a request recently or is slow, as one with few
    /// requests since all failed shows that failure for longer than the others.
    fn eject_for_scores<E: Endpoint>(&self, slots: &[Slot<E>], shared: &Shared, now: Tick) {
        let common = shared.common_error_rate(now);
        for &(seen, own) in &self.census.scored {
            let usual = shared.usual();
            let found = find(slots, seen);
            let Some(core) = found.filter(|core| core.may_be_out_by_score(now, &usual)) else {
                continue;
            };
            let rate = usual
                .error_rate()
                .max(self.census.all.without(own).fault_rate());
            let rate = rate.max(common);
            let usual = usual.with_error_rate(rate);
            let epoch = core.standing.get().epoch;
            let health = core.examine(now, &usual).map(|(health, _)| health);
            if health.is_some_and(|health| earned_ejection(&shared.ejection, health)) {
                core.eject(epoch, Detectors::NONE.with(Detector::Score), now);
            }
        }
    }

    /// Ejects the members that stand out from the others.
    fn eject_outliers<E: Endpoint>(&self, slots: &[Slot<E>], shared: &Shared, now: Tick) {
        let seen = &self.census.reports;
        let reports: Vec<_> = seen.iter().map(|(_, report)| *report).collect();
        let (outliers, thresholds) = outliers(&shared.ejection, &reports);
        shared.rates.set_thresholds(&thresholds);
        for (at, found) in outliers {
            if let Some(core) = find(slots, seen[at].0) {
                let epoch = core.standing.get().epoch;
                core.eject(epoch, found, now);
            }
        }
    }
}

/// The member seen before, if it is still at that index: an update may have moved it.
fn find<E: Endpoint>(slots: &[Slot<E>], seen: Seen) -> Option<&State> {
    let slot = slots.get(seen.index);
    let slot = slot.filter(|slot| slot.member.id() == seen.id);
    slot.map(|slot| &**slot.member.core())
}
