//! All records of a store at one moment, in the order of their keys, without holding them in
//! memory.

use std::collections::{BinaryHeap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::{ActionKey, Digest, ObjectId, Sha256};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::{Entry, Kind, decode_action};
use crate::store::records::Records;
use crate::store::records::journal::{goes_on_behind, scan};
use crate::store::records::session::Holder;
use crate::store::records::table::{OBJECTS, Table};
use crate::store::records::view::{Location, list_packs};

/// Entries that are read at once from one table.
const READ: u64 = 512;
/// How often a store that changes is looked at again.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// What there is in a store at one moment.
pub(in crate::store) struct Snapshot {
    pub(in crate::store) packs: HashSet<Sha256>,
    pub(in crate::store) tables: Vec<Arc<Table>>,
    pub(in crate::store) journals: Vec<JournalPart>,
}

/// A journal, up to where it was whole. The file stays readable when the journal becomes a pack.
pub(in crate::store) struct JournalPart {
    pub(in crate::store) number: u64,
    pub(in crate::store) file: Arc<File>,
    pub(in crate::store) path: PathBuf,
    pub(in crate::store) end: u64,
    /// Sorted by key and kind.
    pub(in crate::store) entries: Vec<Entry>,
}

impl JournalPart {
    /// Whether there are whole records behind what is not: then it is damaged, and not what a
    /// killed writer left.
    pub(in crate::store) fn goes_on(&self) -> Result<bool, StoreError> {
        let mut end = self.end;
        loop {
            if !goes_on_behind(&self.file, &self.path, end)? {
                return Ok(false);
            }
            // Its writer may just have gone on; a journal that became a pack has a table there.
            let scanned = scan(&self.file, &self.path, end)?;
            if scanned.end == end {
                return Ok(std::fs::symlink_metadata(&self.path).is_ok());
            }
            end = scanned.end;
        }
    }
}

impl Records {
    /// What there is now, as this process knows it.
    pub(in crate::store) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.fresh(|view| Snapshot {
            packs: view.packs.clone(),
            tables: view.tables.clone(),
            journals: view
                .journals
                .iter()
                .map(|(number, journal)| {
                    let mut entries: Vec<Entry> = journal.entries.values().copied().collect();
                    entries.sort_unstable_by_key(|entry| (entry.record.key, entry.record.kind));
                    JournalPart {
                        number: *number,
                        file: journal.file.clone(),
                        path: journal.path.clone(),
                        end: journal.end,
                        entries,
                    }
                })
                .collect(),
        })
    }

    /// What there is now, to be relied on from now on: no garbage collection takes any of it away,
    /// and what an object in it needs is in it, too.
    pub(in crate::store) fn pinned_snapshot(&self) -> Result<Snapshot, StoreError> {
        let mut tries = TRIES;
        loop {
            self.refresh()?;
            let snapshot = self.snapshot()?;
            let mut whole = true;
            for pack in &snapshot.packs {
                whole &= self.pin_if_room(&Holder::Pack(*pack))?;
            }
            // A listing during which packs come and go may have one that needs another that it has
            // not.
            let mut again = list_packs(&self.files.root.join("packs"))?;
            if !self.writable {
                // Nobody can put back what a killed garbage collection took away.
                again.extend(list_packs(&self.files.root.join("trash"))?);
            }
            if whole && again == snapshot.packs {
                return Ok(snapshot);
            }
            // A garbage collection that looks whether somebody needs a pack takes a moment.
            tries -= 1;
            if tries == 0 {
                return Err(StoreError::Busy {
                    path: self.files.root.clone(),
                    doing: "changing",
                });
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Gives the records of a snapshot group by group: all that have one key and kind.
pub(in crate::store) struct Walk<'a> {
    sources: Vec<Source<'a>>,
    heads: BinaryHeap<Head>,
}

/// The next record of a source; the smallest is the greatest, as the heap has it.
struct Head {
    key: Digest,
    kind: Kind,
    source: usize,
    location: Location,
}

impl Head {
    const fn order(&self) -> (&Digest, Kind, usize) {
        (&self.key, self.kind, self.source)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.order().cmp(&self.order())
    }
}

enum Source<'a> {
    Table {
        table: &'a Table,
        /// The packs whose records are taken from this table, and from no other.
        owned: HashSet<Sha256>,
        next: u64,
        buffer: Vec<u8>,
        at: usize,
    },
    Journal {
        number: u64,
        entries: std::slice::Iter<'a, Entry>,
    },
}

impl Source<'_> {
    /// Entries that make no sense are passed over, as they are when a key is looked up.
    fn next(&mut self) -> Result<Option<Location>, StoreError> {
        match self {
            Self::Journal { number, entries } => Ok(entries.next().map(|entry| Location {
                holder: Holder::Journal(*number),
                entry: *entry,
            })),
            Self::Table {
                table,
                owned,
                next,
                buffer,
                at,
            } => loop {
                if *at == buffer.len() {
                    let to = (*next + READ).min(table.count());
                    if *next >= to {
                        return Ok(None);
                    }
                    *buffer = table.raw(*next, to)?;
                    (*next, *at) = (to, 0);
                }
                let bytes = &buffer[*at..*at + table.stride()];
                *at += table.stride();
                if let Ok((entry, pack)) = table.decode(bytes)
                    && owned.contains(&pack)
                {
                    return Ok(Some(Location {
                        holder: Holder::Pack(pack),
                        entry,
                    }));
                }
            },
        }
    }
}

impl<'a> Walk<'a> {
    /// Begins at the first key, or at the first that is not smaller than `from`.
    pub(in crate::store) fn new(
        snapshot: &'a Snapshot,
        from: Option<&Digest>,
    ) -> Result<Self, StoreError> {
        let mut taken = HashSet::new();
        let mut sources = Vec::new();
        for table in &snapshot.tables {
            let owned = table
                .packs
                .iter()
                .filter(|pack| snapshot.packs.contains(pack) && taken.insert(**pack))
                .copied()
                .collect();
            sources.push(Source::Table {
                table,
                owned,
                next: from.map_or(Ok(0), |from| table.lower_bound(from))?,
                buffer: Vec::new(),
                at: 0,
            });
        }
        for journal in &snapshot.journals {
            let entries = &journal.entries;
            let start = from.map_or(0, |from| {
                entries.partition_point(|entry| entry.record.key < *from)
            });
            sources.push(Source::Journal {
                number: journal.number,
                entries: entries[start..].iter(),
            });
        }
        let mut walk = Self {
            sources,
            heads: BinaryHeap::new(),
        };
        for source in 0..walk.sources.len() {
            walk.advance(source)?;
        }
        Ok(walk)
    }

    fn advance(&mut self, source: usize) -> Result<(), StoreError> {
        if let Some(location) = self.sources[source].next()? {
            self.heads.push(Head {
                key: location.entry.record.key,
                kind: location.entry.record.kind,
                source,
                location,
            });
        }
        Ok(())
    }

    /// Puts the next group into `group`; tells whether there was one.
    pub(in crate::store) fn next(&mut self, group: &mut Vec<Location>) -> Result<bool, StoreError> {
        group.clear();
        while let Some(head) = self.heads.peek() {
            if let Some(first) = group.first()
                && (first.entry.record.key, first.entry.record.kind) != (head.key, head.kind)
            {
                break;
            }
            let (source, location) = (head.source, head.location);
            self.heads.pop();
            group.push(location);
            self.advance(source)?;
        }
        Ok(!group.is_empty())
    }
}

impl Store {
    /// The objects whose ids begin with these lowercase hexadecimal digits, at most `most` of them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn objects_beginning(
        &self,
        digits: &str,
        most: usize,
    ) -> Result<Vec<ObjectId>, StoreError> {
        let mut found = Vec::new();
        let first = format!("{digits:0<64}");
        let Ok(first) = first.parse::<Digest>() else {
            return Ok(found);
        };
        let snapshot = self.records.snapshot()?;
        let mut walk = Walk::new(&snapshot, Some(&first))?;
        let mut group = Vec::new();
        while found.len() < most && walk.next(&mut group)? {
            let record = &group[0].entry.record;
            if !record.key.to_hex().starts_with(digits) {
                break;
            }
            let id = ObjectId::new(record.key);
            if OBJECTS.contains(&record.kind) && found.last() != Some(&id) {
                found.push(id);
            }
        }
        Ok(found)
    }
}

impl Store {
    /// The outputs of action results that are one of these objects: key, name of the output,
    /// object.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn results_with(
        &self,
        objects: &HashSet<ObjectId>,
    ) -> Result<Vec<(ActionKey, String, ObjectId)>, StoreError> {
        let snapshot = self.records.snapshot()?;
        let mut walk = Walk::new(&snapshot, None)?;
        let (mut group, mut bytes, mut found) = (Vec::new(), Vec::new(), Vec::new());
        while walk.next(&mut group)? {
            for location in &group {
                if location.entry.record.kind == Kind::Action
                    && self.records.read_at(location, &mut bytes).is_ok()
                    && let Ok((_, outputs)) = decode_action(&bytes)
                {
                    let key = ActionKey::new(location.entry.record.key);
                    let named = outputs
                        .into_iter()
                        .filter(|(_, output)| objects.contains(&output.id))
                        .map(|(name, output)| (key, name, output.id));
                    found.extend(named);
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all(store: &Store) -> Vec<(Digest, Kind)> {
        let snapshot = store.records.snapshot().unwrap();
        let mut walk = Walk::new(&snapshot, None).unwrap();
        let (mut group, mut found) = (Vec::new(), Vec::new());
        while walk.next(&mut group).unwrap() {
            found.push((group[0].entry.record.key, group[0].entry.record.kind));
        }
        found
    }

    #[test]
    fn every_record_comes_once_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut ids = BTreeSet::new();
        for n in 0..2000_u32 {
            ids.insert(store.put_bytes(&n.to_le_bytes()).unwrap().id);
            if n % 70 == 0 {
                // Many packs, so that there is an index, too.
                store.records.seal_own().unwrap();
            }
        }
        let other = Store::open(directory.path()).unwrap();
        other.put_bytes(b"in a journal of its own").unwrap();
        let found = all(&store);
        assert!(found.is_sorted());
        assert_eq!(found.len(), 2001);
        assert_eq!(all(&other), found);
        let some = ids.iter().nth(700).unwrap();
        for length in [6, 64] {
            let digits = &some.to_string()[..length];
            assert_eq!(other.objects_beginning(digits, 9).unwrap(), [*some]);
        }
        assert_eq!(other.objects_beginning("", 9).unwrap().len(), 9);
        let none = other.objects_beginning("123456789a", 9).unwrap();
        assert_eq!(none, []);
    }
}
