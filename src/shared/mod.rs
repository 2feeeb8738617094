//! State that the parts of a fleet share: clock, randomness, due times, usual latency and error rate, ejection ledger.
//! A lease writes here and never calls the fleet; the next pick reads what it wrote.

mod board;
mod capacity;
mod deadlines;
mod due;
mod events;
mod ledger;
mod prober;
mod rates;
mod shard;
mod slots;

use std::fmt;
use std::time::Duration;

use crate::error::PickError;
use crate::health::{Detector, Detectors, Ejection, Limits, PanicRule, SlowStart, Usual};
use crate::options::MemberId;
use crate::sync::{Arc, AtomicU64, Ordering, Padded, process};
use crate::time::{Clock, MonotonicClock, Tick, nanos};

pub(crate) use board::{
    AGE_UNITS_PER_NANO, Board, BoardView, JOINED, LANES, Load, Place, Spot, Spots, forgotten, one,
};
pub(crate) use capacity::BaselineLatency;
use capacity::Capacity;
use deadlines::Deadlines;
pub(crate) use due::Due;
pub use events::{EventKind, Return};
pub(crate) use events::{Events, QueuedEvent};
pub(crate) use ledger::{Ledger, MAX_MEMBERS, Tally};
pub(crate) use prober::{Prober, TICK_TTL};
use rates::FleetRates;
pub(crate) use rates::{COMMON_FAULT_SHARE, CostBasis, Own};
pub(crate) use shard::{Randoms, Reading, Shard};
pub(crate) use slots::{Held, Slots};

/// Picks that must follow a probe before another pick may become one, unless the probe succeeds. Otherwise a client
/// that sends a request now and then would send each to the dead endpoint, whose probe is always due.
const PICKS_A_PROBE: u64 = 10;

/// How far apart the clock readings of two threads may be.
const SKEW: Duration = Duration::from_secs(1);

/// Settings of [`Shared`], filled in by the builder.
pub(crate) struct Setup {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shards: usize,
    pub(crate) seed: u64,
    pub(crate) ejection: Ejection,
    pub(crate) slow_start: SlowStart,
    pub(crate) patience: Option<Duration>,
    pub(crate) panic: PanicRule,
    pub(crate) limits: Limits,
    /// Capacity of the event queue; 0 turns events off.
    pub(crate) events: usize,
}

pub(crate) struct Shared {
    clock: Arc<dyn Clock>,
    /// Whether the clock allows a reading to be reused while picks are frequent.
    reuses_time: bool,
    /// One per shard; the count is a power of two. A thread uses the shard of its thread number modulo that count.
    shards: Box<[Padded<Shard>]>,
    pub(crate) ledger: Ledger,
    pub(crate) upkeep_due: Due,
    pub(crate) probe_due: Due,
    /// The tasks that upkeep wakes, each with its deadline.
    pub(crate) deadlines: Deadlines,
    pub(crate) prober: Prober,
    /// Picks since the last probe was sent, up to a bound; `u64::MAX` if that probe succeeded.
    pub(crate) picks_since_probe: AtomicU64,
    /// In nanoseconds; 0 while unknown.
    usual_latency: AtomicU64,
    pub(crate) rates: FleetRates,
    capacity: Capacity,
    /// When the last slow start ends, in nanoseconds.
    warming_until: AtomicU64,
    /// How far ahead that end can be, in nanoseconds.
    warming_for: u64,
    /// Time between two sweeps over all members, in nanoseconds.
    interval: AtomicU64,
    pub(crate) ejection: Ejection,
    pub(crate) slow_start: SlowStart,
    pub(crate) limits: Limits,
    /// Whether each endpoint has a limit. Cached here because most picks ask.
    pub(crate) limits_endpoints: bool,
    /// One slot per lease if the fleet's requests are limited: taken before the pick, given back after the lease has
    /// left.
    pub(crate) requests: Option<Box<Padded<Slots>>>,
    patience: Option<Duration>,
    /// The event queue, if events are on.
    pub(crate) events: Option<Events>,
    pub(crate) counters: Counters,
}

/// Counts since the fleet was built. They are written off the fast path only.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) ejections: Counter,
    pub(crate) overflows: Counter,
    pub(crate) policy_faults: Counter,
    /// Picks refused because of a limit.
    pub(crate) saturated: Counter,
    pub(crate) tracker_panics: Counter,
    detections: [DetectionCounters; Detector::ALL.len()],
}

/// How often one detector found something, and how often that led to an ejection.
#[derive(Debug, Default)]
pub(crate) struct DetectionCounters {
    pub(crate) found: Counter,
    pub(crate) ejected: Counter,
}

impl Counters {
    /// Counts what the detectors found at a member that was in.
    pub(crate) fn count_found(&self, detectors: Detectors) {
        for detector in detectors.iter() {
            self.detections(detector).found.count();
        }
    }

    /// Counts an ejection by this detector.
    pub(crate) fn count_ejected(&self, detector: Detector) {
        self.ejections.count();
        self.detections(detector).ejected.count();
    }

    pub(crate) const fn detections(&self, detector: Detector) -> &DetectionCounters {
        &self.detections[detector.index()]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        // ORDERING: Relaxed. A statistic.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        // ORDERING: Relaxed. A statistic.
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    pub(crate) fn new(setup: Setup) -> Self {
        let shards = setup.shards.next_power_of_two();
        let shards = (0..shards as u64)
            .map(|shard| Padded(Shard::new(mix(setup.seed ^ mix(shard)))))
            .collect();
        let now = setup.clock.now();
        let ejection = setup.ejection;
        let longest = longest(&ejection);
        let interval = interval(&ejection, 0);
        Self {
            reuses_time: setup.clock.may_be_reused(),
            clock: setup.clock,
            shards,
            ledger: Ledger::new(setup.panic).with_most_probes(setup.limits.max_probes),
            upkeep_due: Due::new(now.after(interval), interval),
            probe_due: Due::new(now.after(longest), longest),
            deadlines: Deadlines::default(),
            prober: Prober::default(),
            // Lets the first probe go out without a wait.
            picks_since_probe: AtomicU64::new(u64::MAX),
            usual_latency: AtomicU64::new(0),
            rates: FleetRates::new(),
            capacity: Capacity::default(),
            warming_until: AtomicU64::new(0),
            warming_for: nanos(setup.slow_start.window + SKEW),
            interval: AtomicU64::new(nanos(interval)),
            ejection,
            slow_start: setup.slow_start,
            limits_endpoints: setup.limits.of_endpoint().is_some(),
            requests: (setup.limits.max_requests)
                .map(|most| Box::new(Padded(Slots::up_to(Some(most))))),
            limits: setup.limits,
            patience: setup.patience,
            events: (setup.events > 0).then(|| Events::new(setup.events)),
            counters: Counters::default(),
        }
    }

    /// State for an endpoint that belongs to no fleet.
    pub(crate) fn alone() -> Self {
        Self::new(Setup {
            clock: Arc::new(MonotonicClock::new()),
            shards: 1,
            seed: 0,
            ejection: Ejection::off(),
            slow_start: SlowStart::off(),
            patience: None,
            panic: PanicRule::off(),
            limits: Limits::default(),
            events: 0,
        })
    }

    /// Reads the clock.
    pub(crate) fn now(&self) -> Tick {
        let now = self.clock.now();
        self.shard_state(self.shard()).forget_old(now);
        now
    }

    /// Reads the clock for a change that no shard may miss by using an older reading.
    pub(crate) fn now_for_all(&self) -> Tick {
        self.forget_readings();
        self.now()
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// This thread's shard.
    #[inline]
    pub(crate) fn shard(&self) -> usize {
        process::thread_number() & (self.shards.len() - 1)
    }

    /// The state of one shard.
    #[inline]
    pub(crate) fn shard_state(&self, shard: usize) -> &Shard {
        &self.shards[shard & (self.shards.len() - 1)].0
    }

    /// The next random number of a shard's generator (splitmix64: a counter, mixed).
    #[inline]
    pub(crate) fn random(&self, shard: usize) -> u64 {
        self.shard_state(shard).random()
    }

    #[inline]
    pub(crate) fn usual(&self) -> Usual {
        // ORDERING: Relaxed. One number, complete in itself.
        let latency = self.usual_latency.load(Ordering::Relaxed);
        Usual::new((latency > 0).then(|| Duration::from_nanos(latency)))
            .with_error_rate(self.rates.error_rate().into())
    }

    pub(crate) fn set_usual_latency(&self, latency: Option<Duration>) {
        // ORDERING: Relaxed. As in `usual`.
        self.usual_latency
            .store(latency.map_or(0, nanos), Ordering::Relaxed);
    }

    /// The time between two upkeep sweeps.
    pub(crate) fn interval(&self) -> Duration {
        // ORDERING: Relaxed. One number, complete in itself.
        Duration::from_nanos(self.interval.load(Ordering::Relaxed))
    }

    /// Adapts the upkeep interval to the number of members.
    pub(crate) fn set_interval(&self, members: usize) {
        let interval = interval(&self.ejection, members);
        self.upkeep_due.set_horizon(interval);
        // ORDERING: Relaxed. As above.
        self.interval.store(nanos(interval), Ordering::Relaxed);
    }

    /// Queues an event of a member, or of the fleet (`None`).
    pub(crate) fn tell(&self, at: Tick, member: Option<MemberId>, kind: EventKind) {
        if let Some(events) = &self.events {
            events.put(QueuedEvent { at, member, kind });
        }
    }

    /// Updates the panic bit after a change to the ledger or to the number of members, and reports a change of it.
    pub(crate) fn settle_panic(&self, now: Tick) {
        self.ledger.settle(|tally, count| {
            let eligible = count.saturating_sub(tally.refused());
            self.tell_panic(now, tally.panics, eligible, count);
        });
    }

    /// Reports that panic has begun, or that it is over.
    pub(crate) fn tell_panic(&self, now: Tick, is_on: bool, eligible: usize, routable: usize) {
        let (eligible, routable) = (eligible as u32, routable as u32);
        let kind = if is_on {
            EventKind::PanicBegun { eligible, routable }
        } else {
            EventKind::PanicOver { eligible, routable }
        };
        self.tell(now, None, kind);
    }

    /// Reports the end of a panic when its policy, which judged panic itself, is replaced. The ledger's rule may begin
    /// its own.
    pub(crate) fn panic_is_over(&self, now: Tick) {
        let (routable, refused) = (self.ledger.count(), self.ledger.read().refused());
        self.tell_panic(now, false, routable.saturating_sub(refused), routable);
    }

    /// Records that a slow start begins now.
    pub(crate) fn note_slow_start(&self, now: Tick) {
        self.forget_readings();
        let until = now.after(self.slow_start.window);
        // A later end stays if another thread's clock may have set it, and not if the clock has gone back since.
        let latest = until.after(SKEW).as_nanos();
        let next = |end| (end < until.as_nanos() || end > latest).then_some(until.as_nanos());
        // ORDERING: Release, and Relaxed to look. Pairs with `is_warming`. A return raises this before it frees its
        // ledger slot, and `is_calm` reads the ledger first: a pick that finds it quiet again sees the slow start too.
        let _ = (self.warming_until).fetch_update(Ordering::Release, Ordering::Relaxed, next);
    }

    /// Whether no member is refused for its health and none is in slow start. Most picks ask nothing else.
    #[inline]
    pub(crate) fn is_calm(&self, now: Tick) -> bool {
        self.ledger.is_quiet() && !self.is_warming(now)
    }

    /// Whether any member is in slow start. An end that is more than one window ahead, and [`SKEW`], was set by a clock
    /// that has gone back since, and counts as over.
    #[inline]
    pub(crate) fn is_warming(&self, now: Tick) -> bool {
        // ORDERING: Acquire. Pairs with `note_slow_start`.
        let until = self.warming_until.load(Ordering::Acquire);
        until.wrapping_sub(now.as_nanos()).wrapping_sub(1) < self.warming_for
    }

    /// An upper bound for how far ahead an ejection or a probe can end.
    pub(crate) fn longest_ejection(&self) -> Duration {
        longest(&self.ejection)
    }

    /// Whether this pick may become a probe. If not, it counts towards the next one.
    pub(crate) fn may_probe(&self) -> bool {
        // ORDERING: Relaxed, both. This limits the share of picks that probe and orders nothing. The load alone keeps
        // the cache line shared once enough picks have passed.
        if self.picks_since_probe.load(Ordering::Relaxed) >= PICKS_A_PROBE {
            return true;
        }
        self.picks_since_probe.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// A probe has been sent: the next one waits for more picks.
    pub(crate) fn note_probe_sent(&self) {
        // ORDERING: Relaxed. As in `may_probe`.
        self.picks_since_probe.store(0, Ordering::Relaxed);
    }

    /// A probe has succeeded: the next one need not wait.
    pub(crate) fn note_probe_success(&self) {
        // Far from where a pick that adds one at the same time would wrap it.
        // ORDERING: Relaxed. As above.
        self.picks_since_probe.store(1 << 63, Ordering::Relaxed);
    }

    /// Takes a slot for a lease, if the fleet's requests are limited. A refusal is not counted if the pick is repeated.
    pub(crate) fn slot(&self, is_repeated: bool) -> Result<Option<Held<'_>>, PickError> {
        let slot = self.requests.as_ref().map(|requests| requests.0.hold());
        match slot {
            Some(None) => Err(self.saturated(is_repeated)),
            Some(slot) => Ok(slot),
            None => Ok(None),
        }
    }

    /// Frees the slot of a lease that has left. Kept out of line so the path without a limit stays small.
    #[cold]
    pub(crate) fn give_back_slot(&self) {
        self.requests
            .iter()
            .for_each(|requests| requests.0.give_back());
    }

    /// Counts a pick that is refused because of a limit, and returns its error.
    #[cold]
    pub(crate) fn saturated(&self, is_repeated: bool) -> PickError {
        self.count_refused(PickError::Saturated, is_repeated);
        PickError::Saturated
    }

    /// Counts a refused pick, if a limit refused it, and for the first time.
    pub(crate) fn count_refused(&self, error: PickError, is_repeated: bool) {
        if error == PickError::Saturated && !is_repeated {
            self.counters.saturated.count();
        }
    }

    /// How long a lease may be held before dropping it counts as a timeout: the setting, or else three times the usual
    /// latency and at least 50 ms; 1 s while the usual latency is unknown.
    pub(crate) fn patience(&self) -> Duration {
        const LEAST: Duration = Duration::from_millis(50);
        const UNKNOWN: Duration = Duration::from_secs(1);
        let from_usual = |usual: Duration| usual.saturating_mul(3).max(LEAST);
        self.patience
            .unwrap_or_else(|| self.usual().latency().map_or(UNKNOWN, from_usual))
    }
}

/// The time between two sweeps: 100 ms, so policies compare recent figures, or a tenth of the window if that is less.
/// At least 10 us per member, so upkeep takes about a hundredth of a processor.
fn interval(settings: &Ejection, members: usize) -> Duration {
    const OFTEN: Duration = Duration::from_millis(100);
    let per_member = Duration::from_micros(10).saturating_mul(members as u32);
    (settings.window / 10).min(OFTEN).max(per_member)
}

/// An upper bound for an ejection with its jitter, which at most doubles it, and for a probe, which lasts no longer.
fn longest(settings: &Ejection) -> Duration {
    settings.longest_ejection().max(settings.probe_timeout) * 2
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("ledger", &self.ledger.read())
            .finish_non_exhaustive()
    }
}

/// 2^64 divided by the golden ratio, made odd: a counter with this step visits all values, evenly spread.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A seed from the operating system, or from the standard library's hash keys if that fails.
pub(crate) fn entropy() -> u64 {
    use rand::TryRng;
    use std::hash::{BuildHasher, RandomState};

    rand::rngs::SysRng
        .try_next_u64()
        .unwrap_or_else(|_| RandomState::new().hash_one(0u64))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit affects every output bit.
#[inline]
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A random number below `bound`, from 64 random bits; 0 if `bound` is 0. The bias is below `bound` / 2^64.
#[inline]
pub(crate) const fn below(bound: u64, random: u64) -> u64 {
    ((random as u128 * bound as u128) >> 64) as u64
}
