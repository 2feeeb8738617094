//! For how many rounds waiting counts, by how often endpoints are tried.

/// Waiting counts for as many rounds as go by in this time, in seconds: the more often endpoints are tried, the less is
/// lost by one try.
const WAITING: f32 = 1.5;

/// It counts for at least this many rounds, which keeps equal endpoints in turn.
const FEWEST: f32 = 2.0;

/// It counts for at most this many rounds.
const MOST: f32 = 16.0;

/// It counts for at least this divided by the requests per second of an endpoint, in rounds. Where requests are far
/// apart, estimates are old, and taking turns loses nothing.
const SELDOM: f32 = 2.0;

/// It counts for no more than this divided by the requests per second of an endpoint, in rounds. The higher that rate
/// is, the more answers an estimate is made of, and the less of a difference between two endpoints is noise.
const SURE: f32 = 200.0;

/// Where requests are frequent it still counts for this many rounds, as an endpoint that was slow may not be slow any
/// more.
const SURELY: f32 = 6.0;

/// For how many rounds waiting counts, where an endpoint gets `pace` requests a second from this fleet.
#[inline]
pub(super) fn max_waited_rounds(pace: f32) -> f32 {
    // The pace is 0 until it is known. Waiting then counts for `MOST` rounds, as nothing tells endpoints apart.
    let enough = (SURE / pace).max(SURELY);
    (pace * WAITING)
        .max(SELDOM / pace)
        .clamp(FEWEST, MOST)
        .min(enough)
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    /// Waiting counts most where an endpoint is tried often enough for a try to be cheap, and too seldom for its
    /// estimate to be sure.
    #[test]
    fn how_long_waiting_counts_depends_on_the_pace() {
        let paces = [0.0, 0.4, 1.0, 4.0, 12.0, 25.0, 50.0, 1e6, f32::MAX];
        let rounds = [16.0, 5.0, 2.0, 6.0, 16.0, 8.0, 6.0, 6.0, 6.0];
        assert_eq!(paces.map(max_waited_rounds), rounds);
    }
}
