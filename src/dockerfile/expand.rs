//! Variables and quotes in words, as BuildKit's lexer has them.

use std::fmt;

use super::model::{HereDocument, Word};
use super::pattern::{Pattern, Unusable};
use crate::limits::Limits;
use crate::text::Problem;

/// How deep substitutions may stand in each other. Fixed: each takes stack.
const DEEPEST: usize = 100;

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexpandable {
    message: String,
    label: &'static str,
    help: String,
}

impl Unexpandable {
    fn new(message: impl Into<String>, label: &'static str, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            label,
            help: help.into(),
        }
    }

    fn unclosed(what: &str, by: char, escape: char) -> Self {
        let help =
            format!("close it with {by}, or write {escape} before it if it is meant as it is");
        Self::new(format!("{what} is not closed"), "not closed", help)
    }

    fn into_problem(self, word: &Word) -> Problem {
        Problem::new(&word.span, self.message, self.label).with_help(self.help)
    }
}

impl fmt::Display for Unexpandable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Unexpandable {}

/// What a variable stands for, if it is set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Expands a word: variables are replaced, quotes and escapes removed.
///
/// # Errors
/// Something is not closed, a substitution is unknown, or a required variable is not set.
pub fn expand(word: &str, lookup: &Lookup<'_>, escape: char) -> Result<String, Unexpandable> {
    Expander::new(escape, lookup).text(word)
}

/// Expands the words of a Dockerfile.
pub struct Expander<'a> {
    escape: char,
    lookup: &'a Lookup<'a>,
    most: u64,
}

impl<'a> Expander<'a> {
    #[must_use]
    pub fn new(escape: char, lookup: &'a Lookup<'a>) -> Self {
        Self {
            escape,
            lookup,
            most: Limits::default().recipe_size,
        }
    }

    /// With another limit for the bytes of a result.
    #[must_use]
    pub const fn limited(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// A word, as one text.
    ///
    /// # Errors
    /// See [`expand`].
    pub fn word(&self, word: &Word) -> Result<String, Problem> {
        let expanded = self.text(&word.value);
        expanded.map_err(|error| error.into_problem(word))
    }

    /// A word, split where unquoted spaces are after variables were replaced.
    ///
    /// # Errors
    /// See [`expand`].
    pub fn words(&self, word: &Word) -> Result<Vec<String>, Problem> {
        let mut lexer = self.lexer(&word.value, true);
        let expanded = lexer.run(None, false);
        Ok(expanded
            .map_err(|error| error.into_problem(word))?
            .into_words())
    }

    /// The content of a here-document that is copied; quotes stay.
    ///
    /// # Errors
    /// See [`expand`].
    pub fn document(&self, document: &HereDocument) -> Result<String, Problem> {
        let content = document.content();
        if !document.expands {
            return Ok(content);
        }
        // The escape of a here-document does not follow the directive.
        let by_backslash = Self {
            escape: '\\',
            ..*self
        };
        let expanded = by_backslash.lexer(&content, false).run(None, false);
        let expanded = expanded.map_err(|error| error.into_problem(&document.name))?;
        Ok(expanded.text)
    }

    fn text(&self, text: &str) -> Result<String, Unexpandable> {
        Ok(self.lexer(text, true).run(None, false)?.text)
    }

    fn lexer(&self, text: &str, quotes: bool) -> Lexer<'_> {
        Lexer {
            characters: text.chars().collect(),
            at: 0,
            escape: self.escape,
            lookup: self.lookup,
            quotes,
            keeps_escapes: false,
            depth: 0,
            left: usize::try_from(self.most).unwrap_or(usize::MAX),
            most: self.most,
        }
    }
}

/// The result, as one text and split into words.
#[derive(Default)]
struct Expanded {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Expanded {
    /// What is quoted or escaped: spaces in it do not split.
    fn quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn plain(&mut self, text: &str) {
        self.text.push_str(text);
        for character in text.chars() {
            if !character.is_whitespace() {
                self.word.push(character);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
    }

    fn into_words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

struct Lexer<'a> {
    characters: Vec<char>,
    at: usize,
    escape: char,
    lookup: &'a Lookup<'a>,
    /// Whether quotes are special.
    quotes: bool,
    /// Whether escapes stay, for a pattern to interpret.
    keeps_escapes: bool,
    depth: usize,
    /// Bytes that may still be produced, also by what is thrown away again.
    left: usize,
    most: u64,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    /// Counts what was produced.
    fn count(&mut self, text: String) -> Result<String, Unexpandable> {
        let Some(left) = self.left.checked_sub(text.len()) else {
            let message = format!("the variables expand to more than {} bytes", self.most);
            let help = "use fewer or shorter variables: each of them may contain others";
            return Err(Unexpandable::new(message, "expands to too much", help));
        };
        self.left = left;
        Ok(text)
    }

    /// Up to `stop`, which is taken, or to the end.
    fn run(&mut self, stop: Option<char>, keeps_escapes: bool) -> Result<Expanded, Unexpandable> {
        let before = std::mem::replace(&mut self.keeps_escapes, keeps_escapes);
        let mut result = Expanded::default();
        while let Some(character) = self.peek() {
            if Some(character) == stop {
                self.next();
                self.keeps_escapes = before;
                return Ok(result);
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    result.plain(&value);
                }
                '\'' if self.quotes => result.quoted(&self.single_quoted()?),
                '"' if self.quotes => result.quoted(&self.double_quoted()?),
                _ => {
                    self.next();
                    let mut buffer = [0; 4];
                    if character != self.escape {
                        result.plain(character.encode_utf8(&mut buffer));
                        continue;
                    }
                    if self.keeps_escapes {
                        result.quoted(character.encode_utf8(&mut buffer));
                    }
                    // An escape at the end is left out.
                    if let Some(escaped) = self.next() {
                        result.quoted(escaped.encode_utf8(&mut buffer));
                    }
                }
            }
        }
        match stop {
            Some('/') => Err(self.unclosed_pattern()),
            Some(_) => Err(self.unclosed_brace()),
            None => Ok(result),
        }
    }

    fn unclosed_brace(&self) -> Unexpandable {
        Unexpandable::unclosed("\"${\"", '}', self.escape)
    }

    fn unclosed_pattern(&self) -> Unexpandable {
        let message = "a replacement in \"${\" needs a second \"/\"";
        let help = "write ${NAME/PATTERN/REPLACEMENT}, or // for every match";
        Unexpandable::new(message, "without a replacement", help)
    }

    fn single_quoted(&mut self) -> Result<String, Unexpandable> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(text),
                Some(character) => text.push(character),
                None => return Err(Unexpandable::unclosed("a quote", '\'', self.escape)),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, Unexpandable> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(Unexpandable::unclosed("a quote", '"', self.escape)),
                Some('"') => {
                    self.next();
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(character) => {
                    self.next();
                    if character != self.escape {
                        text.push(character);
                        continue;
                    }
                    if self.keeps_escapes {
                        text.push(character);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if escaped == '"' || escaped == '$' => {
                            self.next();
                            text.push(escaped);
                        }
                        Some(escaped) if escaped == self.escape => {
                            self.next();
                            text.push(escaped);
                        }
                        Some(_) => text.push(character),
                    }
                }
            }
        }
    }

    /// `$NAME` or `${…}`.
    fn dollar(&mut self) -> Result<String, Unexpandable> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return self.count("$".to_owned());
            }
            let value = (self.lookup)(&name).unwrap_or_default();
            return self.count(value);
        }
        self.next();
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format!("substitutions are nested more than {DEEPEST} deep");
            let help = "use an ARG for the inner part";
            return Err(Unexpandable::new(message, "nested too deep", help));
        }
        let value = self.substitution()?;
        self.depth -= 1;
        self.count(value)
    }

    fn substitution(&mut self) -> Result<String, Unexpandable> {
        match self.peek() {
            None => return Err(self.unclosed_brace()),
            Some('{' | '}' | ':') => {
                let help = "write ${NAME}, or a \\ before the $ if it is meant as it is";
                return Err(Unexpandable::new(
                    "\"${\" needs a name",
                    "needs a name",
                    help,
                ));
            }
            Some(_) => {}
        }
        let name = self.name();
        let value = (self.lookup)(&name);
        match self.next() {
            None => Err(self.unclosed_brace()),
            Some('}') => Ok(value.unwrap_or_default()),
            Some('/') => self.replacement(value.unwrap_or_default()),
            Some(':') => match self.next() {
                None => Err(self.unclosed_brace()),
                Some(modifier @ ('-' | '+' | '?')) => self.modified(&name, value, modifier, true),
                Some(other) => Err(self.unknown(&format!(":{other}"))),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.modified(&name, value, modifier, false),
            Some(side @ ('#' | '%')) => self.trimmed(&value.unwrap_or_default(), side),
            Some(other) => Err(self.unknown(&other.to_string())),
        }
    }

    fn unknown(&self, modifier: &str) -> Unexpandable {
        let help = "these exist: ${N:-word} ${N-word} ${N:+word} ${N+word} ${N:?message} \
                    ${N?message} ${N#pattern} ${N##pattern} ${N%pattern} ${N%%pattern} \
                    ${N/pattern/word} ${N//pattern/word}";
        let message = format!("unknown substitution {modifier:?} in \"${{\"");
        Unexpandable::new(message, "unknown substitution", help)
    }

    fn modified(
        &mut self,
        name: &str,
        value: Option<String>,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, Unexpandable> {
        let word = self.run(Some('}'), false)?.text;
        let usable = value
            .clone()
            .filter(|value| !empty_is_unset || !value.is_empty());
        match modifier {
            '-' => Ok(usable.unwrap_or(word)),
            '+' => Ok(usable.map_or_else(String::new, |_| word)),
            _ => usable.ok_or_else(|| {
                let state = if value.is_some() { "empty" } else { "not set" };
                let message = match word.as_str() {
                    "" => format!("the variable {name} is {state}"),
                    reason => format!("the variable {name} is {state}: {reason}"),
                };
                let help = format!("set it: --build-arg {name}=…, or ARG {name}=… above");
                Unexpandable::new(message, "required here", help)
            }),
        }
    }

    fn trimmed(&mut self, value: &str, side: char) -> Result<String, Unexpandable> {
        let word = self.run(Some('}'), true)?.text;
        let (pattern, longest) = match word.strip_prefix(side) {
            Some(pattern) => (pattern, true),
            None => (word.as_str(), false),
        };
        let parsed = Pattern::parse(pattern);
        let trimmed = parsed.and_then(|parsed| match side {
            '#' => parsed.trim_start(value, longest),
            _ => parsed.trim_end(value, longest),
        });
        trimmed.map_err(|error| unusable(pattern, &error))
    }

    fn replacement(&mut self, value: String) -> Result<String, Unexpandable> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.run(Some('/'), true)?.text;
        let by = self.run(Some('}'), true)?.text;
        let parsed = Pattern::parse(&pattern);
        let replaced = parsed.and_then(|parsed| parsed.replace(&value, &by, all));
        replaced.map_err(|error| unusable(&pattern, &error))
    }

    /// A name: letters, digits and `_`; digits only if it begins with one; or a special parameter.
    fn name(&mut self) -> String {
        let Some(first) = self.peek() else {
            return String::new();
        };
        if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            self.next();
            return first.to_string();
        }
        let only_digits = first.is_numeric();
        let mut name = String::new();
        while let Some(character) = self.peek() {
            let belongs = match only_digits {
                true => character.is_numeric(),
                false => character.is_alphanumeric() || character == '_',
            };
            if !belongs {
                break;
            }
            name.push(character);
            self.next();
        }
        name
    }
}

fn unusable(pattern: &str, error: &Unusable) -> Unexpandable {
    match error {
        Unusable::Escape(after) => {
            let after = after.map_or_else(|| "the end".to_owned(), |c| format!("{c:?}"));
            let message = format!("the pattern {pattern:?} has a \\ before {after}");
            let help = "write \\ only before * ? } / and \\";
            Unexpandable::new(message, "not a pattern", help)
        }
        Unusable::TooLong => {
            let message = "the pattern and the value are too long for each other";
            let help = "use a shorter value, or a pattern with fewer *";
            Unexpandable::new(message, "takes too long", help)
        }
    }
}

#[cfg(test)]
mod tests;
