//! Bringing what one store has to another: backup and restore.
//!
//! Packs are copied as they are, checked against their names on the way; those that are there
//! already, by name and size, are not read. Journals grow, so of them the records that are missing
//! are copied. Data packs come first, then catalog packs in the order in which they were made, then
//! records of journals: so when this ran to its end, and almost always when it ended before, no
//! object is without its chunks that has them in the source. What a damaged pack had is missing in
//! both.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rayon::prelude::*;
use serde::Serialize;
use sha2::Digest as _;

use super::verify::{DamagedFile, FileKind};
use super::walk::{JournalPart, Snapshot};
use super::watch::Watch;
use crate::digest::{ObjectId, Sha256};
use crate::store::content::read::{Content, chunk, content};
use crate::store::error::{StoreError, io_error};
use crate::store::format::{Kind, RecordHeader, Role, decode_action};
use crate::store::records::files::open_file;
use crate::store::records::pack::read_stored;
use crate::store::records::received::{is_marked, mark};
use crate::store::records::session::Holder;
use crate::store::records::table::{OBJECTS, PackHead};
use crate::store::{Store, on_pool};

/// How much is read at once.
const PIECE: usize = 1 << 20;
/// Packs that are copied before they get their names.
const BATCH: usize = 64;
/// Records of journals that are gathered before they are written, in bytes.
const GATHER: usize = 256 << 10;

/// What was brought from another store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Transferred {
    /// Packs that were copied (or would be).
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that were there.
    pub present: u64,
    /// Records of journals that were copied.
    pub records: u64,
    /// What is damaged in the other store, and was left there.
    pub damaged: Vec<DamagedFile>,
}

/// A pack that is to be copied.
struct Missing {
    name: Sha256,
    size: u64,
    role: Role,
    made: SystemTime,
}

impl Store {
    /// Brings everything that `source` has. Both may be in use meanwhile: what comes to `source`
    /// later is not brought, and what was brought stays as long as this process runs, so that it
    /// can be given names.
    ///
    /// # Errors
    /// One of the stores fails, or the user gave up: then the same call goes on where this one
    /// ended.
    pub fn bring(
        &self,
        source: &Self,
        dry_run: bool,
        watch: &Watch<'_>,
    ) -> Result<Transferred, StoreError> {
        if !dry_run {
            self.records.check_writable()?;
        }
        let snapshot = source.records.pinned_snapshot()?;
        let mut report = Transferred::default();
        let mut missing = self.missing(source, &snapshot, dry_run, &mut report)?;
        report.packs = missing.len() as u64;
        report.bytes = missing.iter().map(|pack| pack.size).sum();
        if dry_run {
            return Ok(report);
        }
        watch.expect(report.bytes);
        let order = |pack: &Missing| (pack.role == Role::Catalog, pack.made, pack.name);
        missing.sort_by_key(order);
        // A batch has packs of one role, so that no catalog pack overtakes a data pack.
        for part in missing.chunk_by(|a, b| a.role == b.role) {
            for batch in part.chunks(BATCH) {
                self.bring_packs(source, batch, watch, &mut report)?;
            }
        }
        for journal in &snapshot.journals {
            watch.step(0)?;
            self.bring_journal(journal, &mut report)?;
        }
        self.records.seal_own()?;
        report.damaged.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(report)
    }

    /// The packs of a snapshot that this store does not have. It relies on the others from now on.
    fn missing(
        &self,
        source: &Self,
        snapshot: &Snapshot,
        dry_run: bool,
        report: &mut Transferred,
    ) -> Result<Vec<Missing>, StoreError> {
        let mut missing = Vec::new();
        for name in &snapshot.packs {
            let path = source.records.pack_path(name);
            let head = open_file(&path).and_then(|(file, size)| {
                let meta = file.metadata().map_err(io_error("look at", &path))?;
                let head = PackHead::read(&file, &path, size)?;
                Ok(Missing {
                    name: *name,
                    size,
                    role: head.role,
                    made: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                })
            });
            let pack = match head {
                Ok(pack) => pack,
                // Where sessions cannot be written, packs may go.
                Err(error) if error.is_absent() => continue,
                Err(error) => {
                    report.blame(&path, FileKind::Pack, &error);
                    continue;
                }
            };
            let own = self.records.files.path("packs", name);
            let there = || {
                fs::symlink_metadata(&own)
                    .is_ok_and(|meta| meta.is_file() && meta.len() == pack.size)
            };
            if there() && (dry_run || self.records.pin(&Holder::Pack(*name))?) {
                report.present += 1;
            } else {
                missing.push(pack);
            }
        }
        Ok(missing)
    }

    /// Copies packs, forces them to disk, and only then gives them their names.
    fn bring_packs(
        &self,
        source: &Self,
        batch: &[Missing],
        watch: &Watch<'_>,
        report: &mut Transferred,
    ) -> Result<(), StoreError> {
        // Before they are copied: a mark goes with its pack.
        let received: HashSet<Sha256> = batch
            .iter()
            .map(|pack| pack.name)
            .filter(|name| is_marked(&source.records.files, name))
            .collect();
        let copied: Vec<_> = on_pool(|| {
            batch
                .par_iter()
                .with_max_len(1)
                .map(|pack| self.copy_pack(source, pack, watch))
                .collect::<Result<_, StoreError>>()
        })??;
        let files = &self.records.files;
        let _marked = match received.is_empty() {
            true => None,
            false => Some(mark(files, &received)?),
        };
        let mut names = Vec::new();
        for (pack, copied) in batch.iter().zip(copied) {
            match copied {
                Ok(file) => {
                    self.records
                        .session
                        .pin(files, Holder::Pack(pack.name), || true)?;
                    files.rename(file.path(), &files.path("packs", pack.name))?;
                    // It has its name: dropping the temporary one must not remove it.
                    let _ = file.into_temp_path().keep();
                    names.push(pack.name);
                }
                Err(error) => {
                    report.packs -= 1;
                    report.bytes -= pack.size;
                    let path = source.records.pack_path(&pack.name);
                    report.blame(&path, FileKind::Pack, &error);
                }
            }
        }
        files.sync_directory(&files.root.join("packs"))?;
        self.records.add_packs(&names)
    }

    /// A copy of a pack on disk that has no name yet, or what is wrong with the pack.
    fn copy_pack(
        &self,
        source: &Self,
        pack: &Missing,
        watch: &Watch<'_>,
    ) -> Result<Result<tempfile::NamedTempFile, StoreError>, StoreError> {
        let path = source.records.pack_path(&pack.name);
        let from = match open_file(&path) {
            Ok((from, _)) => from,
            Err(error) => return Ok(Err(error)),
        };
        let files = &self.records.files;
        let copy = files.temporary()?;
        let (to, name) = (copy.as_file(), copy.path());
        // The bytes have to be read to be checked; where blocks can be shared, they need not be
        // written.
        let shared = rustix::fs::ioctl_ficlone(to, &from).is_ok();
        let read: &File = if shared { to } else { &from };
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; PIECE];
        let mut offset = 0;
        while offset < pack.size {
            let count = (pack.size - offset).min(PIECE as u64) as usize;
            let part = &mut buffer[..count];
            if let Err(error) = read.read_exact_at(part, offset) {
                return Ok(Err(io_error("read", &path)(error)));
            }
            hasher.update(&*part);
            if !shared {
                files.write_at(to, name, part, offset)?;
            }
            offset += count as u64;
            watch.step(count as u64)?;
        }
        if Sha256::from_bytes(hasher.finalize().into()) != pack.name {
            return Ok(Err(StoreError::Damaged {
                path,
                reason: "its content does not match its name".to_owned(),
            }));
        }
        to.set_permissions(fs::Permissions::from_mode(0o400))
            .map_err(io_error("set the mode of", name))?;
        // The order of catalog packs is that of these times; without it, all works but a kill at a
        // bad moment.
        let _ = to.set_modified(pack.made);
        files.sync(to, name)?;
        Ok(Ok(copy))
    }

    /// Copies the records of a journal that this store does not have, in their order.
    fn bring_journal(
        &self,
        journal: &JournalPart,
        report: &mut Transferred,
    ) -> Result<(), StoreError> {
        let mut entries = journal.entries.clone();
        entries.sort_unstable_by_key(|entry| entry.offset);
        let (mut record, mut bytes, mut headers) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            if let Err(error) = read_stored(&journal.file, &journal.path, &entry, &mut record) {
                report.blame(&journal.path, FileKind::Journal, &error);
                continue;
            }
            if self.has_record(&entry.record, &record)? {
                continue;
            }
            bytes.extend_from_slice(&record);
            headers.push(entry.record);
            report.records += 1;
            if bytes.len() > GATHER {
                self.records.append(&bytes, &headers)?;
                bytes.clear();
                headers.clear();
            }
        }
        if headers.is_empty() {
            return Ok(());
        }
        self.records.append(&bytes, &headers)
    }

    /// Whether this store has a record as good as this one, and relies on it from now on.
    fn has_record(&self, header: &RecordHeader, record: &[u8]) -> Result<bool, StoreError> {
        let records = &self.records;
        if header.kind == Kind::Action {
            let time = |bytes: &[u8]| decode_action(bytes).map_or(0, |(time, _)| time);
            let payload = &record[record.len() - header.stored as usize..];
            let mut found = Vec::new();
            for location in records.locate(&header.key, &[Kind::Action])? {
                if records.read_at(&location, &mut found).is_ok() && time(&found) >= time(payload) {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let found = match header.kind {
            Kind::Chunk => records.rely_on_chunk(&header.key, &HashSet::new())?,
            _ => records.rely(&header.key, &OBJECTS, |_| false)?,
        };
        Ok(found.is_some())
    }

    /// Brings one object, and nothing else.
    ///
    /// # Errors
    /// It is not there or damaged, or one of the stores fails.
    pub fn bring_object(&self, source: &Self, id: &ObjectId) -> Result<(), StoreError> {
        source.records.rely(id.digest(), &OBJECTS, |_| false)?;
        let brought = match content(&source.records, id)? {
            Content::Blob(bytes) => self.put_bytes(&bytes)?,
            Content::Chunks(list) => {
                let mut writer = self.writer()?;
                let mut position = 0;
                let mut bytes = Vec::new();
                for part in &list.chunks {
                    writer.hole(part.offset - position)?;
                    chunk(&source.records, id, part, &mut bytes)?;
                    std::io::Write::write_all(&mut writer, &bytes)
                        .map_err(io_error("write to", self.root()))?;
                    position = part.offset + u64::from(part.length);
                }
                writer.hole(list.size - position)?;
                writer.finish()?
            }
        };
        if brought.id == *id {
            return Ok(());
        }
        Err(StoreError::DamagedObject {
            id: *id,
            reason: format!(
                "it was cut by another rule: here it is {}",
                brought.id.short()
            ),
        })
    }

    /// Whether an object can be read as far as can be told without reading its content.
    #[must_use]
    pub fn is_complete(&self, id: &ObjectId) -> bool {
        match content(&self.records, id) {
            Err(_) => false,
            Ok(Content::Blob(_)) => true,
            Ok(Content::Chunks(list)) => list.chunks.iter().all(|chunk| {
                let found = self.records.locate(&chunk.id, &[Kind::Chunk]);
                found.is_ok_and(|found| !found.is_empty())
            }),
        }
    }
}

impl Transferred {
    fn blame(&mut self, path: &Path, kind: FileKind, error: &StoreError) {
        if self.damaged.iter().any(|file| file.path == path) {
            return;
        }
        self.damaged.push(DamagedFile {
            path: path.to_owned(),
            kind,
            reason: match error {
                StoreError::Damaged { reason, .. } => reason.clone(),
                other => other.to_string(),
            },
            records: None,
        });
    }
}

/// What is at a path where a store could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Store,
    /// Nothing, or an empty directory: a store can be made there.
    Free,
    Other,
}

impl Store {
    /// What is at a path.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn place(path: &Path) -> Result<Place, StoreError> {
        let failed = || io_error("look at", path);
        match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Place::Free),
            Err(error) => return Err(failed()(error)),
            Ok(meta) if !meta.is_dir() => return Ok(Place::Other),
            Ok(_) => {}
        }
        if fs::symlink_metadata(path.join("format.json")).is_ok() {
            return Ok(Place::Store);
        }
        for entry in fs::read_dir(path).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name();
            // A file system's own, and what is left where making a store was interrupted.
            let is_ours = crate::store::records::files::DIRECTORIES
                .iter()
                .any(|directory| name == *directory)
                && fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none());
            if name != "lost+found" && name != "tmp" && !is_ours {
                return Ok(Place::Other);
            }
        }
        Ok(Place::Free)
    }
}
