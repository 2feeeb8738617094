//! A round of checks of members that are not suspect, before checks eject one that is in doubt: are only a few members
//! failing, or all of them?

use std::time::Duration;

use crate::health::CheckResult;
use crate::shared::COMMON_FAULT_SHARE;
use crate::time::Tick;

/// The most members that a round checks: where half of the fleet fails, fewer than two fifths of this many do in one
/// round of ten. (16 were too few: where ten of twenty fail together they were told from all of them half as often.)
pub(super) const MOST: usize = 32;

/// How long after its end a round still tells how the others are. By then upkeep, which comes ten times a second by
/// default, knows what share of requests fails.
const FRESH: Duration = Duration::from_millis(100);

/// What a round says of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RoundVerdict {
    /// There has been no round recently.
    NoRecentRound,
    /// A round is under way: wait for it.
    Pending,
    /// This share of the others fails; members in doubt are weighed against it.
    FailureShare(f32),
    /// So many of the others fail that all share the fault.
    AllFail,
}

/// The number of a round. A check that was sent for one round, and ends after the next has begun, counts for neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RoundNumber(u64);

#[derive(Debug, Default)]
pub(super) struct Round {
    number: RoundNumber,
    asked: u32,
    passed: u32,
    failed: u32,
    /// Until when the round is waited for, and how long that is in all. `None` before the first round.
    until: Option<(Tick, Duration)>,
    /// When enough of the members had answered.
    over: Option<Tick>,
    /// Whether the results that waited for the round have been told.
    is_taken: bool,
}

impl Round {
    /// Begins another round, for the members asked from here on. They answer within `patience` or not at all.
    pub(super) fn begin(&mut self, now: Tick, patience: Duration) {
        *self = Self {
            number: RoundNumber(self.number.0 + 1),
            until: Some((now.after(patience), patience)),
            ..Self::default()
        };
    }

    pub(super) const fn number(&self) -> RoundNumber {
        self.number
    }

    /// Counts one more member that is asked.
    pub(super) const fn ask(&mut self) {
        self.asked += 1;
    }

    /// Counts a check that was for round `number` and ended like this.
    pub(super) fn note(&mut self, number: RoundNumber, now: Tick, result: CheckResult) {
        if number != self.number {
            return;
        }
        match result {
            CheckResult::Pass => self.passed += 1,
            CheckResult::NoAnswer | CheckResult::Fail => self.failed += 1,
            CheckResult::Inconclusive => self.asked = self.asked.saturating_sub(1),
        }
        self.end_if_enough(now);
    }

    /// Ends the round when all but a quarter have answered, or all but one that would make no difference: a few checks
    /// that hang must not keep in the members in doubt. Ends it at once if no member is asked.
    pub(super) fn end_if_enough(&mut self, now: Tick) {
        let silent = self.asked.saturating_sub(self.passed + self.failed);
        let may_be_all = is_all(self.failed + silent, self.asked);
        let is_enough = 4 * silent <= self.asked || (silent == 1 && !may_be_all);
        if is_enough && self.over.is_none() {
            self.over = Some(now);
        }
    }

    /// What the round says by now.
    pub(super) fn verdict_at(&self, now: Tick) -> RoundVerdict {
        // A clock may have gone back: what is further ahead than it can be is over. A little ahead is another thread's
        // reading.
        match (self.over, self.until) {
            (Some(at), _) if now.since(at) < FRESH && at.since(now) < FRESH => self.verdict(),
            (None, Some((until, patience))) if now < until && until.since(now) <= patience => {
                RoundVerdict::Pending
            }
            _ => RoundVerdict::NoRecentRound,
        }
    }

    /// Whether the round is over, and its verdict has not been told yet.
    pub(super) const fn has_untaken_verdict(&self) -> bool {
        self.over.is_some() && !self.is_taken
    }

    /// Takes the verdict, for the results that have waited for it: once, however late.
    pub(super) fn take_verdict(&mut self) -> Option<RoundVerdict> {
        let is_taking = self.has_untaken_verdict();
        self.is_taken |= is_taking;
        is_taking.then(|| self.verdict())
    }

    /// The longest time for which a result waits for a round to end and to be told.
    pub(super) fn longest(&self) -> Duration {
        let patience = self.until.map_or(Duration::ZERO, |(_, patience)| patience);
        patience.saturating_mul(2).saturating_add(FRESH)
    }

    fn verdict(&self) -> RoundVerdict {
        let answered = self.passed + self.failed;
        match is_all(self.failed, answered) {
            true => RoundVerdict::AllFail,
            false => RoundVerdict::FailureShare(self.failed as f32 / answered.max(1) as f32),
        }
    }
}

/// Whether so many fail that all share the fault: the same share as of suspects. `false` if there are none.
fn is_all(failed: u32, of: u32) -> bool {
    failed > 0 && f64::from(failed) >= COMMON_FAULT_SHARE * f64::from(of)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    fn after(asked: usize, passed: usize, failed: usize) -> Round {
        let mut round = Round::default();
        round.begin(at(500), Duration::from_secs(2));
        (0..asked).for_each(|_| round.ask());
        round.end_if_enough(at(500));
        let mut note = |result| round.note(round.number(), at(700), result);
        (0..passed).for_each(|_| note(CheckResult::Pass));
        (0..failed).for_each(|_| note(CheckResult::NoAnswer));
        round
    }

    #[test]
    fn the_verdict_holds_for_a_tenth_of_a_second_after_the_last_answer() {
        let round = after(4, 4, 0);
        assert_eq!(round.verdict_at(at(799)), RoundVerdict::FailureShare(0.0));
        assert_eq!(round.verdict_at(at(800)), RoundVerdict::NoRecentRound);
        // With a clock reading from before the last answer.
        assert_eq!(round.verdict_at(at(699)), RoundVerdict::FailureShare(0.0));
        assert_eq!(
            round.verdict_at(at(600)),
            RoundVerdict::NoRecentRound,
            "the clock has gone back"
        );
        assert_eq!(
            Round::default().verdict_at(at(0)),
            RoundVerdict::NoRecentRound
        );
    }

    /// A check that hung ends seconds later: what the others told is not of that time.
    #[test]
    fn an_answer_after_the_end_does_not_keep_a_round_fresh() {
        let mut round = after(4, 3, 0);
        round.note(round.number(), at(790), CheckResult::NoAnswer);
        assert_eq!(round.verdict_at(at(799)), RoundVerdict::FailureShare(0.25));
        assert_eq!(round.verdict_at(at(800)), RoundVerdict::NoRecentRound);
    }

    #[test]
    fn waiting_results_take_the_verdict_once_however_late() {
        let mut round = after(4, 4, 0);
        assert_eq!(round.verdict_at(at(90_000)), RoundVerdict::NoRecentRound);
        assert_eq!(round.take_verdict(), Some(RoundVerdict::FailureShare(0.0)));
        assert_eq!(round.take_verdict(), None);
        assert_eq!(after(4, 2, 0).take_verdict(), None, "it is not over");
        assert_eq!(Round::default().take_verdict(), None);
    }

    #[test]
    fn two_fifths_that_fail_count_as_all_and_the_rest_of_a_zone_does_not() {
        assert_eq!(after(20, 12, 8).verdict_at(at(700)), RoundVerdict::AllFail);
        assert_eq!(
            after(20, 14, 6).verdict_at(at(700)),
            RoundVerdict::FailureShare(0.3)
        );
    }

    #[test]
    fn a_quarter_need_not_answer_and_inconclusive_results_do_not_count() {
        assert_eq!(after(20, 14, 0).verdict_at(at(2499)), RoundVerdict::Pending);
        assert_eq!(
            after(20, 14, 0).verdict_at(at(2500)),
            RoundVerdict::NoRecentRound,
            "for ever"
        );
        assert_eq!(
            after(20, 15, 0).verdict_at(at(700)),
            RoundVerdict::FailureShare(0.0)
        );
        let mut round = after(4, 1, 0);
        round.note(round.number(), at(900), CheckResult::Inconclusive);
        assert_eq!(round.verdict_at(at(900)), RoundVerdict::Pending);
        round.note(round.number(), at(900), CheckResult::Inconclusive);
        assert_eq!(round.verdict_at(at(999)), RoundVerdict::Pending);
        round.note(round.number(), at(950), CheckResult::Inconclusive);
        assert_eq!(round.verdict_at(at(999)), RoundVerdict::FailureShare(0.0));
    }

    #[test]
    fn a_hanging_check_that_makes_no_difference_is_not_waited_for() {
        assert_eq!(
            after(3, 2, 0).verdict_at(at(700)),
            RoundVerdict::FailureShare(0.0)
        );
        assert_eq!(after(3, 1, 1).verdict_at(at(700)), RoundVerdict::Pending);
        assert_eq!(after(2, 1, 0).verdict_at(at(700)), RoundVerdict::Pending);
        assert_eq!(after(1, 0, 0).verdict_at(at(700)), RoundVerdict::Pending);
    }

    #[test]
    fn a_check_for_an_earlier_round_does_not_count() {
        let mut round = after(4, 0, 0);
        let before = round.number();
        round.begin(at(600), Duration::from_secs(2));
        (0..4).for_each(|_| round.ask());
        (0..4).for_each(|_| round.note(before, at(700), CheckResult::NoAnswer));
        assert_eq!(round.verdict_at(at(700)), RoundVerdict::Pending);
    }

    #[test]
    fn a_clock_that_goes_back_ends_the_wait_for_a_round() {
        assert_eq!(
            after(4, 0, 0).verdict_at(at(499)),
            RoundVerdict::NoRecentRound
        );
    }

    #[test]
    fn a_round_without_members_has_no_failures() {
        assert_eq!(
            after(0, 0, 0).verdict_at(at(500)),
            RoundVerdict::FailureShare(0.0)
        );
    }
}
