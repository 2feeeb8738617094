//! Loom models of the ejection protocol, each with a broken variant where there is one.

use super::*;
use crate::health::PanicRule;
use loom::thread;
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn at(seconds: u64) -> Tick {
    Tick::from_nanos(seconds * 1_000_000_000)
}

struct Setting {
    cell: StandingCell,
    ledger: Ledger,
}

fn claim(setting: &Setting, now: Tick) -> Option<u32> {
    let (cell, ledger) = (&setting.cell, &setting.ledger);
    cell.claim_probe(ledger, ProbedBy::Request, now, |_| SECOND, DAY)
}

/// Ejected at 0 until 1, with a probe out since 1 that is given up at 2.
fn probed() -> (Arc<Setting>, u32) {
    let setting = Setting {
        cell: StandingCell::new(Phase::In),
        ledger: Ledger::new(PanicRule::off()),
    };
    setting.ledger.set_limit(1);
    setting
        .cell
        .eject(&setting.ledger, 0, at(0), |times, _| times, |_| SECOND);
    let epoch = claim(&setting, at(1)).unwrap();
    (Arc::new(setting), epoch)
}

type Conclude = fn(&Setting, u32) -> bool;

fn good(setting: &Setting, epoch: u32) -> bool {
    setting
        .cell
        .conclude(&setting.ledger, epoch, Finding::Good, at(3), |_| SECOND)
}

/// The first probe's result arrives while a second probe is sent, as the first has been given up. Either the result
/// counts and there is no second probe, or the second decides.
fn expiry_against_late_result(conclude: Conclude) {
    loom::model(move || {
        let (setting, first) = probed();
        let late = {
            let setting = setting.clone();
            thread::spawn(move || conclude(&setting, first))
        };
        let second = claim(&setting, at(3));
        let counted = late.join().unwrap();
        assert!(
            counted != second.is_some(),
            "a late result decided beside the second probe"
        );
        let ejected = usize::from(!counted);
        assert_eq!(setting.ledger.read().ejected, ejected);
        assert_eq!(setting.cell.get().takes_requests(), counted);
        let probed = u64::from(second.is_some());
        assert_eq!(
            setting.ledger.probes.taken(),
            probed,
            "not one slot a probe"
        );
    });
}

#[test]
fn a_late_result_decides_nothing() {
    expiry_against_late_result(good);
}

/// Broken: looks at the phase only, and stores.
#[test]
#[should_panic = "a late result decided beside the second probe"]
fn broken_variant_conclude_by_phase() {
    expiry_against_late_result(|setting, _| {
        let from = setting.cell.get();
        if from.phase != Phase::Probing {
            return false;
        }
        // ORDERING: Release. Not what is broken.
        setting
            .cell
            .0
            .store(from.next_epoch(Phase::In, 3000).pack(), Ordering::Release);
        setting.ledger.release();
        true
    });
}

/// Two threads ask for a probe at once: one gets it.
#[test]
fn one_probe_at_a_time() {
    loom::model(|| {
        let (setting, _) = probed();
        let other = setting.clone();
        let thread = thread::spawn(move || claim(&other, at(3)).is_some());
        let mine = claim(&setting, at(3)).is_some();
        assert!(mine != thread.join().unwrap());
    });
}

/// A removal takes a member out of the ledger while an alarm ejects it: its slot is released exactly once, and it stays
/// out of rotation.
fn removal_against_alarm(eject: fn(&Setting) -> Verdict) {
    loom::model(move || {
        let setting = Arc::new(Setting {
            cell: StandingCell::new(Phase::In),
            ledger: Ledger::new(PanicRule::off()),
        });
        setting.ledger.set_limit(1);
        let alarm = {
            let setting = setting.clone();
            thread::spawn(move || eject(&setting))
        };
        setting.cell.place(&setting.ledger, Phase::Off, at(1));
        alarm.join().unwrap();
        assert_eq!(
            setting.cell.get().phase,
            Phase::Off,
            "it is not out for good: removed, and ejected after"
        );
        assert_eq!(
            setting.ledger.read().ejected,
            0,
            "it is not out for good: a slot leaked"
        );
    });
}

#[test]
fn a_removed_member_holds_no_slot() {
    removal_against_alarm(|setting| {
        setting
            .cell
            .eject(&setting.ledger, 0, at(1), |times, _| times, |_| SECOND)
    });
}

/// Broken: turns ejected without checking that it still may.
#[test]
#[should_panic = "it is not out for good"]
fn broken_variant_store_instead_of_exchange() {
    removal_against_alarm(|setting| {
        let from = setting.cell.get();
        if from.phase != Phase::In || !setting.ledger.reserve() {
            return Verdict::Stale;
        }
        // ORDERING: Release. Not what is broken.
        setting.cell.0.store(
            from.next_epoch(Phase::Ejected, 2000).pack(),
            Ordering::Release,
        );
        Verdict::Ejected
    });
}

/// Two members, a cap of one, two alarms at once.
#[test]
fn two_alarms_and_a_cap_of_one() {
    loom::model(|| {
        let setting = Arc::new((
            StandingCell::new(Phase::In),
            StandingCell::new(Phase::In),
            Ledger::new(PanicRule::off()),
        ));
        setting.2.set_limit(1);
        let other = setting.clone();
        let thread = thread::spawn(move || {
            other
                .1
                .eject(&other.2, 0, at(1), |times, _| times, |_| SECOND)
                == Verdict::Ejected
        });
        let mine = setting
            .0
            .eject(&setting.2, 0, at(1), |times, _| times, |_| SECOND)
            == Verdict::Ejected;
        assert!(mine != thread.join().unwrap());
        assert_eq!(setting.2.read().ejected, 1);
    });
}

/// A writer shrinks the cap to none while an alarm ejects: when it publishes, no member is ejected, and none turns
/// ejected after. The alarm may hold its slot before its member has turned, so the writer waits for the ledger and not
/// only for the members that it sees ejected.
fn shrink_against_alarm(publishes: fn(&Setting)) {
    loom::model(move || {
        let setting = Arc::new(Setting {
            cell: StandingCell::new(Phase::In),
            ledger: Ledger::new(PanicRule::off()),
        });
        setting.ledger.set_limit(1);
        let alarm = {
            let setting = setting.clone();
            thread::spawn(move || {
                setting
                    .cell
                    .eject(&setting.ledger, 0, at(1), |times, _| times, |_| SECOND)
            })
        };
        setting.ledger.set_limit(0);
        publishes(&setting);
        assert!(!setting.cell.get().is_ejected(), "the cap is exceeded");
        alarm.join().unwrap();
        assert!(!setting.cell.get().is_ejected(), "the cap is exceeded");
        assert_eq!(setting.ledger.read().ejected, 0);
    });
}

fn pardon(setting: &Setting) {
    if setting.cell.get().is_ejected() {
        setting.cell.place(&setting.ledger, Phase::In, at(1));
    }
}

#[test]
fn the_cap_holds_when_an_alarm_races_a_shrink() {
    shrink_against_alarm(|setting| {
        while setting.ledger.read().ejected > 0 {
            pardon(setting);
            thread::yield_now();
        }
    });
}

/// Broken: lets in the members that it sees ejected, and publishes.
#[test]
#[should_panic = "the cap is exceeded"]
fn broken_variant_pardon_once() {
    shrink_against_alarm(pardon);
}

/// A check driver arrives while a pick looks for a probe to send. The pick may have looked before that; still one of
/// the two gets the probe. Once the driver has gone, a pick gets the next one.
fn pick_against_prober(pick: fn(&Setting, Tick) -> bool) {
    loom::model(move || {
        let (setting, _) = probed();
        let prober = Arc::new(crate::shared::Prober::default());
        let driver = {
            let (setting, prober) = (setting.clone(), prober.clone());
            thread::spawn(move || {
                prober.record_tick(at(3), true);
                let sent = claim(&setting, at(3));
                if let Some(epoch) = sent {
                    let again = Finding::Inconclusive(SECOND);
                    setting
                        .cell
                        .conclude(&setting.ledger, epoch, again, at(3), |_| SECOND);
                }
                prober.leave();
                sent.is_some()
            })
        };
        let mine = !prober.is_here(at(3)) && pick(&setting, at(3));
        let theirs = driver.join().unwrap();
        assert!(mine != theirs, "not one probe");
        assert!(!prober.is_here(at(3)));
        assert!(pick(&setting, at(4)), "none after it has gone");
    });
}

#[test]
fn either_a_pick_or_a_prober_gets_the_probe() {
    pick_against_prober(|setting, now| claim(setting, now).is_some());
}

/// Broken: takes the absence of a driver for certain, and stores without an exchange.
#[test]
#[should_panic = "not one probe"]
fn broken_variant_trust_the_hint() {
    pick_against_prober(|setting, now| {
        let cell = &setting.cell;
        let from = cell.get();
        let due = from.probe_is_due(now, DAY);
        if due {
            // ORDERING: Release. Not what is broken.
            cell.0
                .store(from.next_epoch(Phase::Probing, 0).pack(), Ordering::Release);
        }
        due
    });
}

/// A probe ends while its member is removed: its slot is given back by whichever of the two ends the probe.
fn end_against_removal(conclude: Conclude) {
    loom::model(move || {
        let (setting, epoch) = probed();
        let end = {
            let setting = setting.clone();
            thread::spawn(move || conclude(&setting, epoch))
        };
        setting.cell.place(&setting.ledger, Phase::Off, at(2));
        end.join().unwrap();
        let taken = setting.ledger.probes.taken();
        assert_eq!(taken, 0, "a slot was lost, or given back twice");
        assert_eq!(setting.ledger.read().ejected, 0);
    });
}

#[test]
fn a_probes_slot_is_given_back_once() {
    end_against_removal(good);
}

/// Broken: gives the slot back after a look, though another thread may end the same probe.
#[test]
#[should_panic = "a slot was lost, or given back twice"]
fn broken_variant_give_back_by_a_look() {
    end_against_removal(|setting, epoch| {
        if !setting.cell.awaits(epoch) {
            return false;
        }
        let from = setting.cell.get();
        if setting
            .cell
            .change(&setting.ledger, from, from.next_epoch(Phase::In, 3000))
        {
            setting.ledger.release();
        }
        setting.ledger.probes.give_back();
        true
    });
}

/// An ejection is hastened while its probe is taken and ends well: the member is back, and its slot is free.
fn hasten_against_probe(hasten: fn(&Setting)) {
    loom::model(move || {
        let setting = Arc::new(Setting {
            cell: StandingCell::new(Phase::In),
            ledger: Ledger::new(PanicRule::off()),
        });
        let (cell, ledger) = (&setting.cell, &setting.ledger);
        ledger.set_limit(1);
        cell.eject(ledger, 0, at(0), |times, _| times, |_| 4 * SECOND);
        let other = setting.clone();
        let probe =
            thread::spawn(move || claim(&other, at(3)).is_some_and(|epoch| good(&other, epoch)));
        hasten(&setting);
        let back = probe.join().unwrap();
        let stands = if back { Phase::Warming } else { Phase::Ejected };
        assert_eq!(setting.cell.get().phase, stands, "its return was undone");
        assert_eq!(setting.ledger.read().ejected, usize::from(!back));
        assert!(back || setting.cell.get().probe_is_due(at(3), DAY));
    });
}

#[test]
fn hastening_does_not_undo_a_return() {
    hasten_against_probe(|setting| {
        setting.cell.hasten(at(1), |_| SECOND);
    });
}

/// Broken: read, then write.
#[test]
#[should_panic = "its return was undone"]
fn broken_variant_hasten_by_a_store() {
    hasten_against_probe(|setting| {
        setting.cell.hasten(at(1), |_| SECOND);
        let from = setting.cell.get();
        if from.phase == Phase::Ejected {
            let at = stamp_after(at(2), Duration::ZERO);
            // ORDERING: Release. As in `exchange`; not what is broken.
            setting
                .cell
                .0
                .store(Standing { at, ..from }.pack(), Ordering::Release);
        }
    });
}

/// An update brings in a member whose ejection goes on: published, then resumed, as only then the new limit counts. A
/// pick that finds the new set looks at standings only if the ledger says that a member is refused.
fn pick_against_resume(hold: fn(&Setting)) {
    loom::model(move || {
        let (setting, _) = probed();
        let former = Standing {
            phase: Phase::Ejected,
            ..setting.cell.get()
        };
        setting.cell.place(&setting.ledger, Phase::Off, at(1));
        assert!(setting.ledger.is_quiet());
        let is_published = Arc::new(AtomicU64::new(0));
        let writer = {
            let (setting, is_published) = (setting.clone(), is_published.clone());
            thread::spawn(move || {
                hold(&setting);
                // ORDERING: Release. As the swap of the snapshot.
                is_published.store(1, Ordering::Release);
                assert!(setting.cell.restore(&setting.ledger, former));
            })
        };
        // ORDERING: Acquire. As the load of the snapshot.
        let finds_it = is_published.load(Ordering::Acquire) == 1;
        assert!(
            !finds_it || !setting.ledger.is_quiet(),
            "a pick looks at no standing while one is held out"
        );
        writer.join().unwrap();
        let tally = setting.ledger.read();
        assert_eq!((tally.ejected, tally.refused()), (1, 1));
    });
}

#[test]
fn a_pick_looks_at_standings_until_an_ejection_is_resumed() {
    pick_against_resume(|setting| {
        setting.cell.place(&setting.ledger, Phase::Down, at(1));
    });
}

/// Broken: out of rotation, which the ledger does not count.
#[test]
#[should_panic = "a pick looks at no standing while one is held out"]
fn broken_variant_hold_out_uncounted() {
    pick_against_resume(|_| {});
}
