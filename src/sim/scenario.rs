//! Servers, requests and faults as data: [`Scenario`].

use std::ops::Range;
use std::time::Duration;

use super::demand::Demand;
use super::fault::{Fault, Replacement};
use crate::error::BuildError;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What is simulated: servers, clients, requests, and what goes wrong.
///
/// The defaults are 20 servers of 4 slots, requests of 10 ms exponential, 10 clients that together
/// bring 70 % of what the servers can do, 0.25 ms of network each way, a timeout of 1 s, 60 s of
/// which the first 5 s do not count, and a window from 15 s to 45 s, in which faults come unless they say
/// otherwise. They are those of the published comparisons that the built-in scenarios follow.
///
/// ```
/// use evenkeel::sim::{Demand, Fault, Scenario};
/// use std::time::Duration;
///
/// let ours = Scenario::new("ours", "two of twelve workers hang")
///     .servers(12)
///     .slots(8)
///     .clients(6)
///     .load(0.6)
///     .demand(Demand::log_normal(Duration::from_millis(20), 2.0))
///     .fault(Fault::hangs().on(0..2));
/// assert_eq!(ours.name(), "ours");
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) speeds: Vec<f64>,
    pub(super) weights: Vec<u32>,
    pub(super) slots: Option<usize>,
    pub(super) queue: Option<usize>,
    pub(super) clients: usize,
    pub(super) rate: Rate,
    pub(super) surge: Option<(Duration, Duration, f64)>,
    pub(super) demand: Demand,
    pub(super) one_way: Duration,
    pub(super) timeout: Duration,
    pub(super) cancels: bool,
    pub(super) retries: u32,
    pub(super) retry_budget: f64,
    pub(super) length: Duration,
    pub(super) warm_up: Duration,
    pub(super) window: (Duration, Duration),
    pub(super) faults: Vec<Fault>,
    pub(super) replacements: Vec<Replacement>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Rate {
    /// As a share of what all servers can do.
    Load(f64),
    PerSecond(f64),
}

impl Scenario {
    /// A scenario with the defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            speeds: vec![1.0; 20],
            weights: vec![1; 20],
            slots: Some(4),
            queue: None,
            clients: 10,
            rate: Rate::Load(0.7),
            surge: None,
            demand: Demand::exponential(10 * MILLI),
            one_way: MILLI / 4,
            timeout: SECOND,
            cancels: false,
            retries: 0,
            retry_budget: 0.2,
            length: 60 * SECOND,
            warm_up: 5 * SECOND,
            window: (15 * SECOND, 45 * SECOND),
            faults: Vec::new(),
            replacements: Vec::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is about, in a line.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// How many servers there are, all of speed 1 and weight 1. Defaults to 20.
    #[must_use]
    pub fn servers(mut self, count: usize) -> Self {
        self.speeds = vec![1.0; count];
        self.weights = vec![1; count];
        self
    }

    /// The speed of these servers, by position; positions out of range are ignored. Nobody is told: see
    /// [`weight`](Self::weight).
    #[must_use]
    pub fn speed(mut self, servers: Range<usize>, times: f64) -> Self {
        for server in self.speeds.iter_mut().take(servers.end).skip(servers.start) {
            *server = times;
        }
        self
    }

    /// The weight that clients know of these servers, by position; positions out of range are ignored.
    #[must_use]
    pub fn weight(mut self, servers: Range<usize>, weight: u32) -> Self {
        for server in self
            .weights
            .iter_mut()
            .take(servers.end)
            .skip(servers.start)
        {
            *server = weight;
        }
        self
    }

    /// How many requests a server works on at once; the others queue. Defaults to 4.
    #[must_use]
    pub const fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// A server works on any number of requests at once. Say the [rate](Self::per_second) then.
    #[must_use]
    pub const fn unlimited_slots(mut self) -> Self {
        self.slots = None;
        self
    }

    /// How many requests may queue at a server; it answers more than that at once with
    /// [`Overloaded`](crate::Outcome::Overloaded). Unlimited by default.
    #[must_use]
    pub const fn queue(mut self, longest: usize) -> Self {
        self.queue = Some(longest);
        self
    }

    /// How many clients there are, each with a fleet of its own over all servers. Defaults to 10.
    #[must_use]
    pub const fn clients(mut self, count: usize) -> Self {
        self.clients = count;
        self
    }

    /// How much work all clients bring together, as a share of what the servers can do at their speed
    /// when all is well. Defaults to 0.7.
    #[must_use]
    pub const fn load(mut self, share: f64) -> Self {
        self.rate = Rate::Load(share);
        self
    }

    /// How many requests all clients bring together.
    #[must_use]
    pub const fn per_second(mut self, requests: f64) -> Self {
        self.rate = Rate::PerSecond(requests);
        self
    }

    /// Multiplies the rate from here to there. There is one surge: the last one asked for.
    #[must_use]
    pub const fn surge(mut self, start: Duration, end: Duration, times: f64) -> Self {
        self.surge = Some((start, end, times));
        self
    }

    /// How much work a request is. Defaults to 10 ms, exponential. It belongs to the request: a retry
    /// elsewhere has the same.
    #[must_use]
    pub const fn demand(mut self, demand: Demand) -> Self {
        self.demand = demand;
        self
    }

    /// How long the network takes each way. Defaults to 0.25 ms.
    #[must_use]
    pub const fn one_way(mut self, time: Duration) -> Self {
        self.one_way = time;
        self
    }

    /// How long a client waits for an answer, for each attempt. Defaults to 1 s. An error counts as this long,
    /// or as long as it took if that is longer, as with retries.
    #[must_use]
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Whether a server stops working on a request that the client has given up. Defaults to no.
    #[must_use]
    pub const fn cancels(mut self, cancels: bool) -> Self {
        self.cancels = cancels;
        self
    }

    /// How often a request that failed is sent again, elsewhere and at once. Defaults to 0.
    #[must_use]
    pub const fn retries(mut self, most: u32) -> Self {
        self.retries = most;
        self
    }

    /// How many retries a client may send, as a share of its requests. It has 10 to begin with and saves up
    /// to 100; with a share of 0 it has none. Defaults to 0.2, Finagle's.
    #[must_use]
    pub const fn retry_budget(mut self, share: f64) -> Self {
        self.retry_budget = share;
        self
    }

    /// How much time is simulated; the [window](Self::window) has to lie within it. What is under way at the end
    /// is followed until it has ended. To shorten all in proportion, use [`cut_to`](Self::cut_to). Defaults
    /// to 60 s.
    #[must_use]
    pub const fn length(mut self, time: Duration) -> Self {
        self.length = time;
        self
    }

    /// How much of the beginning does not count. The window begins after it. Defaults to 5 s.
    #[must_use]
    pub const fn warm_up(mut self, time: Duration) -> Self {
        self.warm_up = time;
        self
    }

    /// The time that is looked at by itself, and in which faults come. Defaults to 15 s to 45 s.
    #[must_use]
    pub const fn window(mut self, start: Duration, end: Duration) -> Self {
        self.window = (start, end);
        self
    }

    /// Adds a fault.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// The first so many servers are replaced by new ones, of other keys, which start at a share of
    /// their speed and get to all of it `over` some time. The old ones finish what they have.
    #[must_use]
    pub fn replace(mut self, at: Duration, servers: usize, from: f64, over: Duration) -> Self {
        self.replacements.push(Replacement {
            at,
            every: None,
            servers,
            from,
            over,
        });
        self
    }

    /// So many servers are replaced again and again, in turn. See [`replace`](Self::replace).
    #[must_use]
    pub fn churn(mut self, every: Duration, servers: usize, from: f64, over: Duration) -> Self {
        self.replacements.push(Replacement {
            at: every,
            every: Some(every),
            servers,
            from,
            over,
        });
        self
    }

    /// The same in less time: all that has a date happens sooner in proportion, and what is replaced
    /// warms up faster. Rates, demands, timeouts, random and flapping faults stay as they are.
    #[must_use]
    pub fn cut_to(mut self, length: Duration) -> Self {
        let times = length.as_secs_f64() / self.length.as_secs_f64().max(1e-9);
        let cut = |time: &mut Duration| *time = time.mul_f64(times);
        self.length = length;
        cut(&mut self.warm_up);
        cut(&mut self.window.0);
        cut(&mut self.window.1);
        if let Some((start, end, _)) = &mut self.surge {
            cut(start);
            cut(end);
        }
        for fault in &mut self.faults {
            if let super::fault::When::Between(start, end) = &mut fault.when {
                cut(start);
                cut(end);
            }
        }
        for replacement in &mut self.replacements {
            cut(&mut replacement.at);
            replacement.every.iter_mut().for_each(cut);
            cut(&mut replacement.over);
        }
        self
    }

    /// Requests per nanosecond.
    pub(super) fn rate_per_nano(&self) -> f64 {
        match self.rate {
            Rate::PerSecond(requests) => requests / 1e9,
            Rate::Load(share) => {
                let slots = self.slots.unwrap_or(1) as f64;
                share * slots * self.speeds.iter().sum::<f64>() / self.demand.mean_nanos()
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let refuse = |field, value: &dyn std::fmt::Debug, expected| {
            Err(BuildError::setting(field, value, expected))
        };
        let servers = self.speeds.len();
        if !(1..=10_000).contains(&servers) {
            return refuse("Scenario::servers", &servers, "from 1 to 10 000");
        }
        if !(1..=100_000).contains(&self.clients) {
            return refuse("Scenario::clients", &self.clients, "from 1 to 100 000");
        }
        if self.slots == Some(0) {
            return refuse("Scenario::slots", &0, "at least 1");
        }
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let slow_or_fast = |speed: &&f64| !(1e-6..=1e6).contains(*speed);
        if let Some(speed) = self.speeds.iter().find(slow_or_fast) {
            return refuse("Scenario::speed", speed, "from a millionth to a million");
        }
        match (self.rate, self.slots) {
            (Rate::Load(share), Some(_)) if !positive(share) => {
                return refuse("Scenario::load", &share, "above 0");
            }
            (Rate::Load(share), None) => {
                let expected = "left out where slots are unlimited: say Scenario::per_second";
                return refuse("Scenario::load", &share, expected);
            }
            (Rate::PerSecond(rate), _) if !positive(rate) => {
                return refuse("Scenario::per_second", &rate, "above 0");
            }
            _ => {}
        }
        if let Some((start, end, times)) = self.surge {
            if !positive(times) {
                return refuse("Scenario::surge", &times, "above 0");
            }
            if start >= end {
                let expected = "a beginning before the end";
                return refuse("Scenario::surge", &(start, end), expected);
            }
        }
        let spans = [
            ("Scenario::timeout", self.timeout, MILLI),
            ("Scenario::length", self.length, MILLI),
        ];
        for (field, value, least) in spans {
            if !(least..=3600 * SECOND).contains(&value) {
                return refuse(field, &value, "from 1 ms to 1 h");
            }
        }
        if self.one_way >= self.timeout / 2 {
            let expected = "less than half of the timeout";
            return refuse("Scenario::one_way", &self.one_way, expected);
        }
        if self.warm_up >= self.length {
            return refuse("Scenario::warm_up", &self.warm_up, "less than the length");
        }
        let (start, end) = self.window;
        if start >= end || end > self.length || start < self.warm_up {
            let expected = "a span between the warm-up and the length";
            return refuse("Scenario::window", &self.window, expected);
        }
        if self.retries > 3 {
            return refuse("Scenario::retries", &self.retries, "from 0 to 3");
        }
        if !(0.0..=10.0).contains(&self.retry_budget) {
            return refuse("Scenario::retry_budget", &self.retry_budget, "from 0 to 10");
        }
        for replacement in &self.replacements {
            if !(replacement.from > 0.0 && replacement.from <= 1.0) {
                let expected = "a share of the speed above 0";
                return refuse("Scenario::replace", &replacement.from, expected);
            }
            if replacement.every.is_some_and(|every| every < MILLI) {
                return refuse("Scenario::churn", &replacement.every, "at least 1 ms");
            }
        }
        self.demand.check("Scenario::demand")?;
        self.faults
            .iter()
            .try_for_each(|fault| fault.check(servers))
    }
}
