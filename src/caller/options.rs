//! Options of one call: [`CallOptions`].

use std::time::Duration;

use crate::options::{MemberId, PickOptions};
use crate::settings::setters;

/// Options of one call. The default sets none. See [`Caller::call_with_options`](crate::Caller::call_with_options).
///
/// ```
/// use evenkeel::CallOptions;
/// use std::time::Duration;
///
/// let options = CallOptions::new().affinity(42).deadline(Duration::from_millis(200));
/// assert_eq!(options.pick.affinity, Some(42));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CallOptions<'a> {
    /// Options of each attempt's pick. Endpoints already tried are avoided in addition to those listed here.
    pub pick: PickOptions<'a>,
    /// How long this call may take in total, in place of [`CallPlan::deadline`](crate::CallPlan::deadline); it may be
    /// shorter or longer. Unset by default.
    ///
    /// Pass what is left of the deadline of the request that you are serving. With zero, the call fails at once; with
    /// more than a day, there is no deadline. A first attempt that it cuts off counts as
    /// [`Outcome::Timeout`](crate::Outcome::Timeout), however short it was: do not call with less left than answers
    /// usually take, or an endpoint a little slower than the others may be ejected.
    pub deadline: Option<Duration>,
    /// How many times this request is sent at most, in place of [`CallPlan::attempts`](crate::CallPlan::attempts): 1 to
    /// 16 (clamped). Unset by default.
    ///
    /// Use 1 for a request that must not be carried out twice: it is neither retried nor hedged, but still shares the
    /// caller's budget and statistics.
    pub attempts: Option<u32>,
    /// How long each attempt of this call may take, in place of
    /// [`CallPlan::attempt_timeout`](crate::CallPlan::attempt_timeout). Unset by default.
    ///
    /// Raise it, and the [`deadline`](Self::deadline) with it, for a request that is slow by nature. With
    /// more than a day, as [`Duration::MAX`], only the deadline applies. With zero, an attempt is cut off unless it is
    /// ready at its first poll.
    pub attempt_timeout: Option<Duration>,
}

impl<'a> CallOptions<'a> {
    /// Creates options that set nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pick: PickOptions::new(),
            deadline: None,
            attempts: None,
            attempt_timeout: None,
        }
    }

    setters! {
        pick: PickOptions<'a>,
    }

    /// Sets [`PickOptions::affinity`].
    #[must_use]
    pub const fn affinity(mut self, hash: u64) -> Self {
        self.pick = self.pick.affinity(hash);
        self
    }

    /// Sets [`PickOptions::avoid`].
    #[must_use]
    pub const fn avoid(mut self, members: &'a [MemberId]) -> Self {
        self.pick = self.pick.avoid(members);
        self
    }

    setters! {
        attempts: u32 => Some(attempts),
        attempt_timeout: Duration => Some(attempt_timeout),
        deadline: Duration => Some(deadline),
    }
}
