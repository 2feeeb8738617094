//! Any sequence of calls is checked against a model made of plain lists: members, counts, caps and errors.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel::{
    Adaptive, Cluster, Endpoint, Fleet, Lease, LeastConnections, LeastResponseTime, Limits,
    ManualClock, Mark, MemberId, MemberState, Outcome, PickError, PickOptions, PowerOfTwo, Random,
    RoundRobin, Target, UpdateError, WeightedRoundRobin,
};
use proptest::prelude::*;

type Server = Target<u8, u64>;

#[derive(Clone, Debug)]
enum Op {
    Update(Vec<(u8, u32)>),
    Insert(u8, u32),
    Remove(u8),
    Drain(u8),
    Mark(u8, Mark),
    Policy(u8),
    Pick,
    Retry(usize),
    Pinned(u8),
    Finish(usize, Outcome),
    Drop(usize),
    Forget,
    Advance(u64),
    Maintain,
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(0u32), 8 => 1u32..10, 1 => Just(u32::MAX)]
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u8..8;
    prop_oneof![
        2 => prop::collection::vec((key.clone(), weight()), 0..8).prop_map(Op::Update),
        2 => (key.clone(), weight()).prop_map(|(key, weight)| Op::Insert(key, weight)),
        2 => key.clone().prop_map(Op::Remove),
        1 => key.clone().prop_map(Op::Drain),
        1 => (key.clone(), prop_oneof![Just(Mark::Up), Just(Mark::Down), Just(Mark::Auto)])
            .prop_map(|(key, mark)| Op::Mark(key, mark)),
        1 => (0u8..7).prop_map(Op::Policy),
        12 => Just(Op::Pick),
        3 => any::<usize>().prop_map(Op::Retry),
        2 => key.prop_map(Op::Pinned),
        4 => any::<usize>().prop_map(|i| Op::Finish(i, Outcome::Success)),
        8 => any::<usize>().prop_map(|i| Op::Finish(i, Outcome::Failure)),
        1 => any::<usize>().prop_map(|i| Op::Finish(i, Outcome::Ignored)),
        2 => any::<usize>().prop_map(Op::Drop),
        1 => Just(Op::Forget),
        3 => (0u64..5_000).prop_map(Op::Advance),
        1 => Just(Op::Maintain),
    ]
}

/// The model's knowledge of a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: MemberId,
    weight: u32,
    version: u64,
    draining: bool,
}

struct World {
    fleet: Fleet<Server>,
    clock: ManualClock,
    version: u64,
    known: BTreeMap<u8, Known>,
    held: Vec<Lease<Server>>,
    forgotten: BTreeMap<MemberId, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = ManualClock::new();
        let builder = Fleet::builder().clock(clock.clone()).seed(seed);
        // With a limit (one that is never reached) each member has one seat, and the arrays of seats are reused.
        let builder = match seed % 2 {
            0 => builder,
            _ => builder.limits(Limits::default().max_requests_per_endpoint(1_000_000)),
        };
        let fleet = builder.build().unwrap();
        let (known, forgotten) = Default::default();
        Self {
            fleet,
            clock,
            version: 0,
            known,
            held: Vec::new(),
            forgotten,
        }
    }

    fn endpoint(&mut self, key: u8, weight: u32) -> Server {
        self.version += 1;
        Target::new(key, self.version).with_weight(weight)
    }

    fn id_of(&self, key: u8) -> MemberId {
        let members = self.fleet.members();
        members
            .iter()
            .find(|member| member.endpoint().key() == key)
            .unwrap()
            .id()
    }

    fn learn(&mut self, key: u8, weight: u32, version: u64) {
        let id = self.id_of(key);
        let before = self.known.get(&key).copied();
        let kept = before.is_some_and(|known| !known.draining);
        if kept {
            assert_eq!(before.unwrap().id, id, "state hangs on the key");
        } else if let Some(before) = before {
            assert_ne!(before.id, id, "a drained one that is inserted is another");
        }
        self.known.insert(
            key,
            Known {
                id,
                weight,
                version,
                draining: false,
            },
        );
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Update(set) => {
                let endpoints: Vec<_> = set
                    .iter()
                    .map(|&(key, weight)| self.endpoint(key, weight))
                    .collect();
                let first = self.version + 1 - endpoints.len() as u64;
                let mut keys: Vec<u8> = set.iter().map(|(key, _)| *key).collect();
                keys.sort_unstable();
                keys.dedup();
                let result = self.fleet.update(endpoints);
                if keys.len() < set.len() {
                    assert!(
                        matches!(result, Err(UpdateError::DuplicateKey { .. })),
                        "{result:?}"
                    );
                    return;
                }
                result.unwrap();
                self.known.retain(|key, _| keys.contains(key));
                for (version, (key, weight)) in (first..).zip(set) {
                    if self.known.get(&key).is_none_or(|known| !known.draining) {
                        self.learn(key, weight, version);
                    }
                }
            }
            Op::Insert(key, weight) => {
                let endpoint = self.endpoint(key, weight);
                self.fleet.insert(endpoint).unwrap();
                self.learn(key, weight, self.version);
            }
            Op::Remove(key) => {
                assert_eq!(self.fleet.remove(&key), self.known.remove(&key).is_some());
            }
            Op::Drain(key) => {
                let drain = self.fleet.drain(&key);
                assert_eq!(drain.is_some(), self.known.contains_key(&key));
                self.known
                    .entry(key)
                    .and_modify(|known| known.draining = true);
            }
            Op::Mark(key, mark) => {
                assert_eq!(self.fleet.mark(&key, mark), self.known.contains_key(&key));
            }
            Op::Policy(which) => match which {
                0 => self.fleet.set_policy(RoundRobin::new()).unwrap(),
                1 => self.fleet.set_policy(WeightedRoundRobin::new()).unwrap(),
                2 => self.fleet.set_policy(Random::new()).unwrap(),
                3 => self.fleet.set_policy(LeastConnections::new()).unwrap(),
                4 => self.fleet.set_policy(PowerOfTwo::new()).unwrap(),
                5 => self.fleet.set_policy(LeastResponseTime::new()).unwrap(),
                _ => self.fleet.set_policy(Adaptive::new()).unwrap(),
            },
            Op::Pick => self.pick(None),
            Op::Retry(which) if !self.held.is_empty() => {
                self.pick(Some(self.held[which % self.held.len()].id()));
            }
            Op::Pinned(key) => match self.fleet.lease(&key) {
                Ok(lease) => self.take(lease),
                Err(PickError::UnknownKey) => assert!(!self.known.contains_key(&key)),
                Err(PickError::Draining) => assert!(self.known[&key].draining),
                Err(error) => panic!("{error}"),
            },
            Op::Finish(which, outcome) if !self.held.is_empty() => {
                let index = which % self.held.len();
                self.held.swap_remove(index).record(outcome);
            }
            Op::Drop(which) if !self.held.is_empty() => {
                let index = which % self.held.len();
                drop(self.held.swap_remove(index));
            }
            Op::Forget => {
                if let Some(lease) = self.held.pop() {
                    *self.forgotten.entry(lease.id()).or_default() += 1;
                    std::mem::forget(lease);
                }
            }
            Op::Advance(millis) => self.clock.advance(Duration::from_millis(millis)),
            Op::Maintain => self.fleet.maintain(),
            Op::Retry(_) | Op::Finish(..) | Op::Drop(_) => {}
        }
    }

    fn routable(&self) -> impl Iterator<Item = &Known> {
        self.known
            .values()
            .filter(|known| known.weight > 0 && !known.draining)
    }

    fn pick(&mut self, avoid: Option<MemberId>) {
        let avoid: Vec<MemberId> = avoid.into_iter().collect();
        let usable = self
            .routable()
            .filter(|known| !avoid.contains(&known.id))
            .count();
        let before: BTreeMap<_, _> = self
            .fleet
            .members()
            .iter()
            .map(|member| (member.id(), member.state()))
            .collect();
        let panicking = self.fleet.stats().panicking;
        match self
            .fleet
            .pick_endpoint_with(&PickOptions::new().avoid(&avoid))
        {
            Ok(lease) => {
                assert!(usable > 0 && !avoid.contains(&lease.id()));
                assert!(self.routable().any(|known| known.id == lease.id()));
                let state = before[&lease.id()];
                let healthy = matches!(
                    state,
                    MemberState::Ready | MemberState::Warming | MemberState::Up
                );
                // Upkeep within the pick may have changed the state since. A probe takes an ejected endpoint.
                assert!(
                    healthy || panicking || lease.is_probe() || self.fleet.stats().panicking,
                    "{state} was picked"
                );
                assert!(
                    !lease.is_probe() || avoid.is_empty(),
                    "a retry became a probe"
                );
                self.take(lease);
            }
            Err(PickError::Empty) => assert!(self.known.is_empty()),
            Err(PickError::AllDraining) => {
                assert!(!self.known.is_empty() && self.routable().count() == 0);
            }
            Err(PickError::AllAvoided) => assert!(!avoid.is_empty()),
            Err(error) => panic!("{error}"),
        }
    }

    fn take(&mut self, lease: Lease<Server>) {
        let known = self.known[&lease.endpoint().key()];
        assert_eq!(
            (lease.id(), *lease.endpoint().data()),
            (known.id, known.version)
        );
        self.held.push(lease);
    }

    fn check(&self) {
        let members = self.fleet.members();
        assert_eq!(members.len(), self.known.len());
        let mut ejected = 0;
        for member in &members {
            let known = self.known[&member.endpoint().key()];
            assert_eq!(member.id(), known.id);
            let live = self
                .held
                .iter()
                .filter(|lease| lease.id() == known.id)
                .count() as u64;
            let forgotten = self.forgotten.get(&known.id).copied().unwrap_or(0);
            assert_eq!(member.in_flight(), live + forgotten);
            assert!((0.0..=1.0).contains(&member.score()));
            let state = member.state();
            assert_eq!(state == MemberState::Draining, known.draining);
            ejected += usize::from(matches!(state, MemberState::Ejected | MemberState::Probing));
            if !known.draining {
                assert_eq!(member.weight().get(), known.weight);
                assert_eq!(*member.endpoint().data(), known.version);
                assert_eq!(state == MemberState::Idle, known.weight == 0);
            }
        }
        let stats = self.fleet.stats();
        assert_eq!(stats.ejected, ejected);
        assert!(stats.ejected <= stats.ejection_limit, "{stats:?}");
        let routable = self.routable().count();
        assert_eq!(stats.routable, routable);
        assert_eq!(
            stats.ejection_limit,
            if routable < 2 {
                0
            } else {
                (routable / 2).max(1)
            }
        );
        let down = members
            .iter()
            .filter(|member| member.state() == MemberState::Down)
            .count();
        assert_eq!(stats.marked_down, down);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(
            proptest::test_runner::FileFailurePersistence::WithSource("regressions"),
        )),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_of_calls_keeps_the_books(seed: u64, ops in prop::collection::vec(op(), 1..150)) {
        let mut world = World::new(seed);
        for op in ops {
            world.apply(op);
            world.check();
        }
        // Promise 4: every endpoint returns if there are only good requests from now on.
        world.held.clear();
        for _ in 0..2_000 {
            world.clock.advance(Duration::from_millis(100));
            match world.fleet.pick_endpoint() {
                Ok(lease) => lease.record(Outcome::Success),
                Err(_) => break,
            }
        }
        prop_assert!(world.fleet.stats().ejected == 0 || world.routable().count() == 0);
        world.check();
    }

    /// Promise 9: the same seed, clock and calls give the same decisions.
    #[test]
    fn the_same_seed_and_calls_decide_the_same(seed: u64, ops in prop::collection::vec(op(), 1..100)) {
        let run = |ops: Vec<Op>| {
            let mut world = World::new(seed);
            let mut picks = Vec::new();
            for op in ops {
                world.apply(op);
                picks.push(world.held.last().map(|lease| lease.endpoint().key()));
            }
            picks
        };
        prop_assert_eq!(run(ops.clone()), run(ops));
    }
}
