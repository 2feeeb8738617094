//! What a standing says, packed into one word.
//!
//! From the top: `epoch: 24 (wrapping) | times (ejections in a row): 5 | phase: 3 | at: 32`. The epoch moves with every
//! turn to another phase but the end of slow start, so that a result from before decides nothing. `at` is in
//! milliseconds and wraps after 49 days; no ejection lasts longer than two, so a wrapped time reads as passed.

use std::time::Duration;

use crate::time::Tick;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Takes requests. `at`: since when.
    In,
    /// Takes none. `at`: until when. Holds a slot of the ledger.
    Ejected,
    /// One probe, a request or a check, is under way. `at`: when that is given up. Holds the slot.
    Probing,
    /// Marked down: takes none, and is not judged.
    Down,
    /// Marked up: takes requests, and is not judged.
    Up,
    /// Not in rotation (weight 0, draining or removed), and not judged.
    Off,
    /// As `In`, and in slow start. `at`: since when.
    Warming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) epoch: u32,
    pub(crate) times: u32,
    pub(crate) phase: Phase,
    pub(crate) at: u32,
}

pub(crate) const EPOCH_MASK: u32 = (1 << 24) - 1;
pub(super) const MOST_TIMES: u32 = (1 << 5) - 1;

impl Standing {
    pub(crate) const fn pack(self) -> u64 {
        ((self.epoch & EPOCH_MASK) as u64) << 40
            | (self.times as u64) << 35
            | (self.phase as u64) << 32
            | self.at as u64
    }

    #[inline]
    pub(crate) const fn read(word: u64) -> Self {
        Self {
            epoch: (word >> 40) as u32,
            times: (word >> 35) as u32 & MOST_TIMES,
            phase: match (word >> 32) & 7 {
                0 => Phase::In,
                1 => Phase::Ejected,
                2 => Phase::Probing,
                3 => Phase::Down,
                4 => Phase::Up,
                6 => Phase::Warming,
                _ => Phase::Off,
            },
            at: word as u32,
        }
    }

    /// The standing that follows this one: another epoch.
    pub(super) const fn next_epoch(self, phase: Phase, at: u32) -> Self {
        Self {
            epoch: self.epoch.wrapping_add(1) & EPOCH_MASK,
            phase,
            at,
            ..self
        }
    }

    #[inline]
    pub(crate) const fn takes_requests(self) -> bool {
        matches!(self.phase, Phase::In | Phase::Up | Phase::Warming)
    }

    /// Whether it takes requests and is judged.
    #[inline]
    pub(crate) const fn is_in(self) -> bool {
        matches!(self.phase, Phase::In | Phase::Warming)
    }

    /// Whether it is in slow start after an ejection that still counts as one in a row.
    pub(crate) fn is_returning(self) -> bool {
        self.phase == Phase::Warming && self.times > 0
    }

    /// How long it has been in slow start; `None` if it is not.
    pub(crate) fn warming_for(self, now: Tick) -> Option<Duration> {
        let millis = stamp(now).wrapping_sub(self.at);
        // If the clock has gone back, the difference wraps and reads as weeks.
        (self.phase == Phase::Warming).then(|| Duration::from_millis(millis.into()))
    }

    /// How long ago it was moved here; `None` if it never was. Not for ejected members.
    pub(crate) fn moved_for(self, now: Tick) -> Option<Duration> {
        let millis = stamp(now).wrapping_sub(self.at);
        (self.epoch > 0).then(|| Duration::from_millis(millis.into()))
    }

    /// Whether it holds a slot of the ledger.
    #[inline]
    pub(crate) const fn is_ejected(self) -> bool {
        matches!(self.phase, Phase::Ejected | Phase::Probing)
    }

    /// Whether it is ejected and a probe's time has come, or its last probe is to be given up. A time further ahead
    /// than `longest` was set by a clock that has gone back since, and counts as reached.
    pub(crate) fn probe_is_due(self, now: Tick, longest: Duration) -> bool {
        let ahead = self.at.wrapping_sub(stamp(now)) as i32;
        let longest = i32::try_from(longest.as_millis()).unwrap_or(i32::MAX);
        self.is_ejected() && (ahead <= 0 || ahead > longest)
    }

    /// When the probe is due, seen from `now`.
    pub(crate) fn probe_due_at(self, now: Tick) -> Tick {
        let ahead = self.at.wrapping_sub(stamp(now)) as i32;
        now.after(Duration::from_millis(ahead.max(0).unsigned_abs().into()))
    }

    /// How long a probe has been due, for an ejected member.
    pub(crate) fn overdue(self, now: Tick) -> Duration {
        let behind = stamp(now).wrapping_sub(self.at) as i32;
        Duration::from_millis(behind.max(0).unsigned_abs().into())
    }
}

/// Rounded up, so that an ejection is not a millisecond short.
pub(super) fn stamp_after(now: Tick, length: Duration) -> u32 {
    now.after(length).as_nanos().div_ceil(1_000_000) as u32
}

pub(super) fn stamp(now: Tick) -> u32 {
    now.as_millis() as u32
}
