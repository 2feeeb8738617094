//! Active checks: a driver beside each client's fleet, and the checks that are under way.

use std::collections::HashMap;
use std::time::Duration;

use super::balancing::{Broken, World};
use super::fleets::{Client, Server};
use crate::error::BuildError;
use crate::fleet::{HealthCheck, Probe};
use crate::health::HealthCheckSettings;
use crate::outcome::Outcome;
use crate::time::{Tick, nanos};

/// A check that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Counts checks in the order in which they are sent.
    pub(super) number: u32,
    pub(super) machine: u32,
}

/// What drivers ask for, and what they have done.
#[derive(Debug, Default)]
pub(super) struct Driven {
    /// Checks that are to be sent.
    pub(super) checks: Vec<Check>,
    /// The machines that they have ejected.
    pub(super) ejected: Vec<usize>,
}

struct UnderWay {
    client: usize,
    machine: usize,
    probe: Probe<Server>,
}

pub(super) struct Drivers {
    /// By client.
    each: Vec<HealthCheck<Server>>,
    /// By number.
    under_way: HashMap<u32, UnderWay>,
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

    /// How long an endpoint may be out until the next check, whatever its ejection's length; or its check be under
    /// way.
    pub(super) fn longest_wait(&self) -> Duration {
        self.settings.longest_wait()
    }

    /// A client's driver does what is due.
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

    /// A check has ended, if it had not before: of which machine. The driver may want another at once.
    pub(super) fn ended(
        &mut self,
        number: u32,
        outcome: Outcome,
        clients: &mut [Client],
        world: &World,
        driven: &mut Driven,
    ) -> Result<Option<usize>, Broken> {
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
        let standing = member.core().standing.get();
        let is_out = standing.is_ejected();
        if is_out && !was_out && standing.probe_is_due(now, Duration::MAX) {
            return Err(format!("server {machine} is ejected until now"));
        }
        drop(member);
        if self.each[at].next_due().is_zero() {
            self.tick(at, client, now, driven);
        }
        if is_out && !was_out && !driven.ejected.contains(&machine) {
            driven.ejected.push(machine);
        }
        Ok(Some(machine))
    }
}

/// The machines that this client has ejected at this moment.
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
