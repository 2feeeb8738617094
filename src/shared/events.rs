//! The event queue: a bounded queue of a few words per event. It takes no lock and allocates only when it is made,
//! because events are also put in on the request path.
//!
//! Source: D. Vyukov's bounded queue. A slot's turn says which thread may use it. For the event of number `n` the turn
//! is `n` for the thread that puts it in, `n + 1` for the thread that takes it out, and `n + capacity` for the thread
//! that puts the slot's next event in. A thread that finds another turn does not wait: it drops its event and counts
//! that, or takes nothing.

use crate::health::Detector;
use crate::options::MemberId;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// What has happened to an endpoint or to the fleet. See [`Event`](crate::Event).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// The endpoint was ejected for its health. Also sent when an earlier ejection resumes, after an endpoint that was
    /// removed or of weight 0 comes back.
    #[non_exhaustive]
    Ejected {
        /// The detector that ejected it. `None` only if that is no longer known.
        detector: Option<Detector>,
        /// The number of this ejection in a row, from 1 to 31.
        times: u32,
        /// When its first probe is due.
        until: Tick,
    },
    /// The ejection goes on after a probe that failed. With [`Limits::max_probes`](crate::Limits::max_probes), also
    /// after one whose time was up. Not sent while two fifths of all requests fail: the ejection then goes on for as
    /// long again.
    #[non_exhaustive]
    Renewed {
        /// As in `Ejected`.
        times: u32,
        /// When its next probe is due.
        until: Tick,
    },
    /// The endpoint is no longer ejected. Not sent when an ejected endpoint is removed, drained or given weight 0.
    /// When it comes back, either its ejection resumes (`Ejected`) or this is sent. Neither is sent if it was drained,
    /// or was going away and removed, as it is taken for another process then; nor if it was removed for more than a
    /// minute, or so many others were since that its ejection is forgotten.
    #[non_exhaustive]
    Returned {
        /// What ended the ejection.
        by: Return,
    },
    /// The endpoint's slow start begins ([`SlowStart`](crate::SlowStart)).
    SlowStartBegun,
    /// The endpoint's slow start is over: it gets its full share. Noticed by upkeep, so late in a fleet without picks,
    /// as the spare one of a [`Failover`](crate::Failover) is. Not sent if the endpoint is ejected, marked up or down,
    /// or taken out of rotation before that.
    SlowStartOver,
    /// So few endpoints are eligible that the [panic rule](crate::PanicRule) acts. An event of the fleet, not of an
    /// endpoint. With [`Tiers`](crate::Tiers) it means that panic begins in some priority with a load while it was in
    /// none; [`PanicOver`](Self::PanicOver) then means that it has ended in all. With `Tiers`, picks notice both: a
    /// fleet that gets none, as an idle spare under a [`Failover`](crate::Failover), tells them with its next pick.
    /// [`Stats::panicking`](crate::Stats::panicking) does not wait for that.
    #[non_exhaustive]
    PanicBegun {
        /// How many endpoints were eligible.
        eligible: u32,
        /// How many endpoints have a weight and do not drain. The eligible ones are among them.
        routable: u32,
    },
    /// Enough endpoints are eligible again. An event of the fleet, not of an endpoint.
    #[non_exhaustive]
    PanicOver {
        /// As in `PanicBegun`.
        eligible: u32,
        /// As in `PanicBegun`.
        routable: u32,
    },
    /// The endpoint [drains](crate::Fleet::drain): it takes no more requests.
    DrainBegun,
    /// The last request of a draining endpoint has ended.
    DrainOver,
}

impl EventKind {
    /// The kind in words, without its figures: `slow start begun`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ejected { .. } => "ejected",
            Self::Renewed { .. } => "renewed",
            Self::Returned { .. } => "returned",
            Self::SlowStartBegun => "slow start begun",
            Self::SlowStartOver => "slow start over",
            Self::PanicBegun { .. } => "panic begun",
            Self::PanicOver { .. } => "panic over",
            Self::DrainBegun => "drain begun",
            Self::DrainOver => "drain over",
        }
    }
}

/// What ended an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Return {
    /// Successful probes, by requests or by checks.
    Probe,
    /// The cap leaves no room for the ejection
    /// ([`Ejection::max_ejection_percent`](crate::Ejection::max_ejection_percent)): the fleet has become small, or
    /// others were ejected while the endpoint was removed or of weight 0.
    Pardon,
    /// The endpoint was [marked](crate::Fleet::mark) up or down.
    Mark,
}

/// An event as it is queued, without the endpoint's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueuedEvent {
    pub(crate) at: Tick,
    /// `None` for an event of the fleet.
    pub(crate) member: Option<MemberId>,
    pub(crate) kind: EventKind,
}

#[derive(Debug)]
struct Slot {
    turn: AtomicU64,
    words: [AtomicU64; 4],
}

#[derive(Debug)]
pub(crate) struct Events {
    slots: Box<[Slot]>,
    /// How many events were put in: the number of the next one.
    put: AtomicU64,
    /// How many events were taken out.
    taken: AtomicU64,
    dropped: AtomicU64,
}

impl Events {
    /// A queue for at least `capacity` events.
    pub(crate) fn new(capacity: usize) -> Self {
        // With one slot, the turn to take an event would equal the turn to put in the next.
        let capacity = capacity.max(2).next_power_of_two() as u64;
        let slot = |number| Slot {
            turn: AtomicU64::new(number),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Self {
            slots: (0..capacity).map(slot).collect(),
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many events were dropped because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        // ORDERING: Relaxed. A statistic.
        self.dropped.load(Ordering::Relaxed)
    }

    /// Claims the next number of `numbers`. `None` unless the turn of its slot is the number plus `ahead`.
    fn claim(&self, numbers: &AtomicU64, ahead: u64) -> Option<(u64, &Slot)> {
        // ORDERING: Relaxed, here and below. The slot's turn orders its words. The exchange gives each number to one
        // thread.
        let mut number = numbers.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[number as usize & (self.slots.len() - 1)];
            // ORDERING: Acquire. Pairs with the store that passes the turn on.
            let turn = slot.turn.load(Ordering::Acquire);
            match turn.wrapping_sub(number.wrapping_add(ahead)) as i64 {
                0 => {
                    let next = number.wrapping_add(1);
                    // ORDERING: Relaxed, both. As above.
                    match numbers.compare_exchange(
                        number,
                        next,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => return Some((number, slot)),
                        Err(now) => number = now,
                    }
                }
                // Another thread has claimed this number.
                // ORDERING: Relaxed. As above.
                1.. => number = numbers.load(Ordering::Relaxed),
                _ => return None,
            }
        }
    }

    /// Puts an event in, or counts it as dropped if there is no room. New events are dropped, as the first ones of an
    /// incident tell more than the last, and the outcome can be seen without events.
    #[cold]
    pub(crate) fn put(&self, event: QueuedEvent) {
        let Some((number, slot)) = self.claim(&self.put, 0) else {
            // ORDERING: Relaxed. A statistic.
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for (word, value) in slot.words.iter().zip(pack(event)) {
            // ORDERING: Relaxed. The store of the turn publishes it.
            word.store(value, Ordering::Relaxed);
        }
        // ORDERING: Release. Publishes the words to the thread that takes them.
        slot.turn.store(number.wrapping_add(1), Ordering::Release);
    }

    /// Takes the oldest event out.
    pub(crate) fn take(&self) -> Option<QueuedEvent> {
        let (number, slot) = self.claim(&self.taken, 1)?;
        // ORDERING: Relaxed. The load of the turn in `claim` orders it.
        let words = std::array::from_fn(|at| slot.words[at].load(Ordering::Relaxed));
        let next = number.wrapping_add(self.slots.len() as u64);
        // ORDERING: Release. The words have been read, so the thread that puts in the next event may overwrite them.
        slot.turn.store(next, Ordering::Release);
        Some(read(words))
    }
}

/// Four words: the id (0 for the fleet); the time; `times: 32 | detector or return: 8 | kind: 8`; until when, or two
/// counts.
fn pack(event: QueuedEvent) -> [u64; 4] {
    let counts = |eligible: u32, routable: u32| u64::from(eligible) << 32 | u64::from(routable);
    let (tag, of, times, more) = match event.kind {
        EventKind::Ejected {
            detector,
            times,
            until,
        } => (0, Detector::pack(detector).into(), times, until.as_nanos()),
        EventKind::Renewed { times, until } => (1, 0, times, until.as_nanos()),
        EventKind::Returned { by } => (2, by as u32, 0, 0),
        EventKind::SlowStartBegun => (3, 0, 0, 0),
        EventKind::SlowStartOver => (4, 0, 0, 0),
        EventKind::PanicBegun { eligible, routable } => (5, 0, 0, counts(eligible, routable)),
        EventKind::PanicOver { eligible, routable } => (6, 0, 0, counts(eligible, routable)),
        EventKind::DrainBegun => (7, 0, 0, 0),
        EventKind::DrainOver => (8, 0, 0, 0),
    };
    let head = tag | u64::from(of & 0xFF) << 8 | u64::from(times) << 32;
    let id = event.member.map_or(0, MemberId::get);
    [id, event.at.as_nanos(), head, more]
}

fn read([id, at, head, more]: [u64; 4]) -> QueuedEvent {
    let (of, times) = ((head >> 8) as u32 & 0xFF, (head >> 32) as u32);
    let until = Tick::from_nanos(more);
    let (eligible, routable) = ((more >> 32) as u32, more as u32);
    let kind = match head & 0xFF {
        0 => EventKind::Ejected {
            detector: Detector::read(of as u8),
            times,
            until,
        },
        1 => EventKind::Renewed { times, until },
        2 => EventKind::Returned {
            by: match of {
                0 => Return::Probe,
                1 => Return::Pardon,
                _ => Return::Mark,
            },
        },
        3 => EventKind::SlowStartBegun,
        4 => EventKind::SlowStartOver,
        5 => EventKind::PanicBegun { eligible, routable },
        6 => EventKind::PanicOver { eligible, routable },
        7 => EventKind::DrainBegun,
        _ => EventKind::DrainOver,
    };
    QueuedEvent {
        at: Tick::from_nanos(at),
        member: (id != 0).then(|| MemberId::new(id)),
        kind,
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    fn event(number: u64) -> QueuedEvent {
        QueuedEvent {
            at: Tick::from_nanos(number),
            member: Some(MemberId::new(number + 1)),
            kind: EventKind::SlowStartBegun,
        }
    }

    #[test]
    fn events_leave_first_in_first_out_and_dropped_ones_are_counted() {
        let events = Events::new(3);
        assert_eq!(events.capacity(), 4);
        let mut next = 0;
        for _ in 0..10 {
            (next..next + 7).for_each(|number| events.put(event(number)));
            let taken: Vec<_> = std::iter::from_fn(|| events.take()).collect();
            assert_eq!(taken, [0, 1, 2, 3].map(|at| event(next + at)));
            next += 7;
        }
        assert_eq!(events.dropped(), 30);
        assert_eq!(events.take(), None);
    }

    #[test]
    fn each_kind_comes_out_as_it_went_in() {
        let until = Tick::from_nanos(u64::MAX);
        let detectors = Detector::ALL.into_iter().map(Some).chain([None]);
        let ejected = detectors.map(|detector| EventKind::Ejected {
            detector,
            times: 31,
            until,
        });
        let returns = [Return::Probe, Return::Pardon, Return::Mark];
        let (eligible, routable) = (499_999, 1_000_000);
        let others = [
            EventKind::Renewed { times: 2, until },
            EventKind::SlowStartBegun,
            EventKind::SlowStartOver,
            EventKind::PanicBegun { eligible, routable },
            EventKind::PanicOver { eligible, routable },
            EventKind::DrainBegun,
            EventKind::DrainOver,
        ];
        let returned = returns.into_iter().map(|by| EventKind::Returned { by });
        for kind in ejected.chain(returned).chain(others) {
            for member in [None, Some(MemberId::new(7))] {
                let at = Tick::from_nanos(5);
                let event = QueuedEvent { at, member, kind };
                assert_eq!(read(pack(event)), event);
            }
        }
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    fn event(number: u64) -> QueuedEvent {
        QueuedEvent {
            at: Tick::from_nanos(number),
            member: Some(MemberId::new(number)),
            kind: EventKind::SlowStartBegun,
        }
    }

    /// A queue of two slots is full. Two threads each put in another event, one of them after taking one out. Each
    /// event taken is whole and taken once; the others were dropped.
    fn two_threads(put: fn(&Events, QueuedEvent), take: fn(&Events) -> Option<QueuedEvent>) {
        loom::model(move || {
            let events = Arc::new(Events::new(2));
            (1..=2).for_each(|number| events.put(event(number)));
            let other = events.clone();
            let thread = thread::spawn(move || put(&other, event(3)));
            let first = take(&events);
            put(&events, event(4));
            thread.join().unwrap();
            let rest = std::iter::from_fn(|| events.take());
            let taken: Vec<_> = first.into_iter().chain(rest).collect();
            let whole = |one: &QueuedEvent| *one == event(one.at.as_nanos());
            assert!(taken.iter().all(whole), "torn: {taken:?}");
            let mut numbers: Vec<_> = taken.iter().map(|one| one.at.as_nanos()).collect();
            assert_eq!(numbers[..2], [1, 2], "out of order");
            numbers.dedup();
            assert_eq!(numbers.len() as u64 + events.dropped(), 4, "lost");
        });
    }

    #[test]
    fn events_are_taken_whole() {
        two_threads(Events::put, Events::take);
    }

    /// Broken: passes the turn on before the words are read.
    #[test]
    #[should_panic = "torn"]
    fn broken_variant_turn_before_reading() {
        two_threads(Events::put, |events| {
            let (number, slot) = events.claim(&events.taken, 1)?;
            let next = number + events.slots.len() as u64;
            // ORDERING: as in `take`; that this comes first is what is broken.
            slot.turn.store(next, Ordering::Release);
            // ORDERING: Relaxed. As in `take`.
            let words = std::array::from_fn(|at| slot.words[at].load(Ordering::Relaxed));
            Some(read(words))
        });
    }

    /// Broken: nothing publishes the words.
    #[test]
    #[should_panic = "torn"]
    fn broken_variant_relaxed_turn() {
        loom::model(|| {
            let events = Arc::new(Events::new(2));
            let other = events.clone();
            let thread = thread::spawn(move || other.take());
            let (number, slot) = events.claim(&events.put, 0).unwrap();
            for (word, value) in slot.words.iter().zip(pack(event(7))) {
                // ORDERING: Relaxed. As in `put`.
                word.store(value, Ordering::Relaxed);
            }
            // ORDERING: Relaxed: this is what is broken.
            slot.turn.store(number + 1, Ordering::Relaxed);
            let taken = thread.join().unwrap();
            assert!(taken.is_none_or(|taken| taken == event(7)), "torn");
        });
    }
}
