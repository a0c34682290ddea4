//! Locks that die with their process: `flock` on files below `locks/`.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::files::Files;
use crate::digest::ActionKey;
use crate::host::file;
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

/// The lock of a derivation that is being built, until it is dropped. There are as many as there are
/// keys, so its file goes with it; that of a killed process goes when its key is built.
#[derive(Debug)]
#[must_use]
pub struct ActionLock(Option<file::Lock>);

impl ActionLock {
    pub(in crate::store) fn try_take(
        files: &Files,
        key: &ActionKey,
    ) -> Result<Option<Self>, StoreError> {
        let path = files.path("locks", format_args!("action-{key}"));
        let lock = file::Lock::try_take(&path).map_err(io_error("lock", &path))?;
        Ok(lock.map(|lock| Self(Some(lock))))
    }
}

impl Drop for ActionLock {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.remove();
        }
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
    use crate::digest::{ActionKey, Digest};
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

    #[test]
    fn a_derivation_has_a_lock_of_its_own_that_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        // Keys that begin alike do not wait for each other.
        let key = |last| {
            let mut key = [7; 32];
            key[31] = last;
            ActionKey::new(Digest::from_bytes(key))
        };
        let one = store.try_lock_action(&key(1)).unwrap();
        assert!(store.try_lock_action(&key(1)).unwrap().is_none());
        let other = store.try_lock_action(&key(2)).unwrap();
        assert!(other.is_some());
        drop((one, other));
        assert!(store.try_lock_action(&key(1)).unwrap().is_some());
        let left = std::fs::read_dir(directory.path().join("locks")).unwrap();
        let left = left.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("action-")
        });
        assert_eq!(left.count(), 0);
    }
}
