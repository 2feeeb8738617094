//! Prose: how to use the crate, and how it works.

pub mod guide;
pub mod internals;
pub mod policies;
