//! Error types, one per operation; each states the reason.

use std::fmt;

/// The reason why no endpoint could be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// The cluster has no endpoint.
    #[error("the cluster has no endpoints")]
    Empty,
    /// Every endpoint is draining or has weight 0.
    #[error("every endpoint is draining or has weight 0")]
    AllDraining,
    /// No endpoint is eligible: all are ejected or marked down, and the panic rule is off.
    #[error("every endpoint is ejected or marked down, and the panic rule is off")]
    AllEjected,
    /// Fewer endpoints are eligible than the panic rule requires, and its action is to [fail
    /// fast](crate::PanicAction::FailFast).
    #[error("too few endpoints are eligible, and the panic rule says to fail")]
    TooFewEligible,
    /// Every endpoint that could be picked is listed in [`PickOptions::avoid`](crate::PickOptions::avoid).
    #[error("every endpoint that could be picked is to be avoided")]
    AllAvoided,
    /// Every endpoint that could be picked is at its [limit](crate::Limits) of requests in flight, or the fleet is.
    ///
    /// It is also returned if a policy of yours wants only an endpoint that is at its limit, and if some endpoints are
    /// to be avoided and all the others are at their limit. A later try may then succeed, which it cannot after
    /// [`AllAvoided`](Self::AllAvoided). Without limits it means that the endpoints tried have as many requests in
    /// flight as can be counted: 16 million or more each.
    #[error(
        "every endpoint that could be picked, or the fleet, has as many requests in flight as it may"
    )]
    Saturated,
    /// The policy chose no endpoint, although there were endpoints to choose from.
    #[error("the policy chose no endpoint")]
    Declined,
    /// The endpoint requested by key is draining.
    #[error("this endpoint is draining")]
    Draining,
    /// No endpoint has the requested key.
    #[error("no endpoint has this key")]
    UnknownKey,
}

/// Why a fleet, or something that is built on one, could not be built: a setting was out of range or the initial set
/// was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The value of a setting is out of range.
    #[error("{field} is {value}; it must be {expected}")]
    #[non_exhaustive]
    Setting {
        /// The name of the setting, as it is written in code.
        field: &'static str,
        /// The refused value.
        value: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// The initial endpoints, or the policy, were refused.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl BuildError {
    /// Creates a [`Setting`](Self::Setting), for [`LoadBalancer::check`](crate::LoadBalancer::check) of a policy of
    /// yours. The value is shown as its `Debug` prints it.
    ///
    /// ```
    /// use evenkeel::BuildError;
    ///
    /// let error = BuildError::setting("Sticky::factor", 0.5, "at least 1");
    /// assert_eq!(error.to_string(), "Sticky::factor is 0.5; it must be at least 1");
    /// ```
    #[must_use]
    pub fn setting(field: &'static str, value: impl fmt::Debug, expected: &'static str) -> Self {
        Self::Setting {
            field,
            value: format!("{value:?}"),
            expected,
        }
    }
}

/// The reason why an update was refused. Nothing has changed: the old set is in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Two endpoints of one update have the same key.
    #[error("the key {key} occurs twice")]
    #[non_exhaustive]
    DuplicateKey {
        /// The key as its `Debug` prints it, with control characters escaped, at most 255 bytes.
        key: String,
    },
    /// The update has more endpoints than a fleet can hold.
    #[error("more than {limit} endpoints")]
    #[non_exhaustive]
    TooManyEndpoints {
        /// The number of endpoints that a fleet can hold.
        limit: usize,
    },
    /// Code of yours panicked while the update was prepared.
    #[error("the {what} panicked")]
    #[non_exhaustive]
    Panicked {
        /// The code that panicked: `"policy"`, or `"health tracker"` for the function that makes one.
        what: &'static str,
    },
    /// A setting of the policy is out of its range.
    #[error(transparent)]
    Setting(Box<BuildError>),
}

impl UpdateError {
    pub(crate) fn of_setting(error: BuildError) -> Self {
        match error {
            BuildError::Update(error) => error,
            setting @ BuildError::Setting { .. } => Self::Setting(Box::new(setting)),
        }
    }

    pub(crate) fn duplicate(key: &impl fmt::Debug) -> Self {
        Self::DuplicateKey { key: shown(key) }
    }
}

/// Formats a key for an error message. The `Debug` output of a user's type can hold a hostile name, which must neither
/// forge log lines nor fill them.
pub(crate) fn shown(key: &impl fmt::Debug) -> String {
    const LONGEST: usize = 255;
    let mut text = String::new();
    for character in format!("{key:?}").chars() {
        let start = text.len();
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
        if text.len() > LONGEST {
            text.truncate(start);
            break;
        }
    }
    text
}

/// The reason why a [`call`](crate::ClusterExt::call) failed. Its message and its source are those of the error inside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E> {
    /// No endpoint could be picked; nothing was sent.
    #[error(transparent)]
    Pick(PickError),
    /// The transport failed with this error.
    #[error(transparent)]
    Transport(E),
}

#[cfg(all(test, not(evenkeel_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_without_control_characters_and_not_at_length() {
        struct Hostile;
        impl fmt::Debug for Hostile {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a\n\x1b[2J{}", "é".repeat(1 << 20))
            }
        }
        let text = UpdateError::duplicate(&Hostile).to_string();
        assert!(text.bytes().all(|byte| byte >= 0x20), "{text}");
        assert!(text.len() < 300);
        assert!(text.contains(r"a\n\u{1b}[2J"));
    }

    #[test]
    fn a_build_error_names_field_and_value() {
        let error = BuildError::setting("Ejection::window", 0, "at least 100 ms");
        assert_eq!(
            error.to_string(),
            "Ejection::window is 0; it must be at least 100 ms"
        );
    }
}
