//! What the nodes of one file are read with.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use miette::SourceSpan;

use super::error::{Problem, closest};
use super::parameter::{SubstitutionError, Values, substitute};
use super::source::{Source, Span};

/// What the nodes of one file are read with.
#[derive(Clone)]
pub(super) struct Scope {
    /// The file.
    pub source: Source,
    /// Its directory; `None` for a built-in recipe.
    pub directory: Option<PathBuf>,
    /// The parameters that hold in it; `None` where strings are taken as they are.
    pub values: Option<Rc<Values>>,
    /// Where mistakes go.
    pub problems: Rc<RefCell<Vec<Problem>>>,
}

impl Scope {
    /// A place in this file.
    pub(super) fn span(&self, range: SourceSpan) -> Span {
        Span {
            source: self.source.clone(),
            range,
        }
    }

    pub(super) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Puts parameters into a string; reports and gives `None` when that fails.
    pub(super) fn substitute(&self, text: &str, range: SourceSpan) -> Option<(String, bool)> {
        let Some(values) = &self.values else {
            return Some((text.to_owned(), false));
        };
        let error = match substitute(text, values) {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        let part = |needle: &str| {
            let start = range.offset();
            let found = self.source.inner()[start..start + range.len()].find(needle);
            self.span(found.map_or(range, |at| (start + at, needle.len()).into()))
        };
        match error {
            SubstitutionError::NoValue => {}
            SubstitutionError::Open => self.report(
                Problem::new(
                    &part("${"),
                    "\"${\" without \"}\"",
                    "the name of a parameter has no end",
                )
                .with_help("write ${name} for a parameter, or $${ for the two characters"),
            ),
            SubstitutionError::Unknown(name) => {
                let names = values.keys().map(String::as_str);
                let help = match closest(&name, names) {
                    Some(other) => format!("did you mean ${{{other}}}?"),
                    None => format!(
                        "declare it in the recipe node: param \"{name}\"; for the characters \
                         themselves, as in a script, write $${{{name}}}"
                    ),
                };
                self.report(
                    Problem::new(
                        &part(&format!("${{{name}}}")),
                        format!("there is no parameter \"{name}\""),
                        "unknown parameter",
                    )
                    .with_help(help),
                );
            }
        }
        None
    }
}
