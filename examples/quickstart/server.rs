//! The servers: real HTTP/1.1 servers on ports of this machine.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::Fallible;
use crate::client::Backend;

/// A real HTTP/1.1 server in this process.
pub(crate) struct Server {
    pub(crate) site: Arc<Site>,
    pub(crate) address: SocketAddr,
    pub(crate) running: JoinHandle<()>,
}

pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) delay: Duration,
    /// Requests that have reached the server.
    pub(crate) arrived: AtomicU64,
}

impl Server {
    pub(crate) async fn start(name: &'static str, delay: u64) -> Fallible<Self> {
        let site = Arc::new(Site {
            name,
            delay: Duration::from_millis(delay),
            arrived: AtomicU64::new(0),
        });
        Self::listen(site, ([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) async fn listen(site: Arc<Site>, address: SocketAddr) -> Fallible<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            site: Arc::clone(&site),
            address: listener.local_addr()?,
            running: tokio::spawn(site.serve(listener)),
        })
    }

    /// Closes the port and breaks all connections, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.running.abort();
        // The error of an aborted task only says that it was aborted.
        let _ = (&mut self.running).await;
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.site.arrived.load(Ordering::SeqCst)
    }

    /// The client's endpoint for this server.
    pub(crate) fn backend(&self, weight: u32) -> Backend {
        Backend {
            name: self.site.name,
            address: self.address,
            weight: weight.into(),
            pool: Mutex::default(),
            tally: Mutex::default(),
        }
    }
}

impl Site {
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        // Dropped with this task, which closes the connections.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    let site = Arc::clone(&self);
                    let answer = service_fn(move |_| {
                        let site = Arc::clone(&site);
                        async move {
                            site.arrived.fetch_add(1, Ordering::SeqCst);
                            sleep(site.delay).await;
                            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(site.name))))
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    connections.spawn(http.serve_connection(TokioIo::new(stream), answer));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}
