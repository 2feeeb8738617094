//! The interface between the engine and what balances: the trait [`Balancing`], and the [`World`] that it sees.

use super::drivers::Driven;
use super::machine::Machine;
use super::random::{Purpose, Stream};
use crate::outcome::Outcome;

/// The true state of the servers. Only oracles use all of it; fleets and models use the members and the time.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) now: u64,
    pub(super) machines: Vec<Machine>,
    /// The machine at each position.
    pub(super) members: Vec<u32>,
    /// The network delay in each direction, in nanoseconds.
    pub(super) one_way: u64,
    /// The mean work of a request, in nanoseconds at speed 1.
    pub(super) mean_work: f64,
}

impl World {
    /// Returns the work of a request at a machine in its current condition, and whether the request fails there.
    ///
    /// The random numbers depend on the seed, the request and the machine alone, not on the time of the call.
    pub(super) fn work_on(&self, machine: usize, request: u64, work: f64) -> (f64, bool) {
        let index = request ^ ((machine as u64) << 44);
        let mut draws = Stream::new(self.seed, Purpose::Failures, index);
        let condition = self.machines[machine].condition();
        condition.work_of(work, draws.share(), draws.share())
    }
}

/// The machines to which earlier attempts of a request were sent: at most 3, as a scenario has at most 3 retries.
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

/// An attempt to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// The index of its call. An index is used again after the call has ended.
    pub(super) call: u32,
    pub(super) client: u32,
    /// The number of the request in the order of arrival. It is the same for every policy.
    pub(super) request: u64,
    pub(super) work: f64,
    pub(super) tried: Tried,
}

/// The destination of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Machine(usize),
    /// A central queue in front of all servers. Only an oracle has one.
    Central,
    /// No machine can be picked: the request fails at once.
    Nowhere,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) call: u32,
    pub(super) client: u32,
    pub(super) machine: usize,
    pub(super) outcome: Outcome,
    pub(super) sent: u64,
    /// How many requests the server had when it answered. The server reports this and `service` with its answer, for
    /// policies that use them.
    pub(super) present: u32,
    /// How long the server worked on this request, in nanoseconds; 0 if there is no answer or it refused the request.
    pub(super) service: u64,
}

/// The consequence of an attempt's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The machine was ejected because of it.
    pub(super) ejected: bool,
}

/// The progress of a call of a [`Caller`](crate::Caller), which itself decides where and when attempts are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CallStep {
    /// The machine whose attempt has ended, if one has, and the consequence.
    pub(super) ended: Option<(usize, Verdict)>,
    pub(super) status: CallStatus,
    /// The time of its earliest timer: when to poll it at the latest.
    pub(super) wake: Option<u64>,
}

/// What such a call does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CallStatus {
    /// The call waits.
    #[default]
    Waits,
    /// The call has sent an attempt to this machine.
    Sent(usize),
    /// The call has ended. `denied`: it failed because the budget denied a retry.
    Ended { success: bool, denied: bool },
}

/// The description of a violated invariant.
pub(super) type Violation = String;

/// The machine of an ended check, or `None` if the check had ended before, and what the drivers did as a result.
pub(super) type CheckEnded = (Option<usize>, Driven);

/// The balancers of all clients.
pub(super) trait Balancing {
    /// Picks the destination of an attempt.
    fn pick(&mut self, attempt: &Attempt, world: &World) -> Result<Target, Violation>;

    /// Takes the end of an attempt.
    fn ended(&mut self, ending: &Ending, world: &World) -> Result<Verdict, Violation>;

    /// Whether calls themselves decide where and when attempts are sent. If so, the engine uses [`begin`](Self::begin)
    /// and [`resume`](Self::resume) instead of [`pick`](Self::pick) and [`ended`](Self::ended).
    fn calls(&self) -> bool {
        false
    }

    /// Starts a call.
    fn begin(&mut self, _: &Attempt, _: &World) -> Result<CallStep, Violation> {
        Ok(CallStep::default())
    }

    /// Continues a call: its attempt has ended with this outcome, or its timer is due.
    fn resume(&mut self, _: u32, _: Option<Outcome>, _: &World) -> Result<CallStep, Violation> {
        Ok(CallStep::default())
    }

    /// Takes the replacement of a machine by another one.
    fn replaced(&mut self, old: usize, new: usize, world: &World) -> Result<(), Violation>;

    /// Is called ten times a second. Returns the number of ejected endpoints, summed over all clients.
    fn tick(&mut self, world: &World) -> usize;

    /// Returns, for each of these machines and each client, how long the ejection still lasts until the next probe is
    /// due. Sorted; 0 for a machine that is not ejected. Empty for models and oracles.
    fn out_for(&self, _: &[u32], _: &World) -> Vec<u64> {
        Vec::new()
    }

    /// Checks all invariants; where there are very many members, of some clients at a time, in rotation.
    fn check(&mut self, _: &World) -> Result<(), Violation> {
        Ok(())
    }

    /// Checks all invariants of all clients, at the end of the run.
    fn check_all(&mut self, _: &World) -> Result<(), Violation> {
        Ok(())
    }

    /// For a central queue: returns the machine to which its first request goes now, if any.
    fn dispatch(&mut self, _work: f64, _world: &World) -> Option<usize> {
        None
    }

    /// Returns the load probes to send to servers, each a client and a machine (see Prequal).
    fn load_probes(&mut self) -> &[(u32, u32)] {
        &[]
    }

    /// Clears the [`load_probes`](Self::load_probes), which have been sent.
    fn clear_load_probes(&mut self) {}

    /// Returns the timeout of active checks, or `None` if there are no checks.
    fn check_timeout(&self) -> Option<u64> {
        None
    }

    /// Is called every 20 ms if there are active checks. Returns those to send.
    fn checks_due(&mut self, _: &World) -> Driven {
        Driven::default()
    }

    /// Takes the end of an active check. It is called again for a check that was answered and then times out.
    fn check_ended(
        &mut self,
        _number: u32,
        _: Outcome,
        _: &World,
    ) -> Result<CheckEnded, Violation> {
        Ok((None, Driven::default()))
    }

    /// Takes a server's answer to a load probe: how many requests it has, and its latency estimate in nanoseconds.
    fn take_load_report(&mut self, _client: u32, _machine: usize, _load: (usize, u64), _now: u64) {}
}
