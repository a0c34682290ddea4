//! Directories with what is in them, the largest first.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use serde::Serialize;

use super::files::{FileKind, Files};

/// How much of a tree is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels below the first directory.
    pub depth: usize,
    /// Entries of each directory.
    pub top: usize,
}

impl Limits {
    /// Everything.
    pub const ALL: Self = Self {
        depth: usize::MAX,
        top: usize::MAX,
    };
}

/// A file, or a directory with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name in the directory above.
    pub name: String,
    pub directory: bool,
    /// Bytes of the file, or of all files below.
    pub size: u64,
    /// Files below, and itself unless it is a directory; hard links count once.
    pub files: u64,
    /// The largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub below: Vec<Self>,
    /// Entries that `below` leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<Others>,
}

/// Entries of a directory that are not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Others {
    pub entries: usize,
    pub size: u64,
}

/// A directory or file, and the ones in it.
#[derive(Default)]
struct Branch<'a> {
    directory: bool,
    size: u64,
    files: u64,
    below: BTreeMap<&'a [u8], usize>,
}

impl Files {
    /// The directory at `path`, which is empty for the root; `None` when nothing is there.
    #[must_use]
    pub fn tree(&self, path: &[u8], limits: Limits) -> Option<Node> {
        if !path.is_empty() && !self.entries.contains_key(path) {
            return None;
        }
        let mut branches = vec![Branch {
            directory: true,
            ..Branch::default()
        }];
        let mut counted = HashSet::new();
        let prefix = match path {
            b"" => Vec::new(),
            path => [path, b"/"].concat(),
        };
        let from = (Bound::Included(path), Bound::Unbounded);
        for (file, entry) in self.entries.range::<[u8], _>(from) {
            let inside = match file.strip_prefix(prefix.as_slice()) {
                Some(inside) => inside,
                None if file == path => b"",
                None if file.starts_with(path) => continue,
                None => break,
            };
            let is_directory = entry.meta.kind == FileKind::Directory;
            let inode = self.inodes[entry.inode];
            let counts = !is_directory && counted.insert(entry.inode);
            let (size, files) = match counts {
                true => (inode.size, 1),
                false => (0, 0),
            };
            let mut at = 0;
            let names = inside.split(|&byte| byte == b'/');
            for name in names.filter(|name| !name.is_empty()) {
                branches[at].size += size;
                branches[at].files += files;
                branches[at].directory = true;
                let next = branches.len();
                let found = *branches[at].below.entry(name).or_insert(next);
                if found == next {
                    branches.push(Branch::default());
                }
                at = found;
            }
            branches[at].directory = is_directory;
            branches[at].size += size;
            branches[at].files += files;
        }
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        Some(node(&branches, name, 0, limits))
    }
}

fn node(branches: &[Branch<'_>], name: &[u8], at: usize, limits: Limits) -> Node {
    let branch = &branches[at];
    let mut below: Vec<(&[u8], usize)> = match limits.depth {
        0 => Vec::new(),
        _ => branch.below.iter().map(|(name, at)| (*name, *at)).collect(),
    };
    below.sort_by_key(|(_, at)| std::cmp::Reverse(branches[*at].size));
    let shown = match limits.top {
        usize::MAX => below.len(),
        // What takes no space is not among the largest.
        top => below
            .partition_point(|(_, at)| branches[*at].size > 0)
            .min(top),
    };
    let left_out = below.split_off(shown);
    let others = (!left_out.is_empty()).then(|| Others {
        entries: left_out.len(),
        size: left_out.iter().map(|(_, at)| branches[*at].size).sum(),
    });
    let deeper = Limits {
        depth: limits.depth.saturating_sub(1),
        ..limits
    };
    let below = below.into_iter();
    Node {
        name: String::from_utf8_lossy(name).into_owned(),
        directory: branch.directory,
        size: branch.size,
        files: branch.files,
        below: below
            .map(|(name, at)| node(branches, name, at, deeper))
            .collect(),
        others,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::Meta;

    fn files() -> Files {
        let mut files = Files::default();
        let mut add = |path: &str, kind, size| {
            let meta = Meta {
                kind,
                mode: 0o644,
                uid: 0,
                gid: 0,
            };
            files.add(path.into(), meta, size, 0);
        };
        add("usr", FileKind::Directory, 0);
        add("usr/bin", FileKind::Directory, 0);
        add("usr/bin/large", FileKind::File, 900);
        add("usr/bin/small", FileKind::File, 5);
        add("usr/empty", FileKind::Directory, 0);
        add("usr-not", FileKind::File, 7);
        // Archives may leave directories out.
        add("a/b/c", FileKind::File, 40);
        files
    }

    #[test]
    fn directories_have_what_is_below_them_and_the_largest_come_first() {
        let root = files().tree(b"", Limits::ALL).unwrap();
        let names: Vec<_> = root
            .below
            .iter()
            .map(|one| (one.name.as_str(), one.directory, one.size, one.files))
            .collect();
        assert_eq!(
            names,
            [
                ("usr", true, 905, 2),
                ("a", true, 40, 1),
                ("usr-not", false, 7, 1)
            ]
        );
        assert_eq!(root.below[0].below[0].below[1].name, "small");
        assert_eq!(root.below[1].below[0].below[0].size, 40);
        assert_eq!((root.size, root.files, root.others), (952, 4, None));
    }

    #[test]
    fn limits_leave_out_and_say_so() {
        let limits = Limits { depth: 1, top: 1 };
        let root = files().tree(b"", limits).unwrap();
        assert_eq!(root.size, 952);
        assert_eq!((root.below.len(), root.below[0].below.len()), (1, 0));
        let others = Others {
            entries: 2,
            size: 47,
        };
        assert_eq!(root.others, Some(others));
        let bin = files().tree(b"usr/bin", Limits::ALL).unwrap();
        assert_eq!((bin.name.as_str(), bin.size), ("bin", 905));
        let file = files().tree(b"usr-not", Limits::ALL).unwrap();
        assert_eq!((file.directory, file.size), (false, 7));
        assert_eq!(files().tree(b"us", Limits::ALL), None);
        assert_eq!(files().tree(b"a/b", Limits::ALL), None);
    }
}
