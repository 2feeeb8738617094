//! The cost to callers of one bad server of ten, on real sockets and processes. The server answers 500 at once, is
//! stopped, is killed and started again, turns ten times as slow, or fails 30 %. The fleet has the defaults everywhere,
//! there are no retries, and the bounds are below. `--nocapture` shows the numbers.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "loopback_faults/report.rs"]
mod report;
#[path = "loopback_faults/server.rs"]
mod server;
#[path = "loopback_faults/traffic.rs"]
mod traffic;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use report::{Report, SLICE, Window, returned};
use server::{BE_SLOW, FAIL, FAIL_SOMETIMES, HEALTHY, Server};
use traffic::{TIMEOUT, Traffic};

/// Each gets 40 of 400 requests a second, and so has 0.4 in flight.
const SERVERS: usize = 10;
/// The server that turns bad.
const BAD: usize = 3;

const WARM_UP: Duration = Duration::from_secs(3);
/// Short enough that one probe fails during the fault and no second: ejections last 2 s and then 4 s, give or take a
/// quarter, so the first probe is after 1.5 s to 2.5 s and the second not before 4.5 s.
const FAULT: Duration = Duration::from_secs(4);
/// How long the return is watched: longer than its bound, so that a violation is reported with a number.
const FOLLOW: Duration = Duration::from_secs(15);

/// Noise above this may have let more requests through than the bounds have room for, which is four at a fair share. A
/// run that violates its bounds with more noise than this is repeated, at most twice.
const QUIET: Duration = Duration::from_millis(100);
const RUNS: usize = 3;

/// The bounds of one scenario. In every scenario no request may fail at the other servers.
struct Bounds {
    /// The time until the server gets less than a quarter of its fair share.
    detected: Duration,
    /// The errors that callers see, from beginning to end.
    errors: usize,
}

/// The most that the bad server may get between its detection and its healing, in fair shares. Detection is at a
/// quarter, so a server that had more overall was not kept out.
const SHARE: f64 = 0.25;

/// The time from the healing until the server has half of its fair share. Its probe may have failed just before the
/// healing, and the second ejection lasts up to 5 s. The failed probe may have waited for its timeout, and the next one
/// comes with a pick. Then half of the slow start of 5 s passes. Two seconds are for slices and noise. A server that
/// was only slow must not wait longer than one that was dead.
const RETURNED: Duration = Duration::from_millis(5000 + TIMEOUT.as_millis() as u64 + 2500 + 2000);

/// The server answers 500 at once. Two or three failures in a row should be enough for a server that has not failed
/// before: 75 ms at 40 a second, and so two slices. The twelve errors are at most five until detection, which is what
/// other balancers take, a probe, two that were on their way, and the four of [`QUIET`].
const FAILS: Bounds = Bounds {
    detected: Duration::from_millis(500),
    errors: 12,
};

/// SIGSTOP. All that the fleet can see before the first timeout is the number in flight. A server that has more in
/// flight than the others gets no more, and the others rarely have more than two. So up to three requests wait when the
/// first times out after 0.5 s. Three more replace them, and when those time out too, at 1 s, five faults in a row are
/// more than enough. Half a second is for the spread of these requests over time.
///
/// The errors are these six, one that was picked before the last of them was known, a probe, and the four of [`QUIET`].
/// (At a fair share, without regard to requests in flight, it would be 20 before the first timeout.)
const STOPPED: Bounds = Bounds {
    detected: Duration::from_millis(1500),
    errors: 12,
};

/// SIGKILL. The requests in flight are broken off, two or three at most. Then all are refused at once, as with
/// [`FAILS`]. The requests in flight count towards detection.
const KILLED: Bounds = Bounds {
    detected: Duration::from_millis(500),
    errors: 12,
};

/// The server takes 100 ms instead of 10 ms, far from the timeout, so no request fails. The first answer that shows it
/// comes after 100 ms; the rest of the 2 s is for a policy to believe it.
const SLOW: Bounds = Bounds {
    detected: Duration::from_secs(2),
    errors: 0,
};

/// The server fails 30 % at once. Some ten requests should tell that from chance where no other request fails. They
/// take 0.25 s; the 3 s have room for a row of successes and for noise. An ejected server comes back by a probe in
/// seven cases of ten and has to be detected again, while slow start keeps its requests few.
///
/// The errors are twice the four until detection, a probe that fails and the four of [`QUIET`], and as much again
/// because chance decides when errors come. (At its fair share all the time it would be 48.)
const FAILS_SOMETIMES: Bounds = Bounds {
    detected: Duration::from_secs(3),
    errors: 25,
};

#[test]
fn a_server_answers_500_at_once() {
    assert_bounds(
        "500 at once",
        |it| it.set_mode(FAIL),
        |it| it.set_mode(HEALTHY),
        &FAILS,
    );
}

#[test]
fn a_server_is_stopped() {
    assert_bounds("stopped", Server::stop, Server::resume, &STOPPED);
}

#[test]
fn a_server_is_killed_and_started_again() {
    assert_bounds("killed", Server::kill, Server::restart, &KILLED);
}

#[test]
fn a_server_turns_ten_times_as_slow() {
    assert_bounds(
        "10 x slow",
        |it| it.set_mode(BE_SLOW),
        |it| it.set_mode(HEALTHY),
        &SLOW,
    );
}

#[test]
fn a_server_fails_30_percent() {
    let heal = |it: &mut Server| it.set_mode(HEALTHY);
    assert_bounds(
        "30 % errors",
        |it| it.set_mode(FAIL_SOMETIMES),
        heal,
        &FAILS_SOMETIMES,
    );
}

/// Not a test: the servers' processes run this.
#[test]
fn serves() {
    if let Ok(address) = std::env::var(server::ADDRESS) {
        server::serve(&address);
    }
}

/// Runs a scenario and checks its bounds.
fn assert_bounds(name: &str, hurt: fn(&mut Server), heal: fn(&mut Server), bounds: &Bounds) {
    // One scenario at a time, as each would be noise to the others.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for run in 1.. {
        let report = measure(hurt, heal);
        println!("{name:<12}  {report}");
        let violations = violations(&report, bounds);
        if violations.is_empty() {
            return;
        }
        if report.noise <= QUIET || run == RUNS {
            panic!("{name}: {}\n{report}", violations.join(", "));
        }
        println!(
            "{name:<12}  again, for the noise: {}",
            violations.join(", ")
        );
    }
}

fn measure(hurt: fn(&mut Server), heal: fn(&mut Server)) -> Report {
    let mut servers: Vec<Server> = (0..SERVERS).map(|_| Server::start()).collect();
    let traffic = Traffic::start(servers.iter().map(|server| server.address));
    let bad = &mut servers[BAD];

    traffic.wait_until(WARM_UP);
    let hurt_at = traffic.now();
    hurt(bad);
    traffic.wait_until(hurt_at + FAULT);
    heal(bad);
    let healed = traffic.now();
    // The last slice is left out, as requests of it may be under way.
    while traffic.now() < healed + FOLLOW
        && returned(&traffic.seen(), healed, traffic.now() - SLICE).is_none()
    {
        std::thread::sleep(SLICE);
    }
    let end = traffic.now();
    let window = Window {
        hurt: hurt_at,
        healed,
    };
    Report::of(&traffic.finish(), window, end)
}

fn violations(report: &Report, bounds: &Bounds) -> Vec<String> {
    let mut violations = Vec::new();
    let mut require = |kept: bool, what: String| {
        if !kept {
            violations.push(what);
        }
    };
    let within = |time: Option<Duration>, most| time.is_some_and(|time| time <= most);
    require(
        report.before >= 0.5,
        "less than half of its share before the fault".into(),
    );
    require(
        within(report.detected, bounds.detected),
        format!("not detected within {:?}", bounds.detected),
    );
    require(report.share < SHARE, format!("a share of {SHARE} and more"));
    require(
        report.errors <= bounds.errors,
        format!("more than {} errors", bounds.errors),
    );
    require(report.elsewhere == 0, "errors elsewhere".into());
    require(
        within(report.returned, RETURNED),
        format!("not back within {RETURNED:?}"),
    );
    violations
}
