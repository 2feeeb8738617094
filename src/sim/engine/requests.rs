//! The events of requests at their clients: arrival, sending, answer, timeout and retry.

use std::cmp::Reverse;

use super::{Answer, Call, Engine, Event};
use crate::outcome::Outcome;
use crate::sim::balancing::{Attempt, CallStatus, CallStep, Ending, Target, Tried, Violation};
use crate::sim::random::{Purpose, Stream};
use crate::time::nanos;

impl Engine<'_> {
    /// Draws when the client's next request arrives.
    pub(super) fn next_arrival(&mut self, client: usize) {
        let now = self.world.now;
        let mut gap = self.sources[client].arrivals.exponential() * self.mean_gap;
        if let Some((start, end, times)) = self.scenario.surge {
            // `gap` is the time until the arrival at the normal rate. Within the surge, time counts `times` as much.
            let (start, end) = (nanos(start) as f64, nanos(end) as f64);
            let mut at = now as f64;
            let before = (start - at).clamp(0.0, gap);
            at += before;
            let mut left = gap - before;
            let within = if at >= start {
                (end - at).max(0.0)
            } else {
                0.0
            };
            let spent = (within * times).min(left);
            left -= spent;
            at += spent / times + left;
            gap = at - now as f64;
        }
        let entry = self.clients_from + client;
        self.calendar.set(entry, now + gap as u64);
    }

    /// A request arrives at a client.
    pub(super) fn arrives(&mut self, client: usize) -> Result<(), Violation> {
        let request = self.requests;
        self.requests += 1;
        self.log(Event::Arrives, client as u64, request as u32);
        self.next_arrival(client);
        let mut demand = Stream::new(self.world.seed, Purpose::Demand, request);
        let source = &mut self.sources[client];
        source.retries = (source.retries + self.scenario.retry_budget).min(100.0);
        let index = self.free.pop().unwrap_or(self.calls.len() as u32);
        let call = Call {
            attempt: Attempt {
                call: index,
                client: client as u32,
                request,
                work: self.scenario.demand.draw(&mut demand),
                tried: Tried::default(),
            },
            serial: 0,
            machine: 0,
            arrived: self.world.now,
            sent: 0,
        };
        if index as usize == self.calls.len() {
            self.calls.push(call);
        } else {
            self.calls[index as usize] = call;
        }
        if self.balancing.calls() {
            let attempt = self.calls[index as usize].attempt;
            let progress = self.balancing.begin(&attempt, &self.world)?;
            self.progress(index, progress);
            return Ok(());
        }
        self.send(index)
    }

    /// Picks for a call and sends it.
    fn send(&mut self, index: u32) -> Result<(), Violation> {
        let now = self.world.now;
        let call = &self.calls[index as usize];
        match self.balancing.pick(&call.attempt, &self.world)? {
            Target::Machine(machine) => self.sent_to(index, Some(machine)),
            Target::Central => self.sent_to(index, None),
            Target::Nowhere => {
                self.meter.ended(call.arrived, now, false);
                self.release(index);
            }
        }
        Ok(())
    }

    /// Sends an attempt of a call to this machine, or to the central queue.
    fn sent_to(&mut self, index: u32, machine: Option<usize>) {
        let now = self.world.now;
        let serial = self.next_serial(index);
        let call = &mut self.calls[index as usize];
        call.sent = now;
        call.machine = machine.map_or(u32::MAX, |machine| machine as u32);
        if let Some(machine) = machine {
            let there = &mut self.world.machines[machine];
            there.outstanding += 1;
            self.meter
                .sent(call.arrived, now, there.position, there.is_unwell());
        }
        self.log(
            Event::Sent,
            u64::from(self.calls[index as usize].machine),
            serial,
        );
        self.to_servers.put(now, (index, serial));
        self.timeouts.put(now, (index, serial));
        if !self.balancing.load_probes().is_empty() {
            for load_probe in self.balancing.load_probes() {
                self.load_probes.put(now, *load_probe);
            }
            self.balancing.clear_load_probes();
        }
    }

    /// Gives the call a new serial number. Events of its earlier attempt are ignored from then on.
    fn next_serial(&mut self, index: u32) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.calls[index as usize].serial = self.serial;
        self.serial
    }

    /// Takes the progress of a call that decides for itself.
    fn progress(&mut self, index: u32, progress: CallStep) {
        if let Some((machine, verdict)) = progress.ended {
            if verdict.ejected {
                self.meter.ejection(machine, &self.world);
            }
        }
        match progress.status {
            CallStatus::Sent(machine) => self.sent_to(index, Some(machine)),
            CallStatus::Waits if progress.ended.is_some() => {
                self.next_serial(index);
                self.calls[index as usize].machine = u32::MAX;
            }
            CallStatus::Waits => {}
            CallStatus::Ended { success, denied } => {
                let (arrived, now) = (self.calls[index as usize].arrived, self.world.now);
                if denied {
                    self.meter.denied(arrived);
                }
                self.meter.ended(arrived, now, success);
                self.release(index);
            }
        }
        if let Some(at) = progress.wake {
            let serial = self.calls[index as usize].serial;
            self.wakes.push(Reverse((at, index, serial)));
        }
    }

    /// A call's timer is due.
    pub(super) fn woken(&mut self, index: u32, serial: u32) -> Result<(), Violation> {
        let call = self.calls[index as usize];
        if call.serial != serial {
            return Ok(());
        }
        self.log(Event::Woken, u64::from(call.machine), serial);
        let progress = self.balancing.resume(index, None, &self.world)?;
        if progress.ended.is_some() && self.scenario.cancels {
            self.cancels.put(self.world.now, (call.machine, serial));
        }
        self.progress(index, progress);
        Ok(())
    }

    fn release(&mut self, index: u32) {
        self.calls[index as usize].serial = self.serial.wrapping_add(1 << 31);
        self.free.push(index);
    }

    pub(super) fn answered(&mut self, answer: Answer) -> Result<(), Violation> {
        self.log(Event::Answered, answer.service, answer.serial);
        if self.calls[answer.call as usize].serial != answer.serial {
            return Ok(());
        }
        self.attempt_ended(answer)
    }

    pub(super) fn timed_out(&mut self, index: u32, serial: u32) -> Result<(), Violation> {
        let call = self.calls[index as usize];
        if call.serial != serial {
            return Ok(());
        }
        self.log(Event::TimedOut, u64::from(call.machine), serial);
        if self.scenario.cancels && call.machine != u32::MAX {
            self.cancels.put(self.world.now, (call.machine, serial));
        }
        self.attempt_ended(Answer {
            call: index,
            serial,
            outcome: Outcome::Timeout,
            present: 0,
            service: 0,
        })
    }

    /// An attempt has ended for its client. Ends the request or retries it.
    fn attempt_ended(&mut self, answer: Answer) -> Result<(), Violation> {
        if self.balancing.calls() {
            let outcome = Some(answer.outcome);
            let progress = self.balancing.resume(answer.call, outcome, &self.world)?;
            self.progress(answer.call, progress);
            return Ok(());
        }
        let now = self.world.now;
        let call = self.calls[answer.call as usize];
        if call.machine != u32::MAX {
            let machine = call.machine as usize;
            let ending = Ending {
                call: answer.call,
                client: call.attempt.client,
                machine,
                outcome: answer.outcome,
                sent: call.sent,
                present: answer.present,
                service: answer.service,
            };
            if self.balancing.ended(&ending, &self.world)?.ejected {
                self.meter.ejection(machine, &self.world);
            }
        }
        let success = answer.outcome == Outcome::Success;
        let tried = call.attempt.tried.as_slice().len() as u32;
        if !success && tried < self.scenario.retries && call.machine != u32::MAX {
            let source = &mut self.sources[call.attempt.client as usize];
            if source.retries >= 1.0 {
                source.retries -= 1.0;
                let again = &mut self.calls[answer.call as usize].attempt;
                again.tried.push(call.machine as usize);
                return self.send(answer.call);
            }
            self.meter.denied(call.arrived);
        }
        self.meter.ended(call.arrived, now, success);
        self.release(answer.call);
        Ok(())
    }
}
