use super::*;
use proptest::prelude::*;

/// How often each member was picked, and how far each is from its share.
struct Seen {
    picks: Vec<u64>,
    weights: Vec<u64>,
}

impl Seen {
    fn none(weights: &[u64]) -> Self {
        Self {
            picks: vec![0; weights.len()],
            weights: weights.to_vec(),
        }
    }

    fn see(&mut self, member: usize) {
        self.picks[member] += 1;
    }

    fn most_off(&self) -> f64 {
        let per_weight =
            self.picks.iter().sum::<u64>() as f64 / self.weights.iter().sum::<u64>() as f64;
        let pairs = self.picks.iter().zip(&self.weights);
        pairs
            .map(|(&picks, &weight)| (picks as f64 - weight as f64 * per_weight).abs())
            .fold(0.0, f64::max)
    }
}

fn weights() -> impl Strategy<Value = Vec<u64>> {
    let weight = prop_oneof![Just(7u64), 1u64..100, 1u64..65_536];
    prop::collection::vec(weight, 1..40)
}

fn endless(weights: &[u64], shards: usize, start: u64) -> Endless {
    Endless::new(weights, Cursor::new(shards, |_| start))
}

proptest! {
    /// In any stretch of the order, a member is less than two visits from its share. So is what a shard has in hand.
    #[test]
    fn totals_are_within_two_and_two_more_for_each_of_several_shards(
        weights in weights(),
        shards in 0u32..4,
        turns in prop::collection::vec((0usize..8, 0u64..100), 0..100),
    ) {
        let endless = endless(&weights, 1 << shards, 0);
        let mut seen = Seen::none(&weights);
        let bound = if shards == 0 { 2.0 } else { 2.0 + 2.0 * f64::from(1 << shards) };
        for (shard, picks) in turns {
            for _ in 0..picks {
                seen.see(endless.next(shard).unwrap());
                prop_assert!(seen.most_off() <= bound, "{} off of {bound}", seen.most_off());
            }
        }
    }

    /// Gaps are whole numbers: a window of two ideal gaps may touch one slot more. Members of equal weight take
    /// turns, which is closer.
    #[test]
    fn no_gap_is_wide(weights in weights(), start: u64) {
        let endless = endless(&weights, 1, start);
        let total: u64 = weights.iter().sum();
        let mut last = vec![None; weights.len()];
        for pick in 0..20_000u64 {
            let member = endless.next(0).unwrap();
            if let Some(last) = last[member].replace(pick) {
                let ideal = total as f64 / weights[member] as f64;
                prop_assert!((pick - last) as f64 <= 2.0 * ideal + 1.0, "{} for {ideal}", pick - last);
            }
        }
    }

    /// No turn is lost that a thread takes late, and none counts twice.
    #[test]
    fn turns_that_are_passed_over_stay_in_hand(weights in weights(), places in prop::collection::vec(0..HAND as u32, 100)) {
        let endless = endless(&weights, 1, 0);
        let mut seen = Seen::none(&weights);
        for place in places {
            for _ in 0..20 {
                seen.see(endless.next(0).unwrap());
            }
            // As a thread does that was held up. ORDERING: Relaxed, here and below. There is one thread.
            endless.hands[0].0.next.store(place, Ordering::Relaxed);
        }
        for turn in endless.hands[0].0.turns.iter().map(|turn| turn.swap(NONE, Ordering::Relaxed)) {
            if turn != NONE {
                seen.see(turn as usize);
            }
        }
        prop_assert!(seen.most_off() <= 2.0, "{} off", seen.most_off());
    }
}

/// While a thread is held up that takes turns, picks go on, for a short or a long time. What they take strays as the
/// golden ratio does, by less than 4.3 visits in a thousand picks, and the order by less than two; it does not add
/// up. One heavy member among many light ones, many alike, and a few that differ.
#[test]
fn picks_go_on_beside_a_thread_that_is_held_up() {
    let heavy = |light: std::ops::Range<u64>| light.chain([300_000]).collect::<Vec<u64>>();
    for weights in [
        heavy(1_000..1_200),
        heavy(1..3),
        vec![7; 30],
        (1..=60).collect(),
    ] {
        let endless = endless(&weights, 1, 0);
        let mut seen = Seen::none(&weights);
        let mut most: f64 = 0.0;
        for round in 0..300u64 {
            let held = endless.turns.lock();
            for _ in 0..mix(round) % [40, 1_000][(round / 8 % 2) as usize] {
                seen.see(endless.next(0).unwrap());
                most = most.max(seen.most_off());
            }
            drop(held);
            for _ in 0..mix(!round) % 500 {
                seen.see(endless.next(0).unwrap());
                most = most.max(seen.most_off());
            }
        }
        println!("{most} off of {}", weights.len());
        assert!(most <= 6.3, "{most} off");
        // And then all is as it was.
        (0..3_000_000).for_each(|_| seen.see(endless.next(0).unwrap()));
        let turns = endless.turns.lock();
        assert!(turns.owed.is_empty() && turns.accounted == endless.had.sum());
        assert!(seen.most_off() <= 2.0, "{} off", seen.most_off());
    }
}

/// Whoever begins anew before each pick, as a fleet does whose set changes all the time, gives each member its share
/// of 20 000 picks, and whoever picks ten times likewise: within 4.5 standard deviations of a binomial, which chance
/// exceeds once in 150 000 times. The seeds are fixed.
#[test]
fn beginnings_favour_nobody() {
    let one_heavy = vec![65_536, 1_000, 999, 998, 300, 2_000, 30_000];
    for weights in [
        vec![10_000, 5_000, 2_500, 2_501],
        one_heavy,
        (1..=128).collect(),
    ] {
        let total: u64 = weights.iter().sum();
        for each in [1, 10] {
            let mut seen = Seen::none(&weights);
            for start in (0..20_000 / each).map(mix) {
                let endless = endless(&weights, 1, start);
                (0..each).for_each(|_| seen.see(endless.next(0).unwrap()));
            }
            for (&picks, &weight) in seen.picks.iter().zip(&weights) {
                let share = weight as f64 / total as f64;
                let bound = 4.5 * (20_000.0 * share * (1.0 - share)).sqrt();
                let expected = 20_000.0 * share;
                assert!(
                    (picks as f64 - expected).abs() <= bound,
                    "{picks} of {expected}, {weights:?}"
                );
            }
        }
    }
}
