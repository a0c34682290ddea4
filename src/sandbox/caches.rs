//! Directories that steps share from build to build (`RUN --mount=type=cache`): for each, the
//! directory `NAME` and beside it the file `NAME.lock`, which is locked by steps that use it, and
//! whose time of change is that of the last use. The name is a digest of the id that the user gave;
//! a number follows when a step must not share what another one has.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cache::size_of;
use super::run::remove_tree;
use crate::digest::Hasher;
use crate::host::{Home, Interrupt, file, process};
use crate::instruction::Sharing;

#[derive(Debug, Clone)]
pub struct CacheMounts(PathBuf);

/// A directory of a step, as long as it is held.
#[derive(Debug)]
pub struct HeldCache {
    pub directory: PathBuf,
    _lock: File,
}

/// A directory that no step need use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    pub directory: PathBuf,
    /// When it was last used.
    pub used: SystemTime,
}

impl CacheMounts {
    #[must_use]
    pub fn new(home: &Home) -> Self {
        Self(home.cache_mounts())
    }

    /// The directory of an id; made if it does not exist. Nothing when the user gave up.
    ///
    /// # Errors
    /// It cannot be made or locked.
    pub fn hold(
        &self,
        id: &str,
        sharing: Sharing,
        interrupt: &Interrupt,
    ) -> io::Result<Option<HeldCache>> {
        let name = Hasher::new("vmfab cache mount v1")
            .update_field(id.as_bytes())
            .finish();
        fs::create_dir_all(&self.0)?;
        let mut number = 0;
        loop {
            let directory = self.0.join(match number {
                0 => name.to_string(),
                number => format!("{name}.{number}"),
            });
            let lock = file::open_lock(&lock_of(&directory), 0)?;
            let locked = match sharing {
                Sharing::Shared => file::try_lock_shared(&lock)?,
                Sharing::Private | Sharing::Locked => file::try_lock(&lock)?,
            };
            if !locked {
                if sharing == Sharing::Private {
                    number += 1;
                } else if !process::pause(interrupt) {
                    return Ok(None);
                }
                continue;
            }
            // It may have been removed together with the directory in between.
            if lock.metadata()?.nlink() == 0 {
                continue;
            }
            lock.set_modified(SystemTime::now())?;
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(&directory)?;
            return Ok(Some(HeldCache {
                directory,
                _lock: lock,
            }));
        }
    }

    /// All of them, the one used least recently first.
    #[must_use]
    pub fn list(&self) -> Vec<CacheMount> {
        let mut mounts = Vec::new();
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let directory = entry.path();
            if directory.is_dir() {
                let used = fs::metadata(lock_of(&directory)).and_then(|lock| lock.modified());
                mounts.push(CacheMount {
                    directory,
                    used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                });
            }
        }
        mounts.sort_by(|a, b| (a.used, &a.directory).cmp(&(b.used, &b.directory)));
        mounts
    }

    /// Removes one unless a step uses it; tells whether it did.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, mount: &CacheMount) -> io::Result<bool> {
        let path = lock_of(&mount.directory);
        let lock = file::open_lock(&path, 0)?;
        if lock.try_lock().is_err() || lock.metadata()?.nlink() == 0 {
            return Ok(false);
        }
        remove_tree(&mount.directory)?;
        fs::remove_file(&path)?;
        Ok(true)
    }
}

impl CacheMount {
    /// Bytes that its files take. Reads the whole directory.
    #[must_use]
    pub fn size(&self) -> u64 {
        size_of(&self.directory)
    }
}

fn lock_of(directory: &Path) -> PathBuf {
    directory.with_added_extension("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_shared_waited_for_or_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::new(&Home::at(home.path()));
        let interrupt = Interrupt::new().unwrap();
        let hold = |id: &str, sharing| mounts.hold(id, sharing, &interrupt).unwrap().unwrap();
        let one = hold("/root/.cache", Sharing::Shared);
        let two = hold("/root/.cache", Sharing::Shared);
        assert_eq!(one.directory, two.directory);
        let other = hold("other", Sharing::Locked);
        assert_ne!(one.directory, other.directory);
        let private = hold("other", Sharing::Private);
        assert_ne!(private.directory, other.directory);
        assert!(!mounts.list().is_empty());
        for mount in mounts.list() {
            assert!(!mounts.remove(&mount).unwrap(), "it is in use");
        }
        drop((one, two, other, private));
        assert_eq!(mounts.list().len(), 3);
        for mount in mounts.list() {
            assert!(mounts.remove(&mount).unwrap());
        }
        assert_eq!(mounts.list(), []);
    }

    #[test]
    fn a_locked_one_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::new(&Home::at(home.path()));
        let interrupt = Interrupt::new().unwrap();
        let held = mounts.hold("id", Sharing::Locked, &interrupt).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let second = mounts.hold("id", Sharing::Locked, &interrupt).unwrap();
                fs::read(second.unwrap().directory.join("mark")).unwrap()
            });
            // Whenever the second one gets it, this is there.
            fs::write(held.as_ref().unwrap().directory.join("mark"), "x").unwrap();
            drop(held);
            assert_eq!(waiting.join().unwrap(), b"x");
        });
    }
}
