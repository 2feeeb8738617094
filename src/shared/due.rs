//! A due time: one word that says when a task is next due and lets one caller claim it.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// When a task is due. One caller claims it by moving the time forward; any thread may move it back.
#[derive(Debug)]
pub(crate) struct Due {
    at: AtomicU64,
    /// The furthest ahead that the time can be. If it is further, a clock has jumped ahead and come back, and the task
    /// is due.
    horizon: AtomicU64,
}

impl Due {
    pub(crate) fn new(first: Tick, horizon: Duration) -> Self {
        Self {
            at: AtomicU64::new(first.as_nanos()),
            horizon: AtomicU64::new(twice(horizon)),
        }
    }

    /// Whether the task is due. One load of the time for the request path, and one of the horizon if it is not reached.
    #[inline]
    pub(crate) fn is_due(&self, now: Tick) -> bool {
        // ORDERING: Relaxed. A hint; `claim` decides.
        self.reached(self.at.load(Ordering::Relaxed), now)
    }

    /// Sets how far ahead a claim may move the time at most.
    pub(super) fn set_horizon(&self, horizon: Duration) {
        // ORDERING: Relaxed. A self-contained value. A thread that reads the old one may find the task due once too
        // often.
        self.horizon.store(twice(horizon), Ordering::Relaxed);
    }

    #[inline]
    fn reached(&self, at: u64, now: Tick) -> bool {
        // ORDERING: Relaxed. As in `set_horizon`.
        at <= now.as_nanos() || at - now.as_nanos() > self.horizon.load(Ordering::Relaxed)
    }

    /// Claims the task if it is due, and makes it due next at `next`. Of several callers one gets `true`; it must read
    /// what it acts on *after* this call.
    pub(crate) fn claim(&self, now: Tick, next: Tick) -> bool {
        // ORDERING: Relaxed. The compare-and-swap below decides.
        let at = self.at.load(Ordering::Relaxed);
        self.reached(at, now)
            // ORDERING: AcqRel on success: an alarm that came before this exchange is read by it, with everything the
            // alarm stored first; an alarm that comes after it finds `next` and lowers it. Relaxed on failure: the
            // caller does nothing then.
            && self
                .at
                .compare_exchange(at, next.as_nanos(), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Makes the task due at `at`, if that is sooner. An alarm stores its reason *before* this call.
    pub(crate) fn lower(&self, at: Tick) {
        // ORDERING: AcqRel. The Release pairs with `claim`. The Acquire makes the reasons of earlier alarms visible
        // through the last alarm of a chain.
        self.at.fetch_min(at.as_nanos(), Ordering::AcqRel);
    }
}

/// Twice the horizon, as the clock readings of two threads may be a little apart.
fn twice(horizon: Duration) -> u64 {
    nanos(horizon).saturating_mul(2)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    const fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    #[test]
    fn each_due_time_is_claimed_once() {
        let due = Due::new(at(10), Duration::from_nanos(100));
        assert!(!due.claim(at(9), at(19)));
        assert!(due.claim(at(10), at(20)));
        assert!(!due.claim(at(10), at(20)));
        assert!(due.claim(at(20), at(30)));
    }

    #[test]
    fn an_alarm_lowers_and_never_raises() {
        let due = Due::new(at(50), Duration::from_nanos(100));
        due.lower(at(60));
        assert!(!due.is_due(at(49)) && due.is_due(at(50)));
        due.lower(at(20));
        assert!(due.is_due(at(20)));
    }

    #[test]
    fn too_far_ahead_is_due() {
        let due = Due::new(at(0), Duration::from_nanos(100));
        assert!(due.claim(at(1_000_000), at(1_000_050)));
        assert!(due.is_due(at(10)), "the clock has gone back");
        assert!(!due.is_due(at(1_000_000)));
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    const fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    struct Setting {
        due: Due,
        state: AtomicU64,
    }

    /// An alarm stores a state and lowers the time to 20. A claimant at 10 moves the time to 50 and reads the state.
    /// Either it sees the state, or the time is at most 20 afterwards.
    fn claim_against_alarm(claim: fn(&Setting) -> Option<u64>) {
        loom::model(move || {
            let setting = Arc::new(Setting {
                due: Due::new(at(10), Duration::from_nanos(1000)),
                state: AtomicU64::new(0),
            });
            let alarm = {
                let setting = setting.clone();
                thread::spawn(move || {
                    // ORDERING: Relaxed. `lower` orders it.
                    setting.state.store(1, Ordering::Relaxed);
                    setting.due.lower(at(20));
                })
            };
            let seen = claim(&setting).expect("nobody else claims");
            alarm.join().unwrap();
            assert!(
                seen == 1 || setting.due.is_due(at(20)),
                "the alarm was lost"
            );
        });
    }

    #[test]
    fn no_alarm_is_lost_to_a_claim() {
        claim_against_alarm(|setting| {
            // ORDERING: Relaxed. `claim` orders it.
            setting
                .due
                .claim(at(10), at(50))
                .then(|| setting.state.load(Ordering::Relaxed))
        });
    }

    /// Broken: the claimant reads the state first and moves the time after that.
    #[test]
    #[should_panic = "the alarm was lost"]
    fn broken_variant_read_before_claim() {
        claim_against_alarm(|setting| {
            // ORDERING: Relaxed. As above; the order of the two steps is what is broken.
            let state = setting.state.load(Ordering::Relaxed);
            setting.due.claim(at(10), at(50)).then_some(state)
        });
    }

    /// Broken: the program order is right, but nothing in the memory model keeps it.
    #[test]
    #[should_panic = "the alarm was lost"]
    fn broken_variant_relaxed_claim() {
        claim_against_alarm(|setting| {
            // ORDERING: Relaxed, all three: this is what is broken.
            let moved =
                setting
                    .due
                    .at
                    .compare_exchange(10, 50, Ordering::Relaxed, Ordering::Relaxed);
            moved.ok().map(|_| setting.state.load(Ordering::Relaxed))
        });
    }

    #[test]
    fn one_of_two_racing_claims_wins() {
        loom::model(|| {
            let due = Arc::new(Due::new(at(10), Duration::from_nanos(1000)));
            let other = due.clone();
            let thread = thread::spawn(move || other.claim(at(10), at(50)));
            let mine = due.claim(at(10), at(50));
            assert!(mine != thread.join().unwrap());
        });
    }
}
