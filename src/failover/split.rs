//! The arithmetic of a failover: the share of the requests that each cluster gets.

/// How requests are divided between the two clusters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Split {
    /// The preferred cluster's share of the requests.
    pub(super) preferred: f64,
    /// Whether both together can take all requests.
    pub(super) is_enough: bool,
}

impl Split {
    /// Computes the split from how much of each cluster is eligible. The spare cluster is asked only if it matters.
    pub(super) fn new(factor: f64, preferred: f64, spare: impl FnOnce() -> f64) -> Self {
        let first = (factor * share(preferred)).min(1.0);
        let (preferred, is_enough) = if first >= 1.0 {
            (1.0, true)
        } else {
            let total = first + (factor * share(spare())).min(1.0);
            // Some sums of tenths are a rounding error below 1.
            let is_enough = total >= 1.0 - 1e-9;
            match total {
                _ if is_enough => (first, true),
                0.0 => (0.5, false),
                _ => (first / total, false),
            }
        };
        Self {
            preferred,
            is_enough,
        }
    }
}

/// Clamps the availability that a user's cluster reports to 0..=1. NaN counts as 0.
pub(super) fn share(availability: f64) -> f64 {
    if availability.is_nan() {
        0.0
    } else {
        availability.clamp(0.0, 1.0)
    }
}
