//! A custom policy: prefers the own zone, and there the endpoint with the fewest requests in flight. It uses another
//! zone only if no endpoint at home may be picked because all are ejected, marked down or already tried.
//!
//! ```sh
//! cargo run --example custom_policy
//! ```

use std::error::Error;

use evenkeel::{
    Choice, Cluster, Fleet, Lease, Mark, Outcome, PickContext, PickError, PickOptions, Picker,
    Target, from_picker,
};

/// The key is the name, the data is the zone.
type Server = Target<&'static str, &'static str>;

#[derive(Clone, Debug)]
struct HomeFirst {
    home: &'static str,
}

impl Picker<Server> for HomeFirst {
    fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
        let members = cx.members();
        (0..members.len())
            // Ejected, marked down and avoided members are out. In panic health does not count.
            .filter(|&index| cx.may_pick(index))
            // `false` sorts before `true`, so home comes first; then the member with fewer requests in flight.
            .min_by_key(|&index| {
                let member = &members[index];
                (*member.endpoint().data() != self.home, member.in_flight())
            })
            .map(Choice::at)
    }
}

/// The zones of the next `count` picks, which are in flight together.
fn zones(fleet: &Fleet<Server>, count: usize) -> Result<Vec<&'static str>, PickError> {
    let leases: Vec<Lease<Server>> = (0..count)
        .map(|_| fleet.pick_endpoint())
        .collect::<Result<_, _>>()?;
    let zones = leases.iter().map(|lease| *lease.endpoint().data());
    let zones = zones.collect();
    for lease in leases {
        lease.record(Outcome::Success);
    }
    Ok(zones)
}

fn main() -> Result<(), Box<dyn Error>> {
    let fleet = Fleet::builder()
        .endpoints([
            Target::new("far-1", "eu-2"),
            Target::new("near-1", "eu-1"),
            Target::new("near-2", "eu-1"),
            Target::new("far-2", "eu-2"),
        ])
        .policy(from_picker(HomeFirst { home: "eu-1" }))
        .build()?;

    // Both picks stay at home and differ, because the endpoint with a request in flight sorts second.
    let first = fleet.pick_endpoint()?;
    let second = fleet.pick_endpoint()?;
    assert_eq!(*first.endpoint().data(), "eu-1");
    assert_eq!(*second.endpoint().data(), "eu-1");
    assert_ne!(first.id(), second.id());
    println!("{first:?}\n{second:?}");

    // A retry that has tried both endpoints at home goes to the other zone.
    let tried = [first.id(), second.id()];
    let third = fleet.pick_endpoint_with(&PickOptions::new().avoid(&tried))?;
    assert_eq!(*third.endpoint().data(), "eu-2");
    for lease in [first, second, third] {
        lease.record(Outcome::Success);
    }
    assert_eq!(zones(&fleet, 6)?, ["eu-1"; 6]);

    // An endpoint at home fails twice in a row while no other does, and is ejected. The other one takes the zone's
    // requests.
    for _ in 0..2 {
        fleet.lease(&"near-1")?.record(Outcome::Unreachable);
    }
    assert_eq!(fleet.stats().ejected, 1);
    assert_eq!(zones(&fleet, 6)?, ["eu-1"; 6]);

    // The other one is marked down. No endpoint is left at home, so the picks go to the other zone.
    assert!(fleet.mark(&"near-2", Mark::Down));
    assert_eq!(zones(&fleet, 6)?, ["eu-2"; 6]);
    println!("home is out: picks go to eu-2");

    // Without the mark its health counts again, which is good: the picks come home.
    assert!(fleet.mark(&"near-2", Mark::Auto));
    assert_eq!(zones(&fleet, 6)?, ["eu-1"; 6]);
    println!("home is back: picks go to eu-1");

    assert_eq!(fleet.stats().in_flight, 0);
    assert_eq!(fleet.stats().policy_faults, 0);
    Ok(())
}
