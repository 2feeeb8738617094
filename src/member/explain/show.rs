//! An explanation as one line.

use std::fmt;
use std::time::Duration;

use super::{Explanation, Figure, is_full};
use crate::health::{Detector, PanicAction};
use crate::member::MemberState;

/// A cost of at least this many times the usual is shown; less is noise.
const PLAIN: f64 = 2.0;

/// One line, such as `ejected by the sequential test 1.2 s ago (evidence 11.4 of 11.0), probe in 0.8 s, 2nd time in a
/// row, 5 good probes wanted; 0 in flight`.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show_state(f)?;
        if self.panicking && !matches!(self.state, MemberState::Idle | MemberState::Draining) {
            f.write_str(match self.panic_action {
                PanicAction::IgnoreHealth => "; panic: takes requests whatever its health",
                PanicAction::FailFast => "; panic: picks fail",
            })?;
        }
        let is_judged = matches!(
            self.state,
            MemberState::Ready | MemberState::Degraded | MemberState::Warming
        );
        // Not for an endpoint that is out: it gets no requests anyhow.
        show(
            f,
            "; asked to be spared for ",
            self.spared_for.filter(|_| is_judged),
        )?;
        if let Some(cost) = self.cost.filter(|cost| is_judged && *cost >= PLAIN) {
            write!(f, "; costs {cost:.1} times the usual")?;
        }
        f.write_str(";")?;
        if is_judged {
            self.show_health(f)?;
        }
        write!(f, " {} in flight", self.in_flight)?;
        match self.limit {
            Some(limit) if is_full(self.in_flight, self.limit) => {
                write!(f, ", at its limit of {limit}")
            }
            Some(limit) => write!(f, " of {limit}"),
            None => Ok(()),
        }
    }
}

impl Explanation {
    fn show_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            MemberState::Ejected | MemberState::Probing => self.show_ejection(f),
            MemberState::Warming => self.show_slow_start(f),
            MemberState::Ready | MemberState::Degraded => {
                write!(f, "{}", self.state)?;
                show(f, " for ", self.since)
            }
            MemberState::Up | MemberState::Down => {
                write!(f, "marked {}", self.state)?;
                show(f, " for ", self.since)
            }
            MemberState::Idle => write!(f, "idle, of weight 0"),
            MemberState::Draining => write!(f, "draining or removed"),
        }
    }

    fn show_slow_start(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.slow_start_share.unwrap_or(1.0);
        write!(f, "in slow start")?;
        show(f, " for ", self.since)?;
        write!(f, ", at {share:.0} % of its share")?;
        match self.until {
            Some(Duration::ZERO) => write!(f, ", over with the next upkeep"),
            until => show(f, ", all of it in ", until),
        }
    }

    fn show_ejection(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ejection = self.ejection.as_ref();
        let detector = ejection.and_then(|ejection| ejection.detector);
        f.write_str("ejected")?;
        if let Some(detector) = detector {
            write!(f, " {}", detector.by())?;
        }
        if let Some(since) = self.since {
            write!(f, " {:.1} s ago", since.as_secs_f64())?;
        }
        if let (Some(detector), Some(measured)) = (detector, ejection.and_then(|it| it.measured)) {
            write!(f, " (")?;
            measured.show(detector, "", f)?;
            write!(f, ")")?;
        }
        match self.until {
            _ if self.state == MemberState::Probing => {
                write!(f, ", a probe is under way")?;
                show(f, ", to be given up in ", self.until)?;
            }
            Some(Duration::ZERO) => write!(f, ", probe due")?,
            until => show(f, ", probe in ", until)?,
        }
        if self.times > 1 {
            write!(f, ", {} time in a row", Ordinal(self.times))?;
        }
        match ejection.and_then(|ejection| ejection.probes_wanted) {
            None => Ok(()),
            Some(1) => write!(f, ", 1 good probe wanted"),
            Some(wanted) => write!(f, ", {wanted} good probes wanted"),
        }
    }

    fn show_health(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Figure {
            value,
            threshold: Some(threshold),
        }) = self.evidence
        {
            write!(f, " evidence {value:.1} of {threshold:.1},")?;
        }
        // The evidence is shown above, and the score follows from the faults shown below.
        let is_said = |detector| matches!(detector, Detector::Cusum | Detector::Score);
        for (detector, figure) in self.detectors.iter().filter(|one| !is_said(one.0)) {
            write!(f, " {} ", detector.name())?;
            figure.show(*detector, "ejects ", f)?;
            write!(f, ",")?;
        }
        if self.evidence.is_none() {
            write!(f, " score {:.2},", self.score.value)?;
        }
        let (faults, requests) = (self.faults_in_window, self.requests_in_window.value);
        write!(f, " {faults} faults in {requests} requests,")
    }
}

impl Figure {
    /// Shows the number in this detector's form. `ejects` goes before a threshold of the kind "below" or "above".
    fn show(&self, detector: Detector, ejects: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value;
        let Some(threshold) = self.threshold else {
            // Unknown: too few of the other endpoints had enough requests to compare with.
            return match detector {
                Detector::SuccessRate => write!(f, "{:.1} %", 100.0 * value),
                Detector::LatencyOutlier => write!(f, "{:.1} ms", 1e3 * value),
                _ => write!(f, "{value:.2}"),
            };
        };
        match detector {
            Detector::Cusum => write!(f, "evidence {value:.1} of {threshold:.1}"),
            Detector::ConsecutiveFailures
            | Detector::ConsecutiveGatewayFailures
            | Detector::ConsecutiveLocalOriginFailures => write!(f, "{value} of {threshold}"),
            Detector::SuccessRate => {
                let (value, threshold) = (100.0 * value, 100.0 * threshold);
                write!(f, "{value:.1} %, {ejects}below {threshold:.1} %")
            }
            Detector::FailurePercentage => write!(f, "{value:.1} % of {threshold:.1} %"),
            Detector::LatencyOutlier => {
                let (value, threshold) = (1e3 * value, 1e3 * threshold);
                write!(f, "{value:.1} ms, {ejects}above {threshold:.1} ms")
            }
            _ => write!(f, "{value:.2}, {ejects}below {threshold:.2}"),
        }
    }
}

/// Shows a number as 1st, 2nd, 3rd, 4th, 11th, 21st.
pub(crate) struct Ordinal(pub(crate) u32);

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match (self.0 % 10, self.0 / 10 % 10) {
            (_, 1) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        write!(f, "{}{ending}", self.0)
    }
}

fn show(f: &mut fmt::Formatter<'_>, before: &str, time: Option<Duration>) -> fmt::Result {
    match time {
        None => Ok(()),
        Some(time) => write!(f, "{before}{:.1} s", time.as_secs_f64()),
    }
}
