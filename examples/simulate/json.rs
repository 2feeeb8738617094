//! All reports as JSON: the inputs, and then one report per line.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::time::Duration;

use evenkeel::sim::{Figures, Latencies, Moment, Report};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::mean::in_milliseconds;

/// Writes the JSON around the reports by hand: a single value with the reports of all scenarios would need much memory.
pub(crate) fn write(path: &Path, arguments: &Arguments, reports: &[Report]) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write!(file, "{{\"inputs\":{},\n\"reports\":[", inputs(arguments))?;
    for (number, one) in reports.iter().enumerate() {
        let separator = if number > 0 { "," } else { "" };
        write!(file, "{separator}\n{}", report(one))?;
    }
    writeln!(file, "\n]}}")?;
    file.flush()
}

fn inputs(arguments: &Arguments) -> Value {
    let scenarios = arguments
        .scenarios
        .iter()
        .map(|scenario| json!({ "name": scenario.name(), "about": scenario.about() }));
    let policies = arguments.policies.iter().map(|policy| {
        json!({
            "name": policy.name(),
            "about": policy.about(),
            "is_oracle": policy.is_oracle(),
            "is_baseline": policy.is_baseline(),
        })
    });
    json!({
        "command": arguments.command,
        "scenarios": scenarios.collect::<Vec<_>>(),
        "policies": policies.collect::<Vec<_>>(),
        "seeds": arguments.seeds.clone().collect::<Vec<_>>(),
        "cut_ms": maybe_milliseconds(arguments.cut),
        "threads": arguments.threads,
    })
}

fn maybe_milliseconds(time: Option<Duration>) -> Option<f64> {
    time.map(in_milliseconds)
}

fn report(report: &Report) -> Value {
    json!({
        "scenario": report.scenario,
        "policy": report.policy,
        "seed": report.seed,
        "events": report.events,
        "requests": report.requests,
        // A string, as it has more than the 53 bits that JSON readers keep of a number.
        "event_hash": format!("{:016x}", report.event_hash),
        "run": figures(&report.run),
        "window": figures(&report.window),
        "detected_after_ms": maybe_milliseconds(report.detected_after),
        "recovered_after_ms": maybe_milliseconds(report.recovered_after),
        "out_for_ms": maybe_milliseconds(report.out_for),
        "longest_out_for_ms": maybe_milliseconds(report.longest_out_for),
        "checks": report.checks,
        "ejections": report.ejections,
        "false_ejections": report.false_ejections,
        "ejected_share": report.ejected_share,
        "most_ejected": report.most_ejected,
        "moments": report.moments.iter().map(moment).collect::<Vec<_>>(),
    })
}

fn figures(figures: &Figures) -> Value {
    json!({
        "requests": figures.requests,
        "latency": latencies(&figures.latency),
        "success": latencies(&figures.success),
        "errors": figures.errors,
        "goodput": figures.goodput,
        "attempts": figures.attempts,
        "retries_denied": figures.retries_denied,
        "share_to_unwell": figures.share_to_unwell,
        "unwell": figures.unwell,
        "max_over_mean": figures.max_over_mean,
    })
}

fn latencies(latencies: &Latencies) -> Value {
    json!({
        "p50_ms": in_milliseconds(latencies.p50),
        "p90_ms": in_milliseconds(latencies.p90),
        "p99_ms": in_milliseconds(latencies.p99),
        "p999_ms": in_milliseconds(latencies.p999),
        "mean_ms": in_milliseconds(latencies.mean),
    })
}

fn moment(moment: &Moment) -> Value {
    json!({
        "at_ms": in_milliseconds(moment.at),
        "p50_ms": in_milliseconds(moment.p50),
        "p99_ms": in_milliseconds(moment.p99),
        "errors": moment.errors,
        "share": moment.share,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel::Fleet;
    use evenkeel::sim::{self, Policy, Scenario};

    #[test]
    fn a_report_has_all_its_fields() {
        let scenario = Scenario::new("x", "")
            .servers(2)
            .cut_to(Duration::from_secs(1));
        let policy = Policy::fleet("defaults", "", Fleet::builder);
        let found = sim::run(&scenario, &policy, 7).unwrap();
        let value = report(&found);
        assert_eq!(
            value["moments"].as_array().unwrap().len(),
            found.moments.len()
        );
        assert_eq!(value["event_hash"], format!("{:016x}", found.event_hash));
        let p99 = in_milliseconds(found.window.latency.p99);
        assert_eq!(value["window"]["latency"]["p99_ms"], p99);
        assert!(value["detected_after_ms"].is_null());
    }
}
