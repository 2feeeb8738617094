//! Active checks: the driver, which the caller polls.

mod belief;
mod book;
mod probe;
mod round;
mod run;
mod steps;

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use super::{Fleet, Inner};
use crate::endpoint::Endpoint;
use crate::error::BuildError;
use crate::health::HealthCheckSettings;
use crate::member::Member;
use crate::sync::{Arc, Mutex};

use book::Book;
pub use probe::Probe;
use steps::Checks;

/// The time between two looks at all members while any is ejected or suspect, and the longest time between two ticks,
/// as requests eject and suspect meanwhile. Half the time in which a caller of 100 requests a second makes another
/// mistake.
const WATCH: Duration = Duration::from_millis(20);
/// The same between ticks once the fleet is gone.
const FLEET_GONE_INTERVAL: Duration = Duration::from_secs(1);

/// Checks a fleet's endpoints actively, with the caller's own I/O.
///
/// It starts nothing. Either call [`tick`](Self::tick) when [`next_due`](Self::next_due) says, send the [`Probe`]s that
/// it returns, and [`finish`](Probe::finish) each with its outcome. Or spawn the future of [`run`](Self::run) or
/// [`run_through`](Self::run_through), which do that.
///
/// Each endpoint that may take requests is checked, by [`HealthCheckSettings`]; those draining or of weight 0 are not.
/// At most one check is under way for an endpoint, and [`max_probes`](HealthCheckSettings::max_probes) over all. The
/// driver follows the set: a new endpoint is checked from the next tick on, and a removed one is released by then at
/// the latest, unless a probe of it is still held. A check is not a request: it counts neither as in flight nor for
/// latency.
///
/// Use one driver for a fleet. A second one would check beside it.
///
/// # How checks and requests decide together
///
/// An endpoint has *one* standing, and the fleet *one* cap on ejections
/// ([`Ejection::max_ejection_percent`](crate::Ejection::max_ejection_percent)).
///
/// - **Both eject.** Outcomes of requests eject as they do without checks. Checks eject too: a failure answer at once,
///   missing answers after [`unhealthy_threshold`](HealthCheckSettings::unhealthy_threshold) in a row. An ejection by a
///   check counts, lasts and doubles like one by requests, so a flapping endpoint is out for longer each time. At the
///   cap the endpoint stays in, and each further failed check tries again.
/// - **Not against all requests.** The cap may keep endpoints in that fail their checks. If more than half of the
///   endpoints in rotation with recent requests answer these but fail their checks, for 1 s or a fifth of the
///   [window](crate::Ejection::window), whichever is longer (2 s by default), the fault is the health page's. Then
///   checks are ignored and requests probe, until no more than two fifths do so
///   ([`Stats::checks_ignored`](crate::Stats::checks_ignored); not with a tracker of yours). (Envoy's panic mode
///   ignores checks, too.)
/// - **Suspected by requests, ejected by checks.** An endpoint that requests have made suspect is checked at once, and
///   again until it is cleared or ejected. Each result counts like a request's for the sequential test
///   ([`Ejection::cusum_threshold`](crate::Ejection::cusum_threshold)), not for the unhealthy threshold, whose checks
///   are an interval apart. Meanwhile policies that compare costs count the endpoint as up to ten times as slow: by the
///   evidence against it, and by how little fails everywhere. So the first failure is often the only one a caller sees.
///   Passing checks do not clear what requests alone have found: a healthy page does not keep in an endpoint whose
///   requests fail.
/// - **One endpoint, or all.** An unanswered check of a suspect counts only once up to 32 endpoints that are not
///   suspect have been checked too, at most once in a tenth of a second. It is weighed against the share of those that
///   fail: where all have begun to fail, the test ejects next to none, and where two fifths fail, it ejects none. Those
///   that fail become suspect, so of several endpoints that die together some are found before a request fails there. A
///   failure answer still decides at once. Where many endpoints are suspect, none is checked out of turn for that, and
///   a missing answer to any other check counts only for the sequential test: it does not eject by the unhealthy
///   threshold.
/// - **Back by checks alone.** While the driver is present, no request is a probe. When an ejection's time is over, a
///   check is sent. An endpoint ejected by checks is back, in [slow start](crate::SlowStart), after
///   [`healthy_threshold`](HealthCheckSettings::healthy_threshold) passes in a row. One ejected by requests needs three
///   times as many passes as good probes ([`Ejection::healthy_threshold`](crate::Ejection::healthy_threshold)), spread
///   over [`Ejection::base_ejection_time`](crate::Ejection::base_ejection_time): by default 15, one in 143 ms for 2 s.
///   Where [capacity is short](crate::Ejection::spare_capacity_percent), where the cap has just prevented an ejection,
///   or while most requests fail, they are spread over a quarter of that time. So an endpoint that is well for less
///   than that between failures does not return each time to fail again. (Where the whole fleet fails, fewer suffice.)
///   A failed check keeps it out for another [`unhealthy_interval`](HealthCheckSettings::unhealthy_interval), and
///   passes are counted anew. That time does not double: doubling spares requests, and a check costs none. Until it
///   answers requests, an endpoint brought back counts as no slower than usual, as a check shows no latency. If
///   requests had ejected it, the time for which it passed counts for its slow start, up to half of the window.
/// - **Not before its time.** A pass before the ejection's time is over does not bring an endpoint back, where Envoy
///   lets a passing check end an ejection at once. Otherwise a health page that does not exercise what fails would undo
///   what requests have found out.
/// - **The first result decides** about an endpoint of which nothing is known, whatever the thresholds. One that has
///   answered a request before its first check counts as known good. All endpoints start in: if they started out, the
///   cap would not hold. To serve from checked endpoints only, finish one round of checks before the first pick: while
///   [`next_due`](Self::next_due) is zero, call `tick` and finish the probes. Then hand the driver to `run`.
/// - **Marks** ([`Fleet::mark`](crate::Fleet::mark)) outrank both; checks go on.
///
/// The driver counts as present for three seconds after each tick, until it is dropped or its checks are ignored. So if
/// its task dies or stalls, requests become probes again by themselves.
///
/// # What it costs
///
/// Nothing on the request path. A tick is O(log n) for each check that is due, of n endpoints; O(n) after a change of
/// the set; and while any endpoint is ejected or suspect O(n) once in 20 ms (less often above 20 000 endpoints), to
/// find those that are due. A failed request costs some 16 checks if the endpoint is well and about 2 if it is not;
/// where one of those fails, up to 32 more.
///
/// # Examples
///
/// ```
/// use evenkeel::{Fleet, HealthCheckSettings, ManualClock, MemberState, Outcome};
/// use std::time::Duration;
///
/// # fn is_up(address: &str) -> bool { address == "a" }
/// let clock = ManualClock::new();
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b"].map(String::from))
///     .clock(clock.clone())
///     .build()?;
/// let mut checks = fleet.health_check(HealthCheckSettings::default())?;
///
/// for probe in checks.tick() {
///     let outcome = match is_up(probe.endpoint()) { // your I/O, within probe.timeout()
///         true => Outcome::Success,
///         false => Outcome::Unreachable,
///     };
///     probe.finish(outcome);
/// }
/// let state = |key: &str| fleet.member(&key.to_string()).map(|member| member.state());
/// assert_eq!(state("a"), Some(MemberState::Ready));
/// assert_eq!(state("b"), Some(MemberState::Ejected)); // the first result decides
///
/// // An ejection's time, and two passes: it is back, and gets its share step by step.
/// clock.advance(Duration::from_secs(3));
/// for _ in 0..2 {
///     checks.tick().into_iter().for_each(|probe| probe.finish(Outcome::Success));
///     clock.advance(Duration::from_secs(2)); // the second comes after a second or less
/// }
/// assert_eq!(state("b"), Some(MemberState::Warming));
/// # Ok::<(), evenkeel::BuildError>(())
/// ```
pub struct HealthCheck<E: Endpoint> {
    /// Weak, so that the fleet is not kept alive: a task that checks should end when the fleet is no longer used.
    fleet: Weak<Inner<E>>,
    checks: Arc<Checks>,
}

impl<E: Endpoint> Fleet<E> {
    /// Returns a driver for active checks of this fleet's endpoints. Checks begin with its first
    /// [`tick`](HealthCheck::tick). It does not keep the fleet alive.
    ///
    /// # Errors
    ///
    /// [`BuildError::Setting`] names the setting that is out of its range, and its value.
    pub fn health_check(
        &self,
        settings: HealthCheckSettings,
    ) -> Result<HealthCheck<E>, BuildError> {
        settings.check()?;
        let checks = Checks {
            settings,
            shared: self.inner.shared.clone(),
            book: Mutex::new(Book::default()),
        };
        Ok(HealthCheck {
            fleet: Arc::downgrade(&self.inner),
            checks: Arc::new(checks),
        })
    }
}

impl<E: Endpoint> HealthCheck<E> {
    /// Returns the probes that are due now, to be sent and finished. Empty when none is due, or the fleet is gone.
    /// Takes no lock that a request takes, except briefly that of waiting drains, to wake the [drains](crate::Drain)
    /// that are over time.
    #[must_use = "a probe that is dropped says nothing, and its endpoint is not checked"]
    pub fn tick(&mut self) -> Vec<Probe<E>> {
        let mut probes = Vec::new();
        let Some(inner) = self.fleet.upgrade() else {
            return probes;
        };
        let (checks, shared) = (&self.checks, &*self.checks.shared);
        let now = shared.now();
        // In an idle fleet nothing else looks at these.
        shared.deadlines.wake(&shared.upkeep_due, now);
        let snapshot = inner.current.load();
        let members = snapshot.routable();
        let mut book = checks.book.lock();
        shared.prober.record_tick(now, book.belief.is_believed());
        let ids = members.iter().map(Member::id);
        book.follow(now, snapshot.edition, ids, |at| {
            checks.first_seen(members[at].core(), now)
        });
        book.heal(now, checks.longest_wait());
        checks.give_up(&mut book, members, now);
        checks.watch(&mut book, members, now);
        // Checks that are not believed bring no endpoint back either: requests do, as if there were no checks.
        shared.prober.record_tick(now, book.belief.is_believed());
        checks.release(&mut book, members, now);
        checks.begin_round(&mut book, members, now);
        while let Some((id, at)) = book.due(now, checks.settings.max_probes) {
            let member = &members[at];
            debug_assert_eq!(member.id(), id, "the book is of this set");
            if let Some(sent) = checks.send(&mut book, member.core(), now) {
                probes.push(Probe::new(member.clone(), checks.clone(), sent));
            }
        }
        probes
    }

    /// Returns how long until the next [`tick`](Self::tick) is due; 0 when a check is due. While there is a fleet, that
    /// is at most 20 ms, as requests eject and suspect meanwhile (half the time in which a caller of a hundred requests
    /// a second makes another mistake). Finishing a probe may make it sooner. A later tick does no harm, but after
    /// three seconds requests become probes again.
    #[must_use]
    pub fn next_due(&self) -> Duration {
        if self.is_over() {
            return FLEET_GONE_INTERVAL;
        }
        let checks = &*self.checks;
        let now = checks.shared.now();
        let book = checks.book.lock();
        if !book.is_begun() {
            return Duration::ZERO;
        }
        let most = checks.settings.max_probes;
        let watch = now.after(WATCH);
        book.next(most, now)
            .map_or(watch, |due| due.min(watch))
            .since(now)
    }

    /// Whether the fleet is gone, so that nothing is left to check. A loop of yours should then end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.fleet.strong_count() == 0
    }
}

impl<E: Endpoint> Drop for HealthCheck<E> {
    fn drop(&mut self) {
        self.checks.shared.prober.leave();
    }
}

impl<E: Endpoint> fmt::Debug for HealthCheck<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthCheck")
            .field("settings", &self.checks.settings)
            .field("under_way", &self.checks.book.lock().under_way())
            .finish_non_exhaustive()
    }
}
