//! A member's standing: in, ejected, probed, marked up or down, or out of rotation. It is one word. Each change is one
//! compare-and-swap, and the thread that makes it also does what belongs to it, such as settling the ledger.
//!
//! Each cell of the member's gate has a copy of the epoch, so that a request does not read this word.

mod word;

use std::time::Duration;

use crate::shared::Ledger;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;
pub(crate) use word::{EPOCH_MASK, Phase, Standing};
use word::{MOST_TIMES, stamp, stamp_after};

/// What became of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ejected,
    /// The cap is reached: as many members are ejected as may be.
    Full,
    /// The standing has changed since the epoch given, or the member is not judged.
    Stale,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Good,
    Bad,
    /// No verdict; another probe may be sent after this time.
    Inconclusive(Duration),
}

/// What serves as a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbedBy {
    /// A request. The number of such probes at once may be limited.
    Request,
    /// A check out of band, whose driver limits its own number.
    Check,
}

/// What a change of standing asks of the member, and what it has to update.
pub(crate) trait Keeper {
    /// The ledger that counts the members that are out.
    fn ledger(&self) -> &Ledger;

    /// The phase in which an ejected member comes back.
    fn return_phase(&self) -> Phase;

    /// The epoch has turned to this one. Called to update the copies of it.
    fn epoch_changed(&self, epoch: u32);
}

#[derive(Debug)]
pub(crate) struct StandingCell(AtomicU64);

impl StandingCell {
    pub(crate) fn new(phase: Phase) -> Self {
        Self(AtomicU64::new(
            Standing {
                epoch: 0,
                times: 0,
                phase,
                at: 0,
            }
            .pack(),
        ))
    }

    #[inline]
    pub(crate) fn get(&self) -> Standing {
        // ORDERING: Acquire. Pairs with `exchange`: a thread that sees a member return sees its record cleared.
        Standing::read(self.0.load(Ordering::Acquire))
    }

    /// The epoch alone.
    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        // ORDERING: Acquire. As in `get`.
        (self.0.load(Ordering::Acquire) >> 40) as u32
    }

    fn change(&self, keeper: &impl Keeper, from: Standing, to: Standing) -> bool {
        let changed = self.exchange(from, to);
        if changed && from.epoch != to.epoch {
            keeper.epoch_changed(to.epoch);
        }
        changed
    }

    fn exchange(&self, from: Standing, to: Standing) -> bool {
        // ORDERING: AcqRel. Release: publishes what was done before the change (a slot reserved, a record cleared).
        // Acquire: what follows it (a slot released) comes after what it replaced. Relaxed on failure: nothing is done
        // then.
        self.0
            .compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Ejects the member if it has been in since `epoch`: a slot first, then the change. `left` tells how many
    /// ejections in a row still count after it has stayed in for a time, and `length` the length of the n-th.
    pub(crate) fn eject(
        &self,
        keeper: &impl Keeper,
        epoch: u32,
        now: Tick,
        left: impl FnOnce(u32, Duration) -> u32,
        length: impl FnOnce(u32) -> Duration,
    ) -> Verdict {
        let from = self.get();
        if from.epoch != epoch || !from.is_in() {
            return Verdict::Stale;
        }
        if !keeper.ledger().reserve() {
            return Verdict::Full;
        }
        // Unsigned: after 49 days it starts over, and a clock that has gone back makes the stay long, which forgives.
        let stayed = Duration::from_millis(stamp(now).wrapping_sub(from.at).into());
        let times = (left(from.times, stayed) + 1).min(MOST_TIMES);
        let until = stamp_after(now, length(times));
        let to = Standing {
            times,
            ..from.next_epoch(Phase::Ejected, until)
        };
        if self.change(keeper, from, to) {
            keeper.ledger().bump_eligibility();
            return Verdict::Ejected;
        }
        keeper.ledger().release();
        Verdict::Stale
    }

    /// Makes an ejected member's probe due `length` of its n-th ejection from now; returns whether that is sooner.
    pub(crate) fn hasten(&self, now: Tick, length: impl FnOnce(u32) -> Duration) -> bool {
        let from = self.get();
        if from.phase != Phase::Ejected {
            return false;
        }
        let at = stamp_after(now, length(from.times));
        from.at.wrapping_sub(at) as i32 > 0 && self.exchange(from, Standing { at, ..from })
    }

    /// Forgets the ejections in a row of a member that is back in.
    pub(super) fn forgive(&self) {
        let from = self.get();
        let _ = from.is_in() && self.exchange(from, Standing { times: 0, ..from });
    }

    /// Resumes an ejection from before the member left rotation, if a slot is free. Else the writer has to place it.
    pub(super) fn restore(&self, keeper: &impl Keeper, former: Standing) -> bool {
        let from = self.get();
        if !keeper.ledger().reserve() {
            return false;
        }
        let to = Standing {
            times: former.times,
            ..from.next_epoch(Phase::Ejected, former.at)
        };
        if !self.change(keeper, from, to) {
            keeper.ledger().release();
            return false;
        }
        if from.phase == Phase::Down {
            keeper.ledger().remove_down();
        }
        keeper.ledger().bump_eligibility();
        true
    }

    /// Restores the count of ejections in a row, for a member that is not published yet.
    pub(crate) fn remember(&self, former: Standing) {
        let from = self.get();
        let (times, at) = (former.times, former.at);
        self.exchange(from, Standing { times, at, ..from });
    }

    /// Takes the probe if it is due and, for a request, if the limit allows one more: its slot first, then the change.
    /// Returns the probe's epoch. A probe that was given up counts as an ejection in a row, and leaves its slot to this
    /// one. `timeout` tells how long the n-th may take.
    pub(super) fn claim_probe(
        &self,
        keeper: &impl Keeper,
        by: ProbedBy,
        now: Tick,
        timeout: impl FnOnce(u32) -> Duration,
        longest: Duration,
    ) -> Option<u32> {
        let from = self.get();
        if !from.probe_is_due(now, longest) {
            return None;
        }
        let given_up = from.phase == Phase::Probing;
        match by {
            _ if given_up => {}
            ProbedBy::Check => keeper.ledger().probes.take_anyway(),
            ProbedBy::Request if keeper.ledger().probes.take() => {}
            ProbedBy::Request => return None,
        }
        let times = (from.times + u32::from(given_up)).min(MOST_TIMES);
        let to = Standing {
            times,
            ..from.next_epoch(Phase::Probing, stamp_after(now, timeout(times)))
        };
        let claimed = self.change(keeper, from, to);
        if !claimed && !given_up {
            keeper.ledger().probes.give_back();
        }
        claimed.then_some(to.epoch)
    }

    /// Whether the probe of `epoch` is still the one that counts.
    pub(super) fn awaits(&self, epoch: u32) -> bool {
        let standing = self.get();
        standing.epoch == epoch && standing.phase == Phase::Probing
    }

    /// Ends the slow start; returns whether it did. The epoch stays, so results of requests under way still count.
    pub(crate) fn warmed(&self) -> bool {
        let from = self.get();
        let to = Standing {
            phase: Phase::In,
            ..from
        };
        from.phase == Phase::Warming && self.exchange(from, to)
    }

    /// Begins a slow start in the present standing, if the member is in. For a member that is not published yet.
    pub(crate) fn warm(&self, now: Tick) {
        let from = self.get();
        if from.is_in() {
            let to = Standing {
                phase: Phase::Warming,
                at: stamp(now),
                ..from
            };
            self.exchange(from, to);
        }
    }

    /// Acts on what the probe of `epoch` found; a good one brings the member back. Returns `false`, and changes
    /// nothing, if that probe had been given up or the member has been moved since.
    pub(super) fn conclude(
        &self,
        keeper: &impl Keeper,
        epoch: u32,
        finding: Finding,
        now: Tick,
        length: impl FnOnce(u32) -> Duration,
    ) -> bool {
        let from = self.get();
        if from.epoch != epoch || from.phase != Phase::Probing {
            return false;
        }
        let to = match finding {
            Finding::Good => from.next_epoch(keeper.return_phase(), stamp(now)),
            Finding::Inconclusive(wait) => from.next_epoch(Phase::Ejected, stamp_after(now, wait)),
            Finding::Bad => {
                let times = (from.times + 1).min(MOST_TIMES);
                let until = stamp_after(now, length(times));
                Standing {
                    times,
                    ..from.next_epoch(Phase::Ejected, until)
                }
            }
        };
        let changed = self.change(keeper, from, to);
        if changed {
            keeper.ledger().probes.give_back();
        }
        if changed && finding == Finding::Good {
            keeper.ledger().release();
            keeper.ledger().bump_eligibility();
        }
        changed
    }

    /// Moves to `phase` from any standing, and settles the ledger. Only the writer calls it; `phase` must not hold a
    /// slot. Returns the former standing.
    pub(crate) fn place(&self, keeper: &impl Keeper, phase: Phase, now: Tick) -> Standing {
        loop {
            let from = self.get();
            if from.phase == phase {
                return from;
            }
            if self.change(keeper, from, from.next_epoch(phase, stamp(now))) {
                // First, so that the ledger shows a member that is refused throughout.
                if phase == Phase::Down {
                    keeper.ledger().add_down();
                }
                if from.phase == Phase::Probing {
                    keeper.ledger().probes.give_back();
                }
                if from.is_ejected() {
                    keeper.ledger().release();
                }
                if from.phase == Phase::Down {
                    keeper.ledger().remove_down();
                }
                keeper.ledger().bump_eligibility();
                return from;
            }
        }
    }
}

/// For models and tests without copies of the epoch.
#[cfg(test)]
impl Keeper for Ledger {
    fn ledger(&self) -> &Ledger {
        self
    }

    fn return_phase(&self) -> Phase {
        Phase::Warming
    }

    fn epoch_changed(&self, _: u32) {}
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
