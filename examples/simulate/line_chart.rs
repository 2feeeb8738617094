//! A line chart over time, kept simple: few gridlines, and a legend beside the plot.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::axis::{Axis, tick_text};

const WIDTH: i32 = 960;
const HEIGHT: i32 = 540;
/// The edges of the plot within the picture, in pixels.
const LEFT: i32 = 64;
const RIGHT: i32 = 656;
const TOP: i32 = 76;
const BOTTOM: i32 = 448;

const INK: RGBColor = RGBColor(34, 34, 34);
const GREY: RGBColor = RGBColor(96, 96, 96);
const GRID: RGBColor = RGBColor(224, 224, 224);
const SHADE: RGBColor = RGBColor(245, 242, 235);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<T = ()> = Result<T, Box<dyn Error>>;

pub(crate) struct Line {
    pub(crate) name: String,
    /// The number shown in the legend.
    pub(crate) value: String,
    pub(crate) colour: RGBColor,
    pub(crate) dashed: bool,
    pub(crate) width: u32,
    /// Pairs of a time in seconds and a value.
    pub(crate) points: Vec<(f64, f64)>,
}

pub(crate) struct Chart {
    pub(crate) title: String,
    /// A description of what the lines show.
    pub(crate) what: String,
    /// The heading of the legend's numbers.
    pub(crate) value: String,
    /// A few lines of text below the plot.
    pub(crate) caption: Vec<String>,
    /// The shaded time, from and to, in seconds.
    pub(crate) shaded: (f64, f64),
    /// The length of the time axis, in seconds.
    pub(crate) length: f64,
    /// Whether the vertical axis is logarithmic.
    pub(crate) logarithmic: bool,
    /// In the order of the legend. Earlier lines are drawn on top of later ones, and dashed lines, which do not hide
    /// others, on top of all solid ones.
    pub(crate) lines: Vec<Line>,
}

/// A font of this size. SVG's sizes are in pixels, and a size in plotters is 1.24 pixels.
fn font(pixels: f64, colour: RGBColor) -> TextStyle<'static> {
    let size = pixels * 1.24;
    ("sans-serif", size).into_font().color(&colour)
}

fn write(
    area: &Area<'_>,
    text: impl Into<String>,
    at: (i32, i32),
    style: TextStyle<'static>,
    side: HPos,
) -> Drawn {
    let style = style.pos(Pos::new(side, VPos::Center));
    Ok(area.draw(&Text::new(text.into(), at, style))?)
}

impl Chart {
    pub(crate) fn draw(&self, path: &Path) -> Drawn {
        let area = SVGBackend::new(path, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let title = font(18.0, INK);
        let title = TextStyle {
            font: title.font.style(FontStyle::Bold),
            ..title
        };
        write(&area, self.title.clone(), (LEFT, 26), title, HPos::Left)?;
        write(
            &area,
            self.what.clone(),
            (LEFT, 54),
            font(13.0, GREY),
            HPos::Left,
        )?;
        self.draw_plot(&area)?;
        self.draw_legend(&area)?;
        for (line, text) in self.caption.iter().enumerate() {
            let at = (LEFT, 494 + 18 * line as i32);
            write(&area, text.clone(), at, font(12.0, GREY), HPos::Left)?;
        }
        Ok(area.present()?)
    }

    /// The position of a value on the vertical axis, as plotters gets a linear plane.
    fn height(&self, value: f64) -> f64 {
        if self.logarithmic {
            value.log10()
        } else {
            value
        }
    }

    fn axis(&self) -> Axis {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let values = points.map(|(_, value)| *value).filter(|value| *value > 0.0);
        let (lowest, highest) = values.fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| {
            (low.min(value), high.max(value))
        });
        match (self.logarithmic, highest > 0.0) {
            (false, _) => Axis::linear(highest),
            (true, true) => Axis::logarithmic(lowest, highest),
            (true, false) => Axis::logarithmic(1.0, 10.0),
        }
    }

    fn draw_plot(&self, area: &Area<'_>) -> Drawn {
        let axis = self.axis();
        let plot = area
            .clone()
            .margin(TOP, HEIGHT - BOTTOM, LEFT, WIDTH - RIGHT);
        let (low, high) = (self.height(axis.low), self.height(axis.high));
        // Leaves some room above, so that a line at the very top is visible.
        let heights = low..high + (high - low) * 0.02;
        let mut chart =
            ChartBuilder::on(&plot).build_cartesian_2d(0.0..self.length, heights.clone())?;
        let (start, end) = self.shaded;
        let shade = [(start, heights.start), (end, heights.end)];
        chart.draw_series([Rectangle::new(shade, SHADE.filled())])?;
        for tick in &axis.ticks {
            let height = self.height(*tick);
            let gridline = vec![(0.0, height), (self.length, height)];
            chart.draw_series([PathElement::new(gridline, GRID)])?;
            let (_, y) = chart.backend_coord(&(0.0, height));
            write(
                area,
                tick_text(*tick),
                (LEFT - 8, y),
                font(13.0, INK),
                HPos::Right,
            )?;
        }
        for tick in Axis::linear(self.length).ticks {
            // The axis ends where the run ends.
            if tick <= self.length * 1.001 {
                let (x, _) = chart.backend_coord(&(tick, heights.start));
                write(
                    area,
                    tick_text(tick) + " s",
                    (x, BOTTOM + 16),
                    font(13.0, INK),
                    HPos::Center,
                )?;
            }
        }
        let floor = vec![(0.0, heights.start), (self.length, heights.start)];
        chart.draw_series([PathElement::new(floor, GREY)])?;
        let solid = self.lines.iter().rev().filter(|line| !line.dashed);
        let dashed = self.lines.iter().rev().filter(|line| line.dashed);
        for line in solid.chain(dashed) {
            // On a logarithmic axis, slices without requests have no latency to draw.
            let visible = |(_, value): &&(f64, f64)| !self.logarithmic || *value > 0.0;
            let points = line.points.iter().filter(visible);
            let points = points.map(|(at, value)| (*at, self.height(*value)));
            let points: Vec<(f64, f64)> = points.collect();
            let style = line.colour.stroke_width(line.width);
            if line.dashed {
                chart.draw_series(DashedLineSeries::new(points, 7, 4, style))?;
            } else {
                chart.draw_series(LineSeries::new(points, style))?;
            }
        }
        Ok(())
    }

    fn draw_legend(&self, area: &Area<'_>) -> Drawn {
        write(
            area,
            self.value.clone(),
            (WIDTH - 10, 54),
            font(12.0, GREY),
            HPos::Right,
        )?;
        for (number, line) in self.lines.iter().enumerate() {
            let y = TOP + 12 + 26 * number as i32;
            let style = line.colour.stroke_width(line.width.max(2));
            let sample = vec![(RIGHT + 16, y), (RIGHT + 46, y)];
            if line.dashed {
                area.draw(&DashedPathElement::new(sample, 7, 4, style))?;
            } else {
                area.draw(&PathElement::new(sample, style))?;
            }
            write(
                area,
                line.name.clone(),
                (RIGHT + 54, y),
                font(13.0, INK),
                HPos::Left,
            )?;
            write(
                area,
                line.value.clone(),
                (WIDTH - 10, y),
                font(13.0, INK),
                HPos::Right,
            )?;
        }
        Ok(())
    }
}
