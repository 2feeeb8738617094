//! Models of other balancers' rules, for comparison. As in those balancers, each client has its own state.
//!
//! The models are written from the rules' descriptions, with one default configuration each. Their results therefore
//! apply to the rule and not to another project's code.

mod c3;
mod choices;
mod envoy;
mod kratos;
mod peak_ewma;
mod prequal;

use super::balancing::{Attempt, Balancing, Ending, Target, Verdict, Violation, World};
use super::random::{Purpose, Stream};

pub(super) use c3::C3;
pub(super) use choices::Choices;
pub(super) use envoy::Envoy;
pub(super) use kratos::Kratos;
pub(super) use peak_ewma::{Breaker, PeakEwma};
pub(super) use prequal::Prequal;

/// A model's view when it picks and when it takes a result.
pub(super) struct ModelView<'a> {
    pub(super) now: u64,
    /// The machines that are members.
    pub(super) members: &'a [u32],
    /// This client's requests in flight, by machine.
    pub(super) in_flight: &'a [u32],
    /// The number of clients.
    pub(super) clients: usize,
    pub(super) random: &'a mut Stream,
}

impl ModelView<'_> {
    /// Returns a random member.
    pub(super) fn any(&mut self) -> usize {
        self.members[self.random.index(self.members.len())] as usize
    }

    /// Returns two different random members, or the same one twice if there is only one.
    pub(super) fn pair(&mut self) -> (usize, usize) {
        let count = self.members.len();
        let first = self.random.index(count);
        let second = match count {
            1 => first,
            _ => (first + 1 + self.random.index(count - 1)) % count,
        };
        (self.members[first] as usize, self.members[second] as usize)
    }

    /// Returns the member with the lowest score. A random start breaks ties.
    pub(super) fn lowest(&mut self, mut score: impl FnMut(usize) -> f64) -> usize {
        let start = self.random.index(self.members.len());
        let (before, after) = self.members.split_at(start);
        let mut best = (f64::INFINITY, self.members[start] as usize);
        for &machine in after.iter().chain(before) {
            let score = score(machine as usize);
            if score < best.0 {
                best = (score, machine as usize);
            }
        }
        best.1
    }
}

/// The balancer of one client.
pub(super) trait Model: Sized {
    /// Creates the state for all machines of the run, including later replacements.
    fn new(machines: usize) -> Self;

    /// Picks a machine.
    fn pick(&mut self, view: &mut ModelView<'_>) -> usize;

    /// Is called when a request is sent to a machine.
    fn sent(&mut self, _machine: usize, _now: u64) {}

    /// Takes the end of a request. Returns whether the machine is ejected because of it.
    fn ended(&mut self, _ending: &Ending, _view: &mut ModelView<'_>) -> bool {
        false
    }

    /// Is called when a new machine replaces another.
    fn joined(&mut self, _machine: usize, _now: u64) {}

    /// Returns the number of ejected members.
    fn ejected(&self, _members: &[u32]) -> usize {
        0
    }

    /// Calls `ask` for each machine to which a load probe is sent with this request.
    fn load_probes(&mut self, _view: &mut ModelView<'_>, _ask: &mut dyn FnMut(usize)) {}

    /// Takes the answer to a load probe: requests in flight and latency.
    fn take_load_report(&mut self, _machine: usize, _load: (usize, u64), _now: u64) {}
}

struct Client<M> {
    model: M,
    in_flight: Vec<u32>,
    random: Stream,
}

/// All clients with a model each.
pub(super) struct Models<M> {
    clients: Vec<Client<M>>,
    /// The load probes to send: client and machine.
    load_probes: Vec<(u32, u32)>,
}

impl<M: Model> Models<M> {
    pub(super) fn new(clients: usize, machines: usize, seed: u64) -> Self {
        let client = |number| Client {
            model: M::new(machines),
            in_flight: vec![0; machines],
            random: Stream::new(seed, Purpose::Policy, number as u64),
        };
        Self {
            clients: (0..clients).map(client).collect(),
            load_probes: Vec::new(),
        }
    }
}

/// How often a model is asked again when it picks a machine that was already tried. After that the first untried member
/// is taken.
const AGAIN: usize = 16;

impl<M: Model> Balancing for Models<M> {
    fn pick(&mut self, attempt: &Attempt, world: &World) -> Result<Target, Violation> {
        let clients = self.clients.len();
        let Client {
            model,
            in_flight,
            random,
        } = &mut self.clients[attempt.client as usize];
        let mut view = ModelView {
            now: world.now,
            members: &world.members,
            in_flight,
            clients,
            random,
        };
        let tried = attempt.tried.as_slice();
        let mut machine = model.pick(&mut view);
        for _ in 0..AGAIN {
            if !tried.contains(&(machine as u32)) {
                break;
            }
            machine = model.pick(&mut view);
        }
        if tried.contains(&(machine as u32)) {
            let untried = world.members.iter().find(|member| !tried.contains(member));
            let Some(&untried) = untried else {
                return Ok(Target::Nowhere);
            };
            machine = untried as usize;
        }
        let load_probes = &mut self.load_probes;
        model.load_probes(&mut view, &mut |machine| {
            load_probes.push((attempt.client, machine as u32));
        });
        model.sent(machine, world.now);
        in_flight[machine] += 1;
        Ok(Target::Machine(machine))
    }

    fn ended(&mut self, ending: &Ending, world: &World) -> Result<Verdict, Violation> {
        let clients = self.clients.len();
        let client = &mut self.clients[ending.client as usize];
        client.in_flight[ending.machine] -= 1;
        let mut view = ModelView {
            now: world.now,
            members: &world.members,
            in_flight: &client.in_flight,
            clients,
            random: &mut client.random,
        };
        let ejected = client.model.ended(ending, &mut view);
        Ok(Verdict { ejected })
    }

    fn replaced(&mut self, _: usize, new: usize, world: &World) -> Result<(), Violation> {
        for client in &mut self.clients {
            client.model.joined(new, world.now);
        }
        Ok(())
    }

    fn tick(&mut self, world: &World) -> usize {
        let ejected = |client: &Client<M>| client.model.ejected(&world.members);
        self.clients.iter().map(ejected).sum()
    }

    fn load_probes(&mut self) -> &[(u32, u32)] {
        &self.load_probes
    }

    fn clear_load_probes(&mut self) {
        self.load_probes.clear();
    }

    fn take_load_report(&mut self, client: u32, machine: usize, load: (usize, u64), now: u64) {
        self.clients[client as usize]
            .model
            .take_load_report(machine, load, now);
    }
}
