//! A fleet with active checks, in virtual time.

use std::time::Duration;

use evenkeel::{
    Ejection, Endpoint, Fleet, HealthCheck, HealthCheckSettings, ManualClock, Outcome, Probe,
};

use super::{MILLI, SECOND, Server, ejected, exact, setup};

pub(crate) const SUCCESS: Outcome = Outcome::Success;
pub(crate) const TIMEOUT: Outcome = Outcome::Timeout;

/// A check each second without jitter; three failures in a row eject, two passes in a row bring back.
pub(crate) fn each_second() -> HealthCheckSettings {
    HealthCheckSettings::default()
        .interval(SECOND)
        .timeout(MILLI * 200)
        .unhealthy_threshold(3)
        .healthy_threshold(2)
        .healthy_edge_interval(MILLI * 300)
        .unhealthy_edge_interval(MILLI * 100)
        .jitter_percent(0)
}

pub(crate) struct Setting {
    pub(crate) fleet: Fleet<Server>,
    pub(crate) clock: ManualClock,
    pub(crate) checks: HealthCheck<Server>,
}

pub(crate) fn with(count: usize, ejection: Ejection, settings: HealthCheckSettings) -> Setting {
    let clock = ManualClock::new();
    let fleet = setup(count, &clock).ejection(ejection).build().unwrap();
    let checks = fleet.health_check(settings).unwrap();
    Setting {
        fleet,
        clock,
        checks,
    }
}

/// Ten servers that have passed their first check, at 0 s.
pub(crate) fn passing() -> Setting {
    let mut setting = with(10, exact(), each_second());
    assert_eq!(setting.round(|_| SUCCESS), (0..10).collect::<Vec<_>>());
    setting
}

pub(crate) fn key(probe: &Probe<Server>) -> usize {
    probe.endpoint().key()
}

impl Setting {
    /// Finishes the checks that are due at once, with these outcomes. Returns which servers were checked, sorted.
    pub(crate) fn round(&mut self, outcome: impl Fn(usize) -> Outcome) -> Vec<usize> {
        let mut checked = Vec::new();
        for probe in self.checks.tick() {
            checked.push(key(&probe));
            let outcome = outcome(key(&probe));
            probe.finish(outcome);
        }
        checked.sort_unstable();
        checked
    }

    /// Drives checks for `time` as a caller does, ticking when the driver says. Returns when server 0 was checked.
    pub(crate) fn drive_checks(
        &mut self,
        time: Duration,
        outcome: impl Fn(usize) -> Outcome,
    ) -> Vec<Duration> {
        let mut at = Vec::new();
        let mut passed = Duration::ZERO;
        let mut at_once = 0;
        loop {
            if self.round(&outcome).contains(&0) {
                at.push(passed);
            }
            // All checks are answered, so only an endpoint under suspicion or on its way back is due again at once, and
            // that ends after three times five answers.
            let next = self.checks.next_due();
            assert!(next <= MILLI * 20, "{next:?}");
            at_once = if next.is_zero() { at_once + 1 } else { 0 };
            assert!(at_once <= 15, "it never ends");
            let step = next.min(time - passed);
            if passed == time && !next.is_zero() {
                return at;
            }
            self.clock.advance(step);
            passed += step;
        }
    }

    pub(crate) fn is_out(&self, number: usize) -> bool {
        ejected(&self.fleet).contains(&number)
    }
}

/// Server 0 answers with `outcome`, the others with success.
pub(crate) fn server_zero_answers(outcome: Outcome) -> impl Fn(usize) -> Outcome {
    move |number| if number == 0 { outcome } else { SUCCESS }
}
