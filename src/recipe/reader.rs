//! Reading the values of one KDL node. Mistakes are collected, so that one run shows many.

use std::collections::BTreeMap;

use super::check;
use super::error::{Problem, closest, enumerate};
use super::scope::Scope;
use super::shape::Shape;
use super::source::{Span, Spanned};
use super::value::{self, Parsed, Wrong};
use crate::text::kdl::{Entry, Node, Value};

/// A string with whether a parameter was put into it.
struct Text {
    text: String,
    substituted: bool,
}

/// A node that was checked against its shape.
pub(super) struct Reader<'a> {
    pub(super) scope: &'a Scope,
    pub(super) node: &'a Node,
    pub(super) shape: &'static Shape,
}

impl<'a> Reader<'a> {
    /// Checks a node's arguments, properties and children by number and name. Reading goes on
    /// after mistakes.
    pub(super) fn new(scope: &'a Scope, node: &'a Node, shape: &'static Shape) -> Self {
        let reader = Self { scope, node, shape };
        check::check(&reader);
        reader
    }

    /// The place of the node's name.
    pub(super) fn span(&self) -> Span {
        self.scope.span(self.node.name().span())
    }

    /// The place of the node with all that is in it.
    pub(super) fn span_of_all(&self) -> Span {
        self.scope.span(self.node.span())
    }

    pub(super) fn example(&self) -> String {
        format!("for example: {}", self.shape.example)
    }

    pub(super) fn positional(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        self.node
            .entries()
            .iter()
            .filter(|entry| entry.name().is_none())
    }

    fn property(&self, name: &str) -> Option<&'a Entry> {
        self.node
            .entries()
            .iter()
            .rfind(|entry| entry.name().is_some_and(|key| key.value() == name))
    }

    /// The known nodes between the braces.
    pub(super) fn children(&self) -> impl Iterator<Item = Reader<'a>> + use<'a> {
        let (scope, shape) = (self.scope, self.shape);
        self.node
            .children()
            .into_iter()
            .flat_map(|children| children.nodes())
            .filter_map(move |node| {
                Some(Reader::new(scope, node, shape.child(node.name().value())?))
            })
    }

    fn mismatch(&self, entry: &Entry, wanted: &str, help: String) {
        let what = match entry.name() {
            Some(key) => format!("\"{}\"", key.value()),
            None => format!("an argument of \"{}\"", self.shape.name),
        };
        self.scope.report(
            Problem::new(
                &self.scope.span(entry.span()),
                format!("{what} must be {wanted}"),
                format!("this is {}", kind_of(entry.value())),
            )
            .with_help(help),
        );
    }

    fn text_of(&self, entry: &Entry) -> Option<Spanned<Text>> {
        let Value::String(text) = entry.value() else {
            let written = match entry.value() {
                Value::Null => "…",
                _ => entry.repr().trim_start_matches('#'),
            };
            // What a number alone does not say.
            let unit = match entry.name().map(|name| name.value()) {
                Some("timeout") => "s",
                Some("memory") => "M",
                Some("size") => "G",
                _ => "",
            };
            let help = match entry.name() {
                Some(key) => format!("write it in quotes: {}=\"{written}{unit}\"", key.value()),
                None => format!("write it in quotes: \"{written}\""),
            };
            self.mismatch(entry, "a string", help);
            return None;
        };
        let (text, substituted) = self.scope.substitute(text, entry.span())?;
        Some(Spanned::new(
            Text { text, substituted },
            self.scope.span(entry.span()),
        ))
    }

    fn parse<T>(
        &self,
        text: Spanned<String>,
        parser: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        match parser(&text.value) {
            Ok(value) => Some(Spanned::new(value, text.span)),
            Err(Wrong { message, help }) => {
                let problem = Problem::new(&text.span, message, "wrong value").with_help(help);
                self.scope.report(problem);
                None
            }
        }
    }

    /// The argument at `index`, a string.
    pub(super) fn argument(&self, index: usize) -> Option<Spanned<String>> {
        let text = self.text_of(self.positional().nth(index)?)?;
        Some(text.map(|text| text.text))
    }

    /// All arguments, strings that `parser` takes.
    pub(super) fn arguments<T>(&self, parser: impl Fn(&str) -> Parsed<T>) -> Vec<T> {
        self.positional()
            .filter_map(|entry| {
                let text = self.text_of(entry)?.map(|text| text.text);
                Some(self.parse(text, &parser)?.value)
            })
            .collect()
    }

    /// The argument at `index`, a string that `parser` takes.
    pub(super) fn parsed_argument<T>(
        &self,
        index: usize,
        parser: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        self.parse(self.argument(index)?, parser)
    }

    /// A property, a string.
    pub(super) fn text(&self, name: &str) -> Option<Spanned<String>> {
        let text = self.text_of(self.property(name)?)?;
        Some(text.map(|text| text.text))
    }

    /// A property, a string that `parser` takes.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        parser: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        self.parse(self.text(name)?, parser)
    }

    /// A property, a string of words between spaces or commas, each of which `parser` takes.
    pub(super) fn words<T>(&self, name: &str, parser: impl Fn(&str) -> Parsed<T>) -> Vec<T> {
        let Some(text) = self.text(name) else {
            return Vec::new();
        };
        text.value
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|word| !word.is_empty())
            .filter_map(|word| {
                let word = Spanned::new(word.to_owned(), text.span.clone());
                Some(self.parse(word, &parser)?.value)
            })
            .collect()
    }

    /// A property, one of a few words.
    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        let text = self.text(name)?;
        self.choose(text, name, choices)
    }

    /// The argument at `index`, one of a few words.
    pub(super) fn argument_choice<T: Copy>(
        &self,
        index: usize,
        choices: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        let text = self.argument(index)?;
        self.choose(text, self.shape.name, choices)
    }

    fn choose<T: Copy>(
        &self,
        text: Spanned<String>,
        what: &str,
        choices: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(Spanned::new(*value, text.span));
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = match closest(&text.value, words.iter().copied()) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("this version knows {}", enumerate(&words)),
        };
        self.scope.report(
            Problem::new(
                &text.span,
                format!("\"{}\" is not a valid value for \"{what}\"", text.value),
                "unknown value",
            )
            .with_help(help),
        );
        None
    }

    /// A property, `#true` or `#false`.
    pub(super) fn flag(&self, name: &str) -> Option<Spanned<bool>> {
        let entry = self.property(name)?;
        let span = self.scope.span(entry.span());
        match entry.value() {
            Value::Bool(value) => return Some(Spanned::new(*value, span)),
            Value::String(_) => {
                let text = self.text_of(entry)?;
                if text.substituted {
                    return self.parse(text.map(|text| text.text), value::boolean);
                }
            }
            _ => {}
        }
        self.mismatch(
            entry,
            "#true or #false",
            format!("write {name}=#true or {name}=#false"),
        );
        None
    }

    fn number_of<T>(
        &self,
        entry: &Entry,
        parser: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        let span = self.scope.span(entry.span());
        match entry.value() {
            Value::Integer(number) => {
                return self.parse(Spanned::new(number.to_string(), span), parser);
            }
            Value::String(_) => {
                let text = self.text_of(entry)?;
                if text.substituted {
                    return self.parse(text.map(|text| text.text), parser);
                }
            }
            _ => {}
        }
        self.mismatch(entry, "a number", "write digits without quotes".to_owned());
        None
    }

    /// A property, a number that `parser` takes.
    pub(super) fn number<T>(
        &self,
        name: &str,
        parser: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        self.number_of(self.property(name)?, parser)
    }

    /// The argument at `index`, a number that `parser` takes.
    pub(super) fn number_argument<T>(
        &self,
        index: usize,
        parser: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        self.number_of(self.positional().nth(index)?, parser)
    }

    /// A property of any scalar value, as text: the value of a parameter.
    pub(super) fn scalar(&self, name: &str) -> Option<Spanned<String>> {
        let entry = self.property(name)?;
        let text = match entry.value() {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Float(_) | Value::Null => {
                self.mismatch(
                    entry,
                    "a string, a whole number, #true or #false",
                    "write other values as strings".to_owned(),
                );
                return None;
            }
        };
        Some(Spanned::new(text, self.scope.span(entry.span())))
    }

    /// All properties, strings, of a node that takes any.
    pub(super) fn map(
        &self,
        key: impl Fn(&str) -> Parsed<String>,
        value: impl Fn(&str) -> Parsed<String>,
    ) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        for entry in self.node.entries() {
            let Some(name) = entry.name() else { continue };
            let place = Spanned::new(name.value().to_owned(), self.scope.span(name.span()));
            let text = self.text_of(entry).map(|text| text.map(|text| text.text));
            let text = text.and_then(|text| self.parse(text, &value));
            if let (Some(name), Some(text)) = (self.parse(place, &key), text) {
                map.insert(name.value, text.value);
            }
        }
        if self.node.entries().is_empty() {
            self.scope.report(
                Problem::new(
                    &self.span(),
                    format!("\"{}\" needs a property", self.shape.name),
                    "name=\"value\" is missing",
                )
                .with_help(self.example()),
            );
        }
        map
    }

    /// Whether the property is there, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    /// Reports that a property that must be there is missing.
    pub(super) fn lacks(&self, what: &str) {
        self.scope.report(
            Problem::new(
                &self.span(),
                format!("\"{}\" needs {what}", self.shape.name),
                format!("{what} is missing"),
            )
            .with_help(self.example()),
        );
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a number with a fraction",
        Value::Bool(_) => "a boolean",
        Value::Null => "nothing",
    }
}
