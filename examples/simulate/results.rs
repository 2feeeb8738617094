//! Reports as rows, one per scenario, with the mean over seeds for each policy.

use std::cmp::Ordering;

use evenkeel::sim::{Policy, Report, Scenario};

use crate::mean::Mean;

/// The origin of a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A policy of this crate.
    Shipped,
    /// A policy to compare with.
    Baseline,
    /// A policy that knows what no real balancer can know.
    Oracle,
}

impl Kind {
    pub(crate) fn of(policy: &Policy) -> Self {
        if policy.is_oracle() {
            Self::Oracle
        } else if policy.is_baseline() {
            Self::Baseline
        } else {
            Self::Shipped
        }
    }
}

/// The results of one scenario.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) about: String,
    /// In the same order in all rows.
    pub(crate) entries: Vec<Entry>,
}

/// The result of one policy in a scenario.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) mean: Mean,
}

impl Row {
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.kind == kind)
    }

    /// The entries that could be used in practice: all but the oracles.
    pub(crate) fn contenders(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.kind != Kind::Oracle)
    }

    /// The best contender.
    pub(crate) fn best(&self) -> Option<&Entry> {
        best_of(self.contenders())
    }

    pub(crate) fn is_best(&self, entry: &Entry) -> bool {
        let best = self.best().map(|best| best.mean.rank());
        entry.kind != Kind::Oracle && best == Some(entry.mean.rank())
    }

    /// The oracle with the least p99. No policy can be expected to do better.
    pub(crate) fn bound(&self) -> Option<&Entry> {
        best_of(self.of(Kind::Oracle))
    }
}

/// The entry that comes first by [`Mean::rank`].
pub(crate) fn best_of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<&'a Entry> {
    entries.min_by(|one, other| compare(one, other))
}

pub(crate) fn compare(one: &Entry, other: &Entry) -> Ordering {
    let (one, other) = (one.mean.rank(), other.mean.rank());
    let pairs = one.iter().zip(&other);
    pairs.fold(Ordering::Equal, |so_far, (one, other)| {
        so_far.then(one.total_cmp(other))
    })
}

pub(crate) fn rows(scenarios: &[Scenario], policies: &[Policy], reports: &[Report]) -> Vec<Row> {
    let entry = |scenario: &Scenario, policy: &Policy| {
        let fits =
            |report: &&Report| report.scenario == scenario.name() && report.policy == policy.name();
        Entry {
            name: policy.name().into(),
            kind: Kind::of(policy),
            mean: Mean::of(&reports.iter().filter(fits).collect::<Vec<_>>()),
        }
    };
    let row = |scenario: &Scenario| Row {
        name: scenario.name().into(),
        about: scenario.about().into(),
        entries: policies
            .iter()
            .map(|policy| entry(scenario, policy))
            .collect(),
    };
    scenarios.iter().map(row).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mean::in_milliseconds;
    use std::time::Duration;

    /// An entry with a million requests.
    pub(crate) fn entry(name: &str, kind: Kind, p99: f64, errors: f64) -> Entry {
        let mean = Mean {
            requests: 1_000_000,
            p99,
            p999: 2.0 * p99,
            errors,
            ..Mean::default()
        };
        Entry {
            name: name.into(),
            kind,
            mean,
        }
    }

    pub(crate) fn row(name: &str, entries: Vec<Entry>) -> Row {
        Row {
            name: name.into(),
            about: format!("about {name}"),
            entries,
        }
    }

    #[test]
    fn the_best_is_no_oracle() {
        let row = row(
            "S",
            vec![
                entry("ours", Kind::Shipped, 20.0, 0.0),
                entry("theirs", Kind::Baseline, 19.0, 0.0),
                entry("same", Kind::Baseline, 19.0, 0.0),
                entry("god", Kind::Oracle, 9.0, 0.0),
                entry("demigod", Kind::Oracle, 10.0, 0.0),
            ],
        );
        let marked: Vec<bool> = row.entries.iter().map(|entry| row.is_best(entry)).collect();
        assert_eq!(marked, [false, true, true, false, false]);
        assert_eq!(row.bound().map(|bound| bound.name.as_str()), Some("god"));
    }

    #[test]
    fn where_all_time_out_errors_decide() {
        let entries = [
            entry("many", Kind::Shipped, 1000.0, 0.5),
            entry("few", Kind::Baseline, 1000.0, 0.02),
        ];
        assert_eq!(
            best_of(entries.iter()).map(|best| best.name.as_str()),
            Some("few")
        );
    }

    #[test]
    fn reports_come_to_means_of_seeds() {
        let scenario = Scenario::new("x", "")
            .servers(2)
            .cut_to(Duration::from_secs(1));
        let policies: Vec<Policy> = evenkeel::sim::policies().into_iter().take(2).collect();
        let study = evenkeel::sim::Study::new(vec![scenario.clone()], policies.clone(), 1..3);
        let reports = study.run(|_, _| ()).unwrap();
        let rows = rows(&[scenario], &policies, &reports);
        let p99 = |at: usize| in_milliseconds(reports[at].window.latency.p99);
        assert_eq!(rows[0].entries[1].mean.p99, (p99(2) + p99(3)) / 2.0);
        assert_eq!(
            rows[0].entries[1].mean.moments.len(),
            reports[2].moments.len()
        );
    }
}
