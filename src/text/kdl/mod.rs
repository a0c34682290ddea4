//! KDL 2 (<https://kdl.dev>), read in one pass with bounds on depth and on the number of nodes.
//!
//! Recipes, locks and configurations come from strangers as well: the time and the memory that a
//! text takes must follow from its length. The crate `kdl` parses some texts in exponential time
//! and overflows the stack on others; the tests compare this reader with it.
//!
//! ```text
//! text ── cursor (comments, spaces) ── string, number (words) ── parse (nodes) ──► Document
//! ```

mod cursor;
mod number;
mod parse;
mod string;
#[cfg(test)]
mod tests;

use miette::SourceSpan;

pub(crate) use cursor::{is_newline, is_space};
pub(crate) use parse::parse;

/// How much a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// How deep nodes may lie in nodes. Each level takes stack.
    pub depth: usize,
    /// How many nodes, arguments and properties there may be.
    pub items: usize,
    /// What to do when there are more.
    pub help: &'static str,
}

impl Bounds {
    /// What texts that people write stay far below.
    pub(crate) const WRITTEN: Self = Self {
        depth: 64,
        items: 200_000,
        help: "split it into several files",
    };
    /// For files that vmfab writes itself, such as locks.
    pub(crate) const GENERATED: Self = Self {
        items: 20_000_000,
        help: "no vmfab wrote it",
        ..Self::WRITTEN
    };
}

/// A list of nodes: a whole text, or what stands between braces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub nodes: Vec<Node>,
    span: SourceSpan,
}

/// A name with its arguments, properties and children.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    ty: Option<Name>,
    name: Name,
    entries: Vec<Entry>,
    children: Option<Document>,
    span: SourceSpan,
}

/// The name of a node or a property, or a type annotation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Name {
    value: String,
    span: SourceSpan,
}

/// An argument, or with a name a property.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    ty: Option<Name>,
    name: Option<Name>,
    value: Value,
    /// As it is written, without its name and type.
    repr: String,
    span: SourceSpan,
}

/// The value of an argument or a property.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    String(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
    Null,
}

/// Where an entry stands in a node: an argument by its number, a property by its name.
pub(crate) trait Key {
    fn find(self, entries: &[Entry]) -> Option<&Entry>;
}

impl Key for usize {
    fn find(self, entries: &[Entry]) -> Option<&Entry> {
        let mut arguments = entries.iter().filter(|entry| entry.name.is_none());
        arguments.nth(self)
    }
}

impl Key for &str {
    /// Of several properties of one name the last one holds.
    fn find(self, entries: &[Entry]) -> Option<&Entry> {
        let named = |entry: &&Entry| entry.name.as_ref().is_some_and(|name| name.value == self);
        entries.iter().rfind(named)
    }
}

impl Document {
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) const fn span(&self) -> SourceSpan {
        self.span
    }
}

impl Node {
    pub(crate) const fn ty(&self) -> Option<&Name> {
        self.ty.as_ref()
    }

    pub(crate) const fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn entry(&self, key: impl Key) -> Option<&Entry> {
        key.find(&self.entries)
    }

    pub(crate) fn get(&self, key: impl Key) -> Option<&Value> {
        self.entry(key).map(Entry::value)
    }

    pub(crate) const fn children(&self) -> Option<&Document> {
        self.children.as_ref()
    }

    /// The nodes between the braces.
    pub(crate) fn iter_children(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().flat_map(|children| &children.nodes)
    }

    pub(crate) const fn span(&self) -> SourceSpan {
        self.span
    }
}

impl Name {
    pub(crate) fn value(&self) -> &str {
        &self.value
    }

    pub(crate) const fn span(&self) -> SourceSpan {
        self.span
    }
}

impl Entry {
    pub(crate) const fn ty(&self) -> Option<&Name> {
        self.ty.as_ref()
    }

    pub(crate) const fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    pub(crate) const fn value(&self) -> &Value {
        &self.value
    }

    pub(crate) fn repr(&self) -> &str {
        &self.repr
    }

    pub(crate) const fn span(&self) -> SourceSpan {
        self.span
    }
}

impl Value {
    pub(crate) fn as_string(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) const fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }
}
