//! What do the promises of a request cost by themselves, with nothing else done?
//!
//! A set that is replaced whole while it is read, a policy behind a pointer, a lease that outlives its endpoint's removal, a count of
//! requests that decides who enters, and a clock that is read for one request in 64: each step adds one of them to the steps
//! before, in as little code as can be, and the crate's own request comes last. `cargo bench --bench skeleton -- --summary`
//! measures all in turns with the floor, 10 s; without `--summary` criterion measures each by itself.

#![allow(missing_docs)] // criterion's macro makes a public function.

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use common::{Arm, End, Server, asked_for, cycle, fleet, floor_a, interleaved, servers};
use criterion::Criterion;
use evenkeel::{Endpoint, PowerOfTwo, WeightedRoundRobin};

#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

/// An endpoint as a thread sees it: its handle, and the word that counts its requests.
struct Seat {
    endpoint: Server,
    word: Arc<Line>,
    weight: u64,
}

/// The part of the count that says how many are inside; successes are counted above it.
const INSIDE: u64 = (1 << 24) - 1;
const WELL: u64 = 1 << 48;

struct Set {
    /// Those of each thread.
    seats: Vec<Vec<Arc<Seat>>>,
    policy: Box<dyn Policy>,
}

trait Policy: Send + Sync {
    fn choose(&self, seats: &[Arc<Seat>], thread: usize) -> usize;
}

/// A table that holds each endpoint as often as it weighs, walked by each thread on its own.
struct InTurn {
    table: Vec<u32>,
    step: u64,
    positions: [Line; 2],
}

impl Policy for InTurn {
    fn choose(&self, _: &[Arc<Seat>], thread: usize) -> usize {
        let position = self.positions[thread].0.fetch_add(1, Ordering::Relaxed);
        let round = u128::from(position.wrapping_mul(self.step)) * self.table.len() as u128;
        self.table[(round >> 64) as usize] as usize
    }
}

/// The less busy for its weight of two drawn by weight, from a table.
struct OfTwo {
    table: Vec<u32>,
    seeds: [Line; 2],
}

impl Policy for OfTwo {
    fn choose(&self, seats: &[Arc<Seat>], thread: usize) -> usize {
        let seed = &self.seeds[thread].0;
        let random = seed.load(Ordering::Relaxed);
        let next = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        seed.store(next, Ordering::Relaxed);
        let draw = |bits: u64| {
            let at = ((bits & u64::from(u32::MAX)) * self.table.len() as u64) >> 32;
            self.table[at as usize] as usize
        };
        let (one, other) = (draw(random >> 32), draw(random ^ random >> 17));
        let load = |seat: &Seat, by: &Seat| {
            ((seat.word.0.load(Ordering::Acquire) & INSIDE) + 1) * by.weight
        };
        let (first, second) = (&seats[one], &seats[other]);
        if load(second, first) < load(first, second) {
            other
        } else {
            one
        }
    }
}

/// Each endpoint as often as it weighs, those of one endpoint far apart.
fn table(count: u32) -> Vec<u32> {
    let rounds = (1..=10).flat_map(|round| (0..count).filter(move |key| key % 10 + 1 >= round));
    rounds.collect()
}

fn set(count: u32, in_turn: bool, shared: bool) -> ArcSwap<Set> {
    let words: Vec<Arc<Line>> = (0..count).map(|_| Arc::default()).collect();
    let seats = |_| {
        let seat = |(endpoint, word): (Server, &Arc<Line>)| {
            let weight = u64::from(endpoint.weight().get());
            let word = if shared { word.clone() } else { Arc::default() };
            Arc::new(Seat {
                endpoint,
                word,
                weight,
            })
        };
        servers(count).zip(&words).map(seat).collect()
    };
    let table = table(count);
    let policy: Box<dyn Policy> = if in_turn {
        let step = u64::MAX / table.len() as u64 + 1;
        let positions = Default::default();
        Box::new(InTurn {
            table,
            step,
            positions,
        })
    } else {
        let seeds = [Line(AtomicU64::new(1)), Line(AtomicU64::new(2))];
        Box::new(OfTwo { table, seeds })
    };
    ArcSwap::from_pointee(Set {
        seats: (0..2).map(seats).collect(),
        policy,
    })
}

/// A request in progress, which may outlive the set.
struct Lease(Arc<Seat>);

impl Drop for Lease {
    fn drop(&mut self) {
        // One fewer inside, and one more that went well.
        self.0.word.0.fetch_add(WELL - 1, Ordering::Release);
    }
}

/// The steps; each does what those before it do.
const GUARD: u32 = 0;
const CHOICE: u32 = 1;
const COUNT: u32 = 2;
const HANDLE: u32 = 3;
const CLOCK: u32 = 4;

fn skeleton<const STEP: u32>(called: &str, set: &Arc<ArcSwap<Set>>, threads: usize) -> Arm {
    let set = set.clone();
    Arm::new(
        format!("{called}, {threads} threads"),
        threads,
        move |thread| {
            let set = set.clone();
            let mut requests = 0u64;
            move || {
                let guard = set.load();
                let seats = &guard.seats[thread];
                if STEP == GUARD {
                    black_box(seats.len());
                    return;
                }
                let seat = &seats[guard.policy.choose(seats, thread)];
                if STEP == CHOICE {
                    black_box(&seat.endpoint);
                    return;
                }
                let inside = seat.word.0.fetch_add(1, Ordering::Acquire) & INSIDE;
                assert!(inside < INSIDE, "no more than can be counted");
                if STEP == COUNT {
                    black_box(&seat.endpoint);
                    seat.word.0.fetch_add(WELL - 1, Ordering::Release);
                    return;
                }
                let lease = Lease(seat.clone());
                drop(guard);
                requests += 1;
                if STEP == CLOCK && requests % 64 == 0 {
                    black_box((Instant::now(), Instant::now()));
                }
                black_box(&lease.0.endpoint);
            }
        },
    )
    .warm_up(100_000)
}

fn steps(policy: &str, count: u32, in_turn: bool) -> Vec<Arm> {
    let one = Arc::new(set(count, in_turn, !in_turn));
    let name = |step: &str| format!("{policy}, N = {count}: {step}");
    let all = "the same, with a clock read for one in 64";
    vec![
        skeleton::<GUARD>(&name("a set that may be replaced meanwhile"), &one, 1),
        skeleton::<CHOICE>(&name("and a choice by a policy"), &one, 1),
        skeleton::<COUNT>(
            &name("and a count of who is inside and ended well"),
            &one,
            1,
        ),
        skeleton::<HANDLE>(&name("and a lease that may outlive the endpoint"), &one, 1),
        skeleton::<CLOCK>(&name(all), &one, 1),
        skeleton::<CLOCK>(&name(all), &one, 2),
    ]
}

fn arms() -> Vec<Arm> {
    let mut arms = vec![floor_a(1), floor_a(2)];
    for count in [10, 1_000, 10_000] {
        for (policy, in_turn) in [("weighted round robin", true), ("power of two", false)] {
            arms.extend(steps(policy, count, in_turn));
            for threads in [1, 2] {
                let fleet = Arc::new(match in_turn {
                    true => fleet(count, WeightedRoundRobin::new()),
                    false => fleet(count, PowerOfTwo::new()),
                });
                let name =
                    format!("{policy}, N = {count}: a request of the crate, {threads} threads");
                arms.push(cycle(name, fleet, threads, 1, End::Given).warm_up(100_000));
            }
        }
    }
    arms
}

fn summary() {
    let mut arms = arms();
    let times = interleaved(&mut arms, 15, Duration::from_millis(10));
    println!("| what | ns | in floors |");
    println!("|---|---:|---:|");
    for (arm, &time) in arms.iter().zip(&times) {
        let floor = times[arm.threads - 1];
        println!("| {} | {time:.1} | {:.1} A |", arm.name, time / floor);
    }
}

fn main() {
    if asked_for("--summary") {
        return summary();
    }
    let mut criterion = Criterion::default().configure_from_args();
    common::criterion_runs(&mut criterion, "skeleton", arms());
    criterion.final_summary();
}
