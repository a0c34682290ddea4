//! `vmfab fmt`: one way to lay out a recipe.
//!
//! Four spaces for each level, one space between words, one node on a line, at most one blank line
//! in a row; comments stay where they are. A block stays on one line when it was written on one and
//! has one node. Multi-line strings move with their line. What strings, numbers and names are
//! written as is kept. (`KdlDocument::autoformat` of the crate `kdl` drops comments between
//! arguments and rewrites strings, so it is not used.)

mod token;

use std::sync::Arc;

use miette::NamedSource;

use super::error::{Problem, RecipeError};
use crate::text::kdl::{self, Bounds, Document, Node};
use token::{Token, tokens};

const INDENT: usize = 4;
/// The widest line, in characters, that a block is kept on.
const WIDTH: usize = 100;

/// The recipe `text` in the usual layout; `name` is for messages. It means the same, and formatting
/// it again changes nothing.
///
/// # Errors
/// The text is not KDL 2.
pub fn format(name: &str, text: &str) -> Result<String, RecipeError> {
    let before = parse(name, text).map_err(|problems| RecipeError::new(name, problems))?;
    let formatted = Printer::default().print(&tokens(text));
    // Whatever is wrong with the printer, it must not change what a recipe means.
    match parse(name, &formatted) {
        Ok(after) if same(&before, &after) => Ok(formatted),
        _ => Ok(text.to_owned()),
    }
}

fn parse(name: &str, text: &str) -> Result<Document, Vec<Problem>> {
    let source = Arc::new(NamedSource::new(name, text.to_owned()));
    kdl::parse(&source, Bounds::WRITTEN, "recipes are")
}

/// Whether two documents mean the same.
fn same(a: &Document, b: &Document) -> bool {
    let same_children = |a: &Node, b: &Node| match (a.children(), b.children()) {
        (Some(a), Some(b)) => same(a, b),
        (Some(one), None) | (None, Some(one)) => one.nodes().is_empty(),
        (None, None) => true,
    };
    let same_node = |a: &Node, b: &Node| {
        let entries = |node: &Node| {
            let entries = node.entries().iter();
            entries
                .map(|entry| {
                    let name = entry.name().map(|name| name.value().to_owned());
                    let annotation = entry.ty().map(|ty| ty.value().to_owned());
                    (name, annotation, entry.value().clone())
                })
                .collect::<Vec<_>>()
        };
        a.name().value() == b.name().value()
            && a.ty().map(|ty| ty.value()) == b.ty().map(|ty| ty.value())
            && entries(a) == entries(b)
            && same_children(a, b)
    };
    a.nodes().len() == b.nodes().len()
        && a.nodes()
            .iter()
            .zip(b.nodes())
            .all(|(a, b)| same_node(a, b))
}

/// Where the printer is in its line.
#[derive(Default, PartialEq, Clone, Copy)]
enum Position {
    /// Nothing is on the line.
    #[default]
    Start,
    /// Nothing is on the line, which goes on with the node of the line before.
    Continued,
    /// The next word needs a space before it.
    Spaced,
    /// The next word follows without a space.
    Glued,
}

#[derive(Default)]
struct Printer {
    out: String,
    depth: usize,
    position: Position,
    /// A blank line is to come before what is next.
    blank: bool,
    /// Nothing came since `{`.
    opened: bool,
}

impl Printer {
    fn print(mut self, tokens: &[Token<'_>]) -> String {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            let next = tokens.get(at);
            match *token {
                Token::Newline => self.newline(),
                Token::Semicolon => {
                    if !matches!(next, Some(Token::Newline | Token::LineComment(_))) {
                        self.end_line();
                    }
                }
                Token::OpenBrace => {
                    self.word("{");
                    if let Some(count) = self.one_line(&tokens[at..]) {
                        at += count;
                    } else {
                        self.depth += 1;
                        self.opened = true;
                        if !matches!(next, Some(Token::LineComment(_) | Token::CloseBrace)) {
                            self.end_line();
                        }
                    }
                }
                Token::CloseBrace => {
                    self.depth = self.depth.saturating_sub(1);
                    self.blank = false;
                    if self.opened {
                        self.out.truncate(self.out.trim_end().len());
                        self.position = Position::Glued;
                    } else {
                        self.end_line();
                    }
                    self.word("}");
                }
                Token::LineComment(text) => {
                    self.word(text);
                    // The newline that must follow ends the line.
                }
                Token::BlockComment(text) | Token::Word(text) => self.word(text),
                Token::Slashdash => {
                    self.word("/-");
                    self.position = Position::Glued;
                }
                Token::Continuation(comment) => self.continuation(comment),
                Token::MultilineString(text) => {
                    let text = reindent(text, (self.depth + 1) * INDENT);
                    self.word(&text);
                }
                Token::Punctuation(text) => self.punctuation(text),
            }
        }
        self.end_line();
        self.out
    }

    fn newline(&mut self) {
        match self.position {
            Position::Start => self.blank = !self.out.is_empty() && !self.opened,
            _ => self.end_line(),
        }
    }

    fn end_line(&mut self) {
        if self.position != Position::Start {
            self.out.truncate(self.out.trim_end_matches(' ').len());
            self.out.push('\n');
        }
        self.position = Position::Start;
    }

    fn word(&mut self, text: &str) {
        match self.position {
            Position::Start => {
                if self.blank {
                    self.out.push('\n');
                }
                self.indent(self.depth);
            }
            Position::Continued => self.indent(self.depth + 1),
            Position::Spaced => self.out.push(' '),
            Position::Glued => {}
        }
        self.blank = false;
        self.opened = false;
        self.out.push_str(text);
        self.position = Position::Spaced;
    }

    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n(' ', depth * INDENT));
    }

    fn punctuation(&mut self, text: &str) {
        if text != "(" && self.position == Position::Spaced {
            self.position = Position::Glued;
        }
        self.word(text);
        self.position = Position::Glued;
    }

    fn continuation(&mut self, comment: &str) {
        self.word("\\");
        if !comment.is_empty() {
            self.word(comment);
        }
        self.out.push('\n');
        self.position = Position::Continued;
    }

    /// After `{`: prints the block on this line if it was on one, has one node, and fits. Gives the
    /// number of tokens that it took.
    fn one_line(&mut self, tokens: &[Token<'_>]) -> Option<usize> {
        let simple = |token: &Token<'_>| {
            matches!(
                token,
                Token::Word(_) | Token::Punctuation(_) | Token::Slashdash | Token::Semicolon
            )
        };
        let length = tokens.iter().take_while(|token| simple(token)).count();
        let (body, rest) = tokens.split_at(length);
        let body = match body {
            [body @ .., Token::Semicolon] => body,
            body => body,
        };
        if rest.first() != Some(&Token::CloseBrace)
            || body.is_empty()
            || body.contains(&Token::Semicolon)
        {
            return None;
        }
        let (start, position) = (self.out.len(), self.position);
        for token in body {
            match *token {
                Token::Punctuation(text) => self.punctuation(text),
                Token::Word(text) => self.word(text),
                _ => {
                    self.word("/-");
                    self.position = Position::Glued;
                }
            }
        }
        self.position = Position::Spaced;
        self.word("}");
        let line = self.out.rsplit('\n').next().unwrap_or_default();
        if line.chars().count() > WIDTH {
            self.out.truncate(start);
            self.position = position;
            return None;
        }
        Some(length + 1)
    }
}

/// A multi-line string with its lines indented by `width`; as it is when that changes its value.
fn reindent(text: &str, width: usize) -> String {
    let lines: Vec<&str> = text
        .split('\n')
        .map(|line| line.trim_end_matches('\r'))
        .collect();
    let [first, middle @ .., last] = lines.as_slice() else {
        return text.to_owned();
    };
    let closing = last.trim_start();
    let prefix = &last[..last.len() - closing.len()];
    let indent = " ".repeat(width);
    let mut result = vec![(*first).to_owned()];
    for line in middle {
        match line.strip_prefix(prefix) {
            _ if line.trim().is_empty() => result.push(String::new()),
            Some(rest) => result.push(format!("{indent}{rest}")),
            None => return text.to_owned(),
        }
    }
    result.push(format!("{indent}{closing}"));
    let result = result.join("\n");
    let value = |text: &str| {
        let document = parse("", &format!("- {text}")).ok()?;
        document.nodes().first()?.get(0).cloned()
    };
    if value(&result).is_some() && value(&result) == value(text) {
        result
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn done(text: &str) -> String {
        let once = format("test.kdl", text).unwrap();
        assert_eq!(format("test.kdl", &once).unwrap(), once, "not idempotent");
        once
    }

    #[test]
    fn layout() {
        let text = "\n\n// first\nrecipe   \"x\"   version = \"1\" { param \"a\" default=(t) 1;param \"b\" }\n\n\n\
            image \"web\"{from \"debian-12\" // base\n\n\n  /* two\n lines */ packages \"a\" \\ // more\n\"b\"\n\
            /- user \"vm\"  sudo=#true\nport 80 ; file \"/x\" { content \"y\" }\n  // last\n\n}// end";
        insta::assert_snapshot!(done(text), @r#"
        // first
        recipe "x" version="1" {
            param "a" default=(t)1
            param "b"
        }

        image "web" {
            from "debian-12" // base

            /* two
         lines */ packages "a" \ // more
                "b"
            /-user "vm" sudo=#true
            port 80
            file "/x" { content "y" }
            // last
        } // end
        "#);
    }

    #[test]
    fn strings_move_with_their_line() {
        let text = "image x {\n      file \"/a\" {\n content #\"\"\"\n   { \"a\": 1 }\n\n     }\n   \"\"\"#\n}\n run \"\"\"\n\ta\n\t\tb\n\t\"\"\"\n}";
        insta::assert_snapshot!(done(text), @r##"
        image x {
            file "/a" {
                content #"""
                    { "a": 1 }

                      }
                    """#
            }
            run """
                a
                	b
                """
        }
        "##);
    }

    #[test]
    fn corners() {
        assert_eq!(done(""), "");
        assert_eq!(done("\n \n"), "");
        assert_eq!(done("a {}"), "a {}\n");
        assert_eq!(done("a {\n}\r\nb"), "a {}\nb\n");
        assert_eq!(done("a { b }; c"), "a { b }\nc\n");
        assert_eq!(done("a { // x\n b }"), "a { // x\n    b\n}\n");
        assert_eq!(done("a { b { c } }"), "a {\n    b { c }\n}\n");
        assert_eq!(done("// only"), "// only\n");
        assert_eq!(done("a 1 /-{ b\n }"), "a 1 /-{\n    b\n}\n");
    }

    #[test]
    fn what_is_not_kdl_is_refused() {
        assert!(format("test.kdl", "a {").is_err());
    }

    /// Pieces that make KDL when they are put together in many orders.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a",
            "\"b c\"",
            " ",
            "  ",
            "\n",
            "\n\n",
            ";",
            " {",
            "}",
            "{ x }",
            " k=1",
            " k = \"v\"",
            "/-",
            "// c\n",
            "/* d */",
            " \\\n",
            "#\"r\"#",
            " #true",
            "(t)",
            "\"\"\"\n  m\n  \"\"\"",
            "é",
            " -1.5",
            "\r\n",
            "\\ // e\n",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.join(" "))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn meaning_and_comments_stay(text in texts()) {
            let Ok(before) = parse("", &text) else { return Ok(()) };
            let printed = Printer::default().print(&tokens(&text));
            let after = parse("", &printed);
            prop_assert!(after.as_ref().is_ok_and(|after| same(&before, after)), "{printed:?}");
            prop_assert_eq!(Printer::default().print(&tokens(&printed)), printed.clone());
            for comment in ["// c", "/* d */", "// e"] {
                prop_assert_eq!(text.matches(comment).count(), printed.matches(comment).count());
            }
        }
    }
}
