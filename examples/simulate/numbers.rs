//! Numbers formatted for reading.

/// Milliseconds, with two decimals below 10 and none from there on.
pub(crate) fn milliseconds(value: f64) -> String {
    // A value that would be rounded to 10.00 is shown as 10.
    if value < 9.995 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

/// A share in percent, with two significant digits and without the percent sign.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 1e-9 {
        return "0".into();
    }
    // The exponent is taken after rounding, so that 9.96 becomes 10 and not 10.0.
    let digits = format!("{percent:.1e}");
    let exponent = digits
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok());
    let exponent: i32 = exponent.unwrap_or(0);
    let decimals = usize::try_from(1 - exponent).unwrap_or(0);
    let text = format!("{percent:.decimals$}");
    // Trailing zeros are significant too, but are only kept from 1 % on, where they align columns.
    if percent < 1.0 {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

/// Seconds with one decimal, or "never".
pub(crate) fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "never".into(), |value| format!("{value:.1}"))
}

/// A count that is a mean over seeds: one decimal below 10, none from there on.
pub(crate) fn count(value: f64) -> String {
    if value >= 9.95 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_sensible_digits() {
        let shown = [0.3871, 9.994, 9.996, 10.4, 999.6].map(milliseconds);
        assert_eq!(shown, ["0.39", "9.99", "10", "10", "1000"]);
    }

    #[test]
    fn percents_have_two_digits_that_count() {
        let shown = [0.0, 1.0, 0.25, 0.0999, 0.02, 0.0123, 0.0021, 0.000_06].map(percent);
        assert_eq!(
            shown,
            ["0", "100", "25", "10", "2.0", "1.2", "0.21", "0.006"]
        );
    }

    #[test]
    fn counts_and_seconds_are_short() {
        assert_eq!(
            [0.0, 2.5, 9.97, 120.5].map(count),
            ["0", "2.5", "10", "120"]
        );
        assert_eq!(
            [Some(0.0), Some(1.25), None].map(seconds),
            ["0.0", "1.2", "never"]
        );
    }
}
