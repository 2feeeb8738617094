use loom::thread;
use std::sync::Arc;

use super::*;

const fn second(second: u64) -> Tick {
    Tick::from_nanos(second * BUCKET_NANOS)
}

impl Recent {
    fn summed(&self) -> Counts {
        // ORDERING: Relaxed. The model's threads are joined, or an earlier value is what the model examines.
        Counts::of_sum(self.sum.0.load(Ordering::Relaxed))
    }

    fn in_buckets(&self) -> Counts {
        let mut all = Counts::default();
        for bucket in &self.buckets {
            // ORDERING: Relaxed. The model's threads are joined.
            let counts = Counts::of_bucket(bucket.load(Ordering::Relaxed));
            all.requests += counts.requests;
            all.secondary += counts.secondary;
        }
        all
    }
}

fn take(recent: &Recent, now: Tick) -> bool {
    recent.add_if(now, Event::Secondary, |counts| counts.secondary < 1)
}

fn request(recent: &Recent, now: Tick) {
    recent.add(now, Event::Request);
}

/// One event is allowed in a window, and an expired one is still counted. Two threads ask at once, in neighbouring
/// buckets, one of which must be replaced: exactly one is granted.
fn two_ask(ask: fn(&Recent, Tick) -> bool) {
    loom::model(move || {
        let recent = Arc::new(Recent::new());
        assert!(take(&recent, second(0)));
        let other = recent.clone();
        let thread = thread::spawn(move || ask(&other, second(BUCKETS)));
        let mine = ask(&recent, second(BUCKETS + 1));
        let theirs = thread.join().unwrap();
        assert!(!(mine && theirs), "overspent");
        assert!(mine || theirs, "a token was lost");
        assert_eq!(recent.summed(), recent.in_buckets());
    });
}

#[test]
fn one_token_is_granted_once() {
    two_ask(take);
}

/// Broken: checks, then takes.
#[test]
#[should_panic = "overspent"]
fn broken_variant_look_then_take() {
    two_ask(|recent, now| {
        let has = recent.counts(now).secondary < 1;
        if has {
            // ORDERING: Relaxed. The variant is broken for another reason.
            recent
                .sum
                .0
                .fetch_add(one(Event::Secondary), Ordering::Relaxed);
            recent.count(now, Event::Secondary);
        }
        has
    });
}

/// A late thread counts a request while another replaces the request's bucket.
fn deposit_late(add: fn(&Recent, Tick)) {
    loom::model(move || {
        let recent = Arc::new(Recent::new());
        let other = recent.clone();
        let thread = thread::spawn(move || add(&other, second(1)));
        recent.expire(second(1 + BUCKETS));
        let seen = recent.summed();
        assert!(
            seen.requests <= 1 && seen.secondary == 0,
            "the sum went below zero"
        );
        thread.join().unwrap();
        assert_eq!(recent.summed(), recent.in_buckets());
    });
}

#[test]
fn the_sum_does_not_go_below_zero() {
    deposit_late(request);
}

/// Broken: adds to the bucket first.
#[test]
#[should_panic = "the sum went below zero"]
fn broken_variant_bucket_first() {
    deposit_late(|recent, now| {
        recent.count(now, Event::Request);
        // ORDERING: Relaxed. The variant is broken for another reason.
        recent
            .sum
            .0
            .fetch_add(one(Event::Request), Ordering::Relaxed);
    });
}

/// A thread that sees a request in its bucket sees it in the sum. The model uses a load to show the ordering, because
/// loom runs the read-modify-writes of one word in one order whatever ordering they name.
fn see(add: fn(&Recent, Tick)) {
    loom::model(move || {
        let recent = Arc::new(Recent::new());
        let other = recent.clone();
        let thread = thread::spawn(move || add(&other, second(1)));
        // ORDERING: Acquire. As in the exchange that removes the event.
        let bucket = recent.buckets[1].load(Ordering::Acquire);
        let seen = recent.summed().requests;
        assert!(
            seen >= Counts::of_bucket(bucket).requests,
            "the sum is behind"
        );
        thread.join().unwrap();
    });
}

#[test]
fn the_sum_is_not_behind_a_bucket() {
    see(request);
}

/// Broken: nothing orders the addition to the sum first.
#[test]
#[should_panic = "the sum is behind"]
fn broken_variant_relaxed_bucket() {
    see(|recent, _| {
        // ORDERING: Relaxed, both. This is what is broken.
        recent
            .sum
            .0
            .fetch_add(one(Event::Request), Ordering::Relaxed);
        recent.buckets[1].fetch_add(1, Ordering::Relaxed);
    });
}
