//! Reading values of nodes. Mistakes are collected, so that one run shows many.

use std::collections::BTreeMap;

use super::merge::pairs;
use super::yaml::{Map, Node, Value};
use crate::text::{Problem, Span, closest};

/// What was found wrong, and what the user should know.
#[derive(Default)]
pub(super) struct Notes {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Notes {
    pub(super) fn wrong(
        &mut self,
        span: &Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems
            .push(Problem::new(span, message, "here").with_help(help));
    }

    pub(super) fn warn(&mut self, span: &Span, message: impl Into<String>) {
        self.warnings.push(Problem::new(span, message, "here"));
    }

    fn mismatch(&mut self, node: &Node, name: &str, wanted: &str) {
        self.wrong(
            &node.span,
            format!("\"{name}\" must be {wanted}, and this is {}", node.kind()),
            format!("write {wanted}"),
        );
    }

    /// The entries of a mapping; none of nothing.
    pub(super) fn map<'a>(
        &mut self,
        node: &'a Node,
        name: &str,
    ) -> &'a [(crate::text::Spanned<String>, Node)] {
        match &node.value {
            Value::Map(map) => map,
            Value::Null => &[],
            _ => {
                self.mismatch(node, name, "a mapping");
                &[]
            }
        }
    }

    pub(super) fn list<'a>(&mut self, node: &'a Node, name: &str) -> &'a [Node] {
        match &node.value {
            Value::List(list) => list,
            Value::Null => &[],
            _ => {
                self.mismatch(node, name, "a list");
                &[]
            }
        }
    }

    /// A value as it is written; nothing when it is empty.
    pub(super) fn text(&mut self, node: &Node, name: &str) -> Option<String> {
        match &node.value {
            Value::Scalar(text) => Some(text.clone()),
            Value::Null => None,
            _ => {
                self.mismatch(node, name, "a single value");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, node: &Node, name: &str) -> bool {
        match self.text(node, name).as_deref() {
            Some("true" | "yes" | "on") => true,
            None | Some("false" | "no" | "off") => false,
            Some(_) => {
                self.wrong(
                    &node.span,
                    format!("\"{name}\" must be true or false"),
                    "write true or false",
                );
                false
            }
        }
    }

    /// A value that `parse` takes.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node,
        name: &str,
        help: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(node, name)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            let message = format!("\"{text}\" is not a valid value for \"{name}\"");
            self.wrong(&node.span, message, help);
        }
        parsed
    }

    /// Words of a command: a list of them, or a text as a shell splits it.
    pub(super) fn words(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        match &node.value {
            Value::Null => None,
            Value::List(list) => Some(
                list.iter()
                    .filter_map(|node| self.text(node, name))
                    .collect(),
            ),
            Value::Scalar(text) => {
                let words = split(text);
                if words.is_none() {
                    self.wrong(
                        &node.span,
                        format!("a quote of \"{name}\" is not closed"),
                        "close it, or write a list: [\"program\", \"argument\"]",
                    );
                }
                words
            }
            Value::Map(_) => {
                self.mismatch(node, name, "a text or a list");
                None
            }
        }
    }

    /// Names with values, as a mapping or as a list of `NAME=VALUE`. One without a value has that
    /// of `known`.
    pub(super) fn pairs(
        &mut self,
        node: &Node,
        name: &str,
        known: &dyn Fn(&str) -> Option<String>,
    ) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let node = pairs(node.clone());
        for (key, value) in self.map(&node, name) {
            if key.value.is_empty() || key.value.contains(['=', '\0']) {
                let message = format!("\"{}\" is not a name", key.value);
                self.wrong(&key.span, message, "write NAME: VALUE or NAME=VALUE");
                continue;
            }
            let value = match &value.value {
                Value::Null => known(&key.value),
                _ => self.text(value, &key.value),
            };
            found.extend(value.map(|value| (key.value.clone(), value)));
        }
        found
    }

    /// Reports keys that are not among `known`; those that begin with `x-` are the user's own.
    pub(super) fn unknown(&mut self, map: &Map, known: &[&str], of: &str) {
        for (key, _) in map {
            let name = key.value.as_str();
            if known.contains(&name) || name.starts_with("x-") {
                continue;
            }
            let help = match closest(name, known.iter().copied()) {
                Some(other) => format!("did you mean \"{other}\"?"),
                None => "remove it, or begin its name with \"x-\" if it is for other programs"
                    .to_owned(),
            };
            self.wrong(&key.span, format!("{of} has no \"{name}\""), help);
        }
    }
}

/// The words of a text as a shell without variables splits it; `None` when a quote is open.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_of_a_shell() {
        let words = |text: &str| split(text).map(|words| words.join("|"));
        assert_eq!(
            words(" a 'b c' \"d \\\" \\n\" e\\ f '' ").unwrap(),
            "a|b c|d \" \\n|e f|"
        );
        assert_eq!(words(""), Some(String::new()));
        for wrong in ["'", "\"a", "a\\", "\"\\"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
