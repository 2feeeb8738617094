//! Tests of the rule alone, against modelled servers, and of the words that requests update.

use super::*;
use proptest::prelude::*;

const MILLI: f32 = 1e6;
const TENTH: Duration = Duration::from_millis(100);

fn rule() -> AdaptiveLimit {
    AdaptiveLimit::default()
}

/// A tenth of a second under pressure, with this mean latency in milliseconds.
fn pressed(mean: f32) -> Sampled {
    Sampled {
        samples: 100,
        mean: mean * MILLI,
        most: u32::MAX,
        length: TENTH,
        ..Sampled::default()
    }
}

fn state(limit: u32, usual: f32) -> LimitState {
    let usual = usual * MILLI;
    LimitState { limit, usual }
}

#[test]
fn envoy_case_120_the_gradient() {
    assert_eq!(
        rule().next_state(state(100, 10.0), &pressed(25.0)).limit,
        57
    );
    assert_eq!(rule().next_state(state(57, 10.0), &pressed(10.0)).limit, 79);
}

#[test]
fn the_limit_does_not_rise_while_it_holds_no_request_back() {
    let half = |most| Sampled {
        most,
        ..pressed(10.0)
    };
    assert_eq!(rule().next_state(state(57, 10.0), &half(28)).limit, 57);
    assert_eq!(rule().next_state(state(57, 10.0), &half(29)).limit, 79);
    let slow = Sampled {
        most: 28,
        ..pressed(25.0)
    };
    assert!(
        rule().next_state(state(57, 10.0), &slow).limit < 57,
        "it may fall"
    );
}

#[test]
fn the_limit_shrinks_by_half_of_the_overloaded_share() {
    let ended = |samples, overloaded| Sampled {
        samples,
        overloaded,
        ..pressed(12.5)
    };
    let next = |sampled| rule().next_state(state(400, 10.0), &sampled).limit;
    // 400 · (1 − share / 2), plus its square root.
    assert_eq!(next(ended(100, 0)), 420);
    assert_eq!(next(ended(300, 100)), 350 + 18);
    assert_eq!(next(ended(0, 7)), 200 + 14);
}

#[test]
fn a_few_latencies_do_not_change_the_limit() {
    let few = Sampled {
        samples: ENOUGH - 1,
        overloaded: 1,
        ..pressed(1000.0)
    };
    let next = rule().next_state(state(100, 10.0), &few);
    assert_eq!(next.usual, 10.0 * MILLI);
    assert!(next.limit > 100, "one in 25 is less than the step up");
}

proptest! {
    /// Whatever is sampled, the limit stays within its bounds and does not rise without demand, and numbers stay
    /// finite.
    #[test]
    fn the_limit_stays_within_its_bounds(
        limit in prop_oneof![3u32..=30, 3u32..=1000],
        usual in prop_oneof![Just(0.0f32), 1e-3f32..1e12],
        samples in 0u64..=8192,
        mean in prop_oneof![Just(0.0f32), 1e-3f32..1e12],
        overloaded in prop_oneof![Just(0u32), 0u32..100, any::<u32>()],
        most in prop_oneof![0u32..=15, 0u32..=1000, any::<u32>()],
        length: u64,
    ) {
        let length = Duration::from_nanos(length);
        let sampled = Sampled { samples, mean, overloaded, most, length };
        let next = rule().next_state(LimitState { limit, usual }, &sampled);
        prop_assert!((3..=1000).contains(&next.limit));
        prop_assert!(2 * u64::from(most) > u64::from(limit) || next.limit <= limit);
        prop_assert!(next.usual.is_finite() && next.usual >= 0.0);
        // No look more than doubles the limit and then adds the square root.
        prop_assert!(next.limit as f32 <= 2.0 * limit as f32 + (2.0 * limit as f32).sqrt() + 1.0);
        prop_assert!(next.limit as f32 >= (limit as f32 / 4.0).min(3.0));
    }
}

/// A server that works on `slots` requests at once for 10 ms each, and has as many in flight as the limit allows.
fn overload(state: LimitState, slots: f32, looks: usize) -> LimitState {
    (0..looks).fold(state, |state, _| {
        let queue = (state.limit as f32 / slots).max(1.0);
        rule().next_state(state, &pressed(10.0 * queue))
    })
}

#[test]
fn the_limit_settles_where_the_queue_is_as_long_as_the_buffer_allows() {
    let settled = overload(state(20, 10.0), 50.0, 600);
    // L · g = 1.25 · 50, and its square root is 7.9.
    assert!((65..=80).contains(&settled.limit), "{settled:?}");
    let from_above = overload(state(1000, 10.0), 50.0, 600);
    assert!((65..=80).contains(&from_above.limit), "{from_above:?}");
}

/// As documented: threefold in half an hour, and a pause of half a minute repairs it.
#[test]
fn half_an_hour_of_overload_and_a_pause() {
    let drifted = overload(state(70, 10.0), 50.0, 18_000);
    assert!((150..=240).contains(&drifted.limit), "{drifted:?}");
    let quiet = Sampled {
        most: 10,
        ..pressed(10.0)
    };
    let paused = (0..300).fold(drifted, |state, _| rule().next_state(state, &quiet));
    let again = overload(paused, 50.0, 100);
    assert!((65..=85).contains(&again.limit), "{again:?}");
}

/// Every latency doubles for good, without a queue: the limit falls, and recovers within half an hour.
#[test]
fn a_lasting_slowdown_becomes_the_usual_latency_in_the_end() {
    let slower =
        |state, looks| (0..looks).fold(state, |state, _| rule().next_state(state, &pressed(20.0)));
    let soon = slower(state(100, 10.0), 100);
    assert!((3..10).contains(&soon.limit), "{soon:?}");
    let late = slower(soon, 18_000);
    assert!(late.limit >= 100, "{late:?}");
}

/// Means of 25 exponential latencies stray by a fifth. Without a queue, that must not look like one: the limit still
/// rises, only more slowly.
#[test]
fn noise_is_not_taken_for_a_queue() {
    let mut random = 7u64;
    let mut uniform = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut mean = || {
        let sum: f64 = (0..25).map(|_| -(1.0 - uniform()).ln()).sum();
        (10.0 * sum / 25.0) as f32
    };
    let after = |state: LimitState, looks, mean: &mut dyn FnMut() -> f32| {
        (0..looks).fold(state, |state, _| rule().next_state(state, &pressed(mean())))
    };
    let late = after(state(20, 10.0), 6_000, &mut mean);
    assert!(late.usual > 7.0 * MILLI, "{late:?}");
    assert!(late.limit > 60, "{late:?}");
}

fn at(millis: u64) -> Tick {
    Tick::from_nanos(millis * 1_000_000)
}

fn limit(word: &AtomicU32) -> u32 {
    // ORDERING: Relaxed. One thread.
    word.load(Ordering::Relaxed)
}

#[test]
fn a_look_comes_each_interval_once_there_are_enough_samples() {
    let (cell, word) = (Concurrency::new(rule()), AtomicU32::new(20));
    let ten = Duration::from_millis(10);
    let end = |now| cell.note_success(now, ten, 20, &word);
    (0..24).for_each(|_| end(at(1000)));
    assert_eq!(limit(&word), 20, "too few");
    end(at(1000));
    assert_eq!(limit(&word), 25 + 5, "20 · 1.25, and its root");
    (0..1000).for_each(|_| end(at(1099)));
    assert_eq!(limit(&word), 30, "too soon");
    end(at(1100));
    assert!(limit(&word) > 30);
}

#[test]
fn a_look_takes_all_that_was_collected() {
    let (cell, word) = (Concurrency::new(rule()), AtomicU32::new(100));
    cell.note_overloaded(at(1000), 100, &word);
    assert_eq!(limit(&word), 57);
    cell.note_overloaded(at(1050), 100, &word);
    assert_eq!(limit(&word), 57, "too soon");
    // Two overloaded, and nothing left over from the first look.
    cell.note_overloaded(at(1100), 1, &word);
    assert_eq!(limit(&word), 33);
}

#[test]
fn many_of_the_longest_do_not_carry() {
    let (cell, word) = (Concurrency::new(rule()), AtomicU32::new(20));
    // A first look, so that the next one is an interval later.
    cell.note_overloaded(at(1000), 1, &word);
    for _ in 0..3 * MANY {
        cell.note_success(at(1001), Duration::MAX, 1, &word);
    }
    // ORDERING: Relaxed. One thread.
    let latencies = cell.latencies.load(Ordering::Relaxed);
    assert_eq!(latencies >> SUM_BITS, MANY);
    assert_eq!(latencies & SUM_MASK, MANY * LONGEST);
}

#[test]
fn a_clock_that_has_gone_back_does_not_stop_the_looks() {
    let (cell, word) = (Concurrency::new(rule()), AtomicU32::new(100));
    cell.note_overloaded(Tick::from_nanos(u64::MAX), 100, &word);
    cell.note_overloaded(at(1000), 100, &word);
    assert_eq!(limit(&word), 33, "two looks");
    // Another thread's time may lag a little.
    cell.note_overloaded(at(999), 100, &word);
    assert_eq!(limit(&word), 33);
}
