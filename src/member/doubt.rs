//! Whether checks out of band are deciding about an endpoint that requests have made suspect.

use super::state::State;
use crate::health::Detector;
use crate::time::Tick;

impl State {
    /// Whether it is under suspicion while a check driver is there to clear it out of band. Not where the test does not
    /// eject: nobody checks an endpoint for it then, and it would be avoided until the evidence has faded.
    pub(super) fn is_suspect(&self, now: Tick) -> bool {
        let settings = &self.shared.ejection;
        settings.cusum_threshold > 0.0
            && !settings.detect_only.contains(Detector::Cusum)
            && self.shared.prober.is_here(now)
            && self.standing.get().is_in()
            && self.suspicion(now) > 0.0
    }

    /// Whether checks out of band should test it at once. Not where they would never end: where the test does not
    /// eject, or has reached its threshold at the cap. Nor where so many others are under suspicion that all would be
    /// checked at once.
    pub(crate) fn is_in_doubt(&self, now: Tick) -> bool {
        let settings = &self.shared.ejection;
        self.is_suspect(now)
            && f64::from(self.suspicion(now)) < settings.cusum_threshold
            && !self.shared.rates.is_common(true)
    }
}
