//! The estimated cost of a request at an endpoint, which [`Adaptive`](crate::Adaptive) compares. Pure functions.

use super::suspicion::Evidence;

/// The factor by which errors multiply the cost of a request, for an endpoint that failed `faults` of its `total` last
/// requests, of these the last `row` in a row, while a share `usual` fails everywhere. Requests that fail are sent
/// again or lost, which costs more than slowness.
///
/// A row longer than by chance counts by itself, and as a share of what does not fail elsewhere. Where the cap keeps an
/// endpoint in that has just died, the window shows its successes for seconds. If it fails at once, it has nothing in
/// flight and gets most requests; most requests then fail, and by what fails everywhere it would look like the others.
pub(crate) fn error_penalty(faults: u64, total: u64, row: u64, usual: f64) -> f32 {
    /// The prior: the fleet's share counts as this many requests, so that the first failure of a few does not decide.
    const PRIOR: f64 = 4.0;
    let share = (faults as f64 + PRIOR * usual) / (total as f64 + PRIOR);
    let excess = (share - usual).max(0.0);
    // The nearer it is to all that succeeds elsewhere, the more it counts as a share of that. Where less is certain, it
    // hardly does.
    let of_rest = excess / (1.0 - usual).max(0.1);
    let by_share = excess + (of_rest - excess) * of_rest.powi(3);
    let beyond_chance = (row as f64 - row_by_chance(usual)).max(0.0);
    error_factor(by_share.max(beyond_chance / (beyond_chance + PRIOR)))
}

/// How many requests in a row fail once in a thousand times where this share of all fails; at least four. Where more
/// than `MOST` fail, it may be for the endpoint's own failures.
fn row_by_chance(usual: f64) -> f64 {
    const LEAST: f64 = 4.0;
    const MOST: f64 = 0.8;
    (1e-3f64.ln() / usual.clamp(0.0, MOST).ln()).max(LEAST)
}

/// The factor for an endpoint that loses this share of its requests beyond what is lost elsewhere.
pub(crate) fn error_factor(excess: f64) -> f32 {
    let excess = excess.clamp(0.0, 0.99);
    (1.0 / ((1.0 - excess) * (1.0 - excess)) + 20.0 * excess) as f32
}

/// The cost of a request that takes `latency` where `usual` is usual, both in nanoseconds. `noise` is the standard
/// deviation that estimates have by chance, as a part of them; 0 if it is to be disregarded.
///
/// With x = latency / usual, in units of `usual`: 1 + min((x - 1)^2 / s, 3 x) above 1, and
/// x - min((1 - x)^2 / 2, 0.03 x) below. s is an eighth, or four times the noise if that is more.
///
/// Up to s above usual is noise of the estimates and counts for less than in proportion. Otherwise all clients would
/// avoid the same few endpoints for it, though each has as much to do. Four deviations are many:
/// leaving an endpoint idle while others queue costs more than sending too much to a slow one, which its requests in
/// flight soon show. Beyond s, latency counts for more than in proportion. If cost were proportional to latency, the
/// number in flight at an endpoint would follow 1 / latency and its rate 1 / latency^2. That moves too little load away
/// where a part of each latency is the same everywhere (the network), or where a weight promises too much. For example,
/// at 27 ms beside 22 ms an endpoint would keep two thirds of its share where its server can do 0.4, and its queue
/// would grow until it looks bad enough. Far beyond, cost is linear in latency again, so that a recovered endpoint is
/// not avoided for long.
///
/// An endpoint faster than usual gains little. Otherwise those that are faster by chance would get all requests when
/// there is little to do.
pub(crate) fn cost_of_latency(latency: f32, usual: f32, noise: f32) -> f32 {
    const NOISE: f32 = 0.125;
    const DEVIATIONS: f32 = 4.0;
    const SLOWEST: f32 = 3.0;
    const QUICKER: f32 = 0.5;
    const QUICKEST: f32 = 0.03;
    let usual = usual.max(1.0);
    let off = latency / usual - 1.0;
    let square = off * off * usual;
    let slower = 1.0 / NOISE.max(DEVIATIONS * noise);
    if off > 0.0 {
        usual + (slower * square).min(SLOWEST * latency)
    } else {
        latency - (QUICKER * square).min(QUICKEST * latency)
    }
}

/// The factor on the cost of an endpoint with this much evidence against it, while out-of-band checks are deciding
/// about it. The fleet can usually do without the endpoint until they have.
///
/// The factor is in full from the evidence of one failure on where none fails elsewhere. It is lower where a share
/// `usual` fails everywhere: a failure then says little, and so many endpoints are in doubt at once that the others
/// would have too much to do. And it is in proportion to the evidence, as where many are in doubt no check decides. If
/// any evidence counted in full, the few endpoints without any would get all requests, time out for that, and be in
/// doubt next: the fleet would go on failing after what caused it is over.
pub(crate) fn suspect_factor(usual: f64, suspicion: f32) -> f32 {
    /// The share of failures at which one failure is as likely the endpoint's own as not.
    const OWN: f64 = 0.05;
    let certain = Evidence::against(0.0).fault;
    1.0 + 9.0 * (OWN / (OWN + usual)) as f32 * (suspicion / certain).min(1.0)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_raise_the_cost_only_beyond_what_fails_elsewhere() {
        assert_eq!(error_penalty(0, 100, 0, 0.0), 1.0);
        assert!(error_penalty(2, 100, 2, 0.02) < 1.01);
        assert!(error_penalty(1, 100, 1, 0.0) < 1.3);
        assert!(error_penalty(30, 100, 4, 0.0) > 7.0);
        assert!(error_penalty(100, 100, 0, 0.0) > 100.0);
        // Where half fail, the first failure of an endpoint without other requests: 3 in 5, with the prior. That is a
        // tenth more, and a fifth of what succeeds elsewhere, which counts little.
        let first = error_penalty(1, 1, 1, 0.5);
        assert!((first - error_factor(0.1 + 0.1 * 0.008)).abs() < 1e-5 && first > 3.0);
        // It fails everything where four in five fail and the others succeed.
        assert!(error_penalty(500, 500, 0, 0.8) > 500.0 && error_penalty(400, 500, 0, 0.8) < 1.01);
    }

    #[test]
    fn a_suspect_costs_more_the_more_speaks_against_it() {
        let first = |usual: f32| suspect_factor(usual.into(), Evidence::against(usual).fault);
        assert_eq!(first(0.0), 10.0);
        assert!(first(0.01) > 5.0 && first(0.1) < 2.0 && first(1.0) == 1.0);
        assert_eq!(suspect_factor(0.0, 100.0), 10.0);
        assert!(suspect_factor(0.1, 100.0) < 4.5 && suspect_factor(1.0, 100.0) > 1.0);
    }

    #[test]
    fn a_row_of_failures_counts_as_far_as_it_is_no_chance() {
        let of_row = |row, usual| error_penalty(row, 100_000, row, usual);
        assert!(of_row(4, 0.0) < 1.01 && of_row(8, 0.0) > 10.0 && of_row(100, 0.0) > 500.0);
        // Where four in five fail, thirty in a row are one in a thousand.
        assert!(of_row(30, 0.8) < 1.01 && of_row(130, 0.8) > 500.0);
        assert!(of_row(30, 1.0) < 1.01);
    }

    #[test]
    fn a_slower_endpoint_costs_more_than_in_proportion() {
        const MS: f32 = 1e6;
        let costs = [
            // As usual, within the noise, and slower.
            (20.0, 20.0),
            (21.0, 20.4),
            (22.5, 22.5),
            (25.0, 30.0),
            (30.0, 60.0),
            (40.0, 140.0),
            (200.0, 620.0),
            // Faster than usual.
            (19.0, 18.975),
            (10.0, 9.7),
            (0.0, 0.0),
        ];
        for (latency, cost) in costs {
            let is = cost_of_latency(latency * MS, 20.0 * MS, 0.0) / MS;
            assert!(
                (is - cost).abs() < 0.001 * cost + 1e-6,
                "{latency}: {is}, not {cost}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_slower_endpoint_never_costs_less(one in 0.0..3e11f32, other in 0.0..3e11f32, usual in 0.0..3e11f32, noise in 0.0..1e3f32) {
            let (quick, slow) = (one.min(other), one.max(other));
            let (low, high) = (cost_of_latency(quick, usual, noise), cost_of_latency(slow, usual, noise));
            // The tolerance covers the rounding of a 24-bit mantissa.
            prop_assert!(low <= high * (1.0 + 1e-6), "{low} {high}");
            prop_assert!(low >= 0.0 && high.is_finite());
        }

        #[test]
        fn no_count_makes_a_penalty_less_than_one(faults: u64, total: u64, row: u64, usual in 0.0..=1.0f64) {
            let penalty = error_penalty(faults >> 8, total >> 8, row >> 8, usual);
            prop_assert!(penalty >= 1.0 && penalty.is_finite());
        }
    }
}
