//! Verification: whether everything in a store is what its name says (`store-format/`).
//!
//! ```text
//! packs, in parallel: head, table ──► with all bytes: SHA-256, and of each record CRC, zstd, BLAKE3
//!                                             │ records that are bad
//! tables merged in order of keys ──► good chunks, 8 bytes for each ──► lists of objects, in parallel
//! index files: the same entries as the packs have?         tags and roots: is there what they name?
//! ```

mod objects;
mod pack;
mod repair;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::RandomState;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::walk::Snapshot;
use super::watch::Watch;
use crate::digest::{ObjectId, Sha256};
use crate::store::error::{StoreError, io_error};
use crate::store::format::ENTRY;
use crate::store::names::tag::TagName;
use crate::store::records::session::Holder;
use crate::store::records::table::{OBJECTS, Table};
use crate::store::{Store, on_pool};

use pack::{Bad, Checked, Fingerprint, check_journal, check_pack};
pub use repair::Repaired;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Whether only the structure was looked at.
    pub quick: bool,
    pub packs: u64,
    pub journals: u64,
    pub objects: u64,
    /// Different chunks.
    pub chunks: u64,
    pub results: u64,
    /// Bytes of packs and journals.
    pub bytes: u64,
    /// Files that are damaged, sorted by path.
    pub damaged_files: Vec<DamagedFile>,
    /// Objects that cannot be read, sorted by id.
    pub damaged_objects: Vec<DamagedObject>,
}

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedFile {
    pub path: PathBuf,
    pub kind: FileKind,
    /// What is wrong with it.
    pub reason: String,
    /// How many of its records cannot be used; nothing when it is all of them.
    pub records: Option<u64>,
}

/// What a file of a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    Pack,
    Journal,
    /// An index: a cache.
    Index,
    Tag,
    Root,
}

/// An object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    pub object: ObjectId,
    pub reason: String,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damaged_files.is_empty() && self.damaged_objects.is_empty()
    }
}

/// What cannot be used, by file.
type BadRecords = HashMap<Holder, Bad>;

impl Store {
    /// Looks at everything in the store; `quick`, at all but the content of chunks. Other processes
    /// may use the store meanwhile; what they add is not looked at.
    ///
    /// # Errors
    /// The store cannot be listed, or the user gave up. What is damaged is in the result.
    pub fn verify(&self, quick: bool, watch: &Watch<'_>) -> Result<Verified, StoreError> {
        self.examine(quick, watch).map(|(report, ..)| report)
    }

    /// Also gives the records that cannot be used, and the objects that cannot be read, with
    /// reasons.
    fn examine(
        &self,
        quick: bool,
        watch: &Watch<'_>,
    ) -> Result<(Verified, BadRecords, BTreeMap<ObjectId, String>), StoreError> {
        let snapshot = self.records.pinned_snapshot()?;
        let hasher = RandomState::new();
        let mut report = Verified {
            quick,
            journals: snapshot.journals.len() as u64,
            ..Verified::default()
        };
        let mut bad = BadRecords::new();
        let mut fingerprints = HashMap::new();
        for (name, checked) in self.check_packs(&snapshot, quick, &hasher, watch, &mut report)? {
            if checked.reason.is_none() {
                fingerprints.insert(name, checked.fingerprint);
            }
            let path = self.records.pack_path(&name);
            report.note(path, FileKind::Pack, &checked);
            bad.insert(Holder::Pack(name), checked.bad);
        }
        for journal in &snapshot.journals {
            let checked = check_journal(journal, quick, watch)?;
            report.note(journal.path.clone(), FileKind::Journal, &checked);
            bad.insert(Holder::Journal(journal.number), checked.bad);
        }
        let mut damaged = objects::check(self, &snapshot, &bad, watch, &mut report)?;
        self.check_indexes(&fingerprints, &hasher, &mut report)?;
        self.check_names(&mut damaged, &mut report)?;
        report.damaged_files.sort_by(|a, b| a.path.cmp(&b.path));
        report.damaged_objects = damaged
            .iter()
            .map(|(object, reason)| DamagedObject {
                object: *object,
                reason: reason.clone(),
            })
            .collect();
        Ok((report, bad, damaged))
    }

    fn check_packs(
        &self,
        snapshot: &Snapshot,
        quick: bool,
        hasher: &RandomState,
        watch: &Watch<'_>,
        report: &mut Verified,
    ) -> Result<Vec<(Sha256, Checked)>, StoreError> {
        let mut packs: Vec<(u64, Sha256)> = snapshot
            .packs
            .iter()
            .map(|name| {
                let meta = fs::symlink_metadata(self.records.pack_path(name));
                (meta.map_or(0, |meta| meta.len()), *name)
            })
            .collect();
        // The longest work first, so that all threads end at about the same time.
        packs.sort_unstable_by(|a, b| b.cmp(a));
        report.packs = packs.len() as u64;
        report.bytes = packs.iter().map(|(size, _)| size).sum::<u64>()
            + snapshot
                .journals
                .iter()
                .map(|journal| journal.end)
                .sum::<u64>();
        if !quick {
            watch.expect(report.bytes);
        }
        let checked: Vec<Option<(Sha256, Checked)>> = on_pool(|| {
            packs
                .par_iter()
                .with_max_len(1)
                .map(|(_, name)| {
                    let path = self.records.pack_path(name);
                    let checked = check_pack(&path, *name, quick, hasher, watch)?;
                    Ok(checked.map(|checked| (*name, checked)))
                })
                .collect::<Result<_, StoreError>>()
        })??;
        Ok(checked.into_iter().flatten().collect())
    }

    /// Compares what index files say with what the packs themselves say.
    fn check_indexes(
        &self,
        packs: &HashMap<Sha256, Fingerprint>,
        hasher: &RandomState,
        report: &mut Verified,
    ) -> Result<(), StoreError> {
        let directory = self.root().join("index");
        for path in list(&directory)? {
            let checked = Table::of_index(path.clone())
                .and_then(|table| compare_index(&table, packs, hasher))
                .unwrap_or_else(|error| match error {
                    // Merged into another one meanwhile.
                    error if error.is_absent() => None,
                    StoreError::Damaged { reason, .. } => Some(reason),
                    other => Some(other.to_string()),
                });
            if let Some(reason) = checked {
                report.damaged_files.push(DamagedFile {
                    path,
                    kind: FileKind::Index,
                    reason,
                    records: Some(0),
                });
            }
        }
        Ok(())
    }

    /// Looks whether tags and roots can be read, and name what is there.
    fn check_names(
        &self,
        damaged: &mut BTreeMap<ObjectId, String>,
        report: &mut Verified,
    ) -> Result<(), StoreError> {
        for (directory, kind) in [("tags", FileKind::Tag), ("roots", FileKind::Root)] {
            for path in list(&self.root().join(directory))? {
                let Some(Ok(name)) = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .map(str::parse::<TagName>)
                else {
                    continue;
                };
                let named = match kind {
                    FileKind::Tag => self.tag(&name).map(|id| id.into_iter().collect()),
                    _ => self.root_objects(&name).map(Option::unwrap_or_default),
                };
                match named {
                    Ok(objects) => {
                        for object in objects {
                            if self.records.locate(object.digest(), &OBJECTS)?.is_empty() {
                                let reason = "it is not in the store".to_owned();
                                damaged.entry(object).or_insert(reason);
                            }
                        }
                    }
                    Err(error) => report.damaged_files.push(DamagedFile {
                        path,
                        kind,
                        reason: match error {
                            StoreError::TagFile(_) => "it does not hold object ids".to_owned(),
                            StoreError::Damaged { reason, .. } => reason,
                            StoreError::Io { source, .. } => {
                                format!("it cannot be read: {source}")
                            }
                            other => other.to_string(),
                        },
                        records: None,
                    }),
                }
            }
        }
        Ok(())
    }
}

impl Verified {
    fn note(&mut self, path: PathBuf, kind: FileKind, checked: &Checked) {
        if let Some(reason) = &checked.reason {
            self.damaged_files.push(DamagedFile {
                path,
                kind,
                reason: reason.clone(),
                records: match &checked.bad {
                    Bad::None => Some(0),
                    Bad::All => None,
                    Bad::At(offsets) => Some(offsets.len() as u64),
                },
            });
        }
    }
}

/// What is wrong with an index.
fn compare_index(
    table: &Table,
    packs: &HashMap<Sha256, Fingerprint>,
    hasher: &RandomState,
) -> Result<Option<String>, StoreError> {
    let mut found: HashMap<Sha256, Fingerprint> = HashMap::new();
    let mut last = [0; 33];
    let mut ordered = true;
    table.for_each(|entry, pack| {
        let bytes = entry.encode();
        ordered &= last[..] <= bytes[..33];
        last.copy_from_slice(&bytes[..33]);
        found.entry(pack).or_default().add(hasher, &bytes[..ENTRY]);
        Ok(())
    })?;
    if !ordered {
        return Ok(Some("its entries are not in order".to_owned()));
    }
    let differs = table.packs.iter().find(|name| {
        let there = found.get(name).copied().unwrap_or_default();
        packs.get(name).is_some_and(|expected| *expected != there)
    });
    Ok(differs.map(|pack| format!("it says something else than pack {} does", pack.short())))
}

/// The paths in a directory.
fn list(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(directory).map_err(io_error("list", directory))?;
    let paths: Result<Vec<PathBuf>, io::Error> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(io_error("list", directory))
}
