//! A number of which no more than so many are taken at any instant.

use crate::sync::{AtomicU64, Ordering};

/// Slots that many threads take and give back: requests of a fleet, probes under way.
///
/// One word. Whoever takes a slot does so by a compare-and-swap on it, so the number never exceeds the limit, and whoever
/// is refused has seen it there.
#[derive(Debug)]
pub(crate) struct Slots {
    taken: AtomicU64,
    limit: u64,
}

impl Slots {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            taken: AtomicU64::new(0),
            limit,
        }
    }

    /// Takes one; `false` when all are taken.
    pub(crate) fn take(&self) -> bool {
        let next = |taken| (taken < self.limit).then_some(taken + 1);
        // ORDERING: Acquire, both. Pairs with `give_back`: who takes a slot comes after all that its last holder did.
        self.taken
            .fetch_update(Ordering::Acquire, Ordering::Acquire, next)
            .is_ok()
    }

    /// Takes one whatever the limit, for who is bounded elsewhere; nobody else gets one while more are taken.
    pub(crate) fn take_anyway(&self) {
        // ORDERING: Acquire. As in `take`.
        self.taken.fetch_add(1, Ordering::Acquire);
    }

    /// Gives one back.
    pub(crate) fn give_back(&self) {
        // ORDERING: Release. Pairs with `take`.
        let before = self.taken.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a slot is given back by who took it");
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> u64 {
        // ORDERING: Relaxed. For display, and to look before taking.
        self.taken.load(Ordering::Relaxed)
    }

    /// A slot that is given back unless it is kept; `None` when all are taken.
    pub(crate) fn hold(&self) -> Option<Held<'_>> {
        self.take().then(|| Held(self))
    }
}

/// A slot that is on its way to who will hold it. Should it not get there, for a refusal or a panic, it is given back.
#[must_use = "it is given back at once"]
pub(crate) struct Held<'a>(&'a Slots);

impl Held<'_> {
    /// It has got there: somebody else gives it back.
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
    fn no_more_are_taken_than_there_are() {
        let slots = Slots::new(2);
        assert!(slots.take() && slots.take() && !slots.take());
        slots.give_back();
        assert!(slots.take() && !slots.take());
        slots.take_anyway();
        slots.give_back();
        assert!(!slots.take(), "more than the limit are no room");
        assert_eq!(slots.taken(), 2);
    }

    #[test]
    fn a_held_slot_is_kept_or_given_back() {
        let slots = Slots::new(1);
        slots.hold().unwrap().keep();
        assert!(slots.hold().is_none());
        slots.give_back();
        drop(slots.hold().unwrap());
        assert_eq!(slots.taken(), 0);
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// One of two slots is taken. Two want one while its holder gives it back: there are never three, the holder's does not
    /// count twice, and in the end nobody's is lost.
    fn two_want_one(take: fn(&Slots) -> bool) {
        loom::model(move || {
            let slots = Arc::new(Slots::new(2));
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
    fn never_more_than_there_are() {
        two_want_one(Slots::take);
    }

    /// Broken: looks first and adds after.
    #[test]
    #[should_panic = "more than there are"]
    fn broken_variant_look_then_add() {
        two_want_one(|slots| {
            let free = slots.taken() < slots.limit;
            if free {
                slots.take_anyway();
            }
            free
        });
    }

    /// Broken: adds first, and takes it back if it was too much. A third is refused for one who was refused, and
    /// meanwhile there are more than there are.
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
