use proptest::prelude::*;

use super::*;

const fn millis(millis: u64) -> Tick {
    Tick::from_nanos(millis * 1_000_000)
}

fn after(requests: u64, percent: u32, floor: u32) -> u64 {
    let budget = Budget::new(percent, floor);
    for _ in 0..requests {
        budget.deposit(millis(1));
    }
    budget.left(millis(1))
}

/// Envoy's own table of expected values (`retry_budget`, envoyproxy/envoy#9069).
#[test]
fn as_many_as_envoy_grants() {
    assert_eq!(after(0, 20, 5), 5);
    assert_eq!(after(25, 20, 5), 5);
    assert_eq!(after(2, 20, 3), 3);
    assert_eq!(after(1000, 20, 3), 200);
}

#[test]
fn retries_are_bounded_and_granted_again_after_the_window() {
    let budget = Budget::new(20, 0);
    for _ in 0..50 {
        budget.deposit(millis(500));
    }
    let granted = (0..100).filter(|_| budget.withdraw(millis(900))).count();
    assert_eq!(granted, 10);
    // The requests leave the window together with the retries.
    assert_eq!(budget.left(millis(9_999)), 0);
    assert_eq!(budget.left(millis(10_000)), 0);
    for _ in 0..10 {
        budget.deposit(millis(10_000));
    }
    assert_eq!(budget.left(millis(10_000)), 2);
}

#[test]
fn a_clock_that_jumps_ahead_and_returns_blocks_nothing_for_long() {
    let budget = Budget::new(0, 3);
    let far = Tick::from_nanos(u64::MAX);
    assert!((0..3).all(|_| budget.withdraw(far)));
    assert!(!budget.withdraw(far));
    assert_eq!(budget.left(millis(1)), 3);
}

/// A reference model of the budget, made of lists.
#[derive(Default)]
struct Naive {
    requests: Vec<u64>,
    retries: Vec<u64>,
}

impl Naive {
    fn withdraw(&mut self, second: u64, percent: u64, floor: u64) -> bool {
        let recent = |all: &Vec<u64>| all.iter().filter(|at| **at + 10 > second).count() as u64;
        let most = (recent(&self.requests) * percent / 100).max(floor);
        let granted = recent(&self.retries) < most;
        if granted {
            self.retries.push(second);
        }
        granted
    }
}

proptest! {
    #[test]
    fn grants_what_lists_grant(
        percent in 0u32..=100,
        floor in 0u32..6,
        start in 0u64..1 << 40,
        steps in prop::collection::vec((0u64..3_000, 0usize..12, 0usize..6), 1..60),
    ) {
        let (budget, mut naive) = (Budget::new(percent, floor), Naive::default());
        let (mut now, mut sent) = (start, 0);
        for (pause, requests, retries) in steps {
            now += pause;
            sent += requests as u64;
            for _ in 0..requests {
                budget.deposit(millis(now));
                naive.requests.push(now / 1000);
            }
            for _ in 0..retries {
                let expected = naive.withdraw(now / 1000, percent.into(), floor.into());
                prop_assert_eq!(budget.withdraw(millis(now)), expected);
            }
        }
        // Windows that do not overlap, each ending with a retry, cover all retries.
        let windows = (now / 1000 - start / 1000) / 10 + 1;
        let most = sent * u64::from(percent) / 100 + windows * u64::from(floor);
        prop_assert!(naive.retries.len() as u64 <= most);
    }
}
