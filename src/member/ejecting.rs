//! Out and back: what a verdict, a probe or the writer does to a member's standing, and what goes with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::standing::{Finding, Phase, ProbedBy, Verdict};
use super::state::{Former, State};
use crate::health::{Detector, Detectors, Evidence, ejection_time, first_time, times_left};
use crate::outcome::Outcome;
use crate::shared::{EventKind, PRESENCE, Return, mix};
use crate::sync::Ordering;
use crate::time::Tick;

/// How many checks out of band take the place of a request that is a probe.
const CHECKS_FOR_A_PROBE: u32 = 3;

/// For so long after somebody could not be ejected, as the cap is reached, who is out and passes checks is back sooner.
const URGENT: Duration = Duration::from_secs(1);

/// In so many parts of one good probes are counted that are wanted: at most 600 are, twice three times the highest setting.
const WANTED: f32 = 100.0;

impl State {
    /// Ejects for what was found, if that is enforced, the member has been in since `epoch`, and the cap allows.
    pub(crate) fn eject(&self, epoch: u32, found: Detectors, now: Tick) {
        let shared = &*self.shared;
        let settings = &shared.ejection;
        shared.counters.found(found);
        let Some(cause) = found.without(settings.detect_only).iter().next() else {
            return;
        };
        let random = shared.random(shared.shard());
        let strain = shared.strain();
        let verdict = self.standing.eject(
            self,
            epoch,
            now,
            |times, stayed| times_left(settings, times, strain.short, stayed),
            |times| ejection_time(settings, times, strain, random),
        );
        match verdict {
            Verdict::Ejected => {
                // ORDERING: Relaxed. As in `ejected_at`.
                self.ejected_at.store(now.as_nanos(), Ordering::Relaxed);
                // ORDERING: Relaxed. As in `cause`.
                self.cause.store(cause.number(), Ordering::Relaxed);
                self.note_evidence(cause, now);
                self.want_all(now);
                shared.counters.ejected_by(cause);
                self.is_out(now);
            }
            Verdict::Full => {
                shared.counters.overflows.count();
                shared.trend.overflowed(now);
            }
            Verdict::Moot => {}
        }
    }

    /// It has said that it is going away. If it has been in since `epoch` it is out, as far as the cap allows; else others
    /// are preferred for a while.
    pub(super) fn goes_away(&self, epoch: u32, now: Tick) {
        if self.standing.epoch() == epoch {
            self.spare_a_moment(now);
            self.eject(epoch, Detectors::NONE.with(Detector::GoingAway), now);
        }
    }

    /// What the sequential test has against it: more than its suspicion, where checks have passed meanwhile.
    pub(crate) fn evidence(&self, now: Tick) -> f32 {
        self.rule()
            .filter(|rule| !rule.is_quiet())
            .map_or(0.0, |rule| rule.evidence(now, self.fading(now)))
    }

    /// Whether it has ever been ejected.
    pub(crate) fn was_ejected(&self) -> bool {
        self.ejected_at() > 0
    }

    /// When it was ejected the last time.
    pub(crate) fn ejected_at(&self) -> u64 {
        // ORDERING: Relaxed. Decides an order among the ejected, nothing else.
        self.ejected_at.load(Ordering::Relaxed)
    }

    /// It has been ejected: it is to be probed when its time is up.
    fn is_out(&self, now: Tick) {
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

    /// Somebody has left a closed gate. If that was the last of a drain, tells so.
    /// `at` stands for the time should a clock of the user's panic: a lease may be dropped while something else does.
    #[cold]
    pub(crate) fn may_be_drained(&self, at: Tick) {
        if self.shared.events.is_some() && self.gate.may_announce() {
            let now = catch_unwind(AssertUnwindSafe(|| self.shared.now()));
            self.tell(now.unwrap_or(at), EventKind::DrainOver);
        }
    }

    pub(crate) fn tell(&self, now: Tick, kind: EventKind) {
        self.shared.tell(now, Some(self.id), kind);
    }

    /// All good probes are wanted that a return takes.
    fn want_all(&self, now: Tick) {
        self.passes_no_more();
        self.set_wanted(self.all(now));
    }

    /// How many: three times as many where checks out of band are to be had, which fail nobody. Who was sent out by
    /// checks is back when they say so.
    fn all(&self, now: Tick) -> f32 {
        let times = match self.cause() {
            Some(Detector::ActiveCheck) => 0,
            _ if self.shared.prober.is_here(now) => CHECKS_FOR_A_PROBE,
            _ => 1,
        };
        (self.shared.ejection.healthy_threshold * times) as f32
    }

    /// What it was ejected for the last time.
    pub(crate) fn cause(&self) -> Option<Detector> {
        // ORDERING: Relaxed. For display, and for how many checks bring it back.
        Detector::numbered(self.cause.load(Ordering::Relaxed))
    }

    fn set_wanted(&self, wanted: f32) {
        // ORDERING: Relaxed. One probe is out at a time; the standing orders one after the other.
        self.wanted
            .store((wanted * WANTED).ceil() as u16, Ordering::Relaxed);
    }

    /// How many good probes are wanted still.
    pub(super) fn wanted(&self) -> f32 {
        // ORDERING: Relaxed. As in `set_wanted`.
        f32::from(self.wanted.load(Ordering::Relaxed)) / WANTED
    }

    /// Acts on a probe's outcome. One that says nothing leaves the endpoint out: for the base ejection
    /// time, so that an endpoint whose every probe says nothing does not get every request; or, if it
    /// said when to come again, until then, at most for the longest ejection.
    pub(crate) fn conclude(&self, epoch: u32, outcome: Outcome, now: Tick) {
        let settings = &self.shared.ejection;
        let finding = match outcome {
            Outcome::Success => self.weigh(true, now),
            outcome if outcome.is_fault() => self.weigh(false, now),
            Outcome::Overloaded {
                retry_after: Some(wait),
            } => (
                Finding::Nothing(
                    wait.clamp(settings.base_ejection_time, settings.longest_ejection()),
                ),
                None,
            ),
            // It has only begun to go: what was good before says nothing of what comes after.
            Outcome::GoingAway => (
                Finding::Nothing(settings.base_ejection_time),
                Some(self.all(now)),
            ),
            _ => (Finding::Nothing(settings.base_ejection_time), None),
        };
        if self.standing.awaits(epoch) {
            // What counts from here on is requests.
            self.passes_no_more();
        }
        self.find(epoch, finding, now);
    }

    /// What a probe's end means after those before, and how many good ones are wanted then. It counts for as much as it
    /// tells: where all the fleet fails, a failure proves little and a success much.
    fn weigh(&self, success: bool, now: Tick) -> (Finding, Option<f32>) {
        /// A failure that proves less than this is not the end of it.
        const PROOF: f32 = 2.0;
        /// So much any does: where all the fleet fails there would be no end of probes.
        const LEAST: f32 = 0.075;
        let usual = self.shared.usual_now(self.shared.shard(), true);
        let (evidence, plain) = (
            Evidence::against(usual.error_rate() as f32),
            Evidence::against(0.0),
        );
        let all = self.all(now);
        let wanted = self.wanted();
        let next = if success {
            wanted - evidence.success / plain.success
        } else {
            wanted + evidence.fault.max(LEAST) / plain.success
        };
        // Half of one is none: elsewhere than in a fleet that never fails, a success proves a little less.
        if next < 0.5 {
            (Finding::Good, None)
        } else if success || (evidence.fault < PROOF && next <= 2.0 * all) {
            (Finding::Nothing(Duration::ZERO), Some(next))
        } else {
            (Finding::Bad, Some(all))
        }
    }

    /// Another is to be ejected, and the cap is reached: who is out is tried soon, as it may be well by now.
    pub(crate) fn make_room(&self, now: Tick) {
        let length = first_time(&self.shared.ejection, true);
        self.hasten_to(now, |_| length);
    }

    /// The fleet is short of capacity: who is out is tried no later than if that had begun now.
    pub(crate) fn hasten(&self, now: Tick, index: usize) {
        let (shared, strain) = (&*self.shared, self.shared.strain());
        // The same each time it is looked at: of many draws the shortest would be left of the jitter. Of those ejected at once each has its own;
        // by its place in the set, as its id is of the process.
        let random = mix(self.ejected_at() ^ mix(index as u64));
        self.hasten_to(now, |times| {
            ejection_time(&shared.ejection, times, strain, random)
        });
    }

    /// Unless it has said when to come again.
    fn hasten_to(&self, now: Tick, length: impl FnOnce(u32) -> Duration) {
        if self.spared_for(now).is_none() && self.standing.hasten(now, length) {
            let due = self.standing.get().probe_due_at(now);
            self.shared.probe_due.lower(due);
        }
    }

    /// The probe of `epoch` was not sent; another may be, at once.
    pub(crate) fn call_off(&self, epoch: u32, now: Tick) {
        self.find(epoch, (Finding::Nothing(Duration::ZERO), None), now);
    }

    /// Where probes are limited: one whose time is up, forgotten or not, is an ejection renewed. Its place is for others
    /// then; else the next probe of the same endpoint would take it over, for ever if that hangs.
    pub(crate) fn give_up_probe(&self, now: Tick) {
        let standing = self.standing.get();
        let is_due = standing.probe_is_due(now, self.shared.longest_ejection());
        if standing.phase == Phase::Probing && is_due {
            let wanted = Some(self.all(now));
            self.passes_no_more();
            self.find(standing.epoch, (Finding::Bad, wanted), now);
        }
    }

    /// Takes the probe for a check out of band, if it is due. It is given up after `patience`.
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
        if before.phase == Phase::Probing || before.overdue(now) > PRESENCE {
            // The last one was given up, or nobody has checked for a while.
            self.passes_no_more();
        }
        // Should the check be forgotten and its sender gone, a request is the next probe.
        let due = self.standing.get().probe_due_at(now);
        self.shared.probe_due.lower(due);
        Some(epoch)
    }

    /// The check of `epoch` has passed or not (`None`: it said nothing), and may bring it back or not. If it stays out the
    /// next check comes after a while that is returned: `wait` if this one failed.
    ///
    /// Passes in place of requests are spread over the base ejection time: who is well for a shorter time than that
    /// between two failures is not well.
    pub(crate) fn probed(
        &self,
        epoch: u32,
        passed: Option<bool>,
        may_return: bool,
        wait: Duration,
        now: Tick,
    ) -> Duration {
        let settings = &self.shared.ejection;
        let wait = wait.min(self.shared.longest_ejection());
        let all = self.all(now);
        let (finding, wanted) = match passed {
            // Who was sent out by checks comes back by their thresholds.
            Some(true) if all == 0.0 && !may_return => (Finding::Nothing(wait), None),
            Some(passed) => self.weigh(passed, now),
            None => (Finding::Nothing(wait), None),
        };
        let can_spare_all = settings.spare_capacity_percent >= 100;
        let is_urgent = self.shared.is_short()
            || (!can_spare_all && self.shared.trend.has_overflowed(URGENT, now));
        let spread = first_time(settings, is_urgent) / (all as u32).saturating_sub(1).max(1);
        let (finding, wait) = match finding {
            // No longer than the last time: that is there to spare requests.
            Finding::Bad => (Finding::Nothing(wait), wait),
            Finding::Good if !may_return => (Finding::Nothing(wait), wait),
            Finding::Nothing(Duration::ZERO) => (Finding::Nothing(spread), spread),
            finding => (finding, wait),
        };
        if self.standing.awaits(epoch) {
            match passed {
                Some(true) if all > 0.0 => self.passes(now),
                Some(false) => self.passes_no_more(),
                _ => {}
            }
            if finding == Finding::Good {
                // A request that is a probe would have shown how long it takes now; a check does not.
                self.latency.begin_anew(self.shared.usual().latency());
            }
        }
        self.find(epoch, (finding, wanted), now);
        wait
    }

    /// Whether it has had a request, as far as can be seen: one that ended well, one in flight, or
    /// one within the window.
    pub(crate) fn had_traffic(&self, now: Tick) -> bool {
        self.latency.get().is_some() || self.gate.inside() > 0 || self.gate.counts(now).total > 0
    }

    fn find(&self, epoch: u32, (finding, wanted): (Finding, Option<f32>), now: Tick) {
        let shared = &*self.shared;
        if finding == Finding::Good && self.standing.awaits(epoch) {
            // Before it is back, so that nothing recorded after is lost, and nothing from before
            // ejects it again.
            self.forget_record(now);
        }
        let random = shared.random(shared.shard());
        let strain = shared.strain();
        let back = self.back();
        if finding == Finding::Good && back == Phase::Warming {
            // Before it is back: else a pick in between would not ask for its share.
            shared.warms_from(now);
        }
        let changed = self
            .standing
            .conclude(self, epoch, finding, back, now, |times| {
                ejection_time(&shared.ejection, times, strain, random)
            });
        if !changed {
            return;
        }
        if let Some(wanted) = wanted {
            self.set_wanted(wanted);
        }
        if shared.limits.max_probes.is_some() {
            // Another may have been due, and have waited for this one's slot.
            shared.probe_due.lower(now);
        }
        match finding {
            Finding::Good => {
                let by = Return::Probe;
                self.tell(now, EventKind::Returned { by });
                self.begins_to_warm(back, now);
                if strain.short {
                    self.standing.forgive();
                }
                shared.settle_panic(now);
                shared.probe_succeeded();
            }
            Finding::Bad | Finding::Nothing(_) => {
                if finding == Finding::Bad {
                    let standing = self.standing.get();
                    let (times, until) = (standing.times, standing.probe_due_at(now));
                    self.tell(now, EventKind::Renewed { times, until });
                }
                if finding == Finding::Nothing(Duration::ZERO) && wanted.is_some() {
                    // The next need not wait: this one went as it should, or told nothing.
                    shared.probe_succeeded();
                }
                shared
                    .probe_due
                    .lower(self.standing.get().probe_due_at(now));
            }
        }
    }

    /// The record is cleared: what was recorded before must not eject it again.
    pub(crate) fn readmit(&self, now: Tick) {
        let readmitted = AssertUnwindSafe(|| self.forget_record(now));
        if catch_unwind(readmitted).is_err() {
            self.shared.counters.tracker_panics.count();
        }
    }

    /// Brings an ejected member back without a probe: the writer makes room under the cap.
    pub(crate) fn pardon(&self, now: Tick) {
        self.readmit(now);
        self.passes_no_more();
        let back = self.back();
        if back == Phase::Warming {
            self.shared.warms_from(now);
        }
        let from = self.standing.place(self, back, now);
        if from.is_ejected() {
            let by = Return::Pardon;
            self.tell(now, EventKind::Returned { by });
        }
        self.begins_to_warm(back, now);
    }

    /// What to remember of it while it is out of rotation.
    pub(crate) fn former(&self) -> Former {
        Former {
            standing: self.standing.get().pack(),
            ejected_at: self.ejected_at(),
            cause: self.cause(),
        }
    }

    /// Out of rotation until [`resume`](Self::resume). For a member that nobody can pick.
    pub(crate) fn hold_out(&self) {
        self.standing.place(self, Phase::Off, Tick::ZERO);
    }

    /// Back in rotation, and held out until now: goes on with the ejection from before,
    /// if there was one and the cap leaves room.
    pub(crate) fn resume(&self, former: Former, now: Tick) {
        // ORDERING: Relaxed, both. As in `ejected_at` and `cause`.
        self.ejected_at.store(former.ejected_at, Ordering::Relaxed);
        self.cause
            .store(former.cause.map_or(0, Detector::number), Ordering::Relaxed);
        if self.standing.restore(self, former.standing()) {
            self.want_all(now);
            self.is_out(now);
        } else {
            self.pardon(now);
        }
    }
}
