use proptest::prelude::*;

use super::*;

#[test]
fn a_full_bucket_counts_no_more() {
    let recent = Recent::new();
    let full = Counts::of_bucket(COUNTS_MASK);
    // ORDERING: Relaxed, both. One thread.
    recent.buckets[0].store(COUNTS_MASK, Ordering::Relaxed);
    recent.sum.0.store(full.as_sum(), Ordering::Relaxed);
    recent.add(Tick::ZERO, Event::Request);
    assert!(!recent.add_if(Tick::ZERO, Event::Secondary, |_| true));
    assert_eq!(recent.counts(Tick::ZERO), full);
    let later = Tick::from_nanos(BUCKETS * BUCKET_NANOS);
    assert_eq!(recent.counts(later), Counts::default());
}

proptest! {
    /// Compares with a list of seconds. The start at 0 covers windows that begin with the clock: there, a full window
    /// was once forgotten all at once.
    #[test]
    fn the_last_ten_seconds_count(
        start in prop_oneof![Just(0u64), 0u64..30, any::<u32>().prop_map(u64::from)],
        steps in prop::collection::vec(0u64..3_000, 1..80),
    ) {
        let recent = Recent::new();
        let mut millis = start * 1_000;
        let mut seconds = Vec::new();
        for step in steps {
            millis += step;
            let now = Tick::from_nanos(millis * 1_000_000);
            recent.add(now, Event::Request);
            seconds.push(millis / 1_000);
            let last = seconds.iter().filter(|&&second| second + BUCKETS > millis / 1_000);
            prop_assert_eq!(recent.counts(now).requests, last.count() as u64);
        }
    }

    /// Whatever the clock does, the sum equals what the buckets hold.
    #[test]
    fn the_sum_is_right_at_any_time(events in prop::collection::vec((any::<u64>(), any::<bool>(), 0u32..60), 1..80)) {
        let recent = Recent::new();
        for (at, other, shift) in events {
            let now = Tick::from_nanos(at >> shift);
            if other {
                recent.add_if(now, Event::Secondary, |counts| counts.secondary < 2 + counts.requests / 2);
            } else {
                recent.add(now, Event::Request);
            }
            let mut held = Counts::default();
            for bucket in &recent.buckets {
                // ORDERING: Relaxed, both. One thread.
                let counts = Counts::of_bucket(bucket.load(Ordering::Relaxed));
                held.requests += counts.requests;
                held.secondary += counts.secondary;
            }
            prop_assert_eq!(Counts::of_sum(recent.sum.0.load(Ordering::Relaxed)), held);
        }
    }
}
