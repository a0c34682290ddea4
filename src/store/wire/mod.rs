//! Packs that travel: made for others from what is here, and taken from others.
//!
//! What travels is the data pack of `store-format/packs.md`, byte for byte: what was received whole
//! becomes a pack of this store. Which chunks go into which pack is not decided here.
//!
//! Nothing that comes from elsewhere is believed. A single chunk is decoded and hashed before it
//! can be found in this store. A pack that comes whole is marked as received: only the objects for
//! which it came rely on its chunks as they are, all others after they were decoded and hashed. So
//! content which lies about its name never stands for other content.

mod incoming;
#[cfg(test)]
mod lies;
mod outgoing;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

#[cfg(test)]
use incoming::IncomingPack;
pub(crate) use incoming::{IncomingError, Intake};
#[cfg(test)]
pub(crate) use lies::lying;
pub(crate) use outgoing::OutgoingPack;

use crate::digest::{Digest, ObjectId, ObjectRef, Sha256};
use crate::store::Store;
use crate::store::content::read::{Content, content};
use crate::store::error::StoreError;
use crate::store::format::{
    ChunkList, Entry, FormatError, Kind, RecordHeader, TRAILER, Trailer, decode_table,
};
use crate::store::records::session::Holder;
use crate::store::records::table::{OBJECTS, Table};

/// What an object consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Few bytes.
    Blob(Vec<u8>),
    /// Chunks and holes.
    List(ChunkList),
}

/// A record of a pack, as far as who does not have the pack must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedChunk {
    pub(crate) id: Digest,
    /// Its bytes.
    pub(crate) length: u32,
    /// Where its record is in the pack.
    pub(crate) offset: u32,
    /// The bytes of the record.
    pub(crate) stored: u32,
}

impl Store {
    /// What an object consists of. It is relied on from now on.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub(crate) fn parts(&self, id: &ObjectId) -> Result<Parts, StoreError> {
        self.records.rely_to_read(id.digest(), &OBJECTS)?;
        Ok(match content(&self.records, id)? {
            Content::Blob(bytes) => Parts::Blob(bytes),
            Content::Chunks(list) => Parts::List(list),
        })
    }

    /// Bytes of the record of a chunk that is here, to be read from now on; `None` when there is
    /// none.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn chunk_stored(&self, chunk: &Digest) -> Result<Option<u32>, StoreError> {
        let found = self.records.rely(chunk, &[Kind::Chunk], |_| false)?;
        Ok(found.map(|location| location.entry.record.length() as u32))
    }

    /// Whether a chunk is here so that lists that are stored from now on can name it. What is in a
    /// journal that nobody writes to counts after [`claim`](Self::claim). What is in a received
    /// pack counts when it reads right, or when the pack is one of `trusted`.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn has_chunk(
        &self,
        chunk: &Digest,
        trusted: &HashSet<Sha256>,
    ) -> Result<bool, StoreError> {
        Ok(self.records.rely_on_chunk(chunk, trusted)?.is_some())
    }

    /// Reads a chunk that is here into `out`, whoever it came from, and hashes it; tells whether
    /// there is a good one.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn read_chunk(&self, id: &Digest, out: &mut Vec<u8>) -> Result<bool, StoreError> {
        let found = self.records.read(id, &[Kind::Chunk], out)?;
        Ok(found.is_some() && blake3::hash(out).as_bytes() == id.as_bytes())
    }

    /// Goes on with a journal that a process before has left.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn claim(&self) -> Result<(), StoreError> {
        self.records.append(&[], &[])
    }

    /// Whether a pack is here by its name, to be relied on from now on.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn has_pack(&self, name: &Sha256) -> Result<bool, StoreError> {
        let path = self.records.files.path("packs", name);
        Ok(std::fs::symlink_metadata(path).is_ok() && self.records.pin(&Holder::Pack(*name))?)
    }

    /// The chunks of a pack that is here, in the order of the file; `None` when it is not here or
    /// cannot be used.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn pack_chunks(
        &self,
        name: &Sha256,
    ) -> Result<Option<Vec<PackedChunk>>, StoreError> {
        if !self.has_pack(name)? {
            return Ok(None);
        }
        let path = self.records.files.path("packs", name);
        let Ok((table, _)) = Table::of_pack(path, *name) else {
            return Ok(None);
        };
        let mut entries = Vec::new();
        let read = table.for_each(|entry, _| {
            entries.push(entry);
            Ok(())
        });
        Ok(read.ok().map(|()| packed(entries)))
    }

    /// Stores the list of an object whose chunks are here. Those in `trusted` packs, which were
    /// received for this object, are not read.
    ///
    /// # Errors
    /// A chunk is not here or damaged, or the store fails.
    pub(crate) fn put_list(
        &self,
        list: &ChunkList,
        trusted: &HashSet<Sha256>,
    ) -> Result<ObjectRef, StoreError> {
        self.records.check_writable()?;
        let encoded = list.encode();
        let object = ObjectRef {
            id: ChunkList::id_of(&encoded),
            size: list.size,
        };
        let key = object.id.digest();
        if self
            .records
            .rely(key, &[Kind::Object], |_| false)?
            .is_some()
        {
            return Ok(object);
        }
        let mut seen = HashSet::new();
        let chunks = list.chunks.iter();
        // What says a chunk again may say it otherwise.
        for chunk in chunks.filter(|chunk| seen.insert((chunk.id, chunk.length))) {
            let location = self.records.rely_on_chunk(&chunk.id, trusted)?;
            let reason = match location.map(|location| location.entry.record.content) {
                Some(length) if length == chunk.length => continue,
                Some(_) => "has another length",
                None => "is not in the store",
            };
            return Err(StoreError::DamagedObject {
                id: object.id,
                reason: format!("its chunk {} {reason}", chunk.id.short()),
            });
        }
        self.records.settle()?;
        let mut bytes = Vec::new();
        let header = crate::store::format::encode_record(&mut bytes, Kind::Object, key, &encoded);
        self.records.append(&bytes, &[header])?;
        Ok(object)
    }
}

fn packed(mut entries: Vec<Entry>) -> Vec<PackedChunk> {
    entries.sort_unstable_by_key(|entry| entry.offset);
    entries
        .iter()
        .filter(|entry| entry.record.kind == Kind::Chunk)
        .map(|entry| PackedChunk {
            id: entry.record.key,
            length: entry.record.content,
            offset: entry.offset,
            stored: entry.record.length() as u32,
        })
        .collect()
}

/// The chunks of a pack of `size` bytes, from its last bytes: the table, which begins at `offset`,
/// and the trailer.
///
/// # Errors
/// They are none.
pub(crate) fn chunks_of_table(
    bytes: &[u8],
    offset: u64,
    size: u64,
) -> Result<Vec<PackedChunk>, FormatError> {
    let start = bytes
        .len()
        .checked_sub(TRAILER)
        .ok_or(FormatError("it ends too early"))?;
    let trailer = Trailer::decode(&bytes[start..], size)?;
    if trailer.offset != offset || crc32c::crc32c(&bytes[..start]) != trailer.checksum {
        return Err(FormatError("the checksum of its table is wrong"));
    }
    let entries = decode_table(&bytes[..start])?;
    if entries
        .iter()
        .any(|entry| u64::from(entry.offset) + entry.record.length() > offset)
    {
        return Err(FormatError("a record reaches behind its end"));
    }
    Ok(packed(entries))
}

/// Whether `bytes` are the record of a chunk of that name, by its content.
///
/// # Errors
/// They are not.
pub(crate) fn verify_chunk(
    bytes: &[u8],
    id: &Digest,
    scratch: &mut Vec<u8>,
) -> Result<RecordHeader, FormatError> {
    let (header, payload) = RecordHeader::decode_record(bytes)?;
    if header.kind != Kind::Chunk || header.length() != bytes.len() as u64 {
        return Err(FormatError("it has other records than those of chunks"));
    }
    crate::store::format::decode_payload(&header, payload, scratch)?;
    if header.key != *id || blake3::hash(scratch).as_bytes() != id.as_bytes() {
        return Err(FormatError("a record's content does not match its key"));
    }
    Ok(header)
}
