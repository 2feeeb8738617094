use loom::thread;
use std::sync::Arc;

use super::*;

const fn second(second: u64) -> Tick {
    Tick::from_nanos(second * BUCKET_NANOS)
}

impl Budget {
    fn summed(&self) -> Counts {
        // ORDERING: Relaxed. The model's threads are joined, or what is seen earlier is what is looked into.
        Counts::of_sum(self.sum.0.load(Ordering::Relaxed))
    }

    fn in_buckets(&self) -> Counts {
        let mut all = Counts::default();
        for bucket in &self.buckets {
            // ORDERING: Relaxed. The model's threads are joined.
            let counts = Counts::of_bucket(bucket.load(Ordering::Relaxed));
            all.requests += counts.requests;
            all.retries += counts.retries;
        }
        all
    }
}

/// One retry is allowed in a window, and one from long ago is in the way. Two are asked for at once, in neighbouring
/// buckets, one of which has to be made anew: one is granted.
fn two_ask(withdraw: fn(&Budget, Tick) -> bool) {
    loom::model(move || {
        let budget = Arc::new(Budget::new(0, 1));
        assert!(budget.withdraw(second(0)));
        let other = budget.clone();
        let thread = thread::spawn(move || withdraw(&other, second(BUCKETS)));
        let mine = withdraw(&budget, second(BUCKETS + 1));
        let theirs = thread.join().unwrap();
        assert!(!(mine && theirs), "overspent");
        assert!(mine || theirs, "a token was lost");
        assert_eq!(budget.summed(), budget.in_buckets());
    });
}

#[test]
fn one_token_is_granted_once() {
    two_ask(Budget::withdraw);
}

/// Broken: looks, then takes.
#[test]
#[should_panic = "overspent"]
fn broken_variant_look_then_take() {
    two_ask(|budget, now| {
        let has = budget.left(now) > 0;
        if has {
            // ORDERING: Relaxed. The variant is broken for another reason.
            budget.sum.0.fetch_add(one(Event::Retry), Ordering::Relaxed);
            budget.count(now, Event::Retry);
        }
        has
    });
}

/// A request is counted by a thread that comes late, while another makes its bucket anew.
fn deposit_late(deposit: fn(&Budget, Tick)) {
    loom::model(move || {
        let budget = Arc::new(Budget::new(100, 0));
        let other = budget.clone();
        let thread = thread::spawn(move || deposit(&other, second(1)));
        budget.left(second(1 + BUCKETS));
        let seen = budget.summed();
        assert!(
            seen.requests <= 1 && seen.retries == 0,
            "the sum went below zero"
        );
        thread.join().unwrap();
        assert_eq!(budget.summed(), budget.in_buckets());
    });
}

#[test]
fn the_sum_does_not_go_below_zero() {
    deposit_late(Budget::deposit);
}

/// Broken: the bucket first.
#[test]
#[should_panic = "the sum went below zero"]
fn broken_variant_bucket_first() {
    deposit_late(|budget, now| {
        budget.count(now, Event::Request);
        // ORDERING: Relaxed. The variant is broken for another reason.
        budget
            .sum
            .0
            .fetch_add(one(Event::Request), Ordering::Relaxed);
    });
}

/// Loom runs read-modify-writes of one word in one order, whatever they say; a load shows what they order. Who sees a
/// request in its bucket sees it in the sum.
fn see(deposit: fn(&Budget, Tick)) {
    loom::model(move || {
        let budget = Arc::new(Budget::new(100, 0));
        let other = budget.clone();
        let thread = thread::spawn(move || deposit(&other, second(1)));
        // ORDERING: Acquire. As the exchange that takes it out.
        let bucket = budget.buckets[1].load(Ordering::Acquire);
        let seen = budget.summed().requests;
        assert!(
            seen >= Counts::of_bucket(bucket).requests,
            "the sum is behind"
        );
        thread.join().unwrap();
    });
}

#[test]
fn the_sum_is_not_behind_a_bucket() {
    see(Budget::deposit);
}

/// Broken: nothing puts the addition to the sum first.
#[test]
#[should_panic = "the sum is behind"]
fn broken_variant_relaxed_bucket() {
    see(|budget, _| {
        // ORDERING: Relaxed, both. That is what is broken.
        budget
            .sum
            .0
            .fetch_add(one(Event::Request), Ordering::Relaxed);
        budget.buckets[1].fetch_add(1, Ordering::Relaxed);
    });
}
