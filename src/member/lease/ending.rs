//! What is to be done when a request has ended.

use std::time::Duration;

use super::super::marks::Marks;
use super::{End, Seat};
use crate::endpoint::Endpoint;
use crate::outcome::{Outcome, Sample, SampleKind};
use crate::shared::Shard;
use crate::time::Tick;

impl<E: Endpoint> Seat<E> {
    /// Leaves with a success, if there is nothing else to be done for it: nothing to measure, nothing to be made good, no
    /// bucket to be opened, while picks come thick. Most requests end here then.
    #[inline(always)]
    pub(super) fn leave_plainly(&mut self) -> bool {
        if self.marks != Marks::NONE {
            return false;
        }
        let state = self.member.core();
        let Some(rule) = state.rule() else {
            return false;
        };
        let own = state.shared.own(state.shared.shard());
        if state.standing.epoch() != self.epoch || !rule.is_quiet() || !own.is_quiet() {
            return false;
        }
        let Some(now) = own.last() else {
            return false;
        };
        // Before who waits is woken, which is somebody else's code.
        self.end = End::Left;
        let state = self.member.core();
        let left = state.gate.leave_well_at_once(self.member.cell(), now.at);
        match left {
            Some(was_last) => {
                if was_last {
                    self.was_last(now.at);
                }
                true
            }
            None => {
                self.end = End::Unsaid;
                false
            }
        }
    }

    /// It was to be the probe, and nothing has been said; or it did not end well, and is on the board still.
    #[cold]
    #[inline(never)]
    pub(super) fn let_go(&mut self) {
        if self.marks.has(Marks::PROBE) {
            let state = self.member.core();
            state.conclude(self.epoch, Outcome::Ignored, self.at);
        }
        if self.marks.has(Marks::BOARD) {
            self.leave_board();
        }
    }

    /// It was the last one out of a closed gate.
    #[cold]
    #[inline(never)]
    pub(super) fn was_last(&self, at: Tick) {
        self.member.core().may_be_drained(at);
    }

    /// From here on `at` is the end, so what needs the start is done.
    #[inline]
    pub(super) fn ended_well(&mut self, now: Tick) {
        if self.marks.has(Marks::BOARD) {
            self.leave_board();
        }
        (self.at, self.end) = (now, End::Well);
    }

    #[inline(never)]
    fn leave_board(&mut self) {
        self.marks = self.marks.without(Marks::BOARD);
        let place = self.member.core().place.iter();
        place.for_each(|place| place.take(self.at));
    }

    /// How long it took until now, if the clock was read for it. One that went back measured nothing.
    #[inline]
    fn measure(&self, now: Tick) -> Option<Duration> {
        (self.marks.has(Marks::MEASURED) && now >= self.at).then(|| now.since(self.at))
    }

    /// Looks at the latency of a success; returns the time.
    #[inline(never)]
    pub(super) fn observe(&self, given: Option<Duration>, own: &Shard) -> Tick {
        let state = self.member.core();
        // Not a reading that is used again: another thread's shard may have an old one.
        let now = state.shared.now();
        own.count_use();
        if let Some(latency) = given.or_else(|| self.measure(now)) {
            state.observe(now, latency, self.marks.has(Marks::BOARD));
        }
        now
    }

    #[cold]
    pub(super) fn say(&mut self, outcome: Outcome, measured: Option<Duration>) {
        let state = self.member.core();
        let shared = &*state.shared;
        let now = shared.now();
        let latency = measured.or_else(|| self.measure(now));
        let outcome = match outcome {
            Outcome::Abandoned if latency > Some(shared.patience()) => Outcome::Timeout,
            outcome => outcome,
        };
        let kind = if self.marks.has(Marks::PROBE) {
            SampleKind::Probe
        } else if state.standing.epoch() == self.epoch {
            SampleKind::Request
        } else {
            SampleKind::Late
        };
        // Of one that is taken for new since, it would be the first answer, which counts for all.
        let is_from_before = match kind {
            SampleKind::Probe => !state.standing.awaits(self.epoch),
            kind => kind == SampleKind::Late,
        };
        let is_old = is_from_before && state.latency.is_anew();
        match (outcome, latency.filter(|_| !is_old)) {
            (Outcome::Success, Some(latency)) => {
                state.observe(now, latency, self.marks.has(Marks::BOARD))
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
        let (found, is_well) = state.record(self.member.cell(), &sample);
        match kind {
            SampleKind::Probe => {
                state.conclude(self.epoch, outcome, now);
                self.marks = self.marks.without(Marks::PROBE);
            }
            SampleKind::Request if outcome == Outcome::GoingAway => {
                state.goes_away(self.epoch, now)
            }
            SampleKind::Request if !found.is_empty() => state.eject(self.epoch, found, now),
            SampleKind::Request | SampleKind::Late => {}
        }
        if is_well {
            self.ended_well(now);
        }
    }
}
