//! A log-linear histogram of latencies.

/// A log-linear histogram of nanoseconds with 2^BITS buckets ("steps") per octave. With 7 bits, a percentile is within
/// 0.8 %.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram<const BITS: u32> {
    counts: Vec<u32>,
    total: u64,
    sum: f64,
    most: u64,
}

/// The step of a value. Below 2^`bits` each value has its own step; above, each octave has 2^`bits` steps.
const fn step_of(bits: u32, value: u64) -> usize {
    let octave = (63 - (value | (1 << bits)).leading_zeros()) - bits;
    (((octave as u64) << bits) + (value >> octave)) as usize
}

/// The smallest value of a step.
const fn value_of(bits: u32, step: usize) -> u64 {
    let step = step as u64;
    let octave = (step >> bits).saturating_sub(1);
    (step - (octave << bits)) << octave
}

impl<const BITS: u32> Histogram<BITS> {
    pub(super) fn count(&mut self, value: u64) {
        let step = step_of(BITS, value);
        if step >= self.counts.len() {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.total += 1;
        self.sum += value as f64;
        self.most = self.most.max(value);
    }

    pub(super) fn add(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.most = self.most.max(other.most);
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.total.max(1) as f64
    }

    /// The quantile `share` in nanoseconds: the middle of the step that contains it, at most the largest counted value.
    /// 0 if the histogram is empty.
    pub(super) fn percentile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        for (step, &count) in self.counts.iter().enumerate() {
            below += u64::from(count);
            if below >= rank {
                let (least, next) = (value_of(BITS, step), value_of(BITS, step + 1));
                return (least + (next - least - 1) / 2).min(self.most);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compares with the exact quantile of the sorted list.
        #[test]
        fn a_percentile_is_within_a_step(
            mut values in prop::collection::vec(0u64..100_000_000_000, 1..300),
            share in 0.01f64..1.0,
        ) {
            let mut histogram = Histogram::<7>::default();
            values.iter().for_each(|&value| histogram.count(value));
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64;
            let seen = histogram.percentile(share) as f64;
            prop_assert!((seen - exact).abs() <= exact * 0.008, "{seen} for {exact}");
        }

        #[test]
        fn each_value_lies_in_its_step(value in 0u64..u64::MAX / 2) {
            let step = step_of(5, value);
            prop_assert!(value_of(5, step) <= value && value < value_of(5, step + 1));
        }
    }
}
