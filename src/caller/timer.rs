//! How a caller is told the time and waits: [`Timer`].

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::time::{Clock, MonotonicClock, Tick};
use crate::transport::BoxFuture;

/// A [`Caller`](crate::Caller)'s time: what it is, and how to wait. The crate has no timer of its own.
///
/// Where the runtime's timer follows the operating system's clock, [`from_sleep`] makes one of its `sleep`. For tokio, paused
/// or not, there is `TokioTimer` behind the feature `tokio`.
///
/// # Examples
///
/// Any clock with any timer:
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
    /// The present moment. Read before each attempt and after each that failed, and, where it hedges by a percentile or
    /// throttles, after each that was answered. Deadlines and the retry budget go by it.
    fn now(&self) -> Tick;

    /// Is ready when `duration` has gone by since the call. If that takes longer, deadlines are late by as much.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped unfinished whenever an answer comes first.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// [`Timer`] in an object-safe shape, so that a caller's type does not name it.
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

/// A runtime's `sleep` as a timer. See [`from_sleep`].
#[derive(Clone)]
pub struct FromSleep<F> {
    sleep: F,
    clock: MonotonicClock,
}

/// Makes a timer of a function that sleeps, as `tokio::time::sleep` does, and the operating system's monotonic
/// clock. Not for a runtime whose time is paused or simulated: implement [`Timer`] with its clock there.
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
            // What it resolves to, an instant in some runtimes, says nothing.
            let _ = slept.await;
        }
    }
}

impl<F> fmt::Debug for FromSleep<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromSleep")
    }
}
