//! Whether checks are believed: where they fail nearly everywhere and requests succeed all the same, the fault is the checks'.

use std::time::Duration;

use super::book::Action;
use crate::time::Tick;

/// What a look at all members has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) members: usize,
    /// Those that fail by their checks, or were out when last checked.
    pub(super) failing: usize,
    /// Those of them that take requests all the same, as no more may be out, and answer most.
    pub(super) answering: usize,
}

/// For how long requests contradict checks before these are not believed: one that has died just now still looks as if it answered.
const AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Belief {
    /// Since when they are contradicted.
    since: Option<Tick>,
    is_lost: bool,
}

impl Belief {
    pub(super) const fn is_believed(&self) -> bool {
        !self.is_lost
    }

    /// Not from more than half failing on, of whom a tenth of all answer requests; again when two fifths fail, or no tenth answers. A
    /// half is where Envoy's panic begins, which ignores checks; the tenth below it keeps one endpoint from turning it over and over.
    pub(super) fn look(&mut self, seen: Seen, now: Tick) {
        let is_contradicted = seen.answering > 0 && 10 * seen.answering >= seen.members;
        let is_most = if self.is_lost {
            5 * seen.failing > 2 * seen.members
        } else {
            2 * seen.failing > seen.members
        };
        // One further on is of a clock that has gone back.
        let since = self.since.filter(|since| *since <= now).unwrap_or(now);
        self.since = (is_contradicted && is_most).then_some(since);
        self.is_lost = self.since.is_some() && (self.is_lost || now.since(since) >= AFTER);
    }

    /// What is left of what a check asks for: of one that is not believed, that a probe under way has ended.
    pub(super) const fn heed(&self, action: Action) -> Action {
        match action {
            Action::Probed(_) => action,
            _ if self.is_lost => Action::Nothing,
            _ => action,
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    /// What is believed after these looks, half a second apart: how many of twenty fail and how many answer.
    fn after(looks: &[(usize, usize)]) -> Vec<bool> {
        let mut belief = Belief::default();
        let looks = looks.iter().zip(1..);
        let look = |(&(failing, answering), number): (&(usize, usize), u64)| {
            let seen = Seen {
                members: 20,
                failing,
                answering,
            };
            belief.look(seen, Tick::from_nanos(number * 500_000_000));
            belief.is_believed()
        };
        looks.map(look).collect()
    }

    #[test]
    fn it_takes_more_than_half_of_whom_some_answer_for_a_second() {
        assert_eq!(after(&[(11, 2), (11, 2), (11, 2)]), [true, true, false]);
        for few in [(10, 10), (20, 1), (20, 0)] {
            assert_eq!(after(&[few; 4]), [true; 4], "{few:?}");
            assert_eq!(after(&[(11, 2), (11, 2), few, (11, 2)]), [true; 4]);
        }
    }

    #[test]
    fn they_are_believed_again_when_two_fifths_fail_or_none_answers() {
        let lost = [(20, 10), (20, 10), (20, 10)];
        let then = |next| after(&[&lost[..], &[next]].concat())[3];
        assert!(!then((9, 2)) && then((8, 2)) && then((20, 1)));
    }

    #[test]
    fn of_none_they_are_believed_and_a_clock_may_go_back() {
        let mut belief = Belief::default();
        belief.look(Seen::default(), Tick::ZERO);
        assert!(belief.is_believed());
        let seen = Seen {
            members: 1,
            failing: 1,
            answering: 1,
        };
        for seconds in [9, 1, 2] {
            assert!(belief.is_believed());
            belief.look(seen, Tick::from_nanos(seconds * 1_000_000_000));
        }
        assert!(!belief.is_believed());
    }
}
