//! Which members are to be checked when, and which are being checked. Under the driver's mutex; holds no endpoint.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::belief::{Belief, LastLook};
use super::round::{Round, RoundNumber, RoundVerdict};
use crate::health::{CheckResult, CheckWeighing, Checked, HealthCheckSettings};
use crate::member::Probed;
use crate::options::MemberId;
use crate::outcome::Outcome;
use crate::time::Tick;

/// A check under way. Ordered by when it is given up.
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
    out: Option<Out>,
    /// The round that the next check is for.
    asked: Option<RoundNumber>,
    /// No check is brought forward to before this time: the last one said nothing.
    not_before: Tick,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    /// The epoch of the standing when the check was sent.
    epoch: u32,
    why: Why,
    /// The round that waits for the check.
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
    /// Others are in doubt: see [`Round`]. A missing answer does not count for the threshold either.
    ControlGroup,
    /// It is the half-open probe of an ejected member.
    Claimed,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<MemberId, Entry>,
    /// Members without a check under way, by when the next is due.
    waiting: BTreeSet<(Tick, MemberId)>,
    /// Checks under way, also of members that have gone: they count for `max_probes`.
    out: BTreeSet<Sent>,
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
                    out: None,
                    asked: None,
                    not_before: Tick::ZERO,
                }
            });
            (entry.at, entry.edition) = (at, edition);
            if entry.out.is_none() {
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
                let under_way = entry.out.as_mut().and_then(|out| out.round.take());
                for number in entry.asked.take().into_iter().chain(under_way) {
                    round.note(number, now, CheckResult::Inconclusive);
                }
            }
            // If the member comes back while its check is under way, there must be no second one.
            stays || entry.out.is_some()
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
        while let Some(sent) = self.out.last().copied().filter(|last| last.until > horizon) {
            self.out.remove(&sent);
            let until = now;
            self.out.insert(Sent { until, ..sent });
        }
    }

    /// A check whose time for an answer is over.
    pub(super) fn overdue(&self, now: Tick) -> Option<Sent> {
        self.out.first().copied().filter(|sent| sent.until <= now)
    }

    /// The member's index in the set, if it is in it.
    pub(super) fn place(&self, id: MemberId) -> Option<usize> {
        let entry = self.entries.get(&id)?;
        (Some(entry.edition) == self.edition).then_some(entry.at)
    }

    /// The next member whose check is due, and its index, if one more check may be under way.
    pub(super) fn due(&self, now: Tick, most: usize) -> Option<(MemberId, usize)> {
        let &(due, id) = self.waiting.first()?;
        let is_due = due <= now && self.out.len() < most;
        is_due.then_some((id, self.entries.get(&id)?.at))
    }

    /// Brings the next check forward to this time, or to when the member may be checked again, if that is later.
    pub(super) fn bring_forward(&mut self, id: MemberId, due: Tick) {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.out.is_none()) else {
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
            match &mut entry.out {
                Some(out) => out.round = round,
                None => {
                    entry.asked = round;
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
        if let Some(round) = entry.asked.filter(|_| !is_other) {
            entry.asked = None;
            self.round.note(round, now, CheckResult::Inconclusive);
        }
        entry.asked.is_some()
    }

    /// Sets when the member's next check is due.
    pub(super) fn schedule(&mut self, id: MemberId, due: Tick) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.waiting.remove(&(entry.due, id));
            entry.due = due;
            self.waiting.insert((due, id));
        }
    }

    /// The member was ejected at this time. Passes from before do not count.
    pub(super) fn note_ejected(&mut self, id: MemberId, ejected_at: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.ejected_at != Some(ejected_at) {
                entry.ejected_at = Some(ejected_at);
                entry.checked = entry.checked.after_ejection();
            }
        }
    }

    /// The member has answered a request, so it is known to be good, unless checks have said otherwise.
    pub(super) fn note_answer(&mut self, id: MemberId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.checked = entry.checked.or_passing();
        }
    }

    /// Enters a check that is being sent.
    pub(super) fn send(&mut self, id: MemberId, epoch: u32, why: Why, until: Tick) -> Sent {
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(entry) = self.entries.get_mut(&id) {
            self.waiting.remove(&(entry.due, id));
            let round = entry.asked.take();
            entry.out = Some(Out { epoch, why, round });
        }
        let sent = Sent { until, ticket, id };
        self.out.insert(sent);
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
        let out = self.take_out(sent);
        let action = out.map_or(Action::Nothing, |out| {
            self.act_on(sent.id, out, end, settings)
        });
        self.belief.heed(action)
    }

    /// Ends a check under way; `None` if it had been given up, or its member has gone.
    fn take_out(&mut self, sent: Sent) -> Option<Out> {
        // By the ticket and not the time, which is another if a clock went back.
        let is_it = |out: &Sent| out.ticket == sent.ticket;
        if !self.out.remove(&sent) {
            let healed = self.out.iter().copied().find(is_it)?;
            self.out.remove(&healed);
        }
        let entry = self.entries.get_mut(&sent.id)?;
        // The check that was sent: an entry stays for as long as its check is under way.
        let out = entry.out.take()?;
        if Some(entry.edition) != self.edition {
            self.entries.remove(&sent.id);
            return None;
        }
        Some(out)
    }

    /// Counts a check's result, and schedules the next check.
    fn act_on(
        &mut self,
        id: MemberId,
        out: Out,
        end: CheckEnd,
        settings: &HealthCheckSettings,
    ) -> Action {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Action::Nothing;
        };
        let (now, result) = (end.at, CheckResult::by(end.outcome));
        if let Some(round) = out.round {
            self.round.note(round, now, result);
        }
        let (checked, pace) = match (result, out.why) {
            // An ejected member need not miss as many in a row to stay out.
            (CheckResult::NoAnswer, Why::Claimed) => {
                entry.checked.after_ejection().after(settings, result)
            }
            (CheckResult::NoAnswer, Why::InDoubt | Why::ControlGroup) => {
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
            _ if out.why == Why::Claimed => Action::Probed(Probed {
                epoch: out.epoch,
                result,
                enough: !checked.is_failing(),
                wait,
            }),
            CheckResult::NoAnswer | CheckResult::Fail if checked.is_failing() => {
                Action::Eject(out.epoch, result)
            }
            _ => self.weigh(id, out, end),
        }
    }

    /// How a result counts for the sequential test. In doubt, a missing answer counts once it is known how others are;
    /// until then the member gets no other check for doubt.
    fn weigh(&mut self, id: MemberId, out: Out, end: CheckEnd) -> Action {
        match out.why {
            Why::InDoubt => {}
            _ if out.round.is_some() => return Action::Tested(CheckWeighing::Anyway),
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

    pub(super) fn is_failing(&self, id: MemberId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.checked.is_failing())
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
        let given_up = self.out.first().map(|sent| sent.until);
        let due = self.waiting.first().map(|&(due, _)| due);
        let due = due.filter(|_| self.out.len() < most);
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
        self.out.len()
    }
}
