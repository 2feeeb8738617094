//! The measurements of a run, and the line in which the load passes them to the comparison.

use crate::Fallible;

/// Measurements of a run. Times are in microseconds; CPU times are per request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) errors: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) client: f64,
    pub(crate) upstreams: f64,
    pub(crate) proxy: f64,
    /// How much of the machine other processes used during the run, in percent.
    pub(crate) others: f64,
}

/// A run counts as disturbed if other processes used more of the machine than this, in percent.
const DISTURBED: f64 = 3.0;

impl Measured {
    pub(crate) fn is_quiet(&self) -> bool {
        self.others <= DISTURBED
    }

    /// The runs to use: the undisturbed ones, or all if there are none.
    pub(crate) fn quiet(runs: &[Self]) -> Vec<Self> {
        let quiet: Vec<Self> = runs.iter().filter(|run| run.is_quiet()).cloned().collect();
        if quiet.is_empty() {
            return runs.to_vec();
        }
        quiet
    }

    pub(crate) fn cpu(&self) -> f64 {
        self.client + self.upstreams + self.proxy
    }

    fn numbers(&self) -> [f64; 8] {
        [
            self.rate,
            self.errors,
            self.p50,
            self.p99,
            self.client,
            self.upstreams,
            self.proxy,
            self.others,
        ]
    }

    fn of([rate, errors, p50, p99, client, upstreams, proxy, others]: [f64; 8]) -> Self {
        Self {
            rate,
            errors,
            p50,
            p99,
            client,
            upstreams,
            proxy,
            others,
        }
    }

    pub(crate) fn line(&self) -> String {
        self.numbers().map(|number| number.to_string()).join(" ")
    }

    pub(crate) fn parse(line: &str) -> Fallible<Self> {
        let numbers = line.split_whitespace().map(str::parse);
        let numbers = numbers.collect::<Result<Vec<f64>, _>>()?;
        let numbers = <[f64; 8]>::try_from(numbers);
        Ok(Self::of(
            numbers.map_err(|_| "the load printed something else")?,
        ))
    }

    /// The median of each number, except errors, which are summed.
    pub(crate) fn median(runs: &[Self]) -> Option<Self> {
        let last = runs.len().checked_sub(1)?;
        let medians = std::array::from_fn(|at| {
            let mut column: Vec<f64> = runs.iter().map(|run| run.numbers()[at]).collect();
            column.sort_unstable_by(f64::total_cmp);
            // With an even number of runs, the middle of the two middle values.
            f64::midpoint(column[last / 2], column[last.div_ceil(2)])
        });
        Some(Self {
            errors: runs.iter().map(|run| run.errors).sum(),
            ..Self::of(medians)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        let measured = Measured::of([1.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.125]);
        assert_eq!(Measured::parse(&measured.line()).unwrap(), measured);
        assert!(Measured::parse("1 2").is_err());
    }

    #[test]
    fn medians_are_of_each_number_and_errors_are_summed() {
        let run = |rate, errors, p50| Measured {
            rate,
            errors,
            p50,
            ..Measured::default()
        };
        let runs = [run(1.0, 1.0, 9.0), run(3.0, 0.0, 8.0), run(2.0, 1.0, 5.0)];
        let median = Measured::median(&runs).unwrap();
        assert_eq!((median.rate, median.errors, median.p50), (2.0, 2.0, 8.0));
        let of_two = Measured::median(&runs[..2]).unwrap();
        assert_eq!(of_two.rate, 2.0);
        assert_eq!(Measured::median(&[]), None);
    }

    #[test]
    fn disturbed_runs_count_only_if_there_is_no_other() {
        let run = |others| Measured {
            others,
            ..Measured::default()
        };
        assert_eq!(Measured::quiet(&[run(0.0), run(50.0)]), [run(0.0)]);
        assert_eq!(Measured::quiet(&[run(50.0)]), [run(50.0)]);
    }
}
