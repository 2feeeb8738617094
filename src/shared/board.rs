//! Requests in flight of all members side by side, for policies that compare many: a member's own cells are
//! several lines away from each other, and these are sixteen to a line.
//!
//! Written only while a policy looks at it (see `View::board`), by each lease that was picked then, probes apart. A
//! lease picked before is not on it, so it never shows more than is in flight.

use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};

/// Places on a page.
const PLACES: usize = 64;

/// All pages. It belongs to the writer; members hold places on pages.
#[derive(Debug)]
pub(crate) struct Board {
    pages: Vec<Arc<Page>>,
    /// The first page that may have a free place, as far as is known since the last look at all.
    free_from: usize,
}

#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Page {
    in_flight: [AtomicU32; PLACES],
    /// A bit for each place that somebody has.
    taken: AtomicU64,
}

/// A member's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    page: Arc<Page>,
    at: usize,
}

impl Board {
    pub(crate) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            free_from: 0,
        }
    }

    /// A free place: the first, so members that come together are side by side.
    pub(crate) fn place(&mut self) -> Place {
        let full = |page: &&Arc<Page>| page.free().is_none();
        self.free_from += self.pages[self.free_from..].iter().take_while(full).count();
        if self.free_from == self.pages.len() {
            self.pages.push(Arc::new(Page::new()));
        }
        let page = self.pages[self.free_from].clone();
        let at = page.free().unwrap_or(0);
        // ORDERING: Acquire. Pairs with the Release of `Place::drop`: what the last one took away is seen.
        page.taken.fetch_or(1 << at, Ordering::Acquire);
        Place { page, at }
    }

    /// Drops the pages that nobody has a place on, and sees anew which have free ones.
    pub(crate) fn prune(&mut self) {
        // ORDERING: Relaxed. A place that is given back meanwhile is seen the next time; a picker that still reads
        // a page holds it.
        self.pages
            .retain(|page| page.taken.load(Ordering::Relaxed) != 0);
        self.free_from = 0;
    }
}

impl Page {
    fn new() -> Self {
        Self {
            in_flight: std::array::from_fn(|_| AtomicU32::new(0)),
            taken: AtomicU64::new(0),
        }
    }

    fn free(&self) -> Option<usize> {
        // ORDERING: Relaxed. Only the writer takes places; one that is given back may be seen late.
        let free = self.taken.load(Ordering::Relaxed).trailing_ones() as usize;
        (free < PLACES).then_some(free)
    }
}

impl Place {
    /// One more is in flight.
    #[inline]
    pub(crate) fn add(&self) {
        // ORDERING: Relaxed, here and below. What a policy compares; it orders nothing.
        self.page.in_flight[self.at].fetch_add(1, Ordering::Relaxed);
    }

    /// One less, which was added.
    #[inline]
    pub(crate) fn take(&self) {
        // ORDERING: Relaxed. As in `add`.
        self.page.in_flight[self.at].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Its leases hold the member, so all that were added have been taken.
        // ORDERING: Release. Pairs with `Board::place`.
        self.page
            .taken
            .fetch_and(!(1 << self.at), Ordering::Release);
    }
}

/// Some members' places, for a picker to read.
#[derive(Debug)]
pub(crate) struct Readings {
    /// Stretches of members whose places lie side by side.
    runs: Box<[Run]>,
    /// Each member's run and its place there.
    places: Box<[(u32, u32)]>,
}

#[derive(Debug)]
struct Run {
    page: Arc<Page>,
    start: usize,
    length: usize,
}

impl Run {
    #[inline]
    fn in_flight(&self) -> &[AtomicU32] {
        &self.page.in_flight[self.start..self.start + self.length]
    }
}

impl Readings {
    /// `None` if any of them has no place.
    pub(crate) fn of<'a>(members: impl Iterator<Item = Option<&'a Place>>) -> Option<Self> {
        let mut runs: Vec<Run> = Vec::new();
        let mut places = Vec::new();
        for place in members {
            let place = place?;
            let follows = |run: &&mut Run| {
                Arc::ptr_eq(&run.page, &place.page) && run.start + run.length == place.at
            };
            match runs.last_mut().filter(follows) {
                Some(run) => run.length += 1,
                None => runs.push(Run {
                    page: place.page.clone(),
                    start: place.at,
                    length: 1,
                }),
            }
            places.push((runs.len() as u32 - 1, place.at as u32));
        }
        Some(Self {
            runs: runs.into(),
            places: places.into(),
        })
    }

    /// Requests in flight at the member of this index.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> u64 {
        let (run, at) = self.places[index];
        let page = &self.runs[run as usize].page;
        // ORDERING: Relaxed. As in `Place::add`.
        page.in_flight[at as usize % PLACES]
            .load(Ordering::Relaxed)
            .into()
    }

    /// Shows each member's index, requests in flight and weight to `look`, as long as it says to go on.
    #[inline]
    pub(crate) fn each(&self, weights: &[u64], mut look: impl FnMut(usize, u64, u64) -> bool) {
        let mut first = 0;
        for run in &self.runs {
            let weights = &weights[first..first + run.length];
            for (at, (count, &weight)) in run.in_flight().iter().zip(weights).enumerate() {
                // ORDERING: Relaxed. As in `Place::add`.
                let in_flight = count.load(Ordering::Relaxed);
                if !look(first + at, in_flight.into(), weight) {
                    return;
                }
            }
            first += run.length;
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    fn readings(places: &[Place]) -> Readings {
        Readings::of(places.iter().map(Some)).expect("each has a place")
    }

    #[test]
    fn each_has_a_place_of_its_own() {
        let mut board = Board::new();
        let places: Vec<_> = (0..150).map(|_| board.place()).collect();
        for (number, place) in places.iter().enumerate() {
            (0..number).for_each(|_| place.add());
        }
        let read = readings(&places);
        assert!((0..150).all(|index| read.at(index) == index as u64));
        let mut seen = Vec::new();
        read.each(&[1; 150], |index, in_flight, _| {
            seen.push((index as u64, in_flight));
            index < 120
        });
        assert!(
            seen.iter()
                .copied()
                .eq((0..=120).map(|number| (number, number)))
        );
        assert_eq!(read.runs.len(), 3);
        places[7].take();
        assert_eq!(read.at(7), 6);
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
        assert!(Readings::of([None].into_iter()).is_none());
    }
}
