use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn cell() -> Cell {
    Cell::new(Duration::from_secs(10))
}

fn at(nanos: u64) -> Tick {
    Tick::from_nanos(nanos)
}

#[test]
fn a_generation_that_wraps_carries_nowhere() {
    let cell = cell();
    // ORDERING: Relaxed, here and below. One thread.
    let last = GENERATION_MASK << INSIDE_BITS | (MANY - 1) << SUCCESS_SHIFT;
    cell.word.store(last, Ordering::Relaxed);
    assert_eq!(cell.enter(GENERATION_MASK), Ok(()));
    cell.renew();
    assert_eq!(cell.inside(), 1);
    assert!(!cell.is_closed());
    assert_eq!(cell.enter(GENERATION_MASK), Err(Refused::Stale));
    assert_eq!(cell.enter(0), Ok(()));
    // ORDERING: Relaxed. One thread.
    assert_eq!(cell.word.load(Ordering::Relaxed) >> SUCCESS_SHIFT, MANY - 1);
}

#[test]
fn a_full_cell_refuses_instead_of_carrying() {
    let cell = cell();
    // ORDERING: Relaxed. One thread.
    cell.word.store(FULL - 1, Ordering::Relaxed);
    assert_eq!(cell.enter(0), Ok(()));
    assert_eq!(cell.enter(0), Err(Refused::Full));
    assert_eq!(
        cell.leave(),
        Left {
            last_of_closed: false
        }
    );
    assert_eq!(cell.inside(), FULL);
}

#[test]
fn many_successes_in_one_bucket_are_all_counted() {
    let cell = cell();
    for _ in 0..10 * MANY + 7 {
        cell.enter(0).unwrap();
        cell.leave_with_success(at(5 * SECOND));
    }
    assert_eq!(cell.counts(at(5 * SECOND)).total, 10 * MANY + 7);
    assert_eq!(cell.inside(), 0);
}

proptest! {
    /// Compared with a window that records each sample at once, whatever the clock does, as of the latest time.
    #[test]
    fn counts_what_a_window_counts(
        steps in prop::collection::vec((0i64..3_000, 0u8..10), 1..400),
    ) {
        let cell = cell();
        let window = Window::new(Duration::from_secs(10));
        let (mut now, mut latest) = (0i64, Tick::ZERO);
        for (millis, what) in steps {
            now = match what {
                // A clock that is a little behind, as another thread's may be.
                0 => (now - millis).max(0),
                1 => now + millis * 10,
                _ => now + millis,
            };
            let at = at(now as u64 * 1_000_000);
            cell.enter(0).unwrap();
            if what == 2 {
                cell.window.record(at, true);
                cell.leave();
            } else {
                cell.leave_with_success(at);
            }
            window.record(at, what == 2);
            latest = latest.max(at);
            prop_assert_eq!(cell.counts(latest), window.counts(latest));
            prop_assert_eq!(cell.inside(), 0);
        }
    }
}

#[test]
fn what_is_cleared_is_gone() {
    let cell = cell();
    for second in 0..3 {
        cell.enter(0).unwrap();
        cell.leave_with_success(at(second * SECOND));
    }
    cell.clear(at(3 * SECOND));
    assert_eq!(cell.counts(at(3 * SECOND)), Counts::default());
}

#[test]
fn a_clock_ten_years_ahead_and_back_heals() {
    let cell = cell();
    let ten_years = 10 * 365 * 86_400;
    for second in [ten_years, ten_years + 1, 3, 4, 5] {
        cell.enter(0).unwrap();
        cell.leave_with_success(at(second * SECOND));
    }
    assert_eq!(cell.counts(at(5 * SECOND)).total, 3);
}

proptest! {
    /// A request that the quick check admits is admitted by the full one.
    #[test]
    fn the_quick_check_admits_only_what_the_full_check_admits(word: u64, generation in 0..=GENERATION_MASK, near in 0u64..3) {
        // A generation near the word's, most of the time.
        let generation = if near > 0 { generation_of(word).wrapping_add(near - 1) & GENERATION_MASK } else { generation };
        if is_plain(word, generation) {
            prop_assert_eq!(refusal(word, generation, FULL), Ok(()));
        }
    }

    /// In whatever order epochs come, the latest is shown in the end, also where epochs wrap. Whether the cell is
    /// watched is left as it is.
    #[test]
    fn the_latest_epoch_stays(
        start in 0..=EPOCH_MASK,
        order in Just((1u32..9).collect::<Vec<_>>()).prop_shuffle(),
        is_watched: bool,
    ) {
        let cell = cell();
        // ORDERING: Relaxed. One thread.
        cell.epoch.store(start, Ordering::Relaxed);
        if is_watched {
            cell.set_watched(true);
        }
        for turn in order {
            cell.show_epoch((start + turn) & EPOCH_MASK);
        }
        prop_assert_eq!((cell.epoch(), cell.is_watched()), ((start + 8) & EPOCH_MASK, is_watched));
        cell.set_watched(false);
        prop_assert_eq!((cell.epoch(), cell.is_watched()), ((start + 8) & EPOCH_MASK, false));
    }
}

#[test]
fn an_open_word_of_its_generation_is_plain() {
    let word = 7 << INSIDE_BITS | 3 | 5 << SUCCESS_SHIFT;
    assert!(is_plain(word, 7));
    assert!(!is_plain(word, 6) && !is_plain(word, 8) && !is_plain(word | CLOSED, 7));
    assert!(!is_plain(word | (INSIDE_MASK & !(INSIDE_MASK >> 1)), 7));
}

/// Failures alone open no other bucket: successes from a while ago do not count as recent.
#[test]
fn old_successes_are_not_in_the_recent_buckets() {
    let cell = Cell::new(Duration::from_secs(10));
    let at = |seconds: u64| Tick::from_nanos(seconds * 1_000_000_000);
    for _ in 0..100 {
        cell.enter(0).unwrap();
        cell.leave_with_success(at(3));
    }
    let seen = |seconds| {
        (
            cell.last(2, at(seconds)).total,
            cell.counts(at(seconds)).total,
        )
    };
    assert_eq!(
        [3, 4, 5, 12, 13].map(seen),
        [(100, 100), (100, 100), (0, 100), (0, 100), (0, 0)]
    );
}
