//! Whether somebody checks ejected endpoints out of band, so that no request has to.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// Until when the prober is taken to be there. It says so with each tick; when it dies or stalls, the word
/// runs out by itself and requests probe again.
///
/// The word is a hint. Who gets a probe is decided by the exchange on the member's standing, so a moment with
/// two claimants, or with none, does no harm.
#[derive(Debug)]
pub(crate) struct Prober(AtomicU64);

/// How long one tick stands for. Ticks come each second or more often; three may be late.
pub(crate) const PRESENCE: Duration = Duration::from_secs(3);

impl Prober {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// It is there.
    pub(crate) fn attend(&self, now: Tick) {
        // ORDERING: Relaxed. A hint, complete in itself.
        self.0
            .store(now.after(PRESENCE).as_nanos(), Ordering::Relaxed);
    }

    /// It is there no more.
    pub(crate) fn leave(&self) {
        // ORDERING: Relaxed. As in `attend`.
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether it is there. A time too far ahead was set by a clock that has gone back: it has passed.
    pub(crate) fn is_here(&self, now: Tick) -> bool {
        // ORDERING: Relaxed. As in `attend`.
        let until = self.0.load(Ordering::Relaxed);
        let left = until.saturating_sub(now.as_nanos());
        left > 0 && left <= 2 * nanos(PRESENCE)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn it_is_there_for_three_seconds_after_a_tick_or_until_it_leaves() {
        let prober = Prober::new();
        assert!(!prober.is_here(at(0)));
        prober.attend(at(10));
        assert!(prober.is_here(at(12)) && !prober.is_here(at(13)));
        prober.leave();
        assert!(!prober.is_here(at(10)));
    }

    #[test]
    fn one_that_ticked_in_a_future_that_was_taken_back_is_not_there() {
        let prober = Prober::new();
        prober.attend(at(1_000_000));
        assert!(!prober.is_here(at(10)));
        prober.attend(Tick::from_nanos(u64::MAX));
        assert!(!prober.is_here(at(10)));
    }
}
