//! The trait that services are written against, [`Cluster`], and [`ClusterExt::call`].

use std::future::Future;

use crate::endpoint::Endpoint;
use crate::error::{CallError, PickError};
use crate::member::Lease;
use crate::options::{MemberId, PickOptions};
use crate::sync::Arc;
use crate::transport::Transport;

/// A set of interchangeable endpoints that lends one out per request. Object-safe.
///
/// [`Fleet`](crate::Fleet) is the in-process implementation. Write your service against this trait, so that a test can
/// bring its own implementation.
///
/// A wrapper around a cluster (for logging or metrics, say) must forward **all** methods. The provided methods answer
/// for a cluster that knows nothing about health: a wrapper that does not forward them counts as entirely healthy under
/// a [`Failover`](crate::Failover), is never probed, and a [`Throttle`](crate::Throttle) never acts on it.
///
/// # Examples
///
/// ```
/// use evenkeel::{Cluster, Lease, PickError, PickOptions};
///
/// /// Always picks the same endpoint.
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
    /// The type of the endpoints that this cluster lends out.
    type Endpoint: Endpoint;

    /// This cluster's name, for logs and metrics.
    fn name(&self) -> &str;

    /// Picks an endpoint for one request.
    ///
    /// # Errors
    ///
    /// Fails at once with the reason; a pick never waits. A [`Fleet`](crate::Fleet) returns
    /// [`Empty`](PickError::Empty), [`AllDraining`](PickError::AllDraining), [`AllAvoided`](PickError::AllAvoided) or
    /// [`Saturated`](PickError::Saturated); [`AllEjected`](PickError::AllEjected) only with the panic rule off;
    /// [`TooFewEligible`](PickError::TooFewEligible) only with [`PanicAction::FailFast`](crate::PanicAction::FailFast);
    /// and [`Declined`](PickError::Declined) only with a policy of yours. A [`Failover`](crate::Failover) returns the
    /// errors of its clusters.
    ///
    /// # Panics
    ///
    /// Panics only if a policy or a clock of yours does. Such a panic leaves no count or slot taken.
    fn pick_endpoint_with(
        &self,
        options: &PickOptions<'_>,
    ) -> Result<Lease<Self::Endpoint>, PickError>;

    /// Picks an endpoint for one request, with default options.
    ///
    /// # Errors
    ///
    /// The same as [`pick_endpoint_with`](Self::pick_endpoint_with).
    fn pick_endpoint(&self) -> Result<Lease<Self::Endpoint>, PickError> {
        const NOTHING_IN_PARTICULAR: &PickOptions<'_> = &PickOptions::new();
        self.pick_endpoint_with(NOTHING_IN_PARTICULAR)
    }

    /// Returns the share of this cluster's capacity that is eligible, from 0 to 1. Defaults to 1.
    ///
    /// For a [`Fleet`](crate::Fleet) it is the share, by count, of the endpoints with a weight above 0 that are neither
    /// ejected nor marked down; 0 if the fleet has none. A [`Failover`](crate::Failover) calls this for each pick, so
    /// it should cost a few loads at most.
    fn availability(&self) -> f64 {
        1.0
    }

    /// Returns a lease for the half-open probe of an ejected endpoint, if one is due and this request may become a
    /// probe. Defaults to `None`.
    ///
    /// Anything that spreads requests over several clusters must call this for all of them: a cluster that gets no
    /// requests would otherwise never recover. A [`Fleet`](crate::Fleet) makes at most one call in eleven a probe,
    /// except that a probe that succeeds allows the next one at once. It also does its upkeep here while any of its
    /// endpoints is out of rotation.
    fn pick_probe(&self) -> Option<Lease<Self::Endpoint>> {
        None
    }

    /// Returns whether any of these members belongs to this cluster. Defaults to `false`.
    ///
    /// It is used to send a retry to another cluster. A cluster made of clusters returns `true` only if each of its
    /// clusters that has anything eligible returns `true`; where nothing is eligible in any, if one of them does. For a
    /// [`Fleet`](crate::Fleet) the call scans its endpoints; only retries make it.
    fn is_tried(&self, members: &[MemberId]) -> bool {
        let _ = members;
        false
    }

    /// Returns whether health still separates good endpoints from bad ones here. Defaults to `true`.
    ///
    /// A [`Caller`](crate::Caller)'s [`Throttle`](crate::Throttle) refuses nothing while it does. A
    /// [`Fleet`](crate::Fleet) returns `false`
    ///
    /// - while no endpoint is eligible,
    /// - in panic,
    /// - while as many endpoints are ejected as the cap allows, so that bad ones may still be in rotation, or
    /// - while half of the requests fail at the endpoints that are not outliers, or are refused by an endpoint as
    ///   [overloaded](crate::Outcome::Overloaded) (the median over its endpoints).
    ///
    /// A fleet without endpoints returns `true`, because its picks fail for a reason of their own.
    ///
    /// The call costs a few loads. With [`Tiers`](crate::Tiers), the fleet counts as in panic only if every tier is,
    /// and a tier without eligible endpoints makes the call look at each member.
    fn has_healthy(&self) -> bool {
        true
    }

    /// Returns whether there is certainly no endpoint to pick besides these. Defaults to `false`.
    ///
    /// A [`Caller`](crate::Caller) asks before it waits for a retry; a wrong `false` only costs a wait in vain. For a
    /// [`Fleet`](crate::Fleet) it costs a few loads while more endpoints are eligible than avoided, and a look at each
    /// member otherwise.
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

/// Provided methods of every [`Cluster`], beyond picking.
pub trait ClusterExt: Cluster {
    /// Picks an endpoint, sends the request through the transport, classifies the result and records it.
    ///
    /// It makes one attempt: handling a failure is up to you. The endpoint is picked when the future is first polled.
    ///
    /// # Errors
    ///
    /// [`CallError::Pick`] if no endpoint could be picked; nothing was sent then. [`CallError::Transport`] with the
    /// transport's error.
    ///
    /// # Panics
    ///
    /// Panics only if the transport, or a policy, tracker or clock of yours does. In-flight counts stay right.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before its first poll does nothing. Dropping it later drops the transport's future, and the
    /// request counts as [`Outcome::Abandoned`](crate::Outcome::Abandoned). The in-flight count is decremented exactly
    /// once.
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
