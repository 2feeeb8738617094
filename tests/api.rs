//! Promise: the public types can be shared between threads, boxed, used through pointers and printed with `Debug`, and
//! a lease cannot be cloned.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{SECOND, Server, servers, setup};
use evenkeel::{
    Adaptive, Alarm, Backoff, BoxFuture, BoxTransport, BuildError, CallError, CallPlan, Caller,
    CallerError, CallerStats, Changes, Choice, Clock, Cluster, ClusterExt, Cursor, Detections,
    Detector, Drain, Drained, DynTransport, Ejection, Endpoint, Failover, Fleet, FleetBuilder,
    FromFn, FromPicker, FromSleep, Health, HealthCheck, HealthCheckSettings, HealthTracker,
    Judging, Lease, LeastConnections, LeastResponseTime, LoadBalancer, ManualClock, Mark, Member,
    MemberId, MemberState, MonotonicClock, Outcome, PickContext, PickError, PickOptions, Picker,
    PowerOfTwo, Probe, Random, Retire, RoundRobin, Sample, SampleKind, SlidingWindow, SlowStart,
    Stats, StopReason, Target, Tick, Tier, Transport, UpdateError, Upkeep, Usual, View, Weight,
    WeightedRoundRobin, from_fn, from_picker,
};

const fn shared<T: Send + Sync + Unpin + 'static>() {}
const fn shown<T: Debug + ?Sized>() {}

macro_rules! for_each_type {
    ($check:ident: $($type:ty),* $(,)?) => { $( $check::<$type>(); )* };
}

type Boxed = BoxTransport<Server, u8, u8, ()>;

#[test]
fn all_types_are_send_and_sync_and_can_be_moved_and_kept() {
    for_each_type!(shared: Fleet<Server>, FleetBuilder<Server>, Lease<Server>, Member<Server>, Drain,
        Drained, PickOptions<'static>, MemberId, MemberState, Stats, Changes, Mark, Upkeep, Ejection,
        Health, Usual, Judging<'static>, SlidingWindow, Alarm, Sample, SampleKind, Outcome, Tick,
        ManualClock, MonotonicClock, Target<u8, u8>, Weight, PickError, BuildError, UpdateError,
        CallError<()>, Cursor, Choice, View<'static, Server>, PickContext<'static, Server>, RoundRobin,
        WeightedRoundRobin, Random, LeastConnections, PowerOfTwo, LeastResponseTime, FromPicker<u8>,
        FromFn<u8>, Boxed, HealthCheck<Server>, HealthCheckSettings, Probe<Server>, Adaptive, Backoff,
        SlowStart, Detector, Detections, Caller<Fleet<Server>, Boxed>, CallPlan, CallerStats, CallerError<()>,
        StopReason, FromSleep<fn()>, Failover<Fleet<Server>, Fleet<Server>>,
        Retire<Server>);
}

#[test]
fn all_types_can_be_shown() {
    for_each_type!(shown: Fleet<Server>, FleetBuilder<Server>, Lease<Server>, Member<Server>, Drain,
        Drained, PickOptions<'_>, MemberId, MemberState, Stats, Changes, Mark, Upkeep, Ejection,
        Health, Usual, Judging<'_>, SlidingWindow, Alarm, Sample, SampleKind, Outcome, Tick,
        ManualClock, MonotonicClock, Target<u8, u8>, Weight, PickError, BuildError, UpdateError,
        CallError<()>, Cursor, Choice, View<'_, Server>, PickContext<'_, Server>, RoundRobin,
        WeightedRoundRobin, Random, LeastConnections, PowerOfTwo, LeastResponseTime, FromPicker<u8>,
        FromFn<u8>, Boxed, HealthCheck<Server>, HealthCheckSettings, Probe<Server>, Adaptive, Backoff,
        SlowStart, Detector, Detections, Caller<Fleet<Server>, Boxed>, CallPlan, CallerStats, CallerError<()>,
        StopReason, FromSleep<fn()>, Failover<Fleet<Server>, Fleet<Server>>,
        Retire<Server>, dyn LoadBalancer<Server>, dyn HealthTracker, dyn Clock);
}

#[test]
fn errors_are_errors_that_can_be_sent() {
    const fn error<T: std::error::Error + Send + Sync + 'static>() {}
    for_each_type!(error: PickError, BuildError, UpdateError, CallError<std::io::Error>,
        CallerError<std::io::Error>, StopReason);
}

/// Fails to compile if `T` implements the trait, because `<T as Ambiguous<_>>::check` is ambiguous then.
macro_rules! assert_not_impl {
    ($type:ty: $trait:path) => {
        const _: fn() = || {
            trait Ambiguous<A> {
                fn check() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Implemented;
            impl<T: ?Sized + $trait> Ambiguous<Implemented> for T {}
            let _ = <$type as Ambiguous<_>>::check;
        };
    };
}

// One lease is one request in flight: a clone would end the request twice. A drain likewise ends once.
assert_not_impl!(Lease<Server>: Clone);
assert_not_impl!(Drain: Clone);
// A check is answered once.
assert_not_impl!(Probe<Server>: Clone);

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

#[test]
fn clusters_can_be_objects_and_pointers_forward() {
    fn check(cluster: impl Cluster<Endpoint = Server>) {
        assert_eq!(cluster.name(), "forwarded");
        let first = cluster.pick_endpoint().unwrap();
        let avoid = [first.id()];
        let second = cluster.pick_endpoint_with(&PickOptions::new().avoid(&avoid));
        assert_ne!(second.unwrap().id(), first.id());
        let transport = from_fn(|server: &Server, add: usize| {
            let key = server.key();
            async move { Ok::<_, ()>(key + add) }
        });
        assert!(ready(cluster.call(&transport, 10)).unwrap() >= 10);
    }
    let fleet = setup(2, &ManualClock::new()).name("forwarded");
    let fleet = fleet.build().unwrap();
    let object: Arc<dyn Cluster<Endpoint = Server>> = Arc::new(fleet.clone());
    let boxed: Box<dyn Cluster<Endpoint = Server>> = Box::new(fleet.clone());
    check(&*object);
    check(object);
    check(&boxed);
    check(boxed);
    check(&fleet);
    check(Arc::new(fleet.clone()));
    check(Box::new(fleet.clone()));
    assert_eq!(fleet.stats().in_flight, 0);
    check(fleet);
}

#[test]
fn policies_can_be_objects_and_pointers_forward() {
    let boxed: Box<dyn LoadBalancer<Server>> = Box::new(RoundRobin::new());
    let counted: Arc<dyn LoadBalancer<Server>> = Arc::new(RoundRobin::new());
    let nested: Box<Arc<dyn LoadBalancer<Server>>> = Box::new(counted.clone());
    let fleets = [
        setup(3, &ManualClock::new()).policy(boxed),
        setup(3, &ManualClock::new()).policy(counted),
        setup(3, &ManualClock::new()).policy(nested),
    ];
    for builder in fleets {
        let seen = common::sequence(&builder.build().unwrap(), 6);
        assert_eq!(seen[..3], seen[3..]);
    }
}

#[test]
fn pickers_can_be_objects() {
    let fleet = setup(3, &ManualClock::new()).build().unwrap();
    let members = fleet.members();
    let picker: Box<dyn Picker<Server>> = RoundRobin::new().picker(&View::new(&members));
    let options = PickOptions::new();
    let mut cx = PickContext::new(&members, &options, Tick::ZERO, 1);
    let indexes = [0; 4].map(|_| picker.pick(&mut cx).map(Choice::index));
    assert_eq!(indexes, [Some(0), Some(1), Some(2), Some(0)]);
}

#[test]
fn trackers_can_be_objects() {
    let five_in_a_row = Ejection::default()
        .cusum_threshold(0.0)
        .consecutive_failures(5);
    let tracker: Box<dyn HealthTracker> = Box::new(SlidingWindow::new(&five_in_a_row));
    let usual = Usual::default();
    let cx = Judging::new(Tick::ZERO, &usual);
    let sample = Sample::new(Outcome::Failure, None, Tick::ZERO);
    let alarms = [0; 5].map(|_| tracker.record(&sample, &cx));
    assert_eq!(alarms[3..], [Alarm::None, Alarm::Eject]);
    // What 5 failures of 5 prove by Wilson's bound at 97.5 %: a share of at least 5 / (5 + 1.96²) = 0.5655.
    let health = tracker.health(&cx);
    assert!((health.score - 0.4345).abs() < 0.0001 && health.samples == 5);
    tracker.readmitted(Tick::ZERO);
    assert_eq!(tracker.health(&cx), Health::new(1.0, 0));
}

#[test]
fn clocks_can_be_objects_and_pointers_forward() {
    let manual = ManualClock::new();
    let object: Arc<dyn Clock> = Arc::new(manual.clone());
    let boxed: Box<dyn Clock> = Box::new(object.clone());
    manual.advance(SECOND);
    assert_eq!(object.now(), manual.now());
    assert_eq!(boxed.now(), manual.now());
    let fleet = Fleet::builder().endpoints(servers(&[1])).clock(boxed);
    let fleet = fleet.build().unwrap();
    let lease = fleet.pick_endpoint().unwrap();
    manual.advance(SECOND);
    lease.record(Outcome::Success);
    // The estimate is an f32 square root, so it is exact to within a millionth.
    let latency = fleet.members()[0].latency().unwrap();
    assert!(
        latency.abs_diff(SECOND) <= SECOND / 1_000_000,
        "{latency:?}"
    );
}

#[test]
fn transports_can_be_objects_and_forward() {
    struct Adds(u32);
    impl Transport<u32, u32> for Adds {
        type Response = u32;
        type Error = String;
        async fn send(&self, endpoint: &u32, request: u32) -> Result<u32, String> {
            let sum = endpoint + request;
            (sum < self.0)
                .then_some(sum)
                .ok_or_else(|| "too much".into())
        }
        fn classify(&self, _: &Result<u32, String>) -> Outcome {
            Outcome::Timeout
        }
    }
    let object: Box<dyn DynTransport<u32, u32, u32, String>> = Box::new(Adds(9));
    let future: BoxFuture<'_, _> = object.send_boxed(&3, 4);
    assert_eq!(ready(future), Ok(7));
    assert_eq!(object.classify_boxed(&Ok(7)), Outcome::Timeout);

    fn check(transport: impl Transport<u32, u32, Response = u32, Error = String>) {
        assert_eq!(ready(transport.send(&3, 4)), Ok(7));
        assert_eq!(ready(transport.send(&3, 9)), Err("too much".into()));
        assert_eq!(transport.classify(&Ok(7)), Outcome::Timeout);
    }
    let boxed = BoxTransport::new(Adds(9));
    check(&boxed);
    check(boxed.clone());
    check(boxed);
    check(Adds(9));
}

#[test]
fn a_result_becomes_an_outcome() {
    assert_eq!(Outcome::from(&Ok::<u8, u8>(1)), Outcome::Success);
    assert_eq!(Outcome::from(&Err::<u8, u8>(1)), Outcome::Failure);
    assert!(Outcome::from(&Err::<(), ()>(())).is_fault());
}

/// Formats everything about a fleet that has a `Debug` implementation.
fn show(fleet: &Fleet<Server>, lease: &Lease<Server>, drain: &Drain) -> String {
    let members = fleet.members();
    let options = PickOptions::new();
    let cx = PickContext::new(&members, &options, Tick::ZERO, 1);
    let view = View::new(&members);
    format!(
        "{fleet:?} {lease:?} {drain:?} {members:?} {cx:?} {view:?} {:?}",
        fleet.stats()
    )
}

/// A policy that waits, in the middle of an update, until another thread has printed the fleet.
#[derive(Debug)]
struct Waits(Arc<Mutex<Option<Middle>>>);

#[derive(Debug)]
struct Middle {
    reached: mpsc::Sender<()>,
    shown: mpsc::Receiver<String>,
    text: mpsc::Sender<Option<String>>,
}

impl LoadBalancer<Server> for Waits {
    fn picker(&self, view: &View<'_, Server>) -> Box<dyn Picker<Server>> {
        if let Some(middle) = self.0.lock().unwrap().take() {
            middle.reached.send(()).unwrap();
            // The timeout only matters if the test fails: it turns a deadlock into an error.
            let text = middle.shown.recv_timeout(Duration::from_secs(20)).ok();
            middle.text.send(text).unwrap();
        }
        Random::new().picker(view)
    }
}

#[test]
fn a_fleet_can_be_shown_and_picked_from_in_the_middle_of_an_update() {
    let slot = Arc::new(Mutex::new(None));
    let fleet = setup(3, &ManualClock::new()).policy(Waits(slot.clone()));
    let fleet = fleet.build().unwrap();
    let lease = fleet.lease(&0).unwrap();
    let drain = fleet.drain(&0).unwrap();

    let (reached, is_reached) = mpsc::channel();
    let (show_to, shown) = mpsc::channel();
    let (text, seen) = mpsc::channel();
    *slot.lock().unwrap() = Some(Middle {
        reached,
        shown,
        text,
    });
    std::thread::scope(|scope| {
        let (fleet, lease, drain) = (&fleet, &lease, &drain);
        scope.spawn(|| fleet.update(servers(&[1; 9])).unwrap());
        scope.spawn(move || {
            is_reached.recv().unwrap();
            drop(fleet.pick_endpoint().unwrap());
            show_to.send(show(fleet, lease, drain)).unwrap();
        });
    });
    let text = seen.recv().unwrap();
    let text = text.expect("showing or picking waited for the update");
    assert!(
        text.contains("members: 3"),
        "the old set is in force: {text}"
    );
    assert!(show(&fleet, &lease, &drain).contains("members: 9"));
}

#[test]
fn a_picker_that_prepares_nothing_is_a_policy() {
    #[derive(Clone, Debug)]
    struct Last;
    impl Picker<Server> for Last {
        fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
            (0..cx.members().len())
                .rev()
                .find(|&i| cx.may_pick(i))
                .map(Choice::at)
        }
    }
    let fleet = setup(3, &ManualClock::new()).policy(from_picker(Last));
    let fleet = fleet.build().unwrap();
    assert_eq!(common::sequence(&fleet, 3), [2; 3]);
    fleet.mark(&2, Mark::Down);
    assert_eq!(common::sequence(&fleet, 3), [1; 3]);
}

/// A fleet may ask a policy of the crate that needs no context for its choice directly. It must not do so when the
/// policy is wrapped in a user's policy: the wrapper is asked, and its choice counts.
#[test]
fn a_policy_within_a_policy_of_yours_decides_nothing() {
    #[derive(Debug)]
    struct ButFor(usize);
    struct Wrapped(Box<dyn Picker<Server>>, usize);

    impl LoadBalancer<Server> for ButFor {
        fn picker(&self, view: &View<'_, Server>) -> Box<dyn Picker<Server>> {
            Box::new(Wrapped(WeightedRoundRobin::new().picker(view), self.0))
        }
    }
    impl Picker<Server> for Wrapped {
        fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
            let members = cx.members();
            (0..100)
                .filter_map(|_| self.0.pick(cx))
                .find(|choice| members[choice.index()].endpoint().key() != self.1)
        }
    }

    let fleet = setup(3, &ManualClock::new()).policy(ButFor(1));
    let fleet = fleet.build().unwrap();
    for _ in 0..100 {
        let lease = fleet.pick_endpoint().unwrap();
        assert_ne!(lease.endpoint().key(), 1);
        lease.record(Outcome::Success);
    }
}

/// A policy of the user's own with a setting, which also shows how it divides the load.
#[derive(Debug)]
struct Split {
    percent: u32,
}

impl LoadBalancer<Server> for Split {
    fn picker(&self, _: &View<'_, Server>) -> Box<dyn Picker<Server>> {
        Box::new(Self { ..*self })
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.percent <= 100 {
            return Ok(());
        }
        Err(BuildError::setting(
            "Split::percent",
            self.percent,
            "at most 100",
        ))
    }
}

impl Picker<Server> for Split {
    fn pick(&self, _: &mut PickContext<'_, Server>) -> Option<Choice> {
        Some(Choice::at(0))
    }

    fn tiers(&self) -> Vec<Tier> {
        let mut tier = Tier::default();
        tier.load_percent = f64::from(self.percent);
        vec![tier]
    }
}

#[test]
fn a_policy_of_yours_can_refuse_a_setting_and_show_its_tiers() {
    let refused = "Split::percent is 101; it must be at most 100";
    let clock = ManualClock::new();
    let error = setup(2, &clock).policy(Split { percent: 101 }).build();
    assert_eq!(error.unwrap_err().to_string(), refused);
    let fleet = setup(2, &clock).build().unwrap();
    let error = fleet.set_policy(Split { percent: 101 }).unwrap_err();
    assert!(matches!(error, UpdateError::Setting(_)));
    assert_eq!(error.to_string(), refused);
    fleet.set_policy(Split { percent: 40 }).unwrap();
    assert_eq!(fleet.tiers()[0].load_percent, 40.0);
}

#[test]
fn a_mark_can_be_read_whatever_decides_the_state() {
    let fleet = setup(3, &ManualClock::new()).build().unwrap();
    assert_eq!(fleet.mark_of(&0), Some(Mark::Auto));
    fleet.mark(&0, Mark::Degraded);
    common::fail(&fleet, 0, 3);
    fleet.update(servers(&[2, 1])).unwrap();
    let state = |key| fleet.member(&key).map(|member| member.state());
    assert_eq!(state(0), Some(MemberState::Ejected));
    assert_eq!(fleet.mark_of(&0), Some(Mark::Degraded));
    assert_eq!(fleet.mark_of(&2), None);
    assert!(fleet.drain(&1).is_some());
    fleet.mark(&1, Mark::Down);
    assert_eq!(
        (state(1), fleet.mark_of(&1)),
        (Some(MemberState::Draining), Some(Mark::Down))
    );
}
