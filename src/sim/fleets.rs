//! The crate itself between clients and servers: a real [`Fleet`] per client, with its seed, its policy and its leases,
//! on one manual clock. The crate's invariants are checked at every step.

use std::sync::Arc;
use std::time::Duration;

use super::balancing::{Attempt, Balancing, CheckEnded, Ending, Target, Verdict, Violation, World};
use super::drivers::{Driven, Drivers};
use super::invariants::{check_fleet, check_member, check_pick, is_newly_ejected};
use super::random::{Purpose, Stream};
use crate::cluster::Cluster;
use crate::endpoint::{Endpoint, Weight};
use crate::error::BuildError;
use crate::fleet::{Fleet, FleetBuilder};
use crate::health::HealthCheckSettings;
use crate::member::Lease;
use crate::options::{MemberId, PickOptions};
use crate::outcome::Outcome;
use crate::time::{ManualClock, Tick, nanos};

/// A simulated server as an endpoint of a client's fleet.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) machine: u32,
    position: u32,
    weight: Weight,
    /// Its reference count is the number of endpoint objects that exist.
    _alive: Arc<()>,
}

impl Server {
    /// Returns the server's position in the scenario, from 0.
    ///
    /// A server that [replaces](super::Scenario::replace) another one has the same position and a different key.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position as usize
    }
}

impl Endpoint for Server {
    type Key = u32;

    fn key(&self) -> u32 {
        self.machine
    }

    fn weight(&self) -> Weight {
        self.weight
    }
}

/// A client's fleet, and the state that the invariant checks expect of it.
pub(super) struct Client {
    pub(super) fleet: Fleet<Server>,
    alive: Arc<()>,
    /// The number of leases held, by machine.
    pub(super) held: Vec<u32>,
    /// The number of checks in progress, by machine.
    pub(super) checked: Vec<u32>,
    /// The longest time that an endpoint may stay ejected because it waits for an active check; 0 without checks.
    pub(super) longest_wait: Duration,
    /// Whether an event has touched the fleet since its last full check. An untouched fleet has not changed and needs
    /// no check.
    pub(super) touched: bool,
}

impl Client {
    /// Returns the number of this client's endpoint objects that exist.
    pub(super) fn alive(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }
}

/// All clients with a fleet each.
pub(super) struct Fleets {
    pub(super) clock: ManualClock,
    pub(super) clients: Vec<Client>,
    drivers: Option<Drivers>,
    /// The leases held, by [`Attempt::call`].
    leases: Vec<Option<Lease<Server>>>,
    weights: Vec<u32>,
    ticks: u64,
    /// The client with which the next full check begins.
    next_checked: usize,
}

/// How many members one full check covers, so that runs with a thousand clients do not spend their time on checks.
const CHECKED_AT_ONCE: usize = 5_000;

impl Fleets {
    pub(super) fn new(
        make: &dyn Fn() -> FleetBuilder<Server>,
        clients: usize,
        weights: &[u32],
        machines: usize,
        world: &World,
    ) -> Result<Self, BuildError> {
        let clock = ManualClock::new();
        let client = |number: usize| {
            let alive = Arc::new(());
            let members = world.members.iter().zip(weights);
            let endpoints: Vec<_> = members
                .map(|(&machine, &weight)| server(machine, world, weight, &alive))
                .collect();
            let seed = Stream::new(world.seed, Purpose::Policy, number as u64).next();
            let fleet = make()
                .endpoints(endpoints)
                .clock(clock.clone())
                .seed(seed)
                .build()?;
            Ok(Client {
                fleet,
                alive,
                held: vec![0; machines],
                checked: vec![0; machines],
                longest_wait: Duration::ZERO,
                touched: true,
            })
        };
        Ok(Self {
            clients: (0..clients)
                .map(client)
                .collect::<Result<_, BuildError>>()?,
            clock,
            drivers: None,
            leases: Vec::new(),
            weights: weights.to_vec(),
            ticks: 0,
            next_checked: 0,
        })
    }

    /// Adds a driver of active checks to each fleet.
    pub(super) fn with_checks(
        mut self,
        settings: &HealthCheckSettings,
    ) -> Result<Self, BuildError> {
        let drivers = Drivers::new(&self.clients, settings)?;
        for client in &mut self.clients {
            client.longest_wait = drivers.longest_wait();
        }
        self.drivers = Some(drivers);
        Ok(self)
    }
}

fn server(machine: u32, world: &World, weight: u32, alive: &Arc<()>) -> Server {
    Server {
        machine,
        position: world.machines[machine as usize].position as u32,
        weight: Weight::new(weight),
        _alive: alive.clone(),
    }
}

impl Balancing for Fleets {
    fn pick(&mut self, attempt: &Attempt, world: &World) -> Result<Target, Violation> {
        self.clock.set(Tick::from_nanos(world.now));
        let client = &mut self.clients[attempt.client as usize];
        let tried = attempt.tried.as_slice();
        let mut ids = [MemberId::new(0); 4];
        for (id, machine) in ids.iter_mut().zip(tried) {
            if let Some(member) = client.fleet.member(machine) {
                *id = member.id();
            }
        }
        let options = PickOptions::new().avoid(&ids[..tried.len()]);
        let Ok(lease) = client.fleet.pick_endpoint_with(&options) else {
            return Ok(Target::Nowhere);
        };
        check_pick(lease.endpoint().machine, tried, world)?;
        let machine = lease.endpoint().machine as usize;
        client.held[machine] += 1;
        client.touched = true;
        check_member(client, lease.member(), world.now)?;
        let call = attempt.call as usize;
        if call >= self.leases.len() {
            self.leases.resize_with(call + 1, || None);
        }
        self.leases[call] = Some(lease);
        Ok(Target::Machine(machine))
    }

    fn ended(&mut self, ending: &Ending, world: &World) -> Result<Verdict, Violation> {
        self.clock.set(Tick::from_nanos(world.now));
        let lease = self.leases[ending.call as usize].take();
        let lease = lease.ok_or("an attempt without a lease has ended")?;
        let client = &mut self.clients[ending.client as usize];
        let member = lease.member().clone();
        let was_out = member.core().standing.get().is_ejected();
        lease.record(ending.outcome);
        client.held[ending.machine] -= 1;
        client.touched = true;
        let ejected = is_newly_ejected(&member, was_out, Tick::from_nanos(world.now))?;
        check_member(client, &member, world.now)?;
        Ok(Verdict { ejected })
    }

    fn replaced(&mut self, old: usize, new: usize, world: &World) -> Result<(), Violation> {
        self.clock.set(Tick::from_nanos(world.now));
        let weight = self.weights[world.machines[new].position];
        for client in &mut self.clients {
            let server = server(new as u32, world, weight, &client.alive);
            let changed = client
                .fleet
                .insert(server)
                .map_err(|error| error.to_string())?;
            if changed.added != 1 || !client.fleet.remove(&(old as u32)) {
                return Err(format!("server {old} could not be replaced by {new}"));
            }
            check_fleet(client, world)?;
        }
        Ok(())
    }

    fn check_timeout(&self) -> Option<u64> {
        self.drivers.as_ref().map(Drivers::timeout)
    }

    fn checks_due(&mut self, world: &World) -> Driven {
        let now = Tick::from_nanos(world.now);
        self.clock.set(now);
        let mut driven = Driven::default();
        if let Some(drivers) = &mut self.drivers {
            for (number, client) in self.clients.iter_mut().enumerate() {
                drivers.tick(number, client, now, &mut driven);
            }
        }
        driven
    }

    fn check_ended(
        &mut self,
        number: u32,
        outcome: Outcome,
        world: &World,
    ) -> Result<CheckEnded, Violation> {
        self.clock.set(Tick::from_nanos(world.now));
        let mut driven = Driven::default();
        let Some(drivers) = &mut self.drivers else {
            return Ok((None, driven));
        };
        let ended = drivers.ended(number, outcome, &mut self.clients, world, &mut driven)?;
        Ok((ended, driven))
    }

    fn tick(&mut self, world: &World) -> usize {
        self.clock.set(Tick::from_nanos(world.now));
        self.ticks += 1;
        let mut ejected = 0;
        for client in &self.clients {
            // Where picks do no upkeep, run it once a second as an application's timer does.
            if self.ticks % 10 == 0 && !client.fleet.upkeep_by_picks() {
                client.fleet.maintain();
            }
            ejected += client.fleet.shared().ledger.read().ejected;
        }
        ejected
    }

    fn out_for(&self, machines: &[u32], world: &World) -> Vec<u64> {
        let now = Tick::from_nanos(world.now);
        let each = self.clients.iter().flat_map(|client| {
            let members = machines.iter().map(|key| client.fleet.member(key));
            members.flatten().map(|member| member.core().standing.get())
        });
        let left = each.map(|standing| match standing.is_ejected() {
            true => nanos(standing.probe_due_at(now).since(now)),
            false => 0,
        });
        let mut left: Vec<_> = left.collect();
        left.sort_unstable();
        left
    }

    fn check(&mut self, world: &World) -> Result<(), Violation> {
        let (count, members) = (self.clients.len(), world.members.len());
        let start = self.next_checked;
        let turn = (CHECKED_AT_ONCE / members).clamp(1, count);
        self.next_checked = (start + turn) % count;
        for number in start..start + turn {
            let client = &mut self.clients[number % count];
            if std::mem::take(&mut client.touched) {
                check_fleet(client, world)?;
            }
        }
        Ok(())
    }

    fn check_all(&mut self, world: &World) -> Result<(), Violation> {
        self.clients
            .iter()
            .try_for_each(|client| check_fleet(client, world))
    }
}

#[cfg(test)]
mod tests {
    use super::super::balancing::Tried;
    use super::super::machine::Machine;
    use super::*;

    fn world() -> World {
        World {
            seed: 7,
            now: 0,
            machines: (0..3)
                .map(|at| Machine::new(at, 1.0, Some(1), None, 0))
                .collect(),
            members: vec![0, 1, 2],
            one_way: 0,
            mean_work: 1.0,
        }
    }

    fn picked(world: &World) -> Fleets {
        let mut fleets =
            Fleets::new(&Fleet::builder, 1, &[1; 3], 3, world).expect("defaults are in range");
        let attempt = Attempt {
            call: 0,
            client: 0,
            request: 0,
            work: 1.0,
            tried: Tried::default(),
        };
        let target = fleets.pick(&attempt, world).expect("nothing is broken");
        assert!(matches!(target, Target::Machine(_)));
        fleets
    }

    /// Each kind of violated invariant is reported with a description. Bugs planted in the crate itself were found this
    /// way.
    #[test]
    fn a_violated_invariant_is_told() {
        type Plant = fn(&mut Fleets, &mut World);
        let plants: [(Plant, &str); 4] = [
            (
                |fleets, _| fleets.clients[0].held = vec![5; 3],
                "leases are held",
            ),
            (
                |_, world| world.machines[1].retire(),
                "is a member after its removal",
            ),
            (
                |_, world| world.members = vec![0, 1],
                "3 members for 2 servers",
            ),
            (
                |fleets, _| fleets.clients[0].alive = Arc::new(()),
                "endpoints are kept for 3 members",
            ),
        ];
        for (plant, text) in plants {
            let mut world = world();
            let mut fleets = picked(&world);
            fleets.check_all(&world).expect("nothing is broken yet");
            plant(&mut fleets, &mut world);
            let broken = fleets.check_all(&world).unwrap_err();
            assert!(broken.contains(text), "{broken}");
        }
    }
}
