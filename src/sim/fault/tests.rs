use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(changes: &[Change]) -> Vec<(u64, usize, Step)> {
    let second = nanos(SECOND);
    changes
        .iter()
        .map(|change| (change.at / second, change.position, change.step))
        .collect()
}

#[test]
fn a_schedule_is_in_order_and_within_the_run() {
    let scenario = Scenario::new("x", "")
        .servers(3)
        .fault(Fault::stalls().on(1..2).flapping(20 * SECOND, SECOND))
        .fault(Fault::refuses().on(0..1).between(SECOND, 99 * SECOND));
    assert_eq!(
        seconds(&schedule(&scenario, 7)),
        [
            (1, 0, Step::Begin(1)),
            (15, 1, Step::Begin(0)),
            (35, 1, Step::End(0)),
            (36, 1, Step::Begin(0)),
            (45, 1, Step::End(0)),
        ]
    );
}

#[test]
fn machines_are_replaced_in_turn_and_warm_up() {
    let scenario = Scenario::new("x", "")
        .servers(3)
        .churn(25 * SECOND, 2, 0.5, SECOND);
    let changes = schedule(&scenario, 7);
    let replaced: Vec<_> = seconds(&changes)
        .into_iter()
        .filter(|(_, _, step)| *step == Step::Replace(0.5))
        .map(|(at, position, _)| (at, position))
        .collect();
    assert_eq!(replaced, [(25, 0), (25, 1), (50, 2), (50, 0)]);
    let last = changes.iter().rev().find(|change| change.position == 0);
    assert_eq!(
        last.map(|change| change.step),
        Some(Step::Warm {
            replacement: 2,
            to: 1.0
        })
    );
}

#[test]
fn replacements_may_be_asked_for_in_any_order() {
    let sorted = |scenario: Scenario| {
        let mut changes = schedule(&scenario, 7);
        changes.sort_by_key(|change| (change.at, change.position));
        changes
    };
    let base = || Scenario::new("x", "").servers(3);
    let early = |scenario: Scenario| scenario.replace(15 * SECOND, 2, 0.2, SECOND);
    let late = |scenario: Scenario| scenario.replace(40 * SECOND, 2, 0.2, SECOND);
    assert_eq!(sorted(early(late(base()))), sorted(late(early(base()))));
}

#[test]
fn random_turns_come_from_the_seed() {
    let noisy =
        Fault::slow(0.3).at_random(Demand::exponential(SECOND), Demand::exponential(SECOND));
    let scenario = Scenario::new("x", "").servers(3).fault(noisy);
    assert_eq!(schedule(&scenario, 7), schedule(&scenario, 7));
    assert_ne!(schedule(&scenario, 7), schedule(&scenario, 8));
    // 60 s with a mean period of 2 s, for three servers: 90 periods, with a standard deviation below 10.
    let begun = schedule(&scenario, 7)
        .iter()
        .filter(|change| change.step == Step::Begin(0))
        .count();
    assert!(begun.abs_diff(90) < 60, "{begun}");
}

#[test]
fn a_flapping_fault_is_over_with_its_last_bad_period() {
    let window = (nanos(SECOND * 15), nanos(SECOND * 45));
    let span = |bad: Duration, good: Duration| {
        let (from, to) = Fault::stalls().on(0..1).flapping(bad, good).span(window);
        (from / nanos(SECOND / 10), to / nanos(SECOND / 10))
    };
    assert_eq!(span(SECOND * 2, SECOND * 2), (150, 450));
    // From 42.5 on.
    assert_eq!(span(SECOND / 2, SECOND * 5), (150, 430));
    assert_eq!(span(SECOND * 40, SECOND), (150, 450));
}
