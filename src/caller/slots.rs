//! A limit on the number of retries in flight.

use std::fmt;

use crate::sync::{AtomicU64, Ordering, Padded};

/// Slots for retries in flight. Without a limit they are only counted.
pub(super) struct Slots {
    most: u64,
    taken: Padded<AtomicU64>,
}

/// A slot, given back when it is dropped.
#[must_use]
pub(super) struct Slot<'a>(&'a Slots);

impl Slots {
    pub(super) fn new(most: Option<u32>) -> Self {
        Self {
            most: most.map_or(u64::MAX, u64::from),
            taken: Padded(AtomicU64::new(0)),
        }
    }

    pub(super) fn take(&self) -> Option<Slot<'_>> {
        // ORDERING: Relaxed, both. One word decides, and a slot protects nothing but its count.
        self.taken
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < self.most).then(|| taken + 1)
            })
            .is_ok()
            .then(|| Slot(self))
    }

    /// Returns how many slots are taken.
    pub(super) fn taken(&self) -> u64 {
        // ORDERING: Relaxed. A hint: `take` decides.
        self.taken.0.load(Ordering::Relaxed)
    }

    /// Returns whether a slot is free. A hint: `take` decides.
    pub(super) fn has_room(&self) -> bool {
        self.taken() < self.most
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed. As in `take`.
        self.0.taken.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Two threads want the only slot, and give it back.
    fn two_for_one(take: fn(&Slots) -> Option<Slot<'_>>) {
        loom::model(move || {
            let slots = Arc::new(Slots::new(Some(1)));
            let held = Arc::new(loom::sync::atomic::AtomicU64::new(0));
            let work = move |slots: &Slots, held: &loom::sync::atomic::AtomicU64| {
                if let Some(slot) = take(slots) {
                    // ORDERING: Relaxed, both. A single word; its modification order is enough.
                    let others = held.fetch_add(1, Ordering::Relaxed);
                    assert!(others < 1, "too many at once");
                    held.fetch_sub(1, Ordering::Relaxed);
                    drop(slot);
                }
            };
            let (other_slots, other_held) = (slots.clone(), held.clone());
            let thread = thread::spawn(move || work(&other_slots, &other_held));
            work(&slots, &held);
            thread.join().unwrap();
            assert_eq!(slots.taken(), 0, "a slot was lost");
        });
    }

    #[test]
    fn no_more_slots_are_held_than_there_are() {
        two_for_one(Slots::take);
    }

    /// Broken: checks, then takes.
    #[test]
    #[should_panic = "too many at once"]
    fn broken_variant_look_then_take() {
        two_for_one(|slots| {
            slots.has_room().then(|| {
                // ORDERING: Relaxed. The variant is broken for another reason.
                slots.taken.0.fetch_add(1, Ordering::Relaxed);
                Slot(slots)
            })
        });
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_free_again() {
        let slots = Slots::new(Some(2));
        let (one, two) = (slots.take(), slots.take());
        assert!(one.is_some() && two.is_some());
        assert!(slots.take().is_none() && !slots.has_room());
        drop(one);
        assert!(slots.has_room() && slots.take().is_some());
        assert_eq!(slots.taken(), 1);
        assert!(Slots::new(Some(0)).take().is_none());
        assert!(Slots::new(None).take().is_some());
    }
}
