//! Envoy's health-check state machine, cases 121 to 128 of the reference, and the other rules.

use super::*;
use proptest::prelude::*;

const SUCCESS: Outcome = Outcome::Success;
const TIMEOUT: Outcome = Outcome::Timeout;
const FAILURE: Outcome = Outcome::Failure;

fn threes() -> HealthCheckSettings {
    HealthCheckSettings::default()
        .healthy_threshold(3)
        .unhealthy_threshold(3)
        .jitter_percent(0)
}

/// Applies these results in order. Returns after each one whether the endpoint is failing, and the pace.
fn after(start: Checked, outcomes: &[Outcome]) -> Vec<(bool, Pace)> {
    let mut checked = start;
    let step = |&outcome: &Outcome| {
        let pace;
        (checked, pace) = checked.after(&threes(), CheckResult::by(outcome));
        (checked.is_failing(), pace)
    };
    outcomes.iter().map(step).collect()
}

fn failing() -> Checked {
    Checked::UNKNOWN.after(&threes(), CheckResult::Fail).0
}

/// Departure: in Envoy a new host is out until its first pass. Here it is in, as the cap would not hold otherwise.
#[test]
fn case_121_the_first_pass_decides_whatever_the_threshold() {
    assert_eq!(
        after(Checked::UNKNOWN, &[SUCCESS]),
        [(false, Pace::Passing)]
    );
    // From then on it takes three.
    let then = after(Checked::UNKNOWN, &[SUCCESS, TIMEOUT, TIMEOUT, TIMEOUT]);
    assert_eq!(then.last(), Some(&(true, Pace::Failing)));
    assert!(!then[2].0);
}

/// Envoy has no such case, as its new host is out already.
#[test]
fn the_first_result_decides_also_when_it_is_no_answer() {
    for outcome in [TIMEOUT, Outcome::Unreachable, FAILURE] {
        assert_eq!(after(Checked::UNKNOWN, &[outcome]), [(true, Pace::Failing)]);
    }
}

#[test]
fn case_122_the_third_timeout_in_a_row_flips() {
    assert_eq!(
        after(Checked::PASSING, &[TIMEOUT, TIMEOUT, TIMEOUT]),
        [
            (false, Pace::Doubted),
            (false, Pace::Doubted),
            (true, Pace::Failing)
        ]
    );
    // A pass in between restarts the count.
    let row = [TIMEOUT, TIMEOUT, SUCCESS, TIMEOUT, TIMEOUT];
    assert!(after(Checked::PASSING, &row).iter().all(|it| !it.0));
}

#[test]
fn case_123_a_bad_answer_flips_at_once() {
    assert_eq!(after(Checked::PASSING, &[FAILURE]), [(true, Pace::Failing)]);
    assert!(after(Checked::PASSING, &[TIMEOUT, FAILURE])[1].0);
}

/// Departure: there is no list of retriable statuses. The caller reports `Timeout` or `Unreachable` for such a status.
#[test]
fn case_124_unreachable_counts_like_a_timeout() {
    let row = [Outcome::Unreachable, TIMEOUT, Outcome::Unreachable];
    let flips: Vec<bool> = after(Checked::PASSING, &row)
        .iter()
        .map(|it| it.0)
        .collect();
    assert_eq!(flips, [false, false, true]);
}

#[test]
fn case_125_the_third_pass_in_a_row_brings_back_and_a_failure_between_starts_again() {
    let row = [SUCCESS, SUCCESS, SUCCESS];
    let flips: Vec<bool> = after(failing(), &row).iter().map(|it| it.0).collect();
    assert_eq!(flips, [true, true, false]);
    for between in [FAILURE, TIMEOUT] {
        let row = [SUCCESS, SUCCESS, between, SUCCESS, SUCCESS, SUCCESS];
        let flips: Vec<bool> = after(failing(), &row).iter().map(|it| it.0).collect();
        assert_eq!(flips, [true, true, true, true, true, false]);
    }
}

#[test]
fn case_126_edge_intervals_are_used_while_a_flip_is_pending() {
    let seconds = Duration::from_secs;
    let settings = threes()
        .interval(seconds(10))
        .unhealthy_interval(seconds(20))
        .healthy_edge_interval(seconds(30))
        .unhealthy_edge_interval(seconds(40));
    let waits = |start, outcomes: &[Outcome]| -> Vec<u64> {
        let paces = after(start, outcomes);
        let wait = |&(_, pace): &(bool, Pace)| settings.wait(pace, true, 7).as_secs();
        paces.iter().map(wait).collect()
    };
    let down = [SUCCESS, TIMEOUT, TIMEOUT, TIMEOUT, TIMEOUT];
    assert_eq!(waits(Checked::PASSING, &down), [10, 40, 40, 20, 20]);
    let up = [FAILURE, SUCCESS, SUCCESS, SUCCESS, SUCCESS];
    assert_eq!(waits(failing(), &up), [20, 30, 30, 10, 10]);
}

/// Departure: Envoy's default is 60 s; here there is none. One interval applies, also to healthy endpoints.
#[test]
fn case_127_without_any_traffic_the_interval_is_another_whatever_the_state() {
    let idle = threes().no_traffic_interval(Duration::from_secs(60));
    let all = [
        Pace::Passing,
        Pace::Failing,
        Pace::Recovering,
        Pace::Doubted,
    ];
    for pace in all {
        assert_eq!(idle.wait(pace, false, 7), Duration::from_secs(60));
        assert!(idle.wait(pace, true, 7) <= Duration::from_secs(5));
        assert_eq!(threes().wait(pace, false, 7), threes().wait(pace, true, 7));
    }
}

/// Departure: there is one kind of jitter, in percent. Envoy adds a second one, as a time.
#[test]
fn case_128_jitter_only_adds_and_stays_below_its_share() {
    let settings = threes().interval(Duration::from_secs(1)).jitter_percent(10);
    let wait = |random| settings.wait(Pace::Passing, true, random);
    assert_eq!(wait(0), Duration::from_secs(1));
    assert_eq!(wait(99_999_999), Duration::from_nanos(1_099_999_999));
    assert_eq!(wait(100_000_000), Duration::from_secs(1));
    // The fields are public: values that `check` would refuse must not break `wait`.
    let nothing = threes().interval(Duration::ZERO).jitter_percent(100);
    assert_eq!(nothing.wait(Pace::Passing, true, 7), MILLI);
}

#[test]
fn an_inconclusive_result_changes_nothing() {
    for outcome in [
        Outcome::Ignored,
        Outcome::Abandoned,
        Outcome::overloaded(None),
    ] {
        assert_eq!(after(failing(), &[outcome]), [(true, Pace::Failing)]);
        let row = [TIMEOUT, TIMEOUT, outcome, TIMEOUT];
        let row = after(Checked::PASSING, &row);
        assert!(row[3].0, "the row goes on");
        assert_eq!(row[2], (false, Pace::Doubted), "and the next comes as soon");
        let (checked, _) = Checked::UNKNOWN.after(&threes(), CheckResult::by(outcome));
        assert_eq!(checked, Checked::UNKNOWN);
    }
}

#[test]
fn an_ejection_by_requests_takes_the_healthy_threshold_to_end() {
    let out = Checked::PASSING.after_ejection();
    let flips: Vec<bool> = after(out, &[SUCCESS; 3]).iter().map(|it| it.0).collect();
    assert_eq!(flips, [true, true, false]);
    // Once the endpoint is found out, finding that again does not restart the count of passes.
    let (once, _) = out.after(&threes(), CheckResult::Pass);
    assert_eq!(once.after_ejection(), once);
}

#[test]
fn intervals_that_are_not_set_follow_the_others() {
    let settings = HealthCheckSettings::default().jitter_percent(0);
    let all = |of: &HealthCheckSettings| {
        [
            Pace::Passing,
            Pace::Failing,
            Pace::Recovering,
            Pace::Doubted,
        ]
        .map(|pace| of.wait(pace, true, 0).as_millis())
    };
    assert_eq!(all(&settings), [5000, 1000, 1000, 1000]);
    assert_eq!(all(&settings.clone().interval(MILLI * 200)), [200; 4]);
    let eager = settings.unhealthy_interval(MILLI * 300);
    assert_eq!(all(&eager), [5000, 300, 1000, 300]);
}

proptest! {
    #[test]
    fn no_setting_brings_a_rule_down(span: u64, jitter: u32, threshold: u32, random: u64, steps: [u8; 12]) {
        let span = Duration::from_secs(span);
        let settings = HealthCheckSettings::default()
            .interval(span).timeout(span).no_traffic_interval(span).initial_jitter(span)
            .jitter_percent(jitter).healthy_threshold(threshold).unhealthy_threshold(threshold);
        let _ = (settings.check(), settings.first_wait(random), settings.patience(), settings.longest_wait());
        let mut checked = Checked::UNKNOWN;
        for step in steps {
            let result = [CheckResult::Pass, CheckResult::NoAnswer, CheckResult::Fail, CheckResult::Inconclusive][usize::from(step) % 4];
            let pace;
            (checked, pace) = checked.after(&settings, result);
            prop_assert!(settings.wait(pace, random % 2 == 0, random) >= MILLI);
        }
    }

    #[test]
    fn no_wait_is_longer_than_the_longest(millis in 1u64..86_400_000, jitter in 0u32..=100, random: u64) {
        let settings = HealthCheckSettings::default()
            .interval(Duration::from_millis(millis)).jitter_percent(jitter);
        prop_assert!(settings.check().is_ok());
        for pace in [Pace::Passing, Pace::Failing, Pace::Recovering, Pace::Doubted] {
            prop_assert!(settings.wait(pace, true, random) <= settings.longest_wait());
        }
    }
}

#[test]
fn each_setting_out_of_range_is_named() {
    let good = HealthCheckSettings::default;
    let table = [
        (good().interval(Duration::ZERO), "interval is 0ns"),
        (good().timeout(Duration::MAX), "timeout is"),
        (
            good().unhealthy_interval(Duration::ZERO),
            "unhealthy_interval is 0ns",
        ),
        (
            good().healthy_edge_interval(Duration::ZERO),
            "healthy_edge_interval is 0ns",
        ),
        (
            good().unhealthy_edge_interval(Duration::MAX),
            "unhealthy_edge_interval is",
        ),
        (
            good().no_traffic_interval(Duration::MAX),
            "no_traffic_interval is",
        ),
        (good().initial_jitter(Duration::MAX), "initial_jitter is"),
        (good().jitter_percent(101), "jitter_percent is 101"),
        (good().healthy_threshold(0), "healthy_threshold is 0"),
        (good().unhealthy_threshold(0), "unhealthy_threshold is 0"),
        (good().max_probes(0), "max_probes is 0"),
    ];
    for (settings, message) in table {
        let error = settings.check().unwrap_err().to_string();
        let message = format!("HealthCheckSettings::{message}");
        assert!(error.starts_with(&message), "{error}");
    }
    assert_eq!(good().check(), Ok(()));
}
