//! The discrete-event engine: one thread, virtual time in nanoseconds, events in order.

mod checks;
mod requests;
mod servers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use checks::Checks;

use crate::outcome::Outcome;
use crate::shared::mix;
use crate::sim::balancing::{Attempt, Balancing, Violation, World};
use crate::sim::calendar::{Lane, NEVER, Tournament};
use crate::sim::error::SimError;
use crate::sim::fault::{Change, Step, schedule};
use crate::sim::machine::Machine;
use crate::sim::meter::{Meter, TICK};
use crate::sim::policy::Policy;
use crate::sim::random::{Purpose, Stream};
use crate::sim::report::Report;
use crate::sim::scenario::Scenario;
use crate::time::nanos;

/// The number of events between two checks of whole fleets. If all fleets together have more than 5 000 members, each
/// check covers about as many, of some clients in rotation.
const CHECKED_EVERY: u64 = 1000;

/// The retries in a client's budget at the start, if the scenario has a budget.
const FIRST_RETRIES: f64 = 10.0;

/// A request in progress, and its current attempt.
#[derive(Clone, Copy, Debug)]
struct Call {
    attempt: Attempt,
    /// The serial number of the current attempt. An event with another serial number belongs to an earlier attempt and
    /// is ignored by the client.
    serial: u32,
    /// The machine of the attempt; `u32::MAX` in the central queue or without an attempt.
    machine: u32,
    arrived: u64,
    sent: u64,
}

/// An answer in transit.
#[derive(Clone, Copy, Debug)]
struct Answer {
    call: u32,
    serial: u32,
    outcome: Outcome,
    present: u32,
    service: u64,
}

/// A client: its arrival process and its retry budget.
#[derive(Debug)]
struct Source {
    arrivals: Stream,
    retries: f64,
}

/// The state of one run.
pub(in crate::sim) struct Engine<'a> {
    scenario: &'a Scenario,
    policy: &'a Policy,
    world: World,
    balancing: Box<dyn Balancing>,
    calls: Vec<Call>,
    /// The indices in `calls` that are free.
    free: Vec<u32>,
    /// The last serial number given to an attempt.
    serial: u32,
    sources: Vec<Source>,
    /// The time of each machine's next completion, followed by the time of each client's next arrival.
    calendar: Tournament,
    /// The entry of the first client in the calendar.
    clients_from: usize,
    /// Attempts in transit: call and serial number.
    to_servers: Lane<(u32, u32)>,
    to_clients: Lane<Answer>,
    /// Timeouts of attempts: call and serial number.
    timeouts: Lane<(u32, u32)>,
    /// Cancellations in transit: machine and serial number.
    cancels: Lane<(u32, u32)>,
    /// Timers of calls that decide for themselves ([`Balancing::calls`]): time, call and serial number.
    wakes: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Load probes in transit: client and machine.
    load_probes: Lane<(u32, u32)>,
    /// Answers to load probes in transit: client, machine, and its requests and latency.
    load_reports: Lane<(u32, u32, (usize, u64))>,
    checks: Checks,
    /// The central queue: call and serial number.
    central: VecDeque<(u32, u32)>,
    changes: Vec<Change>,
    next_change: usize,
    /// The active faults, by position.
    faults_on: Vec<Vec<usize>>,
    /// The number of replacements so far, by position.
    replacement_count: Vec<u32>,
    next_tick: u64,
    meter: Meter,
    requests: u64,
    events: u64,
    hash: u64,
    /// The mean time between the arrivals of a client, in nanoseconds.
    mean_gap: f64,
}

/// The kind of an event, for the hash of all events.
#[derive(Clone, Copy, Debug)]
enum Event {
    Arrives,
    Sent,
    AtServer,
    Ends,
    Answered,
    TimedOut,
    Cancelled,
    Changed,
    LoadProbe,
    LoadReport,
    Ticks,
    CheckSent,
    CheckArrives,
    CheckEnded,
    Woken,
}

impl<'a> Engine<'a> {
    pub(in crate::sim) fn new(
        scenario: &'a Scenario,
        policy: &'a Policy,
        seed: u64,
    ) -> Result<Self, SimError> {
        scenario.check()?;
        let servers = scenario.speeds.len();
        let changes = schedule(scenario, seed);
        let comes = |change: &&Change| matches!(change.step, Step::Replace(_));
        let machines = servers + changes.iter().filter(comes).count();
        let one_way = nanos(scenario.one_way);
        let speeds = scenario.speeds.iter().enumerate();
        let world = World {
            seed,
            now: 0,
            machines: speeds
                .map(|(at, &speed)| Machine::new(at, speed, scenario.slots, scenario.queue, 0))
                .collect(),
            members: (0..servers as u32).collect(),
            one_way,
            mean_work: scenario.demand.mean_nanos(),
        };
        let balancing = policy.balancing(scenario, machines, &world)?;
        let sources = (0..scenario.clients as u64).map(|client| Source {
            arrivals: Stream::new(seed, Purpose::Arrivals, client),
            retries: if scenario.retry_budget > 0.0 {
                FIRST_RETRIES
            } else {
                0.0
            },
        });
        let checks = Checks::new(one_way, balancing.check_timeout());
        let mut engine = Self {
            scenario,
            policy,
            world,
            balancing,
            calls: Vec::new(),
            free: Vec::new(),
            serial: 0,
            sources: sources.collect(),
            calendar: Tournament::new(machines + scenario.clients),
            clients_from: machines,
            to_servers: Lane::new(one_way),
            to_clients: Lane::new(one_way),
            timeouts: Lane::new(nanos(scenario.timeout)),
            cancels: Lane::new(one_way),
            wakes: BinaryHeap::new(),
            load_probes: Lane::new(one_way),
            load_reports: Lane::new(one_way),
            checks,
            central: VecDeque::new(),
            changes,
            next_change: 0,
            faults_on: vec![Vec::new(); servers],
            replacement_count: vec![0; servers],
            next_tick: TICK,
            meter: Meter::new(scenario),
            requests: 0,
            events: 0,
            hash: 0,
            mean_gap: scenario.clients as f64 / scenario.rate_per_nano(),
        };
        (0..scenario.clients).for_each(|client| engine.next_arrival(client));
        Ok(engine)
    }

    pub(in crate::sim) fn run(mut self) -> Result<Report, SimError> {
        let end = nanos(self.scenario.length);
        while let Some(at) = self.next(end) {
            self.step_and_check(at)?;
        }
        // No more requests arrive. Simulate until the requests in progress have ended.
        self.next_tick = NEVER;
        self.checks.end();
        for client in 0..self.scenario.clients {
            self.calendar.set(self.clients_from + client, NEVER);
        }
        while self.calls.len() > self.free.len() {
            let Some(at) = self.next(NEVER) else { break };
            self.step_and_check(at)?;
        }
        let checked = self.balancing.check_all(&self.world);
        checked.map_err(|broken| self.violation(broken))?;
        Ok(self.report())
    }

    fn step_and_check(&mut self, at: u64) -> Result<(), SimError> {
        self.step(at).map_err(|broken| self.violation(broken))?;
        self.events += 1;
        if self.events % CHECKED_EVERY == 0 {
            let checked = self.balancing.check(&self.world);
            checked.map_err(|broken| self.violation(broken))?;
        }
        Ok(())
    }

    fn violation(&self, what: Violation) -> SimError {
        SimError::Broken {
            what,
            scenario: self.scenario.name.clone(),
            policy: self.policy.name().into(),
            seed: self.world.seed,
            event: self.events,
            at: Duration::from_nanos(self.world.now),
        }
    }

    /// Returns the time of the next event if it is before `end`.
    fn next(&self, end: u64) -> Option<u64> {
        let at = [
            self.calendar.first().0,
            self.to_servers.first(),
            self.to_clients.first(),
            self.timeouts.first(),
            self.cancels.first(),
            self.next_wake(),
            self.load_probes.first(),
            self.load_reports.first(),
            self.checks.first(),
            self.next_change_at(),
            self.next_tick,
        ];
        let at = at.into_iter().fold(NEVER, u64::min);
        (at < end).then_some(at)
    }

    fn next_change_at(&self) -> u64 {
        let change = self.changes.get(self.next_change);
        change.map_or(NEVER, |change| change.at)
    }

    fn next_wake(&self) -> u64 {
        let wake = self.wakes.peek();
        wake.map_or(NEVER, |&Reverse((at, ..))| at)
    }

    /// Processes one event. Of several at one time, changes of servers come first, then what arrives at servers.
    fn step(&mut self, at: u64) -> Result<(), Violation> {
        self.world.now = at;
        if self.next_change_at() == at {
            let change = self.changes[self.next_change];
            self.next_change += 1;
            return self.change(change);
        }
        if self.to_servers.first() == at {
            if let Some((call, serial)) = self.to_servers.pop() {
                self.at_server(call, serial);
            }
            return Ok(());
        }
        if self.to_clients.first() == at {
            return self
                .to_clients
                .pop()
                .map_or(Ok(()), |answer| self.answered(answer));
        }
        if self.timeouts.first() == at {
            let (call, serial) = self.timeouts.pop().unwrap_or_default();
            return self.timed_out(call, serial);
        }
        if self.calendar.first().0 == at {
            let entry = self.calendar.first().1;
            return match entry.checked_sub(self.clients_from) {
                Some(client) => self.arrives(client),
                None => {
                    self.ends(entry);
                    Ok(())
                }
            };
        }
        if self.checks.first() == at {
            return self.check_event(at);
        }
        if self.next_wake() == at {
            let (_, call, serial) = self.wakes.pop().unwrap_or_default().0;
            return self.woken(call, serial);
        }
        self.seldom(at);
        Ok(())
    }

    /// Processes an event of the kinds that are rare in most runs.
    fn seldom(&mut self, at: u64) {
        if self.cancels.first() == at {
            let (machine, serial) = self.cancels.pop().unwrap_or_default();
            self.log(Event::Cancelled, u64::from(machine), serial);
            let machine = machine as usize;
            if self.world.machines[machine].cancel(serial, at) {
                self.world.machines[machine].outstanding -= 1;
                self.plan(machine);
            }
        } else if self.load_probes.first() == at {
            let (client, machine) = self.load_probes.pop().unwrap_or_default();
            self.log(Event::LoadProbe, u64::from(client), machine);
            let asked = &self.world.machines[machine as usize];
            let silent = asked.condition().is_silent();
            if let Some(load) = asked.probe().filter(|_| !silent) {
                self.load_reports.put(at, (client, machine, load));
            }
        } else if self.load_reports.first() == at {
            if let Some((client, machine, load)) = self.load_reports.pop() {
                self.log(Event::LoadReport, u64::from(client), machine);
                self.balancing
                    .take_load_report(client, machine as usize, load, at);
            }
        } else {
            self.log(Event::Ticks, 0, 0);
            self.next_tick += TICK;
            let ejected = self.balancing.tick(&self.world);
            self.meter.tick(&self.world, ejected, self.scenario.clients);
        }
    }

    fn log(&mut self, event: Event, what: u64, which: u32) {
        let entry = self.world.now ^ (event as u64) << 60 ^ what << 32 ^ u64::from(which);
        self.hash = mix(self.hash ^ entry).wrapping_add(self.world.now);
    }

    fn report(mut self) -> Report {
        let (detected_after, recovered_after) = self.meter.detection();
        let (ejected_share, most_ejected) = self.meter.ejected();
        let out_for = |of: fn(&[u64]) -> Option<&u64>| {
            let all = self.meter.out_for.as_ref();
            all.map(|all| Duration::from_nanos(of(all).copied().unwrap_or(0)))
        };
        let median = out_for(|all| all.get(all.len() / 2));
        let longest = out_for(<[u64]>::last);
        Report {
            scenario: self.scenario.name.clone(),
            policy: self.policy.name().into(),
            seed: self.world.seed,
            events: self.events,
            requests: self.requests,
            checks: self.checks.sent,
            event_hash: self.hash,
            window: self.meter.window_figures(),
            run: self.meter.run_figures(),
            detected_after,
            recovered_after,
            out_for: median,
            longest_out_for: longest,
            ejections: self.meter.ejections,
            false_ejections: self.meter.false_ejections,
            ejected_share,
            most_ejected,
            moments: self.meter.moments(),
        }
    }
}
