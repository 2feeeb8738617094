//! The table for many policies: one block per scenario.

use crate::grid::{Grid, Paint, Piece};
use crate::mean::Mean;
use crate::numbers::{count, milliseconds, percent, seconds};
use crate::results::{Entry, Kind, Row, compare};
use crate::table::WIDTH;

/// A column of a block: two lines of heading, the value, and the text that hides the column if all entries show it.
type Column = ([&'static str; 2], fn(&Mean) -> String, &'static str);

const COLUMNS: [Column; 13] = [
    (["", "p50"], |mean| milliseconds(mean.p50), ""),
    (["", "p99"], |mean| milliseconds(mean.p99), ""),
    (["", "p99.9"], |mean| milliseconds(mean.p999), ""),
    (["good", "p99"], |mean| milliseconds(mean.success_p99), ""),
    (["errors", "%"], |mean| percent(mean.errors), "0"),
    (["good", "/s"], |mean| format!("{:.0}", mean.goodput), ""),
    (["unwell", "%"], |mean| percent(mean.share_to_unwell), "0"),
    (
        ["max/", "mean"],
        |mean| format!("{:.2}", mean.max_over_mean),
        "",
    ),
    (["detect", "s"], |mean| seconds(mean.detected), "never"),
    (["recover", "s"], |mean| seconds(mean.recovered), "never"),
    (
        ["attempts", "each"],
        |mean| format!("{:.2}", mean.attempts),
        "1.00",
    ),
    (["ejected", "%"], |mean| percent(mean.ejected_share), "0"),
    (
        ["false", "ejections"],
        |mean| count(mean.false_ejections),
        "0",
    ),
];

const LEGEND: &str = "\
Each block is a scenario, the best first, oracles last. Figures are of the scenario's window, mean
over seeds, times in ms. p50 to p99.9: each error counts as the timeout. good: successes alone.
unwell: the share of attempts that went to servers with something wrong; at the left, the share of
servers that had. max/mean: the most loaded server's requests for its speed. detect, recover: until
servers singled out by a fault got less than a quarter of their share, and half of it again. bound:
the least p99 of the oracles, which know everything. Columns in which nothing happened are left out.
";

pub(crate) fn blocks(rows: &[Row], paint: Paint) -> String {
    let blocks = rows.iter().map(|row| block(row, paint));
    let colours = if paint.0 {
        "Bold: this crate's policies. Green: the best.\n"
    } else {
        ""
    };
    format!("{LEGEND}{colours}{}", blocks.collect::<String>())
}

fn block(row: &Row, paint: Paint) -> String {
    // Stands in the corner. Which servers are unwell depends on the scenario and the seed, and hardly on the policy.
    let unwell = row.entries.first().map_or(0.0, |entry| entry.mean.unwell);
    let corner = [
        row.bound()
            .map(|bound| format!("  bound {} ms", milliseconds(bound.mean.p99))),
        (unwell > 0.0).then(|| format!("  {} % unwell", percent(unwell))),
    ];
    let title = Piece::strong(&row.name).painted(paint);
    let mut entries: Vec<&Entry> = row.contenders().collect();
    entries.sort_by(|one, other| compare(one, other));
    entries.extend(row.of(Kind::Oracle));
    let shown = |column: &&Column| {
        entries
            .iter()
            .any(|entry| column.1(&entry.mean) != column.2)
    };
    let columns: Vec<&Column> = COLUMNS.iter().filter(shown).collect();
    let mut grid = Grid::of_numbers();
    for (line, corner) in corner.into_iter().enumerate() {
        let words = columns.iter().map(|column| Piece::faint(column.0[line]));
        grid.row(std::iter::once(Piece::faint(corner.unwrap_or_default())).chain(words));
    }
    for entry in entries {
        let best = row.is_best(entry);
        let style: fn(String) -> Piece = match entry.kind {
            Kind::Oracle => Piece::faint,
            _ if best => Piece::best,
            _ => Piece::plain,
        };
        let name = format!("{} {}", if best { "*" } else { " " }, entry.name);
        let name = if entry.kind == Kind::Shipped && !best {
            Piece::strong(name)
        } else {
            style(name)
        };
        let numbers = columns.iter().map(|column| style(column.1(&entry.mean)));
        grid.row(std::iter::once(name).chain(numbers));
    }
    format!("\n{title}  {}\n{}", row.about, grid.fit(WIDTH).text(paint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::rows;

    #[test]
    fn many_are_blocks() {
        let text = blocks(&rows(8), Paint(false));
        assert!(
            text.contains("\nS5b  about S5b\n  bound 5.00 ms "),
            "{text}"
        );
        assert!(text.contains("\n* ours "), "{text}");
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }
}
