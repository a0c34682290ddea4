//! Merging the tables of packs into an index, so that looking a key up does not take longer the
//! more packs there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::Records;
use super::files::{Files, list_directory};
use super::lock;
use super::table::Table;
use crate::digest::Sha256;
use crate::store::error::StoreError;
use crate::store::format::{ENTRY, IndexHeader, encode_index_header};
use crate::store::random;

/// Indexes that may be beside each other before they are merged.
const INDEXES: usize = 4;
/// Entries that are read at once from one table.
const READ: u64 = 512;
/// What is gathered before it is written, in bytes.
const WRITE: usize = 1 << 20;

/// Merges the packs that are in no index into a new one; and all indexes, when there are many. Does
/// nothing when another process is at it.
pub(in crate::store) fn merge(records: &Records) -> Result<(), StoreError> {
    let Some(_lock) = lock::try_lock(&records.files, "index")? else {
        return Ok(());
    };
    records.refresh()?;
    let tables: Vec<Arc<Table>> = records.fresh(|view| view.tables.clone())?;
    let indexes = tables.iter().filter(|table| table.is_index()).count();
    let merged: Vec<Arc<Table>> = tables
        .into_iter()
        .filter(|table| indexes >= INDEXES || !table.is_index())
        .collect();
    write(records, &merged)?;
    for table in merged.iter().filter(|table| table.is_index()) {
        records.files.remove(&table.path)?;
    }
    records.refresh()
}

/// Makes one index of all packs that are there, in place of all indexes.
pub(in crate::store) fn rebuild(records: &Records) -> Result<(), StoreError> {
    let Some(_lock) = lock::try_lock(&records.files, "index")? else {
        return Ok(());
    };
    let directory = records.files.root.join("index");
    for entry in list_directory(&directory)? {
        if is_name(&entry.path()) {
            records.files.remove(&entry.path())?;
        }
    }
    records.refresh()?;
    let tables: Vec<Arc<Table>> = records.fresh(|view| view.tables.clone())?;
    if tables.len() > 1 {
        write(records, &tables)?;
    }
    records.refresh()
}

/// Whether a path has the name of an index: 16 hexadecimal digits.
pub(in crate::store) fn is_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| {
        name.len() == 16 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A table that is read from front to back.
struct Cursor {
    table: Arc<Table>,
    /// The numbers of its packs in the new index; none for packs that are gone.
    numbers: Vec<Option<u32>>,
    next: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl Cursor {
    /// The next entry of a pack that is there, as in the new index.
    fn next(&mut self) -> Result<Option<[u8; ENTRY + 4]>, StoreError> {
        loop {
            if self.at == self.buffer.len() {
                let to = (self.next + READ).min(self.table.count());
                if self.next == to {
                    return Ok(None);
                }
                self.buffer = self.table.raw(self.next, to)?;
                self.next = to;
                self.at = 0;
            }
            let stride = self.table.stride();
            let bytes = &self.buffer[self.at..self.at + stride];
            self.at += stride;
            let old = bytes
                .get(ENTRY..)
                .and_then(|number| number.first_chunk())
                .map_or(0, |number| u32::from_le_bytes(*number));
            if let Some(Some(number)) = self.numbers.get(old as usize) {
                let mut entry = [0; ENTRY + 4];
                entry[..ENTRY].copy_from_slice(&bytes[..ENTRY]);
                entry[ENTRY..].copy_from_slice(&number.to_le_bytes());
                return Ok(Some(entry));
            }
        }
    }
}

/// Entries sort by key, kind and number of the pack.
fn order(entry: &[u8; ENTRY + 4]) -> ([u8; 33], u32) {
    let mut key = [0; 33];
    key.copy_from_slice(&entry[..33]);
    let number = entry[ENTRY..].first_chunk().copied().unwrap_or_default();
    (key, u32::from_le_bytes(number))
}

fn write(records: &Records, tables: &[Arc<Table>]) -> Result<(), StoreError> {
    let present = records.fresh(|view| view.packs.clone())?;
    let mut packs: Vec<Sha256> = tables
        .iter()
        .flat_map(|table| table.packs.iter().copied())
        .filter(|pack| present.contains(pack))
        .collect();
    packs.sort();
    packs.dedup();
    if packs.is_empty() {
        return Ok(());
    }
    let numbers: HashMap<Sha256, u32> = packs.iter().copied().zip(0..).collect();
    let mut cursors: Vec<Cursor> = Vec::new();
    let mut taken = std::collections::HashSet::new();
    for table in tables {
        // A pack that is in two tables is taken from one.
        let numbers = table
            .packs
            .iter()
            .map(|pack| numbers.get(pack).copied().filter(|_| taken.insert(*pack)))
            .collect();
        cursors.push(Cursor {
            table: table.clone(),
            numbers,
            next: 0,
            buffer: Vec::new(),
            at: 0,
        });
    }
    let mut heads = BinaryHeap::new();
    for (index, cursor) in cursors.iter_mut().enumerate() {
        if let Some(entry) = cursor.next()? {
            heads.push(Reverse((order(&entry), index, entry)));
        }
    }
    let files: &Files = &records.files;
    let file = files.temporary()?;
    let mut header = IndexHeader { packs, count: 0 };
    let mut offset = header.length();
    let mut buffer = Vec::with_capacity(WRITE + 64);
    while let Some(Reverse((_, index, entry))) = heads.pop() {
        buffer.extend_from_slice(&entry);
        header.count += 1;
        if buffer.len() >= WRITE {
            files.write_at(file.as_file(), file.path(), &buffer, offset)?;
            offset += buffer.len() as u64;
            buffer.clear();
        }
        if let Some(entry) = cursors[index].next()? {
            heads.push(Reverse((order(&entry), index, entry)));
        }
    }
    files.write_at(file.as_file(), file.path(), &buffer, offset)?;
    files.write_at(
        file.as_file(),
        file.path(),
        &encode_index_header(&header),
        0,
    )?;
    // Torn, it would hide what its packs have.
    let path = files.path("index", format_args!("{:016x}", random()));
    files.publish(file, &path, 0o600)
}
