//! Whether an out-of-band prober (active checks) probes ejected endpoints, so that no request has to.

use std::time::Duration;

use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::time::{Tick, nanos};

/// Until when the prober is taken to be present. Each of its ticks extends that time. If the prober dies or stalls, the
/// time runs out by itself and requests become probes again.
///
/// The value is a hint. The compare-and-swap on the member's standing decides who gets a probe, so a moment with two
/// claimants, or with none, does no harm.
#[derive(Debug, Default)]
pub(crate) struct Prober {
    until: AtomicU64,
    /// Whether its checks are disbelieved. It then counts as absent.
    is_ignored: AtomicBool,
}

/// How long a tick keeps the prober present. [`HealthCheck::next_due`](crate::HealthCheck::next_due) asks for a tick at
/// least every 20 ms, so a driver may stall for a while.
pub(crate) const TICK_TTL: Duration = Duration::from_secs(3);

impl Prober {
    /// Records a tick, and whether the checks are believed.
    pub(crate) fn record_tick(&self, now: Tick, is_believed: bool) {
        // ORDERING: Relaxed, both. Hints, each complete in itself.
        self.until
            .store(now.after(TICK_TTL).as_nanos(), Ordering::Relaxed);
        self.is_ignored.store(!is_believed, Ordering::Relaxed);
    }

    /// Records that the prober is gone.
    pub(crate) fn leave(&self) {
        // ORDERING: Relaxed. As in `record_tick`.
        self.until.store(0, Ordering::Relaxed);
    }

    /// Whether the prober is present and its checks are believed.
    pub(crate) fn is_here(&self, now: Tick) -> bool {
        // ORDERING: Relaxed. As in `record_tick`.
        self.has_ticked(now) && !self.is_ignored.load(Ordering::Relaxed)
    }

    /// Whether the prober is present but its checks are disbelieved.
    pub(crate) fn is_ignored(&self, now: Tick) -> bool {
        // ORDERING: Relaxed. As in `record_tick`.
        self.has_ticked(now) && self.is_ignored.load(Ordering::Relaxed)
    }

    /// Whether the last tick is recent. A time that is too far ahead was set by a clock that has gone back, and is
    /// over.
    fn has_ticked(&self, now: Tick) -> bool {
        // ORDERING: Relaxed. As in `record_tick`.
        let until = self.until.load(Ordering::Relaxed);
        let left = until.saturating_sub(now.as_nanos());
        left > 0 && left <= 2 * nanos(TICK_TTL)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_driver_counts_for_three_seconds_after_a_tick_or_until_it_leaves() {
        let prober = Prober::default();
        assert!(!prober.is_here(at(0)));
        prober.record_tick(at(10), true);
        assert!(prober.is_here(at(12)) && !prober.is_here(at(13)));
        prober.leave();
        assert!(!prober.is_here(at(10)));
    }

    #[test]
    fn an_ignored_driver_does_not_count_while_it_ticks() {
        let prober = Prober::default();
        prober.record_tick(at(10), false);
        assert!(!prober.is_here(at(11)) && prober.is_ignored(at(11)));
        assert!(!prober.is_ignored(at(13)));
        prober.record_tick(at(14), true);
        assert!(prober.is_here(at(15)) && !prober.is_ignored(at(15)));
    }

    #[test]
    fn a_driver_that_ticked_before_the_clock_went_back_does_not_count() {
        let prober = Prober::default();
        prober.record_tick(at(1_000_000), true);
        assert!(!prober.is_here(at(10)));
        prober.record_tick(Tick::from_nanos(u64::MAX), true);
        assert!(!prober.is_here(at(10)));
    }
}
