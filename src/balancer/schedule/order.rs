//! Earliest deadline first.

use std::fmt;

use super::calendar::Calendar;
use super::scan::{Scan, can_scan};
use super::visits::Visits;

/// Members that take slots in proportion to their shares, one after the other, without end.
///
/// A member's visits have windows ([`Visits`]). Of the members whose visit may take a slot, the one takes it whose
/// window ends first. Each visit is then within its window (pfair scheduling: Baruah, Cohen, Plaxton, Varvel 1996, on
/// one processor). So in any stretch of slots every member is less than two visits from its share, from the start of
/// all windows less than one, and from one visit to the next it is less than two windows.
///
/// Without the beginnings of windows, fifty light members would all come at once, and a heavy one would wait for them.
pub(in crate::balancer) trait Order: fmt::Debug + Send {
    /// The member that takes the next slot. The windows leave no slot without a member.
    fn next(&mut self) -> u32;

    /// The members that take the next slots.
    fn take(&mut self, slots: &mut [u32]) {
        slots.fill_with(|| self.next());
    }

    /// Takes a member out.
    fn withdraw(&mut self, member: u32);
}

/// An order of these members.
pub(in crate::balancer) fn order_of(visits: Vec<Visits>) -> Box<dyn Order> {
    let scans = visits.iter().all(can_scan);
    let members = visits.len();
    let visits = visits.into_iter();
    match members {
        ..=4 if scans => Box::new(Scan::<4>::new(visits)),
        5..=10 if scans => Box::new(Scan::<10>::new(visits)),
        11..=16 if scans => Box::new(Scan::<16>::new(visits)),
        _ => Box::new(Calendar::new(visits)),
    }
}
