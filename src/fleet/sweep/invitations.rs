//! Invitations: which idle endpoint the next pick of a policy that compares costs tries, and how often.

use std::time::Duration;

use super::Seen;
use crate::endpoint::{Endpoint, Weight};
use crate::member::{Guest, Member, State};
use crate::shared::Shared;
use crate::time::Tick;

/// The share of requests that may be invitations. An invitation makes the next pick of a policy that compares costs
/// choose an idle member: that is how the fleet finds out whether an avoided endpoint has recovered.
const INVITED: f64 = 0.02;

/// After this many invitations to endpoints without data, one goes to the endpoint that has been idle longest.
const UNKNOWN: u32 = 2;

/// The most invitations that are saved up.
const SAVED: f64 = 3.0;

#[derive(Debug, Default)]
pub(super) struct Invitations {
    /// Of the members that may be invited, the one idle longest, and for how many milliseconds.
    idlest: Option<(u32, Seen)>,
    /// Of the members without data, the first of the least invited, and how often.
    unknown: Option<(u8, Seen)>,
    /// Invitations saved up.
    saved: f64,
    /// How many invitations in a row went to members without data.
    in_a_row: u32,
    /// The sum of the weights seen, and their number.
    weight: u64,
    weights: u32,
    /// The mean weight at the last sweep.
    mean_weight: f32,
}

impl Invitations {
    /// Begins another sweep.
    pub(super) fn restart(&mut self) {
        *self = Self {
            saved: self.saved,
            in_a_row: self.in_a_row,
            mean_weight: self.mean_weight,
            ..Self::default()
        };
    }

    pub(super) fn count_weight(&mut self, weight: Weight) {
        self.weight += u64::from(weight.get());
        self.weights += 1;
    }

    /// All members have been looked at.
    pub(super) fn end_sweep(&mut self) {
        self.mean_weight = self.weight as f32 / self.weights.max(1) as f32;
    }

    /// Looks whether this idle member may be invited.
    pub(super) fn consider<E: Endpoint>(&mut self, seen: Seen, member: &Member<E>, now: Tick) {
        match member.core().may_be_invited(now) {
            Some(Guest::Unknown(times)) => {
                let guest = (times, seen);
                self.unknown = Some(self.unknown.map_or(guest, |other| other.min(guest)));
            }
            Some(Guest::Idle(idle)) if self.may_wait(member, idle) => {}
            Some(Guest::Idle(idle)) => self.idlest = self.idlest.max(Some((idle, seen))),
            None => {}
        }
    }

    /// Whether a member lighter than the mean has been idle, for `idle` milliseconds, no longer than until its turn may
    /// come. Then it is not avoided. Invited each second, a member of a hundredth of the others' weight got twenty
    /// times its share.
    fn may_wait<E: Endpoint>(&self, member: &Member<E>, idle: u32) -> bool {
        const TURNS: f32 = 2.0;
        let pace = member.core().shared.rates.pace();
        let times_lighter = self.mean_weight / member.weight().get() as f32;
        times_lighter > 1.0 && idle as f32 / 1_000.0 * pace < TURNS * times_lighter
    }

    /// Saves up what the requests of the last `span` have earned in the time `passed` since the last sweep.
    pub(super) fn earn(
        &mut self,
        requests: u64,
        passed: Duration,
        span: Duration,
        shared: &Shared,
    ) {
        // A late sweep earns no more than one in time, so that requests still go by turns where they are few; except
        // while a member without data waits.
        let passed = match self.unknown {
            Some(_) => passed.max(shared.interval()),
            None => shared.interval(),
        };
        let passed = passed.as_secs_f64() / span.as_secs_f64();
        let earned = INVITED * requests as f64 * passed.min(1.0);
        self.saved = (self.saved + earned).min(SAVED);
    }

    /// Invites the member whose turn it is, if an invitation has been earned.
    pub(super) fn invite<'a>(&mut self, find: impl FnOnce(Seen) -> Option<&'a State>, now: Tick) {
        if self.saved < 1.0 {
            return;
        }
        let takes_unknown = self.in_a_row < UNKNOWN || self.idlest.is_none();
        let (guest, in_a_row) = match self.unknown.filter(|_| takes_unknown) {
            Some((_, guest)) => (Some(guest), (self.in_a_row + 1).min(UNKNOWN)),
            None => (self.idlest.map(|(_, guest)| guest), 0),
        };
        if let Some(core) = guest.and_then(find) {
            core.invite(now);
            self.saved -= 1.0;
            self.in_a_row = in_a_row;
        }
    }
}
