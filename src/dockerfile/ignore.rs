//! `.dockerignore`, with docker's rules: Go's patterns and `**`, each against the whole path, the
//! last match decides, and what is in an ignored directory is ignored.

use super::line::span;
use crate::instruction::{Glob, Malformed};
use crate::text::{Problem, Problems, Source};

/// Which files of a context are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    glob: Glob,
    /// `!`: takes files in again.
    keeps: bool,
}

/// What is known of a directory when its entries are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Whether each rule matches it or a directory above it.
    matches: Vec<bool>,
    ignored: bool,
}

impl Ignored {
    #[must_use]
    pub const fn is_ignored(&self) -> bool {
        self.ignored
    }
}

impl Ignore {
    /// Reads a file; `name` is what messages call it.
    ///
    /// # Errors
    /// Patterns are malformed: all of them.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        let source = Source::new(miette::NamedSource::new(name, text.to_owned()));
        let mut problems = Vec::new();
        let mut rules = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let offset = at;
            at += line.len();
            let line = match offset {
                0 => line.trim_start_matches('\u{feff}'),
                _ => line,
            };
            let pattern = line.trim();
            if line.starts_with('#') || pattern.is_empty() {
                continue;
            }
            match rule(pattern) {
                Ok(rule) => rules.extend(rule),
                Err(wrong) => {
                    let start = offset + text[offset..at].find(pattern).unwrap_or(0);
                    let place = span(&source, start..start + pattern.len());
                    let problem = Problem::new(&place, wrong.message(pattern), wrong.label());
                    problems.push(problem.with_help(wrong.help()));
                }
            }
        }
        match problems.is_empty() {
            true => Ok(Self { rules }),
            false => Err(Problems::new(name, problems)),
        }
    }

    /// Of single patterns, such as those of `--exclude`.
    ///
    /// # Errors
    /// A pattern is malformed.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, Malformed> {
        let mut rules = Vec::new();
        for pattern in patterns {
            rules.extend(rule(pattern.trim())?);
        }
        Ok(Self { rules })
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule takes files in again.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.keeps)
    }

    /// Whether a rule leaves out everything at the root.
    pub(super) fn takes_whole_root(&self) -> bool {
        let mut globs = self.rules.iter().filter(|rule| !rule.keeps);
        globs.any(|rule| matches!(rule.glob.as_str(), "*" | "**" | "**/*"))
    }

    /// The state of the root, which is never ignored.
    #[must_use]
    pub fn root(&self) -> Ignored {
        Ignored {
            matches: vec![false; self.rules.len()],
            ignored: false,
        }
    }

    /// The state of a path, from that of the directory that it is in.
    #[must_use]
    pub fn below(&self, parent: &Ignored, path: &str) -> Ignored {
        let mut state = parent.clone();
        state.ignored = false;
        for (rule, matches) in self.rules.iter().zip(&mut state.matches) {
            *matches = *matches || rule.glob.matches(path);
            if *matches {
                state.ignored = !rule.keeps;
            }
        }
        state
    }

    /// Whether a path, relative and with `/`, is left out.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        let mut state = self.root();
        let ends = path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()]);
        for end in ends {
            state = self.below(&state, &path[..end]);
        }
        state.ignored
    }

    /// Whether something in an ignored directory may be taken in again.
    #[must_use]
    pub fn may_keep_below(&self, directory: &str) -> bool {
        let mut exceptions = self.rules.iter().filter(|rule| rule.keeps);
        exceptions.any(|rule| rule.glob.may_match_below(directory))
    }
}

fn rule(line: &str) -> Result<Option<Rule>, Malformed> {
    let (pattern, keeps) = match line.strip_prefix('!') {
        Some(rest) => (rest.trim(), true),
        None => (line, false),
    };
    if pattern.is_empty() {
        return if keeps {
            Err(Malformed::Nothing)
        } else {
            Ok(None)
        };
    }
    let cleaned = clean(pattern);
    let glob = Glob::new(match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => &cleaned,
    });
    Ok(Some(Rule { glob: glob?, keeps }))
}

/// A path without doubled and trailing slashes, `.` and `..`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => {
                parts.pop();
            }
            ("..", _) if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ignored(text: &str, path: &str) -> bool {
        Ignore::parse(".dockerignore", text).unwrap().ignores(path)
    }

    #[test]
    fn patterns() {
        for (pattern, matching, others) in [
            ("a", &["a"][..], &["b", "ab", "b/a"][..]),
            ("*.go", &["x.go", ".go"], &["d/x.go", "x.gox"]),
            ("*/*.go", &["d/x.go"], &["x.go", "d/e/x.go"]),
            ("**/*.go", &["x.go", "d/x.go", "d/e/x.go"], &["x.g"]),
            ("**", &["a", "a/b", "a/b/c"], &[]),
            ("a/**", &["a/b", "a/b/c"], &["a", "b/a/c"]),
            ("**/a", &["a", "b/a", "b/c/a"], &["ba", "b/ca"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb"]),
            ("**foo", &["foo", "a/foo"], &["afoo"]),
            ("foo**", &["foo", "foobar", "foo/bar"], &["fo"]),
            ("a?c", &["abc", "aéc"], &["a/c", "ac"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[^a-c]x", &["dx"], &["ax"]),
            (r"a\*b", &["a*b"], &["axb"]),
            ("a.b", &["a.b"], &["axb"]),
            ("a+(b)|{c}$", &["a+(b)|{c}$"], &["a"]),
        ] {
            let glob = Glob::new(pattern).unwrap();
            for path in matching {
                assert!(glob.matches(path), "{pattern} {path}");
            }
            for path in others {
                assert!(!glob.matches(path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn the_last_match_decides() {
        let text = "\u{feff}# comment\n  *.md \n!README.md\n\nREADME-secret.md\n";
        assert!(ignored(text, "a.md"));
        assert!(!ignored(text, "README.md"));
        assert!(ignored(text, "README-secret.md"));
        assert!(!ignored(text, "docs/a.md"));
        assert!(!ignored("!a\n", "a"));
    }

    #[test]
    fn directories() {
        assert!(ignored("node_modules", "node_modules/a/b"));
        assert!(ignored("node_modules/", "node_modules/a"));
        assert!(ignored("/build//", "build/x"));
        assert!(ignored("./a/../b", "b"));
        assert!(!ignored("*\n!src", "src/main.rs"));
        assert!(ignored("*\n!src\nsrc/*.o", "src/a.o"));
        assert!(!ignored("a\n!a/b", "a/b/c"));
        assert!(ignored("a\n!a/b", "a/c"));
        assert!(ignored(" # no comment", "# no comment"));
    }

    #[test]
    fn ignored_directories_are_entered_only_for_exceptions() {
        let ignore = Ignore::parse("x", "a\nb\nc\n!a/keep/*.txt\n!**/also\n").unwrap();
        assert!(ignore.may_keep_below("a"));
        assert!(ignore.may_keep_below("a/keep"));
        let ignore = Ignore::parse("x", "a\nb\n!a/keep/*.txt\n").unwrap();
        assert!(ignore.may_keep_below("a/keep"));
        assert!(!ignore.may_keep_below("a/other"));
        assert!(!ignore.may_keep_below("b"));
        assert!(!Ignore::parse("x", "a\n").unwrap().may_keep_below("a"));
    }

    #[test]
    fn every_malformed_pattern_is_shown() {
        let error = Ignore::parse(".dockerignore", "ok\n[a\n !\n a\\\n[]a]\n").unwrap_err();
        let shown: Vec<_> = error.problems().iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 4, "{shown:?}");
        insta::assert_snapshot!(shown.join("\n"), @r#"
        "[a" is not a pattern
        "!" is not a pattern
        "a\\" is not a pattern
        "[]a]" is not a pattern
        "#);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r"[a*?/\[\]\\!#^\-\n ]{0,30}", path in "[a/]{1,6}") {
            if let Ok(ignore) = Ignore::parse("x", &text) {
                let _ = ignore.ignores(&path);
            }
        }
    }
}
