//! The store: immutable objects named by their digest, results of actions, tags, and locks.
//!
//! The interface is narrow on purpose, so that what is inside can change: put a stream or a file,
//! open an object for reading at any offset, materialise it as a file, look up and record action
//! results, name images by tags. The inside is simple for now:
//!
//! ```text
//! format.json           version of this layout
//! objects/ab/cdef…      content, sparse where the content has holes; read-only
//! actions/ab/cdef…      result of an action, JSON with a checksum
//! tags/NAME             object id of an image config
//! locks/NAME            lock files; they hold nothing
//! tmp/                  files that are being written; removed when their writer is gone
//! ```

mod action;
mod chunks;
mod lock;
mod object;
mod tag;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use action::ActionResult;
pub use lock::Lock;
pub use object::ObjectReader;
pub use tag::TagName;

use crate::digest::ObjectId;

/// The version of the layout that this program writes.
const FORMAT: &str = "{\"version\":0}\n";

/// The store below one directory. Cheap to clone; safe to use from many threads and processes.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The store was written by a program that knows another format.
    #[error("the store at {} has another format than this vmfab knows", .0.display())]
    Format(PathBuf),
    /// There is no such object.
    #[error("object {} is not in the store", .0.short())]
    NoObject(ObjectId),
    /// An object's content is not what its name says.
    #[error("object {} is damaged ({})", id.short(), path.display())]
    Damaged {
        /// The object.
        id: ObjectId,
        /// Its file.
        path: PathBuf,
    },
    /// The text cannot be a tag.
    #[error("\"{0}\" cannot be a tag: use letters, digits, \".\", \"_\" and \"-\", at most 128")]
    TagName(String),
    /// The file of a tag does not hold an object id.
    #[error("the tag file {} does not hold an object id", .0.display())]
    TagFile(PathBuf),
}

/// For `map_err`: an input or output error with what was tried, and on what.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

impl Store {
    /// Opens the store at `root` and makes it when it is not there.
    ///
    /// # Errors
    /// It cannot be made, or has another format.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { root: root.into() };
        let format = store.root.join("format.json");
        match fs::read(&format) {
            Ok(bytes) if bytes == FORMAT.as_bytes() => return Ok(store),
            Ok(_) => return Err(StoreError::Format(store.root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read", &format)(error)),
        }
        for directory in ["objects", "actions", "tags", "locks", "tmp"] {
            let path = store.root.join(directory);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        store.write_atomically(&format, FORMAT.as_bytes())?;
        Ok(store)
    }

    /// The directory of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A temporary file in the store, which disappears when it is dropped. It is locked as long as it
    /// is open, for [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn temporary(&self) -> Result<tempfile::NamedTempFile, StoreError> {
        let directory = self.root.join("tmp");
        loop {
            let file = tempfile::Builder::new()
                .prefix("put-")
                .tempfile_in(&directory)
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

    /// Removes the temporary files of processes that were killed.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Ok(file) = fs::File::open(&path)
                && file.try_lock().is_ok()
            {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Writes a small file under a temporary name, forces it to disk and renames it.
    fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = self.temporary()?;
        io::Write::write_all(&mut file, bytes).map_err(io_error("write", file.path()))?;
        self.publish(file, path)
    }

    /// Forces a finished temporary file to disk and renames it to its final name, making the directory
    /// when needed; then forces the directory.
    fn publish(&self, file: tempfile::NamedTempFile, path: &Path) -> Result<(), StoreError> {
        let parent = path.parent().unwrap_or(&self.root);
        file.as_file()
            .sync_all()
            .map_err(io_error("sync", file.path()))?;
        let file = match file.persist(path) {
            Err(error) if error.error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(parent).map_err(io_error("create", parent))?;
                error.file.persist(path)
            }
            result => result,
        };
        file.map_err(|error| io_error("write", path)(error.error))?;
        fs::File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(io_error("sync", parent))
    }
}

/// `ab/cdef…`: two hexadecimal digits of directory keep directories small.
fn fan_out(directory: PathBuf, hex: &str) -> PathBuf {
    directory.join(&hex[..2]).join(&hex[2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_removes_what_nobody_writes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let written = store.temporary().unwrap();
        let (_, left) = store.temporary().unwrap().keep().unwrap();
        store.sweep();
        assert!(written.path().exists());
        assert!(!left.exists());
    }

    #[test]
    fn a_store_of_another_format_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("format.json"), "{\"version\":9}").unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Format(_)), "{error}");
    }
}
