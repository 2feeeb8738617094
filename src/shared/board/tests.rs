//! The board against counts kept by hand.

use super::*;
use proptest::prelude::*;

fn view(places: &[Place]) -> BoardView {
    BoardView::of(places.iter().map(Some)).expect("each has a place")
}

#[test]
fn each_member_has_a_place_of_its_own() {
    let mut board = Board::new();
    let places: Vec<_> = (0..150).map(|_| board.place()).collect();
    for (number, place) in places.iter().enumerate() {
        (0..number).for_each(|_| assert!(place.add(Tick::ZERO)));
    }
    let read = view(&places);
    let in_flight = |index: usize| read.at(index).load().count();
    assert!((0..150).all(|index| in_flight(index) == index as u32));
    places[7].take(Tick::ZERO);
    assert_eq!(in_flight(7), 6);
    places[8].set_cost(2.5);
    read.at(8).set_turn(11);
    assert_eq!((read.at(8).cost(), read.at(8).turn()), (2.5, 11));
    assert_eq!((read.at(9).cost(), read.at(9).turn()), (0.0, 0));
}

/// Exact to 16 us. A start that is later than now, by another thread's clock, gives no age.
#[test]
fn tells_the_mean_age_of_what_is_in_flight() {
    let place = Board::new().place();
    let at = |millis: u64| Tick::from_nanos(millis << 20);
    let millis = |millis: u64| Some(Duration::from_nanos(millis << 20));
    assert_eq!(place.mean_age(at(7)), None);
    place.add(at(2));
    assert_eq!(place.mean_age(at(8)), millis(6));
    place.add(at(4));
    assert_eq!(place.mean_age(at(8)), millis(5));
    assert_eq!(place.mean_age(at(3)), millis(0));
    assert_eq!(place.mean_age(at(1)), millis(0));
    place.take(at(2));
    assert_eq!(place.mean_age(at(8)), millis(4));
    place.take(at(4));
    assert_eq!(place.mean_age(at(8)), None);
}

/// The next holder of a place sees neither the cost nor the turn of the one before.
#[test]
fn a_place_begins_anew() {
    let mut board = Board::new();
    let place = board.place();
    place.set_cost(7.0);
    view(std::slice::from_ref(&place)).at(0).set_turn(3);
    drop(place);
    let read = view(&[board.place()]);
    assert_eq!((read.at(0).cost(), read.at(0).turn()), (0.0, 0));
}

#[test]
fn an_invitation_is_taken_once() {
    let place = Board::new().place();
    let read = view(std::slice::from_ref(&place));
    place.set_cost(7.0);
    assert!(!read.at(0).accept());
    place.invite();
    assert_eq!(read.at(0).cost(), -7.0);
    assert!(read.at(0).accept() && !read.at(0).accept());
    assert_eq!(read.at(0).cost(), 7.0);
}

#[test]
fn a_full_place_counts_no_more_and_carries_nowhere() {
    let place = Board::new().place();
    // ORDERING: Relaxed, both. One thread.
    place.page.loads[place.at].store(FULL, Ordering::Relaxed);
    assert!(!place.add(Tick::from_nanos(1 << 20)));
    assert_eq!(place.page.loads[place.at].load(Ordering::Relaxed), FULL);
}

proptest! {
    /// The mean age is right for any start times, also where the sum of starts wraps.
    #[test]
    fn ages_add_up(
        base in prop_oneof![0u64..1 << 40, (1u64 << 54) - (1 << 30)..1 << 54, any::<u64>().prop_map(|at| at >> 1)],
        starts in prop::collection::vec((0u64..1 << 36, any::<bool>()), 0..50),
    ) {
        let place = Board::new().place();
        let at = |start: u64| Tick::from_nanos(base + start);
        starts.iter().for_each(|&(start, _)| assert!(place.add(at(start))));
        starts.iter().filter(|(_, ended)| *ended).for_each(|&(start, _)| place.take(at(start)));
        let left = || starts.iter().filter(|(_, ended)| !*ended);
        let now = at(1 << 36);
        let total: u64 = left().map(|&(start, _)| (now.as_nanos() >> 14) - (at(start).as_nanos() >> 14)).sum();
        let read = view(std::slice::from_ref(&place)).at(0).load();
        prop_assert_eq!(read.count() as usize, left().count());
        prop_assert_eq!(read.ages(now), ((total << 14) * AGE_UNITS_PER_NANO) as i64);
    }

    /// Places may be in any order, with places of other members in between. Each member has as many requests in flight
    /// as its number.
    #[test]
    fn a_row_is_its_members(order in Just((0..200).collect::<Vec<usize>>()).prop_shuffle(), sorted: bool, length in 0usize..=200) {
        let mut board = Board::new();
        let places: Vec<_> = (0..200).map(|_| board.place()).collect();
        for (number, place) in places.iter().enumerate() {
            (0..number).for_each(|_| assert!(place.add(Tick::ZERO)));
        }
        let mut order = order[..length].to_vec();
        if sorted {
            order.sort_unstable();
        }
        let read = BoardView::of(order.iter().map(|&number| Some(&places[number]))).expect("each has a place");
        for (row, members) in order.chunks(LANES).enumerate() {
            let follow = members.windows(2).all(|two| two[1] == two[0] + 1) && members[0] / PLACES == members[members.len() - 1] / PLACES;
            let seen = read.row(row).map(|spots| spots.iter().map(|spot| spot.load().count() as usize).collect::<Vec<_>>());
            prop_assert_eq!(seen, follow.then(|| members.to_vec()));
        }
    }
}

#[test]
fn a_start_that_is_later_than_now_is_no_age() {
    let place = Board::new().place();
    place.add(Tick::from_nanos(1 << 40));
    let load = view(std::slice::from_ref(&place)).at(0).load();
    assert!(load.count() == 1 && load.ages(Tick::from_nanos(5 << 14)) < 0);
    assert_eq!(
        place.mean_age(Tick::from_nanos(5 << 14)),
        Some(Duration::ZERO)
    );
}

/// The limit is a minute, or twelve times the usual latency where that is more. Older requests no longer count.
#[test]
fn requests_open_for_too_long_are_forgotten() {
    let place = Board::new().place();
    place.add(Tick::ZERO);
    let at = |seconds: u64| Tick::from_nanos(seconds * 1_000_000_000);
    let waits = |seconds, usual| place.waiting(at(seconds), usual).is_some();
    for usual in [None, Some(Duration::from_millis(5))] {
        assert!(waits(59, usual) && !waits(61, usual));
    }
    let slow = Some(Duration::from_secs(20));
    assert!(waits(239, slow) && !waits(241, slow));
}

#[test]
fn places_given_back_are_used_again() {
    let mut board = Board::new();
    let mut places: Vec<_> = (0..1000).map(|_| board.place()).collect();
    for _ in 0..10 {
        places.drain(100..900).for_each(drop);
        board.prune();
        places.extend((0..800).map(|_| board.place()));
        let pages: std::collections::HashSet<_> = places
            .iter()
            .map(|place| (Arc::as_ptr(&place.page), place.at))
            .collect();
        assert_eq!(pages.len(), 1000);
    }
    assert_eq!(board.pages.len(), 1000_usize.div_ceil(PLACES));
    places.truncate(10);
    board.prune();
    assert!(
        board.pages.len() <= 10,
        "{} pages for ten",
        board.pages.len()
    );
    drop(places);
    board.prune();
    assert_eq!(board.pages.len(), 0);
}

#[test]
fn without_places_there_is_nothing_to_read() {
    assert!(BoardView::of([None].into_iter()).is_none());
}
