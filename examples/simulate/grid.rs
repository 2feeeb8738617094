//! Text in columns for a terminal.

/// Whether to use terminal colours.
#[derive(Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Plain,
    Strong,
    Best,
    Faint,
}

/// A piece of text in one style.
#[derive(Clone)]
pub(crate) struct Piece {
    text: String,
    style: Style,
}

impl Piece {
    fn new(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }

    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Style::Plain)
    }

    pub(crate) fn strong(text: impl Into<String>) -> Self {
        Self::new(text, Style::Strong)
    }

    pub(crate) fn best(text: impl Into<String>) -> Self {
        Self::new(text, Style::Best)
    }

    pub(crate) fn faint(text: impl Into<String>) -> Self {
        Self::new(text, Style::Faint)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    pub(crate) fn painted(&self, paint: Paint) -> String {
        let code = match self.style {
            Style::Strong => "1",
            Style::Best => "1;32",
            Style::Faint => "2",
            Style::Plain => "",
        };
        if code.is_empty() || !paint.0 || self.text.is_empty() {
            return self.text.clone();
        }
        format!("\x1b[{code}m{}\x1b[0m", self.text)
    }
}

/// Rows of pieces in columns that are as wide as necessary.
pub(crate) struct Grid {
    rows: Vec<Vec<Piece>>,
    numbers: bool,
    gap: usize,
}

impl Grid {
    /// A grid with all columns left-aligned.
    pub(crate) fn left_aligned() -> Self {
        Self {
            rows: Vec::new(),
            numbers: false,
            gap: 2,
        }
    }

    /// A grid with the first column left-aligned and the others, which are numbers, right-aligned.
    pub(crate) fn of_numbers() -> Self {
        Self {
            numbers: true,
            ..Self::left_aligned()
        }
    }

    pub(crate) fn row(&mut self, row: impl IntoIterator<Item = Piece>) {
        self.rows.push(row.into_iter().collect());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            let pieces = self.rows.iter().filter_map(|row| row.get(column));
            pieces.map(Piece::width).max().unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }

    /// The length of its lines.
    pub(crate) fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + self.gap * widths.len().saturating_sub(1)
    }

    /// Narrows the gaps between columns if the lines are longer than `width`.
    pub(crate) fn fit(mut self, width: usize) -> Self {
        if self.width() > width {
            self.gap = 1;
        }
        self
    }

    pub(crate) fn text(&self, paint: Paint) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (piece, width)) in row.iter().zip(&widths).enumerate() {
                let space = " ".repeat(width - piece.width());
                if column > 0 {
                    line += &" ".repeat(self.gap);
                }
                line += &if self.numbers && column > 0 {
                    space + &piece.painted(paint)
                } else {
                    piece.painted(paint) + &space
                };
            }
            text += line.trim_end();
            text += "\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::of_numbers();
        grid.row(["name", "p99"].map(Piece::plain));
        grid.row([Piece::plain("a-longer-one"), Piece::best("7*")]);
        grid
    }

    #[test]
    fn names_stand_left_and_numbers_right() {
        assert_eq!(
            grid().text(Paint(false)),
            "name          p99\na-longer-one   7*\n"
        );
        assert_eq!(
            grid().fit(16).text(Paint(false)),
            "name         p99\na-longer-one  7*\n"
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let text = grid().text(Paint(true));
        assert!(
            text.ends_with("a-longer-one   \x1b[1;32m7*\x1b[0m\n"),
            "{text:?}"
        );
    }
}
