//! Paths of sources, whose parts may be patterns as Go's `filepath.Match` has them
//! (<https://pkg.go.dev/path/filepath#Match>). Pure.

use std::ffi::OsString;
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

/// A path below the root of a context or a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePath(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Name(String),
    Pattern(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Exactly(char),
    Any,
    Many,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a pattern: a bracket is not closed, or nothing follows a backslash")]
pub struct BadPattern(String);

impl SourcePath {
    /// Parts `.` and `..` are resolved first; none leads above the root.
    ///
    /// # Errors
    /// A part is no pattern.
    pub fn parse(path: &str) -> Result<Self, BadPattern> {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let parse = |part: &&str| match part.contains(['*', '?', '[', '\\']) {
            true => Ok(Part::Pattern(tokens(part)?)),
            false => Ok(Part::Name((*part).to_owned())),
        };
        Ok(Self(parts.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// The path, if no part is a pattern.
    #[must_use]
    pub fn plain(&self) -> Option<PathBuf> {
        let names = self.0.iter().map(|part| match part {
            Part::Name(name) => Some(name),
            Part::Pattern(_) => None,
        });
        names.collect()
    }

    /// The paths that it stands for, sorted. `names` gives those in a directory, and nothing for
    /// what is none. A path without patterns stands for itself, whether it exists or not.
    ///
    /// # Errors
    /// Those of `names`.
    pub fn expand(
        &self,
        names: &mut dyn FnMut(&Path) -> io::Result<Vec<OsString>>,
    ) -> io::Result<Vec<PathBuf>> {
        let mut paths = vec![PathBuf::new()];
        let mut behind_pattern = false;
        for part in &self.0 {
            let mut next = Vec::new();
            for path in paths {
                match part {
                    Part::Name(name) if !behind_pattern => next.push(path.join(name)),
                    Part::Name(name) => {
                        let found = names(&path)?.into_iter().find(|other| **other == **name);
                        next.extend(found.map(|name| path.join(name)));
                    }
                    Part::Pattern(tokens) => {
                        let mut found = names(&path)?;
                        found.retain(|name| {
                            let name: Vec<char> = name.to_string_lossy().chars().collect();
                            matches(tokens, &name)
                        });
                        found.sort();
                        next.extend(found.into_iter().map(|name| path.join(name)));
                    }
                }
            }
            behind_pattern |= matches!(part, Part::Pattern(_));
            paths = next;
        }
        Ok(paths)
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, BadPattern> {
    let bad = || BadPattern(text.to_owned());
    let mut characters = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' => Token::Many,
            '?' => Token::Any,
            '\\' => Token::Exactly(characters.next().ok_or_else(bad)?),
            '[' => {
                let negated = characters.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                // `None` ends the class; an escaped character is no sign.
                let character =
                    |characters: &mut Peekable<Chars<'_>>, may_end: bool| match characters
                        .next()
                        .ok_or_else(bad)?
                    {
                        ']' if may_end => Ok(None),
                        ']' | '-' => Err(bad()),
                        '\\' => characters.next().ok_or_else(bad).map(Some),
                        other => Ok(Some(other)),
                    };
                // Go wants at least one range.
                while let Some(low) = character(&mut characters, !ranges.is_empty())? {
                    let mut high = low;
                    if characters.next_if_eq(&'-').is_some() {
                        high = character(&mut characters, false)?.ok_or_else(bad)?;
                    }
                    ranges.push((low, high));
                }
                Token::Class { negated, ranges }
            }
            other => Token::Exactly(other),
        });
    }
    Ok(tokens)
}

fn matches(tokens: &[Token], name: &[char]) -> bool {
    // Where to go on when what follows the last `*` does not match: it takes one more.
    let mut again: Option<(usize, usize)> = None;
    let (mut token, mut at) = (0, 0);
    loop {
        let one = match (tokens.get(token), name.get(at)) {
            (None, None) => return true,
            (Some(Token::Many), _) => {
                again = Some((token + 1, at));
                token += 1;
                continue;
            }
            (Some(_), None) | (None, Some(_)) => false,
            (Some(Token::Any), Some(_)) => true,
            (Some(Token::Exactly(wanted)), Some(found)) => wanted == found,
            (Some(Token::Class { negated, ranges }), Some(found)) => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (low..=high).contains(&found));
                inside != *negated
            }
        };
        if one {
            (token, at) = (token + 1, at + 1);
            continue;
        }
        match again {
            Some((behind, start)) if start < name.len() => {
                again = Some((behind, start + 1));
                (token, at) = (behind, start + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_match_as_in_go() {
        let matched = |pattern: &str, name: &str| {
            let name: Vec<char> = name.chars().collect();
            tokens(pattern).map(|tokens| matches(&tokens, &name)).ok()
        };
        // From the tests of Go's path/filepath.
        let cases = [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*b*c*d*e*", "axbxcxdxe", Some(true)),
            ("a*b*c*d*e*", "axbxcxdxexxx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a[^a]b", "a☺b", Some(true)),
            ("a???b", "a☺b", Some(false)),
            ("[a-ζ]*", "α", Some(true)),
            ("*[a-ζ]", "A", Some(false)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-]", "-", Some(true)),
            ("[x\\-]", "z", Some(false)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[-x]", "x", None),
            ("a[", "a", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^bc", "a", None),
            ("a\\", "a", None),
            ("arr[[]0].txt", "arr[0].txt", Some(true)),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matched(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_path_stands_for_what_matches_each_of_its_parts() {
        let tree: BTreeMap<&str, &[&str]> = BTreeMap::from([
            ("", &["b.txt", "a.txt", "src", "sub"][..]),
            ("src", &["x.c", "y.h"][..]),
            ("sub", &["x.c"][..]),
        ]);
        let mut names = |path: &Path| {
            let names = tree.get(path.to_str().unwrap()).copied();
            Ok(names
                .unwrap_or_default()
                .iter()
                .map(OsString::from)
                .collect())
        };
        let mut expanded = |path: &str| {
            let paths = SourcePath::parse(path).unwrap().expand(&mut names).unwrap();
            let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
            paths.join(" ")
        };
        assert_eq!(expanded("*.txt"), "a.txt b.txt");
        assert_eq!(expanded("./s*/x.c"), "src/x.c sub/x.c");
        assert_eq!(expanded("s*/y.?"), "src/y.h");
        assert_eq!(expanded("../../src/./none"), "src/none");
        assert_eq!(expanded("s*/none"), "");
        assert_eq!(expanded("/"), "");
        let plain = |path: &str| SourcePath::parse(path).unwrap().plain();
        assert_eq!(plain("/a/b/"), Some(PathBuf::from("a/b")));
        assert_eq!(plain("a*"), None);
        assert!(SourcePath::parse("a/[").is_err());
    }
}
