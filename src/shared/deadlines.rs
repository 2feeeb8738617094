//! Tasks that wait until a deadline. The crate starts no timer, so upkeep wakes them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};

use super::Due;
use crate::sync::Mutex;
use crate::time::Tick;

#[derive(Debug, Default)]
pub(crate) struct Deadlines(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    wakers: Vec<(u64, Tick, Waker)>,
}

impl Deadlines {
    /// Has the task woken at `until` by the thread that claims `due` then. `due` is lowered *after* the task is listed,
    /// so a claimant either finds the task or leaves the lowered time in place. The caller must read the clock after
    /// this call.
    pub(crate) fn wait(&self, due: &Due, until: Tick, cx: &Context<'_>, ticket: &mut Option<u64>) {
        self.list(until, cx, ticket);
        due.lower(until);
    }

    fn list(&self, until: Tick, cx: &Context<'_>, ticket: &mut Option<u64>) {
        // The waker is cloned before locking, and the replaced one dropped after unlocking: both run foreign code.
        let mut waker = cx.waker().clone();
        let mut waiting = self.0.lock();
        let known = ticket.and_then(|own| waiting.wakers.iter_mut().find(|(id, ..)| *id == own));
        if let Some((.., known)) = known {
            std::mem::swap(known, &mut waker);
            return;
        }
        let id = waiting.next;
        waiting.next += 1;
        waiting.wakers.push((id, until, waker));
        *ticket = Some(id);
    }

    /// Removes a task that no longer waits.
    pub(crate) fn forget(&self, ticket: u64) {
        // Dropped after unlocking.
        let _waker = {
            let mut waiting = self.0.lock();
            let position = waiting.wakers.iter().position(|(id, ..)| *id == ticket);
            position.map(|position| waiting.wakers.swap_remove(position))
        };
    }

    /// Wakes the tasks whose deadline has come, and lowers `due` to the next deadline. For a thread that has claimed
    /// `due`, and for others that come in between.
    pub(crate) fn wake(&self, due: &Due, now: Tick) {
        let over = {
            let mut waiting = self.0.lock();
            // An empty `Vec` allocates nothing.
            let (over, left) = std::mem::take(&mut waiting.wakers)
                .into_iter()
                .partition::<Vec<_>, _>(|(_, until, _)| *until <= now);
            waiting.wakers = left;
            if let Some(next) = waiting.wakers.iter().map(|(_, until, _)| *until).min() {
                due.lower(next);
            }
            over
        };
        for (.., waker) in over {
            // A waker that panics must neither keep other tasks asleep nor fail the pick that does upkeep.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::sync::{Arc, AtomicU32, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    const fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            // ORDERING: Relaxed. One thread.
            assert!(self.0.fetch_add(1, Ordering::Relaxed) < 7, "as told");
        }
    }

    /// A future may be polled by another task than before.
    #[test]
    fn the_task_that_polled_last_is_woken() {
        let (deadlines, due) = (Deadlines::default(), Due::new(at(1000), Duration::MAX));
        let woken: [Arc<Woken>; 2] = std::array::from_fn(|_| Arc::default());
        let mut ticket = None;
        for one in &woken {
            let waker = one.clone().into();
            let cx = Context::from_waker(&waker);
            deadlines.wait(&due, at(10), &cx, &mut ticket);
        }
        deadlines.wake(&due, at(10));
        // ORDERING: Relaxed. One thread.
        let counts = woken.each_ref().map(|it| it.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn each_task_is_woken_at_its_time_and_once() {
        let (deadlines, due) = (Deadlines::default(), Due::new(at(1000), Duration::MAX));
        let woken: [Arc<Woken>; 3] = std::array::from_fn(|_| Arc::default());
        let mut tickets = [None; 3];
        for (number, until) in [30, 10, 20].into_iter().enumerate() {
            let waker = woken[number].clone().into();
            let cx = Context::from_waker(&waker);
            // The task is listed once, however often it is polled.
            deadlines.wait(&due, at(until), &cx, &mut tickets[number]);
            deadlines.wait(&due, at(until), &cx, &mut tickets[number]);
        }
        let counts = || {
            // ORDERING: Relaxed. One thread.
            woken.each_ref().map(|it| it.0.load(Ordering::Relaxed))
        };
        assert!(!due.is_due(at(9)) && due.is_due(at(10)));
        assert!(due.claim(at(10), at(1010)));
        deadlines.wake(&due, at(10));
        assert_eq!(counts(), [0, 1, 0]);
        assert!(!due.is_due(at(19)) && due.is_due(at(20)), "of the one left");
        deadlines.forget(tickets[2].unwrap());
        deadlines.wake(&due, at(40));
        deadlines.wake(&due, at(40));
        assert_eq!(counts(), [1, 1, 0]);
    }

    #[test]
    fn a_waker_that_panics_does_not_keep_others_from_being_woken() {
        let (deadlines, due) = (Deadlines::default(), Due::new(at(1000), Duration::MAX));
        let bad = Arc::new(Woken(AtomicU32::new(7)));
        let good = Arc::new(Woken::default());
        for it in [&bad, &good] {
            let waker = it.clone().into();
            deadlines.wait(&due, at(1), &Context::from_waker(&waker), &mut None);
        }
        deadlines.wake(&due, at(1));
        // ORDERING: Relaxed. One thread.
        assert_eq!(good.0.load(Ordering::Relaxed), 1);
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;
    use std::time::Duration;

    const fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    type Both = (Deadlines, Due);

    fn claim_and_wake((deadlines, due): &Both) {
        if due.claim(at(15), at(65)) {
            deadlines.wake(due, at(15));
        }
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// A thread begins to wait for 20 while another does upkeep at 15, whose next turn would be at 65. After both,
    /// upkeep is due at 20.
    fn wait_against_upkeep(wait: fn(&Both), upkeep: fn(&Both)) {
        loom::model(move || {
            let both = Arc::new((
                Deadlines::default(),
                Due::new(at(10), Duration::from_nanos(1000)),
            ));
            let other = both.clone();
            let thread = thread::spawn(move || wait(&other));
            upkeep(&both);
            thread.join().unwrap();
            assert!(both.1.is_due(at(20)), "nothing will wake it");
        });
    }

    #[test]
    fn a_task_that_waits_beside_upkeep_is_woken() {
        let wait = |(deadlines, due): &Both| deadlines.wait(due, at(20), &cx(), &mut None);
        wait_against_upkeep(wait, claim_and_wake);
    }

    /// Broken: lowers the time first and lists the task after that.
    #[test]
    #[should_panic = "nothing will wake it"]
    fn broken_variant_listed_last() {
        let wait = |(deadlines, due): &Both| {
            due.lower(at(20));
            deadlines.list(at(20), &cx(), &mut None);
        };
        wait_against_upkeep(wait, claim_and_wake);
    }

    /// Broken: upkeep looks at the list first and claims after that.
    #[test]
    #[should_panic = "nothing will wake it"]
    fn broken_variant_claimed_last() {
        let wait = |(deadlines, due): &Both| deadlines.wait(due, at(20), &cx(), &mut None);
        wait_against_upkeep(wait, |(deadlines, due)| {
            deadlines.wake(due, at(15));
            due.claim(at(15), at(65));
        });
    }
}
