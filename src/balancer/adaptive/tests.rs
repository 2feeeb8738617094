//! Compares the vectorised comparison with the formula, applied to one member after the other.

use proptest::prelude::*;

use super::rows::{FIRST, when_due};
use super::*;
use crate::shared::{Board, LANES, Place};
use crate::time::Tick;

const NOW: Tick = Tick::from_nanos(1 << 40);

/// A member as the board shows it.
#[derive(Clone, Debug)]
struct Shown {
    weight: u64,
    /// How long ago its requests in flight began, in units of 16384 ns.
    ages: Vec<u64>,
    /// In nanoseconds.
    cost: f32,
    is_invited: bool,
    turn: u32,
    may_pick: bool,
}

fn shown(virtual_now: u32) -> impl Strategy<Value = Shown> {
    let near = (-5000i32..5000).prop_map(move |off| virtual_now.wrapping_add_signed(off));
    let turn = prop_oneof![4 => near, 1 => Just(0), 1 => Just(JOINED), 1 => any::<u32>()];
    // Few different costs, so that some are equal.
    let cost = prop_oneof![Just(0.0), Just(1e6), Just(2e6), 1e3..1e10f32];
    let age = prop_oneof![5 => 0u64..2000, 1 => 0u64..8_000_000];
    let ages = prop_oneof![2 => Just(vec![]), 3 => prop::collection::vec(age, 1..6)];
    let weight = prop_oneof![Just(3), 1u64..10, 1u64..65_536];
    (
        weight,
        ages,
        cost,
        prop::bool::weighted(0.02),
        turn,
        prop::bool::weighted(0.9),
    )
        .prop_map(|(weight, ages, cost, is_invited, turn, may_pick)| Shown {
            weight,
            ages,
            cost,
            is_invited,
            turn,
            may_pick,
        })
}

/// The documented formula for one member.
fn cost(
    of: &Shown,
    picker: &AdaptivePicker,
    index: usize,
    with: &CompareParams,
    is_due: bool,
) -> f32 {
    let known = if of.cost == 0.0 { with.usual } else { of.cost };
    let count = of.ages.len() as f32;
    let ages = (of.ages.iter().sum::<u64>() << 14) as f32;
    let own = if ages > with.overdue * known * count && ages <= with.forgotten * count {
        3.0 * known
    } else {
        known
    };
    let waited = match of.turn {
        JOINED => with.untried,
        turn => ahead(with.virtual_now, turn) as f32 * picker.terms.per_round[index],
    };
    let waited = waited.clamp(-1.0, with.rounds);
    let queue = picker.terms.queue[index];
    let has_come = of.turn != JOINED && ahead(with.virtual_now, of.turn) >= 0;
    let load = match (of.ages.len(), picker.due) {
        (0, Some(due)) if is_due => due,
        (0, Some(due)) if has_come => {
            due * when_due(picker.terms.per_round[index] * HEAVIEST as f32)
        }
        (0, Some(due)) => queue.max(due * 1.04),
        _ => (count + 1.0) * queue,
    };
    own * load
        * if of.turn == 0 {
            FIRST
        } else {
            1.0 - 0.02 * waited
        }
}

/// Whether the member is idle and has had a turn.
fn has_turn(one: &Shown) -> bool {
    one.ages.is_empty() && one.turn > JOINED
}

/// The cost of a request at each member that may be picked, with regard to whose turn it is.
fn costs(of: &[Shown], picker: &AdaptivePicker, with: &CompareParams) -> Vec<Option<f32>> {
    let idle = of.iter().filter(|one| one.may_pick && has_turn(one));
    let first = idle.map(|one| ahead(with.virtual_now, one.turn)).max();
    let first = first.filter(|&lateness| lateness > i32::MIN && lateness >= -(HEAVIEST as i32));
    let of = of.iter().enumerate();
    of.map(|(index, one)| {
        let is_due = has_turn(one) && Some(ahead(with.virtual_now, one.turn)) == first;
        one.may_pick.then(|| cost(one, picker, index, with, is_due))
    })
    .collect()
}

/// Puts the members on a board; from index `scattered` on, with a gap before each.
fn put(board: &mut Board, of: &[Shown], scattered: usize) -> (Vec<Place>, BoardView) {
    let mut all = Vec::new();
    let mut own = Vec::new();
    for (index, one) in of.iter().enumerate() {
        if index >= scattered {
            all.push(board.place());
        }
        let place = board.place();
        let start = |age: u64| Tick::from_nanos(NOW.as_nanos() - (age << 14));
        one.ages
            .iter()
            .for_each(|&age| assert!(place.add(start(age))));
        place.set_cost(one.cost);
        if one.is_invited {
            place.invite();
        }
        own.push(place);
    }
    let read = BoardView::of(own.iter().map(Some)).expect("each has a place");
    for (index, one) in of.iter().enumerate() {
        read.at(index).set_turn(one.turn);
    }
    all.extend(own);
    (all, read)
}

proptest! {
    #[test]
    fn the_least_cost_by_the_formula_is_found(
        (virtual_now, of) in any::<u32>().prop_flat_map(|virtual_now| (
            Just(virtual_now),
            prop::collection::vec(shown(virtual_now), 1..100),
        )),
        (rounds, overdue) in (2f32..16.0, 3f32..30.0),
        order: u64,
        scattered in 0usize..100,
        (equal_weights, all, knows_usual, many) in any::<(bool, bool, bool, bool)>(),
    ) {
        let mut of = of;
        for one in &mut of {
            one.weight = if equal_weights { 3 } else { one.weight };
            one.may_pick |= all;
        }
        let mut board = Board::new();
        let (_places, read) = put(&mut board, &of, scattered);
        let weights: Vec<u64> = of.iter().map(|one| one.weight).collect();
        let picker = AdaptivePicker::new(&weights, None, order, 1);
        let (usual, due) = (1.5e6, picker.due);
        let mut with = CompareParams { now: NOW, usual, overdue, forgotten: 60e9, knows_usual, due, rounds, untried: if many { rounds } else { 0.0 }, virtual_now };
        let may_pick = |index: usize| of[index].may_pick;
        let may_pick: &dyn Fn(usize) -> bool = &may_pick;
        let notes = picker.notes_of(0);
        let candidates = notes.candidates(&picker.table, of.len());
        let is_compared = |index: usize| {
            let in_row = |drawn: &usize| index / LANES == drawn / LANES;
            !many || candidates.good.contains(&index) || candidates.drawn.iter().any(in_row)
        };
        let asked = (!all).then_some(may_pick);
        let best = match many {
            false => picker.all(&read, &mut with, asked),
            true => picker.some(&candidates, &read, &with, notes, asked),
        };
        // From here on, members that were not compared count as if they may not be picked.
        let mut of = of.clone();
        of.iter_mut().enumerate().for_each(|(index, one)| one.may_pick &= is_compared(index));

        let costs = costs(&of, &picker, &with);
        let least = costs.iter().flatten().copied().reduce(f32::min);
        // The first of equals.
        let equals = (0..of.len()).filter(|&index| costs[index].is_some() && costs[index] == least);
        let place = |index: &usize| (index + picker.shift) % of.len();
        let found = best.index(|one, other| picker.is_before(one, other));
        prop_assert_eq!(found, equals.min_by_key(place));
        let usable = || of.iter().filter(|one| one.may_pick);
        let known = usable().filter(|one| one.cost > 0.0 && !one.is_invited).map(|one| one.cost);
        let known = known.filter(|_| !knows_usual);
        let known = known.reduce(f32::min);
        if all {
            prop_assert_eq!(best.least(), known);
        } else {
            // Members that may not be picked may count as well.
            prop_assert!(known.is_none_or(|known| best.least().is_some_and(|least| least <= known)));
        }
        let is_invited = |one: &Shown| one.may_pick && one.is_invited;
        if many {
            prop_assert_eq!(best.invited.is_some(), of.iter().any(is_invited));
            prop_assert!(best.invited.is_none_or(|index| is_invited(&of[index])));
        } else {
            prop_assert_eq!(best.invited, of.iter().rposition(is_invited));
        }
    }
}

#[test]
fn a_member_whose_turn_has_come_costs_little_more_than_the_heaviest() {
    assert_eq!(when_due(1.0), 1.0);
    for times in 1..=65_536u32 {
        let exact = (times as f32).powf(1.0 / 16.0);
        let error = when_due(1.0 / times as f32) / exact - 1.0;
        assert!((-0.01..0.07).contains(&error), "{times}: {error}");
    }
}

/// If the usual latency is no longer known, unknown endpoints cost what was usual, and not next to nothing.
#[test]
fn the_last_usual_latency_is_kept() {
    let mut board = Board::new();
    let place = board.place();
    let read = BoardView::of([Some(&place)].into_iter()).expect("it has a place");
    let picker = AdaptivePicker::new(&[1], None, 0, 1);
    let notes = &picker.notes[0].0;
    let mut with = picker.compare_params(
        notes,
        NOW,
        Some(Duration::from_millis(7)),
        CostBasis::default(),
    );
    let best = picker.all(&read, &mut with, None);
    assert_eq!(picker.choose(&best, &read, &with, notes, true), Some(0));
    assert_eq!(
        picker
            .compare_params(notes, NOW, None, CostBasis::default())
            .usual,
        7e6
    );
}

/// A pick ends even if a member is in a row several times and `may_pick` answers differently from look to look.
#[test]
fn a_pick_ends_whatever_may_pick_answers() {
    let mut board = Board::new();
    let places: Vec<_> = (0..300).map(|_| board.place()).collect();
    let read = BoardView::of(places.iter().map(Some)).expect("each has a place");
    for from in 0..30 {
        // At first all eight remembered members are the first one.
        let picker = AdaptivePicker::new(&[1; 300], None, 0, 1);
        let notes = picker.notes_of(0);
        let with = picker.compare_params(notes, NOW, None, CostBasis::default());
        let asked = std::cell::Cell::new(0u64);
        let may_pick = |index: usize| {
            if index != 0 {
                return true;
            }
            let count = asked.replace(asked.get() + 1);
            assert!(count < 10_000, "without end");
            (from..from + 6).contains(&count)
        };
        let candidates = notes.candidates(&picker.table, 300);
        picker.some(&candidates, &read, &with, notes, Some(&may_pick));
    }
}

/// Draws are spread evenly: of 960 members in 30 rows, 19 picks of three rows each compare every row. With random
/// draws, four rows would be left out (30 times 29/30 to the power of 57).
#[test]
fn each_row_is_soon_compared_again() {
    let picker = AdaptivePicker::new(&[1; 960], None, 0, 1);
    let notes = picker.notes_of(0);
    for _ in 0..100 {
        let drawn = (0..19).flat_map(|_| notes.candidates(&picker.table, 960).drawn);
        let rows: std::collections::BTreeSet<_> = drawn.map(|index| index / LANES).collect();
        assert_eq!(rows.len(), 30);
    }
}

/// A drawn member that is better takes the place of the worst.
#[test]
fn good_members_are_remembered() {
    let picker = AdaptivePicker::new(&[1; 960], None, 0, 1);
    let notes = picker.notes_of(0);
    let mut found = std::collections::BTreeSet::new();
    for _ in 0..960 {
        let candidates = notes.candidates(&picker.table, 960);
        let cost = |index: usize| index as f32;
        let worst = Notes::worst(&candidates.good, |at| cost(candidates.good[at]));
        notes.remember(&candidates, worst, candidates.drawn.map(cost));
        found.extend(candidates.drawn);
    }
    let mut good = notes.candidates(&picker.table, 960).good;
    good.sort_unstable();
    assert!(found.len() > 900 && good[7] < 20, "{good:?}");
}
