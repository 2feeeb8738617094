//! The error type of the simulator: [`SimError`].

use std::time::Duration;

use crate::error::BuildError;

/// The reason why a simulation stopped or did not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// A setting of the scenario or of the fleet is out of its range.
    #[error(transparent)]
    Setting(#[from] BuildError),
    /// An invariant of the crate was violated. The seed replays the run.
    #[error("{what} ({scenario}, {policy}, seed {seed}, event {event} at {at:?})")]
    #[non_exhaustive]
    Broken {
        /// A description of the violated invariant.
        what: String,
        /// The scenario's name.
        scenario: String,
        /// The policy's name.
        policy: String,
        /// The seed.
        seed: u64,
        /// The number of events simulated before this one.
        event: u64,
        /// The virtual time of the violation.
        at: Duration,
    },
}
