//! Why a simulation stopped: [`SimError`].

use std::time::Duration;

use crate::error::BuildError;

/// Why a simulation stopped, or did not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// A setting of the scenario or of the fleet is out of its range.
    #[error(transparent)]
    Setting(#[from] BuildError),
    /// The crate has broken a promise. The seed replays it.
    #[error("{what} ({scenario}, {policy}, seed {seed}, event {event} at {at:?})")]
    #[non_exhaustive]
    Broken {
        /// Which promise, in words.
        what: String,
        /// The scenario's name.
        scenario: String,
        /// The policy's name.
        policy: String,
        /// The seed.
        seed: u64,
        /// How many events had gone by.
        event: u64,
        /// When, in virtual time.
        at: Duration,
    },
}
