//! The cache of unpacked layers: for the layer `ID`, the directory `ID` and beside it the file `ID.used`,
//! which is locked (shared) by steps that use the directory, and whose time of change is that of the
//! last use.
//!
//! What is unpacked is not forced to disk: after a crash of the host its files can be torn. Each boot of the host has
//! a cache of its own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::run::remove_tree;
use crate::digest::ObjectId;
use crate::host::Home;

/// The cache of one boot of the host.
#[derive(Debug, Clone)]
pub struct LayerCache {
    directory: PathBuf,
}

/// A layer in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLayer {
    /// The object.
    pub id: ObjectId,
    /// When it was last used.
    pub used: SystemTime,
    directory: PathBuf,
}

/// As long as it is held, the layer is not removed from the cache.
#[derive(Debug)]
pub(super) struct InUse {
    _lock: File,
}

impl LayerCache {
    /// The cache of this boot, below `home`.
    #[must_use]
    pub fn new(home: &Home) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            directory: home.layer_cache().join(boot.trim()),
        }
    }

    /// Where the layers are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a layer is, or will be.
    pub(super) fn path(&self, layer: &ObjectId) -> PathBuf {
        self.directory.join(layer.to_string())
    }

    fn mark(&self, layer: &ObjectId) -> PathBuf {
        self.directory.join(format!("{layer}.used"))
    }

    /// Keeps a layer in the cache for as long as what is given back is held, whether it is there yet or not.
    pub(super) fn hold(&self, layer: &ObjectId) -> io::Result<InUse> {
        let path = self.mark(layer);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.lock_shared()?;
            // It may have been removed together with the layer in between.
            if file.metadata()?.nlink() > 0 {
                file.set_modified(SystemTime::now())?;
                return Ok(InUse { _lock: file });
            }
        }
    }

    /// The layers that are unpacked, the one used least recently first.
    #[must_use]
    pub fn layers(&self) -> Vec<CachedLayer> {
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let Some(Ok(id)) = entry.file_name().to_str().map(str::parse::<ObjectId>) else {
                continue;
            };
            let used = fs::metadata(self.mark(&id)).and_then(|mark| mark.modified());
            layers.push(CachedLayer {
                id,
                used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                directory: entry.path(),
            });
        }
        layers.sort_by_key(|layer| (layer.used, layer.id));
        layers
    }

    /// Removes a layer unless a step uses it; tells whether it did.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, layer: &CachedLayer) -> io::Result<bool> {
        let path = self.mark(&layer.id);
        let mark = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        // Another one may have removed it just now, and a step may hold a new one.
        if mark.try_lock().is_err() || mark.metadata()?.nlink() == 0 {
            return Ok(false);
        }
        remove_tree(&layer.directory)?;
        fs::remove_file(&path)?;
        Ok(true)
    }
}

impl CachedLayer {
    /// Bytes that its files take. Reads the whole directory.
    #[must_use]
    pub fn size(&self) -> u64 {
        fn of(directory: &Path) -> u64 {
            let mut size = 0;
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                // A file with two names counts half for each.
                size += if meta.is_dir() {
                    meta.blocks() * 512 + of(&entry.path())
                } else {
                    meta.blocks() * 512 / meta.nlink().max(1)
                };
            }
            size
        }
        of(&self.directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Hasher;

    #[test]
    fn what_is_used_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(&Home::at(directory.path()));
        let id = |text: &str| ObjectId::new(Hasher::new(text).finish());
        for name in ["old", "new"] {
            fs::create_dir_all(cache.path(&id(name))).unwrap();
            fs::write(cache.path(&id(name)).join("file"), [7; 10_000]).unwrap();
        }
        drop(cache.hold(&id("old")).unwrap());
        let held = cache.hold(&id("new")).unwrap();
        let layers = cache.layers();
        assert_eq!(
            layers.iter().map(|layer| layer.id).collect::<Vec<_>>(),
            [id("old"), id("new")]
        );
        assert!(layers[0].size() >= 10_000);
        assert!(cache.remove(&layers[0]).unwrap());
        assert!(!cache.remove(&layers[1]).unwrap());
        assert!(!cache.path(&id("old")).exists() && cache.path(&id("new")).exists());
        drop(held);
        assert!(cache.remove(&layers[1]).unwrap());
        assert_eq!(cache.layers(), []);
    }
}
