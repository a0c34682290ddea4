//! Patterns of paths, as Go's `filepath.Match` and the `.dockerignore` of BuildKit have them. Pure.

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// `[` without `]`, or with something between that is no range.
    Class,
    /// `\` at the end.
    Escape,
    /// Only `!`.
    Nothing,
}

impl Malformed {
    #[must_use]
    pub fn message(self, pattern: &str) -> String {
        format!("{pattern:?} is not a pattern")
    }

    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Class => "[ is not closed",
            Self::Escape => "\\ at the end",
            Self::Nothing => "no pattern after !",
        }
    }

    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Class => "write a class such as [a-z], or \\[ for the character itself",
            Self::Escape => "write \\\\ for the character itself",
            Self::Nothing => "write the files to take in again, such as !docs/README.md",
        }
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed pattern: {}", self.label())
    }
}

impl std::error::Error for Malformed {}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Exactly(char),
    /// `?`
    Any,
    /// `*`
    Many,
    /// `**` at the end: everything.
    All,
    /// `**/`: any directories, or none.
    Directories,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern of paths: `*` and `?` stay within a part, `**` does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    tokens: Vec<Token>,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is malformed.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        Self::read(text, true)
    }

    /// Reads a pattern of one part: `**` means what `*` does.
    ///
    /// # Errors
    /// It is malformed.
    pub fn of_name(text: &str) -> Result<Self, Malformed> {
        Self::read(text, false)
    }

    fn read(text: &str, across: bool) -> Result<Self, Malformed> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            tokens.push(match character {
                '*' if across && rest.next_if_eq(&'*').is_some() => {
                    rest.next_if_eq(&'/');
                    match rest.peek() {
                        None => Token::All,
                        Some(_) => Token::Directories,
                    }
                }
                '*' => Token::Many,
                '?' => Token::Any,
                '[' => class(&mut rest)?,
                '\\' => Token::Exactly(rest.next().ok_or(Malformed::Escape)?),
                other => Token::Exactly(other),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            tokens,
        })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has anything but plain characters.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        let plain = |token: &Token| matches!(token, Token::Exactly(_));
        !self.tokens.iter().all(plain)
    }

    /// Whether it matches a whole path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if !self.is_pattern() && !self.text.contains('\\') {
            return self.text == path;
        }
        self.after(path.chars()).last() == Some(&true)
    }

    /// Whether it can match something in a directory.
    #[must_use]
    pub fn may_match_below(&self, directory: &str) -> bool {
        let states = self.after(directory.chars().chain(['/']));
        states.contains(&true)
    }

    /// Where in the pattern one can be after these characters.
    fn after(&self, characters: impl Iterator<Item = char>) -> Vec<bool> {
        let mut states = vec![false; self.tokens.len() + 1];
        states[0] = true;
        // `**/` matches nothing, or something that ends with a slash.
        let mut in_directories = vec![false; self.tokens.len()];
        self.skip_empty(&mut states);
        for character in characters {
            let mut next = vec![false; states.len()];
            let mut next_in = vec![false; in_directories.len()];
            for (at, token) in self.tokens.iter().enumerate() {
                if *token == Token::Directories && (states[at] || in_directories[at]) {
                    next_in[at] = true;
                    next[at + 1] |= character == '/';
                }
                if !states[at] {
                    continue;
                }
                match token {
                    Token::Exactly(wanted) => next[at + 1] |= *wanted == character,
                    Token::Any => next[at + 1] |= character != '/',
                    Token::Many => next[at] |= character != '/',
                    Token::All => next[at] = true,
                    Token::Directories => {}
                    Token::Class { negated, ranges } => {
                        let inside = ranges.iter().any(|(a, z)| (*a..=*z).contains(&character));
                        next[at + 1] |= inside != *negated;
                    }
                }
            }
            self.skip_empty(&mut next);
            states = next;
            in_directories = next_in;
        }
        for (at, inside) in in_directories.into_iter().enumerate() {
            states[at] |= inside;
        }
        states
    }

    /// Passes what can match nothing.
    fn skip_empty(&self, states: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if states[at] && matches!(token, Token::Many | Token::All | Token::Directories) {
                states[at + 1] = true;
            }
        }
    }
}

/// The rest of a class; Go's, where `^` negates.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, Malformed> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let first = class_character(rest)?;
        let last = match rest.next_if_eq(&'-') {
            Some(_) => class_character(rest)?,
            None => first,
        };
        ranges.push((first, last));
    }
}

fn class_character(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, Malformed> {
    match rest.next() {
        None | Some('-' | ']') => Err(Malformed::Class),
        Some('\\') => rest.next().ok_or(Malformed::Class),
        Some(character) => Ok(character),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plain definition, on tokens.
    fn matches(tokens: &[Token], path: &[char]) -> bool {
        let tails = || (0..=path.len()).map(|at| (&path[..at], &path[at..]));
        match tokens {
            [] => path.is_empty(),
            [Token::All, rest @ ..] => tails().any(|(_, tail)| matches(rest, tail)),
            [Token::Many, rest @ ..] => {
                tails().any(|(head, tail)| !head.contains(&'/') && matches(rest, tail))
            }
            [Token::Directories, rest @ ..] => tails().any(|(head, tail)| {
                (head.is_empty() || head.ends_with(&['/'])) && matches(rest, tail)
            }),
            [Token::Any, rest @ ..] => {
                path.first().is_some_and(|c| *c != '/') && matches(rest, &path[1..])
            }
            [Token::Exactly(wanted), rest @ ..] => {
                path.first() == Some(wanted) && matches(rest, &path[1..])
            }
            [Token::Class { negated, ranges }, rest @ ..] => {
                let inside = |c: &char| ranges.iter().any(|(a, z)| (a..=z).contains(&c));
                path.first().is_some_and(|c| inside(c) != *negated) && matches(rest, &path[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_the_definition_says(
            pattern in r"[ab*?/]{1,7}", path in "[ab/]{0,7}",
        ) {
            let glob = Glob::new(&pattern).unwrap();
            let characters: Vec<char> = path.chars().collect();
            prop_assert_eq!(glob.matches(&path), matches(&glob.tokens, &characters));
        }

        #[test]
        fn a_directory_that_cannot_hold_a_match_holds_none(
            pattern in r"[ab*?/]{1,7}", directory in "[ab]{1,2}", rest in "[ab/]{1,5}",
        ) {
            let glob = Glob::new(&pattern).unwrap();
            if glob.matches(&format!("{directory}/{rest}")) {
                prop_assert!(glob.may_match_below(&directory));
            }
        }
    }
}
