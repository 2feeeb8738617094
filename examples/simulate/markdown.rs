//! The table as GitHub markdown.

use crate::mean::Mean;
use crate::numbers::{count, milliseconds, percent, seconds};
use crate::results::{Entry, Kind, Row, best_of};
use crate::standings::losses;
use crate::table::cell;

/// The document: the command that made it, the table, where the crate loses, and details of its policies.
pub(crate) fn markdown(command: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "`{command}`\n\n\
         p99/p99.9 in ms in the scenario's window, each error counted as the timeout (errors in %); the \
         bound is the least p99 of oracles that know everything. **Bold**: the best of the row. ▼: a policy \
         of this crate whose p99 is more than 2 % above that of the best of the others.\n\n"
    );
    text += &latencies(rows);
    text += "\n### Where a policy of the crate loses\n\n";
    text += &losses_list(rows);
    for policy in rows
        .first()
        .into_iter()
        .flat_map(|row| row.of(Kind::Shipped))
    {
        text += &format!("\n### {}\n\n", policy.name);
        text += &details(&policy.name, rows);
    }
    text
}

/// A line of a table.
fn line(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The first two lines of a table: the first column left-aligned, the others right-aligned.
fn heading(names: &[String]) -> String {
    let alignments = names.iter().skip(1).map(|_| String::from("---:"));
    line(names.iter().cloned()) + &line(std::iter::once("---".into()).chain(alignments))
}

/// The entries of a row, this crate's policies first, without oracles.
fn in_order(row: &Row) -> impl Iterator<Item = &Entry> {
    row.of(Kind::Shipped).chain(row.of(Kind::Baseline))
}

fn latencies(rows: &[Row]) -> String {
    let names = rows
        .first()
        .into_iter()
        .flat_map(in_order)
        .map(|entry| entry.name.clone());
    let names = ["scenario".into(), "bound".into()].into_iter().chain(names);
    let mut text = heading(&names.collect::<Vec<String>>());
    for row in rows {
        let bound = row
            .bound()
            .map_or_else(|| "-".into(), |bound| milliseconds(bound.mean.p99));
        let head = [format!("{}: {}", row.name, row.about), bound];
        let cells = in_order(row).map(|entry| marked(row, entry));
        text += &line(head.into_iter().chain(cells));
    }
    text
}

fn marked(row: &Row, entry: &Entry) -> String {
    let cell = cell(&entry.mean);
    let baseline = best_of(row.of(Kind::Baseline));
    let slower = baseline.is_some_and(|baseline| entry.mean.is_slower_than(&baseline.mean));
    if row.is_best(entry) {
        format!("**{cell}**")
    } else if entry.kind == Kind::Shipped && slower {
        format!("{cell} ▼")
    } else {
        cell
    }
}

fn losses_list(rows: &[Row]) -> String {
    let mut text = String::from(
        "Where all of its policies have a p99 more than 2 % above that of the best of the others, or the \
         best of them has more errors, by more than 0.01 percentage points and two standard errors.\n\n",
    );
    let losses = losses(rows);
    for loss in &losses {
        text += &format!(
            "- {}: best here {} {}; {} {}\n",
            loss.scenario,
            loss.ours.name,
            in_words(&loss.ours.mean),
            loss.baseline.name,
            in_words(&loss.baseline.mean),
        );
    }
    if losses.is_empty() {
        text += "In none of these scenarios.\n";
    }
    text
}

fn in_words(mean: &Mean) -> String {
    let latency = format!("{}/{} ms", milliseconds(mean.p99), milliseconds(mean.p999));
    match percent(mean.errors).as_str() {
        "0" => latency,
        errors => format!("{latency}, {errors} %"),
    }
}

fn details(policy: &str, rows: &[Row]) -> String {
    let names = [
        "scenario",
        "errors, %",
        "detect, s",
        "recover, s",
        "false ejections",
        "ejected, %",
        "max/mean",
    ];
    let mut text = heading(&names.map(String::from));
    for row in rows {
        let entries = row.entries.iter().filter(|entry| entry.name == policy);
        for Entry { mean, .. } in entries {
            text += &line([
                row.name.clone(),
                percent(mean.errors),
                after(row, |mean| mean.detected, mean),
                after(row, |mean| mean.recovered, mean),
                count(mean.false_ejections),
                percent(mean.ejected_share),
                format!("{:.2}", mean.max_over_mean),
            ]);
        }
    }
    text
}

/// Empty if no entry of the row has such a time, because no fault singles servers out. Otherwise a missing time is
/// "never".
fn after(row: &Row, time: impl Fn(&Mean) -> Option<f64>, mean: &Mean) -> String {
    if row.entries.iter().all(|entry| time(&entry.mean).is_none()) {
        return String::new();
    }
    seconds(time(mean))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{entry, row};

    fn rows() -> Vec<Row> {
        vec![
            row(
                "A",
                vec![
                    entry("theirs", Kind::Baseline, 40.0, 0.0),
                    entry("ours", Kind::Shipped, 20.0, 0.0),
                    entry("slow", Kind::Shipped, 41.0, 0.0),
                    entry("oracle", Kind::Oracle, 10.0, 0.0),
                ],
            ),
            row(
                "B",
                vec![
                    entry("theirs", Kind::Baseline, 50.0, 0.000_06),
                    entry("ours", Kind::Shipped, 52.0, 0.0021),
                    entry("slow", Kind::Shipped, 1000.0, 0.25),
                    entry("oracle", Kind::Oracle, 10.0, 0.0),
                ],
            ),
        ]
    }

    #[test]
    fn the_command_comes_first() {
        assert!(markdown("cargo run", &rows()).starts_with("`cargo run`\n"));
    }

    #[test]
    fn the_best_are_bold_and_losers_marked() {
        let expected = "\
| scenario | bound | ours | slow | theirs |
| --- | ---: | ---: | ---: | ---: |
| A: about A | 10 | **20/40** | 41/82 ▼ | 40/80 |
| B: about B | 10 | 52/104 (0.21%) ▼ | 1000/2000 (25%) ▼ | **50/100 (0.006%)** |
";
        assert_eq!(latencies(&rows()), expected);
    }

    #[test]
    fn losses_are_listed() {
        let list = losses_list(&rows());
        let lines: Vec<&str> = list.lines().filter(|line| line.starts_with('-')).collect();
        assert_eq!(
            lines,
            ["- B: best here ours 52/104 ms, 0.21 %; theirs 50/100 ms, 0.006 %"]
        );
        assert!(losses_list(&rows()[..1]).ends_with("In none of these scenarios.\n"));
    }

    #[test]
    fn what_cannot_be_found_out_is_left_empty() {
        let mut rows = rows();
        rows[1].entries[0].mean.detected = Some(0.5);
        let details = details("ours", &rows);
        assert!(
            details.ends_with(
                "| A | 0 |  |  | 0 | 0 | 0.00 |\n| B | 0.21 | never |  | 0 | 0 | 0.00 |\n"
            )
        );
    }
}
