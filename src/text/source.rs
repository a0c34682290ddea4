//! Source texts and places in them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use miette::{NamedSource, SourceSpan};

use super::{hide_logins, logins};

/// A text with the name that it is shown under.
pub type Source = Arc<NamedSource<String>>;

/// A place in a source text. Two places are always equal, so that models compare by meaning.
#[derive(Clone)]
pub struct Span {
    pub source: Source,
    /// Offset and length in bytes.
    pub range: SourceSpan,
}

impl Span {
    /// The same place in the text as it may be shown: without passwords.
    #[must_use]
    pub(crate) fn shown(&self) -> Self {
        let text = self.source.inner();
        let source = match logins(text).is_empty() {
            true => self.source.clone(),
            false => Arc::new(NamedSource::new(self.source.name(), hide_logins(text))),
        };
        Self {
            source,
            range: self.range,
        }
    }
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source.name(), self.range.offset())
    }
}

/// A value and the place that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    /// Where it is written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value with its place.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned {
            value: change(self.value),
            span: self.span,
        }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
