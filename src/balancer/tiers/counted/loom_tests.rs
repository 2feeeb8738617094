//! Models of a count beside changes of what it counts, and variants that are broken.

use super::*;
use crate::health::PanicRule;
use loom::thread;
use std::sync::Arc;

struct Setting {
    ledger: Ledger,
    /// Whether each member is eligible, as its standing says.
    eligible: [AtomicU64; 2],
    /// How many members were eligible at the last count.
    published: AtomicU64,
    counted: Counted<u64>,
}

struct Both<'a>(&'a Setting);

impl Members<u64> for Both<'_> {
    fn len(&self) -> usize {
        2
    }

    fn begin(&self, found: &mut u64) {
        *found = 0;
    }

    fn count(&self, at: usize, found: &mut u64) {
        // ORDERING: Acquire. As the standing's own.
        *found += self.0.eligible[at].load(Ordering::Acquire);
    }

    fn publish(&self, found: &mut u64) {
        // ORDERING: Relaxed. As the plan's words.
        self.0.published.store(*found, Ordering::Relaxed);
    }
}

type GoOn = fn(&Setting);
type Flip = fn(&Setting, usize);

/// What a pick does.
fn pick(setting: &Setting) {
    if setting
        .counted
        .is_stale(setting.ledger.eligibility().version())
    {
        setting
            .counted
            .continue_count(&setting.ledger, &Both(setting));
    }
}

/// Makes the change, and then raises the version.
fn flip(setting: &Setting, member: usize) {
    // ORDERING: Release. As the standing's own.
    setting.eligible[member].store(0, Ordering::Release);
    setting.ledger.bump_eligibility();
}

/// Two members become ineligible while two threads pick. Afterwards, a pick that finds nothing to count finds the loads
/// right.
fn changes_against_counts(pick_like: GoOn, flip_like: Flip) {
    loom::model(move || {
        let setting = Arc::new(Setting {
            ledger: Ledger::new(PanicRule::off()),
            eligible: [AtomicU64::new(1), AtomicU64::new(1)],
            published: AtomicU64::new(9),
            counted: Counted::new(0),
        });
        let flipping = {
            let setting = setting.clone();
            thread::spawn(move || {
                flip_like(&setting, 0);
                flip_like(&setting, 1);
            })
        };
        let picking = {
            let setting = setting.clone();
            thread::spawn(move || pick_like(&setting))
        };
        pick_like(&setting);
        flipping.join().unwrap();
        picking.join().unwrap();
        pick_like(&setting);
        // ORDERING: Relaxed, both. The threads have been joined.
        let version = setting.counted.version.load(Ordering::Relaxed);
        assert_eq!(version, setting.ledger.eligibility().version());
        let published = setting.published.load(Ordering::Relaxed);
        assert_eq!(published, 0, "a change was not counted, and will not be");
    });
}

#[test]
fn no_change_is_lost() {
    changes_against_counts(pick, flip);
}

/// Broken: reads the version after counting, so that a change in between is taken as counted.
fn pick_with_the_later_version(setting: &Setting) {
    if !setting
        .counted
        .is_stale(setting.ledger.eligibility().version())
    {
        return;
    }
    let Some(mut count) = setting.counted.under_way.try_lock() else {
        return;
    };
    let both = Both(setting);
    both.begin(&mut count.found);
    (0..2).for_each(|at| both.count(at, &mut count.found));
    both.publish(&mut count.found);
    let version = setting.ledger.eligibility().version();
    // ORDERING: Release. As in `continue_count`.
    setting.counted.version.store(version, Ordering::Release);
}

#[test]
#[should_panic(expected = "a change was not counted")]
fn broken_the_version_is_read_after_the_count() {
    changes_against_counts(pick_with_the_later_version, flip);
}

/// Broken: raises the version before making the change.
fn flip_told_first(setting: &Setting, member: usize) {
    setting.ledger.bump_eligibility();
    // ORDERING: Release. As the standing's own.
    setting.eligible[member].store(0, Ordering::Release);
}

#[test]
#[should_panic(expected = "a change was not counted")]
fn broken_a_change_is_told_before_it_is_made() {
    changes_against_counts(pick, flip_told_first);
}

/// A pick that finds the count complete sees what it has published.
fn complete_means_published(is_stale: fn(&Setting) -> bool) {
    loom::model(move || {
        let setting = Arc::new(Setting {
            ledger: Ledger::new(PanicRule::off()),
            eligible: [AtomicU64::new(1), AtomicU64::new(1)],
            published: AtomicU64::new(9),
            counted: Counted::new(0),
        });
        let looking = {
            let setting = setting.clone();
            thread::spawn(move || {
                if !is_stale(&setting) {
                    // ORDERING: Relaxed. As the plan's words.
                    let published = setting.published.load(Ordering::Relaxed);
                    assert_eq!(published, 2, "loads of before");
                }
            })
        };
        pick(&setting);
        looking.join().unwrap();
    });
}

#[test]
fn a_pick_that_finds_the_count_complete_sees_the_loads() {
    complete_means_published(|setting| {
        setting
            .counted
            .is_stale(setting.ledger.eligibility().version())
    });
}

#[test]
#[should_panic(expected = "loads of before")]
fn broken_the_version_is_read_without_an_order() {
    complete_means_published(|setting| {
        let version = setting.ledger.eligibility().version();
        // ORDERING: Relaxed. This is what is broken.
        setting.counted.version.load(Ordering::Relaxed) != version
    });
}
