//! tokio's time for a caller: [`TokioTimer`].

use std::future::Future;
use std::time::Duration;

use super::Timer;
use crate::time::{Clock, Tick, TokioInstant, nanos, tokio_now};

/// tokio's time, paused or not, as the [`Timer`] of a [`Caller`](crate::Caller). Needs the feature `tokio`.
///
/// It is also a [`Clock`], so that a fleet agrees with its caller in a test with paused time. Ticks count from the
/// creation of this value.
///
/// # Panics
///
/// Its `sleep` panics outside a tokio runtime with timers, as tokio's does.
///
/// # Examples
///
/// ```
/// use evenkeel::{CallPlan, Caller, Fleet, TokioTimer, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let timer = TokioTimer::new();
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b"].map(String::from))
///     .clock(timer)
///     .build()?;
/// let transport = from_fn(|_: &String, n: u32| async move { Ok::<_, std::io::Error>(n + 1) });
/// let caller = Caller::new(fleet, transport, CallPlan::default(), timer)?;
/// assert_eq!(caller.call(1).await?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TokioTimer {
    origin: TokioInstant,
}

impl TokioTimer {
    /// Creates a timer whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: tokio_now(),
        }
    }

    /// Returns the current time. (It is inherent because both of its traits have a method of this name.)
    #[must_use]
    pub fn now(&self) -> Tick {
        let elapsed = tokio_now().saturating_duration_since(self.origin);
        Tick::from_nanos(nanos(elapsed))
    }
}

impl Default for TokioTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for TokioTimer {
    fn now(&self) -> Tick {
        Self::now(self)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        // Read here and not at the first poll: a transport is polled before that, and may block.
        let end = tokio_now().checked_add(duration);
        async move {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => tokio::time::sleep(duration).await,
            }
        }
    }
}

/// Readings are not reused: paused time is advanced by hand, so each pick must read it.
impl Clock for TokioTimer {
    fn now(&self) -> Tick {
        Self::now(self)
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_takes_its_time_by_its_own_clock() {
        let timer = TokioTimer::default();
        let before = Timer::now(&timer);
        timer.sleep(Duration::from_millis(2)).await;
        assert!(Clock::now(&timer).since(before) >= Duration::from_millis(2));
    }

    #[tokio::test]
    async fn a_sleep_begins_with_its_call() {
        let (timer, time) = (TokioTimer::new(), Duration::from_millis(200));
        let sleep = timer.sleep(time);
        std::thread::sleep(time); // a transport that blocks
        let before = Timer::now(&timer);
        sleep.await;
        assert!(Timer::now(&timer).since(before) < time / 2);
    }
}
