//! Active checks: the driver of each client's fleet, and the checks in progress.

use std::collections::HashMap;
use std::time::Duration;

use super::balancing::{Violation, World};
use super::fleets::{Client, Server};
use super::invariants::is_newly_ejected;
use crate::error::BuildError;
use crate::fleet::{HealthCheck, Probe};
use crate::health::HealthCheckSettings;
use crate::outcome::Outcome;
use crate::time::{Tick, nanos};

/// A check to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The number of the check in the order of sending.
    pub(super) number: u32,
    pub(super) machine: u32,
}

/// The result of driving the drivers.
#[derive(Debug, Default)]
pub(super) struct Driven {
    /// The checks to be sent.
    pub(super) checks: Vec<Check>,
    /// The machines that the drivers have ejected.
    pub(super) ejected: Vec<usize>,
}

/// A check in progress.
struct UnderWay {
    client: usize,
    machine: usize,
    probe: Probe<Server>,
}

/// The drivers of all clients.
pub(super) struct Drivers {
    /// The driver of each client.
    each: Vec<HealthCheck<Server>>,
    /// The checks in progress, by [`Check::number`].
    under_way: HashMap<u32, UnderWay>,
    /// How many checks have been sent.
    sent: u32,
    settings: HealthCheckSettings,
}

impl Drivers {
    pub(super) fn new(
        clients: &[Client],
        settings: &HealthCheckSettings,
    ) -> Result<Self, BuildError> {
        let driver = |client: &Client| client.fleet.health_check(settings.clone());
        Ok(Self {
            each: clients.iter().map(driver).collect::<Result<_, _>>()?,
            under_way: HashMap::new(),
            sent: 0,
            settings: settings.clone(),
        })
    }

    pub(super) fn timeout(&self) -> u64 {
        nanos(self.settings.timeout)
    }

    /// The longest time that an endpoint may stay ejected until its next check, whatever the length of its ejection,
    /// and the longest time that a check may be in progress.
    pub(super) fn longest_wait(&self) -> Duration {
        self.settings.longest_wait()
    }

    /// Runs a client's driver and adds the checks that are due, and the ejections that it made, to `driven`.
    pub(super) fn tick(
        &mut self,
        number: usize,
        client: &mut Client,
        now: Tick,
        driven: &mut Driven,
    ) {
        let before = client.fleet.shared().counters.ejections.get();
        for probe in self.each[number].tick() {
            let machine = probe.endpoint().machine;
            client.checked[machine as usize] += 1;
            self.sent = self.sent.wrapping_add(1);
            driven.checks.push(Check {
                number: self.sent,
                machine,
            });
            let under_way = UnderWay {
                client: number,
                machine: machine as usize,
                probe,
            };
            self.under_way.insert(self.sent, under_way);
        }
        if client.fleet.shared().counters.ejections.get() > before {
            client.touched = true;
            let ejected = ejected_at(client, now);
            driven.ejected.extend(ejected);
        }
    }

    /// Takes the end of a check and returns its machine, or `None` if the check had ended before. The driver may ask
    /// for another check at once.
    pub(super) fn ended(
        &mut self,
        number: u32,
        outcome: Outcome,
        clients: &mut [Client],
        world: &World,
        driven: &mut Driven,
    ) -> Result<Option<usize>, Violation> {
        let Some(ended) = self.under_way.remove(&number) else {
            return Ok(None);
        };
        let UnderWay {
            client: at,
            machine,
            probe,
        } = ended;
        let client = &mut clients[at];
        let now = Tick::from_nanos(world.now);
        let member = probe.member().clone();
        let was_out = member.core().standing.get().is_ejected();
        probe.finish(outcome);
        client.checked[machine] -= 1;
        client.touched = true;
        let ejected = is_newly_ejected(&member, was_out, now)?;
        drop(member);
        if self.each[at].next_due().is_zero() {
            self.tick(at, client, now, driven);
        }
        if ejected && !driven.ejected.contains(&machine) {
            driven.ejected.push(machine);
        }
        Ok(Some(machine))
    }
}

/// Returns the machines that this client has ejected exactly at the time `now`.
fn ejected_at(client: &Client, now: Tick) -> Vec<usize> {
    let members = client.fleet.members();
    let ejected = members.iter().filter(|member| {
        let state = member.core();
        state.standing.get().is_ejected() && state.ejected_at() == now.as_nanos()
    });
    ejected
        .map(|member| member.endpoint().machine as usize)
        .collect()
}
