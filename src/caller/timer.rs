//! How a caller gets the time and waits: [`Timer`].

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::time::{Clock, MonotonicClock, Tick};
use crate::transport::BoxFuture;

/// The time source and the sleep of a [`Caller`](crate::Caller). The crate has no timer of its own.
///
/// If the runtime's timer follows the operating system's clock, [`from_sleep`] makes a timer from its `sleep`. For
/// tokio, paused or not, use `TokioTimer` from the feature `tokio`.
///
/// # Examples
///
/// Any clock can be combined with any timer:
///
/// ```
/// use evenkeel::{Clock, ManualClock, Tick, Timer};
/// use std::time::Duration;
///
/// struct Mine(ManualClock);
///
/// impl Timer for Mine {
///     fn now(&self) -> Tick {
///         self.0.now()
///     }
///     async fn sleep(&self, duration: Duration) {
///         self.0.advance(duration) // a test's: nothing takes any time
///     }
/// }
/// # assert_eq!(Mine(ManualClock::new()).now(), Tick::ZERO);
/// ```
pub trait Timer: Send + Sync {
    /// Returns the current time. Deadlines and the retry budget go by it.
    ///
    /// It is read before each attempt and after each failed one, and after each answered one if the caller hedges by a
    /// percentile or throttles.
    fn now(&self) -> Tick;

    /// Completes when `duration` has passed since the call. If it takes longer, deadlines are late by as much.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped unfinished whenever an answer comes first.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// An object-safe form of [`Timer`], so that the type of a caller does not name its timer.
pub(super) trait DynTimer: Send + Sync {
    fn tick(&self) -> Tick;
    fn sleep_boxed(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

impl<T: Timer> DynTimer for T {
    fn tick(&self) -> Tick {
        self.now()
    }

    fn sleep_boxed(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.sleep(duration))
    }
}

/// A runtime's `sleep` as a timer. Made by [`from_sleep`].
#[derive(Clone)]
pub struct FromSleep<F> {
    sleep: F,
    clock: MonotonicClock,
}

/// Makes a timer from a function that sleeps, such as `tokio::time::sleep`, and the operating system's monotonic clock.
///
/// Do not use it with a runtime whose time is paused or simulated: implement [`Timer`] with that runtime's clock
/// instead.
///
/// ```
/// use evenkeel::from_sleep;
///
/// let timer = from_sleep(tokio::time::sleep);
/// # fn check<T: evenkeel::Timer>(_: &T) {}
/// # check(&timer);
/// ```
#[must_use]
pub fn from_sleep<F, Fut>(sleep: F) -> FromSleep<F>
where
    F: Fn(Duration) -> Fut + Send + Sync,
    Fut: Future + Send,
{
    FromSleep {
        sleep,
        clock: MonotonicClock::new(),
    }
}

impl<F, Fut> Timer for FromSleep<F>
where
    F: Fn(Duration) -> Fut + Send + Sync,
    Fut: Future + Send,
{
    fn now(&self) -> Tick {
        self.clock.now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        let slept = (self.sleep)(duration);
        async move {
            // The output (an instant in some runtimes) is not used.
            let _ = slept.await;
        }
    }
}

impl<F> fmt::Debug for FromSleep<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromSleep")
    }
}
