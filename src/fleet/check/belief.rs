//! Whether checks are believed: where most fail while requests succeed all the same, the fault is the checks'.

use std::time::Duration;

use super::book::{Action, Book};
use super::steps::Checks;
use crate::endpoint::Endpoint;
use crate::health::BUCKETS;
use crate::member::{Member, State};
use crate::time::Tick;

/// How often that is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// How long requests must contradict checks before these are not believed; or a fifth of the window, if that is longer,
/// as for so long an endpoint that has just died still looks as if it answered.
const AFTER: Duration = Duration::from_secs(1);

/// How many of the window's last buckets tell whether an endpoint answers now. While checks are not believed, all of
/// them do, as some endpoints may get few requests.
const LATEST_BUCKETS: u64 = 2;

/// How many endpoints' requests say the same as their checks, and how many contradict them: those answer requests but
/// fail checks. Only endpoints in rotation count, as others get no requests.
#[derive(Clone, Copy, Debug, Default)]
struct CheckAgreement {
    agreeing: usize,
    contradicting: usize,
}

/// Whether checks are believed, and since when they are contradicted.
#[derive(Debug, Default)]
pub(super) struct Belief {
    is_lost: bool,
    /// Since when they are contradicted by most endpoints.
    since: Option<Tick>,
    looked: LastLook,
}

/// When something was last looked at that need not be looked at always.
#[derive(Debug, Default)]
pub(super) struct LastLook(Option<Tick>);

impl LastLook {
    /// Whether it is to be looked at again: at most once in `every`.
    pub(super) fn claim(&mut self, now: Tick, every: Duration) -> bool {
        let fresh = |last: Tick| last <= now && now.since(last) < every;
        if self.0.is_some_and(fresh) {
            return false;
        }
        self.0 = Some(now);
        true
    }
}

impl Belief {
    pub(super) const fn is_believed(&self) -> bool {
        !self.is_lost
    }

    /// Checks are not believed any more when more than half contradict them for `patience`, and believed again when no
    /// more than two fifths do. If no endpoint says anything, nothing changes.
    fn update(&mut self, agreement: CheckAgreement, now: Tick, patience: Duration) {
        let all = agreement.agreeing + agreement.contradicting;
        if all == 0 {
            return;
        }
        let are_most = if self.is_lost {
            5 * agreement.contradicting > 2 * all
        } else {
            2 * agreement.contradicting > all
        };
        // A start in the future is from a clock that has gone back.
        let since = self.since.filter(|since| *since <= now).unwrap_or(now);
        self.since = are_most.then_some(since);
        self.is_lost = are_most && (self.is_lost || now.since(since) >= patience);
    }

    /// Starts the time of contradiction over, as no member is ejected or suspect.
    pub(super) const fn reset_contradiction(&mut self) {
        self.since = None;
    }

    /// What is left of a check's action. While checks are not believed, only the end of a half-open probe counts.
    pub(super) const fn heed(&self, action: Action) -> Action {
        match action {
            Action::Probed(_) => action,
            _ if self.is_lost => Action::Nothing,
            _ => action,
        }
    }
}

impl Checks {
    /// Looks from time to time whether checks are to be believed.
    pub(super) fn update_belief<E: Endpoint>(
        &self,
        book: &mut Book,
        members: &[Member<E>],
        now: Tick,
    ) {
        if !book.belief.looked.claim(now, EVERY) {
            return;
        }
        let buckets = if book.belief.is_believed() {
            LATEST_BUCKETS
        } else {
            BUCKETS
        };
        let taking = members.iter().map(Member::core);
        let taking = taking.filter(|state| state.standing.get().is_in());
        let mut agreement = CheckAgreement::default();
        for state in taking.clone().filter(|state| book.is_failing(state.id)) {
            match answers(state, buckets, now) {
                Some(true) => agreement.contradicting += 1,
                Some(false) => agreement.agreeing += 1,
                None => {}
            }
        }
        // Most of the time no endpoint contradicts, and there is no need to look at the others.
        if agreement.contradicting > 0 || !book.belief.is_believed() {
            let passing = taking.filter(|state| !book.is_failing(state.id));
            let agreeing = passing.filter(|state| answers(state, buckets, now) == Some(true));
            agreement.agreeing += agreeing.count();
        }
        let patience = AFTER.max(self.shared.ejection.window / 5);
        book.belief.update(agreement, now, patience);
    }
}

/// Whether the endpoint is not suspect and answers most of its last requests; `None` if it has had none.
fn answers(state: &State, buckets: u64, now: Tick) -> Option<bool> {
    let last = state.gate.last(buckets, now);
    let well = || state.suspicion(now) == 0.0 && 2 * last.faults <= last.total;
    (last.total > 0).then(well)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    /// Whether checks are believed after each of these looks, half a second apart: how many agree, and how many
    /// contradict.
    fn after(looks: &[(usize, usize)]) -> Vec<bool> {
        let mut belief = Belief::default();
        let looks = looks.iter().zip(1..);
        let look = |(&(agreeing, contradicting), number): (&(usize, usize), u64)| {
            let agreement = CheckAgreement {
                agreeing,
                contradicting,
            };
            belief.update(agreement, Tick::from_nanos(number * 500_000_000), AFTER);
            belief.is_believed()
        };
        looks.map(look).collect()
    }

    #[test]
    fn checks_are_disbelieved_when_more_than_half_contradict_for_a_second() {
        assert_eq!(after(&[(4, 5); 3]), [true, true, false]);
        for few in [(5, 5), (9, 1), (9, 0)] {
            assert_eq!(after(&[few; 4]), [true; 4], "{few:?}");
            assert_eq!(after(&[(4, 5), (4, 5), few, (4, 5)]), [true; 4]);
        }
        assert!(
            !after(&[(0, 1), (0, 0), (0, 1)])[2],
            "no endpoint says anything"
        );
    }

    #[test]
    fn checks_are_believed_again_when_two_fifths_contradict() {
        let lost = [(0, 9); 3];
        let then = |next| after(&[&lost[..], &[next]].concat())[3];
        assert!(!then((5, 4)) && then((6, 4)) && then((1, 0)));
        assert!(!then((0, 0)), "no endpoint says anything");
    }

    #[test]
    fn the_time_of_contradiction_starts_over_after_a_reset_or_a_clock_set_back() {
        let mut belief = Belief::default();
        let agreement = CheckAgreement {
            agreeing: 0,
            contradicting: 1,
        };
        for seconds in [9, 1, 1] {
            belief.update(agreement, Tick::from_nanos(seconds * 1_000_000_000), AFTER);
            assert!(belief.is_believed());
        }
        belief.reset_contradiction();
        belief.update(agreement, Tick::from_nanos(2_000_000_000), AFTER);
        assert!(belief.is_believed());
        belief.update(agreement, Tick::from_nanos(3_000_000_000), AFTER);
        assert!(!belief.is_believed());
    }
}
