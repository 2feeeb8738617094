use super::*;
use loom::thread;
use std::sync::Arc;

fn at(second: u64) -> Tick {
    Tick::from_nanos(second * 1_000_000_000)
}

/// Two successes of the next second end at once, while one of the last second is not in the window yet. All three are
/// counted once, in their own seconds.
fn two_leave_at_rollover(leave: fn(&Cell, Tick)) {
    loom::model(move || {
        let cell = Arc::new(Cell::new(Duration::from_secs(10)));
        (0..3).for_each(|_| cell.enter(0).unwrap());
        cell.leave_with_success(at(1));
        let other = cell.clone();
        let thread = thread::spawn(move || leave(&other, at(2)));
        leave(&cell, at(2));
        thread.join().unwrap();
        assert_eq!(cell.counts(at(2)).total, 3, "a success was lost or doubled");
        // Nine seconds later the first is out of the window.
        let later = cell.counts(at(11)).total;
        assert_eq!(later, 2, "a success was counted in another's second");
        assert_eq!(cell.inside(), 0);
    });
}

#[test]
fn rollover_counts_each_success_once() {
    two_leave_at_rollover(|cell, at| {
        cell.leave_with_success(at);
    });
}

/// Broken: a thread that finds another bucket open moves the successes without a claim.
#[test]
#[should_panic = "a success was counted in another's second"]
fn broken_variant_move_without_a_claim() {
    two_leave_at_rollover(|cell, at| {
        if !cell.window.is_open_at(at) {
            cell.settle(11, at);
        }
        // ORDERING: Release. As in `leave_with_success`; not what is broken.
        cell.word.fetch_add(SUCCESS - 1, Ordering::Release);
    });
}

/// A reader beside a move sees each success at least once.
fn a_reader_beside_a_move(count: fn(&Cell) -> u64) {
    loom::model(move || {
        let cell = Arc::new(Cell::new(Duration::from_secs(10)));
        (0..3).for_each(|_| cell.enter(0).unwrap());
        cell.leave_with_success(at(1));
        cell.leave_with_success(at(1));
        let seen = cell.clone();
        let reader = thread::spawn(move || count(&seen));
        cell.leave_with_success(at(2));
        let count = reader.join().unwrap();
        assert!(count >= 2, "successes were out of sight");
    });
}

#[test]
fn a_move_is_never_out_of_sight() {
    a_reader_beside_a_move(|cell| cell.counts(at(2)).total);
}

/// Broken: reads the window first.
#[test]
#[should_panic = "successes were out of sight"]
fn broken_variant_window_first() {
    a_reader_beside_a_move(|cell| {
        let total = cell.window.counts(at(2)).total;
        // ORDERING: Acquire. As in `last`; not what is broken.
        total + (cell.word.load(Ordering::Acquire) >> SUCCESS_SHIFT)
    });
}
