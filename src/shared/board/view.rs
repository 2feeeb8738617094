//! Read access to places for a picker: one at a time, or several side by side for SIMD comparison.

use super::{INVITATION, Load, PLACES, Page, Place};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};

/// Places in a row, the unit that is read at once: enough to share the overhead per row, and few enough for arrays on
/// the stack.
pub(crate) const LANES: usize = 32;

/// The places of a list of members, for reading.
#[derive(Debug)]
pub(crate) struct BoardView {
    pages: Box<[Arc<Page>]>,
    /// For each member the index of its page, and its place on that page in the lowest six bits.
    places: Box<[u32]>,
    /// For each row of [`LANES`] members the place of the first, if the others follow it on the same page.
    rows: Box<[Option<u32>]>,
}

/// The place of one member, for reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot<'a> {
    load: &'a AtomicU64,
    pub(super) cost: &'a AtomicU32,
    turn: &'a AtomicU32,
}

impl Spot<'_> {
    /// What is in flight at the member.
    #[inline]
    pub(crate) fn load(self) -> Load {
        // ORDERING: Relaxed. As in `Place::add`.
        Load(self.load.load(Ordering::Relaxed))
    }

    /// The cost set by [`Place::set_cost`]; 0 while unknown, negative while an invitation stands.
    #[inline]
    pub(crate) fn cost(self) -> f32 {
        // ORDERING: Relaxed. As in `Place::add`.
        f32::from_bits(self.cost.load(Ordering::Relaxed))
    }

    /// Accepts the invitation. `false` if another pick has accepted it.
    #[cold]
    pub(crate) fn accept(self) -> bool {
        // ORDERING: Relaxed. As in `Place::add`; the thread that clears the bit has the invitation.
        self.cost.fetch_and(!INVITATION, Ordering::Relaxed) & INVITATION != 0
    }

    /// When the member's turn is next.
    #[inline]
    pub(crate) fn turn(self) -> u32 {
        // ORDERING: Relaxed. As in `Place::add`.
        self.turn.load(Ordering::Relaxed)
    }

    /// Sets when the member's turn is next. If two threads do so at once, one of the two is lost.
    #[inline]
    pub(crate) fn set_turn(self, turn: u32) {
        // ORDERING: Relaxed. As in `Place::add`.
        self.turn.store(turn, Ordering::Relaxed);
    }
}

impl BoardView {
    /// Collects the places of `members`. `None` if any of them has no place.
    pub(crate) fn of<'a>(members: impl Iterator<Item = Option<&'a Place>>) -> Option<Self> {
        let mut pages: Vec<Arc<Page>> = Vec::new();
        let mut places = Vec::new();
        for place in members {
            let place = place?;
            // Members that joined together are on the same page. A page that recurs later is only listed twice.
            if !pages
                .last()
                .is_some_and(|last| Arc::ptr_eq(last, &place.page))
            {
                pages.push(place.page.clone());
            }
            places.push(((pages.len() - 1) * PLACES + place.at) as u32);
        }
        let page = |place: u32| place as usize / PLACES;
        let follows = |one: &u32, next: &u32| one + 1 == *next && page(*one) == page(*next);
        let rows = places
            .chunks(LANES)
            .map(|row| row.is_sorted_by(follows).then_some(row[0]));
        Some(Self {
            rows: rows.collect(),
            pages: pages.into(),
            places: places.into(),
        })
    }

    /// The place of the member at `index`.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Spot<'_> {
        let (page, at) = self.find(self.places[index]);
        Spot {
            load: &page.loads[at],
            cost: &page.costs[at],
            turn: &page.turns[at],
        }
    }

    #[inline]
    fn find(&self, place: u32) -> (&Page, usize) {
        let place = place as usize;
        (&self.pages[place / PLACES], place % PLACES)
    }

    /// The places of a row, if they lie side by side.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> Option<Spots<'_>> {
        let (page, at) = self.find(self.rows[row]?);
        let range = at..at + LANES.min(self.places.len() - row * LANES);
        Some(Spots {
            loads: &page.loads[range.clone()],
            costs: &page.costs[range.clone()],
            turns: &page.turns[range],
        })
    }
}

/// Places that lie side by side, for reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spots<'a> {
    loads: &'a [AtomicU64],
    costs: &'a [AtomicU32],
    turns: &'a [AtomicU32],
}

impl<'a> Spots<'a> {
    /// The number of requests in flight at each place, in groups of four; and at the places that are left over.
    #[inline]
    pub(crate) fn counts(self) -> (impl Iterator<Item = [i32; 4]>, impl Iterator<Item = i32>) {
        // Signed, as processors convert vectors of signed integers to floats.
        // ORDERING: Relaxed. As in `Place::add`.
        let count = |load: &AtomicU64| Load(load.load(Ordering::Relaxed)).count() as i32;
        let fours = self.loads.chunks_exact(4);
        let left = fours.remainder().iter().map(count);
        let four = move |loads: &[AtomicU64]| std::array::from_fn(|at| count(&loads[at]));
        (fours.map(four), left)
    }

    #[inline]
    pub(crate) fn iter(self) -> impl Iterator<Item = Spot<'a>> + Clone {
        let all = self.loads.iter().zip(self.costs).zip(self.turns);
        all.map(|((load, cost), turn)| Spot { load, cost, turn })
    }
}
