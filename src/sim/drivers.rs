//! Active checks: a driver beside each client's fleet, and the checks that are under way.

use std::collections::HashMap;
use std::time::Duration;

use super::balancing::{Broken, Verdict, World};
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

    /// What a client's driver wants to be checked now.
    pub(super) fn tick(&mut self, number: usize, client: &mut Client, due: &mut Vec<Check>) {
        for probe in self.each[number].tick() {
            let machine = probe.endpoint().machine;
            client.checked[machine as usize] += 1;
            self.sent = self.sent.wrapping_add(1);
            due.push(Check {
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
    }

    /// A check has ended, if it had not before; the driver may want another at once.
    pub(super) fn ended(
        &mut self,
        number: u32,
        outcome: Outcome,
        clients: &mut [Client],
        world: &World,
        due: &mut Vec<Check>,
    ) -> Result<Option<(usize, Verdict)>, Broken> {
        let Some(ended) = self.under_way.remove(&number) else {
            return Ok(None);
        };
        let UnderWay {
            client: at,
            machine,
            probe,
        } = ended;
        let client = &mut clients[at];
        let member = probe.member().clone();
        let was_out = member.core().standing.get().is_ejected();
        probe.finish(outcome);
        client.checked[machine] -= 1;
        client.touched = true;
        let standing = member.core().standing.get();
        let ejected = standing.is_ejected() && !was_out;
        if ejected && standing.probe_is_due(Tick::from_nanos(world.now), Duration::MAX) {
            return Err(format!("server {machine} is ejected until now"));
        }
        drop(member);
        if self.each[at].next_due().is_zero() {
            self.tick(at, client, due);
        }
        Ok(Some((machine, Verdict { ejected })))
    }
}
