//! A sequential test of one endpoint's outcomes against the rest of the fleet.
//!
//! The test keeps one number: the logarithm of how much likelier the outcomes so far are from a bad endpoint than from
//! one that fails as often as the others, never below 0. One word holds it: `milliseconds: 32 (wrapping) | f32`.
//!
//! Source: Page's CUSUM (1954) with Wald's likelihood ratio. Lorden (1971): of all tests with as few false alarms, none
//! finds a change sooner, to the first order. The mean time between false alarms is at least e^h requests, where h is
//! the threshold.

use super::latency::AHEAD_MILLIS;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// The time constant of evidence at high request rates: after this time 37 % of it is left.
const TAU_MILLIS: f32 = 10_000.0;

/// The time constant at low request rates, in requests to the endpoint. What matters there is how many requests came
/// between two faults, not how much time. Above three requests a second the ten seconds are longer.
const TAU_REQUESTS: f32 = 30.0;

/// The longest time constant. Evidence from ten minutes ago belongs to another incident.
const TAU_MOST_MILLIS: f32 = 600_000.0;

/// Less suspicion than this is stored as 0.
const TRACE: f32 = 0.05;

/// The evidence of a timeout, relative to another fault. It is less, since the caller's deadline may have been too
/// short.
pub(super) const TIMEOUT: f32 = 0.75;

/// The part of this evidence that is left if the request was given up after `times` the usual latency, as the `row`-th
/// in a row without a success, and the endpoint gets `overlapping` requests in that time.
///
/// Below 16 times, a queue alone makes timeouts, and in rows: the requests behind a long one are all late. If each of
/// them counted in full, busy endpoints would be ejected for their load, and the others next for theirs. A row of
/// requests that overlap is one event and not many. So the first in a row counts in full, and the others as far as the
/// row is longer than a queue explains: more than twice as many as overlap. (At a server that works on one request at
/// a time, if times vary exponentially, one in 3 000 takes longer than 8 times the mean, and one in nine million longer
/// than 16 times.)
pub(super) fn part_of_timeout(times: f32, row: u64, overlapping: f32) -> f32 {
    const EXPLAINED: f32 = 8.0;
    const UNEXPLAINED: f32 = 16.0;
    const LEAST: f32 = 0.1;
    /// Over how many more in a row the part rises to all.
    const SPAN: f32 = 2.0;
    if row <= 1 {
        return 1.0;
    }
    let by_time = (times / EXPLAINED).ln() / (UNEXPLAINED / EXPLAINED).ln();
    let by_row = (row as f32 - 2.0 * overlapping) / SPAN;
    by_time.max(by_row).clamp(LEAST, 1.0)
}

/// Above this error rate a fault proves nothing. Each would prove a little, and without successes between them they add
/// up.
pub(crate) const HOPELESS: f32 = 0.8;

/// The evidence of one outcome when a share `usual` of the others' requests fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Evidence {
    /// The evidence of a fault, against the endpoint.
    pub(crate) fault: f32,
    /// The evidence of a success, for the endpoint.
    pub(crate) success: f32,
}

impl Evidence {
    /// A bad endpoint fails three times as often as the others, and at least three in ten. Where nearly all requests
    /// fail, no endpoint counts as bad.
    pub(crate) fn against(usual: f32) -> Self {
        if usual > HOPELESS {
            return Self {
                fault: 0.0,
                ..Self::against(HOPELESS)
            };
        }
        // At least one request in a thousand is taken to fail: in a fleet that never fails, one failure is not proof.
        let usual = usual.max(0.001);
        let bad = (3.0 * usual)
            .clamp(0.3, 0.97)
            .max(usual + (1.0 - usual) / 4.0);
        Self {
            fault: (bad / usual).ln(),
            success: ((1.0 - usual) / (1.0 - bad)).ln(),
        }
    }
}

/// The time constant with which evidence fades.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fading {
    millis: f32,
}

impl Fading {
    /// The time constant at high request rates.
    pub(crate) const SHORT: Self = Self { millis: TAU_MILLIS };

    /// The time constant for an endpoint that gets this many requests a second on average. The pace is 0 if there are
    /// hardly any, or if it is not known yet.
    pub(crate) fn at_pace(pace: f32) -> Self {
        let enough = TAU_REQUESTS / pace * 1000.0;
        Self {
            millis: enough.clamp(TAU_MILLIS, TAU_MOST_MILLIS),
        }
    }
}

/// How suspicious an endpoint is.
#[derive(Debug)]
pub(crate) struct Suspicion(AtomicU64);

/// Suspicion before and after an outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) before: f32,
    pub(crate) after: f32,
}

impl Suspicion {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether there is no suspicion at all.
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        // ORDERING: Relaxed, here and below. One word, complete in itself.
        self.0.load(Ordering::Relaxed) == 0
    }

    /// The suspicion that is left now.
    pub(crate) fn get(&self, now: Tick, fading: Fading) -> f32 {
        // ORDERING: Relaxed. As above.
        read(self.0.load(Ordering::Relaxed), now, fading)
    }

    pub(crate) fn set(&self, suspicion: f32, now: Tick) {
        // ORDERING: Relaxed. As above.
        self.0.store(pack(suspicion, now), Ordering::Relaxed);
    }

    /// Adds evidence, which may be negative. No evidence is lost: a thread that loses a race adds to what the winner
    /// left.
    pub(crate) fn add(&self, evidence: f32, now: Tick, fading: Fading) -> Change {
        self.add_to(0.0, evidence, now, fading)
    }

    /// Adds evidence to the present suspicion or to `least`, whichever is higher.
    pub(super) fn add_to(&self, least: f32, evidence: f32, now: Tick, fading: Fading) -> Change {
        self.change(|before| before.max(least) + evidence, now, fading)
    }

    /// Replaces the present suspicion by what `next` makes of it.
    pub(super) fn change(&self, next: impl Fn(f32) -> f32, now: Tick, fading: Fading) -> Change {
        // ORDERING: Relaxed. As above.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let before = read(word, now, fading);
            let after = next(before);
            let packed = pack(after, now);
            // ORDERING: Relaxed, both. As above.
            match self
                .0
                .compare_exchange(word, packed, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    // A trace is not kept.
                    let after = if packed == 0 { 0.0 } else { after };
                    return Change { before, after };
                }
                Err(now) => word = now,
            }
        }
    }
}

fn read(word: u64, now: Tick, fading: Fading) -> f32 {
    let elapsed = (now.as_millis() as u32).wrapping_sub((word >> 32) as u32);
    // A stamp that is a little ahead reads as current. One further ahead is weeks old, or was left by a clock that has
    // gone back since.
    let is_ahead = elapsed.wrapping_neg() <= AHEAD_MILLIS;
    let elapsed = if is_ahead { 0.0 } else { elapsed as f32 };
    f32::from_bits(word as u32) / exp(elapsed / fading.millis)
}

/// e^z, from the first terms of the series instead of a call.
#[inline]
pub(super) fn exp(z: f32) -> f32 {
    1.0 + z * (1.0 + z / 2.0 * (1.0 + z / 3.0))
}

fn pack(suspicion: f32, now: Tick) -> u64 {
    if suspicion < TRACE {
        return 0;
    }
    u64::from(now.as_millis() as u32) << 32 | u64::from(suspicion.to_bits())
}

/// A lower bound for the true share of faults when `faults` of `total` failed: Wilson's bound (1927), one-sided at
/// 97.5 %.
pub(super) fn least_share(faults: f64, total: f64) -> f64 {
    const Z: f64 = 1.96;
    if total <= 0.0 {
        return 0.0;
    }
    let share = faults / total;
    let spread = Z * (share * (1.0 - share) / total + Z * Z / (4.0 * total * total)).sqrt();
    ((share + Z * Z / (2.0 * total) - spread) / (1.0 + Z * Z / total)).max(0.0)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    const THRESHOLD: f32 = 11.0;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_trace_of_suspicion_counts_as_none() {
        let (cell, fading) = (Suspicion::new(), Fading::at_pace(100.0));
        cell.add(1.0, at(0), fading);
        let change = cell.add(TRACE / 2.0 - 1.0, at(0), fading);
        assert_eq!((change.after, cell.is_none()), (0.0, true));
    }

    /// How many outcomes it takes to reach the threshold; `None` if it is not reached within `most`. The outcomes are a
    /// repeatable sequence with this share of faults, 5 ms apart.
    fn until_alarm(usual: f32, faults: f64, seed: u64, most: u32) -> Option<u32> {
        until_alarm_at(5, usual, faults, seed, most)
    }

    /// The same with the outcomes this many milliseconds apart.
    fn until_alarm_at(apart: u64, usual: f32, faults: f64, seed: u64, most: u32) -> Option<u32> {
        let (cell, evidence) = (Suspicion::new(), Evidence::against(usual));
        let fading = Fading::at_pace(1000.0 / apart as f32);
        let mut random = seed;
        (1..=most).find(|&request| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let failed = ((random >> 11) as f64 / (1u64 << 53) as f64) < faults;
            let log_ratio = if failed {
                evidence.fault
            } else {
                -evidence.success
            };
            let now = at(u64::from(request) * apart);
            cell.add(log_ratio, now, fading).after >= THRESHOLD
        })
    }

    fn mean_until_alarm(usual: f32, faults: f64) -> f64 {
        let runs = (0..400)
            .map(|seed| until_alarm(usual, faults, seed, 1_000_000).expect("a bad one is found"));
        runs.map(f64::from).sum::<f64>() / 400.0
    }

    #[test]
    fn a_worse_endpoint_is_found_sooner() {
        assert_eq!(until_alarm(0.0, 1.0, 1, 10), Some(2));
        assert_eq!(until_alarm(0.02, 1.0, 1, 10), Some(5));
        let table = [(0.5, 6.0), (0.3, 12.0), (0.2, 22.0)];
        for (faults, most) in table {
            let mean = mean_until_alarm(0.0, faults);
            assert!(mean < most, "{faults}: {mean}");
        }
    }

    /// Lorden's bound: at most e^-11, which is 17 alarms in a million requests. Each case is a million requests that
    /// fail at the fleet's own rate. It may raise as many alarms as a Poisson count with mean 17 exceeds once in a
    /// million runs.
    #[test]
    fn false_alarms_are_rare() {
        // At a high rate, and once in twenty seconds.
        for (apart, usual) in [5, 20_000]
            .into_iter()
            .flat_map(|apart| [0.001f32, 0.005, 0.02, 0.1, 0.5].map(|usual| (apart, usual)))
        {
            let (mut alarms, mut left, mut seed) = (0, 1_000_000u32, 7);
            while let Some(after) = until_alarm_at(apart, usual, usual.into(), seed, left) {
                (alarms, left, seed) = (alarms + 1, left - after, seed + 1);
            }
            assert!(alarms <= 41, "{usual}: {alarms} alarms in a million");
            println!("{usual}, {apart} ms apart: {alarms}");
        }
    }

    /// An endpoint is found however rarely it gets a request, up to once in ten minutes.
    #[test]
    fn an_endpoint_that_fails_everything_is_found_at_any_pace() {
        for apart in [5, 100, 1_000, 20_000, 100_000, 300_000] {
            let found = until_alarm_at(apart, 0.0, 1.0, 1, 100);
            assert!(found <= Some(4), "{apart} ms apart: {found:?}");
        }
        assert_eq!(
            until_alarm_at(86_400_000, 0.0, 1.0, 1, 100),
            None,
            "a day apart"
        );
    }

    #[test]
    fn when_all_fail_no_endpoint_is_singled_out() {
        let evidence = Evidence::against(0.5);
        assert!(
            evidence.fault < 0.7 && evidence.success > 2.0,
            "{evidence:?}"
        );
    }

    #[test]
    fn evidence_fades_and_does_not_come_back() {
        let cell = Suspicion::new();
        let short = Fading::SHORT;
        cell.add(10.0, at(1_000), short);
        assert!((cell.get(at(11_000), short) - 3.75).abs() < 0.2);
        assert!(cell.get(at(100_000), short) < 0.1);
        // At one request in ten seconds, evidence lasts for 30 of them.
        assert!((cell.get(at(301_000), Fading::at_pace(0.1)) - 3.75).abs() < 0.2);
        assert_eq!(cell.add(-1.0, at(100_000), short).after, 0.0);
        assert!(cell.is_none());
        // A clock that has gone back.
        cell.add(10.0, at(50_000), short);
        assert_eq!(cell.get(at(1_000), short), 10.0);
        // By more than a minute; and after weeks without a request, before the stamp wraps.
        cell.add(10.0, at(3_600_000), short);
        assert!(cell.get(at(1_000), short) < 0.1);
        cell.add(10.0, at(1_000), Fading::at_pace(0.0));
        for days in [24, 25, 30, 49] {
            assert!(cell.get(at(days * 86_400_000), Fading::at_pace(0.0)) < 0.1);
        }
    }

    #[test]
    fn a_timeout_that_a_queue_explains_proves_little() {
        // The first in a row, long after the usual latency, or one of a row that does not overlap.
        assert_eq!(part_of_timeout(1.0, 1, 9.0), 1.0);
        assert_eq!(part_of_timeout(16.0, 2, 9.0), 1.0);
        assert_eq!(part_of_timeout(1.0, 2, 0.0), 1.0);
        assert_eq!(part_of_timeout(f32::INFINITY, 2, f32::INFINITY), 1.0);
        // A row of 14 where six or seven requests overlap.
        assert_eq!(part_of_timeout(8.0, 13, 6.5), 0.1);
        assert_eq!(part_of_timeout(8.0, 14, 6.5), 0.5);
        assert!((part_of_timeout(128f32.sqrt(), 2, 6.5) - 0.5).abs() < 1e-6);
        for nothing in [0.0, -1.0, f32::NAN] {
            assert_eq!(part_of_timeout(nothing, 2, 1.0), 0.1);
        }
    }

    #[test]
    fn few_samples_prove_little() {
        assert!((least_share(1.0, 1.0) - 0.207).abs() < 0.001);
        assert!((least_share(5.0, 20.0) - 0.112).abs() < 0.001);
        assert!((least_share(30.0, 100.0) - 0.219).abs() < 0.001);
        assert_eq!(least_share(0.0, 0.0), 0.0);
        assert_eq!(least_share(0.0, 50.0), 0.0);
    }
}

#[cfg(all(test, evenkeel_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// Two threads add evidence at once: both pieces count, and the thread that comes second sees that they are enough
    /// together.
    fn two_add(add: fn(&Suspicion) -> f32) {
        loom::model(move || {
            let cell = Arc::new(Suspicion::new());
            let other = cell.clone();
            let thread = thread::spawn(move || add(&other));
            let mine = add(&cell);
            let theirs = thread.join().unwrap();
            assert_eq!(mine.max(theirs), 4.0, "evidence was lost");
            assert_eq!(
                cell.get(Tick::ZERO, Fading::SHORT),
                4.0,
                "evidence was lost"
            );
        });
    }

    #[test]
    fn evidence_adds_up() {
        two_add(|cell| cell.add(2.0, Tick::ZERO, Fading::SHORT).after);
    }

    /// Broken: load, then store.
    #[test]
    #[should_panic = "evidence was lost"]
    fn broken_variant_store() {
        two_add(|cell| {
            let after = cell.get(Tick::ZERO, Fading::SHORT) + 2.0;
            cell.set(after, Tick::ZERO);
            after
        });
    }
}
