//! Objects as files: decoded in parallel into a sparse file, or kept as one in the cache.
//!
//! The cache of disks holds, for the object `ID`, the file `ID` and beside it `ID.state`: when the text of
//! that is `synced`, the file was forced to disk; otherwise it is the id of the boot of the host in which the file was made,
//! and after another boot the file is made anew, because it may be torn. The time of change of `ID.state` is
//! that of the last use.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use super::error::{StoreError, io_error};
use super::format::{Chunk, Kind};
use super::lock::Lock;
use super::pack::decode_record;
use super::read::{Content, chunk, content};
use super::session::Holder;
use super::table::OBJECTS;
use super::view::Location;
use super::{Store, lock, on_pool};
use crate::digest::ObjectId;

/// Records that lie together in a pack are read at once, up to this many bytes.
const TOGETHER: u64 = 1 << 20;
/// After this time the host has written a file to disk by itself, and forcing it costs nothing.
const WRITTEN: Duration = Duration::from_secs(60);

/// A chunk that is to be decoded.
struct Wanted<'a> {
    chunk: &'a Chunk,
    location: Location,
}

impl Store {
    /// Writes an object's content to `file`, which must be empty: holes stay holes.
    ///
    /// # Errors
    /// The object is not there or damaged, or the file cannot be written.
    pub fn write_to(&self, id: &ObjectId, file: &File, path: &Path) -> Result<(), StoreError> {
        self.records.rely_to_read(id.digest(), &OBJECTS)?;
        let list = match content(&self.records, id)? {
            Content::Blob(bytes) => {
                return file
                    .write_all_at(&bytes, 0)
                    .map_err(io_error("write", path));
            }
            Content::Chunks(list) => list,
        };
        file.set_len(list.size).map_err(io_error("size", path))?;
        let locate = |chunk| -> Result<Wanted<'_>, StoreError> {
            let chunk: &Chunk = chunk;
            let location = self
                .records
                .rely_to_read(&chunk.id, &[Kind::Chunk])?
                .ok_or_else(|| StoreError::DamagedObject {
                    id: *id,
                    reason: format!("its chunk {} is not in the store", chunk.id.short()),
                })?;
            Ok(Wanted { chunk, location })
        };
        let mut wanted: Vec<Wanted<'_>> =
            list.chunks.iter().map(locate).collect::<Result<_, _>>()?;
        wanted.sort_by_key(|wanted| (wanted.location.holder, wanted.location.entry.offset));
        let groups: Vec<&[Wanted<'_>]> = wanted.chunk_by(together).collect();
        on_pool(|| {
            groups.par_iter().try_for_each_init(
                Default::default,
                |buffers: &mut (Vec<u8>, Vec<u8>), group| {
                    self.write_group(id, group, file, path, buffers)
                },
            )
        })?
    }

    /// Reads a group of records at once, and writes what they hold.
    fn write_group(
        &self,
        id: &ObjectId,
        group: &[Wanted<'_>],
        file: &File,
        path: &Path,
        (buffer, out): &mut (Vec<u8>, Vec<u8>),
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let start = u64::from(first.location.entry.offset);
        let end = u64::from(last.location.entry.offset) + last.location.entry.record.length();
        let read = self
            .records
            .open(&first.location.holder)
            .and_then(|(pack, name)| {
                buffer.resize((end - start) as usize, 0);
                pack.read_exact_at(buffer, start)
                    .map_err(io_error("read", &name))?;
                Ok(name)
            });
        for wanted in group {
            let entry = &wanted.location.entry;
            let at = (u64::from(entry.offset) - start) as usize;
            let decoded = match &read {
                Ok(name) => {
                    let bytes = &buffer[at..at + entry.record.length() as usize];
                    decode_record(bytes, name, entry, out).is_ok()
                        && out.len() == wanted.chunk.length as usize
                }
                Err(_) => false,
            };
            if !decoded {
                // It went elsewhere, or there is another copy, or an error that says what is wrong.
                chunk(&self.records, id, wanted.chunk, out)?;
            }
            file.write_all_at(out, wanted.chunk.offset)
                .map_err(io_error("write", path))?;
        }
        Ok(())
    }

    /// The path of a read-only sparse file with the object's content. It belongs to the cache of disks, and
    /// must not be written to. Processes that want the same one wait for the first.
    ///
    /// # Errors
    /// The object is not there or damaged, or the file cannot be written.
    pub fn materialise(&self, id: &ObjectId) -> Result<PathBuf, StoreError> {
        let disk = CachedDisk::new(&self.disks, id);
        if disk.is_whole() {
            self.records.rely_to_read(id.digest(), &OBJECTS)?;
            disk.used();
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
            .set_permissions(fs::Permissions::from_mode(0o444))
            .map_err(io_error("set the mode of", file.path()))?;
        file.persist(&disk.path)
            .map_err(|error| io_error("rename", &disk.path)(error.error))?;
        disk.set_state(&boot_id())?;
        Ok(disk.path)
    }

    /// Waits for the one that makes the same file.
    fn lock_disk(&self, id: &ObjectId) -> Result<Option<Lock>, StoreError> {
        if !self.records.writable {
            return Ok(None);
        }
        let name = format!("disk-{}", &id.to_string()[..3]);
        loop {
            if let Some(lock) = lock::try_lock(&self.records.files, &name)? {
                return Ok(Some(lock));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether two records, in order, are read at once.
fn together(one: &Wanted<'_>, next: &Wanted<'_>) -> bool {
    let (a, b) = (&one.location, &next.location);
    let end = u64::from(a.entry.offset) + a.entry.record.length();
    // Not across the multiples, so that groups are not longer than these.
    a.holder == b.holder
        && matches!(a.holder, Holder::Pack(_))
        && end == u64::from(b.entry.offset)
        && u64::from(a.entry.offset) / TOGETHER == u64::from(b.entry.offset) / TOGETHER
}

/// A file in the cache of disks.
pub(super) struct CachedDisk {
    pub(super) path: PathBuf,
    state: PathBuf,
}

impl CachedDisk {
    pub(super) fn new(directory: &Path, id: &ObjectId) -> Self {
        Self {
            path: directory.join(id.to_string()),
            state: directory.join(format!("{id}.state")),
        }
    }

    fn is_whole(&self) -> bool {
        let Ok(state) = fs::read_to_string(&self.state) else {
            return false;
        };
        let trusted = state == "synced" || (!state.is_empty() && state == boot_id());
        trusted && self.path.exists()
    }

    /// Notes the use; forces the file to disk when that is cheap by now.
    fn used(&self) {
        let now = SystemTime::now();
        let age = fs::metadata(&self.path)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|made| now.duration_since(made).ok());
        if age.is_some_and(|age| age > WRITTEN)
            && fs::read_to_string(&self.state).is_ok_and(|state| state != "synced")
            && File::open(&self.path).is_ok_and(|file| file.sync_all().is_ok())
        {
            let _ = self.set_state("synced");
        }
        if let Ok(state) = File::options().write(true).open(&self.state) {
            let _ = state.set_modified(now);
        }
    }

    fn set_state(&self, state: &str) -> Result<(), StoreError> {
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
