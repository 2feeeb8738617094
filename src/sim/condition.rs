//! What is wrong with a server at a time: how the faults that are on add up.

use super::fault::What;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) slow: f64,
    /// The share of requests that fail.
    pub(super) fails: f64,
    failure_work: f64,
    pub(super) stalled: bool,
    answers: Option<f64>,
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

    /// Whether it does not answer at all.
    pub(super) const fn is_silent(&self) -> bool {
        self.refuses || self.hangs || self.stalled
    }

    /// How much work a request is, and whether it fails. `luck` and `other` are the request's own shares of
    /// 1 at this server.
    pub(super) fn work_of(&self, work: f64, luck: f64, other: f64) -> (f64, bool) {
        if luck <= self.fails {
            return (self.failure_work, true);
        }
        let work = self.answers.unwrap_or(work);
        match self.tail {
            Some((share, times)) if other <= share => (work * times, false),
            _ => (work, false),
        }
    }

    /// The same of a check, of which `luck` is the share of 1. What requests ask for makes no difference to it.
    pub(super) fn check(&self, work: f64, luck: f64) -> (f64, bool) {
        if luck <= self.fails {
            (self.failure_work, true)
        } else {
            (work, false)
        }
    }

    /// How much work a request is that does not fail, as far as that can be known before.
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
