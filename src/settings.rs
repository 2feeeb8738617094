//! What all settings have: a setter for each field, and a range for each value.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::BuildError;

/// Defines a setter for each of these fields. An expression after an arrow turns the argument into the field's value.
macro_rules! setters {
    ($($field:ident: $type:ty $(=> $value:expr)?,)*) => { $(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
        #[must_use]
        pub const fn $field(mut self, $field: $type) -> Self {
            self.$field = $crate::settings::setters!(@value $field $($value)?);
            self
        }
    )* };
    (@value $field:ident) => { $field };
    (@value $field:ident $value:expr) => { $value };
}

pub(crate) use setters;

pub(crate) const MILLI: Duration = Duration::from_millis(1);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Refuses the first of these fields, with their values, that is not in `range`, which `expected` tells in words. A
/// value that is not a number is in no range.
pub(crate) fn within<T: PartialOrd + fmt::Debug>(
    range: RangeInclusive<T>,
    expected: &'static str,
    fields: impl IntoIterator<Item = (&'static str, T)>,
) -> Result<(), BuildError> {
    let mut fields = fields.into_iter();
    match fields.find(|(_, value)| !range.contains(value)) {
        Some((field, value)) => Err(BuildError::setting(field, value, expected)),
        None => Ok(()),
    }
}
