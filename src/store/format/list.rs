//! The list of an object: its size, holes and chunks (`store-format/chunking.md`).

use super::{FormatError, array, u32_at, u64_at};
use crate::digest::{Digest, Hasher, ObjectId};
use crate::store::content::chunker::MAX;

/// Length of an entry in bytes.
const ENTRY: usize = 44;
/// The context of object ids.
const CONTEXT: &str = "vmfab object v1";

/// A chunk of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Where it begins in the object, in bytes.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) length: u32,
    /// The BLAKE3 hash of its bytes.
    pub(crate) id: Digest,
}

/// What an object consists of; everything outside the chunks is zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ChunkList {
    /// Logical size in bytes.
    pub(crate) size: u64,
    /// In the order of the content, not overlapping.
    pub(crate) chunks: Vec<Chunk>,
}

impl ChunkList {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + ENTRY * self.chunks.len());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        let mut end = 0;
        for chunk in &self.chunks {
            bytes.extend_from_slice(&(chunk.offset - end).to_le_bytes());
            bytes.extend_from_slice(&chunk.length.to_le_bytes());
            bytes.extend_from_slice(chunk.id.as_bytes());
            end = chunk.offset + u64::from(chunk.length);
        }
        bytes
    }

    /// # Errors
    /// The bytes are no valid list.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let size = u64_at(bytes, 0)?;
        let entries = bytes[8..].chunks_exact(ENTRY);
        if !entries.remainder().is_empty() {
            return Err(FormatError("a list of chunks has a broken entry"));
        }
        let mut chunks = Vec::with_capacity(entries.len());
        let mut end = 0_u64;
        for entry in entries {
            let length = u32_at(entry, 8)?;
            if length == 0 || length as usize > MAX {
                return Err(FormatError("a chunk's length is out of bounds"));
            }
            let offset = end.checked_add(u64_at(entry, 0)?);
            let next = offset.and_then(|offset| offset.checked_add(u64::from(length)));
            let (Some(offset), Some(next)) = (offset, next.filter(|&next| next <= size)) else {
                return Err(FormatError("chunks reach behind the end of their object"));
            };
            chunks.push(Chunk {
                offset,
                length,
                id: Digest::from_bytes(array(entry, 12)?),
            });
            end = next;
        }
        Ok(Self { size, chunks })
    }

    /// The id of the object that has this list.
    pub(crate) fn id(&self) -> ObjectId {
        Self::id_of(&self.encode())
    }

    /// The id of the object whose list has this encoding.
    pub(crate) fn id_of(encoded: &[u8]) -> ObjectId {
        ObjectId::new(Hasher::new(CONTEXT).update(encoded).finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(holes: &[(u64, u32)]) -> ChunkList {
        let mut size = 0;
        let chunks = holes
            .iter()
            .map(|&(hole, length)| {
                let chunk = Chunk {
                    offset: size + hole,
                    length,
                    id: Digest::from_bytes([length as u8; 32]),
                };
                size += hole + u64::from(length);
                chunk
            })
            .collect();
        ChunkList { size, chunks }
    }

    #[test]
    fn lengths_that_overflow_are_refused() {
        let good = list(&[(0, 10), (5, 10)]).encode();
        assert!(ChunkList::decode(&good).is_ok());
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            ChunkList::decode(&bad)
        };
        assert!(with(0, &24_u64.to_le_bytes()).is_err());
        assert!(with(8, &u64::MAX.to_le_bytes()).is_err());
        assert!(with(52, &(u64::MAX - 12).to_le_bytes()).is_err());
        assert!(with(16, &0_u32.to_le_bytes()).is_err());
        assert!(with(16, &(MAX as u32 + 1).to_le_bytes()).is_err());
        assert!(ChunkList::decode(&good[..good.len() - 1]).is_err());
        assert!(ChunkList::decode(&[]).is_err());
    }

    proptest! {
        #[test]
        fn lists_round_trip(holes in prop::collection::vec((0_u64..1 << 40, 1_u32..=262_144), 0..20)) {
            let list = list(&holes);
            prop_assert_eq!(ChunkList::decode(&list.encode()), Ok(list));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(list) = ChunkList::decode(&bytes) {
                prop_assert_eq!(list.encode(), bytes);
            }
        }
    }
}
