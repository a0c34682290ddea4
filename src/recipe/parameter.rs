//! Parameters: the values that hold, and putting them into strings.
//!
//! `${name}` stands for the value of a parameter and `$$` for one dollar sign, in every string of a
//! recipe, raw ones too. A dollar sign before anything else is itself, so that `$HOME` in a script
//! needs nothing.

use std::collections::BTreeMap;

use super::model::ParameterKind;
use super::value::{self, Parsed, Wrong};

/// The parameters of a file and of what it includes. One that has no value is `None`.
pub(super) type Values = BTreeMap<String, Option<String>>;

/// A string that parameters cannot be put into.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SubstitutionError {
    /// `${name}` of no parameter.
    Unknown(String),
    /// The parameter of this name has no value.
    NoValue(String),
    /// `${` without `}`.
    Open,
    /// It would be longer than there is room.
    TooLong,
}

/// The text with parameters put in, and whether there was one. With one, it has at most `room`
/// bytes.
pub(super) fn substitute(
    text: &str,
    values: &Values,
    room: u64,
) -> Result<(String, bool), SubstitutionError> {
    let mut result = String::with_capacity(text.len());
    let mut replaced = false;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or(SubstitutionError::Open)?;
            let name = &after[..end];
            match values.get(name) {
                Some(Some(value)) => result.push_str(value),
                Some(None) => return Err(SubstitutionError::NoValue(name.to_owned())),
                None => return Err(SubstitutionError::Unknown(name.to_owned())),
            }
            replaced = true;
            if result.len() as u64 > room {
                return Err(SubstitutionError::TooLong);
            }
            rest = &after[end + 1..];
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    Ok((result, replaced))
}

/// Whether a value is one that a parameter takes.
pub(super) fn check(kind: ParameterKind, choices: &[String], text: &str) -> Parsed<()> {
    match kind {
        ParameterKind::String => {}
        ParameterKind::Size => drop(value::size(text)?),
        ParameterKind::Integer => drop(value::integer(text)?),
        ParameterKind::Boolean => drop(value::boolean(text)?),
        ParameterKind::Port => drop(value::port(text)?),
    }
    if choices.is_empty() || choices.iter().any(|choice| choice == text) {
        return Ok(());
    }
    Err(Wrong {
        message: format!("{text:?} is not one of the choices"),
        help: "use one of the choices, or add it to them",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        [
            ("a".to_owned(), Some("1".to_owned())),
            ("none".to_owned(), None),
        ]
        .into()
    }

    fn done(text: &str) -> String {
        substitute(text, &values(), 100).unwrap().0
    }

    #[test]
    fn dollars() {
        assert_eq!(done("x${a}y${a}"), "x1y1");
        assert_eq!(done("$HOME $1 $(id) $"), "$HOME $1 $(id) $");
        assert_eq!(done("$${a} $$$$ $$x"), "${a} $$ $x");
        assert_eq!(done("é${a}é"), "é1é");
        assert!(!substitute("$$", &values(), 0).unwrap().1);
    }

    #[test]
    fn mistakes() {
        let fail = |text| substitute(text, &values(), 100).unwrap_err();
        assert_eq!(fail("${b}"), SubstitutionError::Unknown("b".into()));
        assert_eq!(
            fail("${none}"),
            SubstitutionError::NoValue("none".to_owned())
        );
        assert_eq!(fail("${a"), SubstitutionError::Open);
    }
}
