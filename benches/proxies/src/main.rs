//! What does a request cost through a fleet in the caller's own process, and through a proxy?
//!
//! ```sh
//! benches/proxies/install
//! cargo run --release --manifest-path benches/proxies/Cargo.toml
//! ```
//!
//! Without a mode this is the comparison itself: it starts the processes, runs the load against each arm in turn, and
//! prints the tables. It starts itself again in the two other modes, `serve` for an upstream and `load` for the client,
//! so that the kernel accounts for the CPU time of each separately.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arm;
mod compare;
mod cpu;
mod load;
mod machine;
mod measured;
mod process;
mod proxy;
mod report;
mod serve;
mod upstream;

use std::error::Error;
use std::process::ExitCode;

use compare::Plan;
use load::Job;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: evenkeel-proxies [--quick | --patient]";

fn main() -> Fallible<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare::run(&Plan::FULL),
        ["--patient"] => compare::run(&Plan::PATIENT),
        ["--quick"] => compare::run(&Plan::QUICK),
        ["serve"] => serve::run(),
        ["load", ref job @ ..] => load::run(&Job::parse(job)?),
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}
