//! The comparison: starts the processes, measures the arms in turn, and reports.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::arm::{Arm, Traffic};
use crate::load::Balancer;
use crate::process::{Folder, Process};
use crate::proxy::Proxy;
use crate::{Fallible, machine, report};

const UPSTREAMS: usize = 4;

/// How much to measure.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Disturbed turns are repeated until this time.
    pub(crate) at_most: Duration,
    /// Enough callers to use the whole machine.
    pub(crate) many: Traffic,
    /// A single caller, which never waits for another.
    pub(crate) one: Traffic,
}

impl Plan {
    /// Two minutes, or three if other processes disturb it.
    pub(crate) const FULL: Self = Self::of(3, 170, [1_000, 4_000], [300, 1_500]);
    /// The same, for a machine that is busy with other work.
    pub(crate) const PATIENT: Self = Self::of(3, 900, [1_000, 4_000], [300, 1_500]);
    /// Half a minute, to check that it works.
    pub(crate) const QUICK: Self = Self::of(2, 30, [500, 1_000], [200, 500]);

    /// How long a turn of an arm takes.
    fn turn(&self) -> Duration {
        let traffic = [&self.many, &self.one];
        traffic.iter().map(|it| it.warm_up + it.span).sum()
    }

    const fn of(rounds: usize, seconds: u64, many: [u64; 2], one: [u64; 2]) -> Self {
        const fn traffic(callers: usize, [warm_up, span]: [u64; 2]) -> Traffic {
            Traffic {
                callers,
                warm_up: Duration::from_millis(warm_up),
                span: Duration::from_millis(span),
            }
        }
        Self {
            rounds,
            at_most: Duration::from_secs(seconds),
            many: traffic(32, many),
            one: traffic(1, one),
        }
    }
}

/// Runs the comparison to its end or until a signal. In both cases the guards end the processes.
pub(crate) fn run(plan: &Plan) -> Fallible<ExitCode> {
    // A single thread, because a proxy is asked to end when the thread that started it does.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            ended = compare(plan) => ended,
            _ = terminate.recv() => Err("terminated".into()),
            _ = interrupt.recv() => Err("interrupted".into()),
        }
    })
}

async fn compare(plan: &Plan) -> Fallible<ExitCode> {
    let begun = Instant::now();
    println!("{}", machine::describe());
    let folder = Folder::create()?;
    let upstreams = (0..UPSTREAMS).map(|_| Process::serve());
    let (upstreams, ports): (Vec<_>, Vec<_>) =
        upstreams.collect::<Fallible<Vec<_>>>()?.into_iter().unzip();
    let ids: Vec<u32> = upstreams.iter().map(Process::id).collect();
    let addresses: Vec<_> = ports
        .iter()
        .map(|&port| ([127, 0, 0, 1], port).into())
        .collect();

    let mut arms = vec![
        Arm::direct("no balancer: a counter", Balancer::Counter, &addresses),
        Arm::direct("evenkeel, `RoundRobin`", Balancer::RoundRobin, &addresses),
        Arm::direct("evenkeel, `PowerOfTwo`", Balancer::PowerOfTwo, &addresses),
        Arm::direct("evenkeel, default", Balancer::Default, &addresses),
    ];
    for proxy in Proxy::ALL {
        arms.push(Arm::through(proxy, proxy.start(&addresses, folder.path())));
    }

    let count = arms.len();
    for round in 0..plan.rounds {
        for turn in 0..count {
            // Each round begins with another arm, so that no arm always comes first. The order of the arms stays the
            // same.
            let arm = &mut arms[(turn + round) % count];
            if arm.failure.is_some() {
                continue;
            }
            eprintln!("round {} of {}: {}", round + 1, plan.rounds, arm.name);
            arm.take_turn(plan, &ids).await;
        }
    }
    while begun.elapsed() + plan.turn() < plan.at_most {
        let lacks = |arm: &&mut Arm| arm.failure.is_none() && arm.quiet_turns() < plan.rounds;
        let lacking = arms.iter_mut().filter(lacks);
        // The arm with the fewest turns goes next, so that no arm uses up the time.
        let Some(arm) = lacking.min_by_key(|arm| arm.many.len()) else {
            break;
        };
        eprintln!("once more, for others disturbed: {}", arm.name);
        arm.take_turn(plan, &ids).await;
    }

    report::print(plan, &arms);
    println!("\ntook {:.0} s", begun.elapsed().as_secs_f64());
    let errors = arms.iter().flat_map(|arm| arm.many.iter().chain(&arm.one));
    let errors: f64 = errors.map(|run| run.errors).sum();
    if errors > 0.0 {
        println!("{errors} requests failed, and none should.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
