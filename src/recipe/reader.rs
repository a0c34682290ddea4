//! Reading one KDL node against its shape. Mistakes are collected, so that one run shows many.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use kdl::{KdlEntry, KdlNode, KdlValue};
use miette::SourceSpan;

use super::error::{Problem, closest};
use super::parameter::{SubstitutionError, Values, substitute};
use super::shape::{NOT_YET, Shape, home_of};
use super::source::{Source, Span, Spanned};
use super::value::{self, Parsed, Wrong};

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
    fn substitute(&self, text: &str, range: SourceSpan) -> Option<(String, bool)> {
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

/// A string with whether a parameter was put into it.
struct Text {
    text: String,
    substituted: bool,
}

/// A node that was checked against its shape.
pub(super) struct Reader<'a> {
    pub(super) scope: &'a Scope,
    pub(super) node: &'a KdlNode,
    pub(super) shape: &'static Shape,
}

impl<'a> Reader<'a> {
    /// Checks a node's arguments, properties and children by number and name. Reading goes on
    /// after mistakes.
    pub(super) fn new(scope: &'a Scope, node: &'a KdlNode, shape: &'static Shape) -> Self {
        let reader = Self { scope, node, shape };
        reader.check_arguments();
        reader.check_properties();
        reader.check_children();
        reader
    }

    /// The place of the node's name.
    pub(super) fn span(&self) -> Span {
        self.scope.span(self.node.name().span())
    }

    fn example(&self) -> String {
        format!("for example: {}", self.shape.example)
    }

    fn positional(&self) -> impl Iterator<Item = &'a KdlEntry> + use<'a> {
        self.node
            .entries()
            .iter()
            .filter(|entry| entry.name().is_none())
    }

    fn property(&self, name: &str) -> Option<&'a KdlEntry> {
        self.node
            .entries()
            .iter()
            .rfind(|entry| entry.name().is_some_and(|key| key.value() == name))
    }

    fn check_arguments(&self) {
        let (least, most) = self.shape.arguments;
        let name = self.shape.name;
        let count = self.positional().count();
        if count < least {
            let what = self.shape.argument.unwrap_or("an argument");
            self.scope.report(
                Problem::new(
                    &self.span(),
                    format!("\"{name}\" lacks {what}"),
                    "an argument is missing",
                )
                .with_help(self.example()),
            );
        }
        if let Some(extra) = self.positional().nth(most) {
            let label = match self.shape.argument {
                Some(what) => format!("it takes {what} and no more"),
                None => "it takes no arguments, only properties".to_owned(),
            };
            let label = if self.shape.argument.is_none() && self.shape.properties == Some(&[]) {
                "it takes no arguments".to_owned()
            } else {
                label
            };
            self.scope.report(
                Problem::new(
                    &self.scope.span(extra.span()),
                    format!("\"{name}\" has an argument too many"),
                    label,
                )
                .with_help(self.example()),
            );
        }
        let typed = self.node.entries().iter().filter_map(KdlEntry::ty);
        for annotation in self.node.ty().into_iter().chain(typed) {
            self.scope.report(
                Problem::new(
                    &self.scope.span(annotation.span()),
                    format!(
                        "type annotation ({}) means nothing here",
                        annotation.value()
                    ),
                    "leave it out",
                )
                .with_help("recipes use no KDL type annotations"),
            );
        }
    }

    fn check_properties(&self) {
        let mut seen: Vec<&str> = Vec::new();
        for entry in self.node.entries() {
            let Some(key) = entry.name() else { continue };
            let place = self.scope.span(key.span());
            if seen.contains(&key.value()) {
                self.scope.report(
                    Problem::new(
                        &place,
                        format!("\"{}\" is given twice", key.value()),
                        "given before in the same node",
                    )
                    .with_help("remove one of them"),
                );
                continue;
            }
            seen.push(key.value());
            let Some(known) = self.shape.properties else {
                continue;
            };
            if known.contains(&key.value()) {
                continue;
            }
            let help = if let Some(child) = self.shape.child(key.value()) {
                format!("write it as a node between braces: {{ {} }}", child.example)
            } else if let Some(other) = closest(key.value(), known.iter().copied()) {
                format!("did you mean \"{other}\"?")
            } else if known.is_empty() {
                format!("\"{}\" takes no properties", self.shape.name)
            } else {
                format!("\"{}\" takes {}", self.shape.name, enumerate(known))
            };
            self.scope.report(
                Problem::new(
                    &place,
                    format!(
                        "\"{}\" has no property \"{}\"",
                        self.shape.name,
                        key.value()
                    ),
                    "unknown property",
                )
                .with_help(help),
            );
        }
    }

    fn check_children(&self) {
        let Some(children) = self.node.children() else {
            return;
        };
        for child in children.nodes() {
            if self.shape.child(child.name().value()).is_none() {
                report_unknown(self.scope, child, self.shape);
            }
        }
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

    fn mismatch(&self, entry: &KdlEntry, wanted: &str, help: String) {
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

    fn text_of(&self, entry: &KdlEntry) -> Option<Spanned<Text>> {
        let KdlValue::String(text) = entry.value() else {
            let written = match (entry.value(), entry.format()) {
                (KdlValue::Null, _) | (_, None) => "…",
                (_, Some(format)) => format.value_repr.trim_start_matches('#'),
            };
            let help = match entry.name() {
                Some(key) => format!("write it in quotes: {}=\"{written}\"", key.value()),
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
                format!("\"{}\" is no value for \"{what}\"", text.value),
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
            KdlValue::Bool(value) => return Some(Spanned::new(*value, span)),
            KdlValue::String(_) => {
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
        entry: &KdlEntry,
        parser: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        let span = self.scope.span(entry.span());
        match entry.value() {
            KdlValue::Integer(number) => {
                return self.parse(Spanned::new(number.to_string(), span), parser);
            }
            KdlValue::String(_) => {
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
            KdlValue::String(text) => text.clone(),
            KdlValue::Integer(number) => number.to_string(),
            KdlValue::Bool(value) => value.to_string(),
            KdlValue::Float(_) | KdlValue::Null => {
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
    pub(super) fn map(&self, key: impl Fn(&str) -> Parsed<String>) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        for entry in self.node.entries() {
            let Some(name) = entry.name() else { continue };
            let place = Spanned::new(name.value().to_owned(), self.scope.span(name.span()));
            if let (Some(name), Some(text)) = (self.parse(place, &key), self.text_of(entry)) {
                map.insert(name.value, text.value.text);
            }
        }
        if self.node.entries().is_empty() {
            self.scope.report(
                Problem::new(
                    &self.span(),
                    format!("\"{}\" says nothing", self.shape.name),
                    "name=\"value\" is missing",
                )
                .with_help(self.example()),
            );
        }
        map
    }

    /// Whether there is a child that this version does not support, which was reported.
    pub(super) fn has_unsupported(&self) -> bool {
        let children = self.node.children().into_iter();
        let mut names = children
            .flat_map(|children| children.nodes())
            .map(|child| child.name().value());
        names.any(|name| NOT_YET.iter().any(|(other, _)| *other == name))
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
                format!("\"{}\" lacks {what}", self.shape.name),
                format!("{what} is missing"),
            )
            .with_help(self.example()),
        );
    }
}

/// Reports a node that `parent` does not take.
pub(super) fn report_unknown(scope: &Scope, node: &KdlNode, parent: &Shape) {
    let name = node.name().value();
    let place = scope.span(node.name().span());
    let inside = if parent.arguments.1 == 0 && parent.name == "recipe file" {
        "a recipe file".to_owned()
    } else {
        format!("\"{}\"", parent.name)
    };
    if let Some((_, instead)) = NOT_YET.iter().find(|(other, _)| *other == name) {
        let problem = Problem::new(
            &place,
            format!("this version of vmfab does not support \"{name}\" yet"),
            "not supported yet",
        );
        scope.report(problem.with_help(*instead));
        return;
    }
    let children: Vec<&str> = parent.children.iter().map(|shape| shape.name).collect();
    let help = if parent.properties.is_some_and(|known| known.contains(&name)) {
        format!("write it as a property: {} … {name}=\"…\"", parent.name)
    } else if let Some(place) = home_of(name) {
        format!("\"{name}\" belongs {place}")
    } else if let Some(other) = closest(name, children.iter().copied()) {
        format!("did you mean \"{other}\"?")
    } else if children.is_empty() {
        format!("\"{}\" takes nothing between braces", parent.name)
    } else {
        format!("{inside} takes {}", enumerate(&children))
    };
    scope.report(
        Problem::new(
            &place,
            format!("unknown node \"{name}\" in {inside}"),
            "unknown node",
        )
        .with_help(help),
    );
}

fn kind_of(value: &KdlValue) -> &'static str {
    match value {
        KdlValue::String(_) => "a string",
        KdlValue::Integer(_) => "a number",
        KdlValue::Float(_) => "a number with a fraction",
        KdlValue::Bool(_) => "a boolean",
        KdlValue::Null => "nothing",
    }
}

/// `a, b and c`.
pub(super) fn enumerate(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [start @ .., last] => format!("{} and {last}", start.join(", ")),
    }
}
