//! Invitations, and whether a member is degraded. An invitation sends one pick to an endpoint that policies otherwise
//! avoid, or know nothing of. Both facts are in one byte.

use super::state::State;
use crate::shared::Place;
use crate::sync::Ordering;
use crate::time::Tick;

/// The bit of `State::invited` that says that the endpoint is degraded.
const DEGRADED: u8 = 1 << 7;

/// Why an endpoint may be invited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// Other endpoints are known, and nothing is known of this one. It costs as much as the median of those, so at low
    /// load there is always one that costs less. Holds how many invitations have told nothing of it.
    Unknown(u8),
    /// It has been idle for this many milliseconds.
    Idle(u32),
}

/// The time in tenths of a second, which wraps after nearly two hours.
fn tenths(now: Tick) -> u16 {
    (now.as_millis() / 100) as u16
}

impl State {
    /// Whether an endpoint may be invited to show how it is now, and why. It may be once it has been idle for a second,
    /// and twice as long after each invitation that did not show it to be like the others. An endpoint that has not
    /// answered yet is invited at once, if others have, and then after the same waits.
    ///
    /// An invitation that no pick has accepted stands, and no other is given: the endpoint may be where no pick looks,
    /// and others are to be tried. An endpoint that joined a known fleet and has had no turn need not wait.
    pub(crate) fn may_be_invited(&self, now: Tick) -> Option<Guest> {
        let place = self.place.as_ref().filter(|place| !place.is_invited())?;
        if place.has_just_joined() {
            return Some(Guest::Unknown(0));
        }
        // ORDERING: Relaxed. Upkeep counts it up, a good answer resets it; neither orders anything.
        let times = self.invited.load(Ordering::Relaxed) & !DEGRADED;
        if self.latency.nanos().is_none() {
            if place.has_had_no_turn() {
                // It has its first turn before any endpoint is preferred.
                return None;
            }
            let others_are_known = self.shared.usual().latency().is_some();
            // ORDERING: Relaxed. As above.
            let before = self.invited_at.load(Ordering::Relaxed);
            let waited = tenths(now).wrapping_sub(before);
            let has_waited = times == 0 || waited >= 10 << times;
            return (others_are_known && has_waited).then_some(Guest::Unknown(times));
        }
        let idle = self.latency.idle_millis(now);
        (idle >= 1_000 << times).then_some(Guest::Idle(idle))
    }

    /// Invites the next pick of a policy that compares costs.
    pub(crate) fn invite(&self, now: Tick) {
        // Up to sixteen seconds. With eight, like endpoints are used less evenly (F1 of `benches/quality.md`, 1.15 for
        // 1.13).
        const MOST: u8 = 4;
        let more = |now: u8| (now & !DEGRADED < MOST).then_some(now + 1);
        // ORDERING: Relaxed, both. As in `may_be_invited`.
        let _ = self
            .invited
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        // ORDERING: Relaxed. As in `may_be_invited`.
        self.invited_at.store(tenths(now), Ordering::Relaxed);
        self.place.iter().for_each(Place::invite);
    }

    /// Resets the invitations: the endpoint has shown that it is like the others.
    pub(super) fn reset_invitations(&self) {
        // ORDERING: Relaxed. As in `may_be_invited`.
        self.invited.fetch_and(DEGRADED, Ordering::Relaxed);
    }

    /// Whether it is degraded: a policy with tiers prefers others.
    #[inline]
    pub(crate) fn is_degraded(&self) -> bool {
        // ORDERING: Relaxed. A thread that counts by it has read `Ledger::eligibility` before, which is raised after
        // it.
        self.invited.load(Ordering::Relaxed) & DEGRADED != 0
    }

    /// Only the writer calls it.
    pub(crate) fn set_degraded(&self, is: bool) {
        // ORDERING: Relaxed, both. As above; the ledger's word publishes it.
        let before = if is {
            self.invited.fetch_or(DEGRADED, Ordering::Relaxed)
        } else {
            self.invited.fetch_and(!DEGRADED, Ordering::Relaxed)
        };
        if (before & DEGRADED != 0) != is {
            self.shared.ledger.count_degraded(is);
        }
    }
}
