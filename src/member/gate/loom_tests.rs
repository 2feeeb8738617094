//! Loom models of the gate, each with a broken variant where there is one.

use super::super::cell::Refused;
use super::*;
use crate::sync::{AtomicU64, Ordering, SnapshotCell};
use loom::thread;
use std::sync::Arc;

fn gate(cells: usize) -> Gate {
    Gate::new(cells, Duration::from_secs(10))
}

fn drained(gate: &Gate) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    gate.poll_empty(&mut cx, &mut None).is_ready()
}

/// A pick enters while a drain closes the gate: once the drain has found the gate empty, no lease appears.
fn enter_against_close_against_drain(enter: fn(&Gate) -> bool) {
    loom::model(move || {
        let gate = Arc::new(gate(1));
        let picker = {
            let gate = gate.clone();
            thread::spawn(move || {
                let leased = enter(&gate);
                // While this lease lives, no drain may have been resolved.
                (leased, gate)
            })
        };
        gate.close();
        let resolved = drained(&gate);
        let (leased, gate) = picker.join().unwrap();
        assert!(
            !(resolved && leased),
            "a lease appeared after the drain had resolved"
        );
        if leased {
            gate.leave(gate.cell(0));
        }
        assert!(drained(&gate));
    });
}

#[test]
fn no_lease_after_a_drain_resolved() {
    enter_against_close_against_drain(|gate| gate.enter(gate.cell(0), 0).is_ok());
}

/// Broken: looks at the gate first and counts itself after.
#[test]
#[should_panic = "a lease appeared after the drain had resolved"]
fn broken_variant_look_then_count() {
    enter_against_close_against_drain(|gate| {
        if gate.is_closed() {
            return false;
        }
        let _ = gate.first.enter(0);
        true
    });
}

struct Flag(loom::sync::atomic::AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        // ORDERING: SeqCst, here and where it is read. The test's own; it is read after a join.
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Two leases in two cells end at once while a drain waits: the drain is woken, whichever lease is last.
fn two_cells_finish(leave: fn(&Gate, usize)) {
    loom::model(move || {
        let gate = Arc::new(gate(2));
        gate.enter(gate.cell(0), 0).unwrap();
        gate.enter(gate.cell(1), 0).unwrap();
        gate.close();
        let flag = Arc::new(Flag(loom::sync::atomic::AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        let pending = gate
            .poll_empty(&mut Context::from_waker(&waker), &mut None)
            .is_pending();
        assert!(pending);
        let other = {
            let gate = gate.clone();
            thread::spawn(move || leave(&gate, 1))
        };
        leave(&gate, 0);
        other.join().unwrap();
        // ORDERING: SeqCst. As said at the flag.
        assert!(flag.0.load(Ordering::SeqCst), "the drain sleeps for ever");
    });
}

#[test]
fn the_last_of_two_cells_wakes_the_drain() {
    two_cells_finish(|gate, cell| {
        gate.leave(gate.cell(cell));
    });
}

/// Broken: each thread sums outside the lock, before its own decrement is visible.
#[test]
#[should_panic = "the drain sleeps for ever"]
fn broken_variant_sum_before_leaving() {
    two_cells_finish(|gate, cell| {
        let last = gate.inside() == 1;
        gate.cell(cell).leave();
        if last {
            let wakers = gate
                .waiting
                .lock()
                .take()
                .map(|waiting| waiting.wakers)
                .unwrap_or_default();
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
    });
}

/// A poll registers while the last lease ends: it is ready at once or woken.
#[test]
fn a_poll_against_the_last_lease() {
    loom::model(|| {
        let gate = Arc::new(gate(1));
        gate.enter(gate.cell(0), 0).unwrap();
        gate.close();
        let last = {
            let gate = gate.clone();
            thread::spawn(move || {
                gate.leave(gate.cell(0));
            })
        };
        let flag = Arc::new(Flag(loom::sync::atomic::AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        let told = gate
            .poll_empty(&mut Context::from_waker(&waker), &mut None)
            .is_ready();
        last.join().unwrap();
        // ORDERING: SeqCst. As said at the flag.
        assert!(
            told || flag.0.load(Ordering::SeqCst),
            "the drain sleeps for ever"
        );
    });
}

/// A refused entry that held the count up for a moment wakes the drain that it has held up.
#[test]
fn a_refused_entry_does_not_swallow_the_wake() {
    loom::model(|| {
        let gate = Arc::new(gate(1));
        gate.enter(gate.cell(0), 0).unwrap();
        gate.close();
        let flag = Arc::new(Flag(loom::sync::atomic::AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        let _ = gate.poll_empty(&mut Context::from_waker(&waker), &mut None);
        let refused = {
            let gate = gate.clone();
            thread::spawn(move || assert!(gate.enter(gate.cell(0), 0).is_err()))
        };
        gate.leave(gate.cell(0));
        refused.join().unwrap();
        // ORDERING: SeqCst. As said at the flag.
        assert!(flag.0.load(Ordering::SeqCst), "the drain sleeps for ever");
    });
}

/// A pick against a removal (or a change of data), which publishes, then closes (or renews), then returns. A pick that
/// is refused finds the new snapshot when it starts again.
fn removal(publish_first: bool) {
    loom::model(move || {
        let fleet = Arc::new((SnapshotCell::new(0u64), gate(1)));
        let picker = {
            let fleet = fleet.clone();
            thread::spawn(move || {
                let (current, gate) = &*fleet;
                let generation = **current.load();
                if gate.enter(gate.cell(0), generation).is_err() {
                    let next = **current.load();
                    assert_eq!(next, 1, "refused, and nothing newer to find");
                    gate.enter(gate.cell(0), next)
                        .expect("the newest data is never refused");
                }
                gate.leave(gate.cell(0));
            })
        };
        let (current, gate) = &*fleet;
        if publish_first {
            current.swap(Arc::new(1));
            gate.renew();
        } else {
            gate.renew();
            current.swap(Arc::new(1));
        }
        // A pick that starts here sees the new data only.
        assert_eq!(**current.load(), 1);
        assert_eq!(gate.enter(gate.cell(0), 0), Err(Refused::Stale));
        picker.join().unwrap();
        assert_eq!(gate.inside(), 0);
    });
}

#[test]
fn a_refused_pick_finds_what_is_newer() {
    removal(true);
}

#[test]
#[should_panic = "refused, and nothing newer to find"]
fn broken_variant_renew_before_publishing() {
    removal(false);
}

/// Two leases in two cells end while a drain asks for an announcement: one of the three calls is told to make it, once.
fn a_drain_is_announced(begin: fn(&Gate) -> bool) {
    loom::model(move || {
        let gate = Arc::new(Gate::new(2, Duration::from_secs(10)));
        gate.enter(gate.cell(0), 0).unwrap();
        gate.enter(gate.cell(1), 0).unwrap();
        gate.close();
        let other = gate.clone();
        let thread = thread::spawn(move || other.leave(other.cell(0)) && other.may_announce());
        let begun = begin(&gate);
        let left = gate.leave(gate.cell(1)) && gate.may_announce();
        let told = [begun, left, thread.join().unwrap()];
        assert_eq!(told.iter().filter(|told| **told).count(), 1, "{told:?}");
        assert!(!gate.may_announce());
    });
}

#[test]
fn a_drain_is_announced_once() {
    a_drain_is_announced(Gate::announce);
}

/// Broken: looks first and asks after.
#[test]
#[should_panic = "false, false, false"]
fn broken_variant_look_before_asking() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(1, Duration::from_secs(10)));
        gate.enter(gate.cell(0), 0).unwrap();
        gate.close();
        let other = gate.clone();
        let thread = thread::spawn(move || other.leave(other.cell(0)) && other.may_announce());
        let begun = gate.inside() == 0;
        gate.waiting.lock().get_or_insert_default().announce = true;
        let told = [begun, false, thread.join().unwrap()];
        assert_eq!(told.iter().filter(|told| **told).count(), 1, "{told:?}");
    });
}

/// One of two places is taken. Two requests want to enter while its holder leaves: there are never three inside, and
/// none in the end.
fn two_enter_a_limited_gate(enter: fn(&Gate) -> bool) {
    loom::model(move || {
        let gate = Arc::new(Gate::limited(2, None, Duration::from_secs(10)));
        gate.enter(gate.cell(0), 0).unwrap();
        let request = move |gate: &Gate| {
            let entered = enter(gate);
            assert!(gate.inside() <= 2, "more than the limit are inside");
            if entered {
                gate.leave(gate.cell(0));
            }
            entered
        };
        let (one, other) = (gate.clone(), gate.clone());
        let one = thread::spawn(move || request(&one));
        let other = thread::spawn(move || request(&other));
        gate.leave(gate.cell(0));
        let entered = [one.join().unwrap(), other.join().unwrap()];
        assert!(
            entered.contains(&true),
            "both were refused, and one place was free"
        );
        assert_eq!(gate.inside(), 0);
    });
}

#[test]
fn never_more_inside_than_the_limit() {
    two_enter_a_limited_gate(|gate| gate.enter(gate.cell(0), 0).is_ok());
}

/// Broken: looks whether there is room, and counts itself after.
#[test]
#[should_panic = "more than the limit are inside"]
fn broken_variant_look_for_room_then_count() {
    two_enter_a_limited_gate(|gate| gate.first.has_room() && gate.first.count_anyway());
}

/// A limited gate against a removal and its drain: as without a limit, no lease appears after the drain has resolved.
#[test]
fn no_lease_of_a_limited_gate_after_a_drain_resolved() {
    loom::model(|| {
        let gate = Arc::new(Gate::limited(1, None, Duration::from_secs(10)));
        let picker = {
            let gate = gate.clone();
            thread::spawn(move || gate.enter(gate.cell(0), 0).is_ok())
        };
        gate.close();
        let resolved = gate.inside() == 0;
        let leased = picker.join().unwrap();
        assert!(
            !(resolved && leased),
            "a lease appeared after the drain had resolved"
        );
    });
}

/// Two changes of a standing, each shown to the cells by the thread that made it: in the end the cells show the latest.
/// A reader that sees an epoch sees what was done before it.
fn two_turns(show: fn(&Gate, u32)) {
    loom::model(move || {
        let gate = Arc::new(gate(1));
        let standing = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let turn = move |gate: &Gate, standing: &(AtomicU64, AtomicU64)| {
            // ORDERING: Relaxed. What goes with the change; the change publishes it.
            standing.1.fetch_add(1, Ordering::Relaxed);
            // ORDERING: AcqRel. As in `StandingCell::exchange`.
            let epoch = standing.0.fetch_add(1, Ordering::AcqRel) + 1;
            show(gate, epoch as u32);
        };
        let other = {
            let (gate, standing) = (gate.clone(), standing.clone());
            thread::spawn(move || turn(&gate, &standing))
        };
        turn(&gate, &standing);
        let seen = gate.cell(0).epoch();
        assert!(seen > 0, "an epoch that has been shown is gone");
        // ORDERING: Relaxed. The epoch orders it.
        let done = standing.1.load(Ordering::Relaxed);
        assert!(done >= seen.into(), "an epoch before its change");
        other.join().unwrap();
        assert_eq!(gate.cell(0).epoch(), 2, "an old epoch is shown for good");
    });
}

#[test]
fn the_latest_epoch_is_shown() {
    two_turns(Gate::show_epoch);
}

/// Broken: shows its own epoch, even over a later one.
#[test]
#[should_panic = "an old epoch is shown for good"]
fn broken_variant_show_what_it_has_turned_to() {
    two_turns(|gate, epoch| gate.cell(0).set_epoch(epoch));
}

/// Upkeep finds that the tracker holds nothing, while one request after the other fails by the first cell. The success
/// between them takes the first failure back, if it is told. Once all are done, the tracker is told of successes by all
/// cells, as it holds the last failure.
fn requests_fail_during_upkeep(
    failures: u64,
    watch: fn(&Gate),
    unwatch: fn(&Gate, &dyn Fn() -> bool),
) {
    loom::model(move || {
        let setting = Arc::new((AtomicU64::new(0), gate(2)));
        setting.1.watch();
        let other = {
            let setting = setting.clone();
            thread::spawn(move || {
                let (row, gate) = &*setting;
                for _ in 0..failures {
                    if gate.cell(0).is_watched() {
                        // ORDERING: Relaxed. As in `Rule::success`.
                        row.store(0, Ordering::Relaxed);
                    }
                    // ORDERING: Relaxed. As in `Rule::extend`.
                    row.fetch_add(1, Ordering::Relaxed);
                    watch(gate);
                }
            })
        };
        let (row, gate) = &*setting;
        // ORDERING: Relaxed. As in `Rule::is_quiet`.
        unwatch(gate, &|| row.load(Ordering::Relaxed) > 0);
        other.join().unwrap();
        assert!(gate.is_watched(), "no success will end the row");
        assert_eq!(gate.cell(0).epoch(), 0);
    });
}

#[test]
fn a_row_of_failures_is_ended_by_the_next_success() {
    for failures in [1, 2] {
        requests_fail_during_upkeep(failures, Gate::watch, |gate, holds| {
            gate.unwatch_unless(holds)
        });
    }
}

/// Broken: upkeep looks once, and a failure may come after that.
#[test]
#[should_panic = "no success will end the row"]
fn broken_variant_look_once() {
    requests_fail_during_upkeep(1, Gate::watch, |gate, holds| {
        if !holds() {
            gate.each().for_each(|cell| cell.set_watched(false));
        }
    });
}

/// Broken: the request that fails looks at the cells before what it told the tracker can be seen.
#[test]
#[should_panic = "no success will end the row"]
fn broken_variant_without_a_fence() {
    requests_fail_during_upkeep(
        1,
        |gate| {
            if !gate.is_watched() {
                gate.each().for_each(|cell| cell.set_watched(true));
            }
        },
        |gate, holds| gate.unwatch_unless(holds),
    );
}

/// Broken: looks at one cell for all. The request that fails first sets both again while upkeep clears them, and its
/// success leaves upkeep nothing to find.
#[test]
#[should_panic = "no success will end the row"]
fn broken_variant_look_at_one_cell() {
    requests_fail_during_upkeep(
        2,
        |gate| {
            // ORDERING: SeqCst. As in `watch`; not what is broken.
            fence(Ordering::SeqCst);
            if !gate.cell(0).is_watched() {
                gate.each().for_each(|cell| cell.set_watched(true));
            }
        },
        |gate, holds| gate.unwatch_unless(holds),
    );
}
