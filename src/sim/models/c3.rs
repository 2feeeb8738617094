//! The ranking of C3 (Suresh et al., NSDI 2015), without its rate control.

use super::{Model, ModelView};
use crate::sim::balancing::Ending;

/// The weight of a new sample in each moving average.
const NEW: f64 = 0.1;

#[derive(Clone, Copy, Default)]
struct Host {
    response: f64,
    service: f64,
    queue: f64,
    known: bool,
}

/// Picks the server with the lowest R − s + q³·s of all.
///
/// R is the response time, s the service time that the server reports, and q the queue estimate
/// 1 + in flight · clients + the queue that the server reports.
pub(in crate::sim) struct C3 {
    hosts: Vec<Host>,
}

impl Model for C3 {
    fn new(machines: usize) -> Self {
        Self {
            hosts: vec![Host::default(); machines],
        }
    }

    fn pick(&mut self, view: &mut ModelView<'_>) -> usize {
        let (hosts, in_flight) = (&self.hosts, view.in_flight);
        let clients = view.clients as f64;
        view.lowest(|machine| {
            let host = hosts[machine];
            let queue = 1.0 + f64::from(in_flight[machine]) * clients + host.queue;
            host.response - host.service + queue.powi(3) * host.service
        })
    }

    fn ended(&mut self, ending: &Ending, view: &mut ModelView<'_>) -> bool {
        let host = &mut self.hosts[ending.machine];
        let new = if host.known { NEW } else { 1.0 };
        let average = |old: &mut f64, sample: f64| *old += (sample - *old) * new;
        average(&mut host.response, (view.now - ending.sent) as f64);
        // Timeouts and refusals carry no feedback from the server.
        if ending.service > 0 {
            average(&mut host.service, ending.service as f64);
            average(&mut host.queue, f64::from(ending.present));
        }
        host.known = true;
        false
    }
}
