//! Compares balancers in the simulator: this crate's policies, the rules of other balancers, and oracles that know
//! everything. All get the same requests to the same servers, while those are slow, lie, die and return.
//!
//! It prints tail latency and errors for each scenario and policy. `--markdown`, `--json` and `--svg` write the same as
//! a table for a README, as data, and as pictures.
//!
//! ```text
//! cargo run --release --features sim --example simulate -- --list
//! cargo run --release --features sim --example simulate -- S5b --seeds 1
//! cargo run --release --features sim --example simulate -- S3 S5 --policy power-of-two,p2c --svg pictures
//! cargo run --release --features sim --example simulate -- --cut 12 --json reports.json
//! ```
//!
//! Without arguments it runs everything, at full length. `evenkeel::docs::simulate` says how to model a
//! fleet of your own.

mod arguments;
mod axis;
mod blocks;
mod grid;
mod json;
mod line_chart;
mod list;
mod markdown;
mod matrix;
mod mean;
mod names;
mod numbers;
mod pictures;
mod progress;
mod results;
mod standings;
mod table;

use std::error::Error;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use evenkeel::sim::{Report, SimError, Study};

use crate::arguments::Arguments;
use crate::grid::Paint;

fn main() -> ExitCode {
    let arguments = Arguments::from_command_line();
    match simulate(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(command) = error
                .downcast_ref()
                .and_then(|error| replay(error, &arguments))
            {
                eprintln!("This replays it:\n{command}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The command that reproduces the same broken promise.
fn replay(error: &SimError, arguments: &Arguments) -> Option<String> {
    let SimError::Broken {
        scenario,
        policy,
        seed,
        ..
    } = error
    else {
        return None;
    };
    let cut = arguments
        .cut
        .map(|cut| format!(" --cut {}", cut.as_secs_f64()));
    let chosen = format!("{scenario} --policy {policy} --seed {seed} --seeds 1");
    Some(format!(
        "{} {chosen}{}",
        arguments::COMMAND,
        cut.unwrap_or_default()
    ))
}

fn simulate(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let paint = Paint(io::stdout().is_terminal() && colours_are_welcome());
    if arguments.list {
        return print(&list::list(arguments, paint));
    }
    let study = Study::new(
        arguments.scenarios.clone(),
        arguments.policies.clone(),
        arguments.seeds.clone(),
    )
    .threads(arguments.threads);
    let bar = progress::bar(study.len());
    let started = Instant::now();
    let reports = study.run(|done, _| bar.set_position(done as u64));
    let seconds = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let reports = reports?;

    let rows = results::rows(&arguments.scenarios, &arguments.policies, &reports);
    let text = format!("{}{}\n", table::table(&rows, paint), event_log(&reports));
    let printed = print(&text);
    write_files(arguments, &rows, &reports)?;
    // A failure to print must not lose the files.
    printed?;
    // Printed apart from the table, because the table is the same each time and this is not.
    eprintln!(
        "{}",
        pace(&reports, seconds, arguments.threads.min(study.len()))
    );
    Ok(())
}

fn write_files(
    arguments: &Arguments,
    rows: &[results::Row],
    reports: &[Report],
) -> Result<(), Box<dyn Error>> {
    let outputs = &arguments.outputs;
    if let Some(path) = &outputs.json {
        let written = json::write(path, arguments, reports);
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(path) = &outputs.markdown {
        let written = std::fs::write(path, markdown::markdown(&arguments.command, rows));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(folder) = &outputs.svg {
        let written = pictures::write(folder, rows, arguments.seeds.clone().count());
        written.map_err(|error| format!("cannot draw to {}: {error}", folder.display()))?;
    }
    Ok(())
}

/// A hash of all events of all runs, in order. The same command prints the same hash.
fn event_log(reports: &[Report]) -> String {
    let all = reports.iter().fold(0u64, |all, report| {
        all.rotate_left(5).wrapping_mul(31) ^ report.event_hash
    });
    format!("event log {all:016x}")
}

/// How much was simulated, and how fast.
fn pace(reports: &[Report], seconds: f64, threads: usize) -> String {
    let requests = reports.iter().map(|report| report.requests).sum::<u64>() as f64 / 1e6;
    let core_minutes = (seconds / 60.0 * threads as f64).max(1e-9);
    format!(
        "{} runs, {requests:.1} million requests in {seconds:.1} s: {:.0} million a minute and core",
        reports.len(),
        requests / core_minutes
    )
}

/// Follows the convention of no-color.org.
fn colours_are_welcome() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Prints to stdout. A closed pipe, as after `| head`, is not an error.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
