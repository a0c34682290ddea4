//! KDL 2 text to tokens, comments and newlines among them. The text must be valid KDL: what is not
//! is taken as words.

use crate::text::kdl::{self, is_newline};

/// A piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Newline,
    Semicolon,
    OpenBrace,
    CloseBrace,
    /// `// …` without the newline.
    LineComment(&'a str),
    /// `/* … */`.
    BlockComment(&'a str),
    /// `/-`.
    Slashdash,
    /// `\` with the newline, and the comment before it if there is one.
    Continuation(&'a str),
    /// `""" … """`, raw or not.
    MultilineString(&'a str),
    /// `=`, `(` or `)`.
    Punctuation(&'a str),
    /// A string on one line, a number, an identifier, a keyword.
    Word(&'a str),
}

/// The tokens of a text; spaces are left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { rest: text };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    tokens
}

fn is_space(c: char) -> bool {
    kdl::is_space(c) || c == '\u{feff}'
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    /// Takes `length` bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn next(&mut self) -> Option<Token<'a>> {
        self.rest = self.rest.trim_start_matches(is_space);
        let first = self.rest.chars().next()?;
        if is_newline(first) {
            let length = if self.rest.starts_with("\r\n") {
                2
            } else {
                first.len_utf8()
            };
            self.take(length);
            return Some(Token::Newline);
        }
        Some(match first {
            ';' => {
                self.take(1);
                Token::Semicolon
            }
            '{' => {
                self.take(1);
                Token::OpenBrace
            }
            '}' => {
                self.take(1);
                Token::CloseBrace
            }
            '=' | '(' | ')' => Token::Punctuation(self.take(1)),
            '/' => self.slash(),
            '\\' => self.continuation(),
            '"' | '#' => self.string(),
            _ => {
                let end = |c: char| is_space(c) || is_newline(c) || "\\/(){};[]\"#=".contains(c);
                let skip = first.len_utf8();
                let length = self.rest[skip..].find(end).map(|at| at + skip);
                Token::Word(self.take(length.unwrap_or(self.rest.len())))
            }
        })
    }

    fn line_end(&self) -> usize {
        self.rest.find(is_newline).unwrap_or(self.rest.len())
    }

    fn slash(&mut self) -> Token<'a> {
        if self.rest.starts_with("//") {
            return Token::LineComment(self.take(self.line_end()).trim_end());
        }
        if self.rest.starts_with("/-") {
            self.take(2);
            return Token::Slashdash;
        }
        let mut depth = 0;
        let mut at = 0;
        while at < self.rest.len() {
            let here = &self.rest[at..];
            if here.starts_with("/*") {
                depth += 1;
                at += 2;
            } else if here.starts_with("*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            } else {
                at += here.chars().next().map_or(1, char::len_utf8);
            }
        }
        Token::BlockComment(self.take(at.min(self.rest.len())))
    }

    fn continuation(&mut self) -> Token<'a> {
        let line = self.take(self.line_end());
        // The newline belongs to it.
        self.next();
        Token::Continuation(line[1..].trim())
    }

    fn string(&mut self) -> Token<'a> {
        let hashes = self.rest.bytes().take_while(|byte| *byte == b'#').count();
        let body = &self.rest[hashes..];
        if !body.starts_with('"') {
            let end = |c: char| is_space(c) || is_newline(c) || "\\/(){};[]\"=".contains(c);
            let length = self.rest.find(end).unwrap_or(self.rest.len());
            return Token::Word(self.take(length.max(1)));
        }
        let multiline = body.starts_with("\"\"\"");
        let quotes = if multiline { "\"\"\"" } else { "\"" };
        let close = format!("{quotes}{}", "#".repeat(hashes));
        let mut at = hashes + quotes.len();
        while at < self.rest.len() && !self.rest[at..].starts_with(&close) {
            let mut characters = self.rest[at..].chars();
            let first = characters.next();
            at += first.map_or(1, char::len_utf8);
            if hashes == 0 && first == Some('\\') {
                at += characters.next().map_or(0, char::len_utf8);
            }
        }
        let text = self.take((at + close.len()).min(self.rest.len()));
        if multiline {
            Token::MultilineString(text)
        } else {
            Token::Word(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let text =
            "a k=(t)\"x y\" /-1 #true #\"r\"#; // c\nb \\ // d\n c {/* x /* y */ */}\"\"\"\n\"\"\"";
        let expected = [
            Token::Word("a"),
            Token::Word("k"),
            Token::Punctuation("="),
            Token::Punctuation("("),
            Token::Word("t"),
            Token::Punctuation(")"),
            Token::Word("\"x y\""),
            Token::Slashdash,
            Token::Word("1"),
            Token::Word("#true"),
            Token::Word("#\"r\"#"),
            Token::Semicolon,
            Token::LineComment("// c"),
            Token::Newline,
            Token::Word("b"),
            Token::Continuation("// d"),
            Token::Word("c"),
            Token::OpenBrace,
            Token::BlockComment("/* x /* y */ */"),
            Token::CloseBrace,
            Token::MultilineString("\"\"\"\n\"\"\""),
        ];
        assert_eq!(tokens(text), expected);
    }
}
