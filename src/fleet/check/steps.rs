//! The steps of a driver: what it does in a tick, and at the end of a check.

use std::time::Duration;

use super::WATCH;
use super::book::{Action, Book, CheckEnd, Sent, Why};
use super::round;
use crate::endpoint::Endpoint;
use crate::health::{
    CheckResult, CheckWeighing, Checked, Detector, Detectors, HealthCheckSettings, Pace,
};
use crate::member::{Member, Standing, State};
use crate::outcome::Outcome;
use crate::shared::Shared;
use crate::sync::{Arc, Mutex};
use crate::time::Tick;

/// What the driver shares with the probes under way.
pub(super) struct Checks {
    pub(super) settings: HealthCheckSettings,
    pub(super) shared: Arc<Shared>,
    pub(super) book: Mutex<Book>,
}

impl Checks {
    pub(super) fn longest_wait(&self) -> Duration {
        self.settings
            .longest_wait()
            .max(self.shared.longest_ejection())
    }

    /// What is known of a member that has not been checked yet, and when its first check is due.
    pub(super) fn first_seen(&self, state: &State, now: Tick) -> (Checked, Tick) {
        let random = self.shared.random(self.shared.shard());
        let checked = match state.latency.get() {
            // It has answered a request, so the thresholds count for it.
            Some(_) => Checked::PASSING,
            None => Checked::UNKNOWN,
        };
        (checked, now.after(self.settings.first_wait(random)))
    }

    /// Counts checks as timed out whose answer has not come in time.
    pub(super) fn give_up<E: Endpoint>(&self, book: &mut Book, members: &[Member<E>], now: Tick) {
        while let Some(sent) = book.overdue(now) {
            let member = book.place(sent.id).and_then(|at| members.get(at));
            let state = member.map(|member| &**member.core());
            let end = self.end_of_check(state, Outcome::Timeout, now);
            let action = book.settle(sent, end, &self.settings);
            if let Some(state) = state {
                act(state, action, end.outcome, now);
            }
        }
    }

    /// Brings forward the checks of ejected members to when their time is over, and those of members in doubt to now.
    /// Also looks for the first traffic.
    pub(super) fn watch<E: Endpoint>(&self, book: &mut Book, members: &[Member<E>], now: Tick) {
        // Traffic matters only if there is an interval for no traffic.
        book.had_traffic |= self.settings.no_traffic_interval.is_none();
        let is_quiet = self.shared.ledger.read().ejected == 0
            && !self.shared.rates.has_suspects()
            && book.belief.is_believed();
        let every = WATCH.max(self.shared.interval() / 10);
        if is_quiet {
            book.belief.reset_contradiction();
        }
        if (book.had_traffic && is_quiet) || !book.watched.claim(now, every) {
            return;
        }
        if !book.had_traffic && members.iter().any(|member| member.core().had_traffic(now)) {
            book.had_traffic = true;
            for member in members {
                let random = self.shared.random(self.shared.shard());
                let soon = self.settings.wait(Pace::Passing, true, random);
                book.bring_forward(member.id(), now.after(soon));
            }
        }
        self.update_belief(book, members, now);
        if !book.belief.is_believed() {
            return;
        }
        for member in members {
            let standing = member.core().standing.get();
            if standing.is_ejected() {
                book.bring_forward(member.id(), standing.probe_due_at(now));
            } else if member.core().is_in_doubt(now) && !book.holds(member.id()) {
                book.bring_forward(member.id(), now);
            }
        }
    }

    /// Takes in results that waited for a round of checks of others. A member still in doubt is then checked again at
    /// once.
    pub(super) fn release<E: Endpoint>(&self, book: &mut Book, members: &[Member<E>], now: Tick) {
        let Some((held, weighing)) = book.release(now) else {
            return;
        };
        if !book.belief.is_believed() {
            return;
        }
        for (id, outcome) in held {
            let Some(state) = book.place(id).map(|at| members[at].core()) else {
                continue;
            };
            state.checked(outcome, weighing, now);
            if state.is_in_doubt(now) {
                book.bring_forward(id, now);
            }
        }
    }

    /// Begins a round of checks of members that are not suspect, if results of members in doubt wait for one.
    pub(super) fn begin_round<E: Endpoint>(
        &self,
        book: &mut Book,
        members: &[Member<E>],
        now: Tick,
    ) {
        if !book.wants_round(now) {
            return;
        }
        let is_well = |state: &State| state.standing.get().is_in() && state.suspicion(now) == 0.0;
        let others = members.iter().map(Member::core);
        let others = others.filter(|state| is_well(state) && book.may_ask(state.id, now));
        let others: Vec<_> = others.collect();
        // Spread evenly over the set, as members of a zone stand side by side.
        let (all, count) = (others.len(), others.len().min(round::MOST));
        let start = self.shared.random(self.shared.shard()) as usize % all.max(1);
        let some = (0..count).map(|one| others[(start + one * all / count) % all].id);
        let turns = count.div_ceil(self.settings.max_probes).max(1) as u32;
        let patience = self.settings.patience().saturating_mul(turns);
        book.begin_round(some, now, patience);
    }

    /// Enters a check of a member into the book; `None` if the member is ejected and not to be probed now.
    pub(super) fn send(&self, book: &mut Book, state: &State, now: Tick) -> Option<Sent> {
        let standing = state.standing.get();
        let is_in_doubt = state.is_in_doubt(now);
        let is_other = standing.is_in() && !is_in_doubt;
        let is_asked = book.resolve_asked(state.id, is_other, now);
        let (epoch, why) = if standing.is_ejected() {
            (self.claim(book, state, standing, now)?, Why::Claimed)
        } else {
            book.note_not_ejected(state.id);
            if state.latency.get().is_some() {
                book.note_answer(state.id);
            }
            let why = match is_in_doubt {
                true => Why::InDoubt,
                false if is_asked => Why::Asked,
                false => Why::Due,
            };
            (standing.epoch, why)
        };
        let until = now.after(self.settings.patience());
        Some(book.send(state.id, epoch, why, until))
    }

    /// Takes the half-open probe of an ejected member. If it cannot be taken now, schedules another try.
    fn claim(&self, book: &mut Book, state: &State, standing: Standing, now: Tick) -> Option<u32> {
        let latest = now.after(self.settings.interval);
        if !book.belief.is_believed() {
            book.schedule(state.id, latest);
            return None;
        }
        book.note_ejected(state.id, state.ejected_at());
        let epoch = state.claim_check(now, self.settings.patience());
        if epoch.is_none() {
            // It may come back before, by an update or a request's probe.
            let soon = now.after(Duration::from_millis(1));
            let due = standing.probe_due_at(now).max(soon).min(latest);
            book.schedule(state.id, due);
        }
        epoch
    }

    fn end_of_check(&self, state: Option<&State>, outcome: Outcome, at: Tick) -> CheckEnd {
        CheckEnd {
            outcome,
            at,
            is_in_doubt: state.is_some_and(|state| state.is_in_doubt(at)),
            random: self.shared.random(self.shared.shard()),
        }
    }

    /// Takes in a check's outcome. The book is up to date before the member's standing changes, which may run the
    /// user's tracker.
    pub(super) fn settle(&self, sent: Sent, state: &State, outcome: Outcome) {
        let now = self.shared.now();
        let end = self.end_of_check(Some(state), outcome, now);
        let action = self.book.lock().settle(sent, end, &self.settings);
        if let Some(wait) = act(state, action, outcome, now) {
            self.book.lock().bring_forward(sent.id, now.after(wait));
        }
    }
}

/// Does what a check's result asks for. Returns how long until the next check at the latest, if that is to be sooner.
fn act(state: &State, action: Action, outcome: Outcome, now: Tick) -> Option<Duration> {
    let action = match action {
        // Where many are suspect, a missing answer proves little; the sequential test knows how little.
        Action::Eject(_, CheckResult::NoAnswer) if state.shared.rates.are_many_suspect(true) => {
            Action::Tested(CheckWeighing::IfSuspect(0.0))
        }
        action => action,
    };
    match action {
        Action::Nothing => None,
        Action::Tested(weighing) => {
            state.checked(outcome, weighing, now);
            state.is_in_doubt(now).then_some(Duration::ZERO)
        }
        Action::Eject(epoch, _) => {
            state.eject(epoch, Detectors::NONE.with(Detector::ActiveCheck), now);
            None
        }
        Action::Probed(check) => {
            let wait = state.probed(check, now);
            state.standing.get().is_ejected().then_some(wait)
        }
    }
}
