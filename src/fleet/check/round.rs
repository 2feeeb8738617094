//! A look at the others, before checks take out one of several that are in doubt: is it these, or is it all?

use std::time::Duration;

use crate::health::Told;
use crate::time::Tick;

/// How many are looked at, at most: of so many of which half fail, fewer than two fifths do once in ten looks. (16 were too few: where ten
/// of twenty fail together they were told from all of them half as often.)
pub(super) const MOST: usize = 32;

/// For how long a look tells, once it is over. By then upkeep, which comes ten times a second by default, knows what share of
/// requests fails.
const FRESH: Duration = Duration::from_millis(100);

/// From which share of failures on it is all: the same as of endpoints under suspicion
/// (`COMMON` of the fleet's trend), more than a third, so that a dead zone of three is not taken for that.
const ALL: f32 = 0.4;

/// What a look at the others says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Says {
    /// There has been none lately.
    Nothing,
    /// Wait for it.
    Wait,
    /// This share of the others fail: what those in doubt are to be held against.
    Share(f32),
    /// So many of them that the fault is one of all.
    All,
}

#[derive(Debug, Default)]
pub(super) struct Round {
    sent: u32,
    passed: u32,
    failed: u32,
    /// When the last answer came that it takes; or, as long as that has not come, until when to wait for it. `None` before the first look.
    at: Option<Tick>,
}

impl Round {
    /// So many are looked at, which answer within this time or not at all.
    pub(super) fn begin(&mut self, now: Tick, sent: usize, patience: Duration) {
        let sent = sent as u32;
        let at = if sent == 0 { now } else { now.after(patience) };
        let (passed, failed) = (0, 0);
        *self = Self {
            sent,
            passed,
            failed,
            at: Some(at),
        };
    }

    /// One of them has ended like this. One of a look before this one may be among them.
    pub(super) fn note(&mut self, now: Tick, told: Told) {
        let was_over = self.is_over();
        match told {
            Told::Pass => self.passed += 1,
            Told::Miss | Told::Fail => self.failed += 1,
            Told::Nothing => self.sent = self.sent.saturating_sub(1),
        }
        if self.is_over() && !was_over {
            self.at = Some(now);
        }
    }

    /// Whether all but a quarter have answered: a few that hang should not keep those in that are in doubt.
    fn is_over(&self) -> bool {
        4 * (self.passed + self.failed) >= 3 * self.sent
    }

    /// What it says by now.
    pub(super) fn says(&self, now: Tick) -> Says {
        let Some(at) = self.at else {
            return Says::Nothing;
        };
        if !self.is_over() && now < at {
            return Says::Wait;
        }
        // A clock may have gone back.
        if !self.is_over() || at > now || now.since(at) >= FRESH {
            return Says::Nothing;
        }
        match self.failed as f32 / (self.passed + self.failed).max(1) as f32 {
            share if share >= ALL => Says::All,
            share => Says::Share(share),
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    fn after(sent: usize, passed: usize, failed: usize) -> Round {
        let mut round = Round::default();
        round.begin(at(500), sent, Duration::from_secs(2));
        (0..passed).for_each(|_| round.note(at(700), Told::Pass));
        (0..failed).for_each(|_| round.note(at(700), Told::Miss));
        round
    }

    #[test]
    fn tells_for_a_tenth_of_a_second_after_its_last_answer() {
        let round = after(4, 4, 0);
        assert_eq!(round.says(at(799)), Says::Share(0.0));
        assert_eq!(round.says(at(800)), Says::Nothing);
        assert_eq!(
            round.says(at(699)),
            Says::Nothing,
            "the clock has gone back"
        );
        assert_eq!(Round::default().says(at(0)), Says::Nothing);
    }

    #[test]
    fn two_fifths_that_fail_are_all_and_the_rest_of_a_zone_is_not() {
        assert_eq!(after(20, 12, 8).says(at(700)), Says::All);
        assert_eq!(after(20, 14, 6).says(at(700)), Says::Share(0.3));
    }

    #[test]
    fn a_quarter_need_not_answer_and_who_says_nothing_does_not_count() {
        assert_eq!(after(20, 14, 0).says(at(2499)), Says::Wait);
        assert_eq!(after(20, 14, 0).says(at(2500)), Says::Nothing, "for ever");
        assert_eq!(after(20, 15, 0).says(at(700)), Says::Share(0.0));
        let mut round = after(4, 2, 0);
        round.note(at(900), Told::Nothing);
        assert_eq!(round.says(at(900)), Says::Wait);
        round.note(at(900), Told::Nothing);
        assert_eq!(round.says(at(999)), Says::Share(0.0));
    }

    #[test]
    fn where_there_are_no_others_none_of_them_fails() {
        assert_eq!(after(0, 0, 0).says(at(500)), Says::Share(0.0));
    }
}
