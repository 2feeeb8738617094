//! The table for a terminal: a matrix for few policies, or a block per scenario for many; and a summary.

use crate::blocks::blocks;
use crate::grid::{Grid, Paint, Piece};
use crate::matrix::matrix;
use crate::mean::Mean;
use crate::numbers::{milliseconds, percent};
use crate::results::{Kind, Row};
use crate::standings::standings;

/// The width of the output, in characters.
pub(crate) const WIDTH: usize = 100;
/// The most policies that are shown as a matrix.
const FEW: usize = 6;

pub(crate) fn table(rows: &[Row], paint: Paint) -> String {
    let policies = rows.first().map_or(0, |row| row.contenders().count());
    // Oracles without other policies are shown as blocks, as a matrix leaves them out.
    let results = if (1..=FEW).contains(&policies) {
        matrix(rows, paint)
    } else {
        blocks(rows, paint)
    };
    results + "\n" + &summary(rows, paint)
}

/// The text of a cell: "p99/p99.9 (errors)".
pub(crate) fn cell(mean: &Mean) -> String {
    let latency = format!("{}/{}", milliseconds(mean.p99), milliseconds(mean.p999));
    match percent(mean.errors).as_str() {
        "0" => latency,
        errors => format!("{latency} ({errors}%)"),
    }
}

fn summary(rows: &[Row], paint: Paint) -> String {
    let oracles = rows.iter().any(|row| row.bound().is_some());
    let reference = if oracles { "p99/bound" } else { "p99/best" };
    let mut grid = Grid::of_numbers();
    let best = format!("best of {}", rows.len());
    let names = ["All scenarios", reference, &best, ""];
    grid.row(names.map(Piece::strong));
    for standing in standings(rows) {
        let whose = if standing.kind == Kind::Shipped {
            "this crate's"
        } else {
            ""
        };
        grid.row([
            Piece::plain(standing.name),
            Piece::plain(format!("{:.2}", standing.ratio)),
            Piece::plain(standing.near_best.to_string()),
            Piece::faint(whose),
        ]);
    }
    grid.text(paint) + "p99 as the geometric mean; best or within 2 % of it, without more errors.\n"
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::results::tests::{entry, row};

    /// A row for one scenario.
    pub(crate) fn rows(policies: usize) -> Vec<Row> {
        let theirs = (1..policies).map(|number| {
            entry(
                &format!("policy-number-{number}"),
                Kind::Baseline,
                1000.0,
                0.25 * number as f64,
            )
        });
        let ours = entry("ours", Kind::Shipped, 9.5, 0.0);
        let oracle = entry("oracle", Kind::Oracle, 5.0, 0.0);
        vec![row(
            "S5b",
            std::iter::once(ours)
                .chain(theirs)
                .chain([oracle])
                .collect(),
        )]
    }

    #[test]
    fn few_policies_are_a_matrix_and_many_are_blocks() {
        assert!(table(&rows(FEW), Paint(false)).contains("\nscenario "));
        assert!(table(&rows(FEW + 1), Paint(false)).contains("\nS5b  about S5b\n"));
    }

    #[test]
    fn it_ends_with_what_it_comes_to() {
        let text = table(&rows(2), Paint(false));
        let lines: Vec<&str> = text.lines().rev().take(4).collect();
        assert_eq!(lines[3], "All scenarios    p99/bound  best of 1");
        assert_eq!(
            lines[2],
            "ours                  1.90          1  this crate's"
        );
        assert_eq!(lines[1], "policy-number-1     200.00          0");
    }

    #[test]
    fn cells_say_errors_where_there_are_any() {
        assert_eq!(cell(&entry("", Kind::Shipped, 4.25, 0.0).mean), "4.25/8.50");
        assert_eq!(
            cell(&entry("", Kind::Shipped, 500.0, 0.25).mean),
            "500/1000 (25%)"
        );
    }
}
