//! The driver of active checks as one future.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{HealthCheck, Probe};
use crate::endpoint::Endpoint;
use crate::member::Member;
use crate::outcome::Outcome;
use crate::sync::Arc;
use crate::transport::Transport;

/// A probe under way, its answer, and the timer for it.
struct Flight<E: Endpoint, A, T> {
    /// `None` once it is finished.
    probe: Option<Probe<E>>,
    answer: Pin<Box<A>>,
    limit: Pin<Box<T>>,
}

impl<E, A, T> Flight<E, A, T>
where
    E: Endpoint,
    A: Future<Output = Outcome>,
    T: Future,
{
    /// Finishes the probe if there is an answer, or if its time is over. Returns whether it did.
    fn finish_if_ready(&mut self, cx: &mut Context<'_>) -> bool {
        let outcome = match self.answer.as_mut().poll(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending if self.limit.as_mut().poll(cx).is_ready() => Outcome::Timeout,
            Poll::Pending => return false,
        };
        self.probe
            .take()
            .into_iter()
            .for_each(|probe| probe.finish(outcome));
        true
    }
}

impl<E: Endpoint> HealthCheck<E> {
    /// Checks until the fleet is gone, which it notices within a second. `check` sends one probe, to the member it is
    /// handed, and returns the outcome; `sleep` is the runtime's timer. Probes run concurrently inside this future,
    /// which ends those that take longer than the [`timeout`](crate::HealthCheckSettings::timeout). The future is
    /// `Send` if its arguments are.
    ///
    /// Each time it is woken, it polls all probes under way, at most
    /// [`max_probes`](crate::HealthCheckSettings::max_probes). To spread them over threads, spawn the check inside
    /// `check`, or call [`tick`](Self::tick) yourself.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any point. Probes under way then say nothing, and requests probe ejected endpoints again,
    /// at once.
    ///
    /// # Panics
    ///
    /// If `check`, `sleep` or their futures do, or as [`Probe::finish`]. The effect is then the same as of a drop.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenkeel::{Fleet, HealthCheckSettings, Member, MemberState, Outcome};
    /// use std::net::SocketAddr;
    /// use std::time::Duration;
    /// use tokio::net::{TcpListener, TcpStream};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let up = TcpListener::bind("127.0.0.1:0").await?;
    /// let down = TcpListener::bind("127.0.0.1:0").await?.local_addr()?; // closed again
    /// let fleet: Fleet<SocketAddr> = [up.local_addr()?, down].into_iter().collect();
    ///
    /// let checks = fleet.health_check(HealthCheckSettings::default())?;
    /// let task = tokio::spawn(checks.run(
    ///     |member: Member<SocketAddr>| async move {
    ///         match TcpStream::connect(member.endpoint()).await {
    ///             Ok(_) => Outcome::Success,
    ///             Err(_) => Outcome::Unreachable,
    ///         }
    ///     },
    ///     tokio::time::sleep,
    /// ));
    /// while fleet.stats().ejected == 0 {
    ///     tokio::time::sleep(Duration::from_millis(1)).await;
    /// }
    /// assert_eq!(fleet.member(&down).map(|it| it.state()), Some(MemberState::Ejected));
    /// drop(fleet);
    /// task.await?; // ends by itself
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<C, A, S, T>(mut self, check: C, sleep: S)
    where
        C: Fn(Member<E>) -> A,
        A: Future<Output = Outcome>,
        S: Fn(Duration) -> T,
        T: Future,
    {
        let mut flights = Vec::new();
        while !self.is_over() {
            for probe in self.tick() {
                flights.push(Flight {
                    answer: Box::pin(check(probe.member().clone())),
                    limit: Box::pin(sleep(probe.timeout())),
                    probe: Some(probe),
                });
            }
            let mut timer = Box::pin(sleep(self.next_due()));
            poll_fn(|cx| {
                let before = flights.len();
                flights.retain_mut(|flight| !flight.finish_if_ready(cx));
                let landed = flights.len() < before;
                // The timer is polled in any case, so that it can wake this task.
                let rang = timer.as_mut().poll(cx).is_ready();
                if landed || rang {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }

    /// As [`run`](Self::run), but through a transport: each check sends what `request` makes for the endpoint, and
    /// [`classify`](Transport::classify) judges the result. A transport made for requests may take an answer for good
    /// that a health page means as a warning; a 404 is one.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// use evenkeel::{Fleet, HealthCheckSettings, from_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let fleet: Fleet<String> = ["a", "b"].map(String::from).into_iter().collect();
    /// let transport = from_fn(|address: &String, _path: &'static str| {
    ///     let answer = if address == "a" { Ok(200) } else { Err("refused") };
    ///     async move { answer }
    /// });
    /// let checks = fleet.health_check(HealthCheckSettings::default())?;
    /// let task = tokio::spawn(checks.run_through(transport, |_| "/health", tokio::time::sleep));
    /// while fleet.stats().ejected == 0 {
    ///     tokio::task::yield_now().await;
    /// }
    /// # task.abort();
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_through<X, Q, R, S, T>(self, transport: X, request: R, sleep: S)
    where
        X: Transport<E, Q>,
        R: Fn(&E) -> Q,
        S: Fn(Duration) -> T,
        T: Future,
    {
        let transport = Arc::new(transport);
        let check = |member: Member<E>| {
            let (transport, request) = (transport.clone(), request(member.endpoint()));
            async move {
                let result = transport.send(member.endpoint(), request).await;
                transport.classify(&result)
            }
        };
        self.run(check, sleep).await;
    }
}
