//! Balancers that know everything: what is on the wire, how fast each server is now, and who fails. What
//! they reach is the bound that others are held against.

use super::balancing::{Attempt, Balancing, Broken, Ending, Target, Verdict, World};
use super::calendar::NEVER;
use super::machine::Machine;
use super::random::{Purpose, Stream};

/// Which rule an oracle follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// One queue before all servers; a request goes to a server that has a free slot, unless it would be
    /// done sooner by waiting for a faster one.
    CentralQueue,
    /// Each request goes where it will be done first, given all the work that is there or on the wire.
    LeastWork,
    /// Each goes where the fewest requests are for the speed, those on the wire included.
    ShortestQueue,
}

pub(super) struct Oracle {
    rule: Rule,
    random: Stream,
    /// For `LeastWork`, by machine: when each slot is free, on the machine's clock of work.
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

    /// The member with the lowest cost among those that fail least and answer at all, from a random start
    /// on; `None` if none answers.
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
        // When it would be started, on the machine's clock of work.
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
            // A server of unlimited slots needs no account; one of few gets a slot with its first use.
            None if slots < usize::MAX => self.free[best].push(ends),
            None => {}
        }
        Some(best)
    }
}

/// The slot that is free first, and when; `None` if one was never used.
fn first_free(free: &[f64], slots: usize) -> Option<(usize, f64)> {
    if free.len() < slots {
        return None;
    }
    let slots = free.iter().copied().enumerate();
    slots.min_by(|(_, one), (_, another)| one.total_cmp(another))
}

impl Balancing for Oracle {
    fn pick(&mut self, attempt: &Attempt, world: &World) -> Result<Target, Broken> {
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

    fn ended(&mut self, _: &Ending, _: &World) -> Result<Verdict, Broken> {
        Ok(Verdict::default())
    }

    fn replaced(&mut self, _: usize, _: usize, _: &World) -> Result<(), Broken> {
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
