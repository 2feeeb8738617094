//! A custom transport: a line protocol over TCP. `classify` says what the end of a request means for the endpoint's
//! health, and `fleet.call` does the rest: pick, send, classify, record. A call that is cancelled by a timeout also
//! gives its endpoint back.
//!
//! ```sh
//! cargo run --example custom_transport
//! ```

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::{
    CallError, Cluster, ClusterExt, Fleet, MemberState, Outcome, RoundRobin, Transport,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Sends a line and reads a line: `ok ...`, `busy` or `error ...`.
struct LineProtocol;

#[derive(Debug, PartialEq)]
enum Reply {
    Ok(String),
    Busy,
    Error(String),
}

impl Transport<SocketAddr, &str> for LineProtocol {
    type Response = Reply;
    type Error = io::Error;

    async fn send(&self, address: &SocketAddr, request: &str) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut line = String::new();
        if BufReader::new(stream).read_line(&mut line).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(' ').unwrap_or(("busy", "")) {
            ("ok", answer) => Ok(Reply::Ok(answer.into())),
            ("error", reason) => Ok(Reply::Error(reason.into())),
            _ => Ok(Reply::Busy),
        }
    }

    fn classify(&self, result: &io::Result<Reply>) -> Outcome {
        match result {
            Ok(Reply::Ok(_)) => Outcome::Success,
            // Overload is not a fault: it must not eject the endpoint.
            Ok(Reply::Busy) => Outcome::overloaded(None),
            Ok(Reply::Error(_)) => Outcome::Failure,
            Err(error) if error.kind() == ErrorKind::TimedOut => Outcome::Timeout,
            // Connection refused, reset, or closed without an answer.
            Err(_) => Outcome::Unreachable,
        }
    }
}

/// Answers one line per connection: doubles a number, answers `busy` with `busy`, and never answers `hang`.
async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let answer = match line.trim_end() {
                "hang" => std::future::pending().await,
                "busy" => "busy\n".into(),
                word => match word.parse::<u32>() {
                    Ok(number) => format!("ok {}\n", u64::from(number) * 2),
                    Err(error) => format!("error {error}\n"),
                },
            };
            stream.write_all(answer.as_bytes()).await
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        tokio::spawn(serve(listener));
    }
    // Round robin, so that the dead endpoint below gets requests; the default policy would avoid it after its first
    // failure.
    let fleet = Fleet::builder()
        .endpoints(addresses)
        .policy(RoundRobin::new())
        .build()?;
    let transport = LineProtocol;

    // An answer that reports a fault is still an answer: the caller gets it, and the fleet counts the fault.
    let reply = fleet.call(&transport, "many").await?;
    println!("many: {reply:?}");
    assert!(matches!(reply, Reply::Error(_)));

    // After so many good answers, one fault holds nothing against its endpoint any more. (With two of four endpoints under
    // suspicion, the fleet would take the fault for one that they share.)
    for number in 1..=100_u32 {
        let reply = fleet.call(&transport, &number.to_string()).await?;
        assert_eq!(reply, Reply::Ok((number * 2).to_string()));
    }
    println!("100 numbers doubled");

    // Many times busy, more than an endpoint could fail without ejection. No endpoint is ejected for it.
    for _ in 0..50 {
        assert_eq!(fleet.call(&transport, "busy").await?, Reply::Busy);
    }
    assert_eq!(fleet.stats().ejections, 0);
    println!("50 times busy, nobody ejected");

    // The timeout drops the call while it runs. The lease is dropped with it, so nothing stays in flight.
    let hanging = timeout(Duration::from_millis(50), fleet.call(&transport, "hang")).await;
    assert!(hanging.is_err(), "nobody answers a hang");
    assert_eq!(fleet.stats().in_flight, 0);
    println!("a call was cancelled, and nothing is in flight");

    // A port without a listener: each call to it is a transport error, and two of them eject it.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let dead = listener.local_addr()?;
    drop(listener);
    fleet.insert(dead)?;
    let mut refused = 0;
    for _ in 0..200 {
        match fleet.call(&transport, "21").await {
            Ok(reply) => assert_eq!(reply, Reply::Ok("42".into())),
            Err(CallError::Transport(error)) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                refused += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("{refused} of 200 calls met the dead port; then it was ejected");
    // Two that eject it, and one probe after each ejection.
    assert!((2..=5).contains(&refused), "{refused} calls were refused");
    for member in fleet.members() {
        let alive = *member.endpoint() != dead;
        assert_eq!(member.state() == MemberState::Ready, alive, "{member:?}");
        assert_eq!(member.in_flight(), 0);
    }
    assert_eq!(fleet.stats().in_flight, 0);
    println!("{}: {} in flight", fleet.name(), fleet.stats().in_flight);
    Ok(())
}
