//! The detectors that can find an endpoint bad: [`Detector`], and sets of them.

use std::fmt;

/// What found an endpoint bad.
///
/// Each detector has its own settings in [`Ejection`](crate::Ejection), may be [set to detect
/// only](crate::Ejection::detect_only), and has its own count ([`Fleet::detections`](crate::Fleet::detections)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Detector {
    /// The sequential test against the rest of the fleet
    /// ([`Ejection::cusum_threshold`](crate::Ejection::cusum_threshold)).
    Cusum,
    /// Faults in a row of any class (Envoy's `consecutive_5xx`).
    ConsecutiveFailures,
    /// Timeouts and unreachable outcomes in a row (Envoy's `consecutive_gateway_failure`).
    ConsecutiveGatewayFailures,
    /// Unreachable outcomes in a row (Envoy's `consecutive_local_origin_failure`).
    ConsecutiveLocalOriginFailures,
    /// A success rate far below the others' (Envoy's and gRPC's `success_rate`).
    SuccessRate,
    /// A share of faults at or above a fixed threshold (Envoy's and gRPC's `failure_percentage`).
    FailurePercentage,
    /// A latency far above the others'.
    LatencyOutlier,
    /// The health score ([`Ejection::score_threshold`](crate::Ejection::score_threshold)).
    Score,
    /// A tracker of your own ([`Alarm::Eject`](crate::Alarm::Eject)).
    Tracker,
    /// An active check.
    ActiveCheck,
    /// The endpoint's own announcement ([`Outcome::GoingAway`](crate::Outcome::GoingAway)).
    GoingAway,
}

impl Detector {
    /// All detectors, in order of precedence: if several find an endpoint bad at once, the first is named as the cause.
    pub const ALL: [Self; 11] = [
        Self::GoingAway,
        Self::ActiveCheck,
        Self::Tracker,
        Self::Cusum,
        Self::ConsecutiveFailures,
        Self::ConsecutiveGatewayFailures,
        Self::ConsecutiveLocalOriginFailures,
        Self::SuccessRate,
        Self::FailurePercentage,
        Self::LatencyOutlier,
        Self::Score,
    ];

    /// The detector's name in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cusum => "sequential test",
            Self::ConsecutiveFailures => "consecutive failures",
            Self::ConsecutiveGatewayFailures => "consecutive gateway failures",
            Self::ConsecutiveLocalOriginFailures => "consecutive local origin failures",
            Self::SuccessRate => "success rate",
            Self::FailurePercentage => "failure percentage",
            Self::LatencyOutlier => "latency outlier",
            Self::Score => "score",
            Self::Tracker => "tracker",
            Self::ActiveCheck => "active check",
            Self::GoingAway => "going away",
        }
    }

    /// The phrase that names the detector after the word "ejected".
    pub(crate) const fn by(self) -> &'static str {
        match self {
            Self::Cusum => "by the sequential test",
            Self::ConsecutiveFailures => "for failures in a row",
            Self::ConsecutiveGatewayFailures => "for gateway failures in a row",
            Self::ConsecutiveLocalOriginFailures => "for local origin failures in a row",
            Self::SuccessRate => "for its success rate",
            Self::FailurePercentage => "for its share of faults",
            Self::LatencyOutlier => "for its latency",
            Self::Score => "for its score",
            Self::Tracker => "by its tracker",
            Self::ActiveCheck => "by active checks",
            Self::GoingAway => "as it was going away",
        }
    }

    /// The detector's index in an array with an element for each.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// A detector in a byte: its index plus one, or 0 for `None`.
    pub(crate) fn pack(detector: Option<Self>) -> u8 {
        detector.map_or(0, |detector| detector.index() as u8 + 1)
    }

    /// The reverse of [`pack`](Self::pack).
    pub(crate) fn read(byte: u8) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|&detector| Self::pack(Some(detector)) == byte)
    }

    const fn bit(self) -> u16 {
        1 << self.index()
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A set of detectors, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Detectors(u16);

impl Detectors {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn with(self, detector: Detector) -> Self {
        Self(self.0 | detector.bit())
    }

    /// Adds the detector if `found` returns true.
    #[must_use]
    pub(crate) fn with_if(self, detector: Detector, found: impl FnOnce() -> bool) -> Self {
        if found() { self.with(detector) } else { self }
    }

    pub(crate) const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(crate) const fn contains(self, detector: Detector) -> bool {
        self.0 & detector.bit() != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The detectors in the set, in the order of [`Detector::ALL`].
    pub(crate) fn iter(self) -> impl Iterator<Item = Detector> {
        Detector::ALL
            .into_iter()
            .filter(move |detector| self.contains(*detector))
    }
}
