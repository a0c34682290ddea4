//! Logical lines: continuations joined, comments taken out, with the place of every byte.

use std::ops::Range;

use super::model::{Directives, Word};
use crate::text::{Problem, Source, Span, Spanned};

/// A place in a text.
pub(super) fn span(source: &Source, range: Range<usize>) -> Span {
    Span {
        source: source.clone(),
        range: (range.start, range.len()).into(),
    }
}

/// A logical line.
pub(super) struct Line {
    pub(super) source: Source,
    pub(super) text: String,
    /// Where pieces of the text begin: in the text, and in the source.
    pieces: Vec<(usize, usize)>,
    /// Comments directly above it.
    pub(super) comments: Vec<Word>,
}

impl Line {
    fn new(source: &Source) -> Self {
        Self {
            source: source.clone(),
            text: String::new(),
            pieces: Vec::new(),
            comments: Vec::new(),
        }
    }

    fn push(&mut self, text: &str, offset: usize) {
        self.pieces.push((self.text.len(), offset));
        self.text.push_str(text);
    }

    fn offset(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(start, _)| *start <= at);
        match piece
            .checked_sub(1)
            .and_then(|piece| self.pieces.get(piece))
        {
            Some((start, offset)) => offset + (at - start),
            None => 0,
        }
    }

    /// The place of a part of the text.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self.offset(range.start);
        let end = match range.is_empty() {
            true => start,
            false => self.offset(range.end - 1) + 1,
        };
        span(&self.source, start..end)
    }

    /// A part of the text, with its place.
    pub(super) fn word(&self, range: Range<usize>) -> Word {
        Spanned::new(self.text[range.clone()].to_owned(), self.span(range))
    }
}

/// Reads logical lines from a text.
pub(super) struct Lines<'a> {
    source: Source,
    text: &'a str,
    /// Where the next physical line begins.
    at: usize,
    pub(super) directives: Directives,
    /// The names that were seen, until a line ends the directives.
    directives_seen: Option<Vec<String>>,
    pub(super) empty_continuations: Vec<Span>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &Source, text: &'a str) -> Self {
        Self {
            source: source.clone(),
            text,
            at: if text.starts_with('\u{feff}') { 3 } else { 0 },
            directives: Directives::default(),
            directives_seen: Some(Vec::new()),
            empty_continuations: Vec::new(),
        }
    }

    /// The next physical line with its end, and where it begins.
    fn physical(&mut self) -> Option<(&'a str, usize)> {
        let rest = &self.text[self.at..];
        let line = rest.split_inclusive('\n').next()?;
        let offset = self.at;
        self.at += line.len();
        Some((line, offset))
    }

    /// The next instruction.
    pub(super) fn next(&mut self, problems: &mut Vec<Problem>) -> Option<Line> {
        let mut line = Line::new(&self.source);
        loop {
            let (raw, offset) = self.physical()?;
            let text = raw.trim_end_matches(['\r', '\n']);
            let content = text.trim_start();
            let offset = offset + (text.len() - content.len());
            if let Some(comment) = content.strip_prefix('#') {
                if !self.directive(comment, offset + 1, problems) {
                    note(&mut line, comment, offset + 1);
                }
                continue;
            }
            self.directives_seen = None;
            if content.is_empty() {
                line.comments.clear();
                continue;
            }
            let (content, mut is_continued) = self.continued(content);
            line.push(content, offset);
            let mut has_empty = false;
            while is_continued {
                let Some((raw, offset)) = self.physical() else {
                    break;
                };
                let text = raw.trim_end_matches(['\r', '\n']);
                if text.trim_start().starts_with('#') {
                    continue;
                }
                if text.trim().is_empty() {
                    if !std::mem::replace(&mut has_empty, true) {
                        let empty = span(&self.source, offset..offset + text.len());
                        self.empty_continuations.push(empty);
                    }
                    continue;
                }
                let (content, continues) = self.continued(text);
                line.push(content, offset);
                is_continued = continues;
            }
            if !line.text.trim().is_empty() {
                return Some(line);
            }
            line = Line::new(&self.source);
        }
    }

    /// A line without the escape that continues it, and whether it is continued.
    fn continued<'b>(&self, line: &'b str) -> (&'b str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(rest) if !rest.ends_with(escape) => (rest, true),
            _ => (line, false),
        }
    }

    /// Takes a comment as a directive, if it is one.
    fn directive(&mut self, comment: &str, offset: usize, problems: &mut Vec<Problem>) -> bool {
        let Some(seen) = &mut self.directives_seen else {
            return false;
        };
        let parts = comment.split_once('=');
        let known = parts.and_then(|(name, value)| {
            let name = name.trim().to_ascii_lowercase();
            let is_known = matches!(name.as_str(), "syntax" | "escape" | "check");
            (is_known && !value.trim().is_empty()).then_some((name, value))
        });
        let Some((name, value)) = known else {
            self.directives_seen = None;
            return false;
        };
        let start = offset + comment.len() - value.trim_start().len();
        let place = span(&self.source, start..start + value.trim().len());
        let word = Spanned::new(value.trim().to_owned(), place);
        if seen.contains(&name) {
            let message = format!("the directive {name} is given twice");
            let help = "keep one of the two lines";
            problems.push(Problem::new(&word.span, message, "second value").with_help(help));
            return true;
        }
        match name.as_str() {
            "syntax" => self.directives.syntax = Some(word),
            "check" => self.directives.check = Some(word),
            _ => match word.value.as_str() {
                "\\" => self.directives.escape = '\\',
                "`" => self.directives.escape = '`',
                other => {
                    let message = format!("{other:?} cannot be the escape character");
                    let problem = Problem::new(&word.span, message, "not an escape character");
                    problems.push(problem.with_help("write \\ or `"));
                }
            },
        }
        seen.push(name);
        true
    }

    /// The lines up to one that ends a here-document, which is taken. `None` if no line does.
    pub(super) fn here_document(&mut self, end: &str, strips_tabs: bool) -> Option<String> {
        let start = self.at;
        while let Some((raw, offset)) = self.physical() {
            let line = raw.trim_end_matches(['\r', '\n']);
            let line = match strips_tabs {
                true => line.trim_start_matches('\t'),
                false => line,
            };
            if line == end {
                return Some(self.text[start..offset].to_owned());
            }
        }
        None
    }
}

/// Keeps a comment for the instruction below; an empty one cuts off those above.
fn note(line: &mut Line, comment: &str, offset: usize) {
    let text = comment.trim();
    if text.is_empty() {
        line.comments.clear();
        return;
    }
    let start = offset + comment.len() - comment.trim_start().len();
    let place = span(&line.source, start..start + text.len());
    line.comments.push(Spanned::new(text.to_owned(), place));
}
