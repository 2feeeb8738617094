//! Room under the cap on ejections.

use std::time::Duration;

use crate::health::{HOPELESS, first_time};
use crate::shared::Shared;
use crate::time::Tick;

/// Decides when to bring the probes of ejected endpoints forward because another endpoint should be ejected but the cap
/// is reached, or because most requests fail. They are brought forward at once, again after the base ejection time, and
/// then after twice as long each time, since with more dead endpoints than the cap allows every probe is a failed
/// request. Each time they are due after a quarter of the base ejection time at the latest. While nearly all requests
/// fail, a probe costs hardly anything, and they are brought forward each quarter of the base ejection time.
#[derive(Debug, Default)]
pub(super) struct CapPressure {
    next: Option<(Tick, Duration)>,
}

impl CapPressure {
    /// Whether probes are to be brought forward now. If so, the next time is set.
    pub(super) fn claim_room(&mut self, shared: &Shared, now: Tick) -> bool {
        let overflowed = |within| shared.rates.has_overflowed(within, now);
        let base = shared.ejection.base_ejection_time;
        let lately = base.max(2 * shared.interval());
        // The back-off ends when there was no cause for as long as the last wait, and for at least the window.
        let window = shared.ejection.window;
        self.next = (self.next).filter(|(_, wait)| overflowed(window.max(*wait)));
        // A time further ahead was set by a clock that has gone back since.
        self.next = (self.next).filter(|(next, wait)| *next <= now.after(*wait));
        let quarter = first_time(&shared.ejection, true);
        let nearly_all_fail = shared.common_error_rate(now) > f64::from(HOPELESS);
        let is_due = self.next.is_none_or(|(next, wait)| match nearly_all_fail {
            true => now.after(wait) >= next.after(quarter.min(wait)),
            false => now >= next,
        });
        let is_off = shared.ejection.spare_capacity_percent >= 100;
        if is_off || !is_due || !overflowed(lately) {
            return false;
        }
        let wait = match nearly_all_fail {
            true => quarter,
            false => self.next.map_or(base, |(_, wait)| base.max(2 * wait)),
        };
        let wait = wait.min(shared.longest_ejection());
        self.next = Some((now.after(wait), wait));
        true
    }
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use crate::options::MemberId;
    use crate::shared::Own;

    /// At once, then after two seconds and twice as long each time, for as long as ejections meet the cap. At once
    /// again after a time in which none did.
    #[test]
    fn room_is_made_less_and_less_often() {
        let (shared, mut cap_pressure) = (Shared::alone(), CapPressure::default());
        let mut made = Vec::new();
        for second in 0..200u64 {
            let now = Tick::from_nanos(second * 1_000_000_000);
            if !(40..120).contains(&second) {
                shared.rates.note_overflow(now);
            }
            if cap_pressure.claim_room(&shared, now) {
                made.push(second);
            }
        }
        assert_eq!(made, [0, 2, 6, 14, 30, 120, 122, 126, 134, 150, 182]);
    }

    /// Each half second, a quarter of the base ejection time, while nearly all requests fail: from the moment on at
    /// which they do, and until then less and less often.
    #[test]
    fn room_is_made_without_a_pause_while_nothing_else_helps() {
        let (shared, mut cap_pressure) = (Shared::alone(), CapPressure::default());
        let mut made = Vec::new();
        for millis in (0..14_000).step_by(100) {
            let now = Tick::from_nanos(millis * 1_000_000);
            if (8_000..10_000).contains(&millis) {
                shared.rates.publish(0.9, 3, 3);
                for fault in 0..50 {
                    (shared.shard_state(0)).count_fault(MemberId::new(1 + fault % 3), now);
                }
                shared.usual_now(0, Own::OUT, now);
                shared.note_common(0, now);
            }
            shared.rates.note_overflow(now);
            if cap_pressure.claim_room(&shared, now) {
                made.push(millis);
            }
        }
        // They are taken to fail for one tenth of the window more. The next wait is the base time again.
        let fast = (8_000..=11_000).step_by(500);
        let expected = [0, 2_000, 6_000].into_iter().chain(fast).chain([13_000]);
        assert!(expected.eq(made.iter().copied()), "{made:?}");
    }

    /// A clock that has gone back an hour does not delay it by an hour. What met the cap before that is forgotten.
    #[test]
    fn room_is_made_after_a_clock_that_has_gone_back() {
        let at = |second: u64| Tick::from_nanos(second * 1_000_000_000);
        let (shared, mut cap_pressure) = (Shared::alone(), CapPressure::default());
        shared.rates.note_overflow(at(7_200));
        assert!(cap_pressure.claim_room(&shared, at(7_200)));
        assert!(!cap_pressure.claim_room(&shared, at(3_600)));
        shared.rates.note_overflow(at(3_601));
        assert!(cap_pressure.claim_room(&shared, at(3_601)));
        assert!(!cap_pressure.claim_room(&shared, at(3_602)));
    }
}
