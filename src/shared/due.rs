//! A due-time: one word that says when something is next to be done, and lets one caller do it.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// When something is due. One caller claims it by moving the time forward; anybody may move it back.
#[derive(Debug)]
pub(crate) struct Due {
    at: AtomicU64,
    /// Further ahead than it can rightly be: beyond, a clock has jumped and come back, and it is due.
    horizon: AtomicU64,
}

impl Due {
    pub(crate) fn new(first: Tick, horizon: Duration) -> Self {
        Self {
            at: AtomicU64::new(first.as_nanos()),
            horizon: AtomicU64::new(twice(horizon)),
        }
    }

    /// Whether it is due. One load, for the request path.
    #[inline]
    pub(crate) fn is_due(&self, now: Tick) -> bool {
        // ORDERING: Relaxed. A hint; `claim` decides.
        self.reached(self.at.load(Ordering::Relaxed), now)
    }

    /// From here on a claim moves it ahead by no more than this.
    pub(crate) fn set_horizon(&self, horizon: Duration) {
        // ORDERING: Relaxed. A number complete in itself; who reads the one before may find it due once too often.
        self.horizon.store(twice(horizon), Ordering::Relaxed);
    }

    #[inline]
    fn reached(&self, at: u64, now: Tick) -> bool {
        // ORDERING: Relaxed. As in `set_horizon`.
        at <= now.as_nanos() || at - now.as_nanos() > self.horizon.load(Ordering::Relaxed)
    }

    /// Claims it if it is due, and moves it to `next`. Of several callers one gets `true`; it must read
    /// what it acts on *after* this.
    pub(crate) fn claim(&self, now: Tick, next: Tick) -> bool {
        // ORDERING: Relaxed. The exchange below decides.
        let at = self.at.load(Ordering::Relaxed);
        self.reached(at, now)
            // ORDERING: AcqRel on success: an alarm that came before this exchange is read by it, with
            // all that the alarm stored first; one that comes after finds `next` and lowers it. Relaxed
            // on failure: nothing is done then.
            && self
                .at
                .compare_exchange(at, next.as_nanos(), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Makes it due at `at`, if that is sooner. An alarm stores its reason *before* this.
    pub(crate) fn lower(&self, at: Tick) {
        // ORDERING: AcqRel. Release: pairs with `claim`, as told there. Acquire keeps a chain of alarms
        // readable through the last of them.
        self.at.fetch_min(at.as_nanos(), Ordering::AcqRel);
    }
}

/// Clocks of two threads may be a little apart.
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
    fn one_claim_a_turn() {
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

    /// An alarm stores a state and lowers the time to 20; a claimant at 10 moves the time to 50 and
    /// reads the state. Either it sees the state, or the time is at most 20 afterwards.
    fn claim_against_alarm(claim: fn(&Setting) -> Option<u64>) {
        loom::model(move || {
            let setting = Arc::new(Setting {
                due: Due::new(at(10), Duration::from_nanos(1000)),
                state: AtomicU64::new(0),
            });
            let alarm = {
                let setting = setting.clone();
                thread::spawn(move || {
                    // ORDERING: Relaxed. What orders it is `lower`.
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
            // ORDERING: Relaxed. What orders it is `claim`.
            setting
                .due
                .claim(at(10), at(50))
                .then(|| setting.state.load(Ordering::Relaxed))
        });
    }

    /// Broken: the claimant reads first and moves the time after.
    #[test]
    #[should_panic = "the alarm was lost"]
    fn broken_variant_read_before_claim() {
        claim_against_alarm(|setting| {
            // ORDERING: Relaxed. As above; the order of the two is what is broken.
            let state = setting.state.load(Ordering::Relaxed);
            setting.due.claim(at(10), at(50)).then_some(state)
        });
    }

    /// Broken: the right order, but nothing in the memory model keeps it.
    #[test]
    #[should_panic = "the alarm was lost"]
    fn broken_variant_relaxed_claim() {
        claim_against_alarm(|setting| {
            // ORDERING: Relaxed, all three: what is broken.
            let moved =
                setting
                    .due
                    .at
                    .compare_exchange(10, 50, Ordering::Relaxed, Ordering::Relaxed);
            moved.ok().map(|_| setting.state.load(Ordering::Relaxed))
        });
    }

    #[test]
    fn one_of_two_claims() {
        loom::model(|| {
            let due = Arc::new(Due::new(at(10), Duration::from_nanos(1000)));
            let other = due.clone();
            let thread = thread::spawn(move || other.claim(at(10), at(50)));
            let mine = due.claim(at(10), at(50));
            assert!(mine != thread.join().unwrap());
        });
    }
}
