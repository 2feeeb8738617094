//! How requests are sent: [`Transport`], implemented by a type of yours, by a closure, or boxed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::outcome::Outcome;
use crate::sync::Arc;

/// How to send a request to an endpoint. You implement it around a client of yours.
///
/// # Examples
///
/// A plain `async fn` is enough. The compiler checks that its future is `Send`.
///
/// ```
/// use evenkeel::{Outcome, Transport};
///
/// struct Http; // holds a client
///
/// impl Transport<String, &'static str> for Http {
///     type Response = u16;
///     type Error = std::io::Error;
///
///     async fn send(&self, endpoint: &String, path: &'static str) -> Result<u16, std::io::Error> {
///         println!("GET http://{endpoint}{path}");
///         Ok(200)
///     }
///
///     fn classify(&self, result: &Result<u16, std::io::Error>) -> Outcome {
///         match result {
///             Ok(429) => Outcome::overloaded(None),
///             Ok(status) if *status >= 500 => Outcome::Failure,
///             Ok(_) => Outcome::Success,
///             Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Outcome::Timeout,
///             Err(_) => Outcome::Unreachable,
///         }
///     }
/// }
/// # assert_eq!(Http.classify(&Ok(404)), Outcome::Success);
/// ```
pub trait Transport<E: ?Sized, Req>: Send + Sync {
    /// The type of a successful result.
    type Response;
    /// The type of an error.
    type Error;

    /// Sends one request to this endpoint.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any point, by a caller's timeout. The endpoint's in-flight count is released for
    /// you; the transport must release what it holds itself.
    fn send(
        &self,
        endpoint: &E,
        request: Req,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;

    /// Returns what a finished call says about the endpoint. By default `Ok` is a success and `Err` a failure.
    ///
    /// A transport that can tell a timeout, a refused connection or a 5xx should do so.
    fn classify(&self, result: &Result<Self::Response, Self::Error>) -> Outcome {
        Outcome::from(result)
    }

    /// Returns whether a [`Caller`](crate::Caller) may retry the request on another endpoint after this result.
    ///
    /// By default it may if [`classify`](Self::classify) returns a fault, or if the result is an `Err` of an endpoint
    /// that is [going away](Outcome::GoingAway). The endpoint may still have carried out the request: for requests that
    /// must not run twice, return `false` except where nothing was sent (a refused connection). By default nothing is
    /// retried after [`Overloaded`](Outcome::Overloaded), because all endpoints may be overloaded: return `true` where
    /// one endpoint's overload says little about the fleet.
    ///
    /// ```
    /// use evenkeel::{Outcome, Transport};
    ///
    /// struct Orders;
    ///
    /// impl Transport<String, u32> for Orders {
    ///     type Response = ();
    ///     type Error = std::io::Error;
    ///
    ///     async fn send(&self, _: &String, _order: u32) -> Result<(), std::io::Error> {
    ///         Err(std::io::ErrorKind::ConnectionRefused.into())
    ///     }
    ///
    ///     fn is_retryable(&self, result: &Result<(), std::io::Error>) -> bool {
    ///         matches!(result, Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
    ///     }
    /// }
    /// # assert!(!Orders.is_retryable(&Err(std::io::ErrorKind::ConnectionReset.into())));
    /// ```
    fn is_retryable(&self, result: &Result<Self::Response, Self::Error>) -> bool {
        match self.classify(result) {
            Outcome::GoingAway => result.is_err(),
            outcome => outcome.is_fault(),
        }
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => { $(
        impl<E: ?Sized, Req, T: Transport<E, Req> + ?Sized> Transport<E, Req> for $pointer {
            type Response = T::Response;
            type Error = T::Error;

            fn send(
                &self,
                endpoint: &E,
                request: Req,
            ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send {
                (**self).send(endpoint, request)
            }

            fn classify(&self, result: &Result<Self::Response, Self::Error>) -> Outcome {
                (**self).classify(result)
            }

            fn is_retryable(&self, result: &Result<Self::Response, Self::Error>) -> bool {
                (**self).is_retryable(result)
            }
        }
    )* };
}

forward!(&T, Arc<T>, Box<T>);

/// A closure as a transport. Made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

/// Makes a transport from a closure.
///
/// The future may not borrow the endpoint, so copy or clone what it needs into an `async move` block. (An `async`
/// closure borrows; the compiler rejects it as not general enough.) Where that does not suffice, implement
/// [`Transport`].
///
/// ```
/// use evenkeel::{Target, from_fn};
///
/// type Server = Target<String, u16>; // the data is a port
///
/// let transport = from_fn(|server: &Server, path: &'static str| {
///     let port = *server.data();
///     async move { Ok::<_, std::io::Error>(format!("GET :{port}{path}")) }
/// });
/// # fn check<T: evenkeel::Transport<Server, &'static str>>(_: &T) {}
/// # check(&transport);
/// ```
pub const fn from_fn<E, Req, Fut, F>(send: F) -> FromFn<F>
where
    E: ?Sized,
    F: Fn(&E, Req) -> Fut + Send + Sync,
{
    FromFn(send)
}

impl<E, Req, Fut, F, Response, Error> Transport<E, Req> for FromFn<F>
where
    E: ?Sized,
    F: Fn(&E, Req) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Response, Error>> + Send,
{
    type Response = Response;
    type Error = Error;

    fn send(
        &self,
        endpoint: &E,
        request: Req,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        (self.0)(endpoint, request)
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

/// A boxed `Send` future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An object-safe form of [`Transport`]. It is implemented for every transport; you do not implement it yourself.
pub trait DynTransport<E: ?Sized, Req, Response, Error>: Send + Sync {
    /// The boxed form of [`Transport::send`].
    fn send_boxed<'a>(
        &'a self,
        endpoint: &'a E,
        request: Req,
    ) -> BoxFuture<'a, Result<Response, Error>>
    where
        Req: 'a;

    /// The same as [`Transport::classify`].
    fn classify_boxed(&self, result: &Result<Response, Error>) -> Outcome;

    /// The same as [`Transport::is_retryable`].
    fn is_retryable_boxed(&self, result: &Result<Response, Error>) -> bool;
}

impl<E, Req, T> DynTransport<E, Req, T::Response, T::Error> for T
where
    E: ?Sized + Sync,
    Req: Send,
    T: Transport<E, Req>,
{
    fn send_boxed<'a>(
        &'a self,
        endpoint: &'a E,
        request: Req,
    ) -> BoxFuture<'a, Result<T::Response, T::Error>>
    where
        Req: 'a,
    {
        Box::pin(self.send(endpoint, request))
    }

    fn classify_boxed(&self, result: &Result<T::Response, T::Error>) -> Outcome {
        self.classify(result)
    }

    fn is_retryable_boxed(&self, result: &Result<T::Response, T::Error>) -> bool {
        self.is_retryable(result)
    }
}

/// A type-erased transport, at the price of one allocation per call.
///
/// Use it for a struct field of a plain type, or for a choice at run time. Clones share the transport.
///
/// ```
/// use evenkeel::{BoxTransport, from_fn};
///
/// struct Service {
///     transport: BoxTransport<String, u32, u32, std::io::Error>,
/// }
///
/// let service = Service {
///     transport: BoxTransport::new(from_fn(|_: &String, n: u32| async move { Ok(n + 1) })),
/// };
/// # let _ = service.transport;
/// ```
pub struct BoxTransport<E: ?Sized, Req, Response, Error> {
    inner: Arc<dyn DynTransport<E, Req, Response, Error>>,
}

impl<E: ?Sized, Req, Response, Error> BoxTransport<E, Req, Response, Error> {
    /// Boxes a transport.
    pub fn new(transport: impl DynTransport<E, Req, Response, Error> + 'static) -> Self {
        Self {
            inner: Arc::new(transport),
        }
    }
}

impl<E, Req, Response, Error> Transport<E, Req> for BoxTransport<E, Req, Response, Error>
where
    E: ?Sized + Sync,
    Req: Send,
{
    type Response = Response;
    type Error = Error;

    async fn send(&self, endpoint: &E, request: Req) -> Result<Response, Error> {
        self.inner.send_boxed(endpoint, request).await
    }

    fn classify(&self, result: &Result<Response, Error>) -> Outcome {
        self.inner.classify_boxed(result)
    }

    fn is_retryable(&self, result: &Result<Response, Error>) -> bool {
        self.inner.is_retryable_boxed(result)
    }
}

impl<E: ?Sized, Req, Response, Error> Clone for BoxTransport<E, Req, Response, Error> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<E: ?Sized, Req, Response, Error> fmt::Debug for BoxTransport<E, Req, Response, Error> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxTransport")
    }
}
