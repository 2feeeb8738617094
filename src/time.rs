//! Time as a value. Only [`Fleet`](crate::Fleet) and [`Lease`](crate::Lease) read a [`Clock`], and only a
//! [`Caller`](crate::Caller) reads its [`Timer`](crate::Timer). All code below them takes a [`Tick`] as an argument.

use std::fmt;
use std::time::Duration;

use crate::sync::{Arc, AtomicU64, Ordering};

/// A point in time, in nanoseconds since the clock's origin. It covers 584 years.
///
/// Ticks of different clocks cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The clock's origin.
    pub const ZERO: Self = Self(0);

    /// Creates the tick that is `nanos` nanoseconds after the origin.
    #[must_use]
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the origin.
    #[must_use]
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the whole milliseconds since the origin.
    #[inline]
    pub(crate) const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Returns the time from `earlier` to `self`. It is zero if `earlier` is later, because a clock that goes back must
    /// not cause a panic.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the tick `duration` later, saturating at the last one.
    #[must_use]
    #[inline]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// Converts a duration to nanoseconds, saturating at `u64::MAX` (584 years).
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The source of time of a fleet.
///
/// It should not go back. If it does, or if it jumps ahead and returns, nothing panics and nothing stays stuck: elapsed
/// time counts as zero, and a deadline further ahead than any setting allows counts as reached.
///
/// It is called on the request path, once per pick and once per record, so it should be cheap; see
/// [`may_be_reused`](Self::may_be_reused).
///
/// # Examples
///
/// A clock that a test or a simulation advances by hand. ([`ManualClock`] is a ready-made one.)
///
/// ```
/// use evenkeel::{Clock, Fleet, Tick};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Debug, Default)]
/// struct Steps(AtomicU64);
///
/// impl Clock for Steps {
///     fn now(&self) -> Tick {
///         Tick::from_nanos(self.0.fetch_add(1_000, Ordering::Relaxed))
///     }
/// }
///
/// let fleet = Fleet::builder()
///     .endpoints(["10.0.0.1:80".to_string()])
///     .clock(Steps::default())
///     .build()?;
/// assert_eq!(fleet.members().len(), 1);
/// # Ok::<(), evenkeel::BuildError>(())
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Tick;

    /// Returns whether a reading may be reused for later picks and records. Defaults to `false`: every pick reads the
    /// clock.
    ///
    /// Readings are reused only while one thread makes more than a million picks and records a second. One reading then
    /// serves the next 31, or as many as come within 32 us, up to 127. One pick in 16 to 64 reads the clock, and only
    /// its request is measured. Return `true` if a reading costs more than all the rest of a pick, as that of the
    /// operating system's clock does.
    fn may_be_reused(&self) -> bool {
        false
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    #[inline]
    fn now(&self) -> Tick {
        (**self).now()
    }
    fn may_be_reused(&self) -> bool {
        (**self).may_be_reused()
    }
}

impl<C: Clock + ?Sized> Clock for Box<C> {
    #[inline]
    fn now(&self) -> Tick {
        (**self).now()
    }
    fn may_be_reused(&self) -> bool {
        (**self).may_be_reused()
    }
}

/// The default clock: the operating system's monotonic clock, counted from the creation of this value.
#[derive(Clone, Debug)]
pub struct MonotonicClock {
    origin: std::time::Instant,
}

impl MonotonicClock {
    /// Creates a clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    #[inline]
    fn now(&self) -> Tick {
        let elapsed = std::time::Instant::now().saturating_duration_since(self.origin);
        Tick(nanos(elapsed))
    }

    fn may_be_reused(&self) -> bool {
        true
    }
}

#[cfg(feature = "tokio")]
pub(crate) use tokio::time::Instant as TokioInstant;

/// Returns tokio's current time: the operating system's, unless tokio's time is paused.
#[cfg(feature = "tokio")]
pub(crate) fn tokio_now() -> TokioInstant {
    TokioInstant::now()
}

/// A clock that stands still until it is advanced. Clones share their time.
///
/// ```
/// use evenkeel::{Clock, ManualClock, Tick};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(3));
/// assert_eq!(clock.now(), Tick::from_nanos(3_000_000_000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Creates a clock at its origin.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    /// Advances the time, saturating at the last tick.
    pub fn advance(&self, duration: Duration) {
        let by = nanos(duration);
        // ORDERING: Relaxed. The time orders nothing; it is only read.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(now.saturating_add(by))
            });
    }

    /// Sets the time; it may go back.
    pub fn set(&self, now: Tick) {
        // ORDERING: Relaxed. As in `advance`.
        self.0.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    #[inline]
    fn now(&self) -> Tick {
        // ORDERING: Relaxed. As in `advance`.
        Tick(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_tick_that_goes_back_counts_as_no_time() {
        let (early, late) = (Tick(5), Tick(9));
        assert_eq!(late.since(early), Duration::from_nanos(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn the_longest_duration_saturates() {
        assert_eq!(Tick(1).after(Duration::MAX), Tick(u64::MAX));
        let clock = ManualClock::new();
        clock.advance(Duration::MAX);
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Tick(u64::MAX));
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let clock = MonotonicClock::new();
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
