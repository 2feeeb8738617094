//! Promise: a request that is long, and no more than that, does not pass for a stall.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::{MILLI, SECOND, Server, setup};
use evenkeel::{Cluster, Endpoint, Fleet, Lease, ManualClock, Outcome};

/// Requests of 5 ms, 1 200 a second, for so long; how many each of nine got, and how many were at one at once at most.
fn short_ones(fleet: &Fleet<Server>, clock: &ManualClock, length: Duration) -> ([u32; 9], usize) {
    let apart = SECOND / 1_200;
    let mut open: VecDeque<(Duration, Lease<Server>)> = VecDeque::new();
    let (mut picked, mut most, mut now) = ([0; 9], 0, Duration::ZERO);
    while now < length {
        now += apart;
        clock.advance(apart);
        while open.front().is_some_and(|(at, _)| *at <= now) {
            open.pop_front().unwrap().1.record(Outcome::Success);
        }
        let lease = fleet.pick_endpoint().unwrap();
        let number = lease.endpoint().key();
        picked[number] += 1;
        open.push_back((now + 5 * MILLI, lease));
        let there = open
            .iter()
            .filter(|(_, lease)| lease.endpoint().key() == number);
        most = most.max(there.count());
    }
    for (_, lease) in open {
        lease.record(Outcome::Success);
    }
    (picked, most)
}

/// All nine had gone to one for as long as the streams were open, and for a while after.
#[test]
fn streams_do_not_send_all_short_requests_to_one() {
    let clock = ManualClock::new();
    let fleet = setup(9, &clock).build().unwrap();
    short_ones(&fleet, &clock, 3 * SECOND);
    let streams: Vec<_> = (0..6).map(|number| fleet.lease(&number).unwrap()).collect();
    for _ in 0..3 {
        let (picked, most) = short_ones(&fleet, &clock, 10 * SECOND);
        // Three have no stream, and six at a time are short.
        let free = &picked[6..];
        assert!(free.iter().all(|&own| own > 2_000), "{picked:?}");
        assert!(most <= 5, "{most} at once");
    }
    streams
        .into_iter()
        .for_each(|stream| stream.record(Outcome::Success));
    short_ones(&fleet, &clock, 8 * SECOND);
    let (picked, _) = short_ones(&fleet, &clock, 4 * SECOND);
    // 533 each.
    assert!(picked.iter().all(|&own| own > 267), "{picked:?}");
}

/// A lease that nobody ends kept all others away for ever.
#[test]
fn one_that_is_forgotten_is_one_in_flight() {
    let clock = ManualClock::new();
    let fleet = setup(10, &clock).build().unwrap();
    // 20 at a time, each for 20 ms; how many of a thousand the first one got.
    let first = || {
        let (mut open, mut first) = (VecDeque::new(), 0);
        for _ in 0..1_000 {
            let lease = fleet.pick_endpoint().unwrap();
            first += u32::from(lease.endpoint().key() == 0);
            open.push_back(lease);
            clock.advance(MILLI);
            if open.len() == 20 {
                open.pop_front().unwrap().record(Outcome::Success);
            }
        }
        open.into_iter()
            .for_each(|lease| lease.record(Outcome::Success));
        first
    };
    first();
    std::mem::forget(fleet.lease(&0).unwrap());
    // It may be one that hangs.
    assert!(first() < 30);
    clock.advance(60 * SECOND);
    first();
    // One in flight of 21 is its own: it gets at least the half of its share that is left beside it.
    assert!(first() >= 50);
}

/// One that hangs is found all the same, before anything has failed there.
#[test]
fn one_that_hangs_gets_a_few_and_no_more() {
    let clock = ManualClock::new();
    let fleet = setup(9, &clock).build().unwrap();
    short_ones(&fleet, &clock, 3 * SECOND);
    let mut hanging = Vec::new();
    let mut open: VecDeque<(u32, Lease<Server>)> = VecDeque::new();
    for request in 0..2_400 {
        clock.advance(SECOND / 1_200);
        while open.front().is_some_and(|(at, _)| *at <= request) {
            open.pop_front().unwrap().1.record(Outcome::Success);
        }
        let lease = fleet.pick_endpoint().unwrap();
        if lease.endpoint().key() == 0 {
            hanging.push(lease);
        } else {
            open.push_back((request + 6, lease));
        }
    }
    assert!(hanging.len() <= 6, "{} of 2400", hanging.len());
    assert!(hanging.iter().all(|lease| lease.member().in_flight() > 0));
}

/// The estimate of one of its kind beside a hundred others.
#[test]
fn a_stream_that_ends_is_one_sample() {
    let clock = ManualClock::new();
    let fleet = setup(3, &clock).build().unwrap();
    let answer = |latency| {
        clock.advance(10 * MILLI);
        fleet
            .lease(&0)
            .unwrap()
            .record_with_latency(Outcome::Success, latency);
    };
    (0..300).for_each(|_| answer(4 * MILLI));
    answer(30 * SECOND);
    let latency = fleet.member(&0).unwrap().latency().unwrap();
    assert!(latency < 5 * MILLI, "{latency:?}");
    // But one that is slow from now on is known to be, and soon.
    (0..100).for_each(|_| answer(2 * SECOND));
    let latency = fleet.member(&0).unwrap().latency().unwrap();
    assert!(latency > SECOND / 2, "{latency:?}");
}
