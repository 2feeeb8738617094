//! What do a pick and a whole request cost, compared with those of other load balancers?
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`; add `-- --quick` to check that it runs. All arms
//! take turns in one run, in another order each round, so that other load on the machine affects all of them. Compare
//! ratios within one run; absolute times depend on the machine.

mod arm;
mod arms;
mod random;
mod table;

use std::time::{Duration, Instant};

use random::Random;

/// How much a run measures.
struct Plan {
    /// How many turns each arm gets.
    rounds: usize,
    /// About how long a turn takes. The iteration count is calibrated once to fit it.
    turn: Duration,
    /// No round begins after this time. A busy machine gets fewer rounds, not a longer run.
    deadline: Duration,
}

const WHOLE: Plan = Plan {
    rounds: 25,
    turn: Duration::from_millis(25),
    deadline: Duration::from_secs(180),
};

const QUICK: Plan = Plan {
    rounds: 3,
    turn: Duration::from_millis(4),
    deadline: Duration::from_secs(15),
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => WHOLE,
        ["--quick"] => QUICK,
        _ => {
            eprintln!("usage: evenkeel-peers [--quick]");
            std::process::exit(2);
        }
    };
    let started = Instant::now();
    let arms = arms::all();
    let counts: Vec<u64> = arms.iter().map(|arm| arm.calibrate(plan.turn)).collect();
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); arms.len()];
    let mut order: Vec<usize> = (0..arms.len()).collect();
    let mut random = Random::new(1);
    let mut rounds = 0;
    while rounds < plan.rounds && started.elapsed() < plan.deadline {
        random.shuffle(&mut order);
        for &index in &order {
            samples[index].push(arms[index].nanoseconds(counts[index]));
        }
        rounds += 1;
        eprintln!("round {rounds} of {}", plan.rounds);
    }
    println!("{}", table::markdown(&arms, &samples));
    println!(
        "Medians of {rounds} rounds, {} arms, {} s in all.",
        arms.len(),
        started.elapsed().as_secs()
    );
    println!(
        "Floor A with two threads is {:.2} times floor A with one. Well above 1, the two threads did not run at\n\
         the same time, and the columns for two threads say little: repeat it on a machine with less to do.",
        table::crowding(&arms, &samples)
    );
}
