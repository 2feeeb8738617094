//! Collects the statistics of a run for its report.

use std::time::Duration;

use super::balancing::World;
use super::histogram::Histogram;
use super::report::{Figures, Latencies, Moment};
use super::scenario::Scenario;
use crate::time::nanos;

/// The sampling interval: a tenth of a second, in nanoseconds.
pub(super) const TICK: u64 = 100_000_000;

/// The number of slices of a run, for plots.
const MOMENTS: u64 = 120;

/// The counters of a stretch of time.
#[derive(Debug, Default)]
struct Stretch {
    /// The latencies of all requests. An error counts as the timeout or more.
    all: Histogram<7>,
    /// The latencies of successful requests.
    good: Histogram<7>,
    requests: u64,
    errors: u64,
    attempts: u64,
    denied: u64,
    /// Attempts sent to a machine while it was unwell.
    to_unwell: u64,
    /// The sum of the shares of unwell servers, over all samples.
    unwell: f64,
    /// The number of samples.
    ticks: f64,
    /// The number of attempts, by position.
    sent: Vec<u64>,
}

impl Stretch {
    fn add(&mut self, other: &Self) {
        self.all.add(&other.all);
        self.good.add(&other.good);
        self.requests += other.requests;
        self.errors += other.errors;
        self.attempts += other.attempts;
        self.denied += other.denied;
        self.to_unwell += other.to_unwell;
        self.unwell += other.unwell;
        self.ticks += other.ticks;
        for (sent, more) in self.sent.iter_mut().zip(&other.sent) {
            *sent += more;
        }
    }

    fn figures(&self, length: u64, speeds: &[f64]) -> Figures {
        let of = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let loads = || {
            self.sent
                .iter()
                .zip(speeds)
                .map(|(&sent, speed)| sent as f64 / speed)
        };
        let mean = loads().sum::<f64>() / speeds.len() as f64;
        Figures {
            requests: self.requests,
            latency: latencies(&self.all),
            success: latencies(&self.good),
            errors: of(self.errors, self.requests),
            goodput: (self.requests - self.errors) as f64 / (length as f64 / 1e9),
            attempts: of(self.attempts, self.requests),
            retries_denied: self.denied,
            share_to_unwell: of(self.to_unwell, self.attempts),
            unwell: self.unwell / self.ticks.max(1.0),
            max_over_mean: loads().fold(0.0, f64::max) / mean.max(1e-9),
        }
    }
}

fn latencies(histogram: &Histogram<7>) -> Latencies {
    let at = |share| Duration::from_nanos(histogram.percentile(share));
    Latencies {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        mean: Duration::from_nanos(histogram.mean() as u64),
    }
}

/// The counters of a slice of the run.
#[derive(Debug, Default)]
struct Slice {
    latency: Histogram<5>,
    errors: u64,
    requests: u64,
    attempts: u64,
    /// Attempts to the targets, or to unwell machines if there are no targets.
    to_plotted: u64,
}

/// The attempts in a tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Tenth {
    attempts: u32,
    to_targets: u32,
}

/// The statistics of a run.
#[derive(Debug)]
pub(super) struct Meter {
    window: (u64, u64),
    warm_up: u64,
    length: u64,
    timeout: u64,
    speeds: Vec<f64>,
    /// Whether a fault singles out the position: then it is a target.
    targets: Vec<bool>,
    /// The targets' share of the total weight.
    fair: f64,
    /// When the first fault with targets begins, and when the last ends. `None` if there are no targets, or only
    /// targets.
    fault: Option<(u64, u64)>,
    /// The statistics after the warm-up, without those of the window.
    outside: Stretch,
    /// The statistics of the window.
    inside: Stretch,
    slices: Vec<Slice>,
    tenths: Vec<Tenth>,
    pub(super) ejections: u64,
    pub(super) false_ejections: u64,
    /// The sum of the shares of ejected endpoints, over the samples in the window.
    ejected: f64,
    most_ejected: f64,
    /// At the end of the last fault with targets: how long the ejection of each target by each client still lasts.
    /// Sorted.
    pub(super) out_for: Option<Vec<u64>>,
}

impl Meter {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let servers = scenario.speeds.len();
        let length = nanos(scenario.length);
        let window = (nanos(scenario.window.0), nanos(scenario.window.1));
        let mut targets = vec![false; servers];
        let mut fault: Option<(u64, u64)> = None;
        let singling = scenario
            .faults
            .iter()
            .filter(|fault| fault.has_targets(servers));
        for one in singling {
            targets[one.positions(servers)].fill(true);
            let (from, to) = one.span(window);
            let (first, last) = fault.unwrap_or((from, to));
            fault = Some((first.min(from), last.max(to)));
        }
        let weighed = |of_targets: bool| -> f64 {
            let weights = scenario.weights.iter().zip(&targets);
            let counted = weights.filter(|(_, target)| **target || !of_targets);
            counted.map(|(&weight, _)| f64::from(weight)).sum()
        };
        let fair = weighed(true) / weighed(false).max(1.0);
        // If faults single out every server at some time, none is singled out.
        let fault = fault.filter(|_| fair < 1.0);
        let stretch = || Stretch {
            sent: vec![0; servers],
            ..Stretch::default()
        };
        Self {
            window,
            warm_up: nanos(scenario.warm_up),
            length,
            timeout: nanos(scenario.timeout),
            speeds: scenario.speeds.clone(),
            targets,
            fair,
            fault,
            outside: stretch(),
            inside: stretch(),
            slices: (0..MOMENTS).map(|_| Slice::default()).collect(),
            tenths: vec![Tenth::default(); (length / TICK) as usize + 1],
            ejections: 0,
            false_ejections: 0,
            ejected: 0.0,
            most_ejected: 0.0,
            out_for: None,
        }
    }

    /// Whether `now` is the end of the last fault with targets.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.fault.is_some_and(|(_, end)| end == now)
    }

    /// Returns the targets: the positions that faults single out.
    pub(super) fn targets(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.targets.len()).filter(|&position| self.targets[position])
    }

    /// Returns the stretch to which a time belongs; `None` in the warm-up.
    fn stretch(&mut self, at: u64) -> Option<&mut Stretch> {
        if (self.window.0..self.window.1).contains(&at) {
            Some(&mut self.inside)
        } else if at >= self.warm_up {
            Some(&mut self.outside)
        } else {
            None
        }
    }

    fn slice(&mut self, at: u64) -> &mut Slice {
        let slice = (u128::from(at) * u128::from(MOMENTS) / u128::from(self.length)) as usize;
        let last = self.slices.len() - 1;
        &mut self.slices[slice.min(last)]
    }

    /// Counts an attempt, sent to the machine at `position`, of a request that arrived at the time `arrived`.
    pub(super) fn sent(&mut self, arrived: u64, now: u64, position: usize, unwell: bool) {
        if let Some(stretch) = self.stretch(arrived) {
            stretch.attempts += 1;
            stretch.to_unwell += u64::from(unwell);
            stretch.sent[position] += 1;
        }
        let target = self.targets[position];
        let is_plotted = if self.fault.is_some() { target } else { unwell };
        let slice = self.slice(now);
        slice.attempts += 1;
        slice.to_plotted += u64::from(is_plotted);
        if let Some(tenth) = self.tenths.get_mut((now / TICK) as usize) {
            tenth.attempts += 1;
            tenth.to_targets += u32::from(target);
        }
    }

    /// Counts a request that has ended for its client.
    pub(super) fn ended(&mut self, arrived: u64, now: u64, success: bool) {
        let took = now - arrived;
        let timeout = self.timeout;
        let counted = if success { took } else { took.max(timeout) };
        if let Some(stretch) = self.stretch(arrived) {
            stretch.requests += 1;
            stretch.errors += u64::from(!success);
            stretch.all.count(counted);
            if success {
                stretch.good.count(took);
            }
        }
        let slice = self.slice(arrived);
        slice.requests += 1;
        slice.errors += u64::from(!success);
        slice.latency.count(counted);
    }

    /// Counts a retry that the budget denied.
    pub(super) fn denied(&mut self, arrived: u64) {
        if let Some(stretch) = self.stretch(arrived) {
            stretch.denied += 1;
        }
    }

    /// Counts an ejection by a client. It is false if the machine was not unwell, now or within the timeout before, or
    /// if all machines were.
    pub(super) fn ejection(&mut self, machine: usize, world: &World) {
        self.ejections += 1;
        let unwell = |machine: usize| {
            let since = world.now.saturating_sub(self.timeout);
            world.machines[machine].was_unwell(since)
        };
        let all = || world.members.iter().all(|&member| unwell(member as usize));
        self.false_ejections += u64::from(!unwell(machine) || all());
    }

    /// Takes a sample, ten times a second. `ejected` is the number of ejected endpoints of all clients.
    pub(super) fn tick(&mut self, world: &World, ejected: usize, clients: usize) {
        let members = world.members.len() as f64;
        let share = ejected as f64 / (members * clients as f64);
        self.most_ejected = self.most_ejected.max(share);
        let is_unwell = |member: &&u32| world.machines[**member as usize].is_unwell();
        let unwell = world.members.iter().filter(is_unwell).count() as f64;
        if (self.window.0..self.window.1).contains(&world.now) {
            self.ejected += share;
        }
        if let Some(stretch) = self.stretch(world.now) {
            stretch.unwell += unwell / members;
            stretch.ticks += 1.0;
        }
    }

    pub(super) fn window_figures(&self) -> Figures {
        self.inside
            .figures(self.window.1 - self.window.0, &self.speeds)
    }

    pub(super) fn run_figures(&mut self) -> Figures {
        self.outside.add(&self.inside);
        self.outside
            .figures(self.length - self.warm_up, &self.speeds)
    }

    /// Returns the mean share of ejected endpoints in the window, and the largest share in the run.
    pub(super) fn ejected(&self) -> (f64, f64) {
        (self.ejected / self.inside.ticks.max(1.0), self.most_ejected)
    }

    pub(super) fn moments(&self) -> Vec<Moment> {
        let of = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let slices = self.slices.iter().zip(0u64..);
        let moments = slices.map(|(slice, number)| Moment {
            at: Duration::from_nanos(self.length / MOMENTS * number),
            p50: Duration::from_nanos(slice.latency.percentile(0.5)),
            p99: Duration::from_nanos(slice.latency.percentile(0.99)),
            errors: of(slice.errors, slice.requests),
            share: of(slice.to_plotted, slice.attempts),
        });
        moments.collect()
    }

    /// Returns how long clients took to avoid the targets and how long they took to use them again, as
    /// [`Report`](super::report::Report) describes it.
    pub(super) fn detection(&self) -> (Option<Duration>, Option<Duration>) {
        let Some((start, end)) = self.fault else {
            return (None, None);
        };
        let fair = self.fair;
        let tenth = |at: u64| (at.div_ceil(TICK) as usize).min(self.tenths.len());
        let (start, end) = (tenth(start), tenth(end));
        // Half a second, or as long as it takes to expect four attempts at the fair share: fewer are not significant.
        let attempts: u64 = self
            .tenths
            .iter()
            .map(|tenth| u64::from(tenth.attempts))
            .sum();
        let expected = fair * attempts as f64 / self.tenths.len() as f64;
        let stretch = ((4.0 / expected.max(1e-9)).ceil() as usize).max(5);
        let detected = self.tenths[start..end]
            .windows(stretch)
            .position(|stretch| {
                let (attempts, to_targets) = stretch.iter().fold((0, 0), |(all, bad), tenth| {
                    (all + tenth.attempts, bad + tenth.to_targets)
                });
                attempts > 0 && f64::from(to_targets) < fair / 4.0 * f64::from(attempts)
            });
        let recovered = self.tenths[end..].windows(10).position(|second| {
            let mut shares: Vec<f64> = second
                .iter()
                .map(|tenth| f64::from(tenth.to_targets) / f64::from(tenth.attempts.max(1)))
                .collect();
            shares.sort_by(f64::total_cmp);
            (shares[4] + shares[5]) / 2.0 >= fair / 2.0
        });
        let after = |tenths: usize| Duration::from_nanos(tenths as u64 * TICK);
        (detected.map(after), recovered.map(after))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::Fault;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Meters a run of 8 s in which one of four servers fails from 2 s to 4 s. Each tenth of a second has 40 attempts,
    /// of which `to_bad` go to the bad server.
    fn metered(to_bad: impl Fn(u64) -> u64) -> Meter {
        let scenario = Scenario::new("x", "")
            .servers(4)
            .length(8 * SECOND)
            .warm_up(SECOND)
            .window(2 * SECOND, 4 * SECOND)
            .fault(Fault::fails(1.0).on(0..1));
        let mut meter = Meter::new(&scenario);
        for tenth in 0..80 {
            let at = tenth * TICK + 1;
            let bad = to_bad(tenth);
            for attempt in 0..40 {
                let position = if attempt < bad {
                    0
                } else {
                    1 + attempt as usize % 3
                };
                meter.sent(at, at, position, position == 0 && (20..40).contains(&tenth));
                meter.ended(at, at + 5_000_000, position != 0);
            }
        }
        meter
    }

    /// The fair share is 10 of 40 attempts. A quarter of it is 2.5 attempts per tenth.
    #[test]
    fn a_fault_is_detected_when_half_a_second_is_below_a_quarter_of_the_fair_share() {
        let after = |tenths: u64| Some(Duration::from_millis(100 * tenths));
        let found = |to_bad: fn(u64) -> u64| metered(to_bad).detection().0;
        assert_eq!(found(|_| 0), after(0));
        assert_eq!(
            found(|tenth| if tenth < 27 { 10 } else { 0 }),
            after(6),
            "12 attempts are too many, 10 not"
        );
        assert_eq!(found(|_| 10), None);
        // Detection counts only while the fault lasts.
        assert_eq!(found(|tenth| if tenth < 40 { 10 } else { 0 }), None);
    }

    #[test]
    fn recovery_is_the_middle_of_the_first_second_with_half_the_fair_share() {
        let after = |tenths: u64| Some(Duration::from_millis(100 * tenths));
        let back = |to_bad: fn(u64) -> u64| metered(to_bad).detection().1;
        assert_eq!(back(|_| 10), after(0));
        assert_eq!(back(|_| 4), None);
        // The server gets its share from 5 s on. In the second from 4.5 s it has it in five tenths of ten, so the
        // median is half of the fair share.
        assert_eq!(back(|tenth| if tenth < 50 { 0 } else { 10 }), after(5));
        // A single tenth is not enough.
        assert_eq!(back(|tenth| if tenth == 50 { 40 } else { 0 }), None);
    }

    #[test]
    fn figures_are_of_their_stretch_and_errors_count_as_the_timeout() {
        let mut meter = metered(|tenth| if (20..40).contains(&tenth) { 10 } else { 0 });
        let window = meter.window_figures();
        assert_eq!((window.requests, window.errors), (800, 0.25));
        assert_eq!(window.goodput, 300.0);
        assert_eq!((window.attempts, window.share_to_unwell), (1.0, 0.25));
        assert!(window.latency.p90 >= Duration::from_millis(995));
        assert!(window.success.p99 < Duration::from_millis(6));
        let run = meter.run_figures();
        // The first second is the warm-up and does not count.
        assert_eq!((run.requests, run.errors), (2800, 200.0 / 2800.0));
    }

    #[test]
    fn load_is_for_the_speed() {
        let scenario = Scenario::new("x", "").servers(2).speed(1..2, 0.5);
        let mut meter = Meter::new(&scenario);
        for attempt in 0..9 {
            let at = nanos(20 * SECOND);
            meter.sent(at, at, usize::from(attempt % 3 == 0), false);
        }
        // 6 attempts go to the server of speed 1, and 3 to that of speed 0.5.
        assert_eq!(meter.window_figures().max_over_mean, 1.0);
    }
}
