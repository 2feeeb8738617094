//! A measurement (an arm), and how its threads are started and timed.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What an iteration consists of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// The least that counting a request can cost; the other measures are compared with it.
    Floor,
    /// Choosing an endpoint. Releasing it is not timed.
    Pick,
    /// Choosing, no work, and reporting the outcome as far as the library has a call for that.
    Cycle,
}

impl Measure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Pick => "pick",
            Self::Cycle => "cycle",
        }
    }
}

/// How many threads share a balancer, and how many endpoints it has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) endpoints: u32,
    pub(crate) threads: usize,
}

/// The table's columns.
pub(crate) const SHAPES: [Shape; 4] = [
    Shape::new(10, 1),
    Shape::new(10, 2),
    Shape::new(1000, 1),
    Shape::new(1000, 2),
];

impl Shape {
    const fn new(endpoints: u32, threads: usize) -> Self {
        Self { endpoints, threads }
    }
}

/// Runs the given number of iterations on each thread and returns the sum of the threads' times.
pub(crate) type Run = Box<dyn Fn(u64) -> Duration>;

/// One row of the table in one column.
pub(crate) struct Arm {
    pub(crate) measure: Measure,
    pub(crate) name: &'static str,
    /// What the time includes and what it does not.
    pub(crate) counted: &'static str,
    pub(crate) shape: Shape,
    run: Run,
}

/// Iteration counts are multiples of this: the size of a batch of picks, and more than the number of tasks.
pub(crate) const BATCH: u64 = 128;

impl Arm {
    pub(crate) fn new(
        measure: Measure,
        name: &'static str,
        counted: &'static str,
        shape: Shape,
        run: Run,
    ) -> Self {
        Self {
            measure,
            name,
            counted,
            shape,
            run,
        }
    }

    /// How many iterations take about `turn`. Also warms up what is measured.
    pub(crate) fn calibrate(&self, turn: Duration) -> u64 {
        let mut count = BATCH;
        loop {
            let started = Instant::now();
            (self.run)(count);
            let spent = started.elapsed();
            if spent >= turn / 5 {
                let wanted = count as f64 * turn.as_secs_f64() / spent.as_secs_f64();
                return (wanted as u64).next_multiple_of(BATCH).max(BATCH);
            }
            count *= 4;
        }
    }

    /// Nanoseconds per iteration on one thread.
    pub(crate) fn nanoseconds(&self, count: u64) -> f64 {
        let spent = (self.run)(count).as_nanos() as f64;
        spent / (count * self.shape.threads as u64) as f64
    }
}

/// Starts the threads, releases them at the same time, and returns the sum of the times that they report.
pub(crate) fn on_threads(threads: usize, work: impl Fn(usize) -> Duration + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        let start = |number| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(number)
            })
        };
        let handles: Vec<_> = (0..threads).map(start).collect();
        let spent = handles.into_iter().map(|handle| handle.join());
        spent.map(|spent| spent.expect("no arm panics")).sum()
    })
}

/// A run of picks. Picks are kept in a list of 128 per thread and released outside the timed part: a lease has to be
/// given back, and that cost belongs to the cycle.
pub(crate) fn picks<T>(threads: usize, pick: impl Fn() -> T + Sync + 'static) -> Run {
    Box::new(move |count| {
        on_threads(threads, |_| {
            let mut held = Vec::with_capacity(BATCH as usize);
            let mut spent = Duration::ZERO;
            for _ in 0..count / BATCH {
                let started = Instant::now();
                held.extend((0..BATCH).map(|_| pick()));
                spent += started.elapsed();
                black_box(&held);
                held.clear();
            }
            spent
        })
    })
}

/// A run of cycles. Each releases what it has picked.
pub(crate) fn cycles(threads: usize, cycle: impl Fn() + Sync + 'static) -> Run {
    Box::new(move |count| {
        on_threads(threads, |_| {
            let started = Instant::now();
            for _ in 0..count {
                cycle();
            }
            started.elapsed()
        })
    })
}
