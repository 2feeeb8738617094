use super::*;
use crate::health::PanicRule;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn at(millis: u64) -> Tick {
    Tick::from_nanos(millis * 1_000_000)
}

fn ledger(limit: usize) -> Ledger {
    let ledger = Ledger::new(PanicRule::off());
    ledger.set_limit(limit);
    ledger
}

/// Forgives all ejections after a minute.
fn forgive(times: u32, stayed: Duration) -> u32 {
    if stayed >= 60 * SECOND { 0 } else { times }
}

fn seconds(times: u32) -> Duration {
    SECOND * times
}

fn eject(cell: &StandingCell, ledger: &Ledger, now: Tick) -> Verdict {
    cell.eject(ledger, cell.get().epoch, now, forgive, seconds)
}

fn claim(cell: &StandingCell, ledger: &Ledger, now: Tick) -> Option<u32> {
    cell.claim_probe(ledger, ProbedBy::Request, now, |_| SECOND, DAY)
}

proptest! {
    #[test]
    fn a_word_keeps_its_fields(epoch in 0u32..1 << 24, times in 0u32..32, phase in 0u64..7, at: u32) {
        let standing = Standing { epoch, times, phase: Standing::read(phase << 32).phase, at };
        prop_assert_eq!(Standing::read(standing.pack()), standing);
    }

    /// Whatever the time of ejection, the probe is due exactly when its time has come, for two days (half of the
    /// stamp's range less the longest ejection is 22 more).
    #[test]
    fn a_probe_is_due_when_its_time_has_come(start in 0u64..1 << 40, length in 1u64..86_400_000, later in 0u64..2 * 86_400_000) {
        let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
        cell.eject(&ledger, 0, at(start), forgive, |_| Duration::from_millis(length));
        prop_assert_eq!(cell.get().probe_is_due(at(start + later), DAY), later >= length);
    }
}

#[test]
fn ejection_probe_and_return() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    assert_eq!(eject(&cell, &ledger, at(0)), Verdict::Ejected);
    assert_eq!(eject(&cell, &ledger, at(0)), Verdict::Stale);
    assert_eq!(ledger.read().ejected, 1);
    assert_eq!(claim(&cell, &ledger, at(999)), None);
    let epoch = claim(&cell, &ledger, at(1000)).unwrap();
    assert_eq!(claim(&cell, &ledger, at(1000)), None, "one probe at a time");
    assert!(cell.conclude(&ledger, epoch, Finding::Good, at(1100), seconds));
    assert!(cell.get().takes_requests());
    assert_eq!(ledger.read().ejected, 0);
}

#[test]
fn a_bad_probe_doubles_and_keeps_the_slot() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    let epoch = claim(&cell, &ledger, at(1000)).unwrap();
    assert!(cell.conclude(&ledger, epoch, Finding::Bad, at(1000), seconds));
    assert_eq!(ledger.read().ejected, 1);
    assert!(!cell.get().probe_is_due(at(2999), DAY) && cell.get().probe_is_due(at(3000), DAY));
}

#[test]
fn a_forgotten_probe_is_given_up_and_its_late_result_decides_nothing() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    let lost = claim(&cell, &ledger, at(1000)).unwrap();
    assert_eq!(claim(&cell, &ledger, at(1999)), None);
    let second = claim(&cell, &ledger, at(2000)).unwrap();
    assert!(!cell.conclude(&ledger, lost, Finding::Good, at(2001), seconds));
    assert!(cell.awaits(second));
    assert!(cell.conclude(
        &ledger,
        second,
        Finding::Inconclusive(SECOND),
        at(2002),
        seconds
    ));
    assert!(
        claim(&cell, &ledger, at(3001)).is_none() && claim(&cell, &ledger, at(3002)).is_some(),
        "the slot is free after the wait"
    );
}

#[test]
fn times_count_up_and_are_forgiven_after_a_while() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    let round = |start: u64| {
        eject(&cell, &ledger, at(start));
        let times = cell.get().times;
        let epoch = claim(&cell, &ledger, at(start + 50_000)).unwrap();
        cell.conclude(&ledger, epoch, Finding::Good, at(start + 50_000), seconds);
        times
    };
    assert_eq!([round(0), round(60_000), round(120_000)], [1, 2, 3]);
    assert_eq!(round(230_000), 1);
}

#[test]
fn no_member_is_ejected_beyond_the_cap_or_against_a_mark() {
    let ledger = ledger(0);
    assert_eq!(
        eject(&StandingCell::new(Phase::In), &ledger, at(0)),
        Verdict::Full
    );
    ledger.set_limit(1);
    for phase in [Phase::Up, Phase::Down, Phase::Off] {
        assert_eq!(
            eject(&StandingCell::new(phase), &ledger, at(0)),
            Verdict::Stale
        );
    }
    assert_eq!(ledger.read().ejected, 0);
}

#[test]
fn a_mark_changes_the_standing_and_settles_the_ledger() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    cell.place(&ledger, Phase::Down, at(1));
    assert_eq!((ledger.read().ejected, ledger.read().down), (0, 1));
    cell.place(&ledger, Phase::Down, at(2));
    assert_eq!(ledger.read().down, 1);
    cell.place(&ledger, Phase::In, at(3));
    assert_eq!(ledger.read().refused(), 0);
    assert!(cell.get().takes_requests());
}

#[test]
fn a_clock_ten_years_ahead_and_back_does_not_hold_a_member_out() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(10 * 365 * 86_400_000));
    assert!(cell.get().probe_is_due(at(1000), DAY));
}

#[test]
fn slow_start_begins_with_the_return_and_ends_without_a_change_of_epoch() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    let epoch = claim(&cell, &ledger, at(1000)).unwrap();
    assert!(cell.conclude(&ledger, epoch, Finding::Good, at(1100), seconds));
    let back = cell.get();
    assert!(back.takes_requests() && back.is_in());
    assert_eq!(back.warming_for(at(2100)), Some(SECOND));
    cell.warmed();
    assert_eq!(
        cell.get(),
        Standing {
            phase: Phase::In,
            ..back
        }
    );
    assert_eq!(cell.get().warming_for(at(2100)), None);
    // It may be ejected in slow start, too.
    cell.warm(at(3000));
    assert_eq!(eject(&cell, &ledger, at(3000)), Verdict::Ejected);
    cell.warm(at(3000));
    assert!(
        cell.get().is_ejected(),
        "a member that is out does not warm"
    );
}

#[test]
fn a_probe_holds_a_slot_until_it_is_over_and_a_forgotten_one_leaves_it_to_the_next() {
    let ledger = ledger(3).with_most_probes(Some(1));
    let cells = [(); 3].map(|()| StandingCell::new(Phase::In));
    let [one, other, third] = &cells;
    for cell in &cells {
        eject(cell, &ledger, at(0));
    }
    let first = claim(one, &ledger, at(1000)).unwrap();
    assert_eq!(claim(other, &ledger, at(1000)), None, "no slot");
    assert_eq!(ledger.probes.taken(), 1);
    // The first probe is given up at 2000: the next has its slot.
    let second = claim(one, &ledger, at(2000)).unwrap();
    assert_eq!(ledger.probes.taken(), 1);
    let end = |cell: &StandingCell, epoch, finding| {
        cell.conclude(&ledger, epoch, finding, at(2000), seconds)
    };
    assert!(!end(one, first, Finding::Bad) && end(one, second, Finding::Bad));
    let probe = claim(other, &ledger, at(2000)).unwrap();
    // A check has a cap of its own, but takes a slot.
    let check = third.claim_probe(&ledger, ProbedBy::Check, at(2000), |_| SECOND, DAY);
    assert!(check.is_some());
    assert_eq!(ledger.probes.taken(), 2);
    assert!(end(other, probe, Finding::Inconclusive(SECOND)));
    assert_eq!(claim(other, &ledger, at(5000)), None, "the check's");
    third.place(&ledger, Phase::Off, at(5000));
    assert_eq!(ledger.probes.taken(), 0);
    assert!(claim(other, &ledger, at(5000)).is_some());
}

#[test]
fn a_hastened_probe_is_due_sooner_and_never_later() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    assert!(!cell.hasten(at(500), |_| SECOND), "it is due before");
    assert!(cell.hasten(at(500), |times| SECOND / 4 * times));
    assert_eq!(claim(&cell, &ledger, at(749)), None);
    let epoch = claim(&cell, &ledger, at(750)).unwrap();
    assert!(!cell.hasten(at(750), |_| Duration::ZERO), "it is probed");
    assert!(cell.conclude(&ledger, epoch, Finding::Good, at(800), seconds));
    assert!(!cell.hasten(at(800), |_| Duration::ZERO), "it is back");
    assert_eq!(cell.get().times, 1);
    cell.forgive();
    assert_eq!(cell.get().times, 0);
}

/// A request that was under way at the ejection ends after the return: its result is of the time before.
#[test]
fn an_alarm_from_before_a_return_is_ignored() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(2));
    let before = cell.get().epoch;
    eject(&cell, &ledger, at(0));
    let probe = claim(&cell, &ledger, at(1000)).unwrap();
    assert!(cell.conclude(&ledger, probe, Finding::Good, at(1000), seconds));
    for epoch in [before, probe] {
        let verdict = cell.eject(&ledger, epoch, at(1001), forgive, seconds);
        assert_eq!(verdict, Verdict::Stale);
    }
    assert_eq!(ledger.read().ejected, 0);
    assert_eq!(eject(&cell, &ledger, at(1001)), Verdict::Ejected);
}

#[test]
fn only_a_member_back_from_an_ejection_is_returning() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    cell.warm(at(0));
    assert!(!cell.get().is_returning(), "new, and not ejected yet");
    eject(&cell, &ledger, at(0));
    assert!(!cell.get().is_returning(), "still out");
    let epoch = claim(&cell, &ledger, at(1000)).unwrap();
    assert!(cell.conclude(&ledger, epoch, Finding::Good, at(1000), seconds));
    assert!(cell.get().is_returning());
    cell.warmed();
    assert!(!cell.get().is_returning(), "it has stayed");
}

#[test]
fn a_probe_that_is_not_due_yet_is_not_overdue() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    assert_eq!(cell.get().overdue(at(400)), Duration::ZERO);
    assert_eq!(cell.get().overdue(at(3000)), 2 * SECOND);
}

/// An ejected member keeps its count of ejections in a row, and has no slow start that could end.
#[test]
fn an_ejected_member_is_neither_forgiven_nor_warm() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    let out = cell.get();
    cell.forgive();
    assert!(!cell.warmed());
    assert_eq!(cell.get(), out);
}

/// The count has five bits: beyond them it would run into the epoch.
#[test]
fn probes_without_an_answer_are_counted_up_to_a_limit() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    for probe in 1..=40 {
        assert!(claim(&cell, &ledger, at(probe * 1000)).is_some(), "{probe}");
    }
    let standing = cell.get();
    assert_eq!(
        (standing.times, standing.phase),
        (MOST_TIMES, Phase::Probing)
    );
}

/// What counts eligible members counts again only when the version has moved.
#[test]
fn each_move_in_or_out_of_rotation_bumps_the_version() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    let mut last = ledger.eligibility().version();
    let mut moved = |is: bool, what: &str| {
        let version = ledger.eligibility().version();
        assert_eq!(version != last, is, "{what}");
        last = version;
    };
    eject(&cell, &ledger, at(0));
    moved(true, "ejected");
    let epoch = claim(&cell, &ledger, at(1000)).unwrap();
    moved(false, "probed");
    cell.conclude(&ledger, epoch, Finding::Good, at(1000), seconds);
    moved(true, "back");
    cell.place(&ledger, Phase::Down, at(1000));
    moved(true, "marked down");
    cell.place(&ledger, Phase::In, at(1000));
    moved(true, "and in");
    let former = Standing {
        times: 1,
        phase: Phase::Ejected,
        ..cell.get()
    };
    assert!(cell.restore(&ledger, former));
    moved(true, "and out again, as before");
}

#[test]
fn a_member_published_again_keeps_its_count_of_ejections_in_a_row() {
    let (cell, ledger) = (StandingCell::new(Phase::In), ledger(1));
    eject(&cell, &ledger, at(0));
    let probe = claim(&cell, &ledger, at(1000)).unwrap();
    assert!(cell.conclude(&ledger, probe, Finding::Good, at(1000), seconds));
    let again = StandingCell::new(Phase::In);
    again.remember(cell.get());
    assert!(again.get().is_in());
    eject(&again, &ledger, at(2000));
    assert_eq!(again.get().times, 2);
}
