//! The one place where files of a store are written, forced to disk, renamed and removed.
//!
//! `store-format/protocol.md` says in which order that happens; tests let each of these operations
//! fail in turn.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::store::error::{StoreError, io_error};

pub(in crate::store) const DIRECTORIES: [&str; 10] = [
    "packs", "received", "journals", "tags", "roots", "index", "sessions", "trash", "locks", "tmp",
];

/// The files below the root of a store.
#[derive(Debug)]
pub(in crate::store) struct Files {
    pub(in crate::store) root: PathBuf,
    #[cfg(test)]
    pub(in crate::store) faults: std::sync::Arc<crate::store::faults::Faults>,
}

impl Files {
    pub(in crate::store) fn new(root: PathBuf) -> Self {
        Self {
            root,
            #[cfg(test)]
            faults: std::sync::Arc::default(),
        }
    }

    /// `DIRECTORY/NAME`.
    pub(in crate::store) fn path(&self, directory: &str, name: impl std::fmt::Display) -> PathBuf {
        self.root.join(directory).join(name.to_string())
    }

    /// Every change goes through here. In tests a fault may be due.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests use it")]
    fn change<T>(&self, _what: &Change<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        make()
    }

    #[cfg(test)]
    fn change<T>(&self, what: &Change<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.faults.change(what, make)
    }

    /// A limit of lengths; in tests it may be smaller, so that little content does what much does.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests use it")]
    pub(in crate::store) const fn limit(&self, bytes: u64) -> u64 {
        bytes
    }

    #[cfg(test)]
    pub(in crate::store) fn limit(&self, bytes: u64) -> u64 {
        self.faults.limit(bytes)
    }

    /// A temporary file, which disappears when it is dropped. It is locked as long as it is open,
    /// for [`sweep`](Self::sweep).
    pub(in crate::store) fn temporary(&self) -> Result<tempfile::NamedTempFile, StoreError> {
        let directory = self.root.join("tmp");
        loop {
            let create = || {
                tempfile::Builder::new()
                    .prefix("put-")
                    .tempfile_in(&directory)
            };
            let file = self
                .change(&Change::Create, create)
                .map_err(io_error("create a file in", &directory))?;
            let handle = file.as_file();
            handle.lock().map_err(io_error("lock", file.path()))?;
            // A sweep may have come between.
            let meta = handle
                .metadata()
                .map_err(io_error("look at", file.path()))?;
            if meta.nlink() > 0 {
                return Ok(file);
            }
        }
    }

    /// Removes what processes that are gone have left: temporary files and sessions.
    pub(in crate::store) fn sweep(&self) {
        for directory in ["tmp", "sessions"] {
            let entries = fs::read_dir(self.root.join(directory));
            for path in entries.into_iter().flatten().flatten() {
                let path = path.path();
                if let Ok(file) = File::open(&path)
                    && file.try_lock().is_ok()
                {
                    let _ = self.remove(&path);
                }
            }
        }
    }

    /// A new file at `path`, locked from its first moment on. It begins with `head`, which is on
    /// disk before its name is there.
    pub(in crate::store) fn create_locked(
        &self,
        path: &Path,
        head: &[u8],
    ) -> Result<File, StoreError> {
        let file = self.temporary()?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(io_error("set the mode of", file.path()))?;
        if !head.is_empty() {
            self.write_at(file.as_file(), file.path(), head, 0)?;
            self.sync(file.as_file(), file.path())?;
        }
        self.rename(file.path(), path)?;
        let (file, temporary) = file.into_parts();
        // It has its name: dropping the temporary one must not remove it.
        let _ = temporary.keep();
        Ok(file)
    }

    /// Writes all of `bytes` at `offset`.
    pub(in crate::store) fn write_at(
        &self,
        file: &File,
        path: &Path,
        bytes: &[u8],
        offset: u64,
    ) -> Result<(), StoreError> {
        self.change(&Change::Write(file, bytes, offset), || {
            file.write_all_at(bytes, offset)
        })
        .map_err(io_error("write", path))
    }

    pub(in crate::store) fn truncate(
        &self,
        file: &File,
        path: &Path,
        length: u64,
    ) -> Result<(), StoreError> {
        self.change(&Change::Truncate, || file.set_len(length))
            .map_err(io_error("truncate", path))
    }

    /// Forces a file's bytes to disk.
    pub(in crate::store) fn sync(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        self.change(&Change::Sync(file), || file.sync_all())
            .map_err(io_error("sync", path))
    }

    /// Forces the names in a directory to disk.
    pub(in crate::store) fn sync_directory(&self, path: &Path) -> Result<(), StoreError> {
        self.change(&Change::SyncDirectory(path), || {
            File::open(path)?.sync_all()
        })
        .map_err(io_error("sync", path))
    }

    pub(in crate::store) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.change(&Change::Rename(from, to), || fs::rename(from, to))
            .map_err(io_error("rename", from))
    }

    /// Removes a file; tells whether it was there.
    pub(in crate::store) fn remove(&self, path: &Path) -> Result<bool, StoreError> {
        match self.change(&Change::Remove(path), || fs::remove_file(path)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("remove", path)(error)),
        }
    }

    /// Removes a name of something, for good; tells whether it was there.
    pub(in crate::store) fn remove_name(&self, path: &Path) -> Result<bool, StoreError> {
        let there = self.remove(path)?;
        // What it named may be collected: it must not come back.
        self.sync_directory(path.parent().unwrap_or(&self.root))?;
        Ok(there)
    }

    /// Forces a finished temporary file to disk and renames it to its final name; then forces the
    /// directory. A file of that name is replaced.
    pub(in crate::store) fn publish(
        &self,
        file: tempfile::NamedTempFile,
        path: &Path,
        mode: u32,
    ) -> Result<(), StoreError> {
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(mode))
            .map_err(io_error("set the mode of", file.path()))?;
        self.sync(file.as_file(), file.path())?;
        self.rename(file.path(), path)?;
        // It has its name: dropping the temporary one must not remove it.
        let _ = file.into_temp_path().keep();
        self.sync_directory(path.parent().unwrap_or(&self.root))
    }

    /// Writes a small file under a temporary name and publishes it.
    pub(in crate::store) fn write_atomically(
        &self,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let file = self.temporary()?;
        self.write_at(file.as_file(), file.path(), bytes, 0)?;
        self.publish(file, path, 0o600)
    }
}

/// A change that is to be made.
#[cfg_attr(not(test), expect(dead_code, reason = "tests look at it"))]
#[derive(Debug)]
pub(in crate::store) enum Change<'a> {
    Create,
    Write(&'a File, &'a [u8], u64),
    Truncate,
    Sync(&'a File),
    SyncDirectory(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
}

/// Reads `length` bytes at `offset`.
pub(in crate::store) fn read_at(
    file: &File,
    path: &Path,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)
        .map_err(io_error("read", path))?;
    Ok(bytes)
}

/// What is in a directory; nothing when it is missing, which is as good as empty.
pub(in crate::store) fn list_directory(path: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    match fs::read_dir(path) {
        Ok(entries) => entries.collect::<Result<_, _>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
    .map_err(io_error("list", path))
}

/// When a directory was changed; the beginning of time when it is missing.
pub(in crate::store) fn changed_at(path: &Path) -> io::Result<SystemTime> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SystemTime::UNIX_EPOCH),
        meta => meta?.modified(),
    }
}

/// A regular file opened for reading, with its size. Links are not followed.
pub(in crate::store) fn open_file(path: &Path) -> Result<(File, u64), StoreError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| io_error("open", path)(error.into()))?;
    let meta = file.metadata().map_err(io_error("look at", path))?;
    if !meta.is_file() {
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            reason: "it is not a regular file".to_owned(),
        });
    }
    Ok((file, meta.len()))
}
