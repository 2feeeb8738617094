//! Envoy's cases, by their numbers in reference/envoy.md, 3.2 and 3.4. Property tests cover the rest.

use super::*;
use proptest::prelude::*;

/// Zones A to H with this many healthy endpoints and callers each; `mine` is the caller's own.
fn zones(mine: char, callers: &str, upstream: &str) -> (Vec<char>, Vec<Zone>, u64, usize) {
    let parse = |text: &str| -> Vec<(char, u64)> {
        let part = |part: &str| {
            let (name, count) = part.split_at(1);
            (
                name.chars().next().expect("a letter"),
                count.parse().expect("a number"),
            )
        };
        text.split_whitespace().map(part).collect()
    };
    let (callers, upstream) = (parse(callers), parse(upstream));
    let callers_in = |name| {
        let found = callers.iter().find(|(zone, _)| *zone == name);
        found.map_or(0, |(_, count)| *count)
    };
    let zone = |&(name, count): &(char, u64)| Zone {
        is_mine: name == mine,
        callers: callers_in(name),
        hosts: count,
        eligible: count,
        eligible_count: count,
        ..Zone::default()
    };
    let names = upstream.iter().map(|(name, _)| *name).collect();
    let total = callers.iter().map(|(_, count)| count).sum();
    (
        names,
        upstream.iter().map(zone).collect(),
        total,
        callers.len(),
    )
}

/// Each zone's share in 1/10000, rounded down, where zones count.
fn shares_with(
    mine: char,
    callers: &str,
    upstream: &str,
    change: impl Fn(Callers) -> Callers,
) -> Option<Vec<(char, u64)>> {
    let (names, zones, total, caller_zones) = zones(mine, callers, upstream);
    let callers = change(Callers {
        total,
        zones: caller_zones,
        min_cluster_size: 1,
        force_local: None,
    });
    let mut shares = vec![0; zones.len()];
    divide(Rule::Callers(callers), &zones, &mut shares).then(|| {
        let all: u64 = shares.iter().sum();
        let parts = shares.iter().map(|&share| share * 10_000 / all);
        names.into_iter().zip(parts).collect()
    })
}

fn shares(mine: char, callers: &str, upstream: &str) -> Option<Vec<(char, u64)>> {
    shares_with(mine, callers, upstream, |callers| callers)
}

#[test]
fn case_34_local_as_far_as_it_has_and_the_rest_by_room() {
    // The local share is 3750; the rest is divided by 2084 : 2084 : 1250 of 5418.
    let rest = |room: u64| 6250 * room / 5418;
    let expected = [
        ('A', 3750),
        ('C', rest(2084)),
        ('D', rest(2084)),
        ('E', rest(1250)),
    ];
    assert_eq!(shares('A', "A2 B2 C1 D1", "A1 C3 D3 E1").unwrap(), expected);
}

#[test]
fn case_36_direct_and_from_a_zone_without_endpoints() {
    let direct = shares('A', "A1 B1", "A1 C1").unwrap();
    assert_eq!(direct, [('A', 10_000), ('C', 0)]);
    assert_eq!(
        shares('B', "A1 B1", "A1 C1").unwrap(),
        [('A', 0), ('C', 10_000)]
    );
}

#[test]
fn case_38_callers_and_endpoints_share_no_zone() {
    let expected = [('D', 3333), ('E', 3333), ('F', 3333)];
    assert_eq!(shares('A', "A1 B1 C1", "D1 E1 F1").unwrap(), expected);
}

#[test]
fn case_40_some_zones_are_on_one_side_only() {
    // Room: 833, 1666, 833, 1666 of 4998.
    let of = |room: u64| 10_000 * room / 4998;
    let expected = [
        ('C', of(833)),
        ('E', of(1666)),
        ('F', of(833)),
        ('H', of(1666)),
    ];
    assert_eq!(shares('A', "A1 C1 D1 F1", "C2 E1 F2 H1").unwrap(), expected);
}

#[test]
fn case_41_too_few_endpoints_are_not_divided() {
    let least = |min_cluster_size| {
        shares_with('A', "A1 B1 C1", "A1 B1 C1", |callers| Callers {
            min_cluster_size,
            ..callers
        })
    };
    assert_eq!(least(7), None);
    assert_eq!(least(1).unwrap()[0], ('A', 10_000));
}

#[test]
fn case_42_my_zone_is_forced_from_so_many_endpoints_on() {
    let forced = |force_local| {
        shares_with('A', "A1 B1", "A1 B1 C1", |callers| Callers {
            force_local,
            ..callers
        })
        .unwrap()
    };
    assert_eq!(forced(Some(2)), [('A', 6666), ('B', 0), ('C', 3334)]);
    assert_eq!(forced(Some(2)), forced(None));
    assert_eq!(forced(Some(1)), [('A', 10_000), ('B', 0), ('C', 0)]);
}

#[test]
fn case_44_one_zone_on_either_side_is_not_divided() {
    assert_eq!(shares('A', "A1 B1", "A3"), None);
    assert_eq!(shares('A', "A2", "A1 B1"), None);
}

#[test]
fn rounding_alone_gives_no_zone_room() {
    // Each zone has a third of the endpoints, 3333; of the callers, 3334 and twice 3333. Envoy then draws from all
    // zones.
    let seen = shares('A', "A3334 B3333 C3333", "A1 B1 C1").unwrap();
    assert_eq!(seen, [('A', 9997), ('B', 1), ('C', 1)]);
}

fn weighted(parts: &[(u32, u64, u64)]) -> Vec<u64> {
    let zone = |&(weight, hosts, eligible): &(u32, u64, u64)| Zone {
        weight,
        hosts,
        eligible,
        ..Zone::default()
    };
    let zones: Vec<_> = parts.iter().map(zone).collect();
    let mut shares = vec![0; zones.len()];
    let overprovisioning = 140;
    divide(Rule::Weights { overprovisioning }, &zones, &mut shares);
    shares
}

#[test]
fn cases_61_to_63_shares_by_weight() {
    const ALL: u64 = 1_000_000;
    // 61: all are healthy.
    assert_eq!(weighted(&[(1, 1, 1), (2, 1, 1)]), [ALL, 2 * ALL]);
    let third = weighted(&[(1, 1, 1), (0, 1, 1), (1, 1, 1)]);
    assert_eq!(third, [ALL, 0, ALL]);
    assert_eq!(weighted(&[(1, 3, 3); 3]), [ALL; 3]);
    // 62: no zone gets any.
    assert_eq!(weighted(&[(0, 1, 1); 2]), [0, 0]);
    assert_eq!(weighted(&[(1, 2, 0); 2]), [0, 0]);
    // 63: the shares of the counts over ten seeds.
    let of_ten = [(1, 5, 5), (6, 5, 5), (3, 5, 5)];
    assert_eq!(weighted(&of_ten), [ALL, 6 * ALL, 3 * ALL]);
    // By the eligible share: 140 % of a half, and all for five sevenths.
    assert_eq!(weighted(&[(1, 2, 1), (1, 7, 5)]), [700_000, ALL]);
}

fn preferred(mine: Option<(u64, u64)>, others: &[(u64, u64)]) -> Vec<u64> {
    let zone = |is_mine, &(hosts, eligible): &(u64, u64)| Zone {
        is_mine,
        hosts,
        eligible,
        ..Zone::default()
    };
    let mut zones: Vec<_> = mine.iter().map(|it| zone(true, it)).collect();
    zones.extend(others.iter().map(|it| zone(false, it)));
    let mut shares = vec![0; zones.len()];
    let overprovisioning = 140;
    divide(Rule::Prefer { overprovisioning }, &zones, &mut shares);
    let all: u64 = shares.iter().sum();
    shares
        .iter()
        .map(|&share| share * 100 / all.max(1))
        .collect()
}

#[test]
fn my_zone_gets_what_it_carries_and_the_others_share_by_eligible_endpoints() {
    assert_eq!(preferred(Some((4, 4)), &[(4, 4)]), [100, 0]);
    assert_eq!(preferred(Some((4, 3)), &[(4, 4)]), [100, 0]);
    assert_eq!(preferred(Some((4, 2)), &[(4, 4), (4, 2)]), [70, 20, 10]);
    assert_eq!(preferred(Some((4, 0)), &[(4, 4), (4, 0)]), [0, 100, 0]);
    // No other zones, or no endpoints in the caller's own.
    assert_eq!(preferred(Some((4, 1)), &[(4, 0)]), [100, 0]);
    assert_eq!(preferred(None, &[(4, 3), (4, 1)]), [75, 25]);
    assert_eq!(preferred(Some((4, 0)), &[(4, 0)]), [0, 0]);
}

#[test]
fn the_largest_numbers_there_are_do_not_overflow() {
    let most = 1_000_000 * u64::from(u32::MAX);
    let zone = Zone {
        is_mine: true,
        callers: u64::from(u32::MAX),
        weight: u32::MAX,
        hosts: most,
        eligible: most,
        eligible_count: 1_000_000,
    };
    let zones = [
        zone,
        Zone {
            is_mine: false,
            ..zone
        },
        Zone {
            is_mine: false,
            ..zone
        },
    ];
    let mut shares = [0; 3];
    let overprovisioning = u32::MAX;
    let callers = Callers {
        total: 3 * u64::from(u32::MAX),
        zones: 3,
        min_cluster_size: 6,
        force_local: None,
    };
    for rule in [
        Rule::Prefer { overprovisioning },
        Rule::Callers(callers),
        Rule::Weights { overprovisioning },
    ] {
        assert!(divide(rule, &zones, &mut shares), "{rule:?}");
    }
}

/// The sum of the shares would overflow: each share is nearly 2^52.
#[test]
fn many_heavy_zones_whose_shares_overflow_get_equal_loads() {
    let zone = Zone {
        weight: u32::MAX,
        hosts: 1,
        eligible: 1,
        ..Zone::default()
    };
    let (zones, mut shares) = (vec![zone; 5_000], vec![0; 5_000]);
    let overprovisioning = 140;
    let rule = Rule::Weights { overprovisioning };
    assert!(divide(rule, &zones, &mut shares));
    let all: u128 = shares.iter().map(|&share| u128::from(share)).sum();
    assert!(u64::try_from(all).is_ok(), "{all}");
    assert!(shares.iter().all(|&share| share == shares[0] && share > 0));
}

fn any_zones() -> impl Strategy<Value = Vec<Zone>> {
    let zone = (0u64..50, 0u64..50, 0u32..9, 0u64..20);
    (prop::collection::vec(zone, 1..9), 0usize..12).prop_map(|(zones, mine)| {
        let zone = |(at, (hosts, callers, weight, out)): (usize, _)| Zone {
            is_mine: at == mine,
            callers,
            weight,
            hosts: hosts + out,
            eligible: hosts,
            eligible_count: hosts,
        };
        zones.into_iter().enumerate().map(zone).collect()
    })
}

proptest! {
    /// A zone without an eligible endpoint gets nothing, whatever the rule, and some zone gets load where any can.
    #[test]
    fn only_zones_with_eligible_endpoints_get_load(zones in any_zones(), which in 0usize..3, overprovisioning in 1u32..1000) {
        let callers = Callers {
            total: zones.iter().map(|zone| zone.callers).sum(),
            zones: zones.iter().filter(|zone| zone.callers > 0).count(),
            min_cluster_size: 0,
            force_local: None,
        };
        let rule = [Rule::Prefer { overprovisioning }, Rule::Callers(callers), Rule::Weights { overprovisioning }][which];
        let mut shares = vec![0; zones.len()];
        let counts = divide(rule, &zones, &mut shares);
        prop_assert_eq!(counts, shares.iter().any(|&share| share > 0));
        for (share, zone) in shares.iter().zip(&zones) {
            prop_assert!(*share == 0 || zone.eligible > 0, "{:?} {:?}", shares, zones);
        }
        let could = match rule {
            Rule::Weights { .. } => zones.iter().any(|zone| zone.weight > 0 && zone.eligible > 0),
            Rule::Callers(_) if zones.len() < 2 || callers.zones < 2 => false,
            _ => zones.iter().any(|zone| zone.eligible > 0),
        };
        prop_assert_eq!(counts, could);
    }

    /// The purpose of zone-aware routing: where each caller follows its rule and all send equally many requests, each
    /// endpoint of the fleet gets the same load. Shares are cut off at 1/10000, so a zone with a share of u of the
    /// endpoints is off by a few ten thousandths for each zone.
    #[test]
    fn all_callers_together_load_all_endpoints_alike(hosts in prop::collection::vec((1u64..50, 1u64..50), 2..7)) {
        let zones_of = |mine: usize| -> Vec<Zone> {
            let zone = |(at, &(hosts, callers)): (usize, &(u64, u64))| Zone {
                is_mine: at == mine, callers, hosts, eligible: hosts, eligible_count: hosts, ..Zone::default()
            };
            hosts.iter().enumerate().map(zone).collect()
        };
        let callers = Callers {
            total: hosts.iter().map(|it| it.1).sum(), zones: hosts.len(), min_cluster_size: 0, force_local: None,
        };
        let mut load = vec![0.0; hosts.len()];
        for (mine, &(_, count)) in hosts.iter().enumerate() {
            let mut shares = vec![0; hosts.len()];
            prop_assert!(divide(Rule::Callers(callers), &zones_of(mine), &mut shares));
            let all: u64 = shares.iter().sum();
            for (load, share) in load.iter_mut().zip(&shares) {
                *load += count as f64 / callers.total as f64 * *share as f64 / all as f64;
            }
        }
        let total: u64 = hosts.iter().map(|it| it.0).sum();
        for (load, (hosts, _)) in load.iter().zip(&hosts) {
            let fair = *hosts as f64 / total as f64;
            prop_assert!((load - fair).abs() < 0.002 * zones_of(0).len() as f64, "{} for {}", load, fair);
        }
    }
}

/// A million endpoints of the largest weight: half of the caller's zone still carries 70 %.
#[test]
fn weights_beyond_what_products_hold_keep_their_proportions() {
    let weight = u64::from(u32::MAX);
    let zone = |is_mine, hosts: u64, eligible: u64| Zone {
        is_mine,
        hosts: hosts * weight,
        eligible: eligible * weight,
        eligible_count: eligible,
        ..Zone::default()
    };
    let zones = [zone(true, 10, 5), zone(false, 999_990, 999_990)];
    let mut shares = [0; 2];
    let rule = Rule::Prefer {
        overprovisioning: 140,
    };
    assert!(divide(rule, &zones, &mut shares));
    let mine = shares[0] as f64 / shares.iter().map(|&share| share as f64).sum::<f64>();
    assert!((mine - 0.7).abs() < 1e-3, "{mine}");
}
