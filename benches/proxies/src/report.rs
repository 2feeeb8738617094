//! The tables, in markdown.

use crate::arm::Arm;
use crate::compare::Plan;
use crate::load;
use crate::measured::Measured;

pub(crate) fn print(plan: &Plan, arms: &[Arm]) {
    let Plan { many, one, .. } = plan;
    let (callers, workers) = (many.callers, load::WORKERS);
    println!("\nMedians of the runs that others did not disturb; CPU in microseconds a request.");
    println!(
        "\n{callers} callers on {workers} threads, {:?} a run:\n",
        many.span
    );
    let columns = [
        "requests/s",
        "least to most",
        "p50 ms",
        "p99 ms",
        "client CPU",
        "upstreams CPU",
        "proxy CPU",
        "CPU in all",
        "runs",
    ];
    table(&columns, arms, |arm| {
        let runs = Measured::quiet(&arm.many);
        let of = Measured::median(&runs)?;
        let rates = runs.iter().map(|run| run.rate);
        let least = rates.clone().fold(f64::INFINITY, f64::min);
        let most = rates.fold(0.0, f64::max);
        Some(vec![
            format!("{:.0}", of.rate),
            format!("{least:.0} to {most:.0}"),
            format!("{:.2}", of.p50 / 1000.0),
            format!("{:.2}", of.p99 / 1000.0),
            format!("{:.1}", of.client),
            format!("{:.1}", of.upstreams),
            format!("{:.1}", of.proxy),
            format!("{:.1}", of.cpu()),
            runs_used(&arm.many),
        ])
    });
    println!("\nOne caller, {:?} a run:\n", one.span);
    let columns = ["requests/s", "p50 ms", "p99 ms", "CPU in all", "runs"];
    table(&columns, arms, |arm| {
        let of = Measured::median(&Measured::quiet(&arm.one))?;
        Some(vec![
            format!("{:.0}", of.rate),
            format!("{:.3}", of.p50 / 1000.0),
            format!("{:.3}", of.p99 / 1000.0),
            format!("{:.1}", of.cpu()),
            runs_used(&arm.one),
        ])
    });
}

/// How many runs the numbers are based on, and how many were disturbed.
fn runs_used(runs: &[Measured]) -> String {
    let quiet = runs.iter().filter(|run| run.is_quiet()).count();
    match runs.len() - quiet {
        0 => format!("{quiet}"),
        _ if quiet == 0 => format!("{}, all disturbed", runs.len()),
        disturbed => format!("{quiet}, without {disturbed} disturbed"),
    }
}

/// One row per arm: its numbers, or the reason why there are none.
fn table(columns: &[&str], arms: &[Arm], cells: impl Fn(&Arm) -> Option<Vec<String>>) {
    let mut rows = vec![
        [&["arm"], columns]
            .concat()
            .into_iter()
            .map(String::from)
            .collect(),
    ];
    for arm in arms {
        let numbers = cells(arm).map(|cells| [vec![arm.name.clone()], cells].concat());
        rows.extend(numbers);
        if let Some(why) = &arm.failure {
            rows.push(vec![arm.name.clone(), why.clone()]);
        }
    }
    // A reason may be long and does not widen a column.
    let full = |row: &&Vec<String>| row.len() > columns.len();
    let width = |at: usize| {
        rows.iter()
            .filter(full)
            .map(|row| row[at].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..=columns.len()).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        let padded = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, &width))| {
                if at == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        println!("| {} |", padded.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let rules = widths[1..]
                .iter()
                .map(|width| format!("{:-<1$}:", "", width + 1));
            let rules: Vec<String> = rules.collect();
            println!("|{:-<1$}|{2}|", "", widths[0] + 2, rules.join("|"));
        }
    }
}
