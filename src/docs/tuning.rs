//! From symptoms to settings; Envoy's and gRPC's settings and their equivalents; a glossary.
//!
//! How-tos are in [the guide](super::guide), and [policies](super::policies) helps to choose a policy. The simulator
//! (feature `sim`) tries settings before they ship.
//!
//! # What can be changed at run time
//!
//! - Of a fleet: the [policy](crate::Fleet::set_policy), the [marks](crate::Fleet::mark), and the set with its weights
//!   ([`update`](crate::Fleet::update)). All other settings belong to the [`FleetBuilder`](crate::FleetBuilder): build
//!   another fleet. It starts without latencies, health, ejections and marks. Leases of the old fleet may finish.
//! - Of active checks: drop the [`HealthCheck`](crate::HealthCheck) and make another for the same fleet.
//! - Of calls: [`CallOptions`](crate::CallOptions) for one call; otherwise make another [`Caller`](crate::Caller) over
//!   a clone of the same fleet. It starts with a fresh budget.
//!
//! An outage of all endpoints, with a detector that does not compare endpoints with each other:
//!
//! ```
//! use evenkeel::{Detector, Ejection, Fleet, Mark, MemberState};
//! # use evenkeel::{Cluster, ManualClock, Outcome, RoundRobin};
//!
//! # fn outage(ejection: Ejection) -> Result<Fleet<&'static str>, Box<dyn std::error::Error>> {
//! #     let (clock, builder) = (ManualClock::new(), Fleet::builder().endpoints(["a", "b", "c", "d"]).policy(RoundRobin::new()));
//! #     let fleet = builder.ejection(ejection).clock(clock.clone()).seed(7).build()?;
//! #     for request in 0..80 {
//! #         clock.advance(std::time::Duration::from_millis(10));
//! #         fleet.pick_endpoint()?.record(if request < 40 { Outcome::Success } else { Outcome::Timeout });
//! #     }
//! #     Ok(fleet)
//! # }
//! let mut ejection = Ejection::default().consecutive_failures(3);
//! let fleet = outage(ejection.clone())?; // four endpoints, and all requests time out
//! assert_eq!((fleet.stats().ejected, fleet.stats().ejection_limit), (2, 2));
//! let is_out = |member: &evenkeel::Member<_>| member.state() == MemberState::Ejected;
//! let out = fleet.members().into_iter().find(is_out).ok_or("two are out")?;
//! assert_eq!(out.explain().ejection.and_then(|it| it.detector), Some(Detector::ConsecutiveFailures));
//!
//! fleet.mark(out.endpoint(), Mark::Up); // at once: it is in, and not judged until Mark::Auto
//! assert_eq!(fleet.stats().ejected, 1);
//!
//! ejection.consecutive_failures = 0; // for the next fleet: only detectors that compare endpoints
//! assert_eq!(outage(ejection)?.stats().ejected, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What to publish
//!
//! Numbers of a fleet's [`Stats`](crate::Stats) and of a caller's [`CallerStats`](crate::CallerStats), read every few
//! seconds:
//!
//! | number | kind | alert when |
//! |---|---|---|
//! | `ejected`, `members`, `marked_down` | gauges | `ejected` is at `ejection_limit` for minutes |
//! | `panicking`, `checks_ignored` | gauges | true |
//! | `ejections`, `ejections_overflow` | counters | they keep rising |
//! | `saturated`; failed picks, by [`PickError`](crate::PickError) | counters | any, unless limits are expected to be reached |
//! | `policy_faults`, `tracker_panics`, `events_dropped` | counters | any |
//! | `retries`, `hedges` per `requests`; `budget_exhausted`, `throttled` | counters | a fifth; any |
//! | `hedge_delay` | gauge | it is near the deadline |
//! | [`Fleet::tiers`](crate::Fleet::tiers): `load_percent`; [`Failover::preferred_load`](crate::Failover::preferred_load) | gauges | not 1 (100 %) where preferred |
//! | of each [`Member`](crate::Member): `state`, `in_flight`, `latency`, `outcomes` | gauges, by key | one differs from the others |
//!
//! `outcomes` covers only the [window](crate::Ejection::window). The crate keeps no totals of requests or answers by
//! endpoint, and no histogram of latencies: count those where you send. Outcomes, states, marks and detectors have
//! their label as `Display` (`going away`), events as [`EventKind::name`](crate::EventKind::name), other enums as
//! `Debug` (`PickError::Saturated`: `Saturated`).
//! [Recipes](super::recipes#a-metrics-page) has a page of metrics.
//!
//! [Events](crate::Fleet::take_events) say what happened between two readings: log them.
//!
//! # From symptom to setting
//!
//! Settings without a type belong to [`Ejection`](crate::Ejection). Where to look:
//! [`Member::explain`](crate::Member::explain) and [`outcomes`](crate::Member::outcomes) of an endpoint;
//! [`stats`](crate::Fleet::stats), [`detections`](crate::Fleet::detections) and [events](crate::Fleet::take_events) of
//! a fleet; [`Caller::stats`](crate::Caller::stats). The crate exports no metrics: publish these numbers.
//!
//! ## Ejection
//!
//! **A good endpoint keeps being ejected.** *See:* [`Ejected`](crate::EventKind::Ejected) events with rising `times`;
//! the detector in [`Explanation::ejection`](crate::Explanation::ejection). *Means:* more of its requests end in faults
//! than elsewhere. Are some of these the caller's own faults ([`Ignored`](crate::Outcome::Ignored))? Are they drops
//! that outlasted [patience](crate::FleetBuilder::patience) (`outcomes().timeouts`)? *Change:* record such outcomes
//! differently; make patience longer; raise `cusum_threshold`, or turn off the detector that is named
//! ([`detect_only`](crate::Ejection::detect_only) keeps counting). *Costs:* bad endpoints are found later.
//!
//! **A bad endpoint stays in rotation, or is found late.** *See and change:*
//! [`ejections_overflow`](crate::Stats::ejections_overflow) rises: the cap is reached; raise `max_ejection_percent`.
//! [`usual_error_rate`](crate::Explanation::usual_error_rate) is high: the others fail too, so the endpoint is no
//! outlier. [`evidence`](crate::Explanation::evidence) is low: it has few faults (`abandoned`, `ignored` and
//! `overloaded` are not faults; a timeout weighs three quarters of another fault, and less where it comes after less
//! than 16 times the usual latency), or few requests because it is avoided; lower `cusum_threshold`. It is slow: set
//! `latency_factor`. It hangs: shorten [`attempt_timeout`](crate::CallPlan::attempt_timeout). Requests should not have
//! to find it: drive [checks](crate::HealthCheck). *Costs:* more false ejections; `latency_factor` takes capacity away.
//!
//! **Many are ejected at once in a common outage.** *See:* [`Stats::ejected`](crate::Stats::ejected) at
//! [`ejection_limit`](crate::Stats::ejection_limit); the detector in events. *Means:* a detector is on that does not
//! compare endpoints (consecutive failures, `failure_percentage_threshold`, a tracker, checks), or there are fewer than
//! three endpoints to compare. *Change:* turn that detector off; lower `max_ejection_percent`. *Costs:* with a low cap,
//! part of a dead zone stays in rotation.
//!
//! **The others are overloaded while some are ejected.** *See:* [`Member::latency`](crate::Member::latency) of the
//! others rises. *Means:* too much capacity is out. If more than `spare_capacity_percent` are ejected and the others
//! take at least twice as long as normally, ejections are cut short automatically. *Change:* lower that setting, or
//! `max_ejection_percent`. *Costs:* more requests fail at the endpoints that are tried early.
//!
//! **An ejected endpoint returns too late.** *See:* [`Renewed`](crate::EventKind::Renewed) events; `until`, `times` and
//! `probes_wanted` in the explanation. *Means:* its probes fail, or few are sent: without checks at most one pick in
//! eleven is a probe, and a retry never is. *Change:* lower `max_ejection_time`, `base_ejection_time` or
//! `healthy_threshold`; drive checks; raise [`Limits::max_probes`](crate::Limits::max_probes) if
//! [`probing`](crate::Stats::probing) has reached it. *Costs:* each failed probe is a failed request.
//!
//! **An endpoint flaps.** *See:* `Ejected` and [`Returned`](crate::EventKind::Returned) events alternate. *Change:*
//! raise `healthy_threshold`, `backoff_decay`, or [`SlowStart::window`](crate::SlowStart::window); if checks bring it
//! back, raise `base_ejection_time`, over which they must pass. *Costs:* a recovered endpoint returns later.
//!
//! **Low traffic.** *See:* [`requests_in_window`](crate::Explanation::requests_in_window) below its threshold. *Means:*
//! the score does not count. The sequential test does; it takes about four faults of an endpoint that fails everything.
//! *Change:* lower `minimum_volume` or widen `window`; drive checks. *Costs:* a small volume proves little; a wide
//! window reacts late.
//!
//! ## Load
//!
//! **An endpoint in rotation gets almost no requests.** *See:* [`cost`](crate::Explanation::cost) is a few times the
//! usual, for latency or errors; [`spared_for`](crate::Explanation::spared_for) is set, because it said that it is
//! overloaded; [`slow_start_share`](crate::Explanation::slow_start_share); `in_flight` is at `limit`. *Change:* repair
//! the endpoint, or [set a policy](crate::Fleet::set_policy) that does not look at cost. *Costs:* slow answers, errors.
//!
//! **A new server gets too many requests.** *Change:* set
//! [`SlowStart::new_endpoints`](crate::SlowStart::new_endpoints), with a longer `window` or an `aggression` below 1.
//! *Costs:* the others carry more for that time.
//!
//! **p99 suffers beside long streams.** *See:* endpoints with requests open for up to a minute have a `cost` of about
//! three, and the others get the short requests. *Change:* use a fleet of its own for the streams, or record at the
//! headers (see [policies](super::policies#how-to-choose)). *Costs:* a recorded stream is not counted, and a drain does
//! not wait for it.
//!
//! **Few requests, unevenly spread.** *Means:* [`Adaptive`](crate::Adaptive) prefers endpoints that it knows to be
//! quick. This does no harm while nothing queues. *Change:* use [`RoundRobin`](crate::RoundRobin). *Costs:* slow
//! endpoints get their full share.
//!
//! **Picks fail with [`Saturated`](crate::PickError::Saturated).** *See:*
//! [`Stats::saturated`](crate::Stats::saturated); `in_flight` against `limit`. *Change:* raise the limit that is
//! reached of [`Limits`](crate::Limits): `max_requests`, `max_requests_per_endpoint`, or `max_concurrency_limit` and
//! `buffer_percent` of the [`AdaptiveLimit`](crate::AdaptiveLimit). *Costs:* longer queues at the endpoints.
//!
//! **Panic: ejected endpoints get requests.** *See:* [`PanicBegun`](crate::EventKind::PanicBegun) events,
//! [`Stats::panicking`](crate::Stats::panicking). *Means:* fewer than half of the endpoints are neither ejected nor
//! marked down. With the defaults, ejections alone do not go so far; together with marks they do. *Change:* undo
//! [marks](crate::Mark); lower [`PanicRule::threshold_percent`](crate::PanicRule::threshold_percent), or set
//! [`FailFast`](crate::PanicAction::FailFast) if callers can go elsewhere. *Costs:* the few eligible endpoints carry
//! everything, or picks fail.
//!
//! **A priority, zone or cluster gets too much or too little.** *See:* [`Fleet::tiers`](crate::Fleet::tiers),
//! [`Failover::preferred_load`](crate::Failover::preferred_load). *Change:* raise `overprovisioning_factor` to keep
//! more requests where they are preferred, lower it to send more away
//! ([`Tiers`](crate::Tiers::overprovisioning_factor), [`Failover`](crate::Failover::overprovisioning_factor)). If zones
//! with many callers are overloaded, use [`zone_aware`](crate::Tiers::zone_aware) instead of
//! [`prefer_zone`](crate::Tiers::prefer_zone). If a whole priority dies, raise `max_ejection_percent`. *Costs:* a high
//! factor loads the endpoints that are left.
//!
//! ## Calls and checks
//!
//! **Hedges overtake a server that hangs, and it stays in rotation.** *See:*
//! [`hedges_won`](crate::CallerStats::hedges_won), `outcomes().abandoned` of one endpoint. *Change:* set
//! [patience](crate::FleetBuilder::patience) below a hedge's delay and an answer together. *Costs:* slow answers that
//! are cut off count as timeouts.
//!
//! **Retries amplify an outage.** *See:* [`retries`](crate::CallerStats::retries) per `requests` above 0.2. *Means:* at
//! low traffic the floor of the budget applies, once for each caller. *Change:* use one [`Caller`](crate::Caller) and
//! clones of it; lower `budget_percent` or `budget_floor`; set a [`Throttle`](crate::Throttle). *Costs:* faults that a
//! retry would have hidden ([`budget_exhausted`](crate::CallerStats::budget_exhausted),
//! [`throttled`](crate::CallerStats::throttled)).
//!
//! **Checks cost too much.** *Means:* each client sends one per endpoint and interval, and a failed request of a
//! healthy endpoint causes some 16 more. *Change:* raise `interval`, set `no_traffic_interval`, lower `max_probes`
//! ([`HealthCheckSettings`](crate::HealthCheckSettings)). *Costs:* endpoints are found bad, and brought back, later.
//!
//! **Checks fail, but requests do not.** *See:* endpoints are ejected by [`ActiveCheck`](crate::Detector::ActiveCheck).
//! *Means:* a bad answer counts against each endpoint, and so do `unhealthy_threshold` checks in a row without an
//! answer. They do not count while the cap keeps endpoints in rotation and most of those that answer requests fail
//! their checks ([`checks_ignored`](crate::Stats::checks_ignored)). *Change:* repair the health page, or drop the
//! [`HealthCheck`](crate::HealthCheck), so that requests probe. *Costs:* without checks, requests find dead endpoints.
//!
//! # Coming from Envoy or gRPC
//!
//! Defaults are in brackets. gRFC A50 uses Envoy's names without the detector's prefix.
//!
//! | theirs | here |
//! |---|---|
//! | **`outlier_detection`** | [`Ejection`](crate::Ejection); Envoy's values: [`Ejection::envoy`](crate::Ejection::envoy) |
//! | `interval` (10 s) | `window` (10 s), sliding; evaluated about ten times a second |
//! | `base_ejection_time` (30 s) | the same (2 s), because a return costs one probe; `jitter_percent` (25) for `max_ejection_time_jitter` (0) |
//! | `max_ejection_time` (300 s) | the same (64 s), less at high rates (`max_ejection_requests`, 10 000); `backoff` doubles it |
//! | `max_ejection_percent` (10) | the same (50) |
//! | `always_eject_one_host` (false; gRPC: always) | `always_eject_one` (true) |
//! | `consecutive_5xx` (5) | `consecutive_failures` (0, off); `cusum_threshold` (11) detects sooner, and compares endpoints |
//! | `consecutive_gateway_failure` (5, not enforced) | `consecutive_gateway_failures` (0, off): timeouts and unreachable |
//! | `consecutive_local_origin_failure` (5, if split) | `consecutive_local_origin_failures` (0, off): unreachable |
//! | `success_rate_stdev_factor` (1900) | the same divided by 1000 (0, off), around the median: one bad endpoint hides no other |
//! | `success_rate_minimum_hosts` (5), `_request_volume` (100) | the same (3, 20) |
//! | `failure_percentage_threshold` (85; Envoy: not enforced) | the same (0, off): in a common outage it ejects up to the cap |
//! | `failure_percentage_minimum_hosts` (5), `_request_volume` (50) | the same (3, 20) |
//! | `enforcing_*`, gRPC `enforcement_percentage` | [`detect_only`](crate::Ejection::detect_only), [`enforce`](crate::Ejection::enforce); on or off, no percentages |
//! | `successful_active_health_check_uneject_host` (true) | left out by design: a shallow health page would undo what requests find |
//! | **`health_checks`** | [`HealthCheckSettings`](crate::HealthCheckSettings), [`envoy`](crate::HealthCheckSettings::envoy); you send the checks |
//! | `interval`, `timeout` (required) | the same (5 s, 1 s) |
//! | `healthy_threshold`, `unhealthy_threshold` (required) | the same (2, 3) |
//! | `unhealthy_interval`, the two `_edge_interval` (`interval`) | the same (`interval`, at most 1 s) |
//! | `no_traffic_interval` (60 s) | the same (as with traffic) |
//! | `initial_jitter` (0), `interval_jitter_percent` (0) | `initial_jitter` (0), `jitter_percent` (10) |
//! | `ignore_new_hosts_until_first_hc` (false) | left out by design, because the cap would not hold: finish a round of checks before the first pick |
//! | **policies**: `ROUND_ROBIN`, `RANDOM` | [`WeightedRoundRobin`](crate::WeightedRoundRobin), [`Random`](crate::Random) (by weight) |
//! | `LEAST_REQUEST`, its full scan | [`PowerOfTwo`](crate::PowerOfTwo), [`LeastConnections`](crate::LeastConnections) |
//! | `RING_HASH`, `MAGLEV`; subsets | not available: a policy of yours may use [`affinity`](crate::PickOptions::affinity); one fleet per subset |
//! | `client_side_weighted_round_robin`, A58 | not available: servers' load reports are not read; set weights by `Fleet::update` |
//! | `slow_start_window` (off) | [`SlowStart`](crate::SlowStart)`::window` (5 s), on a return; for new endpoints if `new_endpoints` (false) |
//! | `aggression` (1.0), `min_weight_percent` (10) | `aggression` (1.0), `minimum_share` (0.1) |
//! | `healthy_panic_threshold` (50) | [`PanicRule`](crate::PanicRule)`::threshold_percent` (50); panic ends `hysteresis_percent` (10) above it |
//! | `fail_traffic_on_panic` (false) | `PanicRule::action` (`IgnoreHealth`) |
//! | `priority`, `overprovisioning_factor` (140) | [`Tiers`](crate::Tiers) or [`Failover`](crate::Failover), factor 140 |
//! | `zone_aware_lb_config`, `min_cluster_size` (6) | [`Tiers::zone_aware`](crate::Tiers::zone_aware) (off), `min_cluster_size` (6) |
//! | `locality_weighted_lb_config` | [`Tiers::locality_weights`](crate::Tiers::locality_weights) |
//! | EDS `health_status` | [`Fleet::mark`](crate::Fleet::mark) |
//! | **`circuit_breakers`**: `max_requests` (1024) | [`Limits`](crate::Limits)`::max_requests` (none), exact |
//! | (none: `per_host_thresholds` limits connections) | `max_requests_per_endpoint` (none) |
//! | `max_connections`, `max_pending_requests` (1024) | left out by design: the crate opens no connections and queues nothing |
//! | `max_retries` (3) | [`CallPlan`](crate::CallPlan)`::max_concurrent_retries` (none), as the budget grows with the load |
//! | `retry_budget`: `budget_percent` (20), `min_retry_concurrency` (3) | `budget_percent` (20), `budget_floor` (3), over ten seconds |
//! | `adaptive_concurrency`: 3 to 1000, `buffer` (25) | [`AdaptiveLimit`](crate::AdaptiveLimit) (off): the same, starting at 20 |
//! | its minRTT window | left out by design: a limit pinned low fails requests |
//! | `admission_control`: `sr_threshold` (95) | [`Throttle`](crate::Throttle) (off): `k` (2, a threshold of 50) |
//! | `max_rejection_probability` (80) | `max_rejection_percent` (80) |
//! | **retries**: `num_retries` (1), route `timeout` (15 s) | `CallPlan::attempts` (2, the first included), `deadline` (15 s) |
//! | `per_try_timeout` (none), `retry_back_off` (25, 250 ms) | `attempt_timeout` (none), `backoff_base` and `backoff_max` (25, 250 ms) |
//! | `retry_on`; `previous_hosts` | [`is_retryable`](crate::Transport::is_retryable) (faults); on, unless [`repeat_endpoints`](crate::CallPlan::repeat_endpoints) |
//! | `previous_priorities` (off) | `Failover::retries_elsewhere` (true); `Tiers` do not have it |
//! | gRPC `retryThrottling` | left out by design: tokens fill up in a quiet hour, and the next outage spends them; see `retry_budget` |
//! | `hedge_on_per_try_timeout` (false); gRPC `hedgingDelay` | [`Hedge::after`](crate::Hedge::after) (off) |
//! | **stats**: `ejections_active`, `ejections_overflow` | `Stats::ejected`, `Stats::ejections_overflow` |
//! | `ejections_enforced_*`, `ejections_detected_*` | [`Fleet::detections`](crate::Fleet::detections) |
//!
//! gRFC A50 with xDS's defaults:
//!
//! ```
//! use evenkeel::Ejection;
//! # use evenkeel::{AdaptiveLimit, CallPlan, HealthCheckSettings, PanicAction, PanicRule, SlowStart, Throttle};
//!
//! let a50 = Ejection::envoy()
//!     .consecutive_failures(0).consecutive_gateway_failures(0) // gRPC does not have these
//!     .failure_percentage_threshold(0) // nor this, unless it is enforced: then `.enforce(Detector::FailurePercentage)`
//!     .always_eject_one(true);
//! assert_eq!((a50.success_rate_stdev_factor, a50.success_rate_request_volume), (1.9, 100));
//! # let e = Ejection::default();
//! # assert_eq!([e.window, e.base_ejection_time, e.max_ejection_time].map(|it| it.as_secs()), [10, 2, 64]);
//! # assert_eq!((e.jitter_percent, e.max_ejection_requests, e.max_ejection_percent, e.always_eject_one), (25, 10_000, 50, true));
//! # assert_eq!((e.consecutive_failures, e.consecutive_gateway_failures, e.consecutive_local_origin_failures), (0, 0, 0));
//! # assert_eq!((e.cusum_threshold, e.success_rate_stdev_factor, e.failure_percentage_threshold), (11.0, 0.0, 0));
//! # assert_eq!((e.success_rate_minimum_hosts, e.success_rate_request_volume), (3, 20));
//! # assert_eq!((e.failure_percentage_minimum_hosts, e.failure_percentage_request_volume), (3, 20));
//! # let h = HealthCheckSettings::default();
//! # assert_eq!(([h.interval, h.timeout].map(|it| it.as_secs()), h.healthy_threshold, h.unhealthy_threshold), ([5, 1], 2, 3));
//! # assert_eq!((h.unhealthy_interval, h.no_traffic_interval, h.jitter_percent), (None, None, 10));
//! # let (s, p) = (SlowStart::default(), PanicRule::default());
//! # assert_eq!((s.window.as_secs(), s.aggression, s.minimum_share, s.new_endpoints), (5, 1.0, 0.1, false));
//! # assert_eq!((p.threshold_percent, p.hysteresis_percent, p.action), (50, 10, PanicAction::IgnoreHealth));
//! # let (c, a, t) = (CallPlan::default(), AdaptiveLimit::default(), Throttle::default());
//! # assert_eq!((c.attempts, c.deadline, c.attempt_timeout), (2, Some(std::time::Duration::from_secs(15)), None));
//! # assert_eq!((c.budget_percent, c.budget_floor, c.backoff_base.as_millis(), c.backoff_max.as_millis()), (20, 3, 25, 250));
//! # assert_eq!((a.min_concurrency, a.initial_concurrency, a.max_concurrency_limit, a.buffer_percent), (3, 20, 1000, 25));
//! # assert_eq!((t.k, t.max_rejection_percent, c.throttle.is_some(), c.hedge.is_some()), (2.0, 80, false, false));
//! ```
//!
//! # Glossary
//!
//! | term | meaning |
//! |---|---|
//! | affinity | a hash of what should stay together: session stickiness, to a cluster, priority and zone |
//! | check | an active health check, sent beside requests |
//! | cost | an estimate of what a request costs at an endpoint, by latency, requests in flight and errors; `Adaptive` picks the least |
//! | cursor | a position in a sequence, such as a round robin's; it belongs to the fleet |
//! | drain | to take no new requests and let those in flight finish |
//! | eject, cap | to take out of rotation for health (outlier detection, circuit breaking); the limit on how many may be out at once |
//! | eligible | neither ejected nor marked down; in an explanation: may be picked now |
//! | fleet, cluster | the set of endpoints in this process; the trait that callers use, implemented by one fleet or several |
//! | invitation | one request sent to an avoided endpoint to measure whether it has improved |
//! | lease | one request's hold on an endpoint, counted as in flight |
//! | mark, degraded | an operator's or discovery's word about an endpoint: up, down; or degraded, a spare for when the healthy endpoints of all tiers cannot carry the load |
//! | endpoint, member | a host, backend or upstream, of your type; the same in a fleet, with its numbers, until it is removed |
//! | outcome, fault | how a request ended; a failure, a timeout or unreachable |
//! | panic | so few endpoints are eligible that health is ignored, or picks fail (Envoy's panic mode) |
//! | patience, abandoned | how long a lease must be held for a drop without a record to count as a timeout; an earlier drop, which is neutral |
//! | probe | a request (half-open) or check sent to an ejected endpoint to see whether it has recovered |
//! | score | health from 0 to 1, by a sliding window's faults and by latency |
//! | sequential test, evidence, suspect | Page's CUSUM of one endpoint against the others; its sum; an endpoint in rotation whose sum is above zero |
//! | slow start, warming | a share of traffic that rises after a return |
//! | throttle | the caller refuses some calls unsent: client-side admission control |
//! | tier | one zone of one priority |
//! | tracker | what judges one endpoint by its outcomes |
//! | upkeep | periodic maintenance, done by picks or by `maintain()` in place of a background thread |
//! | usual | the median latency, or the usual share of errors, of the fleet |
