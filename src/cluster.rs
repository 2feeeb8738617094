//! The seam that services write against: [`Cluster`], and [`ClusterExt::call`].

use std::future::Future;

use crate::endpoint::Endpoint;
use crate::error::{CallError, PickError};
use crate::member::Lease;
use crate::options::{MemberId, PickOptions};
use crate::sync::Arc;
use crate::transport::Transport;

/// A set of interchangeable endpoints that lends one out per request. Object-safe.
///
/// [`Fleet`](crate::Fleet) is the in-process one. Write your service against this trait, and a test can
/// bring its own.
///
/// If you wrap a cluster, to log or to count, forward **all** methods. The provided ones answer for a cluster that knows
/// nothing of health: under a [`Failover`](crate::Failover) a wrapper without them counts as wholly well and is never probed,
/// and a [`Throttle`](crate::Throttle) never acts.
///
/// # Examples
///
/// ```
/// use evenkeel::{Cluster, Lease, PickError, PickOptions};
///
/// /// Always the same.
/// struct Only(String);
///
/// impl Cluster for Only {
///     type Endpoint = String;
///     fn name(&self) -> &str {
///         "only"
///     }
///     fn pick_endpoint_with(&self, _: &PickOptions<'_>) -> Result<Lease<String>, PickError> {
///         Ok(Lease::detached(self.0.clone()))
///     }
/// }
///
/// let cluster: Box<dyn Cluster<Endpoint = String>> = Box::new(Only("10.0.0.1:80".into()));
/// assert_eq!(cluster.pick_endpoint()?.endpoint(), "10.0.0.1:80");
/// # Ok::<(), PickError>(())
/// ```
pub trait Cluster: Send + Sync {
    /// What it lends out.
    type Endpoint: Endpoint;

    /// Its name, for logs and metrics.
    fn name(&self) -> &str;

    /// Picks an endpoint for one request.
    ///
    /// # Errors
    ///
    /// The reason why there is none, at once; nothing waits. For a [`Fleet`](crate::Fleet):
    /// [`Empty`](PickError::Empty), [`AllDraining`](PickError::AllDraining),
    /// [`AllEjected`](PickError::AllEjected) only with the panic rule off,
    /// [`TooFewEligible`](PickError::TooFewEligible) only with [`PanicAction::FailFast`](crate::PanicAction::FailFast),
    /// [`AllAvoided`](PickError::AllAvoided), [`Saturated`](PickError::Saturated), and
    /// [`Declined`](PickError::Declined) only with a policy of yours. A [`Failover`](crate::Failover) has those of its clusters.
    ///
    /// # Panics
    ///
    /// Only if a policy or a clock of yours does. Nothing is left behind.
    fn pick_endpoint_with(
        &self,
        options: &PickOptions<'_>,
    ) -> Result<Lease<Self::Endpoint>, PickError>;

    /// Picks an endpoint for one request that asks for nothing in particular.
    ///
    /// # Errors
    ///
    /// As [`pick_endpoint_with`](Self::pick_endpoint_with).
    fn pick_endpoint(&self) -> Result<Lease<Self::Endpoint>, PickError> {
        const NOTHING_IN_PARTICULAR: &PickOptions<'_> = &PickOptions::new();
        self.pick_endpoint_with(NOTHING_IN_PARTICULAR)
    }

    /// The share of its capacity that is eligible, from 0 to 1. For a [`Fleet`](crate::Fleet): the share of its endpoints with a weight, by
    /// count, that are neither ejected nor marked down; 0 if it has none. Each pick of a [`Failover`](crate::Failover) calls it, so it
    /// should cost a few loads at most. Defaults to 1.
    fn availability(&self) -> f64 {
        1.0
    }

    /// A lease for the half-open probe of an ejected endpoint, if one is due and it is this request's turn. For whoever spreads requests
    /// over several clusters: one that gets none would never come back. A [`Fleet`](crate::Fleet) gives it to one call in eleven at most,
    /// unless probes end well, and does its upkeep here while anybody is refused. Defaults to `None`.
    fn pick_probe(&self) -> Option<Lease<Self::Endpoint>> {
        None
    }

    /// Whether any of these members belongs to this cluster; for nested clusters, to each that has anything eligible. Used to send a retry
    /// to another cluster. For a [`Fleet`](crate::Fleet) it costs a look at each endpoint, for retries only. Defaults to `false`.
    fn is_tried(&self, members: &[MemberId]) -> bool {
        let _ = members;
        false
    }

    /// Whether health still tells good endpoints from bad here. A [`Caller`](crate::Caller)'s
    /// [`Throttle`](crate::Throttle) refuses nothing while it does. For a [`Fleet`](crate::Fleet): not while no endpoint is
    /// eligible, in panic, while as many are ejected as may be (so that bad ones may be among those in), or while half of
    /// the requests to those that do not stand out fail. Some loads; with [`Tiers`](crate::Tiers), where it is no panic while one tier has
    /// none, a look at each member. By default yes.
    fn has_healthy(&self) -> bool {
        true
    }

    /// Whether certainly no endpoint is left besides these. A [`Caller`](crate::Caller) asks before it waits for a retry. A wrong `false`
    /// only costs a wait in vain. For a [`Fleet`](crate::Fleet): some loads where more are eligible than avoided, else a look at each
    /// member. Defaults to `false`.
    fn leaves_none(&self, avoid: &[MemberId]) -> bool {
        let _ = avoid;
        false
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => { $(
        impl<C: Cluster + ?Sized> Cluster for $pointer {
            type Endpoint = C::Endpoint;

            fn name(&self) -> &str {
                (**self).name()
            }

            fn pick_endpoint_with(
                &self,
                options: &PickOptions<'_>,
            ) -> Result<Lease<Self::Endpoint>, PickError> {
                (**self).pick_endpoint_with(options)
            }

            fn availability(&self) -> f64 {
                (**self).availability()
            }

            fn pick_probe(&self) -> Option<Lease<Self::Endpoint>> {
                (**self).pick_probe()
            }

            fn is_tried(&self, members: &[MemberId]) -> bool {
                (**self).is_tried(members)
            }

            fn has_healthy(&self) -> bool {
                (**self).has_healthy()
            }

            fn leaves_none(&self, avoid: &[MemberId]) -> bool {
                (**self).leaves_none(avoid)
            }
        }
    )* };
}

forward!(&C, Arc<C>, Box<C>);

/// What every [`Cluster`] can do beside picking. Implemented for all of them.
pub trait ClusterExt: Cluster {
    /// Picks an endpoint, sends the request through the transport, classifies the result and records
    /// it. One attempt: a failure is the caller's to handle.
    ///
    /// The pick is made when the future is first polled.
    ///
    /// # Errors
    ///
    /// [`CallError::Pick`] if no endpoint could be picked, and nothing was sent;
    /// [`CallError::Transport`] with the transport's error.
    ///
    /// # Panics
    ///
    /// Only if the transport, or a policy, tracker or clock of yours does; counts stay right.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before its first poll does nothing. Dropping it later drops the transport's
    /// future, and the request counts as [`Outcome::Abandoned`](crate::Outcome::Abandoned); the
    /// in-flight count goes down once.
    ///
    /// ```
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = std::pin::pin!(future);
    /// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     loop {
    /// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut cx) { return output }
    /// #     }
    /// # }
    /// use evenkeel::{ClusterExt, Fleet, from_fn};
    ///
    /// let fleet: Fleet<String> = ["10.0.0.1:80".to_string()].into_iter().collect();
    /// let transport = from_fn(|address: &String, path: &'static str| {
    ///     let address = address.clone();
    ///     async move { Ok::<_, std::io::Error>(format!("{address}{path}")) }
    /// });
    /// assert_eq!(block_on(fleet.call(&transport, "/"))?, "10.0.0.1:80/");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn call<T, Req>(
        &self,
        transport: &T,
        request: Req,
    ) -> impl Future<Output = Result<T::Response, CallError<T::Error>>> + Send
    where
        T: Transport<Self::Endpoint, Req>,
        Req: Send,
    {
        async move {
            let lease = self.pick_endpoint().map_err(CallError::Pick)?;
            let result = transport.send(lease.endpoint(), request).await;
            let outcome = transport.classify(&result);
            lease.record(outcome);
            result.map_err(CallError::Transport)
        }
    }
}

impl<C: Cluster + ?Sized> ClusterExt for C {}
