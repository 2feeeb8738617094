//! What operators see and which setting to change; where Envoy's and gRPC's settings are; the terms.
//!
//! How-tos are in [the guide](super::guide), which policy when in [policies](super::policies). The simulator (feature `sim`) tries settings
//! before they ship.
//!
//! # What can be changed while it runs
//!
//! - Of a fleet: the [policy](crate::Fleet::set_policy), [marks](crate::Fleet::mark), and the set with its weights
//!   ([`update`](crate::Fleet::update)). All other settings belong to the [`FleetBuilder`](crate::FleetBuilder): build another fleet. It
//!   begins without latencies, health, ejections and marks. Leases of the old one may finish.
//! - Of active checks: drop the [`HealthCheck`](crate::HealthCheck), make another of the same fleet.
//! - Of calls: [`CallOptions`](crate::CallOptions) for one call; else another [`Caller`](crate::Caller) over a clone of the same fleet,
//!   with a fresh budget.
//!
//! An outage of all, where a detector that compares with nobody is on:
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
//! ejection.consecutive_failures = 0; // for the next fleet: the detectors left compare with the others
//! assert_eq!(outage(ejection)?.stats().ejected, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What to publish
//!
//! Numbers of a fleet's [`Stats`](crate::Stats) and a caller's [`CallerStats`](crate::CallerStats), read every few seconds:
//!
//! | number | as | an alarm when |
//! |---|---|---|
//! | `ejected`, `members`, `marked_down` | gauges | `ejected` is at `ejection_limit` for minutes |
//! | `panicking`, `checks_ignored` | gauges | true |
//! | `ejections`, `ejections_overflow` | counters | they rise all the time |
//! | `saturated`; picks that failed, by [`PickError`](crate::PickError) | counters | any, unless limits are set to be reached |
//! | `policy_faults`, `tracker_panics`, `events_dropped` | counters | any |
//! | `retries`, `hedges` per `requests`; `budget_exhausted`, `throttled` | counters | a fifth; any |
//! | of each [`Member`](crate::Member): `state`, `in_flight`, `latency`, `outcomes` | gauges, by key | one differs from the others |
//!
//! [Events](crate::Fleet::take_events) tell what happened between two readings: log them.
//!
//! # From symptom to setting
//!
//! Settings without a type are of [`Ejection`](crate::Ejection). Where to look: [`Member::explain`](crate::Member::explain) and
//! [`outcomes`](crate::Member::outcomes) of an endpoint; [`stats`](crate::Fleet::stats), [`detections`](crate::Fleet::detections) and
//! [events](crate::Fleet::take_events) of a fleet; [`Caller::stats`](crate::Caller::stats). The crate exports no metrics: publish these
//! numbers.
//!
//! ## Ejection
//!
//! **A good endpoint keeps being ejected.** *See:* [`Ejected`](crate::EventKind::Ejected) with `times` rising; who found it in
//! [`Explanation::ejection`](crate::Explanation::ejection). *Means:* more of its requests end in faults than elsewhere. Are some of these
//! the caller's own ([`Ignored`](crate::Outcome::Ignored))? Are they drops that outlasted [patience](crate::FleetBuilder::patience)
//! (`outcomes().timeouts`)? *Change:* what is recorded; longer patience; raise `cusum_threshold`, or turn off the detector named
//! ([`detect_only`](crate::Ejection::detect_only) counts on). *Costs:* bad ones are found later.
//!
//! **A bad endpoint stays in, or is found late.** *See and change:* [`ejections_overflow`](crate::Stats::ejections_overflow) rises: the cap
//! is reached, raise `max_ejection_percent`. [`usual_error_rate`](crate::Explanation::usual_error_rate) is high: the others fail too, so it
//! does not stand out. [`evidence`](crate::Explanation::evidence) is low: it has few faults (`abandoned`, `ignored` and `overloaded` are
//! none; a timeout weighs three quarters of another fault), or few requests, as it is avoided; lower `cusum_threshold`. It is slow: set
//! `latency_factor`. It hangs: shorten [`attempt_timeout`](crate::CallPlan::attempt_timeout). No request should find it: drive
//! [checks](crate::HealthCheck). *Costs:* more false ejections; `latency_factor` takes capacity away.
//!
//! **Many are ejected at once in a common outage.** *See:* [`Stats::ejected`](crate::Stats::ejected) at
//! [`ejection_limit`](crate::Stats::ejection_limit); the detector in events. *Means:* one that compares with nobody is on (failures in a
//! row, `failure_percentage_threshold`, a tracker, checks), or there are fewer than three endpoints to compare. *Change:* turn that
//! detector off; lower `max_ejection_percent`. *Costs:* with a low cap, part of a dead zone stays in.
//!
//! **The others are overloaded while some are out.** *See:* [`Member::latency`](crate::Member::latency) of the others rises. *Means:* from
//! twice the latency in calm on, with more than `spare_capacity_percent` out, ejections are cut short by themselves. *Change:* lower that,
//! or `max_ejection_percent`. *Costs:* more requests fail at those tried.
//!
//! **An ejected endpoint returns too late.** *See:* [`Renewed`](crate::EventKind::Renewed); `until`, `times` and `probes_wanted` in the
//! explanation. *Means:* its probes fail, or few are sent: without checks at most one pick in eleven, and never a retry. *Change:*
//! lower `max_ejection_time`, `base_ejection_time` or `healthy_threshold`; drive checks; raise
//! [`Limits::max_probes`](crate::Limits::max_probes) if [`probing`](crate::Stats::probing) is at it. *Costs:* a bad probe fails a request.
//!
//! **An endpoint flaps.** *See:* `Ejected` and [`Returned`](crate::EventKind::Returned) in turns. *Change:* raise `healthy_threshold`,
//! `backoff_decay`, or [`SlowStart::window`](crate::SlowStart::window); where checks bring it back, `base_ejection_time`, over which they
//! must pass. *Costs:* a healed one is back later.
//!
//! **Low traffic.** *See:* [`requests_in_window`](crate::Explanation::requests_in_window) below its threshold. *Means:* the score does not
//! count; the sequential test does, with some four faults of an endpoint that fails all. *Change:* lower `minimum_volume` or widen
//! `window`; drive checks. *Costs:* a small volume proves little, a wide window reacts late.
//!
//! ## Load
//!
//! **An endpoint that is in gets next to nothing.** *See:* [`cost`](crate::Explanation::cost), a few times the usual for latency or errors;
//! [`spared_for`](crate::Explanation::spared_for), as it said that it is overloaded;
//! [`slow_start_share`](crate::Explanation::slow_start_share); `in_flight` at `limit`. *Change:* mend the endpoint, or [set a
//! policy](crate::Fleet::set_policy) that does not look at cost. *Costs:* slow answers, errors.
//!
//! **A new server is hit too hard.** *Change:* [`SlowStart::new_endpoints`](crate::SlowStart::new_endpoints), with a longer `window` or
//! `aggression` below 1. *Costs:* the others carry more for as long.
//!
//! **p99 suffers beside long streams.** *See:* endpoints with requests open for up to a minute have a `cost` of about three, the others
//! get the short ones. *Change:* a fleet for the streams, or record at the headers (see [policies](super::policies#how-to-choose)). *Costs:* a
//! recorded stream is not counted, nor waited for by a drain.
//!
//! **Few requests, unevenly spread.** *Means:* [`Adaptive`](crate::Adaptive) prefers who it knows to be quick. It costs nothing while
//! nothing waits. *Change:* [`RoundRobin`](crate::RoundRobin). *Costs:* slow endpoints get their full share.
//!
//! **Picks fail with [`Saturated`](crate::PickError::Saturated).** *See:* [`Stats::saturated`](crate::Stats::saturated); `in_flight` of
//! `limit`. *Change:* raise what is reached of [`Limits`](crate::Limits): `max_requests`, `max_requests_per_endpoint`, or
//! `max_concurrency_limit` and `buffer_percent` of the [`AdaptiveLimit`](crate::AdaptiveLimit). *Costs:* longer queues at the endpoints.
//!
//! **Panic: ejected endpoints get requests.** *See:* [`PanicBegun`](crate::EventKind::PanicBegun),
//! [`Stats::panicking`](crate::Stats::panicking). *Means:* less than half are neither ejected nor marked down. With the defaults ejections
//! alone do not go so far; marks beside them do. *Change:* undo [marks](crate::Mark); lower
//! [`PanicRule::threshold_percent`](crate::PanicRule::threshold_percent), or [`FailFast`](crate::PanicAction::FailFast) if callers can go
//! elsewhere. *Costs:* the few carry all, or picks fail.
//!
//! **A priority, zone or cluster gets too much or too little.** *See:* [`Fleet::tiers`](crate::Fleet::tiers),
//! [`Failover::preferred_load`](crate::Failover::preferred_load). *Change:* raise `overprovisioning_factor` to keep more where it is
//! preferred ([`Tiers`](crate::Tiers::overprovisioning_factor), [`Failover`](crate::Failover::overprovisioning_factor)), lower it to send
//! more away. If zones with many callers are overloaded: [`zone_aware`](crate::Tiers::zone_aware) for
//! [`prefer_zone`](crate::Tiers::prefer_zone). If a whole priority dies: raise `max_ejection_percent`. *Costs:* a high factor loads those
//! that are left.
//!
//! ## Calls and checks
//!
//! **Hedges overtake a server that hangs, and it stays in.** *See:* [`hedges_won`](crate::CallerStats::hedges_won), `outcomes().abandoned`
//! of one endpoint. *Change:* [patience](crate::FleetBuilder::patience) below a hedge's delay and an answer together. *Costs:* slow answers
//! that are cut off count as timeouts.
//!
//! **Retries amplify an outage.** *See:* [`retries`](crate::CallerStats::retries) per `requests` above 0.2. *Means:* at little traffic the
//! floor counts, once for each caller. *Change:* one [`Caller`](crate::Caller) and clones of it; lower `budget_percent`, `budget_floor`;
//! [`Throttle`](crate::Throttle). *Costs:* faults that a retry would have hidden
//! ([`budget_exhausted`](crate::CallerStats::budget_exhausted), [`throttled`](crate::CallerStats::throttled)).
//!
//! **Checks cost too much.** *Means:* one for each endpoint, client and interval; some 16 for a failed request of an endpoint that is well.
//! *Change:* raise `interval`, set `no_traffic_interval`, lower `max_probes` ([`HealthCheckSettings`](crate::HealthCheckSettings)).
//! *Costs:* found and brought back later.
//!
//! **Checks fail, and requests do not.** *See:* endpoints are out by [`ActiveCheck`](crate::Detector::ActiveCheck). *Means:* a bad answer is
//! believed of each endpoint, and so are `unhealthy_threshold` checks in a row without one. They are not where the cap keeps endpoints in
//! and most of those that answer fail theirs ([`checks_ignored`](crate::Stats::checks_ignored)). *Change:* mend the page, or drop the [`HealthCheck`](crate::HealthCheck): requests then
//! probe. *Costs:* without checks, requests find what is dead.
//!
//! # Coming from Envoy or gRPC
//!
//! Defaults in brackets. Names of gRFC A50 are Envoy's without the detector's prefix.
//!
//! | theirs | here |
//! |---|---|
//! | **`outlier_detection`** | [`Ejection`](crate::Ejection); Envoy's values: [`Ejection::envoy`](crate::Ejection::envoy) |
//! | `interval` (10 s) | `window` (10 s), sliding; looked at some ten times a second |
//! | `base_ejection_time` (30 s) | the same (2 s), as a return costs one probe; `jitter_percent` (25) for `max_ejection_time_jitter` (0) |
//! | `max_ejection_time` (300 s) | the same (64 s), less at high rates (`max_ejection_requests`, 10 000); `backoff` doubles |
//! | `max_ejection_percent` (10) | the same (50) |
//! | `always_eject_one_host` (false; gRPC: always) | `always_eject_one` (true) |
//! | `consecutive_5xx` (5) | `consecutive_failures` (0, off); `cusum_threshold` (11) finds it sooner, and compares |
//! | `consecutive_gateway_failure` (5, not enforced) | `consecutive_gateway_failures` (0, off): timeouts and out of reach |
//! | `consecutive_local_origin_failure` (5, if split) | `consecutive_local_origin_failures` (0, off): out of reach |
//! | `success_rate_stdev_factor` (1900) | the same over 1000 (0, off), by median: one bad endpoint hides no other |
//! | `success_rate_minimum_hosts` (5), `_request_volume` (100) | the same (3, 20) |
//! | `failure_percentage_threshold` (85; Envoy: not enforced) | the same (0, off): in a common outage it ejects up to the cap |
//! | `failure_percentage_minimum_hosts` (5), `_request_volume` (50) | the same (3, 20) |
//! | `enforcing_*`, gRPC `enforcement_percentage` | [`detect_only`](crate::Ejection::detect_only), [`enforce`](crate::Ejection::enforce); no shares between |
//! | `successful_active_health_check_uneject_host` (true) | by design not there: a shallow page would undo what requests find |
//! | **`health_checks`** | [`HealthCheckSettings`](crate::HealthCheckSettings), [`envoy`](crate::HealthCheckSettings::envoy); sent by you |
//! | `interval`, `timeout` (required) | the same (5 s, 1 s) |
//! | `healthy_threshold`, `unhealthy_threshold` (required) | the same (2, 3) |
//! | `unhealthy_interval`, the two `_edge_interval` (`interval`) | the same (`interval`, at most 1 s) |
//! | `no_traffic_interval` (60 s) | the same (as with traffic) |
//! | `initial_jitter` (0), `interval_jitter_percent` (0) | `initial_jitter` (0), `jitter_percent` (10) |
//! | `ignore_new_hosts_until_first_hc` (false) | by design not there, as the cap would not hold: check once before the first pick |
//! | **policies**: `ROUND_ROBIN`, `RANDOM` | [`WeightedRoundRobin`](crate::WeightedRoundRobin), [`Random`](crate::Random) (by weight) |
//! | `LEAST_REQUEST`, its full scan | [`PowerOfTwo`](crate::PowerOfTwo), [`LeastConnections`](crate::LeastConnections) |
//! | `RING_HASH`, `MAGLEV`; subsets | not there: a policy of yours may use [`affinity`](crate::PickOptions::affinity); a fleet each |
//! | `client_side_weighted_round_robin`, A58 | not there: servers' reports are not read; weights come with `Fleet::update` |
//! | `slow_start_window` (off) | [`SlowStart`](crate::SlowStart)`::window` (5 s), on a return; of new ones if `new_endpoints` (false) |
//! | `aggression` (1.0), `min_weight_percent` (10) | `aggression` (1.0), `minimum_share` (0.1) |
//! | `healthy_panic_threshold` (50) | [`PanicRule`](crate::PanicRule)`::threshold_percent` (50); over `hysteresis_percent` (10) above |
//! | `fail_traffic_on_panic` (false) | `PanicRule::action` (`IgnoreHealth`) |
//! | `priority`, `overprovisioning_factor` (140) | [`Tiers`](crate::Tiers) or [`Failover`](crate::Failover), factor 140 |
//! | `zone_aware_lb_config`, `min_cluster_size` (6) | [`Tiers::zone_aware`](crate::Tiers::zone_aware) (off), `min_cluster_size` (6) |
//! | `locality_weighted_lb_config` | [`Tiers::locality_weights`](crate::Tiers::locality_weights) |
//! | EDS `health_status` | [`Fleet::mark`](crate::Fleet::mark) |
//! | **`circuit_breakers`**: `max_requests` (1024) | [`Limits`](crate::Limits)`::max_requests` (none), exact |
//! | (not there: `per_host_thresholds` limits connections) | `max_requests_per_endpoint` (none) |
//! | `max_connections`, `max_pending_requests` (1024) | by design not there: the crate opens no connection and queues nothing |
//! | `max_retries` (3) | [`CallPlan`](crate::CallPlan)`::max_concurrent_retries` (none), as the budget grows with the load |
//! | `retry_budget`: `budget_percent` (20), `min_retry_concurrency` (3) | `budget_percent` (20), `budget_floor` (3), of ten seconds |
//! | `adaptive_concurrency`: 3 to 1000, `buffer` (25) | [`AdaptiveLimit`](crate::AdaptiveLimit) (off): the same, beginning at 20 |
//! | its minRTT window | by design not there: a limit pinned low fails requests |
//! | `admission_control`: `sr_threshold` (95) | [`Throttle`](crate::Throttle) (off): `k` (2, a threshold of 50) |
//! | `max_rejection_probability` (80) | `max_rejection_percent` (80) |
//! | **retries**: `num_retries` (1), route `timeout` (15 s) | `CallPlan::attempts` (2, the first included), `deadline` (15 s) |
//! | `per_try_timeout` (none), `retry_back_off` (25, 250 ms) | `attempt_timeout` (none), `backoff_base` and `backoff_max` (25, 250 ms) |
//! | `retry_on`; `previous_hosts` | [`is_retryable`](crate::Transport::is_retryable) (faults); always |
//! | `previous_priorities` (off) | `Failover::retries_elsewhere` (true); `Tiers` do not |
//! | gRPC `retryThrottling` | by design not there: tokens fill up in a quiet hour, and the next outage spends them; see `retry_budget` |
//! | `hedge_on_per_try_timeout` (false); gRPC `hedgingDelay` | [`Hedge::after`](crate::Hedge::after) (off) |
//! | **stats**: `ejections_active`, `ejections_overflow` | `Stats::ejected`, `Stats::ejections_overflow` |
//! | `ejections_enforced_*`, `ejections_detected_*` | [`Fleet::detections`](crate::Fleet::detections) |
//!
//! A50 as xDS sets it up by default:
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
//! # Terms
//!
//! | term | is |
//! |---|---|
//! | affinity | a hash of what should stay together: session stickiness, to a cluster, priority and zone |
//! | check | an active health check, sent beside requests |
//! | cost | what a request is taken to cost at an endpoint, by latency, requests in flight and errors; `Adaptive` takes the least |
//! | cursor | a position in a sequence, such as a round robin's; it belongs to the fleet |
//! | drain | takes no new requests, lets those in flight finish |
//! | eject, cap | to take out of rotation for health (outlier detection; a breaker opens); how many may be out at once |
//! | eligible | neither ejected nor marked down; in an explanation: may be picked now |
//! | fleet, cluster | the set of endpoints in this process; the trait that callers use, of one fleet or several |
//! | invitation | one request to an endpoint that is avoided, to see whether it is better |
//! | lease | one request's hold on an endpoint, counted as in flight |
//! | mark, degraded | what an operator or discovery says: up, down; or a spare, for when the healthy of all tiers cannot carry the load |
//! | endpoint, member | a host, backend or upstream, of your type; the same in a fleet, with its numbers, until it is removed |
//! | outcome, fault | how a request ended; a failure, a timeout or unreachable |
//! | panic | so few are eligible that health is ignored, or picks fail (Envoy's panic mode) |
//! | patience, abandoned | how long a lease must be held for a drop without a record to count as a timeout; a drop before that: neutral |
//! | probe | a request (half-open) or check to an ejected endpoint, to see whether it is back |
//! | score | health from 0 to 1, by a sliding window's faults and by latency |
//! | sequential test, evidence, suspect | Page's CUSUM of one endpoint against the others; its sum; who has some and is in |
//! | slow start, warming | a share that rises after a return |
//! | throttle | the caller refuses some calls unsent: client-side admission control |
//! | tier | one zone of one priority |
//! | tracker | what judges one endpoint by its outcomes |
//! | upkeep | what is done now and then, in place of a background thread |
//! | usual | the median latency, or share of errors, of the fleet |
