//! Parameters: the values that hold, and putting them into strings.
//!
//! `${name}` stands for the value of a parameter and `$$` for one dollar sign, in every string of a
//! recipe, raw ones too. A dollar sign before anything else is itself, so that `$HOME` in a script
//! needs nothing.

use std::collections::BTreeMap;

use super::error::{closest, enumerate};
use super::model::{ParameterKind, ValueBounds};
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

/// A value that a parameter does not take.
pub(super) struct Refused {
    pub message: String,
    pub help: String,
}

impl From<Wrong> for Refused {
    fn from(Wrong { message, help }: Wrong) -> Self {
        let help = help.to_owned();
        Self { message, help }
    }
}

/// A value of a type that has an order, as a number; others are 0.
fn ordered(kind: ParameterKind, text: &str) -> Parsed<i128> {
    match kind {
        ParameterKind::Size => value::size(text).map(Into::into),
        ParameterKind::Integer => value::integer(text).map(Into::into),
        ParameterKind::Port => value::port(text).map(Into::into),
        ParameterKind::Boolean => value::boolean(text).map(|_| 0),
        ParameterKind::String => Ok(0),
    }
}

/// Whether a value is one that a parameter takes.
pub(super) fn check(kind: ParameterKind, bounds: &ValueBounds, text: &str) -> Result<(), Refused> {
    let number = ordered(kind, text)?;
    let limit = |bound: &Option<String>| {
        let bound = bound.as_deref()?;
        Some((bound.to_owned(), ordered(kind, bound).ok()?))
    };
    let refuse = |message: &str, help: String| {
        let message = format!("{text:?} is {message}");
        Err(Refused { message, help })
    };
    match (limit(&bounds.min), limit(&bounds.max)) {
        (Some((least, bound)), _) if number < bound => {
            return refuse(
                &format!("less than {least}"),
                format!("the least value is {least}"),
            );
        }
        (_, Some((most, bound))) if number > bound => {
            return refuse(
                &format!("more than {most}"),
                format!("the greatest value is {most}"),
            );
        }
        _ => {}
    }
    if let Some(pattern) = &bounds.pattern
        && !value::whole(pattern).is_ok_and(|pattern| pattern.is_match(text))
    {
        return refuse(
            "not of the form that the parameter takes",
            format!("it must match the regular expression {pattern}"),
        );
    }
    let choices: Vec<&str> = bounds.choices.iter().map(String::as_str).collect();
    if choices.is_empty() || choices.contains(&text) {
        return Ok(());
    }
    let help = match closest(text, choices.iter().copied()) {
        Some(choice) => format!("did you mean \"{choice}\"?"),
        None => format!("the choices are {}", enumerate(&choices)),
    };
    refuse("not one of the choices", help)
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
