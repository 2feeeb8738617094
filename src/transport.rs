//! The caller's way of sending: [`Transport`], as a type of its own, a closure, or boxed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::outcome::Outcome;
use crate::sync::Arc;

/// The caller's way of sending a request to an endpoint.
///
/// # Examples
///
/// A plain `async fn` is enough; that its future is `Send` is checked.
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
    /// What comes back.
    type Response;
    /// What comes back instead.
    type Error;

    /// Sends one request to this endpoint.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any point, by a caller's timeout; the endpoint's count is taken care
    /// of, what the transport holds is its own to release.
    fn send(
        &self,
        endpoint: &E,
        request: Req,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;

    /// What a finished call says about the endpoint. By default `Ok` is a success and `Err` a failure;
    /// a transport that can tell a timeout, a refused connection or a 5xx should.
    fn classify(&self, result: &Result<Self::Response, Self::Error>) -> Outcome {
        Outcome::from(result)
    }

    /// Whether a [`Caller`](crate::Caller) may retry the request, on another endpoint, after this result. By default yes if
    /// [`classify`](Self::classify) makes a fault of it, or if it is an error of an endpoint that is [going away](Outcome::GoingAway). The
    /// endpoint may have carried it out all the same: for requests that must not run twice say no, except for what was never sent (a
    /// refused connection). Not after [`Overloaded`](Outcome::Overloaded), as all may be: say yes where one endpoint's word is not the
    /// fleet's.
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

/// A closure as a transport. See [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

/// Makes a transport of a closure. The future may not borrow the endpoint, so copy or clone what it
/// needs into an `async move` block (an `async` closure borrows, and is refused as not general enough).
/// Where that will not do, implement [`Transport`].
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

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Transport`] in an object-safe shape. Implemented for every transport; you need not.
pub trait DynTransport<E: ?Sized, Req, Response, Error>: Send + Sync {
    /// As [`Transport::send`].
    fn send_boxed<'a>(
        &'a self,
        endpoint: &'a E,
        request: Req,
    ) -> BoxFuture<'a, Result<Response, Error>>
    where
        Req: 'a;

    /// As [`Transport::classify`].
    fn classify_boxed(&self, result: &Result<Response, Error>) -> Outcome;

    /// As [`Transport::is_retryable`].
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

/// Any transport of these types, behind one allocation a call: for a field of a plain type, or a choice
/// at run time. Clones share it.
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
