//! Who is to be checked when, and who is being checked. Under the driver's mutex; it holds no endpoint.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::belief::Belief;
use super::round::{Number, Round, Says};
use crate::health::{Checked, HealthCheckSettings, Test, Told};
use crate::options::MemberId;
use crate::outcome::Outcome;
use crate::time::Tick;

/// A check that is under way. In the order of when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sent {
    until: Tick,
    ticket: u64,
    pub(super) id: MemberId,
}

/// What a result asks of the member's standing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    /// For the sequential test it counts so.
    Tested(Test),
    /// For that it counts when a look at others is over, and until then there is no other for doubt.
    Held,
    /// Out with it for being told this, if it has been in since this epoch.
    Eject(u32, Told),
    /// The half-open probe of this epoch has ended.
    Probed(Probed),
}

/// How the half-open probe of an ejected member has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probed {
    pub(super) epoch: u32,
    pub(super) told: Told,
    /// Whether it has passed as often in a row as the settings want.
    pub(super) enough: bool,
    /// Until the next, if it stays out.
    pub(super) wait: Duration,
}

#[derive(Debug)]
struct Entry {
    /// Its place among the members of the set of this edition.
    at: usize,
    edition: u64,
    due: Tick,
    checked: Checked,
    /// The ejection that its passes count for, by when it was.
    ejected_at: Option<u64>,
    out: Option<Out>,
    /// Which look at the others its next check is for.
    asked: Option<Number>,
    /// It has asked not to be checked before.
    not_before: Tick,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    /// The standing's when it was sent.
    epoch: u32,
    why: Why,
    /// Which look at the others waits for it.
    look: Option<Number>,
}

/// What a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its time has come.
    Due,
    /// Requests have made the member suspect, and it goes on with their sequential test. It does not count as one without
    /// an answer in a row: those are an interval apart, and these a moment.
    Doubt,
    /// Others are in doubt: see [`Round`]. It does not count in a row either.
    Beside,
    /// It is the half-open probe of an ejected member.
    Claimed,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<MemberId, Entry>,
    /// Those that no check is under way for, by when the next is due.
    waiting: BTreeSet<(Tick, MemberId)>,
    /// Checks under way, also for members that have gone meanwhile: they count for the cap.
    out: BTreeSet<Sent>,
    /// Of the set that it is of; none before the first tick.
    edition: Option<u64>,
    tickets: u64,
    /// Whether the fleet has had a request, or that is of no interest.
    pub(super) had_traffic: bool,
    /// When all members were last looked at.
    watched: Option<Tick>,
    /// The last look at others than those in doubt.
    pub(super) round: Round,
    /// Those in doubt of which a check got no answer, which counts when that is over: what it was, and when.
    held: BTreeMap<MemberId, (Outcome, Tick)>,
    /// The time of the last tick.
    last: Tick,
    pub(super) belief: Belief,
}

impl Book {
    /// Makes it a book of these members; `seen` tells, of one that is new, what is known and when it is
    /// due. O(members).
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
                // Whoever has gone is not waited for.
                let under_way = entry.out.as_mut().and_then(|out| out.look.take());
                for look in entry.asked.take().into_iter().chain(under_way) {
                    round.note(look, now, Told::Nothing);
                }
            }
            // Should it come back while its check is under way, there is no second one.
            stays || entry.out.is_some()
        });
    }

    /// A due time further ahead than this was set by a clock that has gone back since: it has come. So has any, where it went back
    /// between two ticks.
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

    /// One whose answer has not come in its time.
    pub(super) fn overdue(&self, now: Tick) -> Option<Sent> {
        self.out.first().copied().filter(|sent| sent.until <= now)
    }

    /// Its place among the members, if it is one.
    pub(super) fn place(&self, id: MemberId) -> Option<usize> {
        let entry = self.entries.get(&id)?;
        (Some(entry.edition) == self.edition).then_some(entry.at)
    }

    /// Whose check is due, if there may be another; and its place among the members.
    pub(super) fn due(&self, now: Tick, most: usize) -> Option<(MemberId, usize)> {
        let &(due, id) = self.waiting.first()?;
        let is_due = due <= now && self.out.len() < most;
        is_due.then_some((id, self.entries.get(&id)?.at))
    }

    /// No check now: look again at this time.
    pub(super) fn put_off(&mut self, id: MemberId, due: Tick) {
        self.schedule(id, due);
    }

    /// A check at this time, if none comes before, and the endpoint has not asked for less.
    pub(super) fn bring_forward(&mut self, id: MemberId, due: Tick) {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.out.is_none()) else {
            return;
        };
        let due = due.max(entry.not_before);
        if entry.due > due {
            self.schedule(id, due);
        }
    }

    /// Whether it may be asked how it is, for a look at the others.
    pub(super) fn may_ask(&self, id: MemberId, now: Tick) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.not_before <= now)
    }

    /// Begins a look at these. Each is checked before anybody else, or a check is under way that counts.
    pub(super) fn look_at(
        &mut self,
        others: impl Iterator<Item = MemberId>,
        now: Tick,
        patience: Duration,
    ) {
        self.round.begin(now, patience);
        let look = Some(self.round.number());
        for id in others {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            self.round.ask();
            match &mut entry.out {
                Some(out) => out.look = look,
                None => {
                    entry.asked = look;
                    self.schedule(id, Tick::ZERO);
                }
            }
        }
        self.round.end_if_enough(now);
    }

    /// Whether its next check is for a look at the others. If it is not one of them any more, it is not waited for.
    pub(super) fn is_asked(&mut self, id: MemberId, is_other: bool, now: Tick) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        if let Some(look) = entry.asked.filter(|_| !is_other) {
            entry.asked = None;
            self.round.note(look, now, Told::Nothing);
        }
        entry.asked.is_some()
    }

    fn schedule(&mut self, id: MemberId, due: Tick) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.waiting.remove(&(entry.due, id));
            entry.due = due;
            self.waiting.insert((due, id));
        }
    }

    /// It has been found to be out since then. Passes of before that do not count.
    pub(super) fn found_out(&mut self, id: MemberId, ejected_at: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.ejected_at != Some(ejected_at) {
                entry.ejected_at = Some(ejected_at);
                entry.checked = entry.checked.found_out();
            }
        }
    }

    /// It has answered a request, and that it is good is known from that, unless checks have said otherwise.
    pub(super) fn has_answered(&mut self, id: MemberId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.checked = entry.checked.or_passing();
        }
    }

    /// A check is sent.
    pub(super) fn send(&mut self, id: MemberId, epoch: u32, why: Why, until: Tick) -> Sent {
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(entry) = self.entries.get_mut(&id) {
            self.waiting.remove(&(entry.due, id));
            let look = entry.asked.take();
            entry.out = Some(Out { epoch, why, look });
        }
        let sent = Sent { until, ticket, id };
        self.out.insert(sent);
        sent
    }

    /// A check of a member that is in doubt, or is not, has ended. Nothing if it had been given up, or its member has gone.
    pub(super) fn settle(
        &mut self,
        sent: Sent,
        settings: &HealthCheckSettings,
        outcome: Outcome,
        is_in_doubt: bool,
        now: Tick,
        random: u64,
    ) -> Action {
        // Not by the time, which a clock that went back may have made another.
        let is_it = |out: &Sent| out.ticket == sent.ticket;
        if !self.out.remove(&sent) {
            let Some(healed) = self.out.iter().copied().find(is_it) else {
                return Action::Nothing;
            };
            self.out.remove(&healed);
        }
        let Some(entry) = self.entries.get_mut(&sent.id) else {
            return Action::Nothing;
        };
        // The one that was sent: an entry stays for as long as its check is under way.
        let Some(out) = entry.out.take() else {
            return Action::Nothing;
        };
        if Some(entry.edition) != self.edition {
            self.entries.remove(&sent.id);
            return Action::Nothing;
        }
        let told = Told::by(outcome);
        if let Some(look) = out.look {
            self.round.note(look, now, told);
        }
        let (checked, pace) = match (told, out.why) {
            // One that is out need not fail thrice in a row to stay out.
            (Told::Miss, Why::Claimed) => entry.checked.found_out().after(settings, told),
            (Told::Miss, Why::Doubt | Why::Beside) => entry.checked.after(settings, Told::Nothing),
            _ => entry.checked.after(settings, told),
        };
        entry.checked = checked;
        entry.not_before = Tick::ZERO;
        let mut wait = settings.wait(pace, self.had_traffic, random);
        if let Outcome::Overloaded {
            retry_after: Some(asked),
        } = outcome
        {
            wait = wait.max(asked.min(settings.longest_wait()));
        }
        if told == Told::Nothing {
            // Another at once would tell as little, and there would be no end.
            entry.not_before = now.after(wait);
        }
        self.schedule(sent.id, now.after(wait));
        match told {
            _ if out.why == Why::Claimed => Action::Probed(Probed {
                epoch: out.epoch,
                told,
                enough: !checked.is_failing(),
                wait,
            }),
            Told::Miss | Told::Fail if checked.is_failing() => Action::Eject(out.epoch, told),
            _ => self.test(sent.id, (out, told, outcome), is_in_doubt, now),
        }
    }

    /// How a result counts for the sequential test. One of a member in doubt that is no answer does not before it is known how
    /// the others are.
    fn test(
        &mut self,
        id: MemberId,
        (out, told, outcome): (Out, Told, Outcome),
        is_in_doubt: bool,
        now: Tick,
    ) -> Action {
        match out.why {
            Why::Doubt => {}
            _ if out.look.is_some() => return Action::Tested(Test::Anyway),
            // It has become suspect meanwhile.
            Why::Due if is_in_doubt => {}
            _ => return Action::Tested(Test::IfSuspect(0.0)),
        }
        match self.round.says(now) {
            Says::Share(share) => Action::Tested(Test::IfSuspect(share)),
            _ if told != Told::Miss => Action::Tested(Test::IfSuspect(0.0)),
            Says::All => Action::Nothing,
            Says::Nothing | Says::Wait => {
                self.held.insert(id, (outcome, now));
                Action::Held
            }
        }
    }

    /// Whether those in doubt wait for a look at others, and none is under way.
    pub(super) fn wants_round(&self, now: Tick) -> bool {
        !self.held.is_empty() && self.round.says(now) == Says::Nothing
    }

    /// Whether its checks fail.
    pub(super) fn is_failing(&self, id: MemberId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.checked.is_failing())
    }

    /// Whether a check of it waits for that.
    pub(super) fn holds(&self, id: MemberId) -> bool {
        self.held.contains_key(&id)
    }

    /// Who has waited for a look at others that is over, with which outcome, and which share of those fails; none if all do. What is from
    /// longer ago than a look can take is of another suspicion.
    pub(super) fn release(&mut self, now: Tick) -> Option<(Vec<(MemberId, Outcome)>, Test)> {
        let says = self.round.tell()?;
        let longest = self.round.longest();
        let held = std::mem::take(&mut self.held).into_iter();
        let held = held.filter(|(_, (_, at))| now.since(*at) <= longest);
        let held = held.map(|(id, (outcome, _))| (id, outcome)).collect();
        match says {
            Says::Share(share) => Some((held, Test::IfSuspect(share))),
            _ => None,
        }
    }

    /// Whether all members should be looked at again: at most once in `every`.
    pub(super) fn watch_is_due(&mut self, now: Tick, every: Duration) -> bool {
        let fresh = |last: Tick| last <= now && now.since(last) < every;
        if self.watched.is_some_and(fresh) {
            return false;
        }
        self.watched = Some(now);
        true
    }

    /// When there is something to do next.
    pub(super) fn next(&self, most: usize, now: Tick) -> Option<Tick> {
        let given_up = self.out.first().map(|sent| sent.until);
        let due = self.waiting.first().map(|&(due, _)| due);
        let due = due.filter(|_| self.out.len() < most);
        self.edition?;
        let is_told = !self.held.is_empty() && self.round.is_untold();
        if is_told || self.wants_round(now) {
            return Some(now);
        }
        given_up.into_iter().chain(due).min()
    }

    /// Whether it has been filled.
    pub(super) fn is_begun(&self) -> bool {
        self.edition.is_some()
    }

    /// Checks under way.
    pub(super) fn under_way(&self) -> usize {
        self.out.len()
    }
}
