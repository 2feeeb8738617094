//! What do the guarantees of a request cost by themselves, with nothing else done?
//!
//! Each step adds to the steps before it, in as little code as possible:
//!
//! - a set that is replaced as a whole while it is read,
//! - a policy behind a pointer,
//! - a count of requests that decides which may enter,
//! - a lease that outlives the removal of its endpoint,
//! - a clock that is read for one request in 64,
//! - the checks before a request: may a reading be reused, is upkeep due, is any endpoint out, in slow start, to be
//!   avoided, limited or of an older edition,
//! - the checks after a request: how did it end, is there evidence to reduce, is the window's bucket still open.
//!
//! The crate's own request comes last. The steps from the clock on are also measured while a thread holds 64 leases.
//!
//! `cargo bench --bench skeleton -- --summary` measures all arms in turn with the floor, which takes 20 s. Without
//! `--summary` criterion measures each by itself.

#![allow(missing_docs)] // criterion's macro makes a public function.

#[path = "../common/mod.rs"]
mod common;
mod parts;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use common::{Arm, End, Server, asked_for, cycle, fleet, floor_a, interleaved, servers};
use criterion::Criterion;
use evenkeel::{Endpoint, Fleet, LeastConnections, PowerOfTwo, WeightedRoundRobin};
use parts::{Cell, INSIDE, Lease, Line, SUCCESS, Seat, Shared, UNLIMITED, ask, enter, tell};

struct Set {
    shared: Arc<Shared>,
    /// The seats of each thread.
    seats: Vec<Vec<Arc<Seat>>>,
    policy: Box<dyn Policy>,
}

trait Policy: Send + Sync {
    fn choose(&self, seats: &[Arc<Seat>], thread: usize) -> usize;
}

/// Weighted round robin: a table that contains each endpoint as often as its weight, with a position per thread.
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

/// Draws by weight from a table.
struct Draws {
    table: Vec<u32>,
    seeds: [Line; 2],
}

impl Draws {
    fn two(&self, thread: usize) -> (usize, usize) {
        let seed = &self.seeds[thread].0;
        let random = seed.load(Ordering::Relaxed);
        let next = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        seed.store(next, Ordering::Relaxed);
        let draw = |bits: u64| {
            let at = ((bits & u64::from(u32::MAX)) * self.table.len() as u64) >> 32;
            self.table[at as usize] as usize
        };
        (draw(random >> 32), draw(random ^ random >> 17))
    }
}

/// Of two drawn endpoints the one with less load for its weight.
struct OfTwo(Draws);

impl Policy for OfTwo {
    fn choose(&self, seats: &[Arc<Seat>], thread: usize) -> usize {
        let (one, other) = self.0.two(thread);
        let load = |seat: &Seat, by: &Seat| (seat.inside() + 1) * by.weight;
        let (first, second) = (&seats[one], &seats[other]);
        if load(second, first) < load(first, second) {
            other
        } else {
            one
        }
    }
}

/// The drawn endpoint if it is idle, or else the one with the least load for its weight. The first wins a tie.
struct OfAll(Draws);

impl Policy for OfAll {
    fn choose(&self, seats: &[Arc<Seat>], thread: usize) -> usize {
        let (one, _) = self.0.two(thread);
        if seats[one].inside() == 0 {
            return one;
        }
        let (mut least, mut chosen) = (f32::INFINITY, one);
        for (at, seat) in seats.iter().enumerate() {
            let load = (seat.inside() + 1) as f32 / seat.weight as f32;
            (least, chosen) = if load < least {
                (load, at)
            } else {
                (least, chosen)
            };
        }
        chosen
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    InTurn,
    OfTwo,
    OfAll,
}

impl Kind {
    const fn called(self) -> &'static str {
        match self {
            Self::InTurn => "weighted round robin",
            Self::OfTwo => "power of two",
            Self::OfAll => "least connections",
        }
    }

    /// The crate's own fleet with this policy.
    fn fleet(self, count: u32) -> Arc<Fleet<Server>> {
        Arc::new(match self {
            Self::InTurn => fleet(count, WeightedRoundRobin::new()),
            Self::OfTwo => fleet(count, PowerOfTwo::new()),
            Self::OfAll => fleet(count, LeastConnections::new()),
        })
    }
}

/// Contains each endpoint as often as its weight, with the entries of one endpoint far apart.
fn table(count: u32) -> Vec<u32> {
    let rounds = (1..=10).flat_map(|round| (0..count).filter(move |key| key % 10 + 1 >= round));
    rounds.collect()
}

/// Policies that compare loads use one count for all threads; the other uses one per thread.
fn set(count: u32, kind: Kind) -> ArcSwap<Set> {
    let cell = || {
        Arc::new(Cell {
            word: AtomicU64::new(0),
            limit: AtomicU32::new(UNLIMITED),
            epoch: AtomicU32::new(0),
            bucket: AtomicU64::new(0),
        })
    };
    let cells: Vec<_> = (0..count).map(|_| (cell(), Arc::default())).collect();
    let seats = |_| {
        let seat = |(endpoint, (shared, evidence)): (Server, &(Arc<Cell>, Arc<AtomicU64>))| {
            let weight = u64::from(endpoint.weight().get());
            let cell = match kind {
                Kind::InTurn => cell(),
                _ => shared.clone(),
            };
            Arc::new(Seat {
                endpoint,
                cell,
                weight,
                generation: 0,
                evidence: evidence.clone(),
            })
        };
        servers(count).zip(&cells).map(seat).collect()
    };
    let table = table(count);
    let draws = |table| Draws {
        table,
        seeds: [Line(AtomicU64::new(1)), Line(AtomicU64::new(2))],
    };
    let policy: Box<dyn Policy> = match kind {
        Kind::OfTwo => Box::new(OfTwo(draws(table))),
        Kind::OfAll => Box::new(OfAll(draws(table))),
        Kind::InTurn => Box::new(InTurn {
            step: u64::MAX / table.len() as u64 + 1,
            table,
            positions: Default::default(),
        }),
    };
    let shared = Shared {
        begin: Instant::now(),
        own: Default::default(),
        limit: None,
        out: AtomicU64::new(0),
        warming: AtomicU64::new(0),
        upkeep: AtomicU64::new(u64::MAX),
    };
    ArcSwap::from_pointee(Set {
        shared: Arc::new(shared),
        seats: (0..2).map(seats).collect(),
        policy,
    })
}

/// The steps. Each does what the steps before it do, and more.
const GUARD: u32 = 0;
const CHOICE: u32 = 1;
const COUNT: u32 = 2;
const HANDLE: u32 = 3;
const CLOCK: u32 = 4;
const ASKED: u32 = 5;
const TOLD: u32 = 6;

fn skeleton<const STEP: u32>(
    called: &str,
    set: &Arc<ArcSwap<Set>>,
    threads: usize,
    held: usize,
) -> Arm {
    let set = set.clone();
    Arm::new(
        format!("{called}, {threads} threads"),
        threads,
        move |thread| {
            let set = set.clone();
            let mut requests = 0u64;
            let mut leases: VecDeque<(Lease, u32)> = VecDeque::with_capacity(held + 1);
            let shared = set.load().shared.clone();
            let told = move |(lease, epoch): (Lease, u32)| {
                if STEP >= TOLD {
                    black_box(tell(&shared, thread, &lease.0, epoch, black_box(true)));
                }
                drop(lease);
            };
            move || {
                let guard = set.load();
                if STEP >= ASKED {
                    // Enough for 64 requests; each asks for the time once, or twice from `TOLD` on.
                    let uses = if STEP == ASKED { 64 } else { 128 };
                    let avoid = black_box::<&[u64]>(&[]);
                    assert!(ask(&guard.shared, thread, avoid, uses).is_some());
                }
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
                let epoch = if STEP >= ASKED {
                    enter(seat).expect("nobody is refused")
                } else {
                    let inside = seat.cell.word.fetch_add(1, Ordering::Acquire) & INSIDE;
                    assert!(inside < INSIDE, "no more than can be counted");
                    0
                };
                if STEP == COUNT {
                    black_box(&seat.endpoint);
                    seat.cell.word.fetch_add(SUCCESS - 1, Ordering::Release);
                    return;
                }
                let lease = Lease(seat.clone());
                drop(guard);
                requests += 1;
                if STEP == CLOCK && requests % 64 == 0 {
                    black_box((Instant::now(), Instant::now()));
                }
                black_box(&lease.0.endpoint);
                if held == 1 {
                    told((lease, epoch));
                    return;
                }
                leases.push_back((lease, epoch));
                if leases.len() >= held {
                    leases.pop_front().map(&told);
                }
            }
        },
    )
    .warm_up(100_000)
}

fn arms() -> Vec<Arm> {
    let mut arms = vec![floor_a(1), floor_a(2)];
    for (kind, counts) in [
        (Kind::InTurn, &[10, 100, 1_000, 10_000][..]),
        (Kind::OfTwo, &[10, 100, 1_000, 10_000]),
        (Kind::OfAll, &[10, 100]),
    ] {
        for &count in counts {
            arms.extend(steps(kind, count));
        }
    }
    arms
}

fn steps(kind: Kind, count: u32) -> Vec<Arm> {
    let set = Arc::new(set(count, kind));
    let name = |step: &str| format!("{}, N = {count}: {step}", kind.called());
    let replaced = "a set that may be replaced meanwhile";
    let counted = "and a count of who is inside and ended well";
    let mut arms = vec![
        skeleton::<GUARD>(&name(replaced), &set, 1, 1),
        skeleton::<CHOICE>(&name("and a choice by a policy"), &set, 1, 1),
        skeleton::<COUNT>(&name(counted), &set, 1, 1),
        skeleton::<HANDLE>(
            &name("and a lease that may outlive the endpoint"),
            &set,
            1,
            1,
        ),
    ];
    for held in [1, 64] {
        for threads in [1, 2] {
            let all = format!("the same, with a clock read for one in 64, {held} held");
            arms.push(skeleton::<CLOCK>(&name(&all), &set, threads, held));
            let asked = format!("and asks what may be in the way, {held} held");
            arms.push(skeleton::<ASKED>(&name(&asked), &set, threads, held));
            let told = format!("and what is to be done after it, {held} held");
            arms.push(skeleton::<TOLD>(&name(&told), &set, threads, held));
        }
        for threads in [1, 2] {
            let request = format!("a request of the crate, {held} held, {threads} threads");
            let arm = cycle(name(&request), kind.fleet(count), threads, held, End::Given);
            arms.push(arm.warm_up(100_000));
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
