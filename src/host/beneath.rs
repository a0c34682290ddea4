//! Files in directories that others may have laid out, trees and machines: opened without following
//! links, as these may lead to any file of the host, and otherwise as in [`file`](super::file).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// The longest small file, in bytes: configurations, keys, names of systems.
pub const SMALL: u64 = 16 << 20;

/// A directory below which files are opened: none outside of it, and through no link.
#[derive(Debug)]
pub struct Below(OwnedFd);

impl Below {
    /// A directory of this program's, at a path that nobody else chose.
    ///
    /// # Errors
    /// There is none.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, directory, flags, Mode::empty())?))
    }

    /// A regular file below it.
    ///
    /// # Errors
    /// There is none.
    pub fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        regular(self.open(path.as_ref(), OFlags::NONBLOCK)?)
    }

    /// The names in a directory below it.
    ///
    /// # Errors
    /// There is none.
    pub fn names(&self, path: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
        let directory = self.open(path.as_ref(), OFlags::DIRECTORY)?;
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        let names = entries.map(|entry| Ok(PathBuf::from(entry?.file_name())));
        names.collect()
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | flags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.0, path, flags, Mode::empty(), resolve).map_err(named)
    }
}

/// A regular file that is no link. Links among the directories on the way are followed.
///
/// # Errors
/// It is something else, or is not there.
pub fn open_unlinked(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    regular(openat(CWD, path, flags, Mode::empty()).map_err(named)?)
}

/// What is at an open descriptor, when it is a regular file.
///
/// # Errors
/// It is something else.
pub fn regular(opened: OwnedFd) -> io::Result<File> {
    let file = File::from(opened);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let message = "it is not a regular file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// All of a file that has at most `most` bytes.
///
/// # Errors
/// It has more, or cannot be read.
pub fn read_to_limit(file: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// A small file that is no link.
///
/// # Errors
/// See [`open_unlinked`] and [`read_to_limit`].
pub fn read_unlinked(path: &Path) -> io::Result<Vec<u8>> {
    read_to_limit(open_unlinked(path)?, SMALL)
}

/// The error for what is not followed, in words.
fn named(error: Errno) -> io::Error {
    match error {
        Errno::LOOP => io::Error::new(io::ErrorKind::InvalidInput, "it is a link"),
        Errno::XDEV => io::Error::new(io::ErrorKind::InvalidInput, "it leads elsewhere"),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{FileType, mknodat};

    use super::*;

    /// A directory with `file`, and others that lead out or do not end.
    fn scene() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "content").unwrap();
        fs::create_dir(path("inside")).unwrap();
        fs::write(path("inside/file"), "inner").unwrap();
        for (target, link) in [
            ("/etc/passwd", "out"),
            ("file", "link"),
            ("/dev/zero", "zero"),
            ("/etc", "etc"),
        ] {
            symlink(target, path(link)).unwrap();
        }
        mknodat(CWD, path("pipe"), FileType::Fifo, 0o600.into(), 0).unwrap();
        directory
    }

    const OTHERS: [&str; 6] = ["out", "link", "zero", "pipe", "inside", "absent"];

    #[test]
    fn nothing_is_opened_below_but_regular_files() {
        let scene = scene();
        let below = Below::new(scene.path()).unwrap();
        let read = |path| read_to_limit(below.file(path).unwrap(), 10).unwrap();
        assert_eq!(read("file"), b"content");
        assert_eq!(read("inside/file"), b"inner");
        for other in OTHERS
            .into_iter()
            .chain(["../x", "etc/passwd", "/etc/passwd"])
        {
            assert!(below.file(other).is_err(), "{other}");
        }
        assert_eq!(below.names("inside").unwrap(), [Path::new("file")]);
        assert!(below.names("etc").is_err());
        assert!(below.names("..").is_err());
    }

    #[test]
    fn no_link_is_opened() {
        let scene = scene();
        let path = |name: &str| scene.path().join(name);
        for other in OTHERS {
            assert!(open_unlinked(&path(other)).is_err(), "{other}");
        }
        let error = read_to_limit(open_unlinked(&path("file")).unwrap(), 6).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 6 bytes");
    }
}
