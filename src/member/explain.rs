//! Why a member takes requests or does not: [`Member::explain`].

use std::time::Duration;

use super::standing::{Phase, Standing};
use super::state::{State, Tracker};
use super::{Member, MemberState};
use crate::endpoint::{Endpoint, Weight};
use crate::health::{Detector, Ejection, OVERDUE, PanicAction, health};
use crate::options::MemberId;
use crate::sync::Ordering;
use crate::time::Tick;

mod show;

pub(crate) use show::Ordinal;

/// Why an endpoint takes requests or does not, at one moment: as data, and as one line
/// ([`Display`](std::fmt::Display)). See [`Member::explain`].
///
/// What is not known is `None`. Each number is right by itself; together they are of one moment only while nothing
/// changes. Durations are by the fleet's clock.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The id of this incarnation of the endpoint.
    pub id: MemberId,
    /// The endpoint's state. A [mark](crate::Mark) shows as a state of its own.
    pub state: MemberState,
    /// Whether a pick may choose it now, by its state, the panic rule and its limit; in slow start, for its share of
    /// the picks. An ejected endpoint may still get a request as a probe.
    pub is_eligible: bool,
    /// Whether so few endpoints are eligible that the [panic rule](crate::PanicRule) acts. Always `false` under
    /// [`Tiers`](crate::Tiers), which applies the rule to each priority: see [`Fleet::tiers`](crate::Fleet::tiers).
    pub panicking: bool,
    /// What picks do in panic, when the state does not decide.
    pub panic_action: PanicAction,
    /// How long it has been in this state. For an ejected endpoint, the time since its ejection; for a ready one, the
    /// time of its slow start included. `None` if it has never changed state. Except for ejections, it is read from a
    /// counter of milliseconds that starts over after 49 days.
    pub since: Option<Duration>,
    /// How long until the state changes by itself: if ejected, until a probe is due (zero if it is due); if probed,
    /// until the probe is given up; in slow start, until the share is full.
    pub until: Option<Duration>,
    /// Why it was ejected, while it is ejected or probed.
    pub ejection: Option<EjectionReason>,
    /// How many ejections in a row still count, 0 to 31. Each makes the next one longer
    /// ([`Ejection::backoff`](crate::Ejection::backoff)).
    pub times: u32,
    /// The evidence of the sequential test, against [`cusum_threshold`](crate::Ejection::cusum_threshold). `None` with
    /// a tracker of yours.
    pub evidence: Option<Figure>,
    /// The health score, against [`score_threshold`](crate::Ejection::score_threshold). With the built-in tracker it is
    /// computed now; with a tracker of yours it is of the last upkeep, as [`Member::score`].
    pub score: Figure,
    /// Requests in the sliding window that ended well or in a fault, against the
    /// [`minimum_volume`](crate::Ejection::minimum_volume) that a score needs. A tracker of yours says itself how many
    /// its score rests on; then there is no threshold.
    pub requests_in_window: Figure,
    /// How many of those ended in a fault.
    pub faults_in_window: u64,
    /// What each enabled detector measures now, in the order of [`Detector::ALL`], with its threshold. Units are as in
    /// [`EjectionReason::measured`].
    ///
    /// Thresholds of success rates and latencies come from the other endpoints: they are those of the last upkeep, or
    /// `None` if too few endpoints had enough requests. With a tracker of yours, the sequential test and failures in a
    /// row are not listed.
    pub detectors: Vec<(Detector, Figure)>,
    /// The share of the fleet's requests that fail, 0 to 1, without endpoints that stand out, as of the last upkeep.
    /// `None` until upkeep has looked at an endpoint that is judged.
    pub usual_error_rate: Option<f64>,
    /// Its latency, as [`Member::latency`].
    pub latency: Option<Duration>,
    /// The median of the fleet's latencies, as of the last upkeep.
    pub usual_latency: Option<Duration>,
    /// The assumed cost of a request here while nothing is in flight, as a multiple of the usual latency. `None` while
    /// the cost or the usual latency is not known.
    ///
    /// It comes from the endpoint's latency, out of proportion where that is well above the usual, and from its errors
    /// and refusals. It is three times as high while the requests in flight have been open for more than three times
    /// that, in the mean (up to twelve times where a client has many in flight and times vary widely). Policies that
    /// compare costs ([`Adaptive`](crate::Adaptive)) send next to nothing to an endpoint that costs a few times the
    /// usual, though it is eligible.
    pub cost: Option<f64>,
    /// For how long policies that compare costs still prefer other endpoints, because this one said that it is
    /// overloaded ([`Outcome::Overloaded`](crate::Outcome::Overloaded)) or is going away.
    pub spared_for: Option<Duration>,
    /// In slow start: the share, up to 1, that it takes of the requests that fall on it.
    pub slow_start_share: Option<f64>,
    /// Requests in flight.
    pub in_flight: u64,
    /// The most requests that may be in flight ([`Limits`](crate::Limits)). At its limit an endpoint is not eligible,
    /// whatever its state.
    pub limit: Option<u32>,
    /// Its weight.
    pub weight: Weight,
}

/// Why an endpoint is ejected. See [`Explanation::ejection`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EjectionReason {
    /// The detector that ejected it. `None` only at the moment at which it is being ejected.
    pub detector: Option<Detector>,
    /// What was measured at the ejection, and the threshold that it reached, in the units of that detector's setting:
    /// the strength of evidence, a number in a row, a share of 1 (success rate), percent (failure percentage), seconds
    /// (latency), a score. `None` for your own trackers, for checks and for an endpoint that is going away, which give
    /// no figure, and for an ejection from before a removal.
    pub measured: Option<Figure>,
    /// How many more good probes are wanted, at least 1, if the fleet fails no more than now; checks count as probes
    /// ([`Ejection::healthy_threshold`](crate::Ejection::healthy_threshold)). `None` if checks ejected the endpoint:
    /// their own thresholds decide its return.
    pub probes_wanted: Option<u32>,
}

/// A measured number and its threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// From where on it ejects, or counts. `None` if that is turned off or not known.
    pub threshold: Option<f64>,
}

impl<E: Endpoint> Member<E> {
    /// Explains why it takes requests or does not. For operators: it reads a few dozen words, allocates a list and
    /// takes no lock.
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
        let is_eligible = match (stands, panicking.then_some(panic_action)) {
            (MemberState::Draining | MemberState::Idle, _) => false,
            (_, Some(PanicAction::FailFast)) => false,
            (_, Some(PanicAction::IgnoreHealth)) => true,
            (_, None) => standing.takes_requests(),
        };
        let (in_flight, limit) = (state.gate.inside(), state.gate.limit());
        let warming = state.warming_for(standing, now);
        let usual = shared.usual();
        let settings = &shared.ejection;
        let (counts, judging) = (state.gate.counts(now), state.judging(now, &usual));
        let above = |threshold: f64| Some(threshold).filter(|threshold| *threshold > 0.0);
        let (rule, score) = match &state.tracker {
            Tracker::Window(rule, _) => (Some(rule), health(counts, &judging).score),
            Tracker::Custom(..) => (None, state.score()),
        };
        Explanation {
            id: state.id,
            state: stands,
            is_eligible: is_eligible && !is_full(in_flight, limit),
            panicking,
            panic_action,
            since: state.stood_for(standing, now),
            until: state.remains_for(standing, now),
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
            requests_in_window: Figure {
                value: counts.total as f64,
                threshold: above(settings.score_threshold)
                    .and(rule)
                    .map(|_| settings.minimum_volume.max(1) as f64),
            },
            faults_in_window: counts.faults,
            detectors: state.measure_all(now),
            usual_error_rate: shared.rates.known_error_rate(),
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
            // Probes are wanted until less than half of one is left.
            probes_wanted: (wanted > 0.0).then(|| (wanted + 0.5).floor().max(1.0) as u32),
        }
    }

    /// What a request is assumed to cost, as a multiple of the usual latency.
    fn relative_cost(&self, now: Tick) -> Option<f64> {
        let (place, usual) = (self.place.as_ref()?, self.shared.usual().latency()?);
        let known = f64::from(place.cost()?);
        let age = self.mean_age_in_costs(&self.shared.usual(), now);
        let is_overdue = age.is_some_and(|age| age > self.shared.rates.cost_basis().overdue);
        let times = if is_overdue { OVERDUE.into() } else { 1.0 };
        Some(known * times / usual.as_nanos().max(1) as f64)
    }

    /// How long it has been in this standing.
    fn stood_for(&self, standing: Standing, now: Tick) -> Option<Duration> {
        match standing.phase {
            Phase::Ejected | Phase::Probing => Some(now.since(Tick::from_nanos(self.ejected_at()))),
            Phase::Warming => standing.warming_for(now),
            _ => standing.moved_for(now),
        }
    }

    /// How long until its slow start is over or its next probe is due.
    fn remains_for(&self, standing: Standing, now: Tick) -> Option<Duration> {
        if standing.is_ejected() {
            return Some(standing.probe_due_at(now).since(now));
        }
        let warming = self.warming_for(standing, now)?;
        Some(self.shared.slow_start.window.saturating_sub(warming))
    }

    /// Notes what this detector measured, and its threshold.
    pub(super) fn note_evidence(&self, detector: Detector, now: Tick) {
        let figure = self.measure(detector, now).zip(self.held_against(detector));
        let (value, threshold) = figure.unzip();
        // ORDERING: Relaxed. For display.
        self.evidence
            .store(pack(value, threshold), Ordering::Relaxed);
    }

    /// What each enabled detector measures now.
    fn measure_all(&self, now: Tick) -> Vec<(Detector, Figure)> {
        let is_on = |detector: &Detector| is_on(*detector, &self.shared.ejection);
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
        let faults = counts.fault_rate();
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
            (Detector::Score, Tracker::Custom(..)) => Some(self.score()),
            _ => None,
        }
    }

    /// This detector's threshold: the setting, or what upkeep has found.
    fn held_against(&self, detector: Detector) -> Option<f64> {
        let by_upkeep = self.shared.rates.threshold(detector);
        match detector {
            Detector::SuccessRate => by_upkeep,
            Detector::LatencyOutlier => by_upkeep.map(|nanos| nanos / 1e9),
            set => setting(set, &self.shared.ejection),
        }
    }
}

/// The setting of this detector; `None` for those without one.
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

/// Packs two numbers into a word, as f32; NaN for `None`.
pub(super) fn pack(value: Option<f64>, threshold: Option<f64>) -> u64 {
    let bits = |number: Option<f64>| u64::from((number.unwrap_or(f64::NAN) as f32).to_bits());
    bits(value) << 32 | bits(threshold)
}

fn unpack(word: u64) -> Option<Figure> {
    // By way of the shortest decimals that make the same f32: 0.35 and not 0.349999994.
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
