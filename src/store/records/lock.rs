//! Locks that die with their process: `flock` on files below `locks/`.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::files::Files;
use crate::store::error::{StoreError, io_error};

/// A lock that is held until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    /// Unlocked when it is closed.
    _file: File,
}

/// Takes the lock `name` (letters, digits and `-`), or returns `None` when another thread or
/// process has it.
pub(in crate::store) fn try_lock(files: &Files, name: &str) -> Result<Option<Lock>, StoreError> {
    let path = files.path("locks", name);
    let file = open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

/// Takes the lock `name` beside others who share it, and waits for who has it alone.
pub(in crate::store) fn share_lock(files: &Files, name: &str) -> Result<Lock, StoreError> {
    let path = files.path("locks", name);
    let file = open(&path)?;
    file.lock_shared().map_err(io_error("lock", &path))?;
    Ok(Lock { _file: file })
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(io_error("open", path))
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let held = store.try_lock("a").unwrap();
        assert!(held.is_some());
        assert!(store.try_lock("a").unwrap().is_none());
        assert!(store.try_lock("b").unwrap().is_some());
        drop(held);
        assert!(store.try_lock("a").unwrap().is_some());
    }
}
