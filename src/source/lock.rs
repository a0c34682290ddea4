//! One at a time for each download, among all threads and processes.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::FetchError;
use crate::host::{Interrupt, process};

/// A lock that is held until it is dropped. Its file goes with what it protects.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock at `path`, or gives `None` when somebody has it.
    pub(super) fn try_take(path: &Path) -> Result<Option<Self>, FetchError> {
        loop {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .map_err(FetchError::io("open", path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(FetchError::io("lock", path)(error)),
            }
            let lock = Self {
                file,
                path: path.to_owned(),
            };
            // Its last holder may have removed the file between the two calls: then it locks
            // nothing.
            if lock.is_of_path() {
                return Ok(Some(lock));
            }
        }
    }

    /// Waits for the lock; `waiting` is called before each pause.
    pub(super) fn wait(
        path: &Path,
        interrupt: &Interrupt,
        mut waiting: impl FnMut(),
    ) -> Result<Self, FetchError> {
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            waiting();
            if !process::pause(interrupt) {
                return Err(FetchError::Interrupted);
            }
        }
    }

    fn is_of_path(&self) -> bool {
        let inode = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let own = self.file.metadata().map(inode).ok();
        own.is_some() && own == fs::metadata(&self.path).map(inode).ok()
    }

    /// Removes the file and lets go.
    pub(super) fn remove(self) {
        // What stays is an empty file in a cache.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

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
        let error = Lock::wait(&path, &interrupt, || {}).unwrap_err();
        assert!(matches!(error, FetchError::Interrupted), "{error}");
        drop(held);
    }
}
