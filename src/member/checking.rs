//! Checks out of band of one member: whether it is in doubt, and what a check's result does to it.

use std::time::Duration;

use super::ejecting::Conclusion;
use super::standing::{Finding, Phase, ProbedBy};
use super::state::State;
use crate::health::{CheckResult, CheckWeighing, Detector, Judging, first_time};
use crate::outcome::Outcome;
use crate::shared::TICK_TTL;
use crate::time::Tick;

/// For this long after an endpoint could not be ejected because the cap is reached, or after most requests failed,
/// ejected endpoints that pass checks return sooner.
const URGENT: Duration = Duration::from_secs(1);

/// How a check has ended that was the half-open probe of an ejected member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) epoch: u32,
    pub(crate) result: CheckResult,
    /// Whether enough checks in a row have passed, by the settings, for it to come back.
    pub(crate) enough: bool,
    /// How long until the next check, if this one failed.
    pub(crate) wait: Duration,
}

impl State {
    /// Whether it is under suspicion while a check driver is there to clear it out of band. Not where the test does not
    /// eject: no check tests an endpoint for it then, and it would be avoided until the evidence has faded.
    pub(super) fn is_suspect(&self, now: Tick) -> bool {
        let settings = &self.shared.ejection;
        settings.cusum_threshold > 0.0
            && !settings.detect_only.contains(Detector::Cusum)
            && self.shared.prober.is_here(now)
            && self.standing.get().is_in()
            && self.suspicion(now) > 0.0
    }

    /// Whether checks out of band should test it at once. Not where they would never end: where the test does not
    /// eject, or has reached its threshold at the cap. Nor where so many others are under suspicion that all would be
    /// checked at once.
    pub(crate) fn is_in_doubt(&self, now: Tick) -> bool {
        let settings = &self.shared.ejection;
        self.is_suspect(now)
            && f64::from(self.suspicion(now)) < settings.cusum_threshold
            && !self.shared.rates.are_many_suspect(true)
    }

    /// Whether it has had a request, as far as is known: one that ended well, one in flight, or one within the window.
    pub(crate) fn had_traffic(&self, now: Tick) -> bool {
        self.latency.get().is_some() || self.gate.inside() > 0 || self.gate.counts(now).total > 0
    }

    /// Takes in the outcome of a check of a member that is in. It counts like a request for the sequential test.
    pub(crate) fn checked(&self, outcome: Outcome, weighing: CheckWeighing, now: Tick) {
        let Some(rule) = self.rule() else {
            return;
        };
        let standing = self.standing.get();
        let was_suspect = !rule.suspicion.is_none();
        if !standing.is_in() || !(was_suspect || weighing == CheckWeighing::Anyway) {
            return;
        }
        let own = self.own_doubts(was_suspect, now);
        let usual = self.shared.usual_now(self.shared.shard(), own, now);
        let least = match weighing {
            CheckWeighing::IfSuspect(share) => share.into(),
            CheckWeighing::Anyway => 0.0,
        };
        let rate = usual.error_rate().max(least);
        let others = self.shared.usual().with_error_rate(rate);
        if outcome == Outcome::Success {
            self.clear_suspicion(now, &others, |cx| rule.passed(&self.shared.ejection, cx));
        } else if outcome.is_fault() {
            let cx = Judging::new(now, &others)
                .with_fading(self.fading(now))
                .on_parole_if(self.is_on_parole(now));
            let found = rule.check_failed(&self.shared.ejection, outcome, &cx);
            if !was_suspect && !rule.suspicion.is_none() {
                self.shared.rates.add_suspect();
            }
            // After the count, as after a failed request.
            self.gate.watch();
            self.set_penalty(now, &usual);
            if !found.is_empty() {
                self.eject(standing.epoch, found, now);
            }
        }
    }

    /// Takes the probe for a check out of band, if it is due. The probe is given up after `patience`.
    pub(crate) fn claim_check(&self, now: Tick, patience: Duration) -> Option<u32> {
        let longest = self.shared.longest_ejection();
        let before = self.standing.get();
        let epoch = self.standing.claim_probe(
            self,
            ProbedBy::Check,
            now,
            |_| patience.min(longest),
            longest,
        )?;
        if before.phase == Phase::Probing || before.overdue(now) > TICK_TTL {
            // The last probe was given up, or no driver has checked for a while.
            self.reset_passes();
        }
        // If this check is lost and its driver gone, a request becomes the next probe.
        let due = self.standing.get().probe_due_at(now);
        self.shared.probe_due.lower(due);
        Some(epoch)
    }

    /// Acts on the end of a check. Returns after which time the next one comes if the endpoint stays out.
    ///
    /// Passes in place of requests are spread over the base ejection time: an endpoint that is well for less than that
    /// between two failures is not well.
    pub(crate) fn probed(&self, check: Probed, now: Tick) -> Duration {
        let Probed { epoch, result, .. } = check;
        let settings = &self.shared.ejection;
        let wait = check.wait.min(self.shared.longest_ejection());
        let needed = self.probes_for_return(now);
        let mut conclusion = match result {
            // The thresholds of checks decide the return of an endpoint that checks ejected.
            CheckResult::Pass if needed == 0.0 && !check.enough => Conclusion::none_for(wait),
            CheckResult::Pass => self.weigh(true, now),
            CheckResult::NoAnswer | CheckResult::Fail => self.weigh(false, now),
            CheckResult::Inconclusive => Conclusion::none_for(wait),
        };
        let can_spare_all = settings.spare_capacity_percent >= 100;
        let is_urgent = self.shared.is_short()
            || (!can_spare_all && self.shared.rates.has_overflowed(URGENT, now));
        let spread = first_time(settings, is_urgent) / (needed as u32).saturating_sub(1).max(1);
        let wait = match conclusion.finding {
            Finding::Inconclusive(Duration::ZERO) => spread,
            _ => wait,
        };
        if conclusion.finding != Finding::Good || !check.enough {
            // A failed check does not lengthen the ejection: a longer one is there to spare requests.
            conclusion.finding = Finding::Inconclusive(wait);
        }
        if self.standing.awaits(epoch) {
            match result {
                CheckResult::Pass if needed > 0.0 => self.note_pass(now),
                CheckResult::NoAnswer | CheckResult::Fail => self.reset_passes(),
                CheckResult::Pass | CheckResult::Inconclusive => {}
            }
            if conclusion.finding == Finding::Good {
                // A request as the probe would have shown its present latency; a check does not.
                self.latency.reset(self.shared.usual().latency());
            }
        }
        self.apply(epoch, conclusion, now);
        wait
    }
}
