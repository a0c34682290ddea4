//! Whether objects have all of their chunks.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::{BadRecords, Verified};
use crate::digest::{Digest, ObjectId};
use crate::store::error::StoreError;
use crate::store::format::{ChunkList, Kind};
use crate::store::records::pack::read_record;
use crate::store::records::session::Holder;
use crate::store::records::view::Location;
use crate::store::upkeep::walk::{Snapshot, Walk};
use crate::store::upkeep::watch::Watch;
use crate::store::{Store, on_pool};

/// Lists that are checked at once.
const BATCH: usize = 4096;

/// What objects are looked at with.
struct Check<'a> {
    store: &'a Store,
    snapshot: &'a Snapshot,
    bad: &'a BadRecords,
    journals: HashMap<u64, (Arc<File>, PathBuf)>,
    /// Of each chunk that can be used, a keyed hash over name and length: nobody can make two that
    /// have the same, and a store of a terabyte fits in memory.
    chunks: Vec<u64>,
    hasher: RandomState,
}

/// Looks at all objects; gives those that cannot be read, and why.
pub(super) fn check(
    store: &Store,
    snapshot: &Snapshot,
    bad: &BadRecords,
    watch: &Watch<'_>,
    report: &mut Verified,
) -> Result<BTreeMap<ObjectId, String>, StoreError> {
    let mut check = Check {
        store,
        snapshot,
        bad,
        journals: snapshot
            .journals
            .iter()
            .map(|journal| (journal.number, (journal.file.clone(), journal.path.clone())))
            .collect(),
        chunks: Vec::new(),
        hasher: RandomState::new(),
    };
    let mut damaged = check.records(report, watch)?;
    check.lists(&mut damaged, watch)?;
    Ok(damaged)
}

impl Check<'_> {
    /// The first record of a group that can be used.
    fn usable<'a>(&self, group: &'a [Location]) -> Option<&'a Location> {
        group.iter().find(|location| {
            let bad = self.bad.get(&location.holder);
            !bad.is_some_and(|bad| bad.has(location.entry.offset))
        })
    }

    /// Goes through all records: which chunks can be used, and which objects have no record that
    /// can.
    fn records(
        &mut self,
        report: &mut Verified,
        watch: &Watch<'_>,
    ) -> Result<BTreeMap<ObjectId, String>, StoreError> {
        let mut damaged = BTreeMap::new();
        let mut walk = Walk::new(self.snapshot, None)?;
        let mut group = Vec::new();
        let mut last = None;
        let mut chunks = Vec::new();
        while walk.next(&mut group)? {
            let record = group[0].entry.record;
            let usable = self.usable(&group);
            match record.kind {
                Kind::Chunk => {
                    report.chunks += 1;
                    if report.chunks.is_multiple_of(65_536) {
                        watch.step(0)?;
                    }
                    chunks.extend(usable.map(|location| {
                        let record = &location.entry.record;
                        self.hasher.hash_one((record.key, record.content))
                    }));
                }
                Kind::Action => report.results += 1,
                Kind::Object | Kind::Blob => {
                    let id = ObjectId::new(record.key);
                    // One can be there in both forms: then one that can be used is enough.
                    let again = last == Some(id);
                    report.objects += u64::from(!again);
                    if usable.is_none() && !again {
                        let path = group[0].holder.path(&self.store.records.files);
                        let reason = format!("its record in {} is damaged", path.display());
                        damaged.insert(id, reason);
                    } else if usable.is_some() {
                        damaged.remove(&id);
                    }
                    last = Some(id);
                }
            }
        }
        chunks.sort_unstable();
        chunks.dedup();
        self.chunks = chunks;
        Ok(damaged)
    }

    /// Reads the lists of all objects.
    fn lists(
        &self,
        damaged: &mut BTreeMap<ObjectId, String>,
        watch: &Watch<'_>,
    ) -> Result<(), StoreError> {
        let mut walk = Walk::new(self.snapshot, None)?;
        let mut group = Vec::new();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let more = walk.next(&mut group)?;
            if more && group[0].entry.record.kind == Kind::Object {
                batch.extend(self.usable(&group).copied());
            }
            if batch.len() == BATCH || !more {
                watch.step(0)?;
                let found: Vec<(ObjectId, String)> = on_pool(|| {
                    batch
                        .par_iter()
                        .map_init(Default::default, |buffers, location| {
                            let id = ObjectId::new(location.entry.record.key);
                            self.list(location, buffers).map(|reason| (id, reason))
                        })
                        .flatten_iter()
                        .collect()
                })?;
                damaged.extend(found);
                batch.clear();
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// What is wrong with an object.
    fn list(&self, location: &Location, (buffer, out): &mut (Vec<u8>, Vec<u8>)) -> Option<String> {
        let read =
            match &location.holder {
                Holder::Journal(number) => match self.journals.get(number) {
                    Some((file, path)) => read_record(file, path, &location.entry, buffer, out),
                    None => return None,
                },
                holder => self.store.records.open(holder).and_then(|(file, path)| {
                    read_record(&file, &path, &location.entry, buffer, out)
                }),
            };
        if let Err(error) = read {
            return Some(error.to_string());
        }
        if ChunkList::id_of(out) != ObjectId::new(location.entry.record.key) {
            return Some("its list does not match its name".to_owned());
        }
        let list = match ChunkList::decode(out) {
            Ok(list) => list,
            Err(error) => return Some(error.to_string()),
        };
        list.chunks
            .iter()
            .find(|chunk| {
                let known = self.hasher.hash_one((chunk.id, chunk.length));
                self.chunks.binary_search(&known).is_err()
            })
            .map(|chunk| self.absent(&chunk.id))
    }

    /// Why a chunk cannot be used.
    fn absent(&self, chunk: &Digest) -> String {
        let records = &self.store.records;
        let somewhere = records
            .locate(chunk, &[Kind::Chunk])
            .ok()
            .and_then(|locations| locations.first().map(|one| one.holder.path(&records.files)));
        match somewhere {
            Some(path) => format!(
                "its chunk {} in {} is damaged",
                chunk.short(),
                path.display()
            ),
            None => format!("its chunk {} is not in the store", chunk.short()),
        }
    }
}
