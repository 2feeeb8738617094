//! Least request of two with outlier ejection by Envoy's defaults.

use super::{Model, ModelView};
use crate::outcome::Outcome;
use crate::sim::balancing::Ending;

const SECOND: u64 = 1_000_000_000;
/// Envoy's `interval`.
const INTERVAL: u64 = 10 * SECOND;
/// Envoy's `base_ejection_time`.
const BASE: u64 = 30 * SECOND;
/// Envoy's `max_ejection_time`.
const LONGEST: u64 = 300 * SECOND;
/// Envoy's `consecutive_5xx`.
const IN_A_ROW: u32 = 5;
/// Envoy's `max_ejection_percent`.
const PERCENT: usize = 10;

#[derive(Clone, Copy, Default)]
struct Host {
    in_a_row: u32,
    times: u64,
    /// When the host was ejected; 0 while it is not ejected.
    ejected_at: u64,
}

/// Picks the server with fewer requests in flight of two.
///
/// Five failures in a row eject a server, for 30 s times its ejection count, at most 300 s. The first pick after
/// each interval of 10 s lets servers return and lowers the ejection count of those that are in. At most a tenth of the
/// servers is ejected, but one always may be.
pub(in crate::sim) struct Envoy {
    hosts: Vec<Host>,
    /// At least as many as are ejected: a server that was replaced meanwhile is counted until the next sweep.
    out: usize,
    next_sweep: u64,
}

impl Envoy {
    fn sweep(&mut self, view: &ModelView<'_>) {
        while self.next_sweep <= view.now {
            self.next_sweep += INTERVAL;
        }
        self.out = 0;
        for &machine in view.members {
            let host = &mut self.hosts[machine as usize];
            if host.ejected_at == 0 {
                host.times = host.times.saturating_sub(1);
            } else if view.now - host.ejected_at >= (BASE * host.times).min(LONGEST) {
                (host.ejected_at, host.in_a_row) = (0, 0);
            } else {
                self.out += 1;
            }
        }
    }
}

impl Model for Envoy {
    fn new(machines: usize) -> Self {
        Self {
            hosts: vec![Host::default(); machines],
            out: 0,
            next_sweep: INTERVAL,
        }
    }

    fn pick(&mut self, view: &mut ModelView<'_>) -> usize {
        if view.now >= self.next_sweep {
            self.sweep(view);
        }
        // Panic mode: if less than half of the servers are in, ejections are ignored.
        let out = match self.out {
            0 => 0,
            _ => self.ejected(view.members),
        };
        let panics = (view.members.len() - out) * 2 < view.members.len();
        for _ in 0..64 {
            let (first, second) = view.pair();
            let (first_in, second_in) = (
                panics || self.hosts[first].ejected_at == 0,
                panics || self.hosts[second].ejected_at == 0,
            );
            match (first_in, second_in) {
                (true, true) if view.in_flight[second] < view.in_flight[first] => return second,
                (true, _) => return first,
                (false, true) => return second,
                (false, false) => {}
            }
        }
        view.any()
    }

    fn ended(&mut self, ending: &Ending, view: &mut ModelView<'_>) -> bool {
        let most = (view.members.len() * PERCENT / 100).max(1);
        let has_room = self.out < most || self.ejected(view.members) < most;
        let host = &mut self.hosts[ending.machine];
        if ending.outcome == Outcome::Success {
            host.in_a_row = 0;
            return false;
        }
        host.in_a_row += 1;
        let out = host.in_a_row >= IN_A_ROW && host.ejected_at == 0 && has_room;
        if out {
            host.times += 1;
            host.ejected_at = view.now;
            self.out += 1;
        }
        out
    }

    fn ejected(&self, members: &[u32]) -> usize {
        let out = |machine: &&u32| self.hosts[**machine as usize].ejected_at > 0;
        members.iter().filter(out).count()
    }
}
