//! The table for few policies: scenarios by policies.

use std::ops::Range;

use crate::grid::{Grid, Paint, Piece};
use crate::numbers::milliseconds;
use crate::results::{Entry, Row};
use crate::table::{WIDTH, cell};

const LEGEND: &str = "\
p99/p99.9 in ms in the scenario's window, each error counted as the timeout (errors in %), mean over
seeds. * the best of the row. bound: the least p99 of oracles, which know everything.

";

/// The matrix, split into as many parts, one below the other, as needed for each to be narrow enough.
pub(crate) fn matrix(rows: &[Row], paint: Paint) -> String {
    let policies = rows.first().map_or(0, |row| row.contenders().count());
    let in_parts = |parts: usize| -> Vec<Grid> {
        let size = policies.div_ceil(parts).max(1);
        let starts = (0..policies.max(1)).step_by(size);
        starts
            .map(|start| part(rows, start..start + size))
            .collect()
    };
    let fits = |grids: &Vec<Grid>| grids.iter().all(|grid| grid.width() <= WIDTH);
    let grids = (1..=policies).map(in_parts).find(fits);
    let grids = grids.unwrap_or_else(|| in_parts(policies.max(1)));
    let texts: Vec<String> = grids.iter().map(|grid| grid.text(paint)).collect();
    String::from(LEGEND) + &texts.join("\n")
}

/// The part of the matrix for some of the policies.
fn part(rows: &[Row], policies: Range<usize>) -> Grid {
    let contenders = |row| -> Vec<&Entry> {
        let row: &Row = row;
        row.contenders()
            .skip(policies.start)
            .take(policies.len())
            .collect()
    };
    let columns: Vec<Vec<&Entry>> = rows.iter().map(contenders).collect();
    let mut grid = Grid::of_numbers();
    for line in header(&columns) {
        // Leaves room for the star behind the best entries, so that numbers stay aligned.
        grid.row(line.into_iter().map(|word| Piece::strong(word + " ")));
    }
    for (row, entries) in rows.iter().zip(&columns) {
        let cells = entries.iter().map(|entry| {
            let cell = cell(&entry.mean);
            if row.is_best(entry) {
                Piece::best(cell + "*")
            } else {
                Piece::plain(cell + " ")
            }
        });
        let head = [Piece::strong(&row.name), Piece::faint(bound(row) + " ")];
        grid.row(head.into_iter().chain(cells));
    }
    grid
}

fn bound(row: &Row) -> String {
    row.bound()
        .map_or_else(|| "-".into(), |bound| milliseconds(bound.mean.p99))
}

/// The policies' names, broken after hyphens into lines about as wide as the cells.
fn header(rows: &[Vec<&Entry>]) -> Vec<Vec<String>> {
    let names = rows.first().into_iter().flatten().enumerate();
    let broken = names.map(|(number, entry)| {
        let cells = rows.iter().filter_map(|row| row.get(number));
        let widest = cells.map(|entry| cell(&entry.mean).len()).max();
        broken_after_hyphens(&entry.name, widest.unwrap_or(0))
    });
    let columns = [vec![String::from("scenario")], vec![String::from("bound")]];
    let columns: Vec<Vec<String>> = columns.into_iter().chain(broken).collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    let line = |number: usize| {
        // All names end on the last line.
        let word = |column: &Vec<String>| {
            let at = (number + column.len()).checked_sub(height);
            at.map(|at| column[at].clone()).unwrap_or_default()
        };
        columns.iter().map(word).collect()
    };
    (0..height).map(line).collect()
}

fn broken_after_hyphens(name: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in name.split_inclusive('-') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() <= width => line.push_str(word),
            _ => lines.push(word.into()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::rows;

    #[test]
    fn few_policies_are_a_matrix() {
        let text = matrix(&rows(2), Paint(false));
        let lines: Vec<&str> = text.lines().skip(LEGEND.lines().count()).take(2).collect();
        let head = "scenario   bound      ours   policy-number-1";
        assert_eq!(
            lines,
            [head, "S5b         5.00   9.50/19*  1000/2000 (25%)"]
        );
    }

    #[test]
    fn a_wide_matrix_is_set_in_parts() {
        let text = matrix(&rows(6), Paint(false));
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("S5b"))
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].contains("9.50/19*") && lines[1].contains("(125%)"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }

    #[test]
    fn long_names_are_broken() {
        let broken = broken_after_hyphens("weighted-round-robin", 11);
        assert_eq!(broken, ["weighted-", "round-robin"]);
        assert_eq!(broken_after_hyphens("random", 0), ["random"]);
    }
}
