//! Long-form documentation: how to use the crate, and how it works.

pub mod guide;
pub mod internals;
pub mod policies;
pub mod recipes;
#[cfg(all(feature = "sim", not(evenkeel_loom)))]
#[cfg_attr(docsrs, doc(cfg(feature = "sim")))]
pub mod simulate;
pub mod tuning;
