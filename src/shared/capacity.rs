//! How much of the fleet's capacity is missing.

use super::Shared;
use crate::health::{Strain, is_short};

impl Shared {
    /// Whether more endpoints are out than the fleet can spare, with so many `more`.
    pub(crate) fn is_short(&self, more: usize) -> bool {
        let out = self.ledger.read().refused() + more;
        is_short(&self.ejection, out, self.ledger.count())
    }

    /// How the fleet stands, with so many `more` out.
    pub(crate) fn strain(&self, more: usize) -> Strain {
        let out = self.ledger.read().ejected + more;
        Strain {
            short: self.is_short(more),
            rate: f64::from(self.trend.rate()) / out.max(1) as f64,
        }
    }

    /// The share of endpoints that are out or in slow start; 0 as long as the fleet can spare them. Who is in slow start is as
    /// upkeep counted.
    pub(crate) fn missing(&self) -> f64 {
        let (out, count) = (
            self.ledger.read().refused() + self.trend.warming(),
            self.ledger.count(),
        );
        if is_short(&self.ejection, out, count) {
            out as f64 / count.max(1) as f64
        } else {
            0.0
        }
    }
}
