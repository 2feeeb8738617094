//! Asking servers how they fare, in the manner of Prequal (Wydrowski et al., NSDI 2024): hot and cold.

use std::collections::VecDeque;

use super::{Model, Sight};

/// Answers kept.
const POOL: usize = 16;
/// Servers asked with each request.
const PROBES: usize = 3;
/// How old an answer may get.
const OLDEST: u64 = 1_000_000_000;
/// A server is hot above this quantile of the requests in flight seen lately.
const HOT: f64 = 0.84;
/// How many answers the quantile is taken over.
const SEEN: usize = 100;
/// How much faster answers come in than they are taken out, beside reuse.
const SURPLUS: f64 = 1.0;

#[derive(Clone, Copy)]
struct Answer {
    machine: usize,
    in_flight: usize,
    latency: u64,
    at: u64,
    uses: f64,
}

/// Of the pool's cold servers the one with the lowest latency, or else the one with the fewest requests in
/// flight. No protection against servers that fail fast.
pub(in crate::sim) struct Prequal {
    pool: Vec<Answer>,
    seen: VecDeque<usize>,
    removes_worst: bool,
}

impl Prequal {
    fn hot_from(&self) -> usize {
        let mut seen: Vec<usize> = self.seen.iter().copied().collect();
        seen.sort_unstable();
        let at = (seen.len() as f64 * HOT) as usize;
        seen.get(at).copied().unwrap_or(usize::MAX)
    }

    /// The best by hot and cold, or the worst.
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

    fn pick(&mut self, sight: &mut Sight<'_>) -> usize {
        let members = sight.members;
        let fresh = |answer: &Answer| {
            sight.now - answer.at <= OLDEST && members.contains(&(answer.machine as u32))
        };
        self.pool.retain(fresh);
        if self.pool.len() < 2 {
            return sight.any();
        }
        let hot = self.hot_from();
        let Some(at) = self.find(hot, true) else {
            return sight.any();
        };
        let answer = &mut self.pool[at];
        let machine = answer.machine;
        // One more is on its way there.
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

    fn questions(&mut self, sight: &mut Sight<'_>, ask: &mut dyn FnMut(usize)) {
        (0..PROBES).for_each(|_| ask(sight.any()));
    }

    fn answered(&mut self, machine: usize, (in_flight, latency): (usize, u64), at: u64) {
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
        // Reuse max(1, (1 + surplus) / ((1 - pool / servers) · probes - removals)), about 1 here.
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
