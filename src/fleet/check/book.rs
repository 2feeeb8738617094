//! Which members are to be checked when, and which are being checked. Under the driver's mutex; holds no endpoint.

mod known;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::belief::{Belief, LastLook};
use super::round::{Round, RoundNumber, RoundVerdict};
use crate::health::{CheckResult, CheckWeighing, Checked, HealthCheckSettings};
use crate::member::Probed;
use crate::options::MemberId;
use crate::outcome::Outcome;
use crate::time::Tick;

/// The receipt for a check under way. Ordered by when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sent {
    until: Tick,
    ticket: u64,
    pub(super) id: MemberId,
}

/// What a check's result asks of the member's standing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    /// It counts like this for the sequential test.
    Tested(CheckWeighing),
    /// Ejects the member for this result, if it has been in since this epoch.
    Eject(u32, CheckResult),
    /// A half-open probe has ended.
    Probed(Probed),
}

#[derive(Debug)]
struct Entry {
    /// The member's index in the set of this edition.
    at: usize,
    edition: u64,
    due: Tick,
    checked: Checked,
    /// When the ejection was for which passes are counted.
    ejected_at: Option<u64>,
    under_way: Option<UnderWay>,
    /// The round that the next check is for.
    round: Option<RoundNumber>,
    /// No check is brought forward to before this time: the last one said nothing.
    not_before: Tick,
}

/// What is to be known of a check when it ends.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// The epoch of the standing when the check was sent.
    epoch: u32,
    why: Why,
    /// The round that the check is for.
    round: Option<RoundNumber>,
}

/// How a check ended, and what is known of its member then.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckEnd {
    pub(super) outcome: Outcome,
    pub(super) at: Tick,
    /// Whether the member is in doubt; `false` if it has gone.
    pub(super) is_in_doubt: bool,
    /// Decides the jitter of the time of the next check.
    pub(super) random: u64,
}

/// What a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Due,
    /// The member is suspect, and the check goes on with the sequential test of its requests. A missing answer does not
    /// count for the unhealthy threshold: checks for that are an interval apart, and these a moment.
    InDoubt,
    /// A round asks for it, as others are in doubt. A missing answer does not count for the threshold either.
    Asked,
    /// It is the half-open probe of an ejected member.
    Claimed,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<MemberId, Entry>,
    /// Members without a check under way, by when the next is due.
    waiting: BTreeSet<(Tick, MemberId)>,
    /// Checks under way, also of members that have gone: they count for `max_probes`.
    sent: BTreeSet<Sent>,
    /// The edition of the set that this book is of; `None` before the first tick.
    edition: Option<u64>,
    tickets: u64,
    /// Whether the fleet has had a request; also `true` if that does not matter.
    pub(super) had_traffic: bool,
    /// When all members were last looked at.
    pub(super) watched: LastLook,
    /// The last round of checks of members that are not in doubt.
    pub(super) round: Round,
    /// Members in doubt whose check got no answer, which counts when the round is over: the outcome, and when it came.
    held: BTreeMap<MemberId, (Outcome, Tick)>,
    /// The time of the last tick.
    last: Tick,
    pub(super) belief: Belief,
}

impl Book {
    /// Makes this a book of these members. Of a new one, `seen` tells what is known and when it is due. O(members).
    pub(super) fn follow(
        &mut self,
        now: Tick,
        edition: u64,
        members: impl Iterator<Item = MemberId>,
        mut seen: impl FnMut(usize) -> (Checked, Tick),
    ) {
        if self.edition == Some(edition) {
            return;
        }
        self.edition = Some(edition);
        for (at, id) in members.enumerate() {
            let entry = self.entries.entry(id).or_insert_with(|| {
                let (checked, due) = seen(at);
                Entry {
                    at,
                    edition,
                    due,
                    checked,
                    ejected_at: None,
                    under_way: None,
                    round: None,
                    not_before: Tick::ZERO,
                }
            });
            (entry.at, entry.edition) = (at, edition);
            if entry.under_way.is_none() {
                self.waiting.insert((entry.due, id));
            }
        }
        let (waiting, held, round) = (&mut self.waiting, &mut self.held, &mut self.round);
        self.entries.retain(|&id, entry| {
            let stays = entry.edition == edition;
            if !stays {
                waiting.remove(&(entry.due, id));
                held.remove(&id);
                // A round does not wait for members that have gone.
                let check = entry.under_way.iter_mut();
                let asked = check.filter_map(|check| check.round.take());
                for number in entry.round.take().into_iter().chain(asked) {
                    round.note(number, now, CheckResult::Inconclusive);
                }
            }
            // If the member comes back while its check is under way, there must be no second one.
            stays || entry.under_way.is_some()
        });
    }

    /// A due time further ahead than `longest` was set by a clock that has gone back since, so it has come. If the
    /// clock went back between two ticks, every due time has.
    pub(super) fn heal(&mut self, now: Tick, longest: Duration) {
        let went_back = now < std::mem::replace(&mut self.last, now);
        let horizon = now.after(longest);
        let due_by = if went_back { now } else { horizon };
        while let Some(&(due, id)) = self.waiting.last().filter(|last| last.0 > due_by) {
            self.waiting.remove(&(due, id));
            self.schedule(id, now);
        }
        let is_too_long = |sent: &Sent| sent.until > horizon;
        while let Some(sent) = self.sent.last().copied().filter(is_too_long) {
            self.sent.remove(&sent);
            self.sent.insert(Sent { until: now, ..sent });
        }
    }

    /// A check whose time for an answer is over.
    pub(super) fn overdue(&self, now: Tick) -> Option<Sent> {
        self.sent.first().copied().filter(|sent| sent.until <= now)
    }

    /// The member's index in the set, if it is in it.
    pub(super) fn place(&self, id: MemberId) -> Option<usize> {
        let entry = self.entries.get(&id)?;
        (Some(entry.edition) == self.edition).then_some(entry.at)
    }

    /// The next member whose check is due, and its index, if one more check may be under way.
    pub(super) fn due(&self, now: Tick, most: usize) -> Option<(MemberId, usize)> {
        let &(due, id) = self.waiting.first()?;
        let is_due = due <= now && self.sent.len() < most;
        is_due.then_some((id, self.entries.get(&id)?.at))
    }

    /// Brings the next check forward to this time, or to when the member may be checked again, if that is later.
    pub(super) fn bring_forward(&mut self, id: MemberId, due: Tick) {
        let entry = self.entries.get(&id);
        let Some(entry) = entry.filter(|entry| entry.under_way.is_none()) else {
            return;
        };
        let due = due.max(entry.not_before);
        if entry.due > due {
            self.schedule(id, due);
        }
    }

    /// Whether the member may be checked for a round.
    pub(super) fn may_ask(&self, id: MemberId, now: Tick) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.not_before <= now)
    }

    /// Begins a round with these. Each is checked before all others, unless a check is under way, which then counts.
    pub(super) fn begin_round(
        &mut self,
        others: impl Iterator<Item = MemberId>,
        now: Tick,
        patience: Duration,
    ) {
        self.round.begin(now, patience);
        let round = Some(self.round.number());
        for id in others {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            self.round.ask();
            match &mut entry.under_way {
                Some(check) => check.round = round,
                None => {
                    entry.round = round;
                    self.schedule(id, Tick::ZERO);
                }
            }
        }
        self.round.end_if_enough(now);
    }

    /// Whether the member's next check is for a round. It does not wait for one now in doubt or out.
    pub(super) fn resolve_asked(&mut self, id: MemberId, is_other: bool, now: Tick) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        if let Some(round) = entry.round.filter(|_| !is_other) {
            entry.round = None;
            self.round.note(round, now, CheckResult::Inconclusive);
        }
        entry.round.is_some()
    }

    /// Sets when the member's next check is due.
    pub(super) fn schedule(&mut self, id: MemberId, due: Tick) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.waiting.remove(&(entry.due, id));
            entry.due = due;
            self.waiting.insert((due, id));
        }
    }

    /// Enters a check that is being sent.
    pub(super) fn send(&mut self, id: MemberId, epoch: u32, why: Why, until: Tick) -> Sent {
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(entry) = self.entries.get_mut(&id) {
            self.waiting.remove(&(entry.due, id));
            let round = entry.round.take();
            entry.under_way = Some(UnderWay { epoch, why, round });
        }
        let sent = Sent { until, ticket, id };
        self.sent.insert(sent);
        sent
    }

    /// Takes in the end of a check, and returns what is to be done. Nothing if the check had been given up, or its
    /// member has gone.
    pub(super) fn settle(
        &mut self,
        sent: Sent,
        end: CheckEnd,
        settings: &HealthCheckSettings,
    ) -> Action {
        let check = self.take(sent);
        let action = check.map_or(Action::Nothing, |check| {
            self.act_on(sent.id, check, end, settings)
        });
        self.belief.heed(action)
    }

    /// Ends a check under way; `None` if it had been given up, or its member has gone.
    fn take(&mut self, sent: Sent) -> Option<UnderWay> {
        // By the ticket and not the time, which is another if a clock went back.
        let is_it = |other: &Sent| other.ticket == sent.ticket;
        if !self.sent.remove(&sent) {
            let healed = self.sent.iter().copied().find(is_it)?;
            self.sent.remove(&healed);
        }
        let entry = self.entries.get_mut(&sent.id)?;
        // The check that was sent: an entry stays for as long as its check is under way.
        let check = entry.under_way.take()?;
        if Some(entry.edition) != self.edition {
            self.entries.remove(&sent.id);
            return None;
        }
        Some(check)
    }

    /// Counts a check's result, and schedules the next check.
    fn act_on(
        &mut self,
        id: MemberId,
        check: UnderWay,
        end: CheckEnd,
        settings: &HealthCheckSettings,
    ) -> Action {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Action::Nothing;
        };
        let (now, result) = (end.at, CheckResult::by(end.outcome));
        if let Some(round) = check.round {
            self.round.note(round, now, result);
        }
        let (checked, pace) = match (result, check.why) {
            // An ejected member need not miss as many in a row to stay out.
            (CheckResult::NoAnswer, Why::Claimed) => {
                entry.checked.after_ejection().after(settings, result)
            }
            (CheckResult::NoAnswer, Why::InDoubt | Why::Asked) => {
                entry.checked.after(settings, CheckResult::Inconclusive)
            }
            _ => entry.checked.after(settings, result),
        };
        entry.checked = checked;
        entry.not_before = Tick::ZERO;
        let mut wait = settings.wait(pace, self.had_traffic, end.random);
        if let Outcome::Overloaded {
            retry_after: Some(asked),
        } = end.outcome
        {
            wait = wait.max(asked.min(settings.longest_wait()));
        }
        if result == CheckResult::Inconclusive {
            // Another check at once would tell as little, and there would be no end of them.
            entry.not_before = now.after(wait);
        }
        self.schedule(id, now.after(wait));
        match result {
            _ if check.why == Why::Claimed => Action::Probed(Probed {
                epoch: check.epoch,
                result,
                enough: !checked.is_failing(),
                wait,
            }),
            CheckResult::NoAnswer | CheckResult::Fail if checked.is_failing() => {
                Action::Eject(check.epoch, result)
            }
            _ => self.weigh(id, check, end),
        }
    }

    /// How a result counts for the sequential test. In doubt, a missing answer counts once it is known how others are;
    /// until then the member gets no other check for doubt.
    fn weigh(&mut self, id: MemberId, check: UnderWay, end: CheckEnd) -> Action {
        match check.why {
            Why::InDoubt => {}
            _ if check.round.is_some() => return Action::Tested(CheckWeighing::Anyway),
            // It has become suspect since.
            Why::Due if end.is_in_doubt => {}
            _ => return Action::Tested(CheckWeighing::IfSuspect(0.0)),
        }
        match self.round.verdict_at(end.at) {
            RoundVerdict::FailureShare(share) => Action::Tested(CheckWeighing::IfSuspect(share)),
            _ if CheckResult::by(end.outcome) != CheckResult::NoAnswer => {
                Action::Tested(CheckWeighing::IfSuspect(0.0))
            }
            RoundVerdict::AllFail => Action::Nothing,
            RoundVerdict::NoRecentRound | RoundVerdict::Pending => {
                self.held.insert(id, (end.outcome, end.at));
                Action::Nothing
            }
        }
    }

    /// Whether results wait for a round, and none is under way.
    pub(super) fn wants_round(&self, now: Tick) -> bool {
        !self.held.is_empty() && self.round.verdict_at(now) == RoundVerdict::NoRecentRound
    }

    /// Whether a result of the member waits for a round.
    pub(super) fn holds(&self, id: MemberId) -> bool {
        self.held.contains_key(&id)
    }

    /// The results that waited for a round that is over, and the share of others that failed; `None` if all did. A
    /// result older than a round can be belongs to another suspicion.
    pub(super) fn release(
        &mut self,
        now: Tick,
    ) -> Option<(Vec<(MemberId, Outcome)>, CheckWeighing)> {
        let verdict = self.round.take_verdict()?;
        let longest = self.round.longest();
        let held = std::mem::take(&mut self.held).into_iter();
        let held = held.filter(|(_, (_, at))| now.since(*at) <= longest);
        let held = held.map(|(id, (outcome, _))| (id, outcome)).collect();
        match verdict {
            RoundVerdict::FailureShare(share) => Some((held, CheckWeighing::IfSuspect(share))),
            _ => None,
        }
    }

    /// When there is something to do next.
    pub(super) fn next(&self, most: usize, now: Tick) -> Option<Tick> {
        let given_up = self.sent.first().map(|sent| sent.until);
        let due = self.waiting.first().map(|&(due, _)| due);
        let due = due.filter(|_| self.sent.len() < most);
        let has_verdict = !self.held.is_empty() && self.round.has_untaken_verdict();
        if has_verdict || self.wants_round(now) {
            return Some(now);
        }
        given_up.into_iter().chain(due).min()
    }

    /// Whether the book has been filled.
    pub(super) fn is_begun(&self) -> bool {
        self.edition.is_some()
    }

    /// The number of checks under way.
    pub(super) fn under_way(&self) -> usize {
        self.sent.len()
    }
}
