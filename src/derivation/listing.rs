//! The list of local files that stands for their content.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

use crate::digest::{Digest, Hasher};

/// What of a local file counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// Its permission bits.
    Directory(u32),
    /// Its target.
    Link(PathBuf),
    /// Its permission bits and the digest of its content, as [`ContentHasher`] makes it.
    ///
    /// [`ContentHasher`]: crate::digest::ContentHasher
    File(u32, [u8; 32]),
}

/// A list of local files: all that steps that read them depend on.
///
/// It is a text. The first line is `vmfab local files 3`, with ` time=SECONDS` when the user chose
/// the times of files. Then there is a line for each file, sorted by path: the path and what
/// [`Listed`] says, separated by spaces. In paths, `%` and two digits stand for a space, a `%`, and
/// each byte that is not printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing(String);

const MARK: &str = "vmfab local files 3";
const ESCAPED: AsciiSet = CONTROLS.add(b' ').add(b'%');

impl Listing {
    /// A list without files. `time` is that of all files, in seconds since 1970; without it, each
    /// one's follows from its content.
    #[must_use]
    pub fn new(time: Option<i64>) -> Self {
        Self(match time {
            Some(time) => format!("{MARK} time={time}\n"),
            None => format!("{MARK}\n"),
        })
    }

    /// A list that was written before; `None` if it is not one.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(bytes).ok()?;
        text.starts_with(MARK).then_some(Self(text))
    }

    /// Adds a file. The caller adds them sorted by path.
    pub fn add(&mut self, path: &Path, listed: &Listed) {
        let path = escaped(path);
        let line = listed.line();
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{path} {line}");
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The digest in the parameters of its step.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("vmfab local files v3");
        hasher.update(self.as_bytes());
        hasher.finish()
    }

    /// The time of all files, if the user chose it.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        let first = self.0.lines().next()?;
        first
            .strip_prefix(MARK)?
            .strip_prefix(" time=")?
            .parse()
            .ok()
    }

    /// The files, sorted by path; `None` for a line that says nothing known.
    pub fn files(&self) -> impl Iterator<Item = Option<(PathBuf, Listed)>> {
        self.lines()
            .map(|(path, line)| Some((path, Listed::from_line(line)?)))
    }

    /// The digest of the content of each file.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<PathBuf, [u8; 32]> {
        let content = |file| match file {
            Some((path, Listed::File(_, content))) => Some((path, content)),
            _ => None,
        };
        self.files().filter_map(content).collect()
    }

    /// The paths of files that are only in one of the lists, or not the same, sorted.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<PathBuf> {
        let mut before: BTreeMap<PathBuf, &str> = self.lines().collect();
        let changed =
            |(path, line): (PathBuf, &str)| (before.remove(&path) != Some(line)).then_some(path);
        let mut changed: Vec<PathBuf> = other.lines().filter_map(changed).collect();
        changed.extend(before.into_keys());
        changed.sort();
        changed
    }

    fn lines(&self) -> impl Iterator<Item = (PathBuf, &str)> {
        let lines = self
            .0
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(' '));
        lines.map(|(path, line)| (plain(path), line))
    }
}

impl Listed {
    fn line(&self) -> String {
        match self {
            Self::Directory(mode) => format!("d {mode:o}"),
            Self::Link(target) => format!("l {}", escaped(target)),
            Self::File(mode, content) => format!("f {mode:o} {}", Digest::from_bytes(*content)),
        }
    }

    fn from_line(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        let mode = |text| u32::from_str_radix(text, 8).ok();
        Some(match kind {
            "d" => Self::Directory(mode(rest)?),
            "l" => Self::Link(plain(rest)),
            "f" => {
                let (bits, digest) = rest.split_once(' ')?;
                let digest: Digest = digest.parse().ok()?;
                Self::File(mode(bits)?, *digest.as_bytes())
            }
            _ => return None,
        })
    }
}

fn escaped(path: &Path) -> impl std::fmt::Display {
    percent_encode(path.as_os_str().as_bytes(), &ESCAPED)
}

fn plain(text: &str) -> PathBuf {
    let bytes: Cow<'_, [u8]> = percent_decode_str(text).into();
    OsString::from_vec(bytes.into_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_text_and_any_path_survives_it() {
        let mut listing = Listing::new(Some(7));
        listing.add(Path::new("."), &Listed::Directory(0o755));
        let strange = PathBuf::from(OsString::from_vec(b"a \n%\xff".to_vec()));
        listing.add(&strange, &Listed::File(0o4711, [0xab; 32]));
        listing.add(Path::new("link"), &Listed::Link("to\nit".into()));
        insta::assert_snapshot!(String::from_utf8(listing.as_bytes().to_vec()).unwrap(), @r"
        vmfab local files 3 time=7
        . d 755
        a%20%0A%25%FF f 4711 abababababababababababababababababababababababababababababababab
        link l to%0Ait
        ");
        let read = Listing::from_bytes(listing.as_bytes().to_vec()).unwrap();
        assert_eq!((read.time(), &read), (Some(7), &listing));
        assert_eq!(read.contents(), [(strange.clone(), [0xab; 32])].into());
        let files: Vec<(PathBuf, Listed)> = read.files().map(Option::unwrap).collect();
        assert_eq!(files[0], (".".into(), Listed::Directory(0o755)));
        assert_eq!(files[2], ("link".into(), Listed::Link("to\nit".into())));
        let mut other = Listing::new(None);
        assert_ne!(other.digest(), Listing::new(Some(7)).digest());
        other.add(&strange, &Listed::File(0o4711, [0xac; 32]));
        other.add(Path::new("link"), &Listed::Link("to\nit".into()));
        assert_eq!(read.differences(&other), [Path::new("."), &strange]);
        assert_eq!(Listing::from_bytes(b"a tar".to_vec()), None);
    }
}
