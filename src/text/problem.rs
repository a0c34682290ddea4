//! Mistakes in texts that people write, shown with the line underlined.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, SourceCode, SourceSpan};

use super::source::Span;

/// One mistake in a text. Boxed: results have it as their error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    message: String,
    span: Option<Span>,
    label: String,
    /// Another place in the same text that it is about.
    other: Option<(Span, String)>,
    help: Option<String>,
}

impl Problem {
    /// A mistake at a place; `label` stands under the line.
    pub fn new(span: &Span, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            message: message.into(),
            span: Some(span.shown()),
            label: label.into(),
            other: None,
            help: None,
        }))
    }

    /// A mistake that is not in a file, such as one in `--set`.
    pub fn without_place(message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            message: message.into(),
            span: None,
            label: String::new(),
            other: None,
            help: None,
        }))
    }

    /// Underlines another place as well, when it is in the same text.
    #[must_use]
    pub fn with_other(mut self, span: &Span, label: impl Into<String>) -> Self {
        let same = |own: &Span| own.source.name() == span.source.name();
        if self.0.span.as_ref().is_some_and(same) {
            self.0.other = Some((span.clone(), label.into()));
        }
        self
    }

    /// The bytes that are underlined.
    pub(crate) fn range(&self) -> Option<SourceSpan> {
        self.0.span.as_ref().map(|span| span.range)
    }

    /// Where it is, as `FILE:LINE`.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        let span = self.0.span.as_ref()?;
        let before = span.source.inner().get(..span.range.offset())?;
        let line = before.matches('\n').count() + 1;
        Some(format!("{}:{line}", span.source.name()))
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        let span = self.0.span.as_ref();
        span.map(|span| &*span.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.0.span.as_ref()?;
        let label = LabeledSpan::new_primary_with_span(Some(self.0.label.clone()), span.range);
        let other = self.0.other.iter();
        let other =
            other.map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), span.range));
        Some(Box::new(std::iter::once(label).chain(other)))
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        let help = self.0.help.as_ref();
        help.map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
}

/// A text that is wrong: every mistake that was found in it, and in what it includes.
///
/// With one mistake it shows as that mistake, with more as a list of related ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    name: String,
    problems: Vec<Problem>,
    /// How many there were.
    found: usize,
}

/// More mistakes than these are not shown: each takes a pass over the text, and one who sees fifty
/// mends one first.
const MOST_SHOWN: usize = 50;

impl Problems {
    /// The mistakes of the text with this name or path; there must be at least one.
    ///
    /// They are ordered by place in each file; files and what has no place stay in order.
    pub(crate) fn new(name: impl Into<String>, mut problems: Vec<Problem>) -> Self {
        let mut files: Vec<String> = Vec::new();
        let mut key = |problem: &Problem| {
            let span = problem.0.span.as_ref();
            let file = span.map_or("", |span| span.source.name()).to_owned();
            let known = files.iter().position(|other| *other == file);
            let file = known.unwrap_or_else(|| {
                files.push(file);
                files.len() - 1
            });
            (file, span.map_or(0, |span| span.range.offset()))
        };
        problems.sort_by_cached_key(&mut key);
        let found = problems.len();
        problems.truncate(MOST_SHOWN);
        Self {
            name: name.into(),
            problems,
            found,
        }
    }

    /// The mistakes.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn single(&self) -> Option<&Problem> {
        match self.problems.as_slice() {
            [problem] => Some(problem),
            _ => None,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(problem) => problem.fmt(f),
            None if self.found > self.problems.len() => write!(
                f,
                "{} has {} mistakes; these are the first {}",
                self.name,
                self.found,
                self.problems.len()
            ),
            None => write!(f, "{} has {} mistakes", self.name, self.found),
        }
    }
}

impl std::error::Error for Problems {}

impl Diagnostic for Problems {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.single().and_then(Diagnostic::source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.single().and_then(Diagnostic::labels)
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.single().and_then(Diagnostic::help)
    }

    fn related(&self) -> Option<Box<dyn Iterator<Item = &dyn Diagnostic> + '_>> {
        if self.single().is_some() {
            return None;
        }
        Some(Box::new(
            self.problems
                .iter()
                .map(|problem| problem as &dyn Diagnostic),
        ))
    }
}

/// `a, b and c`.
pub(crate) fn enumerate(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [start @ .., last] => format!("{} and {last}", start.join(", ")),
    }
}
