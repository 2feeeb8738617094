//! What a fleet knows of one endpoint, whatever its data and weight: it stays while they change.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::gate::Gate;
use super::standing::{Finding, Phase, Standing, StandingCell, Verdict};
use crate::health::{
    Alarm, Health, HealthTracker, Judging, LatencyCell, Rule, Tells, Usual, ejection_time, health,
};
use crate::options::MemberId;
use crate::outcome::{Outcome, Sample};
use crate::shared::{Place, Shared};
use crate::sync::{Arc, AtomicU64, Ordering, process};
use crate::time::Tick;

#[derive(Debug)]
pub(crate) enum Tracker {
    /// The built-in one; its counts are the gate's.
    Window(Rule),
    Custom(Box<dyn HealthTracker>),
}

/// A success that the built-in tracker is to be told of.
pub(crate) struct Success<'a>(&'a Rule);

impl Success<'_> {
    /// Tells it. The gate counts it.
    #[inline]
    pub(crate) fn tell(self) {
        self.0.success();
    }
}

/// What is remembered of a member that is out of rotation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Former {
    pub(crate) standing: Standing,
    pub(crate) ejected_at: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: MemberId,
    pub(crate) gate: Gate,
    pub(crate) standing: StandingCell,
    pub(crate) latency: LatencyCell,
    /// Its place on the fleet's board; none outside a fleet.
    pub(crate) place: Option<Place>,
    pub(crate) shared: Arc<Shared>,
    tracker: Tracker,
    /// An f64's bits: the score as of the last upkeep.
    score: AtomicU64,
    /// When it was last ejected, in nanoseconds: who came first leaves first.
    ejected_at: AtomicU64,
}

impl State {
    pub(crate) fn new(
        shared: Arc<Shared>,
        place: Option<Place>,
        cells: usize,
        tracker: Tracker,
        phase: Phase,
    ) -> Self {
        Self {
            id: MemberId::new(process::next_member()),
            gate: Gate::new(cells, shared.ejection.window),
            standing: StandingCell::new(phase),
            latency: LatencyCell::new(),
            place,
            shared,
            tracker,
            score: AtomicU64::new(1.0f64.to_bits()),
            ejected_at: AtomicU64::new(0),
        }
    }

    fn judging<'a>(&self, now: Tick, usual: &'a Usual) -> Judging<'a> {
        let cx = Judging::new(now, usual).with_latency(self.latency.get());
        match self.tracker {
            // It does not look at the count, and to sum the cells is to wait for other threads' lines.
            Tracker::Window(_) => cx,
            Tracker::Custom(_) => cx.with_in_flight(self.gate.inside()),
        }
    }

    /// A success of an ordinary request, if the built-in tracker judges: it needs no more.
    #[inline]
    pub(crate) fn success(&self) -> Option<Success<'_>> {
        match &self.tracker {
            Tracker::Window(rule) => Some(Success(rule)),
            Tracker::Custom(_) => None,
        }
    }

    /// Hands a sample of a request by this cell to the tracker; whether it alarms, and whether the request is
    /// to be counted as a success by leaving.
    pub(crate) fn record(&self, cell: usize, sample: &Sample) -> (Alarm, bool) {
        let rule = match &self.tracker {
            Tracker::Window(rule) => rule,
            Tracker::Custom(custom) => {
                let usual = self.shared.usual();
                let alarm = custom.record(sample, &self.judging(sample.at, &usual));
                return (alarm, false);
            }
        };
        match Tells::of(sample) {
            Tells::Success => {
                rule.success();
                (Alarm::None, true)
            }
            Tells::Fault => {
                self.gate.count_fault(cell, sample.at);
                let (now, usual) = (sample.at, self.shared.usual());
                let counts = || self.gate.counts(now);
                let cx = self.judging(now, &usual);
                (rule.fault(&self.shared.ejection, &cx, counts), false)
            }
            Tells::Nothing => (Alarm::None, false),
        }
    }

    fn forget_record(&self, now: Tick) {
        match &self.tracker {
            Tracker::Window(rule) => {
                self.gate.clear_counts(now);
                rule.clear();
            }
            Tracker::Custom(custom) => custom.readmitted(now),
        }
    }

    /// Asks the tracker, publishes the score, and returns the verdict; `None` if the tracker panicked.
    pub(crate) fn examine(&self, now: Tick, usual: &Usual) -> Option<Health> {
        let health = catch_unwind(AssertUnwindSafe(|| {
            let cx = self.judging(now, usual);
            match &self.tracker {
                Tracker::Window(_) => health(self.gate.counts(now), &cx),
                Tracker::Custom(custom) => custom.health(&cx),
            }
        }));
        let Ok(health) = health else {
            self.shared.counters.tracker_panics.count();
            return None;
        };
        let health = Health::new(health.score, health.samples);
        // ORDERING: Relaxed. One number, for display and for policies to compare.
        self.score.store(health.score.to_bits(), Ordering::Relaxed);
        Some(health)
    }

    pub(crate) fn score(&self) -> f64 {
        // ORDERING: Relaxed. As in `examine`.
        f64::from_bits(self.score.load(Ordering::Relaxed))
    }

    pub(crate) fn ejected_at(&self) -> u64 {
        // ORDERING: Relaxed. Decides an order among the ejected, nothing else.
        self.ejected_at.load(Ordering::Relaxed)
    }

    /// Ejects, if the member has been in since `epoch` and the cap allows.
    pub(crate) fn eject(&self, epoch: u32, now: Tick) {
        let shared = &*self.shared;
        let settings = &shared.ejection;
        let random = shared.random(shared.shard());
        let verdict = self.standing.eject(
            &shared.ledger,
            epoch,
            now,
            settings.longest_ejection(),
            |times| ejection_time(settings, times, random),
        );
        match verdict {
            Verdict::Ejected => {
                // ORDERING: Relaxed. As in `ejected_at`.
                self.ejected_at.store(now.as_nanos(), Ordering::Relaxed);
                shared.counters.ejections.count();
                shared
                    .probe_due
                    .lower(self.standing.get().probe_due_at(now));
            }
            Verdict::Full => shared.counters.overflows.count(),
            Verdict::Moot => {}
        }
    }

    /// Acts on a probe's outcome. One that says nothing leaves the endpoint out: for the base ejection
    /// time, so that an endpoint whose every probe says nothing does not get every request; or, if it
    /// said when to come again, until then, at most for the longest ejection.
    pub(crate) fn conclude(&self, epoch: u32, outcome: Outcome, now: Tick) {
        let settings = &self.shared.ejection;
        let finding = match outcome {
            Outcome::Success => Finding::Good,
            outcome if outcome.is_fault() => Finding::Bad,
            Outcome::Overloaded {
                retry_after: Some(wait),
            } => Finding::Nothing(
                wait.clamp(settings.base_ejection_time, settings.longest_ejection()),
            ),
            _ => Finding::Nothing(settings.base_ejection_time),
        };
        self.find(epoch, finding, now);
    }

    /// The probe of `epoch` was not sent; another may be, at once.
    pub(crate) fn call_off(&self, epoch: u32, now: Tick) {
        self.find(epoch, Finding::Nothing(Duration::ZERO), now);
    }

    fn find(&self, epoch: u32, finding: Finding, now: Tick) {
        let shared = &*self.shared;
        if finding == Finding::Good && self.standing.awaits(epoch) {
            // Before it is back, so that nothing recorded after is lost, and nothing from before
            // ejects it again.
            self.forget_record(now);
        }
        let random = shared.random(shared.shard());
        let changed = self
            .standing
            .conclude(&shared.ledger, epoch, finding, now, |times| {
                ejection_time(&shared.ejection, times, random)
            });
        if changed && finding == Finding::Good {
            shared.probe_succeeded();
        } else if changed {
            shared
                .probe_due
                .lower(self.standing.get().probe_due_at(now));
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
        self.standing.place(&self.shared.ledger, Phase::In, now);
    }

    /// What to remember of it while it is out of rotation.
    pub(crate) fn former(&self) -> Former {
        Former {
            standing: self.standing.get(),
            ejected_at: self.ejected_at(),
        }
    }

    /// Out of rotation until [`resume`](Self::resume). For a member that nobody can pick.
    pub(crate) fn hold_out(&self) {
        self.standing
            .place(&self.shared.ledger, Phase::Off, Tick::ZERO);
    }

    /// Back in rotation, and held out until now: goes on with the ejection from before,
    /// if there was one and the cap leaves room.
    pub(crate) fn resume(&self, former: Former, now: Tick) {
        // ORDERING: Relaxed. As in `ejected_at`.
        self.ejected_at.store(former.ejected_at, Ordering::Relaxed);
        if self.standing.restore(&self.shared.ledger, former.standing) {
            let due = self.standing.get().probe_due_at(now);
            self.shared.probe_due.lower(due);
        } else {
            self.pardon(now);
        }
    }
}
