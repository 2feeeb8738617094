//! The sweep over all members, a slice at a time: works out what is usual in the fleet, publishes scores and costs, and
//! finds outliers to eject.

mod cap_pressure;

use std::cmp::Ordering;
use std::time::Duration;

use super::change::Slot;
use super::upkeep::SLICE;
use crate::endpoint::Endpoint;
use crate::health::{Detector, Detectors, Report, earned_ejection, outliers};
use crate::member::{Guest, State};
use crate::options::MemberId;
use crate::shared::{COMMON_FAULT_SHARE, EventKind, Shared};
use crate::time::Tick;
use cap_pressure::CapPressure;

/// The share of requests that may be invitations. An invitation makes the next pick of a policy that compares costs
/// choose an idle member: that is how the fleet finds out whether an avoided endpoint has recovered.
const INVITED: f64 = 0.02;

/// After this many invitations to endpoints without data, one goes to the endpoint that has been idle longest.
const UNKNOWN: u32 = 2;

/// An endpoint that has answered within this time has work to do, so its latency shows strain.
const RECENT_MILLIS: u32 = 1_000;

/// The most invitations that are saved up.
const SAVED: f64 = 3.0;

/// How many requests without a failure are added to the fleet's, so that the first of few failures says little about
/// the whole fleet.
const PRIOR: f64 = 50.0;

/// An endpoint stands out if the evidence against it is at least this share of what ejects. It then counts by itself,
/// and not for the fleet.
const STANDS_OUT: f32 = 0.6;

/// The share of its requests that an endpoint refuses is counted in this many steps.
const PARTS: u64 = 20;

/// A number of requests, and how many of them failed.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    requests: u64,
    faults: u64,
}

impl Share {
    const fn add(&mut self, requests: u64, faults: u64) {
        self.requests += requests;
        self.faults += faults;
    }

    fn rate(self) -> f64 {
        self.faults as f64 / self.requests.max(1) as f64
    }

    const fn without(self, others: &Self) -> Self {
        Self {
            requests: self.requests - others.requests,
            faults: self.faults - others.faults,
        }
    }
}

/// The progress of a sweep over the members, and what it has seen so far.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: usize,
    latencies: Vec<Duration>,
    /// The strain of each busy member: its latency as a multiple of its baseline latency, while no more members are out
    /// than can be spared.
    strains: Vec<f32>,
    /// How many members have answered within [`RECENT_MILLIS`].
    recent: usize,
    /// When the sweep began, and how long after the one before.
    begun: Option<Tick>,
    passed: Duration,
    /// When the first sweep began.
    first: Option<Tick>,
    /// The requests of all judged members; and those of the members that stand out, with the number of these.
    all: Share,
    standing_out: (Share, usize),
    /// The requests of members that are marked up: they earn invitations like any other.
    unjudged: Share,
    /// How many members refuse which share of their requests, in steps of one in [`PARTS`].
    refusing: [usize; PARTS as usize + 1],
    cap_pressure: CapPressure,
    /// Whether the probes of ejected members are to be brought forward, because their slots under the cap are wanted.
    makes_room: bool,
    suspects: usize,
    judged: usize,
    warming: usize,
    /// Members whose score ejects, by what was usual at the last sweep, with their own requests.
    scored: Vec<(usize, MemberId, Share)>,
    /// What the detectors that compare members look at, if any of these is on.
    reports: Vec<(usize, MemberId, Report)>,
    /// Of the members that may be invited, the one idle longest: for how long, its index and id.
    idlest: Option<(u32, usize, MemberId)>,
    /// Of the members without data, the first of the least invited: how often, its index and id.
    unknown: Option<(u8, usize, MemberId)>,
    /// Invitations saved up.
    invitations: f64,
    /// How many invitations in a row went to members without data.
    in_a_row: u32,
    /// The sum of the weights seen, and their number; below, the mean of the last sweep.
    weights: (u64, u32),
    mean_weight: f32,
}

impl Sweep {
    pub(super) fn restart(&mut self) {
        *self = Self {
            latencies: std::mem::take(&mut self.latencies),
            strains: std::mem::take(&mut self.strains),
            begun: self.begun,
            first: self.first,
            reports: std::mem::take(&mut self.reports),
            scored: std::mem::take(&mut self.scored),
            invitations: self.invitations,
            in_a_row: self.in_a_row,
            mean_weight: self.mean_weight,
            cap_pressure: self.cap_pressure,
            makes_room: self.makes_room,
            ..Self::default()
        };
        self.latencies.clear();
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
            self.makes_room |= self.cap_pressure.claim_room(shared, now);
        }
        let end = slots.len().min(self.next + SLICE);
        for (index, slot) in (self.next..).zip(slots.get(self.next..end).unwrap_or_default()) {
            if !slot.draining {
                let weight = slot.member.weight().get();
                if slot.is_routable() {
                    self.weights.0 += u64::from(weight);
                    self.weights.1 += 1;
                }
                let core = slot.member.core();
                self.look(index, (slot.is_routable(), weight), core, shared, now);
            }
        }
        self.next = end;
        let done = end >= slots.len();
        if done {
            self.finish(slots, shared, now);
        }
        done
    }

    fn look(
        &mut self,
        index: usize,
        (routable, weight): (bool, u32),
        core: &State,
        shared: &Shared,
        now: Tick,
    ) {
        core.forget_spared(now);
        let usual = shared.usual();
        let standing = core.standing.get();
        // With requests in flight it is not idle, even if it has not answered for a while.
        let is_idle = core.gate.inside() == 0;
        if let Some(usual) = usual.latency().filter(|_| is_idle) {
            core.latency.settle(now, usual, shared.interval());
        }
        if routable && standing.takes_requests() {
            if let Some(latency) = core.latency.get() {
                self.latencies.push(latency);
                // An idle member's latency drifts to the usual one, so it does not show strain.
                if core.latency.idle_millis(now) < RECENT_MILLIS {
                    self.recent += 1;
                    let strain = shared.strain_of(&core.baseline_latency, latency, self.passed);
                    self.strains.extend(strain);
                }
            }
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
        self.warming += usize::from(routable && is_back);
        if has_warmed && core.standing.warmed() {
            core.tell(now, EventKind::SlowStartOver);
        }
        let Some((health, report)) = core.examine(now, &usual) else {
            return;
        };
        if !standing.is_in() {
            if standing.takes_requests() {
                self.unjudged.add(report.total, report.faults);
                self.may_invite(index, weight, core, is_idle, shared, now);
            }
            return;
        }
        self.judged += 1;
        let (suspicion, threshold) = (core.suspicion(now), shared.ejection.cusum_threshold as f32);
        self.suspects += usize::from(suspicion > 0.0);
        let suspicion = core.evidence(now);
        self.all.add(report.total, report.faults);
        let (refused, answered) = core.refusals(now);
        let part = refused * PARTS / (refused + answered).max(1);
        self.refusing[part as usize] += 1;
        let stands_out = match core.rule() {
            Some(_) => threshold > 0.0 && suspicion >= STANDS_OUT * threshold,
            None => earned_ejection(&shared.ejection, health),
        };
        if stands_out {
            self.standing_out.0.add(report.total, report.faults);
            self.standing_out.1 += 1;
        }
        if compares(shared) {
            self.reports.push((index, core.id, report));
        }
        if shared.ejection.score_threshold > 0.0 && earned_ejection(&shared.ejection, health) {
            let mut own = Share::default();
            own.add(report.total, report.faults);
            self.scored.push((index, core.id, own));
        } else if threshold <= 0.0 || suspicion < STANDS_OUT * threshold {
            self.may_invite(index, weight, core, is_idle, shared, now);
        }
    }

    /// Looks whether this member may be invited. Not one that is on trial after an ejection; a new one in slow start may
    /// be, as it would get nothing where requests are few: others are known, and cost less.
    fn may_invite(
        &mut self,
        index: usize,
        weight: u32,
        core: &State,
        is_idle: bool,
        shared: &Shared,
        now: Tick,
    ) {
        let guest = core.may_be_invited(now).filter(|_| is_idle);
        let is_on_trial = core.was_ejected() && core.standing.get().warming_for(now).is_some();
        match guest.filter(|_| !is_on_trial) {
            Some(Guest::Unknown(times)) => {
                let guest = (times, index, core.id);
                self.unknown = Some(self.unknown.map_or(guest, |other| other.min(guest)));
            }
            Some(Guest::Idle(idle)) if self.may_wait(weight, idle, shared.rates.pace()) => {}
            Some(Guest::Idle(idle)) => {
                self.idlest = self.idlest.max(Some((idle, index, core.id)));
            }
            None => {}
        }
    }

    /// Whether a member lighter than the mean has been idle for no longer than until its turn may come, at `pace`
    /// requests a second per member. Then it is not avoided. Invited each second, a member of a hundredth of the
    /// others' weight got twenty times its share.
    fn may_wait(&self, weight: u32, idle: u32, pace: f32) -> bool {
        const TURNS: f32 = 2.0;
        let times_lighter = self.mean_weight / weight as f32;
        times_lighter > 1.0 && idle as f32 / 1_000.0 * pace < TURNS * times_lighter
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
        self.mean_weight = self.weights.0 as f32 / self.weights.1.max(1) as f32;
        let median = lower_median(&mut self.latencies, Duration::cmp);
        shared.set_usual_latency(median);
        let are_most = 2 * self.strains.len() >= self.recent;
        let strain = lower_median(&mut self.strains, f32::total_cmp).filter(|_| are_most);
        shared.note_capacity(self.warming, strain);
        // If many members stand out, the fault is shared, so all of them count.
        let (out, count) = &self.standing_out;
        let counted = match (*count as f64) < COMMON_FAULT_SHARE * self.judged as f64 {
            true => self.all.without(out),
            false => self.all,
        };
        let error_rate = counted.faults as f64 / (counted.requests as f64 + PRIOR);
        shared.rates.publish(error_rate, self.suspects, self.judged);
        shared.rates.set_refusal_rate(self.refusal_rate());
        let pace = counted.requests as f64 / self.judged.max(1) as f64;
        shared
            .rates
            .set_pace((pace / self.span(shared, now).as_secs_f64()) as f32);
        self.eject_for_scores(slots, shared, now);
        if compares(shared) {
            let reports: Vec<_> = self.reports.iter().map(|(.., report)| *report).collect();
            let (outliers, thresholds) = outliers(&shared.ejection, &reports);
            shared.rates.set_thresholds(&thresholds);
            for (at, found) in outliers {
                let (index, id, _) = self.reports[at];
                if let Some(core) = found_at(slots, index, id) {
                    let epoch = core.standing.get().epoch;
                    core.eject(epoch, found, now);
                }
            }
        }
        self.invite(
            slots,
            shared,
            counted.requests + self.unjudged.requests,
            now,
        );
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
    /// at once than they were. Ejects only a member that has failed a request recently or is slow, as one with few
    /// requests since all failed shows that failure for longer than the others.
    fn eject_for_scores<E: Endpoint>(&self, slots: &[Slot<E>], shared: &Shared, now: Tick) {
        for &(index, id, ref own) in &self.scored {
            let usual = shared.usual();
            let found = found_at(slots, index, id);
            let Some(core) = found.filter(|core| core.may_be_out_by_score(now, &usual)) else {
                continue;
            };
            let rate = usual.error_rate().max(self.all.without(own).rate());
            let usual = usual.with_error_rate(rate);
            let epoch = core.standing.get().epoch;
            let health = core.examine(now, &usual).map(|(health, _)| health);
            if health.is_some_and(|health| earned_ejection(&shared.ejection, health)) {
                core.eject(epoch, Detectors::NONE.with(Detector::Score), now);
            }
        }
    }

    /// Invites the member whose turn it is, if so many requests in the window have earned an invitation.
    fn invite<E: Endpoint>(
        &mut self,
        slots: &[Slot<E>],
        shared: &Shared,
        requests: u64,
        now: Tick,
    ) {
        // A late sweep earns no more than one in time, so that requests still go by turns where they are few; except
        // while a member without data waits.
        let passed = match self.unknown {
            Some(_) => self.passed.max(shared.interval()),
            None => shared.interval(),
        };
        let passed = passed.as_secs_f64() / self.span(shared, now).as_secs_f64();
        let earned = INVITED * requests as f64 * passed.min(1.0);
        self.invitations = (self.invitations + earned).min(SAVED);
        if self.invitations < 1.0 {
            return;
        }
        let idlest = self.idlest.map(|(_, index, id)| (index, id));
        let unknown = self.unknown.map(|(_, index, id)| (index, id));
        let takes_unknown = self.in_a_row < UNKNOWN || idlest.is_none();
        let (guest, in_a_row) = match unknown.filter(|_| takes_unknown) {
            Some(guest) => (Some(guest), (self.in_a_row + 1).min(UNKNOWN)),
            None => (idlest, 0),
        };
        if let Some(core) = guest.and_then(|(index, id)| found_at(slots, index, id)) {
            core.invite(now);
            self.invitations -= 1.0;
            self.in_a_row = in_a_row;
        }
    }
}

/// The member found before, if it is still at that index: an update may have moved it.
fn found_at<E: Endpoint>(slots: &[Slot<E>], index: usize, id: MemberId) -> Option<&State> {
    let slot = slots.get(index).filter(|slot| slot.member.id() == id);
    slot.map(|slot| &**slot.member.core())
}

/// The median, the lower one of an even number: of two values, the slow one is not what is usual.
fn lower_median<T: Copy>(values: &mut [T], order: impl FnMut(&T, &T) -> Ordering) -> Option<T> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, order).1)
}

/// Whether a detector is on that compares endpoints at upkeep.
fn compares(shared: &Shared) -> bool {
    let settings = &shared.ejection;
    settings.success_rate_stdev_factor > 0.0
        || settings.failure_percentage_threshold > 0
        || settings.latency_factor > 0.0
}
