//! Reading objects: whole and small, or at any offset without materialising them.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::digest::{Digest, ObjectId, ObjectRef};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::{Chunk, ChunkList, Kind};
use crate::store::records::table::OBJECTS;
use crate::store::records::view::Location;
use crate::store::records::{Records, lock};

/// Decoded chunks that a reader keeps.
const KEPT: usize = 4;

/// What an object consists of, as it was found.
pub(in crate::store) enum Content {
    Chunks(ChunkList),
    Blob(Vec<u8>),
}

/// The list or the content of an object, checked against its id.
pub(in crate::store) fn content(records: &Records, id: &ObjectId) -> Result<Content, StoreError> {
    let mut bytes = Vec::new();
    let damaged = |reason: String| StoreError::DamagedObject { id: *id, reason };
    let location = records
        .read(id.digest(), &OBJECTS, &mut bytes)
        .map_err(|error| match error {
            StoreError::Damaged { .. } => damaged(error.to_string()),
            other => other,
        })?
        .ok_or_else(|| absent(records, id))?;
    if location.entry.record.kind == Kind::Blob {
        return Ok(Content::Blob(bytes));
    }
    ChunkList::decode(&bytes)
        .map(Content::Chunks)
        .map_err(|error| damaged(error.to_string()))
}

/// What to say of an object that is not found: it may be in a file that cannot be used.
fn absent(records: &Records, id: &ObjectId) -> StoreError {
    match records.first_broken() {
        None => StoreError::NoObject(*id),
        Some(broken) => StoreError::DamagedObject {
            id: *id,
            reason: format!("it is not in the store, or only in a damaged file: {broken}"),
        },
    }
}

/// Reads a chunk of an object into `out`.
pub(in crate::store) fn chunk(
    records: &Records,
    id: &ObjectId,
    chunk: &Chunk,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let damaged = |reason: String| StoreError::DamagedObject { id: *id, reason };
    match records.read(&chunk.id, &[Kind::Chunk], out) {
        Ok(Some(_)) if out.len() == chunk.length as usize => Ok(()),
        Ok(Some(_)) => Err(damaged("a chunk has another length".to_owned())),
        Ok(None) => Err(damaged(format!(
            "its chunk {} is not in the store",
            chunk.id.short()
        ))),
        Err(error @ StoreError::Damaged { .. }) => Err(damaged(error.to_string())),
        Err(other) => Err(other),
    }
}

/// An object opened for reading. Reading from it as a stream goes on where it ended the last time.
#[derive(Debug)]
pub struct ObjectReader {
    records: Arc<Records>,
    id: ObjectId,
    source: Source,
    position: u64,
}

#[derive(Debug)]
enum Source {
    Blob(Vec<u8>),
    Chunks {
        list: ChunkList,
        /// Chunks that were read last, by their number in the list.
        kept: Mutex<VecDeque<(usize, Arc<Vec<u8>>)>>,
    },
}

impl ObjectReader {
    /// Logical size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match &self.source {
            Source::Blob(content) => content.len() as u64,
            Source::Chunks { list, .. } => list.size,
        }
    }

    /// The parts of `range` that are not zeros, as far as the object's list tells, in order.
    #[must_use]
    pub fn data_in(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let within = |data: Range<u64>| data.start.max(range.start)..data.end.min(range.end);
        let mut parts: Vec<Range<u64>> = Vec::new();
        let mut add = |part: Range<u64>| match parts.last_mut() {
            _ if part.is_empty() => {}
            Some(last) if last.end == part.start => last.end = part.end,
            _ => parts.push(part),
        };
        match &self.source {
            Source::Blob(content) => add(within(0..content.len() as u64)),
            Source::Chunks { list, .. } => {
                let end = |chunk: &Chunk| chunk.offset + u64::from(chunk.length);
                let first = list.chunks.partition_point(|c| end(c) <= range.start);
                let chunks = list.chunks[first..].iter();
                for chunk in chunks.take_while(|chunk| chunk.offset < range.end) {
                    add(within(chunk.offset..end(chunk)));
                }
            }
        }
        parts
    }

    /// Reads exactly `buffer.len()` bytes at `offset`. What is read is checked.
    ///
    /// # Errors
    /// The object ends before, or is damaged.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.source {
            Source::Blob(content) => {
                let start = offset as usize;
                buffer.copy_from_slice(&content[start..start + buffer.len()]);
                Ok(())
            }
            Source::Chunks { list, .. } => {
                buffer.fill(0);
                let end = offset + buffer.len() as u64;
                let first = list
                    .chunks
                    .partition_point(|chunk| chunk.offset + u64::from(chunk.length) <= offset);
                for (number, chunk) in list.chunks.iter().enumerate().skip(first) {
                    if chunk.offset >= end {
                        break;
                    }
                    let content = self.chunk(number, chunk).map_err(io::Error::other)?;
                    let from = chunk.offset.max(offset);
                    let to = (chunk.offset + u64::from(chunk.length)).min(end);
                    buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(
                        &content[(from - chunk.offset) as usize..(to - chunk.offset) as usize],
                    );
                }
                Ok(())
            }
        }
    }

    fn chunk(&self, number: usize, wanted: &Chunk) -> Result<Arc<Vec<u8>>, StoreError> {
        let Source::Chunks { kept, .. } = &self.source else {
            return Ok(Arc::default());
        };
        if let Some((_, content)) = lock(kept).iter().find(|(kept, _)| *kept == number) {
            return Ok(content.clone());
        }
        let mut content = Vec::new();
        chunk(&self.records, &self.id, wanted, &mut content)?;
        let content = Arc::new(content);
        let mut kept = lock(kept);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((number, content.clone()));
        Ok(content)
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size().saturating_sub(self.position);
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        self.read_exact_at(&mut buffer[..length], self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.size().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// What an object takes in the store, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredSize {
    pub stored: u64,
    /// The part of it that was not known.
    pub new: u64,
}

impl Store {
    /// Whether an object is there with its full size, to be relied on from now on. Its content is
    /// not read.
    #[must_use]
    pub fn has_object(&self, object: &ObjectRef) -> bool {
        let key = object.id.digest();
        let has_another_size = |location: &Location| {
            if location.entry.record.kind == Kind::Blob {
                return u64::from(location.entry.record.content) != object.size;
            }
            let start = self.records.read_start(location);
            start.map_or(true, |start| u64::from_le_bytes(start) != object.size)
        };
        let has = || {
            let found = self.records.rely_if_room(key, &OBJECTS, has_another_size);
            found.is_ok_and(|location| location.is_some())
        };
        has() || self.records.is_misled() && has()
    }

    /// Whether there is a record of an object. Nothing is read.
    #[must_use]
    pub fn knows(&self, id: &ObjectId) -> bool {
        let found = self.records.locate(id.digest(), &OBJECTS);
        found.is_ok_and(|found| !found.is_empty())
    }

    /// Bytes that an object takes in the store, compressed; chunks that other objects have too
    /// count fully.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn stored_size(&self, id: &ObjectId) -> Result<u64, StoreError> {
        let location = self
            .records
            .rely_to_read(id.digest(), &OBJECTS)?
            .ok_or(StoreError::NoObject(*id))?;
        let mut size = location.entry.record.length();
        if let Content::Chunks(list) = content(&self.records, id)? {
            let mut seen = HashSet::new();
            for chunk in list.chunks.iter().filter(|chunk| seen.insert(chunk.id)) {
                let locations = self.records.locate(&chunk.id, &[Kind::Chunk])?;
                size += locations
                    .first()
                    .map_or(0, |location| location.entry.record.length());
            }
        }
        Ok(size)
    }

    /// Bytes of the records of an object's chunks that another object does not have.
    ///
    /// # Errors
    /// One of them is not there, or damaged.
    pub fn own_size(&self, id: &ObjectId, other: &ObjectId) -> Result<u64, StoreError> {
        let mut seen: HashSet<_> = self.chunks(other)?.iter().map(|chunk| chunk.id).collect();
        let mut size = 0;
        for chunk in self.chunks(id)? {
            if seen.insert(chunk.id) {
                let locations = self.records.locate(&chunk.id, &[Kind::Chunk])?;
                let first = locations.first();
                size += first.map_or(0, |location| location.entry.record.length());
            }
        }
        Ok(size)
    }

    /// What each object takes, compressed, and the part of that which neither one of `known` has nor
    /// one before it: nothing for an object that is not there or cannot be read.
    #[must_use]
    pub fn sizes(&self, objects: &[ObjectId], known: &[ObjectId]) -> Vec<Option<StoredSize>> {
        let chunks = |id: &ObjectId| self.chunks(id).unwrap_or_default();
        let mut seen: HashSet<_> = known
            .iter()
            .flat_map(chunks)
            .map(|chunk| chunk.id)
            .collect();
        let size = |id: &ObjectId| {
            let record = self.records.locate(id.digest(), &OBJECTS).ok()?;
            let mut size = StoredSize {
                stored: record.first()?.entry.record.length(),
                new: 0,
            };
            if !known.contains(id) {
                size.new = size.stored;
            }
            let mut own = HashSet::new();
            for chunk in self.chunks(id).ok()? {
                if own.insert(chunk.id) {
                    let locations = self.records.locate(&chunk.id, &[Kind::Chunk]).ok()?;
                    let first = locations.first();
                    // A small object is its own chunk, and counted.
                    let length = first.map_or(0, |first| first.entry.record.length());
                    size.stored += length;
                    size.new += if seen.insert(chunk.id) { length } else { 0 };
                }
            }
            Some(size)
        };
        objects.iter().map(size).collect()
    }

    /// The parts in which an object may differ from `base`, in order, as far as their lists tell.
    /// Nothing is read.
    ///
    /// # Errors
    /// One of them is not there, or damaged.
    pub fn difference(
        &self,
        id: &ObjectId,
        base: &ObjectId,
    ) -> Result<Vec<Range<u64>>, StoreError> {
        let (new, old) = (self.chunks(id)?, self.chunks(base)?);
        let known: HashSet<(u64, u32, Digest)> = old
            .iter()
            .map(|chunk| (chunk.offset, chunk.length, chunk.id))
            .collect();
        let mut kept = HashSet::new();
        let mut parts: Vec<Range<u64>> = Vec::new();
        let range = |chunk: &Chunk| chunk.offset..chunk.offset + u64::from(chunk.length);
        for chunk in &new {
            match known.contains(&(chunk.offset, chunk.length, chunk.id)) {
                true => _ = kept.insert(chunk.offset),
                false => parts.push(range(chunk)),
            }
        }
        // What is zeros now.
        let gone = old.iter().filter(|chunk| !kept.contains(&chunk.offset));
        parts.extend(gone.map(range));
        parts.sort_unstable_by_key(|part| part.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(parts.len());
        for part in parts {
            match merged.last_mut() {
                Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
                _ => merged.push(part),
            }
        }
        Ok(merged)
    }

    /// The chunks of an object; those of a small one are one, whose id is that of its bytes.
    fn chunks(&self, id: &ObjectId) -> Result<Vec<Chunk>, StoreError> {
        self.records.rely_to_read(id.digest(), &OBJECTS)?;
        Ok(match content(&self.records, id)? {
            Content::Chunks(list) => list.chunks,
            Content::Blob(bytes) if bytes.is_empty() => Vec::new(),
            Content::Blob(bytes) => vec![Chunk {
                offset: 0,
                length: bytes.len() as u32,
                id: *id.digest(),
            }],
        })
    }

    /// Opens an object.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn open_object(&self, id: &ObjectId) -> Result<ObjectReader, StoreError> {
        self.records.rely_to_read(id.digest(), &OBJECTS)?;
        let source = match content(&self.records, id)? {
            Content::Blob(content) => Source::Blob(content),
            Content::Chunks(list) => Source::Chunks {
                list,
                kept: Mutex::default(),
            },
        };
        Ok(ObjectReader {
            records: self.records.clone(),
            id: *id,
            source,
            position: 0,
        })
    }

    /// Reads a small object.
    ///
    /// # Errors
    /// It is not there, damaged, or larger than 64 MiB.
    pub fn read_object(&self, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.open_object(id)?;
        if reader.size() > 64 << 20 {
            return Err(StoreError::Refused(format!(
                "object {} has {} bytes, too many to read at once",
                id.short(),
                reader.size()
            )));
        }
        let mut bytes = Vec::with_capacity(reader.size() as usize);
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(StoreError::DamagedObject {
                id: *id,
                reason: error.to_string(),
            }),
        }
    }
}
