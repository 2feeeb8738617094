//! Earliest deadline first for few members, by a look at all of them.

use super::order::Order;
use super::visits::Visits;

/// How many bits name a member.
const NAME: u32 = 4;

/// At most `N` members, and no more than 16. `N` is small enough for the compiler to unroll the scan.
///
/// Slots count from a lap's beginning, in few bits, so that several fit into a register.
#[derive(Debug)]
pub(super) struct Scan<const N: usize> {
    slot: u32,
    next: [Window; N],
    after: [Later; N],
}

/// Slots of a lap.
const LAP: u32 = 1 << 20;

/// The longest window. With three of them and a lap, a slot fits beside a member's name.
const LONGEST: u64 = 1 << 26;

/// The window of a visit.
#[derive(Clone, Copy, Debug)]
struct Window {
    begin: u32,
    /// The end, with the member in the lowest bits so that ties go to the lowest member.
    end: u32,
}

/// The visit after the next one, computed in advance so that the next slot does not wait for it. Its parts are those of
/// [`Visits`].
#[derive(Clone, Copy, Debug)]
struct Later {
    window: Window,
    whole: u32,
    part: u32,
    slots: u32,
    rest: u32,
    share: u32,
}

impl Window {
    const NONE: Self = Self {
        begin: u32::MAX,
        end: u32::MAX,
    };

    /// The same when `LAP` slots have gone by.
    fn a_lap_on(self) -> Self {
        if self.end == u32::MAX {
            return self;
        }
        Self {
            begin: self.begin.saturating_sub(LAP),
            end: self.end - (LAP << NAME),
        }
    }
}

impl Later {
    const NONE: Self = Self {
        window: Window::NONE,
        whole: 0,
        part: 0,
        slots: 0,
        rest: 0,
        share: 0,
    };

    fn new(member: u32, visits: &Visits) -> Self {
        Self {
            window: Window {
                begin: visits.begin as u32,
                end: (visits.end() as u32) << NAME | member,
            },
            whole: visits.whole as u32,
            part: visits.part as u32,
            slots: visits.slots as u32,
            rest: visits.rest as u32,
            share: visits.share as u32,
        }
    }

    /// As [`Visits::advance`].
    #[inline(always)]
    fn advance(&mut self) {
        let part = self.part + self.rest;
        let is_whole = part >= self.share;
        self.window.begin = self.whole;
        self.part = if is_whole { part - self.share } else { part };
        self.whole += self.slots + u32::from(is_whole);
        let end = self.whole + u32::from(self.part > 0);
        self.window.end = end << NAME | self.window.end & ((1 << NAME) - 1);
    }
}

/// Whether members with these visits can be scanned.
pub(super) fn can_scan(visits: &Visits) -> bool {
    visits.slots < LONGEST && visits.share < 1 << 31
}

impl<const N: usize> Scan<N> {
    pub(super) fn new(visits: impl Iterator<Item = Visits>) -> Self {
        let mut scan = Self {
            slot: 0,
            next: [Window::NONE; N],
            after: [Later::NONE; N],
        };
        for (member, visits) in (0..N as u32).zip(visits) {
            scan.after[member as usize] = Later::new(member, &visits);
            scan.advance(member);
        }
        scan
    }

    #[inline(always)]
    fn advance(&mut self, member: u32) {
        let after = &mut self.after[member as usize % N];
        self.next[member as usize % N] = after.window;
        after.advance();
    }

    #[cold]
    #[inline(never)]
    fn begin_lap(&mut self) {
        self.slot = 0;
        for (next, after) in self.next.iter_mut().zip(&mut self.after) {
            *next = next.a_lap_on();
            after.window = after.window.a_lap_on();
            after.whole = after.whole.saturating_sub(LAP);
        }
    }
}

impl<const N: usize> Order for Scan<N> {
    #[inline(always)]
    fn next(&mut self) -> u32 {
        let mut first = u32::MAX;
        for window in &self.next {
            // Without a branch, as which members may take a slot changes all the time.
            let end = if window.begin <= self.slot {
                window.end
            } else {
                u32::MAX
            };
            first = first.min(end);
        }
        let member = first & ((1 << NAME) - 1);
        self.advance(member);
        self.slot += 1;
        if self.slot == LAP {
            self.begin_lap();
        }
        member
    }

    fn withdraw(&mut self, member: u32) {
        self.next[member as usize] = Window::NONE;
    }
}
