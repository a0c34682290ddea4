//! Packs that are made for others.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use sha2::Digest as _;

use super::PackedChunk;
use crate::digest::{Digest, Sha256};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::{Entry, HEADER, RecordHeader, Role, encode_header, encode_table};
use crate::store::records::Records;
use crate::store::records::pack::{check_stored, read_stored};
use crate::store::records::view::Location;

/// How much is read at once.
const WINDOW: u64 = 1 << 20;

/// A data pack that has chunks of this store, in an order that the caller chose. It is no file: its
/// bytes are read from where the records are.
#[derive(Debug, Clone)]
pub(crate) struct OutgoingPack(Arc<Made>);

#[derive(Debug)]
struct Made {
    records: Arc<Records>,
    /// Where records are in this pack, and where they are now.
    pieces: Vec<(Entry, Location)>,
    /// Where the table begins.
    table_offset: u64,
    /// Table and trailer.
    table: Vec<u8>,
    name: Sha256,
}

impl OutgoingPack {
    /// The SHA-256 of its bytes.
    #[must_use]
    pub(crate) fn name(&self) -> Sha256 {
        self.0.name
    }

    /// Its bytes.
    #[must_use]
    pub(crate) fn size(&self) -> u64 {
        self.0.table_offset + self.0.table.len() as u64
    }

    /// Where its table begins.
    #[must_use]
    pub(crate) fn table_offset(&self) -> u64 {
        self.0.table_offset
    }

    /// Its chunks, in the order of the file.
    #[must_use]
    pub(crate) fn chunks(&self) -> Vec<PackedChunk> {
        super::packed(self.0.pieces.iter().map(|(entry, _)| *entry).collect())
    }

    /// Its bytes from `offset` on. Records are checked while they are read.
    #[must_use]
    pub(crate) fn open(&self, offset: u64) -> Box<dyn Read + Send> {
        let reader = PackReader {
            made: self.0.clone(),
            position: offset,
            buffer: Vec::new(),
            at: 0,
        };
        Box::new(reader)
    }
}

impl Store {
    /// A pack with these chunks, each once, in this order. Its bytes are read for its name.
    ///
    /// # Errors
    /// A chunk is not here or damaged, the pack would have 4 GiB, or the store fails.
    pub(crate) fn outgoing(&self, chunks: &[Digest]) -> Result<OutgoingPack, StoreError> {
        let records = &self.records;
        let mut pieces = Vec::with_capacity(chunks.len());
        let mut offset = HEADER as u64;
        for chunk in chunks {
            let location = records.rely_on_right(chunk, &HashSet::new(), |_| false)?;
            let location = location.ok_or_else(|| {
                StoreError::Refused(format!(
                    "chunk {} is not in the store, or damaged",
                    chunk.short()
                ))
            })?;
            let entry = Entry {
                record: location.entry.record,
                offset: u32::try_from(offset).map_err(|_| {
                    StoreError::Refused("a pack of 4 GiB cannot be made".to_owned())
                })?,
            };
            offset += entry.record.length();
            pieces.push((entry, location));
        }
        let entries: Vec<Entry> = pieces.iter().map(|(entry, _)| *entry).collect();
        let mut made = Made {
            records: records.clone(),
            pieces,
            table_offset: offset,
            table: encode_table(&entries, offset),
            name: Sha256::from_bytes([0; 32]),
        };
        let mut hasher = sha2::Sha256::new();
        let (mut position, mut buffer) = (0, Vec::new());
        while made.read_part(position, &mut buffer)? > 0 {
            hasher.update(&buffer);
            position += buffer.len() as u64;
        }
        made.name = Sha256::from_bytes(hasher.finalize().into());
        Ok(OutgoingPack(Arc::new(made)))
    }
}

impl Made {
    /// Reads some of the bytes from `position` on, none at the end. Tells how many.
    fn read_part(&self, position: u64, buffer: &mut Vec<u8>) -> Result<usize, StoreError> {
        buffer.clear();
        if position < HEADER as u64 {
            buffer.extend_from_slice(&encode_header(Role::Data, 0)[position as usize..]);
        } else if position >= self.table_offset {
            let from = (position - self.table_offset) as usize;
            buffer.extend_from_slice(self.table.get(from..).unwrap_or_default());
        } else {
            let end = |entry: &Entry| u64::from(entry.offset) + entry.record.length();
            let first = self
                .pieces
                .partition_point(|(entry, _)| end(entry) <= position);
            let start = self
                .pieces
                .get(first)
                .map_or(position, |(entry, _)| u64::from(entry.offset));
            self.read_records(first, buffer)?;
            buffer.drain(..(position - start) as usize);
        }
        Ok(buffer.len())
    }

    /// Reads the record `first` and those that follow it both here and where they are, as many as
    /// are read at once.
    fn read_records(&self, first: usize, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
        let Some((_, location)) = self.pieces.get(first) else {
            return Ok(());
        };
        let start = u64::from(location.entry.offset);
        let mut end = start;
        let run = self.pieces[first..]
            .iter()
            .take_while(|(_, next)| {
                let follows = next.holder == location.holder && u64::from(next.entry.offset) == end;
                let fits = end == start || end + next.entry.record.length() <= start + WINDOW;
                if follows && fits {
                    end += next.entry.record.length();
                }
                follows && fits
            })
            .count();
        let run = &self.pieces[first..first + run];
        let read = self
            .records
            .open(&location.holder)
            .and_then(|(file, path)| {
                buffer.resize((end - start) as usize, 0);
                std::os::unix::fs::FileExt::read_exact_at(&*file, buffer, start)
                    .map_err(crate::store::error::io_error("read", &path))?;
                let mut at = 0;
                for (_, location) in run {
                    let length = location.entry.record.length() as usize;
                    check_stored(&buffer[at..at + length], &path, &location.entry)?;
                    at += length;
                }
                Ok(())
            });
        // The journal became a pack, or one record is damaged and is elsewhere, too.
        read.or_else(|error| {
            buffer.clear();
            let mut record = Vec::new();
            for (entry, _) in run {
                self.read_elsewhere(&entry.record, &mut record)
                    .ok_or(())
                    .map_err(|()| StoreError::Refused(error.to_string()))?;
                buffer.extend_from_slice(&record);
            }
            Ok(())
        })
    }

    /// Reads a record of the same bytes wherever it is.
    fn read_elsewhere(&self, header: &RecordHeader, record: &mut Vec<u8>) -> Option<()> {
        self.records.refresh().ok()?;
        let kinds = [header.kind];
        for location in self.records.locate(&header.key, &kinds).ok()? {
            if location.entry.record == *header
                && self.records.is_right(&location)
                && let Ok((file, path)) = self.records.open(&location.holder)
                && read_stored(&file, &path, &location.entry, record).is_ok()
            {
                return Some(());
            }
        }
        None
    }
}

struct PackReader {
    made: Arc<Made>,
    position: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for PackReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            self.at = 0;
            let read = self.made.read_part(self.position, &mut self.buffer);
            if read.map_err(io::Error::other)? == 0 {
                return Ok(0);
            }
        }
        let rest = &self.buffer[self.at..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        self.position += count as u64;
        Ok(count)
    }
}
