//! When a fault counts as common, and for how long.

use super::*;
use crate::options::MemberId;

fn own(is_suspect: bool, fails_in_part: bool) -> Own {
    Own {
        is_suspect,
        fails_in_part,
        is_in: true,
    }
}

/// One in four of the shard's requests fails, at this many endpoints in turn.
fn one_in_four(shared: &Shared, endpoints: u64) {
    for request in 0..160 {
        match request % 4 {
            0 => (shared.shard_state(0))
                .count_fault(MemberId::new(1 + request / 4 % endpoints), Tick::ZERO),
            _ => shared.shard_state(0).count_success(Tick::ZERO),
        }
    }
}

#[test]
fn two_fifths_of_the_others_under_suspicion_are_a_common_fault() {
    let shared = Shared::alone();
    one_in_four(&shared, 1);
    shared.rates.publish(0.01, 7, 21);
    let rate = |is_suspect| {
        shared
            .usual_now(0, own(is_suspect, false), Tick::ZERO)
            .error_rate()
    };
    assert!((rate(false) - 0.01).abs() < 1e-6, "a zone is not all");
    shared.rates.add_suspect();
    assert!(
        rate(false) > 0.2 && rate(true) < 0.02,
        "eight of twenty others"
    );
    shared.rates.remove_suspect();
    assert!(rate(false) < 0.02);
    shared.rates.publish(0.0, 2, 2);
    assert_eq!(rate(true), 0.0, "two are no fleet");
    shared.rates.publish(0.0, 3, 3);
    assert!(rate(true) > 0.2, "of three they are");
}

/// One of a pair is out, so the other has all to do. Once the first is back, the other's failures do not eject it until
/// fewer requests fail.
#[test]
fn what_fails_while_no_more_may_be_out_is_a_common_fault() {
    let shared = Shared::alone();
    shared.ledger.set_limit(1);
    (0..50).for_each(|_| {
        shared
            .shard_state(0)
            .count_fault(MemberId::new(1), Tick::ZERO)
    });
    let rate = || {
        shared
            .usual_now(0, own(true, false), Tick::ZERO)
            .error_rate()
    };
    shared.rates.publish(0.0, 1, 2);
    assert_eq!(rate(), 0.0, "both are in");
    assert!(shared.ledger.reserve());
    shared.rates.publish(0.0, 1, 1);
    let probe = shared.usual_now(0, Own::OUT, Tick::ZERO).error_rate();
    assert_eq!(probe, 0.0, "a probe of the one that is out");
    assert!(rate() > 0.7, "one is out");
    let probe = shared.usual_now(0, Own::OUT, Tick::ZERO).error_rate();
    assert!(probe > 0.7, "most fail: a probe that does proves little");
    shared.ledger.release();
    shared.rates.publish(0.0, 1, 2);
    assert!(rate() > 0.7, "it is back, and most requests fail");
    (0..50).for_each(|_| shared.shard_state(0).count_success(Tick::ZERO));
    assert_eq!(rate(), 0.0);
}

/// At a small share of failures everywhere few endpoints are under suspicion at once.
#[test]
fn endpoints_that_fail_in_part_count_like_suspects() {
    let rates = FleetRates::new();
    let is_common = |is_suspect, in_part| rates.is_common(own(is_suspect, in_part));
    rates.publish(0.0, 2, 21);
    rates.set_failing_in_part(9);
    assert!(!is_common(false, false), "nearly half");
    rates.add_failing_in_part();
    assert!(
        is_common(false, false) && is_common(true, false),
        "ten of twenty others"
    );
    assert!(!is_common(true, true), "nine others");
    assert!(!rates.are_many_suspect(false));
    rates.publish(0.0, 0, 3);
    rates.set_failing_in_part(2);
    assert!(!is_common(false, false), "two others are few");
}

/// Failures at one endpoint alone do not prolong a common fault, unless most requests fail: it ends as soon as few
/// endpoints are suspect.
#[test]
fn a_common_fault_lasts_while_requests_fail_here_and_there() {
    for (endpoints, all, stays) in [(1, false, false), (3, false, true), (1, true, true)] {
        let shared = Shared::alone();
        one_in_four(&shared, endpoints);
        (0..if all { 50 } else { 0 }).for_each(|_| {
            shared
                .shard_state(0)
                .count_fault(MemberId::new(1), Tick::ZERO)
        });
        let rate = || shared.usual_now(0, Own::default(), Tick::ZERO).error_rate();
        shared.rates.publish(0.01, 20, 21);
        assert!(rate() > 0.2);
        shared.rates.publish(0.01, 1, 21);
        assert_eq!(rate() > 0.2, stays, "{endpoints}, {all}");
        shared.rates.publish(0.01, 1, 0);
        assert!(rate() < 0.02, "none is in");
        shared.rates.publish(0.01, 1, 21);
        (0..300).for_each(|_| shared.shard_state(0).count_success(Tick::ZERO));
        assert!(rate() < 0.02);
    }
}

/// While a common fault lasts, an endpoint's failures still tell it from the others. Those from before its end no
/// longer do.
#[test]
fn a_common_fault_counts_until_it_is_over() {
    let shared = Shared::alone();
    let tenth = shared.ejection.window / 10;
    let at = |tenths: u32| Tick::ZERO.after(tenth * tenths);
    let fail = |tenths, suspects, judged| {
        shared.rates.publish(0.9, suspects, judged);
        let state = shared.shard_state(0);
        (0..50).for_each(|request| state.count_fault(MemberId::new(1 + request % 3), at(tenths)));
        shared.usual_now(0, Own::default(), at(tenths));
        shared.note_common(0, at(tenths));
    };
    let counts_all = |tenths| shared.tenths_since_common_fault(at(tenths)) > 10;
    fail(19, 1, 21);
    assert!(counts_all(20), "one alone is no fault of all");
    fail(20, 20, 21);
    assert!(counts_all(20), "it goes on");
    let rates = [19, 20, 21, 22].map(|tenths| shared.common_error_rate(at(tenths)) > 0.8);
    assert_eq!(rates, [true, true, true, false]);
    assert_eq!(shared.tenths_since_common_fault(at(23)), 3);
    fail(23, 20, 21);
    assert_eq!(shared.tenths_since_common_fault(at(24)), 1);
    fail(24, 2, 0);
    assert_eq!(shared.tenths_since_common_fault(at(24)), 1, "none is in");
    assert!(counts_all(22), "a clock that has gone back");
}

/// A clock that starts with the process is still near zero when the first endpoint is ejected.
#[test]
fn the_cap_was_not_reached_before_the_clock_began() {
    let rates = FleetRates::new();
    assert!(!rates.has_overflowed(Duration::from_secs(10), Tick::ZERO));
    rates.note_overflow(Tick::ZERO);
    let after = |seconds| Tick::ZERO.after(Duration::from_secs(seconds));
    let has = |now| rates.has_overflowed(Duration::from_secs(10), now);
    assert!(has(after(0)) && has(after(10)) && !has(after(11)));
}

#[test]
fn a_clock_that_has_gone_back_forgets_that_the_cap_was_reached() {
    let rates = FleetRates::new();
    let at = |seconds| Tick::ZERO.after(Duration::from_secs(seconds));
    rates.note_overflow(at(3_600));
    let has = |seconds| rates.has_overflowed(Duration::from_secs(10), at(seconds));
    assert!(has(3_600) && has(3_599) && !has(1_000));
}

/// What failed last evening says nothing of this morning's failures. Nor does it after a clock that has gone back.
#[test]
fn a_pause_ends_a_common_fault() {
    let at = |minutes: u64| Tick::ZERO.after(Duration::from_secs(60 * minutes));
    for (later, is_forgotten) in [(600, false), (611, true), (10, true)] {
        let shared = Shared::alone();
        let rate = |at| shared.usual_now(0, own(true, false), at).error_rate();
        (0..50).for_each(|fault| {
            (shared.shard_state(0)).count_fault(MemberId::new(1 + fault % 3), at(600));
        });
        shared.rates.publish(0.01, 3, 3);
        assert!(rate(at(600)) > 0.8);
        shared.rates.publish(0.01, 1, 3);
        assert_eq!(rate(at(later)) < 0.02, is_forgotten, "{later}");
        // A request that is counted first forgets it, too.
        (shared.shard_state(0)).count_success(at(later));
        assert_eq!(shared.shard_state(0).failing.is_zero(), is_forgotten);
    }
}

#[test]
fn the_first_failures_tell_at_once() {
    let shared = Shared::alone();
    (0..8).for_each(|fault| {
        shared
            .shard_state(0)
            .count_fault(MemberId::new(fault), Tick::ZERO)
    });
    let failing = shared.shard_state(0).failing.get();
    assert!((failing - 8.0 / 11.0).abs() < 0.01, "{failing}");
}

#[test]
fn failures_are_forgotten_after_many_successes() {
    let shared = Shared::alone();
    shared
        .shard_state(0)
        .count_fault(MemberId::new(1), Tick::ZERO);
    assert!(shared.shard_state(0).failing.get() > 0.2);
    (0..250).for_each(|_| shared.shard_state(0).count_success(Tick::ZERO));
    assert_eq!(shared.shard_state(0).failing.get(), 0.0);
}

#[test]
fn an_endpoint_is_not_cleared_twice() {
    let rates = FleetRates::new();
    rates.remove_suspect();
    rates.publish(0.0, 0, 5);
    rates.remove_suspect();
    assert!(!rates.is_common(Own::default()));
}
