//! The cache of disks: objects that are kept as sparse files, for QEMU and qemu-img.
//!
//! The cache of disks holds, for the object `ID`, the file `ID` and beside it `ID.state`, two
//! words. When the first one is `synced`, the file was forced to disk; otherwise it is the id of
//! the boot of the host in which the file was made, and after another boot the file is made anew,
//! because it may be torn. The second one is a stamp of the file: its length and the time at which
//! the kernel last saw it change. No program can set that time, so a copy, a restored backup or a
//! changed file has another stamp, and is made anew. The time of change of `ID.state` is that of
//! the last use.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::{ObjectId, ObjectRef};
use crate::store::Store;
use crate::store::error::{StoreError, io_error};
use crate::store::records::lock;
use crate::store::records::lock::Lock;
use crate::store::records::table::OBJECTS;

/// After this time the host has written a file to disk by itself, and forcing it costs nothing.
const WRITTEN: Duration = Duration::from_secs(60);
/// The note of a file that was forced to disk.
const SYNCED: &str = "synced";

/// A disk in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    pub id: ObjectId,
    /// Bytes that its file takes.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
}

impl Store {
    /// The path of a read-only sparse file with the object's content. It belongs to the cache of
    /// disks, and must not be written to. Processes that want the same one wait for the first.
    ///
    /// # Errors
    /// The object is not there or damaged, or the file cannot be written.
    pub fn materialise(&self, id: &ObjectId) -> Result<PathBuf, StoreError> {
        let disk = CachedDisk::new(&self.disks, id);
        if self.records.rely_to_read(id.digest(), &OBJECTS)?.is_none() {
            return Err(StoreError::NoObject(*id));
        }
        if disk.is_whole() {
            self.note_use(id, &disk)?;
            return Ok(disk.path);
        }
        fs::create_dir_all(&self.disks).map_err(io_error("create", &self.disks))?;
        let _lock = self.lock_disk(id)?;
        if disk.is_whole() {
            return Ok(disk.path);
        }
        let file = tempfile::Builder::new()
            .prefix("disk-")
            .tempfile_in(&self.disks)
            .map_err(io_error("create a file in", &self.disks))?;
        file.as_file()
            .lock()
            .map_err(io_error("lock", file.path()))?;
        self.write_to(id, file.as_file(), file.path())?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o400))
            .map_err(io_error("set the mode of", file.path()))?;
        // A note of another file must not speak for this one.
        self.records.files.remove(&disk.state)?;
        file.persist(&disk.path)
            .map_err(|error| io_error("rename", &disk.path)(error.error))?;
        disk.set_state(&boot_id())?;
        Ok(disk.path)
    }

    /// Notes the use of a disk; forces it to disk when that is cheap by now. Held by its lock, so
    /// that it is not another file meanwhile; when somebody else has that, it is as good as used.
    fn note_use(&self, id: &ObjectId, disk: &CachedDisk) -> Result<(), StoreError> {
        if self.records.writable
            && let Some(_lock) = lock::try_lock(&self.records.files, &lock_name(id))?
        {
            disk.used();
        }
        Ok(())
    }

    /// Waits for the one that makes the same file.
    fn lock_disk(&self, id: &ObjectId) -> Result<Option<Lock>, StoreError> {
        if !self.records.writable {
            return Ok(None);
        }
        loop {
            if let Some(lock) = lock::try_lock(&self.records.files, &lock_name(id))? {
                return Ok(Some(lock));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stores the content of a file made with [`temporary`](Self::temporary), and keeps the file
    /// itself in the cache of disks.
    ///
    /// # Errors
    /// The store fails.
    pub fn adopt_disk(&self, file: tempfile::NamedTempFile) -> Result<ObjectRef, StoreError> {
        let object = self.put_file(file.as_file(), file.path())?;
        let disk = CachedDisk::new(&self.disks, &object.id);
        // It is a cache: on another file system, say, it stays empty.
        let kept = fs::create_dir_all(&self.disks).and_then(|()| {
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(0o400))
        });
        let _lock = self.lock_disk(&object.id)?;
        if kept.is_ok()
            && !disk.is_whole()
            && self.records.files.remove(&disk.state).is_ok()
            && file.persist(&disk.path).is_ok()
        {
            let _ = disk.set_state(&boot_id());
        }
        Ok(object)
    }

    /// The file of an object in the cache, if it is there and whole.
    pub(in crate::store) fn cached_disk(&self, id: &ObjectId) -> Option<PathBuf> {
        let disk = CachedDisk::new(&self.disks, id);
        disk.is_whole().then_some(disk.path)
    }

    /// The disks in the cache, the one used least recently first.
    #[must_use]
    pub fn cached_disks(&self) -> Vec<Cached> {
        let mut cached = Vec::new();
        for entry in fs::read_dir(&self.disks).into_iter().flatten().flatten() {
            let Some(Ok(id)) = entry.file_name().to_str().map(str::parse::<ObjectId>) else {
                continue;
            };
            let disk = CachedDisk::new(&self.disks, &id);
            if let Ok(meta) = entry.metadata() {
                let used = fs::metadata(&disk.state).and_then(|state| state.modified());
                cached.push(Cached {
                    id,
                    size: meta.blocks() * 512,
                    used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                });
            }
        }
        cached.sort_by_key(|disk| (disk.used, disk.id));
        cached
    }

    /// Removes a disk from the cache; who has it open can go on reading.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_cached(&self, id: &ObjectId) -> Result<(), StoreError> {
        let _lock = self.lock_disk(id)?;
        let disk = CachedDisk::new(&self.disks, id);
        for path in [&disk.state, &disk.path] {
            self.records.files.remove(path)?;
        }
        Ok(())
    }

    /// Removes what killed processes have left in the cache of disks.
    pub fn sweep_disks(&self) {
        for entry in fs::read_dir(&self.disks).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let temporary = name
                .to_str()
                .is_some_and(|name| name.starts_with("disk-") || name.starts_with("state-"));
            if temporary && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The lock of a disk's file.
fn lock_name(id: &ObjectId) -> String {
    format!("disk-{}", &id.to_string()[..3])
}

/// A file in the cache of disks.
struct CachedDisk {
    path: PathBuf,
    state: PathBuf,
}

impl CachedDisk {
    fn new(directory: &Path, id: &ObjectId) -> Self {
        Self {
            path: directory.join(id.to_string()),
            state: directory.join(format!("{id}.state")),
        }
    }

    fn is_whole(&self) -> bool {
        let Some((written, stamp)) = self.noted() else {
            return false;
        };
        let written = written == SYNCED || (!written.is_empty() && written == boot_id());
        written && self.stamp().is_ok_and(|found| found == stamp)
    }

    /// What the file beside it says: since when it is written, and its stamp.
    fn noted(&self) -> Option<(String, String)> {
        let state = fs::read_to_string(&self.state).ok()?;
        let (written, stamp) = state.split_once(' ')?;
        Some((written.to_owned(), stamp.to_owned()))
    }

    fn stamp(&self) -> std::io::Result<String> {
        let meta = fs::symlink_metadata(&self.path)?;
        Ok(format!(
            "{}:{}.{:09}",
            meta.len(),
            meta.ctime(),
            meta.ctime_nsec()
        ))
    }

    /// Notes the use; forces the file to disk when that is cheap by now.
    fn used(&self) {
        let now = SystemTime::now();
        let age = fs::metadata(&self.path)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|made| now.duration_since(made).ok());
        if age.is_some_and(|age| age > WRITTEN)
            && self.noted().is_some_and(|(written, _)| written != SYNCED)
            && File::open(&self.path).is_ok_and(|file| file.sync_all().is_ok())
        {
            let _ = self.set_state(SYNCED);
        }
        if let Ok(state) = File::options().write(true).open(&self.state) {
            let _ = state.set_modified(now);
        }
    }

    /// Notes since when the file is written, and its stamp.
    fn set_state(&self, written: &str) -> Result<(), StoreError> {
        let stamp = self.stamp().map_err(io_error("look at", &self.path))?;
        let state = format!("{written} {stamp}");
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix("state-")
            .tempfile_in(directory)
            .map_err(io_error("create a file in", directory))?;
        file.write_all(state.as_bytes())
            .map_err(io_error("write", file.path()))?;
        file.persist(&self.state)
            .map(drop)
            .map_err(|error| io_error("rename", &self.state)(error.error))
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
