//! Server faults: [`Fault`], and the schedule of a scenario's faults and replacements.

use std::ops::Range;
use std::time::Duration;

use super::demand::Demand;
use super::random::{Purpose, Stream};
use super::scenario::Scenario;
use crate::error::BuildError;
use crate::settings::within;
use crate::time::nanos;

/// A fault of some servers for some time. By default it affects all servers during the scenario's
/// [window](Scenario::window).
///
/// # Several faults at once
///
/// [`slow`](Self::slow) factors multiply. Of several [`fails`](Self::fails) the one with the largest share applies,
/// with its own time. Of several [`answers_in`](Self::answers_in), and of several [`tail`](Self::tail)s, the one that
/// began last applies. A [replaced](Scenario::replace) server takes its faults with it: its successor has only those
/// that begin later.
///
/// A server counts as unwell in the report while a fault is active on it and while it warms up. Slow factors whose
/// product is 1 and failures with a share of 0 do not count.
///
/// ```
/// use evenkeel::sim::{Demand, Fault};
/// use std::time::Duration;
///
/// const SECOND: Duration = Duration::from_secs(1);
///
/// // One server fails all its requests for two seconds, is well for three, and so on.
/// let flapping = Fault::fails(1.0).on(0..1).flapping(2 * SECOND, 3 * SECOND);
/// // Each server is at a third of its speed for half a second, about every five.
/// let neighbour = Fault::slow(0.3).at_random(Demand::exponential(5 * SECOND), Demand::exponential(SECOND / 2));
/// # let _ = (flapping, neighbour);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) what: What,
    pub(super) servers: Option<Range<usize>>,
    pub(super) when: When,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    Slow(f64),
    Fails { share: f64, taking: f64 },
    Stalls,
    Answers(f64),
    Tail { share: f64, times: f64 },
    Refuses,
    Hangs,
}

#[derive(Clone, Debug)]
pub(super) enum When {
    Window,
    Always,
    Between(Duration, Duration),
    Flapping { bad: Duration, good: Duration },
    AtRandom { good: Demand, bad: Demand },
}

impl Fault {
    const fn new(what: What) -> Self {
        Self {
            what,
            servers: None,
            when: When::Window,
        }
    }

    /// The server works at `times` its speed, from a millionth to a million.
    #[must_use]
    pub const fn slow(times: f64) -> Self {
        Self::new(What::Slow(times))
    }

    /// The server fails this share of its requests, from 0 to 1. Each failure is a millisecond of work, unless
    /// [`taking`](Self::taking) sets another time.
    #[must_use]
    pub const fn fails(share: f64) -> Self {
        let taking = 1e6;
        Self::new(What::Fails { share, taking })
    }

    /// The server stops working. It accepts requests, keeps those that it has, and continues with them afterwards, like
    /// a paused process or one in a long garbage collection.
    #[must_use]
    pub const fn stalls() -> Self {
        Self::new(What::Stalls)
    }

    /// The server takes this long for each request, whatever the request's work. The time is for speed 1 and does not
    /// include queueing.
    #[must_use]
    pub fn answers_in(time: Duration) -> Self {
        Self::new(What::Answers(nanos(time) as f64))
    }

    /// A share of the server's requests, from 0 to 1, is `times` as much work as otherwise.
    #[must_use]
    pub const fn tail(share: f64, times: f64) -> Self {
        Self::new(What::Tail { share, times })
    }

    /// The server refuses connections: each request fails after one network round trip.
    #[must_use]
    pub const fn refuses() -> Self {
        Self::new(What::Refuses)
    }

    /// The server accepts requests and never answers them. It finishes those that it had before.
    #[must_use]
    pub const fn hangs() -> Self {
        Self::new(What::Hangs)
    }

    /// Sets how long a failure of [`fails`](Self::fails) keeps the server busy, at speed 1. Defaults to 1 ms.
    #[must_use]
    pub fn taking(mut self, time: Duration) -> Self {
        if let What::Fails { taking, .. } = &mut self.what {
            *taking = nanos(time) as f64;
        }
        self
    }

    /// Limits the fault to the servers at these positions.
    #[must_use]
    pub const fn on(mut self, servers: Range<usize>) -> Self {
        self.servers = Some(servers);
        self
    }

    /// Makes the fault active from `start` to `end`.
    #[must_use]
    pub const fn between(mut self, start: Duration, end: Duration) -> Self {
        self.when = When::Between(start, end);
        self
    }

    /// Makes the fault active from the start of the run until the server is replaced.
    #[must_use]
    pub const fn always(mut self) -> Self {
        self.when = When::Always;
        self
    }

    /// Makes the fault alternate within the window: active for `bad`, then inactive for `good`, and so on.
    #[must_use]
    pub const fn flapping(mut self, bad: Duration, good: Duration) -> Self {
        self.when = When::Flapping { bad, good };
        self
    }

    /// Makes the fault alternate at random for the whole run, independently on each server: inactive for a time drawn
    /// from `good`, then active for one drawn from `bad`, and so on.
    #[must_use]
    pub const fn at_random(mut self, good: Demand, bad: Demand) -> Self {
        self.when = When::AtRandom { good, bad };
        self
    }

    pub(super) fn positions(&self, servers: usize) -> Range<usize> {
        self.servers.clone().unwrap_or(0..servers)
    }

    /// Whether the fault singles out some of the servers for a stated time, so that the report can tell how soon
    /// clients avoided these and how soon they used them again.
    pub(super) fn has_targets(&self, servers: usize) -> bool {
        let timed = matches!(
            self.when,
            When::Window | When::Between(..) | When::Flapping { .. }
        );
        timed && self.positions(servers).len() < servers
    }

    /// The time in which a fault with [targets](Self::has_targets) may be active, in nanoseconds.
    pub(super) fn span(&self, window: (u64, u64)) -> (u64, u64) {
        let (start, end) = window;
        match self.when {
            When::Between(start, end) => (nanos(start), nanos(end)),
            When::Flapping { bad, good } => {
                let period = (nanos(bad).saturating_add(nanos(good))).max(1);
                let last = end - ((end - start).saturating_sub(1)) % period - 1;
                (start, last.saturating_add(nanos(bad)).min(end))
            }
            _ => window,
        }
    }

    pub(super) fn check(&self, servers: usize) -> Result<(), BuildError> {
        let share = |field, value: f64| within(0.0..=1.0, "a share from 0 to 1", [(field, value)]);
        let above = |field, value: f64| {
            if value > 0.0 && value <= 3.6e12 {
                return Ok(());
            }
            Err(BuildError::setting(
                field,
                value,
                "above 0, at most an hour",
            ))
        };
        match self.what {
            What::Slow(times) => {
                let expected = "from a millionth to a million";
                within(1e-6..=1e6, expected, [("Fault::slow", times)])?;
            }
            What::Fails { share: of, taking } => {
                share("Fault::fails", of)?;
                above("Fault::taking", taking)?;
            }
            What::Answers(time) => above("Fault::answers_in", time)?,
            What::Tail { share: of, times } => {
                share("Fault::tail", of)?;
                above("Fault::tail", times)?;
            }
            What::Stalls | What::Refuses | What::Hangs => {}
        }
        let positions = self.positions(servers);
        if positions.is_empty() || positions.end > servers {
            let expected = "a range of the scenario's servers";
            return Err(BuildError::setting("Fault::on", positions, expected));
        }
        match &self.when {
            When::Between(start, end) if start >= end => {
                let expected = "a beginning before the end";
                Err(BuildError::setting(
                    "Fault::between",
                    (start, end),
                    expected,
                ))
            }
            When::Flapping { bad, good }
                if bad.saturating_add(*good) < Duration::from_millis(1) =>
            {
                Err(BuildError::setting(
                    "Fault::flapping",
                    bad,
                    "a millisecond or more in all",
                ))
            }
            When::AtRandom { good, bad } => {
                good.check("Fault::at_random")?;
                bad.check("Fault::at_random")
            }
            _ => Ok(()),
        }
    }
}

/// A replacement of servers by new ones, which warm up to their full speed.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    pub(super) at: Duration,
    pub(super) every: Option<Duration>,
    pub(super) servers: usize,
    pub(super) from: f64,
    pub(super) over: Duration,
}

/// An entry of the schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) at: u64,
    pub(super) position: usize,
    pub(super) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// The fault with this index begins.
    Begin(usize),
    End(usize),
    /// A new machine replaces the old one, and starts at this share of its speed.
    Replace(f64),
    /// The machine at the position reaches this share of its speed, if it is still the `replacement` replacement there.
    Warm {
        replacement: u32,
        to: f64,
    },
}

/// The number of equal steps in which a new machine reaches its full speed.
const WARMING: u32 = 30;

/// Returns all changes to servers in the order of time. They depend on the seed and the scenario alone.
pub(super) fn schedule(scenario: &Scenario, seed: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    let end = nanos(scenario.length);
    let servers = scenario.speeds.len();
    for (number, fault) in scenario.faults.iter().enumerate() {
        for position in fault.positions(servers) {
            let index = (number * servers + position) as u64;
            let mut stream = Stream::new(seed, Purpose::Faults, index);
            for (from, to) in turns(&fault.when, scenario, &mut stream) {
                let mut push = |at, step| changes.push(Change { at, position, step });
                push(from, Step::Begin(number));
                push(to, Step::End(number));
            }
        }
    }
    let mut due = Vec::new();
    for replacement in &scenario.replacements {
        let every = replacement.every.map_or(end, nanos).max(1);
        let mut position = 0;
        let mut at = nanos(replacement.at);
        while at < end {
            for _ in 0..replacement.servers.min(servers) {
                due.push((at, position, replacement));
                position = (position + 1) % servers;
            }
            at = at.saturating_add(every);
        }
    }
    // Number a position's machines in the order of time, whatever the order of the scenario's settings.
    due.sort_by_key(|(at, ..)| *at);
    let mut machines = vec![0; servers];
    for (at, position, replacement) in due {
        machines[position] += 1;
        replace(&mut changes, replacement, at, position, machines[position]);
    }
    changes.retain(|change| change.at < end);
    // The sort is stable: changes at one time keep the order of the scenario.
    changes.sort_by_key(|change| change.at);
    changes
}

fn replace(
    changes: &mut Vec<Change>,
    by: &Replacement,
    at: u64,
    position: usize,
    replacement: u32,
) {
    let mut push = |at, step| changes.push(Change { at, position, step });
    push(at, Step::Replace(by.from));
    for step in 1..=WARMING {
        let done = f64::from(step) / f64::from(WARMING);
        let to = by.from + (1.0 - by.from) * done;
        push(
            at + (nanos(by.over) as f64 * done) as u64,
            Step::Warm { replacement, to },
        );
    }
}

/// Returns the periods in which a fault is active.
fn turns(when: &When, scenario: &Scenario, stream: &mut Stream) -> Vec<(u64, u64)> {
    let (start, end) = (nanos(scenario.window.0), nanos(scenario.window.1));
    let length = nanos(scenario.length);
    match when {
        When::Window => vec![(start, end)],
        When::Always => vec![(0, u64::MAX)],
        When::Between(from, to) => vec![(nanos(*from), nanos(*to))],
        When::Flapping { bad, good } => {
            let (bad, good) = (nanos(*bad), nanos(*good));
            let starts = (start..end).step_by(bad.saturating_add(good) as usize);
            starts
                .map(|at| (at, at.saturating_add(bad).min(end)))
                .collect()
        }
        When::AtRandom { good, bad } => {
            let mut turns = Vec::new();
            let mut at = 0;
            while at < length {
                let from = at + good.draw(stream) as u64;
                at = from + bad.draw(stream) as u64;
                turns.push((from, at));
            }
            turns
        }
    }
}

#[cfg(test)]
mod tests;
