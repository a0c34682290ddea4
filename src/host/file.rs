//! Habits with files: those that others wrote are read without waiting and no further than a
//! limit, those of vmfab are replaced in one piece, and locks are held by open files. The store has
//! a layer of its own, in which its tests make writes fail.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Interrupt, process};

/// What of a file that was replaced is left after a crash of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Perhaps nothing, or a part of it: for what can be made again.
    None,
    /// The old file or the new one.
    Whole,
    /// The new one.
    Lasting,
}

/// How names of files begin that [`Replace`] has not put in place yet: what a killed process left.
pub const NEW: &str = ".new-";

/// Puts a file in place of another, or of none, in one piece: whoever opens it sees the old one or
/// the new one. It is for its owner alone unless told otherwise, and in a directory that is there.
#[must_use]
pub struct Replace<'a> {
    path: &'a Path,
    durability: Durability,
    permissions: Permissions,
}

impl<'a> Replace<'a> {
    pub fn new(path: &'a Path, durability: Durability) -> Self {
        Self {
            path,
            durability,
            permissions: Permissions::from_mode(0o600),
        }
    }

    pub fn permissions(self, permissions: Permissions) -> Self {
        Self {
            permissions,
            ..self
        }
    }

    /// # Errors
    /// It cannot be written; then the old one is still there.
    pub fn with(self, bytes: &[u8]) -> io::Result<()> {
        self.fill(|mut file| file.write_all(bytes))
    }

    /// The same with what `fill` writes.
    ///
    /// # Errors
    /// See [`with`](Self::with), and those of `fill`.
    pub fn fill(self, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let directory = directory_of(self.path);
        let file = tempfile::Builder::new()
            .prefix(NEW)
            .tempfile_in(directory)?;
        fill(file.as_file())?;
        file.as_file().set_permissions(self.permissions)?;
        if self.durability >= Durability::Whole {
            file.as_file().sync_all()?;
        }
        file.persist(self.path).map_err(|error| error.error)?;
        match self.durability {
            Durability::Lasting => File::open(directory)?.sync_all(),
            _ => Ok(()),
        }
    }
}

/// Puts a file of a cache in place, and makes its directory.
///
/// # Errors
/// See [`Replace::with`].
pub fn cache(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory_of(path))?;
    Replace::new(path, Durability::None).with(bytes)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Takes the lock on an open file, which lives as long as the last process that has it open; false
/// when somebody holds it.
///
/// # Errors
/// The file system has no locks.
pub fn try_lock(file: &File) -> io::Result<bool> {
    held(file.try_lock())
}

/// The same for a lock that many may share.
///
/// # Errors
/// See [`try_lock`].
pub fn try_lock_shared(file: &File) -> io::Result<bool> {
    held(file.try_lock_shared())
}

fn held(locked: Result<(), TryLockError>) -> io::Result<bool> {
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether another open file has locked the byte at `place`, whatever process it belongs to: as QEMU
/// locks bytes of its disks.
///
/// # Errors
/// The file system has no such locks.
#[allow(unsafe_code)]
pub fn is_byte_locked(file: &File, place: i64) -> io::Result<bool> {
    let mut asked = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and the kernel fills in a value of its own type.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut asked) };
    match result {
        0 => Ok(asked.l_type != libc::F_UNLCK as libc::c_short),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens a file to lock it, which is made when it is not there. `flags` are further ones of open(2).
///
/// # Errors
/// It cannot be opened.
pub fn open_lock(path: &Path, flags: i32) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
}

/// Whether an open file is the one at `path`: a lock on one that was removed locks nothing.
#[must_use]
pub fn is_at(file: &File, path: &Path) -> bool {
    let inode = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let own = file.metadata().map(inode).ok();
    own.is_some() && own == fs::metadata(path).map(inode).ok()
}

/// A lock that is held until it is dropped. Its file goes with what it protects.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock at `path`; nothing when somebody has it.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = open_lock(path, 0)?;
            if !try_lock(&file)? {
                return Ok(None);
            }
            // Its last holder may have removed the file between the two calls.
            if is_at(&file, path) {
                return Ok(Some(Self {
                    _file: file,
                    path: path.to_owned(),
                }));
            }
        }
    }

    /// Waits for the lock; `waiting` is called before each pause. Nothing when the user gave up.
    ///
    /// # Errors
    /// See [`try_take`](Self::try_take).
    pub fn wait(
        path: &Path,
        interrupt: &Interrupt,
        mut waiting: impl FnMut(),
    ) -> io::Result<Option<Self>> {
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(Some(lock));
            }
            waiting();
            if !process::pause(interrupt) {
                return Ok(None);
            }
        }
    }

    /// Removes the file and lets go.
    pub fn remove(self) {
        // What stays is an empty file.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens a regular file. Anything else is refused, as whoever opens a pipe waits for its writer,
/// and a device may have no end.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    if kind.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let message = "it is a pipe, a socket or a device, not a regular file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// The text of a regular file of at most `most` bytes.
///
/// # Errors
/// It cannot be read, is larger ([`io::ErrorKind::FileTooLarge`]), or is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text(open_regular(path)?, most)
}

/// The same for something that is open.
///
/// # Errors
/// See [`read_text`].
pub fn text(reader: impl Read, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let message = if bytes.contains(&0) {
            "it is not text".to_owned()
        } else {
            let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
            format!(
                "line {line} has the byte 0x{:02X}, which is not UTF-8: convert the file, for example with \
                 iconv -f latin1 -t utf-8",
                bytes[at]
            )
        };
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_is_no_regular_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let shown = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_text(&path, 20).map_err(|error| error.to_string())
        };
        assert_eq!(shown("caf\u{e9}\n".as_bytes()).unwrap(), "caf\u{e9}\n");
        assert_eq!(shown(&[b'x'; 20]).unwrap().len(), 20);
        assert_eq!(shown(&[b'x'; 21]).unwrap_err(), "it has more than 20 bytes");
        let latin = shown(b"a\nb\ncaf\xe9\n").unwrap_err();
        assert!(
            latin.starts_with("line 3 has the byte 0xE9, which is not UTF-8"),
            "{latin}"
        );
        assert_eq!(shown(b"QFI\xfb\0\0").unwrap_err(), "it is not text");
        let pipe = directory.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for odd in [&pipe, Path::new("/dev/zero")] {
            assert_eq!(
                read_text(odd, 20).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
        let error = read_text(directory.path(), 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_removed_lock_locks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let interrupt = Interrupt::new().unwrap();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let lock = loop {
                            if let Some(lock) = Lock::try_take(&path).unwrap() {
                                break lock;
                            }
                            std::thread::yield_now();
                        };
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        lock.remove();
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        let held = Lock::wait(&path, &interrupt, || {}).unwrap();
        interrupt.request();
        assert!(Lock::wait(&path, &interrupt, || {}).unwrap().is_none());
        drop(held);
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for durability in [Durability::None, Durability::Whole, Durability::Lasting] {
            let bytes = format!("{durability:?}");
            Replace::new(&path, durability)
                .with(bytes.as_bytes())
                .unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
            assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        }
        let torn = Replace::new(&path, Durability::None).fill(|mut file| {
            file.write_all(b"torn")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(torn.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "Lasting");
        Replace::new(&path, Durability::None)
            .permissions(Permissions::from_mode(0o640))
            .with(b"")
            .unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        let deep = directory.path().join("a/b");
        assert!(Replace::new(&deep, Durability::None).with(b"").is_err());
        cache(&deep, b"").unwrap();
    }
}
