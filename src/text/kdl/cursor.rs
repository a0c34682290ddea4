//! Characters, spaces and comments.

use std::ops::Range;

/// Why reading stopped: what is wrong, where, and what to do.
#[derive(Debug)]
pub(super) struct Stop {
    pub range: Range<usize>,
    pub message: String,
    pub label: &'static str,
    pub help: Option<String>,
}

impl Stop {
    pub(super) fn new(
        range: Range<usize>,
        message: impl Into<String>,
        label: &'static str,
    ) -> Self {
        Self {
            range,
            message: message.into(),
            label,
            help: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

pub(super) type Step<T> = Result<T, Stop>;

/// The newlines of KDL 2 (section 3.18 of its specification).
pub(crate) const fn is_newline(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{85}' | '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}'
    )
}

/// The spaces of KDL 2 (section 3.17).
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() && !is_newline(c)
}

/// What may stand nowhere in a text (section 3.19). The mark at its very start is left out before.
const fn is_disallowed(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}'
            | '\u{e}'..='\u{1f}'
            | '\u{7f}'
            | '\u{200e}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// A place in a text.
pub(super) struct Cursor<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Cursor<'a> {
    /// The beginning of a text in which every character is allowed.
    pub(super) fn new(text: &'a str) -> Step<Self> {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        let wrong = text[at..].char_indices().find(|(_, c)| is_disallowed(*c));
        match wrong {
            None => Ok(Self { text, at }),
            Some((place, c)) => {
                let range = at + place..at + place + c.len_utf8();
                let message = format!("the character U+{:04X} is not allowed", u32::from(c));
                Err(Stop::new(range, message, "it is invisible").help(format!(
                    "remove it, or in a quoted string write \\u{{{:x}}}",
                    u32::from(c)
                )))
            }
        }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn at(&self, text: &str) -> bool {
        self.rest().starts_with(text)
    }

    /// Whether `text` came, which is then behind.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let found = self.at(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(super) fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// The range of the character that is next; empty at the end.
    pub(super) fn here(&self) -> Range<usize> {
        self.at..self.at + self.peek().map_or(0, char::len_utf8)
    }

    /// Takes one newline.
    pub(super) fn newline(&mut self) -> bool {
        match self.peek() {
            _ if self.take("\r\n") => true,
            Some(c) if is_newline(c) => {
                self.at += c.len_utf8();
                true
            }
            _ => false,
        }
    }

    /// Takes spaces, comments between `/*` and `*/`, and continued lines. Tells whether there were
    /// any.
    pub(super) fn node_space(&mut self) -> Step<bool> {
        let start = self.at;
        loop {
            if self.at("\\") {
                self.continuation()?;
            } else if !self.space()? {
                return Ok(self.at > start);
            }
        }
    }

    /// The same, with newlines and comments after `//`.
    pub(super) fn line_space(&mut self) -> Step<()> {
        while self.node_space()? || self.newline() || self.line_comment() {}
        Ok(())
    }

    /// Takes `// …` without the newline.
    pub(super) fn line_comment(&mut self) -> bool {
        let found = self.at("//");
        if found {
            self.take_while(|c| !is_newline(c));
        }
        found
    }

    fn space(&mut self) -> Step<bool> {
        let start = self.at;
        self.take_while(is_space);
        if self.at("/*") {
            self.comment()?;
        }
        Ok(self.at > start)
    }

    /// Comments lie in each other: they are counted.
    fn comment(&mut self) -> Step<()> {
        let start = self.at;
        let mut depth = 0;
        loop {
            if self.take("/*") {
                depth += 1;
            } else if self.take("*/") {
                depth -= 1;
                if depth == 0 {
                    return Ok(());
                }
            } else {
                match self.peek() {
                    Some(c) => self.at += c.len_utf8(),
                    None => {
                        let stop = Stop::new(
                            start..start + 2,
                            "the comment does not end",
                            "it begins here",
                        );
                        return Err(
                            stop.help("end it with */; comments nest, so each /* needs one")
                        );
                    }
                }
            }
        }
    }

    fn continuation(&mut self) -> Step<()> {
        let start = self.at;
        self.at += 1;
        while self.space()? {}
        if self.line_comment() {
            self.newline();
            return Ok(());
        }
        if self.newline() || self.peek().is_none() {
            return Ok(());
        }
        let stop = Stop::new(
            start..start + 1,
            "text follows \"\\\" in the same line",
            "not at the end of its line",
        );
        Err(stop.help(
            "\"\\\" at the end of a line continues the node on the next one; in text, use quotes",
        ))
    }
}
