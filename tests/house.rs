//! Promise 10: the crate starts nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evenkeel::{Cluster, Ejection, Fleet, ManualClock, Outcome};

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// The only test in this file, so that no other test changes the threads and files of the process meanwhile.
#[test]
fn no_thread_and_no_file_or_socket() {
    let before = (count("/proc/self/task"), count("/proc/self/fd"));
    let clock = ManualClock::new();
    let fleet = Fleet::builder()
        .endpoints(["a", "b", "c"].map(String::from))
        // Where two in three requests fail everywhere, the default detector ejects none.
        .ejection(Ejection::default().consecutive_failures(2))
        .clock(clock.clone())
        .build()
        .unwrap();
    for round in 0..1000 {
        let outcome = if round % 3 == 0 {
            Outcome::Success
        } else {
            Outcome::Timeout
        };
        fleet.pick_endpoint().unwrap().record(outcome);
        clock.advance(Duration::from_millis(50));
    }
    fleet.maintain();
    drop(fleet.drain(&"a".to_string()));
    assert!(fleet.stats().ejections > 0);
    assert_eq!((count("/proc/self/task"), count("/proc/self/fd")), before);
}
