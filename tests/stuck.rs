//! Promise 7: picks take no lock, so they go on while an update is stuck.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use evenkeel::{
    Cluster, Fleet, LoadBalancer, ManualClock, Outcome, Picker, RoundRobin, Upkeep, View,
};

/// A policy whose preparation waits for a message.
#[derive(Debug)]
struct Stuck {
    reached: Sender<()>,
    release: Mutex<Receiver<()>>,
}

impl LoadBalancer<String> for Stuck {
    fn picker(&self, view: &View<'_, String>) -> Box<dyn Picker<String>> {
        self.reached.send(()).unwrap();
        self.release.lock().unwrap().recv().unwrap();
        RoundRobin::new().picker(view)
    }
}

/// While one thread holds the update mutex, this one picks, records, drops and reads, with upkeep that is due and with
/// ejections. If any of that waited for the mutex, the test would not end.
fn requests_beside_a_stuck_update(upkeep: Upkeep) {
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints(["a", "b", "c"].map(String::from))
        .upkeep(upkeep)
        .clock(clock.clone())
        .build()
        .unwrap();
    let (reached, is_reached) = channel();
    let (release, released) = channel();
    let policy = Stuck {
        reached,
        release: Mutex::new(released),
    };
    std::thread::scope(|scope| {
        let updater = scope.spawn(|| fleet.set_policy(policy));
        is_reached.recv().unwrap();
        for round in 0..10_000 {
            let lease = fleet.pick_endpoint().unwrap();
            match round % 3 {
                0 => lease.record(Outcome::Success),
                1 => drop(lease),
                _ => lease.record(Outcome::Failure),
            }
            clock.advance(Duration::from_millis(7));
        }
        assert_eq!(fleet.members().len(), 3);
        assert_eq!(fleet.stats().in_flight, 0);
        assert!(!format!("{fleet:?}").is_empty());
        release.send(()).unwrap();
        updater.join().unwrap().unwrap();
    });
}

#[test]
fn picks_go_on_while_an_update_is_stuck() {
    requests_beside_a_stuck_update(Upkeep::Picks);
}

#[test]
fn picks_go_on_when_the_caller_does_upkeep() {
    requests_beside_a_stuck_update(Upkeep::Caller);
}

/// A policy may call the fleet during a pick: no lock is held there either.
#[test]
fn a_policy_may_call_the_fleet_in_its_pick() {
    use evenkeel::{Choice, PickContext, from_picker};
    use std::sync::{Arc, OnceLock};

    #[derive(Clone, Debug)]
    struct Reentrant(Arc<OnceLock<Fleet<String>>>);
    impl Picker<String> for Reentrant {
        fn pick(&self, cx: &mut PickContext<'_, String>) -> Option<Choice> {
            if let Some(fleet) = self.0.get() {
                fleet.insert("d".to_string()).unwrap();
                fleet.remove(&"d".to_string());
                fleet.maintain();
                assert_eq!(fleet.stats().policy_faults, 0);
            }
            Some(Choice::at(cx.random_below(cx.members().len())))
        }
    }
    let cell = Arc::new(OnceLock::new());
    let fleet = Fleet::builder()
        .endpoints(["a", "b"].map(String::from))
        .policy(from_picker(Reentrant(cell.clone())))
        .build()
        .unwrap();
    cell.set(fleet.clone()).unwrap();
    for _ in 0..100 {
        fleet.pick_endpoint().unwrap().record(Outcome::Success);
    }
}
