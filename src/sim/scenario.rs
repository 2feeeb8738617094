//! The description of servers, clients, requests and faults: [`Scenario`].

use std::ops::Range;
use std::time::Duration;

use super::demand::Demand;
use super::fault::{Fault, Replacement};
use crate::error::BuildError;
use crate::settings::within;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The setting of a simulation: servers, clients, requests and faults.
///
/// The defaults are:
///
/// - 20 servers with 4 slots each;
/// - requests of 10 ms of work, exponentially distributed;
/// - 10 clients that together load the servers to 70 % of their capacity;
/// - a network delay of 0.25 ms each way and a timeout of 1 s;
/// - a run of 60 s, of which the first 5 s are not counted;
/// - a window from 15 s to 45 s, in which faults are active unless they set another time.
///
/// They are the defaults of the published comparisons that the built-in scenarios follow.
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
    /// A share of the capacity of all servers.
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

    /// The scenario's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A one-line description of the scenario.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Sets the number of servers, from 1 to 10 000. Defaults to 20.
    ///
    /// All servers then have speed 1 and weight 1, so call this before [`speed`](Self::speed) and
    /// [`weight`](Self::weight).
    #[must_use]
    pub fn servers(mut self, count: usize) -> Self {
        self.speeds = vec![1.0; count];
        self.weights = vec![1; count];
        self
    }

    /// Sets the speed of the servers at these positions, from a millionth to a million; positions out of range are
    /// ignored. Defaults to 1.
    ///
    /// Clients do not know the speed. To tell them, set a [`weight`](Self::weight).
    #[must_use]
    pub fn speed(mut self, servers: Range<usize>, times: f64) -> Self {
        for server in self.speeds.iter_mut().take(servers.end).skip(servers.start) {
            *server = times;
        }
        self
    }

    /// Sets the weight by which clients know the servers at these positions; positions out of range are ignored.
    /// Defaults to 1.
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

    /// Sets how many requests a server works on at once; further requests queue. Defaults to 4.
    #[must_use]
    pub const fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Lets a server work on any number of requests at once.
    ///
    /// Set the rate with [`per_second`](Self::per_second) then: a [`load`](Self::load) is undefined and refused.
    #[must_use]
    pub const fn unlimited_slots(mut self) -> Self {
        self.slots = None;
        self
    }

    /// Sets how many requests may queue at a server. It answers further ones at once with
    /// [`Overloaded`](crate::Outcome::Overloaded). Unlimited by default.
    #[must_use]
    pub const fn queue(mut self, longest: usize) -> Self {
        self.queue = Some(longest);
        self
    }

    /// Sets the number of clients, from 1 to 100 000. Each has its own fleet over all servers. Defaults to 10.
    #[must_use]
    pub const fn clients(mut self, count: usize) -> Self {
        self.clients = count;
        self
    }

    /// Sets the work that all clients together send, as a share of the capacity of the servers at their speed without
    /// faults. Defaults to 0.7.
    #[must_use]
    pub const fn load(mut self, share: f64) -> Self {
        self.rate = Rate::Load(share);
        self
    }

    /// Sets the number of requests per second that all clients together send, in place of a [`load`](Self::load).
    #[must_use]
    pub const fn per_second(mut self, requests: f64) -> Self {
        self.rate = Rate::PerSecond(requests);
        self
    }

    /// Multiplies the request rate by `times` from `start` to `end`. A scenario has one surge: a second call replaces
    /// the first.
    #[must_use]
    pub const fn surge(mut self, start: Duration, end: Duration, times: f64) -> Self {
        self.surge = Some((start, end, times));
        self
    }

    /// Sets the distribution of a request's work. Defaults to exponential with a mean of 10 ms.
    ///
    /// The work belongs to the request: a retry on another server has the same work.
    #[must_use]
    pub const fn demand(mut self, demand: Demand) -> Self {
        self.demand = demand;
        self
    }

    /// Sets the network delay in each direction, less than half of the timeout. Defaults to 0.25 ms.
    #[must_use]
    pub const fn one_way(mut self, time: Duration) -> Self {
        self.one_way = time;
        self
    }

    /// Sets how long a client waits for the answer to each attempt, from 1 ms to 1 h. Defaults to 1 s.
    ///
    /// In the report's latencies an error counts as this long, or as long as the request took if that is longer, as it
    /// can be with retries.
    #[must_use]
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Sets whether a server stops working on a request that the client has given up. Defaults to `false`.
    #[must_use]
    pub const fn cancels(mut self, cancels: bool) -> Self {
        self.cancels = cancels;
        self
    }

    /// Sets how often a failed request is retried, from 0 to 3. A retry goes to another server, without a wait.
    /// Defaults to 0.
    #[must_use]
    pub const fn retries(mut self, most: u32) -> Self {
        self.retries = most;
        self
    }

    /// Sets a client's retry budget as a share of its requests, from 0 to 10. Defaults to 0.2, Finagle's.
    ///
    /// A client starts with a budget of 10 retries and saves up to 100. With a share of 0 it has none.
    #[must_use]
    pub const fn retry_budget(mut self, share: f64) -> Self {
        self.retry_budget = share;
        self
    }

    /// Sets how much time is simulated, from 1 ms to 1 h. Defaults to 60 s.
    ///
    /// The [window](Self::window) must lie within it. Requests in flight at the end are simulated until they end. To
    /// shorten everything in proportion, use [`cut_to`](Self::cut_to).
    #[must_use]
    pub const fn length(mut self, time: Duration) -> Self {
        self.length = time;
        self
    }

    /// Sets how much of the beginning is not counted. The [window](Self::window) must not begin before its end.
    /// Defaults to 5 s.
    #[must_use]
    pub const fn warm_up(mut self, time: Duration) -> Self {
        self.warm_up = time;
        self
    }

    /// Sets the window: the time that [`Report::window`](super::Report::window) covers, in which faults are active by
    /// default. Defaults to 15 s to 45 s.
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

    /// Replaces the first `servers` servers by new ones at the time `at`.
    ///
    /// A new server has a new key. It starts at the share `from` of its speed, above 0 and at most 1, and reaches its
    /// full speed after `over`. An old server finishes the requests that it has, with the faults that it has then: one
    /// that stalls when it is replaced never answers them.
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

    /// Replaces `servers` servers at a time, in rotation, each time that `every` has passed. See
    /// [`replace`](Self::replace).
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

    /// Returns the same scenario compressed to a run of `length`.
    ///
    /// Warm-up, window, surge, faults with a stated start and end, replacements and the warming up of replaced servers
    /// scale in proportion. Rates, demands, timeouts, and the periods of random and flapping faults stay as they are.
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
        within(
            1..=10_000,
            "from 1 to 10 000",
            [("Scenario::servers", servers)],
        )?;
        let clients = ("Scenario::clients", self.clients);
        within(1..=100_000, "from 1 to 100 000", [clients])?;
        let slots = self.slots.map(|slots| ("Scenario::slots", slots));
        within(1..=usize::MAX, "at least 1", slots)?;
        let speeds = self.speeds.iter().map(|&speed| ("Scenario::speed", speed));
        within(1e-6..=1e6, "from a millionth to a million", speeds)?;
        let positive = |value: f64| value > 0.0 && value.is_finite();
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
            ("Scenario::timeout", self.timeout),
            ("Scenario::length", self.length),
        ];
        within(MILLI..=3600 * SECOND, "from 1 ms to 1 h", spans)?;
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
        within(0..=3, "from 0 to 3", [("Scenario::retries", self.retries)])?;
        let budget = ("Scenario::retry_budget", self.retry_budget);
        within(0.0..=10.0, "from 0 to 10", [budget])?;
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
