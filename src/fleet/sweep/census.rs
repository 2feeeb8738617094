//! What one sweep counts of the members.

use std::time::Duration;

use super::Seen;
use crate::health::{Counts, Health, Report, compares_endpoints, earned_ejection, lower_median};
use crate::member::State;
use crate::shared::{COMMON_FAULT_SHARE, Shared};
use crate::time::Tick;

/// An endpoint that has answered within this time has work to do, so its latency shows strain.
const RECENT_MILLIS: u32 = 1_000;

/// An endpoint stands out if the evidence against it is at least this share of what ejects. It then counts by itself,
/// and not for the fleet.
const STANDS_OUT: f32 = 0.6;

/// The share of its requests that an endpoint refuses is counted in this many steps.
const PARTS: u64 = 20;

/// What a sweep has counted so far.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) latencies: Vec<Duration>,
    /// The latencies of members that have answered within [`RECENT_MILLIS`].
    pub(super) recent: Vec<Duration>,
    /// The strain of each busy member: its latency as a multiple of its baseline latency, while no more members are out
    /// than can be spared.
    strains: Vec<f32>,
    /// The requests of all judged members; and those of the members that stand out, with the number of these.
    pub(super) all: Counts,
    standing_out: Counts,
    standing_out_count: usize,
    /// The requests of members that are marked up: they earn invitations like any other.
    pub(super) unjudged: Counts,
    /// How many members refuse which share of their requests, in steps of one in [`PARTS`].
    refusing: [usize; PARTS as usize + 1],
    /// The requests of judged members that have answered: how many were abandoned, and how many were not.
    abandoned: u64,
    not_abandoned: u64,
    pub(super) suspects: usize,
    /// How many members have failed unusually many of their last requests, but no more than half.
    pub(super) failing_in_part: usize,
    pub(super) judged: usize,
    pub(super) warming: usize,
    /// Members whose score ejects, by what was usual at the last sweep, with their own requests.
    pub(super) scored: Vec<(Seen, Counts)>,
    /// What the detectors that compare members look at, if any of these is on.
    pub(super) reports: Vec<(Seen, Report)>,
}

impl Census {
    /// Makes it empty for the next sweep. The lists keep their memory.
    pub(super) fn clear(&mut self) {
        let last = std::mem::take(self);
        *self = Self {
            latencies: emptied(last.latencies),
            recent: emptied(last.recent),
            strains: emptied(last.strains),
            scored: emptied(last.scored),
            reports: emptied(last.reports),
            ..Self::default()
        };
    }

    /// Counts the latency of a member that takes requests, `passed` after the last sweep.
    pub(super) fn note_latency(
        &mut self,
        core: &State,
        passed: Duration,
        shared: &Shared,
        now: Tick,
    ) {
        let Some(latency) = core.latency.get() else {
            return;
        };
        self.latencies.push(latency);
        // An idle member's latency drifts to the usual one, so it does not show strain.
        if core.latency.idle_millis(now) < RECENT_MILLIS {
            self.recent.push(latency);
            let strain = shared.strain_of(&core.baseline_latency, latency, passed);
            self.strains.extend(strain);
        }
    }

    /// Counts a member that is in. Returns whether it may be invited: not if it is about to be ejected.
    pub(super) fn judge(
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
        if core.latency.has_answers() {
            self.abandoned += u64::from(core.untold(now).0);
            self.not_abandoned += own.total;
        }
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
        if compares_endpoints(settings) {
            self.reports.push((seen, report));
        }
        if has_earned {
            self.scored.push((seen, own));
        }
        !has_earned && !is_suspicious
    }

    /// The requests that tell what is usual. If many members stand out, the fault is shared, so all of them count.
    pub(super) fn counted(&self) -> Counts {
        match (self.standing_out_count as f64) < COMMON_FAULT_SHARE * self.judged as f64 {
            true => self.all.without(self.standing_out),
            false => self.all,
        }
    }

    /// The median strain, if it is known of most members that answer now.
    pub(super) fn strain(&mut self) -> Option<f32> {
        let are_most = 2 * self.strains.len() >= self.recent.len();
        lower_median(&mut self.strains, f32::total_cmp).filter(|_| are_most)
    }

    /// The median share of its requests that an endpoint refuses.
    pub(super) fn refusal_rate(&self) -> f32 {
        let mut so_far = 0;
        let part = self.refusing.iter().position(|count| {
            so_far += count;
            2 * so_far >= self.judged.max(1)
        });
        part.unwrap_or(0) as f32 / PARTS as f32
    }

    /// The share of requests that callers abandon at members that answer.
    pub(super) fn abandoned_rate(&self) -> f32 {
        let all = self.abandoned + self.not_abandoned;
        self.abandoned as f32 / all.max(1) as f32
    }
}

fn emptied<T>(mut list: Vec<T>) -> Vec<T> {
    list.clear();
    list
}
