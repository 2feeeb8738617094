//! Checks of the crate's invariants: of a member at each event that touches it, and of whole fleets at intervals.

use std::time::Duration;

use super::balancing::{Violation, World};
use super::fleets::{Client, Server};
use crate::health::Ejection;
use crate::member::{Member, Phase, Standing};
use crate::time::Tick;

/// Checks the invariants of a member that an event has touched, in O(1).
pub(super) fn check_member(
    client: &Client,
    member: &Member<Server>,
    now: u64,
) -> Result<(), Violation> {
    let machine = member.endpoint().machine;
    let (in_flight, held) = (member.in_flight(), client.held[machine as usize]);
    if in_flight != u64::from(held) {
        return Err(format!(
            "server {machine} has {in_flight} in flight, and {held} leases are held"
        ));
    }
    let score = member.score();
    if !(0.0..=1.0).contains(&score) {
        return Err(format!("server {machine} has a score of {score}"));
    }
    let shared = client.fleet.shared();
    let tally = shared.ledger.read();
    if tally.ejected > tally.limit {
        let (ejected, limit) = (tally.ejected, tally.limit);
        return Err(format!("{ejected} are ejected, and {limit} may be"));
    }
    let standing = member.core().standing.get();
    if !member.core().gate.shows_epoch(standing.epoch) {
        return Err(format!("server {machine} shows an old epoch"));
    }
    let core = member.core();
    if core.rule().is_none_or(|rule| !rule.is_quiet()) && !core.gate.is_watched() {
        return Err(format!("no success would clear server {machine}"));
    }
    if standing.is_ejected() {
        let now = Tick::from_nanos(now);
        let left = standing.probe_due_at(now).since(now);
        let longest = longest(&shared.ejection, standing).max(client.longest_wait);
        if left > longest {
            return Err(format!(
                "server {machine} is out for {left:?}, longer than {longest:?}"
            ));
        }
    }
    Ok(())
}

/// Checks that a machine may be picked for a request whose earlier attempts went to those tried.
pub(super) fn check_pick(machine: u32, tried: &[u32], world: &World) -> Result<(), Violation> {
    if !world.machines[machine as usize].is_member {
        return Err(format!("server {machine} was picked after its removal"));
    }
    if tried.contains(&machine) {
        return Err(format!("server {machine} was tried and is picked again"));
    }
    Ok(())
}

/// Whether a member has been ejected by what has just happened, if `was_out` tells whether it was ejected before.
/// Checks that the ejection lasts.
pub(super) fn is_newly_ejected(
    member: &Member<Server>,
    was_out: bool,
    now: Tick,
) -> Result<bool, Violation> {
    let standing = member.core().standing.get();
    let is_new = standing.is_ejected() && !was_out;
    if is_new && standing.probe_is_due(now, Duration::MAX) {
        let machine = member.endpoint().machine;
        return Err(format!("server {machine} is ejected until now"));
    }
    Ok(is_new)
}

/// Returns how long an ejection or a probe may last according to the documented rule.
fn longest(settings: &Ejection, standing: Standing) -> Duration {
    let doubled = |first: Duration, most: Duration| {
        let doublings = standing.times.saturating_sub(1).min(31);
        first.saturating_mul(1 << doublings).min(most.max(first))
    };
    let most = settings.max_ejection_time.max(settings.base_ejection_time);
    let jitter = 1.0 + f64::from(settings.jitter_percent) / 100.0;
    let longest = match standing.phase {
        Phase::Probing => doubled(settings.probe_timeout, most),
        _ => doubled(settings.base_ejection_time, most).mul_f64(jitter),
    };
    // The standing has a resolution of a millisecond, and both ends are rounded.
    longest + Duration::from_millis(2)
}

/// Checks the invariants of a client's whole fleet, in O(members).
pub(super) fn check_fleet(client: &Client, world: &World) -> Result<(), Violation> {
    let (mut members, mut ejected, mut in_flight) = (0, 0, 0);
    client.fleet.each_member(|member| {
        check_member(client, member, world.now)?;
        let machine = member.endpoint().machine;
        if !world.machines[machine as usize].is_member {
            return Err(format!("server {machine} is a member after its removal"));
        }
        members += 1;
        in_flight += member.in_flight();
        ejected += usize::from(member.core().standing.get().is_ejected());
        Ok(())
    })?;
    if members != world.members.len() {
        let servers = world.members.len();
        return Err(format!("{members} members for {servers} servers"));
    }
    let shared = client.fleet.shared();
    let counted = shared.ledger.read().ejected;
    if counted != ejected {
        return Err(format!("{ejected} are ejected, and {counted} are counted"));
    }
    // Compute the cap independently, by the documented rule. A simulated server has a weight and does not drain.
    let percent = shared.ejection.max_ejection_percent as usize;
    let most = match (members, percent) {
        (0 | 1, _) | (_, 0) => 0,
        (members, percent) => (members * percent / 100).max(1),
    };
    if ejected > most {
        return Err(format!(
            "{ejected} of {members} are ejected; {percent} % may be"
        ));
    }
    let held = client.held.iter().map(|&held| u64::from(held));
    let on_gone = held
        .clone()
        .zip(&world.machines)
        .filter(|(_, machine)| !machine.is_member);
    let on_gone: u64 = on_gone.map(|(held, _)| held).sum();
    let held: u64 = held.sum();
    if in_flight != held - on_gone {
        return Err(format!(
            "{in_flight} in flight, and {held} leases, {on_gone} of them on removed ones"
        ));
    }
    let kept = (0..world.machines.len())
        .filter(|&machine| !world.machines[machine].is_member)
        .filter(|&machine| client.held[machine] + client.checked[machine] > 0);
    let (kept, alive) = (kept.count(), client.alive());
    if alive != members + kept {
        return Err(format!(
            "{alive} endpoints are kept for {members} members and {kept} removed ones with leases or checks"
        ));
    }
    Ok(())
}
