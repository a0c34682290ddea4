//! What the nodes of one file are read with.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use miette::SourceSpan;

use super::error::{Problem, closest};
use super::parameter::{SubstitutionError, Values, substitute};
use super::source::{Source, Span};

/// What the nodes of one file are read with.
#[derive(Clone)]
pub(super) struct Scope {
    pub source: Source,
    /// Its directory; `None` for a built-in recipe.
    pub directory: Option<PathBuf>,
    /// The directory that it must not read outside of.
    pub confines: Option<PathBuf>,
    /// The parameters that hold in it; `None` where strings are taken as they are.
    pub values: Option<Rc<Values>>,
    /// Where mistakes go.
    pub problems: Rc<RefCell<Vec<Problem>>>,
    /// Parameters that nobody gave a value, with what to say when one is needed.
    pub unset: Rc<BTreeMap<String, Problem>>,
    /// What was said of those that were needed.
    pub asked: Rc<RefCell<Vec<Problem>>>,
    /// Bytes that parameters may still make of strings, in all files together: a value may have
    /// another in it several times, and that another.
    pub room: Rc<Cell<u64>>,
}

/// What is wrong about a path that lies outside of `confines`.
pub(super) fn outside(confines: Option<&Path>, path: &Path, span: &Span) -> Option<Problem> {
    // There are no links in the package of a template: the text of a path tells where it leads.
    let inside = confines.is_none_or(|root| path.starts_with(root));
    (!inside).then(|| {
        let message = format!("{} is outside of the template", path.display());
        Problem::new(span, message, "a template reads its own files only")
            .with_help("whoever publishes the template must put the file into its package")
    })
}

impl Scope {
    /// Whether it may read a file; when it may not, that is reported.
    pub(super) fn may_read(&self, path: &Path, span: &Span) -> bool {
        let outside = outside(self.confines.as_deref(), path, span);
        let may = outside.is_none();
        self.problems.borrow_mut().extend(outside);
        may
    }

    /// The same of an address. No address is one of a file of a package: nobody knows where that
    /// will lie.
    pub(super) fn may_fetch(&self, url: &str, span: &Span) -> bool {
        !url.starts_with("file:") || self.may_read(Path::new(url), span)
    }

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
        let error = match substitute(text, values, self.room.get()) {
            Ok((done, substituted)) => {
                if substituted {
                    self.room
                        .set(self.room.get().saturating_sub(done.len() as u64));
                }
                return Some((done, substituted));
            }
            Err(error) => error,
        };
        let part = |needle: &str| {
            let start = range.offset();
            let found = self.source.inner()[start..start + range.len()].find(needle);
            self.span(found.map_or(range, |at| (start + at, needle.len()).into()))
        };
        match error {
            // One whose value is wrong was reported where it is declared.
            SubstitutionError::NoValue(name) => {
                self.asked
                    .borrow_mut()
                    .extend(self.unset.get(&name).cloned());
            }
            SubstitutionError::TooLong => {
                // Once is enough.
                if self.room.take() > 0 {
                    let problem = Problem::new(
                        &self.span(range),
                        "with its parameters, the text of the recipe is too long",
                        "too long here",
                    );
                    let help = "use shorter values, or raise the limit in the configuration (docs/config.md): limits \
                                recipe-size=\"8M\", of which 16 times as much may come of parameters";
                    self.report(problem.with_help(help));
                }
            }
            SubstitutionError::Open => self.report(
                Problem::new(
                    &part("${"),
                    "\"${\" without \"}\"",
                    "the name of a parameter does not end",
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
                        format!("no parameter \"{name}\" found"),
                        "unknown parameter",
                    )
                    .with_help(help),
                );
            }
        }
        None
    }
}
