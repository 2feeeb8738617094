//! A server in a process of its own, which is this test binary run again.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Response;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// The environment variable with the address on which a server's process listens.
pub(crate) const ADDRESS: &str = "EVENKEEL_LOOPBACK_ADDRESS";
/// What a server prints before its actual address.
const LISTENS: &str = "listens on ";

/// How long a good answer takes.
pub(crate) const WORK: Duration = Duration::from_millis(10);

/// How a server answers from now on. Modes are set by bytes on its standard input.
pub(crate) type Mode = u8;
pub(crate) const HEALTHY: Mode = b'w';
pub(crate) const FAIL: Mode = b'f';
pub(crate) const FAIL_SOMETIMES: Mode = b's';
pub(crate) const BE_SLOW: Mode = b'l';

/// A server's process. It ends when this value is dropped, and by itself when this process ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Child,
    /// The shell that has stopped the process. It continues the process when the shell's standard input ends.
    stopped_by: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::listen(([127, 0, 0, 1], 0).into())
    }

    fn listen(address: SocketAddr) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["serves", "--exact", "--nocapture", "--test-threads=1"])
            .env(ADDRESS, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // The test harness prints something before.
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.split(LISTENS).nth(1)?.parse().ok());
        Self {
            address: address.expect("a server that listens"),
            process,
            stopped_by: None,
        }
    }

    pub(crate) fn set_mode(&mut self, mode: Mode) {
        let mut input = self.process.stdin.as_ref().unwrap();
        input.write_all(&[mode]).unwrap();
    }

    /// SIGSTOP: the kernel goes on accepting connections and bytes, and nothing answers. If this process were killed
    /// meanwhile, the shell would continue the server, which would then find its own input ended.
    pub(crate) fn stop(&mut self) {
        let script = r#"kill -STOP "$0"; read -r _; kill -CONT "$0""#;
        let shell = Command::new("sh")
            .args(["-c", script, &self.process.id().to_string()])
            .stdin(Stdio::piped())
            .spawn();
        self.stopped_by = Some(shell.unwrap());
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) {
        if let Some(mut shell) = self.stopped_by.take() {
            drop(shell.stdin.take());
            // The only possible error is that the server is gone.
            let _ = shell.wait();
        }
    }

    /// SIGKILL: the port is closed and connections are broken off.
    pub(crate) fn kill(&mut self) {
        // The process may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts another process on the same port, and returns once it listens.
    pub(crate) fn restart(&mut self) {
        *self = Self::listen(self.address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.resume();
        self.kill();
    }
}

/// The body of a server's process. Does not return.
pub(crate) fn serve(address: &str) {
    let site = Arc::new(Site {
        mode: AtomicU8::new(HEALTHY),
        arrived: AtomicU64::new(0),
    });
    let input = Arc::clone(&site);
    std::thread::spawn(move || {
        for mode in std::io::stdin().lock().bytes().map_while(Result::ok) {
            input.mode.store(mode, Ordering::SeqCst);
        }
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        println!("{LISTENS}{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let site = Arc::clone(&site);
            let answer = service_fn(move |_| {
                let site = Arc::clone(&site);
                async move { Ok::<_, Infallible>(site.answer().await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), answer));
        }
    });
}

struct Site {
    mode: AtomicU8,
    arrived: AtomicU64,
}

impl Site {
    async fn answer(&self) -> Response<Empty<Bytes>> {
        let number = self.arrived.fetch_add(1, Ordering::SeqCst);
        let (status, delay) = match self.mode.load(Ordering::SeqCst) {
            FAIL => (500, Duration::ZERO),
            FAIL_SOMETIMES if is_unlucky(number) => (500, Duration::ZERO),
            BE_SLOW => (200, 10 * WORK),
            _ => (200, WORK),
        };
        if delay > Duration::ZERO {
            sleep(delay).await;
        }
        let mut response = Response::new(Empty::new());
        *response.status_mut() = status.try_into().unwrap();
        response
    }
}

/// 30 % of the numbers, scattered pseudo-randomly (SplitMix64) and the same in every run.
fn is_unlucky(number: u64) -> bool {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % 10 < 3
}
