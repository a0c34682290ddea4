//! What a store has, read into memory for a garbage collection: all records but chunks in data
//! packs.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::ByShort;
use crate::digest::{Digest, ObjectRef, Sha256};
use crate::store::error::StoreError;
use crate::store::format::{Entry, Kind, RECORD, Role, decode_sorted};
use crate::store::records::Records;
use crate::store::records::files::open_file;
use crate::store::records::journal;
use crate::store::records::pack::{check_stored, read_many};
use crate::store::records::session::Holder;
use crate::store::records::table::Table;

/// Records of one catalog pack or journal.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) holder: Holder,
    /// The journal that the pack was.
    pub(super) journal: u64,
    /// Whether it is a journal that a process writes to, or that is damaged: all of it stays.
    pub(super) open: bool,
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) entries: Vec<Entry>,
}

/// A data pack; its table is read when it is needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataPack {
    pub(super) name: Sha256,
    pub(super) size: u64,
}

/// An action result, the newest of its key.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) key: Digest,
    pub(super) time: u64,
    pub(super) outputs: Arc<[(String, ObjectRef)]>,
    /// The number of its catalog.
    pub(super) catalog: u32,
    pub(super) entry: u32,
}

/// Everything that is read.
#[derive(Debug, Default)]
pub(super) struct Catalogs {
    pub(super) all: Vec<Catalog>,
    pub(super) data: Vec<DataPack>,
    /// Where an object's record is: catalog and entry.
    pub(super) objects: HashMap<Digest, (u32, u32), ByShort>,
    pub(super) results: Vec<Recorded>,
    /// Bytes of all packs and journals.
    pub(super) bytes: u64,
    /// Whether journals that nobody writes to were left as they are.
    dry: bool,
    seen: HashSet<Holder>,
    newest: HashMap<Digest, usize, ByShort>,
}

impl Catalogs {
    pub(super) fn read(records: &Records, dry: bool) -> Result<Self, StoreError> {
        let mut catalogs = Self {
            dry,
            ..Self::default()
        };
        catalogs.read_more(records)?;
        Ok(catalogs)
    }

    /// Reads what came since the last time. Gives the numbers of the catalogs that are new or have
    /// grown.
    pub(super) fn read_more(&mut self, records: &Records) -> Result<Vec<usize>, StoreError> {
        let mut new = Vec::new();
        // Journals first: one that becomes a pack meanwhile is seen as both rather than not at all.
        for (number, path) in journal::list(&records.files)? {
            let holder = Holder::Journal(number);
            let (file, size) = match open_file(&path) {
                Ok(opened) => opened,
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error),
            };
            let known = self.all.iter().position(|one| one.holder == holder);
            let entries = journal::scan(&file, &path, 0)?.entries;
            match known {
                Some(index) if self.all[index].entries.len() == entries.len() => {}
                Some(index) => {
                    let from = self.all[index].entries.len();
                    self.bytes += size.saturating_sub(self.all[index].size);
                    self.all[index].entries = entries;
                    self.all[index].size = size;
                    self.take_in(index, from)?;
                    new.push(index);
                }
                None => {
                    self.bytes += size;
                    self.all.push(Catalog {
                        holder,
                        journal: number,
                        open: !self.dry || file.try_lock().is_err(),
                        path,
                        file,
                        size,
                        entries,
                    });
                    self.take_in(self.all.len() - 1, 0)?;
                    new.push(self.all.len() - 1);
                }
            }
        }
        for name in crate::store::records::view::list_packs(&records.files.root.join("packs"))? {
            if self.seen.insert(Holder::Pack(name)) {
                new.extend(self.read_pack(records, name)?);
            }
        }
        Ok(new)
    }

    fn read_pack(&mut self, records: &Records, name: Sha256) -> Result<Option<usize>, StoreError> {
        let path = records.files.path("packs", name);
        let (table, head) = match Table::of_pack(path.clone(), name) {
            Ok(read) => read,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        self.bytes += head.size;
        if head.role == Role::Data {
            self.data.push(DataPack {
                name,
                size: head.size,
            });
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(table.count() as usize);
        table.for_each(|entry, _| {
            entries.push(entry);
            Ok(())
        })?;
        let (file, size) = open_file(&path)?;
        self.all.push(Catalog {
            holder: Holder::Pack(name),
            journal: head.journal,
            open: false,
            path,
            file,
            size,
            entries,
        });
        let index = self.all.len() - 1;
        self.take_in(index, 0)?;
        Ok(Some(index))
    }

    /// Takes in the entries of a catalog from `from` on.
    fn take_in(&mut self, index: usize, from: usize) -> Result<(), StoreError> {
        let mut results = Vec::new();
        let mut numbers = Vec::new();
        let catalog = &self.all[index];
        let is_object = |entry: &&Entry| matches!(entry.record.kind, Kind::Object | Kind::Blob);
        let objects = catalog.entries.iter().skip(from).filter(is_object);
        self.objects.reserve(objects.count());
        for (number, entry) in catalog.entries.iter().enumerate().skip(from) {
            match entry.record.kind {
                Kind::Object | Kind::Blob => {
                    let place = (index as u32, number as u32);
                    self.objects.insert(entry.record.key, place);
                }
                Kind::Action => {
                    results.push(*entry);
                    numbers.push((entry.offset, number as u32));
                }
                Kind::Chunk => {}
            }
        }
        // Records come in the order of the file.
        numbers.sort_unstable();
        let mut numbers = numbers.into_iter();
        let (results_of, newest) = (&mut self.results, &mut self.newest);
        results_of.reserve(results.len());
        newest.reserve(results.len());
        let path = &catalog.path;
        read_many(
            &catalog.file,
            path,
            &mut results,
            &mut Vec::new(),
            |entry, record| {
                let number = numbers.next().map_or(0, |(_, number)| number);
                // One that cannot be read counts as absent.
                let payload = check_stored(record, path, entry)
                    .ok()
                    .and_then(|()| decode_sorted(&record[RECORD..]).ok());
                let Some((time, outputs)) = payload else {
                    return Ok(());
                };
                let found = Recorded {
                    key: entry.record.key,
                    time,
                    outputs: outputs.into(),
                    catalog: index as u32,
                    entry: number,
                };
                match newest.get(&found.key) {
                    Some(&other) if results_of[other].time > time => {}
                    Some(&other) => results_of[other] = found,
                    None => {
                        newest.insert(found.key, results_of.len());
                        results_of.push(found);
                    }
                }
                Ok(())
            },
        )
    }

    /// Forgets the packs that are gone.
    pub(super) fn forget_data(&mut self, gone: &HashSet<Sha256>) {
        self.data.retain(|pack| !gone.contains(&pack.name));
    }
}
