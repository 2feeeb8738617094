//! tokio's time as a caller's: [`TokioTimer`].

use std::time::Duration;

use super::Timer;
use crate::time::{Clock, Tick, TokioInstant, nanos, tokio_now};

/// tokio's time, also where it is paused, for a [`Caller`](crate::Caller); and as a [`Clock`] for its fleet, if the two are
/// to agree in a test with paused time. Ticks count from its creation. With the feature `tokio`.
///
/// # Panics
///
/// Its sleep panics outside a tokio runtime with timers, as tokio's does.
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
    /// A timer whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: tokio_now(),
        }
    }

    /// The present moment. (Both of its traits have a method of this name.)
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

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Each pick reads it: paused time is moved by hand, and a reading must not stand for another.
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
}
