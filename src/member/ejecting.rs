//! Ejections and returns: what a verdict, a probe or the writer does to a member's standing, and what goes with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::standing::{Finding, Keeper, Phase, Verdict};
use super::state::{PastEjection, State};
use crate::health::{Detector, Detectors, Evidence, ejection_time, first_time, times_left};
use crate::outcome::Outcome;
use crate::shared::{COMMON_FAULT_SHARE, EventKind, Own, Return, mix};
use crate::sync::Ordering;
use crate::time::Tick;

/// How many good checks out of band count as one good probe by a request.
const CHECKS_FOR_A_PROBE: u32 = 3;

/// The good probes still wanted are counted in this many parts of one. At most six times the highest setting is wanted.
const WANTED_PARTS: f32 = 100.0;

/// What a probe's end means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conclusion {
    pub(super) finding: Finding,
    /// How many good probes are wanted from then on; `None` for as many as before.
    pub(super) wanted: Option<f32>,
}

impl Conclusion {
    const GOOD: Self = Self {
        finding: Finding::Good,
        wanted: None,
    };

    const fn bad(wanted: f32) -> Self {
        Self {
            finding: Finding::Bad,
            wanted: Some(wanted),
        }
    }

    /// No verdict: the next probe may come after `wait`.
    pub(super) const fn none_for(wait: Duration) -> Self {
        Self {
            finding: Finding::Inconclusive(wait),
            wanted: None,
        }
    }

    const fn wanting(self, wanted: f32) -> Self {
        Self {
            wanted: Some(wanted),
            ..self
        }
    }
}

impl State {
    /// Ejects the member for what was found, if that is enforced, it has been in since `epoch`, and the cap allows it.
    pub(crate) fn eject(&self, epoch: u32, found: Detectors, now: Tick) {
        let shared = &*self.shared;
        let settings = &shared.ejection;
        let standing = self.standing.get();
        if standing.epoch != epoch || !standing.is_in() {
            // In panic, ejected and marked-down endpoints get requests too, and checks of the marked go on.
            return;
        }
        shared.counters.count_found(found);
        let Some(cause) = found.without(settings.detect_only).iter().next() else {
            return;
        };
        let random = shared.random(shared.shard());
        let fleet_state = shared.fleet_state();
        let verdict = self.standing.eject(
            self,
            epoch,
            now,
            |times, stayed| times_left(settings, times, fleet_state.short, stayed),
            |times| ejection_time(settings, times, fleet_state, random),
        );
        match verdict {
            Verdict::Ejected => {
                // ORDERING: Relaxed. As in `ejected_at`.
                self.ejected_at.store(now.as_nanos(), Ordering::Relaxed);
                // ORDERING: Relaxed. As in `cause`.
                self.cause
                    .store(Detector::pack(Some(cause)), Ordering::Relaxed);
                self.note_evidence(cause, now);
                self.reset_wanted(now);
                shared.counters.count_ejected(cause);
                self.on_ejected(now);
            }
            Verdict::Full => {
                shared.counters.overflows.count();
                shared.rates.note_overflow(now);
            }
            Verdict::Stale => {}
        }
    }

    /// Acts on the endpoint's announcement that it is going away, unless the standing has moved since `epoch`. Policies
    /// prefer others for a moment, and the endpoint is ejected as far as the cap allows.
    pub(super) fn on_going_away(&self, epoch: u32, now: Tick) {
        if self.standing.epoch() == epoch {
            self.spare_a_moment(now);
            self.eject(epoch, Detectors::NONE.with(Detector::GoingAway), now);
        }
    }

    /// Whether it has ever been ejected.
    pub(crate) fn was_ejected(&self) -> bool {
        self.ejected_at() > 0
    }

    /// When it was last ejected, in nanoseconds; 0 if never.
    pub(crate) fn ejected_at(&self) -> u64 {
        // ORDERING: Relaxed. Decides an order among the ejected, nothing else.
        self.ejected_at.load(Ordering::Relaxed)
    }

    /// Follows an ejection: the member is to be probed when its time is up.
    fn on_ejected(&self, now: Tick) {
        let standing = self.standing.get();
        let until = standing.probe_due_at(now);
        self.shared.probe_due.lower(until);
        let ejected = EventKind::Ejected {
            detector: self.cause(),
            times: standing.times,
            until,
        };
        self.tell(now, ejected);
        self.shared.settle_panic(now);
    }

    /// Wants as many good probes as a return takes.
    fn reset_wanted(&self, now: Tick) {
        self.reset_passes();
        self.set_wanted(self.probes_for_return(now));
    }

    /// How many good probes a return takes. Three times as many where a driver checks out of band, as checks fail no
    /// request. 0 for an endpoint ejected by checks: their own thresholds decide its return.
    pub(super) fn probes_for_return(&self, now: Tick) -> f32 {
        let times = match self.cause() {
            Some(Detector::ActiveCheck) => 0,
            _ if self.shared.prober.is_here(now) => CHECKS_FOR_A_PROBE,
            _ => 1,
        };
        (self.shared.ejection.healthy_threshold * times) as f32
    }

    /// What it was last ejected for.
    pub(crate) fn cause(&self) -> Option<Detector> {
        // ORDERING: Relaxed. For display, and for how many checks bring it back.
        Detector::read(self.cause.load(Ordering::Relaxed))
    }

    fn set_wanted(&self, wanted: f32) {
        // ORDERING: Relaxed. One probe is out at a time; the standing orders one after the other.
        self.wanted
            .store((wanted * WANTED_PARTS).ceil() as u16, Ordering::Relaxed);
    }

    /// How many more good probes are wanted.
    pub(super) fn wanted(&self) -> f32 {
        // ORDERING: Relaxed. As in `set_wanted`.
        f32::from(self.wanted.load(Ordering::Relaxed)) / WANTED_PARTS
    }

    /// Acts on a probe's outcome. One without a verdict leaves the endpoint out for the base ejection time, so that an
    /// endpoint that never gives a verdict does not get every request. If the endpoint said when to come again, it
    /// stays out until then, at most for the longest ejection.
    pub(super) fn conclude(&self, epoch: u32, outcome: Outcome, now: Tick) {
        let settings = &self.shared.ejection;
        let conclusion = match outcome {
            Outcome::Success => self.weigh(true, now),
            outcome if outcome.is_fault() => self.weigh(false, now),
            Outcome::Overloaded {
                retry_after: Some(wait),
            } => {
                let (least, longest) = (settings.base_ejection_time, settings.longest_ejection());
                Conclusion::none_for(wait.clamp(least, longest))
            }
            // It has only begun to go away: good probes before that say nothing of what comes after.
            Outcome::GoingAway => Conclusion::none_for(settings.base_ejection_time)
                .wanting(self.probes_for_return(now)),
            _ => Conclusion::none_for(settings.base_ejection_time),
        };
        if self.standing.awaits(epoch) {
            // From here on requests are the probes.
            self.reset_passes();
        }
        self.apply(epoch, conclusion, now);
    }

    /// What a probe's end means after those before it. It counts for as much
    /// as it proves: where the whole fleet fails, a failure proves little and a success much.
    pub(super) fn weigh(&self, success: bool, now: Tick) -> Conclusion {
        /// A failure with less evidence than this does not renew the ejection by itself.
        const PROOF: f32 = 2.0;
        /// Every failure counts for at least this: otherwise probes would never end where the whole fleet fails.
        const LEAST: f32 = 0.075;
        let usual = self.shared.usual_now(self.shared.shard(), Own::OUT, now);
        let (evidence, plain) = (
            Evidence::against(usual.error_rate() as f32),
            Evidence::against(0.0),
        );
        let needed = self.probes_for_return(now);
        let wanted = self.wanted();
        let next = if success {
            wanted - evidence.success / plain.success
        } else {
            wanted + evidence.fault.max(LEAST) / plain.success
        };
        // Less than half a probe counts as none: unless the fleet never fails, a success may prove a little less than
        // one.
        if next < 0.5 {
            Conclusion::GOOD
        } else if success || (evidence.fault < PROOF && next <= 2.0 * needed) {
            Conclusion::none_for(Duration::ZERO).wanting(next)
        } else if usual.error_rate() >= COMMON_FAULT_SHARE {
            // As long again, but no longer: else all would stay out for long after a fault that they share.
            Conclusion::none_for(self.present_ejection_time()).wanting(needed)
        } else {
            Conclusion::bad(needed)
        }
    }

    /// How long an ejection takes after as many in a row as there have been.
    fn present_ejection_time(&self) -> Duration {
        let shared = &*self.shared;
        let (times, random) = (self.standing.get().times, shared.random(shared.shard()));
        ejection_time(&shared.ejection, times, shared.fleet_state(), random)
    }

    /// Brings the probe forward, as another endpoint is to be ejected and the cap is reached, or as most requests fail:
    /// this one may have recovered.
    pub(crate) fn make_room(&self, now: Tick) {
        let length = first_time(&self.shared.ejection, true);
        self.hasten_to(now, |_| length);
    }

    /// Brings the probe forward to when it would be due if the ejection began now, as the fleet is short of capacity.
    pub(crate) fn hasten(&self, now: Tick, index: usize) {
        let (shared, fleet_state) = (&*self.shared, self.shared.fleet_state());
        // The number is the same at each look: of many draws the shortest jitter would win. Endpoints that were ejected
        // at the same time differ by their index in the set, not by their id, as ids are counted over the process.
        let random = mix(self.ejected_at() ^ mix(index as u64));
        self.hasten_to(now, |times| {
            ejection_time(&shared.ejection, times, fleet_state, random)
        });
    }

    /// Brings the probe forward, unless the endpoint has said when to come again.
    fn hasten_to(&self, now: Tick, length: impl FnOnce(u32) -> Duration) {
        if self.spared_for(now).is_none() && self.standing.hasten(now, length) {
            let due = self.standing.get().probe_due_at(now);
            self.shared.probe_due.lower(due);
        }
    }

    /// The probe of `epoch` was not sent; another may be sent at once.
    pub(super) fn call_off(&self, epoch: u32, now: Tick) {
        self.apply(epoch, Conclusion::none_for(Duration::ZERO), now);
    }

    /// Renews the ejection if its probe has run out of time. Used where probes are limited, so that others get the
    /// slot: otherwise the next probe of the same endpoint would take it over, for ever if the endpoint hangs.
    pub(super) fn give_up_probe(&self, now: Tick) {
        let standing = self.standing.get();
        let is_due = standing.probe_is_due(now, self.shared.longest_ejection());
        if standing.phase == Phase::Probing && is_due {
            let wanted = self.probes_for_return(now);
            self.reset_passes();
            self.apply(standing.epoch, Conclusion::bad(wanted), now);
        }
    }

    pub(super) fn apply(&self, epoch: u32, conclusion: Conclusion, now: Tick) {
        let Conclusion { finding, wanted } = conclusion;
        let shared = &*self.shared;
        let return_phase = self.return_phase();
        if finding == Finding::Good {
            if self.standing.awaits(epoch) {
                // Before the return: nothing recorded after it is lost, and nothing from before it ejects again.
                self.forget_record(now);
            }
            self.note_slow_start(return_phase, now);
        }
        let random = shared.random(shared.shard());
        let fleet_state = shared.fleet_state();
        let changed = self.standing.conclude(self, epoch, finding, now, |times| {
            ejection_time(&shared.ejection, times, fleet_state, random)
        });
        if !changed {
            return;
        }
        if let Some(wanted) = wanted {
            self.set_wanted(wanted);
        }
        if shared.limits.max_probes.is_some() {
            // Another probe may have been due, and have waited for this one's slot.
            shared.probe_due.lower(now);
        }
        match finding {
            Finding::Good => {
                let by = Return::Probe;
                self.tell(now, EventKind::Returned { by });
                self.tell_slow_start(return_phase, now);
                if fleet_state.short {
                    self.standing.forgive();
                }
                shared.settle_panic(now);
                shared.note_probe_success();
            }
            Finding::Bad | Finding::Inconclusive(_) => {
                if finding == Finding::Bad {
                    let standing = self.standing.get();
                    let (times, until) = (standing.times, standing.probe_due_at(now));
                    self.tell(now, EventKind::Renewed { times, until });
                }
                if finding == Finding::Inconclusive(Duration::ZERO) && wanted.is_some() {
                    // The next probe need not wait: this one was good, or its failure proved little.
                    shared.note_probe_success();
                }
                shared
                    .probe_due
                    .lower(self.standing.get().probe_due_at(now));
            }
        }
    }

    /// Clears the record: what was recorded before must not eject it again.
    pub(crate) fn readmit(&self, now: Tick) {
        let readmitted = AssertUnwindSafe(|| self.forget_record(now));
        if catch_unwind(readmitted).is_err() {
            self.shared.counters.tracker_panics.count();
        }
    }

    /// Brings an ejected member back without a probe, when the writer makes room under the cap.
    pub(crate) fn pardon(&self, now: Tick) {
        self.readmit(now);
        self.reset_passes();
        let return_phase = self.return_phase();
        self.note_slow_start(return_phase, now);
        let from = self.standing.place(self, return_phase, now);
        // If it was held down, an ejection from before is not resumed.
        if from.is_ejected() || from.phase == Phase::Down {
            self.tell(now, EventKind::Returned { by: Return::Pardon });
        }
        self.tell_slow_start(return_phase, now);
    }

    /// What to remember of it while it is out of rotation.
    pub(crate) fn past_ejection(&self) -> PastEjection {
        PastEjection {
            standing: self.standing.get().pack(),
            ejected_at: self.ejected_at(),
            cause: self.cause(),
        }
    }

    /// Keeps it out of rotation until [`resume`](Self::resume). For a member that no pick can reach.
    pub(crate) fn hold_out(&self) {
        self.standing.place(self, Phase::Off, Tick::ZERO);
    }

    /// Keeps picks away from it as long as they can reach it, though it holds no slot of the ledger: it counts as down.
    pub(crate) fn hold_down(&self, now: Tick) {
        self.standing.place(self, Phase::Down, now);
    }

    /// Ends the time out of rotation: resumes the ejection from before, if there was one and the cap leaves room.
    /// Otherwise the member is back in.
    pub(crate) fn resume(&self, past_ejection: PastEjection, now: Tick) {
        // ORDERING: Relaxed, both. As in `ejected_at` and `cause`.
        self.ejected_at
            .store(past_ejection.ejected_at, Ordering::Relaxed);
        self.cause
            .store(Detector::pack(past_ejection.cause), Ordering::Relaxed);
        if self.standing.restore(self, past_ejection.standing()) {
            self.reset_wanted(now);
            self.on_ejected(now);
        } else {
            self.pardon(now);
        }
    }
}
