//! The rule of Kratos: of two random servers, the one with the higher success rate relative to its latency and load. A
//! server that has not been picked for long is picked anyway.

use std::collections::VecDeque;

use super::{Model, ModelView};
use crate::outcome::Outcome;
use crate::sim::balancing::Ending;

const MILLI: f64 = 1e6;
/// The time constant of both moving averages.
const TAU: f64 = 600.0 * MILLI;
/// A server that has not been picked for this long, in nanoseconds, is picked when it is drawn.
const FORCED: u64 = 3_000_000_000;
/// The constant that is added to each latency.
const FLOOR: f64 = 5.0 * MILLI;
/// The load of a server without history, per request. It takes the place of sqrt(latency + 5 ms).
const UNSEEN: f64 = MILLI / 10.0;

#[derive(Clone)]
struct Host {
    latency: f64,
    success: f64,
    at: u64,
    picked_at: u64,
    /// When the requests in flight were sent.
    sent: VecDeque<u64>,
}

/// Picks by weight = success / (sqrt(latency + 5 ms) · (in flight + 1)).
///
/// If more than half of the requests in flight are older than the latency, the mean age of these older ones takes its
/// place.
pub(in crate::sim) struct Kratos {
    hosts: Vec<Host>,
}

impl Kratos {
    fn weight(&self, machine: usize, now: u64) -> f64 {
        let host = &self.hosts[machine];
        let in_flight = host.sent.len() as f64 + 1.0;
        if host.latency == 0.0 {
            return host.success / (UNSEEN * in_flight);
        }
        let ages = || host.sent.iter().map(|&sent| (now - sent) as f64);
        let older = ages().filter(|&age| age > host.latency);
        let (count, sum) = older.fold((0, 0.0), |(count, sum), age| (count + 1, sum + age));
        let latency = if count > host.sent.len() / 2 {
            sum / f64::from(count as u32)
        } else {
            host.latency
        };
        host.success / ((latency + FLOOR).sqrt() * in_flight)
    }
}

impl Model for Kratos {
    fn new(machines: usize) -> Self {
        let host = Host {
            latency: 0.0,
            success: 1.0,
            at: 0,
            picked_at: 0,
            sent: VecDeque::new(),
        };
        Self {
            hosts: vec![host; machines],
        }
    }

    fn pick(&mut self, view: &mut ModelView<'_>) -> usize {
        let (first, second) = view.pair();
        let second_better = self.weight(second, view.now) > self.weight(first, view.now);
        let (better, worse) = if second_better {
            (second, first)
        } else {
            (first, second)
        };
        let left_alone = view.now - self.hosts[worse].picked_at > FORCED;
        if left_alone { worse } else { better }
    }

    fn sent(&mut self, machine: usize, now: u64) {
        let host = &mut self.hosts[machine];
        host.picked_at = now;
        host.sent.push_back(now);
    }

    fn ended(&mut self, ending: &Ending, view: &mut ModelView<'_>) -> bool {
        let host = &mut self.hosts[ending.machine];
        if let Some(at) = host.sent.iter().position(|&sent| sent == ending.sent) {
            host.sent.remove(at);
        }
        let left = (-((view.now - host.at) as f64) / TAU).exp();
        let sample = (view.now - ending.sent) as f64;
        host.latency = if host.latency == 0.0 {
            sample
        } else {
            host.latency * left + sample * (1.0 - left)
        };
        let good = f64::from(u8::from(ending.outcome == Outcome::Success));
        host.success = host.success * left + good * (1.0 - left);
        host.at = view.now;
        false
    }

    fn joined(&mut self, machine: usize, now: u64) {
        (self.hosts[machine].picked_at, self.hosts[machine].at) = (now, now);
    }
}
