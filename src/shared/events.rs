//! What has happened, for whoever asks: a bounded queue of a few words each that takes no lock and allocates nothing
//! once it is made, as what happens is told in the request path too.
//!
//! Source: D. Vyukov's bounded queue. A slot's turn says whose it is: `at` for who puts the event of that number in,
//! `at + 1` for who takes it out, `at + capacity` for who puts in the next. Who finds it not yet their turn does not
//! wait: it drops its event and counts that, or takes nothing.

use crate::health::Detector;
use crate::options::MemberId;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// What happened. See [`Event`](crate::Event).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// Taken out for its health. Also when an ejection from before goes on, as an endpoint comes back that was
    /// removed, drained or of weight 0.
    #[non_exhaustive]
    Ejected {
        /// What found it bad. `None` only where that is not known any more.
        detector: Option<Detector>,
        /// Which ejection in a row this is, from 1 to 31.
        times: u32,
        /// Until when it is not probed.
        until: Tick,
    },
    /// Still out after a bad probe, or after one that was given up.
    #[non_exhaustive]
    Renewed {
        /// As for `Ejected`.
        times: u32,
        /// As for `Ejected`.
        until: Tick,
    },
    /// Back after an ejection.
    #[non_exhaustive]
    Returned {
        /// By what.
        by: Return,
    },
    /// Its slow start begins ([`SlowStart`](crate::SlowStart)).
    SlowStartBegun,
    /// It has its full share. Noticed at upkeep; not told of one that is ejected before.
    SlowStartOver,
    /// So few endpoints are eligible that the [panic rule](crate::PanicRule) acts. Of the fleet, not of an endpoint; with
    /// [`Tiers`](crate::Tiers) it acts in some priority where it acted in none, and is over when it acts in none again.
    #[non_exhaustive]
    PanicBegun {
        /// How many were eligible.
        eligible: u32,
        /// Of how many that have a weight and do not drain.
        routable: u32,
    },
    /// Enough are eligible again.
    #[non_exhaustive]
    PanicOver {
        /// As for `PanicBegun`.
        eligible: u32,
        /// As for `PanicBegun`.
        routable: u32,
    },
    /// [Drained](crate::Fleet::drain): takes no more requests.
    DrainBegun,
    /// Its last request has ended.
    DrainOver,
}

/// What brought an ejected endpoint back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Return {
    /// Good probes, by requests or by checks.
    Probe,
    /// The fleet has become so small that the cap did not leave room for it
    /// ([`Ejection::max_ejection_percent`](crate::Ejection::max_ejection_percent)).
    Pardon,
    /// A [mark](crate::Fleet::mark), up or down.
    Mark,
}

/// What is in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) at: Tick,
    /// `None`: the fleet.
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
    /// How many were put in.
    put: AtomicU64,
    /// How many were taken out.
    taken: AtomicU64,
    dropped: AtomicU64,
}

impl Events {
    /// For so many at least.
    pub(crate) fn new(capacity: usize) -> Self {
        // Of one slot, whose turn it is to take and whose to put in next would read the same.
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

    /// How many found it full.
    pub(crate) fn dropped(&self) -> u64 {
        // ORDERING: Relaxed. A statistic.
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes a number whose slot is `ahead` turns past it; `None` if that slot is not free for it yet.
    fn claim(&self, numbers: &AtomicU64, ahead: u64) -> Option<(u64, &Slot)> {
        // ORDERING: Relaxed, here and below. The slot's turn orders what is in it; a number is only taken once.
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
                // Another has taken this number.
                // ORDERING: Relaxed. As above.
                1.. => number = numbers.load(Ordering::Relaxed),
                _ => return None,
            }
        }
    }

    /// Puts one in, or counts it as dropped if there is no room: the first of an incident tell more than the last, and
    /// what came of it can be seen without them.
    #[cold]
    pub(crate) fn put(&self, note: Note) {
        let Some((number, slot)) = self.claim(&self.put, 0) else {
            // ORDERING: Relaxed. A statistic.
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for (word, value) in slot.words.iter().zip(pack(note)) {
            // ORDERING: Relaxed. The turn publishes it.
            word.store(value, Ordering::Relaxed);
        }
        // ORDERING: Release. Publishes the words to who takes them.
        slot.turn.store(number.wrapping_add(1), Ordering::Release);
    }

    /// Takes the oldest out.
    pub(crate) fn take(&self) -> Option<Note> {
        let (number, slot) = self.claim(&self.taken, 1)?;
        // ORDERING: Relaxed. The turn, which has been read, orders it.
        let words = std::array::from_fn(|at| slot.words[at].load(Ordering::Relaxed));
        let next = number.wrapping_add(self.slots.len() as u64);
        // ORDERING: Release. The words have been read: who puts the next in may overwrite them.
        slot.turn.store(next, Ordering::Release);
        Some(read(words))
    }
}

/// Four words: id, 0 for the fleet; when; `times: 32 | detector or return: 8 | kind: 8`; until when, or two counts.
fn pack(note: Note) -> [u64; 4] {
    let counts = |eligible: u32, routable: u32| u64::from(eligible) << 32 | u64::from(routable);
    let (tag, of, times, more) = match note.kind {
        EventKind::Ejected {
            detector,
            times,
            until,
        } => {
            let number = detector.map_or(0, |detector| detector.number().into());
            (0, number, times, until.as_nanos())
        }
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
    let id = note.member.map_or(0, MemberId::get);
    [id, note.at.as_nanos(), head, more]
}

fn read([id, at, head, more]: [u64; 4]) -> Note {
    let (of, times) = ((head >> 8) as u32 & 0xFF, (head >> 32) as u32);
    let until = Tick::from_nanos(more);
    let (eligible, routable) = ((more >> 32) as u32, more as u32);
    let kind = match head & 0xFF {
        0 => EventKind::Ejected {
            detector: Detector::numbered(of as u8),
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
    Note {
        at: Tick::from_nanos(at),
        member: (id != 0).then(|| MemberId::new(id)),
        kind,
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    fn note(number: u64) -> Note {
        Note {
            at: Tick::from_nanos(number),
            member: Some(MemberId::new(number + 1)),
            kind: EventKind::SlowStartBegun,
        }
    }

    #[test]
    fn first_in_first_out_and_what_finds_it_full_is_counted() {
        let events = Events::new(3);
        assert_eq!(events.capacity(), 4);
        let mut next = 0;
        for _ in 0..10 {
            (next..next + 7).for_each(|number| events.put(note(number)));
            let taken: Vec<_> = std::iter::from_fn(|| events.take()).collect();
            assert_eq!(taken, [0, 1, 2, 3].map(|at| note(next + at)));
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
                let note = Note { at, member, kind };
                assert_eq!(read(pack(note)), note);
            }
        }
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    fn note(number: u64) -> Note {
        Note {
            at: Tick::from_nanos(number),
            member: Some(MemberId::new(number)),
            kind: EventKind::SlowStartBegun,
        }
    }

    /// Two slots, filled once; then two threads each put one in, one of them after it has taken one out. Each that
    /// is taken is whole and taken once, and what is not was dropped.
    fn two_threads(put: fn(&Events, Note), take: fn(&Events) -> Option<Note>) {
        loom::model(move || {
            let events = Arc::new(Events::new(2));
            (1..=2).for_each(|number| events.put(note(number)));
            let other = events.clone();
            let thread = thread::spawn(move || put(&other, note(3)));
            let first = take(&events);
            put(&events, note(4));
            thread.join().unwrap();
            let rest = std::iter::from_fn(|| events.take());
            let taken: Vec<_> = first.into_iter().chain(rest).collect();
            let whole = |one: &Note| *one == note(one.at.as_nanos());
            assert!(taken.iter().all(whole), "torn: {taken:?}");
            let mut numbers: Vec<_> = taken.iter().map(|one| one.at.as_nanos()).collect();
            assert_eq!(numbers[..2], [1, 2], "out of order");
            numbers.dedup();
            assert_eq!(numbers.len() as u64 + events.dropped(), 4, "lost");
        });
    }

    #[test]
    fn what_is_taken_is_whole() {
        two_threads(Events::put, Events::take);
    }

    /// Broken: the turn is passed on before the words are read.
    #[test]
    #[should_panic = "torn"]
    fn broken_variant_turn_before_reading() {
        two_threads(Events::put, |events| {
            let (number, slot) = events.claim(&events.taken, 1)?;
            let next = number + events.slots.len() as u64;
            // ORDERING: as in `take`; that it comes first is what is broken.
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
            for (word, value) in slot.words.iter().zip(pack(note(7))) {
                // ORDERING: Relaxed. As in `put`.
                word.store(value, Ordering::Relaxed);
            }
            // ORDERING: Relaxed: what is broken.
            slot.turn.store(number + 1, Ordering::Relaxed);
            let taken = thread.join().unwrap();
            assert!(taken.is_none_or(|taken| taken == note(7)), "torn");
        });
    }
}
