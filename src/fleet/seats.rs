//! The array of members that a snapshot publishes, made from an array no longer in use where possible.

use std::borrow::Borrow;

use super::change::Slot;
use crate::endpoint::Endpoint;
use crate::member::Member;

pub(super) type Members<E> = Box<[Member<E>]>;

/// How many seats pay off for each of `live` members, a power of two. Seats keep threads apart where members are few,
/// and cost memory where members are many.
pub(super) fn seats_for(live: usize) -> usize {
    1 << (4096 / live.max(1)).max(1).ilog2()
}

/// The routable members, seat by seat.
pub(super) struct Seating<E: Endpoint> {
    pub(super) members: Members<E>,
    /// How many members those are.
    pub(super) count: usize,
    /// How many seats each member has besides the first.
    pub(super) others: usize,
}

impl<E: Endpoint> Seating<E> {
    /// The first seat of each member.
    pub(super) fn first(&self) -> &[Member<E>] {
        &self.members[..self.count]
    }
}

/// The array of the last set but one, brought up to date with the set in force. The next set's array is made from it by
/// changing what differs. A new array would increment the handle count of each member, and freeing the old one would
/// decrement as many; at 100 000 members each of those is a cache miss.
pub(super) struct Spare<E: Endpoint>(Option<Members<E>>);

impl<E: Endpoint> Spare<E> {
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Returns the seats of those slots that may take requests.
    pub(super) fn seat<'a>(
        &mut self,
        slots: impl Iterator<Item = &'a Slot<E>> + Clone,
    ) -> Seating<E> {
        let routable: Vec<_> = slots.filter(|slot| slot.is_routable()).collect();
        let count = routable.len();
        let most = routable.iter().map(|slot| slot.seats()).max().unwrap_or(1);
        // Only as many as pay off for this many members; those added while there were fewer have more seats.
        let shards = most.min(seats_for(count));
        let wanted: Vec<_> = (0..shards)
            .flat_map(|shard| routable.iter().map(move |slot| slot.seat(shard)))
            .collect();
        let spare = self.0.take().unwrap_or_default();
        // What this takes out has other handles, in the set in force or in the change: no value of the user's is
        // dropped.
        let (members, _) = turned_into(spare, &wanted);
        Seating {
            members,
            count,
            others: shards - 1,
        }
    }

    /// Keeps an array that is no longer in use, brought up to date with the one in force, unless the two have little in
    /// common. Returns the handles that this takes out, to be dropped after unlocking.
    pub(super) fn keep(&mut self, seats: Members<E>, in_force: &[Member<E>]) -> Vec<Member<E>> {
        if self.0.is_some() {
            // It is up to date: every change takes it.
            return seats.into_vec();
        }
        let (first, last) = common_ends(&seats, in_force);
        if 2 * (first + last) < in_force.len() {
            return seats.into_vec();
        }
        let (seats, out) = turned_into(seats, in_force);
        self.0 = Some(seats);
        out
    }
}

/// How many of these seats, counted from the front and from the back, already are the ones wanted.
fn common_ends<E: Endpoint, M: Borrow<Member<E>>>(
    seats: &[Member<E>],
    wanted: &[M],
) -> (usize, usize) {
    let is_same = |(seat, other): &(&Member<E>, &M)| seat.is_same_seat((*other).borrow());
    let first = seats.iter().zip(wanted).take_while(is_same).count();
    let most = seats.len().min(wanted.len()) - first;
    let from_behind = seats.iter().rev().zip(wanted.iter().rev());
    let last = from_behind.take(most).take_while(is_same).count();
    (first, last)
}

/// Turns these seats into the ones wanted by replacing what stands between their common ends. Returns the handles that
/// this takes out.
fn turned_into<E: Endpoint, M: Borrow<Member<E>>>(
    seats: Members<E>,
    wanted: &[M],
) -> (Members<E>, Vec<Member<E>>) {
    let (first, last) = common_ends(&seats, wanted);
    let new = &wanted[first..wanted.len() - last];
    let mut seats = seats.into_vec();
    let out = first..seats.len() - last;
    let out = seats.splice(out, new.iter().map(|member| member.borrow().clone()));
    let out = out.collect();
    (seats.into(), out)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::endpoint::Target;
    use proptest::prelude::*;

    fn members(count: u32) -> Vec<Member<Target<u32, ()>>> {
        (0..count)
            .map(|key| Member::alone(Target::new(key, ())))
            .collect()
    }

    fn keys(members: &[Member<Target<u32, ()>>]) -> Vec<u32> {
        members.iter().map(|one| one.endpoint().key()).collect()
    }

    proptest! {
        #[test]
        fn seats_turn_into_any_others(
            have in prop::collection::vec(0usize..3, 0..12),
            want in prop::collection::vec(0usize..3, 0..12),
        ) {
            let all = members(3);
            let pick = |which: &[usize]| which.iter().map(|&at| all[at].clone()).collect::<Vec<_>>();
            let (seats, out) = turned_into(pick(&have).into(), &pick(&want));
            prop_assert_eq!(keys(&seats), keys(&pick(&want)));
            // No handle is lost, and none is leaked.
            let held = all.iter().map(Member::handles).sum::<usize>() - all.len();
            prop_assert_eq!(held, seats.len() + out.len());
            prop_assert!(out.len() <= have.len());
        }

        #[test]
        fn one_change_touches_one_seat_at_most(count in 1usize..40, at in 0usize..40, kind in 0..4) {
            let all = members(41);
            let at = at % count;
            let seats: Vec<_> = all[..count].to_vec();
            let mut wanted = seats.clone();
            match kind {
                0 => wanted[at] = all[40].clone(),
                1 => wanted.insert(at, all[40].clone()),
                2 => drop(wanted.remove(at)),
                _ => {}
            }
            let (seats, out) = turned_into(seats.into(), &wanted);
            prop_assert_eq!(keys(&seats), keys(&wanted));
            prop_assert_eq!(out.len(), usize::from(kind % 2 == 0));
        }
    }
}
