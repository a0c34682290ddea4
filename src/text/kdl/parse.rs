//! Nodes, arguments and properties.

use std::ops::Range;
use std::sync::Arc;

use miette::SourceSpan;

use super::cursor::{Cursor, Step, Stop, is_newline, is_space};
use super::number::{is_number, number};
use super::string::string;
use super::{Bounds, Document, Entry, Name, Node, Value};
use crate::text::{Problem, Source, Span};

/// Reads a text; `what` says what such texts are: "recipes are".
///
/// Words that are wrong are reported together; anything else ends the reading.
///
/// # Errors
/// The text is not KDL 2, or has more in it than `bounds` allow.
pub(crate) fn parse(source: &Source, bounds: Bounds, what: &str) -> Result<Document, Vec<Problem>> {
    let text = source.inner();
    let mut words = Vec::new();
    let read = Cursor::new(text).and_then(|cursor| {
        let mut parser = Parser {
            cursor,
            bounds,
            items: 0,
            words: Vec::new(),
        };
        let read = parser.document();
        words = parser.words;
        read
    });
    let problem = |stop: Stop| {
        let span = Span {
            source: Arc::clone(source),
            range: spanned(stop.range),
        };
        let help = stop.help;
        let help = help.unwrap_or_else(|| format!("{what} written in KDL 2: https://kdl.dev"));
        Problem::new(&span, stop.message, stop.label).with_help(help)
    };
    match read {
        Ok(document) if words.is_empty() => Ok(document),
        read => Err(words.into_iter().chain(read.err()).map(problem).collect()),
    }
}

fn spanned(range: Range<usize>) -> SourceSpan {
    (range.start, range.len()).into()
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    bounds: Bounds,
    items: usize,
    /// Words that are wrong.
    words: Vec<Stop>,
}

/// A word or a string that may be a value.
struct Word {
    value: Value,
    range: Range<usize>,
}

impl Parser<'_> {
    fn document(&mut self) -> Step<Document> {
        let document = self.nodes(0)?;
        if self.cursor.at("}") {
            let stop = Stop::new(
                self.cursor.here(),
                "\"}\" without \"{\"",
                "no block is open here",
            );
            return Err(stop.help("remove it, or add the \"{\" that it closes"));
        }
        Ok(document)
    }

    /// Nodes up to the end or to a `}`, which is left.
    fn nodes(&mut self, depth: usize) -> Step<Document> {
        let mut nodes = Vec::new();
        loop {
            self.cursor.line_space()?;
            let start = self.cursor.at;
            match self.cursor.peek() {
                None | Some('}') => {
                    return Ok(Document {
                        span: match (nodes.first(), nodes.last()) {
                            (Some(first), Some(last)) => between(first, last),
                            _ => spanned(start..start),
                        },
                        nodes,
                    });
                }
                _ if self.cursor.take("/-") => {
                    self.cursor.line_space()?;
                    self.node(depth)?;
                }
                _ => nodes.push(self.node(depth)?),
            }
        }
    }

    fn node(&mut self, depth: usize) -> Step<Node> {
        let start = self.cursor.at;
        self.count(start)?;
        let ty = self.ty()?;
        let name = self.node_name()?;
        let mut entries = Vec::new();
        let mut children = None;
        let mut blocks = false;
        let mut end = self.cursor.at;
        loop {
            let mut apart = self.cursor.node_space()?;
            let place = self.cursor.at;
            let dropped = self.cursor.take("/-");
            if dropped {
                self.cursor.line_space()?;
                apart = true;
            }
            match self.cursor.peek() {
                Some('{') => {
                    if children.is_some() && !dropped {
                        let stop = Stop::new(
                            self.cursor.here(),
                            "the node has two blocks",
                            "the second one",
                        );
                        return Err(stop.help("merge them into one"));
                    }
                    let block = self.block(depth)?;
                    blocks = true;
                    if !dropped {
                        children = Some(block);
                        end = self.cursor.at;
                    }
                }
                _ if !dropped && self.terminator() => break,
                _ if blocks => {
                    let message = "text follows the block of a node";
                    let stop = Stop::new(place..self.cursor.here().end, message, "after the block");
                    return Err(stop.help("put what follows on the next line, or before the block"));
                }
                _ if !apart => {
                    let message = "a space is missing";
                    return Err(Stop::new(self.cursor.here(), message, "before this"));
                }
                _ => {
                    let entry = self.entry()?;
                    if !dropped {
                        entries.push(entry);
                        end = self.cursor.at;
                    }
                }
            }
        }
        Ok(Node {
            ty,
            name,
            entries,
            children,
            span: spanned(start..end),
        })
    }

    /// Takes what ends a node; a `}` is left.
    fn terminator(&mut self) -> bool {
        let cursor = &mut self.cursor;
        cursor.at("}")
            || cursor.peek().is_none()
            || cursor.take(";")
            || cursor.newline()
            || cursor.line_comment()
    }

    fn block(&mut self, depth: usize) -> Step<Document> {
        let opening = self.cursor.here();
        if depth >= self.bounds.depth {
            let message = format!(
                "nodes are nested more than {} levels deep",
                self.bounds.depth
            );
            return Err(Stop::new(opening, message, "this is one level too many")
                .help("use fewer levels; vmfab needs no more than five"));
        }
        self.cursor.at = opening.end;
        let block = self.nodes(depth + 1)?;
        if self.cursor.take("}") {
            Ok(block)
        } else {
            let stop = Stop::new(opening, "\"{\" without \"}\"", "this block does not end");
            Err(stop.help("add the \"}\" that closes it"))
        }
    }

    fn node_name(&mut self) -> Step<Name> {
        let word = self.word("a node's name")?;
        Ok(self.name(word, "a node"))
    }

    fn entry(&mut self) -> Step<Entry> {
        let start = self.cursor.at;
        self.count(start)?;
        let ty = self.ty()?;
        let word = self.word("an argument or a property")?;
        let mut name = None;
        let mut entry = (ty, word);
        if entry.0.is_none() && self.equals()? {
            name = Some(self.name(entry.1, "a property"));
            self.cursor.node_space()?;
            entry = (self.ty()?, self.word("a property's value")?);
        }
        let (ty, word) = entry;
        Ok(Entry {
            ty,
            name,
            value: word.value,
            repr: self.cursor.text[word.range].to_owned(),
            span: spanned(start..self.cursor.at),
        })
    }

    /// Takes a `=`, with spaces before it.
    fn equals(&mut self) -> Step<bool> {
        let before = self.cursor.at;
        self.cursor.node_space()?;
        let found = self.cursor.take("=");
        if !found {
            self.cursor.at = before;
        }
        Ok(found)
    }

    /// Takes a type annotation.
    fn ty(&mut self) -> Step<Option<Name>> {
        let opening = self.cursor.here();
        if !self.cursor.take("(") {
            return Ok(None);
        }
        self.cursor.node_space()?;
        let word = self.word("a type")?;
        let name = self.name(word, "a type");
        self.cursor.node_space()?;
        if !self.cursor.take(")") {
            let stop = Stop::new(
                opening,
                "\"(\" without \")\"",
                "this type annotation does not end",
            );
            return Err(stop.help("end it with \")\"; in text, use quotes"));
        }
        self.cursor.node_space()?;
        Ok(Some(name))
    }

    /// A word that must be a string.
    fn name(&mut self, word: Word, of: &str) -> Name {
        let value = match word.value {
            Value::String(text) => text,
            _ => {
                let written = &self.cursor.text[word.range.clone()];
                let message = format!("the name of {of} must be a string");
                let stop = Stop::new(word.range.clone(), message, "this is a value");
                self.words
                    .push(stop.help(format!("write it in quotes: \"{written}\"")));
                String::new()
            }
        };
        Name {
            value,
            span: spanned(word.range),
        }
    }

    /// A value, or a bare word; `wanted` is what should be here.
    fn word(&mut self, wanted: &str) -> Step<Word> {
        let start = self.cursor.at;
        let hashes = self.cursor.rest().trim_start_matches('#');
        let value = if hashes.starts_with('"') {
            Value::String(string(&mut self.cursor)?)
        } else {
            self.bare(wanted)?
        };
        let range = start..self.cursor.at;
        let after = self.cursor.peek();
        if after.is_some_and(|c| !is_space(c) && !is_newline(c) && !"\\/;={})".contains(c)) {
            let message = "a space is missing, or the word needs quotes";
            return Err(
                Stop::new(self.cursor.here(), message, "this goes on a word")
                    .help("bare words have none of \\ / ( ) { } [ ] ; \" # ="),
            );
        }
        Ok(Word { value, range })
    }

    fn bare(&mut self, wanted: &str) -> Step<Value> {
        let start = self.cursor.at;
        self.cursor.take_while(|c| c == '#');
        let fits = |c| !is_space(c) && !is_newline(c) && !"\\/(){};[]\"#=".contains(c);
        self.cursor.take_while(fits);
        let range = start..self.cursor.at;
        let word = &self.cursor.text[range.clone()];
        if word.is_empty() {
            let message = format!("{wanted} is missing");
            return Err(Stop::new(self.cursor.here(), message, "expected here")
                .help("text with characters such as / ( { [ ; = needs quotes"));
        }
        let (value, message) = match word {
            "#true" => return Ok(Value::Bool(true)),
            "#false" => return Ok(Value::Bool(false)),
            "#null" => return Ok(Value::Null),
            "#inf" => return Ok(Value::Float(f64::INFINITY)),
            "#-inf" => return Ok(Value::Float(f64::NEG_INFINITY)),
            "#nan" => return Ok(Value::Float(f64::NAN)),
            "true" | "false" | "null" | "inf" | "-inf" | "nan" => (None, "is written with a \"#\""),
            _ if word.starts_with('#') => (None, "is not a keyword"),
            _ if is_number(word) => (number(word), "is not a number"),
            _ if begins_with_point(word) => (None, "begins with a point"),
            _ => return Ok(Value::String(word.to_owned())),
        };
        Ok(value.unwrap_or_else(|| {
            let stop = Stop::new(range, format!("the word {word} {message}"), "wrong word");
            self.words.push(stop.help(hint(word)));
            Value::Null
        }))
    }

    /// Counts a node or an entry.
    fn count(&mut self, start: usize) -> Step<()> {
        self.items += 1;
        if self.items <= self.bounds.items {
            return Ok(());
        }
        let message = format!(
            "the text has more than {} nodes, arguments and properties",
            self.bounds.items
        );
        Err(Stop::new(start..start, message, "this is one too many").help(self.bounds.help))
    }
}

/// From the beginning of a node to the end of another.
fn between(first: &Node, last: &Node) -> SourceSpan {
    let start = first.span.offset();
    spanned(start..last.span.offset() + last.span.len())
}

fn begins_with_point(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let after = unsigned.strip_prefix('.');
    after.is_some_and(|after| after.starts_with(|c: char| c.is_ascii_digit()))
}

/// What to write instead of a word.
fn hint(word: &str) -> String {
    match word {
        "true" | "false" | "null" | "inf" | "-inf" | "nan" => {
            format!("write #{word}, with the \"#\" of KDL 2; as text, \"{word}\" in quotes")
        }
        _ if word.starts_with('#') => {
            "keywords are #true, #false, #null, #inf, #-inf and #nan; comments begin with //"
                .to_owned()
        }
        _ => format!("write it in quotes: \"{word}\""),
    }
}
