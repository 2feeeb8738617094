//! Envoy's cases, by their numbers in reference/envoy.md, 3.1. Property tests cover the rest.

use super::*;
use proptest::prelude::*;

/// hosts, healthy, degraded.
type Hosts = (u64, u64, u64);

fn level((hosts, healthy, degraded): Hosts) -> Level {
    Level {
        hosts,
        healthy,
        degraded,
    }
}

fn loads(levels: &[Hosts], overprovisioning: u32, threshold: u32) -> Vec<Load> {
    let levels: Vec<_> = levels.iter().copied().map(level).collect();
    let rule = PanicRule::envoy().threshold_percent(threshold);
    let mut loads = vec![Load::default(); levels.len()];
    divide(&levels, &levels, overprovisioning, &rule, &mut loads);
    loads
}

/// The part that a draw from 0 to 99 falls in.
fn drawn(loads: &[Load], draw: u32) -> Option<(usize, bool)> {
    let mut end = 0;
    parts(loads).find_map(|(at, is_degraded, load)| {
        end += load;
        (draw < end).then_some((at, is_degraded))
    })
}

struct Case {
    number: &'static str,
    levels: &'static [Hosts],
    overprovisioning: u32,
    threshold: u32,
    healthy: &'static [u32],
    degraded: &'static [u32],
    panics: &'static [bool],
}

const fn case(
    number: &'static str,
    levels: &'static [Hosts],
    healthy: &'static [u32],
    degraded: &'static [u32],
    panics: &'static [bool],
) -> Case {
    Case {
        number,
        levels,
        overprovisioning: 140,
        threshold: 50,
        healthy,
        degraded,
        panics,
    }
}

const F: bool = false;
const T: bool = true;

/// Where the reference gives no degraded load, there are no degraded hosts.
const CASES: &[Case] = &[
    case("1", &[(4, 2, 0), (4, 2, 0)], &[70, 30], &[0, 0], &[F, F]),
    Case {
        overprovisioning: 100,
        ..case("2", &[(4, 2, 0), (4, 2, 0)], &[50, 50], &[0, 0], &[F, F])
    },
    case("3", &[(1, 1, 0), (1, 1, 0)], &[100, 0], &[0, 0], &[F, F]),
    case("4", &[(4, 1, 0), (2, 2, 0)], &[35, 65], &[0, 0], &[F, F]),
    case("5", &[(4, 1, 0), (4, 1, 0)], &[50, 50], &[0, 0], &[T, T]),
    case("9", &[(2, 1, 0); 3], &[70, 30, 0], &[0; 3], &[F; 3]),
    case("11", &[(5, 1, 0); 3], &[34, 33, 33], &[0; 3], &[T; 3]),
    case(
        "12",
        &[(5, 0, 0), (5, 0, 0), (5, 5, 0)],
        &[0, 0, 100],
        &[0; 3],
        &[F; 3],
    ),
    case(
        "13",
        &[(5, 0, 0), (5, 0, 0), (5, 4, 0)],
        &[0, 0, 100],
        &[0; 3],
        &[F; 3],
    ),
    case(
        "16",
        &[(5, 0, 0), (3, 0, 0), (2, 0, 0)],
        &[50, 30, 20],
        &[0; 3],
        &[T; 3],
    ),
    case(
        "21",
        &[(0, 0, 0), (6, 0, 0), (3, 0, 0)],
        &[0, 67, 33],
        &[0; 3],
        &[T; 3],
    ),
    case("26a", &[(100, 72, 0); 2], &[100, 0], &[0, 0], &[F, F]),
    case("26b", &[(100, 71, 0); 2], &[99, 1], &[0, 0], &[F, F]),
    case(
        "26c",
        &[(100, 50, 0), (100, 60, 0)],
        &[70, 30],
        &[0, 0],
        &[F, F],
    ),
    case("28a", &[(100, 71, 29)], &[99], &[1], &[F]),
    case("28b", &[(100, 25, 65)], &[35], &[65], &[F]),
    // Section 2, item 12: the code's numbers, not those of the docs.
    case(
        "2.12a",
        &[(100, 25, 0), (100, 25, 0), (100, 20, 0)],
        &[34, 33, 33],
        &[0; 3],
        &[T; 3],
    ),
    case(
        "2.12b",
        &[(100, 5, 0), (100, 65, 0)],
        &[8, 92],
        &[0, 0],
        &[T, F],
    ),
    // Section 2, item 11: threshold 0.
    Case {
        threshold: 0,
        ..case(
            "2.11a",
            &[(100, 5, 0), (100, 15, 0)],
            &[25, 75],
            &[0, 0],
            &[F, F],
        )
    },
    Case {
        threshold: 0,
        ..case(
            "2.11b",
            &[(4, 0, 0), (4, 0, 0)],
            &[100, 0],
            &[0, 0],
            &[F, F],
        )
    },
    Case {
        threshold: 0,
        ..case("33", &[(1, 0, 0)], &[100], &[0], &[F])
    },
    // Less than a percent: Envoy gives all to the first here too, which has no eligible host.
    Case {
        threshold: 0,
        ..case(
            "none",
            &[(4, 0, 0), (200, 1, 0)],
            &[0, 100],
            &[0, 0],
            &[F, F],
        )
    },
    // 6 hosts, 2 healthy: all are picked. 4 healthy: only those.
    case("31a", &[(6, 2, 0)], &[100], &[0], &[T]),
    case("31b", &[(6, 4, 0)], &[100], &[0], &[F]),
];

#[test]
fn envoys_cases() {
    for case in CASES {
        let loads = loads(case.levels, case.overprovisioning, case.threshold);
        let healthy: Vec<_> = loads.iter().map(|load| load.healthy).collect();
        let degraded: Vec<_> = loads.iter().map(|load| load.degraded).collect();
        let panics: Vec<_> = loads.iter().map(|load| load.panics).collect();
        assert_eq!(
            (&healthy[..], &degraded[..], &panics[..]),
            (case.healthy, case.degraded, case.panics),
            "case {}",
            case.number
        );
    }
}

/// The reference's case 19 is cut off. What case 20 says of it holds for three equal levels that cannot carry half.
#[test]
fn case_20_three_alike_below_the_threshold_share_evenly() {
    let expected = [34, 33, 33].map(|healthy| Load {
        healthy,
        degraded: 0,
        panics: true,
    });
    assert_eq!(loads(&[(5, 1, 0); 3], 140, 50), expected);
}

#[test]
fn cases_22_and_23_health_by_weight_panic_by_number() {
    let by = |weights: [Hosts; 2], hosts: [Hosts; 2]| {
        let mut loads = [Load::default(); 2];
        let (weights, hosts) = (weights.map(level), hosts.map(level));
        divide(&weights, &hosts, 100, &PanicRule::envoy(), &mut loads);
        loads.map(|load| (load.healthy, load.panics))
    };
    let second = (1, 1, 0);
    let first = by([(10, 6, 0), second], [(4, 2, 0), second]);
    assert_eq!(first, [(60, false), (40, false)]);
    let first = by([(10, 4, 0), second], [(2, 1, 0), second]);
    assert_eq!(first, [(40, false), (60, false)]);
}

#[test]
fn case_25_what_is_left_over_goes_to_the_first_that_is_healthy() {
    let could = |healthy, degraded| Load {
        healthy,
        degraded,
        panics: false,
    };
    let mut loads = [could(10, 20), could(20, 10), could(10, 0)];
    assert_eq!(split(&mut loads), 70);
    assert_eq!(loads, [could(16, 28), could(28, 14), could(14, 0)]);
}

#[test]
fn cases_29_and_30_a_draw_finds_its_priority() {
    let spilt = loads(&[(100, 50, 0), (100, 60, 0)], 140, 50);
    // Envoy draws from 1 to 100; here draws are from 0 to 99.
    assert_eq!(drawn(&spilt, 69), Some((0, false)));
    assert_eq!(drawn(&spilt, 70), Some((1, false)));
    assert_eq!(drawn(&spilt, 71), Some((1, false)));
    let degraded = loads(&[(3, 1, 2)], 140, 50);
    assert_eq!((degraded[0].healthy, degraded[0].degraded), (46, 54));
    assert_eq!(drawn(&degraded, 0), Some((0, false)));
    assert_eq!(drawn(&degraded, 50), Some((0, true)));
    assert_eq!(drawn(&degraded, 100), None);
}

#[test]
fn a_priority_that_panicked_goes_on_to_the_end_of_the_gap() {
    let levels = [(20, 11, 0), (20, 0, 0)].map(level);
    let mut loads = [Load::default(); 2];
    let mut now = |was: bool| {
        loads.iter_mut().for_each(|load| load.panics = was);
        divide(&levels, &levels, 140, &PanicRule::default(), &mut loads);
        loads.map(|load| load.panics)
    };
    // 11 of 20 are above 50 % and below 60 %. All together carry 77 %.
    assert_eq!(now(false), [false, true]);
    assert_eq!(now(true), [true, true]);
}

fn any_levels() -> impl Strategy<Value = Vec<Hosts>> {
    let level = (0u64..60, 0u64..60, 0u64..60);
    prop::collection::vec(level, 1..8).prop_map(|levels| {
        let level = |(healthy, degraded, out)| (healthy + degraded + out, healthy, degraded);
        levels.into_iter().map(level).collect()
    })
}

proptest! {
    #[test]
    fn loads_add_up_to_a_hundred(levels in any_levels(), overprovisioning in 1u32..1000, threshold in 0u32..=100) {
        let loads = loads(&levels, overprovisioning, threshold);
        prop_assert_eq!(loads.iter().map(|load| load.healthy + load.degraded).sum::<u32>(), 100);
    }

    /// Except for rounding and where all panic: if all together can carry the load, no priority gets more than it could
    /// carry, and no later priority gets any before the earlier ones have what they can carry.
    #[test]
    fn priorities_are_loaded_in_order_and_no_more_than_they_carry(levels in any_levels(), overprovisioning in 100u32..1000) {
        let loads = loads(&levels, overprovisioning, 0);
        let carries: Vec<_> = levels
            .iter()
            .map(|&it| level(it).carries(level(it).healthy, overprovisioning))
            .collect();
        let degraded = levels.iter().map(|&it| level(it).carries(level(it).degraded, overprovisioning));
        let total: u32 = carries.iter().copied().chain(degraded).sum();
        if total >= 100 {
            let mut left = 100;
            for (load, carries) in loads.iter().zip(carries) {
                prop_assert_eq!(load.healthy, left.min(carries));
                left -= load.healthy;
            }
        }
    }

    /// Compares with the same division in floating point, without rounding: each part is off by less than the number of
    /// parts.
    #[test]
    fn loads_are_close_to_the_unrounded_ones(levels in any_levels(), overprovisioning in 1u32..1000) {
        let loads = loads(&levels, overprovisioning, 0);
        let carries = |part: u64, it: Hosts| {
            if it.0 == 0 { 0.0 } else { (f64::from(overprovisioning) * part as f64 / it.0 as f64).min(100.0) }
        };
        let healthy: Vec<f64> = levels.iter().map(|&it| carries(it.1, it)).collect();
        let degraded: Vec<f64> = levels.iter().map(|&it| carries(it.2, it)).collect();
        let total: f64 = healthy.iter().chain(&degraded).sum();
        // Below a few percent, rounding changes what each carries by a large part of itself.
        prop_assume!(total >= 100.0);
        let mut left = 100.0f64;
        let parts = 2.0 * levels.len() as f64;
        for (load, carries) in loads.iter().map(|load| load.healthy).chain(loads.iter().map(|load| load.degraded)).zip(healthy.iter().chain(&degraded)) {
            let exact = left.min(*carries);
            left -= exact;
            prop_assert!((f64::from(load) - exact).abs() <= parts, "{} for {}", load, exact);
        }
    }

    #[test]
    fn a_priority_without_eligible_members_gets_no_load_unless_all_panic(levels in any_levels(), threshold in 0u32..=100) {
        let loads = loads(&levels, 140, threshold);
        let all = loads.iter().all(|load| load.panics) || levels.iter().all(|it| it.1 + it.2 == 0);
        for (load, it) in loads.iter().zip(&levels) {
            prop_assert!(all || it.1 > 0 || load.healthy == 0);
            prop_assert!(it.2 > 0 || load.degraded == 0);
        }
    }
}
