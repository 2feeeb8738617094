//! Active checks in transit: to a server, back to the client, or timed out.

use super::{Engine, Event};
use crate::outcome::Outcome;
use crate::sim::balancing::Violation;
use crate::sim::calendar::{Lane, NEVER};
use crate::sim::drivers::{Check, Driven};
use crate::sim::machine::Job;
use crate::sim::random::{Purpose, Stream};

/// The interval at which drivers are asked for due checks: 20 ms, the longest time between two ticks that
/// [`HealthCheck::next_due`](crate::HealthCheck::next_due) returns.
const LOOK: u64 = 20_000_000;

/// The work of a check: 1 ms at speed 1. A check takes no slot.
const WORK: f64 = 1e6;

/// The events of active checks.
#[derive(Debug)]
pub(super) struct Checks {
    next_look: u64,
    to_servers: Lane<Check>,
    to_clients: Lane<(u32, Outcome)>,
    timeouts: Lane<u32>,
    pub(super) sent: u64,
}

impl Checks {
    /// Without a timeout there are no checks.
    pub(super) fn new(one_way: u64, timeout: Option<u64>) -> Self {
        Self {
            next_look: timeout.map_or(NEVER, |_| 0),
            to_servers: Lane::new(one_way),
            to_clients: Lane::new(one_way),
            timeouts: Lane::new(timeout.unwrap_or(NEVER)),
            sent: 0,
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.next_look
            .min(self.to_servers.first())
            .min(self.to_clients.first())
            .min(self.timeouts.first())
    }

    /// Stops asking the drivers for checks. Checks in transit still arrive.
    pub(super) fn end(&mut self) {
        self.next_look = NEVER;
    }

    pub(super) fn answer(&mut self, now: u64, number: u32, outcome: Outcome) {
        self.to_clients.put(now, (number, outcome));
    }
}

impl Engine<'_> {
    /// Processes the next event of the checks.
    pub(super) fn check_event(&mut self, at: u64) -> Result<(), Violation> {
        if self.checks.to_servers.first() == at {
            if let Some(check) = self.checks.to_servers.pop() {
                self.check_arrives(check);
            }
        } else if self.checks.to_clients.first() == at {
            if let Some((number, outcome)) = self.checks.to_clients.pop() {
                self.check_ended(number, outcome)?;
            }
        } else if self.checks.timeouts.first() == at {
            if let Some(number) = self.checks.timeouts.pop() {
                self.check_ended(number, Outcome::Timeout)?;
            }
        } else {
            self.checks.next_look += LOOK;
            let driven = self.balancing.checks_due(&self.world);
            self.take(driven);
        }
        Ok(())
    }

    fn take(&mut self, driven: Driven) {
        for machine in driven.ejected {
            self.meter.ejection(machine, &self.world);
        }
        for check in driven.checks {
            self.log(Event::CheckSent, u64::from(check.machine), check.number);
            self.checks.sent += 1;
            self.checks.to_servers.put(self.world.now, check);
            self.checks.timeouts.put(self.world.now, check.number);
        }
    }

    fn check_arrives(&mut self, check: Check) {
        let (now, number) = (self.world.now, check.number);
        self.log(Event::CheckArrives, u64::from(check.machine), number);
        let machine = check.machine as usize;
        let there = &mut self.world.machines[machine];
        let condition = there.condition();
        if condition.refuses || !there.is_member {
            self.checks.answer(now, number, Outcome::Unreachable);
        } else if !condition.hangs {
            let failure_draw = Stream::new(self.world.seed, Purpose::Checks, number.into()).share();
            let (work, fails) = condition.check(WORK, failure_draw);
            there.check(
                Job {
                    call: number,
                    serial: number,
                    work,
                    fails,
                    arrived: now,
                    before: 0,
                },
                now,
            );
            self.plan(machine);
        }
    }

    /// Tells a client the outcome of its check. A bad answer is a `Timeout`, too.
    fn check_ended(&mut self, number: u32, outcome: Outcome) -> Result<(), Violation> {
        let (ended, driven) = self.balancing.check_ended(number, outcome, &self.world)?;
        if let Some(machine) = ended {
            self.log(Event::CheckEnded, machine as u64, number);
        }
        self.take(driven);
        Ok(())
    }
}
