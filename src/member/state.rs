//! What a fleet knows of one endpoint. It stays while the endpoint's data and weight change.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::cell::Cell;
use super::classes::Classes;
use super::explain::pack;
use super::gate::Gate;
use super::sparing::Sparing;
use super::standing::{Keeper, Phase, Standing, StandingCell};
use crate::health::{
    Alarm, BUCKETS, Counts, Detector, Detectors, Fading, FailedRequest, Health, HealthTracker,
    Judging, LatencyCell, RECENT_BUCKETS, Refusals, Report, Rule, SampleClass, Usual,
    earned_ejection, health,
};
use crate::options::MemberId;
use crate::outcome::{Outcome, Sample};
use crate::shared::{BaselineLatency, EventKind, Ledger, Own, Place, Shard, Shared};
use crate::sync::{Arc, AtomicF32, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, process};
use crate::time::Tick;

/// With the count of refusals, whichever it is: beside the variant's tag there is room for it.
#[derive(Debug)]
pub(crate) enum Tracker {
    /// The built-in tracker, which judges by the gate's counts.
    Window(Rule, Refusals),
    Custom(Box<dyn HealthTracker>, Refusals),
}

impl Tracker {
    pub(crate) fn built_in() -> Self {
        Self::Window(Rule::new(), Refusals::new())
    }

    pub(crate) fn custom(tracker: Box<dyn HealthTracker>) -> Self {
        Self::Custom(tracker, Refusals::new())
    }

    pub(super) const fn refused(&self) -> &Refusals {
        match self {
            Self::Window(_, refused) | Self::Custom(_, refused) => refused,
        }
    }
}

/// What is remembered of a member that is out of rotation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PastEjection {
    /// Packed, as one is kept for each remembered key.
    pub(super) standing: u64,
    pub(crate) ejected_at: u64,
    pub(crate) cause: Option<Detector>,
}

impl PastEjection {
    pub(crate) const fn standing(&self) -> Standing {
        Standing::read(self.standing)
    }
}

/// The best score as stored. Hundredths are exact in it.
const WHOLE: u16 = 50_000;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: MemberId,
    pub(crate) gate: Gate,
    pub(crate) standing: StandingCell,
    pub(crate) latency: LatencyCell,
    pub(crate) baseline_latency: BaselineLatency,
    /// Its place on the fleet's board; `None` outside a fleet.
    pub(crate) place: Option<Place>,
    pub(crate) shared: Arc<Shared>,
    pub(super) tracker: Tracker,
    pub(super) classes: Classes,
    /// The score as of the last upkeep, in parts of [`WHOLE`].
    score: AtomicU16,
    /// What errors multiply the cost of a request by.
    pub(super) penalty: AtomicF32,
    pub(super) sparing: Sparing,
    /// How many more good probes it takes to return, while it is out, in hundredths.
    pub(super) wanted: AtomicU16,
    /// What it was last ejected for, as [`Detector::pack`] has it.
    pub(super) cause: AtomicU8,
    /// Two f32s' bits, the first on top: what the detector measured at the ejection, and its threshold. NaN if unknown.
    pub(super) evidence: AtomicU64,
    /// How many invitations in a row have not shown it to be like the others. The top bit: whether it is marked
    /// degraded.
    pub(super) invited: AtomicU8,
    /// When the last invitation was given, in tenths of a second (wrapping).
    pub(super) invited_at: AtomicU16,
    /// Since when the checks that bring it back pass, or passed, in milliseconds (wrapping); 0 if none do.
    pub(super) passing_since: AtomicU32,
    /// When it was last ejected, in nanoseconds; 0 if never. The cap returns the earliest ejected first.
    pub(super) ejected_at: AtomicU64,
}

impl Keeper for State {
    fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    fn return_phase(&self) -> Phase {
        if self.shared.slow_start.window.is_zero() {
            Phase::In
        } else {
            Phase::Warming
        }
    }

    fn epoch_changed(&self, epoch: u32) {
        self.gate.show_epoch(epoch);
    }
}

impl State {
    pub(crate) fn new(
        shared: Arc<Shared>,
        place: Option<Place>,
        gate: Gate,
        tracker: Tracker,
        phase: Phase,
    ) -> Self {
        if shared.usual().latency().is_some() {
            place.iter().for_each(Place::mark_joined);
        }
        if let Tracker::Custom(..) = tracker {
            // A tracker of the user's is told of all successes, for good.
            gate.watch();
        }
        Self {
            id: MemberId::new(process::next_member()),
            gate,
            standing: StandingCell::new(phase),
            latency: LatencyCell::new(),
            baseline_latency: BaselineLatency::new(),
            place,
            shared,
            tracker,
            classes: Classes::default(),
            score: AtomicU16::new(WHOLE),
            penalty: AtomicF32::new(1.0),
            sparing: Sparing::default(),
            wanted: AtomicU16::new(0),
            cause: AtomicU8::new(0),
            evidence: AtomicU64::new(pack(None, None)),
            invited: AtomicU8::new(0),
            invited_at: AtomicU16::new(0),
            passing_since: AtomicU32::new(0),
            ejected_at: AtomicU64::new(0),
        }
    }

    pub(super) fn judging<'a>(&self, now: Tick, usual: &'a Usual) -> Judging<'a> {
        let place = self.place.as_ref();
        let age = place.and_then(|place| place.waiting(now, usual.latency()));
        let cx = Judging::new(now, usual).with_fading(self.fading(now));
        let cx = cx.with_latency(self.latency.get()).with_mean_age(age);
        match self.tracker {
            // The built-in tracker does not use the count, and summing the cells waits for other threads' cache lines.
            Tracker::Window(..) => cx,
            Tracker::Custom(..) => cx.with_in_flight(self.gate.inside()),
        }
    }

    /// The rule of the built-in tracker; `None` with a custom one.
    #[inline]
    pub(crate) const fn rule(&self) -> Option<&Rule> {
        match &self.tracker {
            Tracker::Window(rule, _) => Some(rule),
            Tracker::Custom(..) => None,
        }
    }

    /// Takes in a success of an ordinary request of this shard, which the gate counts.
    #[inline]
    pub(super) fn succeeded(&self, rule: &Rule, now: Tick, shard: &Shard) {
        if !rule.is_quiet() {
            self.success_slow(rule, now);
        }
        shard.count_success(now);
    }

    /// Takes in a success while the rule holds something against the endpoint.
    #[cold]
    fn success_slow(&self, rule: &Rule, now: Tick) {
        let own = self.own_doubts(true, now);
        let usual = self.shared.usual_now(self.shared.shard(), own, now);
        self.clear_suspicion(now, &usual, |cx| rule.success(&self.shared.ejection, cx));
    }

    pub(super) fn clear_suspicion(
        &self,
        now: Tick,
        usual: &Usual,
        is_cleared: impl Fn(&Judging<'_>) -> bool,
    ) {
        let cx = Judging::new(now, usual).with_fading(self.fading(now));
        if is_cleared(&cx) {
            self.shared.rates.remove_suspect();
            if self.shared.prober.is_here(now) {
                // The update of the penalty was put off while a driver checks.
                self.set_penalty(now, &self.shared.usual());
            }
        }
    }

    /// Takes in the latency of a success that this shard has seen, and publishes the cost if the lease is on the board.
    pub(crate) fn observe(&self, now: Tick, latency: Duration, shard: &Shard, on_board: bool) {
        if self.shared.limits.adaptive.is_some() {
            self.gate.observe_latency(now, latency);
        }
        let usual = || self.shared.usual().latency();
        let was_silent = self.silence(now).is_some();
        let seen = self.latency.observe(now, latency, usual);
        if was_silent {
            self.set_penalty(now, &self.shared.usual());
        }
        let deviation = seen.deviation.iter();
        deviation.for_each(|&one| shard.deviations.count(one));
        if seen.is_back {
            self.reset_invitations();
        }
        if on_board {
            self.publish(now, seen.estimate, Place::set_cost);
        }
    }

    /// Hands the sample of a request of this cell to the tracker. Returns which detectors found something. Outcomes are
    /// counted whichever tracker judges, as policies and upkeep work with the counts: a success when it leaves the
    /// gate, all others here.
    pub(super) fn record(&self, cell: &Cell, class: SampleClass, sample: &Sample) -> Detectors {
        let (now, shard) = (sample.at, self.shared.shard());
        self.count(sample.outcome, now);
        self.note_overload(sample);
        let mut found = match &self.tracker {
            Tracker::Custom(custom, _) => {
                let usual = self.shared.usual_now(shard, Own::default(), now);
                let alarm = custom.record(sample, &self.judging(now, &usual));
                Detectors::NONE.with_if(Detector::Tracker, || alarm == Alarm::Eject)
            }
            Tracker::Window(..) => Detectors::NONE,
        };
        let state = self.shared.shard_state(shard);
        match (class, self.rule()) {
            (SampleClass::Success, Some(rule)) => self.succeeded(rule, now, state),
            (SampleClass::Success, None) => state.count_success(now),
            (SampleClass::Fault, _) => found = found.union(self.failed(cell, sample)),
            (SampleClass::Neutral, _) => {
                if let Outcome::Overloaded { retry_after } = sample.outcome {
                    self.note_refusal(retry_after, now);
                } else if self.silence(now).is_some() {
                    self.set_penalty(now, &self.shared.usual());
                }
            }
        }
        found
    }

    /// Takes in a fault of a request of this cell. Returns which detectors of the built-in tracker found something.
    fn failed(&self, cell: &Cell, sample: &Sample) -> Detectors {
        let (now, shard, rule) = (sample.at, self.shared.shard(), self.rule());
        let failed_in_part = self.fails_in_part(now);
        cell.window.record(now, true);
        if !failed_in_part && self.fails_in_part(now) && self.standing.get().is_in() {
            self.shared.rates.add_failing_in_part();
        }
        let was_suspect = rule.is_some_and(|rule| !rule.suspicion.is_none());
        let own = self.own_doubts(was_suspect, now);
        let usual = self.shared.usual_now(shard, own, now);
        self.shared.note_common(shard, now);
        let found = rule.map_or(Detectors::NONE, |rule| {
            let cx = self.judging(now, &usual);
            let cx = cx.on_parole_if(self.is_on_parole(now));
            let counts = || self.gate.counts(now);
            let fault = FailedRequest::of(sample, self.recent_pace(now));
            rule.fault(&self.shared.ejection, &fault, &cx, counts)
        });
        if !was_suspect && rule.is_some_and(|rule| !rule.suspicion.is_none()) {
            self.shared.rates.add_suspect();
        }
        // After the count: a success that is told takes a suspect that it clears off it. One that was told already may
        // do so too early; upkeep counts anew.
        self.gate.watch();
        self.shared.shard_state(shard).count_fault(self.id, now);
        self.set_penalty(now, &usual);
        found
    }

    /// Whether more of its requests than twice the usual share have failed in this tenth of the window and the one
    /// before, but no more than half. `false` with a custom tracker.
    pub(crate) fn fails_in_part(&self, now: Tick) -> bool {
        let counts = self.gate.last(RECENT_BUCKETS, now);
        let usual = 2.0 * self.shared.usual().error_rate() * counts.total as f64;
        self.rule().is_some() && counts.faults as f64 > usual && 2 * counts.faults <= counts.total
    }

    /// What it adds to the counts of endpoints that fail.
    pub(super) fn own_doubts(&self, is_suspect: bool, now: Tick) -> Own {
        let fails_in_part = self.fails_in_part(now);
        Own {
            is_suspect,
            fails_in_part,
            // With a tracker of the user's own, the usual share is always that in the window.
            is_in: self.rule().is_some() && self.standing.get().is_in(),
        }
    }

    /// How long evidence lasts. Where this endpoint gets fewer requests than the mean, as an avoided one does, its own
    /// rate decides: otherwise evidence would be gone before its next request.
    pub(super) fn fading(&self, now: Tick) -> Fading {
        Fading::at_pace(self.shared.rates.pace().min(self.pace(now)))
    }

    /// How many requests a second it gets. Its requests are those since the fleet was built, or since it came back, if
    /// the window is longer than that.
    fn pace(&self, now: Tick) -> f32 {
        const LEAST: Duration = Duration::from_secs(10);
        let since = self.standing.get().moved_for(now).unwrap_or(Duration::MAX);
        let span = (self.shared.rates.span()).min(since.max(LEAST).as_secs_f32());
        (self.gate.counts(now).total + 1) as f32 / span
    }

    /// How many requests a second it gets now: in this tenth of the window, half of which is over in the mean, and in
    /// the one before.
    fn recent_pace(&self, now: Tick) -> f32 {
        let tenth = self.shared.ejection.window.as_secs_f32() / BUCKETS as f32;
        let span = (RECENT_BUCKETS as f32 - 0.5) * tenth;
        self.gate.last(RECENT_BUCKETS, now).total as f32 / span
    }

    /// Brings the evidence up to date, at each upkeep. Each stretch of time so fades at its own pace: at the present
    /// pace, evidence that has faded would come back as requests become fewer. Where none is left, the tracker is told
    /// of successes no longer.
    fn fade(&self, now: Tick) {
        let Some(rule) = self.rule() else {
            return;
        };
        if !rule.is_quiet() {
            rule.fade(now, self.fading(now));
        }
        self.gate.unwatch_unless(|| !rule.is_quiet());
    }

    /// The evidence of the sequential test, from requests and checks together; 0 with a custom tracker.
    pub(crate) fn suspicion(&self, now: Tick) -> f32 {
        self.rule()
            .filter(|rule| !rule.suspicion.is_none())
            .map_or(0.0, |rule| rule.suspicion.get(now, self.fading(now)))
    }

    /// The evidence of the sequential test. It exceeds the suspicion where checks have passed meanwhile.
    pub(crate) fn evidence(&self, now: Tick) -> f32 {
        self.rule()
            .filter(|rule| !rule.is_quiet())
            .map_or(0.0, |rule| rule.evidence(now, self.fading(now)))
    }

    pub(super) fn forget_record(&self, now: Tick) {
        self.gate.clear_counts(now);
        match &self.tracker {
            Tracker::Window(rule, _) => rule.clear(),
            Tracker::Custom(custom, _) => custom.readmitted(now),
        }
    }

    /// Whether upkeep may eject it for a low score. With the built-in tracker, only if a request has failed in this
    /// tenth of the window or the one before, or if it is slow enough to be ejected for that alone.
    pub(crate) fn may_be_out_by_score(&self, now: Tick, usual: &Usual) -> bool {
        let counts = self.gate.counts(now);
        let without = Counts {
            faults: 0,
            ..counts
        };
        let slow = || health(without, &self.judging(now, usual));
        self.rule().is_none()
            || self.gate.last(RECENT_BUCKETS, now).faults > 0
            || earned_ejection(&self.shared.ejection, slow())
    }

    /// Asks the tracker, publishes the score and the cost, and returns the verdict; `None` if the tracker panicked.
    pub(crate) fn examine(&self, now: Tick, usual: &Usual) -> Option<(Health, Report)> {
        self.fade(now);
        let counts = self.gate.counts(now);
        let health = catch_unwind(AssertUnwindSafe(|| {
            let cx = self.judging(now, usual);
            match &self.tracker {
                Tracker::Window(..) => health(counts, &cx),
                Tracker::Custom(custom, _) => custom.health(&cx),
            }
        }));
        let Ok(health) = health else {
            self.shared.counters.tracker_panics.count();
            return None;
        };
        let health = Health::new(health.score, health.samples);
        // ORDERING: Relaxed. One number, for display and for policies to compare.
        self.score.store(
            (health.score * f64::from(WHOLE)).round() as u16,
            Ordering::Relaxed,
        );
        self.set_penalty(now, usual);
        let report = Report {
            counts,
            latency: self.latency.nanos().unwrap_or(0.0),
        };
        Some((health, report))
    }

    /// Called when a request has left a closed gate. Emits the event if that was the last one of a drain. `at` stands
    /// in for the time if a clock of the user's panics: a lease may be dropped while another panic unwinds.
    #[cold]
    pub(super) fn announce_if_drained(&self, at: Tick) {
        if self.shared.events.is_some() && self.gate.may_announce() {
            let now = catch_unwind(AssertUnwindSafe(|| self.shared.now()));
            self.tell(now.unwrap_or(at), EventKind::DrainOver);
        }
    }

    pub(crate) fn tell(&self, now: Tick, kind: EventKind) {
        self.shared.tell(now, Some(self.id), kind);
    }

    pub(crate) fn score(&self) -> f64 {
        // ORDERING: Relaxed. As in `examine`.
        f64::from(self.score.load(Ordering::Relaxed)) / f64::from(WHOLE)
    }
}
