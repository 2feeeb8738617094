//! Slow start of one member: how far on it is, and what share of its requests the member gets.

use std::time::Duration;

use super::standing::{Keeper, Phase, Standing};
use super::state::State;
use crate::shared::EventKind;
use crate::sync::Ordering;
use crate::time::Tick;

impl State {
    /// A check has passed, the first in a row or a later one.
    pub(super) fn note_pass(&self, now: Tick) {
        // ORDERING: Relaxed, both. One check is out at a time; later readers have seen the standing turn.
        if self.passing_since.load(Ordering::Relaxed) == 0 {
            let millis = now.as_millis() as u32;
            self.passing_since.store(millis.max(1), Ordering::Relaxed);
        }
    }

    pub(super) fn reset_passes(&self) {
        // ORDERING: Relaxed. As above.
        self.passing_since.store(0, Ordering::Relaxed);
    }

    /// How far on its slow start is, if it is in one. The time for which it passed checks before its return counts for
    /// up to half of the window: checks show that it is well, not that it is warm.
    pub(crate) fn warming_for(&self, standing: Standing, now: Tick) -> Option<Duration> {
        let warming = standing.warming_for(now)?;
        Some(warming + self.head_start(standing))
    }

    /// Whether it is in slow start after an ejection, where half of the evidence is enough to eject it again. Decided
    /// by the time, as the upkeep that ends a slow start may be late, or not be done at all
    /// ([`Upkeep::Caller`](crate::Upkeep::Caller)).
    pub(super) fn is_on_parole(&self, now: Tick) -> bool {
        let standing = self.standing.get();
        let warming = || self.warming_for(standing, now);
        standing.is_returning() && warming() < Some(self.shared.slow_start.window)
    }

    /// The share it gets this long after its slow start began. If it was ejected itself and the fleet is short of
    /// capacity, that is at least the share of the endpoints that are missing: no other endpoint can take what it does
    /// not.
    pub(super) fn share_after(&self, warming: Duration) -> f64 {
        let share = self.shared.slow_start.share(warming);
        if share < 1.0 && self.was_ejected() {
            share.max(self.shared.missing())
        } else {
            share
        }
    }

    fn head_start(&self, standing: Standing) -> Duration {
        // ORDERING: Relaxed. As above.
        let passed = match self.passing_since.load(Ordering::Relaxed) {
            0 => 0,
            since => standing.at.wrapping_sub(since),
        };
        // If the clock has gone back, the passes may seem to come after the return: the difference then reads as weeks.
        let passed = if passed > u32::MAX / 2 { 0 } else { passed };
        Duration::from_millis(passed.into()).min(self.shared.slow_start.window / 2)
    }

    /// Shows picks that some member is in slow start, if it comes in with one. Before the return: otherwise a pick in
    /// between would not apply the slow start's share.
    pub(super) fn note_slow_start(&self, phase: Phase, now: Tick) {
        if phase == Phase::Warming {
            self.shared.note_slow_start(now);
        }
    }

    /// Emits the event if it has come in with a slow start.
    pub(super) fn tell_slow_start(&self, phase: Phase, now: Tick) {
        if phase == Phase::Warming {
            self.tell(now, EventKind::SlowStartBegun);
        }
    }

    /// Begins a slow start, for a member that is not published yet.
    pub(crate) fn warm(&self, now: Tick) {
        if self.return_phase() == Phase::Warming {
            self.shared.note_slow_start(now);
            self.standing.warm(now);
            self.tell_slow_start(self.standing.get().phase, now);
        }
    }
}
