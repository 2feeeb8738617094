//! The split against Envoy's numbers, and against a model of its rule for n levels.

use super::*;
use proptest::prelude::*;

/// The share of each level by Envoy's rule, without its integer rounding: in order of priority, each level takes what
/// is left of all requests, up to its own health as a share of the total health.
fn by_levels(factor: f64, availability: &[f64]) -> Vec<f64> {
    let health: Vec<f64> = availability
        .iter()
        .map(|share| (factor * share).min(1.0))
        .collect();
    let total = health.iter().sum::<f64>().min(1.0);
    let mut left = 1.0;
    let part = |health: &f64| {
        let part = f64::min(left, health / total);
        left -= part;
        part
    };
    health.iter().map(part).collect()
}

fn split(factor: f64, preferred: f64, spare: f64) -> Split {
    Split::new(factor, preferred, || spare)
}

/// Percent to each of three clusters under `Failover(Failover(a, b), c)`.
fn nested(factor: f64, [a, b, c]: [f64; 3]) -> [f64; 3] {
    let both = (a + b).min(1.0);
    let (outer, inner) = (split(factor, both, c), split(factor, a, b));
    let first = outer.preferred * inner.preferred;
    [first, outer.preferred - first, 1.0 - outer.preferred]
}

#[test]
fn two_levels_share_as_envoys_tests_say() {
    // Envoy's cases by number: hosts and healthy hosts of each level, factor in percent, percent to the first level.
    // Envoy's integers are within one of ours.
    let cases = [
        (1, (4, 2), (4, 2), 140, 70.0),
        (2, (4, 2), (4, 2), 100, 50.0),
        (3, (1, 1), (1, 1), 140, 100.0),
        (4, (4, 1), (2, 2), 140, 35.0),
        (5, (4, 1), (4, 1), 140, 50.0),
        (22, (10, 6), (1, 1), 100, 60.0),
        (23, (10, 4), (1, 1), 100, 40.0),
        (26, (100, 72), (100, 72), 140, 100.0),
        (26, (100, 71), (100, 71), 140, 99.0),
        (26, (100, 50), (100, 60), 140, 70.0),
        // At 5 % and 65 %, Envoy's documentation says 7 and 93, its code 8 and 92.
        (0, (100, 5), (100, 65), 140, 8.0),
    ];
    for (case, first, second, factor, expected) in cases {
        let share = |(hosts, healthy): (u32, u32)| f64::from(healthy) / f64::from(hosts);
        let split = split(f64::from(factor) / 100.0, share(first), share(second));
        let percent = 100.0 * split.preferred;
        assert!((percent - expected).abs() < 1.0, "{case}: {percent}");
    }
}

#[test]
fn three_levels_nested_to_the_left_share_as_envoys_tests_say() {
    let cases = [
        (9, [0.5, 0.5, 0.5], [70.0, 30.0, 0.0]),
        (11, [0.2, 0.2, 0.2], [34.0, 33.0, 33.0]),
        (12, [0.0, 0.0, 1.0], [0.0, 0.0, 100.0]),
        (13, [0.0, 0.0, 0.8], [0.0, 0.0, 100.0]),
        // Without Envoy's panic, in which it ignores health.
        (0, [0.25, 0.25, 0.2], [37.0, 35.0, 28.0]),
    ];
    for (case, availability, expected) in cases {
        for (part, expected) in nested(1.4, availability).into_iter().zip(expected) {
            let off = (100.0 * part - expected).abs();
            assert!(off < 2.0, "{case}: {part} for {expected}");
        }
    }
}

#[test]
fn with_nothing_available_each_cluster_gets_half() {
    assert_eq!(split(1.4, 0.0, 0.0).preferred, 0.5);
    assert!(!split(1.4, 0.0, 0.0).is_enough);
    // Three tenths and seven tenths add up to one.
    assert!(split(1.0, 0.3, 0.7).is_enough && split(1.0, 0.7, 0.1 + 0.2).is_enough);
}

#[test]
fn the_availability_of_a_users_cluster_is_clamped() {
    for (said, meant) in [
        (f64::NAN, 0.0),
        (-1.0, 0.0),
        (2.0, 1.0),
        (f64::INFINITY, 1.0),
    ] {
        assert_eq!(split(1.4, said, said), split(1.4, meant, meant));
    }
}

#[test]
fn the_error_is_of_the_cluster_that_was_closer_to_a_pick() {
    use PickError::{AllAvoided, AllEjected, Empty, Saturated, TooFewEligible};
    let cases = [
        (AllEjected, Empty, AllEjected),
        (Empty, AllEjected, AllEjected),
        (TooFewEligible, AllEjected, TooFewEligible),
        (AllEjected, AllAvoided, AllAvoided),
        (Saturated, TooFewEligible, Saturated),
        (AllAvoided, Saturated, Saturated),
        (Empty, Empty, Empty),
    ];
    for (first, second, expected) in cases {
        assert_eq!(closer_error(first, second), expected);
    }
}

proptest! {
    #[test]
    fn two_levels_share_by_envoys_rule(factor in 0.01f64..10.0, a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
        prop_assume!(a + b > 0.0);
        let split = split(factor, a, b);
        prop_assert!((split.preferred - by_levels(factor, &[a, b])[0]).abs() < 1e-6);
        prop_assert_eq!(split.is_enough, factor * a + factor * b >= 1.0 - 1e-9);
    }

    #[test]
    fn three_levels_nested_to_the_left_share_by_envoys_rule(
        factor in 1.0f64..10.0, a in 0.0f64..=1.0, b in 0.0f64..=1.0, c in 0.0f64..=1.0,
    ) {
        prop_assume!(a > 0.0 && b > 0.0 && c > 0.0);
        let model = by_levels(factor, &[a, b, c]);
        for (part, expected) in nested(factor, [a, b, c]).into_iter().zip(model) {
            prop_assert!((part - expected).abs() < 1e-6, "{part} for {expected}");
        }
    }

    /// More eligible endpoints of the preferred cluster never lower its share; more of the spare one never raise it.
    #[test]
    fn more_eligible_endpoints_never_lower_a_clusters_share(a in 0.0f64..=1.0, b in 0.0f64..=1.0, more in 0.0f64..=1.0) {
        let before = split(1.4, a, b).preferred;
        prop_assert!(split(1.4, (a + more).min(1.0), b).preferred >= before - 1e-9);
        prop_assert!(split(1.4, a, (b + more).min(1.0)).preferred <= before + 1e-9);
    }
}
