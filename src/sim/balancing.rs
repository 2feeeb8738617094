//! What stands between clients and servers: the trait [`Balancing`], and the world as it looks at it.

use super::drivers::Driven;
use super::machine::Machine;
use super::random::{Purpose, Stream};
use crate::outcome::Outcome;

/// The servers as they truly are. Oracles look at all of it; others know the members and the time.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) now: u64,
    pub(super) machines: Vec<Machine>,
    /// Which machine is at each position.
    pub(super) members: Vec<u32>,
    pub(super) one_way: u64,
    pub(super) mean_work: f64,
}

impl World {
    /// How much work a request is at a machine now, and whether it fails there. It depends on the seed, the
    /// request and the machine, not on when it is asked.
    pub(super) fn work_on(&self, machine: usize, request: u64, work: f64) -> (f64, bool) {
        let index = request ^ ((machine as u64) << 44);
        let mut draws = Stream::new(self.seed, Purpose::Failures, index);
        let condition = self.machines[machine].condition();
        condition.work_of(work, draws.share(), draws.share())
    }
}

/// Machines that a request was sent to: at most one more than there are retries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    machines: [u32; 4],
    count: usize,
}

impl Tried {
    pub(super) fn push(&mut self, machine: usize) {
        self.machines[self.count] = machine as u32;
        self.count += 1;
    }

    pub(super) fn as_slice(&self) -> &[u32] {
        &self.machines[..self.count]
    }
}

/// One attempt that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Its place among those under way.
    pub(super) call: u32,
    pub(super) client: u32,
    /// Counts requests in the order of their arrival: the same for every policy.
    pub(super) request: u64,
    pub(super) work: f64,
    pub(super) tried: Tried,
}

/// Where an attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Machine(usize),
    /// A queue before all servers, which nobody has in reality.
    Central,
    Nowhere,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) call: u32,
    pub(super) client: u32,
    pub(super) machine: usize,
    pub(super) outcome: Outcome,
    pub(super) sent: u64,
    /// What the server adds to its answer, for policies that ask for it: how many requests it had when it
    /// answered, and how long it worked on this one.
    pub(super) present: u32,
    pub(super) service: u64,
}

/// What an attempt's end led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The machine was taken out by it.
    pub(super) ejected: bool,
}

/// How far a call has got that decides itself where and when it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Its attempt is over, at this machine.
    pub(super) ended: Option<(usize, Verdict)>,
    pub(super) next: Next,
    /// When it wants to go on at the latest.
    pub(super) wake: Option<u64>,
}

/// What a call does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits.
    #[default]
    Waits,
    /// It has been sent, to this machine.
    Sent(usize),
    /// It is over. Whether it failed as the budget denied a retry.
    Ended { success: bool, denied: bool },
}

/// A promise that was broken: what, in words.
pub(super) type Broken = String;

/// Of which machine a check was that has ended, and what that led to.
pub(super) type CheckEnded = (Option<usize>, Driven);

/// Chooses for all clients.
pub(super) trait Balancing {
    fn pick(&mut self, attempt: &Attempt, world: &World) -> Result<Target, Broken>;

    fn ended(&mut self, ending: &Ending, world: &World) -> Result<Verdict, Broken>;

    /// Whether calls decide themselves where and when they are sent. Then these two are asked, not the two above.
    fn calls(&self) -> bool {
        false
    }

    fn begin(&mut self, _: &Attempt, _: &World) -> Result<Progress, Broken> {
        Ok(Progress::default())
    }

    /// Its attempt has ended, or it is time to go on.
    fn go_on(&mut self, _: u32, _: Option<Outcome>, _: &World) -> Result<Progress, Broken> {
        Ok(Progress::default())
    }

    /// A machine has taken the place of another.
    fn replaced(&mut self, old: usize, new: usize, world: &World) -> Result<(), Broken>;

    /// Ten times a second. How many endpoints each client has ejected, summed.
    fn tick(&mut self, world: &World) -> usize;

    /// For how long these machines are out still, until their next probes: of each machine and client, in order.
    fn out_for(&self, _: &[u32], _: &World) -> Vec<u64> {
        Vec::new()
    }

    /// Checks everything, of very many in turn.
    fn check(&mut self, _: &World) -> Result<(), Broken> {
        Ok(())
    }

    /// Checks everything, at the end.
    fn check_all(&mut self, _: &World) -> Result<(), Broken> {
        Ok(())
    }

    /// For a central queue: which machine its first request goes to now, if to any.
    fn dispatch(&mut self, _work: f64, _world: &World) -> Option<usize> {
        None
    }

    /// Questions to servers how they fare: client and machine.
    fn questions(&mut self) -> &[(u32, u32)] {
        &[]
    }

    fn asked(&mut self) {}

    /// How long a check may take, if there are any.
    fn check_timeout(&self) -> Option<u64> {
        None
    }

    /// Every 20 ms, where there are checks.
    fn checks_due(&mut self, _: &World) -> Driven {
        Driven::default()
    }

    /// A check has ended, and perhaps has before.
    fn check_ended(&mut self, _number: u32, _: Outcome, _: &World) -> Result<CheckEnded, Broken> {
        Ok((None, Driven::default()))
    }

    /// A server's answer: how many requests it has, and how long they take.
    fn answered(&mut self, _client: u32, _machine: usize, _fares: (usize, u64), _now: u64) {}
}
