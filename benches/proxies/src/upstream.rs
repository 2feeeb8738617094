//! An upstream: an address with its pool of connections. The fleet picks among these.

use std::net::SocketAddr;

use evenkeel::Endpoint;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::Fallible;

pub(crate) struct Upstream {
    address: SocketAddr,
    uri: Uri,
    pool: Client<HttpConnector, Empty<Bytes>>,
}

impl Endpoint for Upstream {
    type Key = SocketAddr;

    fn key(&self) -> SocketAddr {
        self.address
    }
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr) -> Fallible<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            address,
            uri: format!("http://{address}/").parse()?,
            pool: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Sends a GET, reads the whole answer and returns its status.
    pub(crate) async fn get(&self) -> Fallible<StatusCode> {
        let response = self.pool.get(self.uri.clone()).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }
}
