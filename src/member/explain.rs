//! Why a member takes requests or does not: [`Member::explain`].

use std::time::Duration;

use super::standing::{Phase, Standing};
use super::state::{State, Tracker};
use super::{Member, MemberState};
use crate::endpoint::{Endpoint, Weight};
use crate::health::{Detector, Ejection, PanicAction, health};
use crate::options::MemberId;
use crate::shared::OVERDUE;
use crate::sync::Ordering;
use crate::time::Tick;

mod show;

pub(crate) use show::Ordinal;

/// Why an endpoint takes requests, or does not, at one moment: as data, and as one line ([`Display`](std::fmt::Display)). See
/// [`Member::explain`].
///
/// What is not known is `None`. Each number is right by itself; together they are of one moment only while
/// nothing moves. Durations are by the fleet's clock.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// Which incarnation it is.
    pub id: MemberId,
    /// Where it stands. What a [mark](crate::Mark) says is a state of its own.
    pub state: MemberState,
    /// Whether a pick may choose it now, by its state, the panic rule and its limit (in slow start, by its share). An ejected one may still
    /// get a request as a probe.
    pub is_eligible: bool,
    /// Whether so few are eligible that the [panic rule](crate::PanicRule) acts. Under [`Tiers`](crate::Tiers), which applies it to
    /// each priority, never: see [`Fleet::tiers`](crate::Fleet::tiers).
    pub panicking: bool,
    /// In panic, what picks do; then the state does not decide.
    pub panic_action: PanicAction,
    /// For how long it has stood so; an ejected one, since it was ejected. `None` if it has since it came. By
    /// a counter of milliseconds that starts over after 49 days, except of ejections.
    pub since: Option<Duration>,
    /// How long until it stands otherwise by itself: ejected, until a probe is due (zero if it is); probed, until the probe is
    /// given up; in slow start, until its share is full.
    pub until: Option<Duration>,
    /// While it is ejected or probed: why.
    pub ejection: Option<EjectionReason>,
    /// How many ejections in a row count still, 0 to 31. Each makes the next longer
    /// ([`Ejection::backoff`](crate::Ejection::backoff)).
    pub times: u32,
    /// How strong the evidence of the sequential test is, against
    /// [`cusum_threshold`](crate::Ejection::cusum_threshold). `None` with a tracker of yours.
    pub evidence: Option<Figure>,
    /// The score against [`score_threshold`](crate::Ejection::score_threshold). With the built-in tracker of now; else, as
    /// [`Member::score`], of the last upkeep.
    pub score: Figure,
    /// Requests in the sliding window that ended well or in a fault, against the
    /// [`minimum_volume`](crate::Ejection::minimum_volume) that a score needs. `None` with a tracker of yours.
    pub requests_in_window: Option<Figure>,
    /// Those of them that ended in a fault.
    pub faults_in_window: Option<u64>,
    /// What each detector that is on measures now, in the order of [`Detector::ALL`], each as [`EjectionReason::measured`], and what it is
    /// held against. Success rates and latencies are held against the other endpoints' at upkeep: here by the last, and by none if
    /// too few had enough requests. With a tracker of yours latency and the score only.
    pub detectors: Vec<(Detector, Figure)>,
    /// The share of the fleet's requests that fail, 0 to 1, as of the last upkeep, without endpoints that stand out. `None`
    /// while no upkeep has looked at an endpoint that is judged.
    pub usual_error_rate: Option<f64>,
    /// Its latency, as [`Member::latency`].
    pub latency: Option<Duration>,
    /// The fleet's median of those, as of the last upkeep.
    pub usual_latency: Option<Duration>,
    /// How many times the usual latency a request is taken to cost here where nothing is in flight: by its latency, more than in
    /// proportion where that is well above the usual, and by its errors; three times that where what is in flight has been so for longer.
    /// Policies that compare costs ([`Adaptive`](crate::Adaptive)) send an endpoint that costs a few times as much next to nothing, though
    /// it is eligible. `None` while either is not known.
    pub cost: Option<f64>,
    /// For how long policies that look at it prefer others, as it has said that it has too much to do
    /// ([`Outcome::Overloaded`](crate::Outcome::Overloaded)) or goes away.
    pub spared_for: Option<Duration>,
    /// In slow start: the share of requests that it takes of those that fall on it, up to 1.
    pub slow_start_share: Option<f64>,
    /// Requests in flight.
    pub in_flight: u64,
    /// How many there may be ([`Limits`](crate::Limits)). At its limit it is not eligible, whatever its state.
    pub limit: Option<u32>,
    /// Its weight.
    pub weight: Weight,
}

/// Why an endpoint is ejected. See [`Explanation::ejection`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EjectionReason {
    /// What found it bad. `None` only in the moment in which it turns ejected.
    pub detector: Option<Detector>,
    /// What was measured then, and the threshold that it reached, as in that detector's setting: the strength
    /// of evidence, a number in a row, a share of 1 (success rate), percent (failure percentage), seconds (latency),
    /// a score. `None` for trackers and checks, which keep theirs to themselves, and for an ejection from before a
    /// removal.
    pub measured: Option<Figure>,
    /// How many good probes are wanted still, from 1 on, if the fleet fails no more than now; checks count as probes
    /// ([`Ejection::healthy_threshold`](crate::Ejection::healthy_threshold)). `None` where checks took it out,
    /// which count for themselves what they want.
    pub probes_wanted: Option<u32>,
}

/// A number, and the one that it is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Figure {
    /// What it is.
    pub value: f64,
    /// Where it ejects, or counts. `None` if that is turned off.
    pub threshold: Option<f64>,
}

impl<E: Endpoint> Member<E> {
    /// Why it takes requests, or does not. For operators: it reads a few dozen words, allocates a list and takes no lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenkeel::{Detector, Fleet, ManualClock, MemberState, Outcome};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let fleet = Fleet::builder()
    ///     .endpoints(["a", "b", "c"].map(String::from))
    ///     .clock(clock.clone())
    ///     .build()?;
    /// let a = fleet.member(&"a".to_string()).ok_or("it is there")?;
    /// assert_eq!(a.explain().to_string(), "ready; evidence 0.0 of 11.0, 0 faults in 0 requests, 0 in flight");
    ///
    /// for _ in 0..2 {
    ///     fleet.lease(&"a".to_string())?.record(Outcome::Failure);
    /// }
    /// clock.advance(Duration::from_millis(1200));
    /// let why = a.explain();
    /// assert_eq!((why.state, why.is_eligible), (MemberState::Ejected, false));
    /// let ejection = why.ejection.ok_or("it is ejected")?;
    /// assert_eq!(ejection.detector, Some(Detector::Cusum));
    /// assert_eq!(ejection.probes_wanted, Some(5));
    /// // ejected by the sequential test 1.2 s ago (evidence 11.4 of 11.0), probe in 0.6 s, 5 good probes wanted;
    /// // 0 in flight
    /// assert!(why.to_string().starts_with("ejected by the sequential test 1.2 s ago (evidence 11.4 of 11.0), probe in"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let state = &**self.core();
        let shared = &*state.shared;
        let (now, standing) = (shared.now(), state.standing.get());
        let stands = self.state_of(standing);
        let panicking = shared.ledger.panics();
        let panic_action = shared.ledger.rule().action;
        let is_eligible = match (stands, panicking, panic_action) {
            (MemberState::Draining | MemberState::Idle, ..) | (_, true, PanicAction::FailFast) => {
                false
            }
            (_, true, PanicAction::IgnoreHealth) => true,
            _ => standing.takes_requests(),
        };
        let (in_flight, limit) = (state.gate.inside(), state.gate.limit());
        let window = shared.slow_start.window;
        let warming = state
            .warming_for(standing, now)
            .map(|so_far| so_far.min(window));
        let until = match warming {
            Some(so_far) => Some(window - so_far),
            None if standing.is_ejected() => Some(standing.probe_due_at(now).since(now)),
            None => None,
        };
        let usual = shared.usual();
        let settings = &shared.ejection;
        let (counts, judging) = (state.gate.counts(now), state.judging(now, &usual));
        let above = |threshold: f64| Some(threshold).filter(|threshold| *threshold > 0.0);
        let (rule, score) = match &state.tracker {
            Tracker::Window(rule, _) => (Some(rule), health(counts, &judging).score),
            Tracker::Custom(_) => (None, state.score()),
        };
        Explanation {
            id: state.id,
            state: stands,
            is_eligible: is_eligible && !is_full(in_flight, limit),
            panicking,
            panic_action,
            since: state.stood_for(standing, now),
            until,
            ejection: standing.is_ejected().then(|| state.reason()),
            times: standing.times,
            evidence: rule.map(|_| Figure {
                value: state.evidence(now).into(),
                threshold: above(settings.cusum_threshold),
            }),
            score: Figure {
                value: score,
                threshold: above(settings.score_threshold),
            },
            requests_in_window: rule.map(|_| Figure {
                value: counts.total as f64,
                threshold: above(settings.score_threshold)
                    .map(|_| settings.minimum_volume.max(1) as f64),
            }),
            faults_in_window: rule.map(|_| counts.faults),
            detectors: state.measure_all(now),
            usual_error_rate: shared.trend.known_error_rate(),
            latency: state.latency.get(),
            usual_latency: usual.latency(),
            cost: state.relative_cost(now),
            spared_for: state.spared_for(now),
            slow_start_share: warming.map(|so_far| state.share_after(so_far)),
            in_flight,
            limit,
            weight: self.weight(),
        }
    }
}

fn is_full(in_flight: u64, limit: Option<u32>) -> bool {
    limit.is_some_and(|limit| in_flight >= limit.into())
}

impl State {
    fn reason(&self) -> EjectionReason {
        let wanted = self.wanted();
        // ORDERING: Relaxed. For display.
        let measured = unpack(self.evidence.load(Ordering::Relaxed));
        EjectionReason {
            detector: self.cause(),
            measured,
            // The last one leaves less than a half.
            probes_wanted: (wanted > 0.0).then(|| (wanted + 0.5).floor().max(1.0) as u32),
        }
    }

    /// What a request is taken to cost, as a multiple of the usual latency.
    fn relative_cost(&self, now: Tick) -> Option<f64> {
        let (place, usual) = (self.place.as_ref()?, self.shared.usual().latency()?);
        let known = f64::from(place.cost()?);
        let age = place
            .waiting(now, Some(usual))
            .map_or(0.0, |age| age.as_nanos() as f64);
        let overdue = f64::from(OVERDUE);
        let times = if age > overdue * known { overdue } else { 1.0 };
        Some(known * times / usual.as_nanos().max(1) as f64)
    }

    /// For how long it has stood so.
    fn stood_for(&self, standing: Standing, now: Tick) -> Option<Duration> {
        match standing.phase {
            Phase::Ejected | Phase::Probing => Some(now.since(Tick::from_nanos(self.ejected_at()))),
            Phase::Warming => standing.warming_for(now),
            _ => standing.moved_for(now),
        }
    }

    /// Notes what this detector has measured.
    pub(super) fn note_evidence(&self, detector: Detector, now: Tick) {
        let figure = self.measure(detector, now).zip(self.held_against(detector));
        let (value, threshold) = figure.unzip();
        // ORDERING: Relaxed. For display.
        self.evidence
            .store(pack(value, threshold), Ordering::Relaxed);
    }

    /// What each detector that is on measures now.
    fn measure_all(&self, now: Tick) -> Vec<(Detector, Figure)> {
        let is_counted = matches!(self.tracker, Tracker::Window(..));
        let is_on = |detector: &Detector| {
            let needs_counts = !matches!(detector, Detector::LatencyOutlier | Detector::Score);
            is_on(*detector, &self.shared.ejection) && (is_counted || !needs_counts)
        };
        let figure = |detector| {
            let threshold = self.held_against(detector);
            let value = self.measure(detector, now)?;
            Some((detector, Figure { value, threshold }))
        };
        let all = Detector::ALL.into_iter().filter(is_on);
        all.filter_map(figure).collect()
    }

    /// What this detector measures now, if it is known.
    fn measure(&self, detector: Detector, now: Tick) -> Option<f64> {
        let counts = self.gate.counts(now);
        let faults = counts.faults as f64 / counts.total.max(1) as f64;
        match (detector, &self.tracker) {
            (Detector::Cusum, Tracker::Window(..)) => Some(self.evidence(now).into()),
            (
                Detector::ConsecutiveFailures
                | Detector::ConsecutiveGatewayFailures
                | Detector::ConsecutiveLocalOriginFailures,
                Tracker::Window(rule, _),
            ) => Some(rule.in_a_row(detector) as f64),
            (Detector::SuccessRate, _) => Some(1.0 - faults),
            (Detector::FailurePercentage, _) => Some(faults * 100.0),
            (Detector::LatencyOutlier, _) => self.latency.get().map(|it| it.as_secs_f64()),
            (Detector::Score, Tracker::Window(..)) => {
                let usual = self.shared.usual();
                Some(health(counts, &self.judging(now, &usual)).score)
            }
            (Detector::Score, Tracker::Custom(_)) => Some(self.score()),
            _ => None,
        }
    }

    /// What this detector's figure is held against: what is set, or what upkeep has found.
    fn held_against(&self, detector: Detector) -> Option<f64> {
        let by_upkeep = self.shared.trend.limit(detector);
        match detector {
            Detector::SuccessRate => by_upkeep,
            Detector::LatencyOutlier => by_upkeep.map(|nanos| nanos / 1e9),
            set => setting(set, &self.shared.ejection),
        }
    }
}

/// What is set for this detector; `None` for those without a setting of their own.
fn setting(detector: Detector, settings: &Ejection) -> Option<f64> {
    Some(match detector {
        Detector::Cusum => settings.cusum_threshold,
        Detector::ConsecutiveFailures => settings.consecutive_failures.into(),
        Detector::ConsecutiveGatewayFailures => settings.consecutive_gateway_failures.into(),
        Detector::ConsecutiveLocalOriginFailures => {
            settings.consecutive_local_origin_failures.into()
        }
        Detector::SuccessRate => settings.success_rate_stdev_factor,
        Detector::FailurePercentage => settings.failure_percentage_threshold.into(),
        Detector::LatencyOutlier => settings.latency_factor,
        Detector::Score => settings.score_threshold,
        Detector::Tracker | Detector::ActiveCheck | Detector::GoingAway => return None,
    })
}

fn is_on(detector: Detector, settings: &Ejection) -> bool {
    setting(detector, settings).is_some_and(|threshold| threshold > 0.0)
}

/// Two numbers in a word.
pub(super) fn pack(value: Option<f64>, threshold: Option<f64>) -> u64 {
    let bits = |number: Option<f64>| u64::from((number.unwrap_or(f64::NAN) as f32).to_bits());
    bits(value) << 32 | bits(threshold)
}

fn unpack(word: u64) -> Option<Figure> {
    // In the shortest decimals that make the same f32: 0.35 and not 0.349999994.
    let number = |bits: u32| {
        let number = f32::from_bits(bits);
        (!number.is_nan()).then(|| number.to_string().parse().unwrap_or_else(|_| number.into()))
    };
    Some(Figure {
        value: number((word >> 32) as u32)?,
        threshold: number(word as u32),
    })
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests;
