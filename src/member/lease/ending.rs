//! What happens when a request ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::super::marks::Marks;
use super::LeaseGuard;
use crate::endpoint::Endpoint;
use crate::health::{Rule, SampleClass};
use crate::outcome::{Outcome, Sample, SampleKind};
use crate::shared::Shard;
use crate::time::Tick;

impl<E: Endpoint> LeaseGuard<E> {
    /// Records how the request ended.
    #[inline]
    pub(super) fn end(&mut self, outcome: Outcome, measured: Option<Duration>) {
        if outcome == Outcome::Success && self.leave_plainly() {
            return;
        }
        self.end_with_care(outcome, measured);
    }

    /// Kept out of line so the fast path stays small.
    #[inline(never)]
    fn end_with_care(&mut self, outcome: Outcome, measured: Option<Duration>) {
        self.marks = self.marks.with(Marks::RECORDED);
        let state = self.member.core();
        let is_plain = outcome == Outcome::Success
            && !self.marks.has(Marks::PROBE)
            && state.standing.epoch() == self.marks.epoch();
        match state.rule() {
            Some(rule) if is_plain => {
                // Most requests end here. At high rates few of them are measured.
                let shard = state.shared.shard_state(state.shared.shard());
                let now = if self.marks.has(Marks::MEASURED) {
                    self.observe(measured, shard)
                } else {
                    state.shared.time_of_end(shard)
                };
                state.succeeded(rule, now, shard);
                self.mark_success(now);
            }
            _ => self.record_slow(outcome, measured),
        }
    }

    /// Leaves the gate, whether an outcome was recorded or not.
    #[inline(never)]
    pub(super) fn leave(&mut self) {
        if !self.marks.has(Marks::RECORDED) {
            self.abandon();
        }
        if self.marks.has(Marks::HELD) {
            self.release_held();
        }
        let gate = &self.member.core().gate;
        let cell = self.member.cell();
        let was_last = if self.marks.has(Marks::SUCCESS) {
            gate.leave_with_success(cell, self.at)
        } else {
            gate.leave(cell)
        };
        if was_last {
            self.note_last_out(self.at);
        }
        // Not earlier: otherwise more requests would be in flight than the fleet may have.
        if self.marks.has(Marks::SLOT) {
            self.member.core().shared.give_back_slot();
        }
    }

    /// Ends a request whose outcome was not recorded.
    #[cold]
    fn abandon(&mut self) {
        // A drop may happen while another panic unwinds; a second one would abort the process.
        let recorded = catch_unwind(AssertUnwindSafe(|| {
            self.end_with_care(Outcome::Abandoned, None)
        }));
        if recorded.is_err() {
            let shared = self.member.shared();
            shared.counters.tracker_panics.count();
        }
    }

    /// Leaves with a success, if nothing else has to be done for it: its latency is not measured, nothing is held
    /// against the endpoint, the window's bucket is open, and a clock reading can be reused. At high rates most
    /// requests end here.
    #[inline(always)]
    fn leave_plainly(&mut self) -> bool {
        let member = &self.member;
        let (cell, marks) = (member.cell(), self.marks.without(Marks::BOARD));
        if marks != Marks::plain(cell.shown())
            && !(cell.is_watched() && self.is_plain_though_watched(marks))
        {
            return false;
        }
        let shard = member.shared().shard_state(member.shared().shard());
        if !shard.is_quiet() {
            return false;
        }
        let Some(now) = shard.last() else {
            return false;
        };
        if self.marks.has(Marks::BOARD) {
            self.leave_board();
        }
        // Set before waiting tasks are woken, which runs the user's code.
        let plain = self.marks;
        self.marks = plain.with(Marks::RECORDED).with(Marks::LEFT);
        let gate = &self.member.core().gate;
        let Some(was_last) = gate.leave_with_success_at_once(self.member.cell(), now.at) else {
            self.marks = plain;
            return false;
        };
        if was_last {
            self.note_last_out(now.at);
        }
        true
    }

    /// Whether the tracker is told of successes, but holds nothing against the endpoint any more.
    #[cold]
    #[inline(never)]
    fn is_plain_though_watched(&self, marks: Marks) -> bool {
        let rule = self.member.core().rule();
        marks == Marks::plain(self.member.cell().epoch()) && rule.is_some_and(Rule::is_quiet)
    }

    /// Releases a probe that was not recorded, and a place on the board that is still held, as when the request did not
    /// end well.
    #[cold]
    #[inline(never)]
    fn release_held(&mut self) {
        if self.marks.has(Marks::PROBE) {
            let state = self.member.core();
            state.conclude(self.marks.epoch(), Outcome::Ignored, self.at);
        }
        if self.marks.has(Marks::BOARD) {
            self.leave_board();
        }
    }

    /// The request was the last one out of a cell of a closed gate.
    #[cold]
    #[inline(never)]
    fn note_last_out(&self, at: Tick) {
        self.member.core().announce_if_drained(at);
    }

    /// Marks the request as ended well. From here on `at` is its end, so everything that needs its start comes before.
    #[inline]
    fn mark_success(&mut self, now: Tick) {
        if self.marks.has(Marks::BOARD) {
            self.leave_board();
        }
        self.at = now;
        self.marks = self.marks.with(Marks::SUCCESS);
    }

    #[inline(never)]
    fn leave_board(&mut self) {
        self.marks = self.marks.without(Marks::BOARD);
        let place = self.member.core().place.iter();
        place.for_each(|place| place.take(self.at));
    }

    /// How long the request has taken until now, if the clock was read at its pick. `None` if the clock has gone back.
    #[inline]
    fn measure(&self, now: Tick) -> Option<Duration> {
        (self.marks.has(Marks::MEASURED) && now >= self.at).then(|| now.since(self.at))
    }

    /// Takes in the latency of a success; returns the time.
    #[inline(never)]
    fn observe(&self, given: Option<Duration>, shard: &Shard) -> Tick {
        let state = self.member.core();
        // Not a reused reading: the request may end on another thread, whose shard may have an old one.
        let now = state.shared.now();
        shard.count_use();
        if let Some(latency) = given.or_else(|| self.measure(now)) {
            state.observe(now, latency, shard, self.marks.has(Marks::BOARD));
        }
        now
    }

    #[cold]
    fn record_slow(&mut self, outcome: Outcome, measured: Option<Duration>) {
        let state = self.member.core();
        let shared = &*state.shared;
        let now = shared.now();
        let latency = measured.or_else(|| self.measure(now));
        let outcome = match outcome {
            Outcome::Abandoned if latency > Some(shared.patience()) => Outcome::Timeout,
            outcome => outcome,
        };
        // A reused reading is exact enough for what takes so long.
        let latency = latency.or_else(|| match outcome {
            Outcome::Timeout => Some(now.since(self.at)),
            _ => None,
        });
        let kind = if self.marks.has(Marks::PROBE) {
            SampleKind::Probe
        } else if state.standing.epoch() == self.marks.epoch() {
            SampleKind::Request
        } else {
            SampleKind::Late
        };
        // After the endpoint was taken for new again, an old latency would be its first answer, which counts for all.
        let is_from_before = match kind {
            SampleKind::Probe => !state.standing.awaits(self.marks.epoch()),
            kind => kind == SampleKind::Late,
        };
        let is_old = is_from_before && state.latency.is_reset();
        match (outcome, latency.filter(|_| !is_old)) {
            (Outcome::Success, Some(latency)) => {
                let shard = shared.shard_state(shared.shard());
                state.observe(now, latency, shard, self.marks.has(Marks::BOARD))
            }
            (Outcome::Success | Outcome::Ignored | Outcome::GoingAway, _) | (_, None) => {}
            (_, Some(latency)) => state.latency.raise(now, latency),
        }
        let sample = Sample {
            outcome,
            latency,
            at: now,
            kind,
        };
        let class = SampleClass::of(&sample);
        let found = state.record(self.member.cell(), class, &sample);
        match kind {
            SampleKind::Probe => {
                state.conclude(self.marks.epoch(), outcome, now);
                self.marks = self.marks.without(Marks::PROBE);
            }
            SampleKind::Request if outcome == Outcome::GoingAway => {
                state.on_going_away(self.marks.epoch(), now)
            }
            SampleKind::Request if !found.is_empty() => state.eject(self.marks.epoch(), found, now),
            SampleKind::Request | SampleKind::Late => {}
        }
        if class == SampleClass::Success {
            self.mark_success(now);
        }
    }
}
