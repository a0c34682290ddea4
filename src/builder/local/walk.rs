//! Which local files are meant, in the order of their paths.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::dockerfile::{Ignore, Ignored};
use crate::instruction::SourcePath;
use crate::plan::{LocalFiles, Selection};

/// The file that says what of its directory is left out.
pub(super) const IGNORE_FILE: &str = ".vmfabignore";

/// The mode of a directory that is only on the way to what is meant.
const ON_THE_WAY: u32 = 0o755;

/// How many links may lead to each other.
const MOST_LINKS: usize = 255;

pub(super) struct Entry<'a> {
    pub path: &'a Path,
    /// Path below the root; `.` for the root itself.
    pub inside: &'a Path,
    /// Permission bits.
    pub mode: u32,
    pub kind: Kind,
}

pub(super) enum Kind {
    Directory,
    Link(PathBuf),
    /// With so many bytes.
    File(u64),
}

impl Kind {
    fn of(path: &Path, meta: &Metadata) -> io::Result<Self> {
        if meta.is_dir() {
            return Ok(Self::Directory);
        }
        if meta.is_symlink() {
            return Ok(Self::Link(fs::read_link(path)?));
        }
        if meta.is_file() {
            return Ok(Self::File(meta.len()));
        }
        let message = format!(
            "{} is neither a file, a directory nor a link",
            path.display()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

type Visit<'a> = dyn FnMut(Entry<'_>) -> io::Result<()> + 'a;

/// Visits a file, or a directory and all that is in it, in the order of paths. A link at the root
/// is followed: the recipe names what it leads to.
pub(super) fn walk(files: &LocalFiles, visit: &mut Visit<'_>) -> io::Result<()> {
    if let Some(selection) = &files.selection {
        return Selected::new(&files.path, selection)?.walk(visit);
    }
    let root = &files.path;
    let meta = fs::metadata(root)?;
    let excluded = excluded(files, &meta)?;
    let mut pending = vec![(root.clone(), PathBuf::from("."), meta)];
    while let Some((path, inside, meta)) = pending.pop() {
        if meta.is_dir() {
            for name in names(&path)?.into_iter().rev() {
                let child = path.join(&name);
                let inside = below(&inside, &name);
                let meta = fs::symlink_metadata(&child)?;
                // What is in a directory that is left out is left out, too.
                if !excluded.matched(&inside, meta.is_dir()).is_ignore() {
                    pending.push((child, inside, meta));
                }
            }
        }
        visit(Entry {
            path: &path,
            inside: &inside,
            mode: meta.permissions().mode() & 0o7777,
            kind: Kind::of(&path, &meta)?,
        })?;
    }
    Ok(())
}

/// The names in a directory, sorted.
fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    names.sort();
    Ok(names)
}

fn below(inside: &Path, name: &OsString) -> PathBuf {
    match inside == Path::new(".") {
        true => PathBuf::from(name),
        false => inside.join(name),
    }
}

/// The part of a context that a Dockerfile names.
struct Selected<'a> {
    root: &'a Path,
    ignore: Ignore,
    /// What is meant with all that is in it, as paths below the root; an empty one is the root.
    meant: BTreeSet<PathBuf>,
}

/// A directory, and what of it was visited: it is visited itself before something in it.
struct Open {
    path: PathBuf,
    inside: PathBuf,
    mode: u32,
    ignored: Ignored,
    visited: bool,
}

impl<'a> Selected<'a> {
    fn new(root: &'a Path, selection: &Selection) -> io::Result<Self> {
        let wrong = |error: String| io::Error::new(io::ErrorKind::InvalidInput, error);
        let ignore = Ignore::parse(".dockerignore", &selection.ignore);
        let ignore = ignore.map_err(|error| wrong(error.to_string()))?;
        let mut selected = Self {
            root,
            ignore,
            meant: BTreeSet::new(),
        };
        for path in &selection.include {
            let path = SourcePath::parse(path).map_err(|error| wrong(error.to_string()))?;
            let plain = path.plain();
            let paths = path.expand(&mut |directory| {
                let (path, meta) = selected.followed(directory)?;
                match meta.is_dir() {
                    true => names(&root.join(path)),
                    false => Ok(Vec::new()),
                }
            })?;
            for path in paths {
                let ignored = selected.is_ignored(&path);
                if plain.is_none() && ignored {
                    continue;
                }
                if ignored {
                    let message = "the file .dockerignore leaves it out";
                    return Err(io::Error::new(io::ErrorKind::NotFound, message));
                }
                selected.mean(&path)?;
            }
        }
        Ok(selected)
    }

    /// Whether nothing of a path is there for the Dockerfile.
    fn is_ignored(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        !text.is_empty() && self.ignore.ignores(&text) && !self.ignore.may_keep_below(&text)
    }

    /// Adds a path, with all links on the way to it and what they lead to.
    fn mean(&mut self, path: &Path) -> io::Result<()> {
        let mut links = Vec::new();
        let found = self.follow(path, &mut links)?;
        fs::symlink_metadata(self.root.join(&found))?;
        self.meant.extend(links);
        self.meant.insert(found);
        Ok(())
    }

    /// What a path leads to, with its links followed.
    fn followed(&self, path: &Path) -> io::Result<(PathBuf, Metadata)> {
        let found = self.follow(path, &mut Vec::new())?;
        let meta = fs::symlink_metadata(self.root.join(&found))?;
        Ok((found, meta))
    }

    /// The path without links. The root of the context is the root of those.
    fn follow(&self, path: &Path, links: &mut Vec<PathBuf>) -> io::Result<PathBuf> {
        let mut pending: Vec<PathBuf> = parts(path);
        let mut found = PathBuf::new();
        while let Some(part) = pending.pop() {
            if part == Path::new("..") {
                found.pop();
                continue;
            }
            let next = found.join(part);
            match fs::symlink_metadata(self.root.join(&next)) {
                Ok(meta) if meta.is_symlink() => {
                    let target = fs::read_link(self.root.join(&next))?;
                    links.push(next);
                    if links.len() > MOST_LINKS {
                        let message = "too many links lead to each other";
                        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
                    }
                    if target.is_absolute() {
                        found = PathBuf::new();
                    }
                    pending.extend(parts(&target));
                }
                _ => found = next,
            }
        }
        Ok(found)
    }

    fn walk(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        let meta = fs::metadata(self.root)?;
        let mut open = vec![Open {
            path: self.root.to_owned(),
            inside: PathBuf::from("."),
            mode: self.mode_of(Path::new(""), &meta),
            ignored: self.ignore.root(),
            visited: false,
        }];
        visit_open(&mut open, visit)?;
        self.directory(&mut open, self.meant.contains(Path::new("")), visit)
    }

    /// Permission bits; of what is only on the way they do not count.
    fn mode_of(&self, inside: &Path, meta: &Metadata) -> u32 {
        match self.is_meant(inside) {
            true => meta.permissions().mode() & 0o7777,
            false => ON_THE_WAY,
        }
    }

    fn is_meant(&self, inside: &Path) -> bool {
        inside.ancestors().any(|path| self.meant.contains(path))
    }

    /// Visits what is in the last of the open directories. `all` says whether all of it is meant.
    fn directory(&self, open: &mut Vec<Open>, all: bool, visit: &mut Visit<'_>) -> io::Result<()> {
        let (directory, inside, above) = match open.last() {
            Some(last) => (last.path.clone(), last.inside.clone(), last.ignored.clone()),
            None => return Ok(()),
        };
        for name in self.wanted(&directory, &inside, all)? {
            let path = directory.join(&name);
            let inside = below(&inside, &name);
            let meta = fs::symlink_metadata(&path)?;
            let text = inside.to_string_lossy();
            let ignored = self.ignore.below(&above, &text);
            let is_ignored = ignored.is_ignored();
            if is_ignored && !(meta.is_dir() && self.ignore.may_keep_below(&text)) {
                continue;
            }
            let mode = self.mode_of(&inside, &meta);
            let all = all || self.meant.contains(&inside);
            if !meta.is_dir() {
                // A file where only a directory would be on the way.
                if !all {
                    continue;
                }
                visit_open(open, visit)?;
                visit(Entry {
                    path: &path,
                    inside: &inside,
                    mode,
                    kind: Kind::of(&path, &meta)?,
                })?;
                continue;
            }
            open.push(Open {
                path,
                inside,
                mode,
                ignored,
                visited: false,
            });
            if !is_ignored && all {
                visit_open(open, visit)?;
            }
            self.directory(open, all, visit)?;
            open.pop();
        }
        Ok(())
    }

    /// The names in a directory that are meant, or on the way.
    fn wanted(&self, directory: &Path, inside: &Path, all: bool) -> io::Result<Vec<OsString>> {
        if all {
            return names(directory);
        }
        let start = match inside == Path::new(".") {
            true => Path::new(""),
            false => inside,
        };
        let next = self.meant.iter().filter_map(|path| {
            let mut rest = path.strip_prefix(start).ok()?.components();
            Some(rest.next()?.as_os_str().to_owned())
        });
        Ok(next.collect::<BTreeSet<OsString>>().into_iter().collect())
    }
}

/// Visits the open directories that were not visited yet.
fn visit_open(open: &mut [Open], visit: &mut Visit<'_>) -> io::Result<()> {
    for directory in open.iter_mut().filter(|directory| !directory.visited) {
        directory.visited = true;
        visit(Entry {
            path: &directory.path,
            inside: &directory.inside,
            mode: directory.mode,
            kind: Kind::Directory,
        })?;
    }
    Ok(())
}

/// The names in a path and its `..`, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        _ => None,
    });
    parts.collect()
}

/// What is left out: what the file `.vmfabignore` at the top of a directory says, and then what the
/// recipe does.
fn excluded(files: &LocalFiles, meta: &fs::Metadata) -> io::Result<Gitignore> {
    let wrong = |error: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{IGNORE_FILE}: {error}"),
        )
    };
    let mut builder = GitignoreBuilder::new("");
    let text = match fs::read_to_string(files.path.join(IGNORE_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound || !meta.is_dir() => String::new(),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let own = format!("/{IGNORE_FILE}");
    let lines = [own.as_str()].into_iter().chain(text.lines());
    for line in lines.chain(files.exclude.iter().map(String::as_str)) {
        builder
            .add_line(None, line)
            .map_err(|error| wrong(error.to_string()))?;
    }
    builder.build().map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that are visited, with the modes of directories.
    fn visited(root: &Path, include: &[&str], ignore: &str) -> Result<String, String> {
        let files = LocalFiles {
            path: root.to_owned(),
            selection: Some(Selection {
                include: include.iter().map(|&path| path.to_owned()).collect(),
                ignore: ignore.to_owned(),
            }),
            ..LocalFiles::default()
        };
        let mut paths = Vec::new();
        let walked = walk(&files, &mut |entry| {
            let inside = entry.inside.display();
            paths.push(match entry.kind {
                Kind::Directory => format!("{inside}/{:o}", entry.mode),
                Kind::Link(target) => format!("{inside}>{}", target.display()),
                Kind::File(_) => inside.to_string(),
            });
            Ok(())
        });
        walked.map_err(|error| error.to_string())?;
        Ok(paths.join(" "))
    }

    fn context() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in [
            "a.c",
            "b.c",
            "src/x.c",
            "src/deep/y.c",
            "src/deep/z.o",
            "w/n",
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        for name in ["src", "src/deep", "w", "."] {
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        std::os::unix::fs::symlink("../w/n", root.join("src/link")).unwrap();
        std::os::unix::fs::symlink("/src/deep", root.join("to")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        directory
    }

    #[test]
    fn only_what_is_named_is_visited() {
        let context = context();
        let visited = |include: &[&str]| visited(context.path(), include, "");
        assert_eq!(visited(&["a.c"]).unwrap(), "./755 a.c");
        assert_eq!(visited(&["/./*.c"]).unwrap(), "./755 a.c b.c");
        assert_eq!(
            visited(&["src/deep", "w/*"]).unwrap(),
            "./755 src/755 src/deep/700 src/deep/y.c src/deep/z.o w/755 w/n"
        );
        assert_eq!(visited(&["*.none"]).unwrap(), "./755");
        assert_eq!(
            visited(&["."]).unwrap(),
            "./700 a.c b.c loop>loop src/700 src/deep/700 src/deep/y.c src/deep/z.o \
             src/link>../w/n src/x.c to>/src/deep w/700 w/n"
        );
        // What a link leads to is needed, too: the root of the context is its root.
        assert_eq!(
            visited(&["src/link"]).unwrap(),
            "./755 src/755 src/link>../w/n w/755 w/n"
        );
        assert_eq!(
            visited(&["to/y.c"]).unwrap(),
            "./755 src/755 src/deep/755 src/deep/y.c to>/src/deep"
        );
        assert_eq!(visited(&["../../a.c"]).unwrap(), "./755 a.c");
        for wrong in ["none", "src/none/x", "loop", "a.c/x", "["] {
            assert!(visited(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_ignored_is_not_there() {
        let context = context();
        let visited = |include: &[&str], ignore: &str| visited(context.path(), include, ignore);
        assert_eq!(
            visited(&["."], "*\n!src/deep/*.c\n").unwrap(),
            "./700 src/700 src/deep/700 src/deep/y.c"
        );
        assert_eq!(visited(&["*.c"], "a.c").unwrap(), "./755 b.c");
        let error = visited(&["a.c"], "*.c").unwrap_err();
        assert_eq!(error, "the file .dockerignore leaves it out");
        assert!(visited(&["src/x.c"], "src").is_err());
        // It is not read, so it need not be readable.
        std::os::unix::net::UnixListener::bind(context.path().join("w/socket")).unwrap();
        assert!(visited(&["."], "").is_err());
        assert!(visited(&["."], "w").is_ok());
    }
}
