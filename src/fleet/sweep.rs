//! The sweep over all members, a slice at a time: works out what is usual in the fleet, publishes scores and costs, and
//! finds outliers to eject.

mod cap_pressure;
mod invitations;

use std::time::Duration;

use super::change::Slot;
use super::upkeep::SLICE;
use crate::endpoint::Endpoint;
use crate::health::{
    Counts, Detector, Detectors, Health, Report, earned_ejection, lower_median, outliers,
};
use crate::member::State;
use crate::options::MemberId;
use crate::shared::{COMMON_FAULT_SHARE, EventKind, Shared};
use crate::time::Tick;
use cap_pressure::CapPressure;
use invitations::Invitations;

/// An endpoint that has answered within this time has work to do, so its latency shows strain.
const RECENT_MILLIS: u32 = 1_000;

/// An idle member's latency is not known any more after this time. With a minute, low traffic tried the slow members of
/// a mostly slow fleet twice as often: 5 % of five requests a second went to twelve such of twenty.
const LONG_MILLIS: u32 = 120_000;

/// How many requests without a failure are added to the fleet's, so that the first of few failures says little about
/// the whole fleet.
const PRIOR: f64 = 50.0;

/// An endpoint stands out if the evidence against it is at least this share of what ejects. It then counts by itself,
/// and not for the fleet.
const STANDS_OUT: f32 = 0.6;

/// The share of its requests that an endpoint refuses is counted in this many steps.
const PARTS: u64 = 20;

/// A member that the sweep has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    index: usize,
    id: MemberId,
}

/// The progress of a sweep over the members, and what it has seen so far.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: usize,
    latencies: Vec<Duration>,
    /// The latencies of members that have answered within [`RECENT_MILLIS`]; below, their median in the last sweep that
    /// saw any: with less than a request a second most sweeps see none.
    recent: Vec<Duration>,
    recent_median: Option<Duration>,
    /// Whether the median of all latencies tells nothing of the present.
    is_outdated: bool,
    /// The strain of each busy member: its latency as a multiple of its baseline latency, while no more members are out
    /// than can be spared.
    strains: Vec<f32>,
    /// When the sweep began, and how long after the one before.
    begun: Option<Tick>,
    passed: Duration,
    /// When the first sweep began.
    first: Option<Tick>,
    /// The requests of all judged members; and those of the members that stand out, with the number of these.
    all: Counts,
    standing_out: Counts,
    standing_out_count: usize,
    /// The requests of members that are marked up: they earn invitations like any other.
    unjudged: Counts,
    /// How many members refuse which share of their requests, in steps of one in [`PARTS`].
    refusing: [usize; PARTS as usize + 1],
    cap_pressure: CapPressure,
    /// Whether the probes of ejected members are to be brought forward, because their slots under the cap are wanted.
    makes_room: bool,
    suspects: usize,
    /// How many members have failed unusually many of their last requests, but no more than half.
    failing_in_part: usize,
    judged: usize,
    warming: usize,
    /// Members whose score ejects, by what was usual at the last sweep, with their own requests.
    scored: Vec<(Seen, Counts)>,
    /// What the detectors that compare members look at, if any of these is on.
    reports: Vec<(Seen, Report)>,
    invitations: Invitations,
}

impl Sweep {
    pub(super) fn restart(&mut self) {
        *self = Self {
            latencies: std::mem::take(&mut self.latencies),
            recent: std::mem::take(&mut self.recent),
            recent_median: self.recent_median,
            is_outdated: self.is_outdated,
            strains: std::mem::take(&mut self.strains),
            begun: self.begun,
            first: self.first,
            reports: std::mem::take(&mut self.reports),
            scored: std::mem::take(&mut self.scored),
            invitations: self.invitations.restarted(),
            cap_pressure: self.cap_pressure,
            makes_room: self.makes_room,
            ..Self::default()
        };
        self.latencies.clear();
        self.recent.clear();
        self.strains.clear();
        self.reports.clear();
        self.scored.clear();
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
            self.note_latency(core, shared, now);
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
        self.warming += usize::from(slot.is_routable() && is_back);
        if has_warmed && core.standing.warmed() {
            core.tell(now, EventKind::SlowStartOver);
        }
        let Some((health, report)) = core.examine(now, &usual) else {
            return;
        };
        let seen = Seen { index, id: core.id };
        let may_be_invited = if standing.is_in() {
            self.judge(seen, core, (health, report), shared, now)
        } else {
            if standing.takes_requests() {
                self.unjudged = self.unjudged.and(report.counts);
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
        let recent = lower_median(&mut self.recent, Duration::cmp);
        self.recent_median = recent.or(self.recent_median);
        if let Some((recent, all)) = self.recent_median.zip(median) {
            self.is_outdated = match self.is_outdated {
                true => recent * 10 < all * 9,
                false => recent * 2 < all,
            };
        }
    }

    fn note_latency(&mut self, core: &State, shared: &Shared, now: Tick) {
        let Some(latency) = core.latency.get() else {
            return;
        };
        self.latencies.push(latency);
        // An idle member's latency drifts to the usual one, so it does not show strain.
        if core.latency.idle_millis(now) < RECENT_MILLIS {
            self.recent.push(latency);
            let strain = shared.strain_of(&core.baseline_latency, latency, self.passed);
            self.strains.extend(strain);
        }
    }

    /// Counts a member that is in. Returns whether it may be invited: not if it is about to be ejected.
    fn judge(
        &mut self,
        seen: Seen,
        core: &State,
        (health, report): (Health, Report),
        shared: &Shared,
        now: Tick,
    ) -> bool {
        let (settings, own) = (&shared.ejection, report.counts);
        self.judged += 1;
        self.suspects += usize::from(core.suspicion(now) > 0.0);
        self.failing_in_part += usize::from(own.faults > 0 && core.fails_in_part(now));
        self.all = self.all.and(own);
        let (refused, answered) = core.refusals(now);
        let part = refused * PARTS / (refused + answered).max(1);
        self.refusing[part as usize] += 1;
        let threshold = settings.cusum_threshold as f32;
        let is_suspicious = threshold > 0.0 && core.evidence(now) >= STANDS_OUT * threshold;
        let has_earned = earned_ejection(settings, health);
        let stands_out = match core.rule() {
            Some(_) => is_suspicious,
            None => has_earned,
        };
        if stands_out {
            self.standing_out = self.standing_out.and(own);
            self.standing_out_count += 1;
        }
        if compares(shared) {
            self.reports.push((seen, report));
        }
        if has_earned {
            self.scored.push((seen, own));
        }
        !has_earned && !is_suspicious
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
        let median = lower_median(&mut self.latencies, Duration::cmp);
        shared.set_usual_latency(median);
        let are_most = 2 * self.strains.len() >= self.recent.len();
        self.compare_medians(median);
        let strain = lower_median(&mut self.strains, f32::total_cmp).filter(|_| are_most);
        shared.note_capacity(self.warming, strain);
        // If many members stand out, the fault is shared, so all of them count.
        let counted =
            match (self.standing_out_count as f64) < COMMON_FAULT_SHARE * self.judged as f64 {
                true => self.all.without(self.standing_out),
                false => self.all,
            };
        let error_rate = counted.faults as f64 / (counted.total as f64 + PRIOR);
        shared.rates.publish(error_rate, self.suspects, self.judged);
        shared.rates.set_failing_in_part(self.failing_in_part);
        shared.rates.set_refusal_rate(self.refusal_rate());
        let pace = counted.total as f64 / self.judged.max(1) as f64;
        shared
            .rates
            .set_pace((pace / self.span(shared, now).as_secs_f64()) as f32);
        self.eject_for_scores(slots, shared, now);
        if compares(shared) {
            self.eject_outliers(slots, shared, now);
        }
        self.invitations.end_sweep();
        let requests = counted.total + self.unjudged.total;
        let (passed, span) = (self.passed, self.span(shared, now));
        self.invitations.earn(requests, passed, span, shared);
        self.invitations.invite(|seen| find(slots, seen), now);
        self.makes_room = false;
        self.restart();
    }

    /// The median share of its requests that an endpoint refuses.
    fn refusal_rate(&self) -> f32 {
        let mut so_far = 0;
        let part = self.refusing.iter().position(|count| {
            so_far += count;
            2 * so_far >= self.judged.max(1)
        });
        part.unwrap_or(0) as f32 / PARTS as f32
    }

    /// Ejects for low scores, by what is usual now among the others: when a bucket leaves the window, all may be worse
    /// at once than they were. In the first seconds of a common fault the window still shows the successes before it,
    /// so what fails at this moment counts: otherwise the endpoints that got most requests since would be ejected for
    /// what all have. Ejects only a member that has failed a request recently or is slow, as one with few
    /// requests since all failed shows that failure for longer than the others.
    fn eject_for_scores<E: Endpoint>(&self, slots: &[Slot<E>], shared: &Shared, now: Tick) {
        let common = shared.common_error_rate(now);
        for &(seen, own) in &self.scored {
            let usual = shared.usual();
            let found = find(slots, seen);
            let Some(core) = found.filter(|core| core.may_be_out_by_score(now, &usual)) else {
                continue;
            };
            let rate = usual.error_rate().max(self.all.without(own).fault_rate());
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
        let reports: Vec<_> = self.reports.iter().map(|(_, report)| *report).collect();
        let (outliers, thresholds) = outliers(&shared.ejection, &reports);
        shared.rates.set_thresholds(&thresholds);
        for (at, found) in outliers {
            if let Some(core) = find(slots, self.reports[at].0) {
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

/// Whether a detector is on that compares endpoints at upkeep.
fn compares(shared: &Shared) -> bool {
    let settings = &shared.ejection;
    settings.success_rate_stdev_factor > 0.0
        || settings.failure_percentage_threshold > 0
        || settings.latency_factor > 0.0
}
