//! Peak EWMA with two choices, as in Finagle, Linkerd and tower, alone and with a circuit breaker.

use super::{Model, ModelView};
use crate::outcome::Outcome;
use crate::sim::balancing::Ending;

const SECOND: f64 = 1e9;
/// The time constant of the moving average: 10 s, as in Finagle and Linkerd.
const TAU: f64 = 10.0 * SECOND;
/// The cost of a server without history while it has a request in flight.
const UNSEEN: f64 = 1e15;

#[derive(Clone, Copy, Default)]
struct Host {
    latency: f64,
    at: u64,
}

/// Picks the server with the lower latency · (in flight + 1) of two.
///
/// A higher latency takes effect at once. Lower latencies pull the average down with the time constant, and time
/// without samples lets it decay towards 0. A failure counts as an answer that took `FAILURE` milliseconds, or as long
/// as it took if that is longer. `FAILURE` is 0 in Finagle and tower, and 5 000 in Linkerd's load biaser.
pub(in crate::sim) struct PeakEwma<const FAILURE: u64> {
    hosts: Vec<Host>,
}

impl<const FAILURE: u64> PeakEwma<FAILURE> {
    fn cost(&self, machine: usize, view: &ModelView<'_>) -> f64 {
        let host = self.hosts[machine];
        let in_flight = f64::from(view.in_flight[machine]);
        let latency = host.latency * (-((view.now - host.at) as f64) / TAU).exp();
        if host.latency == 0.0 && in_flight > 0.0 {
            return UNSEEN + in_flight;
        }
        latency * (in_flight + 1.0)
    }

    fn better(&self, view: &mut ModelView<'_>) -> usize {
        let (first, second) = view.pair();
        if self.cost(second, view) < self.cost(first, view) {
            second
        } else {
            first
        }
    }
}

impl<const FAILURE: u64> Model for PeakEwma<FAILURE> {
    fn new(machines: usize) -> Self {
        Self {
            hosts: vec![Host::default(); machines],
        }
    }

    fn pick(&mut self, view: &mut ModelView<'_>) -> usize {
        self.better(view)
    }

    fn ended(&mut self, ending: &Ending, view: &mut ModelView<'_>) -> bool {
        let host = &mut self.hosts[ending.machine];
        let took = view.now - ending.sent;
        let sample = if ending.outcome == Outcome::Success {
            took
        } else {
            took.max(FAILURE * 1_000_000)
        } as f64;
        let left = (-((view.now - host.at) as f64) / TAU).exp();
        host.latency = if sample > host.latency * left {
            sample
        } else {
            host.latency * left + sample * (1.0 - left)
        };
        host.at = view.now;
        false
    }
}

/// The circuit breaker of a server.
#[derive(Clone, Copy, Default)]
struct Circuit {
    in_a_row: u32,
    /// How often it has opened since it was last closed.
    times: u32,
    /// When a probe is due; 0 while the breaker is closed.
    open_until: u64,
    /// A probe is in flight.
    probing: bool,
}

/// Peak EWMA with a circuit breaker per server.
///
/// Five failures in a row open the breaker, for a time that doubles from 1 s to 60 s, plus up to half of it at random.
/// Then one request probes whether it closes.
pub(in crate::sim) struct Breaker<const FAILURE: u64> {
    ewma: PeakEwma<FAILURE>,
    circuits: Vec<Circuit>,
}

const IN_A_ROW: u32 = 5;

impl<const FAILURE: u64> Breaker<FAILURE> {
    fn lets_in(&self, machine: usize, now: u64) -> bool {
        let circuit = &self.circuits[machine];
        circuit.open_until == 0 || (circuit.open_until <= now && !circuit.probing)
    }

    fn open(circuit: &mut Circuit, view: &mut ModelView<'_>) {
        let length = (SECOND * f64::from(1 << circuit.times.min(6))).min(60.0 * SECOND);
        let jitter = 1.0 + 0.5 * view.random.share();
        circuit.times += 1;
        circuit.open_until = view.now + (length * jitter) as u64;
    }
}

impl<const FAILURE: u64> Model for Breaker<FAILURE> {
    fn new(machines: usize) -> Self {
        Self {
            ewma: PeakEwma::new(machines),
            circuits: vec![Circuit::default(); machines],
        }
    }

    fn pick(&mut self, view: &mut ModelView<'_>) -> usize {
        // A server with an open breaker is not ready, so it is not among the servers drawn.
        for _ in 0..32 {
            let (first, second) = view.pair();
            let (first_in, second_in) = (
                self.lets_in(first, view.now),
                self.lets_in(second, view.now),
            );
            let pick = match (first_in, second_in) {
                (true, true) if self.ewma.cost(second, view) < self.ewma.cost(first, view) => {
                    second
                }
                (true, _) => first,
                (false, true) => second,
                (false, false) => continue,
            };
            return pick;
        }
        view.any()
    }

    fn sent(&mut self, machine: usize, now: u64) {
        let circuit = &mut self.circuits[machine];
        if circuit.open_until > 0 && circuit.open_until <= now {
            circuit.probing = true;
        }
    }

    fn ended(&mut self, ending: &Ending, view: &mut ModelView<'_>) -> bool {
        self.ewma.ended(ending, view);
        let circuit = &mut self.circuits[ending.machine];
        let good = ending.outcome == Outcome::Success;
        if circuit.open_until > 0 {
            if circuit.probing && ending.sent >= circuit.open_until {
                circuit.probing = false;
                if good {
                    *circuit = Circuit::default();
                } else {
                    Self::open(circuit, view);
                }
            }
            return false;
        }
        circuit.in_a_row = if good { 0 } else { circuit.in_a_row + 1 };
        let out = circuit.in_a_row >= IN_A_ROW;
        if out {
            Self::open(circuit, view);
        }
        out
    }

    fn ejected(&self, members: &[u32]) -> usize {
        let out = |machine: &&u32| self.circuits[**machine as usize].open_until > 0;
        members.iter().filter(out).count()
    }
}
