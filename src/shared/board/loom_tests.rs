use super::*;
use loom::thread;

/// Two picks see the same invitation, and only one of them gets it.
fn two_accept(accept: fn(Spot<'_>) -> bool) {
    loom::model(move || {
        let place = Board::new().place();
        place.set_cost(7.0);
        place.invite();
        let read = Arc::new(BoardView::of([Some(&place)].into_iter()).expect("it has a place"));
        let other = read.clone();
        let thread = thread::spawn(move || accept(other.at(0)));
        let mine = accept(read.at(0));
        let theirs = thread.join().unwrap();
        assert!(mine != theirs, "an invitation is for one");
        assert_eq!(read.at(0).cost(), 7.0);
    });
}

#[test]
fn an_invitation_is_taken_by_one() {
    two_accept(|spot| spot.accept());
}

/// Broken: reads the bit, then clears it.
#[test]
#[should_panic = "an invitation is for one"]
fn broken_variant_look_then_clear() {
    two_accept(|spot| {
        let cost = spot.cost();
        // ORDERING: Relaxed. As in `accept`; this is not what is broken.
        spot.cost.store(cost.abs().to_bits(), Ordering::Relaxed);
        cost.is_sign_negative()
    });
}

/// One request begins while another ends: a reader sees neither a count without its start nor a start without its
/// count.
#[test]
fn a_count_and_its_start_come_and_go_together() {
    loom::model(|| {
        let place = Arc::new(Board::new().place());
        let at = |micros: u64| Tick::from_nanos(micros << 14);
        assert!(place.add(at(10)));
        let other = place.clone();
        let thread = thread::spawn(move || {
            assert!(other.add(at(30)));
            other.take(at(10));
        });
        let read = BoardView::of([Some(&*place)].into_iter()).expect("it has a place");
        let load = read.at(0).load();
        let seen = (
            load.count(),
            (load.ages(at(50)) / AGE_UNITS_PER_NANO as i64) >> 14,
        );
        assert!([(1, 40), (2, 60), (1, 20)].contains(&seen), "{seen:?}");
        thread.join().unwrap();
    });
}
