use super::*;

#[test]
fn each_setting_out_of_range_is_named() {
    let good = Ejection::default;
    let table = [
        (good().window(Duration::ZERO), "Ejection::window is 0ns"),
        (good().window(Duration::MAX), "Ejection::window is"),
        (
            good().base_ejection_time(Duration::ZERO),
            "Ejection::base_ejection_time is 0ns",
        ),
        (
            good().max_ejection_time(Duration::MAX),
            "Ejection::max_ejection_time is",
        ),
        (
            good().cusum_threshold(f64::NAN),
            "Ejection::cusum_threshold is NaN",
        ),
        (
            good().cusum_threshold(51.0),
            "Ejection::cusum_threshold is 51",
        ),
        (
            good().success_rate_stdev_factor(-1.0),
            "Ejection::success_rate_stdev_factor is -1",
        ),
        (
            good().latency_factor(0.5),
            "Ejection::latency_factor is 0.5",
        ),
        (
            good().backoff_decay(Duration::ZERO),
            "Ejection::backoff_decay is 0ns",
        ),
        (
            good().healthy_threshold(0),
            "Ejection::healthy_threshold is 0",
        ),
        (
            good().failure_percentage_threshold(101),
            "Ejection::failure_percentage_threshold is 101",
        ),
        (
            good().probe_timeout(Duration::MAX),
            "Ejection::probe_timeout is",
        ),
        (
            good().score_threshold(f64::NAN),
            "Ejection::score_threshold is NaN",
        ),
        (
            good().score_threshold(-0.1),
            "Ejection::score_threshold is -0.1",
        ),
        (
            good().jitter_percent(101),
            "Ejection::jitter_percent is 101",
        ),
        (
            good().max_ejection_percent(101),
            "Ejection::max_ejection_percent is 101",
        ),
        (
            good().spare_capacity_percent(101),
            "Ejection::spare_capacity_percent is 101",
        ),
    ];
    for (settings, message) in table {
        let error = settings.check().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert_eq!(good().check(), Ok(()));
    assert_eq!(Ejection::off().check(), Ok(()));
    assert_eq!(Ejection::envoy().check(), Ok(()));
}

#[test]
fn no_ejection_is_shorter_than_the_base_time_for_a_lower_maximum() {
    let settings = Ejection::default()
        .base_ejection_time(Duration::from_secs(10))
        .max_ejection_time(Duration::from_secs(1));
    assert_eq!(settings.longest_ejection(), Duration::from_secs(10));
    let fleet_state = FleetState {
        short: false,
        rate: 1e9,
    };
    assert_eq!(settings.longest_in(fleet_state), Duration::from_secs(10));
}
