//! Load probes and the hot-cold rule of Prequal (Wydrowski et al., NSDI 2024).

use std::collections::VecDeque;

use super::{Model, ModelView};

/// The number of answers in the pool.
const POOL: usize = 16;
/// The number of servers probed with each request.
const PROBES: usize = 3;
/// The maximum age of an answer: 1 s, in nanoseconds.
const OLDEST: u64 = 1_000_000_000;
/// A server is hot above this quantile of the requests in flight in recent answers.
const HOT: f64 = 0.84;
/// The number of recent answers for the quantile.
const SEEN: usize = 100;
/// How much faster answers are added to the pool than removed, in the formula for reuse.
const SURPLUS: f64 = 1.0;

#[derive(Clone, Copy)]
struct Answer {
    machine: usize,
    in_flight: usize,
    latency: u64,
    at: u64,
    uses: f64,
}

/// Picks the cold server with the lowest latency in the pool. If all are hot, picks the one with the fewest requests in
/// flight.
///
/// The model has no protection against servers that fail fast.
pub(in crate::sim) struct Prequal {
    pool: Vec<Answer>,
    /// The requests in flight in recent answers.
    seen: VecDeque<usize>,
    /// Whether the last pick removed the worst answer; otherwise it removed the oldest. The two alternate.
    removes_worst: bool,
}

impl Prequal {
    /// Returns the number of requests in flight above which a server is hot.
    fn hot_from(&self) -> usize {
        let mut seen: Vec<usize> = self.seen.iter().copied().collect();
        seen.sort_unstable();
        let at = (seen.len() as f64 * HOT) as usize;
        seen.get(at).copied().unwrap_or(usize::MAX)
    }

    /// Returns the index in the pool of the best answer by the hot-cold rule, or of the worst.
    fn find(&self, hot: usize, best: bool) -> Option<usize> {
        let rank = |answer: &Answer| {
            let is_hot = answer.in_flight > hot;
            let by = if is_hot {
                answer.in_flight as u64
            } else {
                answer.latency
            };
            (is_hot, by)
        };
        let pool = self.pool.iter().enumerate();
        let found = if best {
            pool.min_by_key(|(_, answer)| rank(answer))
        } else {
            pool.max_by_key(|(_, answer)| rank(answer))
        };
        found.map(|(at, _)| at)
    }
}

impl Model for Prequal {
    fn new(_: usize) -> Self {
        Self {
            pool: Vec::new(),
            seen: VecDeque::new(),
            removes_worst: false,
        }
    }

    fn pick(&mut self, view: &mut ModelView<'_>) -> usize {
        let members = view.members;
        let fresh = |answer: &Answer| {
            view.now - answer.at <= OLDEST && members.contains(&(answer.machine as u32))
        };
        self.pool.retain(fresh);
        if self.pool.len() < 2 {
            return view.any();
        }
        let hot = self.hot_from();
        let Some(at) = self.find(hot, true) else {
            return view.any();
        };
        let answer = &mut self.pool[at];
        let machine = answer.machine;
        // Count this request, which is now in flight to the server.
        answer.in_flight += 1;
        answer.uses -= 1.0;
        if answer.uses < 1.0 {
            self.pool.swap_remove(at);
        }
        self.removes_worst = !self.removes_worst;
        let out = if self.removes_worst {
            self.find(hot, false)
        } else {
            let pool = self.pool.iter().enumerate();
            pool.min_by_key(|(_, answer)| answer.at).map(|(at, _)| at)
        };
        if let Some(at) = out {
            self.pool.swap_remove(at);
        }
        machine
    }

    fn load_probes(&mut self, view: &mut ModelView<'_>, ask: &mut dyn FnMut(usize)) {
        (0..PROBES).for_each(|_| ask(view.any()));
    }

    fn take_load_report(&mut self, machine: usize, (in_flight, latency): (usize, u64), at: u64) {
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(in_flight);
        if self.pool.len() == POOL {
            let oldest = self
                .pool
                .iter()
                .enumerate()
                .min_by_key(|(_, answer)| answer.at);
            if let Some((oldest, _)) = oldest {
                self.pool.swap_remove(oldest);
            }
        }
        // Prequal's reuse is max(1, (1 + surplus) / ((1 - pool / servers) · probes - removals)). The model leaves out
        // the term pool / servers and has one removal per pick, so the value is 1.
        let uses = ((1.0 + SURPLUS) / (PROBES as f64 - 1.0)).max(1.0);
        self.pool.push(Answer {
            machine,
            in_flight,
            latency,
            at,
            uses,
        });
    }
}
