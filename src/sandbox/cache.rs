//! The cache of unpacked layers: for the layer `ID`, the directory `ID` and beside it the file
//! `ID.used`, which is locked (shared) by steps that use the directory, and whose time of change is
//! that of the last use.
//!
//! The text of `ID.used` is a stamp: a digest over all that is in the directory, of names, modes,
//! sizes and the times at which the kernel last saw each file change (ctime). No program can set
//! that time, so whatever is written, given away, restored or copied afterwards has another stamp.
//! A directory whose stamp is not the one that was noted when it was made is unpacked again. A
//! process reads each directory once.
//!
//! What is unpacked is not forced to disk: after a crash of the host its files can be torn. Each
//! boot of the host has a cache of its own.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::run::{remove_tree, stamp_in_namespace};
use crate::digest::{Digest, Hasher, ObjectId};
use crate::host::{Home, file};

/// The cache of one boot of the host.
#[derive(Debug, Clone)]
pub struct LayerCache {
    directory: PathBuf,
    /// Layers whose stamps this process has compared.
    known: Arc<Mutex<HashSet<ObjectId>>>,
}

/// A layer in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLayer {
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
            known: Arc::default(),
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

    /// Keeps a layer in the cache for as long as what is given back is held, whether it is there
    /// yet or not.
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

    /// Whether a layer is there, as it was when it was put there.
    pub(super) fn is_whole(&self, layer: &ObjectId) -> bool {
        let directory = self.path(layer);
        if !directory.exists() {
            return false;
        }
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(layer) {
            return true;
        }
        let whole = fs::read_to_string(self.mark(layer))
            .is_ok_and(|noted| stamp_of(&directory).is_ok_and(|found| found == noted));
        if whole {
            known().insert(*layer);
        }
        whole
    }

    /// Puts a layer, which is held, into the cache: the directory `tree` on the same file system.
    /// One that is there and is not whole is removed.
    pub(super) fn put(&self, layer: &ObjectId, tree: &Path) -> io::Result<()> {
        // Nobody sees a directory without its stamp and takes it for another one.
        let lock = File::create(self.directory.join("lock"))?;
        lock.lock()?;
        if self.is_whole(layer) {
            return Ok(());
        }
        let directory = self.path(layer);
        remove_tree(&directory)?;
        fs::rename(tree, &directory)?;
        let stamp = stamp_of(&directory)?;
        let mut mark = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.mark(layer))?;
        mark.write_all(stamp.as_bytes())?;
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(*layer);
        Ok(())
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
        let mark = file::open_lock(&path, 0)?;
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
        size_of(&self.directory)
    }
}

/// Bytes that the files in a directory take.
pub(super) fn size_of(directory: &Path) -> u64 {
    let mut size = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        // A file with two names counts half for each.
        size += if meta.is_dir() {
            meta.blocks() * 512 + size_of(&entry.path())
        } else {
            meta.blocks() * 512 / meta.nlink().max(1)
        };
    }
    size
}

/// The stamp of a directory and all that is in it. Directories of other users are read from inside
/// a namespace.
fn stamp_of(directory: &Path) -> io::Result<String> {
    let stamp = match stamp(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return stamp_in_namespace(directory);
        }
        result => result?,
    };
    Ok(stamp.to_string())
}

/// Owners are left out, because their numbers depend on the namespace of the one who looks:
/// changing an owner changes the time, too. So are numbers of inodes, which some file systems make
/// up.
pub(super) fn stamp(directory: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::new("vmfab unpacked layer v1");
    add(&mut hasher, &fs::symlink_metadata(directory)?);
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            entries.push((entry.file_name(), entry.metadata()?));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        hasher.update_u64(entries.len() as u64);
        for (name, meta) in entries {
            hasher.update_field(name.as_bytes());
            add(&mut hasher, &meta);
            if meta.is_dir() {
                pending.push(directory.join(name));
            }
        }
    }
    Ok(hasher.finish())
}

fn add(hasher: &mut Hasher, meta: &fs::Metadata) {
    // The size of a directory is the file system's affair.
    let size = if meta.is_dir() { 0 } else { meta.size() };
    let numbers = [
        u64::from(meta.mode()),
        size,
        meta.ctime().cast_unsigned(),
        meta.ctime_nsec().cast_unsigned(),
    ];
    for number in numbers {
        hasher.update_u64(number);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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

    #[test]
    fn what_is_not_as_it_was_is_not_whole() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::at(home.path());
        let id = ObjectId::new(Hasher::new("layer").finish());
        // Another process knows nothing.
        let cache = || LayerCache::new(&home);
        fs::create_dir_all(cache().directory()).unwrap();
        let _held = cache().hold(&id).unwrap();
        let put = || {
            let tree = cache().directory().join("tree");
            fs::create_dir_all(tree.join("a/b")).unwrap();
            fs::write(tree.join("a/b/file"), "content").unwrap();
            fs::write(tree.join("other"), "").unwrap();
            cache().put(&id, &tree).unwrap();
            assert!(cache().is_whole(&id));
            cache().path(&id)
        };
        assert!(!cache().is_whole(&id));
        let path = put();
        let chmod =
            |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        let owner = fs::metadata(&path).unwrap().uid();
        let xattr = |path: PathBuf| {
            rustix::fs::setxattr(path, "user.x", b"1", rustix::fs::XattrFlags::empty())
        };
        let changes: [&dyn Fn(); 8] = [
            &|| chmod(path.join("a/b/file"), 0o600).unwrap(),
            &|| chmod(path.clone(), 0o700).unwrap(),
            &|| std::os::unix::fs::chown(path.join("a"), Some(owner), None).unwrap(),
            // With the old length and the old times.
            &|| {
                let file = path.join("a/b/file");
                let before = fs::metadata(&file).unwrap().modified().unwrap();
                fs::write(&file, "CONTENT").unwrap();
                File::options()
                    .write(true)
                    .open(&file)
                    .unwrap()
                    .set_modified(before)
                    .unwrap();
            },
            &|| fs::remove_file(path.join("other")).unwrap(),
            &|| fs::rename(path.join("other"), path.join("another")).unwrap(),
            &|| xattr(path.join("a/b/file")).unwrap(),
            // A copy with all that a program can copy.
            &|| {
                let copy = path.with_extension("copy");
                let mut cp = std::process::Command::new("cp");
                assert!(
                    cp.arg("-a")
                        .args([&path, &copy])
                        .status()
                        .unwrap()
                        .success()
                );
                fs::remove_dir_all(&path).unwrap();
                fs::rename(&copy, &path).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            // The clock of the kernel's times ticks every few milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(20));
            change();
            assert!(!cache().is_whole(&id), "change {number}");
            put();
        }
        // A note of an earlier version says nothing.
        fs::write(cache().mark(&id), "").unwrap();
        assert!(!cache().is_whole(&id));
    }
}
