//! What people write by hand: the baselines of the benchmarks.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::{Arm, Server, servers};

/// A server with its requests in flight, and how many have failed and ended well.
pub(crate) struct Counted {
    pub(crate) server: Server,
    in_flight: AtomicUsize,
    ended: [AtomicU64; 2],
}

fn counted(count: u32) -> Vec<Arc<Counted>> {
    let counted = |server| Counted {
        server,
        in_flight: AtomicUsize::new(0),
        ended: Default::default(),
    };
    servers(count).map(counted).map(Arc::new).collect()
}

/// A request to a server, from its pick to its end.
fn request(server: &Counted) {
    server.in_flight.fetch_add(1, Ordering::Relaxed);
    black_box(&server.server);
    server.in_flight.fetch_sub(1, Ordering::Relaxed);
    let went_well = black_box(true);
    server.ended[usize::from(went_well)].fetch_add(1, Ordering::Relaxed);
}

/// A list behind a lock, so that it can be replaced, and a counter. Weights do not count.
pub(crate) struct List {
    servers: RwLock<Vec<Arc<Counted>>>,
    next: AtomicUsize,
}

impl List {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            servers: RwLock::new(counted(count)),
            next: AtomicUsize::new(0),
        }
    }

    /// Passes the server whose turn it is to `look`, inside the lock.
    pub(crate) fn next<T>(&self, look: impl FnOnce(&Arc<Counted>) -> T) -> T {
        let servers = self.servers.read().expect("nobody panics");
        let at = self.next.fetch_add(1, Ordering::Relaxed) % servers.len();
        look(&servers[at])
    }
}

/// The smooth weighted round robin of nginx, behind a mutex. The set is fixed.
pub(crate) struct Smooth {
    servers: Vec<Arc<Counted>>,
    /// Each server's weight and credit.
    credits: Mutex<Vec<(i64, i64)>>,
    sum: i64,
}

impl Smooth {
    pub(crate) fn new(count: u32) -> Self {
        let credits: Vec<(i64, i64)> = (0..count).map(|key| (i64::from(key % 10 + 1), 0)).collect();
        Self {
            servers: counted(count),
            sum: credits.iter().map(|(weight, _)| weight).sum(),
            credits: Mutex::new(credits),
        }
    }

    /// Adds every server's weight to its credit, takes the server with the highest credit, and subtracts the sum of all
    /// weights from that.
    pub(crate) fn next(&self) -> &Arc<Counted> {
        let mut credits = self.credits.lock().expect("nobody panics");
        let mut best = 0;
        for at in 0..credits.len() {
            let weight = credits[at].0;
            credits[at].1 += weight;
            if credits[at].1 > credits[best].1 {
                best = at;
            }
        }
        credits[best].1 -= self.sum;
        &self.servers[best]
    }
}

/// A whole request with each of the two.
pub(crate) fn requests(count: u32, threads: usize) -> [Arm; 2] {
    let name = |what: &str| format!("by hand: {what}, N = {count}, {threads} threads");
    let (list, smooth) = (Arc::new(List::new(count)), Arc::new(Smooth::new(count)));
    [
        Arm::new(name("RwLock and counter"), threads, move |_| {
            let list = list.clone();
            move || request(&list.next(Arc::clone))
        }),
        Arm::new(name("smooth, mutex"), threads, move |_| {
            let smooth = smooth.clone();
            move || request(&Arc::clone(smooth.next()))
        }),
    ]
}
