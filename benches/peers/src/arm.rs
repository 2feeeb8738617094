//! One thing that is measured, and how threads are started and timed.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What an iteration holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// The least that counting a request can cost; the others are read against it.
    Floor,
    /// Choosing an endpoint. Letting go of it is not timed.
    Pick,
    /// Choosing, no work, and telling how it ended as far as the library has a call for that.
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

/// Runs that many iterations on each thread; returns the threads' time in all.
pub(crate) type Run = Box<dyn Fn(u64) -> Duration>;

/// One row of the table in one column.
pub(crate) struct Arm {
    pub(crate) measure: Measure,
    pub(crate) name: &'static str,
    /// What is and is not in the time.
    pub(crate) counted: &'static str,
    pub(crate) shape: Shape,
    run: Run,
}

/// Counts of iterations are multiples of this: a batch of picks, and more than there are tasks.
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

    /// How many iterations take about `turn`. It warms up what it measures.
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

    /// Nanoseconds for an iteration on one thread.
    pub(crate) fn nanoseconds(&self, count: u64) -> f64 {
        let spent = (self.run)(count).as_nanos() as f64;
        spent / (count * self.shape.threads as u64) as f64
    }
}

/// Starts the threads, lets them go at once, and sums what each says its work took.
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

/// A run of picks. What is picked is kept in a list and let go outside the time: a lease has to be
/// given back, and what that costs belongs to the cycle. 128 are held at a time on each thread.
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

/// A run of cycles, each of which lets go of what it picked.
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
