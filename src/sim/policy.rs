//! The subjects of a comparison: [`Policy`], and the built-in [`policies`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::balancing::{Balancing, World};
use super::callers::Callers;
use super::fleets::{Fleets, Server};
use super::models::{Breaker, C3, Choices, Envoy, Kratos, Model, Models, PeakEwma, Prequal};
use super::oracle::{Oracle, Rule};
use super::scenario::Scenario;
use crate::balancer::{
    Adaptive, LeastConnections, LeastResponseTime, LoadBalancer, PowerOfTwo, Random, RoundRobin,
    WeightedRoundRobin,
};
use crate::caller::CallPlan;
use crate::error::BuildError;
use crate::fleet::{Fleet, FleetBuilder};
use crate::health::{Ejection, HealthCheckSettings};

/// A way of balancing to simulate: real fleets with your settings, a model of another balancer, or an oracle.
#[derive(Clone)]
pub struct Policy {
    name: String,
    about: String,
    kind: Kind,
    checks: Option<HealthCheckSettings>,
    calls: Option<CallPlan>,
    baseline: bool,
}

#[derive(Clone)]
enum Kind {
    Fleet(Arc<dyn Fn() -> FleetBuilder<Server> + Send + Sync>),
    Model(Make),
    Oracle(Rule),
}

/// Creates a model from the number of clients, the number of machines and the seed.
type Make = fn(usize, usize, u64) -> Box<dyn Balancing>;

impl Policy {
    /// Creates a policy of real fleets, one per client. `make` returns the builder of a client's fleet.
    ///
    /// The simulation sets the endpoints, the clock and the seed of the fleets.
    ///
    /// ```
    /// use evenkeel::sim::Policy;
    /// use evenkeel::{Ejection, Fleet, LeastConnections};
    ///
    /// let ours = Policy::fleet("ours", "our settings", || {
    ///     Fleet::builder()
    ///         .policy(LeastConnections::new())
    ///         .ejection(Ejection::default().consecutive_failures(3))
    /// });
    /// assert_eq!(ours.name(), "ours");
    /// ```
    pub fn fleet(
        name: impl Into<String>,
        about: impl Into<String>,
        make: impl Fn() -> FleetBuilder<Server> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            kind: Kind::Fleet(Arc::new(make)),
            checks: None,
            calls: None,
            baseline: false,
        }
    }

    /// Adds active checks: each client drives a [`HealthCheck`](crate::HealthCheck) of its fleet, which is polled for
    /// due checks every 20 ms. Applies to fleets only; a model or an oracle ignores it.
    ///
    /// A check crosses the network to its server, is a millisecond of work there at speed 1, and takes neither a slot
    /// nor a place in the queue. It meets the same faults as requests. It fails with the same share and after the same
    /// time as they do. A slow server answers it slowly, a stalled server when it continues, and a server that hangs
    /// never. Faults that concern what requests ask for ([`Fault::answers_in`](super::Fault::answers_in) and
    /// [`Fault::tail`](super::Fault::tail)) do not affect it.
    ///
    /// A bad answer, and no answer within the timeout, is [`Outcome::Timeout`](crate::Outcome::Timeout), which counts
    /// towards the threshold. A bad answer is not a [`Failure`](crate::Outcome::Failure), since that would eject at
    /// once: where all servers fail two requests in a hundred, one check in fifty would eject a server. A check of a
    /// server that refuses connections or was replaced is [`Unreachable`](crate::Outcome::Unreachable).
    ///
    /// ```
    /// use evenkeel::sim::{self, Policy, scenarios};
    /// use evenkeel::{Fleet, HealthCheckSettings};
    ///
    /// let checked = Policy::fleet("checked", "the defaults, with checks", Fleet::builder)
    ///     .with_checks(HealthCheckSettings::default());
    /// let dead = scenarios().into_iter().find(|scenario| scenario.name() == "S5a");
    /// let report = sim::run(&dead.expect("it is built in"), &checked, 1)?;
    /// assert!(report.checks > 0 && report.window.errors < 0.001);
    /// # Ok::<(), sim::SimError>(())
    /// ```
    #[must_use]
    pub fn with_checks(mut self, settings: HealthCheckSettings) -> Self {
        self.checks = Some(settings);
        self
    }

    /// Sends each client's requests through a [`Caller`](crate::Caller) over its fleet, which retries according to
    /// `plan`.
    ///
    /// The plan then decides about retries, and the [scenario's retries](Scenario::retries) and retry budget do not
    /// apply. Applies to fleets only; a model or an oracle ignores it. A plan with a [hedge](CallPlan::hedge) is
    /// refused, since a simulated call has one attempt at a time.
    ///
    /// An attempt without an answer within the [scenario's timeout](Scenario::timeout) ends as
    /// [`Outcome::Timeout`](crate::Outcome::Timeout), unless the plan's own timeout is shorter. The simulation sets the
    /// seed.
    ///
    /// ```
    /// use evenkeel::sim::{self, Policy, scenarios};
    /// use evenkeel::{CallPlan, Fleet};
    ///
    /// let calls = Policy::fleet("calls", "the defaults, with a retry", Fleet::builder)
    ///     .with_calls(CallPlan::default());
    /// let dead = scenarios().into_iter().find(|scenario| scenario.name() == "S5a");
    /// let report = sim::run(&dead.expect("it is built in"), &calls, 1)?;
    /// assert_eq!(report.window.errors, 0.0);
    /// # Ok::<(), sim::SimError>(())
    /// ```
    #[must_use]
    pub fn with_calls(mut self, plan: CallPlan) -> Self {
        self.calls = Some(plan);
        self
    }

    fn model<M: Model + 'static>(name: &str, about: &str) -> Self {
        let make: Make =
            |clients, machines, seed| Box::new(Models::<M>::new(clients, machines, seed));
        Self {
            kind: Kind::Model(make),
            baseline: true,
            ..Self::fleet(name, about, Fleet::builder)
        }
    }

    fn oracle(name: &str, about: &str, rule: Rule) -> Self {
        Self {
            kind: Kind::Oracle(rule),
            ..Self::fleet(name, about, Fleet::builder)
        }
    }

    /// Marks the policy as a baseline for comparison.
    fn for_comparison(mut self) -> Self {
        self.baseline = true;
        self
    }

    /// The policy's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A one-line description of the policy.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Returns whether the policy is an oracle: a balancer with information that a real client cannot have.
    #[must_use]
    pub fn is_oracle(&self) -> bool {
        matches!(self.kind, Kind::Oracle(_))
    }

    /// Returns whether the policy is a baseline for comparison: another balancer's rule, or a plain rule without
    /// ejection. An oracle is not a baseline.
    #[must_use]
    pub fn is_baseline(&self) -> bool {
        self.baseline
    }

    pub(super) fn balancing(
        &self,
        scenario: &Scenario,
        machines: usize,
        world: &World,
    ) -> Result<Box<dyn Balancing>, BuildError> {
        Ok(match &self.kind {
            Kind::Fleet(make) => {
                let weights = &scenario.weights;
                let fleets = Fleets::new(&**make, scenario.clients, weights, machines, world)?;
                let fleets = match &self.checks {
                    Some(settings) => fleets.with_checks(settings)?,
                    None => fleets,
                };
                match &self.calls {
                    Some(plan) => Box::new(Callers::new(fleets, plan, world.seed)?),
                    None => Box::new(fleets),
                }
            }
            Kind::Model(make) => make(scenario.clients, machines, world.seed),
            Kind::Oracle(rule) => Box::new(Oracle::new(*rule, machines, world.seed)),
        })
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name)
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}

/// A policy of the crate with the defaults of a fleet.
fn shipped<L>(name: &str, about: &str, policy: fn() -> L) -> Policy
where
    L: LoadBalancer<Server> + 'static,
{
    Policy::fleet(name, about, move || Fleet::builder().policy(policy()))
}

/// The settings of checks whose first round is spread over 1 s, as is right for clients that start together.
fn spread() -> HealthCheckSettings {
    HealthCheckSettings::default().initial_jitter(Duration::from_secs(1))
}

/// A policy of the crate without ejection, for comparison.
fn plain<L>(name: &str, about: &str, policy: fn() -> L) -> Policy
where
    L: LoadBalancer<Server> + 'static,
{
    let make = move || Fleet::builder().policy(policy()).ejection(Ejection::off());
    Policy::fleet(name, about, make).for_comparison()
}

/// Returns the built-in policies: the crate's own, the baselines that they are compared with, and three oracles.
///
/// A baseline whose rule the crate ships runs the crate's code.
#[must_use]
#[rustfmt::skip] // It reads like a table.
pub fn policies() -> Vec<Policy> {
    vec![
        shipped("adaptive", "this crate's Adaptive, the default", Adaptive::new),
        shipped("adaptive-checked", "this crate's Adaptive with active checks", Adaptive::new).with_checks(spread()),
        shipped("adaptive-retried", "this crate's Adaptive behind its Caller with one retry", Adaptive::new).with_calls(CallPlan::default()),
        shipped("power-of-two", "this crate's PowerOfTwo", PowerOfTwo::new),
        shipped("least-connections", "this crate's LeastConnections", LeastConnections::new),
        shipped("least-response-time", "this crate's LeastResponseTime", LeastResponseTime::new),
        shipped("round-robin", "this crate's RoundRobin", RoundRobin::new),
        shipped("weighted-round-robin", "this crate's WeightedRoundRobin", WeightedRoundRobin::new),
        shipped("random", "this crate's Random", Random::new),
        plain("plain-random", "at random, no ejection", Random::new),
        plain("plain-round-robin", "one after the other, no ejection", RoundRobin::new),
        plain("p2c", "fewest in flight of two, no ejection", PowerOfTwo::new),
        Policy::model::<Choices<4>>("p2c-4", "fewest in flight of four, no ejection"),
        plain("scan", "fewest in flight of all, no ejection", LeastConnections::new),
        Policy::model::<Envoy>("envoy", "fewest in flight of two, ejection as Envoy's defaults"),
        Policy::model::<PeakEwma<0>>("peak-ewma", "peak EWMA of two, as Finagle's and tower's"),
        Policy::model::<Breaker<0>>("peak-ewma-breaker", "the same with a breaker after five failures in a row"),
        Policy::model::<PeakEwma<5_000>>("linkerd-biaser", "peak EWMA of two where a failure counts as 5 s, as Linkerd's load biaser"),
        Policy::model::<Breaker<5_000>>("linkerd-biaser-breaker", "the same with a breaker after five failures in a row"),
        Policy::model::<Kratos>("kratos", "Kratos' success over latency and load, of two"),
        Policy::model::<C3>("c3", "C3's ranking by servers' feedback, without its rate control"),
        Policy::model::<Prequal>("prequal", "asks three servers a request, hot and cold as Prequal; no protection against errors"),
        Policy::oracle("oracle-central", "knows all: one queue before all servers", Rule::CentralQueue),
        Policy::oracle("oracle-work", "knows all: done first, by the work there is", Rule::LeastWork),
        Policy::oracle("oracle-queue", "knows all: the shortest queue for the speed", Rule::ShortestQueue),
    ]
}
