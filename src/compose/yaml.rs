//! YAML to nodes with their places: anchors, merge keys, and bounds on what they may make.

use std::borrow::Cow;
use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use crate::text::{Problem, Source, Span, Spanned};

/// Nodes of a document, those that aliases stand for counted each time.
const MOST_NODES: usize = 100_000;
/// Bytes of text in them.
const MOST_BYTES: usize = 16 << 20;
/// How deep nodes may lie in nodes. Each level takes stack.
const DEEPEST: usize = 64;

/// A node of a document.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub value: Value,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Map),
}

/// The entries of a mapping, in the order of the file. No key is there twice.
pub(super) type Map = Vec<(Spanned<String>, Node)>;

impl Node {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(map) = &self.value else {
            return None;
        };
        let found = map.iter().find(|(key, _)| key.value == name);
        found.map(|(_, node)| node)
    }

    /// Nodes and bytes in it.
    fn size(&self) -> (usize, usize) {
        let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        match &self.value {
            Value::Null => (1, 0),
            Value::Scalar(text) => (1, text.len()),
            Value::List(list) => list.iter().map(Self::size).fold((1, 0), add),
            Value::Map(map) => map
                .iter()
                .map(|(key, node)| add(node.size(), (1, key.value.len())))
                .fold((1, 0), add),
        }
    }
}

/// Reads the one document of a text. Mistakes in its form end the reading; the others are
/// collected.
///
/// # Errors
/// It is not YAML.
pub(super) fn parse(source: &Source, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    let mut builder = Builder {
        source,
        problems,
        anchors: BTreeMap::new(),
        open: Vec::new(),
        done: None,
        room: (MOST_NODES, MOST_BYTES),
    };
    let mut documents = 0;
    for event in Parser::new_from_str(source.inner()) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or_default();
            let span = builder.span(at, at + 1);
            let message = error.to_string();
            let message = message.split(" at ").next().unwrap_or_default().to_owned();
            Problem::new(&span, format!("this is not YAML: {message}"), "here")
                .with_help("check the indentation, the quotes and the colons around this line")
        })?;
        let offset = |marker: &granit_parser::Marker| marker.byte_offset().unwrap_or_default();
        let span = builder.span(offset(&span.start), offset(&span.end));
        if let Event::DocumentStart(..) = event {
            documents += 1;
            if documents > 1 {
                let problem = Problem::new(&span, "a second document", "begins here");
                return Err(problem.with_help("write one document in a file: remove the \"---\""));
            }
        }
        builder.event(event, span)?;
    }
    let empty = || Node {
        value: Value::Null,
        span: Span {
            source: source.clone(),
            range: (0, 0).into(),
        },
    };
    Ok(builder.done.unwrap_or_else(empty))
}

struct Builder<'a> {
    source: &'a Source,
    problems: &'a mut Vec<Problem>,
    anchors: BTreeMap<usize, (Node, (usize, usize))>,
    open: Vec<Open>,
    done: Option<Node>,
    /// Nodes and bytes that may still come.
    room: (usize, usize),
}

/// A collection that has not ended.
struct Open {
    anchor: usize,
    span: Span,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map {
        map: Map,
        key: Option<Spanned<String>>,
        /// What `<<` stands for: it gives way to what the mapping says itself.
        merged: Vec<Node>,
    },
}

impl Builder<'_> {
    fn span(&self, start: usize, end: usize) -> Span {
        let text = self.source.inner();
        let end = end.clamp(start, text.len().max(start));
        // Not the spaces and lines that a collection ends after.
        let part = text.get(start..end).unwrap_or_default();
        let length = part.trim_end().len();
        Span {
            source: self.source.clone(),
            range: (start.min(text.len()), length).into(),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(text, style, tag.as_deref());
                self.take((1, text_length(&value)), &span)?;
                self.node(Node { value, span }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Kind::List(Vec::new()), anchor, span),
            Event::MappingStart(_, anchor, _) => {
                let kind = Kind::Map {
                    map: Vec::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.begin(kind, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                let start = open.span.range.offset();
                let span = self.span(start, span.range.offset());
                let value = match open.kind {
                    Kind::List(list) => Value::List(list),
                    Kind::Map { map, merged, .. } => Value::Map(self.merge(map, merged)),
                };
                self.node(Node { value, span }, open.anchor)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    let problem = Problem::new(&span, "an alias inside of its own anchor", "here");
                    return Err(problem.with_help("write what it is to stand for"));
                };
                self.take(size, &span)?;
                self.node(node, 0)
            }
            _ => Ok(()),
        }
    }

    /// Takes room for nodes and bytes.
    fn take(&mut self, (nodes, bytes): (usize, usize), span: &Span) -> Result<(), Problem> {
        let left = (
            self.room.0.checked_sub(nodes),
            self.room.1.checked_sub(bytes),
        );
        if let (Some(nodes), Some(bytes)) = left {
            self.room = (nodes, bytes);
            return Ok(());
        }
        let problem = Problem::new(span, "the file stands for too much", "too much here");
        Err(problem.with_help(format!(
            "with its aliases, a file may have {MOST_NODES} values: use fewer"
        )))
    }

    fn begin(&mut self, kind: Kind, anchor: usize, span: Span) -> Result<(), Problem> {
        if self.open.len() >= DEEPEST {
            let problem = Problem::new(&span, "the file is nested too deeply", "too deep");
            return Err(problem.with_help(format!("use at most {DEEPEST} levels")));
        }
        self.take((1, 0), &span)?;
        self.open.push(Open { anchor, span, kind });
        Ok(())
    }

    fn node(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            let size = node.size();
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.done = Some(node);
            return Ok(());
        };
        match &mut open.kind {
            Kind::List(list) => list.push(node),
            Kind::Map { map, key, merged } => match key.take() {
                None => {
                    let name = match node.value {
                        Value::Scalar(name) => name,
                        Value::Null => String::new(),
                        Value::List(_) | Value::Map(_) => {
                            let problem =
                                Problem::new(&node.span, "a key must be a word", "a collection");
                            return Err(problem.with_help("write NAME: VALUE"));
                        }
                    };
                    *key = Some(Spanned::new(name, node.span));
                }
                Some(key) if key.value == "<<" => merged.push(node),
                Some(key) => {
                    let first = map.iter().find(|(other, _)| other.value == key.value);
                    if let Some((first, _)) = first {
                        let problem = Problem::new(
                            &key.span,
                            format!("\"{}\" is given twice", key.value),
                            "the second time",
                        );
                        let problem = problem.with_other(&first.span, "the first time");
                        self.problems.push(problem.with_help("remove one of them"));
                    } else {
                        map.push((key, node));
                    }
                }
            },
        }
        Ok(())
    }

    /// A mapping with what its merge keys stand for (<https://yaml.org/type/merge.html>).
    fn merge(&mut self, mut map: Map, merged: Vec<Node>) -> Map {
        let mut sources = Vec::new();
        for node in merged {
            match node.value {
                Value::List(list) => sources.extend(list),
                _ => sources.push(node),
            }
        }
        for node in sources {
            let Value::Map(other) = node.value else {
                let problem = Problem::new(
                    &node.span,
                    format!("\"<<\" takes mappings, not {}", node.kind()),
                    "not a mapping",
                );
                let help = "name the anchor of a mapping: <<: *common";
                self.problems.push(problem.with_help(help));
                continue;
            };
            for (key, node) in other {
                if map.iter().all(|(known, _)| known.value != key.value) {
                    map.push((key, node));
                }
            }
        }
        map
    }
}

fn text_length(value: &Value) -> usize {
    match value {
        Value::Scalar(text) => text.len(),
        _ => 0,
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let plain = style == ScalarStyle::Plain && tag.is_none();
    if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar(text.into_owned())
}
