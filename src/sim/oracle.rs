//! Oracles: balancers with perfect information about requests in transit, the current speed of each server and
//! failures. Their results are the bound with which other policies are compared.

use super::balancing::{Attempt, Balancing, Ending, Target, Verdict, Violation, World};
use super::calendar::NEVER;
use super::machine::Machine;
use super::random::{Purpose, Stream};

/// The rule of an oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// One central queue in front of all servers. A request goes to a server with a free slot, unless it is expected to
    /// end sooner by waiting for a faster one.
    CentralQueue,
    /// Each request goes where it is expected to end first, given all work that is there or in transit.
    LeastWork,
    /// Each request goes where the fewest requests are relative to speed and slots, including those in transit.
    ShortestQueue,
}

/// An oracle that picks for all clients.
pub(super) struct Oracle {
    rule: Rule,
    random: Stream,
    /// For `LeastWork`, by machine: when each slot becomes free, on the machine's work clock.
    free: Vec<Vec<f64>>,
}

impl Oracle {
    pub(super) fn new(rule: Rule, machines: usize, seed: u64) -> Self {
        Self {
            rule,
            random: Stream::new(seed, Purpose::Policy, 0),
            free: vec![Vec::new(); machines],
        }
    }

    /// Returns the untried member with the lowest cost among those that answer and have the lowest failure rate. A
    /// random start breaks ties. `None` if no member answers, or if all of these have been tried.
    fn lowest(
        &mut self,
        world: &World,
        tried: &[u32],
        mut cost: impl FnMut(usize, &Machine) -> (f64, f64),
    ) -> Option<usize> {
        let failing = |&member: &u32| {
            let condition = world.machines[member as usize].condition();
            (!condition.is_silent()).then_some(condition.fails)
        };
        let least = world
            .members
            .iter()
            .filter_map(failing)
            .fold(f64::INFINITY, f64::min);
        let start = self.random.index(world.members.len());
        let (before, after) = world.members.split_at(start);
        let mut best = None;
        let mut lowest = (f64::INFINITY, f64::INFINITY);
        for member in after.iter().chain(before) {
            let machine = &world.machines[*member as usize];
            if failing(member) != Some(least) || tried.contains(member) {
                continue;
            }
            let cost = cost(*member as usize, machine);
            if cost < lowest {
                (best, lowest) = (Some(*member as usize), cost);
            }
        }
        best
    }

    fn least_work(&mut self, attempt: &Attempt, world: &World) -> Option<usize> {
        let free = std::mem::take(&mut self.free);
        // When the request would start, on the machine's work clock.
        let starts = |at: usize, machine: &Machine| {
            let arrives = machine.work_clock(world.now) + world.one_way as f64 * machine.speed();
            first_free(&free[at], machine.slots()).map_or(arrives, |(_, free)| free.max(arrives))
        };
        let best = self.lowest(world, attempt.tried.as_slice(), |at, machine| {
            let left = starts(at, machine) - machine.work_clock(world.now);
            let done = (left + machine.condition().expected_work(attempt.work)) / machine.speed();
            (done, f64::from(machine.outstanding))
        });
        let best = best.map(|best| {
            let machine = &world.machines[best];
            let (work, _) = world.work_on(best, attempt.request, attempt.work);
            (best, starts(best, machine) + work, machine.slots())
        });
        self.free = free;
        let (best, ends, slots) = best?;
        let slot = first_free(&self.free[best], slots);
        match slot {
            Some((slot, _)) => self.free[best][slot] = ends,
            // A machine with unlimited slots needs no bookkeeping. Otherwise a slot gets its entry on its first use.
            None if slots < usize::MAX => self.free[best].push(ends),
            None => {}
        }
        Some(best)
    }
}

/// Returns the slot that becomes free first, and when; `None` if there is a slot that was never used.
fn first_free(free: &[f64], slots: usize) -> Option<(usize, f64)> {
    if free.len() < slots {
        return None;
    }
    let slots = free.iter().copied().enumerate();
    slots.min_by(|(_, one), (_, another)| one.total_cmp(another))
}

impl Balancing for Oracle {
    fn pick(&mut self, attempt: &Attempt, world: &World) -> Result<Target, Violation> {
        let tried = attempt.tried.as_slice();
        let found = match self.rule {
            Rule::CentralQueue => return Ok(Target::Central),
            Rule::LeastWork => self.least_work(attempt, world),
            Rule::ShortestQueue => self.lowest(world, tried, |_, machine| {
                let ahead = f64::from(machine.outstanding) + 1.0;
                let turns = (ahead / machine.slots() as f64).max(1.0);
                let work = machine.condition().expected_work(world.mean_work);
                (turns * work / machine.speed(), ahead)
            }),
        };
        let untried = || world.members.iter().find(|member| !tried.contains(member));
        let found = found.or_else(|| untried().map(|&member| member as usize));
        Ok(found.map_or(Target::Nowhere, Target::Machine))
    }

    fn ended(&mut self, _: &Ending, _: &World) -> Result<Verdict, Violation> {
        Ok(Verdict::default())
    }

    fn replaced(&mut self, _: usize, _: usize, _: &World) -> Result<(), Violation> {
        Ok(())
    }

    fn tick(&mut self, _: &World) -> usize {
        0
    }

    fn dispatch(&mut self, work: f64, world: &World) -> Option<usize> {
        let best = self.lowest(world, &[], |_, machine| {
            let wait = match machine.next_end() {
                _ if machine.has_free_slot() => 0.0,
                NEVER => f64::INFINITY,
                ends => ends.saturating_sub(world.now) as f64,
            };
            let done = wait + machine.condition().expected_work(work) / machine.speed();
            (done, machine.present() as f64)
        });
        best.filter(|&best| world.machines[best].has_free_slot())
    }
}
