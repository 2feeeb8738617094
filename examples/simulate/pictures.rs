//! Two pictures per scenario: latency over time, and the share of requests that unwell servers get.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::style::RGBColor;

use crate::line_chart::{Chart, Line};
use crate::mean::Slice;
use crate::numbers::{milliseconds, percent};
use crate::results::{Entry, Kind, Row, compare};
use crate::standings::standings;

/// The most lines in a picture, about as many as can be told apart.
const MOST: usize = 8;

/// The colours of Okabe and Ito, which people who are colour-blind can tell apart too. Their yellow comes last and is
/// much darker here, because it would be invisible on white.
const COLOURS: [RGBColor; MOST] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
    RGBColor(128, 122, 0),
];
const GREY: RGBColor = RGBColor(150, 150, 150);

/// Writes `S1a-latency.svg`, `S1a-share.svg`, and so on.
pub(crate) fn write(folder: &Path, rows: &[Row], seeds: usize) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let all = standings(rows);
    // The same policies in all pictures, each with the same colour.
    let names: Vec<&str> = all
        .iter()
        .take(MOST)
        .map(|standing| standing.name.as_str())
        .collect();
    let omitted = all.len() - names.len();
    for row in rows {
        let picture = Picture {
            row,
            names: &names,
            omitted,
            seeds,
        };
        picture
            .latency()
            .draw(&folder.join(format!("{}-latency.svg", row.name)))?;
        picture
            .share()
            .draw(&folder.join(format!("{}-share.svg", row.name)))?;
    }
    Ok(())
}

struct Picture<'a> {
    row: &'a Row,
    /// The names of the policies that are drawn.
    names: &'a [&'a str],
    /// How many policies are not drawn.
    omitted: usize,
    seeds: usize,
}

impl Picture<'_> {
    fn latency(&self) -> Chart {
        let value = |entry: &Entry| match percent(entry.mean.errors).as_str() {
            "0" => milliseconds(entry.mean.p99),
            errors => format!("{} ({errors}%)", milliseconds(entry.mean.p99)),
        };
        let mut lines = self.lines(|slice| slice.p99, value);
        if let Some(bound) = self.row.bound() {
            lines.push(Line {
                name: format!("bound ({})", bound.name),
                value: value(bound),
                colour: GREY,
                dashed: false,
                width: 1,
                points: points(bound, |slice| slice.p99),
            });
        }
        self.chart(
            "p99 of latency in ms, each error counted as the timeout; log scale",
            "ms (errors) in window",
            true,
            lines,
        )
    }

    fn share(&self) -> Chart {
        let (start, end) = self.window();
        let value = |entry: &Entry| {
            let inside = entry
                .mean
                .moments
                .iter()
                .filter(|slice| slice.at >= start && slice.at < end);
            let shares: Vec<f64> = inside.map(|slice| slice.share).collect();
            percent(shares.iter().sum::<f64>() / shares.len().max(1) as f64)
        };
        let lines = self.lines(|slice| slice.share * 100.0, value);
        self.chart(
            "Share of attempts, in %, that went to the servers singled out by a fault, or else unwell",
            "% in window",
            false,
            lines,
        )
    }

    /// The lines of the contenders, the best first.
    fn lines(&self, of: impl Fn(&Slice) -> f64, value: impl Fn(&Entry) -> String) -> Vec<Line> {
        let number = |entry: &Entry| self.names.iter().position(|name| *name == entry.name);
        let drawn = self
            .row
            .contenders()
            .filter_map(|entry| Some((entry, number(entry)?)));
        let mut drawn: Vec<(&Entry, usize)> = drawn.collect();
        drawn.sort_by(|(one, _), (other, _)| compare(one, other));
        let line = |(entry, number): &(&Entry, usize)| Line {
            name: entry.name.clone(),
            value: value(entry),
            colour: COLOURS[*number],
            dashed: entry.kind == Kind::Baseline,
            width: 2,
            points: points(entry, &of),
        };
        drawn.iter().map(line).collect()
    }

    fn chart(&self, what: &str, value: &str, logarithmic: bool, lines: Vec<Line>) -> Chart {
        let seeds = match self.seeds {
            1 => String::from("one seed"),
            seeds => format!("mean of {seeds} seeds"),
        };
        let mut caption = vec![format!(
            "Each point is {} s, {seeds}. Shaded: the window that the figures are of. Dashed: not of this crate.",
            (self.step() * 1000.0).round() / 1000.0,
        )];
        if lines
            .iter()
            .all(|line| line.points.iter().all(|(_, value)| *value == 0.0))
        {
            caption.push("It is 0 all the time: nothing was wrong with any server.".into());
        }
        if self.omitted > 0 {
            caption.push(format!(
                "The {} of {} policies with the least p99, as the geometric mean over the scenarios, are drawn.",
                self.names.len(),
                self.names.len() + self.omitted,
            ));
        }
        Chart {
            title: format!("{}: {}", self.row.name, self.row.about),
            what: what.into(),
            value: value.into(),
            caption,
            shaded: self.window(),
            length: self.length(),
            logarithmic,
            lines,
        }
    }

    /// The length of a slice, in seconds.
    fn step(&self) -> f64 {
        let moments = self.row.entries.first().map(|entry| &entry.mean.moments);
        let second = moments.and_then(|moments| moments.get(1));
        second.map_or(1.0, |second| second.at)
    }

    fn length(&self) -> f64 {
        let moments = self
            .row
            .entries
            .first()
            .map_or(0, |entry| entry.mean.moments.len());
        self.step() * moments.max(1) as f64
    }

    /// The scenario's window. All built-in scenarios have it there, and `--cut` keeps it there.
    fn window(&self) -> (f64, f64) {
        (self.length() / 4.0, self.length() * 3.0 / 4.0)
    }
}

/// The values of an entry, each in the middle of its slice.
fn points(entry: &Entry, of: impl Fn(&Slice) -> f64) -> Vec<(f64, f64)> {
    let moments = &entry.mean.moments;
    let half = moments.get(1).map_or(0.0, |second| second.at / 2.0);
    moments
        .iter()
        .map(|slice| (slice.at + half, of(slice)))
        .collect()
}
