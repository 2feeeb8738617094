//! The arms of the comparison: ways for a request to reach one of the upstreams.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::Fallible;
use crate::compare::Plan;
use crate::load::{Balancer, GRACE, Job};
use crate::measured::Measured;
use crate::proxy::{Proxy, Running};

/// An arm: how requests travel, what was measured, and what must stay alive meanwhile.
pub(crate) struct Arm {
    pub(crate) name: String,
    balancer: Balancer,
    addresses: Vec<SocketAddr>,
    proxy: Option<Running>,
    /// Why nothing could be measured, or why measuring stopped.
    pub(crate) failure: Option<String>,
    /// The runs with many callers, one per turn.
    pub(crate) many: Vec<Measured>,
    /// The runs with one caller.
    pub(crate) one: Vec<Measured>,
}

/// How many callers send requests, and for how long.
pub(crate) struct Traffic {
    pub(crate) callers: usize,
    pub(crate) warm_up: Duration,
    pub(crate) span: Duration,
}

impl Arm {
    /// An arm whose client sends directly to the upstreams.
    pub(crate) fn direct(name: &str, balancer: Balancer, upstreams: &[SocketAddr]) -> Self {
        Self {
            name: name.into(),
            balancer,
            addresses: upstreams.to_vec(),
            proxy: None,
            failure: None,
            many: Vec::new(),
            one: Vec::new(),
        }
    }

    /// An arm through a proxy. If the proxy is not running, the arm only has the reason.
    pub(crate) fn through(proxy: Proxy, running: Fallible<Running>) -> Self {
        let (name, policy) = (proxy.name(), proxy.policy());
        let mut arm = Self::direct(name, Balancer::Counter, &[]);
        match running {
            Ok(running) => {
                arm.name = format!("{name} {}, `{policy}`", running.version);
                arm.addresses.push(running.address);
                arm.proxy = Some(running);
            }
            Err(error) => arm.failure = Some(error.to_string()),
        }
        arm
    }

    /// Measures the arm with many callers and with one. Keeps the numbers, or the reason why there are none.
    pub(crate) async fn take_turn(&mut self, plan: &Plan, upstreams: &[u32]) {
        for (traffic, many) in [(&plan.many, true), (&plan.one, false)] {
            match self.measure(traffic, upstreams).await {
                Ok(measured) if many => self.many.push(measured),
                Ok(measured) => self.one.push(measured),
                Err(error) => {
                    self.failure = Some(error.to_string());
                    return;
                }
            }
        }
    }

    /// How many turns were not disturbed by other processes.
    pub(crate) fn quiet_turns(&self) -> usize {
        let quiet = |runs: &[Measured]| runs.iter().filter(|run| run.is_quiet()).count();
        quiet(&self.many).min(quiet(&self.one))
    }

    /// Runs the load in a process of its own.
    async fn measure(&self, traffic: &Traffic, upstreams: &[u32]) -> Fallible<Measured> {
        let job = Job {
            balancer: self.balancer,
            callers: traffic.callers,
            warm_up: traffic.warm_up,
            span: traffic.span,
            addresses: self.addresses.clone(),
            upstreams: upstreams.to_vec(),
            proxy: self
                .proxy
                .as_ref()
                .map_or_else(Vec::new, |it| it.ids.clone()),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(job.args()).stdin(Stdio::null());
        command.stderr(Stdio::piped()).kill_on_drop(true);
        // The load ends by itself; the timeout is for one that hangs.
        let within = job.warm_up + job.span + 2 * GRACE;
        let output = timeout(within, command.output()).await??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the load failed: {}", said.trim()).into());
        }
        Measured::parse(&String::from_utf8_lossy(&output.stdout))
    }
}
