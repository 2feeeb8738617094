//! A counter with an upper limit that holds at every instant.

use crate::sync::{AtomicU64, Ordering};

/// Slots that many threads take and give back: requests of a fleet, probes in flight, retries of a caller.
///
/// The state is one word. A slot is taken by a compare-and-swap on it, so the count never exceeds the limit, and a
/// thread that is refused has seen the count at the limit.
#[derive(Debug)]
pub(crate) struct Slots {
    taken: AtomicU64,
    limit: u64,
}

impl Slots {
    /// As many slots as `limit`; without one they are only counted.
    pub(crate) fn up_to(limit: Option<u32>) -> Self {
        Self {
            taken: AtomicU64::new(0),
            limit: limit.map_or(u64::MAX, u64::from),
        }
    }

    /// Takes a slot; `false` if all are taken.
    pub(crate) fn take(&self) -> bool {
        let next = |taken| (taken < self.limit).then_some(taken + 1);
        // ORDERING: Acquire, both. Pairs with `give_back`: what a slot's last holder did comes before what the next one
        // does.
        self.taken
            .fetch_update(Ordering::Acquire, Ordering::Acquire, next)
            .is_ok()
    }

    /// Takes a slot regardless of the limit, for a caller that is bounded elsewhere. `take` fails while the count is at
    /// the limit or above.
    pub(crate) fn take_anyway(&self) {
        // ORDERING: Acquire. As in `take`.
        self.taken.fetch_add(1, Ordering::Acquire);
    }

    /// Gives a slot back.
    pub(crate) fn give_back(&self) {
        // ORDERING: Release. Pairs with `take`.
        let before = self.taken.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a slot is given back by who took it");
    }

    /// The number of slots taken.
    pub(crate) fn taken(&self) -> u64 {
        // ORDERING: Relaxed. For display, and for a check before taking.
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether a slot is free. A hint: `take` decides.
    pub(crate) fn has_room(&self) -> bool {
        self.taken() < self.limit
    }

    /// Takes a slot that is given back on drop unless it is kept; `None` if all are taken.
    pub(crate) fn hold(&self) -> Option<Held<'_>> {
        self.take().then(|| Held(self))
    }
}

/// A slot held. Dropping it, after a refusal or a panic too, gives the slot back.
#[must_use = "it is given back at once"]
pub(crate) struct Held<'a>(&'a Slots);

impl Held<'_> {
    /// Hands the slot over to its holder, which gives it back.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_more_slots_are_taken_than_there_are() {
        let slots = Slots::up_to(Some(2));
        assert!(slots.take() && slots.take() && !slots.take());
        slots.give_back();
        assert!(slots.take() && !slots.take());
        slots.take_anyway();
        slots.give_back();
        assert!(
            !slots.take() && !slots.has_room(),
            "more than the limit are no room"
        );
        assert_eq!(slots.taken(), 2);
    }

    #[test]
    fn a_held_slot_is_kept_or_given_back() {
        let slots = Slots::up_to(Some(1));
        slots.hold().unwrap().keep();
        assert!(slots.hold().is_none());
        slots.give_back();
        drop(slots.hold().unwrap());
        assert_eq!(slots.taken(), 0);
        assert!(Slots::up_to(Some(0)).hold().is_none());
        assert!(Slots::up_to(None).take());
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// One of two slots is taken, and two threads want one while the holder gives it back. There are never three taken,
    /// at least one thread gets a slot, and at the end no slot is lost.
    fn two_want_one(take: fn(&Slots) -> bool) {
        loom::model(move || {
            let slots = Arc::new(Slots::up_to(Some(2)));
            assert!(slots.take());
            let request = move |slots: &Slots| {
                let taken = take(slots);
                assert!(slots.taken() <= 2, "more than there are");
                if taken {
                    slots.give_back();
                }
                taken
            };
            let (one, other) = (slots.clone(), slots.clone());
            let one = thread::spawn(move || request(&one));
            let other = thread::spawn(move || request(&other));
            slots.give_back();
            let taken = [one.join().unwrap(), other.join().unwrap()];
            assert!(
                taken.contains(&true),
                "both were refused, and one slot was free"
            );
            assert_eq!(slots.taken(), 0, "a slot was lost");
        });
    }

    #[test]
    fn threads_never_take_more_slots_than_there_are() {
        two_want_one(Slots::take);
    }

    /// Broken: looks first and adds after that.
    #[test]
    #[should_panic = "more than there are"]
    fn broken_variant_look_then_add() {
        two_want_one(|slots| {
            let free = slots.has_room();
            if free {
                slots.take_anyway();
            }
            free
        });
    }

    /// Broken: adds first and undoes that if it was too much. Meanwhile the count is above the limit, and a third
    /// thread is refused because of one that was refused itself.
    #[test]
    #[should_panic = "more than there are"]
    fn broken_variant_add_then_look() {
        two_want_one(|slots| {
            slots.take_anyway();
            let fits = slots.taken() <= slots.limit;
            if !fits {
                slots.give_back();
            }
            fits
        });
    }
}
