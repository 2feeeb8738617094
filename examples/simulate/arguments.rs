//! The command line.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use evenkeel::sim::{self, Policy, Scenario};

use crate::names::Names;

/// The command that runs this example.
pub(crate) const COMMAND: &str = "cargo run --release --features sim --example simulate --";

pub(crate) struct Arguments {
    pub(crate) scenarios: Vec<Scenario>,
    /// The chosen policies, followed by the oracles.
    pub(crate) policies: Vec<Policy>,
    pub(crate) seeds: Range<u64>,
    pub(crate) cut: Option<Duration>,
    pub(crate) threads: usize,
    pub(crate) list: bool,
    pub(crate) outputs: Outputs,
    /// The whole command line, as it can be typed again.
    pub(crate) command: String,
}

/// Files to write in addition to the printed table.
#[derive(Default)]
pub(crate) struct Outputs {
    pub(crate) json: Option<PathBuf>,
    pub(crate) markdown: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
}

impl Arguments {
    /// Parses the command line. Ends the program with exit code 2 if the arguments are invalid.
    pub(crate) fn from_command_line() -> Self {
        let mut command = command();
        let matches = command.get_matches_mut();
        Self::new(&matches, std::env::args().skip(1))
            .unwrap_or_else(|message| command.error(ErrorKind::ValueValidation, message).exit())
    }

    fn new(matches: &ArgMatches, typed: impl Iterator<Item = String>) -> Result<Self, String> {
        let cut = matches.get_one::<Duration>("cut").copied();
        let chosen = chosen(matches, "scenario");
        let scenarios = sim::scenarios().into_iter();
        let scenarios = scenarios.filter(|scenario| is_chosen(&chosen, scenario.name()));
        let scenarios = scenarios.map(|scenario| match cut {
            Some(length) => scenario.cut_to(length),
            None => scenario,
        });
        let first: u64 = *matches.get_one("seed").expect("it has a default");
        let seeds: u64 = *matches.get_one("seeds").expect("it has a default");
        let end = first
            .checked_add(seeds)
            .ok_or("there are no seeds that high")?;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = matches.get_one::<u64>("threads");
        let path = |name| matches.get_one::<PathBuf>(name).cloned();
        let outputs = Outputs {
            json: path("json"),
            markdown: path("markdown"),
            svg: path("svg"),
        };
        outputs.check()?;
        Ok(Self {
            scenarios: scenarios.collect(),
            policies: policies(matches),
            seeds: first..end,
            cut,
            threads: threads.map_or_else(cores, |count| *count as usize),
            list: matches.get_flag("list"),
            outputs,
            command: typed.fold(COMMAND.into(), |line, word| line + " " + &quoted(&word)),
        })
    }
}

impl Outputs {
    /// Checks the paths before the runs, so that a bad one does not lose their results.
    fn check(&self) -> Result<(), String> {
        for file in [&self.json, &self.markdown].into_iter().flatten() {
            let folder = file
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            if !folder.unwrap_or_else(|| Path::new(".")).is_dir() || file.is_dir() {
                return Err(format!("{} cannot be a file", file.display()));
            }
        }
        match &self.svg {
            Some(folder) if folder.exists() && !folder.is_dir() => {
                Err(format!("{} is not a folder", folder.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The names given for this argument; an empty list means all.
fn chosen(matches: &ArgMatches, argument: &str) -> Vec<String> {
    let values = matches.get_many::<Vec<String>>(argument);
    values.into_iter().flatten().flatten().cloned().collect()
}

fn is_chosen(chosen: &[String], name: &str) -> bool {
    chosen.is_empty() || chosen.iter().any(|one| one == name)
}

fn policies(matches: &ArgMatches) -> Vec<Policy> {
    let chosen = chosen(matches, "policy");
    let without_oracles = matches.get_flag("no-oracles");
    let (oracles, others): (Vec<_>, Vec<_>) =
        sim::policies().into_iter().partition(Policy::is_oracle);
    let others = others
        .into_iter()
        .filter(|policy| is_chosen(&chosen, policy.name()));
    // An oracle that was asked for by name runs in spite of `--no-oracles`.
    let named = |policy: &Policy| chosen.iter().any(|one| one == policy.name());
    let oracles = oracles
        .into_iter()
        .filter(|oracle| !without_oracles || named(oracle));
    others.chain(oracles).collect()
}

/// The word, quoted if a shell needs that to take it as one word.
fn quoted(word: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_./,=:+@%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(length) if (1.0..=3600.0).contains(&length.as_secs_f64()) => Ok(length),
        _ => Err("a run takes from a second to an hour".into()),
    }
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn command() -> Command {
    let scenarios = Names {
        known: sim::scenarios()
            .iter()
            .map(|scenario| scenario.name().into())
            .collect(),
        groups: true,
    };
    let policies = Names {
        known: sim::policies()
            .iter()
            .map(|policy| policy.name().into())
            .collect(),
        groups: false,
    };
    let path = || value_parser!(PathBuf);
    let at_least_one = || value_parser!(u64).range(1..);
    Command::new("simulate")
        .bin_name(COMMAND)
        .about("Simulates balancers side by side and prints their tail latencies and errors.")
        .arg(
            Arg::new("scenario")
                .num_args(0..)
                .value_parser(scenarios)
                .help("Scenarios by name, in any case, or groups such as S5 for S5a and S5b [default: all]"),
        )
        .args([
            option("policy", "NAME", "Policies, separated by commas, or given again and again; the oracles run as well [default: all]")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_parser(policies),
            flag("no-oracles", "Do not run the oracles, which give the bound"),
            option("seeds", "N", "How many seeds").default_value("2").value_parser(at_least_one()),
            option("seed", "FIRST", "The first seed").default_value("1").value_parser(value_parser!(u64)),
            option("cut", "SECONDS", "Cut every scenario to so much virtual time").value_parser(duration),
            option("threads", "N", "On so many threads [default: one for each core]")
                .value_parser(at_least_one()),
            option("json", "FILE", "Write all figures, moments included, as JSON").value_parser(path()),
            option("markdown", "FILE", "Write the table as markdown").value_parser(path()),
            option("svg", "DIR", "Draw two pictures of each scenario").value_parser(path()),
            flag("list", "Say what the scenarios and policies are, and run nothing"),
        ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        let all = std::iter::once("simulate").chain(words.iter().copied());
        let matches = command()
            .try_get_matches_from(all)
            .map_err(|error| error.to_string())?;
        Arguments::new(&matches, words.iter().map(|word| (*word).into()))
    }

    fn names(policies: &[Policy]) -> Vec<&str> {
        policies.iter().map(Policy::name).collect()
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn without_arguments_it_is_everything() {
        let arguments = parse(&[]).unwrap();
        assert_eq!(arguments.scenarios.len(), sim::scenarios().len());
        assert_eq!(arguments.policies.len(), sim::policies().len());
        assert_eq!((arguments.seeds, arguments.cut), (1..3, None));
    }

    #[test]
    fn oracles_come_in_addition() {
        let with = parse(&["--policy", "p2c,random", "--policy", "scan"]).unwrap();
        assert_eq!(names(&with.policies)[..3], ["random", "p2c", "scan"]);
        assert!(with.policies.len() > 3 && with.policies[3..].iter().all(Policy::is_oracle));
        let without = parse(&["--no-oracles", "--policy", "p2c,oracle-work"]).unwrap();
        assert_eq!(names(&without.policies), ["p2c", "oracle-work"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (words, text) in [
            (&["s1e-11"][..], "a similar value exists: 'S1e-1'"),
            (
                &["--policy", "least-conections"],
                "a similar value exists: 'least-connections'",
            ),
            (&["--seeds", "0"], "0 is not in 1.."),
            (&["--seed", "18446744073709551615"], "no seeds that high"),
            (&["--cut", "0"], "from a second to an hour"),
            (&["--json", "/nowhere/at/all"], "cannot be a file"),
        ] {
            let error = parse(words).err().unwrap();
            assert!(error.contains(text), "{words:?}: {error}");
        }
    }

    #[test]
    fn the_command_can_be_typed_again() {
        let arguments = parse(&["s5B", "--cut", "12", "--svg", "my pictures"]).unwrap();
        assert_eq!(arguments.scenarios[0].name(), "S5b");
        assert!(
            arguments
                .command
                .ends_with("-- s5B --cut 12 --svg 'my pictures'")
        );
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
