use super::*;
use loom::thread;
use std::sync::Arc;

const WEIGHTS: [u64; 3] = [5, 3, 2];

/// Two threads of a shard pick, over the ends of hands. Each turn of the order is then picked, in hand, or one that
/// passed for a visit out of turn: none is lost or counted twice. `pick` is [`Endless::next`] or a broken variant.
fn two_pick(pick: fn(&Endless) -> usize) {
    loom::model(move || {
        let shared = Arc::new(Endless::new(&WEIGHTS, Cursor::new(1, |_| 0)));
        let other = {
            let shared = shared.clone();
            thread::spawn(move || [pick(&shared), pick(&shared)])
        };
        let mut picks = vec![pick(&shared), pick(&shared)];
        picks.extend(other.join().unwrap());
        // Also turns that were passed over.
        for turn in &shared.hands[0].0.turns {
            // ORDERING: Relaxed. The threads have ended.
            let member = turn.swap(NONE, Ordering::Relaxed);
            picks.extend((member != NONE).then_some(member as usize));
        }
        let mut turns = shared.turns.lock();
        while turns.accounted < shared.had.sum() {
            turns.account(&shared.had);
        }
        let mut visits = [0i64; WEIGHTS.len()];
        picks.iter().for_each(|&member| visits[member] += 1);
        for (visits, had) in visits.iter_mut().zip(&shared.had.visits) {
            // ORDERING: Relaxed. The threads have ended.
            *visits -= i64::from(had.load(Ordering::Relaxed));
        }
        turns
            .owed
            .iter()
            .for_each(|turn| visits[turn.member as usize] += 1);
        let seed = mix(0);
        let mut anew = Turns::new(&WEIGHTS, seed);
        for _ in &picks {
            visits[anew.in_order().member as usize] -= 1;
        }
        assert_eq!(visits, [0; WEIGHTS.len()], "of the turns");
    });
}

#[test]
fn every_turn_is_accounted_for() {
    two_pick(|endless| endless.next(0).expect("there are members"));
}

/// Broken: takes a turn in two steps.
#[test]
#[should_panic = "of the turns"]
fn broken_variant_that_reads_and_clears() {
    two_pick(|endless| {
        let hand = &endless.hands[0].0;
        let seen = hand.turns.iter().find_map(|turn| {
            // ORDERING: Relaxed. This is not what is broken.
            let member = turn.load(Ordering::Relaxed);
            (member != NONE).then(|| {
                turn.store(NONE, Ordering::Relaxed);
                member as usize
            })
        });
        seen.unwrap_or_else(|| endless.fill(hand, 0).expect("there are members"))
    });
}

/// Broken: does not count a visit out of turn.
#[test]
#[should_panic = "of the turns"]
fn broken_variant_that_forgets_what_was_had() {
    two_pick(|endless| {
        let hand = &endless.hands[0].0;
        let filled = || {
            endless
                .turns
                .try_lock()
                .map(|mut turns| hand.fill(|| turns.next(&endless.had)))
        };
        let taken = hand.take().or_else(|| filled().and_then(|()| hand.take()));
        taken.unwrap_or(0)
    });
}
