//! Names on the command line: in any case, with groups such as `S5` for S5a and S5b, and with the nearest name as a
//! suggestion if none matches.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

/// Parses a name into the names that it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) known: Vec<String>,
    /// Whether a common beginning of names stands for all of them.
    pub(crate) groups: bool,
}

impl Names {
    fn of(&self, text: &str) -> Vec<String> {
        let chosen = |fits: &dyn Fn(&str) -> bool| {
            let known = self.known.iter().filter(|name| fits(name));
            known.cloned().collect::<Vec<_>>()
        };
        let exact = chosen(&|name| name.eq_ignore_ascii_case(text));
        if exact.is_empty() && self.groups {
            return chosen(&|name| is_beginning(text, name));
        }
        exact
    }

    /// The known name at the fewest edits. A tie goes to the name with the longest common beginning.
    fn nearest(&self, text: &str) -> Option<&String> {
        let text = text.to_ascii_lowercase();
        self.known.iter().min_by_key(|name| {
            let name = name.to_ascii_lowercase();
            let pairs = name.chars().zip(text.chars());
            let alike = pairs.take_while(|(one, other)| one == other).count();
            (edits(&text, &name), std::cmp::Reverse(alike))
        })
    }
}

/// Whether a name begins with this text and goes on with another kind of character: S1 begins S1a, but not S10a.
fn is_beginning(text: &str, name: &str) -> bool {
    let (Some(start), Some(rest)) = (name.get(..text.len()), name.get(text.len()..)) else {
        return false;
    };
    let kind = |character: char| (character.is_ascii_digit(), character.is_ascii_alphabetic());
    let before = start.chars().next_back().map(kind);
    start.eq_ignore_ascii_case(text) && before.is_some() && before != rest.chars().next().map(kind)
}

/// The edit distance: how many characters must be inserted, deleted or replaced to get from one text to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (number, left) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for (at, right) in to.iter().enumerate() {
            let exchanged = diagonal + usize::from(left != *right);
            diagonal = row[at + 1];
            row[at + 1] = exchanged.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[to.len()]
}

impl TypedValueParser for Names {
    type Value = Vec<String>;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, Error> {
        let text = value.to_string_lossy();
        let names = self.of(&text);
        if !names.is_empty() {
            return Ok(names);
        }
        let mut error = Error::new(ErrorKind::InvalidValue).with_cmd(command);
        let mut tell = |kind, value| {
            error.insert(kind, value);
        };
        if let Some(argument) = argument {
            tell(
                ContextKind::InvalidArg,
                ContextValue::String(argument.to_string()),
            );
        }
        tell(
            ContextKind::InvalidValue,
            ContextValue::String(text.into_owned()),
        );
        if let Some(nearest) = self.nearest(&value.to_string_lossy()) {
            tell(
                ContextKind::SuggestedValue,
                ContextValue::String(nearest.clone()),
            );
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let known = [
            "S1a",
            "S1e-1",
            "S1e-10",
            "S10a",
            "S14",
            "S14b",
            "least-connections",
        ];
        Names {
            known: known.map(String::from).to_vec(),
            groups: true,
        }
    }

    #[test]
    fn a_name_is_found_in_any_case() {
        assert_eq!(names().of("s1E-10"), ["S1e-10"]);
        assert_eq!(names().of("S14"), ["S14"]);
        assert!(names().of("S9").is_empty() && names().of("").is_empty());
    }

    #[test]
    fn a_group_is_all_that_begin_with_it() {
        assert_eq!(names().of("s1"), ["S1a", "S1e-1", "S1e-10"]);
        assert_eq!(names().of("S1e"), ["S1e-1", "S1e-10"]);
        assert_eq!(names().of("S10"), ["S10a"]);
        let without = Names {
            groups: false,
            ..names()
        };
        assert!(without.of("S1").is_empty());
    }

    #[test]
    fn the_nearest_is_named() {
        let nearest = |text| names().nearest(text).cloned();
        assert_eq!(nearest("S1e-11").as_deref(), Some("S1e-1"));
        assert_eq!(nearest("s14c").as_deref(), Some("S14"));
        assert_eq!(
            nearest("lest-conections").as_deref(),
            Some("least-connections")
        );
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("same", "same"), 0);
    }
}
