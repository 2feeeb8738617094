use super::*;
use proptest::prelude::*;

const MILLI: Duration = Duration::from_millis(1);

fn at(millis: u64) -> Tick {
    Tick::from_nanos(millis * 1_000_000)
}

fn known(latency: Duration) -> LatencyCell {
    let cell = LatencyCell::new();
    (0..NEW).for_each(|_| {
        cell.observe(at(0), latency, || None);
    });
    assert!(!cell.is_new() && !cell.is_reset());
    cell
}

#[test]
fn a_usual_answer_after_a_pause_means_that_the_endpoint_is_back() {
    let back = |usual: Option<u32>| {
        let later = at(IDLE_MILLIS as u64 + 1);
        let usual = || usual.map(|usual| usual * MILLI);
        known(10 * MILLI).observe(later, 10 * MILLI, usual).is_back
    };
    assert_eq!([Some(10), Some(1), None].map(back), [true, false, false]);
}

#[test]
fn a_first_answer_that_took_long_is_soon_forgotten() {
    let cell = LatencyCell::new();
    for (request, millis) in [160, 10, 10].into_iter().enumerate() {
        assert!(cell.is_new());
        cell.observe(at(request as u64), millis * MILLI, || None);
    }
    // In units of 10 ms, the roots are 4, 1 and 1: their mean is 2, and its square is 4.
    let after = cell.get().unwrap().as_secs_f64() / 0.010;
    assert!(!cell.is_new() && (3.9..4.1).contains(&after), "{after}");
}

#[test]
fn the_first_answer_after_a_reset_counts_for_all() {
    let cell = known(1_000 * MILLI);
    let shown = || cell.get().unwrap().as_secs_f64().mul_add(1_000.0, 0.5) as u32;
    cell.reset(None);
    assert_eq!((cell.is_new(), shown()), (true, 1_000));
    cell.reset(Some(20 * MILLI));
    assert_eq!((cell.is_new(), shown()), (true, 20));
    cell.observe(at(10), 10 * MILLI, || None);
    assert_eq!(shown(), 10);
    cell.reset(Some(20 * MILLI));
    assert_eq!(shown(), 10, "only down");
    let unknown = LatencyCell::new();
    unknown.reset(Some(MILLI));
    assert_eq!(unknown.get(), None);
}

#[test]
fn a_spike_does_not_own_the_estimate() {
    let cell = known(10 * MILLI);
    // At a hundred requests a second, one takes a second. The square root of 100 times is 10 times, and a hundredth
    // of it is taken: (1 + 0.09) squared.
    for request in 1..200 {
        cell.observe(at(request * 10), 10 * MILLI, || None);
    }
    cell.observe(at(2_000), 1_000 * MILLI, || None);
    let after = cell.get().unwrap();
    assert!(after > 11 * MILLI && after < 13 * MILLI, "{after:?}");
}

#[test]
fn the_estimate_follows_a_change_within_its_time_constant() {
    let cell = known(10 * MILLI);
    for request in 1..=40 {
        cell.observe(at(request * 100), 160 * MILLI, || None);
    }
    // After 4 s, two time constants, at most 0.2 of the old value is left. The result is 4 - 3 * 0.15, squared:
    // steps of 100 ms leave a little less than e^(-t).
    let after = cell.get().unwrap().as_secs_f64() / 0.010;
    assert!((12.0..14.0).contains(&after), "{after}");
}

#[test]
fn a_failure_never_lowers_the_estimate() {
    let cell = known(10 * MILLI);
    cell.raise(at(60_000), MILLI);
    assert!(cell.get().unwrap().abs_diff(10 * MILLI) < MILLI / 1000);
    cell.raise(at(60_000), 1_000 * MILLI);
    assert!(cell.get().unwrap() > 100 * MILLI);
    let unknown = LatencyCell::new();
    unknown.raise(at(0), MILLI);
    assert_eq!(unknown.get(), None);
}

#[test]
fn the_first_sample_is_half_of_the_estimate_where_the_usual_is_known() {
    let cell = LatencyCell::new();
    cell.observe(at(0), Duration::ZERO, || Some(4 * MILLI));
    assert!(cell.get().unwrap().abs_diff(MILLI) < MILLI / 100);
}

#[test]
fn an_idle_endpoint_returns_to_the_usual_not_to_zero() {
    let cell = known(100 * MILLI);
    for second in 1..200 {
        cell.settle(at(second * 1000), 5 * MILLI, Duration::from_secs(1));
    }
    let after = cell.get().unwrap();
    assert!(
        after >= 5 * MILLI - MILLI / 1000 && after < 6 * MILLI,
        "{after:?}"
    );
    let busy = known(100 * MILLI);
    busy.settle(at(999), 5 * MILLI, Duration::from_secs(1));
    assert_eq!(busy.get(), known(100 * MILLI).get());
}

#[test]
fn an_answer_like_the_others_after_a_long_time_counts_for_more() {
    let after = |was: u32, answer: u32| {
        let cell = known(was * MILLI);
        cell.observe(at(5_000), answer * MILLI, || Some(10 * MILLI));
        cell.get().unwrap().as_secs_f64() * 1e3
    };
    // It counts as recovered at once, however slow it was.
    for was in [40, 1_000] {
        assert!((after(was, 10) - 10.0).abs() < 0.01, "{}", after(was, 10));
    }
    // In square roots, three tenths of the way from 3.87 to 3.16 is 3.66, and half of the rest leaves 3.41.
    assert!((after(15, 10) - 11.6).abs() < 0.1, "{}", after(15, 10));
    // An endpoint that is still slow moves only three tenths of the way, from 31.6 to 6.3.
    assert!(after(1_000, 40) > 500.0);
}

#[test]
fn the_longest_duration_is_a_long_one_and_no_more() {
    let cell = known(Duration::MAX);
    let off = cell.get().unwrap().abs_diff(LONGEST);
    // An f32 keeps 24 bits of the root, so 23 of its square.
    assert!(off < 100 * MILLI, "{off:?} off");
    assert!(known(Duration::ZERO).get().unwrap() <= Duration::from_nanos(1));
}

#[test]
fn a_clock_ten_years_ahead_and_back_heals() {
    let cell = known(MILLI);
    cell.observe(at(10 * 365 * 86_400_000), 100 * MILLI, || None);
    (0..100).for_each(|second| {
        cell.observe(at(second * 1000), MILLI, || None);
    });
    assert!(cell.get().unwrap() < 2 * MILLI);
}

proptest! {
    /// Whatever the samples, the estimate stays between the smallest and the largest of them.
    #[test]
    fn the_estimate_stays_within_what_was_observed(samples in prop::collection::vec((0u64..100_000, 1u64..10_000_000), 1..50)) {
        let cell = LatencyCell::new();
        for &(millis, latency) in &samples {
            cell.observe(at(millis), Duration::from_nanos(latency), || None);
            let seen = nanos(cell.get().unwrap()) as f64;
            let least = samples.iter().map(|s| s.1).min().unwrap() as f64;
            let most = samples.iter().map(|s| s.1).max().unwrap() as f64;
            // An f32 keeps 24 bits: a relative error of 2^-23 per step, far below 1e-4 after 50 steps.
            prop_assert!(seen >= least * 0.9999 - 1.0 && seen <= most * 1.0001 + 1.0);
        }
    }
}
