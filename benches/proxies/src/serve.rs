//! The `serve` mode: an HTTP/1.1 upstream on one thread that answers at once.

use std::convert::Infallible;
use std::io::{Read, stdin};
use std::process::ExitCode;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::Fallible;

const BODY: &str = "an even keel\n";

/// Prints the port and serves until standard input is closed, which happens when the parent ends.
pub(crate) fn run() -> Fallible<ExitCode> {
    std::thread::spawn(|| {
        // Nothing is ever sent; the read only returns when the pipe is closed.
        let _ = stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> Fallible<ExitCode> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer =
            service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(BODY)))));
        let http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(http.serve_connection(TokioIo::new(stream), answer));
    }
}
