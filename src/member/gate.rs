//! The gate of one member. It counts the requests inside, admits or refuses more, and wakes what waits for it to be
//! empty. It has a [`Cell`] for each shard of threads; a lease leaves by the cell it entered.
//!
//! Closing is final: an endpoint that is inserted again gets another gate. The generation moves with each change of the
//! endpoint's data, so that a pick under way does not hand out what has been replaced.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::cell::{Cell, GENERATION_MASK, Left};
use crate::health::{AdaptiveLimit, Counts};
use crate::sync::{Arc, Mutex, Ordering, fence};
use crate::time::Tick;

#[derive(Debug)]
pub(crate) struct Gate {
    /// The cells are separate allocations, as seats hold them too: a request reads its cell without the gate.
    first: Arc<Cell>,
    others: Box<[Arc<Cell>]>,
    /// `None` most of the time: nothing waits.
    waiting: Mutex<Option<Box<Waiting>>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The next ticket. It wraps after 2^32 waiters of the same gate.
    next: u32,
    /// Whether the moment at which no request is inside any more is to be announced, once.
    announce: bool,
    wakers: Vec<(u64, Waker)>,
}

impl Gate {
    /// A gate with `cells` cells, rounded up to a power of two, which count outcomes over a window of this length.
    pub(crate) fn new(cells: usize, window: Duration) -> Self {
        let cells = cells.next_power_of_two();
        Self {
            first: Arc::new(Cell::new(window)),
            others: (1..cells).map(|_| Arc::new(Cell::new(window))).collect(),
            waiting: Mutex::new(None),
        }
    }

    /// Gates with `cells` cells each. The cells of one number are allocated one after the other.
    pub(super) fn several(count: usize, cells: usize, window: Duration) -> Vec<Self> {
        let one_each = || {
            (0..count)
                .map(|_| Arc::new(Cell::new(window)))
                .collect::<Vec<_>>()
        };
        let firsts = one_each();
        let mut others: Vec<_> = (1..cells).map(|_| one_each().into_iter()).collect();
        let gates = firsts.into_iter().map(|first| Self {
            first,
            others: others.iter_mut().filter_map(Iterator::next).collect(),
            waiting: Mutex::new(None),
        });
        gates.collect()
    }

    /// A gate with at most `limit` requests inside. With a `rule` the limit adapts. It has a single cell, so that one
    /// word counts all requests.
    pub(super) fn limited(limit: u32, rule: Option<AdaptiveLimit>, window: Duration) -> Self {
        Self {
            first: Arc::new(Cell::new(window).limited_to(limit, rule)),
            others: Box::default(),
            waiting: Mutex::new(None),
        }
    }

    /// How many cells there are.
    pub(crate) fn cells(&self) -> usize {
        1 + self.others.len()
    }

    #[inline]
    fn each(&self) -> impl Iterator<Item = &Cell> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .map(|cell| &**cell)
    }

    /// The cell of this number.
    pub(super) fn cell(&self, number: usize) -> &Arc<Cell> {
        match number.checked_sub(1) {
            None => &self.first,
            Some(other) => &self.others[other],
        }
    }

    /// The other cell than the one of this number, if there are two.
    pub(super) fn other_of_two(&self, number: usize) -> Option<&Arc<Cell>> {
        (self.cells() == 2).then(|| self.cell(1 - number))
    }

    /// Enters as a member's handle does, by the cell of its seat.
    #[cfg(test)]
    fn enter(&self, cell: &Cell, generation: u64) -> Result<(), super::cell::Refused> {
        cell.enter(generation).inspect_err(|_| self.turn_back(cell))
    }

    /// Shows all cells the epoch that the member's standing has turned to.
    pub(super) fn show_epoch(&self, epoch: u32) {
        self.each().for_each(|cell| cell.show_epoch(epoch));
    }

    /// Has the tracker told of successes from now on, as it may have something to take back: called after a fault was told
    /// to it. Writes only if there is a cell whose successes are not told.
    pub(super) fn watch(&self) {
        // ORDERING: SeqCst. Pairs with the fence in `unwatch_unless`: one of the two threads sees what the other did.
        fence(Ordering::SeqCst);
        // All cells are looked at: while upkeep clears them, other threads may have set only some again.
        if !self.is_watched() {
            self.each().for_each(|cell| cell.set_watched(true));
        }
    }

    /// Has the tracker told no longer, unless it `holds` something. Upkeep calls it; after each success it would cost a
    /// write to every cell. It looks again afterwards: no success would take back what the tracker has found meanwhile.
    pub(super) fn unwatch_unless(&self, holds: impl Fn() -> bool) {
        if holds() || !self.each().any(|cell| cell.is_watched()) {
            return;
        }
        self.each().for_each(|cell| cell.set_watched(false));
        // ORDERING: SeqCst. As in `watch`.
        fence(Ordering::SeqCst);
        if holds() {
            self.each().for_each(|cell| cell.set_watched(true));
        }
    }

    /// Whether the tracker is told of the successes of all cells.
    pub(crate) fn is_watched(&self) -> bool {
        self.each().all(|cell| cell.is_watched())
    }

    /// Whether all cells show this epoch.
    #[cfg(feature = "sim")]
    pub(crate) fn shows_epoch(&self, epoch: u32) -> bool {
        self.each().all(|cell| cell.epoch() == epoch)
    }

    /// How many requests may be inside, if that is limited.
    pub(crate) fn limit(&self) -> Option<u32> {
        self.first.limit()
    }

    /// Tells an adaptive limit how long a success took. For a gate that has one.
    pub(super) fn observe_latency(&self, now: Tick, latency: Duration) {
        self.first.observe_latency(now, latency);
    }

    /// Tells an adaptive limit that the endpoint was overloaded. For a gate that has one.
    pub(crate) fn note_overloaded(&self, now: Tick) {
        self.first.note_overloaded(now);
    }

    /// Takes back a request that this cell has refused. A drain may have counted it as inside, so it leaves like any
    /// other.
    pub(super) fn turn_back(&self, cell: &Cell) {
        if cell.counts_refused() {
            self.leave(cell);
        }
    }

    /// Leaves by the cell entered. Returns whether the gate is closed and that cell is now empty.
    #[inline]
    pub(super) fn leave(&self, cell: &Cell) -> bool {
        self.wake_if_empty(cell.leave())
    }

    /// Leaves by the cell entered, and counts a success at this time. Returns the same as [`leave`](Self::leave).
    #[inline]
    pub(super) fn leave_with_success(&self, cell: &Cell, at: Tick) -> bool {
        self.wake_if_empty(cell.leave_with_success(at))
    }

    /// As [`leave_with_success`](Self::leave_with_success) if the window's open bucket is of this time. Otherwise
    /// changes nothing and returns `None`.
    #[inline]
    pub(super) fn leave_with_success_at_once(&self, cell: &Cell, at: Tick) -> Option<bool> {
        Some(self.wake_if_empty(cell.leave_with_success_at_once(at)?))
    }

    /// The last request out of a closed gate wakes the tasks that wait for that.
    #[inline]
    fn wake_if_empty(&self, left: Left) -> bool {
        if left.last_of_closed {
            self.wake();
        }
        left.last_of_closed
    }

    /// Asks for one announcement of the moment at which no request is inside any more. Returns whether the caller is to
    /// make it, as the gate is empty already; otherwise the thread that leaves last is. For a closed gate.
    pub(crate) fn announce(&self) -> bool {
        self.waiting.lock().get_or_insert_default().announce = true;
        self.may_announce()
    }

    /// Whether the caller is to announce that no request is inside.
    pub(super) fn may_announce(&self) -> bool {
        // As in `wake`: the second of two threads that look sees all that have left.
        let mut waiting = self.waiting.lock();
        let announce = waiting.as_mut().map(|waiting| &mut waiting.announce);
        self.inside() == 0 && announce.is_some_and(std::mem::take)
    }

    #[cold]
    fn wake(&self) {
        let wakers = {
            // Two leases that end in two cells may each see the other's count, so that neither wakes. The second to sum
            // inside this lock sees both cells at zero.
            let mut waiting = self.waiting.lock();
            if self.inside() > 0 {
                Vec::new()
            } else {
                let wakers = waiting.as_mut().map(|waiting| &mut waiting.wakers);
                wakers.map(std::mem::take).unwrap_or_default()
            }
        };
        for (_, waker) in wakers {
            // A waker that panics must not keep the others asleep, nor unwind into the thread that ended a request.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// What the windows of all cells hold.
    pub(crate) fn counts(&self, now: Tick) -> Counts {
        self.sum(|cell| cell.counts(now))
    }

    /// What the last `buckets` buckets of all windows hold.
    pub(crate) fn last(&self, buckets: u64, now: Tick) -> Counts {
        self.sum(|cell| cell.last(buckets, now))
    }

    fn sum(&self, of: impl Fn(&Cell) -> Counts) -> Counts {
        self.each().map(of).fold(Counts::default(), Counts::and)
    }

    /// Forgets the outcomes counted.
    pub(super) fn clear_counts(&self, now: Tick) {
        self.each().for_each(|cell| cell.clear(now));
    }

    /// Closes the gate: no request enters any more. The snapshot without this member is published first.
    pub(crate) fn close(&self) {
        self.each().for_each(|cell| cell.close());
    }

    /// Moves to the next generation. The snapshot with the new data is published first.
    pub(crate) fn renew(&self) {
        self.each().for_each(|cell| cell.renew());
    }

    /// The generation after `generation`.
    pub(crate) const fn next_generation(generation: u64) -> u64 {
        (generation + 1) & GENERATION_MASK
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.first.is_closed()
    }

    /// How many requests are inside. Exact while none enters or leaves, and never negative; a refused entry counts for
    /// the moment it takes.
    #[inline]
    pub(crate) fn inside(&self) -> u64 {
        // With two cells, a loop over the one other cell takes as long as all the rest.
        let others = match &*self.others {
            [] => 0,
            [other] => other.inside(),
            others => others.iter().map(|cell| cell.inside()).sum(),
        };
        self.first.inside() + others
    }

    /// Ready once no request is inside. Only for a closed gate: an open one may fill again.
    pub(crate) fn poll_empty(&self, cx: &mut Context<'_>, ticket: &mut Option<u64>) -> Poll<()> {
        // Cloned before locking, and the one it replaces is dropped after unlocking: both run the user's code.
        let mut waker = cx.waker().clone();
        let mut waiting = self.waiting.lock();
        if self.inside() == 0 {
            return Poll::Ready(());
        }
        let waiting = waiting.get_or_insert_default();
        let known = ticket.and_then(|own| waiting.wakers.iter_mut().find(|(id, _)| *id == own));
        if let Some((_, known)) = known {
            std::mem::swap(known, &mut waker);
        } else {
            let id = waiting.next.into();
            waiting.next = waiting.next.wrapping_add(1);
            waiting.wakers.push((id, waker));
            *ticket = Some(id);
        }
        Poll::Pending
    }

    /// Removes the waker of this ticket.
    pub(crate) fn forget(&self, ticket: u64) {
        // The waker is dropped after unlocking: its drop runs the user's code.
        let _waker = {
            let mut waiting = self.waiting.lock();
            waiting.as_mut().and_then(|waiting| {
                let position = waiting.wakers.iter().position(|(id, _)| *id == ticket);
                position.map(|position| waiting.wakers.swap_remove(position))
            })
        };
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::super::cell::Refused;
    use super::*;
    use std::sync::OnceLock;
    use std::task::Wake;

    fn gate(cells: usize) -> Gate {
        Gate::new(cells, Duration::from_secs(10))
    }

    #[test]
    fn requests_inside_are_counted_over_all_cells() {
        let gate = gate(4);
        for shard in 0..10 {
            gate.enter(gate.cell(shard % 4), 0).unwrap();
        }
        assert_eq!(gate.inside(), 10);
        (0..10).for_each(|shard| {
            gate.leave(gate.cell(shard % 4));
        });
        assert_eq!(gate.inside(), 0);
    }

    #[test]
    fn only_one_of_two_cells_has_an_other() {
        let two = gate(2);
        for number in [0, 1] {
            let other = two.other_of_two(number).expect("there are two");
            assert!(Arc::ptr_eq(other, two.cell(1 - number)));
        }
        assert!(gate(1).other_of_two(0).is_none());
        assert!((0..4).all(|number| gate(4).other_of_two(number).is_none()));
    }

    #[test]
    fn a_closed_gate_refuses_and_counts_nothing() {
        let gate = gate(1);
        gate.close();
        assert_eq!(gate.enter(gate.cell(0), 0), Err(Refused::Stale));
        assert_eq!(gate.inside(), 0);
    }

    #[test]
    fn replaced_data_is_refused_and_new_data_is_not_even_early() {
        let gate = gate(1);
        assert_eq!(gate.enter(gate.cell(0), 1), Ok(()));
        gate.renew();
        assert_eq!(gate.enter(gate.cell(0), 0), Err(Refused::Stale));
        assert_eq!(gate.enter(gate.cell(0), 1), Ok(()));
        assert_eq!(gate.inside(), 2);
    }

    #[test]
    fn a_limited_gate_admits_its_limit_and_one_more_for_each_that_leaves() {
        let gate = Gate::limited(2, None, Duration::from_secs(10));
        assert_eq!(gate.limit(), Some(2));
        assert_eq!(
            [gate.enter(gate.cell(0), 0), gate.enter(gate.cell(0), 0)],
            [Ok(()); 2]
        );
        assert!(!gate.first.has_room());
        assert_eq!(gate.enter(gate.cell(0), 0), Err(Refused::Full));
        assert_eq!(gate.inside(), 2, "a refused request has not been inside");
        gate.leave(gate.cell(0));
        assert!(gate.first.has_room());
        gate.renew();
        assert_eq!(gate.enter(gate.cell(0), 0), Err(Refused::Stale));
        assert_eq!(gate.enter(gate.cell(0), 1), Ok(()));
        gate.close();
        assert_eq!(
            gate.enter(gate.cell(0), 1),
            Err(Refused::Stale),
            "closed comes first"
        );
    }

    #[test]
    fn a_success_that_leaves_at_once_wakes_a_waiting_drain() {
        struct Woken(OnceLock<()>);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.set(()).expect("woken once");
            }
        }
        let (gate, now) = (gate(1), Tick::from_nanos(7));
        let cell = gate.cell(0);
        (0..2).for_each(|_| gate.enter(cell, 0).unwrap());
        assert_eq!(
            gate.leave_with_success_at_once(cell, now),
            None,
            "no bucket is open"
        );
        assert_eq!(gate.inside(), 2);
        gate.leave_with_success(cell, now);
        gate.close();
        let woken = Arc::new(Woken(OnceLock::new()));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(gate.poll_empty(&mut cx, &mut None).is_pending());
        assert_eq!(gate.leave_with_success_at_once(cell, now), Some(true));
        assert!(woken.0.get().is_some());
        assert_eq!((gate.inside(), gate.counts(now).total), (0, 2));
    }

    #[test]
    fn outcomes_are_summed_over_all_cells() {
        let (gate, now) = (gate(2), Tick::from_nanos(7));
        for cell in [0, 1, 1] {
            gate.enter(gate.cell(cell), 0).unwrap();
            gate.leave_with_success(gate.cell(cell), now);
        }
        gate.cell(1).window.record(now, true);
        let counts = gate.counts(now);
        assert_eq!((counts.total, counts.faults), (4, 1));
        gate.clear_counts(now);
        assert_eq!(gate.counts(now), Counts::default());
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests;
