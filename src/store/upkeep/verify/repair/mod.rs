//! Repair: what is damaged is dropped, so that it counts as absent and is made again.
//!
//! Records that are whole are copied out of damaged packs and journals. Objects that lost a chunk
//! are made again from their file in the cache of disks, if that is there; otherwise their records
//! go, and the results that name them count as absent. Then nothing in the store names what is not
//! there, but for tags and roots.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Bad, BadRecords, Verified};
use crate::digest::{Digest, ObjectId, Sha256};
use crate::store::Store;
use crate::store::error::{StoreError, io_error};
use crate::store::format::{Entry, HEADER, Kind, RecordHeader, Role, decode_action, decode_header};
use crate::store::records::files::{open_file, read_at};
use crate::store::records::pack::{Rewriter, read_record};
use crate::store::records::received::remove_marks;
use crate::store::records::session::Holder;
use crate::store::records::table::{PackHead, Table};
use crate::store::records::{index, journal, lock};
use crate::store::upkeep::collect::{Condemned, condemn, destroy, put_back};
use crate::store::upkeep::watch::Watch;

/// What a repair did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What was found.
    pub found: Verified,
    /// Packs and journals that were written anew or dropped.
    pub files: u64,
    /// Whole records that were copied out of them.
    pub salvaged: u64,
    /// Objects that were made again from the cache of disks.
    pub restored: Vec<ObjectId>,
    /// Objects that were dropped.
    pub dropped: Vec<ObjectId>,
    /// Action results that named them, and will be built again.
    pub results: u64,
    /// Tags and roots whose files were unreadable, and were removed.
    pub names: Vec<PathBuf>,
    /// Damaged packs that a running process relies on: they can be repaired when it has ended.
    pub in_use: u64,
}

/// A pack or journal that is to be written anew.
struct Rewrite {
    holder: Holder,
    path: PathBuf,
    role: Role,
    journal: u64,
    keep: Vec<Entry>,
}

impl Store {
    /// Drops what is damaged. A dry run changes nothing.
    ///
    /// # Errors
    /// A garbage collection runs, the store cannot be written to, or the user gave up: then nothing
    /// that is whole is lost, and repairing again goes on.
    pub fn repair(&self, dry_run: bool, watch: &Watch<'_>) -> Result<Repaired, StoreError> {
        let files = &self.records.files;
        if !dry_run {
            self.records.check_writable()?;
        }
        let Some(_lock) = lock::try_lock(files, "gc")? else {
            return Err(StoreError::Busy {
                path: files.root.clone(),
                doing: "collecting garbage in",
            });
        };
        if !dry_run {
            put_back(files)?;
        }
        let (found, bad, damaged) = self.examine(false, watch)?;
        let mut report = Repaired {
            found,
            ..Repaired::default()
        };
        if report.found.is_whole() {
            return Ok(report);
        }
        for file in &report.found.damaged_files {
            if matches!(file.kind, super::FileKind::Tag | super::FileKind::Root) {
                report.names.push(file.path.clone());
            }
        }
        if dry_run {
            // At most: what is whole in a file whose table is damaged is seen only when it was
            // copied.
            self.rewrites(&bad, &keys(&damaged), &mut report)?;
            for id in damaged.into_keys() {
                match self.cached_disk(&id) {
                    Some(_) => report.restored.push(id),
                    None => report.dropped.push(id),
                }
            }
            return Ok(report);
        }
        // What this process read to verify it, it does not rely on.
        self.records.session.end(files);
        // First what is whole moves out of damaged files; then what lacks something now is dropped.
        let salvage = self.rewrites(&bad, &HashSet::new(), &mut report)?;
        self.rewrite(&salvage, &mut report)?;
        for path in &report.names {
            files.remove(path)?;
        }
        index::rebuild(&self.records)?;
        let (_, _, incomplete) = self.examine(true, watch)?;
        self.restore_from_disks(incomplete.keys());
        let (_, bad, damaged) = self.examine(true, watch)?;
        self.records.session.end(files);
        let drop = self.rewrites(&bad, &keys(&damaged), &mut report)?;
        self.rewrite(&drop, &mut report)?;
        remove_marks(files)?;
        index::rebuild(&self.records)?;
        report.restored = incomplete
            .into_keys()
            .filter(|id| !damaged.contains_key(id))
            .collect();
        report.dropped = damaged.into_keys().collect();
        Ok(report)
    }

    /// Makes damaged objects again whose file is in the cache of disks.
    fn restore_from_disks<'a>(&self, damaged: impl Iterator<Item = &'a ObjectId>) {
        for path in damaged.filter_map(|id| self.cached_disk(id)) {
            // What becomes of it is seen afterwards.
            if let Ok(file) = File::open(&path) {
                let _ = self.put_file(&file, &path);
            }
        }
    }

    /// What is to be written anew, and without what.
    fn rewrites(
        &self,
        bad: &BadRecords,
        absent: &HashSet<Digest>,
        report: &mut Repaired,
    ) -> Result<Vec<Rewrite>, StoreError> {
        let mut rewrites = Vec::new();
        let mut holders: Vec<(&Holder, &Bad)> = bad.iter().collect();
        holders.sort_by_key(|(holder, _)| **holder);
        for (holder, bad) in holders {
            let path = holder.path(&self.records.files);
            let (file, size) = match open_file(&path) {
                Ok(opened) => opened,
                // Not a file at all: it only has to go.
                Err(StoreError::Damaged { .. }) => {
                    rewrites.push(Rewrite {
                        holder: *holder,
                        path,
                        role: Role::Data,
                        journal: 0,
                        keep: Vec::new(),
                    });
                    continue;
                }
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error),
            };
            let damaged = !matches!(bad, Bad::None)
                || report
                    .found
                    .damaged_files
                    .iter()
                    .any(|damaged| damaged.path == path);
            let head = read_at(&file, &path, 0, HEADER)
                .ok()
                .and_then(|head| decode_header(&head).ok());
            let (role, journal) = head.unwrap_or((Role::Catalog, 0));
            let entries = if damaged {
                whole_records(&file, &path, size)?
            } else if role == Role::Catalog {
                self.entries(holder, &file, &path, size)?
            } else {
                continue;
            };
            let before = entries.len();
            let mut results = 0;
            let keep: Vec<Entry> = entries
                .into_iter()
                .filter(|entry| match entry.record.kind {
                    Kind::Chunk => true,
                    Kind::Object | Kind::Blob => !absent.contains(&entry.record.key),
                    Kind::Action => {
                        let stays = !names(&file, &path, entry, absent);
                        results += u64::from(!stays);
                        stays
                    }
                })
                .collect();
            report.results += results;
            if !damaged && keep.len() == before {
                continue;
            }
            report.files += 1;
            if damaged {
                report.salvaged += keep.len() as u64;
            }
            rewrites.push(Rewrite {
                holder: *holder,
                path,
                role,
                journal,
                keep,
            });
        }
        // Catalogs first: an object's record goes before its chunks.
        rewrites.sort_by_key(|rewrite| rewrite.role == Role::Data);
        Ok(rewrites)
    }

    /// All records of a pack or journal that is not damaged.
    fn entries(
        &self,
        holder: &Holder,
        file: &File,
        path: &Path,
        size: u64,
    ) -> Result<Vec<Entry>, StoreError> {
        let Holder::Pack(name) = holder else {
            return journal::scan(file, path, 0).map(|scanned| scanned.entries);
        };
        PackHead::read(file, path, size)?;
        let (table, _) = Table::of_pack(path.to_owned(), *name)?;
        let mut entries = Vec::new();
        table.for_each(|entry, _| {
            entries.push(entry);
            Ok(())
        })?;
        Ok(entries)
    }

    fn rewrite(&self, rewrites: &[Rewrite], report: &mut Repaired) -> Result<(), StoreError> {
        let files = &self.records.files;
        for role in [Role::Catalog, Role::Data] {
            let chosen: Vec<&Rewrite> = rewrites.iter().filter(|one| one.role == role).collect();
            let mut writer = Rewriter::new(&self.records, role, false);
            let mut old: Vec<Condemned> = Vec::new();
            let mut journals = Vec::new();
            for rewrite in chosen {
                match rewrite.holder {
                    Holder::Pack(pack) => old.push(Condemned {
                        pack,
                        journal: rewrite.journal,
                    }),
                    Holder::Journal(_) => {
                        let file =
                            File::open(&rewrite.path).map_err(io_error("open", &rewrite.path))?;
                        if file.try_lock().is_err() {
                            report.in_use += 1;
                            continue;
                        }
                        // Until it is gone: nobody is to append to it.
                        journals.push((&rewrite.path, file));
                    }
                }
                if !rewrite.keep.is_empty() {
                    let (file, _) = open_file(&rewrite.path)?;
                    writer.copy(&rewrite.holder, &file, &rewrite.path, rewrite.keep.clone())?;
                }
            }
            let (new, _) = writer.finish()?;
            // One that was whole but for its table comes out as it was meant to be, with its name.
            old.retain(|condemned| !new.contains(&condemned.pack));
            let back = condemn(files, &old)?;
            report.in_use += back.len() as u64;
            destroy(
                files,
                old.iter()
                    .map(|condemned| condemned.pack)
                    .filter(|pack: &Sha256| !back.contains(pack)),
            )?;
            for (path, _locked) in journals {
                files.remove(path)?;
            }
            self.records.refresh()?;
        }
        Ok(())
    }
}

fn keys(objects: &BTreeMap<ObjectId, String>) -> HashSet<Digest> {
    objects.keys().map(|id| *id.digest()).collect()
}

/// Whether an action result names one of these objects, or cannot be read.
fn names(file: &File, path: &Path, entry: &Entry, absent: &HashSet<Digest>) -> bool {
    let mut payload = Vec::new();
    let read = read_record(file, path, entry, &mut Vec::new(), &mut payload);
    match read.map(|()| decode_action(&payload)) {
        Ok(Ok((_, outputs))) => outputs
            .values()
            .any(|object| absent.contains(object.id.digest())),
        _ => true,
    }
}

/// The records of a damaged file that are whole, found one by one: behind one that is not, the next
/// is looked for byte by byte.
fn whole_records(file: &File, path: &Path, size: u64) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let mut payload = Vec::new();
    let size = size.min(u64::from(u32::MAX));
    let bytes = read_at(file, path, 0, usize::try_from(size).unwrap_or(usize::MAX))?;
    let mut at = HEADER.min(bytes.len());
    while at < bytes.len() {
        let Ok((record, _)) = RecordHeader::decode_record(&bytes[at..]) else {
            at += 1;
            continue;
        };
        let entry = Entry {
            record,
            offset: at as u32,
        };
        if read_record(file, path, &entry, &mut Vec::new(), &mut payload).is_ok() {
            entries.push(entry);
        }
        at += record.length() as usize;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
