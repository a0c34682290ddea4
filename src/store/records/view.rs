//! What this process knows of the packs and journals in a store, and how it keeps up with others
//! (`store-format/protocol.md`, R2).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::files::{Files, changed_at, list_directory, open_file};
use super::journal;
use super::session::Holder;
use super::table::Table;
use crate::digest::{Digest, Sha256};
use crate::store::error::{StoreError, io_error};
use crate::store::format::{Entry, Kind};

/// A directory that was changed so shortly before it was listed can change again without another
/// time of change.
const SETTLED: Duration = Duration::from_millis(50);
/// From so many packs without an index on, they are merged into one.
pub(in crate::store) const MANY: usize = 24;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Location {
    pub(in crate::store) holder: Holder,
    pub(in crate::store) entry: Entry,
}

/// A journal as far as it was read.
#[derive(Debug)]
pub(in crate::store) struct JournalView {
    pub(in crate::store) file: Arc<File>,
    pub(in crate::store) path: PathBuf,
    /// Where the last whole record ends.
    pub(in crate::store) end: u64,
    /// Its size when it was read last; a killed writer may have left something behind `end`.
    size: u64,
    pub(in crate::store) entries: HashMap<(Digest, Kind), Entry>,
}

/// Tables of packs, and journals.
#[derive(Debug, Default)]
pub(in crate::store) struct View {
    /// Packs that are there.
    pub(in crate::store) packs: HashSet<Sha256>,
    /// Indexes, and the tables of packs that are in none.
    pub(in crate::store) tables: Vec<Arc<Table>>,
    pub(in crate::store) journals: BTreeMap<u64, JournalView>,
    /// Packs and indexes that cannot be used, and why.
    pub(in crate::store) broken: BTreeMap<PathBuf, String>,
    /// An index was seen to be wrong.
    misled: AtomicBool,
    listed: Option<Listed>,
}

/// When directories were listed, and their times of change then.
#[derive(Debug)]
struct Listed {
    at: SystemTime,
    changed: [SystemTime; 3],
}

const LISTED: [&str; 3] = ["journals", "packs", "index"];

impl View {
    /// Whether there may be something that this view does not know.
    pub(in crate::store) fn is_stale(&self, files: &Files) -> bool {
        let Some(listed) = &self.listed else {
            return true;
        };
        let settled = LISTED
            .iter()
            .zip(listed.changed)
            .all(|(directory, changed)| {
                let now = changed_at(&files.root.join(directory));
                now.is_ok_and(|now| now == changed)
                    && listed
                        .at
                        .duration_since(changed)
                        .is_ok_and(|age| age > SETTLED)
            });
        let changed = |journal: &JournalView| {
            journal
                .file
                .metadata()
                .map_or(true, |meta| meta.size() != journal.size)
        };
        !settled || self.journals.values().any(changed)
    }

    /// Reads what changed in the store. Packs that cannot be used are kept in mind, and are no
    /// error.
    pub(in crate::store) fn refresh(&mut self, files: &Files) -> Result<(), StoreError> {
        let at = SystemTime::now();
        let mut changed = [SystemTime::UNIX_EPOCH; 3];
        for (directory, changed) in LISTED.iter().zip(&mut changed) {
            let path = files.root.join(directory);
            *changed = changed_at(&path).map_err(io_error("look at", &path))?;
        }
        // Journals first: one that becomes a pack in between is seen as both rather than not at
        // all.
        self.read_journals(files)?;
        let indexes_changed = self
            .listed
            .as_ref()
            .is_none_or(|listed| listed.changed[2] != changed[2]);
        self.read_packs(files, indexes_changed)?;
        self.listed = Some(Listed { at, changed });
        Ok(())
    }

    fn read_journals(&mut self, files: &Files) -> Result<(), StoreError> {
        let listed = journal::list(files)?;
        self.journals
            .retain(|number, _| listed.iter().any(|(other, _)| other == number));
        for (number, path) in listed {
            if !self.journals.contains_key(&number) {
                let file = match open_file(&path) {
                    Ok((file, _)) => Arc::new(file),
                    Err(error) if error.is_absent() => continue,
                    Err(error) => {
                        self.broken.insert(path, error.to_string());
                        continue;
                    }
                };
                self.journals.insert(
                    number,
                    JournalView {
                        file,
                        path,
                        end: 0,
                        size: 0,
                        entries: HashMap::new(),
                    },
                );
            }
            if let Some(journal) = self.journals.get_mut(&number) {
                // Before it is read: what is appended meanwhile is seen as a change.
                let meta = journal.file.metadata();
                journal.size = meta.map_err(io_error("look at", &journal.path))?.size();
                let scanned = journal::scan(&journal.file, &journal.path, journal.end)?;
                journal.end = scanned.end;
                journal.entries.extend(
                    scanned
                        .entries
                        .iter()
                        .map(|entry| ((entry.record.key, entry.record.kind), *entry)),
                );
            }
        }
        Ok(())
    }

    fn read_packs(&mut self, files: &Files, indexes_changed: bool) -> Result<(), StoreError> {
        self.packs = list_packs(&files.root.join("packs"))?;
        // Until a garbage collection has looked whether somebody needs them, these can be read.
        self.packs.extend(list_packs(&files.root.join("trash"))?);
        if indexes_changed {
            self.tables.clear();
            let directory = files.root.join("index");
            for path in list_directory(&directory)? {
                let path = path.path();
                if !super::index::is_name(&path) {
                    continue;
                }
                match Table::of_index(path.clone()) {
                    Ok(table) => self.tables.push(Arc::new(table)),
                    Err(error) if error.is_absent() => {}
                    Err(error) => {
                        self.broken.insert(path, error.to_string());
                    }
                }
            }
        }
        let packs = &self.packs;
        self.tables
            .retain(|table| table.packs.iter().any(|pack| packs.contains(pack)));
        let known: HashSet<Sha256> = self
            .tables
            .iter()
            .flat_map(|table| table.packs.iter().copied())
            .collect();
        let new: Vec<Sha256> = self.packs.difference(&known).copied().collect();
        for pack in new {
            self.add_pack(files, pack);
        }
        Ok(())
    }

    /// Takes in a pack that is in its place.
    pub(in crate::store) fn add_pack(&mut self, files: &Files, pack: Sha256) {
        let path = files.path("packs", pack);
        let table = match Table::of_pack(path.clone(), pack) {
            Err(error) if error.is_absent() => Table::of_pack(files.path("trash", pack), pack),
            result => result,
        };
        match table {
            Ok((table, _)) => {
                self.broken.remove(&path);
                if self.packs.insert(pack) || !self.covers(&pack) {
                    self.tables.push(Arc::new(table));
                }
            }
            Err(error) if error.is_absent() => {
                self.packs.remove(&pack);
            }
            Err(error) => {
                self.broken.insert(path, error.to_string());
            }
        }
    }

    fn covers(&self, pack: &Sha256) -> bool {
        self.tables.iter().any(|table| table.packs.contains(pack))
    }

    /// Tables of single packs.
    pub(in crate::store) fn single(&self) -> usize {
        self.tables
            .iter()
            .filter(|table| table.packs.len() == 1)
            .count()
    }

    /// Takes in records that were appended to a journal of this process.
    pub(in crate::store) fn appended(&mut self, number: u64, entries: &[Entry]) {
        if let Some(journal) = self.journals.get_mut(&number)
            && entries
                .first()
                .is_some_and(|entry| u64::from(entry.offset) == journal.end)
        {
            for entry in entries {
                journal.size = journal
                    .size
                    .max(u64::from(entry.offset) + entry.record.length());
                journal.end = u64::from(entry.offset) + entry.record.length();
                journal
                    .entries
                    .insert((entry.record.key, entry.record.kind), *entry);
            }
        }
    }

    /// Every record of `key` of one of these kinds, until `found` returns true. Damage of an index
    /// or a table hides what it should have found.
    pub(in crate::store) fn find(
        &self,
        key: &Digest,
        kinds: &[Kind],
        mut found: impl FnMut(Location) -> bool,
    ) {
        for (number, journal) in &self.journals {
            for kind in kinds {
                if let Some(entry) = journal.entries.get(&(*key, *kind))
                    && found(Location {
                        holder: Holder::Journal(*number),
                        entry: *entry,
                    })
                {
                    return;
                }
            }
        }
        let mut done = false;
        for table in &self.tables {
            let looked = table.find(key, |entry, pack| {
                if kinds.contains(&entry.record.kind) && self.packs.contains(&pack) {
                    done = found(Location {
                        holder: Holder::Pack(pack),
                        entry,
                    });
                }
                done
            });
            if looked.is_err() && table.is_index() {
                self.misled.store(true, Ordering::Relaxed);
            }
            if done {
                return;
            }
        }
    }

    /// Whether an index was seen to be wrong.
    pub(in crate::store) fn is_misled(&self) -> bool {
        self.misled.load(Ordering::Relaxed)
    }

    /// Where a record was not what was expected: looks whether an index said so that lies, because
    /// the pack's own table does not say the same.
    pub(in crate::store) fn doubt(&self, files: &Files, location: &Location) -> bool {
        let Holder::Pack(pack) = location.holder else {
            return false;
        };
        let by_index = |table: &Arc<Table>| table.is_index() && table.packs.contains(&pack);
        if !self.tables.iter().any(by_index) {
            return false;
        }
        let Ok((table, _)) = Table::of_pack(files.path("packs", pack), pack) else {
            return false;
        };
        let mut same = false;
        let looked = table.find(&location.entry.record.key, |entry, _| {
            same |= entry == location.entry;
            same
        });
        let lies = looked.is_ok() && !same;
        self.misled.fetch_or(lies, Ordering::Relaxed);
        lies
    }

    /// Forgets the indexes, until there are others. Packs are looked up in their own tables.
    pub(in crate::store) fn forget_indexes(&mut self) {
        self.tables.retain(|table| !table.is_index());
        self.misled = AtomicBool::new(false);
    }
}

/// The names of the packs in a directory.
pub(in crate::store) fn list_packs(directory: &Path) -> Result<HashSet<Sha256>, StoreError> {
    let mut packs = HashSet::new();
    for entry in list_directory(directory)? {
        if let Some(Ok(name)) = entry.file_name().to_str().map(str::parse) {
            packs.insert(name);
        }
    }
    Ok(packs)
}
