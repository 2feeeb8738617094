//! What a request is taken to cost at an endpoint, by what is known of it: what [`Adaptive`](crate::Adaptive) compares. Pure.

/// How many times an endpoint's cost a request to it is worth for its errors, with so many failed of so many, where a
/// share `usual` fails everywhere: those that are sent again or lost cost more than the slow ones.
pub(crate) fn penalty(faults: u64, total: u64, usual: f64) -> f32 {
    /// The fleet's share stands for so many requests, so that the first failure of few does not decide.
    const PRIOR: f64 = 4.0;
    let share = (faults as f64 + PRIOR * usual) / (total as f64 + PRIOR);
    cost_of(share - usual)
}

/// How many times its cost a request counts for where so large a share is lost, beyond what is lost elsewhere.
pub(crate) fn cost_of(excess: f64) -> f32 {
    let excess = excess.clamp(0.0, 0.99);
    (1.0 / ((1.0 - excess) * (1.0 - excess)) + 20.0 * excess) as f32
}

/// What a request that takes so long is taken to cost, where so much is usual; both in nanoseconds. With x = latency / usual, in units of what
/// is usual: 1 + min(8 (x - 1)^2, 3 x) above 1, and x - min((1 - x)^2 / 2, 0.03 x) below.
///
/// Up to an eighth more than usual is noise of estimates, and counts for less than itself: else all clients avoid the same few
/// for it, though each has as much to do. Beyond, it counts for more. If costs were in proportion to latency, what is in flight at an endpoint would
/// go by 1 / latency and its rate by the square of that; where a part of each latency is the same everywhere (a network), or a weight
/// promises too much, that moves too little load away: 27 ms beside 22 leave two thirds of a share where a server can do 0.4, and its
/// queue grows until it looks bad enough. Far beyond, it is in proportion again, so that an endpoint that is well again is not avoided for long.
///
/// One quicker than usual gains little by it: where there is little to do, those that are so by chance would get all.
pub(crate) fn cost_of_latency(latency: f32, usual: f32) -> f32 {
    const SLOWER: f32 = 8.0;
    const SLOWEST: f32 = 3.0;
    const QUICKER: f32 = 0.5;
    const QUICKEST: f32 = 0.03;
    let usual = usual.max(1.0);
    let off = latency / usual - 1.0;
    let square = off * off * usual;
    if off > 0.0 {
        usual + (SLOWER * square).min(SLOWEST * latency)
    } else {
        latency - (QUICKER * square).min(QUICKEST * latency)
    }
}

/// How many times its cost a request to an endpoint is worth that has failed one, while checks show how it is: few are in need
/// of it before they have. Less where a share `usual` fails everywhere, so that the failure says little, and so many are in doubt at a time
/// that the others would have too much to do.
pub(crate) fn doubt(usual: f64) -> f32 {
    /// Where as many fail as this, the failure is as likely the endpoint's own as not.
    const OWN: f64 = 0.05;
    (1.0 + 9.0 * OWN / (OWN + usual)) as f32
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_cost_and_no_more_than_others_have_cost_nothing() {
        assert_eq!(penalty(0, 100, 0.0), 1.0);
        assert!(penalty(2, 100, 0.02) < 1.01);
        assert!(penalty(1, 100, 0.0) < 1.3);
        assert!(penalty(30, 100, 0.0) > 7.0);
        assert!(penalty(100, 100, 0.0) > 100.0);
        // Where half fail, the first of an endpoint that has had no other: 3 in 5 with what is usual.
        assert!((penalty(1, 1, 0.5) - cost_of(0.1)).abs() < 1e-5 && cost_of(0.1) > 3.0);
        assert_eq!(doubt(0.0), 10.0);
        assert!(doubt(0.1) < 4.5 && doubt(1.0) > 1.0);
    }

    #[test]
    fn what_is_slower_costs_more_than_in_proportion() {
        const MS: f32 = 1e6;
        let costs = [
            // As usual, noise, and what is slower.
            (20.0, 20.0),
            (21.0, 20.4),
            (22.5, 22.5),
            (25.0, 30.0),
            (30.0, 60.0),
            (40.0, 140.0),
            (200.0, 620.0),
            // What is quicker.
            (19.0, 18.975),
            (10.0, 9.7),
            (0.0, 0.0),
        ];
        for (latency, cost) in costs {
            let is = cost_of_latency(latency * MS, 20.0 * MS) / MS;
            assert!(
                (is - cost).abs() < 0.001 * cost + 1e-6,
                "{latency}: {is}, not {cost}"
            );
        }
    }

    proptest! {
        #[test]
        fn who_is_slower_never_costs_less(one in 0.0..3e11f32, other in 0.0..3e11f32, usual in 0.0..3e11f32) {
            let (quick, slow) = (one.min(other), one.max(other));
            let (low, high) = (cost_of_latency(quick, usual), cost_of_latency(slow, usual));
            // By rounding, of a number of 24 bits.
            prop_assert!(low <= high * (1.0 + 1e-6), "{low} {high}");
            prop_assert!(low >= 0.0 && high.is_finite());
        }

        #[test]
        fn no_count_makes_a_penalty_less_than_one(faults: u64, total: u64, usual in 0.0..1.0f64) {
            let penalty = penalty(faults >> 8, total >> 8, usual);
            prop_assert!(penalty >= 1.0 && penalty.is_finite());
        }
    }
}
