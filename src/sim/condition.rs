//! The combined effect of all faults that are active on one server.

use super::fault::What;

/// The combined effect of all active faults on one server. Work is in nanoseconds at speed 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Condition {
    /// The factor on the server's speed.
    pub(super) slow: f64,
    /// The share of requests that fail.
    pub(super) fails: f64,
    /// The work of a request that fails.
    failure_work: f64,
    pub(super) stalled: bool,
    /// The work of every request that does not fail, in place of its own.
    answers: Option<f64>,
    /// The share of requests with more work, and the factor on the work of these.
    tail: Option<(f64, f64)>,
    pub(super) refuses: bool,
    pub(super) hangs: bool,
}

impl Condition {
    pub(super) const WELL: Self = Self {
        slow: 1.0,
        fails: 0.0,
        failure_work: 0.0,
        stalled: false,
        answers: None,
        tail: None,
        refuses: false,
        hangs: false,
    };

    pub(super) fn of(faults: impl Iterator<Item = What>) -> Self {
        let mut condition = Self::WELL;
        for what in faults {
            match what {
                What::Slow(times) => condition.slow *= times,
                What::Fails { share, taking } if share > condition.fails => {
                    (condition.fails, condition.failure_work) = (share, taking);
                }
                What::Fails { .. } => {}
                What::Stalls => condition.stalled = true,
                What::Answers(time) => condition.answers = Some(time),
                What::Tail { share, times } => condition.tail = Some((share, times)),
                What::Refuses => condition.refuses = true,
                What::Hangs => condition.hangs = true,
            }
        }
        condition
    }

    /// Whether the server serves no requests: it refuses them, hangs or is stalled.
    pub(super) const fn is_silent(&self) -> bool {
        self.refuses || self.hangs || self.stalled
    }

    /// Returns the work of a request and whether the request fails.
    ///
    /// `failure_draw` and `tail_draw` are the request's own random numbers at this server, above 0 and at most 1.
    /// `failure_draw` decides whether it fails, `tail_draw` whether it is in the tail.
    pub(super) fn work_of(&self, work: f64, failure_draw: f64, tail_draw: f64) -> (f64, bool) {
        if failure_draw <= self.fails {
            return (self.failure_work, true);
        }
        let work = self.answers.unwrap_or(work);
        match self.tail {
            Some((share, times)) if tail_draw <= share => (work * times, false),
            _ => (work, false),
        }
    }

    /// Returns the work of an active check and whether the check fails. `failure_draw` is its random number, above 0
    /// and at most 1. `answers` and `tail` do not apply, as they concern what requests ask for.
    pub(super) fn check(&self, work: f64, failure_draw: f64) -> (f64, bool) {
        if failure_draw <= self.fails {
            (self.failure_work, true)
        } else {
            (work, false)
        }
    }

    /// The expected work of a request that does not fail, before it is known whether the request is in the tail.
    pub(super) fn expected_work(&self, work: f64) -> f64 {
        let work = self.answers.unwrap_or(work);
        let (share, times) = self.tail.unwrap_or((0.0, 1.0));
        work * (1.0 + share * (times - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_shows_in_the_work() {
        let fails = What::Fails {
            share: 0.3,
            taking: 1.0,
        };
        let tail = What::Tail {
            share: 0.5,
            times: 4.0,
        };
        let condition = Condition::of([fails, tail].into_iter());
        assert_eq!(condition.work_of(10.0, 0.3, 1.0), (1.0, true));
        assert_eq!(condition.work_of(10.0, 0.31, 0.5), (40.0, false));
        assert_eq!(condition.work_of(10.0, 0.31, 0.6), (10.0, false));
        assert_eq!(condition.expected_work(10.0), 25.0);
        let answers = Condition::of([What::Answers(7.0)].into_iter());
        assert_eq!(answers.work_of(10.0, 0.5, 0.5), (7.0, false));
    }

    #[test]
    fn slownesses_multiply_and_none_is_well() {
        let twice = Condition::of([What::Slow(0.5), What::Slow(0.5)].into_iter());
        assert_eq!(twice.slow, 0.25);
        assert_eq!(Condition::of([].into_iter()), Condition::WELL);
    }
}
