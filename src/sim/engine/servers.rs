//! The events at servers: requests arrive and end, faults begin and end, machines are replaced.

use super::{Answer, Call, Engine, Event};
use crate::outcome::Outcome;
use crate::sim::balancing::Violation;
use crate::sim::fault::{Change, Step};
use crate::sim::machine::{Arrival, Job, Machine};
use crate::sim::scenario::Scenario;

impl Engine<'_> {
    /// An attempt arrives at its server, or at the central queue.
    pub(super) fn at_server(&mut self, index: u32, serial: u32) {
        let call = self.calls[index as usize];
        self.log(Event::AtServer, u64::from(call.machine), serial);
        if call.machine == u32::MAX {
            self.central.push_back((index, serial));
            self.dispatch();
        } else {
            self.hand_over(call, call.machine as usize);
        }
    }

    /// Gives an attempt to a machine.
    fn hand_over(&mut self, call: Call, machine: usize) {
        let now = self.world.now;
        let (work, fails) = self
            .world
            .work_on(machine, call.attempt.request, call.attempt.work);
        let job = Job {
            call: call.attempt.call,
            serial: call.serial,
            work,
            fails,
            arrived: now,
            before: 0,
        };
        let there = &mut self.world.machines[machine];
        let outcome = match there.arrive(job, now) {
            Arrival::Accepted => return self.plan(machine),
            Arrival::Swallowed => None,
            Arrival::Full => Some(Outcome::overloaded(None)),
            Arrival::Refused => Some(Outcome::Unreachable),
        };
        there.outstanding -= 1;
        if let Some(outcome) = outcome {
            let present = there.present() as u32;
            self.to_clients.put(
                now,
                Answer {
                    call: job.call,
                    serial: job.serial,
                    outcome,
                    present,
                    service: 0,
                },
            );
        }
    }

    /// Updates the calendar with the time of the machine's next completion.
    pub(super) fn plan(&mut self, machine: usize) {
        let ends = self.world.machines[machine].next_end();
        if self.calendar.at(machine) != ends {
            self.calendar.set(machine, ends);
        }
    }

    /// A machine has completed a job or a check.
    pub(super) fn ends(&mut self, machine: usize) {
        let now = self.world.now;
        let there = &mut self.world.machines[machine];
        if let Some(check) = there.end_check() {
            let outcome = if check.fails {
                Outcome::Timeout
            } else {
                Outcome::Success
            };
            self.checks.answer(now, check.serial, outcome);
            return self.plan(machine);
        }
        if let Some(ended) = there.end(now) {
            there.outstanding -= 1;
            let present = there.present() as u32;
            self.log(Event::Ends, machine as u64, ended.job.serial);
            self.to_clients.put(
                now,
                Answer {
                    call: ended.job.call,
                    serial: ended.job.serial,
                    outcome: if ended.job.fails {
                        Outcome::Failure
                    } else {
                        Outcome::Success
                    },
                    present,
                    service: ended.service,
                },
            );
        }
        self.plan(machine);
        if !self.central.is_empty() {
            self.dispatch();
        }
    }

    /// Hands requests at the head of the central queue to machines, as long as the oracle names a machine.
    fn dispatch(&mut self) {
        while let Some(&(index, serial)) = self.central.front() {
            let call = self.calls[index as usize];
            if call.serial == serial {
                let Some(machine) = self.balancing.dispatch(call.attempt.work, &self.world) else {
                    return;
                };
                self.calls[index as usize].machine = machine as u32;
                let there = &mut self.world.machines[machine];
                there.outstanding += 1;
                self.meter.sent(
                    call.arrived,
                    self.world.now,
                    there.position,
                    there.is_unwell(),
                );
                self.hand_over(call, machine);
            }
            self.central.pop_front();
        }
    }

    /// A fault begins or ends, a machine is replaced, or a new machine warms up further.
    pub(super) fn change(&mut self, change: Change) -> Result<(), Violation> {
        let Change { position, step, .. } = change;
        self.log(Event::Changed, position as u64, self.next_change as u32);
        let now = self.world.now;
        let machine = self.world.members[position] as usize;
        match step {
            Step::Begin(fault) => self.faults_on[position].push(fault),
            Step::End(fault) => {
                self.faults_on[position].retain(|on| *on != fault);
                if self.meter.is_over(now) {
                    let ended = self.meter.targets();
                    let machines: Vec<_> = ended.map(|at| self.world.members[at]).collect();
                    self.meter.out_for = Some(self.balancing.out_for(&machines, &self.world));
                }
            }
            Step::Replace(from) => {
                // The new machine does not inherit the faults of the old one.
                self.faults_on[position].clear();
                self.replacement_count[position] += 1;
                return self.replace(machine, position, from);
            }
            Step::Warm { replacement, to } => {
                if replacement == self.replacement_count[position] {
                    self.world.machines[machine].set_warm(to, now);
                    self.plan(machine);
                }
                return Ok(());
            }
        }
        let on = self.faults_on[position].iter();
        let faults = on.map(|&fault| self.scenario.faults[fault].what);
        self.world.machines[machine].set_faults(faults, now);
        self.plan(machine);
        // The central queue may now use this machine.
        self.dispatch();
        Ok(())
    }

    fn replace(&mut self, old: usize, position: usize, from: f64) -> Result<(), Violation> {
        let now = self.world.now;
        let new = self.world.machines.len();
        let Scenario {
            speeds,
            slots,
            queue,
            ..
        } = self.scenario;
        let mut machine = Machine::new(position, speeds[position], *slots, *queue, now);
        machine.set_warm(from, now);
        self.world.machines[old].retire();
        self.world.machines.push(machine);
        self.world.members[position] = new as u32;
        self.balancing.replaced(old, new, &self.world)
    }
}
