//! The list of scenarios and policies, one per line.

use crate::arguments::Arguments;
use crate::grid::{Grid, Paint, Piece};
use crate::results::Kind;

/// Lists the chosen scenarios and policies, by default all.
pub(crate) fn list(arguments: &Arguments, paint: Paint) -> String {
    let mut text = String::from("Scenarios\n");
    let mut scenarios = Grid::left_aligned();
    for scenario in &arguments.scenarios {
        scenarios.row([
            Piece::strong(scenario.name()),
            Piece::plain(scenario.about()),
        ]);
    }
    text += &scenarios.text(paint);
    text += "\nPolicies\n";
    let mut policies = Grid::left_aligned();
    for policy in &arguments.policies {
        let kind = match Kind::of(policy) {
            Kind::Shipped => "",
            Kind::Baseline => "to compare with",
            Kind::Oracle => "oracle",
        };
        policies.row([
            Piece::strong(policy.name()),
            Piece::faint(kind),
            Piece::plain(policy.about()),
        ]);
    }
    text + &policies.text(paint)
}
