//! Runs of simulations: [`run`] for one, [`Study`] for many on all cores.

use super::engine::Engine;
use super::error::SimError;
use super::policy::Policy;
use super::report::Report;
use super::scenario::Scenario;
use crate::sync::Mutex;

/// Simulates one run of a scenario with a policy and a seed.
///
/// # Errors
///
/// Returns [`SimError::Setting`] if a setting of the scenario or of the fleet is out of range. Returns
/// [`SimError::Broken`] if an invariant of the crate is violated, which is a bug in the crate or in a policy or tracker
/// of yours.
///
/// # Panics
///
/// Panics if a policy or a tracker of yours panics.
///
/// ```
/// use evenkeel::sim::{self, Fault, Policy, Scenario};
/// use evenkeel::Fleet;
/// use std::time::Duration;
///
/// let scenario = Scenario::new("ours", "one of five fails all")
///     .servers(5)
///     .fault(Fault::fails(1.0).on(0..1))
///     .cut_to(Duration::from_secs(6));
/// let report = sim::run(&scenario, &Policy::fleet("defaults", "", Fleet::builder), 7)?;
/// // Five failures eject it, for each of ten clients.
/// assert!(report.window.errors < 0.05 && report.window.share_to_unwell < 0.05);
/// assert_eq!(report, sim::run(&scenario, &Policy::fleet("defaults", "", Fleet::builder), 7)?);
/// # Ok::<(), sim::SimError>(())
/// ```
pub fn run(scenario: &Scenario, policy: &Policy, seed: u64) -> Result<Report, SimError> {
    Engine::new(scenario, policy, seed)?.run()
}

/// A set of runs: every scenario with every policy and every seed.
///
/// [`run`](Self::run) starts one thread per core and joins all threads before it returns. This is the only place where
/// the crate starts threads. The reports do not depend on the number of threads.
///
/// ```
/// use evenkeel::sim::{Study, policies, scenarios};
/// use std::time::Duration;
///
/// let short = scenarios().into_iter().take(2).map(|scenario| scenario.cut_to(Duration::from_secs(2)));
/// let study = Study::new(short.collect(), policies().into_iter().take(3).collect(), 1..3);
/// let reports = study.run(|done, all| eprintln!("{done} of {all}"))?;
/// assert_eq!(reports.len(), study.len());
/// # Ok::<(), evenkeel::sim::SimError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Study {
    scenarios: Vec<Scenario>,
    policies: Vec<Policy>,
    seeds: std::ops::Range<u64>,
    threads: usize,
}

impl Study {
    /// Creates a study of each scenario with each policy and each seed, on all cores.
    #[must_use]
    pub fn new(
        scenarios: Vec<Scenario>,
        policies: Vec<Policy>,
        seeds: std::ops::Range<u64>,
    ) -> Self {
        Self {
            scenarios,
            policies,
            seeds,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Sets the number of threads. Defaults to the number of cores. [`run`](Self::run) uses at least one, and at most
    /// one per run.
    #[must_use]
    pub const fn threads(mut self, count: usize) -> Self {
        self.threads = count;
        self
    }

    /// Returns the number of runs.
    #[must_use]
    pub fn len(&self) -> usize {
        let seeds = self.seeds.end.saturating_sub(self.seeds.start) as usize;
        self.scenarios.len() * self.policies.len() * seeds
    }

    /// Returns whether the study has no runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Simulates all runs and returns their reports, ordered by scenario, then by policy, then by seed.
    ///
    /// `progress` is called after each run with the number of finished runs and the number of all runs.
    ///
    /// # Errors
    ///
    /// Stops at the first failed run. Returns its error, or, if further runs fail while they are being finished, the
    /// first error in the order of the reports. See [`sim::run`](run) for the errors.
    ///
    /// # Panics
    ///
    /// Panics if a policy or a tracker of yours panics, or `progress`.
    pub fn run(&self, progress: impl Fn(usize, usize) + Sync) -> Result<Vec<Report>, SimError> {
        let jobs = self.scenarios.iter().flat_map(|scenario| {
            let policies = self.policies.iter();
            policies.flat_map(move |policy| {
                self.seeds.clone().map(move |seed| (scenario, policy, seed))
            })
        });
        let count = self.len();
        let queue = Mutex::new(jobs.enumerate());
        let done = Mutex::new((0, Vec::with_capacity(count)));
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, count.max(1)) {
                scope.spawn(|| {
                    loop {
                        let Some((at, (scenario, policy, seed))) = queue.lock().next() else {
                            return;
                        };
                        let report = run(scenario, policy, seed);
                        let failed = report.is_err();
                        let mut done = done.lock();
                        done.0 += 1;
                        done.1.push((at, report));
                        progress(done.0, count);
                        if failed {
                            // Drop the remaining jobs. The other threads finish their current run and stop.
                            queue.lock().by_ref().for_each(drop);
                        }
                    }
                });
            }
        });
        let mut reports = done.into_inner().1;
        reports.sort_by_key(|(at, _)| *at);
        reports.into_iter().map(|(_, report)| report).collect()
    }
}
