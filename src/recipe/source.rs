//! Source texts and places in them.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use miette::{NamedSource, SourceSpan};

/// What a recipe can ask about files. The recipe module itself does no input or output.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Whether there is a file or a directory.
    fn exists(&self, path: &Path) -> bool;

    /// Whether there is a directory.
    fn is_directory(&self, path: &Path) -> bool;
}

/// A text with the name that it is shown under.
pub type Source = Arc<NamedSource<String>>;

/// A place in a source text. Two places are always equal, so that models compare by meaning.
#[derive(Clone)]
pub struct Span {
    /// The text.
    pub source: Source,
    /// Offset and length in bytes.
    pub range: SourceSpan,
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
    /// The value.
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
