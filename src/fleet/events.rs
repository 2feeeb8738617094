//! What has happened in the fleet, handed out with the keys of the members concerned.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::Fleet;
use crate::endpoint::Endpoint;
use crate::error::shown;
use crate::health::Detector;
use crate::member::{Member, Ordinal};
use crate::options::MemberId;
use crate::shared::{EventKind, QueuedEvent, Return};
use crate::time::Tick;

/// Something that has happened. See [`Fleet::take_events`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event<K> {
    /// When it happened, by the fleet's clock: see [`Fleet::now`].
    pub at: Tick,
    /// The member concerned; `None` if it is the whole fleet.
    pub member: Option<MemberId>,
    /// The member's key. `None` if the event concerns the fleet, or if the member has since been removed, or replaced
    /// after a drain. Take events before you remove an endpoint, or keep the ids of [`Fleet::members`] by key.
    pub key: Option<K>,
    /// What happened.
    pub kind: EventKind,
}

impl<E: Endpoint> Fleet<E> {
    /// Takes the events since the last call, the oldest first. There are none unless
    /// [`FleetBuilder::events`](crate::FleetBuilder::events) was set. Each event is handed out once, to one caller.
    ///
    /// Takes no lock. If there are any events, it looks through all endpoints for their keys, O(endpoints). Events of
    /// one endpoint come in the order in which they happened, as far as one thread caused them; of two threads' events
    /// at the same time, either may come first.
    ///
    /// # Panics
    ///
    /// If the endpoints' `key` does. The events taken are lost then.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenkeel::{EventKind, Fleet, ManualClock, Outcome};
    ///
    /// let fleet = Fleet::builder()
    ///     .endpoints(["a", "b", "c"].map(String::from))
    ///     .clock(ManualClock::new())
    ///     .events(1024)
    ///     .build()?;
    /// for _ in 0..5 {
    ///     fleet.lease(&"b".to_string())?.record(Outcome::Unreachable);
    /// }
    /// let events = fleet.take_events();
    /// assert!(matches!(events[0].kind, EventKind::Ejected { times: 1, .. }));
    /// assert_eq!(events[0].key.as_deref(), Some("b"));
    /// assert!(events[0].to_string().starts_with("\"b\" ejected by the sequential test"));
    /// assert!(fleet.take_events().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "what is taken is not handed out again"]
    pub fn take_events(&self) -> Vec<Event<E::Key>> {
        let Some(events) = &self.inner.shared.events else {
            return Vec::new();
        };
        // No more than the queue holds, so that this ends while other threads add events.
        let taken = std::iter::from_fn(|| events.take()).take(events.capacity());
        let taken: Vec<_> = taken.collect();
        let members = self.members_of(taken.iter().filter_map(|queued| queued.member));
        let event = |queued: QueuedEvent| Event {
            at: queued.at,
            member: queued.member,
            key: queued
                .member
                .and_then(|id| Some(members.get(&id)?.as_ref()?.endpoint().key())),
            kind: queued.kind,
        };
        taken.into_iter().map(event).collect()
    }

    /// The members with these ids, as far as there are any.
    fn members_of(
        &self,
        ids: impl Iterator<Item = MemberId>,
    ) -> HashMap<MemberId, Option<Member<E>>> {
        let mut members: HashMap<_, _> = ids.map(|id| (id, None)).collect();
        if !members.is_empty() {
            for member in self.inner.current.load().members() {
                if let Some(place) = members.get_mut(&member.id()) {
                    *place = Some(member.clone());
                }
            }
        }
        members
    }
}

/// One line: the member, and what happened. Lengths of time are by the fleet's clock.
impl<K: fmt::Debug> fmt::Display for Event<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key, self.member) {
            (Some(key), _) => write!(f, "{} ", shown(key))?,
            (None, Some(id)) => write!(f, "{id} ")?,
            (None, None) => {}
        }
        match self.kind {
            EventKind::Ejected {
                detector,
                times,
                until,
            } => {
                let by = detector.map_or("for what is not known any more", Detector::by);
                write!(f, "ejected {by}")?;
                match until.since(self.at) {
                    // An ejection that resumes after its time.
                    Duration::ZERO => f.write_str(", a probe is due")?,
                    length => write!(f, " for {length:.1?}")?,
                }
                in_a_row(f, times)
            }
            EventKind::Renewed { times, until } => {
                let length = until.since(self.at);
                write!(f, "still out after a bad probe, for {length:.1?}")?;
                in_a_row(f, times)
            }
            EventKind::Returned { by } => f.write_str(match by {
                Return::Probe => "back after good probes",
                Return::Pardon => "back, as the cap leaves no room for it",
                Return::Mark => "not ejected any more, as it is marked",
            }),
            EventKind::SlowStartBegun => f.write_str("slow start begins"),
            EventKind::SlowStartOver => f.write_str("slow start is over"),
            EventKind::PanicBegun { eligible, routable } => {
                write!(f, "panic begins: {eligible} of {routable} are eligible")
            }
            EventKind::PanicOver { eligible, routable } => {
                write!(f, "panic is over: {eligible} of {routable} are eligible")
            }
            EventKind::DrainBegun => f.write_str("drain begins"),
            EventKind::DrainOver => f.write_str("drained"),
        }
    }
}

fn in_a_row(f: &mut fmt::Formatter<'_>, times: u32) -> fmt::Result {
    match times {
        0 | 1 => Ok(()),
        _ => write!(f, ", {} time in a row", Ordinal(times)),
    }
}
