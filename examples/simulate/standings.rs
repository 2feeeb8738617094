//! The results over all scenarios: how policies stand, and where this crate's lose.

use crate::results::{Entry, Kind, Row, best_of};

/// How a policy stands over all scenarios.
#[derive(Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The geometric mean over scenarios of its p99 divided by the bound, or by the best p99 if there are no oracles.
    pub(crate) ratio: f64,
    /// In how many scenarios it is the best, or within 2 % of the best p99 and without more errors.
    pub(crate) near_best: usize,
}

/// The standings of all policies except oracles, the best first.
pub(crate) fn standings(rows: &[Row]) -> Vec<Standing> {
    let names = rows.first().into_iter().flat_map(Row::contenders);
    let mut standings: Vec<Standing> = names.map(|entry| standing(rows, entry)).collect();
    standings.sort_by(|one, other| one.ratio.total_cmp(&other.ratio));
    standings
}

fn standing(rows: &[Row], policy: &Entry) -> Standing {
    let mut logarithms = 0.0;
    let mut near_best = 0;
    for row in rows {
        let own = row.contenders().find(|entry| entry.name == policy.name);
        let (Some(own), Some(best)) = (own, row.best()) else {
            continue;
        };
        let reference = row.bound().unwrap_or(best);
        // A window without requests has no latency.
        logarithms += (own.mean.p99.max(1e-6) / reference.mean.p99.max(1e-6)).ln();
        let behind = own.mean.is_slower_than(&best.mean) || own.mean.fails_more_than(&best.mean);
        near_best += usize::from(!behind);
    }
    Standing {
        name: policy.name.clone(),
        kind: policy.kind,
        ratio: (logarithms / rows.len() as f64).exp(),
        near_best,
    }
}

/// A scenario in which a baseline does better than all of this crate's policies.
pub(crate) struct Loss<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) ours: &'a Entry,
    pub(crate) baseline: &'a Entry,
}

pub(crate) fn losses(rows: &[Row]) -> Vec<Loss<'_>> {
    let loss = |row| -> Option<Loss<'_>> {
        let row: &Row = row;
        let ours = best_of(row.of(Kind::Shipped))?;
        let baseline = best_of(row.of(Kind::Baseline))?;
        let worse =
            ours.mean.is_slower_than(&baseline.mean) || ours.mean.fails_more_than(&baseline.mean);
        worse.then_some(Loss {
            scenario: &row.name,
            ours,
            baseline,
        })
    };
    rows.iter().filter_map(loss).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{entry, row};

    fn rows() -> Vec<Row> {
        let of = |name, [ours, second, theirs, oracle]: [(f64, f64); 4]| {
            row(
                name,
                vec![
                    entry("ours", Kind::Shipped, ours.0, ours.1),
                    entry("second", Kind::Shipped, second.0, second.1),
                    entry("theirs", Kind::Baseline, theirs.0, theirs.1),
                    entry("oracle", Kind::Oracle, oracle.0, oracle.1),
                ],
            )
        };
        vec![
            // "ours" is at twice the bound, and best.
            of("A", [(20.0, 0.0), (40.0, 0.0), (30.0, 0.0), (10.0, 0.0)]),
            // "ours" is at eight times the bound, and beaten; "second" is within 2 % of the best.
            of("B", [(80.0, 0.0), (40.7, 0.0), (40.0, 0.0), (10.0, 0.0)]),
            // "ours" is as fast as "theirs", but has more errors.
            of(
                "C",
                [(40.0, 0.004), (90.0, 0.0), (40.0, 0.001), (10.0, 0.0)],
            ),
        ]
    }

    #[test]
    fn policies_stand_by_the_geometric_mean() {
        let standings = standings(&rows());
        let shown: Vec<_> = standings
            .iter()
            .map(|standing| {
                (
                    standing.name.as_str(),
                    (standing.ratio * 100.0).round(),
                    standing.near_best,
                )
            })
            .collect();
        // The cube roots of 3 * 4 * 4, of 2 * 8 * 4 and of 4 * 4.07 * 9.
        assert_eq!(
            shown,
            [
                ("theirs", 363.0, 2),
                ("ours", 400.0, 1),
                ("second", 527.0, 1)
            ]
        );
    }

    #[test]
    fn losses_are_those_of_the_best_policy_that_ships() {
        let rows = rows();
        let losses = losses(&rows);
        let shown: Vec<_> = losses
            .iter()
            .map(|loss| (loss.scenario, loss.ours.name.as_str()))
            .collect();
        assert_eq!(shown, [("C", "ours")]);
    }

    #[test]
    fn an_empty_table_has_no_losses() {
        let alone = [row("A", vec![entry("ours", Kind::Shipped, 20.0, 0.5)])];
        assert!(losses(&alone).is_empty());
        let standings = standings(&alone);
        assert_eq!((standings[0].ratio, standings[0].near_best), (1.0, 1));
    }
}
