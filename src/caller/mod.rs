//! [`Caller`]: sends a request, from its first attempt to its last.

mod attempt;
mod budget;
mod call;
mod error;
mod hedge;
mod latencies;
mod options;
mod plan;
mod race;
mod recent;
mod stats;
mod throttle;
mod timer;
#[cfg(feature = "tokio")]
mod tokio_timer;

use std::fmt;
use std::future::Future;

use crate::cluster::Cluster;
use crate::error::BuildError;
use crate::shared::{GOLDEN, Slots, entropy, mix};
use crate::sync::{Arc, AtomicU64, Ordering, Padded};
use crate::transport::Transport;

pub use error::{CallerError, StopReason};
pub use hedge::{Hedge, HedgeDelay};
pub use options::CallOptions;
pub use plan::CallPlan;
pub use stats::CallerStats;
pub use throttle::Throttle;
pub use timer::{FromSleep, Timer, from_sleep};
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use tokio_timer::TokioTimer;

use budget::Budget;
use hedge::Hedging;
use stats::Counters;
use throttle::Throttling;
use timer::DynTimer;

/// Sends requests through a transport to a cluster, and retries failures on other endpoints, within a deadline and a
/// retry budget. Clones share budget and statistics: build one caller and clone it.
///
/// Each attempt has a lease of its own, and its outcome is recorded for its own endpoint. A retry goes to an endpoint
/// not yet tried for this request; if there is none, there is no retry (unless [`CallPlan::repeat_endpoints`] is set).
/// The transport decides which results are retried ([`Transport::is_retryable`]; by default faults). **A request that
/// must not be carried out twice needs a transport that says no** and [`CallPlan::retry_timeouts`] off, or a single
/// attempt ([`CallOptions::attempts`]). A call gives up on an endpoint that never answers only if the plan says when
/// ([`CallPlan::attempt_timeout`], or a [`Hedge`]).
///
/// # The budget
///
/// A retry is sent if the retries of the last ten seconds, this one included, are at most 20 % of the requests of that
/// time, or at most 3, whichever is more ([`CallPlan::budget_percent`], [`CallPlan::budget_floor`]). In an outage,
/// where every request fails, the load therefore grows by a fifth, and by 3 requests for each ten seconds begun,
/// instead of [`attempts`](CallPlan::attempts) times. The ten seconds are whole seconds of the [`Timer`]: the present
/// one and the nine before it.
///
/// Hedges count as retries. A request counts when it is first sent, a retry when it is sent. Waiting costs nothing, and
/// nothing is given back. A caller and its clones share one budget, so have one caller per service. The budget takes no
/// lock. If the clock jumps ahead and returns, the retries of one window may be forgotten.
///
/// # In blocking code
///
/// A transport that blocks makes a call that is ready at its first poll, so that no runtime is needed. The attempts'
/// time limits are then the transport's own (a socket's timeouts): neither
/// [`attempt_timeout`](CallPlan::attempt_timeout) nor the deadline cuts off an attempt, and hedges are never sent.
/// Retries, the waits before them, the budget and [`CallPlan::throttle`] work; a wait blocks the thread.
///
/// ```
/// use evenkeel::{CallPlan, Caller, Fleet, from_fn, from_sleep};
/// use std::task::{Context, Poll, Waker};
/// use std::{pin::pin, thread};
///
/// # fn get(address: &str, _: &str) -> std::io::Result<u16> {
/// #     if address == "a" { Err(std::io::Error::other("a is dead")) } else { Ok(200) }
/// # }
/// let fleet: Fleet<String> = ["a", "b"].map(String::from).into_iter().collect();
/// let transport = from_fn(|address: &String, path: &'static str| {
///     let result = get(address, path); // blocks
///     async move { result }
/// });
/// let timer = from_sleep(|duration| async move { thread::sleep(duration) });
/// let caller = Caller::new(fleet, transport, CallPlan::default(), timer)?;
///
/// for _ in 0..3 {
///     let call = pin!(caller.call("/"));
///     let Poll::Ready(answer) = call.poll(&mut Context::from_waker(Waker::noop())) else {
///         unreachable!("nothing in it waits");
///     };
///     assert_eq!(answer?, 200);
/// }
/// assert!(caller.stats().retries > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Examples
///
/// ```
/// use evenkeel::{CallPlan, Caller, Fleet, RoundRobin, from_fn, from_sleep};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b", "c"].map(String::from))
///     .policy(RoundRobin::new())
///     .build()?;
/// let transport = from_fn(|address: &String, path: &'static str| {
///     let answer = match address.as_str() {
///         "a" => Err(std::io::Error::other("a is dead")),
///         address => Ok(format!("{address}{path}")),
///     };
///     async move { answer }
/// });
/// let caller = Caller::new(fleet, transport, CallPlan::default(), from_sleep(tokio::time::sleep))?;
///
/// for _ in 0..3 {
///     assert!(caller.call("/").await.is_ok()); // a failed attempt at a is repeated at b or c
/// }
/// assert!(caller.stats().retries > 0);
/// # Ok(())
/// # }
/// ```
pub struct Caller<C, T> {
    inner: Arc<Inner<C, T>>,
}

struct Inner<C, T> {
    cluster: C,
    transport: T,
    plan: CallPlan,
    timer: Box<dyn DynTimer>,
    budget: Budget,
    /// Retries in flight.
    slots: Padded<Slots>,
    hedging: Option<Hedging>,
    throttling: Option<Throttling>,
    counters: Counters,
    entropy: AtomicU64,
}

impl<C: Cluster, T> Caller<C, T> {
    /// Creates a caller with a budget of its own.
    ///
    /// # Errors
    ///
    /// [`BuildError::Setting`] if a setting of the plan is out of range.
    pub fn new(
        cluster: C,
        transport: T,
        plan: CallPlan,
        timer: impl Timer + 'static,
    ) -> Result<Self, BuildError> {
        plan.check()?;
        let inner = Inner {
            cluster,
            transport,
            timer: Box::new(timer),
            budget: Budget::new(plan.budget_percent, plan.budget_floor),
            slots: Padded(Slots::up_to(plan.max_concurrent_retries)),
            hedging: plan.hedge.map(Hedging::new),
            throttling: plan.throttle.map(Throttling::new),
            counters: Counters::default(),
            entropy: AtomicU64::new(plan.seed.unwrap_or_else(entropy)),
            plan,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Sends clones of the request until an attempt brings a final result or the plan allows no more: one after the
    /// other, or concurrently if the plan [hedges](CallPlan::hedge).
    ///
    /// # Errors
    ///
    /// [`CallerError`], with the [reason](StopReason) why there was no further attempt and the transport's last error.
    /// If the last attempt returned an `Ok` that the transport declares retryable (a 503, say), the call returns that
    /// `Ok`.
    ///
    /// # Panics
    ///
    /// Panics only if code of yours does: transport, timer, `clone`, policy, tracker. In-flight counts stay right.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before its first poll does nothing. Dropping it while attempts are in flight drops the
    /// transport's futures, and each of those attempts counts as [`Outcome::Abandoned`](crate::Outcome::Abandoned).
    /// Dropping it during a wait between two attempts drops nothing else. The budget is charged for exactly what was
    /// sent.
    pub fn call<Req>(
        &self,
        request: Req,
    ) -> impl Future<Output = Result<T::Response, CallerError<T::Error>>> + Send
    where
        T: Transport<C::Endpoint, Req, Response: Send, Error: Send>,
        Req: Clone + Send,
    {
        self.call_with(move || request.clone())
    }

    /// The same as [`call`](Self::call), for requests that cannot be cloned. `make` makes the request of each attempt,
    /// after its endpoint has been picked.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call).
    ///
    /// # Panics
    ///
    /// The same as [`call`](Self::call); also panics if `make` does.
    ///
    /// # Cancel safety
    ///
    /// The same as [`call`](Self::call).
    pub fn call_with<Req, F>(
        &self,
        make: F,
    ) -> impl Future<Output = Result<T::Response, CallerError<T::Error>>> + Send
    where
        T: Transport<C::Endpoint, Req, Response: Send, Error: Send>,
        Req: Send,
        F: FnMut() -> Req + Send,
    {
        self.inner.run(CallOptions::new(), make)
    }

    /// The same as [`call_with`](Self::call_with), with options for this call: an affinity, endpoints to avoid, a
    /// deadline, a number of attempts.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call). If the options avoid every endpoint from the start, the error is
    /// [`StopReason::Pick`] with [`PickError::AllAvoided`](crate::PickError::AllAvoided).
    ///
    /// # Panics
    ///
    /// The same as [`call_with`](Self::call_with).
    ///
    /// # Cancel safety
    ///
    /// The same as [`call`](Self::call).
    ///
    /// ```
    /// # use evenkeel::{CallPlan, Fleet, from_fn, from_sleep};
    /// use evenkeel::{CallOptions, Caller};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let fleet: Fleet<String> = ["a", "b"].map(String::from).into_iter().collect();
    /// # let send = from_fn(|_: &String, n: u32| async move { Ok::<_, std::io::Error>(n + 1) });
    /// # let caller = Caller::new(fleet, send, CallPlan::default(), from_sleep(tokio::time::sleep))?;
    /// let options = CallOptions::new().deadline(Duration::from_millis(200));
    /// assert_eq!(caller.call_with_options(options, || 1).await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn call_with_options<Req, F>(
        &self,
        options: CallOptions<'_>,
        make: F,
    ) -> impl Future<Output = Result<T::Response, CallerError<T::Error>>> + Send
    where
        T: Transport<C::Endpoint, Req, Response: Send, Error: Send>,
        Req: Send,
        F: FnMut() -> Req + Send,
    {
        self.inner.run(options, make)
    }
}

impl<C, T> Caller<C, T> {
    /// Returns what this caller and its clones have done. Each number is right by itself; together they are not of one
    /// moment.
    #[must_use]
    pub fn stats(&self) -> CallerStats {
        let inner = &*self.inner;
        let budget_left = inner.budget.left(inner.timer.tick());
        let retries_in_flight = inner.slots.0.taken();
        let hedge_delay = inner.hedging.as_ref().and_then(Hedging::delay);
        inner
            .counters
            .stats(budget_left, retries_in_flight, hedge_delay)
    }

    /// Returns the cluster that this caller picks from.
    #[must_use]
    pub fn cluster(&self) -> &C {
        &self.inner.cluster
    }

    /// Returns the settings of this caller.
    #[must_use]
    pub fn plan(&self) -> &CallPlan {
        &self.inner.plan
    }
}

impl<C, T> Inner<C, T> {
    fn random(&self) -> u64 {
        // ORDERING: Relaxed. Only uniqueness matters.
        mix(self.entropy.fetch_add(GOLDEN, Ordering::Relaxed))
    }
}

impl<C, T> Clone for Caller<C, T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<C, T> fmt::Debug for Caller<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("plan", &self.inner.plan)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
