//! Paths of sources, whose parts may be patterns as Go's `filepath.Match` has them
//! (<https://pkg.go.dev/path/filepath#Match>). Pure.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::glob::Glob;

/// A path below the root of a context or a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePath(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Name(String),
    Pattern(Glob),
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
        let bad = |part: &&str| BadPattern((*part).to_owned());
        let parse = |part: &&str| match part.contains(['*', '?', '[', '\\']) {
            true => Glob::of_name(part)
                .map(Part::Pattern)
                .map_err(|_| bad(part)),
            false => Ok(Part::Name((*part).to_owned())),
        };
        Ok(Self(parts.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// The pattern that stands for one path only.
    #[must_use]
    pub fn literal(path: &str) -> String {
        let mut pattern = String::with_capacity(path.len());
        for character in path.chars() {
            if matches!(character, '*' | '?' | '[' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern
    }

    /// Whether it is the root itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
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
                    Part::Pattern(glob) => {
                        let mut found = names(&path)?;
                        found.retain(|name| glob.matches(&name.to_string_lossy()));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_match_as_in_go() {
        let matched =
            |pattern: &str, name: &str| Glob::of_name(pattern).map(|glob| glob.matches(name)).ok();
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

    #[test]
    fn a_literal_stands_for_one_path() {
        let parsed = SourcePath::parse(&SourcePath::literal("/b[1]*?\\")).unwrap();
        let mut names = |_: &Path| Ok(["b[1]*?\\", "b1", "b1x?\\"].map(OsString::from).into());
        let found = parsed.expand(&mut names).unwrap();
        assert_eq!(found, [Path::new("b[1]*?\\")]);
    }
}
