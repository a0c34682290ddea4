//! A tree as a root directory, without becoming it: links in the tree are followed inside it only.
//!
//! Nobody else changes the tree meanwhile. So a path without links, found once, stays the path of
//! what it names.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};

use crate::host::beneath::{SMALL, read_to_limit, regular};

/// Links that a path may go through, as for the kernel (path_resolution(7)).
const MOST_LINKS: usize = 40;

pub(super) struct Root {
    fd: OwnedFd,
    /// Where it is, without links.
    path: PathBuf,
}

impl Root {
    pub(super) fn new(tree: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(tree, flags, Mode::empty())?;
        let path = real_path(&fd)?;
        Ok(Self { fd, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what is at a path of the tree.
    pub(super) fn open(&self, inside: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let relative: PathBuf = inside.components().filter(is_below).collect();
        let relative = match relative.as_os_str().is_empty() {
            true => Path::new("."),
            false => &relative,
        };
        let flags = flags | OFlags::CLOEXEC;
        let opened = openat2(
            &self.fd,
            relative,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        );
        opened.map_err(|error| match error {
            rustix::io::Errno::NOTDIR => io::Error::new(
                io::ErrorKind::NotADirectory,
                "the path goes through something that is no directory",
            ),
            rustix::io::Errno::LOOP => too_many_links(),
            error => error.into(),
        })
    }

    /// A small regular file; nothing if there is none.
    pub(super) fn text(&self, inside: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let bytes = match self.open(Path::new(inside), flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            opened => read_to_limit(regular(opened?)?, SMALL)?,
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where a directory of the tree is, without links; nothing if it does not exist.
    pub(super) fn directory(&self, inside: &Path) -> io::Result<Option<PathBuf>> {
        match self.open(inside, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => real_path(&directory).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same of a directory that is made if it does not exist, with all above it. Each one that
    /// was made is told.
    pub(super) fn make_directory(
        &self,
        inside: &Path,
        made: &mut dyn FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        let mut current = self.path.clone();
        let mut so_far = PathBuf::new();
        for part in inside.components() {
            so_far.push(part);
            current = match self.directory(&so_far)? {
                Some(found) => found,
                None => {
                    let path = current.join(part);
                    fs::create_dir(&path).map_err(|error| match error.kind() {
                        io::ErrorKind::AlreadyExists => io::Error::new(
                            io::ErrorKind::InvalidData,
                            "the path goes through a link to what is not there",
                        ),
                        _ => error,
                    })?;
                    made(&path)?;
                    path
                }
            };
        }
        Ok(current)
    }

    /// Where a path leads, without links. Nothing need be there, but the directory above it must.
    pub(super) fn resolve(&self, inside: &Path) -> io::Result<PathBuf> {
        let mut inside = inside.to_owned();
        for _ in 0..MOST_LINKS {
            if let Ok(opened) = self.open(&inside, OFlags::PATH) {
                return real_path(&opened);
            }
            let Some(name) = inside.file_name().map(OsStr::to_owned) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let above = inside.parent().unwrap_or(Path::new("")).to_owned();
            let directory = self.directory(&above)?;
            let path = directory
                .ok_or(io::Error::from(io::ErrorKind::NotFound))?
                .join(name);
            match fs::read_link(&path) {
                Ok(target) => inside = above.join(target),
                Err(_) => return Ok(path),
            }
        }
        Err(too_many_links())
    }
}

fn is_below(part: &Component<'_>) -> bool {
    !matches!(part, Component::RootDir | Component::Prefix(_))
}

fn too_many_links() -> io::Error {
    let message = "the path goes through too many links";
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Where an open file is.
pub(super) fn real_path(opened: &OwnedFd) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let path = rustix::fs::readlinkat(CWD, link, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(path.as_bytes())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("usr/lib")).unwrap();
        fs::write(at("usr/lib/file"), "x").unwrap();
        for (target, name) in [
            ("usr/lib", "lib"),
            ("/usr", "abs"),
            ("../../../../usr", "up"),
            ("/usr/new", "dangling"),
            ("loop", "loop"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        let root = Root::new(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn links_lead_nowhere_else() {
        let (_directory, root) = tree();
        let resolved = |path: &str| {
            let path = root.resolve(Path::new(path)).unwrap();
            path.strip_prefix(root.path()).unwrap().to_owned()
        };
        for (path, expected) in [
            ("/lib/file", "usr/lib/file"),
            ("abs/lib", "usr/lib"),
            ("up/lib/file", "usr/lib/file"),
            ("../../lib", "usr/lib"),
            ("/dangling", "usr/new"),
            ("/abs/other", "usr/other"),
            ("/", ""),
        ] {
            assert_eq!(resolved(path), Path::new(expected), "{path}");
        }
        assert!(root.resolve(Path::new("loop")).is_err());
        assert!(root.resolve(Path::new("no/file")).is_err());
    }

    #[test]
    fn directories_are_made_where_links_lead_to_some() {
        let (_directory, root) = tree();
        let mut made = Vec::new();
        let path = root
            .make_directory(Path::new("/abs/a/b"), &mut |path| {
                made.push(path.strip_prefix(root.path()).unwrap().to_owned());
                Ok(())
            })
            .unwrap();
        assert_eq!(path, root.path().join("usr/a/b"));
        assert_eq!(made, ["usr/a", "usr/a/b"].map(PathBuf::from));
        let error = root.make_directory(Path::new("/dangling/a"), &mut |_| Ok(()));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let error = root.make_directory(Path::new("lib/file/x"), &mut |_| Ok(()));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotADirectory);
        let again = root.make_directory(Path::new("/lib"), &mut |_| panic!());
        assert_eq!(again.unwrap(), root.path().join("usr/lib"));
    }
}
