//! The cost of counting a request in and out, with nothing else.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::arm::{Arm, Measure, Run, SHAPES, on_threads};
use crate::random::Random;

pub(crate) const FLOOR_A: &str = "A: a line of the thread's own";

/// A word alone on 128 bytes: two lines of 64 bytes, as processors fetch neighbouring lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Line {
    fn in_and_out(&self) {
        // ORDERING: Relaxed. No other data is read through it; a floor orders nothing.
        self.0.fetch_add(1, Ordering::Relaxed);
        black_box(self.0.fetch_add(u64::MAX, Ordering::Relaxed));
    }
}

pub(super) fn arms() -> Vec<Arm> {
    let own = SHAPES.map(|shape| {
        let counted = "two fetch_adds, nothing else; N plays no part";
        Arm::new(
            Measure::Floor,
            FLOOR_A,
            counted,
            shape,
            own_line(shape.threads),
        )
    });
    let shared = SHAPES.map(|shape| {
        let run = shared_lines(shape.threads, shape.endpoints);
        let counted = "two fetch_adds, and a random number to choose the line";
        Arm::new(
            Measure::Floor,
            "B: a random one of N shared lines",
            counted,
            shape,
            run,
        )
    });
    own.into_iter().chain(shared).collect()
}

fn own_line(threads: usize) -> Run {
    Box::new(move |count| {
        on_threads(threads, |_| {
            let line = Line::default();
            let started = Instant::now();
            for _ in 0..count {
                line.in_and_out();
            }
            started.elapsed()
        })
    })
}

fn shared_lines(threads: usize, endpoints: u32) -> Run {
    let lines: Vec<Line> = (0..endpoints).map(|_| Line::default()).collect();
    Box::new(move |count| {
        on_threads(threads, |number| {
            let mut random = Random::new(number as u64);
            let started = Instant::now();
            for _ in 0..count {
                lines[random.below(lines.len())].in_and_out();
            }
            started.elapsed()
        })
    })
}
