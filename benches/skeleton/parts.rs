//! The parts that a request cannot do without, in as little code as possible.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use crate::common::Server;

#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Line(pub(crate) AtomicU64);

/// The words of an endpoint that each request reads and writes.
#[repr(align(128))]
pub(crate) struct Cell {
    pub(crate) word: AtomicU64,
    pub(crate) limit: AtomicU32,
    pub(crate) epoch: AtomicU32,
    pub(crate) bucket: AtomicU64,
}

/// An endpoint as seen by a thread: its handle, and the cell that counts its requests.
pub(crate) struct Seat {
    pub(crate) endpoint: Server,
    pub(crate) cell: Arc<Cell>,
    pub(crate) weight: u64,
    pub(crate) generation: u64,
    /// Evidence of recent failures; 0 for none.
    pub(crate) evidence: Arc<AtomicU64>,
}

/// A thread's own state.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Own {
    /// How often the last clock reading may still be used.
    pub(crate) left: AtomicU64,
    pub(crate) tick: AtomicU64,
    /// Whether the thread's last requests failed.
    pub(crate) failing: AtomicU64,
}

impl Own {
    /// The last clock reading if it may still be used, or a new one for `times` uses.
    pub(crate) fn now(&self, begin: Instant, times: u64) -> u64 {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            return self.tick.load(Ordering::Relaxed);
        }
        self.read(begin, times)
    }

    #[cold]
    pub(crate) fn read(&self, begin: Instant, times: u64) -> u64 {
        // Two readings, one for the beginning and one for the end of a request.
        black_box(Instant::now());
        let now = begin.elapsed().as_nanos() as u64;
        self.tick.store(now, Ordering::Relaxed);
        self.left.store(times - 1, Ordering::Relaxed);
        now
    }
}

/// Shared state that hardly ever changes.
pub(crate) struct Shared {
    pub(crate) begin: Instant,
    pub(crate) own: [Own; 2],
    /// The limit of all requests together.
    pub(crate) limit: Option<u64>,
    /// How many endpoints are out. Below: until when an endpoint is in slow start.
    pub(crate) out: AtomicU64,
    pub(crate) warming: AtomicU64,
    pub(crate) upkeep: AtomicU64,
}

/// The bits of the word that count the requests inside. Successes are counted above them.
pub(crate) const INSIDE: u64 = (1 << 24) - 1;
pub(crate) const SUCCESS: u64 = 1 << 48;
/// The position of the bits that tell which edition of the endpoint is in force.
pub(crate) const GENERATION: u64 = 24;
pub(crate) const UNLIMITED: u32 = u32::MAX;
/// The length of a window's bucket, in nanoseconds.
pub(crate) const BUCKET: u64 = 1 << 30;

impl Seat {
    pub(crate) fn inside(&self) -> u64 {
        self.cell.word.load(Ordering::Acquire) & INSIDE
    }
}

/// A request in progress. It may outlive the set.
pub(crate) struct Lease(pub(crate) Arc<Seat>);

impl Drop for Lease {
    fn drop(&mut self) {
        // One fewer inside and one more success, in one addition.
        self.0.cell.word.fetch_add(SUCCESS - 1, Ordering::Release);
    }
}

/// The checks of a pick before its choice. Returns the time, or `None` if there is something to be done first. A new
/// clock reading serves `uses` uses.
pub(crate) fn ask(shared: &Shared, thread: usize, avoid: &[u64], uses: u64) -> Option<u64> {
    if shared.limit.is_some() || !avoid.is_empty() {
        return None;
    }
    let now = shared.own[thread].now(shared.begin, uses);
    let is_calm = shared.out.load(Ordering::Acquire) == 0
        && shared.warming.load(Ordering::Relaxed) <= now
        && shared.upkeep.load(Ordering::Relaxed) > now;
    is_calm.then_some(now)
}

/// Lets a request enter and returns its epoch; `None` if it may not.
pub(crate) fn enter(seat: &Seat) -> Option<u32> {
    let cell = &*seat.cell;
    if cell.limit.load(Ordering::Relaxed) != UNLIMITED {
        return None;
    }
    let word = cell.word.fetch_add(1, Ordering::Acquire);
    let (inside, generation) = (word & INSIDE, word >> GENERATION & 0xFFFF);
    (inside < INSIDE && generation <= seat.generation).then(|| cell.epoch.load(Ordering::Acquire))
}

/// The checks after a request has ended, before it leaves. Returns whether there is nothing else to do.
pub(crate) fn tell(
    shared: &Shared,
    thread: usize,
    seat: &Seat,
    epoch: u32,
    went_well: bool,
) -> bool {
    let own = &shared.own[thread];
    let is_plain = went_well
        && seat.cell.epoch.load(Ordering::Acquire) == epoch
        && seat.evidence.load(Ordering::Relaxed) == 0
        && own.failing.load(Ordering::Relaxed) == 0;
    let now = own.now(shared.begin, 128);
    if is_plain && now / BUCKET == seat.cell.bucket.load(Ordering::Relaxed) {
        return true;
    }
    seat.cell.bucket.store(now / BUCKET, Ordering::Relaxed);
    false
}
