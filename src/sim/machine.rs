//! A modelled server: slots, a queue, a speed that changes, and faults.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::calendar::NEVER;
use super::condition::Condition;
use super::fault::What;

/// A request at a server. Work is in nanoseconds at speed 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) call: u32,
    pub(super) serial: u32,
    pub(super) work: f64,
    pub(super) fails: bool,
    /// When the request arrived here, in nanoseconds, and how many requests were here before it.
    pub(super) arrived: u64,
    pub(super) before: u32,
}

/// A server's reaction to a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Accepted,
    /// The queue is full.
    Full,
    Refused,
    /// The server hangs: it accepts the request and never answers.
    Swallowed,
}

/// A job being worked on. The order is by `ends`, the machine's work clock at which the job ends.
#[derive(Clone, Copy, Debug)]
struct Running {
    ends: f64,
    started: u64,
    job: Job,
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Running {}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Running {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let serial = self.job.serial.cmp(&other.job.serial);
        self.ends.total_cmp(&other.ends).then(serial)
    }
}

/// A job that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) job: Job,
    /// How long the machine worked on it, in nanoseconds.
    pub(super) service: u64,
}

/// A modelled server.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) position: usize,
    /// Whether the machine is the current one at its position.
    pub(super) is_member: bool,
    base_speed: f64,
    /// The share of the speed that a machine which warms up has reached.
    warm: f64,
    condition: Condition,
    slots: usize,
    longest_queue: usize,
    /// The work clock: the work that a slot which is never idle has done until `worked_until`. All slots work at the
    /// same speed, so one clock serves all.
    worked: f64,
    worked_until: u64,
    running: BinaryHeap<Reverse<Running>>,
    queue: VecDeque<Job>,
    /// The checks in progress. They need no slot and no place in the queue.
    checks: BinaryHeap<Reverse<Running>>,
    /// The number of requests that were sent here and have not ended here, including those in transit.
    pub(super) outstanding: u32,
    /// The time until which the machine was unwell; `NEVER` while it is unwell.
    unwell_until: u64,
    /// Moving averages of the latency of requests, by the number of requests that they found here; 0 while unknown.
    latencies: [f64; LATENCY_BUCKETS],
}

/// The number of latencies kept. Requests that find `LATENCY_BUCKETS` - 1 or more requests share the last one.
const LATENCY_BUCKETS: usize = 64;

impl Machine {
    pub(super) fn new(
        position: usize,
        speed: f64,
        slots: Option<usize>,
        longest_queue: Option<usize>,
        now: u64,
    ) -> Self {
        Self {
            position,
            is_member: true,
            base_speed: speed,
            warm: 1.0,
            condition: Condition::WELL,
            slots: slots.unwrap_or(usize::MAX),
            longest_queue: longest_queue.unwrap_or(usize::MAX),
            worked: 0.0,
            worked_until: now,
            running: BinaryHeap::new(),
            queue: VecDeque::new(),
            checks: BinaryHeap::new(),
            outstanding: 0,
            unwell_until: 0,
            latencies: [0.0; LATENCY_BUCKETS],
        }
    }

    /// Returns the work done per nanosecond in each slot.
    pub(super) fn speed(&self) -> f64 {
        if self.condition.stalled {
            return 0.0;
        }
        self.base_speed * self.warm * self.condition.slow
    }

    pub(super) fn condition(&self) -> &Condition {
        &self.condition
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn has_free_slot(&self) -> bool {
        self.running.len() < self.slots
    }

    /// Returns the number of requests here, being worked on or queued.
    pub(super) fn present(&self) -> usize {
        self.running.len() + self.queue.len()
    }

    /// Whether the machine is affected by a fault or warms up.
    pub(super) fn is_unwell(&self) -> bool {
        self.unwell_until == NEVER
    }

    /// Whether the machine was unwell at or after `since`.
    pub(super) fn was_unwell(&self, since: u64) -> bool {
        self.unwell_until > since
    }

    /// Returns the work clock at `now`.
    pub(super) fn work_clock(&self, now: u64) -> f64 {
        self.worked + (now - self.worked_until) as f64 * self.speed()
    }

    fn advance(&mut self, now: u64) {
        self.worked = self.work_clock(now);
        self.worked_until = now;
    }

    /// Sets the active faults from `now` on.
    pub(super) fn set_faults(&mut self, faults: impl Iterator<Item = What>, now: u64) {
        self.advance(now);
        self.condition = Condition::of(faults);
        self.update_unwell_until(now);
    }

    /// Sets the share of its speed that the machine has reached in warming up, from `now` on.
    pub(super) fn set_warm(&mut self, to: f64, now: u64) {
        self.advance(now);
        self.warm = to;
        self.update_unwell_until(now);
    }

    /// Marks the machine as replaced at its position.
    pub(super) fn retire(&mut self) {
        self.is_member = false;
    }

    /// Updates `unwell_until` after a change.
    fn update_unwell_until(&mut self, now: u64) {
        if self.condition != Condition::WELL || self.warm < 1.0 {
            self.unwell_until = NEVER;
        } else if self.unwell_until == NEVER {
            self.unwell_until = now;
        }
    }

    pub(super) fn arrive(&mut self, mut job: Job, now: u64) -> Arrival {
        (job.arrived, job.before) = (now, self.present() as u32);
        if self.condition.refuses {
            return Arrival::Refused;
        }
        if self.condition.hangs {
            return Arrival::Swallowed;
        }
        if self.has_free_slot() {
            self.start(job, now);
        } else if self.queue.len() < self.longest_queue {
            self.queue.push_back(job);
        } else {
            return Arrival::Full;
        }
        Arrival::Accepted
    }

    fn start(&mut self, job: Job, now: u64) {
        let running = self.running_job(job, now);
        self.running.push(Reverse(running));
    }

    /// Takes a check, which is worked on beside all requests.
    pub(super) fn check(&mut self, job: Job, now: u64) {
        let running = self.running_job(job, now);
        self.checks.push(Reverse(running));
    }

    fn running_job(&self, job: Job, started: u64) -> Running {
        let ends = self.work_clock(started) + job.work;
        Running { ends, started, job }
    }

    /// Returns when the next job or check ends if nothing changes; `NEVER` if none will.
    pub(super) fn next_end(&self) -> u64 {
        let first = [&self.running, &self.checks].into_iter();
        let first = first.filter_map(|heap| heap.peek()).max();
        let (Some(Reverse(first)), speed) = (first, self.speed()) else {
            return NEVER;
        };
        if speed == 0.0 {
            return NEVER;
        }
        let left = ((first.ends - self.worked) / speed).max(0.0);
        self.worked_until + left.ceil() as u64
    }

    /// Ends the first check, unless a job ends before it.
    pub(super) fn end_check(&mut self) -> Option<Job> {
        let Reverse(check) = self.checks.peek()?;
        let first = self.running.peek();
        if first.is_some_and(|Reverse(job)| job.ends < check.ends) {
            return None;
        }
        self.checks.pop().map(|Reverse(check)| check.job)
    }

    /// Ends the first job, and starts the next one in the queue.
    pub(super) fn end(&mut self, now: u64) -> Option<Ended> {
        let Reverse(done) = self.running.pop()?;
        if let Some(next) = self.queue.pop_front() {
            self.start(next, now);
        }
        let found = (done.job.before as usize).min(LATENCY_BUCKETS - 1);
        let (latency, took) = (&mut self.latencies[found], (now - done.job.arrived) as f64);
        *latency = if *latency == 0.0 {
            took
        } else {
            *latency + (took - *latency) / 8.0
        };
        let service = now - done.started;
        Some(Ended {
            job: done.job,
            service,
        })
    }

    /// Returns the answer to a load probe: the number of requests here, and the latency of requests that found about as
    /// many. `None` if no request has ended here yet.
    pub(super) fn probe(&self) -> Option<(usize, u64)> {
        let here = self.present();
        let known = (0..LATENCY_BUCKETS).filter(|&found| self.latencies[found] > 0.0);
        let nearest = known.min_by_key(|found| found.abs_diff(here))?;
        Some((here, self.latencies[nearest] as u64))
    }

    /// Cancels a job. Returns whether it was here.
    pub(super) fn cancel(&mut self, serial: u32, now: u64) -> bool {
        if let Some(at) = self.queue.iter().position(|job| job.serial == serial) {
            self.queue.remove(at);
            return true;
        }
        let before = self.running.len();
        self.running
            .retain(|Reverse(running)| running.job.serial != serial);
        let was_running = self.running.len() < before;
        if was_running {
            if let Some(next) = self.queue.pop_front() {
                self.start(next, now);
            }
        }
        was_running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(slots: usize, queue: usize) -> Machine {
        Machine::new(0, 1.0, Some(slots), Some(queue), 0)
    }

    fn job(serial: u32, work: f64) -> Job {
        Job {
            call: serial,
            serial,
            work,
            fails: false,
            arrived: 0,
            before: 0,
        }
    }

    /// Runs the machine until it is idle. Returns which job ended when.
    fn ends(machine: &mut Machine) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| {
            let at = machine.next_end();
            (at != NEVER).then(|| (machine.end(at).unwrap().job.serial, at))
        })
        .collect()
    }

    #[test]
    fn first_come_first_served_in_as_many_slots_as_there_are() {
        let mut machine = machine(2, 9);
        for (serial, work) in [(1, 10.0), (2, 4.0), (3, 3.0), (4, 1.0)] {
            assert_eq!(machine.arrive(job(serial, work), 0), Arrival::Accepted);
        }
        assert_eq!(machine.present(), 4);
        assert_eq!(ends(&mut machine), [(2, 4), (3, 7), (4, 8), (1, 10)]);
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let mut machine = machine(1, 1);
        let arrive = |machine: &mut Machine, serial| machine.arrive(job(serial, 5.0), 0);
        assert_eq!(arrive(&mut machine, 1), Arrival::Accepted);
        assert_eq!(arrive(&mut machine, 2), Arrival::Accepted);
        assert_eq!(arrive(&mut machine, 3), Arrival::Full);
    }

    #[test]
    fn a_change_of_speed_counts_for_what_is_left() {
        let mut machine = machine(1, 0);
        machine.arrive(job(1, 10.0), 0);
        machine.set_faults([What::Slow(0.1)].into_iter(), 5);
        assert_eq!(machine.next_end(), 55);
        machine.set_faults([What::Stalls].into_iter(), 15);
        assert_eq!(machine.next_end(), NEVER);
        machine.set_faults([].into_iter(), 100);
        assert_eq!(machine.next_end(), 104);
        assert!(!machine.is_unwell() && machine.was_unwell(99) && !machine.was_unwell(100));
    }

    #[test]
    fn a_server_that_refuses_or_hangs_keeps_nothing() {
        let mut machine = machine(1, 0);
        for (what, arrival) in [
            (What::Refuses, Arrival::Refused),
            (What::Hangs, Arrival::Swallowed),
        ] {
            machine.set_faults([what].into_iter(), 0);
            assert_eq!(machine.arrive(job(1, 1.0), 0), arrival);
            assert_eq!(machine.present(), 0);
        }
    }

    #[test]
    fn a_probe_tells_of_requests_that_found_as_many() {
        let mut machine = machine(1, 99);
        assert_eq!(machine.probe(), None);
        (1..=3).for_each(|serial| {
            machine.arrive(job(serial, 10.0), 0);
        });
        ends(&mut machine);
        assert_eq!(machine.probe(), Some((0, 10)));
        (4..=6).for_each(|serial| {
            machine.arrive(job(serial, 10.0), 30);
        });
        // Three requests are here. The nearest known latency is 30, of those that found two.
        assert_eq!(machine.probe(), Some((3, 30)));
    }

    #[test]
    fn a_check_takes_no_slot_and_waits_while_all_stalls() {
        let mut machine = machine(1, 0);
        machine.arrive(job(1, 10.0), 0);
        machine.check(job(2, 4.0), 0);
        machine.check(job(3, 12.0), 0);
        assert_eq!((machine.present(), machine.next_end()), (1, 4));
        assert_eq!(machine.end_check().map(|check| check.serial), Some(2));
        machine.set_faults([What::Stalls].into_iter(), 6);
        assert_eq!(machine.next_end(), NEVER);
        machine.set_faults([].into_iter(), 100);
        assert_eq!(machine.next_end(), 104);
        assert!(machine.end_check().is_none(), "the job ends first");
        assert!(machine.end(104).is_some());
        assert_eq!(machine.next_end(), 106);
        assert_eq!(machine.end_check().map(|check| check.serial), Some(3));
    }

    #[test]
    fn a_cancelled_job_makes_room() {
        let mut machine = machine(1, 9);
        (1..=3).for_each(|serial| {
            machine.arrive(job(serial, 10.0), 0);
        });
        assert!(machine.cancel(2, 1) && machine.cancel(1, 1) && !machine.cancel(1, 1));
        assert_eq!(ends(&mut machine), [(3, 11)]);
    }
}
