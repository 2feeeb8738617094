//! What all settings have: a setter for each field, and a range for each value.

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
