//! Promise: after a change of the set its endpoints are found by their keys, and the policy is the one that was set.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, setup};
use evenkeel::{
    Cluster, Endpoint, Fleet, ManualClock, Mark, MemberState, Random, RoundRobin, Target,
};

fn set(keys: &[usize]) -> Vec<Server> {
    keys.iter().map(|&key| Target::new(key, ())).collect()
}

/// An endpoint that stays keeps its place and new ones come after, so the order is not that of the update.
#[test]
fn an_update_in_another_order_finds_each_by_its_key() {
    let fleet = setup(5, &ManualClock::new()).build().unwrap();
    for keys in [&[3, 7, 1, 0, 5][..], &[9, 5, 3, 8], &[8, 9, 5, 3, 1, 0]] {
        fleet.update(set(keys)).unwrap();
        for key in 0..10 {
            let found = fleet.lease(&key).ok().map(|lease| lease.endpoint().key());
            assert_eq!(found, keys.contains(&key).then_some(key), "{keys:?}");
        }
    }
    fleet.mark(&8, Mark::Down);
    assert!(fleet.remove(&9));
    let states = fleet.members().into_iter();
    let mut states: Vec<_> = states.map(|it| (it.endpoint().key(), it.state())).collect();
    states.sort_unstable_by_key(|(key, _)| *key);
    let ready = MemberState::Ready;
    let expected = [0, 1, 3, 5, 8].map(|key| match key {
        8 => (key, MemberState::Down),
        _ => (key, ready),
    });
    assert_eq!(states, expected);
}

#[test]
fn a_policy_that_was_set_stays_through_changes_of_the_set() {
    let clock = ManualClock::new();
    let fleet = setup(5, &clock).policy(Random::new()).build().unwrap();
    // Each endpoint once in every round, which a random policy hardly ever does.
    let takes_turns = |fleet: &Fleet<Server>| {
        let count = fleet.members().len();
        (0..10).all(|_| {
            let pick = |_| fleet.pick_endpoint().unwrap().endpoint().key();
            let mut round: Vec<_> = (0..count).map(pick).collect();
            round.sort_unstable();
            round.dedup();
            round.len() == count
        })
    };
    assert!(!takes_turns(&fleet));
    fleet.set_policy(RoundRobin::new()).unwrap();
    assert!(takes_turns(&fleet));
    fleet.insert(Target::new(5, ())).unwrap();
    assert!(takes_turns(&fleet), "inserted");
    fleet.remove(&0);
    assert!(takes_turns(&fleet), "removed");
    fleet.update(set(&[9, 3, 2, 7])).unwrap();
    assert!(takes_turns(&fleet), "updated");
}
