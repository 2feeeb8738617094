//! Promise: a round (one check at each of up to 32 endpoints that are not suspect, against which suspects are held)
//! ends whatever becomes of those endpoints, and costs no more than it says.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::Cell;
use std::time::Duration;

use common::checks::{SUCCESS, Setting, TIMEOUT, each_second, key, with};
use common::{MILLI, SECOND, Server, ejected, exact, fail, setup};
use evenkeel::{Endpoint, HealthCheckSettings, Outcome, Probe, Target};

/// All servers pass their first check; then a request fails at each of these.
fn in_doubt(count: usize, servers: &[usize]) -> Setting {
    doubt(with(count, exact(), each_second()), servers)
}

fn doubt(mut setting: Setting, servers: &[usize]) -> Setting {
    while setting.checks.next_due().is_zero() {
        setting.round(|_| SUCCESS);
        setting.clock.advance(MILLI);
    }
    servers
        .iter()
        .for_each(|&server| fail(&setting.fleet, server, 1));
    setting.clock.advance(MILLI * 20);
    setting
}

/// Ticks each millisecond and answers each check after as many milliseconds as `answer` says. Returns when server `one`
/// is ejected and which servers were checked until then, or `None` if that is not `within` this many milliseconds.
fn until_out(
    setting: &mut Setting,
    (one, within): (usize, usize),
    answer: impl Fn(usize) -> (usize, Outcome),
    mut meanwhile: impl FnMut(&Setting, usize),
) -> Option<(usize, Vec<usize>)> {
    let mut under_way: Vec<(usize, Probe<Server>)> = Vec::new();
    let mut checked = Vec::new();
    for at in 0..within {
        let (ended, rest) = under_way.into_iter().partition(|(end, _)| *end <= at);
        under_way = rest;
        for (_, probe) in ended {
            let (_, outcome) = answer(key(&probe));
            probe.finish(outcome);
        }
        for probe in setting.checks.tick() {
            checked.push(key(&probe));
            under_way.push((at + answer(key(&probe)).0, probe));
        }
        meanwhile(setting, at);
        if setting.is_out(one) {
            return Some((at, checked));
        }
        setting.clock.advance(MILLI);
    }
    None
}

fn times(checked: &[usize], server: usize) -> usize {
    checked.iter().filter(|&&one| one == server).count()
}

/// A suspect is checked only once until the round is over. It used to be checked again at once for as long as the
/// others had not answered, without end; and a `run` whose checks are answered at once then let nothing else run.
#[test]
fn a_suspect_is_checked_once_while_others_have_not_answered() {
    let mut setting = in_doubt(20, &[3]);
    let mut others = Vec::new();
    for round in 0..100 {
        for probe in setting.checks.tick() {
            match key(&probe) {
                3 => {
                    assert_eq!(round, 0, "checked again");
                    probe.finish(Outcome::Unreachable);
                }
                _ => others.push(probe),
            }
        }
        setting.clock.advance(Duration::from_micros(100));
    }
    assert_eq!(others.len(), 19);
    others.into_iter().for_each(|probe| probe.finish(SUCCESS));
    setting.round(|_| Outcome::Unreachable);
    assert!(setting.is_out(3));
}

/// The result of a round reaches a suspect that waits for it, even if the whole batch of checks is over before the next
/// tick.
#[test]
fn a_driver_that_awaits_all_its_checks_ejects_a_hanging_endpoint() {
    let mut setting = in_doubt(20, &[3]);
    let mut batches = 0;
    while !setting.is_out(3) {
        batches += 1;
        assert!(batches <= 5, "still in");
        let (hang, answer): (Vec<_>, Vec<_>) =
            (setting.checks.tick().into_iter()).partition(|probe| key(probe) == 3);
        answer.into_iter().for_each(|probe| probe.finish(SUCCESS));
        if !hang.is_empty() {
            setting.clock.advance(MILLI * 200);
        }
        hang.into_iter().for_each(|probe| probe.finish(TIMEOUT));
        setting.clock.advance(setting.checks.next_due());
    }
}

/// One of the endpoints of a round is replaced every tenth of a second, and answers take longer than that. The round
/// does not wait for those that are gone.
#[test]
fn a_removed_endpoint_is_not_waited_for() {
    let mut setting = in_doubt(4, &[0]);
    let (mut oldest, mut next) = (1, 4);
    let replace = |setting: &Setting, at: usize| {
        if at % 100 == 50 {
            assert!(setting.fleet.remove(&oldest));
            setting.fleet.insert(Target::new(next, ())).unwrap();
            (oldest, next) = (oldest + 1, next + 1);
        }
    };
    let answer = |server| match server {
        0 => (1, TIMEOUT),
        _ => (120, SUCCESS),
    };
    let (at, checked) = until_out(&mut setting, (0, 20_000), answer, replace).unwrap();
    assert!(at < 300, "{at} ms");
    assert!(times(&checked, 0) <= 3, "{checked:?}");
}

/// Seven of the endpoints of a round become suspect before their checks are sent. The round does not wait for them:
/// those checks now decide about the endpoints themselves.
#[test]
fn an_endpoint_suspect_before_its_check_is_sent_is_not_waited_for() {
    let one_at_a_time = each_second().max_probes(1);
    let mut setting = doubt(with(20, exact(), one_at_a_time), &[0]);
    let fall = |setting: &Setting, at: usize| {
        if at == 4 {
            (13..20).for_each(|server| fail(&setting.fleet, server, 1));
        }
    };
    let answer = |server| (1, if server == 0 { TIMEOUT } else { SUCCESS });
    let (at, _) = until_out(&mut setting, (0, 20_000), answer, fall).unwrap();
    assert!(at < 100, "{at} ms");
}

/// Checks that are under way when a round begins count for it. Otherwise suspects would be held against no results at
/// all.
#[test]
fn checks_under_way_when_a_round_begins_are_waited_for() {
    let mut setting = with(20, exact(), each_second());
    setting.round(|_| SUCCESS);
    setting.clock.advance(SECOND);
    let (two, mut others): (Vec<_>, Vec<_>) =
        (setting.checks.tick().into_iter()).partition(|probe| key(probe) < 2);
    (0..2).for_each(|server| fail(&setting.fleet, server, 1));
    two.into_iter()
        .for_each(|probe| probe.finish(Outcome::Unreachable));
    for _ in 0..20 {
        for probe in setting.checks.tick() {
            match key(&probe) {
                0 | 1 => probe.finish(Outcome::Unreachable),
                _ => others.push(probe),
            }
        }
        setting.clock.advance(MILLI);
    }
    assert_eq!(ejected(&setting.fleet), []);
    others.into_iter().for_each(|probe| probe.finish(SUCCESS));
    setting.round(|_| Outcome::Unreachable);
    assert_eq!(ejected(&setting.fleet), [0, 1]);
}

/// The first third of the set dies, as a zone does. While the endpoints of a round were neighbours in the set, half of
/// the rounds took the zone for the whole fleet.
#[test]
fn a_round_checks_endpoints_from_all_over_the_set() {
    for count in [30, 48, 63, 64, 93] {
        for seed in 0..20 {
            let clock = evenkeel::ManualClock::new();
            let fleet = setup(count, &clock).ejection(exact()).seed(seed);
            let fleet = fleet.build().unwrap();
            let checks = fleet.health_check(each_second()).unwrap();
            let setting = Setting {
                fleet,
                clock,
                checks,
            };
            let mut setting = doubt(setting, &[3]);
            let answer = |server| match server {
                dead if dead < count / 3 => (1, TIMEOUT),
                _ => (1, SUCCESS),
            };
            let out = until_out(&mut setting, (3, 20), answer, |_, _| ());
            assert!(out.is_some(), "of {count}, with seed {seed}");
        }
    }
}

#[test]
fn an_endpoint_that_asked_not_to_be_checked_is_not_in_a_round() {
    let mut setting = with(20, exact(), each_second());
    setting.round(|server| match server {
        5 => Outcome::overloaded(Some(SECOND * 2)),
        _ => SUCCESS,
    });
    let mut setting = doubt(setting, &[3]);
    let answer = |server| match server {
        3 => (1, TIMEOUT),
        _ => (1, SUCCESS),
    };
    let (_, checked) = until_out(&mut setting, (3, 20), answer, |_, _| ()).unwrap();
    assert_eq!(times(&checked, 5), 0, "{checked:?}");
    assert_eq!(times(&checked, 6), 1, "{checked:?}");
}

/// Of three others two answer: the result of the third makes no difference.
#[test]
fn one_hanging_check_of_three_is_not_waited_for() {
    let mut setting = in_doubt(4, &[0]);
    let answer = |server| match server {
        0 => (1, TIMEOUT),
        1 => (200, TIMEOUT),
        _ => (1, SUCCESS),
    };
    let (at, checked) = until_out(&mut setting, (0, 1_000), answer, |_, _| ()).unwrap();
    assert!(at <= 5, "{at} ms");
    assert_eq!(times(&checked, 0), 2);
}

/// Half of all checks fail. When a cap of one check at a time left no endpoints for a round, 24 of 40 suspects were
/// ejected.
#[test]
fn a_round_is_as_large_where_few_checks_may_be_under_way() {
    for max_probes in [1, 4] {
        let settings = || -> HealthCheckSettings {
            each_second().max_probes(max_probes).interval(SECOND * 600)
        };
        let mut out = 0;
        for seed in 0..20u64 {
            let mut setting = doubt(with(20, exact(), settings()), &[0, 1]);
            let state = Cell::new(seed);
            for _ in 0..60 {
                setting.round(|_| {
                    let next = (state.get() + 1).wrapping_mul(0x5851_F42D_4C95_7F2D);
                    state.set(next);
                    if next >> 63 == 0 { TIMEOUT } else { SUCCESS }
                });
                setting.clock.advance(MILLI);
            }
            out += ejected(&setting.fleet).len();
        }
        // Of 18 that fail half, fewer than two fifths fail in one round of four; then two more misses of three are
        // needed.
        assert!(out <= 6, "{out} of 40 with {max_probes}");
    }
}

/// A suspect whose checks are answered without telling anything is checked by the interval. Its checks used to follow
/// one another without end.
#[test]
fn a_suspect_with_inconclusive_checks_is_checked_by_the_interval() {
    for result in [
        Outcome::Ignored,
        Outcome::overloaded(None),
        Outcome::overloaded(Some(SECOND * 10)),
    ] {
        let mut setting = in_doubt(10, &[3]);
        let mut checks = 0;
        for _ in 0..5_000 {
            let outcome = |server| if server == 3 { result } else { SUCCESS };
            checks += times(&setting.round(outcome), 3);
            setting.clock.advance(MILLI);
        }
        assert!(checks <= 6, "{checks} in 5 s: {result:?}");
    }
}

/// Checks that hang take up the whole cap. Endpoints asked for a round are checked before others that are due:
/// otherwise the round was over before they were checked, and began anew.
#[test]
fn a_round_ends_where_most_checks_hang() {
    let settings = || each_second().max_probes(8).timeout(SECOND);
    let mut setting = doubt(with(300, exact(), settings()), &[]);
    let answer = |dead: usize| {
        move |server| match server {
            server if server < 120 || server == dead => (1_000, TIMEOUT),
            _ => (1, SUCCESS),
        }
    };
    while ejected(&setting.fleet).len() < 120 {
        let all = setting.fleet.members();
        let is_in = |server: &usize| *server < 120 && !setting.is_out(*server);
        let next = all.iter().map(|member| member.endpoint().key());
        let next = next.filter(is_in).min().unwrap();
        until_out(&mut setting, (next, 60_000), answer(next), |_, _| ()).unwrap();
    }
    fail(&setting.fleet, 299, 1);
    let (at, _) = until_out(&mut setting, (299, 60_000), answer(299), |_, _| ()).unwrap();
    assert!(at < 40_000, "{at} ms");
}

/// A refused connection weighs more than a timeout, also after it was held back until the round ended: with one failed
/// request it is enough to eject.
#[test]
fn a_held_result_stays_what_it_was() {
    for (result, is_out) in [(Outcome::Unreachable, true), (TIMEOUT, false)] {
        let mut setting = in_doubt(20, &[3]);
        let once = |server| if server == 3 { result } else { SUCCESS };
        assert_eq!(times(&setting.round(once), 3), 1);
        setting.round(once);
        let probes = setting.checks.tick();
        assert_eq!(setting.is_out(3), is_out, "{result:?}");
        drop(probes);
    }
}

/// The driver stalled for minutes in which the server answered well. The result that it held back belongs to an earlier
/// suspicion and is dropped.
#[test]
fn a_result_held_long_ago_is_forgotten() {
    let mut setting = in_doubt(20, &[3]);
    let mut others = Vec::new();
    for _ in 0..2 {
        for probe in setting.checks.tick() {
            match key(&probe) {
                3 => probe.finish(TIMEOUT),
                _ => others.push(probe),
            }
        }
    }
    others.into_iter().for_each(|probe| probe.finish(SUCCESS));
    for _ in 0..600 {
        setting.clock.advance(SECOND);
        setting.fleet.lease(&3).unwrap().record(SUCCESS);
    }
    fail(&setting.fleet, 3, 1);
    drop(setting.checks.tick());
    let evidence = setting.fleet.member(&3).unwrap().explain().evidence;
    assert!(evidence.unwrap().value < 6.0, "{evidence:?}");
}

#[test]
fn a_clock_that_goes_back_between_two_ticks_stops_no_checks() {
    for back in [1, 10, 100] {
        let setting = with(20, exact(), each_second());
        setting
            .clock
            .set(evenkeel::Tick::from_nanos(1_000_000_000_000));
        let mut setting = doubt(setting, &[]);
        let now = Duration::from_secs(1_000 - back);
        setting
            .clock
            .set(evenkeel::Tick::from_nanos(now.as_nanos() as u64));
        let checked: usize = (0..300)
            .map(|_| {
                setting.clock.advance(MILLI * 10);
                setting.round(|_| SUCCESS).len()
            })
            .sum();
        assert!(checked >= 40, "{checked} in three seconds, {back} s back");
    }
}
