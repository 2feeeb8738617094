//! The ejection ledger: how many members are ejected, how many may be, how many are marked down, and whether there is
//! panic. All are in one word, so the cap holds at every instant and a pick reads the panic rule's input at once.
//!
//! From the top: `panics: 1 | down: 21 | limit: 21 | ejected: 21`. Nothing wraps: a fleet holds at most [`MAX_MEMBERS`]
//! members.
//!
//! A thread that has changed the word, or the count of members beside it, [settles](Ledger::settle) the panic bit next.
//! The bit is only a memory: a pick judges by the numbers and its own snapshot, and uses the bit between the two
//! thresholds.

use super::slots::Slots;
use crate::health::PanicRule;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The most members a fleet can hold.
pub(crate) const MAX_MEMBERS: usize = 1_000_000;

const BITS: u32 = 21;
const MASK: u64 = (1 << BITS) - 1;
const EJECTED: u64 = 1;
const DOWN: u64 = 1 << (2 * BITS);
const PANICS: u64 = 1 << (3 * BITS);
const _: () = assert!(MAX_MEMBERS as u64 <= MASK);

/// The ledger's word at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) ejected: usize,
    pub(crate) limit: usize,
    pub(crate) down: usize,
    /// Whether there was panic when the bit was last settled.
    pub(crate) panics: bool,
}

impl Tally {
    #[inline]
    const fn read(word: u64) -> Self {
        Self {
            ejected: (word & MASK) as usize,
            limit: ((word >> BITS) & MASK) as usize,
            down: ((word >> (2 * BITS)) & MASK) as usize,
            panics: word & PANICS != 0,
        }
    }

    /// The members that are refused for their health.
    #[inline]
    pub(crate) const fn refused(self) -> usize {
        self.ejected + self.down
    }
}

#[derive(Debug)]
pub(crate) struct Ledger {
    word: AtomicU64,
    /// How many members may take requests: those with a weight that do not drain.
    count: AtomicU64,
    /// From the top: `eligibility: 43 (wrapping) | degraded: 21`. How often the eligibility of any member has changed,
    /// and how many members are degraded.
    eligibility: AtomicU64,
    /// Whether the policy in force judges panic itself.
    judged_by_policy: AtomicBool,
    rule: PanicRule,
    /// Slots for probes in flight. One is taken before a member turns from ejected to probed, and given back by the
    /// change that ends that, as with the slots above. A probe that is lost passes its slot on to the next probe of the
    /// member.
    pub(crate) probes: Slots,
}

/// For a policy that counts eligible members: whether it has to count again, and whether any member is degraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Eligibility(u64);

impl Eligibility {
    /// The version of the members' eligibility. It is equal only if nothing has changed in between.
    #[inline]
    pub(crate) const fn version(self) -> u64 {
        self.0 >> BITS
    }

    #[inline]
    pub(crate) const fn some_degraded(self) -> bool {
        self.0 & MASK != 0
    }
}

impl Ledger {
    pub(crate) fn new(rule: PanicRule) -> Self {
        Self {
            word: AtomicU64::new(0),
            count: AtomicU64::new(0),
            eligibility: AtomicU64::new(0),
            judged_by_policy: AtomicBool::new(false),
            rule,
            probes: Slots::up_to(None),
        }
    }

    /// Limits the number of probes in flight, if `most` is set.
    pub(crate) fn with_most_probes(self, most: Option<u32>) -> Self {
        Self {
            probes: Slots::up_to(most),
            ..self
        }
    }

    /// Records that a member's eligibility has changed. Called *after* the change.
    pub(crate) fn bump_eligibility(&self) {
        // ORDERING: Release. Pairs with `eligibility`: a thread that sees the new version sees the change.
        self.eligibility.fetch_add(1 << BITS, Ordering::Release);
    }

    /// Records that a member has become degraded or has stopped being so. This is a change of eligibility too.
    pub(crate) fn count_degraded(&self, is: bool) {
        // The -1 borrows from the version if the count is 0; adding 2 to it leaves a net change of at least 1.
        let step = if is { (1 << BITS) + 1 } else { (2 << BITS) - 1 };
        // ORDERING: Release. As in `bump_eligibility`.
        self.eligibility.fetch_add(step, Ordering::Release);
    }

    #[inline]
    pub(crate) fn eligibility(&self) -> Eligibility {
        // ORDERING: Acquire. Pairs with `bump_eligibility`.
        Eligibility(self.eligibility.load(Ordering::Acquire))
    }

    /// Sets whether the policy in force judges panic itself, so that the rule over the whole fleet does not act. Only
    /// the writer calls it, and settles next.
    pub(crate) fn set_judged_by_policy(&self, is: bool) {
        // ORDERING: Release. As for the count; see `settle`.
        self.judged_by_policy.store(is, Ordering::Release);
    }

    fn is_panic(&self, count: usize, tally: Tally) -> bool {
        // ORDERING: Acquire. Pairs with `set_judged_by_policy`.
        !self.judged_by_policy.load(Ordering::Acquire)
            && self.rule.panics(count, tally.refused(), tally.panics)
    }

    /// The panic rule.
    pub(crate) const fn rule(&self) -> &PanicRule {
        &self.rule
    }

    #[inline]
    pub(crate) fn read(&self) -> Tally {
        // ORDERING: Acquire. Pairs with the Release in `reserve`: a thread that sees an ejection counted also sees what
        // led to it. A pick that sees none counted needs no more than this word.
        Tally::read(self.word.load(Ordering::Acquire))
    }

    /// Whether members are ejected, and no more may be.
    pub(crate) fn is_full(&self) -> bool {
        let tally = self.read();
        tally.ejected > 0 && tally.ejected >= tally.limit
    }

    /// Whether no member is refused for its health and the panic bit is clear. Most picks ask nothing else.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        // ORDERING: Acquire. As in `read`.
        self.word.load(Ordering::Acquire) & !(MASK << BITS) == 0
    }

    /// Takes a slot, *before* a member turns ejected. `false` if all are taken.
    pub(crate) fn reserve(&self) -> bool {
        // ORDERING: AcqRel and Acquire. A slot that is reused here was released after its member had left, so the count
        // is never below the number of ejected members.
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                let tally = Tally::read(word);
                (tally.ejected < tally.limit).then_some(word + EJECTED)
            })
            .is_ok()
    }

    /// Gives a slot back, *after* the member has left. Only the transition that made it leave calls it.
    pub(crate) fn release(&self) {
        // ORDERING: Release. Pairs with `reserve`.
        let before = self.word.fetch_sub(EJECTED, Ordering::Release);
        debug_assert!(
            Tally::read(before).ejected > 0,
            "a slot is released by who took it"
        );
    }

    /// How many members may take requests.
    pub(crate) fn count(&self) -> usize {
        // ORDERING: Acquire. Pairs with `set_count`.
        self.count.load(Ordering::Acquire) as usize
    }

    /// Sets how many members may take requests. Only the writer calls it, and settles next.
    pub(crate) fn set_count(&self, count: usize) {
        // ORDERING: Release. See `settle`.
        self.count.store(count as u64, Ordering::Release);
    }

    /// Whether there is panic, by the current numbers.
    pub(crate) fn panics(&self) -> bool {
        let tally = self.read();
        self.is_panic(self.count(), tally)
    }

    /// Updates the panic bit after a change, and calls `turned` if the bit changes. (A slot that is reserved and given
    /// back, when two alarms of one endpoint meet, counts for that moment. Panic may then begin one endpoint too
    /// early.)
    pub(crate) fn settle(&self, mut turned: impl FnMut(Tally, usize)) {
        loop {
            let count = self.count();
            let settled = |word| {
                let tally = Tally::read(word);
                let panics = self.is_panic(count, tally);
                (word & !PANICS) | if panics { PANICS } else { 0 }
            };
            // ORDERING: AcqRel and Acquire, also if nothing changes. Of two threads that settle, the later in this
            // word's order sees what the earlier changed before, including the count, which the writer stores first. So
            // either the writer settles later and by both changes, or this thread reads the count again.
            let before = self
                .word
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                    Some(settled(word))
                })
                .unwrap_or_else(|word| word);
            let after = Tally::read(settled(before));
            if after.panics != Tally::read(before).panics {
                turned(after, count);
            }
            if self.count() == count {
                return;
            }
        }
    }

    /// Sets the limit. Only the writer calls it, and then returns members until the tally is within the limit.
    pub(crate) fn set_limit(&self, limit: usize) -> Tally {
        let limit = (limit as u64).min(MASK);
        // ORDERING: AcqRel and Acquire. From here on no reservation exceeds the limit. The returned tally shows all
        // reservations made before.
        let before = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                Some((word & !(MASK << BITS)) | (limit << BITS))
            })
            .unwrap_or_else(|word| word);
        Tally {
            limit: limit as usize,
            ..Tally::read(before)
        }
    }

    /// Counts a member that is marked down.
    pub(crate) fn add_down(&self) {
        // ORDERING: Relaxed. A count; the member's own word decides.
        self.word.fetch_add(DOWN, Ordering::Relaxed);
    }

    /// Stops counting a member that was marked down.
    pub(crate) fn remove_down(&self) {
        // ORDERING: Relaxed. As above.
        self.word.fetch_sub(DOWN, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Reserve,
        Release,
        Limit(usize),
        Down(bool),
    }

    proptest! {
        /// The ledger matches a model of three plain numbers.
        #[test]
        fn keeps_three_numbers_apart(steps in prop::collection::vec(prop_oneof![
            Just(Step::Reserve), Just(Step::Release),
            (0usize..=MAX_MEMBERS).prop_map(Step::Limit), any::<bool>().prop_map(Step::Down),
        ], 0..200)) {
            let ledger = Ledger::new(PanicRule::off());
            let mut model = Tally::default();
            for step in steps {
                match step {
                    Step::Reserve => {
                        let room = model.ejected < model.limit;
                        prop_assert_eq!(ledger.reserve(), room);
                        model.ejected += usize::from(room);
                    }
                    Step::Release if model.ejected > 0 => {
                        ledger.release();
                        model.ejected -= 1;
                    }
                    Step::Limit(limit) => {
                        model.limit = limit;
                        prop_assert_eq!(ledger.set_limit(limit), model);
                    }
                    Step::Down(true) => {
                        ledger.add_down();
                        model.down += 1;
                    }
                    Step::Down(false) if model.down > 0 => {
                        ledger.remove_down();
                        model.down -= 1;
                    }
                    _ => {}
                }
                prop_assert_eq!(ledger.read(), model);
            }
        }
    }

    /// Both are in one word: lowering the count must not lower the version.
    #[test]
    fn degraded_members_are_counted_and_each_change_bumps_the_version() {
        let ledger = Ledger::new(PanicRule::default());
        for (is, some) in [(true, true), (true, true), (false, true), (false, false)] {
            let before = ledger.eligibility().version();
            ledger.count_degraded(is);
            let eligibility = ledger.eligibility();
            assert!(eligibility.version() > before && eligibility.some_degraded() == some);
        }
    }

    #[test]
    fn each_change_of_panic_is_told_once_and_the_bit_follows_the_last() {
        let ledger = Ledger::new(PanicRule::default());
        let mut turns = Vec::new();
        let mut down = 0;
        ledger.set_count(10);
        for wanted in [5, 6, 7, 6, 5, 4, 5, 10, 0] {
            while down < wanted {
                ledger.add_down();
                down += 1;
            }
            while down > wanted {
                ledger.remove_down();
                down -= 1;
            }
            ledger.settle(|tally, count| turns.push((tally.down, tally.panics, count)));
            assert_eq!(ledger.read().panics, ledger.panics());
        }
        let expected = [
            (6, true, 10),
            (4, false, 10),
            (10, true, 10),
            (0, false, 10),
        ];
        assert_eq!(turns, expected);
        assert!(ledger.is_quiet());
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Two alarms, and a writer that lowers the limit from 2 to 1 and then returns one member if it must. At the end at
    /// most one member is ejected, and the count matches the slots taken.
    fn shrink_against_alarms(reserve: fn(&Ledger) -> bool) {
        loom::model(move || {
            let ledger = Arc::new(Ledger::new(PanicRule::off()));
            ledger.set_limit(2);
            let alarms: Vec<_> = (0..2)
                .map(|_| {
                    let ledger = ledger.clone();
                    thread::spawn(move || reserve(&ledger))
                })
                .collect();
            let tally = ledger.set_limit(1);
            let mut returned = 0;
            for _ in tally.limit..tally.ejected {
                ledger.release();
                returned += 1;
            }
            // The new set is published here; from now on the cap is 1.
            assert!(ledger.read().ejected <= 1, "cap exceeded after the shrink");
            let taken = alarms.into_iter().map(|alarm| alarm.join().unwrap());
            let taken = taken.filter(|taken| *taken).count();
            assert!(ledger.read().ejected <= 1, "cap exceeded at the end");
            assert_eq!(ledger.read().ejected, taken - returned);
        });
    }

    #[test]
    fn the_cap_holds_while_the_limit_shrinks() {
        shrink_against_alarms(Ledger::reserve);
    }

    /// Broken: checks, then acts.
    #[test]
    #[should_panic = "cap exceeded"]
    fn broken_variant_check_then_add() {
        shrink_against_alarms(|ledger| {
            let tally = ledger.read();
            if tally.ejected < tally.limit {
                // ORDERING: AcqRel. As in `reserve`; this is not what is broken.
                ledger.word.fetch_add(EJECTED, Ordering::AcqRel);
                return true;
            }
            false
        });
    }

    /// One of four members is down. An alarm ejects another while the writer removes one. The last to settle sees both.
    fn settle_against_update(settle: fn(&Ledger)) {
        loom::model(move || {
            let ledger = Arc::new(Ledger::new(PanicRule::envoy()));
            ledger.set_limit(4);
            ledger.set_count(4);
            ledger.add_down();
            let alarm = {
                let ledger = ledger.clone();
                thread::spawn(move || {
                    assert!(ledger.reserve());
                    settle(&ledger);
                })
            };
            ledger.set_count(3);
            settle(&ledger);
            alarm.join().unwrap();
            // One of three is eligible.
            assert!(ledger.read().panics, "panic was missed");
        });
    }

    #[test]
    fn the_last_thread_to_settle_knows_all_changes() {
        settle_against_update(|ledger| ledger.settle(|_, _| {}));
    }

    /// Broken: does not read the count again, and writes nothing if it sees nothing new.
    #[test]
    #[should_panic = "panic was missed"]
    fn broken_variant_settle_without_a_second_look() {
        settle_against_update(|ledger| {
            let (count, tally) = (ledger.count(), ledger.read());
            if ledger.rule.panics(count, tally.refused(), tally.panics) {
                // ORDERING: AcqRel. As in `settle`; this is not what is broken.
                ledger.word.fetch_or(PANICS, Ordering::AcqRel);
            }
        });
    }
}
