//! Axes with round numbers.

/// The range of a vertical axis, and its gridlines.
#[derive(Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<f64>,
}

impl Axis {
    /// An axis from 0, in at most six steps of 1, 2 or 5 times a power of ten.
    pub(crate) fn linear(highest: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let power = 10_f64.powf((highest / 6.0).log10().floor());
        let fits = |step: &f64| highest <= 6.0 * step * 1.000_001;
        let step = [1.0, 2.0, 5.0]
            .map(|digit| digit * power)
            .into_iter()
            .find(fits);
        let step = step.unwrap_or(10.0 * power);
        let steps = (highest / step - 1e-9).ceil();
        let ticks = (0..=steps as u32).map(|number| f64::from(number) * step);
        Self {
            low: 0.0,
            high: steps * step,
            ticks: ticks.collect(),
        }
    }

    /// An axis with gridlines at 1, 2 and 5 times the powers of ten, or only at the powers if there would be more than
    /// eight.
    pub(crate) fn logarithmic(lowest: f64, highest: f64) -> Self {
        let powers = (lowest.log10().floor() as i32 - 1)..=(highest.log10().ceil() as i32);
        let marks =
            powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let marks: Vec<f64> = marks.collect();
        let low = marks.iter().rfind(|mark| **mark < lowest * 0.999);
        let high = marks.iter().find(|mark| **mark >= highest * 0.999);
        let low = low.copied().unwrap_or(lowest);
        let high = high.copied().unwrap_or(highest);
        let inside = marks.into_iter().filter(|mark| (low..=high).contains(mark));
        let mut ticks: Vec<f64> = inside.collect();
        if ticks.len() > 8 {
            ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-9);
        }
        Self { low, high, ticks }
    }
}

pub(crate) fn tick_text(tick: f64) -> String {
    // Rounded, so that the error in 0.1 + 0.2 is not shown.
    let rounded = (tick * 1e6).round() / 1e6;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_axes_begin_at_zero_in_round_steps() {
        assert_eq!(
            Axis::linear(60.0).ticks,
            [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
        );
        assert_eq!(Axis::linear(25.1).ticks.last(), Some(&30.0));
        assert_eq!(Axis::linear(7.1).ticks, [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(Axis::linear(0.0).high, 1.0);
    }

    #[test]
    fn logarithmic_axes_hold_what_is_drawn() {
        let axis = Axis::logarithmic(21.0, 480.0);
        assert_eq!((axis.low, axis.high), (20.0, 500.0));
        assert_eq!(axis.ticks, [20.0, 50.0, 100.0, 200.0, 500.0]);
        let long = Axis::logarithmic(0.3, 1000.0);
        assert_eq!((long.low, long.high), (0.2, 1000.0));
        assert_eq!(long.ticks.len(), 4);
        assert_eq!(Axis::logarithmic(10.0, 10.0).ticks, [5.0, 10.0]);
    }
}
