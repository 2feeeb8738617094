//! The samples as a markdown table.

use crate::arm::{Arm, Measure, SHAPES, Shape};
use crate::arms::FLOOR_A;

/// One row per measure and name, in the order of the arms; one column per shape.
pub(crate) fn markdown(arms: &[Arm], samples: &[Vec<f64>]) -> String {
    let mut lines = vec![heading(), "|---|---|---:|---:|---:|---:|---|".into()];
    let mut rows: Vec<(Measure, &str)> = Vec::new();
    for arm in arms {
        let row = (arm.measure, arm.name);
        if rows.contains(&row) {
            continue;
        }
        rows.push(row);
        let cells = SHAPES.map(|shape| cell(arms, samples, row, shape));
        lines.push(format!(
            "| {} | {} | {} | {} |",
            arm.measure.name(),
            arm.name,
            cells.join(" | "),
            arm.counted
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn heading() -> String {
    let columns = SHAPES.map(|Shape { endpoints, threads }| {
        let plural = if threads == 1 { "" } else { "s" };
        format!("N = {endpoints}, {threads} thread{plural}")
    });
    format!("| measure | arm | {} | counted |", columns.join(" | "))
}

/// The median in nanoseconds, as a multiple of floor A in the same column, and the range.
fn cell(arms: &[Arm], samples: &[Vec<f64>], row: (Measure, &str), shape: Shape) -> String {
    let Some(own) = sorted(arms, samples, row, shape) else {
        return "-".into();
    };
    let floor = floor(arms, samples, shape);
    let middle = median(&own);
    format!(
        "{} = {} A ({}..{})",
        short(middle),
        short(middle / floor),
        short(own[0]),
        short(own[own.len() - 1])
    )
}

/// Floor A with two threads as a multiple of floor A with one. Each thread has its own line, so anything above 1 is
/// time that the two threads waited for a processor.
pub(crate) fn crowding(arms: &[Arm], samples: &[Vec<f64>]) -> f64 {
    let [alone, both, ..] = SHAPES.map(|shape| floor(arms, samples, shape));
    both / alone
}

fn floor(arms: &[Arm], samples: &[Vec<f64>], shape: Shape) -> f64 {
    let floor = sorted(arms, samples, (Measure::Floor, FLOOR_A), shape);
    floor.map_or(f64::NAN, |floor| median(&floor))
}

/// The samples in ascending order. `None` if the row has no such column, or if no round was run.
fn sorted(
    arms: &[Arm],
    samples: &[Vec<f64>],
    row: (Measure, &str),
    shape: Shape,
) -> Option<Vec<f64>> {
    let is_it = |arm: &Arm| (arm.measure, arm.name) == row && arm.shape == shape;
    let mut own = samples[arms.iter().position(is_it)?].clone();
    own.sort_by(f64::total_cmp);
    (!own.is_empty()).then_some(own)
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// With one decimal below 100, without decimals from there on.
fn short(number: f64) -> String {
    if number < 99.95 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}
