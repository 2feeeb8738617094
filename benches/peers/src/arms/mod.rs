//! All arms, one library per file.
//!
//! Where a library supports weights, endpoint `i` has weight `i % 10 + 1`.

mod evenkeel;
mod floors;
mod loadwise;
mod pingora;
mod tower;
mod volo;

use std::net::SocketAddr;

use crate::arm::{Arm, Measure};

pub(crate) use floors::FLOOR_A;

/// All arms in the order of the table's rows: floors, picks, cycles.
pub(crate) fn all() -> Vec<Arm> {
    let mut arms = floors::arms();
    for measure in [Measure::Pick, Measure::Cycle] {
        arms.extend(evenkeel::arms(measure));
        arms.extend(pingora::arms(measure));
        arms.extend(volo::arms(measure));
        arms.extend(loadwise::arms(measure));
        arms.extend(tower::arms(measure));
    }
    arms
}

fn address(number: u32) -> SocketAddr {
    let [_, _, third, fourth] = number.to_be_bytes();
    SocketAddr::from(([10, 0, third, fourth], 80))
}

fn weight(number: u32) -> u32 {
    number % 10 + 1
}
