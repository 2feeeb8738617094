//! Errors, one type an operation, each telling its reason.

use std::fmt;

/// Why no endpoint could be picked.
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
    /// Fewer endpoints are eligible than the panic rule asks for, and it is set to
    /// [fail fast](crate::PanicAction::FailFast).
    #[error("too few endpoints are eligible, and the panic rule says to fail")]
    TooFewEligible,
    /// Every endpoint that could be picked is in [`PickOptions::avoid`](crate::PickOptions::avoid).
    #[error("every endpoint that could be picked is to be avoided")]
    AllAvoided,
    /// Every endpoint that could be picked has as many requests in flight as it may, or the fleet has
    /// ([`Limits`](crate::Limits)); or the one has that a policy of yours wants, and no other. Also if some of them are to be
    /// avoided, and the others are at their limit: then a later try may succeed, which it cannot after
    /// [`AllAvoided`](Self::AllAvoided). Without limits: the endpoints tried have as many as can be counted, 16 million or
    /// more each.
    #[error(
        "every endpoint that could be picked, or the fleet, has as many requests in flight as it may"
    )]
    Saturated,
    /// The policy chose none, though there were endpoints it might have chosen.
    #[error("the policy chose no endpoint")]
    Declined,
    /// The endpoint asked for by key is draining.
    #[error("this endpoint is draining")]
    Draining,
    /// No endpoint has the key asked for.
    #[error("no endpoint has this key")]
    UnknownKey,
}

/// A setting that a fleet, or what works on one, cannot be built with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting's value is out of its range.
    #[error("{field} is {value}; it must be {expected}")]
    #[non_exhaustive]
    Setting {
        /// The setting, as it is written in code.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// The initial endpoints or the policy were refused.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl BuildError {
    pub(crate) fn setting(
        field: &'static str,
        value: impl fmt::Debug,
        expected: &'static str,
    ) -> Self {
        Self::Setting {
            field,
            value: format!("{value:?}"),
            expected,
        }
    }
}

/// Why an update was refused. Nothing changed: the old set is in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Two endpoints of one update have the same key.
    #[error("the key {key} occurs twice")]
    #[non_exhaustive]
    DuplicateKey {
        /// The key as its `Debug` shows it, control characters escaped, at most 255 bytes.
        key: String,
    },
    /// More endpoints than a fleet can hold.
    #[error("more than {limit} endpoints")]
    #[non_exhaustive]
    TooManyEndpoints {
        /// How many it can hold.
        limit: usize,
    },
    /// Code of the user's panicked while the update was prepared.
    #[error("the {what} panicked")]
    #[non_exhaustive]
    Panicked {
        /// Which code: `"policy"`, or `"health tracker"` for what makes one.
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

/// A hostile name must not forge log lines or fill them: `Debug` of a user's type may do both.
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

/// Why a [`call`](crate::ClusterExt::call) failed. It reads, and has the source, of the error inside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E> {
    /// No endpoint could be picked; nothing was sent.
    #[error(transparent)]
    Pick(PickError),
    /// The transport's error.
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
